"""policy_check: our own policies pass, faults are found, and cases are evaluated where there is an engine."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.confidential.containers.plugins.module_utils import kata_policy, policy, releases
from ansible_collections.confidential.containers.plugins.module_utils.actions import policy_check
from ansible_collections.confidential.containers.plugins.module_utils.context import Context
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

RELEASE = "1.11/1.0"
TRUSTEE = releases.parse(RELEASE).trustee
RESOURCE = {"name": "resource", "kind": "resource", "text": policy.resource_policy(TRUSTEE)}
OWN = [{"name": "attestation", "kind": "attestation", "text": policy.attestation_policy(TRUSTEE)}, RESOURCE,
       {"name": "agent", "kind": "agent", "text": kata_policy.render()}]
CASES = [
    {"policy": "resource", "name": "none", "rule": "allow", "input": {"submods": {}}, "data": {}, "expect": False},
    {"policy": "resource", "name": "good", "rule": "allow", "input": {"submods": {"cpu0": {"ear.status": "affirming"}}},
     "data": {}, "expect": True},
]


def run(policies: list[dict[str, Any]], cases: list[dict[str, Any]] | None = None, fail: bool = True) -> dict[str, Any]:
    return policy_check.run({"release": RELEASE, "policies": policies, "cases": cases or [], "fail": fail}, Context())


def test_our_own_policies_pass() -> None:
    result = run(OWN, CASES)
    assert not result["changed"]
    assert result["evaluated"]
    assert [item["ok"] for item in result["results"]] == [True, True]


def test_faults_fail_unless_told_otherwise() -> None:
    bad = [{"name": "bad", "kind": "resource", "text": "package other\n"}]
    with pytest.raises(CocoError, match="bad"):
        run(bad)
    result = run(bad, fail=False)
    assert {finding["policy"] for finding in result["findings"]} == {"bad"}


def test_wrong_answer_is_an_error() -> None:
    wrong = {**CASES[0], "expect": True}
    with pytest.raises(CocoError, match="none"):
        run([RESOURCE], [wrong])


def test_without_an_engine_nothing_is_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_check, "regorus", None)
    result = run([RESOURCE], CASES)
    assert result["evaluated"] is False
    assert result["results"] == []
