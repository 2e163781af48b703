"""The objects of a fake API server: kinds, versions, owners of fields, and the history that watches read. No HTTP."""

from __future__ import annotations

import copy
import datetime
import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
Key = tuple[str, str, str, str]  # apiVersion, plural, namespace, name
Path = tuple[str, ...]


@dataclass(frozen=True)
class Kind:
    api_version: str
    kind: str
    plural: str
    namespaced: bool = True


def kinds(text: str) -> list[Kind]:
    """``apiVersion Kind:plural Kind:plural!`` a line; ``!`` for kinds without namespaces."""
    found = []
    for line in text.strip().splitlines():
        api_version, *items = line.split()
        for item in items:
            kind, plural = item.split(":")
            found.append(Kind(api_version, kind, plural.rstrip("!"), not plural.endswith("!")))
    return found


KINDS = kinds("""
v1 ConfigMap:configmaps Secret:secrets Service:services ServiceAccount:serviceaccounts Pod:pods Event:events
v1 Namespace:namespaces! Node:nodes!
apps/v1 Deployment:deployments DaemonSet:daemonsets
batch/v1 Job:jobs
apiextensions.k8s.io/v1 CustomResourceDefinition:customresourcedefinitions!
node.k8s.io/v1 RuntimeClass:runtimeclasses!
config.openshift.io/v1 ClusterVersion:clusterversions! Infrastructure:infrastructures! Ingress:ingresses!
route.openshift.io/v1 Route:routes
confidentialcontainers.org/v1alpha1 PeerPod:peerpods
operators.coreos.com/v1alpha1 Subscription:subscriptions InstallPlan:installplans ClusterServiceVersion:clusterserviceversions
kataconfiguration.openshift.io/v1 KataConfig:kataconfigs!
machineconfiguration.openshift.io/v1 MachineConfigPool:machineconfigpools!
cloudcredential.openshift.io/v1 CredentialsRequest:credentialsrequests
operator.openshift.io/v1 CloudCredential:cloudcredentials!
confidentialcontainers.org/v1alpha1 KbsConfig:kbsconfigs TrusteeConfig:trusteeconfigs
""")


class Refused(Exception):
    """An answer other than success."""

    def __init__(self, code: int, reason: str, message: str, causes: list[dict[str, str]] | None = None) -> None:
        super().__init__(message)
        self.code, self.reason, self.message, self.causes = code, reason, message, causes or []


def leaves(value: Any, path: Path = ()) -> dict[Path, Any]:
    """Every leaf below an object's fields; lists are leaves."""
    if isinstance(value, dict) and value:
        return {key: leaf for name, item in value.items() for key, leaf in leaves(item, (*path, str(name))).items()}
    return {path: value} if path else {}


def fields_v1(paths: set[Path]) -> Object:
    tree: Object = {}
    for path in sorted(paths):
        node = tree
        for name in path:
            node = node.setdefault(f"f:{name}", {})
    return tree


def paths_of(tree: Object, path: Path = ()) -> set[Path]:
    """The inverse of :func:`fields_v1`."""
    if not tree:
        return {path} if path else set()
    return {found for name, item in tree.items() for found in paths_of(item, (*path, name.removeprefix("f:")))}


def owned(obj: Object) -> Object:
    """The part of an object whose fields have owners."""
    meta = {key: value for key, value in obj.get("metadata", {}).items() if key in ("labels", "annotations", "finalizers")}
    rest = {key: value for key, value in obj.items() if key not in ("apiVersion", "kind", "metadata")}
    return {**rest, **({"metadata": meta} if meta else {})}


def put_at(obj: Object, path: Path, value: Any) -> None:
    for name in path[:-1]:
        obj = obj.setdefault(name, {})
    obj[path[-1]] = copy.deepcopy(value)


def drop_at(obj: Object, path: Path) -> None:
    for name in path[:-1]:
        obj = obj.get(name) or {}
    obj.pop(path[-1], None)


