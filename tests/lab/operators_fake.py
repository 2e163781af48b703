"""An API server in memory, small enough to follow an operator's passes without a cluster."""

from __future__ import annotations

import copy
import itertools
from typing import Any

from lab.kube import ApiError

Object = dict[str, Any]


class FakeKube:
    """The part of ``lab.kube.Kube`` that reconcilers use, with resource versions, finalizers and a status subresource."""

    def __init__(self, *objects: Object) -> None:
        self.objects: dict[tuple[str, str, str], Object] = {}
        self.calls: list[str] = []
        self.events: list[tuple[str, str]] = []
        self.numbers = itertools.count(1)
        for obj in objects:
            self.put(obj)

    def put(self, obj: Object) -> Object:
        """Store an object as it is."""
        obj = copy.deepcopy(obj)
        meta = obj["metadata"]
        meta.setdefault("uid", f"uid-{next(self.numbers)}")
        meta["resourceVersion"] = str(next(self.numbers))
        meta.setdefault("generation", 1)
        self.objects[obj["kind"], meta.get("namespace") or "", meta["name"]] = obj
        return copy.deepcopy(obj)

    def peek(self, kind: str, name: str, namespace: str = "") -> Object | None:
        return self.objects.get((kind, namespace, name))

    def names(self, kind: str) -> list[str]:
        return [name for (k, _, name) in self.objects if k == kind]

    async def get(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> Object | None:
        return copy.deepcopy(self.peek(kind, name, namespace or ""))

    async def list(self, api_version: str, kind: str, namespace: str | None = None, **_: str) -> list[Object]:
        return [copy.deepcopy(o) for (k, ns, _n), o in self.objects.items()
                if k == kind and (namespace is None or ns == namespace)]

    async def create(self, obj: Object) -> Object:
        meta = obj["metadata"]
        if self.peek(obj["kind"], meta["name"], meta.get("namespace") or ""):
            raise ApiError(409, "AlreadyExists", f'{obj["kind"]} "{meta["name"]}" already exists')
        self.calls.append(f"create {obj['kind']} {meta['name']}")
        return self.put(obj)

    async def ensure(self, obj: Object) -> Object:
        meta = obj["metadata"]
        found = await self.get(obj["apiVersion"], obj["kind"], meta["name"], meta.get("namespace"))
        return found if found is not None else await self.create(obj)

    async def replace(self, obj: Object, subresource: str | None = None) -> Object:
        meta = obj["metadata"]
        old = self.peek(obj["kind"], meta["name"], meta.get("namespace") or "")
        if old is None:
            raise ApiError(404, "NotFound", f'{obj["kind"]} "{meta["name"]}" not found')
        if meta.get("resourceVersion") not in (None, old["metadata"]["resourceVersion"]):
            raise ApiError(409, "Conflict", "the object has been modified")
        self.calls.append(f"replace {obj['kind']}{'/' + subresource if subresource else ''} {meta['name']}")
        fresh = copy.deepcopy(obj)
        if subresource == "status":
            fresh = {**copy.deepcopy(old), "status": obj.get("status") or {}}
        elif "status" in old:
            fresh["status"] = copy.deepcopy(old["status"])
        if fresh.get("spec") != old.get("spec"):
            fresh["metadata"]["generation"] = old["metadata"]["generation"] + 1
        if fresh["metadata"].get("deletionTimestamp") and not fresh["metadata"].get("finalizers"):
            del self.objects[obj["kind"], meta.get("namespace") or "", meta["name"]]
            return fresh
        return self.put(fresh)

    async def patch(self, api_version: str, kind: str, name: str, patch: Any, namespace: str | None = None,
                    subresource: str | None = None, type: str = "merge", params: Any = None) -> Object:
        old = self.peek(kind, name, namespace or "")
        if old is None:
            raise ApiError(404, "NotFound", f'{kind} "{name}" not found')
        self.calls.append(f"patch {kind} {name}")
        fresh = copy.deepcopy(old)
        _merge(fresh, patch)
        if fresh["metadata"].get("deletionTimestamp") and not fresh["metadata"].get("finalizers"):
            del self.objects[kind, namespace or "", name]
            return fresh
        return self.put(fresh)

    async def event(self, obj: Object, type: str, reason: str, message: str, component: str) -> None:
        self.events.append((type, reason))

    async def delete(self, api_version: str, kind: str, name: str, namespace: str | None = None,
                     **_: Any) -> bool:
        key = (kind, namespace or "", name)
        if key not in self.objects:
            return False
        self.calls.append(f"delete {kind} {name}")
        meta = self.objects[key]["metadata"]
        if meta.get("finalizers"):
            meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        else:
            del self.objects[key]
        return True


def _merge(target: Object, patch: Object) -> None:
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict):
            if not isinstance(target.get(key), dict):
                target[key] = {}
            _merge(target[key], value)
        else:
            target[key] = copy.deepcopy(value)
