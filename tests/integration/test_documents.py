"""Whoever may start pods on a spoke chooses the initdata document: a weak one opens only what it may."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.lab import Lab

VARIABLES: dict[str, Any] = {
    "coco_image_security_policy": "signed",
    "coco_initdata": {"default": {}, "verification": {"image_security_policy": "insecure"},
                      "mine": {"image_security_policy": "insecure", "agent_policy": {"logs": True}, "resources": ["mine"]}},
    "coco_resources": {"mine": {"word": "open-sesame-4711"}, "others": {"word": "nobody-else-1234"}},
}
FETCH = "curl -s -f -o /dev/null http://127.0.0.1:8006/cdh/resource/default/{}/word"


@pytest.fixture(scope="module")
def lab(running_lab: Lab) -> Lab:
    running_lab.lab("restore", "deployed")
    run = running_lab.playbook("site", variables=VARIABLES)
    assert run.code == 0, run.output
    assert run.verdict.startswith("the secret reached an attested pod"), "with signed images by default, the probes still run"
    assert "accepts images without a signature" in run.output, "the document mine is warned about"
    return running_lab


def outcome(lab: Lab, document: str, command: str) -> int | str:
    """The exit code of a pod that uses a document, or why its container never started."""
    name = f"{document}-{int(time.time() * 1000)}"
    pod = {"metadata": {"name": name, "annotations": {"io.katacontainers.config.hypervisor.cc_init_data": encoded(lab, document)}},
           "spec": {"runtimeClassName": "kata-remote", "restartPolicy": "Never", "containers": [{
               "name": "main", "image": "registry.access.redhat.com/ubi9/ubi-minimal:9.6", "command": ["sh", "-c", command]}]}}
    assert lab.request("POST", "/api/v1/namespaces/default/pods", pod)
    deadline = time.monotonic() + 60
    try:
        while time.monotonic() < deadline:
            (status,) = (lab.request("GET", f"/api/v1/namespaces/default/pods/{name}")["status"].get("containerStatuses") or [{}])
            state = status.get("state") or {}
            if "terminated" in state:
                return int(state["terminated"]["exitCode"])
            if (state.get("waiting") or {}).get("reason") == "CreateContainerError":
                return str(state["waiting"]["message"])
            time.sleep(0.2)
    finally:
        lab.request("DELETE", f"/api/v1/namespaces/default/pods/{name}")
    raise AssertionError("the pod neither ended nor failed")


def encoded(lab: Lab, document: str) -> str:
    """A document as the inventory has it, from the collection's own role."""
    root = Path(__file__).resolve().parents[2]
    play = lab.state.parent / "document.yml"
    target = lab.state.parent / "document.txt"
    play.write_text(f"""
- import_playbook: {root}/playbooks/preflight.yml
- hosts: spokes
  gather_facts: false
  tasks:
    - include_role: {{name: confidential.containers.initdata, tasks_from: compute}}
    - copy: {{content: "{{{{ initdata_built.documents['{document}'].encoded }}}}", dest: "{target}", mode: "0600"}}
""")
    done = subprocess.run(["ansible-playbook", "-i", "inventories/lab", str(play), "-e", json.dumps(VARIABLES)], cwd=root, env=lab.env,
                          text=True, capture_output=True)
    assert done.returncode == 0, done.stdout
    return target.read_text()


@pytest.mark.parametrize(("document", "secret", "code"), [
    ("verification", "mine", 22), ("mine", "mine", 0), ("mine", "others", 22),
])
def test_what_a_document_opens(lab: Lab, document: str, secret: str, code: int) -> None:
    assert outcome(lab, document, FETCH.format(secret)) == code


def test_the_default_document_runs_no_unsigned_image(lab: Lab) -> None:
    assert "Image policy rejected" in str(outcome(lab, "default", "exit 0"))
