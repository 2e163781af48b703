"""Bad input at Azure: each is a clear error that names the thing and the way out, before anything is written (lab-arm's audit)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.confidential.containers.plugins.module_utils import azure
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError
from lab import seed
from tests.integration.azure_calls import (
    ENVIRONMENT,
    INFRA,
    call,
    cluster,
    conf,
    info,
    network,
    place,
    subnet_id,
    work,
    writes,
)
from tests.lab.arm_running import Running

ELSEWHERE = "11111111-0000-4000-8000-000000000000"


@pytest.fixture(autouse=True)
def _no_credentials_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """As after an installation; no test changes anything in it."""
    running = Running(tmp_path_factory.mktemp("arm"), "azure")
    yield running
    assert writes(running) == []
    running.stop()


@pytest.fixture
def arm(tmp_path: Path) -> Iterator[Running]:
    """One that the test changes first."""
    running = Running(tmp_path, "azure")
    yield running
    running.stop()


def refused(arm: Running, words: tuple[str, ...], todo: str, act: Callable[[], Any]) -> CocoError:
    """The error names all the words and the way out; nothing was written; no secret is told."""
    before = writes(arm)
    with pytest.raises(CocoError) as caught:
        act()
    text = f"{caught.value.what} · {caught.value.seen}"
    assert [word for word in words if word not in text] == [], text
    assert todo in caught.value.todo, caught.value.todo
    assert writes(arm) == before
    assert not [one for one in arm.clients.values() if "secret" in one and one["secret"] in str(caught.value.result())]
    return caught.value


# --- which Azure, who

@pytest.mark.parametrize(("name", "options", "changed", "words", "todo"), [
    ("installer", {"subscription_id": ELSEWHERE}, {}, ("another subscription", ELSEWHERE, seed.SUBSCRIPTION), "AZURE_SUBSCRIPTION_ID"),
    ("installer", {"subscription_id": ELSEWHERE}, {"subscriptionId": None}, ("SubscriptionNotFound", ELSEWHERE), "AZURE_SUBSCRIPTION_ID"),
    ("stranger", {}, {}, ("another tenant", seed.TENANT), "AZURE_TENANT"),
    ("stranger", {}, {"tenantId": None}, ("InvalidAuthenticationTokenTenant",), "another tenant: correct tenant (AZURE_TENANT)"),
    ("installer", {"tenant": ELSEWHERE}, {"tenantId": None}, ("does not know the tenant",), "Correct tenant (AZURE_TENANT)"),
    ("installer", {"tenant": "no tenant"}, {"tenantId": None}, ("Invalid tenant",), "Correct tenant (AZURE_TENANT)"),
    ("stranger", {"tenant": seed.TENANT}, {}, ("not known in this tenant", "AADSTS700016"), "Correct client_id, or tenant"),
    ("installer", {"client_id": ELSEWHERE}, {}, ("not known in this tenant", "AADSTS700016"), "Correct client_id"),
    ("installer", {"secret": "the-id-of-the-secret"}, {}, ("not the application's", "AADSTS7000215"), "the secret's value, not its id"),
    ("expired", {}, {}, ("the secret has expired", "AADSTS7000222"), "Make a new secret"),
    ("nobody", {}, {}, ("lack the right Microsoft.Network/virtualNetworks/read", f"{INFRA}-vnet"), "Assign a role"),
    ("reader", {}, {}, ("Microsoft.Compute/virtualMachines/write", f"{INFRA}-rg"), "Contributor"),
    ("installer", {}, {"resourceGroup": "gone", "vnetResourceGroup": "gone"}, ("ResourceGroupNotFound", "gone"), "resource group"),
])
def test_who_and_where(seeded: Running, name: str, options: dict[str, Any], changed: dict[str, Any], words: tuple[str, ...], todo: str
                       ) -> None:
    refused(seeded, words, todo, lambda: info(seeded, name, cluster=cluster(seeded, **changed), **options))


def test_a_network_module_of_another_subscription(seeded: Running) -> None:
    refused(seeded, ("another subscription", ELSEWHERE), seed.SUBSCRIPTION, lambda: network(seeded, subscription_id=ELSEWHERE))


@pytest.mark.parametrize(("region", "words", "todo"), [
    ("westus", ("is in eastus", "the cluster in westus"), "vnet_name"),
    ("moonbase", ("is in eastus", "the cluster in moonbase"), "vnet_name")])
def test_a_network_of_another_region(seeded: Running, region: str, words: tuple[str, ...], todo: str) -> None:
    refused(seeded, words, todo, lambda: info(seeded, cluster=cluster(seeded, location=region)))


# --- sizes and quota

@pytest.mark.parametrize(("options", "words", "todo"), [
    ({"region": "moonbase"}, ("moonbase",), "region"),
    ({"size": "Standard_Nothing"}, ("Standard_Nothing does not exist in eastus",), "Standard_DC2as_v5"),
    ({"size": "Standard_D2s_v5"}, ("is not confidential", "SNP"), "Standard_DC2as_v5"),
    ({"size": "Standard_EC2ads_v5"}, ("Standard_EC2ads_v5 is closed to this subscription in eastus", "NotAvailableForSubscription"),
     "Standard_DC2as_v5"),
    ({"size": "Standard_DC2ads_v5", "zones": ["3"]}, ("cannot be had in the zones 3", "only in: 1, 2"), "other zones"),
    ({"size": "Standard_DC2as_v5", "pods": 40}, ("need 80 vCPUs", "standardDCASv5Family", "leaves 64", "0 of 64 used"), "quota of 80"),
    ({"size": "Standard_DC2as_v5", "pods": 300}, ("need 600 vCPUs", "all families together"), "quota"),
    ({"size": "Standard_DC2es_v5", "tee": "tdx"}, ("Standard_DC2es_v5 does not exist in eastus", "can be had in centralus, westeurope"),
     "use another region"),
])
def test_capacity(seeded: Running, options: dict[str, Any], words: tuple[str, ...], todo: str) -> None:
    refused(seeded, words, todo, lambda: call(seeded, "azure_capacity", **{"region": "eastus", "size": "Standard_DC2as_v5", **options}))


def test_a_quota_that_machines_have_used_up(arm: Running) -> None:
    """Three machines of sixteen vCPUs leave sixteen of sixty-four."""
    base = f"resourceGroups/{INFRA}-rg/providers"
    for number in range(3):
        nic = f"{arm.subscription}/{base}/Microsoft.Network/networkInterfaces/n{number}"
        arm.ask("PUT", nic, json={"location": "eastus", "properties": {"ipConfigurations": [
            {"name": "c", "properties": {"subnet": {"id": subnet_id(arm)}}}]}}).raise_for_status()
        arm.ask("PUT", f"{base}/Microsoft.Compute/virtualMachines/m{number}", "2026-04-01", json={"location": "eastus", "properties": {
            "hardwareProfile": {"vmSize": "Standard_DC16as_v5"}, "storageProfile": {"osDisk": {"createOption": "FromImage"}},
            "networkProfile": {"networkInterfaces": [{"id": nic}]}}}).raise_for_status()
    call(arm, "azure_capacity", region="eastus", size="Standard_DC2as_v5", pods=8)
    refused(arm, ("need 18 vCPUs", "leaves 16", "48 of 64 used"), "quota of 66",
            lambda: call(arm, "azure_capacity", region="eastus", size="Standard_DC2as_v5", pods=9))


# --- the subnet

@pytest.mark.parametrize(("changed", "options", "words", "todo", "candidates"), [
    ({"vnetName": "gone"}, {}, ("virtual network gone in", "ResourceNotFound"), "Correct the name", None),
    ({"subnetName": "gone"}, {}, ("there is no gone among", f"{INFRA}-master-subnet, {INFRA}-worker-subnet"), "subnet_name",
     [f"{INFRA}-master-subnet", f"{INFRA}-worker-subnet"]),
    ({"subnetName": None}, {}, ("there are 2", f"{INFRA}-worker-subnet"), "Set subnet_name to one of them",
     [f"{INFRA}-master-subnet", f"{INFRA}-worker-subnet"]),
    ({"securityGroupName": "gone"}, {}, ("security group gone in", "ResourceNotFound"), "Correct the name", None),
    ({}, {"pods": 300}, (f"{INFRA}-worker-subnet (10.0.1.0/24)", "free addresses, 300 are needed"), "Enlarge the subnet", None),
])
def test_what_is_not_there(seeded: Running, changed: dict[str, Any], options: dict[str, Any], words: tuple[str, ...], todo: str,
                           candidates: list[str] | None) -> None:
    error = refused(seeded, words, todo, lambda: info(seeded, cluster=cluster(seeded, **changed), **options))
    assert error.details.get("candidates") == candidates


def test_an_id_of_a_subnet_that_is_not_there(seeded: Running) -> None:
    refused(seeded, ("there is no gone among", f"{INFRA}-worker-subnet"), "subnet_name",
            lambda: info(seeded, subnet_id=subnet_id(seeded).rpartition("/")[0] + "/gone"))
    refused(seeded, ("gone is not in the virtual network", f"{INFRA}-worker-subnet"), "subnet",
            lambda: network(seeded, subnet_id=subnet_id(seeded).rpartition("/")[0] + "/gone"))


def put_subnet(arm: Running, name: str, prefix: str, **properties: Any) -> str:
    path = subnet_id(arm).rpartition("/")[0] + f"/{name}"
    arm.ask("PUT", path, json={"properties": {"addressPrefix": prefix, **properties}}).raise_for_status()
    return path


def test_several_virtual_networks(arm: Running) -> None:
    arm.ask("PUT", f"resourceGroups/{INFRA}-rg/providers/Microsoft.Network/virtualNetworks/another", json={
        "location": "eastus", "properties": {"addressSpace": {"addressPrefixes": ["10.9.0.0/16"]}}}).raise_for_status()
    unnamed = cluster(arm, vnetName=None)
    error = refused(arm, ("there are 2", f"another, {INFRA}-vnet"), "Set vnet_name", lambda: info(arm, cluster=unnamed))
    assert error.details["candidates"] == ["another", f"{INFRA}-vnet"]
    assert info(arm, cluster=unnamed, vnet_name=f"{INFRA}-vnet")["azure"]["subnet"] == subnet_id(arm)


def test_a_delegated_subnet(arm: Running) -> None:
    path = put_subnet(arm, "sql", "10.0.8.0/24", delegations=[
        {"name": "d", "properties": {"serviceName": "Microsoft.Sql/managedInstances"}}])
    refused(arm, ("the subnet sql is delegated to Microsoft.Sql/managedInstances",), "subnet_name", lambda: info(arm, subnet_id=path))


def test_a_full_subnet(arm: Running) -> None:
    """Of eight addresses Azure keeps five; two are taken."""
    path = put_subnet(arm, "tiny", "10.0.9.0/29")
    for number in range(2):
        arm.ask("PUT", f"resourceGroups/{INFRA}-rg/providers/Microsoft.Network/networkInterfaces/n{number}", json={
            "location": "eastus", "properties": {"ipConfigurations": [{"name": "c", "properties": {"subnet": {"id": path}}}]}}
            ).raise_for_status()
    assert info(arm, subnet_id=path, pods=1)["azure"]["free_addresses"] == 1
    refused(arm, ("the subnet tiny (10.0.9.0/29) has 1 free addresses, 2 are needed",), "Enlarge the subnet",
            lambda: info(arm, subnet_id=path, pods=2))


def test_another_gateway_at_the_subnet(arm: Running) -> None:
    """One that somebody attached is kept, unless another one is named: that would change the workers' address without a word."""
    arm.ask("PUT", f"resourceGroups/{INFRA}-rg/providers/Microsoft.Network/natGateways/theirs", json={
        "location": "eastus", "sku": {"name": "Standard"}, "properties": {}}).raise_for_status()
    theirs = f"{arm.subscription}/resourceGroups/{INFRA}-rg/providers/Microsoft.Network/natGateways/theirs"
    found = arm.ask("GET", subnet_id(arm)).json()
    found["properties"]["natGateway"] = {"id": theirs}
    arm.ask("PUT", subnet_id(arm), json=found).raise_for_status()
    before = writes(arm)
    assert network(arm)["kept"] == ["the NAT gateway theirs is attached already"]
    assert writes(arm) == before
    refused(arm, (f"{INFRA}-worker-subnet has another NAT gateway", theirs, "wanted", "/mine"), "Detach it yourself",
            lambda: network(arm, nat_gateway="mine"))
    assert "theirs" in info(arm)["findings"][0]["message"]


