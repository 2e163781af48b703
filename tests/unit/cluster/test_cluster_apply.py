"""Many objects in one call: applied by one manager, in waves; unchanged means unchanged; secrets stay secret."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from ansible_collections.confidential.containers.plugins.module_utils import cluster_apply
from ansible_collections.confidential.containers.plugins.module_utils.cluster import FIELD_MANAGER, Cluster
from ansible_collections.confidential.containers.plugins.module_utils.cluster_apply import (
    apply_all,
    delete_all,
    prepare,
)
from ansible_collections.confidential.containers.plugins.module_utils.cluster_diff import difference, same
from ansible_collections.confidential.containers.plugins.module_utils.context import Context
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError
from tests.fake_api import FakeApi, status
from tests.fake_api.store import Kind

NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}


def config_map(name: str = "a", namespace: str = "shop", **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": data or {"k": "v"}}


def secret(value: str, name: str = "s") -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "shop"}, "stringData": {"password": value}}


def actions(results: list[dict[str, Any]]) -> list[str]:
    return [result["action"] for result in results]


def test_a_batch_in_waves(api: FakeApi, cluster: Cluster) -> None:
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "shop"}, "spec": {"replicas": 1}}
    results, diffs = apply_all(cluster, [deployment, secret("long-secret"), config_map(), NAMESPACE], Context())
    assert [(r["kind"], r["action"]) for r in results] == [("Deployment", "created"), ("Secret", "created"), ("ConfigMap", "created"),
                                                           ("Namespace", "created")]
    assert diffs == []
    patches = [r for r in api.requests if r.method == "PATCH"]
    assert patches[0].path == "/api/v1/namespaces/shop"
    assert patches[-1].path.endswith("/deployments/d")
    for request in patches:
        assert request.query == {"fieldManager": FIELD_MANAGER, "force": "false", "fieldValidation": "Strict"}
        assert request.headers["content-type"] == "application/apply-patch+yaml"
    stored = api.find("v1", "ConfigMap", "a", "shop")
    assert stored is not None
    assert [item["manager"] for item in stored["metadata"]["managedFields"]] == ["confidential.containers"]


def test_two_requests_an_object_over_few_connections(api: FakeApi, cluster: Cluster) -> None:
    api.put(NAMESPACE)
    apply_all(cluster, [config_map(f"c{n}") for n in range(60)], Context())
    assert len(api.requests) == 120
    assert api.connections <= 8


def test_no_change_changes_nothing(api: FakeApi, cluster: Cluster) -> None:
    objects = [NAMESPACE, config_map(), secret("long-secret")]
    apply_all(cluster, objects, Context())
    version = api.version
    results, diffs = apply_all(cluster, objects, Context(diff=True))
    assert actions(results) == ["unchanged"] * 3
    assert diffs == []
    assert api.version == version


def test_a_status_written_by_somebody_else_is_no_change(api: FakeApi, cluster: Cluster) -> None:
    obj = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "default"}, "spec": {"replicas": 1}}
    apply_all(cluster, [obj], Context())
    api.put({**obj, "status": {"availableReplicas": 1}})
    assert actions(apply_all(cluster, [obj], Context())[0]) == ["unchanged"]


def test_a_status_written_in_between_is_neither_a_change_nor_shown() -> None:
    before = {"kind": "Pod", "metadata": {"name": "p", "resourceVersion": "1"}, "status": {"phase": "Pending"}}
    after = {"kind": "Pod", "metadata": {"name": "p", "resourceVersion": "2"}, "status": {"phase": "Running"}}
    assert same(before, after, FIELD_MANAGER)
    shown = difference(before, after, "Pod p")
    assert shown["before"] == shown["after"]


def test_a_field_that_is_no_longer_wanted_goes_and_one_of_others_stays(api: FakeApi, cluster: Cluster) -> None:
    api.put(NAMESPACE)
    apply_all(cluster, [config_map(a="1", b="2")], Context())
    api.put(config_map(of_somebody="3"))
    results, _diffs = apply_all(cluster, [config_map(a="1")], Context())
    assert actions(results) == ["updated"]
    stored = api.find("v1", "ConfigMap", "a", "shop")
    assert stored is not None
    assert stored["data"] == {"a": "1", "of_somebody": "3"}


def test_check_mode_asks_the_server_and_writes_nothing(api: FakeApi, cluster: Cluster) -> None:
    api.put(NAMESPACE)
    apply_all(cluster, [config_map("old", a="1")], Context())
    version, lines = api.version, []
    context = Context(check_mode=True, diff=True, progress=lines.append)
    results, diffs = apply_all(cluster, [config_map("old", a="2"), config_map("new"), NAMESPACE], context)
    assert actions(results) == ["updated", "created", "updated"]
    assert api.version == version
    assert all(request.dry for request in api.writes()[1:])
    assert '"a": "1"' in diffs[0]["before"]
    assert '"a": "2"' in diffs[0]["after"]
    assert diffs[1]["before"] == ""
    assert lines == []


def test_check_mode_predicts_what_the_server_cannot_know_yet(api: FakeApi, cluster: Cluster) -> None:
    """A namespace and a kind that come with the same list; a webhook that refuses dry runs."""
    api.script("PATCH", "/services/", 500, status(500, "InternalError", 'failed calling webhook "w": refused'))
    api.script("PATCH", "/secrets/", 400, status(400, "BadRequest", "admission webhook w does not support dry run"))
    api.put({**secret("x" * 9, "old"), "metadata": {"name": "old", "namespace": "default"}})
    thing = {"apiVersion": "nowhere.io/v1", "kind": "Thing", "metadata": {"name": "t"}}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "default"}}
    old = {**secret("changed-secret", "old"), "metadata": {"name": "old", "namespace": "default"}}
    results, _diffs = apply_all(cluster, [NAMESPACE, config_map(), thing, service, old], Context(check_mode=True))
    assert actions(results) == ["created", "created", "created", "created", "updated"]
    assert [bool(result["message"]) for result in results] == [False, True, True, True, True]


def test_check_mode_reports_what_would_fail(api: FakeApi, cluster: Cluster) -> None:
    api.put({**config_map(namespace="default", k="theirs")})
    with pytest.raises(CocoError, match=r"\.data\.k is owned by somebody"):
        apply_all(cluster, [config_map(namespace="default", k="ours")], Context(check_mode=True))


def test_a_conflict_names_field_and_manager(api: FakeApi, cluster: Cluster) -> None:
    api.put(NAMESPACE)
    api.put(config_map(k="theirs"), manager="kubectl-edit")
    with pytest.raises(CocoError) as raised:
        apply_all(cluster, [config_map(k="ours"), config_map("b")], Context())
    assert str(raised.value).startswith("ConfigMap shop/a was not applied · another manager owns a field: .data.k is owned by kubectl-edit")
    assert raised.value.details["conflicts"] == [{"manager": "kubectl-edit", "field": ".data.k"}]
    assert [(r["name"], r["action"]) for r in raised.value.details["objects"]] == [("b", "created"), ("a", "failed")]
    assert raised.value.details["changed"]
    stored = api.find("v1", "ConfigMap", "a", "shop")
    assert stored is not None
    assert stored["data"] == {"k": "theirs"}


def test_force_takes_the_field_over(api: FakeApi, cluster: Cluster) -> None:
    api.put(NAMESPACE)
    api.put(config_map(k="theirs"))
    assert actions(apply_all(cluster, [config_map(k="ours")], Context(), force=True)[0]) == ["updated"]
    assert actions(apply_all(cluster, [config_map(k="ours")], Context())[0]) == ["unchanged"]


def test_the_same_value_of_another_manager_is_shared_and_counts_once(api: FakeApi, cluster: Cluster) -> None:
    api.put(NAMESPACE)
    api.put(config_map(k="same"))
    assert actions(apply_all(cluster, [config_map(k="same")], Context())[0]) == ["updated"]
    assert actions(apply_all(cluster, [config_map(k="same")], Context())[0]) == ["unchanged"]


def test_every_failure_is_named_and_later_waves_do_not_begin(api: FakeApi, cluster: Cluster) -> None:
    api.put(NAMESPACE)
    api.forbidden.add(("patch", "secrets"))
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "shop"}}
    with pytest.raises(CocoError) as raised:
        apply_all(cluster, [pod, secret("long-secret"), secret("long-secret", "t"), config_map()], Context())
    assert str(raised.value).startswith("Secret shop/s was not applied (and 1 more: Secret shop/t) · the credentials may not do this")
    assert [(r["name"], r["action"]) for r in raised.value.details["objects"]] == [
        ("a", "created"), ("s", "failed"), ("t", "failed"), ("p", "skipped")]
    assert "long-secret" not in json.dumps(raised.value.result())
    assert not [r for r in api.requests if "/pods/" in r.path]


def test_nothing_applied_is_nothing_changed(api: FakeApi, cluster: Cluster) -> None:
    with pytest.raises(CocoError, match=r'namespaces "shop" not found.*Create the namespace first') as raised:
        apply_all(cluster, [config_map()], Context())
    assert raised.value.details["changed"] is False


def test_an_unknown_kind(api: FakeApi, cluster: Cluster) -> None:
    thing = {"apiVersion": "nowhere.io/v1", "kind": "Thing", "metadata": {"name": "t"}}
    with pytest.raises(CocoError, match=r"no kind Thing in nowhere\.io/v1"):
        apply_all(cluster, [thing], Context())
    results, _diffs = apply_all(cluster, [thing], Context(), allow_missing=True)
    assert actions(results) == ["absent"]


def test_a_kind_of_a_crd_of_the_same_list_is_awaited(api: FakeApi, cluster: Cluster) -> None:
    crd = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "things.nowhere.io"},
           "spec": {"group": "nowhere.io", "names": {"kind": "Thing", "plural": "things"}}}
    thing = {"apiVersion": "nowhere.io/v1", "kind": "Thing", "metadata": {"name": "t"}}
    api.later(0.4, api.kinds.append, Kind("nowhere.io/v1", "Thing", "things", False))
    assert actions(apply_all(cluster, [thing, crd], Context())[0]) == ["created", "created"]


def test_a_starting_webhook_gets_some_time(api: FakeApi, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    api.put(NAMESPACE)
    lines: list[str] = []
    api.script("PATCH", "/configmaps/", 500, status(500, "InternalError", 'failed calling webhook "w": refused'))
    assert actions(apply_all(cluster, [config_map()], Context(progress=lines.append))[0]) == ["created"]
    assert lines == ['ConfigMap shop/a: waiting for an admission webhook: failed calling webhook "w": refused', "ConfigMap shop/a: created"]
    monkeypatch.setattr(cluster_apply, "PATIENCE", 0.6)
    api.script("PATCH", "/configmaps/", 500, status(500, "InternalError", 'failed calling webhook "w": refused'), times=99)
    with pytest.raises(CocoError, match="an admission webhook does not answer"):
        apply_all(cluster, [config_map(k="2")], Context())


def test_a_lost_cluster_is_named(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = Cluster.from_params({"host": "http://127.0.0.1:1"})
    with pytest.raises(CocoError, match=r"ConfigMap shop/a was not applied · http://127\.0\.0\.1:1 does not answer"):
        apply_all(lost, [config_map()], Context())


def test_diffs_mask_secret_values(api: FakeApi, cluster: Cluster) -> None:
    api.put(NAMESPACE)
    annotated = secret("first-secret")
    annotated["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": '{"stringData": "first-secret"}'}
    apply_all(cluster, [annotated], Context())
    _results, diffs = apply_all(cluster, [secret("second-secret")], Context(diff=True))
    text = json.dumps(diffs)
    for value in ("first-secret", "second-secret"):
        assert value not in text
        assert base64.b64encode(value.encode()).decode() not in text
    before, after = json.loads(diffs[0]["before"]), json.loads(diffs[0]["after"])
    assert before["data"]["password"] != after["data"]["password"]
    assert before["data"]["password"].startswith("<hidden:")
    assert diffs[0]["before_header"] == "Secret shop/s"


def test_diffs_show_no_bookkeeping_and_no_status(api: FakeApi, cluster: Cluster) -> None:
    api.put(NAMESPACE)
    _results, diffs = apply_all(cluster, [config_map()], Context(diff=True))
    assert json.loads(diffs[0]["after"]) == config_map()


def test_progress_names_what_changed_only(api: FakeApi, cluster: Cluster) -> None:
    lines: list[str] = []
    apply_all(cluster, [NAMESPACE, config_map()], Context(progress=lines.append))
    apply_all(cluster, [NAMESPACE, config_map()], Context(progress=lines.append))
    assert lines == ["Namespace shop: created", "ConfigMap shop/a: created"]


def test_what_is_sent() -> None:
    ready = prepare({**secret("p"), "data": {"x": "eQ=="}, "status": {"a": 1},
                     "metadata": {"name": "s", "uid": "u", "resourceVersion": "1", "managedFields": []}})
    assert ready == {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"x": "eQ==", "password": "cA=="}}


@pytest.mark.parametrize("broken", [{}, {"kind": "ConfigMap", "metadata": {"name": "a"}}, {"apiVersion": "v1", "kind": "ConfigMap"},
                                    {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}}])
def test_what_is_no_object(api: FakeApi, cluster: Cluster, broken: dict[str, Any]) -> None:
    with pytest.raises(CocoError, match=r"lacks apiVersion, kind or metadata\.name"):
        apply_all(cluster, [broken], Context())
    with pytest.raises(CocoError, match=r"lacks apiVersion, kind or metadata\.name"):
        delete_all(cluster, [broken], Context())
    assert api.requests == []


# Removal --------------------------------------------------------------------------------------------------------------

def test_removal(api: FakeApi, cluster: Cluster) -> None:
    api.put(NAMESPACE)
    made = api.put(config_map())
    held = api.put({**config_map("held"), "metadata": {"name": "held", "namespace": "shop", "finalizers": ["a/b"]}})
    references = [config_map(), config_map("none"), config_map("held")]
    for check in (True, False):
        results, diffs = delete_all(cluster, references, Context(check_mode=check, diff=True))
        assert actions(results) == ["deleted", "absent", "deleted"]
        assert [r.get("uid") for r in results] == [made["metadata"]["uid"], None, held["metadata"]["uid"]]
        assert [diff["after"] for diff in diffs] == ["", ""]
        assert (api.find("v1", "ConfigMap", "a", "shop") is None) is not check
    assert actions(delete_all(cluster, references, Context())[0]) == ["absent", "absent", "unchanged"]


def test_a_removal_that_fails_says_what_was_done(api: FakeApi, cluster: Cluster) -> None:
    api.put(NAMESPACE)
    api.put(config_map())
    api.put(secret("long-secret"))
    api.forbidden.add(("delete", "secrets"))
    with pytest.raises(CocoError, match="Secret shop/s was not deleted · the credentials may not do this") as raised:
        delete_all(cluster, [config_map(), secret("long-secret")], Context())
    assert raised.value.details["changed"]
    assert actions(raised.value.details["objects"]) == ["deleted"]
