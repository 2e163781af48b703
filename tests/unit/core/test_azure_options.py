"""The login that an inventory means, and the subnet that a cluster's cloud.conf names."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.confidential.containers.plugins.module_utils.azure_options import login
from ansible_collections.confidential.containers.plugins.module_utils.peerpods import worker_subnet

POD_VMS = {"AZURE_CLIENT_ID": "pods", "AZURE_CLIENT_SECRET": "s", "AZURE_TENANT_ID": "t", "AZURE_SUBSCRIPTION_ID": "sub"}
AS_PODS = {"client_id": "pods", "secret": "s", "tenant": "t", "subscription_id": "sub"}


@pytest.mark.parametrize(("given", "credentials", "environment", "options", "at_hand", "pod_vms"), [
    ({}, {}, {}, {}, False, False),
    ({}, POD_VMS, {}, AS_PODS, True, True),
    ({"azure_ca_cert": "/ca"}, POD_VMS, {}, {**AS_PODS, "azure_ca_cert": "/ca"}, True, True),
    ({"tenant": "other"}, POD_VMS, {}, {**AS_PODS, "tenant": "other"}, True, True),
    ({"client_id": "mine", "secret": ""}, POD_VMS, {}, {"client_id": "mine"}, True, False),
    ({"auth_source": "cli"}, POD_VMS, {}, {"auth_source": "cli"}, True, False),
    ({"auth_source": "cli"}, {}, {}, {"auth_source": "cli"}, True, False),
    ({}, POD_VMS, {"AZURE_CLIENT_ID": "env"}, {}, True, False),
    ({}, POD_VMS, {"AZURE_CLIENT_ID": "pods"}, {}, True, True),
    ({}, POD_VMS, {"ANSIBLE_AZURE_AUTH_SOURCE": "cli"}, {}, True, False),
    ({}, POD_VMS, {"AZURE_CLIENT_ID": ""}, AS_PODS, True, True),
])
def test_login(given: dict[str, Any], credentials: dict[str, Any], environment: dict[str, str], options: dict[str, Any], at_hand: bool,
               pod_vms: bool) -> None:
    assert login(given, credentials, environment) == {"options": options, "at_hand": at_hand, "pod_vms": pod_vms}


@pytest.mark.parametrize(("conf", "group"), [
    ({"resourceGroup": "cluster", "vnetResourceGroup": "net"}, "net"),  # ARO: two groups (deployment.md 3.2)
    ({"resourceGroup": "cluster", "vnetResourceGroup": ""}, "cluster"), ({}, "infra"),
])
def test_worker_subnet(conf: dict[str, str], group: str) -> None:
    conf = {**conf, "subscriptionId": "sub", "vnetName": "v", "subnetName": "s"}
    assert worker_subnet(conf, "infra") == (
        f"/subscriptions/sub/resourceGroups/{group}/providers/Microsoft.Network/virtualNetworks/v/subnets/s")


@pytest.mark.parametrize("conf", [{}, {"vnetName": "v"}, {"subnetName": "s", "subscriptionId": "sub"}])
def test_no_worker_subnet(conf: dict[str, str]) -> None:
    assert worker_subnet(conf, "infra") == ""
