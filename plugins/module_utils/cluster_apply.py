# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge: many objects in one call: server-side apply in waves, and removal.

Two requests an object: what is there, and the apply (a dry run in check mode). ``changed`` is what the server says: the
resource version of an unchanged object stays.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils.cluster import (
    WORKERS,
    ApiFailure,
    Cluster,
    Object,
    UnknownKind,
    Unreachable,
    explain,
    title,
)
from ansible_collections.confidential.containers.plugins.module_utils.context import Context
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

#: Kinds that others need are applied first; the rest comes last.
FIRST = ("Namespace", "CustomResourceDefinition")
SECOND = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "OperatorGroup", "ConfigMap", "Secret")
VOLATILE = ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink")
#: How long an apply waits for an admission webhook whose operator is starting, in seconds.
WEBHOOK_PATIENCE = 60.0


def prepare(obj: Object) -> Object:
    """The object as it is applied: stringData as data, no status. Raises :class:`CocoError` for what is no object."""
    meta = obj.get("metadata")
    if not obj.get("apiVersion") or not obj.get("kind") or not isinstance(meta, dict) or not meta.get("name"):
        raise CocoError("An object cannot be applied", f"it lacks apiVersion, kind or metadata.name: {list(obj)}",
                        "Give whole manifests.")
    ready = {key: value for key, value in obj.items() if key not in ("status", "stringData")}
    if obj.get("stringData"):
        encoded = {key: base64.b64encode(str(value).encode()).decode() for key, value in obj["stringData"].items()}
        ready["data"] = {**(obj.get("data") or {}), **encoded}
    return ready


def cleaned(obj: Object | None) -> Object:
    """An object for comparison and for people: without what the server keeps, Secret values as ``<sha256:first-8>``."""
    if obj is None:
        return {}
    shown = {key: value for key, value in obj.items() if key != "status"}
    shown["metadata"] = {key: value for key, value in obj.get("metadata", {}).items() if key not in VOLATILE}
    if obj.get("kind") == "Secret":
        for field in ("data", "stringData"):
            if isinstance(shown.get(field), dict):
                shown[field] = {key: mask(str(value)) for key, value in shown[field].items()}
        annotations = shown["metadata"].get("annotations") or {}
        if "kubectl.kubernetes.io/last-applied-configuration" in annotations:
            shown["metadata"]["annotations"] = {
                **annotations, "kubectl.kubernetes.io/last-applied-configuration": "<not shown>"}
    return shown


def mask(value: str) -> str:
    return f"<sha256:{hashlib.sha256(value.encode()).hexdigest()[:8]}>"


def difference(before: Object | None, after: Object | None, name: str) -> dict[str, Any]:
    """An Ansible diff of one object."""
    def text(obj: Object | None) -> str:
        return json.dumps(cleaned(obj), indent=2, sort_keys=True) + "\n" if obj else ""

    return {"before": text(before), "after": text(after), "before_header": name, "after_header": name}


def entry(obj: Object, action: str, **more: Any) -> dict[str, Any]:
    meta = obj.get("metadata", {})
    return {"apiVersion": obj.get("apiVersion"), "kind": obj.get("kind"), "namespace": meta.get("namespace"),
            "name": meta.get("name"), "action": action, "ready": None, "message": "", **more}


def wave(obj: Object) -> int:
    return 0 if obj["kind"] in FIRST else 1 if obj["kind"] in SECOND else 2