def merged(obj: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(obj) if isinstance(obj, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


class Store:
    """Objects by key; every change has a version and stands in the history."""

    def __init__(self) -> None:
        self.kinds = list(KINDS)
        self.objects: dict[Key, Object] = {}
        self.history: list[tuple[int, str, Key, Object]] = []
        self.version = 1
        self.oldest = 0  # watches from before this version are answered with 410
        self.changed = threading.Condition(threading.RLock())
        self.reactors: list[Callable[[str, Object], None]] = []
        self._uids = itertools.count(1)
        self.now = lambda: datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")

    def kind(self, api_version: str, name: str) -> Kind | None:
        """By kind or plural."""
        return next((k for k in self.kinds if k.api_version == api_version and name in (k.kind, k.plural)), None)

    def key(self, obj: Object) -> Key:
        kind = self.kind(obj["apiVersion"], obj["kind"])
        assert kind is not None, f"the fake API serves no {obj['apiVersion']} {obj['kind']}"
        return (kind.api_version, kind.plural, (obj["metadata"].get("namespace") or "") if kind.namespaced else "",
                obj["metadata"]["name"])

    def commit(self, event: str, key: Key, obj: Object) -> Object:
        with self.changed:
            self.version += 1
            obj["metadata"]["resourceVersion"] = str(self.version)
            if event == "DELETED":
                self.objects.pop(key, None)
            else:
                self.objects[key] = obj
            self.history.append((self.version, event, key, copy.deepcopy(obj)))
            self.changed.notify_all()
        for reactor in list(self.reactors):
            threading.Thread(target=reactor, args=(event, copy.deepcopy(obj)), daemon=True).start()
        return obj

    # Writes -----------------------------------------------------------------------------------------------------

    def create(self, obj: Object, manager: str = "somebody", operation: str = "Update", dry: bool = False) -> Object:
        with self.changed:
            key = self.key(obj)
            self._namespace(key)
            if key in self.objects:
                raise Refused(409, "AlreadyExists", f'{key[1]} "{key[3]}" already exists')
            new = copy.deepcopy(obj)
            meta = new["metadata"]
            meta.update(uid=f"uid-{next(self._uids)}", creationTimestamp=meta.get("creationTimestamp") or self.now(), generation=1)
            self._own(new, manager, operation, set(leaves(owned(new))))
            return new if dry else self.commit("ADDED", key, new)

    def apply(self, obj: Object, manager: str, force: bool, dry: bool) -> tuple[bool, Object]:
        """Server-side apply: (was it created, the object)."""
        with self.changed:
            key = self.key(obj)
            old = self.objects.get(key)
            if old is None:
                return True, self.create(obj, manager, "Apply", dry)
            wanted, have = leaves(owned(obj)), leaves(owned(old))
            conflicts = [(other["manager"], path) for other in old["metadata"].get("managedFields", [])
                         if (other["manager"], other["operation"]) != (manager, "Apply")
                         for path in sorted(paths_of(other["fieldsV1"])) if path in wanted and have.get(path) != wanted[path]]
            if conflicts and not force:
                causes = [{"reason": "FieldManagerConflict", "message": f'conflict with "{name}" using v1',
                           "field": "." + ".".join(path)} for name, path in conflicts]
                raise Refused(409, "Conflict", f"Apply failed with {len(conflicts)} conflict(s)", causes)
            new = copy.deepcopy(old)
            before = self._owns(old, manager, "Apply")
            others = {path for item in old["metadata"].get("managedFields", []) if item["manager"] != manager
                      for path in paths_of(item["fieldsV1"])}
            for path in before - set(wanted) - others:
                drop_at(new, path)
            for path, value in wanted.items():
                put_at(new, path, value)
            self._own(new, manager, "Apply", set(wanted), {path for _name, path in conflicts})
            return False, self._changed(key, old, new, dry)

    def patch(self, key: Key, patch: Object, manager: str, dry: bool) -> Object:
        with self.changed:
            old = self.objects.get(key)
            if old is None:
                raise Refused(404, "NotFound", f'{key[1]} "{key[3]}" not found')
            wished = (patch.get("metadata") or {}).get("resourceVersion")
            if wished and wished != old["metadata"]["resourceVersion"]:
                raise Refused(409, "Conflict", f'Operation cannot be fulfilled on {key[1]} "{key[3]}": the object has been modified; '
                              "please apply your changes to the latest version and try again")
            new = merged(old, patch)
            before, after = leaves(owned(old)), leaves(owned(new))
            mine = {path for path, value in after.items() if before.get(path) != value or path not in before}
            if mine:
                self._own(new, manager, "Update", self._owns(new, manager, "Update") | mine, mine)
            return self._changed(key, old, new, dry)

    def delete(self, key: Key, dry: bool = False) -> Object:
        with self.changed:
            old = self.objects.get(key)
            if old is None:
                raise Refused(404, "NotFound", f'{key[1]} "{key[3]}" not found')
            if dry:
                return old
            new = copy.deepcopy(old)
            if new["metadata"].get("finalizers"):
                new["metadata"].setdefault("deletionTimestamp", self.now())
                return self.commit("MODIFIED", key, new)
            return self.commit("DELETED", key, new)

    def _changed(self, key: Key, old: Object, new: Object, dry: bool) -> Object:
        def content(obj: Object) -> Object:
            rest = {name: value for name, value in obj["metadata"].items() if name not in ("resourceVersion", "managedFields")}
            owners = [{k: v for k, v in item.items() if k != "time"} for item in obj["metadata"].get("managedFields", [])]
            return {**obj, "metadata": {**rest, "managedFields": owners}}

        if content(old) == content(new):
            return old
        if dry:
            return new
        if new.get("spec") != old.get("spec"):
            new["metadata"]["generation"] = old["metadata"].get("generation", 1) + 1
        if new["metadata"].get("deletionTimestamp") and not new["metadata"].get("finalizers"):
            return self.commit("DELETED", key, new)
        return self.commit("MODIFIED", key, new)

    def _namespace(self, key: Key) -> None:
        namespaces = {found[3] for found in self.objects if found[1] == "namespaces"}
        if key[2] and key[2] not in namespaces:
            raise Refused(404, "NotFound", f'namespaces "{key[2]}" not found')

    @staticmethod
    def _owns(obj: Object, manager: str, operation: str) -> set[Path]:
        return {path for item in obj["metadata"].get("managedFields", []) if (item["manager"], item["operation"]) == (manager, operation)
                for path in paths_of(item["fieldsV1"])}

    def _own(self, obj: Object, manager: str, operation: str, paths: set[Path], taken: set[Path] | None = None) -> None:
        """``manager`` owns ``paths`` from now on; the others no longer own what was ``taken``."""
        entries = []
        for item in obj["metadata"].get("managedFields", []):
            if (item["manager"], item["operation"]) == (manager, operation):
                continue
            left = paths_of(item["fieldsV1"]) - (taken or set())
            if left:
                entries.append({**item, "fieldsV1": fields_v1(left)})
        entries.append({"manager": manager, "operation": operation, "apiVersion": obj["apiVersion"], "time": self.now(),
                        "fieldsType": "FieldsV1", "fieldsV1": fields_v1(paths)})
        obj["metadata"]["managedFields"] = entries
