"""azure_login, azure, azure_peerpods_info and azure_capacity against a scripted Azure, over TLS, with Azure's own libraries."""

from __future__ import annotations

import importlib
import re
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.confidential.containers.plugins.module_utils import azure, azure_login
from ansible_collections.confidential.containers.plugins.module_utils.context import Context
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError
from tests.fake_api.arm import FakeArm

SUB, TENANT = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"
NET = f"/subscriptions/{SUB}/resourceGroups/net-rg/providers/Microsoft.Network"
CLUSTER_RG = f"/subscriptions/{SUB}/resourceGroups/cluster-rg"
NSG = f"{CLUSTER_RG}/providers/Microsoft.Network/networkSecurityGroups/nsg"
CONF = {"subscriptionId": SUB, "tenantId": TENANT, "location": "eastus", "resourceGroup": "cluster-rg", "vnetResourceGroup": "net-rg",
        "vnetName": "vnet", "subnetName": "worker", "securityGroupName": "nsg"}
CLUSTER = {"platform": "Azure", "aro": True, "resource_group": "cluster-rg", "cloud_conf": CONF}


def subnet(name: str, **properties: Any) -> dict[str, Any]:
    return {"id": f"{NET}/virtualNetworks/vnet/subnets/{name}", "name": name, "properties": {"addressPrefix": "10.0.2.0/24", **properties}}


@pytest.fixture
def fit(arm: FakeArm) -> FakeArm:
    """An Azure in which all is well."""
    gateway = f"{NET}/natGateways/nat"
    allow = {"priority": 100, "access": "Allow", "protocol": "*", "destinationPortRange": "*", "sourceAddressPrefix": "*",
             "destinationAddressPrefix": "*"}
    documents = {
        f"{NET}/virtualNetworks": [{"id": f"{NET}/virtualNetworks/vnet", "name": "vnet", "location": "eastus"}],
        f"{NET}/virtualNetworks/vnet": {"id": f"{NET}/virtualNetworks/vnet", "name": "vnet", "location": "eastus", "properties": {
            "subnets": [subnet("master"), subnet("worker", natGateway={"id": gateway}, networkSecurityGroup={"id": NSG})]}},
        gateway: {"id": gateway, "name": "nat", "properties": {"publicIpAddresses": [{"id": "the-ip"}]}},
        NSG: {"id": NSG, "name": "nsg", "properties": {"securityRules": [
            {"name": "in", "properties": {**allow, "direction": "Inbound"}},
            {"name": "out", "properties": {**allow, "direction": "Outbound"}}]}},
        f"{CLUSTER_RG}/providers/Microsoft.Authorization/permissions": [{"actions": ["*/read"]}, {"actions": ["*"]}],
        f"/subscriptions/{SUB}/resourceGroups/net-rg/providers/Microsoft.Authorization/permissions": [{"actions": ["*"]}],
        f"/subscriptions/{SUB}/providers/Microsoft.Compute/skus": [
            {"name": "Standard_DC2as_v5", "resourceType": "virtualMachines", "family": "standardDCASv5Family", "locations": ["eastus"],
             "capabilities": [{"name": "vCPUs", "value": "2"}, {"name": "ConfidentialComputingType", "value": "SNP"}],
             "locationInfo": [{"location": "eastus", "zones": ["1", "2"]}],
             "restrictions": [{"type": "Zone", "values": ["eastus"], "reasonCode": "NotAvailableForSubscription",
                               "restrictionInfo": {"locations": ["eastus"], "zones": ["2"]}}]},
            {"name": "Standard_DC4as_v5", "resourceType": "virtualMachines", "family": "standardDCASv5Family", "locations": ["eastus"],
             "capabilities": [{"name": "vCPUs", "value": "4"}, {"name": "ConfidentialComputingType", "value": "SNP"}],
             "locationInfo": [{"location": "eastus", "zones": ["1"]}], "restrictions": [
                 {"type": "Location", "values": ["eastus"], "reasonCode": "NotAvailableForSubscription"}]},
            {"name": "Premium_LRS", "resourceType": "disks", "locations": ["eastus"]}],
        f"/subscriptions/{SUB}/providers/Microsoft.Compute/locations/eastus/usages": [
            {"name": {"value": "standardDCASv5Family"}, "limit": 10, "currentValue": 4, "unit": "Count"},
            {"name": {"value": "cores"}, "limit": 100, "currentValue": 10, "unit": "Count"}],
    }
    arm.documents = {path.lower(): document for path, document in documents.items()}
    return arm


