"""kataconfig.py: a reboot is a decision with reasons. Sources: design.md rule 9; deployment.md 2.3, 4, 9 number 25."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.confidential.containers.plugins.module_utils import kataconfig

IMAGE = "/subscriptions/s/…/versions/1.0.0"
EXISTING: dict[str, Any] = {"metadata": {"name": "mine"}}
WORKER = "node-role.kubernetes.io/worker"


def pool(name: str = "worker", paused: bool = False, degraded: str = "", message: str = "") -> dict[str, Any]:
    conditions = [{"type": "Degraded", "status": "True" if degraded else "False", "message": degraded},
                  {"type": "NodeDegraded", "status": "True" if message else "False", "message": message}]
    return {"metadata": {"name": name}, "spec": {"paused": paused}, "status": {"conditions": conditions}}


def node(name: str, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels}}


def pod(name: str, runtime: str | None, phase: str = "Running") -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "team"}, "spec": {"runtimeClassName": runtime}, "status": {"phase": phase}}


TROUBLE = {"pools": [pool("kata-oc", paused=True), pool(degraded="1 nodes are reporting degraded", message="Node w1 is reporting: x")],
           "nodes": [node("w1", **{WORKER: ""})], "pods": [pod("a", "kata-remote"), pod("b", "kata-cc", "Succeeded"), pod("c", None)]}
SELECTOR: dict[str, Any] = {"selector": {"coco": "yes"}}


def plan(existing: Any = None, image: str = "", confidential: str = "", **wanted: Any) -> dict[str, Any]:
    facts = {"kataconfig": existing, "peerpods_cm": {"AZURE_IMAGE_ID": image} if image else None,
             "podvm_image_cm": {"CONFIDENTIAL_COMPUTE_ENABLED": confidential} if confidential else None, **TROUBLE}
    return kataconfig.plan(facts, {"name": "example-kataconfig", "recreate": "auto", **wanted})


def codes(decided: dict[str, Any]) -> list[str]:
    assert all(item["hint"] and item["severity"] == "error" for item in decided["blockers"])
    return [item["code"] for item in decided["blockers"]]


@pytest.mark.parametrize(("given", "needed", "name"), [
    ({}, "create", "example-kataconfig"),
    ({"existing": EXISTING}, "none", "mine"),  # the image job has not run yet
    ({"existing": EXISTING, "image": IMAGE, "confidential": "yes"}, "none", "mine"),
    ({"existing": EXISTING, "image": IMAGE, "confidential": "Yes"}, "none", "mine"),
    ({"existing": EXISTING, "image": IMAGE}, "retrigger", "mine"),
    ({"existing": EXISTING, "image": IMAGE, "confidential": "no"}, "retrigger", "mine"),
    ({"existing": EXISTING, "image": IMAGE, "image_id": IMAGE}, "none", "mine"),  # given in the inventory
    ({"existing": EXISTING, "image": IMAGE, "image_id": "another"}, "retrigger", "mine"),
    ({"existing": EXISTING, "image": IMAGE, "confidential": "yes", "recreate": "always"}, "recreate", "mine"),
    ({"recreate": "always"}, "create", "example-kataconfig"),  # nothing to delete
    ({"existing": {"metadata": {"name": "mine", "deletionTimestamp": "t"}}, "recreate": "always"}, "create", "mine"),
])
def test_decision(given: dict[str, Any], needed: str, name: str) -> None:
    decided = plan(**given)
    assert (decided["needed"], decided["name"]) == (needed, name)
    assert bool(decided["reasons"]) is (needed != "none")


@pytest.mark.parametrize(("given", "others", "recreate", "spared"), [
    (IMAGE, "", "always", True), ("", IMAGE, "always", True), ("", "", "always", False), ("another", "", "always", False),
    (IMAGE, IMAGE, "auto", False)])
def test_an_image_that_the_operator_would_delete(given: str, others: str, recreate: str, spared: bool) -> None:
    facts = {"kataconfig": EXISTING, "peerpods_cm": {"AZURE_IMAGE_ID": IMAGE}, "of_others": others}
    assert kataconfig.plan(facts, {"image_id": given, "recreate": recreate})["spare_image"] is spared
    empty = {**facts, "peerpods_cm": {}, "of_others": ""}
    assert kataconfig.plan(empty, {"image_id": "", "recreate": "always"})["spare_image"] is False


def test_reasons_speak_of_reboots() -> None:
    assert "reboots" in plan()["reasons"][0]
    assert "reboot twice" in plan(existing=EXISTING, recreate="always")["reasons"][0]
    assert "no reboot" in plan(existing=EXISTING, image=IMAGE)["reasons"][0]
    assert IMAGE in plan(existing=EXISTING, image=IMAGE)["reasons"][0]


def test_the_image_key_of_the_provider() -> None:
    settings = {"CLOUD_PROVIDER": "aws", "PODVM_AMI_ID": "ami-1"}
    facts = {"kataconfig": EXISTING, "peerpods_cm": settings, "podvm_image_cm": {}}
    assert kataconfig.plan(facts, {})["needed"] == "retrigger"
    assert kataconfig.plan({**facts, "peerpods_cm": {**settings, "CLOUD_PROVIDER": "azure"}}, {})["needed"] == "none"


def test_trouble_is_looked_at_only_where_the_steps_act() -> None:
    assert codes(plan(existing=EXISTING, **SELECTOR)) == []
    assert codes(plan(existing=EXISTING, image=IMAGE, **SELECTOR)) == [], "retriggering touches neither nodes nor pods"
    assert codes(plan(**SELECTOR)) == ["pool-paused", "pool-degraded", "selector"], "no pod can use what is not there"
    assert codes(plan(existing=EXISTING, recreate="always", **SELECTOR)) == ["pool-paused", "pool-degraded", "selector", "kata-pods"]
    assert codes(plan(existing=EXISTING, recreate="always", allow_pods=True)) == ["pool-paused", "pool-degraded"]


def test_trouble_is_named() -> None:
    texts = {item["code"]: item["message"] for item in plan(existing=EXISTING, recreate="always", **SELECTOR)["blockers"]}
    assert "kata-oc" in texts["pool-paused"]
    assert "Node w1 is reporting: x" in texts["pool-degraded"]
    assert "team/a, team/b" in texts["kata-pods"], "a completed pod blocks a deletion too (deployment.md 4)"
    assert "team/c" not in texts["kata-pods"]
    assert "coco" in texts["selector"]


def test_degraded_without_words() -> None:
    bare = {"metadata": {"name": "worker"}, "status": {"conditions": [{"type": "Degraded", "status": "True"}]}}
    found = kataconfig.plan({"kataconfig": None, "pools": [bare]}, {})["blockers"]
    assert "no message" in found[0]["message"]


@pytest.mark.parametrize(("nodes", "selector", "bad"), [
    ([node("w1", **{WORKER: ""})], {}, False), ([node("w1", **{WORKER: "", "coco": "yes"})], {"coco": "yes"}, False),
    ([node("w1", **{WORKER: "", "coco": "no"})], {"coco": "yes"}, True), ([node("w1", **{WORKER: ""})], {"coco": "yes"}, True),
    ([node("m1", coco="yes"), node("w1", **{WORKER: ""})], {"coco": "yes"}, True),  # a control plane node is no worker
    ([node("m1", coco="yes")], {"coco": "yes"}, False),  # a cluster without workers of their own
    ([node("w1", **{WORKER: "", "a": "1"}), node("w2", **{WORKER: "", "b": "2"})], {"a": "1", "b": "2"}, True), ([], {"a": "1"}, False),
])
def test_selector(nodes: list[dict[str, Any]], selector: dict[str, str], bad: bool) -> None:
    found = kataconfig.selector_blockers(nodes, selector)
    assert [item["code"] for item in found] == (["selector"] if bad else [])


def test_kata_pods() -> None:
    pods = [pod("z", "kata"), pod("a", "kata-remote"), pod("x", "runc"), pod("y", None), {"metadata": {"name": "n", "namespace": "team"}}]
    assert kataconfig.kata_pods(pods) == ["team/a", "team/z"]
