"""The way out of pod VMs (deployment.md 3.8): kept where there is one, nothing of a subnet lost, nothing of others removed."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from ansible_collections.confidential.containers.plugins.module_utils import azure_network as network
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

GROUP = "/subscriptions/s/resourceGroups/net/providers/Microsoft.Network"
GATEWAY, ADDRESS, SUBNET = (f"{GROUP}/natGateways/i-coco-nat", f"{GROUP}/publicIPAddresses/i-coco-nat-ip",
                            f"{GROUP}/virtualNetworks/v/subnets/workers")
WANTED = {"infrastructure": "i", "idle_timeout": 10, "gateway_id": GATEWAY, "address_id": ADDRESS}
TAGS = {"managed-by": "confidential.containers", "openshift-cluster": "i"}
RICH: dict[str, Any] = {
    "id": SUBNET, "name": "workers", "etag": 'W/"1"',
    "properties": {
        "addressPrefix": "10.0.1.0/24", "networkSecurityGroup": {"id": f"{GROUP}/networkSecurityGroups/n"},
        "routeTable": {"id": f"{GROUP}/routeTables/r"}, "serviceEndpoints": [{"service": "Microsoft.Storage", "locations": ["*"]}],
        "delegations": [{"name": "d", "properties": {"serviceName": "x"}}], "privateEndpointNetworkPolicies": "Disabled",
        "privateLinkServiceNetworkPolicies": "Enabled", "ofTomorrow": {"nested": [1, {"deep": None}]}}}


def gateway(tags: dict[str, str] | None = None, subnets: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {"id": GATEWAY, "name": "i-coco-nat", "tags": TAGS if tags is None else tags, "properties": {
        "idleTimeoutInMinutes": 10, "publicIpAddresses": [{"id": ADDRESS}], "subnets": [{"id": s} for s in subnets], **properties}}


def address(tags: dict[str, str] | None = None, user: str = "") -> dict[str, Any]:
    return {"id": ADDRESS, "name": "i-coco-nat-ip", "tags": TAGS if tags is None else tags,
            "properties": {"natGateway": {"id": user}} if user else {}}


def table(hop: str, prefix: str = "0.0.0.0/0") -> dict[str, Any]:
    return {"properties": {"routes": [{"properties": {"addressPrefix": prefix, "nextHopType": hop, "nextHopIpAddress": "10.0.0.4"}}]}}


def test_nothing_of_a_subnet_is_lost() -> None:
    before = copy.deepcopy(RICH)
    there = network.attached(RICH, GATEWAY)
    assert before == RICH, "the given subnet is not touched"
    assert there["properties"].pop("natGateway") == {"id": GATEWAY}
    assert there == RICH
    assert network.detached(network.attached(RICH, GATEWAY)) == RICH
    assert network.detached({"name": "bare"}) == {"name": "bare"}


def test_fresh_subnet() -> None:
    plan = network.plan_present(RICH, None, None, WANTED)
    assert plan == {"actions": ["address", "gateway", "attach"],
                    "bills": ["1 NAT gateway (per hour and per GB)", "1 Standard public IP (per hour)"]}


@pytest.mark.parametrize(("there", "ip", "attach", "actions"), [
    (None, address(), False, ["gateway", "attach"]),  # killed after the address
    (gateway(), address(), False, ["attach"]),  # killed before the subnet
    (gateway(), address(), True, []),  # done
    (gateway(idleTimeoutInMinutes=4), address(), True, ["update"]),
    (gateway(publicIpAddresses=[]), None, True, ["address", "update"]),
    (gateway(publicIpAddresses=[], publicIpPrefixes=[{"id": "p"}]), None, True, []),
    (gateway(tags={}, idleTimeoutInMinutes=4), None, False, ["attach"]),  # somebody's own gateway, named by the user: as it is
])
def test_only_what_is_missing(there: Any, ip: Any, attach: bool, actions: list[str]) -> None:
    subnet = network.attached(RICH, GATEWAY.upper()) if attach else RICH
    plan = network.plan_present(subnet, there, ip, WANTED)
    assert plan["actions"] == actions
    assert len(plan["bills"]) == len({"gateway", "address"} & set(actions))


def test_a_foreign_address_is_not_taken() -> None:
    with pytest.raises(CocoError, match="is not ours"):
        network.plan_present(RICH, None, address(tags={"owner": "x"}), WANTED)


def test_existing_egress_is_kept() -> None:
    other = network.attached(RICH, f"{GROUP}/natGateways/theirs")
    assert network.kept(other, None, GATEWAY, named=False) == "the NAT gateway theirs is attached already"
    assert network.kept(RICH, table("VirtualAppliance"), GATEWAY, named=False) == \
        "the default route of r leads to VirtualAppliance 10.0.0.4"
    for without in (None, table("Internet"), table("VirtualAppliance", "10.0.0.0/8"), table("None")):
        assert network.kept(RICH, without, GATEWAY, named=False) == ""
    assert network.kept(network.attached(RICH, GATEWAY), table("VirtualAppliance"), GATEWAY, named=False) == "", "ours is not theirs"


def test_another_gateway_than_the_named_one() -> None:
    with pytest.raises(CocoError, match=r"has another NAT gateway.*theirs.*keep the one"):
        network.kept(network.attached(RICH, f"{GROUP}/natGateways/theirs"), None, GATEWAY, named=True)


@pytest.mark.parametrize(("found", "ours"), [
    (TAGS, True), ({**TAGS, "more": "x"}, True), ({"Managed-By": "confidential.containers", "OpenShift-Cluster": "i"}, True),
    ({**TAGS, "openshift-cluster": "j"}, False), ({"managed-by": "confidential.containers"}, False), ({}, False), (None, False)])
def test_ours_by_both_tags(found: dict[str, str] | None, ours: bool) -> None:
    assert network.is_ours({"tags": found}, "i") is ours


def test_what_is_created_carries_our_tags() -> None:
    ip, nat = network.address_body("westeurope", "i", []), network.gateway_body("westeurope", "i", ["1"], 10, ADDRESS)
    assert ip["tags"] == nat["tags"] == TAGS
    assert (ip["sku"], ip["properties"]["publicIPAllocationMethod"]) == ({"name": "Standard"}, "Static")
    assert (nat["zones"], nat["properties"]) == (["1"], {"idleTimeoutInMinutes": 10, "publicIpAddresses": [{"id": ADDRESS}]})
    assert "zones" not in ip


@pytest.mark.parametrize(("there", "ip", "actions", "kept"), [
    (gateway(subnets=(SUBNET.upper(),)), address(user=GATEWAY), ["detach", "gateway", "address"], 0),
    (gateway(), address(user=GATEWAY), ["gateway", "address"], 0),
    (None, address(), ["address"], 0), (None, None, [], 0),
    (gateway(tags={}, subnets=(SUBNET,)), address(tags={}), [], 2),
    (gateway(tags={}, subnets=(SUBNET,)), address(user=GATEWAY), [], 2),
])
def test_only_ours_goes(there: Any, ip: Any, actions: list[str], kept: int) -> None:
    plan = network.plan_absent(there, ip, SUBNET, "i")
    assert (plan["actions"], len(plan["kept"])) == (actions, kept)


def test_other_subnets_keep_their_way_out() -> None:
    with pytest.raises(CocoError, match=r"also serves .*masters"):
        network.plan_absent(gateway(subnets=(SUBNET, SUBNET.replace("workers", "masters"))), None, SUBNET, "i")


def test_subnet_by_name() -> None:
    vnet = {"name": "v", "properties": {"subnets": [RICH]}}
    assert network.subnet_of(vnet, "WORKERS") is RICH
    with pytest.raises(CocoError, match="its subnets: workers"):
        network.subnet_of(vnet, "other")
