"""olm_install_plan: exactly the pinned CSV's plan, in the phase in which OLM takes it, and nothing else."""

from __future__ import annotations

import time
from typing import Any

import pytest

from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError
from tests.fake_api import FakeApi
from tests.fake_api.store import Object

API, NAMESPACE = "operators.coreos.com/v1alpha1", "trustee-operator-system"
CSV, NEWER, OLDER = "trustee-operator.v1.0.0", "trustee-operator.v1.1.0", "trustee-operator.v0.4.2"
OPTIONS = {"namespace": NAMESPACE, "subscription": "trustee", "csv": CSV}


def plan(name: str, *names: str, phase: str = "RequiresApproval", approved: bool = False, made: str = "2026-01-01T00:00:00Z",
         **status: Any) -> Object:
    return {"apiVersion": API, "kind": "InstallPlan", "metadata": {"name": name, "namespace": NAMESPACE, "creationTimestamp": made},
            "spec": {"clusterServiceVersionNames": list(names), "approved": approved, "approval": "Manual"},
            "status": {"phase": phase, **status} if phase else {}}


def subscription(installed: str = "", approval: str = "Manual", **status: Any) -> Object:
    return {"apiVersion": API, "kind": "Subscription", "metadata": {"name": "trustee", "namespace": NAMESPACE},
            "spec": {"name": "trustee-operator", "installPlanApproval": approval},
            "status": {**({"installedCSV": installed} if installed else {}), **status}}


def csv(name: str = CSV, phase: str = "Succeeded", **status: Any) -> Object:
    return {"apiVersion": API, "kind": "ClusterServiceVersion", "metadata": {"name": name, "namespace": NAMESPACE},
            "status": {"phase": phase, **status}}


def olm(api: FakeApi, seconds: float = 0.2) -> None:
    """Installs what an approved plan names."""
    def react(event: str, obj: Object) -> None:
        if obj["kind"] == "InstallPlan" and obj["spec"].get("approved"):
            for name in obj["spec"]["clusterServiceVersionNames"]:
                api.put(csv(name, "Installing"))
                api.later(seconds, api.put, csv(name))
    api.reactors.append(react)


def approved(api: FakeApi) -> set[str]:
    return {key[3] for key, obj in api.objects.items() if key[1] == "installplans" and obj["spec"]["approved"]}


def test_the_pinned_plan_is_approved_and_awaited(api: FakeApi, call: Any, lines: list[str]) -> None:
    olm(api)
    api.put(subscription())
    api.put(plan("install-a", CSV))
    api.put(plan("install-b", NEWER, made="2026-02-01T00:00:00Z"))
    api.put(plan("install-c", CSV, "another.v2", made="2026-03-01T00:00:00Z"))
    result = call("olm_install_plan", **OPTIONS)
    assert result == {"changed": True, "csv": CSV, "install_plan": "install-a", "approved": True,
                      "pending": ["another.v2", CSV, NEWER], "findings": []}
    assert approved(api) == {"install-a"}
    (write,) = api.writes()
    assert write.path.endswith("/installplans/install-a")
    assert write.body == {"spec": {"approved": True}}
    assert f"{NAMESPACE}: install plan install-a approved for {CSV}" in lines
    again = call("olm_install_plan", **OPTIONS)
    assert not again["changed"]
    assert len(api.writes()) == 1


def test_a_plan_with_another_operator_is_never_approved(api: FakeApi, call: Any) -> None:
    api.put(subscription())
    api.put(plan("install-a", CSV, "another.v2"))
    with pytest.raises(CocoError, match=f"{CSV} was not installed in 0 s .* unapproved plans: another.v2, {CSV}"):
        call("olm_install_plan", **OPTIONS, wait_timeout=0)
    assert not api.writes()


@pytest.mark.parametrize("phase", ["", "Planning", "Installing", "Complete", "Failed"])
def test_only_in_the_phase_that_asks_for_it(api: FakeApi, call: Any, phase: str) -> None:
    api.put(subscription())
    api.put(plan("install-a", CSV, phase=phase))
    with pytest.raises(CocoError, match=f"install plan install-a is {phase or 'being made'}"):
        call("olm_install_plan", **OPTIONS, wait_timeout=0)
    assert not api.writes()


def test_a_plan_that_comes_later_and_ripens(api: FakeApi, call: Any, lines: list[str]) -> None:
    olm(api)
    api.later(1.0, api.put, plan("install-a", CSV, phase=""))
    api.later(1.3, api.put, plan("install-a", CSV))
    api.put(subscription())
    assert call("olm_install_plan", **OPTIONS)["approved"]
    assert lines[0] == f"{NAMESPACE}: waiting for the install plan of {CSV}"


def test_a_newer_plan_for_the_same_csv_is_the_one(api: FakeApi, call: Any) -> None:
    """OLM plans anew after a failure."""
    olm(api)
    api.put(subscription())
    api.put(plan("install-z", CSV, phase="Failed", approved=True))
    api.put(plan("install-a", CSV, made="2026-02-01T00:00:00Z"))
    assert call("olm_install_plan", **OPTIONS)["install_plan"] == "install-a"


def test_success_must_last(api: FakeApi, call: Any) -> None:
    """OLM passes through Succeeded while it rotates certificates."""
    olm(api, 0.1)
    succeeded: list[float] = []

    def react(_event: str, obj: Object) -> None:
        if obj["kind"] == "ClusterServiceVersion" and obj["status"]["phase"] == "Succeeded":
            succeeded.append(time.monotonic())
            if len(succeeded) == 1:
                api.later(0.3, api.put, csv(phase="Pending"))
                api.later(0.6, api.put, csv())

    api.reactors.append(react)
    api.put(subscription())
    api.put(plan("install-a", CSV))
    call("olm_install_plan", **OPTIONS)
    assert len(succeeded) == 2
    assert time.monotonic() - succeeded[1] > 0.9


