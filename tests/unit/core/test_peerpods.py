"""peerpods.py: discovered from the cluster, merged without loss, checked before it is written."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from ansible_collections.confidential.containers.plugins.module_utils import peerpods
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

SUBSCRIPTION = "11111111-2222-3333-4444-555555555555"
CONF = {"subscriptionId": SUBSCRIPTION, "location": "eastus", "resourceGroup": "lab-rg", "vnetResourceGroup": "net-rg",
        "vnetName": "lab-vnet", "subnetName": "worker-subnet", "securityGroupName": "lab-nsg"}
SUBNET = (f"/subscriptions/{SUBSCRIPTION}/resourceGroups/net-rg/providers/Microsoft.Network/virtualNetworks/lab-vnet"
          "/subnets/worker-subnet")
NSG = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/lab-rg/providers/Microsoft.Network/networkSecurityGroups/lab-nsg"
IMAGE = (f"/subscriptions/{SUBSCRIPTION}/resourceGroups/lab-rg/providers/Microsoft.Compute/galleries/PodVMGallery_1"
         "/images/podvm-image/versions/1.0.0")


def codes(data: dict[str, str], tee: str = "snp") -> set[str]:
    return {finding["code"] for finding in peerpods.validate(data, tee)}


def test_cloud_conf_gives_everything() -> None:
    assert peerpods.desired({}, CONF, None) == {
        "CLOUD_PROVIDER": "azure", "VXLAN_PORT": "9000", "AZURE_REGION": "eastus", "AZURE_RESOURCE_GROUP": "lab-rg",
        "AZURE_SUBNET_ID": SUBNET, "AZURE_NSG_ID": NSG, "AZURE_INSTANCE_SIZE": "Standard_DC2as_v5",
        "AZURE_INSTANCE_SIZES": "Standard_DC2as_v5", "PROXY_TIMEOUT": "5m",
    }
    assert codes(peerpods.desired({}, CONF, None)) == set()


def test_group_of_the_network_and_of_the_cluster() -> None:
    conf = {key: value for key, value in CONF.items() if key != "vnetResourceGroup"}
    subnet = peerpods.desired({}, conf, None)["AZURE_SUBNET_ID"]
    assert "/resourceGroups/lab-rg/providers/Microsoft.Network/virtualNetworks" in subnet
    infrastructure = {"status": {"platformStatus": {"azure": {"resourceGroupName": "aro-managed"}}}}
    assert peerpods.desired({}, None, infrastructure)["AZURE_RESOURCE_GROUP"] == "aro-managed"


def test_given_wins_and_lists_lose_their_blanks() -> None:
    given = {"AZURE_INSTANCE_SIZES": "Standard_DC2as_v5, Standard_DC4as_v5", "TAGS": "a=1, b=2", "proxy_timeout": "8m",
             "ROOT_VOLUME_SIZE": 20, "INITDATA": "H4s", "AZURE_REGION": "westus"}
    data = peerpods.desired(given, CONF, None)
    assert data["AZURE_INSTANCE_SIZES"] == "Standard_DC2as_v5,Standard_DC4as_v5"
    assert (data["TAGS"], data["PROXY_TIMEOUT"], data["ROOT_VOLUME_SIZE"]) == ("a=1,b=2", "8m", "20")
    assert (data["INITDATA"], data["AZURE_REGION"]) == ("H4s", "westus")
    assert "proxy_timeout" not in data
    assert all(isinstance(value, str) for value in data.values())
    only = peerpods.desired({"AZURE_INSTANCE_SIZE": "Standard_DC4as_v5"}, CONF, None)
    assert only["AZURE_INSTANCE_SIZES"] == "Standard_DC4as_v5", "the default size must be in the list"


def test_image_id_only_when_given() -> None:
    assert "AZURE_IMAGE_ID" not in peerpods.desired({}, CONF, None)
    assert peerpods.desired({"AZURE_IMAGE_ID": IMAGE}, CONF, None)["AZURE_IMAGE_ID"] == IMAGE


def test_sizes_of_tdx() -> None:
    data = peerpods.desired({}, CONF, None, "tdx")
    assert data["AZURE_INSTANCE_SIZE"] == "Standard_DC2es_v5"
    assert codes(data, "tdx") == set()
    assert "size" in codes(data, "snp")


def test_merge_creates() -> None:
    data, changes = peerpods.merge(None, {"CLOUD_PROVIDER": "azure"})
    assert data == {"AZURE_IMAGE_ID": "", "CLOUD_PROVIDER": "azure"}
    assert {"key": "CLOUD_PROVIDER", "before": "", "after": "azure"} in changes


def test_merge_keeps_what_others_wrote() -> None:
    current = {"AZURE_IMAGE_ID": IMAGE, "DISABLECVM": "false", "PEERPODS_LIMIT_PER_NODE": "12", "SOMEONES": "key",
               "CLOUD_PROVIDER": "azure"}
    before = copy.deepcopy(current)
    data, changes = peerpods.merge(current, {"CLOUD_PROVIDER": "azure", "VXLAN_PORT": "9000", "AZURE_IMAGE_ID": ""})
    assert current == before, "the given data is not changed"
    assert data == {**before, "VXLAN_PORT": "9000"}
    assert changes == [{"key": "VXLAN_PORT", "before": "", "after": "9000"}]


def test_merge_twice_changes_nothing() -> None:
    wanted = peerpods.desired({}, CONF, None)
    once, _rest = peerpods.merge(None, wanted)
    assert peerpods.merge(once, wanted) == (once, [])


def test_what_a_running_adaptor_must_see() -> None:
    assert not peerpods.env_relevant([])
    assert not peerpods.env_relevant([{"key": "AZURE_IMAGE_ID", "before": "", "after": ""}])
    assert peerpods.env_relevant([{"key": "INITDATA", "before": "", "after": "H4s"}])
    assert peerpods.env_relevant([{"key": "AZURE_IMAGE_ID", "before": "", "after": ""},
                                  {"key": "TAGS", "before": "", "after": "a=1"}])


@pytest.mark.parametrize("key", ["AZURE_REGION", "AZURE_RESOURCE_GROUP", "AZURE_SUBNET_ID"])
@pytest.mark.parametrize("value", [None, ""])
def test_missing_keys(key: str, value: str | None) -> None:
    data = peerpods.desired({}, CONF, None)
    data.pop(key)
    if value is not None:
        data[key] = value
    found = [finding for finding in peerpods.validate(data) if finding["code"] == "missing"]
    assert [key in finding["message"] for finding in found] == [True]


@pytest.mark.parametrize(("key", "value", "good"), [
    ("AZURE_SUBNET_ID", SUBNET, True), ("AZURE_SUBNET_ID", NSG, False), ("AZURE_SUBNET_ID", "worker-subnet", False),
    ("AZURE_NSG_ID", NSG, True), ("AZURE_NSG_ID", f"{NSG},{NSG}2", False),
    ("AZURE_NSG_ID", NSG.replace(SUBSCRIPTION, "mine"), False), ("AZURE_IMAGE_ID", IMAGE, True), ("AZURE_IMAGE_ID", "", True),
    ("AZURE_IMAGE_ID", "dummy", False),
])
def test_arm_ids(key: str, value: str, good: bool) -> None:
    data = {**peerpods.desired({}, CONF, None), key: value}
    found = [finding for finding in peerpods.validate(data) if finding["code"] == "form"]
    assert bool(found) is not good
    for finding in found:
        assert key in finding["message"]
        assert "/subscriptions/<subscription>/resourceGroups/<group>/providers/" in finding["hint"]


@pytest.mark.parametrize(("size", "tee", "good"), [
    ("Standard_DC2as_v5", "snp", True), ("Standard_DC16ads_v5", "snp", True), ("Standard_EC4as_v5", "snp", True),
    ("Standard_EC4ads_v5", "snp", True), ("Standard_DC4as_cc_v5", "snp", True), ("Standard_DC4es_v5", "tdx", True),
    ("Standard_EC4eds_v5", "tdx", True), ("Standard_DC4es_v5", "snp", False), ("Standard_DC2as_v5", "tdx", False),
    ("Standard_D4s_v5", "snp", False), ("Standard_B2als_v2", "snp", False), ("Standard_DC2s_v3", "snp", False),
    ("Standard_DC2s_v5", "snp", False), ("Standard_DC2s_v5", "tdx", False), ("Standard_DC2as_v5 ", "snp", False),
])
def test_sizes(size: str, tee: str, good: bool) -> None:
    data = peerpods.desired({"AZURE_INSTANCE_SIZE": size}, CONF, None, tee)
    assert ("size" in codes(data, tee)) is not good
    assert "size" not in codes({**data, "DISABLECVM": "true"}, tee), "without confidential machines any size will do"


def test_other_faults() -> None:
    good = peerpods.desired({}, CONF, None)
    with pytest.raises(CocoError, match="CLOUD_PROVIDER is 'libvirt'"):
        peerpods.validate({**good, "CLOUD_PROVIDER": "libvirt"})
    assert codes({**good, "AZURE_INSTANCE_SIZES": "Standard_DC4as_v5"}) == {"default-size"}
    assert "blanks" in codes({**good, "AZURE_INSTANCE_SIZES": "Standard_DC2as_v5, Standard_DC4as_v5"})
    assert codes({**good, "TAGS": "team"}) == {"tags"}
    assert codes({**good, "TAGS": "team=a,cost=1"}) == set()
    assert "blanks" in codes({**good, "TAGS": "team=a b"})


def test_half_a_network_is_none() -> None:
    for key in ("vnetName", "subnetName"):
        data = peerpods.desired({}, {name: value for name, value in CONF.items() if name != key}, None)
        assert "AZURE_SUBNET_ID" not in data
        assert codes(data) == {"missing"}


def test_a_key_made_empty_matters_too() -> None:
    assert peerpods.env_relevant([{"key": "TAGS", "before": "a=1", "after": ""}])
    assert peerpods.env_relevant([{"key": "AZURE_IMAGE_ID", "before": "", "after": IMAGE}])
    assert not peerpods.env_relevant([{"key": "AZURE_IMAGE_ID", "before": IMAGE, "after": ""}])


AWS = {"status": {"platformStatus": {"type": "AWS", "aws": {"region": "eu-central-1"}}}}
GCP = {"status": {"platformStatus": {"type": "GCP", "gcp": {"projectID": "mine", "region": "europe-west4"}}}}
AWS_GIVEN = {"AWS_SUBNET_ID": "subnet-0a1b", "AWS_VPC_ID": "vpc-0a1b", "AWS_SG_IDS": "sg-0a1b, sg-2c3d", "DISABLECVM": "true"}
GCP_GIVEN = {"GCP_ZONE": "europe-west4-a", "GCP_NETWORK": "lab-network"}


def test_provider_by_platform_and_by_name() -> None:
    assert peerpods.provider_of(None).name == "azure"
    assert peerpods.provider_of({}, AWS).name == "aws"
    assert peerpods.provider_of({"CLOUD_PROVIDER": "gcp"}, AWS).name == "gcp", "what is given wins"
    assert peerpods.provider_of({}, {"status": {"platformStatus": {"type": "None"}}}).name == "azure"
    assert peerpods.PROVIDERS["gcp"].image_config_map == "gcp-podvm-image-cm"


def test_aws() -> None:
    data = peerpods.desired(AWS_GIVEN, None, AWS)
    assert data == {"CLOUD_PROVIDER": "aws", "VXLAN_PORT": "9000", "PROXY_TIMEOUT": "5m", "AWS_REGION": "eu-central-1",
                    "PODVM_INSTANCE_TYPE": "t3.medium", **AWS_GIVEN, "AWS_SG_IDS": "sg-0a1b,sg-2c3d"}
    assert codes(data) == set()
    assert peerpods.merge(None, data)[0]["PODVM_AMI_ID"] == ""
    assert codes(peerpods.desired({}, None, AWS)) == {"missing", "not-confidential"}
    assert codes({**data, "PODVM_INSTANCE_TYPE": "t2.large"}) == {"size"}
    for key, value in (("AWS_SUBNET_ID", "lab-subnet"), ("AWS_VPC_ID", "subnet-0a"), ("AWS_SG_IDS", "sg-0a sg-0b"), ("PODVM_AMI_ID", "x")):
        assert codes({**data, key: value}) == {"form"}, key


def test_gcp() -> None:
    data = peerpods.desired(GCP_GIVEN, None, GCP)
    assert data == {"CLOUD_PROVIDER": "gcp", "VXLAN_PORT": "9000", "PROXY_TIMEOUT": "5m", "GCP_PROJECT_ID": "mine",
                    "GCP_MACHINE_TYPE": "e2-medium", **GCP_GIVEN}
    assert codes(data) == set()
    assert peerpods.merge(None, data)[0]["PODVM_IMAGE_NAME"] == ""
    assert codes({**data, "GCP_ZONE": "europe-west4"}) == {"form"}
    assert codes({**data, "GCP_CONFIDENTIAL_TYPE": "SGX"}) == {"form"}
    assert codes({**data, "GCP_INSTANCE_TYPES": "n2d-standard-2"}) == {"default-size"}
    assert codes(peerpods.desired({}, None, GCP)) == {"missing"}


PASSES = {"present": True, "mode": "", "root_secret": True, "root_mode": "passthrough", "federated": False, "unseen": []}


@pytest.mark.parametrize(("operator", "severity", "text"), [
    ({}, "info", "will come from the Cloud Credential Operator"),
    ({"mode": "Passthrough"}, "info", "passes the cluster's own principal through"),
    ({"mode": "Manual"}, "error", "makes none in mode Manual"),
    ({"mode": "Manual", "root_secret": False, "unseen": ["Secret kube-system/azure-credentials"]}, "error", "mode Manual"),
    ({"mode": "Manual", "federated": True}, "info", "CLIENTID, TENANTID, SUBSCRIPTIONID"),
    ({"present": False}, "error", "this cluster has no Cloud Credential Operator"),
    ({"root_secret": False, "root_mode": ""}, "error", "there is no Secret kube-system/azure-credentials"),
    ({"root_mode": ""}, "error", "annotation cloudcredential.openshift.io/mode is missing"),
    ({"root_mode": "mint"}, "error", "is 'mint'"),
    ({"present": False, "unseen": ["CloudCredential cluster"]}, "warning", "CloudCredential cluster may not be read"),
])
def test_where_the_secret_comes_from(operator: dict[str, Any], severity: str, text: str) -> None:
    """operators.md 7: on Azure passthrough only; Manual makes nothing; the root Secret needs its annotation."""
    (finding,) = peerpods.check_source({**PASSES, **operator}, peerpods.PROVIDERS["azure"])
    assert finding["severity"] == severity
    assert text in finding["message"]
    assert ("AZURE_CLIENT_ID, AZURE_CLIENT_SECRET" in finding["hint"]) == (severity != "info")
    assert peerpods.check_source({**PASSES, **operator}, peerpods.PROVIDERS["aws"]) == []


@pytest.mark.parametrize("provider", sorted(peerpods.PROVIDERS))
def test_credentials(provider: str) -> None:
    keys = peerpods.PROVIDERS[provider].credentials
    assert peerpods.check_credentials([], peerpods.PROVIDERS[provider]) == [], "left to the cluster"
    assert peerpods.check_credentials([*keys, "MORE"], peerpods.PROVIDERS[provider]) == []
    (finding,) = peerpods.check_credentials(["OTHER", *keys[1:]], peerpods.PROVIDERS[provider])
    assert finding["message"] == f"coco_cloud_credentials lacks {keys[0]}"
