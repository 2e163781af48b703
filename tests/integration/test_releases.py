"""Every other release in short form: the fourteen steps, the proof, and a second run that changes nothing (make matrix: in full)."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.lab import Lab

NAMESPACE = "trustee-operator-system"
FAIL_OPEN = b"package policy\nimport rego.v1\ndefault executables := 3\ndefault hardware := 2\ndefault configuration := 2\n"


@pytest.fixture(scope="module", params=["1.9/0.3", "1.12/1.1", "1.13/1.2"])
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab(Path(tmp_path_factory.mktemp("release") / "state"))
    try:
        lab.lab("up", "--release", request.param)
        run = lab.playbook("site")
        assert run.code == 0, run.output
        assert run.verdict.startswith("the secret reached an attested pod (sha256 compared inside the pod)")
        assert run.verdict.endswith("the KBS refused the pod with tampered initdata")
        yield lab
    finally:
        lab.lab("down", check=False)


def names(lab: Lab) -> tuple[str, ...]:
    """The Secret with the certificate and our config maps: with the TrusteeConfig of 1.2 the operator fixes their names."""
    if lab.cluster["release"] == "1.13/1.2":
        return tuple(f"trusteeconfig-{name}" for name in ("https-cert-secret", "kbs-config", "resource-policy", "attestation-policy-cpu",
                                                          "rvps-reference-values"))
    return "kbs-https-certificate", "kbs-config-cm", "resource-policy", "attestation-policy", "rvps-reference-values"


def kbs(lab: Lab, method: str, path: str, body: str = "", headers: dict[str, str] | None = None) -> tuple[int, dict[str, Any]]:
    """A request to the KBS by its Route, verified with its authority."""
    authority = base64.b64decode(lab.request("GET", f"/api/v1/namespaces/{NAMESPACE}/secrets/{names(lab)[0]}")["data"]["ca.crt"])
    host = lab.request("GET", f"/apis/route.openshift.io/v1/namespaces/{NAMESPACE}/routes/kbs-service")["spec"]["host"]
    address, _colon, port = lab.cluster["ingress_address"].partition(":")
    connection = http.client.HTTPSConnection(host)
    connection.sock = ssl.create_default_context(cadata=authority.decode()).wrap_socket(
        socket.create_connection((address, int(port))), server_hostname=host)
    connection.request(method, f"/kbs/v0/{path}", body, headers or {})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read() or b"{}")


def test_second_run_changes_nothing(lab: Lab) -> None:
    before = lab.owned()
    run = lab.playbook("site", "--skip-tags", "step14")
    assert run.code == 0, run.output
    assert run.changed == {}
    assert lab.owned() == before


def test_nobody_replaces_the_attestation_policy(lab: Lab) -> None:
    """Trustee 0.3 takes one from anybody over HTTP; its mount is read-only, so it cannot be written."""
    policy = base64.urlsafe_b64encode(FAIL_OPEN).rstrip(b"=").decode()
    for name in ("default", "default_cpu"):
        status, answer = kbs(lab, "POST", "attestation-policy", json.dumps({"type": "rego", "policy_id": name, "policy": policy}))
        assert status == 401, answer
    assert lab.playbook("verify", "--tags", "step13").code == 0


def test_a_token_that_carries_its_own_key_opens_nothing(lab: Lab) -> None:
    """Step 13 forges one at each run; here with the KBS's own words."""
    run = lab.playbook("verify", "--tags", "step13", "-v")
    assert run.code == 0, run.output
    assert "forged" in run.output
    status, answer = kbs(lab, "GET", "resource/default/coco-verification/random", headers={"Authorization": "Bearer e30.e30.e30"})
    assert status == 401
    assert answer["type"].endswith("/TokenVerifierError")


def test_what_only_this_release_needs(lab: Lab) -> None:
    release = lab.cluster["release"]
    config_maps = {item["metadata"]["name"]: item for item in lab.request("GET", f"/api/v1/namespaces/{NAMESPACE}/configmaps")["items"]}
    ours = names(lab)[1:]
    migrated = "kbs.confidentialcontainers.org/migrated-from-v1.1.0"
    assert {name for name in ours if migrated in (config_maps[name]["metadata"].get("annotations") or {})} == (
        set(ours) if release == "1.13/1.2" else set())
    assert not [name for name in config_maps if name.endswith(".v1.1")], "the operator has migrated nothing of ours"
    ssh = lab.request("GET", "/api/v1/namespaces/openshift-sandboxed-containers-operator/secrets/ssh-key-secret")
    if release == "1.9/0.3":
        assert list(ssh["data"]) == ["id_rsa.pub"], "the private half is nowhere"
    else:
        assert ssh is None
