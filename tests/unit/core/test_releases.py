"""releases.py, cell by cell. Sources: deployment.md (D) 1.1–1.4, 2.9–2.11, 3.5, 3.6, 6.5–6.7; trustee.md (T) 0, 1.1, 2.1, 4.1,
4.3, 4.4, 5.2, 5.6; operators.md (O) 2.3, 3.2, 8, 9, 11. A cell is written here by hand, not computed from the table."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from ansible_collections.confidential.containers.plugins.module_utils import releases
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

OSC = ("1.8", "1.9", "1.10", "1.11", "1.12", "1.13")
TRUSTEE = ("0.2", "0.3", "0.4", "1.0", "1.1", "1.2")
RUNTIME = "io.katacontainers.config.runtime.cc_init_data"
HYPERVISOR = "io.katacontainers.config.hypervisor.cc_init_data"
URI = "kbs:///default/security-policy/osc"
BOTH_SECRETS = ("peer-pods-secret", "ssh-key-secret")
CLASSES = ("kata", "kata-remote")
FLOORS_111 = {"4.17": "4.17.45", "4.18": "4.18.30", "4.19": "4.19.20", "4.20": "4.20.6"}


def row(*cells: Any) -> tuple[Any, ...]:
    assert len(cells) == 6
    return cells


OSC_CELLS: dict[str, tuple[Any, ...]] = {
    "csv": row(*(f"sandboxed-containers-operator.v{v}" for v in ("1.8.1", "1.9.0", "1.10.1", "1.11.1", "1.12.1", "1.13.1"))),  # D 1.1
    "csvs": row(*(tuple(f"sandboxed-containers-operator.v{v}" for v in versions) for versions in (
        ("1.8.0", "1.8.1"), ("1.9.0",), ("1.10.0", "1.10.1"), ("1.11.0", "1.11.1"), ("1.12.0", "1.12.1"), ("1.13.0", "1.13.1")))),
    "protocol": row("0.1.0", "0.1.1", "0.2.0", "0.4.0", "0.4.0", "0.4.0"),  # O 9
    "initdata_encoding": row("base64", "base64", *["gzip+base64"] * 4),  # D 1.3, T 6.2
    "initdata_annotation": row(RUNTIME, RUNTIME, RUNTIME, HYPERVISOR, HYPERVISOR, HYPERVISOR),  # D 1.3, T 6.2
    "caa_kind": row(*["DaemonSet"] * 6),
    "caa_name": row("peerpodconfig-ctrl-caa-daemon", *["osc-caa-ds"] * 5),  # D 3.6
    "ssh_key": row(True, True, True, False, False, False),  # D 3.5, O 11
    "required_secrets": row(*[BOTH_SECRETS] * 3, *[("peer-pods-secret",)] * 3),  # D 3.5
    "min_openshift": row({"4.15": ""}, {"4.15": ""}, {"4.16": ""}, FLOORS_111,  # D 1.1; 4.20 of 1.12 is 1.11's floor
                         {"4.19": "4.19.28", "4.20": "4.20.6"}, {"4.18": "4.18.38", "4.19": "", "4.20": ""}),
    "min_openshift_bare_metal": row({}, {}, {}, {"4.20": "4.20.6"}, {"4.20": "4.20.6"},  # D 1.1
                                    {"4.19": "4.19.38", "4.20": "4.20.29", "4.21": "4.21.24", "4.22": "4.22.5"}),
    "image_policy_uri": row(URI, URI, "", "", "", ""),  # D 2.10, 9 number 27
    "agent_policy_annotation": row(True, True, True, False, False, False),  # D 1.3, 2.6
    "agent_rego": row(*[("v0",)] * 5, ("v0", "v1")),  # 1.13's kata is not settled (O 9)
    "gate_overwrites_initdata": row(False, False, False, True, True, True),  # D 2.3: from 1.11 or 1.12 on
    "watches_peer_pods_cm": row(False, False, False, False, False, True),  # D 3.6, 10.2: 1.12.x or 1.13
    "kata_cc_by_operator": row(False, False, False, True, True, True),  # D 1.3
    "runtime_classes": row(CLASSES, CLASSES, CLASSES, (*CLASSES, "kata-cc"), (*CLASSES, "kata-cc", "kata-cc-nvidia-gpu"),
                           (*CLASSES, "kata-cc", "kata-nvidia-gpu", "kata-cc-nvidia-gpu")),  # D 1.3, 1.4
    "proxy_timeout": row(*["5m"] * 5, "8m"),  # D 1.3
    "runtime_class_overhead_memory": row("350Mi", *["120Mi"] * 5),  # O 3.1 number 16
    "secure_boot_key": row(True, True, True, False, False, False),  # D 3.1
}

FIELDS_02 = {
    "kbsConfigMapName", "kbsAuthSecretName", "kbsRvpsRefValuesConfigMapName", "kbsAsConfigMapName", "kbsRvpsConfigMapName",
    "kbsDeploymentType", "kbsServiceType", "kbsHttpsKeySecretName", "kbsHttpsCertSecretName", "kbsSecretResources",
    "kbsResourcePolicyConfigMapName", "kbsAttestationPolicyConfigMapName", "KbsEnvVars", "ibmSEConfigSpec", "tdxConfigSpec",
}
FIELDS_04 = FIELDS_02 | {"kbsLocalCertCacheSpec", "KbsDeploymentSpec"}
FIELDS_10 = FIELDS_04 | {"kbsAttestationKeySecretName", "kbsAttestationCertSecretName"}
FIELDS_11 = FIELDS_10 | {"kbsGpuAttestationPolicyConfigMapName"}


def csvs(*versions: str) -> tuple[str, ...]:
    return tuple(f"trustee-operator.v{version}" for version in versions)


TRUSTEE_CELLS: dict[str, tuple[Any, ...]] = {
    "csv": row(*csvs("0.2.0", "0.3.0", "0.4.2", "1.0.0", "1.1.0", "1.2.1")),  # D 1.1
    "csvs": row(csvs("0.2.0"), csvs("0.3.0"), csvs("0.4.0", "0.4.1", "0.4.2"), csvs("1.0.0"), csvs("1.1.0"), csvs("1.2.0", "1.2.1")),
    "generation": row("A", "B", "B", "B", "C", "D"),  # T 0
    "protocol": row("0.1.0", "0.1.1", "0.2.0", "0.4.0", "0.4.0", "0.4.0"),  # T 0, 1.2
    "kbs_config_key": row("kbs-config.json", *["kbs-config.toml"] * 5),  # D 2.9, T 3
    "kbs_config_format": row("json", "toml-b", "toml-b", "toml-b", "toml-c", "toml-d"),  # T 3.1–3.4
    "rvps_key": row(*["reference-values.json"] * 5, "reference_value"),  # D 6.5, T 5.4
    "rvps_format": row("empty", "hash-value", "hash-value", "value", "value", "map"),  # D 6.5, T 5.4
    "resource_policy_key": row(*["policy.rego"] * 5, "resource-policy.rego"),  # D 2.10, T 4.3
    "attestation_policy_key": row(*["default.rego"] * 3, *["default_cpu.rego"] * 3),  # D 2.10, T 4.3
    "policy_ids": row(*[("default",)] * 3, *[("default_cpu", "default_gpu")] * 3),  # T 5.2
    "attestation_rules": row("allow", "claims", "claims", "claims", "trust_claims", "trust_claims"),  # T 5.2
    "rego": row(("v0",), ("v0",), ("v0", "v1"), ("v0",), ("v1",), ("v1",)),  # T 0; 0.4.2 has regorus 0.5
    "reference_lookup": row(*["data.reference"] * 4, *["query_reference_value"] * 2),  # T 5.2
    "resource_policy_data": row("path", *["plugin-path"] * 3, *["plugin"] * 2),  # T 5.6
    "azure_snp": row(*["azsnpvtpm"] * 4, *["az-snp-vtpm"] * 2),  # T 5.2, O 8
    "azure_tdx": row(*["aztdxvtpm"] * 4, *["az-tdx-vtpm"] * 2),
    "submodule": row("", "cpu", "cpu", "cpu0", "cpu0", "cpu0"),  # T 5.1
    "token_type": row("Simple", *["Ear"] * 5),  # D 1.3
    "admin": row(*["public_key"] * 4, "type", "authorization_mode"),  # T 2.1
    "resource_policy_readable": row(False, True, True, True, True, False),  # T 1.1, V 1.8, V03 4
    "reference_api": row("", "", "", "map", "item", "item"),  # T 1.1, V 1.9, V03 15
    "signer_fields": row(False, False, False, True, True, True),  # T 4.1
    "crs": row(*[("KbsConfig",)] * 3, *[("KbsConfig", "TrusteeConfig")] * 3),  # D 1.3
    "default_cr": row(*["KbsConfig"] * 5, "TrusteeConfig"),  # design.md
    "sample_secret": row("", "", "", "kbsres1", "kbsres1", "attestation-status"),  # T 4.6
    "insecure_token_key": row(*["insecure_key"] * 5, "insecure_header_jwk"),  # T 0
    "expiry_enforced": row(True, True, True, True, False, False),  # D 6.5
    "reference_values_required": row(True, True, True, True, True, False),  # T 4.1
    "writes_is_ready": row(False, False, False, True, True, True),  # O 0 (a)
    "watches_deployment": row(False, False, False, False, True, True),  # O 2.3
    "migration_annotation": row(*[""] * 5, "kbs.confidentialcontainers.org/migrated-from-v1.1.0"),  # D 8.3
    "migration_value": row(*[""] * 5, "v1.2.0"),
    "unauthenticated_attestation_policy": row((), csvs("0.3.0"), csvs("0.4.0", "0.4.1", "0.4.2"), (), (), ()),  # T 1.1: v0.11–v0.13
    "gpu_policy": row(False, False, False, False, True, True),  # T 4.1
    "gpu_policy_key": row("", "", "", "", "default_gpu.rego", "default_gpu.rego"),
    "tdx_config": row(True, True, True, True, True, False),  # T 4.1
    "worker_count": row(False, False, False, True, True, True),  # D 2.9, T 3.2
    "after_edit_config": row(*["restart"] * 5, "rollout"),  # T 4.4
    "after_edit_resource_policy": row(*["live"] * 5, "rollout"),
    "after_edit_attestation_policy": row("live", "live", "live", "restart", "restart", "rollout"),
    "after_edit_reference_values": row(*["live"] * 5, "rollout"),
    "after_edit_secret": row(*["live"] * 5, "delete-pods"),  # D 2.11
    "after_edit_secret_list": row(*["rollout"] * 6),
    "after_edit_keys": row(*["restart"] * 5, "delete-pods"),  # D 2.11
    "restart_by": row(*["rollout"] * 5, "delete-pods"),  # D 2.11
    "milan_only": row(csvs("0.2.0"), csvs("0.3.0"), csvs("0.4.0", "0.4.1"), csvs("1.0.0"), (), ()),  # D 7.6, O 8
}
FIELDS = row(FIELDS_02, FIELDS_02, FIELDS_04, FIELDS_10, FIELDS_11, FIELDS_11 - {"tdxConfigSpec"})  # T 4.1


def cells(table: dict[str, tuple[Any, ...]], names: tuple[str, ...]) -> list[Any]:
    return [pytest.param(name, key, values[place], id=f"{name}-{key}") for key, values in table.items()
            for place, name in enumerate(names)]


@pytest.mark.parametrize(("name", "key", "expected"), cells(OSC_CELLS, OSC))
def test_osc_cell(name: str, key: str, expected: Any) -> None:
    assert getattr(releases.OSC_RELEASES[name], key) == expected


@pytest.mark.parametrize(("name", "key", "expected"), cells(TRUSTEE_CELLS, TRUSTEE))
def test_trustee_cell(name: str, key: str, expected: Any) -> None:
    assert getattr(releases.TRUSTEE_RELEASES[name], key) == expected


@pytest.mark.parametrize("place", range(6))
def test_fields_of_kbsconfig(place: int) -> None:
    listed = releases.TRUSTEE_RELEASES[TRUSTEE[place]].kbsconfig_fields
    assert len(listed) == len(set(listed))
    assert set(listed) == FIELDS[place]


def test_no_column_and_no_row_is_unchecked() -> None:
    """A new column or release needs its source here."""
    assert set(OSC_CELLS) | {"name"} == {field.name for field in dataclasses.fields(releases.OscRelease)}
    assert set(TRUSTEE_CELLS) | {"name", "kbsconfig_fields"} == {f.name for f in dataclasses.fields(releases.TrusteeRelease)}
    assert {name: release.name for name, release in releases.OSC_RELEASES.items()} == {name: name for name in OSC}
    assert {name: release.name for name, release in releases.TRUSTEE_RELEASES.items()} == {name: name for name in TRUSTEE}


def test_pairs() -> None:
    """D 1.1; each pair speaks one protocol, exactly (T 1.2)."""
    assert releases.PAIRS == ("1.8/0.2", "1.9/0.3", "1.10/0.4", "1.11/1.0", "1.12/1.1", "1.13/1.2")
    for name in releases.PAIRS:
        pair = releases.parse(name)
        assert (pair.name, f"{pair.osc.name}/{pair.trustee.name}") == (name, name)
        assert pair.osc.protocol == pair.trustee.protocol
        assert pair.osc.csvs[-1] == pair.osc.csv
        assert pair.trustee.csvs[-1] == pair.trustee.csv


@pytest.mark.parametrize("given", [
    None, "", "  ", "1.11", "1.11-1.0", "1.11/", "/1.0", "1.7/0.1", "1.14/1.3", "1.11/1.1", "1.8/1.2", "1.0/1.11", "1.11.1/1.0.0",
    "v1.11/v1.0", "1.11/1.0/x", "latest", 1.11, ["1.11/1.0"],
])
def test_unknown_pairs_name_the_known_ones(given: Any) -> None:
    with pytest.raises(CocoError) as caught:
        releases.parse(given)
    assert all(pair in caught.value.todo for pair in releases.PAIRS)
    assert "coco_release" in caught.value.what


def test_the_error_says_which_half() -> None:
    with pytest.raises(CocoError, match=r"OSC 1\.7 is not in the release table"):
        releases.parse("1.7/1.0")
    with pytest.raises(CocoError, match=r"Trustee 1\.3 is not in the release table"):
        releases.parse("1.11/1.3")
    with pytest.raises(CocoError, match="not an allowed pair"):
        releases.parse("1.11/1.1")


def test_blanks_around_a_pair_do_not_matter() -> None:
    assert releases.parse(" 1.11/1.0\n").name == "1.11/1.0"


@pytest.mark.parametrize(("name", "installed", "answer"), [
    ("1.10", "sandboxed-containers-operator.v1.10.1", "default"), ("1.10", "sandboxed-containers-operator.v1.10.0", "accepted"),
    ("1.9", "sandboxed-containers-operator.v1.9.0", "default"), ("1.13", "sandboxed-containers-operator.v1.13.0", "accepted"),
    ("0.4", "trustee-operator.v0.4.2", "default"), ("0.4", "trustee-operator.v0.4.0", "accepted"),
    ("0.4", "trustee-operator.v0.4.1", "accepted"), ("1.2", "trustee-operator.v1.2.0", "accepted"),
    ("1.0", "trustee-operator.v1.0.0", "default"),
])
def test_installed_csv(name: str, installed: str, answer: str) -> None:
    half = releases.OSC_RELEASES.get(name) or releases.TRUSTEE_RELEASES[name]
    assert releases.check_csv(half, installed) == answer


@pytest.mark.parametrize("installed", [
    "trustee-operator.v1.1.0", "trustee-operator.v1.0.1", "trustee-operator.v1.0.0-rc1", "sandboxed-containers-operator.v1.0.0", "",
])
def test_another_csv_is_refused_with_what_is_accepted(installed: str) -> None:
    with pytest.raises(CocoError) as caught:
        releases.check_csv(releases.TRUSTEE_RELEASES["1.0"], installed)
    assert "trustee-operator.v1.0.0" in caught.value.seen
    assert caught.value.todo


@pytest.mark.parametrize(("osc", "version", "floor"), [
    ("1.9", "4.14.50", "4.15"), ("1.9", "4.15.0", ""), ("1.9", "4.22.1", ""), ("1.10", "4.15.60", "4.16"),
    ("1.11", "4.16.99", "4.17.45"), ("1.11", "4.17.44", "4.17.45"), ("1.11", "4.17.45", ""), ("1.11", "4.18.29", "4.18.30"),
    ("1.11", "4.19.20", ""), ("1.11", "4.20.5", "4.20.6"), ("1.11", "4.21.0", ""), ("1.11", "4.20.6-rc.1", ""),
    ("1.12", "4.18.99", "4.19.28"), ("1.12", "4.19.27", "4.19.28"), ("1.12", "4.20.18", ""), ("1.13", "4.18.37", "4.18.38"),
    ("1.13", "4.19.0", ""), ("1.13", "4.17.90", "4.18.38"), ("1.11", "4.9.60", "4.17.45"),
])
def test_floor_for_peer_pods(osc: str, version: str, floor: str) -> None:
    assert releases.openshift_floor(releases.OSC_RELEASES[osc], version) == floor


@pytest.mark.parametrize(("osc", "version", "floor"), [
    ("1.11", "4.19.30", "4.20.6"), ("1.13", "4.19.37", "4.19.38"), ("1.13", "4.22.5", ""), ("1.13", "4.21.23", "4.21.24"),
])
def test_floor_for_bare_metal(osc: str, version: str, floor: str) -> None:
    assert releases.openshift_floor(releases.OSC_RELEASES[osc], version, "bare_metal") == floor


@pytest.mark.parametrize("name", releases.PAIRS)
def test_facts_are_plain_data(name: str) -> None:
    """Ansible can store them: what comes back from JSON is the same."""
    facts = releases.facts(releases.parse(name))
    assert json.loads(json.dumps(facts)) == facts
    assert set(facts) == {"name", "osc", "trustee"}
    assert (facts["osc"]["package"], facts["trustee"]["package"]) == ("sandboxed-containers-operator", "trustee-operator")
    assert isinstance(facts["osc"]["csvs"], list)


@pytest.mark.parametrize("row", [releases.OSC_RELEASES["1.11"], releases.TRUSTEE_RELEASES["1.0"], releases.parse("1.11/1.0")])
def test_rows_cannot_be_changed(row: Any) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        row.name = "x"
