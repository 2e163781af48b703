"""k8s_objects: apply, delete, await; what was done is said also after a failure."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.confidential.containers.plugins.module_utils.actions import k8s_objects
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError
from tests.fake_api import FakeApi
from tests.fake_api.store import Object

CONFIG_MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default"}, "data": {"k": "v"}}
DEPLOYMENT: Object = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "default"},
                      "spec": {"replicas": 1}}


def becomes_ready(api: FakeApi, seconds: float = 0.2) -> None:
    """A controller that makes Deployments available after some time."""
    def react(event: str, obj: Object) -> None:
        if event == "ADDED" and obj["kind"] == "Deployment":
            status = {"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1, "observedGeneration": 1}
            api.later(seconds, api.put, {**DEPLOYMENT, "status": status}, "controller")
    api.reactors.append(react)


def test_apply_and_wait(api: FakeApi, call: Any, lines: list[str]) -> None:
    becomes_ready(api)
    result = call("k8s_objects", objects=[DEPLOYMENT, CONFIG_MAP, {}], wait=True)
    assert result == {"changed": True, "objects": [
        {"apiVersion": "apps/v1", "kind": "Deployment", "namespace": "default", "name": "d", "action": "created", "ready": True,
         "message": "1 of 1 replicas available"},
        {"apiVersion": "v1", "kind": "ConfigMap", "namespace": "default", "name": "a", "action": "created", "ready": True, "message": ""}]}
    assert lines[-1] == "Deployment default/d: ready"
    again = call("k8s_objects", objects=[DEPLOYMENT, CONFIG_MAP], wait=True)
    assert not again["changed"]
    assert [o["action"] for o in again["objects"]] == ["unchanged", "unchanged"]


def test_no_objects_need_no_cluster(call: Any) -> None:
    assert call("k8s_objects", objects=[{}], kubeconfig="/none") == {"changed": False, "objects": []}


def test_check_mode(api: FakeApi, call: Any) -> None:
    version = api.version
    result = call("k8s_objects", check=True, diff=True, objects=[DEPLOYMENT], wait=True)
    assert result["changed"]
    assert (result["objects"][0]["action"], result["objects"][0]["ready"]) == ("created", None)
    assert result["objects"][0]["message"] == "not awaited in check mode"
    assert '"replicas": 1' in result["diff"][0]["after"]
    assert api.version == version


def test_a_wait_that_fails_says_what_was_done(api: FakeApi, call: Any) -> None:
    with pytest.raises(CocoError, match="Deployment default/d not ready") as raised:
        call("k8s_objects", diff=True, objects=[DEPLOYMENT, CONFIG_MAP], wait=True, wait_timeout=0)
    found = raised.value.result()
    assert found["changed"] is True
    assert [o["action"] for o in found["objects"]] == ["created", "created"]
    assert [o["name"] for o in found["not_ready"]] == ["d"]
    assert len(found["diff"]) == 2


def test_only_awaited(api: FakeApi, call: Any) -> None:
    api.put(CONFIG_MAP)
    result = call("k8s_objects", state="ready", objects=[CONFIG_MAP])
    assert (result["changed"], result["objects"][0]["action"], result["objects"][0]["ready"]) == (False, "ready", True)
    assert not api.writes()
    with pytest.raises(CocoError, match="it does not exist yet") as raised:
        call("k8s_objects", state="ready", objects=[DEPLOYMENT], wait_timeout=0)
    assert raised.value.details["changed"] is False
    assert call("k8s_objects", check=True, state="ready", objects=[DEPLOYMENT], wait_timeout=0)["objects"][0]["ready"] is None


def test_readiness_depends_on_the_release(api: FakeApi, call: Any) -> None:
    """The adaptor's DaemonSet has another name in OSC 1.8."""
    osc = "openshift-sandboxed-containers-operator"
    running = {"desiredNumberScheduled": 1, "numberReady": 1, "updatedNumberScheduled": 1}
    available = {"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}
    for kind, name, status in (("DaemonSet", "peerpodconfig-ctrl-caa-daemon", running), ("Deployment", "peer-pods-webhook", available)):
        api.put({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "namespace": osc}, "spec": {}, "status": status})
    api.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "peer-pods-cm", "namespace": osc},
             "data": {"AZURE_IMAGE_ID": "/i"}})
    api.put({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "peer-pods-secret", "namespace": osc}, "data": {}})
    api.put({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "kata-remote"}, "handler": "kata-remote"})
    config = {"apiVersion": "kataconfiguration.openshift.io/v1", "kind": "KataConfig", "metadata": {"name": "k"}}
    api.put({**config, "spec": {"enablePeerPods": True}, "status": {"conditions": [{"type": "InProgress", "status": "False"}],
                                                                    "kataNodes": {"nodeCount": 1, "readyNodeCount": 1}}})
    assert call("k8s_objects", state="ready", objects=[config], release="1.8/0.2")["objects"][0]["ready"]
    with pytest.raises(CocoError, match="DaemonSet/osc-caa-ds: does not exist yet"):
        call("k8s_objects", state="ready", objects=[config], release="1.9/0.3", wait_timeout=0)


