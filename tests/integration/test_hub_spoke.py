"""A hub and two spokes: three API servers."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.integration.lab import ROOT, Lab
from tests.integration.seed import at_rest, differences, everything

NAMESPACE = "trustee-operator-system"
SECRETS = f"/api/v1/namespaces/{NAMESPACE}/secrets"
SPOKES = ("spoke1", "spoke2")


def each(hub: Lab, look: Callable[[Lab], Any]) -> dict[str, Any]:
    """What is seen at each cluster, by name."""
    with ThreadPoolExecutor(3) as pool:
        return dict(zip(("hub1", *SPOKES), pool.map(lambda name: look(hub.at(name)), ("hub1", *SPOKES)), strict=True))


@pytest.fixture(scope="module")
def seeds() -> dict[str, Any]:
    """The clusters before anything of ours was there."""
    return {}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, seeds: dict[str, Any]) -> Iterator[Lab]:
    """Three clusters with the fourteen steps carried out, seen from the hub."""
    lab = Lab(Path(tmp_path_factory.mktemp("zones") / "state"), "lab_hub_spoke", "hub1")
    try:
        lab.lab("up", "--clusters", "3")
        seeds.update(each(lab, at_rest))
        run = lab.playbook("site", variables={"coco_resources": {"mine": {"word": "open-sesame-4711"}}})
        assert run.code == 0, run.output
        assert run.verdict.startswith("the secret reached an attested pod")
        yield lab
    finally:
        lab.lab("down", check=False)


VARIABLES = {"coco_resources": {"mine": {"word": "open-sesame-4711"}}}


def parts(hub: Lab) -> dict[str, dict[str, list[str]]]:
    found = hub.request("GET", f"/api/v1/namespaces/{NAMESPACE}/configmaps/rvps-reference-values")
    spokes: dict[str, dict[str, list[str]]] = json.loads(found["metadata"]["annotations"]["confidential.containers/spokes"])
    return spokes


def accepted(hub: Lab) -> list[str]:
    items = json.loads(hub.config_map(NAMESPACE, "rvps-reference-values")["reference-values.json"])
    (values,) = (item["value"] for item in items if item["name"] == "snp_pcr08")
    return list(values)


def test_second_run_changes_nothing(hub: Lab) -> None:
    before = {name: hub.at(name).owned() for name in ("hub1", *SPOKES)}
    run = hub.playbook("site", variables=VARIABLES)
    assert run.code == 0, run.output
    assert run.changed == {}
    assert {name: hub.at(name).owned() for name in before} == before


def test_secrets_of_the_hub_never_reach_a_spoke(hub: Lab) -> None:
    """By content: no object of a spoke holds a secret value of the hub. By the audit log: no Secret of it was ever written there."""
    values = [value for secret in hub.request("GET", SECRETS)["items"]
              if secret["metadata"]["name"] not in ("kbs-https-certificate", "kbs-attestation-certificate", "kbs-auth-public-key")
              and not secret["type"].startswith("kubernetes.io/") for value in (secret.get("data") or {}).values()]
    assert any(base64.b64decode(value) == b"open-sesame-4711" for value in values)
    assert any(b"PRIVATE KEY" in base64.b64decode(value) for value in values)
    for name in SPOKES:
        spoke = hub.at(name)
        text = json.dumps([spoke.request("GET", path) for path in ("/api/v1/secrets", "/api/v1/configmaps", "/api/v1/pods")])
        for value in values:
            for form in (value, base64.b64decode(value).decode(errors="replace")):
                assert json.dumps(form)[1:-1] not in text
        written = {event["objectRef"]["name"] for event in spoke.writes() if event["objectRef"]["resource"] == "secrets"}
        assert written == {"peer-pods-secret"}
        assert spoke.request("GET", f"/api/v1/namespaces/{NAMESPACE}") is None


def test_cloud_credentials_stay_on_the_spokes(hub: Lab) -> None:
    secret = json.loads(Path(hub.facts["azure"]["clients"]).read_text())["installer"]["secret"]
    assert secret.encode() in base64.b64decode(
        hub.at("spoke1").request("GET", "/api/v1/namespaces/openshift-sandboxed-containers-operator/secrets/peer-pods-secret")
        ["data"]["AZURE_CLIENT_SECRET"])
    assert secret not in json.dumps([
        base64.b64decode(value).decode(errors="replace") for secret in hub.request("GET", "/api/v1/secrets")["items"]
        for value in (secret.get("data") or {}).values()])


def test_spokes_with_initdata_of_their_own_at_the_same_time(hub: Lab, tmp_path: Path) -> None:
    """Two limited runs at once, each with another document: neither loses the other's values on the hub."""
    before = parts(hub)
    inventory = tmp_path / "own.yml"
    documents: dict[str, Any] = {name: {"coco_initdata": {"default": {"agent_policy": {"exec": False, "logs": name == "spoke2"},
                                                                      "extra": {"max_concurrent_layer_downloads_per_image": number}},
                                                          "verification": {}}} for number, name in enumerate(SPOKES, 3)}
    inventory.write_text(json.dumps({"spokes": {"hosts": documents}}))

    def limited(name: str) -> Any:
        return hub.playbook("site", "-i", str(inventory), "--limit", name, "--tags", "step04,step05", variables=VARIABLES)

    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(limited, SPOKES))
    for run in runs:
        assert run.code == 0, run.output
    together = parts(hub)
    for name in SPOKES:
        new = set(together[name]["snp_pcr08"]) - set(before[name]["snp_pcr08"])
        assert len(new) == 1, "the new document is accepted before the spoke rolls"
        assert set(before[name]["snp_pcr08"]) <= set(together[name]["snp_pcr08"]), "and the old one still is"
        assert new <= set(accepted(hub))
    run = hub.playbook("site", variables=VARIABLES)
    assert run.code == 0, run.output
    assert parts(hub) == before, "the whole inventory decides in the end"


