"""Renewal, each with a pod that keeps running."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from kubernetes import client
from kubernetes.stream import stream

from tests.integration.lab import Lab

NAMESPACE = "trustee-operator-system"
#: A document whose agent policy lets the test look into the pod.
VARIABLES = {"coco_initdata": {"default": {"agent_policy": {"exec": True, "logs": True}}, "verification": {}},
             "coco_resources": {"mine": {"word": "open-sesame-4711"}}}


class Witness:
    """A pod that was there before, and what it can still fetch."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        pod = {"metadata": {"name": "witness"}, "spec": {"runtimeClassName": "kata-remote", "containers": [{
            "name": "main", "image": "registry.access.redhat.com/ubi9/ubi-minimal:9.6", "command": ["sleep", "3600"]}]}}
        assert lab.request("POST", "/api/v1/namespaces/default/pods", pod)
        deadline = time.monotonic() + 60
        while self.state()["phase"] != "Running" and time.monotonic() < deadline:
            time.sleep(0.2)
        self.before = self.identity()

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = self.lab.request("GET", "/api/v1/namespaces/default/pods/witness")
        return {**found["status"], "uid": found["metadata"]["uid"]}

    def identity(self) -> tuple[str, str, int]:
        state = self.state()
        assert state["phase"] == "Running", state
        return state["uid"], state["containerStatuses"][0]["containerID"], state["containerStatuses"][0]["restartCount"]

    def fetches(self) -> str:
        """The secret, or what the guest says instead."""
        command = ["sh", "-c", "curl -s http://127.0.0.1:8006/cdh/resource/default/mine/word"]
        answer: str = stream(client.CoreV1Api(self.lab.api).connect_get_namespaced_pod_exec, "witness", "default",
                             command=command, stderr=True, stdin=False, stdout=True, tty=False)
        return answer


@pytest.fixture(scope="module")
def witness(running_lab: Lab) -> Iterator[Witness]:
    running_lab.lab("restore", "virgin")
    run = running_lab.playbook("site", variables=VARIABLES)
    assert run.code == 0, run.output
    yield Witness(running_lab)
    running_lab.request("DELETE", "/api/v1/namespaces/default/pods/witness")


def rotate(lab: Lab, what: str) -> None:
    run = lab.playbook("rotate", variables={**VARIABLES, "coco_rotate": what})
    assert run.code == 0, run.output
    assert run.verdict.startswith("the secret reached an attested pod")
    again = lab.playbook("site", variables=VARIABLES)
    assert again.changed == {}, again.output


def certificate(lab: Lab, key: str = "certificate") -> bytes:
    found = lab.request("GET", f"/api/v1/namespaces/{NAMESPACE}/secrets/kbs-https-certificate")
    return base64.b64decode(found["data"][key])


def pcr8s(lab: Lab) -> list[str]:
    items = json.loads(lab.config_map(NAMESPACE, "rvps-reference-values")["reference-values.json"])
    (values,) = (item["value"] for item in items if item["name"] == "snp_pcr08")
    return list(values)


def initdata(lab: Lab) -> str:
    return lab.config_map("openshift-sandboxed-containers-operator", "peer-pods-cm")["INITDATA"]


def test_server_certificate(witness: Witness) -> None:
    lab = witness.lab
    before = certificate(lab), certificate(lab, "ca.crt"), pcr8s(lab), initdata(lab)
    rotate(lab, "certificate")
    after = certificate(lab), certificate(lab, "ca.crt"), pcr8s(lab), initdata(lab)
    assert after[0] != before[0]
    assert after[1:] == before[1:], "no digest changes"
    assert witness.identity() == witness.before, "no pod is touched"
    assert witness.fetches() == "open-sesame-4711"


def test_administrators_key(witness: Witness) -> None:
    lab = witness.lab
    path = f"/api/v1/namespaces/{NAMESPACE}/secrets/kbs-auth-public-key"
    before = lab.request("GET", path)["data"]["publicKey"]
    rotate(lab, "admin_key")
    after = lab.request("GET", path)["data"]["publicKey"]
    assert after != before
    directory = lab.state / "private" / "lab"
    private = serialization.load_pem_private_key((directory / "kbs-admin.pem").read_bytes(), None)
    public = private.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert base64.b64decode(after).strip() == public.strip()
    assert [f.name for f in Path(directory).glob("kbs-admin*.pem")] == ["kbs-admin.pem"], "the old private half is gone"
    assert witness.identity() == witness.before
    assert witness.fetches() == "open-sesame-4711"


def test_authority(witness: Witness) -> None:
    """Last, because the pod's own initdata is no longer accepted afterwards: it runs on, and is refused new evidence."""
    lab = witness.lab
    before = certificate(lab, "ca.crt"), pcr8s(lab), initdata(lab)
    mark = lab.mark
    rotate(lab, "authority")
    after = certificate(lab, "ca.crt"), pcr8s(lab), initdata(lab)
    assert all(old != new for old, new in zip(before, after, strict=True))
    assert not set(before[1]) & set(after[1]), "old digests are removed at the end"
    leaf, cross = x509.load_pem_x509_certificates(certificate(lab))
    old, new = (x509.load_pem_x509_certificate(pem) for pem in (before[0], after[0]))
    leaf.verify_directly_issued_by(new)
    cross.verify_directly_issued_by(old)
    assert cross.public_key() == new.public_key()
    assert witness.identity() == witness.before, "the pod keeps running"
    # Added on the hub before the spoke rolls, removed at the end: by the order of the writes.
    order = [event["objectRef"]["name"] for event in lab.writes(mark)
             if event["objectRef"].get("name") in ("rvps-reference-values", "peer-pods-cm")]
    first, last = order.index("rvps-reference-values"), len(order) - 1 - order[::-1].index("rvps-reference-values")
    assert first < order.index("peer-pods-cm") < last, order
