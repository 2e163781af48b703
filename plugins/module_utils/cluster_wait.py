# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge: waiting until objects are ready in their kind's own sense, or gone, with one deadline for all."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils.cluster import Cluster, Object
from ansible_collections.confidential.containers.plugins.module_utils.cluster_errors import (
    ApiFailure,
    UnknownKind,
    Unreachable,
    title,
)
from ansible_collections.confidential.containers.plugins.module_utils.cluster_image import ImageJob, last_words
from ansible_collections.confidential.containers.plugins.module_utils.cluster_watch import Source, View, until
from ansible_collections.confidential.containers.plugins.module_utils.context import Context
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError
from ansible_collections.confidential.containers.plugins.module_utils.podvm_image import due, image_of
from ansible_collections.confidential.containers.plugins.module_utils.readiness import (
    OPTIONAL,
    OSC_NAMESPACE,
    RELATED,
    ready,
)

Key = tuple[str, str, str, str]
State = dict[str, Any]

#: How long a failure must be seen before it is believed, in seconds: these kinds pass through failed states by themselves.
PATIENCE = {"MachineConfigPool": 10.0, "KataConfig": 10.0, "Deployment": 5.0, "KbsConfig": 5.0, "Route": 3.0,
            "ClusterServiceVersion": 3.0}
PEER_PODS: Key = ("v1", "ConfigMap", OSC_NAMESPACE, "peer-pods-cm")
#: Objects whose pods tell why they are not ready.
WORKLOADS = ("Deployment", "DaemonSet", "Job", "ReplicaSet", "StatefulSet")


def key_of(reference: Object) -> Key:
    """(apiVersion, kind, namespace, name) of an object or reference. Raises :class:`CocoError` where one is missing."""
    meta = reference.get("metadata") or {}
    if not reference.get("apiVersion") or not reference.get("kind") or not meta.get("name"):
        raise CocoError("An object cannot be awaited", f"it lacks apiVersion, kind or metadata.name: {sorted(map(str, reference))}",
                        "Give references with those fields.")
    return (reference["apiVersion"], reference["kind"], meta.get("namespace") or "", meta["name"])


def sources_of(keys: list[Key], optional: frozenset[Key] | set[Key] = frozenset()) -> dict[Key, Source]:
    """The source in which each object is seen: one of its own, or one for several of a kind in a namespace.

    ``optional``: keys that may be forbidden.
    """
    groups: dict[tuple[str, str, str], set[Key]] = {}
    for key in keys:
        groups.setdefault(key[:3], set()).add(key)
    return {key: Source(*key[:3], name=key[3] if len(groups[key[:3]]) == 1 else "", optional=groups[key[:3]] <= optional)
            for key in keys}