def call(arm: FakeArm, module: str, **options: Any) -> dict[str, Any]:
    work = importlib.import_module(f"ansible_collections.confidential.containers.plugins.module_utils.actions.{module}")
    if module == "azure_peerpods_info":
        options = {"cluster": CLUSTER, **options}
    validated = ArgumentSpecValidator(work.ARGUMENT_SPEC).validate({**arm.options(SUB, TENANT), **options})
    assert not validated.error_messages, validated.error_messages
    result: dict[str, Any] = work.run(validated.validated_parameters, Context())
    assert "the-secret" not in str(result)
    return result


def test_info(fit: FakeArm) -> None:
    result = call(fit, "azure_peerpods_info", pods=10)
    assert result["peerpods"] == {"CLOUD_PROVIDER": "azure", "AZURE_REGION": "eastus", "AZURE_RESOURCE_GROUP": "cluster-rg",
                                  "AZURE_SUBNET_ID": f"{NET}/virtualNetworks/vnet/subnets/worker", "AZURE_NSG_ID": NSG}
    assert result["azure"]["nat_gateway"] == {"id": f"{NET}/natGateways/nat", "public_ips": ["the-ip"], "tags": {}}
    assert (result["azure"]["free_addresses"], result["azure"]["aro"]) == (251, True)
    assert [item["severity"] for item in result["findings"]] == ["info"]
    assert result["credential"] == "service principal the-client with a secret, given to the task"
    assert result["calls"] == len(fit.calls) <= 12
    assert len(fit.logins) == 1, "one token for all clients"


@pytest.mark.parametrize(("options", "expected"), [
    ({"subscription_id": "3333"}, "another subscription.*subscription_id"),
    ({"tenant": "3333"}, "another tenant.*AZURE_TENANT"),
    ({"subnet_id": NSG}, "no id of a subnet"), ({"subnet_id": subnet("absent")["id"]}, "no absent among master, worker"),
    ({"subnet_id": subnet("worker")["id"].replace(SUB, "3333")}, "another subscription"),
    ({"cluster": {"platform": "AWS"}}, "no cluster on Azure.*AWS"),
    ({"subnet_name": "absent"}, "no absent among master, worker.*subnet_name"),
    ({"vnet_name": "absent"}, "virtual network absent in net-rg cannot be read.*ResourceNotFound"),
    ({"cluster": {**CLUSTER, "cloud_conf": {**CONF, "subnetName": ""}}}, "there are 2: master, worker.*subnet_name"),
    ({"cluster": {**CLUSTER, "cloud_conf": {**CONF, "location": "westus"}}}, "is in eastus, the cluster in westus"),
    ({"pods": 300}, "251 free addresses, 300 are needed"),
    ({"cloud_environment": "Mars"}, "no cloud 'Mars'"),
    ({"azure_ca_cert": "/absent"}, "does not exist"),
    ({"arm_endpoint": "http://localhost:1"}, "without TLS"),
])
def test_info_refuses(fit: FakeArm, options: dict[str, Any], expected: str) -> None:
    with pytest.raises(CocoError, match=expected):
        call(fit, "azure_peerpods_info", **options)


