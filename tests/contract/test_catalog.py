"""lab-catalog beside the operator index, as the real OLM sees it: channel, head, replaces, skipRange; Manual approval and startingCSV.

operators.md 1, deployment.md 1.1, 1.2 and 5.6, lab.md 9.4.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.contract.cluster import until
from tests.contract.manual import Subscribed
from tests.integration.lab import Lab

OSC, TRUSTEE = "sandboxed-containers-operator", "trustee-operator"
REFUSED = "contract-refused"


@pytest.fixture
def trustee(cluster: Lab) -> Iterator[Subscribed]:
    made = Subscribed(cluster, "contract-catalog-trustee", TRUSTEE, startingCSV="trustee-operator.v1.0.0")
    yield made
    made.remove()


@pytest.fixture
def osc(cluster: Lab) -> Iterator[Subscribed]:
    made = Subscribed(cluster, "contract-catalog-osc", OSC, startingCSV="sandboxed-containers-operator.v1.11.0")
    yield made
    made.remove()


def test_catalog_source(cluster: Lab) -> None:
    """``redhat-operators`` in ``openshift-marketplace``, connected (deployment.md 1.2, lab.md 9.4)."""
    path = "/apis/operators.coreos.com/v1alpha1/namespaces/openshift-marketplace/catalogsources/redhat-operators"
    assert until(lambda: cluster.request("GET", path).get("status", {}).get("connectionState"))["lastObservedState"] == "READY"


def test_starting_csv_is_no_lock(trustee: Subscribed) -> None:
    """Manual: the first plan names startingCSV only and installs nothing unapproved; then the newer CSV is offered and not installed.

    deployment.md 1.1: startingCSV is only a starting point, and the later plan must be left unapproved to stay; 5.6; lab.md 9.4.
    """
    old, new = "trustee-operator.v1.0.0", "trustee-operator.v1.1.0"
    plan = trustee.plan(old)
    assert (plan["spec"]["clusterServiceVersionNames"], plan["spec"]["approved"]) == ([old], False)
    assert plan["spec"]["approval"] == "Manual"
    until(lambda: trustee.status().get("state") == "UpgradePending")
    assert trustee.csvs() == {}
    trustee.approve(plan)
    until(lambda: trustee.succeeded(old), 120)
    offer = trustee.plan(new)
    assert (offer["spec"]["clusterServiceVersionNames"], offer["spec"]["approved"]) == ([new], False)
    status = until(lambda: (seen := trustee.status()) and seen.get("currentCSV") == new and seen)
    assert (status["state"], status["installedCSV"]) == ("UpgradePending", old)
    time.sleep(3)
    assert list(trustee.csvs()) == [old]
    trustee.approve(offer)
    csv = until(lambda: trustee.succeeded(new), 120)
    assert csv["spec"]["replaces"] == old
    until(lambda: list(trustee.csvs()) == [new])
    status = until(lambda: (seen := trustee.status()) and seen.get("state") == "AtLatestKnown" and seen)
    assert (status["installedCSV"], status["currentCSV"]) == (new, new)


def test_skip_range_jumps_to_the_head(osc: Subscribed) -> None:
    """OSC's skipRange: the head is offered over all releases between (operators.md 1.1, deployment.md 1.1)."""
    old, head = "sandboxed-containers-operator.v1.11.0", "sandboxed-containers-operator.v1.12.1"
    osc.approve(osc.plan(old))
    csv = until(lambda: osc.succeeded(old), 120)
    assert csv["metadata"]["annotations"]["olm.skipRange"] == ">=1.1.0 <1.11.0"
    assert osc.plan(head)["spec"]["clusterServiceVersionNames"] == [head]
    assert list(osc.csvs()) == [old]


@pytest.mark.parametrize(("wrong", "words"), [
    ({"channel": "alpha"}, "no operators found in channel alpha of package trustee-operator in the catalog referenced by subscription {}"),
    ({"startingCSV": "trustee-operator.v9.9.9"}, "no operators found with name trustee-operator.v9.9.9 in channel stable of package "
                                                 "trustee-operator in the catalog referenced by subscription {}"),
    ({"name": "unknown-pkg"}, "no operators found in package unknown-pkg in the catalog referenced by subscription {}"),
], ids=["channel", "startingCSV", "package"])
def test_what_the_index_does_not_have(cluster: Lab, wrong: dict[str, str], words: str) -> None:
    """The published channel is ``stable``, not git's ``alpha`` (deployment.md 1.2); the resolver's words otherwise (lab.md 9.4)."""
    made = Subscribed(cluster, f"{REFUSED}-{next(iter(wrong)).lower()}", TRUSTEE, **wrong)
    try:
        found = until(lambda: next((item for item in made.status().get("conditions", [])
                                    if item["type"] == "ResolutionFailed" and item["status"] == "True"), None))
        assert found["reason"] == "ConstraintsNotSatisfiable"
        assert words.format(TRUSTEE) in found["message"]
        assert "installPlanRef" not in made.status()
    finally:
        made.remove()
