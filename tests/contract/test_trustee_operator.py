"""lab-trustee-operator beside the Trustee operator: KbsConfig's finalizer (operators.md 2.3)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.cluster import until
from tests.contract.manual import Subscribed
from tests.integration.lab import Lab

SPACE = "contract-trap"
CORE = f"/api/v1/namespaces/{SPACE}"
DEPLOYMENT = f"/apis/apps/v1/namespaces/{SPACE}/deployments/trustee-deployment"
KBSCONFIGS = f"/apis/confidentialcontainers.org/v1alpha1/namespaces/{SPACE}/kbsconfigs"
KBSCONFIG = f"{KBSCONFIGS}/contract"


@pytest.fixture(scope="module")
def old(cluster: Lab) -> Iterator[Lab]:
    """Operator 1.0, which does not watch its Deployment (2.3, ownership), and the objects that a KbsConfig needs."""
    operator = Subscribed(cluster, SPACE, "trustee-operator", startingCSV="trustee-operator.v1.0.0")
    operator.approve(operator.plan("trustee-operator.v1.0.0"))
    until(lambda: operator.succeeded("trustee-operator.v1.0.0"), 120)
    for name in ("config", "values"):
        cluster.request("POST", f"{CORE}/configmaps", {"metadata": {"name": name}, "data": {"file": "{}"}})
    cluster.request("POST", f"{CORE}/secrets", {"metadata": {"name": "auth"}, "stringData": {"kbs.pem": "none"}})
    yield cluster
    if cluster.request("GET", KBSCONFIG):
        cluster.request("PATCH", KBSCONFIG, {"metadata": {"finalizers": None}})
    operator.remove()


def log(lab: Lab) -> str:
    [pod] = lab.request("GET", f"{CORE}/pods?labelSelector=control-plane=controller-manager")["items"]
    answer = lab.api.rest_client.request(
        "GET", f"{lab.api.configuration.host}{CORE}/pods/{pod['metadata']['name']}/log?container=manager")
    return bytes(answer.read() or answer.data).decode()


def make(lab: Lab) -> None:
    """A KbsConfig as far as Deployment and finalizer."""
    lab.request("POST", KBSCONFIGS, {
        "apiVersion": "confidentialcontainers.org/v1alpha1", "kind": "KbsConfig", "metadata": {"name": "contract"},
        "spec": {"kbsDeploymentType": "AllInOneDeployment", "kbsConfigMapName": "config", "kbsAuthSecretName": "auth",
                 "kbsRvpsRefValuesConfigMapName": "values"}})
    until(lambda: lab.request("GET", KBSCONFIG)["metadata"].get("finalizers") and lab.request("GET", DEPLOYMENT))


def test_kbsconfig_deleted_first(old: Lab) -> None:
    """It goes, and its Deployment with it, though that has no owner up to 1.0: the finalizer's work."""
    make(old)
    assert "ownerReferences" not in old.request("GET", DEPLOYMENT)["metadata"]
    old.request("DELETE", KBSCONFIG)
    until(lambda: old.request("GET", KBSCONFIG) is None)
    until(lambda: old.request("GET", DEPLOYMENT) is None)
