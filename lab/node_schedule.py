"""Where a pod may run: the scheduler's filters with its words (kube-scheduler 1.33). Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

Object = dict[str, Any]

_SUFFIX = {
    "": Decimal(1), "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "k": Decimal("1e3"),
    "M": Decimal("1e6"), "G": Decimal("1e9"), "T": Decimal("1e12"), "P": Decimal("1e15"), "E": Decimal("1e18"),
    "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30), "Ti": Decimal(2**40), "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}
_QUANTITY = re.compile(r"^([+-]?[0-9.]+(?:[eE][+-]?\d+)?)(Ki|[numkMGTPE]?|[MGTPE]i)$")


def quantity(text: str | int | float) -> Decimal:
    """A Kubernetes quantity as a number (``500m`` = 0.5). Raises ValueError."""
    match = _QUANTITY.match(str(text))
    if match is None or match[2] not in _SUFFIX:
        raise ValueError(f"not a quantity: {text!r}")
    return Decimal(match[1]) * _SUFFIX[match[2]]


def requests(spec: Object) -> dict[str, Decimal]:
    """What a pod asks of its node: the larger of its init containers and the sum of its containers, plus overhead."""
    total: dict[str, Decimal] = {}
    for container in spec["containers"]:
        for name, value in _asked(container).items():
            total[name] = total.get(name, Decimal(0)) + value
    for container in spec.get("initContainers") or []:
        for name, value in _asked(container).items():
            total[name] = max(total.get(name, Decimal(0)), value)
    for name, value in (spec.get("overhead") or {}).items():
        total[name] = total.get(name, Decimal(0)) + quantity(value)
    return {name: value for name, value in total.items() if value}


def _asked(container: Object) -> dict[str, Decimal]:
    resources = container.get("resources") or {}
    merged = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    return {name: quantity(value) for name, value in merged.items()}


def expression(labels: dict[str, str], term: Object) -> bool:
    """Does one matchExpressions (or matchFields) entry hold?"""
    key, operator, values = term["key"], term["operator"], term.get("values") or []
    value = labels.get(key)
    if operator == "In":
        return value in values
    if operator == "NotIn":
        return value not in values
    if operator == "Exists":
        return key in labels
    if operator == "DoesNotExist":
        return key not in labels
    if operator in ("Gt", "Lt") and value is not None:
        try:
            return int(value) > int(values[0]) if operator == "Gt" else int(value) < int(values[0])
        except ValueError:
            return False
    return False


def _terms(spec: Object) -> list[Object] | None:
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    return required["nodeSelectorTerms"] if required else None


def _named_nodes(spec: Object) -> set[str] | None:
    """The nodes that every term names by metadata.name (the DaemonSet controller's affinity), else None."""
    terms = _terms(spec)
    if not terms:
        return None
    names: set[str] = set()
    for term in terms:
        fields = [f for f in term.get("matchFields") or [] if f["key"] == "metadata.name" and f["operator"] == "In"]
        if not fields:
            return None
        names.update(fields[0]["values"])
    return names


def affinity_matches(spec: Object, node: Object) -> bool:
    """nodeSelector and required node affinity."""
    labels = node["metadata"].get("labels") or {}
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    terms = _terms(spec)
    if terms is None:
        return True
    fields = {"metadata.name": node["metadata"]["name"]}
    return any(
        (term.get("matchExpressions") or term.get("matchFields"))
        and all(expression(labels, e) for e in term.get("matchExpressions") or [])
        and all(expression(fields, e) for e in term.get("matchFields") or [])
        for term in terms
    )


def tolerated(taint: Object, tolerations: Iterable[Object]) -> bool:
    """Does any toleration cover the taint?"""
    for one in tolerations:
        if one.get("effect") and one["effect"] != taint["effect"]:
            continue
        if one.get("key") and one["key"] != taint["key"]:
            continue
        operator = one.get("operator") or "Equal"
        if operator == "Exists":
            return True
        if one.get("key") and (one.get("value") or "") == (taint.get("value") or ""):
            return True
    return False


def host_ports(spec: Object) -> set[tuple[str, int]]:
    """(protocol, port) that the pod takes on its node."""
    found = set()
    for container in [*(spec.get("initContainers") or []), *spec["containers"]]:
        for port in container.get("ports") or []:
            number = port.get("hostPort") or (port["containerPort"] if spec.get("hostNetwork") else 0)
            if number:
                found.add((port.get("protocol") or "TCP", number))
    return found


def refusal(spec: Object, node: Object, pods: list[Object]) -> list[str]:
    """Why the node cannot take the pod (the first filter that refuses), empty if it can.

    ``pods`` are the specs of the pods already on the node that have not ended.
    """
    named = _named_nodes(spec)
    if named is not None and node["metadata"]["name"] not in named:
        return ["node(s) didn't satisfy plugin(s) [NodeAffinity]"]
    tolerations = spec.get("tolerations") or []
    unschedulable = {"key": "node.kubernetes.io/unschedulable", "value": "", "effect": "NoSchedule"}
    if node["spec"].get("unschedulable") and not tolerated(unschedulable, tolerations):
        return ["node(s) were unschedulable"]
    for taint in node["spec"].get("taints") or []:
        if taint["effect"] in ("NoSchedule", "NoExecute") and not tolerated(taint, tolerations):
            return [f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value') or ''}}}"]
    if not affinity_matches(spec, node):
        return ["node(s) didn't match Pod's node affinity/selector"]
    taken: set[tuple[str, int]] = set()
    for other in pods:
        taken |= host_ports(other)
    if host_ports(spec) & taken:
        return ["node(s) didn't have free ports for the requested pod ports"]
    return _unfit(spec, node, pods)


def _unfit(spec: Object, node: Object, pods: list[Object]) -> list[str]:
    allocatable = {name: quantity(value) for name, value in (node["status"].get("allocatable") or {}).items()}
    used: dict[str, Decimal] = {}
    for other in pods:
        for name, value in requests(other).items():
            used[name] = used.get(name, Decimal(0)) + value
    found = []
    if len(pods) + 1 > allocatable.get("pods", Decimal(110)):
        found.append("Too many pods")
    for name, value in requests(spec).items():
        if value > allocatable.get(name, Decimal(0)) - used.get(name, Decimal(0)):
            found.append(f"Insufficient {name}")
    return found


_HOPEFUL = ("Insufficient ", "Too many pods", "node(s) didn't have free ports")


def place(spec: Object, nodes: list[Object], pods: dict[str, list[Object]]) -> tuple[str | None, str]:
    """(node name, "") or (None, the message of FailedScheduling). ``pods``: specs by node name."""
    if not nodes:
        return None, "no nodes available to schedule pods"
    reasons: Counter[str] = Counter()
    preemption: Counter[str] = Counter()
    fitting = []
    for node in nodes:
        refused = refusal(spec, node, pods.get(node["metadata"]["name"], []))
        if not refused:
            fitting.append(node)
        reasons.update(refused)
        if refused:
            hopeful = refused[0].startswith(_HOPEFUL)
            preemption["No preemption victims found for incoming pod" if hopeful
                       else "Preemption is not helpful for scheduling"] += 1
    if fitting:
        best = min(fitting, key=lambda n: (_prefers_not(n), len(pods.get(n["metadata"]["name"], [])),
                                           n["metadata"]["name"]))
        return best["metadata"]["name"], ""
    head = f"0/{len(nodes)} nodes are available: "
    body = ", ".join(sorted(f"{count} {text}" for text, count in reasons.items()))
    after = ", ".join(sorted(f"{count} {text}" for text, count in preemption.items()))
    if spec.get("preemptionPolicy") == "Never":
        return None, f"{head}{body}. preemption: not eligible due to preemptionPolicy=Never."
    return None, f"{head}{body}. preemption: {head}{after}."


def _prefers_not(node: Object) -> bool:
    return any(t["effect"] == "PreferNoSchedule" for t in node["spec"].get("taints") or [])
