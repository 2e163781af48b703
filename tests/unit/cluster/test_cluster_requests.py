"""Requests, discovery and what the server answers besides success."""

from __future__ import annotations

import time
from typing import Any

import pytest

from ansible_collections.confidential.containers.plugins.module_utils.cluster import (
    ATTEMPTS,
    ApiFailure,
    Cluster,
    UnknownKind,
    Unreachable,
    _pause,
    explain,
)
from tests.fake_api import FakeApi, status
from tests.fake_api.store import Kind


def test_known_kinds_need_no_discovery(api: FakeApi, cluster: Cluster) -> None:
    cluster.get("v1", "ConfigMap", "none", "default")
    cluster.list("apps/v1", "Deployment")
    cluster.list("route.openshift.io/v1", "Route", "n")
    assert [r.path for r in api.requests] == ["/api/v1/namespaces/default/configmaps/none", "/apis/apps/v1/deployments",
                                              "/apis/route.openshift.io/v1/namespaces/n/routes"]


@pytest.mark.parametrize("legacy", [False, True])
def test_discovery_is_made_once(api: FakeApi, cluster: Cluster, legacy: bool) -> None:
    api.legacy_discovery = legacy
    api.kinds += [Kind("example.org/v1", "Thing", "things", True), Kind("example.org/v1", "Whole", "wholes", False)]
    assert cluster.path("example.org/v1", "Thing", "n", "t") == "/apis/example.org/v1/namespaces/n/things/t"
    assert cluster.path("example.org/v1", "Whole", None, "w") == "/apis/example.org/v1/wholes/w"
    made = len(api.requests)
    assert made == 2 or legacy
    with pytest.raises(UnknownKind):
        cluster.kind("nowhere.io/v1", "Thing")
    assert len(api.requests) == made


def test_an_unknown_kind_installed_meanwhile_is_found_by_a_recheck(api: FakeApi, cluster: Cluster) -> None:
    assert cluster.list("example.org/v1", "Thing", "n") == []
    assert cluster.get("example.org/v1", "Thing", "k", "n") is None
    cluster.recheck("example.org/v1")  # still not there: no error
    api.kinds.append(Kind("example.org/v1", "Thing", "things", True))
    cluster.recheck("example.org/v1")
    assert cluster.kind("example.org/v1", "Thing").plural == "things"


def test_a_known_kind_that_is_not_served_is_none(api: FakeApi, cluster: Cluster) -> None:
    """A real server answers '404 page not found' as text there, and a Status for an object that is missing."""
    kbs = {"apiVersion": "confidentialcontainers.org/v1alpha1", "kind": "KbsConfig", "metadata": {"name": "k", "namespace": "n"}}
    gone = [k for k in api.kinds if k.kind == "KbsConfig"]
    api.kinds.remove(gone[0])
    assert cluster.list(kbs["apiVersion"], "KbsConfig", "n") == []
    assert cluster.get(kbs["apiVersion"], "KbsConfig", "k", "n") is None
    assert cluster.delete(kbs) is False
    for call in (lambda: cluster.list_version(kbs["apiVersion"], "KbsConfig", "n"), lambda: cluster.create(kbs),
                 lambda: cluster.patch(kbs, kbs, "apply"), lambda: list(cluster.watch(kbs["apiVersion"], "KbsConfig", "n", "1"))):
        with pytest.raises(UnknownKind):
            call()
    api.kinds += gone
    with pytest.raises(ApiFailure) as raised:
        cluster.patch(kbs, {}, "merge")
    assert raised.value.status == 404
    assert not raised.value.not_served


@pytest.mark.parametrize("code", [429, 502, 503, 504])
def test_later_is_tried_again(api: FakeApi, cluster: Cluster, code: int) -> None:
    api.script("GET", "/version", code, headers={"Retry-After": "0"}, times=2)
    assert cluster.request("GET", "/version")
    assert len(api.requests) == 3


def test_later_for_ever_is_an_error(api: FakeApi, cluster: Cluster) -> None:
    api.script("GET", "/version", 429, status(429, "TooManyRequests", "try later"), headers={"Retry-After": "0"}, times=99)
    with pytest.raises(ApiFailure) as raised:
        cluster.request("GET", "/version")
    assert len(api.requests) == ATTEMPTS
    assert "is overloaded (429): try later" in str(explain("X", raised.value, api.url))


@pytest.mark.parametrize(("code", "expected"), [(429, 2), (503, 1)])
def test_a_creation_is_repeated_only_if_the_server_did_not_begin(api: FakeApi, cluster: Cluster, code: int, expected: int) -> None:
    api.script("POST", "configmaps", code, headers={"Retry-After": "0"})
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default"}}
    if expected == 1:
        with pytest.raises(ApiFailure):
            cluster.create(obj)
    else:
        cluster.create(obj)
    assert len(api.writes()) == expected


def test_pauses_grow_and_end() -> None:
    assert [_pause(None, n) for n in (1, 2, 3)] == [0.5, 1.0, 2.0]
    assert _pause("3", 1) == 3
    assert _pause("600", 1) == 10
    assert _pause("Wed, 21 Oct 2026 07:28:00 GMT", 1) == 0.5


@pytest.mark.parametrize("code", [400, 401, 403, 404, 409, 422, 500])
def test_other_failures_are_not_repeated(api: FakeApi, cluster: Cluster, code: int) -> None:
    api.script("GET", "/version", code, status(code, "Reason", "said"))
    with pytest.raises(ApiFailure) as raised:
        cluster.request("GET", "/version")
    assert (raised.value.status, raised.value.reason, raised.value.message) == (code, "Reason", "said")
    assert len(api.requests) == 1