class Waiting:
    """What is waited for, and what was said about it."""

    def __init__(self, keys: list[Key], context: Context, release: dict[str, Any] | None, missing: set[Key], logs: str = "") -> None:
        self.keys, self.context, self.release, self.allow_missing = keys, context, release, missing
        self.related = {key: [key_of(item) for item in RELATED.get(key[1], [])] for key in keys}
        related = [item for items in self.related.values() for item in items]
        self.sources = sources_of(list(dict.fromkeys([*keys, *related])), {item for item in related if item[1] in OPTIONAL} - set(keys))
        self.shown: dict[Key, str] = {}
        self.failed_since: dict[Key, float] = {}
        self.states: dict[Key, State] = {}
        self.absent: set[Key] | None = None
        self.logs = logs
        self.image_job: ImageJob | None = None

    def check(self, view: View) -> dict[Key, State] | None:
        """The states when all are ready, None before; raises for what has failed for good."""
        if self.absent is None:
            self.absent = {key for key in self.allow_missing if view.get(self.sources[key], key[3]) is None}
        self.states = {key: self._state(view, key) for key in self.keys}
        for key, state in self.states.items():
            if key[1] == "KataConfig":
                self._follow_image(view, key, state)
            self._tell(key, state)
        if all(state["ready"] for state in self.states.values()):
            return self.states
        now = time.monotonic()
        gone_bad = []
        for key, state in self.states.items():
            if not state["failed"]:
                self.failed_since.pop(key, None)
            elif now - self.failed_since.setdefault(key, now) >= PATIENCE.get(key[1], 0.0):
                gone_bad.append(key)
        if gone_bad:
            raise self.error(view, "failed", gone_bad)
        return None

    def _state(self, view: View, key: Key) -> State:
        if key in (self.absent or ()):
            return {"ready": True, "failed": False, "reason": "Absent", "message": "it is not there"}
        source = self.sources[key]
        if view.trouble(source):
            return {"ready": False, "failed": False, "reason": "NotSeen", "message": view.trouble(source)}
        others = {f"{item[1]}/{item[3]}": view.get(self.sources[item], item[3]) for item in self.related[key]
                  if not self._unknown(view, self.sources[item])}
        return ready(view.get(source, key[3]), self.release, others)

    @staticmethod
    def _unknown(view: View, source: Source) -> bool:
        """May an optional source hold something that is not seen at the moment?"""
        trouble = view.trouble(source) if source.optional else ""
        return bool(trouble) and "no such kind" not in trouble

    def _follow_image(self, view: View, key: Key, state: State) -> None:
        found = view.get(self.sources[key], key[3])
        if found is None or not due(found):
            return
        image = image_of(view.get(self.sources[PEER_PODS], PEER_PODS[3]))
        self.image_job = self.image_job or ImageJob(view.cluster, self.context, self.logs)
        if state["ready"]:
            self.image_job.done(image)
        else:
            self.image_job.look(found, image)

    def _tell(self, key: Key, state: State) -> None:
        line = state["message"] or state["reason"]
        if state["ready"]:
            if self.shown.pop(key, None) is not None:
                self.context.progress(f"{name_of(key)}: ready")
        elif self.shown.get(key) != line:
            self.shown[key] = line
            self.context.progress(f"waiting for {name_of(key)}: {line}")

    def error(self, view: View, how: str, keys: list[Key] | None = None) -> CocoError:
        """The error that names every object that is not ready, why, and what its pods or events say."""
        waiting = keys or [key for key, state in self.states.items() if not state["ready"]]
        texts, objects = [], []
        for number, key in enumerate(waiting):
            state = self.states[key]
            said = " ".join(part for part in (state["reason"], state["message"]) if part)
            more = diagnose(view.cluster, view.get(self.sources[key], key[3]), key) if number < 3 else ""
            texts.append(f"{name_of(key)}: {said}" + (f" [{more}]" if more else ""))
            objects.append({"apiVersion": key[0], "kind": key[1], "namespace": key[2] or None, "name": key[3], "ready": False,
                            "action": "failed" if state["failed"] else "waiting", "message": said})
        if not waiting:
            return CocoError("The cluster could not be seen", f"{view.cluster.server} gave no answer in time",
                             "Check that this machine reaches the API server; the run can be repeated and goes on where it stopped.")
        what = name_of(waiting[0]) if len(waiting) == 1 else f"{len(waiting)} objects"
        return CocoError(f"{what} {how}", "; ".join(texts),
                         "Look at what is named; the run can be repeated and goes on where it stopped.", not_ready=objects)


def wait_ready(cluster: Cluster, references: list[Object], seconds: float, context: Context,
               release: dict[str, Any] | None = None, allow_missing: bool = False, logs: str = "") -> list[State]:
    """Wait until each object is ready in its kind's own sense. ``logs``: a private directory for the log of the image job.

    Returns ``[{"ready", "failed", "reason", "message"}]`` in the given order; with ``allow_missing`` what is not there at first
    sight counts as ready with the reason ``Absent``. Raises :class:`CocoError` at the deadline or when one has failed for good,
    naming each object that is not ready and its condition. One line of progress per change.
    """
    keys = [key_of(reference) for reference in references]
    waiting = Waiting(list(dict.fromkeys(keys)), context, release, set(keys) if allow_missing else set(), logs)
    states = until(cluster, list(waiting.sources.values()), seconds, waiting.check,
                   lambda view: waiting.error(view, f"not ready after {seconds:.0f} s"), "Waiting for objects failed")
    return [states[key] for key in keys]


