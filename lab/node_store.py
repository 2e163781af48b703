"""ConfigMaps and Secrets of the cluster, kept by two watches for all nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from lab.kube import Kube

Object = dict[str, Any]
KINDS = ("ConfigMap", "Secret")


class Store:
    """What pods may mount. ``changed(kind, namespace, name)`` is called after each change."""

    def __init__(self, kube: Kube, changed: Callable[[str, str, str], None]) -> None:
        self.kube, self.changed = kube, changed
        self.objects: dict[tuple[str, str, str], Object] = {}
        self.synced = {kind: asyncio.Event() for kind in KINDS}

    def get(self, kind: str, namespace: str, name: str) -> Object | None:
        return self.objects.get((kind, namespace, name))

    async def follow(self, kind: str) -> None:
        """Watch one kind for ever."""
        async for type, obj in self.kube.watch("v1", kind):
            if type == "SYNCED":
                self.synced[kind].set()
                continue
            key = (kind, obj["metadata"]["namespace"], obj["metadata"]["name"])
            if type == "DELETED":
                self.objects.pop(key, None)
            else:
                before = self.objects.get(key)
                slim: Object = {k: v for k, v in obj.items() if k in ("apiVersion", "kind", "data", "binaryData")}
                self.objects[key] = slim
                if before == slim:
                    continue
            self.changed(*key)
