"""A spoke at another OSC release than its neighbour: the hub uses its Trustee half, each spoke its OSC half.

Of the pairs that the lab has, the guests of OSC 1.12 and 1.13 name Azure's TEE as Trustee 1.1 does (``az-snp-vtpm``; those of 1.11 say
``azsnpvtpm``, which Trustee 1.1 does not know: reference/trustee-verified.md).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.lab import Lab

RELEASES = {"hub1": "1.12/1.1", "spoke1": "1.12/1.1", "spoke2": "1.13/1.2"}
SPOKES = ("spoke1", "spoke2")
TRUSTEE, OSC = "trustee-operator-system", "openshift-sandboxed-containers-operator"
PROOF = "the secret reached an attested pod (sha256 compared inside the pod)"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Three clusters, one of another release, with the fourteen steps carried out, seen from the hub."""
    lab = Lab(Path(tmp_path_factory.mktemp("releases") / "state"), "lab_hub_spoke", "hub1")
    try:
        lab.lab("up", "--clusters", "3", "--release", RELEASES["hub1"], "--release", f"spoke2={RELEASES['spoke2']}")
        assert {name: lab.at(name).cluster["release"] for name in RELEASES} == RELEASES
        run = lab.playbook("site")
        assert run.code == 0, run.output
        assert run.verdict.startswith(PROOF)
        yield lab
    finally:
        lab.lab("down", check=False)


def csvs(lab: Lab, namespace: str) -> list[str]:
    listed = lab.request("GET", f"/apis/operators.coreos.com/v1alpha1/namespaces/{namespace}/clusterserviceversions")
    return [item["metadata"]["name"] for item in listed["items"]]


def image(lab: Lab) -> dict[str, str]:
    """PCR values of the image of a cluster's pod VMs, by the names of reference values."""
    published = json.loads(Path(lab.cluster["measurements"]).read_text())["measurements"]["sha256"]
    return {f"snp_{name}": value.removeprefix("0x") for name, value in published.items()}


def test_each_cluster_has_its_half(hub: Lab) -> None:
    assert csvs(hub, TRUSTEE) == ["trustee-operator.v1.1.0"]
    assert csvs(hub, OSC) == []
    assert csvs(hub.at("spoke1"), OSC) == ["sandboxed-containers-operator.v1.12.1"]
    assert csvs(hub.at("spoke2"), OSC) == ["sandboxed-containers-operator.v1.13.1"]
    assert [csvs(hub.at(name), TRUSTEE) for name in SPOKES] == [[], []]


def test_proof_on_each_spoke(hub: Lab) -> None:
    """Each spoke alone, with its own guest."""
    for name in SPOKES:
        run = hub.playbook("verify", "--limit", name, "--tags", "step14")
        assert run.code == 0, run.output
        assert run.verdict.startswith(PROOF)
        assert run.verdict.endswith("the KBS refused the pod with tampered initdata")


def test_reference_values_are_of_each_spokes_own_image(hub: Lab) -> None:
    found = hub.request("GET", f"/api/v1/namespaces/{TRUSTEE}/configmaps/rvps-reference-values")
    parts = json.loads(found["metadata"]["annotations"]["confidential.containers/spokes"])
    assert set(parts) == set(SPOKES)
    accepted = {item["name"]: item["value"] for item in json.loads(found["data"]["reference-values.json"])}
    images = {name: image(hub.at(name)) for name in SPOKES}
    for name in SPOKES:
        for key in ("snp_pcr03", "snp_pcr09", "snp_pcr11", "snp_pcr12"):
            assert parts[name][key] == [images[name][key]]
            assert images[name][key] in accepted[key]
        for digest in parts[name]["snp_pcr08"]:
            assert re.fullmatch("[0-9a-f]{64}", digest)
            assert digest in accepted["snp_pcr08"]
    assert any(images["spoke1"][key] != images["spoke2"][key] for key in ("snp_pcr03", "snp_pcr09", "snp_pcr11", "snp_pcr12")), \
        "the images differ, otherwise this test says nothing"


def test_second_run_changes_nothing(hub: Lab) -> None:
    before = {name: hub.at(name).owned() for name in RELEASES}
    run = hub.playbook("site")
    assert run.code == 0, run.output
    assert run.changed == {}
    assert {name: hub.at(name).owned() for name in RELEASES} == before
