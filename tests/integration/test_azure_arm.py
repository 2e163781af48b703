"""The collection's Azure work against lab-arm: two readings of Azure that share no code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.confidential.containers.plugins.module_utils import azure_orphans
from ansible_collections.confidential.containers.plugins.module_utils.actions import azure_peerpods_orphans as orphans
from ansible_collections.confidential.containers.plugins.module_utils.azure import Azure
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError
from tests.integration.azure_calls import ENVIRONMENT, call, conf, info, login, network, subnet_id, writes
from tests.lab.arm_running import Running


@pytest.fixture(autouse=True)
def _no_credentials_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)


BOTH = pytest.mark.parametrize("arm", ["azure", "aro"], indirect=True)
ARO = pytest.mark.parametrize("arm", ["aro"], indirect=True)


@pytest.fixture
def arm(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Running]:
    running = Running(tmp_path, getattr(request, "param", "azure"))
    yield running
    running.stop()


def subnet(arm: Running) -> dict[str, Any]:
    found: dict[str, Any] = arm.ask("GET", subnet_id(arm)).json()
    return {key: value for key, value in found.items() if key != "etag"}


@BOTH
def test_network_made_kept_and_taken_back(arm: Running) -> None:
    """Check mode writes nothing; then three writes; nothing at the second run; all back as it was, twice."""
    before = subnet(arm)
    assert network(arm, check=True)["changed"]
    assert writes(arm) == []
    made = network(arm)
    assert (made["changed"], made["attached"], len(made["created"])) == (True, True, 2)
    assert [method for method, _name in writes(arm)] == ["PUT"] * 3
    joined = subnet(arm)
    assert joined["properties"].pop("natGateway") == {"id": made["nat_gateway"]}
    assert joined == before
    assert not network(arm)["changed"]
    assert len(writes(arm)) == 3
    assert network(arm, state="absent")["changed"]
    assert subnet(arm) == before
    assert not network(arm, state="absent")["changed"]
    assert len(writes(arm)) == 6


@BOTH
def test_info_within_its_calls(arm: Running) -> None:
    """Discovery takes at most twelve requests for network and capacity together (pages of one)."""
    network(arm)
    begun = len(arm.audit())
    found = info(arm, "cluster")  # of whom all rights are asked, the deny assignments too
    assert (found["azure"]["subnet"], found["azure"]["aro"]) == (subnet_id(arm), arm.facts["platform"] == "aro")
    assert found["peerpods"]["AZURE_RESOURCE_GROUP"] == conf(arm)["resourceGroup"]
    call(arm, "azure_capacity", region="eastus", size="Standard_DC2as_v5", pods=3)
    assert len(arm.audit()) - begun <= 12


def test_a_reader_is_told_what_is_missing(arm: Running) -> None:
    with pytest.raises(CocoError, match=r"Microsoft\.Compute/virtualMachines/write"):
        info(arm, "reader")
    assert writes(arm) == []


@ARO
def test_a_deny_assignment_is_found_beforehand(arm: Running) -> None:
    """ARO's managed group is locked for all but the cluster's own principal, whatever roles say; the NSG may be joined."""
    with pytest.raises(CocoError, match="deny assignment") as caught:
        info(arm, rights=["machines", "subnet"])
    lock = "Deny assignment for ARO managed resource group"
    assert f"the deny assignment {lock} at {arm.subscription}/resourceGroups/{conf(arm)['resourceGroup']} forbids" in caught.value.seen
    for action in ("Microsoft.Compute/virtualMachines/write", "Microsoft.Network/networkInterfaces/join/action"):
        assert action in caught.value.seen
    for excepted in ("networkSecurityGroups/join/action", "disks/write"):
        assert excepted not in caught.value.seen
    assert "leave coco_cloud_credentials empty" in caught.value.todo
    assert arm.token() not in str(caught.value)
    assert writes(arm) == []
    assert [one["severity"] for one in info(arm, "cluster", rights=["machines", "subnet"])["findings"]] == []


@ARO
def test_the_lock_is_no_matter_for_who_makes_no_machines(arm: Running) -> None:
    """An administrator's own login makes the NAT gateway in the customer's group: the deny assignments are not asked for."""
    info(arm, rights=["gateway"])
    assert not [one for one in arm.audit() if "denyAssignments" in one["path"]]


@BOTH
def test_what_the_lock_says_is_what_happens(arm: Running) -> None:
    """An interface in the machines' group, made as `installer`: refused by the lock where there is one, made where preflight is content."""
    base = f"resourceGroups/{conf(arm)['resourceGroup']}/providers"
    answer = arm.ask("PUT", f"{base}/Microsoft.Network/networkInterfaces/n", json={"location": "eastus", "properties": {
        "ipConfigurations": [{"name": "c", "properties": {"subnet": {"id": subnet_id(arm)}}}]}})
    if arm.facts["platform"] == "aro":
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "DenyAssignmentAuthorizationFailed")
    else:
        assert answer.status_code == 201
        assert info(arm, rights=["machines", "subnet"])["findings"] == []


