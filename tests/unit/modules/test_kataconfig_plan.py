"""kataconfig_plan: reboots are a decision with reasons; looking costs nothing, acting is asked for."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError
from tests.fake_api import FakeApi
from tests.fake_api.store import Object

OSC, RELEASE = "openshift-sandboxed-containers-operator", "1.11/1.0"
API, MCO = "kataconfiguration.openshift.io/v1", "machineconfiguration.openshift.io/v1"


def config_map(name: str, **data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": OSC}, "data": data}


def pool(paused: bool = False, degraded: str = "") -> Object:
    conditions = [{"type": "Degraded", "status": "True"}, {"type": "NodeDegraded", "message": degraded}] if degraded else []
    return {"apiVersion": MCO, "kind": "MachineConfigPool", "metadata": {"name": "worker"}, "spec": {"paused": paused},
            "status": {"conditions": conditions}}


def pod(name: str, **labels: str) -> Object:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default", "labels": labels},
            "spec": {"runtimeClassName": "kata-remote"}}


@pytest.fixture(autouse=True)
def _nodes(api: FakeApi) -> None:
    api.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "w",
                                                              "labels": {"node-role.kubernetes.io/worker": "", "kata": "yes"}}})
    api.put(pool())


def existing(api: FakeApi, image: str = "", confidential: str = "") -> Object:
    api.put(config_map("peer-pods-cm", AZURE_IMAGE_ID=image))
    if confidential:
        api.put(config_map("azure-podvm-image-cm", CONFIDENTIAL_COMPUTE_ENABLED=confidential))
    return api.put({"apiVersion": API, "kind": "KataConfig", "metadata": {"name": "mine"}, "spec": {"enablePeerPods": True}})


def asked(api: FakeApi) -> set[str]:
    """Of the cluster; the pods of the image job are others."""
    return {r.path.rpartition("/")[2] for r in api.requests if r.method == "GET" and f"/{OSC}/" not in r.path} & {
        "pods", "nodes", "machineconfigpools"}


@pytest.mark.parametrize(("image", "confidential", "options"), [
    ("", "", {}), ("/built", "yes", {}), ("/built", "YES", {}), ("/given", "no", {"image_id": "/given"})])
def test_nothing_to_do(api: FakeApi, call: Any, image: str, confidential: str, options: Object) -> None:
    existing(api, image, confidential)
    for act in (False, True):
        result = call("kataconfig_plan", release=RELEASE, act=act, **options)
        assert result == {"changed": False, "needed": "none", "reasons": [], "blockers": [], "name": "mine", "restart_adaptor": False,
                          "spare_image": False}
    assert asked(api) == set(), "pods and pools are looked at only if something is to be done"
    assert not [r for r in api.requests if r.path.endswith("/pods")]
    assert not api.writes()


def test_there_is_none(api: FakeApi, call: Any, lines: list[str]) -> None:
    result = call("kataconfig_plan", release=RELEASE, act=True)
    assert (result["needed"], result["name"], result["blockers"], result["changed"]) == ("create", "example-kataconfig", [], False)
    assert "reboots the selected nodes once" in result["reasons"][0]
    assert lines == [f"KataConfig: {result['reasons'][0]}"]
    assert not api.writes()


def test_it_is_being_deleted(api: FakeApi, call: Any) -> None:
    existing(api)
    api.put({"apiVersion": API, "kind": "KataConfig", "metadata": {"name": "mine", "finalizers": ["a/b"]}})
    api.delete((API, "kataconfigs", "", "mine"))
    result = call("kataconfig_plan", release=RELEASE)
    assert (result["needed"], "being deleted" in result["reasons"][0]) == ("create", True)


def test_without_the_operator_there_is_none(api: FakeApi, call: Any) -> None:
    api.kinds = [kind for kind in api.kinds if kind.kind != "KataConfig"]
    assert call("kataconfig_plan", check=True, release=RELEASE)["needed"] == "create"


@pytest.mark.parametrize("check", [True, False])
def test_an_image_that_is_not_confidential(api: FakeApi, call: Any, check: bool) -> None:
    """Clear the id and let the operator look again: no reboot, and running pods are no hindrance."""
    existing(api, "/old", "no")
    api.put(pod("web"))
    planned = call("kataconfig_plan", release=RELEASE)
    assert (planned["needed"], planned["changed"], planned["blockers"]) == ("retrigger", False, [])
    assert "/old was built without the confidential feature gate" in planned["reasons"][0]
    version = api.version
    result = call("kataconfig_plan", check=check, release=RELEASE, act=True)
    assert (result["needed"], result["changed"]) == ("retrigger", True)
    if check:
        assert api.version == version
        return
    peerpods, image = api.find("v1", "ConfigMap", "peer-pods-cm", OSC), api.find("v1", "ConfigMap", "azure-podvm-image-cm", OSC)
    config = api.find(API, "KataConfig", "mine")
    assert peerpods is not None
    assert image is not None
    assert config is not None
    assert peerpods["data"] == {"AZURE_IMAGE_ID": ""}
    assert image["data"] == {"CONFIDENTIAL_COMPUTE_ENABLED": "yes"}
    assert config["metadata"]["annotations"] == {"confidential.containers/retrigger": "1"}
    assert call("kataconfig_plan", release=RELEASE, act=True)["needed"] == "none"
    assert asked(api) == set()


def job_pod(name: str, phase: str, made: str = "") -> Object:
    meta = {"name": name, "namespace": OSC, "labels": {"job-name": "osc-podvm-image-creation"}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {**meta, **({"creationTimestamp": made} if made else {})},
            "status": {"phase": phase}}


def done(api: FakeApi, **more: Any) -> None:
    """The operator has finished a pass over the KataConfig."""
    made = existing(api, **more)
    api.put({**made, "status": {"conditions": [{"type": "InProgress", "status": "False", "reason": ""}],
                                "kataNodes": {"nodeCount": 1, "readyNodeCount": 1}}})


def annotations(api: FakeApi, api_version: str, kind: str, name: str, namespace: str = "") -> Object:
    found = api.find(api_version, kind, name, namespace)
    assert found is not None
    return dict(found["metadata"].get("annotations") or {})


def test_a_failed_image_job_is_started_again(api: FakeApi, call: Any) -> None:
    """operators.md 3.4: the next trigger builds the job again; nothing else gives one. What failed is marked as of the past."""
    done(api)
    made = api.put(job_pod("job-1", "Failed"))
    assert call("kataconfig_plan", release=RELEASE)["needed"] == "retrigger"
    assert not api.writes()
    result = call("kataconfig_plan", release=RELEASE, act=True)
    assert (result["needed"], result["changed"], result["restart_adaptor"]) == ("retrigger", True, False)
    assert result["reasons"] == ["the last osc-podvm-image-creation failed (job-1): the operator is made to look again (no reboot)"]
    assert annotations(api, API, "KataConfig", "mine") == {
        "confidential.containers/retrigger": "1", "confidential.containers/image-job-seen": made["metadata"]["uid"]}
    assert [r.path.rpartition("/")[2] for r in api.writes()] == ["mine"], "the image id is empty already"


def test_what_failed_before_is_of_the_past_even_if_the_next_job_runs(api: FakeApi, call: Any) -> None:
    """The operator's own change of the status makes the next job. It, too, began before the cause was mended."""
    done(api)
    api.put({"apiVersion": API, "kind": "KataConfig", "metadata": {"name": "mine"},
             "status": {"conditions": [{"type": "InProgress", "status": "True", "reason": "PodVMImageJobRunning"}]}})
    api.put({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "osc-podvm-image-creation", "namespace": OSC}})
    api.put(job_pod("job-1", "Failed", "2099-01-01T00:00:00Z"))
    running = api.put(job_pod("job-2", "Running", "2099-01-01T00:00:10Z"))
    assert "failed (job-1)" in call("kataconfig_plan", release=RELEASE, act=True)["reasons"][0]
    assert annotations(api, API, "KataConfig", "mine")["confidential.containers/image-job-seen"] == running["metadata"]["uid"]
    assert call("kataconfig_plan", release=RELEASE, act=True)["needed"] == "none"


