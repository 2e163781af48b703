"""preflight.py: what would make a run fail is said before anything is written, and nothing that would not."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.confidential.containers.plugins.module_utils import preflight, releases
from ansible_collections.confidential.containers.plugins.module_utils.actions import preflight_check
from ansible_collections.confidential.containers.plugins.module_utils.context import Context
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

WORKER = "node-role.kubernetes.io/worker"
MEASURED = {f"pcr{number:02d}": f"{number:064x}" for number in (3, 9, 11, 12)}
CHOICES: dict[str, Any] = {"route_termination": "passthrough", "image_security_policy": "signed", "measurements": MEASURED, "selector": {},
                           "recreate": "auto", "allow_pods": False, "agent_policy": {}, "initdata": {"default": {}, "verification": {}}}
CLUSTER: dict[str, Any] = {
    "openshift_version": "4.18.30", "operators": {}, "permissions": {"missing": []}, "kataconfig": None, "kata_pods": [],
    "nodes": [{"name": "w1", "labels": {WORKER: ""}}],
    "pools": [{"name": "worker", "paused": False, "degraded": False, "updated": True, "machine_count": 1}],
}
KATA = {"name": "mine", "spec": {}, "status": {}, "deleting": False}


def judge(cluster: dict[str, Any] | None = None, zones: tuple[str, ...] = ("hub", "spoke"), release: str = "1.11/1.0",
          **choices: Any) -> list[dict[str, str]]:
    found = preflight.judge(releases.parse(release), list(zones), {**CLUSTER, **(cluster or {})}, {**CHOICES, **choices})
    for item in found:
        assert item["severity"] in ("error", "warning", "info")
        assert item["hint"] or item["severity"] == "info"
    return found


def codes(*arguments: Any, severity: str = "error", **options: Any) -> list[str]:
    return [item["code"] for item in judge(*arguments, **options) if item["severity"] == severity]


def test_a_fit_cluster() -> None:
    assert judge() == []


@pytest.mark.parametrize("release", ["", "1.7/0.1", "1.11/1.1", "1.14/1.3"])
def test_unknown_or_unpaired_release(release: str) -> None:
    with pytest.raises(CocoError, match=r"1\.8/0\.2.*1\.13/1\.2"):
        preflight_check.run({"release": release, "zones": ["hub"], "cluster": CLUSTER, "choices": CHOICES}, Context())


def test_every_error_at_once() -> None:
    with pytest.raises(CocoError) as caught:
        preflight_check.run({"release": "1.11/1.0", "zones": ["hub", "spoke"], "choices": {**CHOICES, "measurements": {"x": 1}},
                             "cluster": {**CLUSTER, "openshift_version": "4.16.1"}}, Context())
    assert "4.17.45" in caught.value.seen
    assert "pcr03" in caught.value.seen
    assert preflight_check.run({"release": "1.11/1.0", "zones": ["hub", "spoke"], "choices": CHOICES, "cluster": CLUSTER},
                               Context()) == {"changed": False, "findings": []}


def test_openshift_below_the_floor() -> None:
    found = [item for item in judge({"openshift_version": "4.17.44"}) if item["severity"] == "error"]
    assert [item["code"] for item in found] == ["openshift-floor"]
    assert "4.17.45" in found[0]["message"]
    assert codes({"openshift_version": "4.17.44"}, zones=("hub",)) == [], "the hub runs no pod VMs"
    assert codes({"openshift_version": ""}) == ["no-openshift"]
    assert codes({"openshift_version": "4.14.0"}, release="1.9/0.3") == ["openshift-floor"]


def installed(osc: str = "", trustee: str = "") -> dict[str, Any]:
    return {"operators": {"osc": {"csv": osc}, "trustee": {"csv": trustee}}}


def test_release_asked_differs_from_installed() -> None:
    other = installed("sandboxed-containers-operator.v1.12.0", "trustee-operator.v1.1.0")
    assert codes(other) == ["csv", "csv"]
    assert codes(other, zones=("hub",)) == ["csv"]
    messages = [item["message"] for item in judge(other)]
    assert "trustee-operator.v1.1.0" in messages[0]
    assert "sandboxed-containers-operator.v1.12.0" in messages[1]
    assert "1.11.1" in messages[1]


def test_an_older_z_stream_is_kept_and_said() -> None:
    older = installed("sandboxed-containers-operator.v1.11.0", "trustee-operator.v1.0.0")
    assert codes(older) == []
    assert codes(older, severity="info") == ["csv-kept"]
    assert codes(installed("sandboxed-containers-operator.v1.11.1", "trustee-operator.v1.0.0"), severity="info") == []


def test_credentials_that_the_cluster_gives() -> None:
    operator = {"present": True, "mode": "Manual", "root_secret": True, "root_mode": "passthrough", "federated": False, "unseen": []}
    facts = {"platform": "Azure", "credentials_operator": operator, "peerpods_secret": {"present": False, "keys": []}}
    assert codes(facts) == ["credentials-manual"]
    assert codes(facts, zones=("hub",)) == []
    assert codes({**facts, "peerpods_secret": {"present": True, "keys": []}}) == []
    given = ["AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_TENANT_ID", "AZURE_SUBSCRIPTION_ID"]
    assert codes(facts, credential_names=given) == []
    assert codes({**facts, "credentials_operator": {**operator, "mode": ""}}, severity="info") == ["credentials-passthrough"]


def missing(verb: str, group: str, resource: str, zone: str) -> dict[str, Any]:
    return {"permissions": {"missing": [{"verb": verb, "group": group, "resource": resource, "zone": zone}]}}


def test_forbidden_verb_is_named() -> None:
    found = judge(missing("patch", "kataconfiguration.openshift.io", "kataconfigs", "spoke"))
    assert [(item["code"], item["severity"]) for item in found] == [("forbidden", "error")]
    assert "patch kataconfigs.kataconfiguration.openshift.io" in found[0]["message"]
    assert "create secrets" in judge(missing("create", "", "secrets", "both"))[0]["message"]
    assert codes(missing("patch", "", "kataconfigs", "spoke"), zones=("hub",)) == []
    assert codes(missing("create", "", "namespaces", "both"), zones=("hub",)) == ["forbidden"]


def pool(**state: bool) -> dict[str, Any]:
    return {"pools": [{"name": "worker", "paused": False, "degraded": False, **state}]}


@pytest.mark.parametrize("state", ["paused", "degraded"])
def test_pools_matter_only_where_the_steps_act(state: str) -> None:
    bad = pool(**{state: True})
    assert codes(bad) == [f"pool-{state}"]
    assert codes({**bad, "kataconfig": KATA}) == []
    assert codes({**bad, "kataconfig": KATA}, recreate="always") == [f"pool-{state}"]
    assert codes(bad, zones=("hub",)) == []
    assert "worker" in judge(bad)[0]["message"]


def test_kata_pods_matter_only_where_the_steps_act() -> None:
    running = {"kataconfig": KATA, "kata_pods": ["team/a", "team/b"]}
    assert codes(running) == []
    assert codes(running, recreate="always") == ["kata-pods"]
    assert codes(running, recreate="always", allow_pods=True) == []
    assert "team/a, team/b" in judge(running, recreate="always")[0]["message"]


def test_selector_that_matches_no_node() -> None:
    selector = {"coco": "yes"}
    assert codes(selector=selector) == ["selector"]
    assert codes({"nodes": [{"name": "w1", "labels": {WORKER: "", "coco": "yes"}}]}, selector=selector) == []
    assert codes({"kataconfig": KATA}, selector=selector) == []


def kinds(*given: tuple[str, str]) -> dict[str, Any]:
    generated = {"trusteeconfig-kbs-config"}
    return {"trustee": {"kinds": [{"kind": kind, "name": name, "generated": name in generated} for kind, name in given]}}


@pytest.mark.parametrize(("release", "kind", "held", "code"), [
    ("1.11/1.0", "auto", [], []), ("1.11/1.0", "TrusteeConfig", [], []), ("1.13/1.2", "KbsConfig", [], []),
    ("1.10/0.4", "TrusteeConfig", [], ["trustee-kind"]), ("1.11/1.0", "Kbsconfig", [], ["trustee-kind"]),
    ("1.11/1.0", "auto", [("KbsConfig", "kbsconfig")], []), ("1.11/1.0", "auto", [("KbsConfig", "another")], []),
    ("1.13/1.2", "auto", [("KbsConfig", "trusteeconfig-kbs-config"), ("TrusteeConfig", "trusteeconfig")], []),
    ("1.13/1.2", "auto", [("KbsConfig", "kbsconfig")], ["trustee-kind"]),
    ("1.13/1.2", "KbsConfig", [("KbsConfig", "trusteeconfig-kbs-config"), ("TrusteeConfig", "trusteeconfig")], ["trustee-kind"]),
    ("1.13/1.2", "auto", [("TrusteeConfig", "another")], ["trustee-name"]),
])
def test_kind_of_trustee(release: str, kind: str, held: list[tuple[str, str]], code: list[str]) -> None:
    found = codes({**kinds(*held), "openshift_version": "4.20.30"}, zones=("hub",), release=release, trustee_kind=kind)
    assert found == code


def test_profile_of_a_trusteeconfig() -> None:
    options: dict[str, Any] = {"zones": ("hub",), "release": "1.13/1.2"}
    assert codes(trustee_profile="Restricted", severity="warning", **options) == []
    assert codes(trustee_profile="Permissive", severity="warning", **options) == ["permissive"]
    assert codes(trustee_profile="Permissive", trustee_kind="KbsConfig", severity="warning", **options) == []
    assert codes(trustee_profile="Restricted", route_termination="edge", **options) == ["restricted-edge"]
    assert codes(trustee_profile="Permissive", route_termination="edge", **options) == []
    assert codes(trustee_kind="KbsConfig", route_termination="edge", **options) == []


def test_edge_route() -> None:
    assert codes(route_termination="edge", severity="warning") == ["plain-http"]
    assert codes(route_termination="edge", zones=("spoke",), severity="warning") == []


@pytest.mark.parametrize(("release", "bad"), [("1.8/0.2", False), ("1.9/0.3", True), ("1.10/0.4", True), ("1.11/1.0", False)])
def test_unauthenticated_attestation_policy(release: str, bad: bool) -> None:
    """trustee.md 1.1: v0.11 to v0.13 forgot the check."""
    assert codes({"openshift_version": "4.22.0"}, release=release, severity="warning") == (["unauthenticated-policy"] if bad else [])


@pytest.mark.parametrize(("measured", "bad"), [({}, True), ({**MEASURED, "pcr11": "xyz"}, True), ("path/measurements.json", False)])
def test_measurements(measured: Any, bad: bool) -> None:
    assert codes(measurements=measured) == (["measurements"] if bad else [])
    assert codes(measurements=measured, zones=("spoke",)) == []


def test_image_policies() -> None:
    assert codes(image_security_policy="sigend") == ["image-policy"]
    assert codes(initdata={"default": {}, "verification": {"image_security_policy": "none"}}) == ["image-policy"]
    assert codes(image_security_policy="insecure", severity="warning") == ["image-insecure"]
    assert codes(initdata={"own": {"image_security_policy": "insecure"}}, severity="warning") == ["image-insecure"]
    assert codes(image_security_policy="reject", initdata={"default": None}, severity="warning") == []


def test_the_verification_document_may_take_any_image_because_it_opens_nothing_else() -> None:
    assert codes(initdata={"default": {}, "verification": {"image_security_policy": "insecure"}}, severity="warning") == []
    assert codes(initdata={"verification": {"agent_policy": {"exec": True}}}, severity="warning") == ["agent-exec"]


def test_a_weak_document_that_opens_everything_is_said_to() -> None:
    def told(document: dict[str, Any]) -> str:
        found = preflight.judge(releases.parse("1.11/1.0"), ["spoke"], {"openshift_version": "4.22.0"},
                                {**CHOICES, "initdata": {"debug": document}})
        (finding,) = (item for item in found if item["code"] == "agent-exec")
        return finding["message"] + finding["hint"]

    assert "opens every secret of the KBS" in told({"agent_policy": {"exec": True}})
    assert "coco_initdata.debug.resources" in told({"agent_policy": {"exec": True}})
    assert "every secret" not in told({"agent_policy": {"exec": True}, "resources": ["mine"]})
    assert "every secret" not in told({"agent_policy": {"exec": True}, "resources": []})


@pytest.mark.parametrize("name", ["exec", "logs", "set_policy"])
def test_openings_of_agent_policies(name: str) -> None:
    assert set(codes(agent_policy={name: True}, severity="warning")) == {f"agent-{name}"}
    assert codes(initdata={"debug": {"agent_policy": {name: True}}}, severity="warning") == [f"agent-{name}"]
    assert codes(agent_policy={name: False}, severity="warning") == []
