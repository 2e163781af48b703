"""What OLM makes of the operator index (lab-catalog), and what the operators (lab-osc, lab-trustee-operator) then do."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.cluster import OSC, TRUSTEE, send, subscribe, until
from tests.integration.lab import Lab

KATACONFIGS = "/apis/kataconfiguration.openshift.io/v1/kataconfigs"


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


def test_second_kataconfig_is_refused(cluster: Lab, osc: dict[str, Any]) -> None:
    """Verbatim (operators.md 1.1); the first one gets finalizer, MachineConfig, pool and condition (3.2, 3 to 7)."""
    def kataconfig(name: str) -> dict[str, Any]:
        return {"apiVersion": "kataconfiguration.openshift.io/v1", "kind": "KataConfig", "metadata": {"name": name},
                "spec": {"checkNodeEligibility": False}}
    until(lambda: send(cluster, "POST", KATACONFIGS, kataconfig("first"))[0] == 201)
    code, answer = send(cluster, "POST", KATACONFIGS, kataconfig("second"))
    assert code == 403
    assert answer["message"].endswith("A KataConfig instance already exists, refusing to create a duplicate")

    def conditions() -> Any:
        return cluster.request("GET", f"{KATACONFIGS}/first").get("status", {}).get("conditions")
    [condition] = until(conditions)
    assert {key: condition[key] for key in ("type", "status", "reason", "message")} == {
        "type": "InProgress", "status": "True", "reason": "Installing",
        "message": "Performing initial installation of kata on cluster"}
    assert cluster.request("GET", f"{KATACONFIGS}/first")["metadata"]["finalizers"] == ["kataconfiguration.openshift.io/finalizer"]
    machines = "/apis/machineconfiguration.openshift.io/v1"
    config = cluster.request("GET", f"{machines}/machineconfigs/50-enable-sandboxed-containers-extension")
    assert config["metadata"]["labels"] == {"machineconfiguration.openshift.io/role": "kata-oc", "app": "first"}
    pool = until(lambda: cluster.request("GET", f"{machines}/machineconfigpools/kata-oc"))
    assert pool["spec"]["nodeSelector"] == {"matchLabels": {"node-role.kubernetes.io/kata-oc": ""}}
    [expression] = pool["spec"]["machineConfigSelector"]["matchExpressions"]
    assert (expression["operator"], sorted(expression["values"])) == ("In", ["kata-oc", "worker"])
