"""The sample workloads: what each agent policy opens and closes, and who gets a secret."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
import time
import tomllib
from collections.abc import Callable
from typing import Any

import pytest
from kubernetes import client
from kubernetes.stream import stream

from tests.integration.lab import Lab, Run

HUB = "trustee-operator-system"
STATUS = "http://127.0.0.1:8006/cdh/resource/default/attestation-status/"
SECRET = "correct-horse-4711-battery-staple"
DIGEST = hashlib.sha256(SECRET.encode()).hexdigest()
ANNOTATION = "io.katacontainers.config.hypervisor.cc_init_data"
DOCUMENTS: dict[str, Any] = {
    "default": {}, "verification": {},
    "exec-allowlist": {"agent_policy": {"exec_allowlist": [["curl", f"{STATUS}status"], ["curl", f"{STATUS}random"]]}},
    "debug": {"agent_policy": {"exec": True, "logs": True}},
}
INVENTORY = {"coco_initdata": DOCUMENTS, "coco_resources": {"attestation-status": {"status": "attested", "random": SECRET}}}
VARIABLES = {
    **INVENTORY,
    "workload_hello_openshift_variants": ["standard", "secure", "insecure-policy"],
    "workload_kbs_access_resource": "kbs:///default/attestation-status/random", "workload_kbs_access_sha256": DIGEST,
}


class Workloads:
    """The lab with the sample workloads, and the run that deployed them."""

    def __init__(self, lab: Lab, run: Run) -> None:
        self.lab, self.run = lab, run

    @property
    def core(self) -> client.CoreV1Api:
        return client.CoreV1Api(self.lab.api)

    def pods(self, namespace: str, app: str) -> list[dict[str, Any]]:
        found = self.lab.request("GET", f"/api/v1/namespaces/{namespace}/pods?labelSelector=app%3D{app}")
        return list(found["items"])

    def pod(self, namespace: str, app: str) -> dict[str, Any]:
        (found,) = self.pods(namespace, app)
        return found

    def exec(self, namespace: str, app: str, *command: str) -> tuple[int, str]:
        """Exit code and output; ValueError with the runtime's words where the agent refuses."""
        name = self.pod(namespace, app)["metadata"]["name"]
        session = stream(self.core.connect_get_namespaced_pod_exec, name, namespace, command=list(command), stdout=True,
                         stderr=True, stdin=False, tty=False, _preload_content=False)
        session.run_forever(timeout=30)
        return session.returncode, session.read_stdout() + session.read_stderr()

    def log(self, namespace: str, app: str, container: str | None = None) -> str:
        name = self.pod(namespace, app)["metadata"]["name"]
        return str(self.core.read_namespaced_pod_log(name, namespace, container=container))

    def kbs_log(self) -> str:
        found = self.lab.request("GET", f"/api/v1/namespaces/{HUB}/pods?labelSelector=app%3Dkbs")["items"]
        return "".join(str(self.core.read_namespaced_pod_log(pod["metadata"]["name"], HUB)) for pod in found)


def hello(variant: str) -> tuple[str, str]:
    return "hello-openshift", f"hello-openshift-{variant}"


def accept(lab: Lab, variables: dict[str, Any]) -> None:
    """What a user does after changing documents or secrets of the inventory."""
    run = lab.playbook("site", "--tags", "step11,step12", variables=variables)
    assert run.code == 0, run.output