@pytest.mark.parametrize(("direction", "protocol", "port", "words"), [
    ("Inbound", "Tcp", "15150", "inbound 15150/tcp within 10.0.1.0/24 (the agent proxy)"),
    ("Inbound", "Udp", "9000", "inbound 9000/udp within 10.0.1.0/24 (VXLAN)"),
    ("Outbound", "*", "8000-9999", "outbound 9000/udp within 10.0.1.0/24 (VXLAN)"),
    ("Outbound", "Tcp", "443", "outbound 443/tcp from 10.0.1.0/24 (registry and Trustee)")])
def test_a_rule_that_refuses(arm: Running, direction: str, protocol: str, port: str, words: str) -> None:
    name = conf(arm)["securityGroupName"]
    arm.ask("PUT", f"resourceGroups/{INFRA}-rg/providers/Microsoft.Network/networkSecurityGroups/{name}/securityRules/closed", json={
        "properties": {"protocol": protocol, "sourcePortRange": "*", "destinationPortRange": port, "sourceAddressPrefix": "*",
                       "destinationAddressPrefix": "*", "access": "Deny", "priority": 200, "direction": direction}}).raise_for_status()
    refused(arm, (f"the network security group {name} refuses {words} by its rule closed",), "lower priority number", lambda: info(arm))