def test_neither_image_nor_job(api: FakeApi, call: Any) -> None:
    """Somebody cleared the id: up to OSC 1.12 the operator does not see it (deployment.md 3.6)."""
    done(api)
    result = call("kataconfig_plan", release=RELEASE, act=True)
    assert (result["needed"], result["changed"]) == ("retrigger", True)
    assert "no job that builds one" in result["reasons"][0]


@pytest.mark.parametrize("why", ["a job", "a pass that goes on", "an id in the inventory"])
def test_no_trigger_while(api: FakeApi, call: Any, why: str) -> None:
    done(api)
    api.put(job_pod("job-1", "Failed" if why != "a job" else "Running"))
    if why == "a job":
        api.put({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "osc-podvm-image-creation", "namespace": OSC}})
    elif why == "a pass that goes on":
        api.put({"apiVersion": API, "kind": "KataConfig", "metadata": {"name": "mine"},
                 "status": {"conditions": [{"type": "InProgress", "status": "True", "reason": "Installing"}]}})
    options = {"image_id": "/given"} if why.startswith("an id") else {}
    assert call("kataconfig_plan", release=RELEASE, act=True, **options)["needed"] == "none"
    assert not api.writes()


@pytest.mark.parametrize(("release", "restart"), [("1.11/1.0", True), ("1.13/1.2", False)])
def test_the_adaptor_is_restarted_after_the_new_image(api: FakeApi, call: Any, release: str, restart: bool) -> None:
    """Its environment is frozen: the old id, and DISABLECVM of before the gate. A killed run goes on with it. 1.13 rolls by itself."""
    existing(api, "/old", "no")
    api.put(job_pod("job-1", "Failed"))
    assert call("kataconfig_plan", release=release, check=True, act=True)["restart_adaptor"] is restart
    assert call("kataconfig_plan", release=release, act=True)["restart_adaptor"] is restart
    mark = {"confidential.containers/adaptor-restart-pending": "true"} if restart else {}
    assert annotations(api, "v1", "ConfigMap", "peer-pods-cm", OSC) == mark
    assert annotations(api, API, "KataConfig", "mine")["confidential.containers/image-job-seen"], "an old failure is of the past"
    again = call("kataconfig_plan", release=release, act=True)
    assert (again["needed"], again["restart_adaptor"]) == ("none", restart)


