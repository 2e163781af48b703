"""The scheduler's filters and its words."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from lab.node_schedule import affinity_matches, expression, place, quantity, refusal, requests, tolerated

MASTER = {"key": "node-role.kubernetes.io/master", "effect": "NoSchedule"}


def node(name: str, taints: Any = None, labels: Any = None, unschedulable: bool = False, **allocatable: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}},
            "spec": {"taints": taints, "unschedulable": unschedulable},
            "status": {"allocatable": {"cpu": "8", "memory": "32Gi", "pods": "250",
                                       **{k.replace("__", "/").replace("_", "."): v for k, v in allocatable.items()}}}}


def spec(**given: Any) -> dict[str, Any]:
    return {"containers": [{"name": "c", "resources": given.pop("resources", {})}], **given}


FIVE = [node(f"cp-{i}", [MASTER]) for i in range(3)] + [node(f"w-{i}") for i in range(2)]


@pytest.mark.parametrize(("text", "value"), [
    ("500m", "0.5"), ("1Gi", "1073741824"), ("32861756Ki", "33650438144"), ("2", "2"), ("1e3", "1000"), ("1k", "1000"),
    (1, "1"), ("100n", "1E-7"),
])
def test_quantity(text: str | int, value: str) -> None:
    assert quantity(text) == Decimal(value)


@pytest.mark.parametrize("text", ["", "abc", "1KiB", "ki", "1Ni"])
def test_not_a_quantity(text: str) -> None:
    with pytest.raises(ValueError):
        quantity(text)


def test_requests_with_init_and_overhead() -> None:
    given = {"containers": [{"resources": {"requests": {"cpu": "1"}}}, {"resources": {"limits": {"cpu": "500m"}}}],
             "initContainers": [{"resources": {"requests": {"cpu": "2", "memory": "1Gi"}}}], "overhead": {"cpu": "250m"}}
    assert requests(given) == {"cpu": Decimal("2.25"), "memory": quantity("1Gi")}


def test_no_capacity_has_the_real_text() -> None:
    chosen, message = place(spec(resources={"limits": {"kata.peerpods.io/vm": "1"}}), FIVE, {})
    assert chosen is None
    assert message == ("0/5 nodes are available: 2 Insufficient kata.peerpods.io/vm, 3 node(s) had untolerated taint "
                       "{node-role.kubernetes.io/master: }. preemption: 0/5 nodes are available: 2 No preemption victims "
                       "found for incoming pod, 3 Preemption is not helpful for scheduling.")


def test_capacity_is_counted() -> None:
    wanted = spec(resources={"limits": {"kata.peerpods.io/vm": "1"}})
    nodes = [node("w", kata_peerpods_io__vm="1")]
    assert place(wanted, nodes, {})[0] == "w"
    assert "1 Insufficient kata.peerpods.io/vm" in place(wanted, nodes, {"w": [wanted]})[1]


def test_the_emptier_node_is_taken() -> None:
    assert place(spec(), FIVE, {"w-0": [spec()]})[0] == "w-1"
    assert place(spec(), FIVE, {})[0] == "w-0"


def test_daemonset_pod_goes_to_its_node_only() -> None:
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["w-1"]}]}]}}}
    assert place(spec(affinity=affinity), FIVE, {"w-1": [spec(), spec()]})[0] == "w-1"
    cordoned = [*FIVE[:4], node("w-1", unschedulable=True)]
    _, message = place(spec(affinity=affinity), cordoned, {})
    assert "1 node(s) were unschedulable, 4 node(s) didn't satisfy plugin(s) [NodeAffinity]" in message
    tolerant = spec(affinity=affinity, tolerations=[{"key": "node.kubernetes.io/unschedulable", "operator": "Exists",
                                                     "effect": "NoSchedule"}])
    assert place(tolerant, cordoned, {})[0] == "w-1"


def test_selector_and_ports() -> None:
    wanted = spec(nodeSelector={"node-role.kubernetes.io/kata-oc": ""})
    assert refusal(wanted, node("a"), []) == ["node(s) didn't match Pod's node affinity/selector"]
    assert refusal(wanted, node("a", labels={"node-role.kubernetes.io/kata-oc": ""}), []) == []
    host = {"hostNetwork": True, "containers": [{"ports": [{"containerPort": 9090}]}]}
    assert refusal(host, node("a"), [host]) == ["node(s) didn't have free ports for the requested pod ports"]
    assert refusal(spec(), node("a"), [host]) == []


def test_affinity_terms_are_alternatives() -> None:
    def terms(*each: dict[str, Any]) -> dict[str, Any]:
        return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [e]} for e in each]}}}}

    worker = node("w", labels={"role": "worker"})
    assert affinity_matches(terms({"key": "x", "operator": "Exists"}, {"key": "role", "operator": "In", "values": ["worker"]}),
                            worker)
    assert not affinity_matches(terms({"key": "role", "operator": "NotIn", "values": ["worker"]}), worker)


@pytest.mark.parametrize(("term", "holds"), [
    ({"operator": "In", "values": ["1"]}, True), ({"operator": "NotIn", "values": ["1"]}, False), ({"operator": "Exists"}, True),
    ({"operator": "DoesNotExist"}, False), ({"operator": "Gt", "values": ["0"]}, True),
    ({"operator": "Lt", "values": ["0"]}, False),
])
def test_expression(term: dict[str, Any], holds: bool) -> None:
    assert expression({"k": "1"}, {"key": "k", **term}) is holds


@pytest.mark.parametrize(("toleration", "holds"), [
    ({"operator": "Exists"}, True), ({"key": MASTER["key"], "operator": "Exists"}, True),
    ({"key": "other", "operator": "Exists"}, False),
    ({"key": MASTER["key"], "value": ""}, True), ({"key": MASTER["key"], "value": "x"}, False),
    ({"key": MASTER["key"], "operator": "Exists", "effect": "NoExecute"}, False),
])
def test_toleration(toleration: dict[str, Any], holds: bool) -> None:
    assert tolerated(MASTER, [toleration]) is holds


def test_no_nodes() -> None:
    assert place(spec(), [], {}) == (None, "no nodes available to schedule pods")
