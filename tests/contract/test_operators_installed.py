"""What OLM makes of the operator index (lab-catalog), and what lab-trustee-operator makes of a KbsConfig."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.cluster import OSC, TRUSTEE, subscribe, until
from tests.integration.lab import Lab


@pytest.fixture(scope="module")
def osc(cluster: Lab) -> dict[str, Any]:
    return subscribe(cluster, OSC, "sandboxed-containers-operator")


@pytest.fixture(scope="module")
def trustee(cluster: Lab) -> dict[str, Any]:
    return subscribe(cluster, TRUSTEE, "trustee-operator")


def modes(csv: dict[str, Any]) -> set[str]:
    return {mode["type"] for mode in csv["spec"]["installModes"] if mode["supported"]}


def test_osc_csv(osc: dict[str, Any]) -> None:
    """Name, skipRange, install modes (operators.md 1.1)."""
    version = osc["spec"]["version"]
    assert osc["metadata"]["name"] == f"sandboxed-containers-operator.v{version}"
    assert osc["metadata"]["annotations"]["olm.skipRange"] == f">=1.1.0 <{version}"
    assert modes(osc) == {"OwnNamespace", "SingleNamespace"}


def test_osc_webhook_points_at_the_service_of_olm(cluster: Lab, osc: dict[str, Any]) -> None:
    """OLM's ``controller-manager-service``, not the bundle's ``webhook-service``; failurePolicy Fail, CREATE only (1.1)."""
    listed = cluster.request("GET", "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations")["items"]
    [found] = [item for item in listed if item["metadata"]["name"].startswith("vkataconfig.kb.io-")]
    [hook] = found["webhooks"]
    assert hook["clientConfig"]["service"]["name"] == "controller-manager-service"
    assert hook["clientConfig"]["caBundle"]
    assert (hook["failurePolicy"], hook["sideEffects"]) == ("Fail", "None")
    assert [rule["operations"] for rule in hook["rules"]] == [["CREATE"]]
    secret = cluster.request("GET", f"/api/v1/namespaces/{OSC}/secrets/controller-manager-service-cert")
    assert set(secret["data"]) == {"tls.crt", "tls.key", "olmCAKey"}


def test_trustee_csv(cluster: Lab, trustee: dict[str, Any]) -> None:
    """No skipRange, no webhooks, Own and Single namespace; the Deployment's name and ServiceAccount (operators.md 1.2)."""
    assert "olm.skipRange" not in trustee["metadata"]["annotations"]
    assert not trustee["spec"].get("webhookdefinitions")
    assert modes(trustee) == {"OwnNamespace", "SingleNamespace"}
    name = "trustee-operator-controller-manager"
    deployment = cluster.request("GET", f"/apis/apps/v1/namespaces/{TRUSTEE}/deployments/{name}")
    assert deployment["spec"]["replicas"] == 1
    assert deployment["spec"]["template"]["spec"]["serviceAccountName"] == name


def test_kbsconfig(cluster: Lab, trustee: dict[str, Any]) -> None:
    """Without its objects a KbsConfig gets nothing, not even the finalizer; with them Deployment, finalizer and Service.

    The channel's head (1.1 and later) owns Deployment and Service (operators.md 2.3).
    """
    core, kbsconfigs = f"/api/v1/namespaces/{TRUSTEE}", f"/apis/confidentialcontainers.org/v1alpha1/namespaces/{TRUSTEE}/kbsconfigs"
    path, deployment = f"{kbsconfigs}/contract", f"/apis/apps/v1/namespaces/{TRUSTEE}/deployments/trustee-deployment"
    cluster.request("POST", kbsconfigs, {
        "apiVersion": "confidentialcontainers.org/v1alpha1", "kind": "KbsConfig", "metadata": {"name": "contract"},
        "spec": {"kbsDeploymentType": "AllInOneDeployment"}})
    [pod] = cluster.request("GET", f"{core}/pods?labelSelector=control-plane=controller-manager")["items"]

    def log() -> str:
        url = f"{cluster.api.configuration.host}{core}/pods/{pod['metadata']['name']}/log?container=manager"
        answer = cluster.api.rest_client.request("GET", url)
        return bytes(answer.read() or answer.data).decode()
    until(lambda: "ConfigMap name hasn't been provided for volume kbs-config" in log())
    assert cluster.request("GET", deployment) is None
    assert not cluster.request("GET", path)["metadata"].get("finalizers")

    for name in ("config", "values"):
        cluster.request("POST", f"{core}/configmaps", {"metadata": {"name": name}, "data": {"file": "{}"}})
    cluster.request("POST", f"{core}/secrets", {"metadata": {"name": "auth"}, "stringData": {"kbs.pem": "none"}})
    cluster.request("PATCH", path, {"spec": {"kbsConfigMapName": "config", "kbsAuthSecretName": "auth",
                                             "kbsRvpsRefValuesConfigMapName": "values"}})
    service = until(lambda: cluster.request("GET", f"{core}/services/kbs-service"))
    [port] = service["spec"]["ports"]
    assert (port["name"], port["port"], port["targetPort"]) == ("kbs-port", 8080, 8080)
    assert service["spec"]["selector"] == {"app": "kbs"}
    assert [owner["kind"] for owner in service["metadata"]["ownerReferences"]] == ["KbsConfig"]
    assert cluster.request("GET", path)["metadata"]["finalizers"]
    owners = cluster.request("GET", deployment)["metadata"]["ownerReferences"]
    assert [owner["kind"] for owner in owners] == ["KbsConfig"]