def recap(run: Run) -> dict[str, int]:
    """The counters of the one host."""
    (line,) = re.findall(r"^lab\s+: (.+)$", run.output, re.MULTILINE)
    return {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", line)}


def eventually(check: Callable[[], Any], seconds: float = 30) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, f"not within {seconds} s; last seen: {found!r}"
        time.sleep(0.2)
    return found


def document(pod: dict[str, Any]) -> dict[str, str]:
    """The files of the initdata document that a pod's annotation carries."""
    encoded = pod["metadata"]["annotations"][ANNOTATION]
    files: dict[str, str] = tomllib.loads(gzip.decompress(base64.b64decode(encoded)).decode())["data"]
    return files


@pytest.fixture(scope="module")
def workloads(deployed: Lab) -> Workloads:
    accept(deployed, INVENTORY)
    run = deployed.playbook("workloads", variables=VARIABLES)
    assert run.code == 0, run.output
    return Workloads(deployed, run)


def test_open_policies_are_warned_about(workloads: Workloads) -> None:
    said = " ".join(workloads.run.output.split())
    assert "policy debug: ExecProcessRequest is true" in said
    assert "policy debug: ReadStreamRequest is true" in said
    assert "policy exec-allowlist:" not in said
    assert "policy default:" not in said


def test_the_secret_stays_out_of_the_output(workloads: Workloads) -> None:
    assert SECRET not in workloads.run.output


@pytest.mark.parametrize("variant", ["standard", "secure", "insecure-policy"])
def test_pods_are_closed_containers(workloads: Workloads, variant: str) -> None:
    pod = workloads.pod(*hello(variant))
    assert pod["spec"]["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    (container,) = pod["spec"]["containers"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert pod["spec"]["automountServiceAccountToken"] is False


def test_documents_of_the_variants(workloads: Workloads) -> None:
    standard, secure, insecure = (workloads.pod(*hello(name)) for name in ("standard", "secure", "insecure-policy"))
    assert "runtimeClassName" not in standard["spec"]
    assert ANNOTATION not in (standard["metadata"].get("annotations") or {})
    assert secure["spec"]["runtimeClassName"] == insecure["spec"]["runtimeClassName"] == "kata-remote"
    closed, opened = document(secure), document(insecure)
    assert "default ExecProcessRequest := false" in closed["policy.rego"]
    assert "default ExecProcessRequest := true" in opened["policy.rego"]
    assert {name: text for name, text in closed.items() if name != "policy.rego"} == \
        {name: text for name, text in opened.items() if name != "policy.rego"}, "the same but for the policy"


def test_standard_lets_exec_and_logs_through(workloads: Workloads) -> None:
    assert workloads.exec(*hello("standard"), "sh", "-c", "echo in; exit 3") == (3, "in\n")
    assert "serving on 8888" in workloads.log(*hello("standard"))


def test_standard_gets_no_secret(workloads: Workloads) -> None:
    code, said = workloads.exec(*hello("standard"), "curl", "-f", f"{STATUS}status")
    assert code != 0
    assert "attested" not in said


@pytest.mark.parametrize(("key", "value"), [("status", "attested"), ("random", SECRET)])
def test_secure_runs_the_two_commands(workloads: Workloads, key: str, value: str) -> None:
    code, said = workloads.exec(*hello("secure"), "curl", f"{STATUS}{key}")
    assert code == 0
    assert value in said


@pytest.mark.parametrize("command", [
    ["sh", "-c", "echo in"], ["curl"], ["curl", "-f", f"{STATUS}status"], ["curl", f"{STATUS}status", f"{STATUS}random"],
    ["sh", "-c", f"curl {STATUS}status"], ["curl", "http://127.0.0.1:8006/cdh/resource/default/coco-verification/random"],
])
def test_secure_refuses_every_other_command(workloads: Workloads, command: list[str]) -> None:
    with pytest.raises(ValueError, match="ExecProcessRequest is blocked by policy"):
        workloads.exec(*hello("secure"), *command)


def test_secure_refuses_logs(workloads: Workloads) -> None:
    """A refused ReadStreamRequest leaves the log empty; the same program wrote one in the other variants."""
    assert workloads.log(*hello("secure")) == ""


def test_insecure_policy_lets_exec_and_logs_through(workloads: Workloads) -> None:
    assert workloads.exec(*hello("insecure-policy"), "sh", "-c", "echo in; exit 3") == (3, "in\n")
    assert "serving on 8888" in workloads.log(*hello("insecure-policy"))


def test_insecure_policy_gives_any_secret_away(workloads: Workloads) -> None:
    """Why it is warned about: the hub accepts the document, so whoever may exec reads what it gives."""
    code, said = workloads.exec(*hello("insecure-policy"), "sh", "-c", f"curl -sf {STATUS}random | cat")
    assert (code, said) == (0, SECRET)


def test_kbs_access_is_ready(workloads: Workloads) -> None:
    pod = workloads.pod("kbs-access", "kbs-access")
    (got,) = pod["status"]["initContainerStatuses"]
    assert (got["state"]["terminated"]["exitCode"], got["restartCount"]) == (0, 0)
    (hold,) = pod["status"]["containerStatuses"]
    assert hold["ready"]
    assert hold["restartCount"] == 0


def test_kbs_access_shows_nothing(workloads: Workloads) -> None:
    with pytest.raises(ValueError, match="ExecProcessRequest is blocked by policy"):
        workloads.exec("kbs-access", "kbs-access", "cat", "/secret/value")
    assert workloads.log("kbs-access", "kbs-access") == ""
    assert workloads.log("kbs-access", "kbs-access", "get") == ""
    assert SECRET not in str(workloads.pod("kbs-access", "kbs-access"))


def test_second_run_changes_nothing(workloads: Workloads) -> None:
    before = workloads.lab.owned()
    again = workloads.lab.playbook("workloads", variables=VARIABLES)
    assert again.code == 0, again.output
    assert recap(again)["changed"] == 0, again.output
    assert "Deployment hello-openshift/secure" in before
    assert workloads.lab.owned() == before


def test_check_mode_says_what_would_change_and_writes_nothing(workloads: Workloads) -> None:
    mark = workloads.lab.mark
    run = workloads.lab.playbook("workloads", "--check", variables={
        **VARIABLES, "workload_kbs_access_namespace": "new", "workload_hello_openshift_variants": ["standard", "secure"]})
    assert run.code == 0, run.output
    assert recap(run)["changed"] == 2, run.output
    assert workloads.lab.writes(mark) == []


def test_render_only_writes_nothing(workloads: Workloads) -> None:
    """With other choices than those deployed, so that anything applied would be a write."""
    mark = workloads.lab.mark
    variables = {**VARIABLES, "coco_render_only": True, "workload_hello_openshift_variants": ["secure"],
                 "workload_kbs_access_sha256": ""}
    run = workloads.lab.playbook("workloads", "-vv", variables=variables)
    assert run.code == 0, run.output
    for role, deployment in (("workload_hello_openshift", "secure"), ("workload_kbs_access", "kbs-access")):
        (given,) = re.findall(rf'^ok: .*"{role}_objects": (\[.*\])', run.output, re.MULTILINE)
        assert re.findall(r'"kind": "Deployment", "metadata": {.*?"name": "([a-z-]+)"', given) == [deployment]
    assert workloads.lab.writes(mark) == []


def test_a_variant_no_longer_named_goes(workloads: Workloads) -> None:
    variables = {**VARIABLES, "workload_hello_openshift_variants": ["standard", "secure"]}
    run = workloads.lab.playbook("workloads", "--tags", "hello_openshift", variables=variables)
    assert run.code == 0, run.output
    assert recap(run)["changed"] == 1, run.output
    eventually(lambda: not workloads.pods(*hello("insecure-policy")))
    assert workloads.pods(*hello("secure"))


@pytest.mark.parametrize(("change", "tag", "expected"), [
    ({"workload_hello_openshift_secure_document": "debug"}, "hello_openshift", "its initdata document debug is open"),
    ({"workload_hello_openshift_secure_document": "nobody"}, "hello_openshift", "its initdata document nobody is not in coco_initdata"),
    ({"workload_kbs_access_document": "nobody"}, "kbs_access", "its initdata document nobody is not in coco_initdata"),
    ({"workload_kbs_access_resource": "kbs:///default/x; ls"}, "kbs_access", "write kbs:///default/<secret>/<key>"),
    ({"workload_kbs_access_sha256": "abc"}, "kbs_access", "64 hexadecimal digits"),
])
def test_bad_choices_are_refused_before_anything_is_written(workloads: Workloads, change: dict[str, Any], tag: str,
                                                            expected: str) -> None:
    mark = workloads.lab.mark
    run = workloads.lab.playbook("workloads", "--tags", tag, variables={**VARIABLES, **change})
    assert run.code != 0
    assert expected in " ".join(run.output.split())
    assert workloads.lab.writes(mark) == []


def test_another_secret_than_the_expected_one_is_noticed(workloads: Workloads) -> None:
    """The comparison inside the pod can fail."""
    run = workloads.lab.playbook("workloads", "--tags", "kbs_access", variables={
        **VARIABLES, "workload_kbs_access_sha256": "0" * 64, "workload_kbs_access_name": "other",
        "workload_kbs_access_namespace": "other", "workload_kbs_access_wait_timeout": 15})
    assert run.code != 0, run.output
    assert "container get ended with 42" in " ".join(run.output.split())
    run = workloads.lab.playbook("workloads", "--tags", "kbs_access", variables={
        **VARIABLES, "workload_kbs_access_state": "absent", "workload_kbs_access_namespace": "other"})
    assert run.code == 0, run.output
    assert workloads.lab.request("GET", "/api/v1/namespaces/other") is None


def test_a_document_that_the_hub_does_not_accept_gets_no_secret(workloads: Workloads) -> None:
    """The spoke's administrator makes a document of his own, open and without an image policy, so that the secret is the
    first thing it asks for. Then the hub accepts that document: the same pod gets the secret, so nothing else was in the way."""
    image = re.compile(r"^\[image\]\n(?:(?!\[).*\n?)*", re.MULTILINE)
    cdh, replaced = image.subn("", document(workloads.pod("kbs-access", "kbs-access"))["cdh.toml"])
    assert replaced == 1
    documents = {**DOCUMENTS, "stranger": {"agent_policy": {"exec": True, "logs": True}, "cdh_toml": cdh}}
    variables = {**VARIABLES, "coco_initdata": documents, "workload_kbs_access_document": "stranger",
                 "workload_kbs_access_name": "stranger", "workload_kbs_access_namespace": "stranger"}
    denied = '"GET /kbs/v0/resource/default/attestation-status/random HTTP/1.1" 401'
    before = workloads.kbs_log().count(denied)
    run = workloads.lab.playbook("workloads", "--tags", "kbs_access", variables={**variables, "workload_kbs_access_wait_timeout": 15})
    assert run.code != 0, run.output
    assert "container get ended with 22" in " ".join(run.output.split())
    assert workloads.kbs_log().count(denied) > before, "the KBS itself denied it"
    pod = workloads.pod("stranger", "stranger")
    assert not any(status["ready"] for status in pod["status"]["containerStatuses"])
    said = workloads.log("stranger", "stranger", "get")
    assert "The requested URL returned error" in said
    assert SECRET not in said

    accept(workloads.lab, {**INVENTORY, "coco_initdata": documents})
    run = workloads.lab.playbook("workloads", "--tags", "kbs_access", variables=variables)
    assert run.code == 0, run.output
    assert workloads.exec("stranger", "stranger", "cat", "/secret/value") == (0, SECRET)


def test_absent_removes_both(workloads: Workloads) -> None:
    variables = {**VARIABLES, "workload_hello_openshift_state": "absent", "workload_kbs_access_state": "absent"}
    run = workloads.lab.playbook("workloads", variables=variables)
    assert run.code == 0, run.output
    for namespace in ("hello-openshift", "kbs-access"):
        assert workloads.lab.request("GET", f"/api/v1/namespaces/{namespace}") is None
    again = workloads.lab.playbook("workloads", variables=variables)
    assert recap(again)["changed"] == 0, again.output