def test_an_answer_that_is_no_status(api: FakeApi, cluster: Cluster) -> None:
    api.script("GET", "/version", 500, "a proxy's page")
    api.script("GET", "/version", 500, ["a", "list"])
    for text in ("a proxy's page", '["a", "list"]'):
        with pytest.raises(ApiFailure) as raised:
            cluster.request("GET", "/version")
        assert raised.value.message == text


def test_a_broken_connection_is_tried_again_for_reads(api: FakeApi, cluster: Cluster) -> None:
    api.script("GET", "/version", 0, close=True)
    assert cluster.request("GET", "/version")
    api.script("POST", "configmaps", 0, close=True)
    with pytest.raises(Unreachable):
        cluster.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default"}})
    assert len(api.writes()) == 1


def test_a_slow_answer_is_given_up(api: FakeApi, cluster: Cluster) -> None:
    api.script("GET", "/version", 200, {}, delay=5, times=9)
    started = time.monotonic()
    with pytest.raises(Unreachable) as raised:
        cluster.request("GET", "/version", timeout=0.2)
    assert time.monotonic() - started < 2
    assert "does not answer" in str(explain("X", raised.value, api.url))


def test_a_forbidden_verb_is_named(api: FakeApi, cluster: Cluster) -> None:
    api.forbidden |= {("patch", "secrets"), ("list", "nodes")}
    with pytest.raises(ApiFailure) as raised:
        cluster.patch({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "default"}}, {})
    said = str(explain("Secret default/s was not applied", raised.value, api.url))
    assert said.startswith("Secret default/s was not applied · the credentials may not do this: ")
    assert 'User "tester" cannot patch resource "secrets" in API group "" in the namespace "default"' in said
    with pytest.raises(ApiFailure, match="cannot list resource"):
        cluster.list("v1", "Node")
    assert not cluster.allowed("patch", "", "secrets")
    assert cluster.allowed("get", "", "secrets")


def test_delete_says_whether_there_was_something(api: FakeApi, cluster: Cluster) -> None:
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default"}}
    api.put(obj)
    assert cluster.delete(obj, dry_run=True)
    assert cluster.delete(obj)
    assert not cluster.delete(obj)
    assert not cluster.delete({"apiVersion": "nowhere.io/v1", "kind": "X", "metadata": {"name": "a"}})
    api.forbidden.add(("delete", "configmaps"))
    with pytest.raises(ApiFailure):
        cluster.delete(obj)


def test_metadata_alone_carries_no_secret(api: FakeApi, cluster: Cluster) -> None:
    api.put({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "default"}, "data": {"k": "dmFsdWU="}})
    (found,) = cluster.metadata("Secret", "default")
    assert found["name"] == "s"
    assert "PartialObjectMetadataList" in api.requests[-1].headers["accept"]


def test_logs_of_a_container_that_has_none(api: FakeApi, cluster: Cluster) -> None:
    api.logs["p"] = "line\n"
    assert cluster.logs("default", "p", "c", 10, since_seconds=3, previous=True) == "line\n"
    assert api.requests[-1].query == {"tailLines": "10", "container": "c", "sinceSeconds": "3", "previous": "true"}
    assert cluster.logs("default", "none") == ""
    api.script("GET", "/log$", 400, status(400, "BadRequest", "waiting to start: ContainerCreating"))
    assert cluster.logs("default", "p") == ""
    api.script("GET", "/log$", 500)
    with pytest.raises(ApiFailure):
        cluster.logs("default", "p")


@pytest.mark.parametrize(("error", "parts"), [
    (UnknownKind("confidentialcontainers.org/v1alpha1", "KbsConfig"),
     ("no kind KbsConfig in confidentialcontainers.org/v1alpha1", "trustee_operator")),
    (UnknownKind("kataconfiguration.openshift.io/v1", "KataConfig"), ("no kind KataConfig", "sandboxed_containers_operator")),
    (UnknownKind("operators.coreos.com/v1alpha1", "Subscription"), ("no kind Subscription", "OpenShift cluster")),
    (UnknownKind("a.io/v1", "B"), ("no kind B in a.io/v1", "Install the operator that brings it first")),
    (ApiFailure(404, "NotFound", 'namespaces "x" not found'), ('namespaces "x" not found', "Create the namespace first")),
    (ApiFailure(403, "Forbidden", "unable to create in x because it is being terminated"), ("its namespace is being deleted", "Wait")),
    (ApiFailure(422, "Invalid", "spec.x: Required value"), ("refused the object: spec.x: Required value", "Correct the named field")),
    (ApiFailure(400, "BadRequest", 'admission webhook "v" denied the request: no'), ("refused the object", 'webhook "v" denied')),
    (ApiFailure(500, "InternalError", 'failed calling webhook "w"'), ("an admission webhook does not answer", "Wait until the operator")),
    (ApiFailure(413, "TooLarge", "limit is 3145728"), ("too large", "1 MiB")),
    (ApiFailure(409, "Conflict", "conflict", {"causes": [{"reason": "FieldManagerConflict", "field": ".spec.a",
                                                          "message": 'conflict with "kubectl" using v1'}]}),
     (".spec.a is owned by kubectl", "force: true")),
    (ApiFailure(500, "InternalError", "etcdserver: no leader"), ("500 InternalError: etcdserver: no leader",)),
    (Unreachable("certificate has expired"), ("is not valid now", "clock")),
    (ValueError("odd"), ("odd", "-vvv")),
])
def test_errors_say_what_was_seen_and_what_to_do(error: Exception, parts: tuple[str, ...]) -> None:
    said: Any = explain("Something failed", error, "https://api")
    assert said.what == "Something failed"
    for part in parts:
        assert part in str(said)
    assert said.todo
