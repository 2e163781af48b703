"""The scheduler: binds pods to nodes, and says why it cannot."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import aiohttp

from lab.kube import ApiError, Kube, key_of, now
from lab.node_schedule import place
from lab.node_status import ended

log = logging.getLogger("lab")
Object = dict[str, Any]


class Scheduler:
    """Watches pods and nodes; ``seen`` is told of every Node."""

    def __init__(self, kube: Kube, seen: Callable[[Object], None]) -> None:
        self.kube, self.seen = kube, seen
        self.nodes: dict[str, Object] = {}
        self.pods: dict[str, Object] = {}
        self._told: dict[str, str] = {}
        self._wake = asyncio.Event()
        self._unsynced = 2

    async def follow(self, kind: str) -> None:
        """Watch Pods or Nodes for ever."""
        store = self.pods if kind == "Pod" else self.nodes
        synced = False
        async for type, obj in self.kube.watch("v1", kind):
            if type == "SYNCED":
                self._unsynced -= 0 if synced else 1
                synced = True
            elif type == "DELETED":
                store.pop(key_of(obj), None)
                self._told.pop(obj["metadata"]["uid"], None)
            else:
                store[key_of(obj)] = self._slim(obj) if kind == "Pod" else obj
                if kind == "Node":
                    self.seen(obj)
            self._wake.set()

    @staticmethod
    def _slim(pod: Object) -> Object:
        """What scheduling needs of a pod."""
        meta = pod["metadata"]
        keep = ("name", "namespace", "uid", "deletionTimestamp", "creationTimestamp", "resourceVersion")
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {k: meta[k] for k in keep if k in meta},
                "spec": pod["spec"], "status": {"phase": (pod.get("status") or {}).get("phase")}}

    async def run(self) -> None:
        """Bind for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._unsynced:
                continue
            waiting = [p for p in self.pods.values()
                       if not p["spec"].get("nodeName") and not p["metadata"].get("deletionTimestamp") and not ended(p)
                       and (p["spec"].get("schedulerName") or "default-scheduler") == "default-scheduler"]
            for pod in sorted(waiting, key=lambda p: (-(p["spec"].get("priority") or 0),
                                                      p["metadata"].get("creationTimestamp", ""), key_of(p))):
                try:
                    await self._one(pod)
                except (ApiError, aiohttp.ClientError, TimeoutError, OSError) as error:
                    if not isinstance(error, ApiError) or error.status not in (404, 409):
                        log.warning("schedule %s: %r", key_of(pod), error)
                        asyncio.get_running_loop().call_later(1, self._wake.set)
                except Exception:
                    log.exception("schedule %s", key_of(pod))

    def _by_node(self) -> dict[str, list[Object]]:
        found: dict[str, list[Object]] = {}
        for pod in self.pods.values():
            if pod["spec"].get("nodeName") and not ended(pod):
                found.setdefault(pod["spec"]["nodeName"], []).append(pod["spec"])
        return found

    async def _one(self, pod: Object) -> None:
        meta = pod["metadata"]
        chosen, message = place(pod["spec"], list(self.nodes.values()), self._by_node())
        if chosen is not None:
            path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/binding"
            await self.kube.request("POST", path, {
                "apiVersion": "v1", "kind": "Binding", "metadata": {"name": meta["name"], "uid": meta["uid"]},
                "target": {"apiVersion": "v1", "kind": "Node", "name": chosen}})
            # Counted at once: the next pod of this round must see it.
            self.pods[key_of(pod)] = {**pod, "spec": {**pod["spec"], "nodeName": chosen}}
            await self.kube.event(pod, "Normal", "Scheduled", f"Successfully assigned {key_of(pod)} to {chosen}",
                                  "default-scheduler")
        elif self._told.get(meta["uid"]) != message:
            self._told[meta["uid"]] = message
            await self.kube.event(pod, "Warning", "FailedScheduling", message, "default-scheduler")
            condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
                         "lastTransitionTime": now()}
            await self.kube.patch("v1", "Pod", meta["name"], {"metadata": {"uid": meta["uid"]},
                                                              "status": {"conditions": [condition]}},
                                  meta["namespace"], "status", "strategic")
