"""Which pods of the KBS run with less than their KbsConfig refers to."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError
from ansible_collections.confidential.containers.plugins.module_utils.releases import TRUSTEE_RELEASES
from ansible_collections.confidential.containers.plugins.module_utils.trustee import (
    changed_at,
    object_names,
    references,
    stale_pods,
)

SPEC = {"kbsConfigMapName": "kbs-config-cm", "kbsRvpsRefValuesConfigMapName": "rvps", "kbsAuthSecretName": "auth",
        "kbsSecretResources": ["b", "a"], "kbsHttpsKeySecretName": None}


def meta(name: str, time: str, field: str = "f:data") -> dict[str, Any]:
    return {"name": name, "creationTimestamp": "2026-01-01T00:00:00Z", "managedFields": [
        {"manager": "x", "time": time, "fieldsV1": {field: {}}}]}


def pod(made: str, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": "kbs-1", "creationTimestamp": made, **more}}


#: reference/trustee.md 4.6: what the operator makes for a TrusteeConfig N, by the field of KbsConfig that names it.
GENERATED = {
    "kbsconfig": "N-kbs-config", "config_map": "N-kbs-config", "auth_secret": "N-auth-secret",
    "reference_values": "N-rvps-reference-values", "resource_policy": "N-resource-policy", "https_key": "N-https-key-secret",
    "https_certificate": "N-https-cert-secret", "signer_key": "N-attestation-key-secret",
    "signer_certificate": "N-attestation-cert-secret",
}


@pytest.mark.parametrize(("release", "policy", "sample"), [
    ("1.0", "N-attestation-policy", "kbsres1"), ("1.1", "N-attestation-policy-cpu", "kbsres1"),
    ("1.2", "N-attestation-policy-cpu", "attestation-status")])
def test_names_with_trusteeconfig(release: str, policy: str, sample: str) -> None:
    names = object_names(TRUSTEE_RELEASES[release], "TrusteeConfig")
    own = {"kind": "TrusteeConfig", "sample_secret": sample, "trusteeconfig": "trusteeconfig", "https_tls": "trusteeconfig-https-tls",
           "signer_tls": "trusteeconfig-attestation-tls"}
    wanted = {**GENERATED, "attestation_policy": policy}
    assert names == {**{key: name.replace("N-", "trusteeconfig-") for key, name in wanted.items()}, **own}


@pytest.mark.parametrize(("release", "chosen", "kind"), [
    ("0.3", "auto", "KbsConfig"), ("1.1", "auto", "KbsConfig"), ("1.2", "auto", "TrusteeConfig"), ("1.2", "KbsConfig", "KbsConfig")])
def test_kind(release: str, chosen: str, kind: str) -> None:
    names = object_names(TRUSTEE_RELEASES[release], chosen)
    assert names["kind"] == kind
    assert (names["config_map"] == "kbs-config-cm") is (kind == "KbsConfig")


@pytest.mark.parametrize(("release", "chosen", "said"), [
    ("0.4", "TrusteeConfig", "its operator has KbsConfig only"), ("1.2", "trusteeconfig", "is unknown")])
def test_kind_that_is_not_there(release: str, chosen: str, said: str) -> None:
    with pytest.raises(CocoError, match=said):
        object_names(TRUSTEE_RELEASES[release], chosen)


def test_references() -> None:
    assert references(SPEC) == {"ConfigMap": ["kbs-config-cm", "rvps"], "Secret": ["a", "auth", "b"]}


def test_change_of_data_counts_and_nothing_else() -> None:
    assert changed_at(meta("x", "2026-02-02T00:00:00Z")) == "2026-02-02T00:00:00Z"
    assert changed_at(meta("x", "2026-02-02T00:00:00Z", "f:metadata")) == "2026-01-01T00:00:00Z"
    assert changed_at({"name": "x", "creationTimestamp": "2026-01-01T00:00:00Z"}) == "2026-01-01T00:00:00Z"


def test_pod_older_than_what_it_reads() -> None:
    metadata = {"ConfigMap": [meta("rvps", "2026-03-01T00:00:01Z"), meta("foreign", "2026-04-01T00:00:00Z")],
                "Secret": [meta("a", "2026-03-01T00:00:02Z"), meta("rvps", "2026-04-01T00:00:00Z")]}
    assert stale_pods(SPEC, metadata, [pod("2026-03-01T00:00:00Z")]) == [
        {"name": "kbs-1", "because": ["ConfigMap rvps", "Secret a"]}]
    assert stale_pods(SPEC, metadata, [pod("2026-03-01T00:00:01Z")]) == [{"name": "kbs-1", "because": ["Secret a"]}]
    assert stale_pods(SPEC, metadata, [pod("2026-03-01T00:00:02Z")]) == []


def test_pod_that_leaves_is_left_alone() -> None:
    metadata = {"Secret": [meta("a", "2026-03-01T00:00:02Z")]}
    assert stale_pods(SPEC, metadata, [pod("2026-01-01T00:00:00Z", deletionTimestamp="2026-03-01T00:00:03Z")]) == []
