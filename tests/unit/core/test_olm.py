"""olm.py: exactly the pinned operator. Sources: deployment.md 1.1, 5.6; OLM as run (operators.md)."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.confidential.containers.plugins.module_utils import olm

CSV = "trustee-operator.v1.0.0"


def plan(name: str, *csvs: str, phase: str = "RequiresApproval", approved: bool = False,
         at: str = "2026-01-01T00:00:00Z") -> dict[str, Any]:
    return {"metadata": {"name": name, "creationTimestamp": at}, "spec": {"approved": approved, "clusterServiceVersionNames": list(csvs)},
            "status": {"phase": phase} if phase else {}}


def chosen(*plans: dict[str, Any]) -> tuple[str, list[str]]:
    found, others = olm.choose(list(plans), CSV)
    return (found or {"metadata": {"name": ""}})["metadata"]["name"], [other["metadata"]["name"] for other in others]


def test_exactly_the_pinned_plan() -> None:
    assert chosen() == ("", [])
    assert chosen(plan("a", CSV)) == ("a", [])
    assert chosen(plan("a", "trustee-operator.v1.1.0")) == ("", ["a"])
    assert chosen(plan("a", CSV, "other.v1")) == ("", ["a"]), "a plan that installs more is not ours"
    assert chosen(plan("a", CSV + "0")) == ("", ["a"])
    assert chosen(plan("a", "trustee-operator.v1.1.0"), plan("b", CSV)) == ("b", ["a"])
    assert chosen(plan("a", CSV, approved=True), plan("b", "trustee-operator.v1.1.0", at="2026-02-01T00:00:00Z")) == ("a", ["b"])


def test_the_newest_of_several() -> None:
    assert chosen(plan("new", CSV, at="2026-02-01T00:00:00Z"), plan("old", CSV)) == ("new", [])


def test_plans_approved_by_somebody_else_are_not_listed_as_waiting() -> None:
    assert chosen(plan("a", "other.v1", approved=True)) == ("", [])


@pytest.mark.parametrize(("given", "good"), [
    (plan("a", CSV), True), (plan("a", CSV, approved=True), False), (plan("a", CSV, phase=""), False),
    (plan("a", CSV, phase="Planning"), False), (plan("a", CSV, phase="Installing"), False), (plan("a", CSV, phase="Failed"), False),
])
def test_approvable(given: dict[str, Any], good: bool) -> None:
    """Approving a plan without a phase makes OLM fail and plan anew."""
    assert olm.approvable(given) is good


@pytest.mark.parametrize("kind", ["ResolutionFailed", "CatalogSourcesUnhealthy", "BundleUnpackFailed", "InstallPlanFailed"])
def test_complaints(kind: str) -> None:
    condition = {"type": kind, "status": "True", "reason": "Why", "message": "no operators found"}
    assert olm.complaint({"status": {"conditions": [condition]}}) == f"{kind}/Why: no operators found"
    assert olm.complaint({"status": {"conditions": [{**condition, "status": "False"}]}}) == ""
    assert olm.complaint({}) == ""


def test_conditions_that_are_no_complaint() -> None:
    assert olm.complaint({"status": {"conditions": [{"type": "InstallPlanPending", "status": "True", "reason": "RequiresApproval"}]}}) == ""


def subscription(**spec: Any) -> dict[str, Any]:
    return {"spec": {"name": "trustee-operator", "installPlanApproval": "Manual", **spec}, "status": {"installedCSV": CSV}}


def test_drift() -> None:
    assert olm.drift(subscription(), "trustee-operator", CSV) == []
    for spec, csv, code, severity in (
        ({"installPlanApproval": "Automatic"}, CSV, "approval", "warning"), ({"installPlanApproval": None}, CSV, "approval", "warning"),
        ({"name": "sandboxed-containers-operator"}, CSV, "package", "error"), ({}, "trustee-operator.v1.1.0", "installed", "info"),
    ):
        found = olm.drift(subscription(**spec), "trustee-operator", csv)
        assert [(item["code"], item["severity"]) for item in found] == [(code, severity)]


def test_of_several_plans_for_the_same_the_named_one() -> None:
    plans = [plan("first", CSV), plan("second", CSV), plan("third", CSV, at="2026-02-01T00:00:00Z")]
    for named in ("first", "second", "third"):
        found, others = olm.choose(plans, CSV, named)
        assert (found or {})["metadata"]["name"] == named
        assert others == []
    assert (olm.choose(plans, CSV, "of something else")[0] or {})["metadata"]["name"] == "third"
