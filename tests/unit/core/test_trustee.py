"""Which pods of the KBS run with less than their KbsConfig refers to."""

from __future__ import annotations

from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils.trustee import changed_at, references, stale_pods

SPEC = {"kbsConfigMapName": "kbs-config-cm", "kbsRvpsRefValuesConfigMapName": "rvps", "kbsAuthSecretName": "auth",
        "kbsSecretResources": ["b", "a"], "kbsHttpsKeySecretName": None}


def meta(name: str, time: str, field: str = "f:data") -> dict[str, Any]:
    return {"name": name, "creationTimestamp": "2026-01-01T00:00:00Z", "managedFields": [
        {"manager": "x", "time": time, "fieldsV1": {field: {}}}]}


def pod(made: str, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": "kbs-1", "creationTimestamp": made, **more}}


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
