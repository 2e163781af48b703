"""Waiting by watch: within a second of readiness, to one deadline, through outages, with one line for each change."""

from __future__ import annotations

import time
from typing import Any

import pytest

from ansible_collections.confidential.containers.plugins.module_utils import cluster_wait, cluster_watch
from ansible_collections.confidential.containers.plugins.module_utils.cluster import Cluster
from ansible_collections.confidential.containers.plugins.module_utils.cluster_wait import wait_gone, wait_ready
from ansible_collections.confidential.containers.plugins.module_utils.context import Context
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError
from tests.fake_api import Authority, FakeApi, status


def deployment(name: str = "d", available: int = 0, **more: Any) -> dict[str, Any]:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "shop"},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": name}}},
            "status": {"replicas": 1, "updatedReplicas": 1, "availableReplicas": available, **more}}


def csv(phase: str, reason: str = "", message: str = "") -> dict[str, Any]:
    return {"apiVersion": "operators.coreos.com/v1alpha1", "kind": "ClusterServiceVersion", "metadata": {"name": "c", "namespace": "shop"},
            "status": {"phase": phase, "reason": reason, "message": message}}


def took(function: Any, *arguments: Any) -> float:
    started = time.monotonic()
    function(*arguments)
    return time.monotonic() - started


def test_ready_at_once(api: FakeApi, cluster: Cluster) -> None:
    api.put(deployment(available=1))
    lines: list[str] = []
    states = wait_ready(cluster, [deployment()], 5, Context(progress=lines.append))
    assert states == [{"ready": True, "failed": False, "reason": "Available", "message": "1 of 1 replicas available"}]
    assert lines == []


def test_readiness_is_seen_within_a_second_by_watch(api: FakeApi, cluster: Cluster) -> None:
    api.put(deployment())
    lines: list[str] = []
    api.later(0.5, api.put, deployment(available=1))
    assert took(wait_ready, cluster, [deployment()], 30, Context(progress=lines.append)) < 1.5
    assert lines == ["waiting for Deployment shop/d: 0 of 1 replicas available", "Deployment shop/d: ready"]
    assert [r.watch for r in api.requests] == [False, True]


def test_a_line_for_each_change_and_no_other(api: FakeApi, cluster: Cluster) -> None:
    api.put(deployment())
    lines: list[str] = []
    api.later(0.3, api.put, deployment(observedGeneration=1))
    api.later(2.3, api.put, deployment(available=1))
    wait_ready(cluster, [deployment()], 30, Context(progress=lines.append))
    assert lines == ["waiting for Deployment shop/d: 0 of 1 replicas available", "Deployment shop/d: ready"]


def test_an_object_that_does_not_exist_yet(api: FakeApi, cluster: Cluster) -> None:
    lines: list[str] = []
    api.later(0.3, api.put, deployment(available=1))
    wait_ready(cluster, [deployment()], 10, Context(progress=lines.append))
    assert lines[0] == "waiting for Deployment shop/d: it does not exist yet"


def test_several_objects_wait_together(api: FakeApi, cluster: Cluster) -> None:
    """Five Deployments that are ready at about the same time take that time, over one watch."""
    names = [f"d{n}" for n in range(5)]
    for number, name in enumerate(names):
        api.put(deployment(name))
        api.later(0.3 + number / 50, api.put, deployment(name, 1))
    assert took(wait_ready, cluster, [deployment(name) for name in names], 30, Context()) < 1.5
    assert sum(r.watch for r in api.requests) == 1


def test_what_is_related_is_looked_at(api: FakeApi, cluster: Cluster) -> None:
    kbs = {"apiVersion": "confidentialcontainers.org/v1alpha1", "kind": "KbsConfig",
           "metadata": {"name": "kbsconfig", "namespace": "trustee-operator-system"}}
    made = deployment("trustee-deployment")
    made["metadata"]["namespace"] = "trustee-operator-system"
    api.put(kbs)
    lines: list[str] = []
    api.later(0.3, api.put, made)
    api.later(0.6, api.put, {**made, "status": {**made["status"], "availableReplicas": 1}})
    wait_ready(cluster, [kbs], 10, Context(progress=lines.append))
    assert [line.split(": ")[1][:20] for line in lines] == ["the operator has not", "0 of 1 replicas avai", "ready"]


