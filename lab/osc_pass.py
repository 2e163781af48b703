"""One pass of the operator over the KataConfig: what it has read and what it is going to write."""

from __future__ import annotations

import copy
import logging
import random
import time
from typing import Any

from lab.kube import Kube, now, owner_reference
from lab.osc_objects import KATA_OC, MASTER, Settings
from lab.osc_state import condition, converged, degraded, node_lists, set_condition, spec_of, wanted_nodes
from lab.paths import time_scale

log = logging.getLogger("lab")

Object = dict[str, Any]
KATA_API = "kataconfiguration.openshift.io/v1"
MCO_API = "machineconfiguration.openshift.io/v1"


class Pass:
    """State of one pass. ``status`` is the future status, ``gone`` says that the object has lost its finalizer."""

    def __init__(self, kube: Kube, settings: Settings, kataconfig: Object, reported: dict[str, float]) -> None:
        self.kube, self.settings, self.kataconfig, self.reported = kube, settings, kataconfig, reported
        self.name: str = kataconfig["metadata"]["name"]
        self.spec = spec_of(kataconfig)
        self.status: Object = copy.deepcopy(kataconfig.get("status") or {})
        self.status.setdefault("waitingForMcoToStart", False)
        self.deleting = bool(kataconfig["metadata"].get("deletionTimestamp"))
        self.gone = False
        self.nodes: list[Object] = []
        self.pools: dict[str, Object] = {}
        self.wanted: list[str] = []
        self.converged = False

    @property
    def peer_pods(self) -> bool:
        return bool(self.spec.get("enablePeerPods"))

    @property
    def owner(self) -> Object:
        return owner_reference(self.kataconfig)

    @property
    def pool_name(self) -> str:
        """The pool that gets kata."""
        return "master" if self.converged else "kata-oc"

    @property
    def node_label(self) -> str:
        """The label of nodes that have kata."""
        return MASTER if self.converged else KATA_OC

    async def read(self) -> None:
        """Read nodes and pools."""
        self.nodes = await self.kube.list("v1", "Node")
        pools = await self.kube.list(MCO_API, "MachineConfigPool")
        self.pools = {pool["metadata"]["name"]: pool for pool in pools}
        self.converged = converged(pools)

    def choose(self) -> None:
        """Find the nodes that are to have kata. Raises ``Invalid`` for a bad selector."""
        self.wanted = [] if self.converged else wanted_nodes(self.nodes, self.kataconfig)

    def lists(self) -> Object:
        """``status.kataNodes`` of what was read."""
        return node_lists(self.nodes, self.pools, self.converged)

    async def finish_status(self) -> None:
        """Node lists of this moment, and Failed where a node is Degraded while something is going on."""
        await self.read()
        self.status["kataNodes"] = lists = self.lists()
        text = degraded(self.nodes, lists)
        if text and condition(self.status)[0] == "True":
            set_condition(self.status, "True", "Failed", text)

    def set(self, value: str, reason: str = "", message: str = "") -> None:
        """Set condition InProgress."""
        set_condition(self.status, value, reason, message)

    def add_class(self, name: str) -> None:
        """Name a runtime class in the status."""
        classes = self.status.setdefault("runtimeClasses", [])
        if name not in classes:
            classes.append(name)

    async def namespaced(self, kind: str, name: str) -> Object | None:
        """A ConfigMap or Secret of the operator's namespace."""
        return await self.kube.get("v1", kind, name, self.settings.namespace)

    async def job_event(self, job: Object, kind: str, reason: str, message: str) -> None:
        """An event about a Job, at most one every two minutes for a reason."""
        last = self.reported.get(reason, -1e9)
        if time.monotonic() - last < 120 * time_scale():
            return
        self.reported[reason] = time.monotonic()
        stamp = now()
        meta = job["metadata"]
        await self.kube.create({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": f"job-event-{random.getrandbits(40):010x}", "namespace": meta["namespace"]},
            "involvedObject": {"apiVersion": "batch/v1", "kind": "Job", "name": meta["name"],
                               "namespace": meta["namespace"], "uid": meta.get("uid", "")},
            "type": kind, "reason": reason, "message": message, "source": {"component": "kataconfig-controller"},
            "firstTimestamp": stamp, "lastTimestamp": stamp, "count": 1,
        })
