"""The collection's Azure work against lab-arm: two readings of Azure that share no code."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.confidential.containers.plugins.module_utils import azure_login, azure_orphans
from ansible_collections.confidential.containers.plugins.module_utils.actions import azure_peerpods_orphans as orphans
from ansible_collections.confidential.containers.plugins.module_utils.azure import Azure
from ansible_collections.confidential.containers.plugins.module_utils.context import Context
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError
from lab import seed
from tests.lab.arm_running import Running

INFRA = seed.infrastructure("lab")


@pytest.fixture(autouse=True)
def _no_credentials_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for names in azure_login.ENVIRONMENT.values():
        for name in names:
            monkeypatch.delenv(name, raising=False)


BOTH = pytest.mark.parametrize("arm", ["azure", "aro"], indirect=True)


@pytest.fixture
def arm(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Running]:
    running = Running(tmp_path, getattr(request, "param", "azure"))
    yield running
    running.stop()


def conf(arm: Running) -> dict[str, Any]:
    return seed.cloud_conf("lab", arm.facts["platform"])


def subnet_id(arm: Running) -> str:
    found = conf(arm)
    return (f"{arm.subscription}/resourceGroups/{found['vnetResourceGroup']}/providers/Microsoft.Network/virtualNetworks/"
            f"{found['vnetName']}/subnets/{found['subnetName']}")


def login(arm: Running, name: str) -> dict[str, Any]:
    client = arm.clients[name]
    return {"tenant": client["tenant"], "client_id": client["client_id"], "secret": client["secret"],
            "adfs_authority_url": arm.facts["authority"], "arm_endpoint": arm.facts["endpoint"], "azure_ca_cert": arm.facts["ca"]}


def call(arm: Running, module: str, name: str = "installer", check: bool = False, **options: Any) -> dict[str, Any]:
    """A module's work as the principal named."""
    work = importlib.import_module(f"ansible_collections.confidential.containers.plugins.module_utils.actions.{module}")
    given = {**login(arm, name), "subscription_id": arm.facts["subscription"], **options}
    validated = ArgumentSpecValidator(work.ARGUMENT_SPEC).validate(given)
    assert not validated.error_messages, validated.error_messages
    result: dict[str, Any] = work.run(validated.validated_parameters, Context(check_mode=check, diff=True))
    assert arm.clients[name]["secret"] not in str(result)
    return result


def info(arm: Running, name: str = "installer", **options: Any) -> dict[str, Any]:
    cluster = {"platform": "Azure", "aro": arm.facts["platform"] == "aro", "cloud_conf": conf(arm)}
    return call(arm, "azure_peerpods_info", name, cluster=cluster, **options)


def network(arm: Running, **options: Any) -> dict[str, Any]:
    return call(arm, "azure_peerpods_network", infrastructure_name=INFRA, subnet_id=subnet_id(arm), **options)


def writes(arm: Running) -> list[tuple[str, str]]:
    return [(one["method"], one["path"].rpartition("/")[2]) for one in arm.audit() if one["method"] != "GET"]


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
    found = info(arm)
    assert (found["azure"]["subnet"], found["azure"]["aro"]) == (subnet_id(arm), arm.facts["platform"] == "aro")
    assert found["peerpods"]["AZURE_RESOURCE_GROUP"] == conf(arm)["resourceGroup"]
    call(arm, "azure_capacity", region="eastus", size="Standard_DC2as_v5", pods=3)
    assert len(arm.audit()) - begun <= 12


def test_a_reader_is_told_what_is_missing(arm: Running) -> None:
    with pytest.raises(CocoError, match=r"Microsoft\.Compute/virtualMachines/write"):
        info(arm, "reader")
    assert writes(arm) == []


@pytest.mark.parametrize(("options", "words"), [
    ({"size": "Standard_Nothing"}, "Standard_Nothing"), ({"size": "Standard_EC2ads_v5"}, "Standard_EC2ads_v5"),
    ({"size": "Standard_DC2ads_v5", "zones": ["3"]}, "cannot be had in the zones 3"),
    ({"size": "Standard_DC2as_v5", "pods": 40}, "leaves 64")])
def test_no_capacity(arm: Running, options: dict[str, Any], words: str) -> None:
    """Unknown, restricted in the region, restricted in a zone, more than the family's quota of 64 vCPUs."""
    with pytest.raises(CocoError, match=words):
        call(arm, "azure_capacity", region="eastus", **options)


@pytest.mark.parametrize(("name", "changed", "words"), [
    ("installer", {"secret": "wrong"}, "7000215|secret"), ("expired", {}, "7000222|expired"), ("nobody", {}, "virtualNetworks/read")])
def test_refused_credentials(arm: Running, name: str, changed: dict[str, str], words: str) -> None:
    with pytest.raises(CocoError, match=words) as caught:
        info(arm, name, **changed)
    assert arm.clients[name]["secret"] not in str(caught.value)


def test_throttled(arm: Running) -> None:
    arm.control(throttle=2, retry_after=0)
    assert network(arm, check=True)["changed"]
    arm.control(throttle=-1, retry_after=3600)
    with pytest.raises(CocoError, match="Azure throttles"):
        network(arm, check=True)


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