def test_a_rule_of_the_subnets_own_group(arm: Running) -> None:
    """The group that is in force is the subnet's, whatever cloud-conf says."""
    group = f"{arm.subscription}/resourceGroups/{INFRA}-rg/providers/Microsoft.Network/networkSecurityGroups/own"
    arm.ask("PUT", group, json={"location": "eastus", "properties": {"securityRules": [{"name": "nothing-out", "properties": {
        "protocol": "*", "sourcePortRange": "*", "destinationPortRange": "*", "sourceAddressPrefix": "*",
        "destinationAddressPrefix": "Internet", "access": "Deny", "priority": 100, "direction": "Outbound"}}]}}).raise_for_status()
    path = put_subnet(arm, "pods", "10.0.10.0/24", networkSecurityGroup={"id": group})
    refused(arm, ("security group own refuses outbound 443/tcp from 10.0.10.0/24", "nothing-out"), "Allow it",
            lambda: info(arm, subnet_id=path))


def test_errors_come_together(arm: Running) -> None:
    path = put_subnet(arm, "sql", "10.0.9.0/29", delegations=[{"name": "d", "properties": {"serviceName": "Microsoft.Sql"}}])
    refused(arm, ("has 3 free addresses, 9 are needed", "is delegated to Microsoft.Sql", "the cluster in westus"), "Enlarge",
            lambda: info(arm, subnet_id=path, pods=9, cluster=cluster(arm, location="westus")))


