"""lab-peerpods-webhook: the mutating webhook of peer pods (reference/operators.md 4).

It takes all resources off a pod of the target runtime class, writes their sums into annotations that size the VM, and asks
for one unit of the extended resource in the first container.
"""

from __future__ import annotations

import copy
import math
import os
import sys
from decimal import Decimal
from typing import Any

from lab.node_schedule import quantity
from lab.osc_serving import Object, allowed, errored, serve
from lab.program import log, main

PATH = "/mutate-v1-pod"
HYPERVISOR = "io.katacontainers.config.hypervisor."
GPU = "nvidia.com/gpu"
MIB = Decimal(1024 * 1024)


def _asked(container: Object, name: str) -> Decimal:
    resources = container.get("resources") or {}
    for kind in ("limits", "requests"):
        value = (resources.get(kind) or {}).get(name)
        if value is not None:
            return quantity(value)
    return Decimal(0)


def mutate(pod: Object, runtime_class: str = "kata-remote", resource: str = "kata.peerpods.io/vm") -> list[Object]:
    """The JSON patch for a pod; empty for one of another runtime class and for one already changed.

    Raises ``ValueError`` for a quantity that cannot be read.
    """
    spec = pod.get("spec") or {}
    if spec.get("runtimeClassName") != runtime_class:
        return []
    fresh = copy.deepcopy(pod)
    containers: list[Object] = fresh["spec"]["containers"]
    everything = [*containers, *(fresh["spec"].get("initContainers") or [])]
    sums = {name: sum((_asked(c, name) for c in containers), Decimal(0)) for name in ("cpu", "memory", GPU)}
    wanted = {
        "default_vcpus": math.ceil(sums["cpu"]),
        "default_memory": math.ceil(sums["memory"] / MIB),
        "default_gpus": math.ceil(sums[GPU]),
    }
    annotations = dict(fresh["metadata"].get("annotations") or {})
    annotations.update({HYPERVISOR + name: str(value) for name, value in wanted.items() if value})
    for container in everything:
        container.pop("resources", None)
    containers[0]["resources"] = {"requests": {resource: "1"}, "limits": {resource: "1"}}
    patch: list[Object] = []
    if annotations != (pod["metadata"].get("annotations") or {}):
        patch.append({"op": "add", "path": "/metadata/annotations", "value": annotations})
    for field in ("containers", "initContainers"):
        if _stripped(fresh["spec"].get(field)) != _stripped(spec.get(field)):
            patch.append({"op": "replace", "path": f"/spec/{field}", "value": fresh["spec"][field]})
    return patch


def _stripped(containers: list[Object] | None) -> list[Object]:
    """Containers without empty ``resources``, which say the same as none."""
    return [{k: v for k, v in c.items() if k != "resources" or v} for c in containers or []]


async def review(request: Object) -> Object:
    """Answer an AdmissionReview."""
    pod: Any = request.get("object") or {}
    try:
        patch = mutate(pod, os.environ.get("TARGET_RUNTIMECLASS", "kata-remote"),
                       os.environ.get("POD_VM_EXTENDED_RESOURCE", "kata.peerpods.io/vm"))
    except (ValueError, KeyError, IndexError) as error:
        return errored(f"mwebhook.peerpods.io: {error}")
    if patch:
        meta = pod.get("metadata") or {}
        log.info("pod %s/%s changed", request.get("namespace", ""), meta.get("name") or meta.get("generateName", ""))
    return allowed(patch)


async def work() -> None:
    await serve({PATH: review})


if __name__ == "__main__":
    sys.exit(main("lab-peerpods-webhook", "the peer pods webhook", "OSC 1.11", work))
