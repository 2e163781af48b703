"""site.yml with Azure Resource Manager (lab-arm) behind the lab's cluster: preflight asks it, step 5 gives the subnet a way out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.lab import Lab
from tests.integration.test_bad_input import refused
from tests.lab.arm_running import Running

CALLS = 12  # of preflight, for one cluster


@pytest.fixture(scope="module")
def arm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(tmp_path_factory.mktemp("arm"), "azure")
    yield running
    running.stop()


def variables(arm: Running, name: str = "installer", **more: Any) -> dict[str, Any]:
    """What an inventory says to reach lab-arm; pod VMs and controller log in as the same principal."""
    client = arm.clients[name]
    return {
        "coco_azure": "auto", "coco_azure_network": "auto", "coco_azure_login": {
            "adfs_authority_url": arm.facts["authority"], "arm_endpoint": arm.facts["endpoint"], "azure_ca_cert": arm.facts["ca"]},
        "coco_cloud_credentials": {"AZURE_CLIENT_ID": client["client_id"], "AZURE_CLIENT_SECRET": client["secret"],
                                   "AZURE_TENANT_ID": client["tenant"], "AZURE_SUBSCRIPTION_ID": arm.facts["subscription"]}, **more}


def writes(arm: Running) -> list[str]:
    return [f"{one['method']} {one['path'].rpartition('/')[2]}" for one in arm.audit() if one["method"] != "GET"]


@pytest.mark.parametrize(("pattern", "name", "more"), [
    (r"Microsoft\.Network/natGateways/write", "reader", {}),
    ("expired", "expired", {}),
    ("Standard_EC2ads_v5", "installer", {"coco_peerpods": {"AZURE_INSTANCE_SIZE": "Standard_EC2ads_v5",
                                                         "AZURE_INSTANCE_SIZES": "Standard_EC2ads_v5"}}),
    ("leaves 64", "installer", {"coco_azure_pods": 40}),
    ("ResourceGroupNotFound", "installer", {"coco_peerpods": {"AZURE_SUBNET_ID": (
        "/subscriptions/6f3a1c52-0b7d-4f0e-9a55-2d4c8e1b7a10/resourceGroups/nowhere/providers/Microsoft.Network/virtualNetworks/v/"
        "subnets/s")}}),
])
def test_refused_before_anything_is_written(virgin: Lab, arm: Running, pattern: str, name: str, more: dict[str, Any]) -> None:
    refused(virgin, pattern, variables(arm, name, **more))
    assert writes(arm) == []


def test_preflight_says_what_it_would_cost(virgin: Lab, arm: Running) -> None:
    begun = len(arm.audit())
    run = virgin.playbook("preflight", variables=variables(arm))
    assert run.code == 0, run.output
    assert "1 NAT gateway (per hour and per GB)" in run.output
    assert writes(arm) == []
    assert len(arm.audit()) - begun <= CALLS, [one["path"] for one in arm.audit()[begun:]]


def test_site(virgin: Lab, arm: Running) -> None:
    """The proof is reached, with address, gateway and subnet written once; a second run writes nothing anywhere."""
    first = virgin.playbook("site", variables=variables(arm))
    assert first.code == 0, first.output
    assert first.verdict.startswith("the secret reached an attested pod"), first.output
    assert [line.partition(" ")[0] for line in writes(arm)] == ["PUT"] * 3
    assert arm.clients["installer"]["secret"] not in first.output
    before = virgin.owned()
    second = virgin.playbook("site", "--skip-tags", "step13,step14", variables=variables(arm))
    assert (second.code, second.changed) == (0, {}), second.output
    assert len(writes(arm)) == 3
    assert virgin.owned() == before