def test_the_deadline_names_every_object_and_why(api: FakeApi, cluster: Cluster) -> None:
    api.put(deployment())
    api.put(csv("Pending", "RequirementsNotMet", "one or more requirements couldn't be found"))
    api.put({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "d-1", "namespace": "shop", "labels": {"app": "d"}},
             "status": {"containerStatuses": [{"name": "c",
                                               "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}]}})
    with pytest.raises(CocoError) as raised:
        wait_ready(cluster, [deployment(), csv("")], 0.4, Context())
    said = str(raised.value)
    assert said.startswith("2 objects not ready after 0 s · Deployment shop/d: Progressing 0 of 1 replicas available "
                           "[d-1: ImagePullBackOff no such image]; ClusterServiceVersion shop/c: RequirementsNotMet Pending: one or more")
    assert [(o["name"], o["action"], o["ready"]) for o in raised.value.details["not_ready"]] == [("d", "waiting", False),
                                                                                                 ("c", "waiting", False)]


def test_warnings_of_an_object_are_shown(api: FakeApi, cluster: Cluster) -> None:
    api.put(csv("Pending"))
    api.put({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "shop"}, "type": "Warning", "reason": "Odd",
             "message": "something is odd", "involvedObject": {"name": "c", "kind": "ClusterServiceVersion"}})
    with pytest.raises(CocoError, match="Odd: something is odd"):
        wait_ready(cluster, [csv("")], 0.2, Context())


def test_missing_credentials_are_told(api: FakeApi, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """operators.md 7: the KataConfig shows nothing; what the Cloud Credential Operator says is at the CredentialsRequest. Who may not
    read these waits on as before."""
    monkeypatch.setitem(cluster_wait.PATIENCE, "KataConfig", 0.3)
    state = {"type": "InProgress", "status": "True", "reason": "Installing", "message": "Performing initial installation"}
    config = {"apiVersion": "kataconfiguration.openshift.io/v1", "kind": "KataConfig", "metadata": {"name": "k"},
              "spec": {"enablePeerPods": True}, "status": {"conditions": [state], "kataNodes": {"nodeCount": 1, "readyNodeCount": 0}}}
    api.put(config)
    lines: list[str] = []
    for what in ("secrets", "credentialsrequests", "cloudcredentials"):
        api.forbidden.add(("list", what))
    with pytest.raises(CocoError, match="KataConfig k not ready after 1 s · KataConfig k: Installing"):
        wait_ready(cluster, [config], 1, Context(progress=lines.append))
    assert "peer-pods-secret" not in str(lines)
    api.forbidden.remove(("list", "secrets"))
    with pytest.raises(CocoError, match=r"KataConfig k not ready after 1 s · .*; there is no peer-pods-secret "):
        wait_ready(cluster, [config], 1, Context())
    api.forbidden.clear()
    said = "failed to grant creds: unable to fetch root cloud cred secret: not found"
    api.put({"apiVersion": "cloudcredential.openshift.io/v1", "kind": "CredentialsRequest", "spec": {}, "metadata": {
        "name": "openshift-sandboxed-containers-azure", "namespace": "openshift-cloud-credential-operator"}, "status": {
        "conditions": [{"type": "CredentialsProvisionFailure", "status": "True", "message": said}]}})
    with pytest.raises(CocoError, match=f"KataConfig k failed · .*{said}.*coco_cloud_credentials"):
        wait_ready(cluster, [config], 60, Context())


def test_a_state_for_good_ends_the_wait(api: FakeApi, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cluster_wait.PATIENCE, "ClusterServiceVersion", 0.2)
    api.put(csv("Failed", "UnsupportedOperatorGroup", "OwnNamespace is not supported"))
    started = time.monotonic()
    with pytest.raises(CocoError, match=r"ClusterServiceVersion shop/c failed · .*OwnNamespace is not supported") as raised:
        wait_ready(cluster, [csv("")], 60, Context())
    assert time.monotonic() - started < 2.5
    assert raised.value.details["not_ready"][0]["action"] == "failed"


def test_a_failed_job_ends_the_wait_at_once(api: FakeApi, cluster: Cluster) -> None:
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j", "namespace": "shop"},
           "status": {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "limit"}]}}
    api.later(0.2, api.put, job)
    started = time.monotonic()
    with pytest.raises(CocoError, match="BackoffLimitExceeded"):
        wait_ready(cluster, [job], 60, Context())
    assert time.monotonic() - started < 1.5


def test_a_failed_state_that_passes_is_forgiven(api: FakeApi, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cluster_wait.PATIENCE, "ClusterServiceVersion", 1.5)
    api.put(csv("Failed", "UnsupportedOperatorGroup"))
    api.later(0.4, api.put, csv("Succeeded"))
    assert wait_ready(cluster, [csv("")], 10, Context())[0]["ready"]


# Outages --------------------------------------------------------------------------------------------------------------

def test_a_watch_that_the_server_ends(api: FakeApi, cluster: Cluster) -> None:
    api.watch_seconds = 0.2
    api.put(deployment())
    api.later(0.9, api.put, deployment(available=1))
    assert took(wait_ready, cluster, [deployment()], 10, Context()) < 2.0


def test_a_watch_that_ends_at_once_does_not_flood_the_server(api: FakeApi, cluster: Cluster) -> None:
    api.watch_seconds = 0
    api.put(deployment())
    api.later(1.2, api.put, deployment(available=1))
    wait_ready(cluster, [deployment()], 10, Context())
    assert len(api.requests) <= 10


def test_a_watch_that_breaks(api: FakeApi, cluster: Cluster) -> None:
    api.put(deployment())
    api.script("GET", "/deployments", 0, close=True, watch=True, times=3)
    api.later(0.4, api.put, deployment(available=1))
    wait_ready(cluster, [deployment()], 10, Context())


@pytest.mark.parametrize("as_status", [False, True])
def test_a_version_that_is_gone(api: FakeApi, cluster: Cluster, as_status: bool) -> None:
    """410 comes as an event of the watch, or as its status."""
    api.put(deployment())
    api.oldest = api.version + 2
    if as_status:
        api.script("GET", "/deployments", 410, status(410, "Expired", "too old resource version"), watch=True)
    for number in range(3):
        api.later(0.3 + number / 10, api.put, {**deployment(), "status": {"observedGeneration": 0, "replicas": number}})
    api.later(0.8, api.put, deployment(available=1, observedGeneration=1))
    assert took(wait_ready, cluster, [deployment()], 10, Context()) < 3


def test_an_object_that_goes_and_comes_again(api: FakeApi, cluster: Cluster) -> None:
    api.put(deployment())
    lines: list[str] = []
    key = api.key(deployment())
    api.later(0.3, api.delete, key)
    api.later(0.6, api.put, deployment(available=1))
    wait_ready(cluster, [deployment()], 10, Context(progress=lines.append))
    assert [line.split(": ")[1] for line in lines] == ["0 of 1 replicas available", "it does not exist yet", "ready"]


def test_a_server_that_restarts_is_waited_for(api: FakeApi, cluster: Cluster) -> None:
    api.put(deployment())
    lines: list[str] = []
    api.script("GET", "/deployments", 500, status(500, "InternalError", "etcdserver: no leader"), watch=True)
    api.script("GET", "/deployments", 500, status(500, "InternalError", "etcdserver: no leader"), watch=True)
    api.script("GET", "/deployments", 403, status(403, "Forbidden", "RBAC not synced"), watch=True)
    api.later(1.0, api.put, deployment(available=1))
    wait_ready(cluster, [deployment()], 10, Context(progress=lines.append))
    assert "waiting for Deployment shop/d: the API server answers 500 etcdserver: no leader" in lines
    assert lines[-1] == "Deployment shop/d: ready"


def test_a_slow_watch_hinders_nobody(api: FakeApi, cluster: Cluster) -> None:
    """The watch answers late; the list that comes before it already shows the state."""
    api.put(deployment(available=1))
    api.script("GET", "/deployments", 500, watch=True, delay=5)
    assert took(wait_ready, cluster, [deployment()], 10, Context()) < 2


def test_refused_credentials_end_the_wait(api: FakeApi, cluster: Cluster) -> None:
    api.token = "new"
    with pytest.raises(CocoError, match="refused the credentials"):
        wait_ready(cluster, [deployment()], 60, Context())
    api.token = ""
    api.forbidden.add(("list", "deployments"))
    with pytest.raises(CocoError, match='cannot list resource "deployments"'):
        wait_ready(cluster, [deployment()], 60, Context())


def test_credentials_refused_later_are_believed_after_a_while(api: FakeApi, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_watch, "REFUSED", 0.6)
    api.put(deployment())
    api.watch_seconds = 0.2
    api.later(0.3, setattr, api, "token", "new")
    started = time.monotonic()
    with pytest.raises(CocoError, match="refused the credentials"):
        wait_ready(cluster, [deployment()], 60, Context())
    assert 0.6 < time.monotonic() - started < 4


def test_a_server_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_watch, "FIRST_ANSWER", 0.5)
    lost = Cluster.from_params({"host": "http://127.0.0.1:1"})
    started = time.monotonic()
    with pytest.raises(CocoError, match="does not answer"):
        wait_ready(lost, [deployment()], 60, Context())
    assert time.monotonic() - started < 5


