"""inventories/aro on an ARO cluster, with a login in the environment and nothing else.

Two resource groups, a managed one that is locked for the installer, credentials of pod VMs by the Cloud Credential Operator.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.lab import Lab
from tests.integration.seed import at_rest, differences, everything
from tests.integration.test_bad_input import refused
from tests.integration.test_teardown import CORE, OSC
from tests.lab.arm_running import Arm

MANAGED, NETWORK = "/resourcegroups/aro-lab-x7k2p/", "/resourcegroups/lab-network-rg/"


@pytest.fixture(scope="module")
def aro(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab(Path(tmp_path_factory.mktemp("aro") / "state"))
    try:
        lab.lab("up", "--platform", "aro")
        yield lab.as_user("aro")
    finally:
        lab.lab("down", check=False)


@pytest.fixture(scope="module")
def seed(aro: Lab) -> dict[str, Any]:
    """The cluster and its Azure as installed."""
    return at_rest(aro)


def test_a_principal_that_the_managed_group_locks_out(seed: dict[str, Any], aro: Lab) -> None:
    """Refused in preflight, naming assignment and way out; nothing is written in the cluster or at Azure."""
    arm = Arm(aro.facts["azure"])
    own = arm.clients["installer"]
    begun = len(arm.audit())
    refused(aro, "deny assignment", {"coco_cloud_credentials": {
        "AZURE_CLIENT_ID": own["client_id"], "AZURE_CLIENT_SECRET": own["secret"], "AZURE_TENANT_ID": own["tenant"],
        "AZURE_SUBSCRIPTION_ID": arm.facts["subscription"]}})
    assert {one["method"] for one in arm.audit()[begun:]} == {"GET"}


def test_preflight_within_its_calls(seed: dict[str, Any], aro: Lab) -> None:
    """ARO is told from the cluster; at most twelve requests to Azure, the look at what would be created among them."""
    arm = Arm(aro.facts["azure"])
    begun = len(arm.audit())
    run = aro.playbook("preflight")
    assert run.code == 0, run.output
    assert "which passes the cluster's own principal through" in run.output
    assert 0 < len(arm.audit()) - begun <= 12, [one["path"] for one in arm.audit()[begun:]]


def test_site_with_the_clusters_own_principal(seed: dict[str, Any], aro: Lab) -> None:
    """No credential and no id is given: pod VMs and image in the managed group, the NAT gateway in the customer's."""
    run = aro.playbook("site")
    assert run.code == 0, run.output
    assert run.verdict.startswith("the secret reached an attested pod")
    secret = aro.request("GET", f"{CORE}/{OSC}/secrets/peer-pods-secret")
    assert secret["metadata"]["labels"]["kataconfiguration.openshift.io/credentials-request-based"] == "true"
    config = aro.config_map(OSC, "peer-pods-cm")
    assert MANAGED in config["AZURE_IMAGE_ID"].lower() + "/"
    assert config["AZURE_RESOURCE_GROUP"] == "aro-lab-x7k2p"
    assert NETWORK in config["AZURE_SUBNET_ID"].lower()
    arm = Arm(aro.facts["azure"])
    made = arm.resources().keys() - seed.keys()
    assert {key.rpartition("/")[2] for key in made if NETWORK in key} == {"lab-x7k2p-coco-nat", "lab-x7k2p-coco-nat-ip"}
    assert any("/galleries/" in key for key in made if MANAGED in key)
    machines = [one for one in arm.audit() if one["method"] == "PUT" and "/virtualmachines/podvm-" in one["path"].lower()]
    assert {one["client"] for one in machines} == {arm.clients["cluster"]["client_id"]}
    assert all(MANAGED in one["path"].lower() for one in machines)
    again = aro.playbook("site", "--skip-tags", "step13,step14")
    assert (again.code, again.changed) == (0, {}), again.output


def test_teardown_leaves_the_cluster_as_it_was(seed: dict[str, Any], aro: Lab) -> None:
    run = aro.playbook("teardown", variables={"coco_teardown_confirm": "aro-cluster", "coco_teardown_crds": True})
    assert run.code == 0, run.output
    assert differences(seed, everything(aro)) == []
    assert json.dumps(Arm(aro.facts["azure"]).clients["cluster"]["secret"]) not in run.output
