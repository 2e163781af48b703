"""The lab's Azure behind site.yml: preflight asks it, step 5 gives the subnet a way out, pod VMs are machines in it, orphans are found."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.contract.cluster import until
from tests.integration.lab import Lab
from tests.integration.test_bad_input import refused
from tests.integration.test_teardown import start
from tests.lab.arm_running import Arm

CALLS = 12  # of preflight, for one cluster
MACHINE, NIC, DISK = "microsoft.compute/virtualmachines", "microsoft.network/networkinterfaces", "microsoft.compute/disks"


@pytest.fixture
def arm(virgin: Lab) -> Arm:
    return Arm(virgin.facts["azure"])


def variables(arm: Arm, name: str, **more: Any) -> dict[str, Any]:
    """Another principal for everything."""
    client = arm.clients[name]
    login = {"adfs_authority_url": arm.facts["authority"], "arm_endpoint": arm.facts["endpoint"], "azure_ca_cert": arm.facts["ca"]}
    return {"coco_azure_login": login, "coco_cloud_credentials": {
        "AZURE_CLIENT_ID": client["client_id"], "AZURE_CLIENT_SECRET": client["secret"], "AZURE_TENANT_ID": client["tenant"],
        "AZURE_SUBSCRIPTION_ID": arm.facts["subscription"]}, **more}


def writes(arm: Arm, since: int = 0) -> list[str]:
    return [f"{one['method']} {one['path'].rpartition('/')[2]}" for one in arm.audit()[since:] if one["method"] != "GET"]


def of(arm: Arm, kind: str) -> set[str]:
    """The names of the resources of a kind, those of the nodes left out."""
    return {one["name"] for one in arm.resources().values() if one["type"].lower() == kind and one["name"].startswith("podvm-")}


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
def test_refused_before_anything_is_written(virgin: Lab, arm: Arm, pattern: str, name: str, more: dict[str, Any]) -> None:
    refused(virgin, pattern, variables(arm, name, **more))
    assert writes(arm) == []


def test_preflight_says_what_it_would_cost(virgin: Lab, arm: Arm) -> None:
    """With inventories/azure as it stands, and a login in the environment."""
    begun = len(arm.audit())
    run = virgin.as_user("azure").playbook("preflight")
    assert run.code == 0, run.output
    assert "1 NAT gateway (per hour and per GB)" in run.output
    assert writes(arm) == []
    assert len(arm.audit()) - begun <= CALLS, [one["path"] for one in arm.audit()[begun:]]


def test_site(virgin: Lab, arm: Arm) -> None:
    """Address, gateway and subnet are written once, the image by the operator's job; of the probes nothing is left.

    A second run writes nothing anywhere.
    """
    before = arm.resources()
    first = virgin.playbook("site")
    assert first.code == 0, first.output
    assert first.verdict.startswith("the secret reached an attested pod"), first.output
    made = sorted(key.rpartition("/")[2] for key in arm.resources().keys() - before.keys())
    assert re.fullmatch(r"\d+\.0\.1", made[0]), made
    assert made[1:] == ["lab-x7k2p-coco-nat", "lab-x7k2p-coco-nat-ip", "podvm-image", "podvmgallery_b4c1d2e3"]
    assert not before.keys() - arm.resources().keys()
    assert arm.clients["installer"]["secret"] not in first.output
    mine, begun = virgin.owned(), len(arm.audit())
    second = virgin.playbook("site", "--skip-tags", "step13,step14")
    assert (second.code, second.changed) == (0, {}), second.output
    assert writes(arm, begun) == []
    assert virgin.owned() == mine


def kill_adaptors(lab: Lab, begun: threading.Event, enough: threading.Event) -> None:
    """Kill every lab-caa of this lab as often as it comes back, until it is ``enough``; they are dead once it has ``begun``."""
    while not enough.wait(0.02):
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if b"lab.caa" in (path / "cmdline").read_bytes() and str(lab.state).encode() in (path / "environ").read_bytes():
                    os.kill(int(path.name), signal.SIGKILL)
        begun.set()


def test_an_orphan_is_found_and_deleted(deployed: Lab) -> None:
    """A pod that goes while its adaptor is dead leaves a machine that costs money; a pod that lives keeps its own."""
    arm = Arm(deployed.facts["azure"])
    for name in ("gone", "alive"):
        start(deployed, name)
    pods = "/api/v1/namespaces/default/pods"
    until(lambda: all(deployed.request("GET", f"{pods}/{name}")["status"]["phase"] == "Running" for name in ("gone", "alive")))
    gone, alive = sorted(of(arm, MACHINE), key=lambda name: "alive" in name)
    assert [name.rpartition("-")[0] for name in (gone, alive)] == ["podvm-gone", "podvm-alive"]
    begun, enough = threading.Event(), threading.Event()
    killing = threading.Thread(target=kill_adaptors, args=(deployed, begun, enough))
    killing.start()
    try:
        assert begun.wait(10)
        deployed.request("DELETE", f"{pods}/gone")
        until(lambda: deployed.request("GET", f"{pods}/gone") is None)
    finally:
        enough.set()
        killing.join()
    assert gone in of(arm, MACHINE), "the machine stays behind"
    peer_pods = "/apis/confidentialcontainers.org/v1alpha1/namespaces/default/peerpods"
    until(lambda: all(one["metadata"].get("deletionTimestamp") for one in deployed.request("GET", peer_pods)["items"]
                      if one["metadata"]["name"].startswith("gone-")))  # the garbage collector comes later
    minutes = {"azure_orphans_minutes": 0}
    mark = len(arm.audit())
    told = deployed.playbook("azure_orphans", variables=minutes)
    assert told.code == 0, told.output
    for line in (f"Orphan: vm {gone} (no pod and no PeerPod belongs to it)", f"nic {gone}-net", f"disk {gone}-disk"):
        assert line in told.output
    assert "alive" not in "".join(line for line in told.output.splitlines() if "Orphan:" in line)
    assert writes(arm, mark) == []
    for changed in (1, 0):
        run = deployed.playbook("azure_orphans", variables={**minutes, "coco_azure_orphans_delete": True})
        assert (run.code, f"changed={changed} " in run.output) == (0, True), run.output
    assert (of(arm, MACHINE), of(arm, NIC), of(arm, DISK)) == ({alive}, {f"{alive}-net"}, {f"{alive}-disk"})
    assert deployed.request("GET", f"{pods}/alive")["status"]["phase"] == "Running"