def test_a_certificate_that_is_not_trusted_ends_the_wait(tmp_path: Any) -> None:
    with FakeApi(Authority(tmp_path).server()) as api:
        stranger = Cluster.from_params({"host": api.url})
        started = time.monotonic()
        with pytest.raises(CocoError, match="is not trusted"):
            wait_ready(stranger, [deployment()], 60, Context())
        assert time.monotonic() - started < 3


def test_the_deadline_of_a_server_that_was_never_seen(cluster: Cluster) -> None:
    lost = Cluster.from_params({"host": "http://127.0.0.1:1"})
    with pytest.raises(CocoError, match="gave no answer in time"):
        wait_ready(lost, [deployment()], 0.3, Context())


def test_a_kind_that_is_not_there_yet(api: FakeApi, cluster: Cluster) -> None:
    kind = next(k for k in api.kinds if k.kind == "ClusterServiceVersion")
    api.kinds.remove(kind)
    lines: list[str] = []

    def install() -> None:
        api.kinds.append(kind)
        api.put(csv("Succeeded"))

    api.later(0.5, install)
    assert took(wait_ready, cluster, [csv("")], 10, Context(progress=lines.append)) < 2.5
    assert "the cluster has no such kind yet" in lines[0]


def test_missing_objects_may_be_allowed(api: FakeApi, cluster: Cluster) -> None:
    api.put(deployment(available=1))
    states = wait_ready(cluster, [deployment(), deployment("none")], 5, Context(), allow_missing=True)
    assert [state["reason"] for state in states] == ["Available", "Absent"]


