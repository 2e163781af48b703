# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge: many objects in one call: server-side apply in waves, and removal.

Two requests an object: what is there, and the apply (the server's dry run in check mode). ``changed`` is what the server made of
it: content and ownership before and after are compared, so a status written meanwhile by somebody else is no change of ours.
"""

from __future__ import annotations

import base64
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils.cluster import (
    FIELD_MANAGER,
    WORKERS,
    ApiFailure,
    Cluster,
    Object,
    UnknownKind,
    Unreachable,
    explain,
    title,
)
from ansible_collections.confidential.containers.plugins.module_utils.cluster_diff import (
    cleaned,
    difference,
    mask,
    same,
)
from ansible_collections.confidential.containers.plugins.module_utils.context import Context
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

__all__ = ["apply_all", "cleaned", "delete_all", "difference", "entry", "mask", "prepare"]

#: Kinds that others need are applied first; the rest comes last.
FIRST = ("Namespace", "CustomResourceDefinition")
SECOND = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "OperatorGroup", "ConfigMap", "Secret")
#: How long an apply waits for an admission webhook whose operator is starting, or for a CRD of the same list, in seconds.
PATIENCE = 60.0
CHANGES = ("created", "updated", "deleted")


def prepare(obj: Object) -> Object:
    """The object as it is applied: stringData as data, no status. Raises :class:`CocoError` for what is no object."""
    meta = obj.get("metadata")
    if not obj.get("apiVersion") or not obj.get("kind") or not isinstance(meta, dict) or not meta.get("name"):
        raise CocoError("An object cannot be applied", f"it lacks apiVersion, kind or metadata.name: {sorted(map(str, obj))}",
                        "Give whole manifests.")
    ready = {key: value for key, value in obj.items() if key not in ("status", "stringData")}
    ready["metadata"] = {key: value for key, value in meta.items() if key not in ("managedFields", "resourceVersion", "uid")}
    if obj.get("stringData"):
        encoded = {key: base64.b64encode(str(value).encode()).decode() for key, value in obj["stringData"].items()}
        ready["data"] = {**(obj.get("data") or {}), **encoded}
    return ready


def entry(obj: Object, action: str, **more: Any) -> dict[str, Any]:
    """One object's line in the result."""
    meta = obj.get("metadata", {})
    return {"apiVersion": obj.get("apiVersion"), "kind": obj.get("kind"), "namespace": meta.get("namespace"),
            "name": meta.get("name"), "action": action, "ready": None, "message": "", **more}


def wave(obj: Object) -> int:
    """When an object is applied: 0 what holds others, 1 what workloads use, 2 the rest."""
    return 0 if obj["kind"] in FIRST else 1 if obj["kind"] in SECOND else 2


class Batch:
    """One call's objects."""

    def __init__(self, cluster: Cluster, objects: list[Object], context: Context, force: bool = False,
                 allow_missing: bool = False) -> None:
        self.cluster, self.context, self.force, self.allow_missing = cluster, context, force, allow_missing
        self.objects = [prepare(obj) for obj in objects]
        self.results: dict[int, dict[str, Any]] = {}
        self.diffs: dict[int, dict[str, Any]] = {}
        self.failures: dict[int, CocoError] = {}
        self.namespaces = {obj["metadata"]["name"] for obj in self.objects if obj["kind"] == "Namespace"}
        self.brought = {(f"{obj['spec']['group']}", obj["spec"]["names"]["kind"]) for obj in self.objects
                        if obj["kind"] == "CustomResourceDefinition"}

    def run(self) -> None:
        """Apply wave after wave; a wave with a failure is the last. Raises :class:`CocoError`."""
        for number in range(3):
            indexes = [index for index, obj in enumerate(self.objects) if wave(obj) == number]
            if indexes:
                with ThreadPoolExecutor(min(WORKERS, len(indexes))) as pool:
                    list(pool.map(self._one, indexes))
            if self.failures:
                raise self._failure()

    def _failure(self) -> CocoError:
        failed = [{**entry(self.objects[i], "failed"), "message": str(error)} for i, error in sorted(self.failures.items())]
        first = self.failures[min(self.failures)]
        done = [self.results[i] for i in sorted(self.results)]
        skipped = [entry(obj, "skipped") for i, obj in enumerate(self.objects) if i not in self.results and i not in self.failures]
        more = f" (and {len(failed) - 1} more: {', '.join(title(self.objects[i]) for i in sorted(self.failures)[1:])})"
        return CocoError(
            first.what + (more if len(failed) > 1 else ""), first.seen, first.todo, **first.details,
            objects=[*done, *failed, *skipped],
            changed=any(item["action"] in CHANGES for item in done) and not self.context.check_mode,
        )

    def _one(self, index: int) -> None:
        obj = self.objects[index]
        try:
            result, before, after = self._apply(obj)
        except (ApiFailure, UnknownKind, Unreachable) as error:
            self.failures[index] = explain(f"{title(obj)} was not applied", error, self.cluster.server)
            return
        self.results[index] = result
        if result["action"] in CHANGES:
            if self.context.diff:
                self.diffs[index] = difference(before, after, title(obj))
            if not self.context.check_mode:
                self.context.progress(f"{title(obj)}: {result['action']}")

    def _apply(self, obj: Object) -> tuple[dict[str, Any], Object | None, Object | None]:
        meta, check = obj["metadata"], self.context.check_mode
        before = self.cluster.get(obj["apiVersion"], obj["kind"], meta["name"], meta.get("namespace"))
        try:
            after = self._patch(obj)
        except UnknownKind:
            if check:
                return entry(obj, "created", message="predicted: the cluster has no such kind yet"), None, obj
            if self.allow_missing:
                return entry(obj, "absent", message="skipped: the cluster has no such kind"), None, None
            raise
        except ApiFailure as error:
            missing = error.no_namespace or (error.status == 404 and meta.get("namespace") in self.namespaces)
            if check and (missing or error.no_webhook or error.no_dry_run):
                return entry(obj, "updated" if before else "created", message="predicted"), before, obj
            raise
        after = {"apiVersion": obj["apiVersion"], "kind": obj["kind"], **after}
        if before is None:
            return entry(obj, "created"), None, after
        return entry(obj, "unchanged" if same(before, after, FIELD_MANAGER) else "updated"), before, after

    def _patch(self, obj: Object) -> Object:
        """Apply; what another object of the list or a starting operator is about to bring gets some time."""
        waited, pause = 0.0, threading.Event()
        while True:
            try:
                return self.cluster.patch(obj, obj, "apply", dry_run=self.context.check_mode, force=self.force)
            except UnknownKind:
                expected = (obj["apiVersion"].partition("/")[0], obj["kind"]) in self.brought
                if self.context.check_mode or not expected or waited >= PATIENCE:
                    raise
                self.cluster.recheck(obj["apiVersion"])
            except ApiFailure as error:
                starting = error.no_webhook or "try again" in error.message.lower()
                if self.context.check_mode or not starting or waited >= PATIENCE:
                    raise
                if waited == 0:
                    self.context.progress(f"{title(obj)}: waiting for an admission webhook: {error.message[:160]}")
            pause.wait(0.5)
            waited += 0.5


def apply_all(cluster: Cluster, objects: list[Object], context: Context, force: bool = False,
              allow_missing: bool = False) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Apply every object: (results in the given order, diffs of what changed, if asked for).

    Raises :class:`CocoError` naming every object that failed; its details hold what was done before (``objects``, ``changed``).
    """
    batch = Batch(cluster, objects, context, force, allow_missing)
    batch.run()
    return [batch.results[i] for i in sorted(batch.results)], [batch.diffs[i] for i in sorted(batch.diffs)]


def delete_all(cluster: Cluster, references: list[Object],
               context: Context) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Delete every referenced object: (results with the ``uid`` that leaves, diffs). What is not there is ``absent``."""
    results: list[dict[str, Any]] = []
    diffs: list[dict[str, Any]] = []
    for reference in references:
        meta = reference.get("metadata") or {}
        if not reference.get("apiVersion") or not reference.get("kind") or not meta.get("name"):
            raise CocoError("An object cannot be deleted", f"it lacks apiVersion, kind or metadata.name: {sorted(map(str, reference))}",
                            "Give references with those fields.")
        try:
            before = cluster.get(reference["apiVersion"], reference["kind"], meta["name"], meta.get("namespace"))
            if before is None:
                results.append(entry(reference, "absent"))
                continue
            uid = before["metadata"].get("uid")
            if before["metadata"].get("deletionTimestamp"):
                results.append(entry(reference, "unchanged", uid=uid, message="it is being deleted already"))
                continue
            _delete(cluster, reference, context.check_mode)
        except (ApiFailure, UnknownKind, Unreachable) as error:
            failed = explain(f"{title(reference)} was not deleted", error, cluster.server)
            failed.details.update(objects=results, changed=any(r["action"] in CHANGES for r in results) and not context.check_mode)
            raise failed from error
        if not context.check_mode:
            context.progress(f"{title(reference)}: deleted")
        results.append(entry(reference, "deleted", uid=uid))
        if context.diff:
            diffs.append(difference(before, None, title(reference)))
    return results, diffs


def _delete(cluster: Cluster, reference: Object, dry_run: bool) -> None:
    try:
        cluster.delete(reference, dry_run=dry_run)
    except ApiFailure as error:
        if not (dry_run and (error.no_webhook or error.no_dry_run)):
            raise