def test_an_image_that_is_taken_out_of_the_inventory(api: FakeApi, call: Any) -> None:
    """We wrote the id, so the inventory gave it. The image job writes by itself; so does a hand, which is left alone."""
    existing(api, "/by-hand", "yes")
    assert call("kataconfig_plan", release=RELEASE)["needed"] == "none"
    api.patch(("v1", "configmaps", OSC, "peer-pods-cm"), {"data": {"AZURE_IMAGE_ID": "/given"}}, "confidential.containers", dry=False)
    assert call("kataconfig_plan", release=RELEASE, image_id="/given")["needed"] == "none"
    result = call("kataconfig_plan", release=RELEASE, act=True)
    assert (result["needed"], result["restart_adaptor"]) == ("retrigger", True)
    assert "/given was given in the inventory and is no longer" in result["reasons"][0]
    api.patch(("v1", "configmaps", OSC, "peer-pods-cm"), {"data": {"AZURE_IMAGE_ID": "/built"}}, "kubectl-patch", dry=False)
    assert call("kataconfig_plan", release=RELEASE)["needed"] == "none"


def test_a_second_retrigger_is_another_one(api: FakeApi, call: Any) -> None:
    made = existing(api, "/old")
    api.put({**made, "metadata": {**made["metadata"], "annotations": {"confidential.containers/retrigger": "4"}}})
    call("kataconfig_plan", release=RELEASE, act=True)
    config = api.find(API, "KataConfig", "mine")
    assert config is not None
    assert config["metadata"]["annotations"] == {"confidential.containers/retrigger": "5"}
    assert api.find("v1", "ConfigMap", "azure-podvm-image-cm", OSC) is None, "a config map of the operator is not made"


