"""The pure rules: ids, refusals, rights, subnets, capacity."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest

from ansible_collections.confidential.containers.plugins.module_utils import (
    azure_capacity,
    azure_errors,
    azure_ids,
    azure_rights,
    azure_subnet,
)
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

SUBNET_ID = "/subscriptions/1111/resourceGroups/net-rg/providers/Microsoft.Network/virtualNetworks/vnet/subnets/worker"


def test_ids() -> None:
    found = azure_ids.parse(SUBNET_ID)
    assert (found.subscription, found.group, found.types, found.names) == (
        "1111", "net-rg", ("virtualNetworks", "subnets"), ("vnet", "worker"))
    assert (found.name, str(found)) == ("worker", SUBNET_ID)
    assert azure_ids.same(SUBNET_ID.upper(), SUBNET_ID + "/")
    assert not azure_ids.same(SUBNET_ID, SUBNET_ID + "2")


@pytest.mark.parametrize("text", ["", "worker", "/subscriptions/1/resourceGroups/g", SUBNET_ID + "/more", SUBNET_ID.replace("net-rg", "")])
def test_no_ids(text: str) -> None:
    with pytest.raises(CocoError, match="full id"):
        azure_ids.parse(text)


@pytest.mark.parametrize(("code", "message", "status", "expected"), [
    ("", "AADSTS7000215: Invalid client secret provided.", 401, "not the application's.*secret's value"),
    ("", "AADSTS7000222: The provided client secret keys are expired.", 401, "expired.*new secret"),
    ("", "AADSTS90002: Tenant 'x' not found.", 400, "does not exist.*AZURE_TENANT"),
    ("", "AADSTS999999: what is this", 400, "AADSTS999999.*client_id"),
    ("AuthorizationFailed", "The client 'c' with object id 'o' does not have authorization to perform action "
     "'Microsoft.Network/natGateways/write' over scope '/subscriptions/1/resourceGroups/g' or the scope is invalid.", 403,
     "lack the right Microsoft.Network/natGateways/write at /subscriptions/1/resourceGroups/g.*Assign a role"),
    ("DenyAssignmentAuthorizationFailed", "The client has permission to perform action 'Microsoft.Compute/disks/write' on scope 'x'; "
     "however, the access is denied because of the deny assignment.", 403, "deny assignment forbids Microsoft.Compute/disks/write.*ARO"),
    ("SubscriptionNotFound", "The subscription 'x' could not be found.", 404, "AZURE_SUBSCRIPTION_ID"),
    ("InvalidAuthenticationTokenTenant", "The access token is from the wrong issuer", 401, "another tenant"),
    ("TooManyRequests", "slow down", 429, "throttles"),
    ("Strange", "words", 500, "Strange: words"),
])
def test_refusals(code: str, message: str, status: int, expected: str) -> None:
    error = azure_errors.explain(code, message, status, "It failed")
    assert error.what == "It failed"
    assert error.todo
    with pytest.raises(CocoError, match=expected):
        raise error


@pytest.mark.parametrize(("text", "todo"), [
    ("('Unable to connect to proxy', NewConnectionError('refused'))", "HTTPS_PROXY and NO_PROXY"),
    ("Tunnel connection failed: 407 Proxy Authentication Required", "HTTPS_PROXY and NO_PROXY"),
    ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed", "of https://x, .*azure_ca_cert"),
    ("Connection refused", "its own way out"), ("Unable to get authority configuration for https://x/t.", "Correct tenant")])
def test_no_answer_to_a_login(text: str, todo: str) -> None:
    error = azure_errors.no_login("It failed", text, "a principal", "https://x", "its own way out")
    assert re.search(todo, error.todo)
    assert error.seen.startswith("a principal cannot log in: ")


def test_no_answer_of_azure() -> None:
    error = azure_errors.unreachable("It failed", "Connection\n  refused" + "x" * 500, "https://x")
    assert ("https://x must be reachable" in error.todo, error.seen[:21], len(error.seen)) == (True, "Connection refusedxxx", 400)


READER = [{"actions": ["*/read"], "notActions": []}]
CONTRIBUTOR = [{"actions": ["*"], "notActions": ["Microsoft.Authorization/*/Write"]}]


def test_rights() -> None:
    assert azure_rights.missing(azure_rights.GATEWAY, CONTRIBUTOR) == []
    assert azure_rights.missing(azure_rights.MACHINES, READER) == list(azure_rights.MACHINES)
    assert not azure_rights.granted("Microsoft.Authorization/roleAssignments/write", CONTRIBUTOR)
    assert azure_rights.granted("microsoft.network/VIRTUALNETWORKS/subnets/join/action", [{"actions": ["Microsoft.Network/*"]}])
    both = [{"actions": ["*"], "notActions": ["Microsoft.Compute/*"]}, {"actions": ["Microsoft.Compute/disks/*"], "notActions": []}]
    assert azure_rights.granted("Microsoft.Compute/disks/write", both), "notActions take from their own entry only"


GROUP = "/subscriptions/1111/resourceGroups/aro-managed"
ME, TEAM = "0aaaaaaa-0000-4000-8000-000000000001", "0bbbbbbb-0000-4000-8000-000000000002"
EVERYBODY = [{"id": azure_rights.EVERYONE, "type": "SystemDefined"}]
#: ARO-RP, pkg/cluster/deploybaseresources_additional.go (denyAssignment).
ARO = {"actions": ["*/action", "*/delete", "*/write"], "notActions": [
    "Microsoft.Compute/disks/beginGetAccess/action", "Microsoft.Compute/disks/endGetAccess/action", "Microsoft.Compute/disks/write",
    "Microsoft.Network/networkSecurityGroups/join/action", "Microsoft.Resources/tags/*"]}


def lock(**changed: Any) -> dict[str, Any]:
    return {"id": f"{GROUP}/providers/Microsoft.Authorization/denyAssignments/d", "name": "d", "properties": {
        "denyAssignmentName": "the lock", "scope": GROUP, "permissions": [ARO], "principals": EVERYBODY, "excludePrincipals": [],
        **changed}}


def me(kind: str = "ServicePrincipal", name: str = ME) -> list[dict[str, str]]:
    return [{"id": name.upper(), "type": kind}]


@pytest.mark.parametrize(("assignment", "who", "certain"), [
    (lock(), {ME}, True),
    (lock(excludePrincipals=me()), {ME}, None),
    (lock(excludePrincipals=me(name=TEAM)), {ME}, True),
    (lock(excludePrincipals=me("Group", TEAM)), {ME}, False),
    (lock(excludePrincipals=me("Group", TEAM)), {ME, TEAM}, None),
    (lock(principals=me()), {ME}, True),
    (lock(principals=me(name=TEAM)), {ME}, None),
    (lock(principals=me("Group", TEAM)), {ME}, False),
    (lock(principals=me("Group", TEAM)), {ME, TEAM}, True),
    (lock(), set(), False),
    (lock(scope="/subscriptions/1111"), {ME}, True),
    (lock(scope=GROUP.upper()), {ME}, True),
    (lock(scope=GROUP + "-2"), {ME}, None),
    (lock(scope=GROUP + "/providers/Microsoft.Network/networkSecurityGroups/nsg"), {ME}, None),
    (lock(doNotApplyToChildScopes=True), {ME}, None),
    (lock(permissions=[{"actions": [], "dataActions": ["*"]}]), {ME}, None),
    (lock(scope=None), {ME}, True),
])
def test_deny_assignments(assignment: dict[str, Any], who: set[str], certain: bool | None) -> None:
    """Everybody, a principal, a group; excepted or not; at the group, above, beside, below; unknown members are no certainty."""
    found = azure_rights.denied(azure_rights.MACHINES, [assignment], GROUP, who)
    assert [item["certain"] for item in found] == ([] if certain is None else [certain])
    for item in found:
        assert item["name"] == "the lock"
        assert set(azure_rights.MACHINES) - set(item["actions"]) == {
            "Microsoft.Compute/disks/write", "Microsoft.Network/networkSecurityGroups/join/action"}


def test_deny_assignments_forbid_only_what_is_needed() -> None:
    assert azure_rights.denied(("Microsoft.Network/networkSecurityGroups/join/action",), [lock()], GROUP, {ME}) == []
    several = [lock(permissions=[{"actions": ["Microsoft.Compute/*"], "notActions": ["*/delete"]}, {"actions": ["*/join/action"]}])]
    assert azure_rights.denied(("Microsoft.Compute/disks/delete", "Microsoft.Compute/disks/write", "microsoft.network/x/join/ACTION"),
                               several, GROUP, {ME})[0]["actions"] == ["Microsoft.Compute/disks/write", "microsoft.network/x/join/ACTION"]


def token(claims: Any) -> str:
    return ".".join(["e30", base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("="), "signature"])


@pytest.mark.parametrize(("text", "expected"), [
    (token({"oid": ME.upper(), "appid": "x"}), {ME}), (token({"oid": ME, "groups": [TEAM]}), {ME, TEAM}), (token({"appid": "x"}), set()),
    (token({"oid": ME, "groups": "hasgroups"}), {ME}), (token([1]), set()), ("opaque", set()), ("a.b.c", set()), ("a.\u00e9.c", set())])
def test_whose_token_it_is(text: str, expected: set[str]) -> None:
    assert azure_rights.identities(text) == expected


def subnet(**properties: Any) -> dict[str, Any]:
    return {"name": "worker", "properties": {"addressPrefix": "10.0.0.0/28", **properties}}


def test_addresses() -> None:
    assert azure_subnet.free_addresses(subnet(ipConfigurations=[{}] * 4)) == 7
    assert azure_subnet.judge(subnet(ipConfigurations=[{}] * 4), 7) == []
    found = azure_subnet.judge(subnet(ipConfigurations=[{}] * 4, delegations=[{"properties": {"serviceName": "Microsoft.Sql"}}]), 8)
    assert [item["code"] for item in found] == ["subnet-full", "subnet-delegated"]
    assert "7 free addresses, 8 are needed" in found[0]["message"]
    assert azure_subnet.judge(subnet(natGateway={"id": "/x"}), 1)[0]["severity"] == "info"


def rule(priority: int, access: str, direction: str, port: str, source: str = "*", destination: str = "*", protocol: str = "*") -> Any:
    return {"name": f"r{priority}", "properties": {
        "priority": priority, "access": access, "direction": direction, "protocol": protocol, "destinationPortRange": port,
        "sourceAddressPrefix": source, "destinationAddressPrefix": destination}}


DEFAULTS = [rule(65000, "Allow", "Inbound", "*", "VirtualNetwork", "VirtualNetwork"), rule(65500, "Deny", "Inbound", "*"),
            rule(65000, "Allow", "Outbound", "*", "VirtualNetwork", "VirtualNetwork"),
            rule(65001, "Allow", "Outbound", "*", "*", "Internet"), rule(65500, "Deny", "Outbound", "*")]


@pytest.mark.parametrize(("rules", "refused"), [
    ([], []),
    ([rule(100, "Deny", "Inbound", "15000-16000", protocol="Tcp")], ["inbound 15150/tcp"]),
    ([rule(100, "Deny", "Inbound", "15000-16000", protocol="Udp")], []),
    ([rule(100, "Deny", "Outbound", "9000", "10.0.0.8/30", protocol="UDP")], ["outbound 9000/udp"]),
    ([rule(100, "Deny", "Outbound", "9000", "10.0.1.0/24")], []),
    ([rule(100, "Deny", "Outbound", "*", "*", "Internet")], ["outbound 443/tcp"]),
    ([rule(90, "Allow", "Outbound", "443", "VirtualNetwork", "Internet"), rule(100, "Deny", "Outbound", "*", "*", "Internet")], []),
    ([rule(90, "Allow", "Outbound", "443", "10.0.0.0/30", "Internet"), rule(100, "Deny", "Outbound", "*", "*", "Internet")],
     ["outbound 443/tcp"]),
    ([rule(100, "Deny", "Inbound", "*", "VirtualNetwork")], ["inbound 15150/tcp", "inbound 9000/udp"]),
    ([rule(100, "Deny", "Outbound", "*", "*", "Storage")], []),
])
def test_flows(rules: list[Any], refused: list[str]) -> None:
    group = {"name": "nsg", "properties": {"securityRules": rules, "defaultSecurityRules": DEFAULTS}}
    found = azure_subnet.judge_flows(group, subnet())
    assert len(found) == len(refused)
    for item, words in zip(found, refused, strict=True):
        assert words in item["message"]
        assert "r100" in item["message"]


def size(name: str = "Standard_DC2as_v5", family: str = "standardDCASv5Family", vcpus: int = 2, **more: Any) -> dict[str, Any]:
    return {"name": name, "family": family, "location": "eastus", "vcpus": vcpus, "confidential": "SNP", "zones": ["1", "2"],
            "restricted": "", "restricted_zones": [], **more}


QUOTAS = {"standardDCASv5Family": {"limit": 10, "used": 4}, "cores": {"limit": 100, "used": 90}, "other": {"limit": 50, "used": 0}}


def judge(sizes: list[dict[str, Any]], tee: str = "snp", zones: tuple[str, ...] = (), pods: int = 1) -> list[str]:
    found = azure_capacity.judge(sizes, QUOTAS, "standard_dc2AS_v5", "eastus", tee, list(zones), pods)
    assert all(item["hint"] for item in found)
    return [f"{item['code']}: {item['message']} {item['hint']}" for item in found]


def test_capacity() -> None:
    assert judge([size()], pods=3, zones=("1", "2")) == []
    four = judge([size()], pods=4)
    assert len(four) == 1
    assert "need 8 vCPUs" in four[0]
    assert "leaves 6 (4 of 10 used)" in four[0]
    assert [text.split(":")[0] for text in judge([size()], pods=6)] == ["quota", "quota"]
    assert judge([])[0].startswith("size-unknown")
    assert judge([size()], tee="tdx")[0].startswith("size-not-confidential")
    assert judge([size(restricted="NotAvailableForSubscription")])[0].startswith("size-restricted")
    assert judge([size(restricted_zones=["1", "2"])])[0].startswith("size-zone")
    assert judge([size(restricted_zones=["1"])]) == []
    assert "only in: 2" in judge([size(restricted_zones=["1"])], zones=("1",))[0]
    assert judge([size(zones=[])]) == []
    assert judge([size(family="unheard")])[0].startswith("quota-unknown")


def test_alternatives_are_of_the_family_first_then_near() -> None:
    sizes = [size(restricted="Closed"), size("Standard_DC4as_v5", vcpus=4), size("Standard_EC2as_v5", "other"),
             size("Standard_EC96as_v5", "other", 96), size("Standard_D2s_v5", "other", confidential=""),
             size("Standard_DC2es_v5", "other", confidential="TDX"), size("Standard_EC4as_v5", "other", 4, restricted="Closed")]
    assert azure_capacity.alternatives(sizes, sizes[0], QUOTAS, "snp", [], 1) == ["Standard_DC4as_v5", "Standard_EC2as_v5"]
    assert "Standard_DC4as_v5" in judge(sizes)[0]
