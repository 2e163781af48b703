"""playbooks/teardown.yml: everything of ours goes, in order, and nothing else; what is left is the cluster as it was."""

from __future__ import annotations

import subprocess
import time
from typing import Any

import pytest

from lab.seed import cloud_conf
from tests.integration.lab import ROOT, Lab, kill
from tests.integration.seed import at_rest, differences, everything
from tests.lab.arm_running import Arm

OSC, TRUSTEE = "openshift-sandboxed-containers-operator", "trustee-operator-system"
CORE, OLM = "/api/v1/namespaces", "/apis/operators.coreos.com/v1alpha1/namespaces"
CSV = f"{OLM}/{OSC}/clusterserviceversions/sandboxed-containers-operator.v1.11.1"
CONFIRMED = {"coco_teardown_confirm": "lab"}


def pod(name: str, **more: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
            "spec": {"runtimeClassName": "kata-remote", "containers": [{"name": "c", "image": "registry.access.redhat.com/ubi9/ubi:latest",
                                                                        "command": ["sh", "-c", "sleep 600"]}], **more}}


def start(lab: Lab, name: str) -> None:
    """A pod of kata; after a snapshot was restored its webhook needs some time to answer."""
    for patience in range(60, -1, -1):
        try:
            assert lab.request("POST", f"{CORE}/default/pods", pod(name))
            return
        except AssertionError:
            if not patience:
                raise
        time.sleep(1)


@pytest.fixture(scope="module")
def seed(virgin: Lab) -> dict[str, Any]:
    """The cluster and its Azure before anything of ours was there."""
    return at_rest(virgin)


def leave_orphan(arm: Arm) -> None:
    """A machine as a killed adaptor leaves it."""
    conf, name = cloud_conf("lab"), "podvm-lost-0a1b2c3d"
    group = f"resourceGroups/{conf['resourceGroup']}/providers"
    subnet = f"{arm.subscription}/{group}/Microsoft.Network/virtualNetworks/{conf['vnetName']}/subnets/{conf['subnetName']}"
    arm.ask("PUT", f"{group}/Microsoft.Compute/virtualMachines/{name}", "2024-07-01", json={"location": "eastus", "properties": {
        "hardwareProfile": {"vmSize": "Standard_DC2as_v5"}, "osProfile": {"computerName": name},
        "storageProfile": {"osDisk": {"name": f"{name}-disk", "createOption": "FromImage", "deleteOption": "Delete"}},
        "networkProfile": {"networkApiVersion": "2022-11-01", "networkInterfaceConfigurations": [{"name": f"{name}-net", "properties": {
            "deleteOption": "Delete", "ipConfigurations": [{"name": "ip-config", "properties": {"subnet": {"id": subnet}}}]}}]}}}
            ).raise_for_status()


def test_without_its_name_nothing_goes(seed: dict[str, Any], deployed: Lab) -> None:
    assert seed
    mark = deployed.mark
    check = deployed.playbook("teardown", "--check")
    assert check.code == 0, check.output
    for line in ("would go: KataConfig, while its operator runs: KataConfig example-kataconfig", f"Namespace {TRUSTEE}",
                 "stays: CustomResourceDefinition kataconfigs.kataconfiguration.openshift.io: OLM leaves them"):
        assert line in check.output
    for given in (None, {"coco_teardown_confirm": "another"}):
        run = deployed.playbook("teardown", variables=given)
        assert run.code != 0
        assert "Nothing of lab was removed · coco_teardown_confirm does not name it; what would go: KataConfig" in run.output
    assert deployed.writes(mark) == []


def test_kata_pods_refuse_it(deployed: Lab) -> None:
    start(deployed, "mine")
    mark = deployed.mark
    run = deployed.playbook("teardown", variables=CONFIRMED)
    assert run.code != 0
    assert "pods use kata runtime classes: default/mine" in run.output
    assert "coco_teardown_pods" in run.output
    assert deployed.writes(mark) == []
    deployed.request("DELETE", f"{CORE}/default/pods/mine")


def test_an_operator_that_is_gone_is_not_forced(deployed: Lab) -> None:
    """Nobody would clear the finalizer: an error with the next step, before anything is removed."""
    assert deployed.request("DELETE", CSV)
    path = f"/apis/apps/v1/namespaces/{OSC}/deployments/controller-manager"
    while deployed.request("GET", path):
        pass
    mark = deployed.mark
    run = deployed.playbook("teardown", variables=CONFIRMED)
    assert run.code != 0
    assert "the operator that would clear the finalizer of KataConfig example-kataconfig is gone" in run.output
    assert "site.yml --tags step03" in run.output
    assert deployed.writes(mark) == []
    deployed.lab("restore", "deployed")