def test_info_finds_the_only_network_and_names_several(fit: FakeArm) -> None:
    cluster = {**CLUSTER, "cloud_conf": {**CONF, "vnetName": ""}}
    assert call(fit, "azure_peerpods_info", cluster=cluster)["azure"]["vnet"] == f"{NET}/virtualNetworks/vnet"
    fit.documents[f"{NET}/virtualNetworks".lower()] += [{"name": "other", "location": "eastus"}]
    with pytest.raises(CocoError, match=r"there are 2: other, vnet.*vnet_name") as caught:
        call(fit, "azure_peerpods_info", cluster=cluster)
    assert caught.value.details["candidates"] == ["other", "vnet"]


def test_info_under_read_only_rights_names_action_and_scope(fit: FakeArm) -> None:
    for path in [path for path in fit.documents if path.endswith("/permissions")]:
        fit.documents[path] = [{"actions": ["*/read"], "notActions": []}]
    with pytest.raises(CocoError) as caught:
        call(fit, "azure_peerpods_info")
    assert f"{CLUSTER_RG}: Microsoft.Compute/virtualMachines/write" in caught.value.seen
    assert "net-rg: Microsoft.Network/virtualNetworks/subnets/join/action" in caught.value.seen
    assert "natGateways/write" not in caught.value.seen, "there is a NAT gateway"
    assert call(fit, "azure_peerpods_info", rights=[])["azure"]["aro"] is True


def test_deny_assignments_that_cannot_be_told_are_warnings(fit: FakeArm) -> None:
    """The token here tells no principal; then the list may not be read; then it is not asked for."""
    path = f"{CLUSTER_RG}/providers/Microsoft.Authorization/denyAssignments"
    fit.documents[path.lower()] = [{"name": "lock", "properties": {
        "scope": CLUSTER_RG, "permissions": [{"actions": ["*/write"]}], "principals": [{"id": "0" * 8 + "-0000-0000-0000-" + "0" * 12}]}}]
    found = [item for item in call(fit, "azure_peerpods_info")["findings"] if item["code"] == "deny-assignment"]
    assert [item["severity"] for item in found] == ["warning"]
    assert f"the deny assignment lock at {CLUSTER_RG} may forbid" in found[0]["message"]
    fit.refused[f"GET {path}"] = (403, "AuthorizationFailed")
    found = [item for item in call(fit, "azure_peerpods_info")["findings"] if item["code"] == "deny-unread"]
    assert [(item["severity"], CLUSTER_RG in item["message"]) for item in found] == [("warning", True)]
    assert [item["code"] for item in call(fit, "azure_peerpods_info", rights=["subnet"])["findings"]] == ["nat-gateway-kept"]


def test_a_refused_flow_and_a_delegation_are_told_together(fit: FakeArm) -> None:
    fit.documents[NSG.lower()]["properties"]["securityRules"][0]["properties"]["access"] = "Deny"
    worker = fit.documents[f"{NET}/virtualNetworks/vnet".lower()]["properties"]["subnets"][1]
    worker["properties"]["delegations"] = [{"properties": {"serviceName": "Microsoft.Sql"}}]
    with pytest.raises(CocoError, match=r"delegated to Microsoft.Sql.*refuses inbound 15150/tcp"):
        call(fit, "azure_peerpods_info")


def test_capacity(fit: FakeArm) -> None:
    result = call(fit, "azure_capacity", region="eastus", size="Standard_DC2as_v5", pods=3)
    assert (result["findings"], result["size"]["zones"], result["size"]["restricted_zones"]) == ([], ["1", "2"], ["2"])
    assert result["calls"] == len(fit.calls) <= 12
    for options, expected in (({"pods": 4}, "need 8 vCPUs.*4 of 10"), ({"zones": ["2"]}, "only in: 1"), ({"tee": "tdx"}, "TDX is asked"),
                              ({"size": "Standard_DC4as_v5"}, "closed to this subscription.*Standard_DC2as_v5"),
                              ({"pods": 50}, "need 100 vCPUs.*can be had in eastus"),
                              ({"size": "Standard_X"}, "does not exist in eastus")):
        with pytest.raises(CocoError, match=expected):
            call(fit, "azure_capacity", **{"region": "eastus", "size": "Standard_DC2as_v5", **options})


