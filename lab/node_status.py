"""A pod's status as the kubelet computes it from its containers. Pure."""

from __future__ import annotations

from typing import Any

from lab.kube import now

Object = dict[str, Any]


def succeeded(status: Object) -> bool:
    done: Object = (status.get("state") or {}).get("terminated") or {}
    return bool(done) and done["exitCode"] == 0


def _never_started(status: Object) -> bool:
    state = status.get("state") or {}
    return "waiting" in state and not (status.get("lastState") or {}).get("terminated")


def phase(restart_policy: str, init: list[Object], main: list[Object], initializers: int) -> str:
    """Pending, Running, Succeeded or Failed (kubelet: getPhase). ``initializers``: how many init containers there are."""
    for status in init:
        done = (status.get("state") or {}).get("terminated")
        if done and done["exitCode"] != 0:
            return "Failed" if restart_policy == "Never" else "Pending"
    if sum(succeeded(status) for status in init) < initializers:
        return "Pending"
    if not main or any(_never_started(status) for status in main):
        return "Pending"
    states = [status.get("state") or {} for status in main]
    if any("running" in state for state in states):
        return "Running"
    if restart_policy == "Always" or any("waiting" in state for state in states):
        return "Running"
    if all(succeeded(status) for status in main):
        return "Succeeded"
    return "Failed" if restart_policy == "Never" else "Running"


def conditions(now_phase: str, init: list[Object], main: list[Object], sandbox: bool,
               node_ready: bool = True) -> dict[str, tuple[str, str, str]]:
    """Condition type → (status, reason, message) of the conditions that the kubelet owns."""
    found = {"PodReadyToStartContainers": ("True" if sandbox else "False", "", "")}
    incomplete = [s["name"] for s in init if not succeeded(s)]
    if now_phase == "Succeeded":
        found["Initialized"] = ("True", "PodCompleted", "")
        found["ContainersReady"] = found["Ready"] = ("False", "PodCompleted", "")
        return found
    found["Initialized"] = (
        ("False", "ContainersNotInitialized", f"containers with incomplete status: [{' '.join(incomplete)}]")
        if incomplete else ("True", "", ""))
    if now_phase == "Failed":
        found["ContainersReady"] = found["Ready"] = ("False", "PodFailed", "")
        return found
    unready = [s["name"] for s in main if not s.get("ready")]
    ready = ("True", "", "")
    if unready:
        ready = ("False", "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]")
    found["ContainersReady"] = found["Ready"] = ready
    if not node_ready:
        found["Ready"] = ("False", ready[1], ready[2])
    return found


def merge_conditions(before: list[Object], wanted: dict[str, tuple[str, str, str]]) -> list[Object]:
    """The conditions to write: a transition time changes only with the status."""
    known = {one["type"]: one for one in before}
    result = []
    for kind, (status, reason, message) in wanted.items():
        old = known.get(kind)
        time = old["lastTransitionTime"] if old and old["status"] == status and old.get("lastTransitionTime") else now()
        one: Object = {"type": kind, "status": status, "lastTransitionTime": time, "lastProbeTime": None}
        one["reason"] = reason or None
        one["message"] = message or None
        result.append(one)
    return result


def same(left: Any, right: Any) -> bool:
    """Is what we would write already there? (None and absent are alike; ``right`` may have more.)"""
    if isinstance(left, dict):
        return isinstance(right, dict) and all(same(value, right.get(key)) for key, value in left.items())
    if isinstance(left, list):
        return isinstance(right, list) and len(left) == len(right) and all(map(same, left, right))
    return bool(left == right) or (left in (None, "", [], {}) and right in (None, "", [], {}))


def ended(pod: Object) -> bool:
    """Has the pod reached a final phase?"""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