def test_deletion_is_awaited_by_uid(api: FakeApi, call: Any) -> None:
    made = api.put({**CONFIG_MAP, "metadata": {**CONFIG_MAP["metadata"], "finalizers": ["a/b"]}})
    checked = call("k8s_objects", check=True, state="absent", objects=[CONFIG_MAP], wait=True, wait_timeout=1)
    assert checked["objects"][0]["action"] == "deleted"
    assert not made["metadata"].get("deletionTimestamp")
    api.later(0.3, api.patch, api.key(CONFIG_MAP), {"metadata": {"finalizers": None}}, "operator", dry=False)
    result = call("k8s_objects", diff=True, state="absent", objects=[CONFIG_MAP], wait=True)
    assert result["changed"]
    assert result["objects"][0]["uid"] == made["metadata"]["uid"]
    assert result["diff"][0]["after"] == ""
    assert api.find("v1", "ConfigMap", "a", "default") is None
    assert not call("k8s_objects", state="absent", objects=[CONFIG_MAP])["changed"]


def test_a_deletion_that_hangs_says_what_was_done(api: FakeApi, call: Any) -> None:
    api.put({**CONFIG_MAP, "metadata": {**CONFIG_MAP["metadata"], "finalizers": ["a/b"]}})
    with pytest.raises(CocoError, match="held by a/b") as raised:
        call("k8s_objects", state="absent", objects=[CONFIG_MAP], wait=True, wait_timeout=0)
    assert raised.value.details["changed"] is True


def test_an_unknown_release_is_an_error_before_anything_is_done(api: FakeApi, call: Any) -> None:
    with pytest.raises(CocoError, match=r"1\.13/1\.2"):
        call("k8s_objects", objects=[CONFIG_MAP], release="9.9/9.9")
    assert not api.requests


def test_values_of_secrets_are_named_to_be_hidden() -> None:
    objects = [{"kind": "Secret", "data": {"a": "cGFzc3dvcmQtMQ=="}, "stringData": {"b": "password-2"}}, CONFIG_MAP]
    found = k8s_objects.secrets({"objects": objects})
    assert {"password-1", "cGFzc3dvcmQtMQ==", "password-2", "cGFzc3dvcmQtMg=="} <= found
    assert "v" not in json.dumps(sorted(found)).split('"')


def test_what_keeps_a_pods_virtual_machine_from_starting_is_told(api: FakeApi, call: Any) -> None:
    """It stands in the events of the Deployment's pods only; the error ends with what to do about it."""
    api.put({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web-1", "namespace": "shop", "labels": {"app": "web"}},
             "status": {"phase": "Pending"}})
    for name, about in (("e1", "web-1"), ("e2", "another")):
        api.put({"apiVersion": "v1", "kind": "Event", "metadata": {"name": name, "namespace": "shop"}, "type": "Warning",
                 "reason": "FailedCreatePodSandBox", "message": f"GalleryImageNotFound: of {about}",
                 "involvedObject": {"kind": "Pod", "name": about}})
    web = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop"},
           "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}}}
    with pytest.raises(CocoError) as raised:
        call("k8s_objects", objects=[web], wait=True, wait_timeout=1)
    said = str(raised.value)
    assert "web-1: FailedCreatePodSandBox GalleryImageNotFound: of web-1" in said
    assert "another" not in said
    assert "(the pod VM image does not exist) · Correct the id: of the pod (annotation io.katacontainers" in said
    assert raised.value.details["objects"][0]["action"] == "created"


def test_what_is_leaving_already_is_awaited_too(api: FakeApi, call: Any) -> None:
    """Another run, or another task, asked for the deletion."""
    web = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web", "namespace": "shop", "finalizers": ["a.b/c"]}}
    key = api.key(api.put(web))
    api.delete(key)
    api.later(0.5, api.patch, key, {"metadata": {"finalizers": None}}, "operator", dry=False)
    result = call("k8s_objects", state="absent", objects=[web], wait=True, wait_timeout=20)
    assert (result["changed"], api.find("v1", "ConfigMap", "web", "shop")) == (False, None)
