"""Steps 7 and 8 where they have something to do, and the pinning of operators."""

from __future__ import annotations

from typing import Any

from tests.integration.lab import Lab

OSC = "openshift-sandboxed-containers-operator"
KATACONFIGS = "/apis/kataconfiguration.openshift.io/v1/kataconfigs"


def boots(lab: Lab) -> dict[str, str]:
    return {node["metadata"]["name"]: node["status"]["nodeInfo"]["bootID"] for node in lab.request("GET", "/api/v1/nodes")["items"]}


def image(lab: Lab) -> str:
    return lab.config_map(OSC, "peer-pods-cm")["AZURE_IMAGE_ID"]


def kataconfig(lab: Lab) -> dict[str, Any]:
    (found,) = lab.request("GET", KATACONFIGS)["items"]
    return dict(found)


def test_only_the_pinned_operators_are_installed(deployed: Lab) -> None:
    """The index offers newer ones; their install plans are there and stay unapproved."""
    for namespace, csv in ((OSC, "sandboxed-containers-operator.v1.11.1"), ("trustee-operator-system", "trustee-operator.v1.0.0")):
        base = f"/apis/operators.coreos.com/v1alpha1/namespaces/{namespace}"
        installed = [c["metadata"]["name"] for c in deployed.request("GET", f"{base}/clusterserviceversions")["items"]
                     if c["metadata"]["name"].startswith(csv.partition(".")[0])]
        assert installed == [csv]
        plans = deployed.request("GET", f"{base}/installplans")["items"]
        assert {name for plan in plans if plan["spec"]["approved"] for name in plan["spec"]["clusterServiceVersionNames"]} == {csv}
        waiting = [plan for plan in plans if not plan["spec"]["approved"]]
        assert waiting, "the newer release of the index"
        assert csv not in {name for plan in waiting for name in plan["spec"]["clusterServiceVersionNames"]}


def test_a_changed_subscription_is_shown_and_set_back(deployed: Lab) -> None:
    path = f"/apis/operators.coreos.com/v1alpha1/namespaces/{OSC}/subscriptions/sandboxed-containers-operator"
    assert deployed.request("PATCH", path, {"spec": {"channel": "preview"}})
    run = deployed.playbook("site", "--tags", "step03", "--diff")
    assert run.code == 0, run.output
    assert run.changed == {"03": 1}
    assert "preview" in run.output, "the diff shows what somebody wrote"
    assert deployed.request("GET", path)["spec"]["channel"] == "stable"


def test_an_image_that_is_not_confidential_is_built_anew_without_a_reboot(deployed: Lab) -> None:
    before, old, name = boots(deployed), image(deployed), kataconfig(deployed)["metadata"]["uid"]
    deployed.request("PATCH", f"/api/v1/namespaces/{OSC}/configmaps/azure-podvm-image-cm",
                     {"data": {"CONFIDENTIAL_COMPUTE_ENABLED": "no"}})
    assert deployed.request("PATCH", f"/api/v1/namespaces/{OSC}/configmaps/peer-pods-cm", {"data": {"AZURE_IMAGE_ID": old + "9"}})
    check = deployed.playbook("site", "--tags", "step07", "--check")
    assert image(deployed) == old + "9", check.output
    run = deployed.playbook("site")
    assert run.code == 0, run.output
    assert "was built without the confidential feature gate" in run.output
    assert image(deployed) not in ("", old + "9")
    assert boots(deployed) == before
    assert kataconfig(deployed)["metadata"]["uid"] == name
    assert run.verdict.startswith("the secret reached an attested pod")


def test_recreation_that_is_asked_for_says_why_and_shows_each_node(deployed: Lab) -> None:
    before, uid = boots(deployed), kataconfig(deployed)["metadata"]["uid"]
    run = deployed.playbook("site", variables={"coco_kataconfig_recreate": "always"})
    assert run.code == 0, run.output
    assert "re-creation was asked for" in run.output
    assert kataconfig(deployed)["metadata"]["uid"] != uid
    rebooted = {node for node, boot in boots(deployed).items() if boot != before[node]}
    assert rebooted == {"lab-worker-eastus-1", "lab-worker-eastus-2"}
    for node in rebooted:
        assert node in run.output, "progress names each node"
    assert run.verdict.startswith("the secret reached an attested pod")
