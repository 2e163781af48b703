"""preflight_check: every error at once, warnings as warnings, check mode the same."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

GOOD: dict[str, Any] = {
    "openshift_version": "4.18.31", "permissions": {"missing": []}, "operators": {"osc": {"csv": ""}, "trustee": {"csv": ""}},
    "kataconfig": None, "pools": [{"name": "worker", "paused": False, "degraded": False}],
    "nodes": [{"name": "w", "labels": {"node-role.kubernetes.io/worker": ""}}], "kata_pods": [],
}
CHOICES = {"image_security_policy": "signed", "route_termination": "passthrough"}
OPTIONS = {"release": "1.11/1.0", "zones": ["hub", "spoke"]}


@pytest.mark.parametrize("check", [True, False])
def test_fit(call: Any, lines: Any, check: bool) -> None:
    assert call("preflight_check", check=check, **OPTIONS, cluster=GOOD, choices=CHOICES) == {"changed": False, "findings": []}
    assert lines.warnings == []


@pytest.mark.parametrize("check", [True, False])
def test_every_error_at_once(call: Any, check: bool) -> None:
    missing = [{"verb": "patch", "group": "route.openshift.io", "resource": "routes", "zone": "hub"},
               {"verb": "list", "group": "", "resource": "nodes", "zone": "spoke"}]
    bad = {**GOOD, "permissions": {"missing": missing}, "pools": [{"name": "worker", "paused": True, "degraded": False}],
           "operators": {"osc": {"csv": "sandboxed-containers-operator.v1.7.0"}, "trustee": {"csv": ""}}}
    with pytest.raises(CocoError) as raised:
        call("preflight_check", check=check, **OPTIONS, cluster=bad, choices=CHOICES)
    said = str(raised.value)
    assert said.startswith("The cluster is not ready for release 1.11/1.0 · ")
    for text in ("the credentials may not patch routes.route.openshift.io", "the credentials may not list nodes", "pool worker is paused",
                 "sandboxed-containers-operator.v1.7.0"):
        assert text in said
    assert {f["severity"] for f in raised.value.details["findings"]} == {"error"}


def test_a_zone_is_judged_by_what_it_needs(call: Any) -> None:
    missing = [{"verb": "list", "group": "", "resource": "nodes", "zone": "spoke"}]
    on_hub = {**GOOD, "permissions": {"missing": missing}, "nodes": []}
    assert call("preflight_check", release="1.11/1.0", zones=["hub"], cluster=on_hub, choices=CHOICES)["findings"] == []
    with pytest.raises(CocoError, match="may not list nodes"):
        call("preflight_check", release="1.11/1.0", zones=["spoke"], cluster=on_hub, choices=CHOICES)


def test_warnings(call: Any, lines: Any) -> None:
    result = call("preflight_check", **OPTIONS, cluster=GOOD, choices={"image_security_policy": "insecure", "route_termination": "edge"})
    assert sorted(f["code"] for f in result["findings"]) == ["image-insecure", "plain-http"]
    assert any("plain HTTP inside the cluster (edge Route) · Use coco_route_termination: passthrough" in w for w in lines.warnings)


def test_notes_are_shown(call: Any, lines: Any) -> None:
    kept = {**GOOD, "operators": {"osc": {"csv": "sandboxed-containers-operator.v1.11.0"}, "trustee": {"csv": ""}}}
    call("preflight_check", **OPTIONS, cluster=kept, choices=CHOICES)
    assert lines == ["sandboxed-containers-operator.v1.11.0 is installed and kept (sandboxed-containers-operator.v1.11.1 is newer)"]


@pytest.mark.parametrize(("version", "good"), [("4.18.29", False), ("4.18.30", True), ("", False)])
def test_the_floor_of_a_release(call: Any, version: str, good: bool) -> None:
    cluster = {**GOOD, "openshift_version": version}
    if good:
        assert not call("preflight_check", **OPTIONS, cluster=cluster, choices=CHOICES)["findings"]
    else:
        with pytest.raises(CocoError, match=r"is below 4\.18\.30|has no ClusterVersion"):
            call("preflight_check", **OPTIONS, cluster=cluster, choices=CHOICES)


def test_an_unknown_release(call: Any) -> None:
    with pytest.raises(CocoError, match=r"1\.13/1\.2"):
        call("preflight_check", release="1.11", zones=["hub"], cluster=GOOD)


@pytest.mark.parametrize(("choice", "said"), [
    ({"kbs_url": "http://kbs.example.com"}, "the URL of the KBS is http"), ({"kbs_url": "kbs.example.com"}, "the URL of the KBS is 'kbs"),
    ({"kbs_url": "https://kbs.example.com/kbs/v0"}, "more than scheme, host and port"),
    ({"kbs_url": "https://kbs.example.com", "kbs_ca_certificate": "text"}, "no PEM certificate"),
])
def test_a_trustee_of_others(call: Any, choice: dict[str, Any], said: str) -> None:
    with pytest.raises(CocoError, match=said):
        call("preflight_check", release="1.11/1.0", zones=["spoke"], cluster=GOOD, choices={**CHOICES, **choice})


def test_http_is_a_warning_where_it_was_chosen(call: Any, lines: Any) -> None:
    chosen = {**CHOICES, "kbs_url": "http://kbs.example.com", "kbs_insecure_http": True}
    result = call("preflight_check", release="1.11/1.0", zones=["spoke"], cluster=GOOD, choices=chosen)
    assert [finding["code"] for finding in result["findings"]] == ["kbs-http"]
    assert len(lines.warnings) == 1