def test_limit_to_one_spoke(hub: Lab) -> None:
    run = hub.playbook("site", "--limit", "spoke2", variables=VARIABLES)
    assert run.code == 0, run.output
    assert run.changed == {}
    assert run.verdict.startswith("the secret reached an attested pod")


def test_an_inventory_of_a_spoke_alone(hub: Lab, tmp_path: Path) -> None:
    """Other people's inventory has the spoke only, and names the hub's KBS as one that others run: without the administrator's key with
    a resource that the hub's owner told, then with the key, which may set resources but not what the operator mounts read-only."""
    (tmp_path / "group_vars").mkdir()
    choices = (ROOT / "inventories/lab_hub_spoke/group_vars/all.yml").read_text()
    (tmp_path / "group_vars/all.yml").write_text(choices.replace("{{ lab_state }}/private", str(tmp_path / "private")))
    (tmp_path / "hosts.yml").write_text("spokes:\n  hosts:\n    spoke1:\n")
    alone = Lab(hub.state, os.path.relpath(tmp_path, ROOT / "inventories"), "spoke1")
    route = hub.request("GET", f"/apis/route.openshift.io/v1/namespaces/{NAMESPACE}/routes/kbs-service")["spec"]["host"]
    authority = base64.b64decode(hub.request("GET", f"{SECRETS}/kbs-https-certificate")["data"]["ca.crt"]).decode()
    existing = {"coco_kbs_url": f"https://{route}", "coco_kbs_ca_certificate": authority}
    told = base64.b64decode(hub.request("GET", f"{SECRETS}/coco-verification")["data"]["random"])
    before, mark = alone.owned(), hub.mark
    run = alone.playbook("site", variables={**existing, "coco_verification_resource": "default/coco-verification/random",
                                            "coco_verification_sha256": hashlib.sha256(told).hexdigest()})
    assert run.code == 0, run.output
    assert run.verdict.startswith("the secret reached an attested pod")
    assert alone.owned() == before, "the same initdata as from the hub's inventory, so nothing changes"
    key = (hub.state / "private" / "hub1" / "kbs-admin.pem").read_text()
    mine = {**existing, "coco_kbs_admin_key": key, "coco_kbs_manage": ["resources"], "coco_resources": {"theirs": {"word": "abracadabra"}},
            "coco_attestation_verify_when": "never"}
    run = alone.playbook("site", "--tags", "step11", variables=mine)
    assert run.code == 0, run.output
    assert "resource default/theirs/word: set" in run.output
    run = alone.playbook("site", "--tags", "step11", variables={**mine, "coco_kbs_manage": ["attestation_policy"]})
    assert run.code != 0
    assert "coco_kbs_manage" in run.output
    assert hub.writes(mark) == [], "the hub's own cluster was not written to"


def test_a_removed_spoke_loses_its_values(hub: Lab, tmp_path: Path) -> None:
    kept = hub.playbook("spoke_remove", variables={"coco_spoke": "spoke2"})
    assert kept.code != 0
    assert "it is in the group spokes of the inventory" in kept.output
    own = tmp_path / "hosts.yml"
    own.write_text("all: {children: {hub: {hosts: {hub1: }}, spokes: {hosts: {spoke1: }}}}\n")
    (tmp_path / "group_vars").symlink_to(Path(__file__).resolve().parents[2] / "inventories" / "lab_hub_spoke" / "group_vars")
    command = ["ansible-playbook", "-i", str(own), "playbooks/spoke_remove.yml", "-e", "coco_spoke=spoke2"]
    done = subprocess.run(command, cwd=Path(__file__).resolve().parents[2], env=hub.env, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout
    assert set(parts(hub)) == {"spoke1"}
    again = hub.playbook("site", "--tags", "step11", variables=VARIABLES)
    assert again.code == 0, again.output
    assert set(parts(hub)) == set(SPOKES)


def test_teardown_leaves_three_virgin_clusters(hub: Lab, seeds: dict[str, Any]) -> None:
    """A spoke that is not named keeps Trustee for all; then the spokes go, and after them the hub."""
    told = {"coco_teardown_crds": True, "coco_teardown_pods": True}
    mark = hub.mark
    run = hub.playbook("teardown", variables={**told, "coco_teardown_confirm": "spoke1,hub1"})
    assert run.code != 0
    assert "Nothing of spoke2 was removed · coco_teardown_confirm does not name it" in run.output
    assert "Trustee stays · these spokes are not torn down: spoke2" in run.output
    assert hub.writes(mark) == []
    run = hub.playbook("teardown", variables={**told, "coco_teardown_confirm": "spoke1,spoke2,hub1"})
    assert run.code == 0, run.output
    left = {name: differences(seeds[name], found) for name, found in each(hub, everything).items()}
    assert left == {name: [] for name in seeds}
    marks = each(hub, lambda lab: lab.mark)
    again = hub.playbook("teardown", variables={**told, "coco_teardown_confirm": "spoke1,spoke2,hub1"})
    assert again.code == 0, again.output
    assert set(re.findall(r"changed=\d+", again.output)) == {"changed=0"}
    assert each(hub, lambda lab: lab.writes(marks[lab.name])) == {name: [] for name in seeds}