@BOTH
def test_orphans(arm: Running) -> None:
    """A pod VM whose pod is gone is found with its interface and disk, and goes; nodes' machines and living ones stay."""
    group = conf(arm)["resourceGroup"]
    for pod in ("gone", "alive"):
        name = f"podvm-{pod}-0123abcd"
        base = f"{arm.subscription}/resourceGroups/{group}/providers"
        arm.ask("PUT", f"{base}/Microsoft.Network/networkInterfaces/{name}-net", name="cluster", json={
            "location": "eastus", "properties": {"ipConfigurations": [{"name": "c", "properties": {
                "subnet": {"id": subnet_id(arm)}}}]}}).raise_for_status()
        arm.ask("PUT", f"{base}/Microsoft.Compute/virtualMachines/{name}", "2026-04-01", name="cluster", json={
            "location": "eastus", "properties": {
                "hardwareProfile": {"vmSize": "Standard_DC2as_v5"},
                "storageProfile": {"osDisk": {"name": f"{name}-disk", "createOption": "FromImage"}},
                "networkProfile": {"networkInterfaces": [{"id": f"{base}/Microsoft.Network/networkInterfaces/{name}-net"}]}}}
                ).raise_for_status()
    azure = Azure.from_params(login(arm, "cluster") | {"subscription_id": arm.facts["subscription"]}, lambda _text: None)
    living = {"instances": [], "pods": ["alive"], "gallery": "", "image_id": "", "kataconfig": True, "subnet_id": subnet_id(arm)}
    nodes = len(orphans.resources(azure, group)["vm"]) - 2
    found = azure_orphans.find(orphans.resources(azure, group), living, datetime.now(timezone.utc).isoformat(), 0)["orphans"]
    assert [(one["kind"], one["name"]) for one in found] == [
        ("vm", "podvm-gone-0123abcd"), ("nic", "podvm-gone-0123abcd-net"), ("disk", "podvm-gone-0123abcd-disk")]
    for one in found:
        orphans.remove(azure, one)
    left = orphans.resources(azure, group)
    assert len(left["vm"]) == nodes + 1
    assert "gone" not in json.dumps(left)


def test_a_given_image(arm: Running) -> None:
    """It is missed, then seen; of a definition that is not confidential it is refused; who may not read it is told so."""
    gallery = f"{arm.subscription}/resourceGroups/{conf(arm)['resourceGroup']}/providers/Microsoft.Compute/galleries/mine"
    arm.ask("PUT", gallery, "2023-07-03", json={"location": "eastus", "properties": {}}).raise_for_status()
    for name, kind in (("good", "ConfidentialVmSupported"), ("other", "TrustedLaunchSupported")):
        arm.ask("PUT", f"{gallery}/images/{name}", "2023-07-03", json={"location": "eastus", "properties": {
            "osType": "Linux", "osState": "Generalized", "hyperVGeneration": "V2", "features": [{"name": "SecurityType", "value": kind}],
            "identifier": {"publisher": "p", "offer": "o", "sku": name}}}).raise_for_status()
    good = f"{gallery}/images/good/versions/1.0.0"
    with pytest.raises(CocoError, match=r"versions/1\.0\.0 does not exist"):
        info(arm, image_id=good)
    for name in ("good", "other"):
        arm.ask("PUT", f"{gallery}/images/{name}/versions/1.0.0", "2023-07-03", json={"location": "eastus", "properties": {
            "publishingProfile": {"targetRegions": [{"name": "East US"}]}}}).raise_for_status()
    without = info(arm)["calls"]
    seen = info(arm, image_id=good)
    assert not [item for item in seen["findings"] if item["code"].startswith("image")]
    assert seen["calls"] == without + 2
    with pytest.raises(CocoError, match="its definition has SecurityType TrustedLaunchSupported"):
        info(arm, image_id=good.replace("good", "other"))
    codes = [item["code"] for item in info(arm, "network", rights=[], image_id=good)["findings"]]
    assert "image-unseen" in codes
