"""lab-mco beside the Machine Config Operator (operators.md 5)."""

from __future__ import annotations

import time
from typing import Any

from tests.contract.cluster import history, until
from tests.integration.lab import Lab

MACHINES = "/apis/machineconfiguration.openshift.io/v1"
POOL = f"{MACHINES}/machineconfigpools/worker"
NODES = "/api/v1/nodes"
PREFIX = "machineconfiguration.openshift.io/"


def conditions(pool: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {item["type"]: (item["status"], item.get("message", "")) for item in pool["status"]["conditions"]}


def settled(pool: dict[str, Any]) -> bool:
    status = pool["status"]
    return bool(pool["spec"]["configuration"]["name"] == status["configuration"]["name"]
                and conditions(pool)["Updated"][0] == "True")


def test_paused_then_rolled_out(cluster: Lab) -> None:
    """Paused: Updated and Updating False, with the words; afterwards a rollout whose status shows the old configuration to its end.

    In the end every count equals machineCount, every node is uncordoned, Done, and current is desired (section 5). Changes gather for
    five seconds (renderDelay of the operator's render controller, scaled here); each node is worked on once.
    """
    old = until(lambda: (pool := cluster.request("GET", POOL)) and settled(pool) and pool)
    before = old["status"]["configuration"]["name"]
    assert conditions(old)["Updated"] == ("True", f"All nodes are updated with MachineConfig {before}")
    cluster.request("PATCH", POOL, {"spec": {"paused": True}})
    since, began = cluster.request("GET", NODES)["metadata"]["resourceVersion"], time.monotonic()
    cluster.request("POST", f"{MACHINES}/machineconfigs", {
        "apiVersion": "machineconfiguration.openshift.io/v1", "kind": "MachineConfig",
        "metadata": {"name": "99-contract", "labels": {f"{PREFIX}role": "worker"}},
        "spec": {"config": {"ignition": {"version": "3.4.0"}}, "kernelArguments": ["contract=1"]}})

    def paused() -> Any:
        pool = cluster.request("GET", POOL)
        name = pool["spec"]["configuration"]["name"]
        return name != before and conditions(pool)["Updating"] == (
            "False", f"Pool is paused; will not update to MachineConfig {name}") and pool
    pool = until(paused)
    assert time.monotonic() - began >= 5 * cluster.facts["time_scale"]
    after = pool["spec"]["configuration"]["name"]
    assert conditions(pool)["Updated"][0] == "False"
    assert pool["status"]["configuration"]["name"] == before

    cluster.request("PATCH", POOL, {"spec": {"paused": False}})
    pool = until(lambda: (pool := cluster.request("GET", POOL)) and conditions(pool)["Updating"][0] == "True" and pool)
    assert conditions(pool)["Updating"][1] == f"All nodes are updating to MachineConfig {after}"
    assert pool["status"]["configuration"]["name"] == before
    pool = until(lambda: (pool := cluster.request("GET", POOL)) and settled(pool) and pool, 120)
    status = pool["status"]
    assert status["configuration"]["name"] == after
    assert status["machineCount"] == status["updatedMachineCount"] == status["readyMachineCount"] > 0
    assert status["unavailableMachineCount"] == status["degradedMachineCount"] == 0
    assert status["observedGeneration"] == pool["metadata"]["generation"]
    nodes = cluster.request("GET", f"{NODES}?labelSelector=node-role.kubernetes.io/worker")["items"]
    moved = [node for node in nodes if node["metadata"]["annotations"][f"{PREFIX}currentConfig"] == after]
    assert len(moved) == status["machineCount"]
    for node in moved:
        notes = node["metadata"]["annotations"]
        assert (notes[f"{PREFIX}desiredConfig"], notes[f"{PREFIX}state"]) == (after, "Done")
        assert notes[f"{PREFIX}lastAppliedDrain"] == notes[f"{PREFIX}desiredDrain"] == f"uncordon-{after}"
        assert not node["spec"].get("unschedulable")
    for events in history(cluster, since, *(f"{NODES}/{node['metadata']['name']}" for node in moved)).values():
        states = [event.value["metadata"]["annotations"][f"{PREFIX}state"] for event in events]
        assert [state for number, state in enumerate(states) if state != states[number - 1] or not number] in (
            ["Done", "Working", "Done"], ["Working", "Done"])
