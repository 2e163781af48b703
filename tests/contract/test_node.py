"""lab-node beside scheduler, kubelet and container runtime (design.md "The lab" 6; lab.md 2 and 9; operators.md 2.3)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client
from kubernetes.stream import stream

from tests.contract.cluster import namespace, until
from tests.integration.lab import Lab

SPACE = "contract-node"
PODS = f"/api/v1/namespaces/{SPACE}/pods"
CONFIG_MAPS = f"/api/v1/namespaces/{SPACE}/configmaps"
UBI = "registry.access.redhat.com/ubi9/ubi:latest"
REBOOT, REBOOTED = "lab.confidential.containers/reboot", "lab.confidential.containers/rebooted"


class Node:
    """Pods of one namespace, and what the API server says of them."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.core = lab, client.CoreV1Api(lab.api)

    def pod(self, name: str, command: str = "exec sleep 1000", image: str = UBI, volumes: list[dict[str, Any]] | None = None,
            node: str = "", **container: Any) -> None:
        self.lab.request("POST", PODS, {"metadata": {"name": name, "labels": {"app": name}}, "spec": {
            "containers": [{"name": "c", "image": image, "command": ["sh", "-c", command], **container}],
            "terminationGracePeriodSeconds": 1, "volumes": volumes or [],
            **({"nodeSelector": {"kubernetes.io/hostname": node}} if node else {})}})

    def status(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.lab.request("GET", f"{PODS}/{name}")["status"]
        return found

    def container(self, name: str) -> dict[str, Any]:
        """The status of the pod's only container, empty before there is one."""
        return dict(next(iter(self.status(name).get("containerStatuses", [])), {}))

    def waiting(self, name: str) -> dict[str, str]:
        return dict(self.container(name).get("state", {}).get("waiting", {}))

    def ready(self, name: str) -> bool:
        return any(item["type"] == "Ready" and item["status"] == "True" for item in self.status(name).get("conditions", []))

    def events(self, name: str, reason: str) -> list[str]:
        listed = self.lab.request("GET", f"/api/v1/namespaces/{SPACE}/events?fieldSelector=involvedObject.name={name},reason={reason}")
        return [item["message"] for item in listed["items"]]

    def exec(self, name: str, command: str, stdin: str = "") -> tuple[int, str, str]:
        """Exit code, standard output and standard error of a command run through the API server."""
        session = stream(self.core.connect_get_namespaced_pod_exec, name, SPACE, command=["sh", "-c", command], stdout=True, stderr=True,
                         stdin=bool(stdin), tty=False, _preload_content=False)
        if stdin:
            session.write_stdin(stdin)
        session.run_forever(timeout=20)
        return session.returncode, session.read_stdout(), session.read_stderr()


@pytest.fixture(scope="module")
def node(cluster: Lab) -> Iterator[Node]:
    namespace(cluster, SPACE)
    until(lambda: cluster.request("GET", f"/api/v1/namespaces/{SPACE}/serviceaccounts/default"))
    yield Node(cluster)
    cluster.request("DELETE", f"/api/v1/namespaces/{SPACE}")


def test_unknown_image(node: Node) -> None:
    """An image that no registry has: ErrImagePull, then ImagePullBackOff, never started (design.md "The lab" 6)."""
    image = "quay.io/nobody/nothing:1"
    node.pod("unknown", image=image)
    seen: set[str] = set()

    def back_off() -> bool:
        seen.add(node.waiting("unknown").get("reason", ""))
        return "ImagePullBackOff" in seen
    until(back_off)
    assert seen <= {"", "ContainerCreating", "ErrImagePull", "ImagePullBackOff"}
    assert node.status("unknown")["phase"] == "Pending"
    assert node.container("unknown")["restartCount"] == 0
    failed = until(lambda: node.events("unknown", "Failed"))
    assert any(message.startswith(f'Failed to pull image "{image}"') for message in failed)
    assert "Error: ErrImagePull" in failed


def test_unsupported_field(node: Node) -> None:
    """A field that lab-node does not imitate fails the pod by the field's name and is never ignored (design.md "The lab" 6)."""
    node.pod("odd", lifecycle={"preStop": {"exec": {"command": ["ls"]}}})
    status = until(lambda: (found := node.status("odd")) and found["phase"] == "Failed" and found)
    assert "spec.containers[0].lifecycle" in status["message"]


def test_volumes_follow_their_config_map_and_sub_paths_never_do(cluster: Lab, node: Node) -> None:
    """Files of a volume, also keys added later, follow within the kubelet's sync; a subPath keeps the bytes of the start; environment too.

    operators.md 2.3: the kubelet does refresh the KBS's files except the one mounted by subPath; design.md "The lab" 6.
    """
    cluster.request("POST", CONFIG_MAPS, {"metadata": {"name": "words"}, "data": {"word": "old"}})
    node.pod("reader", volumes=[{"name": "v", "configMap": {"name": "words"}}],
             env=[{"name": "WORD", "valueFrom": {"configMapKeyRef": {"name": "words", "key": "word"}}}],
             volumeMounts=[{"name": "v", "mountPath": "/etc/words"},
                           {"name": "v", "mountPath": "/etc/one/word", "subPath": "word"}])
    until(lambda: node.ready("reader"))
    read = "cat /etc/words/word; echo; cat /etc/one/word; echo; echo $WORD"
    assert node.exec("reader", read) == (0, "old\nold\nold\n", "")
    cluster.request("PATCH", f"{CONFIG_MAPS}/words", {"data": {"word": "new", "more": "added"}})
    until(lambda: node.exec("reader", "cat /etc/words/more 2>/dev/null")[1] == "added")
    time.sleep(1)
    assert node.exec("reader", read) == (0, "new\nold\nold\n", "")
    assert node.container("reader")["restartCount"] == 0


def test_readiness(cluster: Lab, node: Node) -> None:
    """A readiness probe decides about Ready and so about the Service's endpoint, both ways, and restarts nothing."""
    cluster.request("POST", f"/api/v1/namespaces/{SPACE}/services", {
        "metadata": {"name": "shy"}, "spec": {"selector": {"app": "shy"}, "ports": [{"port": 80, "targetPort": 8080}]}})

    def served() -> int:
        slices = cluster.request("GET", f"/apis/discovery.k8s.io/v1/namespaces/{SPACE}/endpointslices"
                                        "?labelSelector=kubernetes.io/service-name=shy")["items"]
        return sum(endpoint["conditions"]["ready"] for found in slices for endpoint in found.get("endpoints") or [])
    node.pod("shy", volumes=[{"name": "v", "emptyDir": {}}], volumeMounts=[{"name": "v", "mountPath": "/shared"}],
             readinessProbe={"exec": {"command": ["test", "-e", "/shared/ready"]}, "periodSeconds": 5, "failureThreshold": 1})
    until(lambda: any(message.startswith("Readiness probe failed") for message in node.events("shy", "Unhealthy")))
    assert node.status("shy")["phase"] == "Running"
    assert not node.ready("shy")
    assert served() == 0
    assert node.exec("shy", "touch /shared/ready")[0] == 0
    until(lambda: node.ready("shy") and served() == 1)
    assert node.exec("shy", "rm /shared/ready")[0] == 0
    until(lambda: not node.ready("shy") and served() == 0)
    assert node.container("shy")["restartCount"] == 0


def test_liveness(node: Node) -> None:
    """A liveness probe that fails restarts the container, with the kubelet's words."""
    node.pod("stuck", livenessProbe={"exec": {"command": ["false"]}, "periodSeconds": 5, "failureThreshold": 2})
    until(lambda: "Container c failed liveness probe, will be restarted" in node.events("stuck", "Killing"))
    until(lambda: node.container("stuck")["restartCount"] >= 1)


def test_previous_log(node: Node) -> None:
    """A container that ends is started again after CrashLoopBackOff; the log of the run before is the previous one."""
    node.pod("crash", "date +%s%N; exit 3")
    until(lambda: node.waiting("crash").get("reason") == "CrashLoopBackOff")
    ended = node.container("crash")["lastState"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (3, "Error")
    before = node.core.read_namespaced_pod_log("crash", SPACE, previous=True)
    assert before.strip().isdigit()
    until(lambda: node.core.read_namespaced_pod_log("crash", SPACE, previous=True) != before)


def test_jobs(cluster: Lab, node: Node) -> None:
    """A Job whose pod exits with 0 is complete; one whose pods do not fails after its back-off limit."""
    jobs = f"/apis/batch/v1/namespaces/{SPACE}/jobs"
    for name, command in (("good", "echo done"), ("bad", "exit 2")):
        cluster.request("POST", jobs, {"metadata": {"name": name}, "spec": {"backoffLimit": 0, "template": {"spec": {
            "restartPolicy": "Never", "containers": [{"name": "c", "image": UBI, "command": ["sh", "-c", command]}]}}}})

    def ended(name: str) -> Any:
        conditions = cluster.request("GET", f"{jobs}/{name}")["status"].get("conditions", [])
        return next(((item["type"], item.get("reason")) for item in conditions
                     if item["type"] in ("Complete", "Failed") and item["status"] == "True"), None)
    assert until(lambda: ended("good"))[0] == "Complete"
    assert until(lambda: ended("bad")) == ("Failed", "BackoffLimitExceeded")
    phases = {item["metadata"]["labels"]["job-name"]: item["status"]["phase"] for item in cluster.request("GET", PODS)["items"]
              if "job-name" in item["metadata"]["labels"]}
    assert phases == {"good": "Succeeded", "bad": "Failed"}


def test_exec(node: Node) -> None:
    """Through the API server: both streams apart, standard input (sent as TEXT frames), the exit code (lab.md 2 and 9.1)."""
    node.pod("box", "echo started; exec sleep 1000")
    until(lambda: node.ready("box"))
    assert node.exec("box", "echo out; echo err >&2; exit 7") == (7, "out\n", "err\n")
    assert node.exec("box", "read word; echo got $word", stdin="it\n") == (0, "got it\n", "")
    assert node.core.read_namespaced_pod_log("box", SPACE) == "started\n", "an exec does not write into the log"


def test_reboot(cluster: Lab, node: Node) -> None:
    """By annotation: Ready False, then True with another bootID; the node's pods are started again, with their addresses."""
    [name, *_] = sorted(item["metadata"]["name"] for item in
                        cluster.request("GET", "/api/v1/nodes?labelSelector=node-role.kubernetes.io/worker")["items"])
    path = f"/api/v1/nodes/{name}"
    node.pod("tenant", node=name)
    until(lambda: node.ready("tenant"))
    address, boot = node.status("tenant")["podIP"], cluster.request("GET", path)["status"]["nodeInfo"]["bootID"]

    def condition() -> Any:
        return next(item for item in cluster.request("GET", path)["status"]["conditions"] if item["type"] == "Ready")
    cluster.request("PATCH", path, {"metadata": {"annotations": {REBOOT: "contract"}}})
    down = until(lambda: (seen := condition()) and seen["status"] == "False" and seen)
    assert down["reason"] == "KubeletNotReady"
    until(lambda: not node.ready("tenant"))
    until(lambda: condition()["status"] == "True")
    after = cluster.request("GET", path)
    assert after["status"]["nodeInfo"]["bootID"] != boot
    assert after["metadata"]["annotations"][REBOOTED] == "contract"
    until(lambda: node.ready("tenant"))
    assert node.container("tenant")["restartCount"] == 1
    assert node.status("tenant")["podIP"] == address
