"""One node: its Node object, lease, readiness, reboots and pods (the kubelet's part)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import uuid
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from lab.kube import ApiError, Kube, now
from lab.node_pod import PodWorker
from lab.node_server import KUBELET_PORT, KubeletServer
from lab.node_status import ended
from lab.node_store import Store
from lab.node_volumes import remove

log = logging.getLogger("lab")
Object = dict[str, Any]

REBOOT, REBOOTED = "lab.confidential.containers/reboot", "lab.confidential.containers/rebooted"
STAND_IN = "lab.confidential.containers/stand-in"
REBOOT_SECONDS = 60.0
LEASE_SECONDS = 10
NOT_READY = "node.kubernetes.io/not-ready"
CAPACITY = {"cpu": "8", "memory": "32861756Ki", "pods": "250", "ephemeral-storage": "133682156Ki", "hugepages-1Gi": "0",
            "hugepages-2Mi": "0"}
ERRORS = (ApiError, aiohttp.ClientError, TimeoutError, OSError)


@dataclass(frozen=True)
class Settings:
    """What all nodes of a cluster share."""

    state: Path
    cluster: str
    directory: Path  # <state>/<cluster>
    hosts: str  # LAB_HOSTS of the programs it starts
    tools: Path
    scale: float
    server: str
    authority: str  # base64 of the CA's PEM
    number: int


class NodeAgent:
    """The kubelet and container runtime of one node."""

    def __init__(self, settings: Settings, entry: Object, index: int, kube: Kube, admin: Kube, store: Store) -> None:
        self.settings, self.entry, self.index = settings, entry, index
        self.kube, self.admin, self.store = kube, admin, store
        self.name: str = entry["name"]
        self.address: str = entry["address"]
        self.root = settings.directory / "nodes" / self.name / "root"
        self.down = False
        self.boot_id = str(uuid.uuid4())
        self.object: Object = {}
        self.pods: dict[str, Object] = {}
        self.workers: dict[str, PodWorker] = {}
        self.synced = asyncio.Event()
        self._next = 2
        self._taken: dict[str, str] = {}
        self._events: asyncio.Queue[tuple[Object, str, str, str]] = asyncio.Queue()
        self._counted: dict[tuple[str, str, str], tuple[str, int]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._rebooting = False

    # Registration ---------------------------------------------------------------------------------------------------

    def _new_node(self) -> Object:
        labels = {
            "kubernetes.io/hostname": self.name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
            "beta.kubernetes.io/os": "linux", "beta.kubernetes.io/arch": "amd64",
            "node.openshift.io/os_id": "rhel", **(self.entry.get("labels") or {}),
        }
        taints = self.entry.get("taints")
        if taints is None and "node-role.kubernetes.io/worker" not in labels:
            taints = [{"key": "node-role.kubernetes.io/master", "effect": "NoSchedule"}]
        spec: Object = {"taints": taints or None}
        if self.entry.get("providerID"):
            spec["providerID"] = self.entry["providerID"]
        annotations = {**(self.entry.get("annotations") or {}), STAND_IN: "lab-node"}
        return {"apiVersion": "v1", "kind": "Node", "spec": spec,
                "metadata": {"name": self.name, "labels": labels, "annotations": annotations}}

    def _condition(self, kind: str, status: str, reason: str, message: str) -> Object:
        before = next((c for c in (self.object.get("status") or {}).get("conditions") or [] if c["type"] == kind), None)
        changed = before["lastTransitionTime"] if before and before["status"] == status else now()
        return {"type": kind, "status": status, "reason": reason, "message": message, "lastHeartbeatTime": now(),
                "lastTransitionTime": changed}

    def node_status(self, ready: bool) -> Object:
        """The part of the Node's status that the kubelet writes."""
        given = {**CAPACITY, **(self.entry.get("capacity") or {})}
        capacity = (self.object.get("status") or {}).get("capacity") or {}
        previous = (self.object.get("status") or {}).get("allocatable") or {}
        offered = {k: v for k, v in capacity.items() if "/" in k}
        allocatable: Object = {**given, "cpu": "7500m", "memory": "31710780Ki", **offered}
        if self.entry.get("capacity"):
            allocatable |= self.entry["capacity"]
        allocatable |= {k: None for k in previous if "/" in k and k not in offered}
        ready_condition = ("True", "KubeletReady", "kubelet is posting ready status") if ready else (
            "False", "KubeletNotReady", "container runtime network not ready: the node is rebooting")
        return {
            "capacity": given, "allocatable": allocatable,
            "addresses": [{"type": "InternalIP", "address": self.address}, {"type": "Hostname", "address": self.name}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": KUBELET_PORT}},
            "declaredFeatures": ["ExtendWebSocketsToKubelet"],
            "nodeInfo": {
                "architecture": "amd64", "operatingSystem": "linux", "bootID": self.boot_id,
                "machineID": uuid.uuid5(uuid.NAMESPACE_DNS, self.name).hex,
                "systemUUID": str(uuid.uuid5(uuid.NAMESPACE_DNS, self.name)),
                "kernelVersion": "5.14.0-570.49.1.el9_6.x86_64",
                "osImage": "Red Hat Enterprise Linux CoreOS 9.6.20251013-1 (Plow)",
                "containerRuntimeVersion": "cri-o://1.33.5-2.rhaos4.20.git1dd3a1c.el9",
                "kubeletVersion": "v1.33.5", "kubeProxyVersion": "",
            },
            "conditions": [
                self._condition("MemoryPressure", "False", "KubeletHasSufficientMemory",
                                "kubelet has sufficient memory available"),
                self._condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
                self._condition("PIDPressure", "False", "KubeletHasSufficientPID",
                                "kubelet has sufficient PID available"),
                self._condition("Ready", *ready_condition),
            ],
        }

    async def register(self) -> None:
        """Create the Node (with the admin identity: a kubelet may not give itself roles) and declare it ready."""
        for name in ("run/netns", "run/peerpod", "etc/crio/crio.conf.d", "var/lib/kubelet", "dev", "sys", "lib/modules"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        try:
            self.object = await self.admin.create(self._new_node())
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
            found = await self.admin.get("v1", "Node", self.name)
            self.object = found or {}
            pending = self.annotations().get(REBOOT)
            if not pending or pending == self.annotations().get(REBOOTED):
                self.boot_id = (self.object.get("status") or {}).get("nodeInfo", {}).get("bootID") or self.boot_id
        await self.write_node(True)

    async def write_node(self, ready: bool) -> None:
        """Write status and the not-ready taint."""
        self.object = await self.kube.patch("v1", "Node", self.name, {"status": self.node_status(ready)},
                                            subresource="status", type="strategic")
        await self._write_taint(ready)

    async def _write_taint(self, ready: bool) -> None:
        """What the node lifecycle controller does: the not-ready taint follows the condition."""
        taints = self.object.get("spec", {}).get("taints") or []
        kept = [t for t in taints if t["key"] != NOT_READY]
        wanted = kept if ready else [*kept, {"key": NOT_READY, "effect": "NoSchedule"}]
        if [(t["key"], t["effect"]) for t in wanted] != [(t["key"], t["effect"]) for t in taints]:
            self.object = await self.admin.patch("v1", "Node", self.name, {"spec": {"taints": wanted or None}})

    def annotations(self) -> dict[str, str]:
        return self.object.get("metadata", {}).get("annotations") or {}

    def allocatable(self) -> dict[str, str]:
        return (self.object.get("status") or {}).get("allocatable") or {}

    # Running --------------------------------------------------------------------------------------------------------

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("node %s: %r", self.name, task.exception(), exc_info=task.exception())

    async def start(self) -> None:
        self.server = KubeletServer(self)
        pki = self.settings.directory / "pki"
        await self.server.start(f"127.{self.address.partition('.')[2]}", pki / f"kubelet-{self.name}.crt",
                                pki / f"kubelet-{self.name}.key", pki / "ca.crt")
        for work in (self._follow_pods(), self._heartbeat(), self._record_events()):
            self._spawn(work)

    async def stop(self) -> None:
        """End cleanly: pod VMs are stopped first, while their adaptors still run."""
        workers = [w for w in self.workers.values() if not w.gone]
        for virtual in (True, False):
            await asyncio.gather(*(w.halt() for w in workers if w.virtual == virtual))
        for task in list(self._tasks):
            task.cancel()
        await self.server.stop()

    async def _follow_pods(self) -> None:
        async for kind, pod in self.kube.watch("v1", "Pod", field_selector=f"spec.nodeName={self.name}"):
            if kind == "SYNCED":
                self.synced.set()
                continue
            uid = pod["metadata"]["uid"]
            if kind == "DELETED":
                self.pods.pop(uid, None)
                worker = self.workers.get(uid)
                if worker is not None:
                    worker.terminate(forced=True)
                continue
            self.pods[uid] = pod
            if not self.down:
                self._see(pod)

    def _see(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        worker = self.workers.get(uid)
        if worker is None:
            worker = self.workers[uid] = PodWorker(self, pod)
            worker.start()
        else:
            worker.update(pod)

    def forget(self, worker: PodWorker) -> None:
        """A pod's end is complete. (The worker stays known while its object lasts: a finalizer may hold it.)"""
        self._taken.pop(worker.addresses["podIP"], None)
        if worker.uid not in self.pods:
            self.workers.pop(worker.uid, None)

    def find(self, namespace: str, name: str) -> PodWorker | None:
        return next((w for w in self.workers.values()
                     if w.pod["metadata"]["namespace"] == namespace and w.pod["metadata"]["name"] == name
                     and not w.gone), None)

    def named_object_changed(self, kind: str, namespace: str, name: str) -> None:
        for worker in self.workers.values():
            if worker.pod["metadata"]["namespace"] == namespace and (kind, name) in worker.references:
                worker.named_object_changed()

    # Addresses ------------------------------------------------------------------------------------------------------

    def address_of(self, pod: Object) -> str:
        """The pod's address: the node's, the one its status has (a restart may not change it), or a free one."""
        if pod["spec"].get("hostNetwork"):
            return self.address
        uid, known = pod["metadata"]["uid"], (pod.get("status") or {}).get("podIP")
        if known:
            self._taken[known] = uid
            return str(known)
        used = set(self._taken) | {str((p.get("status") or {}).get("podIP")) for p in self.pods.values() if not ended(p)}
        prefix = f"10.{self.settings.number}.{self.index + 1}."
        for _ in range(253):
            address, self._next = f"{prefix}{self._next}", self._next % 254 + 1
            if address not in used and not address.endswith(".1"):
                self._taken[address] = uid
                return address
        raise OSError(f"node {self.name} has no free pod address")

    # Events ---------------------------------------------------------------------------------------------------------

    def record(self, obj: Object, type: str, reason: str, message: str) -> None:
        """Record an event in order, without waiting for the API."""
        self._events.put_nowait((obj, type, reason, message))

    async def _record_events(self) -> None:
        while True:
            obj, type, reason, message = await self._events.get()
            meta = obj["metadata"]
            key = (meta.get("uid", ""), reason, message)
            name, count = self._counted.get(key, ("", 0))
            if not name or not await self._count(name, meta.get("namespace") or "default", count + 1):
                name, count = f"{meta['name'][:200]}.{random.getrandbits(64):016x}", 0
                await self._first_event(obj, name, type, reason, message)
            self._counted[key] = (name, count + 1)
            while len(self._counted) > 1000:
                self._counted.pop(next(iter(self._counted)))

    async def _count(self, name: str, namespace: str, count: int) -> bool:
        """Count an event that was seen before; False where it has expired."""
        try:
            await self.kube.patch("v1", "Event", name, {"count": count, "lastTimestamp": now()}, namespace)
        except ApiError as error:
            return error.status != 404
        except (aiohttp.ClientError, TimeoutError, OSError):
            pass
        return True

    async def _first_event(self, obj: Object, name: str, type: str, reason: str, message: str) -> None:
        meta, stamp = obj["metadata"], now()
        try:
            await self.kube.create({
                "apiVersion": "v1", "kind": "Event",
                "metadata": {"name": name, "namespace": meta.get("namespace") or "default"},
                "involvedObject": {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "name": meta["name"],
                                   "namespace": meta.get("namespace", ""), "uid": meta.get("uid", ""),
                                   "resourceVersion": meta.get("resourceVersion", "")},
                "type": type, "reason": reason, "message": message,
                "source": {"component": "kubelet", "host": self.name}, "reportingComponent": "kubelet",
                "reportingInstance": self.name, "firstTimestamp": stamp, "lastTimestamp": stamp, "count": 1,
            })
        except ApiError as error:
            if error.status not in (403, 404):  # the namespace is being removed
                log.warning("event %s not recorded: %s", reason, error)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            log.warning("event %s not recorded: %r", reason, error)

    # Heartbeat, extended resources, reboots ---------------------------------------------------------------------------

    async def _heartbeat(self) -> None:
        while True:
            if not self.down:
                try:
                    await self._renew_lease()
                except ERRORS as error:
                    log.warning("node %s: lease: %r", self.name, error)
            await asyncio.sleep(LEASE_SECONDS)

    async def _renew_lease(self) -> None:
        stamp = now().replace("Z", ".000000Z")
        api = ("coordination.k8s.io/v1", "Lease")
        try:
            await self.kube.patch(*api, self.name, {"spec": {"renewTime": stamp}}, "kube-node-lease")
        except ApiError as error:
            if error.status != 404:
                raise
            with contextlib.suppress(ApiError):
                await self.kube.create({
                    "apiVersion": api[0], "kind": api[1], "metadata": {"name": self.name, "namespace": "kube-node-lease"},
                    "spec": {"holderIdentity": self.name, "leaseDurationSeconds": 40, "renewTime": stamp}})

    def node_changed(self, node: Object) -> None:
        """The Node object changed: capacity written by others, a reboot asked for."""
        if node["metadata"]["resourceVersion"] and self.object and (
                int(node["metadata"]["resourceVersion"]) < int(self.object["metadata"]["resourceVersion"])):
            return
        self.object = node
        wanted = self.annotations().get(REBOOT)
        if wanted and wanted != self.annotations().get(REBOOTED) and not self._rebooting:
            self._rebooting = True
            self._spawn(self._reboot(wanted))
            return
        status = node.get("status") or {}
        offered = {k: v for k, v in (status.get("capacity") or {}).items() if "/" in k}
        allocatable = {k: v for k, v in (status.get("allocatable") or {}).items() if "/" in k}
        if offered != allocatable and not self.down:
            self._spawn(self._copy_capacity())
        elif not self.down and any(t["key"] == NOT_READY for t in node["spec"].get("taints") or []):
            self._spawn(self._quietly(self._write_taint(True)))

    async def _copy_capacity(self) -> None:
        """Extended resources: allocatable follows capacity."""
        await self._quietly(self.write_node(True))

    async def _quietly(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except ERRORS as error:
            log.warning("node %s: %r", self.name, error)

    async def _until_done(self, action: Any) -> None:
        while True:
            try:
                await action()
                return
            except ERRORS as error:
                log.warning("node %s: %r; trying again", self.name, error)
                await asyncio.sleep(0.5)

    async def _reboot(self, mark: str) -> None:
        """Stop the node's pods, be away for a while, come back with another boot id."""
        log.info("node %s: reboot %s", self.name, mark)
        await self.admin.event(self.object, "Normal", "NodeNotReady", f"Node {self.name} status is now: NodeNotReady",
                               "kubelet")
        self.down = True
        workers = [w for w in self.workers.values() if not w.gone]
        await asyncio.gather(*(w.halt() for w in workers), return_exceptions=True)
        self.workers.clear()
        await self._until_done(lambda: self.write_node(False))
        await self._mark_pods_unready()
        remove(self.root / "run")
        for name in ("run/netns", "run/peerpod"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        await asyncio.sleep(REBOOT_SECONDS * self.settings.scale)
        self.boot_id = str(uuid.uuid4())
        self.down = False
        await self._until_done(lambda: self.admin.patch("v1", "Node", self.name,
                                                        {"metadata": {"annotations": {REBOOTED: mark}}}))
        await self._until_done(lambda: self.write_node(True))
        await self.admin.event(self.object, "Warning", "Rebooted",
                               f"Node {self.name} has been rebooted, boot id: {self.boot_id}", "kubelet")
        await self.admin.event(self.object, "Normal", "NodeReady", f"Node {self.name} status is now: NodeReady", "kubelet")
        self._rebooting = False
        for pod in list(self.pods.values()):
            self._see(pod)
        log.info("node %s: ready again, boot id %s", self.name, self.boot_id)

    async def _mark_pods_unready(self) -> None:
        """What the node lifecycle controller does to the pods of a node that is not ready."""
        for pod in list(self.pods.values()):
            if ended(pod):
                continue
            meta = pod["metadata"]
            ready = {"type": "Ready", "status": "False", "lastTransitionTime": now()}
            with contextlib.suppress(*ERRORS):
                await self.admin.patch("v1", "Pod", meta["name"], {"metadata": {"uid": meta["uid"]},
                                                                   "status": {"conditions": [ready]}},
                                       meta["namespace"], "status", "strategic")