def apply_all(cluster: Cluster, objects: list[Object], context: Context, force: bool = False) -> tuple[list[dict[str, Any]],
                                                                                                       list[dict[str, Any]]]:
    """Apply every object: (results in the given order, diffs of what changed).

    Raises :class:`CocoError` for the first failure, with what was applied before it in ``details``.
    """
    prepared = [prepare(obj) for obj in objects]
    results: dict[int, dict[str, Any]] = {}
    diffs: dict[int, dict[str, Any]] = {}
    created_namespaces = {obj["metadata"]["name"] for obj in prepared if obj["kind"] == "Namespace"}

    def one(index: int) -> None:
        result, diff = _apply_one(cluster, prepared[index], context, force, created_namespaces)
        results[index] = result
        if diff and result["action"] != "unchanged":
            diffs[index] = diff

    for number in range(3):
        indexes = [index for index, obj in enumerate(prepared) if wave(obj) == number]
        if not indexes:
            continue
        failure: CocoError | None = None
        with ThreadPoolExecutor(min(WORKERS, len(indexes))) as pool:
            for future in [pool.submit(one, index) for index in indexes]:
                try:
                    future.result()
                except CocoError as error:
                    failure = failure or error
        if failure is not None:
            failure.details.update(
                objects=[results[i] for i in sorted(results)],
                changed=any(r["action"] in ("created", "updated") for r in results.values()) and not context.check_mode,
            )
            raise failure
        if number == 0 and any(prepared[i]["kind"] == "CustomResourceDefinition" for i in indexes):
            cluster.forget_kinds()
    return [results[i] for i in sorted(results)], [diffs[i] for i in sorted(diffs)]


def _apply_one(cluster: Cluster, obj: Object, context: Context, force: bool,
               namespaces: set[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    what = f"{title(obj)} was not applied"
    meta = obj["metadata"]
    try:
        before = cluster.get(obj["apiVersion"], obj["kind"], meta["name"], meta.get("namespace"))
        if before is not None:
            before = {"apiVersion": obj["apiVersion"], "kind": obj["kind"], **before}
        try:
            after = _patch_patiently(cluster, obj, context, force)
        except UnknownKind:
            if context.check_mode:
                return entry(obj, "created", message="predicted: the kind is not served yet"), difference(None, obj, title(obj))
            raise
        except ApiFailure as error:
            gone = error.status == 404 and (meta.get("namespace") in namespaces or "namespaces" in error.message)
            if context.check_mode and (gone or "failed calling webhook" in error.message):
                return entry(obj, "created" if before is None else "updated", message="predicted"), \
                    difference(before, obj, title(obj))
            raise
    except (ApiFailure, UnknownKind, Unreachable) as error:
        raise explain(what, error, cluster.server) from error
    after = {"apiVersion": obj["apiVersion"], "kind": obj["kind"], **after}
    if before is None:
        action = "created"
    elif context.check_mode:
        action = "unchanged" if cleaned(before) == cleaned(after) else "updated"
    else:
        same = before["metadata"].get("resourceVersion") == after["metadata"].get("resourceVersion")
        action = "unchanged" if same else "updated"
        if action == "updated":
            context.progress(f"{title(obj)}: updated")
    if action == "created" and not context.check_mode:
        context.progress(f"{title(obj)}: created")
    diff = difference(before, after, title(obj)) if context.diff else {}
    return entry(obj, action), diff


def _patch_patiently(cluster: Cluster, obj: Object, context: Context, force: bool) -> Object:
    """Apply; an admission webhook without endpoints is an operator that starts, so it gets some time."""
    waited, pause = 0.0, threading.Event()
    while True:
        try:
            return cluster.patch(obj, obj, "apply", dry_run=context.check_mode, force=force)
        except ApiFailure as error:
            starting = "failed calling webhook" in error.message or "try again" in error.message.lower()
            if context.check_mode or not starting or waited >= WEBHOOK_PATIENCE:
                raise
            if waited == 0:
                context.progress(f"{title(obj)}: waiting for an admission webhook: {error.message[:160]}")
        pause.wait(0.5)
        waited += 0.5


def delete_all(cluster: Cluster, references: list[Object], context: Context) -> tuple[list[dict[str, Any]],
                                                                                     list[dict[str, Any]]]:
    """Delete every referenced object: (results, diffs). What is not there is ``absent``."""
    results, diffs = [], []
    for reference in references:
        meta = reference["metadata"]
        try:
            before = cluster.get(reference["apiVersion"], reference["kind"], meta["name"], meta.get("namespace"))
            if before is None:
                results.append(entry(reference, "absent"))
                continue
            if not context.check_mode:
                cluster.delete(reference)
                context.progress(f"{title(reference)}: deleted")
        except (ApiFailure, UnknownKind, Unreachable) as error:
            raise explain(f"{title(reference)} was not deleted", error, cluster.server) from error
        results.append(entry(reference, "deleted"))
        if context.diff:
            diffs.append(difference({"kind": reference["kind"], **before}, None, title(reference)))
    return results, diffs


