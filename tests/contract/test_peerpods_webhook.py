# ruff: noqa: F811 (the imported fixture is an argument)
"""lab-peerpods-webhook beside the peer pods webhook of OSC (operators.md 4)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.contract.cluster import OSC, until
from tests.contract.deployed import HYPERVISOR, WHERE, body, deployed, is_ready, labelled, pod, ready, replaced  # noqa: F401
from tests.integration.lab import Lab

DEPLOYMENT = f"/apis/apps/v1/namespaces/{OSC}/deployments/peer-pods-webhook"
CONFIGURATION = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/mutating-webhook-configuration"
VM = {"kata.peerpods.io/vm": "1"}


def answer(lab: Lab, where: str, made: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """What the API server says to a pod that is not kept; sideEffects None lets dry runs pass through the webhook."""
    url = f"{lab.api.configuration.host}/api/v1/namespaces/{where}/pods?dryRun=All"
    said = lab.api.rest_client.request("POST", url, headers={"Content-Type": "application/json"}, body=made)
    said.read()
    return said.status, json.loads(said.data)


def admitted(lab: Lab, made: dict[str, Any], where: str = WHERE) -> dict[str, Any]:
    status, said = answer(lab, where, made)
    assert status == 201, said
    return said


def container(name: str, **resources: Any) -> dict[str, Any]:
    return {"name": name, "image": "quay.io/nobody/nothing:1", "resources": resources}


def asked(found: dict[str, Any]) -> dict[str, str]:
    """The annotations by which the VM is sized."""
    return {key.removeprefix(HYPERVISOR): value for key, value in found["metadata"].get("annotations", {}).items()
            if key.startswith(f"{HYPERVISOR}default_")}


def test_objects(deployed: Lab) -> None:
    """Deployment, Service and MutatingWebhookConfiguration; none has an owner (section 4, the webhook's table)."""
    deployment = deployed.request("GET", DEPLOYMENT)
    assert deployment["spec"]["replicas"] == 2
    assert deployment["spec"]["template"]["metadata"]["labels"]["app"] == "peer-pods-webhook"
    [found] = deployment["spec"]["template"]["spec"]["containers"]
    assert {item["name"]: item["value"] for item in found["env"]} == {
        "PEERPODS_NAMESPACE": OSC, "TARGET_RUNTIMECLASS": "kata-remote", "POD_VM_EXTENDED_RESOURCE": "kata.peerpods.io/vm"}
    assert found["resources"] == {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"cpu": "500m", "memory": "128Mi"}}
    service = deployed.request("GET", f"/api/v1/namespaces/{OSC}/services/peer-pods-webhook-svc")
    [port] = service["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (443, 9443)
    secret = deployed.request("GET", f"/api/v1/namespaces/{OSC}/secrets/peer-pods-webhook-svc-secret")
    assert set(secret["data"]) == {"tls.crt", "tls.key"}
    configuration = deployed.request("GET", CONFIGURATION)
    [hook] = configuration["webhooks"]
    assert (hook["name"], hook["failurePolicy"]) == ("mwebhook.peerpods.io", "Fail")
    assert (hook["clientConfig"]["service"]["name"], hook["clientConfig"]["service"]["path"]) == (
        "peer-pods-webhook-svc", "/mutate-v1-pod")
    [rule] = hook["rules"]
    assert (rule["resources"], sorted(rule["operations"])) == (["pods"], ["CREATE", "UPDATE"])
    [names] = hook["namespaceSelector"]["matchExpressions"]
    assert (names["key"], names["operator"]) == ("kubernetes.io/metadata.name", "NotIn")
    assert all(name.startswith(("openshift", "kube-")) for name in names["values"])
    for item in (deployment, service, configuration):
        assert "ownerReferences" not in item["metadata"]


def test_resources_become_annotations(deployed: Lab) -> None:
    """Limits, else requests, are summed; all resources go; the first container asks for one VM (section 4, mutation)."""
    found = admitted(deployed, body("sums", containers=[
        container("one", limits={"cpu": "1500m", "memory": "1Gi"}, requests={"cpu": "100m", "memory": "64Mi"}),
        container("two", requests={"cpu": "1", "memory": "512Mi"})], initContainers=[container("before", limits={"memory": "64Mi"})]))
    assert asked(found) == {"default_vcpus": "3", "default_memory": "1536"}
    one, two = found["spec"]["containers"]
    assert one["resources"] == {"requests": VM, "limits": VM}
    assert two["resources"] == found["spec"]["initContainers"][0]["resources"] == {}


def test_gpus_and_own_annotations(deployed: Lab) -> None:
    """GPUs are an annotation too; what the pod was annotated with stays (section 4, mutation)."""
    gpus = {"nvidia.com/gpu": "2"}
    found = admitted(deployed, body("gpus", {"own/key": "kept"}, containers=[container("c", limits=gpus, requests=gpus)]))
    assert asked(found) == {"default_gpus": "2"}
    assert found["metadata"]["annotations"]["own/key"] == "kept"


@pytest.mark.parametrize("name", [None, "kata"])
def test_other_runtime_classes_stay_as_they_are(deployed: Lab, name: str | None) -> None:
    """Only pods of kata-remote are changed (section 4, mutation)."""
    limits = {"cpu": "1", "memory": "1Gi"}
    found = admitted(deployed, body("other", runtimeClassName=name, containers=[container("c", limits=limits, requests=limits)]))
    assert asked(found) == {}
    assert found["spec"]["containers"][0]["resources"] == {"requests": limits, "limits": limits}


def test_namespaces_of_the_platform_are_left_out(deployed: Lab) -> None:
    """namespaceSelector: NotIn openshift-* and kube-*: there even a pod of kata-remote keeps its resources (section 4)."""
    limits = {"cpu": "1", "memory": "1Gi"}
    made = body("excluded", containers=[container("c", limits=limits, requests=limits)])
    assert admitted(deployed, made, "kube-system")["spec"]["containers"][0]["resources"]["limits"] == limits
    assert admitted(deployed, made)["spec"]["containers"][0]["resources"]["limits"] == VM


def test_down(deployed: Lab) -> None:
    """failurePolicy Fail: without the webhook every pod is refused, of other classes too, but for the platform's namespaces
    (operators.md 4; 10, row 10: ``failed calling webhook``); with it back a pod of kata-remote runs."""
    deployed.request("PATCH", DEPLOYMENT, {"spec": {"replicas": 0}})
    try:
        until(lambda: not labelled(deployed, "app=peer-pods-webhook"))
        for made in (body("down"), body("down", runtimeClassName=None)):
            status, said = until(lambda made=made: (heard := answer(deployed, WHERE, made))[0] != 201 and heard)
            assert (status, said["reason"]) == (500, "InternalError")
            assert 'failed calling webhook "mwebhook.peerpods.io"' in said["message"]
            assert f"https://peer-pods-webhook-svc.{OSC}.svc:443/mutate-v1-pod" in said["message"]
        admitted(deployed, body("down", runtimeClassName=None), "kube-system")
    finally:
        deployed.request("PATCH", DEPLOYMENT, {"spec": {"replicas": 2}})
    until(lambda: answer(deployed, WHERE, body("down"))[0] == 201)
    with pod(deployed, "up-again") as name:
        until(lambda: ready(deployed, name))


def test_made_if_absent_and_never_updated(deployed: Lab) -> None:
    """A pass of the operator leaves a changed Deployment alone and makes again what is gone (section 4, life).

    That a pass has been is seen at osc-caa-ds, which releases before PR #1950 write in each one (section 4, update).
    """
    daemon, mark = f"/apis/apps/v1/namespaces/{OSC}/daemonsets/osc-caa-ds", {"metadata": {"annotations": {"contract": "by-hand"}}}
    deployed.request("DELETE", CONFIGURATION)
    deployed.request("PATCH", DEPLOYMENT, {"spec": {"template": mark}})
    deployed.request("PATCH", daemon, {"spec": {"template": mark}})
    replaced(deployed, "control-plane=controller-manager")
    until(lambda: "contract" not in deployed.request("GET", daemon)["spec"]["template"]["metadata"].get("annotations", {}))
    until(lambda: deployed.request("GET", CONFIGURATION))
    template = deployed.request("GET", DEPLOYMENT)["spec"]["template"]
    assert template["metadata"]["annotations"]["contract"] == "by-hand"
    until(lambda: all(is_ready(item) for item in labelled(deployed, "name=osc-caa-ds")))
    until(lambda: answer(deployed, WHERE, body("again"))[0] == 201)
    assert admitted(deployed, body("again"))["spec"]["containers"][0]["resources"] == {"requests": VM, "limits": VM}
