"""A site run without coco_cloud_credentials: the cluster gives peer-pods-secret, or it is said beforehand that it will not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.lab import Lab

OSC = "openshift-sandboxed-containers-operator"
NONE: dict[str, Any] = {"coco_cloud_credentials": {}}
MODE = "/apis/operator.openshift.io/v1/cloudcredentials/cluster"
ROOTS = "/api/v1/namespaces/kube-system/secrets"
ROOT = f"{ROOTS}/azure-credentials"
SECRETS = f"/api/v1/namespaces/{OSC}/secrets"
REQUESTS = "/apis/cloudcredential.openshift.io/v1/credentialsrequests"
INSTALLED = {
    "client_id": "5c0f7a1e-93b4-4d2a-8e61-7b2f90d4c3a8", "client_secret": "not-a-real-secret-of-the-cluster",
    "tenant_id": "9d1e4b7c-55aa-4c1e-8f0b-7a6e3c2d1f00", "subscription_id": "6f3a1c52-0b7d-4f0e-9a55-2d4c8e1b7a10", "region": "eastus",
    "resourcegroup": "lab-x7k2p-rg", "resource_prefix": "lab-x7k2p",
}


def mode(lab: Lab, name: str) -> None:
    lab.request("PATCH", MODE, {"spec": {"credentialsMode": name}})


@pytest.fixture(scope="module")
def lab(virgin: Lab) -> Iterator[Lab]:
    """A fresh installation with the root Secret that an installer leaves (the lab's own where it has one)."""
    if virgin.request("GET", ROOT) is None:
        virgin.request("POST", ROOTS, {
            "metadata": {"name": "azure-credentials", "annotations": {"cloudcredential.openshift.io/mode": "passthrough"}},
            "stringData": {f"azure_{key}": value for key, value in INSTALLED.items()}})
    yield virgin
    mode(virgin, "")


def test_refused_beforehand(lab: Lab) -> None:
    """Nothing is written; the way out is said."""
    mark = lab.mark
    mode(lab, "Manual")
    run = lab.playbook("site", variables=NONE)
    assert run.code != 0
    assert "the Cloud Credential Operator makes none in mode Manual" in run.output
    assert "Give AZURE_CLIENT_ID, AZURE_CLIENT_SECRET, AZURE_TENANT_ID, AZURE_SUBSCRIPTION_ID in coco_cloud_credentials" in run.output
    mode(lab, "")
    kept = lab.request("GET", ROOT)
    lab.request("DELETE", ROOT)
    run = lab.playbook("preflight", variables=NONE)
    assert run.code != 0
    assert "there is no Secret kube-system/azure-credentials" in run.output
    lab.request("POST", ROOTS, {"metadata": {key: kept["metadata"].get(key) for key in ("name", "labels", "annotations")},
                                "data": kept["data"]})
    assert lab.writes(mark) == []


def test_refused_at_step_8(lab: Lab) -> None:
    """Who passes preflight by learns it from the wait, and not at its end (coco_install_timeout is ten minutes)."""
    mode(lab, "Manual")
    run = lab.playbook("site", "--skip-tags", "preflight", variables=NONE)
    assert run.code != 0
    assert run.steps["08"]["result"] == "failed", run.output
    assert "there is no peer-pods-secret, and the Cloud Credential Operator (mode Manual) makes none" in run.output
    assert run.seconds < 300
    mode(lab, "")


def test_site(lab: Lab) -> None:
    """The run goes on where it stopped and reaches the proof; a second one changes nothing."""
    first = lab.playbook("site", variables=NONE)
    assert first.code == 0, first.output
    assert first.verdict.startswith("the secret reached an attested pod"), first.output
    secret = lab.request("GET", f"{SECRETS}/peer-pods-secret")
    assert secret["metadata"]["labels"] == {"kataconfiguration.openshift.io/credentials-request-based": "true"}
    assert secret["data"]["AZURE_CLIENT_ID"] == lab.request("GET", ROOT)["data"]["azure_client_id"]
    before = lab.owned()
    second = lab.playbook("site", "--skip-tags", "step13,step14", variables=NONE)
    assert (second.code, second.changed) == (0, {}), second.output
    assert lab.owned() == before


def test_teardown(lab: Lab) -> None:
    """Request and Secrets go; the installation's own stay."""
    run = lab.playbook("teardown", variables={**NONE, "coco_teardown_confirm": "lab"})
    assert run.code == 0, run.output
    assert lab.request("GET", REQUESTS)["items"] == []
    for name in ("cco-secret", "peer-pods-secret"):
        assert lab.request("GET", f"{SECRETS}/{name}") is None
    assert lab.request("GET", ROOT)
    assert lab.request("GET", MODE)
