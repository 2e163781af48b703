"""lab-arm, driven by Azure's own libraries as a user's program would, over TLS."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
import requests
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceNotFoundError
from azure.identity import CredentialUnavailableError, ManagedIdentityCredential

from lab import seed
from lab.arm.rights import granted, matches, within
from tests.lab.arm_running import NETWORK, Running

INFRA = seed.infrastructure("lab")
GROUP, VNET, SUBNET = f"{INFRA}-rg", f"{INFRA}-vnet", f"{INFRA}-worker-subnet"


@pytest.fixture
def arm(tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path / "arm", "azure")
    yield running
    running.stop()


@pytest.fixture
def aro(tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path, "aro")
    yield running
    running.stop()


def refused(call: Any, *arguments: Any, **named: Any) -> tuple[int, str, str]:
    """(status, code, message) of the refusal that a call of Azure's libraries ends in."""
    with pytest.raises(HttpResponseError) as caught:
        found = call(*arguments, **named)
        if hasattr(found, "result"):
            found.result()
        elif hasattr(found, "__iter__"):
            list(found)
    assert caught.value.status_code is not None
    return caught.value.status_code, str(getattr(caught.value.error, "code", "")), str(caught.value.message)


def error_of(response: requests.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


# --- Entra

@pytest.mark.parametrize("name", ["installer", "certificate", "workload"])
def test_logins(arm: Running, name: str) -> None:
    """Secret, certificate, federated token: each is let in and may read."""
    assert [one.name for one in arm.network(name).virtual_networks.list(GROUP)] == [VNET]
    assert {one["client"] for one in arm.audit()} == {arm.clients[name]["client_id"]}


@pytest.mark.parametrize(("name", "changed", "number"), [
    ("installer", {"secret": "wrong"}, 7000215), ("expired", {}, 7000222), ("installer", {"client_id": "0"}, 700016),
    ("stranger", {"tenant": seed.TENANT}, 700016), ("installer", {"tenant": "11111111-0000-4000-8000-000000000000"}, 90002)])
def test_refused_logins(arm: Running, name: str, changed: dict[str, str], number: int) -> None:
    with pytest.raises((ClientAuthenticationError, ValueError)) as caught:
        arm.credential(name, **changed).get_token("https://management.azure.com/.default")
    if number != 90002:  # msal reads no error from an unknown tenant's configuration: asked for directly below
        assert f"AADSTS{number}:" in str(caught.value)
    assert arm.clients["installer"]["secret"] not in str(caught.value)


def test_unknown_tenant(arm: Running) -> None:
    url = f"{arm.facts['authority']}/nothing.example/v2.0/.well-known/openid-configuration"
    answer = requests.get(url, verify=arm.facts["ca"], timeout=10)
    assert answer.status_code == 400
    assert answer.json()["error_description"].startswith("AADSTS90002: Tenant 'nothing.example' not found.")


def test_a_certificate_that_is_not_the_applications(arm: Running) -> None:
    other = {"client_id": arm.clients["installer"]["client_id"]}
    with pytest.raises(ClientAuthenticationError, match="AADSTS700027"):
        arm.credential("certificate", **other).get_token("https://management.azure.com/.default")


def test_a_federated_token_of_another_issuer(arm: Running, tmp_path: Path) -> None:
    forged = tmp_path / "forged"
    forged.write_text(jwt.encode({"iss": "https://elsewhere", "sub": "s", "aud": "a"}, "k" * 32, algorithm="HS256"))
    with pytest.raises(ClientAuthenticationError, match="AADSTS700211"):
        arm.credential("workload", token=str(forged)).get_token("https://management.azure.com/.default")


def test_an_expired_federated_token(arm: Running) -> None:
    with pytest.raises(ClientAuthenticationError, match="AADSTS700024"):
        arm.credential("workload", token=arm.clients["workload"]["stale"]).get_token("https://management.azure.com/.default")


def test_managed_identities(arm: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """By azure-identity, which finds the service by its own variable; what the machine does not have is refused."""
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", arm.facts["metadata"])
    scope = "https://management.azure.com/.default"
    for name, client in (("machine", None), ("assigned", arm.clients["assigned"]["client_id"])):
        token = ManagedIdentityCredential(client_id=client).get_token(scope).token
        assert jwt.decode(token, options={"verify_signature": False})["oid"] == arm.clients[name]["object_id"]
        found = arm.ask("GET", f"resourceGroups/{GROUP}", "2021-04-01", headers={"Authorization": f"Bearer {token}"})
        assert (found.status_code, arm.audit()[-1]["client"]) == (200, arm.clients[name]["client_id"])
    with pytest.raises(CredentialUnavailableError, match="Identity not found"):
        ManagedIdentityCredential(client_id=arm.clients["installer"]["client_id"]).get_token(scope)


METADATA = {"Metadata": "true"}
ASKED = {"api-version": "2018-02-01", "resource": "https://management.azure.com/"}


@pytest.mark.parametrize(("method", "headers", "query", "expected"), [
    ("GET", METADATA, {}, (200, "")), ("GET", METADATA, {"object_id": "assigned"}, (200, "")),
    ("GET", {}, {}, (400, "Required metadata header not specified")),
    ("GET", {"Metadata": "True"}, {}, (400, "Required metadata header not specified")),
    ("GET", {**METADATA, "X-Forwarded-For": "10.0.0.1"}, {}, (400, "X-Forwarded-For")),
    ("GET", METADATA, {"api-version": None}, (400, "'api-version' is missing")), ("GET", METADATA, {"resource": None}, (400, "'resource'")),
    ("GET", METADATA, {"api-version": "2012-12-12"}, (400, "not supported")),
    ("GET", METADATA, {"resource": "nothing"}, (400, "AADSTS500011")), ("GET", METADATA, {"client_id": ""}, (400, "Identity not found")),
    ("GET", METADATA, {"msi_res_id": "/subscriptions/x"}, (400, "Identity not found")), ("POST", METADATA, {}, (405, "not allowed"))])
def test_the_metadata_service_is_strict(arm: Running, method: str, headers: dict[str, str], query: dict[str, str],
                                        expected: tuple[int, str]) -> None:
    if "object_id" in query:
        query = {"object_id": arm.clients["assigned"]["object_id"]}
    answer = requests.request(method, arm.facts["metadata"] + "/metadata/identity/oauth2/token", headers=headers, timeout=10,
                              params={key: value for key, value in {**ASKED, **query}.items() if value is not None})
    assert answer.status_code == expected[0]
    assert expected[1] in answer.json().get("error_description", "")
    assert answer.headers["Server"].startswith("IMDS/")
    assert answer.status_code != 200 or answer.json()["expires_in"] == "3600"


def test_links_stay_on_the_callers_way(arm: Running) -> None:
    """Endpoints and next pages are named by the name that the caller uses."""
    near = arm.facts["endpoint"].replace("127.0.0.1", "localhost")
    configuration = requests.get(f"{near}/{seed.TENANT}/v2.0/.well-known/openid-configuration", verify=arm.facts["ca"], timeout=10).json()
    assert configuration["token_endpoint"] == f"{near}/{seed.TENANT}/oauth2/v2.0/token"
    page = requests.get(f"{near}{arm.subscription}/resourceGroups/{GROUP}/providers/Microsoft.Compute/disks", verify=arm.facts["ca"],
                        params={"api-version": "2026-03-02"}, headers={"Authorization": f"Bearer {arm.token()}"}, timeout=10).json()
    assert page["nextLink"].startswith(f"{near}/")


def test_secrets_are_for_their_owner_only(arm: Running) -> None:
    directory = Path(arm.facts["clients"]).parent
    for name in ("clients.json", "identities.json", "certificate.pem", "workload.token", "workload.stale"):
        assert (directory / name).stat().st_mode & 0o777 == 0o600
    arm.token()
    assert arm.clients["installer"]["secret"] not in (directory / "arm.log").read_text() + json.dumps(arm.facts)


# --- tokens and rights

def test_tokens(arm: Running) -> None:
    path = f"resourceGroups/{GROUP}/providers/Microsoft.Network/virtualNetworks"

    def asked(header: str | None) -> tuple[int, str]:
        return error_of(arm.ask("GET", path, headers={"Authorization": header} if header else {}))

    assert asked(None) == (401, "AuthenticationFailed")
    assert asked("Basic eDp5") == (401, "AuthenticationFailed")
    assert asked("Bearer made-up") == (401, "InvalidAuthenticationToken")
    assert asked(f"Bearer {arm.token(scope='https://vault.azure.net/.default')}") == (401, "InvalidAuthenticationTokenAudience")
    assert asked(f"Bearer {arm.token('stranger')}") == (401, "InvalidAuthenticationTokenTenant")
    arm.control(token_seconds=-1)
    arm.ask("GET", path, headers={})  # the control file is read with a request
    form = {"grant_type": "client_credentials", "client_id": arm.clients["installer"]["client_id"],
            "client_secret": arm.clients["installer"]["secret"], "scope": "https://management.azure.com/.default"}
    stale = requests.post(f"{arm.facts['authority']}/{seed.TENANT}/oauth2/v2.0/token", data=form, verify=arm.facts["ca"], timeout=10)
    assert asked(f"Bearer {stale.json()['access_token']}") == (401, "ExpiredAuthenticationToken")


def test_roles(arm: Running) -> None:
    address = {"location": "eastus", "sku": {"name": "Standard"}, "properties": {"publicIPAllocationMethod": "Static"}}
    reader = arm.clients["reader"]
    status, code, message = refused(arm.network("reader").public_ip_addresses.begin_create_or_update, GROUP, "p", address)
    assert (status, code) == (403, "AuthorizationFailed")
    assert f"The client '{reader['client_id']}' with object id '{reader['object_id']}' does not have authorization to perform action " \
           "'Microsoft.Network/publicIPAddresses/write' over scope '/subscriptions/" in message
    assert refused(arm.network("nobody").virtual_networks.get, GROUP, VNET)[:2] == (403, "AuthorizationFailed")
    assert refused(arm.compute("network").resource_skus.list)[:2] == (403, "AuthorizationFailed")
    arm.network("network").public_ip_addresses.begin_create_or_update(GROUP, "p", address).result()
    assert next(iter(arm.network("network").public_ip_addresses.list_all())).name == "p"


def test_permissions(arm: Running) -> None:
    def asked(name: str) -> list[list[str]]:
        answer = arm.ask("GET", f"resourceGroups/{GROUP}/providers/Microsoft.Authorization/permissions", "2022-04-01", name=name)
        return [one["actions"] for one in answer.json()["value"]]

    assert asked("reader") == [["*/read"]]
    assert asked("nobody") == []
    assert "Microsoft.Network/*" in asked("network")[0]


def test_matching_of_actions_and_scopes() -> None:
    assert matches(["Microsoft.Network/*/read"], "microsoft.network/virtualNetworks/subnets/READ")
    assert not matches(["Microsoft.Network/virtualNetworks/read"], "Microsoft.Network/virtualNetworks/write")
    assert not granted("Contributor", "Microsoft.Authorization/roleAssignments/write")
    assert within("/subscriptions/S/resourceGroups/one", "/subscriptions/s")
    assert not within("/subscriptions/s/resourceGroups/one-more", "/subscriptions/s/resourceGroups/one")


def test_the_managed_group_of_aro(aro: Running) -> None:
    """Two groups; the managed one is locked for all but the cluster; its NSG may be joined; the customer's network is free."""
    conf = seed.cloud_conf("lab", "aro")
    assert conf["resourceGroup"] != conf["vnetResourceGroup"]
    network = aro.network()
    nsg = network.network_security_groups.get(conf["resourceGroup"], conf["securityGroupName"])
    status, code, message = refused(network.network_security_groups.begin_create_or_update, conf["resourceGroup"], nsg.name, nsg)
    assert (status, code) == (403, "DenyAssignmentAuthorizationFailed")
    assert "the access is denied because of the deny assignment with name" in message
    subnet = network.subnets.get(conf["vnetResourceGroup"], conf["vnetName"], "worker-subnet")
    network.subnets.begin_create_or_update(conf["vnetResourceGroup"], conf["vnetName"], "worker-subnet", subnet).result()
    aro.network("cluster").network_security_groups.begin_create_or_update(conf["resourceGroup"], nsg.name, nsg).result()
    denials = aro.ask("GET", f"resourceGroups/{conf['resourceGroup']}/providers/Microsoft.Authorization/denyAssignments", "2022-04-01")
    assert len(denials.json()["value"]) == 1
    lock = denials.json()["value"][0]["properties"]
    assert [one["type"] for one in lock["principals"]] == ["SystemDefined"]
    assert [one["id"] for one in lock["excludePrincipals"]] == [aro.clients["cluster"]["object_id"]]
    assert "Microsoft.Compute/disks/write" in lock["permissions"][0]["notActions"]


# --- the protocol

def test_api_versions(arm: Running) -> None:
    path = f"resourceGroups/{GROUP}/providers/Microsoft.Network/virtualNetworks"
    assert error_of(arm.ask("GET", path, "")) == (400, "MissingApiVersionParameter")
    assert error_of(arm.ask("GET", path, "2012-12-12")) == (400, "NoRegisteredProviderFound")
    assert error_of(arm.ask("GET", path, "latest")) == (400, "InvalidApiVersionParameter")
    assert error_of(arm.ask("GET", f"resourceGroups/{GROUP}", NETWORK)) == (400, "InvalidApiVersionParameter")
    assert error_of(arm.ask("GET", "providers/Microsoft.Nothing/things")) == (404, "InvalidResourceNamespace")
    assert error_of(arm.ask("GET", "providers/Microsoft.Network/firewalls")) == (404, "InvalidResourceType")
    assert arm.audit()[-1] | {"time": ""} == {
        "time": "", "method": "GET", "path": f"{arm.subscription}/providers/Microsoft.Network/firewalls", "api_version": NETWORK,
        "client": arm.clients["installer"]["client_id"], "status": 404, "code": "InvalidResourceType"}


def test_what_is_not_there(arm: Running) -> None:
    network = arm.network()
    assert refused(arm.network(subscription="0").virtual_networks.list_all)[:2] == (404, "SubscriptionNotFound")
    assert refused(network.virtual_networks.list, "no")[:2] == (404, "ResourceGroupNotFound")
    assert refused(network.virtual_networks.get, GROUP, "no")[:2] == (404, "ResourceNotFound")
    assert refused(network.subnets.get, GROUP, VNET, "no")[:2] == (404, "NotFound")
    assert refused(network.subnets.begin_create_or_update, GROUP, "no", "s", {"properties": {"addressPrefix": "10.1.0.0/24"}})[:2] == (
        404, "ParentResourceNotFound")
    with pytest.raises(ResourceNotFoundError):
        network.nat_gateways.get(GROUP, "no")


def test_case_of_paths(arm: Running) -> None:
    found = arm.ask("GET", f"RESOURCEGROUPS/{GROUP.upper()}/providers/microsoft.network/VIRTUALNETWORKS/{VNET.upper()}")
    assert found.json()["id"] == f"{arm.subscription}/resourceGroups/{GROUP}/providers/Microsoft.Network/virtualNetworks/{VNET}"


def test_pages(arm: Running) -> None:
    """One item a page unless told otherwise; Azure's libraries follow nextLink."""
    subnets = [one.name for one in arm.network().subnets.list(GROUP, VNET)]
    assert subnets == sorted([SUBNET, f"{INFRA}-master-subnet"])
    assert len(arm.audit()) == 2
    first = arm.ask("GET", f"resourceGroups/{GROUP}/providers/Microsoft.Network/virtualNetworks/{VNET}/subnets").json()
    assert len(first["value"]) == 1
    assert f"api-version={NETWORK}" in first["nextLink"]
    arm.control(page_size=100)
    assert "nextLink" not in arm.ask("GET", f"resourceGroups/{GROUP}/resources", "2021-04-01").json()


def test_long_running_operations(arm: Running) -> None:
    path = f"resourceGroups/{GROUP}/providers/Microsoft.Network/publicIPAddresses/p"
    body = {"location": "eastus", "sku": {"name": "Standard"}, "properties": {"publicIPAllocationMethod": "Static"}}
    made = arm.ask("PUT", path, json=body)
    assert (made.status_code, made.json()["properties"]["provisioningState"], made.headers["Retry-After"]) == (201, "Creating", "0")
    look = made.headers["Azure-AsyncOperation"].removeprefix(arm.facts["endpoint"]).split("?")[0]
    assert [arm.ask("GET", look).json()["status"] for _ in range(2)] == ["InProgress", "Succeeded"]
    assert arm.ask("PUT", path, json=body).status_code == 200
    gone = arm.ask("DELETE", path)
    assert gone.status_code == 202
    where = gone.headers["Location"].removeprefix(arm.facts["endpoint"]).split("?")[0]
    assert [arm.ask("GET", where).status_code for _ in range(2)] == [202, 204]
    assert arm.ask("DELETE", path).status_code == 204


def test_throttling(arm: Running) -> None:
    arm.control(throttle=2, retry_after=0)
    assert [one.name for one in arm.network(retry_total=3).virtual_networks.list(GROUP)] == [VNET]
    assert [one["status"] for one in arm.audit()] == [429, 429, 200]
    arm.control(throttle=-1, retry_after=7)
    answer = arm.ask("GET", f"resourceGroups/{GROUP}", "2021-04-01")
    assert (error_of(answer), answer.headers["Retry-After"]) == ((429, "SubscriptionRequestsThrottled"), "7")
    assert error_of(arm.ask("GET", f"resourceGroups/{GROUP}", "2021-04-01"))[0] == 429


def test_etags(arm: Running) -> None:
    network = arm.network()
    path = f"resourceGroups/{GROUP}/providers/Microsoft.Network/virtualNetworks/{VNET}/subnets/{SUBNET}"
    subnet = arm.ask("GET", path).json()
    before = network.virtual_networks.get(GROUP, VNET).etag
    headers = {"Authorization": f"Bearer {arm.token()}", "If-Match": subnet["etag"]}
    assert arm.ask("PUT", path, json=subnet, headers=headers).status_code == 200
    assert error_of(arm.ask("PUT", path, json=subnet, headers=headers)) == (412, "PreconditionFailed")
    assert network.virtual_networks.get(GROUP, VNET).etag != before
    new_only = headers | {"If-Match": "", "If-None-Match": "*"}
    assert error_of(arm.ask("PUT", path, json=subnet, headers=new_only)) == (412, "PreconditionFailed")


def test_state_outlives_the_process(tmp_path: Path) -> None:
    first = Running(tmp_path, "azure")
    first.network().public_ip_addresses.begin_create_or_update(GROUP, "kept", {
        "location": "eastus", "sku": {"name": "Standard"}, "properties": {"publicIPAllocationMethod": "Static"}}).result()
    token = first.token()
    first.stop()
    second = Running(tmp_path, "azure")
    try:
        assert second.clients == first.clients
        found = second.ask("GET", f"resourceGroups/{GROUP}/providers/Microsoft.Network/publicIPAddresses/kept",
                           headers={"Authorization": f"Bearer {token}"})
        assert found.json()["name"] == "kept"
    finally:
        second.stop()


# --- the network

def test_the_seed_agrees_with_cloud_conf(arm: Running) -> None:
    conf = seed.cloud_conf("lab")
    subnet = arm.network().subnets.get(conf["vnetResourceGroup"], conf["vnetName"], conf["subnetName"])
    assert subnet.network_security_group.id.endswith("/" + conf["securityGroupName"])
    assert subnet.route_table.id.endswith("/" + conf["routeTableName"])
    assert (subnet.nat_gateway, len(subnet.service_endpoints), len(subnet.ip_configurations)) == (None, 2, 2)
    nsg = arm.network().network_security_groups.get(conf["resourceGroup"], conf["securityGroupName"])
    assert (len(nsg.security_rules), len(nsg.default_security_rules), len(nsg.subnets)) == (2, 6, 2)


def test_a_careless_put_loses(arm: Running) -> None:
    """Subnet properties, tags, rules: what a PUT does not name is gone."""
    network = arm.network()
    network.subnets.begin_create_or_update(GROUP, VNET, SUBNET, {"properties": {"addressPrefix": "10.0.1.0/24"}}).result()
    subnet = network.subnets.get(GROUP, VNET, SUBNET)
    assert (subnet.network_security_group, subnet.route_table, subnet.service_endpoints) == (None, None, None)
    network.network_security_groups.begin_create_or_update(GROUP, f"{INFRA}-nsg", {"location": "eastus", "properties": {}}).result()
    nsg = network.network_security_groups.get(GROUP, f"{INFRA}-nsg")
    assert (nsg.security_rules, nsg.tags) == ([], None)
    status, code, message = refused(network.virtual_networks.begin_create_or_update, GROUP, VNET, {
        "location": "eastus", "properties": {"addressSpace": {"addressPrefixes": ["10.0.0.0/16"]}}})
    assert (status, code) == (400, "InUseSubnetCannotBeDeleted")
    assert "See aka.ms/deletesubnet." in message
    assert len(network.virtual_networks.get(GROUP, VNET).subnets) == 2


def test_a_careful_put_keeps(arm: Running) -> None:
    path = f"resourceGroups/{GROUP}/providers/Microsoft.Network/virtualNetworks/{VNET}/subnets/{SUBNET}"
    subnet = arm.ask("GET", path).json()
    arm.ask("PUT", path, json=subnet).raise_for_status()
    assert arm.ask("GET", path).json() | {"etag": ""} == subnet | {"etag": ""}


def nat(arm: Running, name: str = "nat") -> str:
    """A NAT gateway with a public address; returns its id."""
    network = arm.network()
    address = network.public_ip_addresses.begin_create_or_update(GROUP, f"{name}-ip", {
        "location": "eastus", "sku": {"name": "Standard"}, "properties": {"publicIPAllocationMethod": "Static"}}).result()
    made = network.nat_gateways.begin_create_or_update(GROUP, name, {
        "location": "eastus", "sku": {"name": "Standard"}, "properties": {"publicIpAddresses": [{"id": address.id}]}}).result()
    return str(made.id)


def attach(arm: Running, gateway: str | None) -> None:
    subnet = arm.network().subnets.get(GROUP, VNET, SUBNET)
    subnet.nat_gateway = {"id": gateway} if gateway else None
    arm.network().subnets.begin_create_or_update(GROUP, VNET, SUBNET, subnet).result()


def test_nat_gateway_and_what_is_in_use(arm: Running) -> None:
    network = arm.network()
    gateway = nat(arm)
    attach(arm, gateway)
    assert [one.id.rpartition("/")[2] for one in network.nat_gateways.get(GROUP, "nat").subnets] == [SUBNET]
    assert network.public_ip_addresses.get(GROUP, "nat-ip").nat_gateway.id == gateway
    assert len(network.subnets.get(GROUP, VNET, SUBNET).service_endpoints) == 2
    assert refused(network.nat_gateways.begin_delete, GROUP, "nat")[:2] == (400, "CannotDeleteNatGatewayAssociatedToSubnet")
    assert refused(network.public_ip_addresses.begin_delete, GROUP, "nat-ip")[:2] == (400, "PublicIPAddressCannotBeDeleted")
    assert refused(network.subnets.begin_delete, GROUP, VNET, SUBNET)[:2] == (400, "InUseSubnetCannotBeDeleted")
    assert refused(network.network_security_groups.begin_delete, GROUP, f"{INFRA}-nsg")[:2] == (
        400, "InUseNetworkSecurityGroupCannotBeDeleted")
    attach(arm, None)
    network.nat_gateways.begin_delete(GROUP, "nat").result()
    network.public_ip_addresses.begin_delete(GROUP, "nat-ip").result()
    assert list(network.nat_gateways.list(GROUP)) == []


def test_refused_network_resources(arm: Running) -> None:
    network = arm.network()
    nat(arm)
    address = f"{arm.subscription}/resourceGroups/{GROUP}/providers/Microsoft.Network/publicIPAddresses/nat-ip"
    for call, arguments, code in (
            (network.public_ip_addresses, ("p", {"location": "eastus", "sku": {"name": "Standard"}}),
             "StandardSkuPublicIPAddressesMustBeStatic"),
            (network.public_ip_addresses, ("p", {"sku": {"name": "Standard"}}), "LocationRequired"),
            (network.nat_gateways, ("n", {"location": "eastus", "sku": {"name": "Standard"}, "properties": {
                "publicIpAddresses": [{"id": address}]}}), "PublicIPAddressInUse"),
            (network.nat_gateways, ("n", {"location": "eastus", "sku": {"name": "Standard"}, "properties": {
                "publicIpAddresses": [{"id": address + "x"}]}}), "InvalidResourceReference"),
            (network.nat_gateways, ("n", {"location": "westus", "sku": {"name": "Standard"}, "properties": {
                "publicIpAddresses": [{"id": address}]}}), "InvalidResourceReference")):
        assert refused(call.begin_create_or_update, GROUP, *arguments)[:2] == (400, code)
    assert refused(network.subnets.begin_create_or_update, GROUP, VNET, "more", {"properties": {"addressPrefix": "10.0.1.128/25"}})[:2] == (
        400, "NetcfgSubnetRangesOverlap")
    assert refused(network.nat_gateways.begin_create_or_update, GROUP, "nat", {"location": "westus", "sku": {"name": "Standard"}})[:2] == (
        409, "InvalidResourceLocation")


def test_joining_needs_the_right(arm: Running) -> None:
    """Network Contributor of another group only: a machine's interface cannot join the subnet."""
    body = {"location": "eastus", "properties": {"ipConfigurations": [{"name": "c", "properties": {"subnet": {
        "id": f"{arm.subscription}/resourceGroups/{GROUP}/providers/Microsoft.Network/virtualNetworks/{VNET}/subnets/{SUBNET}"}}}]}}
    path = f"resourceGroups/{GROUP}/providers/Microsoft.Network/networkInterfaces/n"
    assert error_of(arm.ask("PUT", path, json=body, name="reader")) == (403, "AuthorizationFailed")
    made = arm.ask("PUT", path, json=body, name="network")
    assert made.json()["properties"]["ipConfigurations"][0]["properties"]["privateIPAddress"] == "10.0.1.6"


def test_a_full_subnet(arm: Running) -> None:
    network = arm.network()
    subnet = network.subnets.begin_create_or_update(GROUP, VNET, "tiny", {"properties": {"addressPrefix": "10.0.9.0/29"}}).result()
    codes = []
    for number in range(4):
        answer = arm.ask("PUT", f"resourceGroups/{GROUP}/providers/Microsoft.Network/networkInterfaces/n{number}", json={
            "location": "eastus", "properties": {"ipConfigurations": [{"name": "c", "properties": {"subnet": {"id": subnet.id}}}]}})
        codes.append(answer.json().get("error", {}).get("code", answer.status_code))
    assert codes == [201, 201, 201, "SubnetIsFull"]


# --- machines

def machine(arm: Running, name: str, size: str = "Standard_DC2as_v5", *, zone: str = "", security: str = "ConfidentialVM",
            keep: bool = False) -> requests.Response:
    """A network interface and a machine; the answer to the machine's PUT."""
    group = f"resourceGroups/{GROUP}/providers"
    subnet = f"{arm.subscription}/{group}/Microsoft.Network/virtualNetworks/{VNET}/subnets/{SUBNET}"
    arm.ask("PUT", f"{group}/Microsoft.Network/networkInterfaces/{name}-net", json={"location": "eastus", "properties": {
        "ipConfigurations": [{"name": "c", "properties": {"subnet": {"id": subnet}}}]}}).raise_for_status()
    after = "Detach" if keep else "Delete"
    return arm.ask("PUT", f"{group}/Microsoft.Compute/virtualMachines/{name}", "2026-04-01", json={
        "location": "eastus", "tags": {"made": "here"}, **({"zones": [zone]} if zone else {}), "properties": {
            "hardwareProfile": {"vmSize": size}, "securityProfile": {"securityType": security} if security else {},
            "osProfile": {"computerName": name, "adminUsername": "peerpod", "customData": "c2VjcmV0"},
            "storageProfile": {"osDisk": {"createOption": "FromImage", "deleteOption": after}},
            "networkProfile": {"networkInterfaces": [{"id": f"{arm.subscription}/{group}/Microsoft.Network/networkInterfaces/{name}-net",
                                                      "properties": {"deleteOption": after}}]}}})


@pytest.mark.parametrize("keep", [False, True])
def test_a_machine_its_disk_and_interface(arm: Running, keep: bool) -> None:
    compute = arm.compute()
    assert machine(arm, "podvm-x", keep=keep).status_code == 201
    found = compute.virtual_machines.get(GROUP, "podvm-x", expand="instanceView")
    assert found.instance_view.statuses[1].code == "PowerState/running"
    assert found.os_profile.custom_data is None
    disk = found.storage_profile.os_disk.name
    assert refused(compute.disks.begin_delete, GROUP, disk)[:2] == (409, "OperationNotAllowed")
    assert refused(arm.network().network_interfaces.begin_delete, GROUP, "podvm-x-net")[:2] == (400, "NicInUse")
    compute.virtual_machines.begin_delete(GROUP, "podvm-x").result()
    left = {one.name for one in [*compute.disks.list_by_resource_group(GROUP), *arm.network().network_interfaces.list(GROUP)]}
    assert ({disk, "podvm-x-net"} <= left) is keep
    if keep:
        compute.disks.begin_delete(GROUP, disk).result()
        arm.network().network_interfaces.begin_delete(GROUP, "podvm-x-net").result()


@pytest.mark.parametrize(("size", "zone", "security", "expected"), [
    ("Standard_Nothing", "", "", (400, "InvalidParameter")), ("Standard_EC2ads_v5", "", "ConfidentialVM", (409, "SkuNotAvailable")),
    ("Standard_DC2ads_v5", "3", "ConfidentialVM", (409, "SkuNotAvailable")),
    ("Standard_DC2ads_v5", "1", "ConfidentialVM", (409, "OperationNotAllowed")),
    ("Standard_D2s_v5", "", "ConfidentialVM", (400, "BadRequest"))])
def test_machines_that_cannot_be(arm: Running, size: str, zone: str, security: str, expected: tuple[int, str]) -> None:
    assert error_of(machine(arm, "m", size, zone=zone, security=security)) == expected


def pod_vm(arm: Running, name: str, image: str = "", **storage: Any) -> requests.Response:
    """The answer to a PUT of a machine as cloud-api-adaptor asks for it: its interface is made and removed with it."""
    group = f"{arm.subscription}/resourceGroups/{GROUP}/providers"
    if image:
        storage["imageReference"] = {"id": image}
    return arm.ask("PUT", f"{group}/Microsoft.Compute/virtualMachines/{name}", "2024-07-01", json={"location": "eastus", "properties": {
        "hardwareProfile": {"vmSize": "Standard_DC2as_v5"}, "securityProfile": {"securityType": "ConfidentialVM"},
        "osProfile": {"computerName": name},
        "storageProfile": {"osDisk": {"name": f"{name}-disk", "createOption": "FromImage", "deleteOption": "Delete"}, **storage},
        "networkProfile": {"networkInterfaceConfigurations": [{"name": f"{name}-net", "properties": {
            "deleteOption": "Delete", "networkSecurityGroup": {"id": f"{group}/Microsoft.Network/networkSecurityGroups/{INFRA}-nsg"},
            "ipConfigurations": [{"name": "ip-config", "properties": {"subnet": {
                "id": f"{group}/Microsoft.Network/virtualNetworks/{VNET}/subnets/{SUBNET}"}}}]}}]}}})


def test_a_machine_that_brings_its_interface(arm: Running) -> None:
    before = arm.resources().keys()
    pod_vm(arm, "podvm-x").raise_for_status()
    assert {key.rpartition("/")[2] for key in arm.resources().keys() - before} == {"podvm-x", "podvm-x-net", "podvm-x-disk"}
    profile = arm.compute().virtual_machines.get(GROUP, "podvm-x").network_profile
    nic = arm.network().network_interfaces.get(GROUP, profile.network_interfaces[0].id.rpartition("/")[2])
    assert nic.ip_configurations[0].private_ip_address.startswith("10.0.1.")
    assert nic.network_security_group.id.endswith(f"{INFRA}-nsg")
    arm.compute().virtual_machines.begin_delete(GROUP, "podvm-x").result()
    assert arm.resources().keys() == before


@pytest.mark.parametrize(("features", "image", "expected"), [
    ([], "PodVMGallery_1/images/podvm-image/versions/1.0.0", (400, "BadRequest")),
    ([{"name": "SecurityType", "value": "TrustedLaunch"}], "PodVMGallery_1/images/podvm-image/versions/1.0.0", (400, "BadRequest")),
    ([{"name": "SecurityType", "value": "ConfidentialVmSupported"}], "PodVMGallery_1/images/podvm-image/versions/1.0.0", None),
    ([], "PodVMGallery_1/images/podvm-image/versions/9.9.9", (404, "GalleryImageNotFound")),
])
def test_images_of_confidential_machines(arm: Running, features: list[dict[str, str]], image: str, expected: tuple[int, str] | None
                                         ) -> None:
    compute, where = arm.compute(), {"location": "eastus"}
    compute.galleries.begin_create_or_update(GROUP, "PodVMGallery_1", where).result()
    compute.gallery_images.begin_create_or_update(GROUP, "PodVMGallery_1", "podvm-image", {**where, "properties": {
        "osType": "Linux", "osState": "Generalized", "features": features}}).result()
    compute.gallery_image_versions.begin_create_or_update(GROUP, "PodVMGallery_1", "podvm-image", "1.0.0", where).result()
    answer = pod_vm(arm, "x", f"{arm.subscription}/resourceGroups/{GROUP}/providers/Microsoft.Compute/galleries/{image}")
    assert (error_of(answer) if answer.status_code >= 400 else None) == expected


def test_what_is_no_image(arm: Running) -> None:
    assert error_of(pod_vm(arm, "x", "/subscriptions/none")) == (400, "InvalidParameter")


def test_a_machine_that_goes_stops(arm: Running) -> None:
    """The process that stands for it, and no other one of that number."""
    directory = Path(arm.facts["control"]).parent.parent / "vms" / "podvm-x"
    directory.mkdir(parents=True)
    sleeping = [subprocess.Popen(["sleep", "60"]), subprocess.Popen([sys.executable, "-c", "input()", str(directory)],
                                                                   stdin=subprocess.PIPE)]
    for process, stopped in zip(sleeping, (None, -signal.SIGTERM), strict=True):
        (directory / "pid").write_text(str(process.pid))
        pod_vm(arm, "podvm-x").raise_for_status()
        arm.compute().virtual_machines.begin_delete(GROUP, "podvm-x").result()
        if stopped is not None:
            assert process.wait(5) == stopped
        assert process.poll() == stopped
    sleeping[0].kill()
    sleeping[0].wait()


def test_sizes(arm: Running) -> None:
    found = {one.name: one for one in arm.compute().resource_skus.list(filter="location eq 'eastus'")}
    abilities = {one.name: one.value for one in found["Standard_DC2as_v5"].capabilities}
    assert (abilities["ConfidentialComputingType"], abilities["vCPUs"]) == ("SNP", "2")
    assert found["Standard_DC2as_v5"].location_info[0].zones == ["1", "2", "3"]
    assert [one.type for one in found["Standard_DC2ads_v5"].restrictions] == ["Zone"]
    assert [one.type for one in found["Standard_EC2ads_v5"].restrictions] == ["Location", "Zone"]
    assert "Standard_DC2es_v5" not in found
    assert len(arm.audit()) == 1


def test_quota(arm: Running) -> None:
    def family() -> tuple[int, int]:
        found = {one.name.value: one for one in arm.compute().usage.list("eastus")}
        return found["standardDCASv5Family"].current_value, found["standardDCASv5Family"].limit

    assert family() == (0, 64)
    machine(arm, "m").raise_for_status()
    assert family() == (2, 64)
    assert {one.name.value: one.current_value for one in arm.network().usages.list("eastus")}["NetworkInterfaces"] == 6


def test_gallery(arm: Running) -> None:
    compute = arm.compute()
    where = {"location": "eastus"}
    compute.galleries.begin_create_or_update(GROUP, "PodVMGallery_1", where).result()
    compute.gallery_images.begin_create_or_update(GROUP, "PodVMGallery_1", "podvm-image", {**where, "properties": {
        "osType": "Linux", "osState": "Generalized", "identifier": {"publisher": "RedHat", "offer": "o", "sku": "s"}}}).result()
    compute.gallery_image_versions.begin_create_or_update(GROUP, "PodVMGallery_1", "podvm-image", "1.0.0", where).result()
    assert refused(compute.galleries.begin_delete, GROUP, "PodVMGallery_1")[:2] == (409, "CannotDeleteResource")
    compute.gallery_image_versions.begin_delete(GROUP, "PodVMGallery_1", "podvm-image", "1.0.0").result()
    compute.gallery_images.begin_delete(GROUP, "PodVMGallery_1", "podvm-image").result()
    compute.galleries.begin_delete(GROUP, "PodVMGallery_1").result()
    assert list(compute.galleries.list_by_resource_group(GROUP)) == []


def test_resources_of_a_group(arm: Running) -> None:
    arm.control(page_size=100)
    found = arm.ask("GET", f"resourceGroups/{GROUP}/resources", "2021-04-01").json()["value"]
    assert {"Microsoft.Network/virtualNetworks", "Microsoft.Compute/virtualMachines"} <= {one["type"] for one in found}
    assert all(one["tags"] == {f"kubernetes.io_cluster.{INFRA}": "owned"} for one in found)
    assert arm.ask("GET", "/subscriptions", "2022-12-01", name="nobody").json()["value"] == []
    assert arm.ask("GET", "locations", "2022-12-01").json()["value"][0]["name"] == "eastus"
