"""The roles azure_network and azure_orphans as site.yml and playbooks/azure_orphans.yml run them, against scripted servers over TLS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fake_api import FakeApi
from tests.fake_api.arm import SUBSCRIPTION, FakeArm

ROOT = Path(__file__).parents[3]
BASE = f"/subscriptions/{SUBSCRIPTION}/resourceGroups"
NETWORK = f"{BASE}/net-rg/providers/Microsoft.Network"
SUBNET, GATEWAY = f"{NETWORK}/virtualNetworks/v/subnets/workers", f"{NETWORK}/natGateways/infra-1-coco-nat"
VM = f"{BASE}/infra-rg/providers/Microsoft.Compute/virtualMachines/podvm-dead-0a1b2c3d"
NIC = f"{BASE}/infra-rg/providers/Microsoft.Network/networkInterfaces/podvm-dead-0a1b2c3d-net"
CONF = {"subscriptionId": SUBSCRIPTION, "tenantId": "t", "location": "westeurope", "resourceGroup": "infra-rg",
        "vnetResourceGroup": "net-rg", "vnetName": "v", "subnetName": "workers"}


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with FakeApi() as server:
        server.put({"apiVersion": "config.openshift.io/v1", "kind": "Infrastructure", "metadata": {"name": "cluster"}, "status": {
            "infrastructureName": "infra-1", "platform": "Azure", "platformStatus": {"type": "Azure", "azure": {
                "resourceGroupName": "infra-rg"}}}})
        server.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
            "name": "cloud-conf", "namespace": "openshift-cloud-controller-manager"}, "data": {"cloud.conf": json.dumps(CONF)}})
        yield server


@pytest.fixture
def azure(tmp_path: Path) -> Iterator[FakeArm]:
    with FakeArm(tmp_path) as server:
        server.put(f"{NETWORK}/virtualNetworks/v", location="westeurope", properties={})
        server.put(SUBNET, properties={"addressPrefix": "10.0.1.0/24", "serviceEndpoints": [{"service": "Microsoft.Storage"}]})
        server.put(VM, properties={"timeCreated": "2026-01-01T00:00:00Z", "networkProfile": {"networkInterfaces": [{"id": NIC}]}})
        server.put(NIC, properties={"virtualMachine": {"id": VM}, "ipConfigurations": [{"properties": {"subnet": {"id": SUBNET}}}]})
        yield server


class Runs:
    """Runs a playbook, or an entry point of a role, with ansible-playbook."""

    def __init__(self, api: FakeApi, azure: FakeArm, directory: Path) -> None:
        self.directory, self.azure = directory, azure
        options = azure.options()
        self.variables: dict[str, Any] = {"coco_kubeconfig": api.kubeconfig(), "ansible_python_interpreter": sys.executable,
                                          "coco_azure_login": options}

    def __call__(self, playbook: Path, *more: str, **variables: Any) -> str:
        given = self.directory / "variables.json"
        given.write_text(json.dumps({**self.variables, **variables}))
        self.azure.calls.clear()
        environment = {key: value for key, value in os.environ.items() if not key.upper().startswith(("AZURE", "HTTP", "K8S", "ANSIBLE"))}
        environment |= {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
                        "ANSIBLE_HOME": str(self.directory / "home"), "HOME": str(self.directory), "ANSIBLE_NOCOLOR": "1"}
        (self.directory / "hosts.yml").write_text(json.dumps({"hub": {"hosts": {"one": None}}, "spokes": {"hosts": {"one": None}}}))
        command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(self.directory / "hosts.yml"), "-c", "local",
                   "-e", f"@{given}", *more, str(playbook)]
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "the-secret" not in done.stdout + done.stderr
        return done.stdout

    def role(self, name: str, entry: str, *more: str, **variables: Any) -> str:
        playbook = self.directory / "play.yml"
        playbook.write_text(json.dumps([{"name": "Test", "hosts": "spokes", "gather_facts": False, "module_defaults": {
            "group/confidential.containers.cluster": {"kubeconfig": "{{ coco_kubeconfig }}"}}, "tasks": [{
                "name": "Run", "ansible.builtin.include_role": {"name": f"confidential.containers.{name}", "tasks_from": entry}}]}]))
        return self(playbook, *more, **variables)


@pytest.fixture
def runs(api: FakeApi, azure: FakeArm, tmp_path: Path) -> Runs:
    return Runs(api, azure, tmp_path)


def test_way_out_previewed_made_kept_and_taken_back(runs: Runs, azure: FakeArm) -> None:
    before = dict((azure.get(SUBNET) or {})["properties"])
    for entry, more in (("preview", ()), ("main", ("--check",))):
        text = runs.role("azure_network", entry, *more)
        assert "1 NAT gateway (per hour and per GB)" in text
        assert azure.writes() == []
    assert "changed=0" in runs.role("azure_network", "preview")
    assert "changed=1" in runs.role("azure_network", "main")
    assert (azure.get(SUBNET) or {})["properties"] == {**before, "natGateway": {"id": GATEWAY}}
    assert "changed=0" in runs.role("azure_network", "main")
    assert azure.writes() == []
    (azure.get(GATEWAY) or {})["properties"]["subnets"] = [{"id": SUBNET}]  # as Azure shows it
    assert "changed=1" in runs.role("azure_network", "absent")
    assert (azure.get(SUBNET) or {})["properties"] == before
    assert not [key for key in azure.resources if "coco-nat" in key]
    assert "changed=0" in runs.role("azure_network", "absent")


def test_nothing_where_it_is_not_wanted_or_there_is_no_login(runs: Runs, azure: FakeArm) -> None:
    runs.role("azure_network", "main", coco_azure_network="none")
    runs.role("azure_network", "main", coco_azure_login={})
    runs.role("azure_orphans", "main", coco_azure_login={})
    assert azure.calls == azure.logins == []


def test_orphans_reported_then_deleted(runs: Runs, azure: FakeArm) -> None:
    playbook = ROOT / "playbooks" / "azure_orphans.yml"
    assert "podvm-dead-0a1b2c3d" in runs(playbook)
    runs(playbook, "--check", coco_azure_orphans_delete=True)
    assert azure.writes() == []
    assert "changed=1" in runs(playbook, coco_azure_orphans_delete=True)
    assert azure.writes() == [("DELETE", "podvm-dead-0a1b2c3d"), ("DELETE", "podvm-dead-0a1b2c3d-net")]
    assert "changed=0" in runs(playbook, coco_azure_orphans_delete=True)
