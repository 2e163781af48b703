# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge: waiting until objects are ready, by watch, with one deadline for all."""

from __future__ import annotations

import threading
import time
from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils.cluster import (
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
from ansible_collections.confidential.containers.plugins.module_utils.readiness import RELATED, ready

Key = tuple[str, str, str, str]
#: A failure counts when it was seen for this long: operators pass through failed states, in seconds.
FAILURE_PATIENCE = 10.0


def key_of(reference: Object) -> Key:
    meta = reference.get("metadata", reference)
    return (reference["apiVersion"], reference["kind"], meta.get("namespace") or "", meta["name"])


class Watcher:
    """Follows a set of objects in threads of its own; ``seen`` holds them (None: not there)."""

    def __init__(self, cluster: Cluster, keys: list[Key]) -> None:
        self.cluster = cluster
        self.seen: dict[Key, Object | None] = {}
        self.trouble: dict[Key, str] = {}
        self.error: Exception | None = None
        self.changed = threading.Event()
        self.stopped = threading.Event()
        for key in keys:
            threading.Thread(target=self._follow, args=(key,), daemon=True).start()
        self.expected = len(keys)

    def _follow(self, key: Key) -> None:
        api_version, kind, namespace, name = key
        while not self.stopped.is_set():
            try:
                found, version = self.cluster.list_version(api_version, kind, namespace or None, name)
                self._set(key, found, "")
                for event, obj in self.cluster.watch(api_version, kind, namespace or None, name, version):
                    if self.stopped.is_set():
                        return
                    if event == "ERROR":
                        break
                    if event != "BOOKMARK":
                        self._set(key, None if event == "DELETED" else {"apiVersion": api_version, "kind": kind, **obj}, "")
                continue
            except UnknownKind:
                self._set(key, None, "the kind is not served yet")
                self.cluster.forget_kinds()
            except ApiFailure as error:
                if error.status in (401, 403):
                    self.error = error
                    self.changed.set()
                    return
                self._set(key, self.seen.get(key), f"the API server answers {error.status}")
            except Unreachable:
                self._set(key, self.seen.get(key), "the API server does not answer; it may be restarting")
            except Exception as error:
                self.error = error
                self.changed.set()
                return
            self.stopped.wait(0.5)

    def _set(self, key: Key, obj: Object | None, trouble: str) -> None:
        self.seen[key], self.trouble[key] = obj, trouble
        self.changed.set()

    def stop(self) -> None:
        self.stopped.set()


def wait_ready(cluster: Cluster, references: list[Object], seconds: float, context: Context,
               release: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """Wait until each object is ready in its kind's own sense.

    Returns ``[{"ready", "failed", "reason", "message"}]`` in the given order. Raises :class:`CocoError` at the deadline or
    when one has failed for good, naming each object that is not ready and its condition. One line of progress per change.
    """
    keys = [key_of(reference) for reference in references]
    related = {key: [key_of(item) for item in RELATED.get(key[1], [])] for key in keys}
    every = list(dict.fromkeys([*keys, *(item for items in related.values() for item in items)]))
    watcher = Watcher(cluster, every)
    deadline = time.monotonic() + seconds
    shown: dict[Key, str] = {}
    failed_since: dict[Key, float] = {}
    try:
        while True:
            states = {}
            if len(watcher.seen) >= watcher.expected:
                for key in keys:
                    states[key] = _state(watcher, key, related[key], release)
                    line = states[key]["message"] or states[key]["reason"]
                    if not states[key]["ready"] and shown.get(key) != line:
                        shown[key] = line
                        context.progress(f"waiting for {_name(key)}: {line}")
                    if states[key]["ready"] and key in shown:
                        context.progress(f"{_name(key)}: ready")
                        del shown[key]
                if all(state["ready"] for state in states.values()):
                    return [states[key] for key in keys]
                now = time.monotonic()
                for key, state in states.items():
                    if not state["failed"]:
                        failed_since.pop(key, None)
                    elif now - failed_since.setdefault(key, now) >= FAILURE_PATIENCE:
                        raise _not_ready("failed", states, cluster)
            if watcher.error is not None:
                raise explain("Waiting for objects failed", watcher.error, cluster.server)
            left = deadline - time.monotonic()
            if left <= 0:
                raise _not_ready(f"not ready after {seconds:.0f} s", states, cluster)
            watcher.changed.wait(min(left, 1.0 if failed_since else 5.0))
            watcher.changed.clear()
    finally:
        watcher.stop()


def _state(watcher: Watcher, key: Key, related: list[Key], release: dict[str, Any] | None) -> dict[str, Any]:
    if watcher.trouble.get(key):
        return {"ready": False, "failed": False, "reason": "Unreachable", "message": watcher.trouble[key]}
    others = {f"{item[1]}/{item[3]}": watcher.seen.get(item) for item in related}
    reference = {"apiVersion": key[0], "kind": key[1], "metadata": {"name": key[3], "namespace": key[2] or None}}
    found = watcher.seen.get(key)
    if found is None:
        return {"ready": False, "failed": False, "reason": "NotFound", "message": "it does not exist yet", "object": reference}
    return ready(found, release, others)


def _name(key: Key) -> str:
    return title({"kind": key[1], "metadata": {"name": key[3], "namespace": key[2]}})


def _not_ready(how: str, states: dict[Key, dict[str, Any]], cluster: Cluster) -> CocoError:
    waiting = {key: state for key, state in states.items() if not state["ready"]}
    seen = "; ".join(f"{_name(key)}: {state['reason']} {state['message']}".strip() for key, state in waiting.items())
    hint = "Look at the named objects and their events; the run can be repeated and goes on where it stopped."
    return CocoError(f"{len(waiting) or 'Some'} object(s) {how}", seen or f"{cluster.server} gave no answer in time", hint)


def wait_gone(cluster: Cluster, references: list[Object], seconds: float, context: Context) -> None:
    """Wait until no referenced object is there. Raises :class:`CocoError` at the deadline, naming finalizers."""
    keys = [key_of(reference) for reference in references]
    watcher = Watcher(cluster, keys)
    deadline = time.monotonic() + seconds
    shown: dict[Key, str] = {}
    try:
        while True:
            left = {key: watcher.seen.get(key) for key in keys if key not in watcher.seen or watcher.seen[key] is not None
                    or (watcher.trouble.get(key) and "not served" not in watcher.trouble[key])}
            if not left:
                return
            for key, obj in left.items():
                line = _leaving(obj) if obj else watcher.trouble.get(key, "")
                if line and shown.get(key) != line:
                    shown[key] = line
                    context.progress(f"waiting for {_name(key)} to go: {line}")
            if watcher.error is not None:
                raise explain("Waiting for objects to go failed", watcher.error, cluster.server)
            rest = deadline - time.monotonic()
            if rest <= 0:
                seen = "; ".join(f"{_name(key)}: {_leaving(obj) if obj else 'unknown'}" for key, obj in left.items())
                raise CocoError(f"{len(left)} object(s) still there after {seconds:.0f} s", seen,
                                "Look at what holds them (finalizers, the operator's log); the run can be repeated.")
            watcher.changed.wait(min(rest, 5.0))
            watcher.changed.clear()
    finally:
        watcher.stop()


def _leaving(obj: Object) -> str:
    conditions = obj.get("status", {}).get("conditions") or []
    said = "; ".join(f"{c.get('reason') or c.get('type')}: {c['message']}" for c in conditions if c.get("message"))
    held = ", ".join(obj["metadata"].get("finalizers") or []) or "no finalizer"
    return f"{said} ({held})" if said else f"held by {held}"