def test_connections_are_given_back(api: FakeApi, cluster: Cluster) -> None:
    """A wait that is over leaves no watch behind, and the session is still good."""
    api.put(deployment(available=1))
    for _number in range(12):
        wait_ready(cluster, [deployment()], 5, Context())
    assert cluster.get("apps/v1", "Deployment", "d", "shop")


@pytest.mark.parametrize("broken", [{}, {"apiVersion": "v1", "kind": "Pod", "metadata": {}}, {"kind": "Pod", "metadata": {"name": "a"}}])
def test_what_cannot_be_awaited(cluster: Cluster, broken: dict[str, Any]) -> None:
    with pytest.raises(CocoError, match=r"cannot be awaited.*lacks apiVersion, kind or metadata\.name"):
        wait_ready(cluster, [broken], 1, Context())


# Gone -----------------------------------------------------------------------------------------------------------------

def test_gone(api: FakeApi, cluster: Cluster) -> None:
    made = api.put({**deployment(), "metadata": {**deployment()["metadata"], "finalizers": ["a.b/c"]}})
    lines: list[str] = []
    key = api.key(deployment())
    api.delete(key)
    api.later(0.4, api.patch, key, {"metadata": {"finalizers": None}}, "operator", dry=False)
    assert took(wait_gone, cluster, [made], 10, Context(progress=lines.append)) < 2
    assert lines == ["waiting for Deployment shop/d to go: held by a.b/c"]
    wait_gone(cluster, [made], 1, Context())


def test_another_object_of_the_name_is_not_the_one(api: FakeApi, cluster: Cluster) -> None:
    made = api.put(deployment())
    wait_gone(cluster, [{**made, "metadata": {**made["metadata"], "uid": "old"}}], 1, Context())


def test_what_holds_it_is_named_at_the_deadline(api: FakeApi, cluster: Cluster) -> None:
    made = api.put({**deployment(), "metadata": {**deployment()["metadata"], "finalizers": ["a.b/c"]}})
    with pytest.raises(CocoError, match=r"Deployment shop/d still there after 0 s · .*it is not being deleted"):
        wait_gone(cluster, [made], 0.3, Context())
    api.put({**deployment(), "status": {"conditions": [{"reason": "Blocked", "message": "pods run", "type": "X"}]}})
    api.delete(api.key(deployment()))
    with pytest.raises(CocoError, match=r"Blocked: pods run \(a\.b/c\)"):
        wait_gone(cluster, [made], 0.3, Context())


def test_a_kind_that_went_takes_its_objects_along(api: FakeApi, cluster: Cluster) -> None:
    api.kinds = [k for k in api.kinds if k.kind != "ClusterServiceVersion"]
    wait_gone(cluster, [csv("")], 1, Context())