def test_a_wrong_region_is_told(fit: FakeArm) -> None:
    fit.documents[f"/subscriptions/{SUB}/providers/Microsoft.Compute/skus".lower()] = []
    fit.documents[f"/subscriptions/{SUB}/providers/Microsoft.Compute/locations/mars/usages".lower()] = []
    with pytest.raises(CocoError, match=r"region mars.*Correct the region"):
        call(fit, "azure_capacity", region="mars", size="Standard_DC2as_v5")


THROTTLED = {"error": {"code": "TooManyRequests", "message": "slow down"}}


def test_throttled_for_a_while(fit: FakeArm) -> None:
    fit.answers[f"{NET}/virtualNetworks/vnet".lower()] = [(429, {"Retry-After": "0"}, THROTTLED)] * 2
    assert call(fit, "azure_peerpods_info")["azure"]["region"] == "eastus"


@pytest.mark.parametrize("answers", [[(429, {"Retry-After": "0"}, THROTTLED)] * 9, [(429, {"Retry-After": "3600"}, THROTTLED)]])
def test_throttled_for_good(fit: FakeArm, answers: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(azure, "RETRIES", 2)
    fit.answers[f"{NET}/virtualNetworks/vnet".lower()] = answers
    with pytest.raises(CocoError, match=r"throttles.*slow down"):
        call(fit, "azure_peerpods_info")
    assert len(fit.calls) <= azure.RETRIES + 1


def test_an_expired_secret_is_told_without_it(fit: FakeArm) -> None:
    fit.refusal = "AADSTS7000222: The provided client secret keys for app 'the-client' are expired."
    with pytest.raises(CocoError, match=r"secret has expired.*new secret") as caught:
        call(fit, "azure_peerpods_info")
    assert "the-secret" not in str(caught.value)


def test_an_unreachable_azure_and_an_unknown_authority(fit: FakeArm) -> None:
    with pytest.raises(CocoError, match=r"CERTIFICATE_VERIFY_FAILED.*azure_ca_cert"):
        call(fit, "azure_peerpods_info", azure_ca_cert=None)
    assert fit.calls == []


@pytest.mark.parametrize(("environment", "params", "used"), [
    ({"AZURE_CLIENT_ID": "c", "AZURE_TENANT": TENANT, "AZURE_SECRET": "hidden-one"}, {},
     "service principal c with a secret, from the env"),
    ({"AZURE_CLIENT_ID": "c", "AZURE_TENANT_ID": TENANT, "AZURE_CLIENT_SECRET": "hidden-one"}, {},
     "principal c with a secret, from the env"),
    ({"AZURE_CLIENT_ID": "e", "AZURE_SECRET": "hidden-one"}, {"client_id": "c", "secret": "hidden-two", "tenant": TENANT},
     "principal c .*given"),
    ({"AZURE_CLIENT_ID": "c", "AZURE_TENANT": TENANT, "AZURE_FEDERATED_TOKEN_FILE": "/dev/null"}, {}, "workload identity c"),
    ({}, {}, "the login of az"), ({}, {"auth_source": "msi"}, "managed identity"),
])
def test_credentials(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], params: dict[str, Any], used: str) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    login = azure_login.login(params)
    assert re.search(used, login.used)
    assert "hidden" not in repr(login)


@pytest.mark.parametrize(("params", "expected"), [
    ({"secret": "hidden-one"}, "not its client_id"), ({"secret": "hidden-one", "client_id": "c"}, "not its tenant"),
    ({"auth_source": "env"}, "holds no credentials"), ({"auth_source": "workload_identity"}, "AZURE_FEDERATED_TOKEN_FILE"),
    ({"client_id": "c", "tenant": TENANT, "x509_certificate_path": "/absent"}, "certificate /absent cannot be used"),
])
def test_incomplete_credentials(params: dict[str, Any], expected: str) -> None:
    with pytest.raises(CocoError, match=expected):
        azure_login.login(params)