def wait_gone(cluster: Cluster, references: list[Object], seconds: float, context: Context) -> None:
    """Wait until no referenced object is there (an object of the same name with another ``uid`` counts as gone).

    Raises :class:`CocoError` at the deadline, naming what holds each: its conditions and finalizers.
    """
    keys = {key_of(reference): reference["metadata"].get("uid") for reference in references}
    sources = sources_of(list(keys))
    shown: dict[Key, str] = {}

    def leaving(view: View) -> dict[Key, str]:
        left: dict[Key, str] = {}
        for key, uid in keys.items():
            found, trouble = view.get(sources[key], key[3]), view.trouble(sources[key])
            if found is not None and (not uid or found["metadata"].get("uid") == uid):
                left[key] = held(found)
            elif trouble and "no such kind" not in trouble:
                left[key] = trouble
        return left

    def check(view: View) -> bool | None:
        left = leaving(view)
        for key, line in left.items():
            if shown.get(key) != line:
                shown[key] = line
                context.progress(f"waiting for {name_of(key)} to go: {line}")
        return None if left else True

    def late(view: View) -> CocoError:
        left = leaving(view)
        return CocoError(f"{', '.join(map(name_of, left)) or 'Something'} still there after {seconds:.0f} s",
                         "; ".join(f"{name_of(key)}: {line}" for key, line in left.items()),
                         "Look at what holds it (finalizers, the operator's log); the run can be repeated.")

    until(cluster, list(sources.values()), seconds, check, late, "Waiting for objects to go failed")


def held(obj: Object) -> str:
    """What keeps an object that is being deleted."""
    conditions = obj.get("status", {}).get("conditions") or []
    if conditions and "type" not in conditions[0]:  # a history (ClusterServiceVersion): the last one counts
        conditions = conditions[-1:]
    said = "; ".join(f"{c.get('reason') or c.get('type')}: {c['message']}" for c in conditions if c.get("message"))
    if not obj["metadata"].get("deletionTimestamp"):
        return "it is not being deleted"
    finalizers = ", ".join(obj["metadata"].get("finalizers") or []) or "no finalizer"
    return f"{said} ({finalizers})" if said else f"held by {finalizers}"


def name_of(key: Key) -> str:
    """``Kind namespace/name``."""
    return title({"kind": key[1], "metadata": {"name": key[3], "namespace": key[2]}})


def diagnose(cluster: Cluster, obj: Object | None, key: Key) -> str:
    """What the pods of a workload or the object's warning events say; empty when nothing helps. Three requests at most."""
    if obj is None:
        return ""
    with contextlib.suppress(ApiFailure, UnknownKind, Unreachable):
        if key[1] in WORKLOADS:
            labels = ",".join(f"{k}={v}" for k, v in ((obj.get("spec", {}).get("selector") or {}).get("matchLabels") or {}).items())
            pods = cluster.list("v1", "Pod", key[2], labels=labels) if labels else []
            told = sorted({text for pod in pods for text in pod_trouble(pod)})
            if told := told or pod_events(cluster, key[2], {pod["metadata"]["name"] for pod in pods}):
                return "; ".join(told[:4])
        if key[1] == "KataConfig" and (said := last_words(cluster, obj)):
            return said
        events = cluster.list("v1", "Event", key[2] or "default", fields=f"involvedObject.name={key[3]},type=Warning")
        texts = [f"{e.get('reason', '')}: {e.get('message', '')}" for e in events
                 if (e.get("involvedObject") or {}).get("kind") in (key[1], None)]
        return "; ".join(dict.fromkeys(texts[-2:]))
    return ""


def pod_events(cluster: Cluster, namespace: str, names: set[str]) -> list[str]:
    """The last warnings about the named pods: what keeps a sandbox from starting stands nowhere else."""
    if not names:
        return []
    events = [event for event in cluster.list("v1", "Event", namespace, fields="involvedObject.kind=Pod,type=Warning")
              if event["involvedObject"].get("name") in names]
    return list(dict.fromkeys(f"{e['involvedObject']['name']}: {e.get('reason', '')} {e.get('message', '')}" for e in events))[-2:]


def pod_trouble(pod: Object) -> list[str]:
    """Why a pod's containers do not run: ``pod: reason message``."""
    status, name, found = pod.get("status", {}), pod["metadata"]["name"], []
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        waiting = (container.get("state") or {}).get("waiting") or {}
        ended = (container.get("lastState") or {}).get("terminated") or (container.get("state") or {}).get("terminated") or {}
        if waiting.get("reason") and waiting["reason"] not in ("ContainerCreating", "PodInitializing"):
            found.append(f"{name}: {waiting['reason']} {waiting.get('message', '')}".strip())
        if ended.get("exitCode"):
            found.append(f"{name}: container {container.get('name', '')} ended with {ended['exitCode']} {ended.get('reason', '')}".strip())
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            found.append(f"{name}: {condition.get('reason', '')} {condition.get('message', '')}".strip())
    return found