# --- throttled

def test_throttled_for_a_while(arm: Running) -> None:
    arm.control(throttle=2, retry_after=0)
    assert network(arm, check=True)["changed"]


CAPACITY = {"region": "eastus", "size": "Standard_DC2as_v5"}


@pytest.mark.parametrize(("act", "after"), [
    (info, 0), (info, 3600), (network, 3600), (lambda arm: call(arm, "azure_capacity", **CAPACITY), 3600)])
def test_throttled_for_good(arm: Running, act: Callable[[Running], Any], after: int) -> None:
    """Asked again four times, or not at all where nobody would wait so long."""
    arm.control(throttle=-1, retry_after=after)
    refused(arm, ("Azure throttles", f"try again after '{after}' seconds"), "run again", lambda: act(arm))
    assert len(arm.audit()) == (1 if after else azure.RETRIES + 1)


def test_orphans_under_throttling(arm: Running) -> None:
    """Nothing is deleted, nor is the cluster asked, where the list is not whole."""
    arm.control(throttle=-1, retry_after=3600)
    options = {**place(arm), **{key: arm.clients["installer"][key] for key in ("client_id", "secret", "tenant")},
               "subscription_id": arm.facts["subscription"], "resource_group": f"{INFRA}-rg", "state": "absent", "delete": True,
               "host": "https://127.0.0.1:1", "api_key": "a-token-of-nobody"}
    refused(arm, ("Azure throttles",), "run again", lambda: work("azure_peerpods_orphans", options))