@pytest.mark.parametrize("check", [True, False])
def test_running_pods_refuse_a_re_creation(api: FakeApi, call: Any, check: bool) -> None:
    existing(api)
    api.put(pod("web"))
    planned = call("kataconfig_plan", release=RELEASE, recreate="always")
    assert (planned["needed"], [b["code"] for b in planned["blockers"]]) == ("recreate", ["kata-pods"])
    with pytest.raises(CocoError, match="KataConfig is not touched · pods use kata runtime classes: default/web") as raised:
        call("kataconfig_plan", check=check, release=RELEASE, recreate="always", act=True)
    assert raised.value.details["needed"] == "recreate"
    assert call("kataconfig_plan", release=RELEASE, recreate="always", act=True, allow_pods=True)["blockers"] == []


@pytest.mark.parametrize("image_id", ["", "/given"])
def test_an_image_of_ones_own_outlives_a_re_creation(api: FakeApi, call: Any, image_id: str) -> None:
    """operators.md 3.5: at the end of a deletion the operator deletes what AZURE_IMAGE_ID names, a given image too."""
    existing(api, "/given", "yes")
    assert call("kataconfig_plan", check=True, release=RELEASE, recreate="always", act=True, image_id=image_id)["needed"] == "recreate"
    assert not [r for r in api.writes() if not r.dry]
    result = call("kataconfig_plan", release=RELEASE, recreate="always", act=True, image_id=image_id)
    assert result["changed"] is bool(image_id)
    peerpods = api.find("v1", "ConfigMap", "peer-pods-cm", OSC)
    assert peerpods is not None
    assert peerpods["data"]["AZURE_IMAGE_ID"] == ("" if image_id else "/given")
    assert (api.find(API, "KataConfig", "mine") is None) is bool(image_id)
    assert [r.method for r in api.writes()] == (["DELETE", "PATCH"] if image_id else []), "the id goes when no job can come of it"


def test_probes_of_a_killed_run_do_not_refuse_it(api: FakeApi, call: Any) -> None:
    existing(api)
    api.put(pod("probe-attested-1", **{"confidential.containers/probe": "attested"}))
    with pytest.raises(CocoError, match="default/probe-attested-1"):
        call("kataconfig_plan", check=True, release=RELEASE, recreate="always", act=True)
    assert api.find("v1", "Pod", "probe-attested-1", "default") is not None
    assert call("kataconfig_plan", release=RELEASE, recreate="always", act=True)["blockers"] == []
    assert api.find("v1", "Pod", "probe-attested-1", "default") is None


@pytest.mark.parametrize(("hindrance", "selector", "text"), [
    (pool(paused=True), {}, "the machine config pool worker is paused"),
    (pool(degraded="node w is reporting: disk full"), {}, "is degraded: node w is reporting: disk full"),
    (pool(), {"kata": "no"}, "matches no worker node"),
])
def test_what_speaks_against_it(api: FakeApi, call: Any, hindrance: Object, selector: Object, text: str) -> None:
    api.put(hindrance)
    with pytest.raises(CocoError, match=text):
        call("kataconfig_plan", release=RELEASE, selector=selector, act=True)
    assert call("kataconfig_plan", release=RELEASE, selector=selector)["blockers"]
    assert not api.writes()


def test_a_selector_that_matches(api: FakeApi, call: Any) -> None:
    assert call("kataconfig_plan", release=RELEASE, selector={"kata": "yes"}, act=True)["blockers"] == []


def test_forbidden(api: FakeApi, call: Any) -> None:
    api.forbidden.add(("list", "kataconfigs"))
    with pytest.raises(CocoError, match="The state of KataConfig cannot be read · the credentials may not do this"):
        call("kataconfig_plan", release=RELEASE)
