"""A lab on which the documented steps have been carried out, and pods in it: only through the Kubernetes API."""

from __future__ import annotations

import base64
import gzip
import re
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from kubernetes import client
from kubernetes.stream import stream

from tests.contract.cluster import OSC, namespace, until
from tests.integration.lab import Lab

RELEASE = "1.11/1.0"
WHERE = "contract"  # the namespace of the pods
IMAGE = "registry.access.redhat.com/ubi9/ubi"
HYPERVISOR = "io.katacontainers.config.hypervisor."
ANNOTATION = f"{HYPERVISOR}cc_init_data"  # of OSC 1.11 and later (operators.md 4)
SECRET = "what-only-an-attested-guest-gets"
CONFIG = f"/api/v1/namespaces/{OSC}/configmaps/peer-pods-cm"
PODS = f"/api/v1/namespaces/{WHERE}/pods"
# The global document opens exec and logs, so that tests can look into pods; the hub expects its digest.
VARIABLES = {"coco_initdata": {"default": {"agent_policy": {"exec": True, "logs": True}}, "verification": {}},
             "coco_resources": {"contract": {"key": SECRET}}}
KEPT = pytest.StashKey[Lab]()


@pytest.fixture(scope="session")
def deployed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """One lab for all modules: each that imports this has a fixture of its own, so the session keeps the lab."""
    if KEPT not in request.config.stash:
        lab = Lab(tmp_path_factory.mktemp("deployed") / "state")
        request.session.addfinalizer(lambda: lab.lab("down", check=False))
        lab.lab("up", "--release", RELEASE)
        run = lab.playbook("site", "--skip-tags", "preflight,step14", variables=VARIABLES)
        assert run.code == 0, run.output
        namespace(lab, WHERE)
        request.config.stash[KEPT] = lab
    return request.config.stash[KEPT]


def body(name: str, annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    """A pod of the runtime class kata-remote that sleeps, unless ``spec`` says otherwise."""
    return {"metadata": {"name": name, "annotations": annotations or {}}, "spec": {
        "runtimeClassName": "kata-remote", "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "c", "image": IMAGE, "command": ["sh", "-c", "echo started; exec sleep 1000"]}], **spec}}


@contextmanager
def pod(lab: Lab, name: str, annotations: dict[str, str] | None = None, **spec: Any) -> Iterator[str]:
    """A pod for the time of a ``with``; its name."""
    lab.request("POST", PODS, body(name, annotations, **spec))
    try:
        yield name
    finally:
        lab.request("DELETE", f"{PODS}/{name}?gracePeriodSeconds=0")
        until(lambda: get(lab, name) is None)


def get(lab: Lab, name: str) -> Any:
    return lab.request("GET", f"{PODS}/{name}")


def ready(lab: Lab, name: str) -> bool:
    return is_ready(get(lab, name))


def is_ready(found: dict[str, Any]) -> bool:
    return any(item["type"] == "Ready" and item["status"] == "True" for item in found["status"].get("conditions", []))


def waiting(lab: Lab, name: str) -> tuple[str, str]:
    """Reason and message of the first container's waiting."""
    for status in get(lab, name)["status"].get("containerStatuses", []):
        state = status["state"].get("waiting", {})
        return state.get("reason", ""), state.get("message", "")
    return "", ""


def events(lab: Lab, name: str, reason: str) -> str:
    """The texts of a pod's events of a reason, a line each."""
    uid = get(lab, name)["metadata"]["uid"]
    found = lab.request("GET", f"/api/v1/namespaces/{WHERE}/events?fieldSelector=involvedObject.uid%3D{uid}")["items"]
    return "\n".join(event["message"] for event in found if event["reason"] == reason)


def execute(lab: Lab, name: str, *command: str) -> tuple[int, str]:
    """Exit code and output; ValueError with the runtime's words where the agent refuses."""
    session = stream(client.CoreV1Api(lab.api).connect_get_namespaced_pod_exec, name, WHERE, command=list(command),
                     stdout=True, stderr=True, stdin=False, tty=False, _preload_content=False)
    session.run_forever(timeout=30)
    return session.returncode, session.read_stdout() + session.read_stderr()


def log(lab: Lab, name: str, where: str = WHERE) -> str:
    return str(client.CoreV1Api(lab.api).read_namespaced_pod_log(name, where))


def labelled(lab: Lab, label: str, where: str = OSC) -> list[dict[str, Any]]:
    """Pods by a label ``key=value``."""
    return list(lab.request("GET", f"/api/v1/namespaces/{where}/pods?labelSelector={label.replace('=', '%3D')}")["items"])


def replaced(lab: Lab, label: str, where: str = OSC) -> None:
    """Delete the pods with a label and wait until as many others are ready."""
    old = labelled(lab, label, where)
    for found in old:
        lab.request("DELETE", f"/api/v1/namespaces/{where}/pods/{found['metadata']['name']}?gracePeriodSeconds=1")
    gone = {found["metadata"]["uid"] for found in old}

    def back() -> bool:
        new = labelled(lab, label, where)
        return len(new) == len(old) and all(is_ready(item) and item["metadata"]["uid"] not in gone for item in new)
    until(back)


def globally(lab: Lab) -> str:
    """The global initdata document, as text."""
    return gzip.decompress(base64.b64decode(lab.request("GET", CONFIG)["data"]["INITDATA"])).decode()


def encoded(document: str) -> str:
    return base64.b64encode(gzip.compress(document.encode(), mtime=0)).decode()


def changed(document: str, policy: str | None) -> str:
    """A document without an image policy and with another agent policy (None: without one, so that the image's holds)."""
    files = tomllib.loads(document)["data"]
    files["cdh.toml"] = re.sub(r"^\[image\]\n(?:(?!\[).*\n?)*", "", files["cdh.toml"], flags=re.MULTILINE)
    files.pop("policy.rego")
    if policy is not None:
        files["policy.rego"] = policy
    data = "\n".join(f"\"{name}\" = '''\n{text}'''\n" for name, text in files.items())
    return f'algorithm = "sha256"\nversion = "0.1.0"\n\n[data]\n{data}'
