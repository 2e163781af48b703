"""lab-mco: stands in for the Machine Config Operator: its controller and the daemons of all nodes.

Facts: reference/operators.md section 5. A reboot is asked of lab-node by an annotation and awaited.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import shutil
import sys
import time
import uuid
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from lab import program
from lab.kube import ApiError, Controller, Kube, now, owner_reference
from lab.paths import time_scale

log = logging.getLogger("lab")

API = "machineconfiguration.openshift.io/v1"
PREFIX = "machineconfiguration.openshift.io/"
REBOOT, REBOOTED = "lab.confidential.containers/reboot", "lab.confidential.containers/rebooted"
#: Seconds in which changes gather before a pool is rendered, and before a node is told: the operator's renderDelay and updateDelay.
GATHERING = 5
EXTENSION_FILES = {"sandboxed-containers": ("etc/crio/crio.conf.d/50-kata", "etc/crio/crio.conf.d/50-kata-remote")}

Object = dict[str, Any]


def matches(selector: Object | None, labels: dict[str, str]) -> bool:
    """A label selector against labels; an absent selector matches nothing."""
    if selector is None:
        return False
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for rule in selector.get("matchExpressions") or []:
        value, operator = labels.get(rule["key"]), rule["operator"]
        if operator == "In" and value not in rule["values"]:
            return False
        if operator == "NotIn" and value in rule["values"]:
            return False
        if operator == "Exists" and value is None:
            return False
        if operator == "DoesNotExist" and value is not None:
            return False
    return True


def pool_of(labels: dict[str, str], pools: list[Object]) -> str | None:
    """The pool a node belongs to: master, else a custom pool, else worker."""
    names = [p["metadata"]["name"] for p in pools if matches(p["spec"].get("nodeSelector"), labels)]
    if "master" in names:
        return "master"
    custom = [name for name in names if name != "worker"]
    return custom[0] if custom else (names[0] if names else None)


def render(pool: Object, configs: list[Object]) -> Object:
    """The rendered MachineConfig of a pool: name by content, extensions and kernel arguments merged."""
    name = pool["metadata"]["name"]
    chosen = sorted((c for c in configs if matches(pool["spec"].get("machineConfigSelector"),
                                                   c["metadata"].get("labels") or {})
                     and not c["metadata"]["name"].startswith("rendered-")), key=lambda c: str(c["metadata"]["name"]))
    spec: Object = {"config": {"ignition": {"version": "3.4.0"}}, "extensions": [], "kernelArguments": []}
    for config in chosen:
        for field in ("extensions", "kernelArguments"):
            spec[field] += [v for v in config["spec"].get(field) or [] if v not in spec[field]]
    content = [[c["metadata"]["name"], c["spec"]] for c in chosen]
    digest = hashlib.md5(json.dumps(content, sort_keys=True).encode(), usedforsecurity=False).hexdigest()
    return {
        "apiVersion": API, "kind": "MachineConfig",
        "metadata": {"name": f"rendered-{name}-{digest}",
                     "annotations": {PREFIX + "generated-by-controller-version": "lab-mco"},
                     "ownerReferences": [owner_reference(pool)]},
        "spec": spec, "source": [c["metadata"]["name"] for c in chosen],
    }


def annotation(node: Object, name: str) -> str:
    return str((node["metadata"].get("annotations") or {}).get(PREFIX + name, ""))


def is_ready(node: Object) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in node.get("status", {}).get("conditions", []))


def pool_status(pool: Object, target: str, nodes: list[Object]) -> Object:
    """The status of a pool from its nodes."""
    updated = [n for n in nodes if annotation(n, "currentConfig") == annotation(n, "desiredConfig") == target
               and annotation(n, "state") == "Done"]
    ready = [n for n in updated if is_ready(n) and not n["spec"].get("unschedulable")]
    unavailable = [n for n in nodes if not is_ready(n) or n["spec"].get("unschedulable") or annotation(n, "state") == "Working"]
    degraded = [n for n in nodes if annotation(n, "state") in ("Degraded", "Unreconcilable")]
    name, paused = pool["metadata"]["name"], bool(pool["spec"].get("paused"))
    settled = len(updated) == len(ready) == len(nodes) and not unavailable
    before = {c["type"]: c for c in pool.get("status", {}).get("conditions", [])}

    def condition(kind: str, value: bool, reason: str = "", message: str = "") -> Object:
        status = "True" if value else "False"
        old = before.get(kind)
        stamp = old["lastTransitionTime"] if old and old["status"] == status else now()
        return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": stamp}

    node_reason = f"{len(degraded)} nodes are reporting degraded status on sync" if degraded else ""
    node_message = ", ".join(f'Node {n["metadata"]["name"]} is reporting: "{annotation(n, "reason")}"' for n in degraded)
    updating = not settled and not paused
    message = f"All nodes are updating to MachineConfig {target}" if updating else ""
    if paused and not settled:
        message = f"Pool is paused; will not update to MachineConfig {target}"
    status: Object = {
        "observedGeneration": pool["metadata"]["generation"], "machineCount": len(nodes),
        "updatedMachineCount": len(updated), "readyMachineCount": len(ready),
        "unavailableMachineCount": len(unavailable), "degradedMachineCount": len(degraded),
        "conditions": [
            condition("NodeDegraded", bool(degraded), node_reason, node_message),
            condition("Degraded", bool(degraded)),
            condition("RenderDegraded", False),
            condition("Updated", settled, message=f"All nodes are updated with MachineConfig {target}" if settled else ""),
            condition("Updating", updating, message=message),
        ],
    }
    if settled:
        status["configuration"] = pool["spec"].get("configuration", {"name": target})
    log.debug("%s: %s", name, status)
    return status


class Operator:
    """The controller; one rollout at a time in each pool."""

    def __init__(self, kube: Kube, roots: Path) -> None:
        self.kube, self.roots = kube, roots
        self.controller = Controller(kube, "machine-config-controller", self.reconcile)

        def everything(obj: Object) -> list[str]:
            return list(self.controller.store["MachineConfigPool"])

        self.controller.watch(API, "MachineConfigPool", map=everything)
        self.controller.watch(API, "MachineConfig", map=everything)
        self.controller.watch("v1", "Node", map=everything)
        self.rolling: dict[str, asyncio.Task[None]] = {}
        self.gathering: dict[tuple[str, str], float] = {}

    def nodes_of(self, name: str) -> list[Object]:
        pools = list(self.controller.store["MachineConfigPool"].values())
        nodes = self.controller.store["Node"].values()
        return sorted((n for n in nodes if pool_of(n["metadata"].get("labels") or {}, pools) == name),
                      key=lambda n: str(n["metadata"]["name"]))

    async def reconcile(self, key: str) -> float | None:
        pool = self.controller.store["MachineConfigPool"].get(key)
        if pool is None or pool["metadata"].get("deletionTimestamp"):
            return None
        rendered = render(pool, list(self.controller.store["MachineConfig"].values()))
        source = rendered.pop("source")
        target = rendered["metadata"]["name"]
        wanted = {"name": target, "source": [{"apiVersion": API, "kind": "MachineConfig", "name": n} for n in source]}
        current = pool["spec"].get("configuration") or {}
        changed = current.get("name") != target or [s["name"] for s in current.get("source") or []] != source
        later = self.gathers(key, "render", changed)
        if later:
            target = current.get("name", "")
            if not target:
                return later
        elif changed:
            await self.kube.ensure(rendered)
            pool = await self.kube.patch(API, "MachineConfigPool", key, {"spec": {"configuration": wanted}})
            log.info("pool %s: configuration %s", key, target)
        nodes = self.nodes_of(key)
        for node in nodes:
            if not annotation(node, "currentConfig"):
                await self.annotate(node, currentConfig=target, desiredConfig=target, state="Done", reason="")
        status = pool_status(pool, target, nodes)
        if any(pool.get("status", {}).get(k) != v for k, v in status.items()):
            await self.kube.patch_status(pool, status)
        if later:
            return later
        behind = [n for n in nodes if annotation(n, "currentConfig") and annotation(n, "state") != "Degraded"
                  and (annotation(n, "currentConfig") != target or annotation(n, "state") != "Done")]
        running = self.rolling.get(key)
        due = bool(behind) and not pool["spec"].get("paused") and (running is None or running.done())
        later = self.gathers(key, "update", due)
        if due and not later:
            behind.sort(key=lambda n: annotation(n, "state") != "Working")
            self.rolling[key] = asyncio.ensure_future(self.roll(pool, behind[0]["metadata"]["name"], target, rendered))
        return later

    def gathers(self, pool: str, what: str, due: bool) -> float | None:
        """Seconds until something that is due is done; None when the time has come, or nothing is due."""
        if due:
            began = self.gathering.setdefault((pool, what), time.monotonic())
            left = began + GATHERING * time_scale() - time.monotonic()
            if left > 0:
                return left
        self.gathering.pop((pool, what), None)
        return None

    async def annotate(self, node: Object, **values: str) -> None:
        await self.kube.patch("v1", "Node", node["metadata"]["name"],
                              {"metadata": {"annotations": {PREFIX + k: v for k, v in values.items()}}})

    async def roll(self, pool: Object, name: str, target: str, rendered: Object) -> None:
        """Bring one node to a configuration."""
        try:
            node = await self.kube.get("v1", "Node", name)
            if node is None or (annotation(node, "currentConfig"), annotation(node, "state")) == (target, "Done"):
                return  # what the reconciliation has seen was older
            pool = {"apiVersion": API, "kind": "MachineConfigPool", **pool}
            previous = await self.kube.get(API, "MachineConfig", annotation(node, "currentConfig")) or {"spec": {}}
            changed = any((previous["spec"].get(f) or []) != rendered["spec"][f] for f in ("extensions", "kernelArguments"))
            if annotation(node, "desiredConfig") != target:
                await self.annotate(node, desiredConfig=target)
                await self.kube.event(pool, "Normal", "SetDesiredConfig", f"Targeted node {name} to {target}", "lab-mco")
            await self.annotate(node, state="Working", desiredDrain=f"drain-{target}")
            if changed:
                await self.drain(pool, name)
                await self.annotate(node, lastAppliedDrain=f"drain-{target}")
                self.write_files(name, rendered)
                await self.reboot(node)
            await self.annotate(node, desiredDrain=f"uncordon-{target}")
            await self.kube.patch("v1", "Node", name, {"spec": {"unschedulable": None}})
            await self.annotate(node, lastAppliedDrain=f"uncordon-{target}")
            await self.annotate(node, currentConfig=target, state="Done", reason="")
            log.info("node %s: done with %s", name, target)
        except (ApiError, OSError, TimeoutError) as error:
            log.error("node %s: %s", name, error)
            await asyncio.sleep(1)
        finally:
            self.controller.enqueue(pool["metadata"]["name"])

    async def drain(self, pool: Object, name: str) -> None:
        """Cordon the node and evict its pods; DaemonSet pods stay."""
        await self.kube.patch("v1", "Node", name, {"spec": {"unschedulable": True}})
        await self.kube.event(pool, "Normal", "Drain", f"Draining node {name}", "lab-mco")
        while True:
            pods = await self.kube.list("v1", "Pod", field_selector=f"spec.nodeName={name}")
            left = [p for p in pods if p.get("status", {}).get("phase") not in ("Succeeded", "Failed")
                    and not any(o["kind"] == "DaemonSet" for o in p["metadata"].get("ownerReferences") or [])]
            if not left:
                return
            for pod in left:
                if pod["metadata"].get("deletionTimestamp"):
                    continue
                meta = pod["metadata"]
                path = await self.kube.path("v1", "Pod", meta["namespace"], meta["name"])
                try:
                    await self.kube.request("POST", path + "/eviction", {
                        "apiVersion": "policy/v1", "kind": "Eviction",
                        "metadata": {"name": meta["name"], "namespace": meta["namespace"]}})
                except ApiError as error:
                    if error.status not in (404, 429):
                        raise
            await asyncio.sleep(0.3)

    def write_files(self, name: str, rendered: Object) -> None:
        """The files that an extension brings, below the node's root."""
        root = self.roots / name / "root"
        for extension, files in EXTENSION_FILES.items():
            for file in files:
                path = root / file
                if extension in rendered["spec"]["extensions"]:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(f"# {extension}\n")
                elif path.exists():
                    path.unlink()
        (root / "etc").mkdir(parents=True, exist_ok=True)
        shutil.rmtree(root / "run", ignore_errors=True)  # /run is empty after a boot

    async def reboot(self, node: Object) -> None:
        name, token = node["metadata"]["name"], str(uuid.uuid4())
        await self.kube.event({**node, "apiVersion": "v1", "kind": "Node"}, "Normal", "Reboot",
                              "Node will reboot into the new configuration", "lab-mco")
        await self.kube.patch("v1", "Node", name, {"metadata": {"annotations": {REBOOT: token}}})
        log.info("node %s: reboot", name)
        while True:
            found = await self.kube.get("v1", "Node", name)
            if found and (found["metadata"].get("annotations") or {}).get(REBOOTED) == token and is_ready(found):
                return
            await asyncio.sleep(0.2)


def main() -> int:
    options = ArgumentParser()
    for name in ("--state", "--cluster", "--kubeconfig"):
        options.add_argument(name, required=True)
    chosen = options.parse_args()

    async def work() -> None:
        kube = Kube.from_kubeconfig(chosen.kubeconfig, agent="lab-mco")
        try:
            await Operator(kube, Path(chosen.state) / chosen.cluster / "nodes").controller.run()
        finally:
            await kube.close()

    return program.main("lab-mco", "the Machine Config Operator", "OpenShift 4.20", work)


if __name__ == "__main__":
    sys.exit(main())
