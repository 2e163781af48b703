"""azure_peerpods_network through Azure's own libraries: whole subnets, ETags, tags, twice, taken back."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.confidential.containers.plugins.module_utils import azure
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError
from tests.fake_api.arm import SUBSCRIPTION, FakeArm

MODULE = "azure_peerpods_network"
BASE = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/net-rg/providers/Microsoft.Network"
VNET = f"{BASE}/virtualNetworks/v"
SUBNET, GATEWAY, ADDRESS = f"{VNET}/subnets/workers", f"{BASE}/natGateways/i-coco-nat", f"{BASE}/publicIPAddresses/i-coco-nat-ip"
OPTIONS = {"infrastructure_name": "i", "subnet_id": SUBNET}
SUBNET_PROPERTIES: dict[str, Any] = {
    "addressPrefix": "10.0.1.0/24", "serviceEndpoints": [{"service": "Microsoft.Storage"}], "ofTomorrow": {"nested": [1]},
    "networkSecurityGroup": {"id": f"{BASE}/networkSecurityGroups/n"}, "privateEndpointNetworkPolicies": "Disabled"}


@pytest.fixture
def arm(tmp_path: Path) -> Iterator[FakeArm]:
    with FakeArm(tmp_path) as found:
        found.put(VNET, location="westeurope", properties={"addressSpace": {}})
        found.put(SUBNET, properties=copy.deepcopy(SUBNET_PROPERTIES))
        found.put(f"{VNET}/subnets/masters", properties={"addressPrefix": "10.0.0.0/24"})
        yield found


@pytest.fixture
def call(call: Any, arm: FakeArm) -> Any:
    """Logged in to that Azure."""
    return functools.partial(call, **arm.options())


def subnet(arm: FakeArm) -> dict[str, Any]:
    return copy.deepcopy((arm.get(SUBNET) or {})["properties"])


def test_created_attached_and_nothing_lost(arm: FakeArm, call: Any, lines: list[str]) -> None:
    result = call(MODULE, **OPTIONS)
    assert (result["changed"], result["attached"], result["kept"]) == (True, True, [])
    assert result["created"] == [ADDRESS, GATEWAY]
    assert result["bills"] == ["1 NAT gateway (per hour and per GB)", "1 Standard public IP (per hour)"]
    assert subnet(arm).pop("natGateway") == {"id": GATEWAY}
    assert {k: v for k, v in subnet(arm).items() if k != "natGateway"} == SUBNET_PROPERTIES
    gateway, address = arm.get(GATEWAY) or {}, arm.get(ADDRESS) or {}
    assert gateway["tags"] == address["tags"] == {"managed-by": "confidential.containers", "openshift-cluster": "i"}
    assert (gateway["location"], gateway["properties"]["publicIpAddresses"]) == ("westeurope", [{"id": ADDRESS}])
    assert result["calls"] == len(arm.calls) <= 12
    assert arm.writes() == [("PUT", "i-coco-nat-ip"), ("PUT", "i-coco-nat"), ("PUT", "workers")]


def test_the_second_run_writes_nothing(arm: FakeArm, call: Any) -> None:
    call(MODULE, **OPTIONS)
    arm.calls.clear()
    result = call(MODULE, **OPTIONS)
    assert (result["changed"], result["created"], result["bills"]) == (False, [], [])
    assert arm.writes() == []


def test_check_mode_says_so_and_writes_nothing(arm: FakeArm, call: Any) -> None:
    result = call(MODULE, check=True, diff=True, **OPTIONS)
    assert (result["changed"], result["created"], len(result["bills"])) == (True, [ADDRESS, GATEWAY], 2)
    assert GATEWAY in result["diff"][0]["after"]
    assert GATEWAY not in result["diff"][0]["before"]
    assert arm.writes() == []


def test_long_running_operations_are_waited_for(arm: FakeArm, call: Any, lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(azure, "POLL", 0)
    arm.slow = True
    assert call(MODULE, **OPTIONS)["attached"]
    (arm.get(GATEWAY) or {})["properties"]["subnets"] = [{"id": SUBNET}]
    call(MODULE, state="absent", **OPTIONS)
    polled = [path for _method, path in arm.calls if "/operations/" in path]
    assert (len(polled), len(set(polled))) == (12, 6), "three writes, a detachment and two deletions, each looked at until it is done"
    assert any("Creating the NAT gateway" in line and "InProgress" in line for line in lines)
    assert subnet(arm) == SUBNET_PROPERTIES


def test_a_run_that_was_killed_is_resumed(arm: FakeArm, call: Any) -> None:
    arm.refused["PUT " + SUBNET] = (403, "AuthorizationFailed")
    with pytest.raises(CocoError):
        call(MODULE, **OPTIONS)
    arm.refused.clear()
    arm.calls.clear()
    assert call(MODULE, **OPTIONS)["created"] == []
    assert arm.writes() == [("PUT", "workers")]


def test_somebody_else_writes_the_subnet_in_between(arm: FakeArm, call: Any, lines: list[str]) -> None:
    came: list[str] = []

    def between(path: str) -> None:
        if path == SUBNET and len(came) < 2:
            came.append(path)
            arm.put(SUBNET, properties={**SUBNET_PROPERTIES, "theirs": len(came)})

    arm.before_put = between
    assert call(MODULE, **OPTIONS)["attached"]
    assert subnet(arm) == {**SUBNET_PROPERTIES, "theirs": 2, "natGateway": {"id": GATEWAY}}
    assert sum("reading it again" in line for line in lines) == 2


def test_somebody_else_writes_it_all_the_time(arm: FakeArm, call: Any) -> None:
    arm.before_put = lambda path: str(path == SUBNET and arm.put(SUBNET, properties=SUBNET_PROPERTIES)) and None
    with pytest.raises(CocoError, match="wrote the subnet 5 times"):
        call(MODULE, **OPTIONS)
    assert "natGateway" not in subnet(arm)


def test_somebody_attaches_another_gateway_in_between(arm: FakeArm, call: Any) -> None:
    other = {**SUBNET_PROPERTIES, "natGateway": {"id": f"{BASE}/natGateways/theirs"}}
    arm.before_put = lambda path: str(path == SUBNET and arm.put(SUBNET, properties=other)) and None
    with pytest.raises(CocoError, match="has another NAT gateway"):
        call(MODULE, **OPTIONS)
    assert subnet(arm) == other


def test_egress_that_is_there_is_kept(arm: FakeArm, call: Any) -> None:
    arm.put(SUBNET, properties={**SUBNET_PROPERTIES, "natGateway": {"id": f"{BASE}/natGateways/theirs"}})
    result = call(MODULE, **OPTIONS)
    assert (result["changed"], result["kept"]) == (False, ["the NAT gateway theirs is attached already"])
    assert result["nat_gateway"].endswith("/theirs")
    with pytest.raises(CocoError, match="has another NAT gateway"):
        call(MODULE, nat_gateway="mine", **OPTIONS)
    assert arm.writes() == []


def test_a_firewall_is_a_way_out(arm: FakeArm, call: Any) -> None:
    table = arm.put(f"{BASE}/routeTables/r", properties={"routes": [{"properties": {
        "addressPrefix": "0.0.0.0/0", "nextHopType": "VirtualAppliance", "nextHopIpAddress": "10.0.0.4"}}]})
    arm.put(SUBNET, properties={**SUBNET_PROPERTIES, "routeTable": {"id": table}})
    assert call(MODULE, **OPTIONS)["kept"] == ["the default route of r leads to VirtualAppliance 10.0.0.4"]
    assert arm.writes() == []


def test_taken_back_and_nothing_lost(arm: FakeArm, call: Any) -> None:
    call(MODULE, **OPTIONS)
    gateway, address = arm.get(GATEWAY) or {}, arm.get(ADDRESS) or {}
    gateway["properties"]["subnets"] = [{"id": SUBNET.upper()}]  # as Azure shows it
    address["properties"]["natGateway"] = {"id": GATEWAY}
    arm.calls.clear()
    would = call(MODULE, check=True, state="absent", **OPTIONS)
    assert (would["changed"], arm.writes()) == (True, [])
    result = call(MODULE, state="absent", **OPTIONS)
    assert result["removed"] == would["removed"] == [GATEWAY, ADDRESS]
    assert arm.writes() == [("PUT", "workers"), ("DELETE", "i-coco-nat"), ("DELETE", "i-coco-nat-ip")]
    assert subnet(arm) == SUBNET_PROPERTIES
    assert not call(MODULE, state="absent", **OPTIONS)["changed"]


def test_what_is_not_ours_stays(arm: FakeArm, call: Any) -> None:
    arm.put(GATEWAY, tags={"owner": "somebody"}, properties={"subnets": [{"id": SUBNET}]})
    arm.put(ADDRESS, tags={"managed-by": "confidential.containers", "openshift-cluster": "another"}, properties={})
    result = call(MODULE, state="absent", **OPTIONS)
    assert (result["changed"], len(result["kept"]), arm.writes()) == (False, 2, [])


def test_bad_input(arm: FakeArm, call: Any) -> None:
    for options, words in (({"subnet_id": f"{VNET}/subnets/no"}, "its subnets: masters, workers"), ({"idle_timeout": 3}, "4 to 120"),
                           ({"zones": ["1", "2"]}, "one zone or none"),
                           ({"subnet_id": f"{BASE}/virtualNetworks/no/subnets/workers"}, "Correct the name"),
                           ({"subnet_id": VNET}, "not that of a subnet"), ({"subnet_id": "x"}, "no id of an Azure resource"),
                           ({"subnet_id": SUBNET.replace(SUBSCRIPTION, "other")}, "another subscription")):
        with pytest.raises(CocoError, match=words):
            call(MODULE, **{**OPTIONS, **options})
    arm.refused["PUT"] = (403, "AuthorizationFailed")
    with pytest.raises(CocoError, match="Assign a role"):
        call(MODULE, **OPTIONS)
    assert "natGateway" not in subnet(arm)