def test_installed_already(api: FakeApi, call: Any) -> None:
    api.put(subscription(CSV))
    api.put(csv())
    api.put(plan("install-b", NEWER))
    result = call("olm_install_plan", **OPTIONS)
    assert (result["changed"], result["approved"], result["pending"]) == (False, False, [NEWER])
    assert not api.writes()


def test_an_accepted_one_is_kept_and_another_is_an_error(api: FakeApi, call: Any) -> None:
    api.put(subscription(OLDER))
    api.put(csv(OLDER))
    api.put(plan("install-a", CSV))
    result = call("olm_install_plan", **OPTIONS, accepted=[OLDER])
    assert (result["csv"], result["changed"], result["pending"]) == (OLDER, False, [CSV])
    assert [finding["code"] for finding in result["findings"]] == ["installed"]
    with pytest.raises(CocoError, match=f"The installed operator {OLDER} is not the pinned one · {CSV} is pinned") as raised:
        call("olm_install_plan", **OPTIONS)
    assert raised.value.details["installed"] == OLDER
    assert not api.writes()


def test_a_subscription_that_approves_by_itself_is_reported(api: FakeApi, call: Any) -> None:
    api.put(subscription(CSV, approval="Automatic"))
    api.put(csv())
    assert [f["code"] for f in call("olm_install_plan", **OPTIONS)["findings"]] == ["approval"]


@pytest.mark.parametrize("kind", ["ResolutionFailed", "BundleUnpackFailed", "CatalogSourcesUnhealthy"])
def test_complaints_are_shown(api: FakeApi, call: Any, lines: list[str], kind: str) -> None:
    said = "no operators found in channel stable-v9"
    api.put(subscription(conditions=[{"type": kind, "status": "True", "reason": "Why", "message": said}]))
    with pytest.raises(CocoError, match=f"{kind}/Why: {said}"):
        call("olm_install_plan", **OPTIONS, wait_timeout=0)
    assert lines == [f"{NAMESPACE}: {kind}/Why: {said}"]


def test_a_failed_plan_says_why(api: FakeApi, call: Any) -> None:
    api.put(subscription(conditions=[{"type": "InstallPlanFailed", "status": "True", "reason": "InstallComponentFailed",
                                      "message": "see plan"}]))
    api.put(plan("install-a", CSV, phase="Failed", approved=True, conditions=[
        {"type": "Installed", "status": "False", "reason": "InstallComponentFailed", "message": "error validating existing CRs"}]))
    with pytest.raises(CocoError) as raised:
        call("olm_install_plan", **OPTIONS, wait_timeout=0)
    assert ("install plan install-a is Failed (error validating existing CRs; InstallPlanFailed/InstallComponentFailed: see plan)"
            in str(raised.value))


def test_a_csv_that_does_not_succeed_says_why(api: FakeApi, call: Any) -> None:
    api.put(subscription(CSV))
    api.put(csv(phase="Pending", reason="RequirementsNotMet", message="one or more requirements couldn't be found"))
    with pytest.raises(CocoError, match=f"{CSV} is Pending .RequirementsNotMet: one or more"):
        call("olm_install_plan", **OPTIONS, wait_timeout=0)


def test_no_subscription(api: FakeApi, call: Any) -> None:
    with pytest.raises(CocoError, match=f"there is no Subscription {NAMESPACE}/trustee"):
        call("olm_install_plan", **OPTIONS)
    assert call("olm_install_plan", check=True, **OPTIONS)["changed"]


def test_check_mode_approves_and_awaits_nothing(api: FakeApi, call: Any) -> None:
    api.put(subscription())
    assert call("olm_install_plan", check=True, **OPTIONS)["changed"]
    api.put(plan("install-a", CSV))
    result = call("olm_install_plan", check=True, **OPTIONS)
    assert (result["changed"], result["approved"], result["install_plan"]) == (True, True, "install-a")
    api.put(csv())
    api.put(subscription(CSV))
    assert not call("olm_install_plan", check=True, **OPTIONS)["changed"]
    assert not api.writes()


def test_no_olm_and_no_rights(api: FakeApi, call: Any) -> None:
    api.put(subscription())
    api.put(plan("install-a", CSV))
    api.forbidden.add(("patch", "installplans"))
    with pytest.raises(CocoError, match=f"The install plan of {CSV} was not handled · the credentials may not do this: .*cannot patch"):
        call("olm_install_plan", **OPTIONS)


def test_an_api_server_that_restarts_is_waited_for(api: FakeApi, call: Any) -> None:
    """The installation goes on by watch, not by asking again and again; an outage ends nothing."""
    olm(api, 1.5)
    api.put(subscription())
    api.put(plan("install-a", CSV))
    api.later(0.3, setattr, api, "watch_seconds", 0.3)
    api.script("GET", "clusterserviceversions", 0, close=True, watch=True, times=6)
    api.script("GET", "subscriptions", 500, watch=True, times=2)
    assert call("olm_install_plan", **OPTIONS)["approved"]
    assert approved(api) == {"install-a"}


def test_waiting_costs_few_requests(api: FakeApi, call: Any) -> None:
    olm(api, 2.0)
    api.put(subscription())
    api.put(plan("install-a", CSV))
    call("olm_install_plan", **OPTIONS)
    assert len(api.requests) <= 2 + 2 * 3 + 1  # discovery, list and watch of three kinds, the approval