def test_sovereign_clouds() -> None:
    cloud = azure_login.login({"cloud_environment": "AzureUSGovernment"}).cloud
    assert (cloud.authority, cloud.arm) == ("https://login.microsoftonline.us", "https://management.usgovcloudapi.net")
    assert cloud.well_known


def test_a_cloud_that_describes_itself(fit: FakeArm, monkeypatch: pytest.MonkeyPatch) -> None:
    def described(_method: str, target: str, *_rest: Any) -> tuple[int, dict[str, str], Any]:
        assert target.startswith("/metadata/endpoints")
        return 200, {}, {"authentication": {"loginEndpoint": "https://login.here/", "audiences": ["https://audience.here/"]}}

    monkeypatch.setattr(fit, "respond", described)
    cloud = azure_login.login({"cloud_environment": fit.url, "azure_ca_cert": fit.ca}).cloud
    assert (cloud.authority, cloud.arm, cloud.audience) == ("https://login.here", fit.url, "https://audience.here")
    assert not cloud.well_known


def test_missing_libraries_name_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(azure_login, "MISSING", "No module named 'azure'")
    with pytest.raises(CocoError, match=r"pip install azure-identity azure-mgmt-network azure-mgmt-compute"):
        azure_login.login({})


GALLERY = f"/subscriptions/{'3' * 8}-1111-1111-1111-111111111111/resourceGroups/rg/providers/Microsoft.Compute/galleries/g"
IMAGE = f"{GALLERY}/images/i/versions/1.0.0"


def put_image(fit: FakeArm, kind: str) -> None:
    """An image of another subscription."""
    fit.documents[IMAGE.lower()] = {"id": IMAGE, "name": "1.0.0", "properties": {
        "publishingProfile": {"targetRegions": [{"name": "East US"}]}}}
    fit.documents[f"{GALLERY}/images/i".lower()] = {"id": f"{GALLERY}/images/i", "properties": {
        "features": [{"name": "SecurityType", "value": kind}]}}


def of_gallery(fit: FakeArm) -> int:
    return sum("/galleries/" in path for _method, path in fit.calls)


def of_image(result: dict[str, Any]) -> list[dict[str, str]]:
    return [item for item in result["findings"] if item["code"].startswith("image")]


def test_a_given_image_is_looked_at(fit: FakeArm) -> None:
    assert of_image(call(fit, "azure_peerpods_info")) == []
    assert of_gallery(fit) == 0
    put_image(fit, "ConfidentialVmSupported")
    assert of_image(call(fit, "azure_peerpods_info", image_id=IMAGE)) == []
    assert of_gallery(fit) == 2
    assert len(fit.calls) <= 18, "both calls"


def test_a_given_image_that_is_missing_or_not_confidential(fit: FakeArm) -> None:
    with pytest.raises(CocoError, match=r"Azure is not ready for pod VMs · the pod VM image .*/versions/1\.0\.0 does not exist"):
        call(fit, "azure_peerpods_info", image_id=IMAGE)
    assert of_gallery(fit) == 1
    put_image(fit, "TrustedLaunchSupported")
    with pytest.raises(CocoError, match="is not for confidential virtual machines: its definition has SecurityType TrustedLaunchSupported"):
        call(fit, "azure_peerpods_info", image_id=IMAGE)
    assert of_image(call(fit, "azure_peerpods_info", image_id=IMAGE, confidential=False)) == []


def test_a_given_image_that_this_login_may_not_see(fit: FakeArm) -> None:
    """It says nothing about the operators' login."""
    words = "The client 'x' does not have authorization to perform action 'Microsoft.Compute/galleries/images/versions/read'"
    fit.answers[IMAGE.lower()] = [(403, {}, {"error": {"code": "AuthorizationFailed", "message": words}})]
    (found,) = of_image(call(fit, "azure_peerpods_info", image_id=IMAGE))
    assert (found["severity"], found["code"]) == ("warning", "image-unseen")
    assert "versions/read" in found["message"]
