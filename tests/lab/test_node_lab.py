"""lab-node, lab-ingress and lab-service-ca against a running lab of their own."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import socketserver
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config
from kubernetes.stream import stream

from lab.releases import IMAGES

ROOT = Path(__file__).resolve().parents[2]
UBI = IMAGES["ubi"]
pytestmark = pytest.mark.usefixtures("lab")


class Lab:
    """The lab under test."""

    def __init__(self, state: Path) -> None:
        self.state = state
        facts = json.loads((state / "lab.json").read_text())["clusters"]["lab"]
        self.number, self.ingress = facts["number"], facts["ingress_address"]
        self.kubeconfig = facts["kubeconfig"]
        config.load_kube_config(self.kubeconfig)
        self.core, self.custom = client.CoreV1Api(), client.CustomObjectsApi()
        self.directory = state / "lab"

    def pod(self, name: str, containers: list[dict[str, Any]], labels: dict[str, str] | None = None,
            annotations: dict[str, str] | None = None, **spec: Any) -> None:
        body = {"metadata": {"name": name, "labels": labels, "annotations": annotations},
                "spec": {"containers": containers, "terminationGracePeriodSeconds": 1, **spec}}
        self.core.create_namespaced_pod("default", body)

    def get(self, name: str) -> Any:
        return self.core.read_namespaced_pod(name, "default")

    def delete(self, *names: str) -> None:
        for name in names:
            with contextlib.suppress(client.ApiException):
                self.core.delete_namespaced_pod(name, "default", grace_period_seconds=0)

    def events(self, name: str) -> list[tuple[str, str]]:
        found = self.core.list_namespaced_event("default", field_selector=f"involvedObject.name={name}").items
        return [(e.reason, e.message) for e in found]

    def log(self, name: str, **options: Any) -> str:
        return str(self.core.read_namespaced_pod_log(name, "default", **options))

    def exec(self, name: str, *command: str, stdin: str | None = None) -> tuple[int, str]:
        session = stream(self.core.connect_get_namespaced_pod_exec, name, "default", command=list(command), stdout=True,
                         stderr=True, stdin=stdin is not None, tty=False, _preload_content=False)
        if stdin is not None:
            session.write_stdin(stdin)
        session.run_forever(timeout=20)
        return session.returncode, session.read_stdout() + session.read_stderr()

    def program(self, name: str) -> int:
        return int((self.directory / "pid" / name).read_text().split()[0])


def eventually(check: Callable[[], Any], seconds: float = 15) -> Any:
    deadline = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds} s; last seen: {found!r}"
        time.sleep(0.1)


def waiting(lab: Lab, name: str) -> tuple[str, str]:
    statuses = lab.get(name).status.container_statuses or []
    state = statuses[0].state.waiting if statuses else None
    return (state.reason, state.message or "") if state else ("", "")


def ready(lab: Lab, name: str) -> bool:
    return any(c.type == "Ready" and c.status == "True" for c in lab.get(name).status.conditions or [])


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    state = tmp_path_factory.mktemp("lab")
    env = {**os.environ, "LAB_STATE": str(state), "LAB_TIME_SCALE": "0.02"}
    subprocess.run([sys.executable, "-m", "lab", "up"], cwd=ROOT, env=env, check=True, timeout=900)
    try:
        running = Lab(state)
        eventually(lambda: running.core.list_namespaced_service_account("default").items)
        yield running
    finally:
        subprocess.run([sys.executable, "-m", "lab", "down"], cwd=ROOT, env=env, check=True, timeout=120)


def shell(text: str, **more: Any) -> list[dict[str, Any]]:
    return [{"name": "c", "image": UBI, "command": ["sh", "-c", text], **more}]


# Pods ---------------------------------------------------------------------------------------------------------------


def test_exec_logs_and_files(lab: Lab) -> None:
    lab.core.create_namespaced_config_map("default", {"metadata": {"name": "cfg"}, "data": {"a": "one", "b": "two"}})
    lab.pod("box", shell("echo $(NAME) $a; echo oops >&2; cat /etc/cfg/b; echo; exec sleep 1000",
                         env=[{"name": "NAME", "value": "box"}], envFrom=[{"configMapRef": {"name": "cfg"}}],
                         volumeMounts=[{"name": "cfg", "mountPath": "/etc/cfg"}]),
            initContainers=[{"name": "init", "image": UBI, "command": ["sh", "-c", "echo first; ls /etc/cfg"],
                             "volumeMounts": [{"name": "cfg", "mountPath": "/etc/cfg"}]}],
            volumes=[{"name": "cfg", "configMap": {"name": "cfg"}}])
    eventually(lambda: ready(lab, "box"))
    assert lab.log("box", container="init") == "first\na\nb\n"
    eventually(lambda: "two" in lab.log("box"))
    assert lab.log("box") == "box one\noops\ntwo\n"
    assert lab.log("box", tail_lines=1) == "two\n"
    assert lab.exec("box", "sh", "-c", "cat /etc/cfg/a; exit 7") == (7, "one")
    assert lab.exec("box", "sh", "-c", "read x; echo got $x", stdin="word\n") == (0, "got word\n")
    code, text = lab.exec("box", "sh", "-c", "echo x > /etc/cfg/a")
    assert code != 0, "a configMap volume must be read-only"
    assert "Read-only" in text or "denied" in text
    status = lab.get("box").status
    assert status.pod_ip.startswith(f"10.{lab.number}.")
    assert status.container_statuses[0].container_id.startswith("cri-o://")
    lab.core.patch_namespaced_config_map("cfg", "default", {"data": {"a": "changed"}})
    eventually(lambda: lab.exec("box", "cat", "/etc/cfg/a")[1] == "changed")
    lab.delete("box")
    eventually(lambda: not lab.core.list_namespaced_pod("default", field_selector="metadata.name=box").items)
    assert not list((lab.directory / "pods").glob(f"*{status.pod_ip}*"))


def test_back_off_and_previous_log(lab: Lab) -> None:
    lab.pod("crash", shell("echo hi; exit 3"))
    eventually(lambda: waiting(lab, "crash")[0] == "CrashLoopBackOff" and lab.get("crash").status.container_statuses[0])
    status = lab.get("crash").status.container_statuses[0]
    assert status.last_state.terminated.exit_code == 3
    assert status.last_state.terminated.reason == "Error"
    assert status.restart_count >= 1
    assert "restarting failed container=c pod=crash_default(" in waiting(lab, "crash")[1]
    assert lab.log("crash", previous=True) == "hi\n"
    eventually(lambda: "BackOff" in [reason for reason, _ in lab.events("crash")])
    lab.delete("crash")


def test_waiting_reasons(lab: Lab) -> None:
    lab.pod("noimage", [{"name": "c", "image": "quay.io/nobody/nothing:1"}])
    lab.pod("nosecret", shell("sleep 1000", envFrom=[{"secretRef": {"name": "late"}}]))
    lab.pod("novolume", shell("sleep 1000", volumeMounts=[{"name": "v", "mountPath": "/v"}]),
            volumes=[{"name": "v", "secret": {"secretName": "late"}}])
    lab.pod("odd", shell("sleep 1000", lifecycle={"preStop": {"exec": {"command": ["ls"]}}}))
    lab.pod("vm", shell("sleep 1", resources={"limits": {"kata.peerpods.io/vm": "1"}}))
    eventually(lambda: waiting(lab, "noimage")[0] == "ImagePullBackOff")
    assert "reading manifest 1 in quay.io/nobody/nothing: unauthorized" in waiting(lab, "noimage")[1]
    eventually(lambda: waiting(lab, "nosecret") == ("CreateContainerConfigError", 'secret "late" not found'))
    eventually(lambda: ("FailedMount", 'MountVolume.SetUp failed for volume "v" : secret "late" not found')
               in lab.events("novolume"))
    assert waiting(lab, "novolume")[0] == "ContainerCreating"
    eventually(lambda: lab.get("odd").status.phase == "Failed")
    assert "spec.containers[0].lifecycle" in lab.get("odd").status.message
    told = eventually(lambda: [m for r, m in lab.events("vm") if r == "FailedScheduling"])
    assert "2 Insufficient kata.peerpods.io/vm" in told[0]
    lab.core.create_namespaced_secret("default", {"metadata": {"name": "late"}, "stringData": {"k": "v"}})
    eventually(lambda: ready(lab, "nosecret") and ready(lab, "novolume"))
    lab.delete("noimage", "nosecret", "novolume", "odd", "vm")


def test_job_and_identity(lab: Lab) -> None:
    """A Job ends; a pod's token works with its ServiceAccount's rights and no more."""
    code = ("import asyncio; from lab.kube import Kube, ApiError\n"
            "async def go():\n"
            "    k = Kube.from_kubeconfig()\n"
            "    print((await k.request('POST', '/apis/authentication.k8s.io/v1/selfsubjectreviews', "
            "{'apiVersion': 'authentication.k8s.io/v1', 'kind': 'SelfSubjectReview'}))['status']['userInfo']['username'])\n"
            "    try:\n        await k.list('v1', 'Secret', 'kube-system')\n"
            "    except ApiError as e:\n        print(e.status)\n"
            "    await k.close()\n"
            "asyncio.run(go())")
    body = {"metadata": {"name": "job"}, "spec": {"backoffLimit": 0, "template": {"spec": {
        "restartPolicy": "Never", "containers": [{"name": "c", "image": UBI, "command": [sys.executable, "-c", code]}]}}}}
    client.BatchV1Api().create_namespaced_job("default", body)
    eventually(lambda: client.BatchV1Api().read_namespaced_job("job", "default").status.succeeded, 30)
    name = lab.core.list_namespaced_pod("default", label_selector="job-name=job").items[0].metadata.name
    assert lab.log(name) == "system:serviceaccount:default:default\n403\n"
    client.BatchV1Api().delete_namespaced_job("job", "default", propagation_policy="Background")


def test_probes(lab: Lab) -> None:
    serve = "touch /tmp/ok; while [ -e /tmp/alive ] || [ ! -e /tmp/start ]; do sleep 0.05; done; sleep 1000"
    probe = {"periodSeconds": 5, "failureThreshold": 2}
    lab.pod("probed", shell(serve, readinessProbe={"exec": {"command": ["test", "-e", "/tmp/ready"]}, **probe},
                            livenessProbe={"tcpSocket": {"port": 9}, "initialDelaySeconds": 250, **probe}))
    eventually(lambda: lab.get("probed").status.phase == "Running")
    assert not ready(lab, "probed")
    eventually(lambda: [m for r, m in lab.events("probed") if r == "Unhealthy" and m.startswith("Readiness probe failed")])
    eventually(lambda: ("Killing", "Container c failed liveness probe, will be restarted") in lab.events("probed"), 20)
    eventually(lambda: lab.get("probed").status.container_statuses[0].restart_count >= 1)
    lab.delete("probed")


def test_lab_node_killed_and_started_again(lab: Lab) -> None:
    lab.pod("survivor", shell("echo $$; exec sleep 1000"))
    eventually(lambda: ready(lab, "survivor"))
    before = lab.get("survivor").status
    pid = lab.program("lab-node")
    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:-1]
    environment = dict(e.split("=", 1) for e in Path(f"/proc/{pid}/environ").read_text().split("\0") if "=" in e)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split(")")[1][:3])
    with (lab.directory / "log" / "lab-node.log").open("ab") as output:
        again = subprocess.Popen(words, env=environment, cwd=ROOT, stdout=output, stderr=output, start_new_session=True)
    try:
        eventually(lambda: lab.get("survivor").status.container_statuses[0].restart_count == 1 and ready(lab, "survivor"))
        assert lab.get("survivor").status.pod_ip == before.pod_ip
        stat = Path(f"/proc/{again.pid}/stat").read_text().rpartition(")")[2].split()[19]
        (lab.directory / "pid" / "lab-node").write_text(f"{again.pid} {stat}")
    finally:
        lab.delete("survivor")


def test_reboot(lab: Lab) -> None:
    lab.pod("rebooted", shell("exec sleep 1000"), nodeSelector={"kubernetes.io/hostname": "lab-worker-eastus-1"})
    eventually(lambda: ready(lab, "rebooted"))
    node = lab.core.read_node("lab-worker-eastus-1")
    boot = node.status.node_info.boot_id
    lab.core.patch_node("lab-worker-eastus-1", {"metadata": {"annotations": {"lab.confidential.containers/reboot": "one"}}})

    def condition() -> Any:
        return next(c for c in lab.core.read_node("lab-worker-eastus-1").status.conditions if c.type == "Ready")

    eventually(lambda: condition().status == "False" and condition().reason == "KubeletNotReady")
    eventually(lambda: not ready(lab, "rebooted"), 3)
    eventually(lambda: condition().status == "True")
    after = lab.core.read_node("lab-worker-eastus-1")
    assert after.status.node_info.boot_id != boot
    assert after.metadata.annotations["lab.confidential.containers/rebooted"] == "one"
    eventually(lambda: ready(lab, "rebooted"))
    assert lab.get("rebooted").status.container_statuses[0].restart_count == 1
    lab.delete("rebooted")


# Pod VMs ------------------------------------------------------------------------------------------------------------


class Machine:
    """A hypervisor and an agent that answer as they are told, and keep what they were asked."""

    def __init__(self, directory: Path) -> None:
        self.asked: list[dict[str, Any]] = []
        self.refuse: dict[str, dict[str, Any]] = {}
        self.ended = threading.Event()
        self.code = 0
        machine = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                for line in self.rfile:
                    answer = machine.answer(json.loads(line))
                    with contextlib.suppress(OSError):
                        self.wfile.write(json.dumps(answer).encode() + b"\n")

        self.agent = directory / "a.sock"
        self.hypervisor = directory / "h.sock"
        self.servers = [socketserver.ThreadingUnixStreamServer(str(p), Handler) for p in (self.agent, self.hypervisor)]
        for server in self.servers:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, daemon=True).start()

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(request)
        method = request["method"]
        if method in self.refuse:
            return self.refuse[method]
        if method == "CreateVM":
            return {"vm": "podvm-x-12345678", "agent": str(self.agent)}
        if method == "WaitProcessRequest":
            self.ended.wait(60)
            return {"exit_code": self.code}
        if method == "ReadStreamRequest":
            return {"stdout": "from inside\n"}
        if method == "ExecProcessRequest":
            return {"exit_code": 5, "stdout": "out", "stderr": "err"}
        return {}

    def methods(self) -> list[str]:
        return [r["method"] for r in self.asked]

    def close(self) -> None:
        self.ended.set()
        for server in self.servers:
            server.shutdown()
            server.server_close()


@pytest.fixture
def machine(lab: Lab) -> Iterator[Machine]:
    short = Path("/tmp") / f"lab-test-{os.getpid()}"
    short.mkdir(mode=0o700, exist_ok=True)
    found = Machine(short)
    root = lab.directory / "nodes" / "lab-worker-eastus-2" / "root"
    dropin, link = root / "etc/crio/crio.conf.d/50-kata-remote", root / "run/peerpod/hypervisor.sock"
    dropin.touch()
    link.unlink(missing_ok=True)
    link.symlink_to(found.hypervisor)
    with contextlib.suppress(client.ApiException):
        client.NodeV1Api().create_runtime_class({"metadata": {"name": "kata-remote"}, "handler": "kata-remote"})
    yield found
    found.close()
    dropin.unlink()
    link.unlink(missing_ok=True)
    for path in short.iterdir():
        path.unlink()
    short.rmdir()


def kata(lab: Lab, name: str, **more: Any) -> None:
    lab.pod(name, [{"name": "c", "image": UBI, "command": ["sleep", "$(N)"], "env": [{"name": "N", "value": "9"}], **more}],
            runtimeClassName="kata-remote", annotations={"x/y": "z"},
            nodeSelector={"kubernetes.io/hostname": "lab-worker-eastus-2"}, restartPolicy="Never",
            volumes=[{"name": "v", "emptyDir": {}}])


def test_kata_pod(lab: Lab, machine: Machine) -> None:
    kata(lab, "kata", volumeMounts=[{"name": "v", "mountPath": "/data"}])
    eventually(lambda: ready(lab, "kata"))
    made = machine.asked[0]
    assert made["method"] == "CreateVM"
    assert made["pod"]["annotations"]["x/y"] == "z"
    assert made["pod"]["uid"] == lab.get("kata").metadata.uid
    created = next(r for r in machine.asked if r["method"] == "CreateContainerRequest")
    assert created["command"] == ["sleep", "9"]
    assert ["N", "9"] in created["env"]
    assert {(m["destination"], m["kind"]) for m in created["mounts"]} == {
        ("/data", "emptyDir"), ("/var/run/secrets/kubernetes.io/serviceaccount", "projected")}
    assert lab.log("kata") == "from inside\n"
    assert lab.exec("kata", "ls") == (5, "outerr")
    machine.refuse["ExecProcessRequest"] = {"error": "ExecProcessRequest is blocked by policy: ", "code": "PERMISSION_DENIED"}
    # The client cannot find an exit code in an error of the runtime: so it is with a real cluster.
    with pytest.raises(ValueError, match="ExecProcessRequest is blocked by policy"):
        lab.exec("kata", "ls")
    machine.code = 4
    machine.ended.set()
    eventually(lambda: lab.get("kata").status.phase == "Failed")
    assert lab.get("kata").status.container_statuses[0].state.terminated.exit_code == 4
    assert lab.log("kata") == "from inside\n"
    lab.delete("kata")
    eventually(lambda: {"method": "StopVM", "vm": "podvm-x-12345678"} in machine.asked)


def test_kata_refusals(lab: Lab, machine: Machine) -> None:
    machine.refuse["CreateVM"] = {"error": "creating an instance : quota"}
    kata(lab, "refused")
    told = eventually(lambda: [m for r, m in lab.events("refused") if r == "FailedCreatePodSandBox"])
    assert "creating an instance : quota" in told[0]
    assert waiting(lab, "refused")[0] == "ContainerCreating"
    machine.refuse = {"CreateContainerRequest": {"error": "image policy rejected: no signature", "code": "INTERNAL"},
                      "ReadStreamRequest": {"error": "ReadStreamRequest is blocked by policy: ", "code": "PERMISSION_DENIED"}}
    eventually(lambda: waiting(lab, "refused")[0] == "CreateContainerError")
    assert "image policy rejected: no signature" in waiting(lab, "refused")[1]
    del machine.refuse["CreateContainerRequest"]
    eventually(lambda: ready(lab, "refused"))
    assert lab.log("refused") == "", "a refused log must stay empty"
    lab.delete("refused")
    eventually(lambda: "StopVM" in machine.methods())


def test_kata_without_runtime_and_without_adaptor(lab: Lab, machine: Machine) -> None:
    root = lab.directory / "nodes" / "lab-worker-eastus-2" / "root"
    (root / "run/peerpod/hypervisor.sock").unlink()
    kata(lab, "noadaptor")
    eventually(lambda: [m for r, m in lab.events("noadaptor") if r == "FailedCreatePodSandBox"
                        and "dial unix /run/peerpod/hypervisor.sock: connect: no such file or directory" in m])
    (root / "etc/crio/crio.conf.d/50-kata-remote").unlink()
    eventually(lambda: [m for r, m in lab.events("noadaptor") if 'no runtime for "kata-remote" is configured' in m])
    (root / "etc/crio/crio.conf.d/50-kata-remote").touch()
    lab.delete("noadaptor")


# Routes and certificates --------------------------------------------------------------------------------------------


def fetch(lab: Lab, host: str, scheme: str = "https", authority: str = "router-ca") -> tuple[int, str]:
    """GET through the router under the route's name."""
    import http.client
    import socket

    address, _, port = lab.ingress.partition(":")
    context = ssl.create_default_context(cafile=str(lab.directory / "pki" / f"{authority}.crt"))
    connection = http.client.HTTPSConnection(host, 443, context=context, timeout=10)
    connection.sock = context.wrap_socket(socket.create_connection((address, int(port)), 10), server_hostname=host)
    connection.request("GET", "/")
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_routes_and_serving_certificate(lab: Lab) -> None:
    annotations = {"service.beta.openshift.io/serving-cert-secret-name": "web-tls"}
    lab.core.create_namespaced_service("default", {
        "metadata": {"name": "web", "annotations": annotations},
        "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}})
    secret = eventually(lambda: next((s for s in lab.core.list_namespaced_secret("default").items
                                      if s.metadata.name == "web-tls"), None))
    assert secret.type == "kubernetes.io/tls"
    assert base64.b64decode(secret.data["tls.crt"]).count(b"BEGIN CERTIFICATE") == 2
    spec = {"to": {"kind": "Service", "name": "web"}, "tls": {"termination": "edge"}}
    api = ("route.openshift.io", "v1", "default", "routes")
    lab.custom.create_namespaced_custom_object(*api, {"apiVersion": "route.openshift.io/v1", "kind": "Route",
                                                      "metadata": {"name": "web"}, "spec": spec})

    def admitted() -> Any:
        route = lab.custom.get_namespaced_custom_object(*api, "web")
        ingress = (route.get("status") or {}).get("ingress") or [{}]
        return route if any(c["status"] == "True" for c in ingress[0].get("conditions") or []) else None

    route = eventually(admitted)
    host = "web-default.apps.lab.example.test"
    assert route["spec"]["host"] == host
    assert route["metadata"]["annotations"]["openshift.io/host.generated"] == "true"
    status, body = fetch(lab, host)
    assert status == 503
    assert "Application is not available" in body
    lab.pod("web", [{"name": "c", "image": IMAGES["hello-openshift"],
                     "readinessProbe": {"httpGet": {"path": "/", "port": 8080}}}], labels={"app": "web"})
    eventually(lambda: ready(lab, "web"))
    eventually(lambda: fetch(lab, host)[0] == 200)
    assert fetch(lab, host) == (200, "Hello OpenShift!\n")
    hosts = json.loads((lab.directory / "hosts.json").read_text())
    served = "127." + lab.get("web").status.pod_ip.partition(".")[2]
    assert hosts["web.default.svc:80"] == f"{served}:8080"
    assert hosts[f"{host}:443"] == lab.ingress
    with urllib.request.urlopen(f"http://{served}:8080/") as answer:
        assert answer.read() == b"Hello OpenShift!\n"
    lab.delete("web")


def test_ca_bundle_everywhere(lab: Lab) -> None:
    authority = (lab.directory / "pki" / "service-ca.crt").read_text()
    lab.core.create_namespace({"metadata": {"name": "fresh"}})
    found = eventually(lambda: next((c for c in lab.core.list_namespaced_config_map("fresh").items
                                     if c.metadata.name == "openshift-service-ca.crt"), None))
    assert found.data == {"service-ca.crt": authority}
    lab.core.create_namespaced_config_map("fresh", {"metadata": {"name": "mine", "annotations": {
        "service.beta.openshift.io/inject-cabundle": "true"}}})
    eventually(lambda: lab.core.read_namespaced_config_map("mine", "fresh").data == {"service-ca.crt": authority})
    lab.core.delete_namespace("fresh")


def test_nothing_went_wrong_unseen(lab: Lab) -> None:
    """The programs' logs hold no traceback, and lab-node stays small."""
    for name in ("lab-node", "lab-ingress", "lab-service-ca"):
        assert "Traceback" not in (lab.directory / "log" / f"{name}.log").read_text(), name
    status = Path(f"/proc/{lab.program('lab-node')}/status").read_text()
    resident = int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])
    assert resident < 80 * 1024