def test_killed_and_resumed_it_leaves_a_virgin_cluster(seed: dict[str, Any], deployed: Lab) -> None:
    """Killed while nodes reboot, and while OLM removes the operator; a pod of kata goes with it as it was told to.

    At Azure the NAT gateway goes with its address, the subnet is as it was, no gallery and no machine is left, an orphan of today neither.
    """
    start(deployed, "mine")
    leave_orphan(Arm(deployed.facts["azure"]))
    assert any("natgateways" in name for name in differences(seed, everything(deployed)))
    told = "coco_teardown_confirm=lab-x7k2p", "coco_teardown_pods=true", "coco_teardown_crds=true"  # its infrastructure name
    for moment in ("waiting for KataConfig example-kataconfig to go", "ClusterServiceVersion", f"Namespace {OSC}: deleted"):
        killed = subprocess.Popen(["ansible-playbook", "-i", "inventories/lab", "playbooks/teardown.yml", "-e", " ".join(told)],
                                  cwd=ROOT, env={**deployed.env, "PYTHONUNBUFFERED": "1"}, text=True, stdout=subprocess.PIPE)
        assert killed.stdout is not None
        said = []
        for line in killed.stdout:
            said.append(line)
            if moment in line:
                break
        assert moment in said[-1], "".join(said)
        kill(killed)
    run = deployed.playbook("teardown", "-e", " ".join(told))
    assert run.code == 0, run.output
    left = differences(seed, everything(deployed))
    assert left == []
    mark, asked = deployed.mark, len(Arm(deployed.facts["azure"]).audit())
    again = deployed.playbook("teardown", "-e", " ".join(told))
    assert again.code == 0, again.output
    assert "changed=0" in again.output
    assert deployed.writes(mark) == []
    assert {one["method"] for one in Arm(deployed.facts["azure"]).audit()[asked:]} == {"GET"}


def test_the_site_works_again_with_the_same_authority(deployed: Lab) -> None:
    """After the test before: the cluster is empty, the private state on the controller has stayed."""
    authority = (deployed.state / "private" / "lab" / "kbs-ca.crt").read_bytes()
    run = deployed.playbook("site")
    assert run.code == 0, run.output
    assert run.verdict.startswith("the secret reached an attested pod")
    assert (deployed.state / "private" / "lab" / "kbs-ca.crt").read_bytes() == authority


def test_what_others_made_stays(deployed: Lab) -> None:
    """A Secret in a namespace of ours, keys of a shared config map, somebody else's Subscription of the Trustee operator."""
    assert deployed.request("POST", f"{CORE}/{OSC}/secrets", {"metadata": {"name": "theirs"}, "data": {"k": "dg=="}})
    assert deployed.request("PATCH", f"{CORE}/{OSC}/configmaps/peer-pods-cm", {"data": {"TAGS": "team=theirs"}})
    path = f"{OLM}/{TRUSTEE}/subscriptions/trustee-operator"
    subscription = deployed.request("GET", path)
    deployed.request("DELETE", path)
    assert deployed.request("POST", f"{OLM}/{TRUSTEE}/subscriptions", {
        **{key: subscription[key] for key in ("apiVersion", "kind", "spec")}, "metadata": {"name": "trustee-operator"}})
    run = deployed.playbook("teardown", variables={**CONFIRMED, "coco_teardown_state": True})
    assert run.code == 0, run.output
    for line in (f"stays: ConfigMap {OSC}/peer-pods-cm: others wrote TAGS", f"stays: Namespace {OSC}: it holds what is not ours: ",
                 f"stays: Subscription {TRUSTEE}/trustee-operator: it was not made by this collection"):
        assert line in run.output
    assert deployed.config_map(OSC, "peer-pods-cm") == {"TAGS": "team=theirs"}
    assert deployed.request("GET", f"{CORE}/{OSC}/secrets/theirs")
    assert deployed.request("GET", f"{CORE}/{OSC}/secrets/peer-pods-secret") is None
    assert deployed.request("GET", CSV) is None
    assert deployed.request("GET", "/apis/kataconfiguration.openshift.io/v1/kataconfigs")["items"] == []
    assert deployed.request("GET", f"/apis/apps/v1/namespaces/{TRUSTEE}/deployments/trustee-operator-controller-manager")
    assert deployed.request("GET", f"{CORE}/{TRUSTEE}/configmaps/kbs-config-cm") is None
    assert not (deployed.state / "private" / "lab").exists(), "as it was told to"
    mark = deployed.mark
    again = deployed.playbook("teardown", variables=CONFIRMED)
    assert again.code == 0, again.output
    assert "changed=0" in again.output
    assert deployed.writes(mark) == []
