"""cluster_teardown: nothing without the cluster's name, nothing where something speaks against it, stage after stage otherwise."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError
from tests.fake_api import FakeApi
from tests.fake_api.store import Kind, Object

OSC, OLM = "openshift-sandboxed-containers-operator", "operators.coreos.com/v1alpha1"
SPOKE = {"zone": "spoke", "name": "one", "namespace": OSC, "wait_timeout": 5}
FINALIZER = "kataconfiguration.openshift.io/finalizer"


def put(api: FakeApi, kind: str, name: str, version: str = "v1", namespace: str | None = OSC, manager: str = "confidential.containers",
        **more: Any) -> Object:
    meta = {"name": name, **({"namespace": namespace} if namespace else {}), **more.pop("metadata", {})}
    return api.put({"apiVersion": version, "kind": kind, "metadata": meta, **more}, manager)


@pytest.fixture(autouse=True)
def _spoke(api: FakeApi) -> None:
    """A spoke as the site run leaves it; its operator clears the finalizer."""
    api.kinds += [Kind("operators.coreos.com/v1", "OperatorGroup", "operatorgroups")]
    api.put({"apiVersion": "config.openshift.io/v1", "kind": "Infrastructure", "metadata": {"name": "cluster"},
             "status": {"infrastructureName": "one-x7k2p"}})
    put(api, "Namespace", OSC, namespace=None, metadata={"labels": {"kubernetes.io/metadata.name": OSC}})
    put(api, "KataConfig", "example", "kataconfiguration.openshift.io/v1", None, spec={"enablePeerPods": True})
    put(api, "Deployment", "controller-manager", "apps/v1", manager="olm", metadata={"ownerReferences": [{"uid": "csv"}]}, spec={})
    put(api, "ConfigMap", "peer-pods-cm", data={"AZURE_REGION": "eastus"})
    put(api, "Secret", "peer-pods-secret", data={"AZURE_CLIENT_SECRET": "dmVyeS1zZWNyZXQ="})
    put(api, "Subscription", "s", OLM, spec={"name": "sandboxed-containers-operator"})
    put(api, "OperatorGroup", "g", "operators.coreos.com/v1", spec={})
    put(api, "ClusterServiceVersion", "sandboxed-containers-operator.v1.11.1", OLM, manager="olm", spec={})


def names(items: list[Object]) -> list[str]:
    return [f"{item['kind']}/{item['name']}" for item in items]


ALL = ["KataConfig/example", "ConfigMap/peer-pods-cm", "Secret/peer-pods-secret", "Subscription/s",
       "ClusterServiceVersion/sandboxed-containers-operator.v1.11.1", "OperatorGroup/g", f"Namespace/{OSC}"]


def test_check_mode_lists_and_changes_nothing(api: FakeApi, call: Any, lines: Any) -> None:
    version = api.version
    result = call("cluster_teardown", check=True, diff=True, **SPOKE)
    assert (result["changed"], names(result["removed"]), result["kept"], result["cluster"]) == (True, ALL, [], "one-x7k2p")
    assert api.version == version
    assert not [request for request in api.writes() if not request.dry]
    assert any(line == f"would go: Our objects: ConfigMap {OSC}/peer-pods-cm, Secret {OSC}/peer-pods-secret" for line in lines)
    assert "dmVyeS1zZWNyZXQ=" not in str(result), "secrets stay secret in diffs"
    assert "KataConfig example" in str(result["diff"])


@pytest.mark.parametrize("confirm", [[], ["two"]])
def test_it_wants_the_name_of_the_cluster(api: FakeApi, call: Any, confirm: list[str]) -> None:
    with pytest.raises(CocoError, match="Nothing of one was removed · coco_teardown_confirm does not name it; what would go: KataConfig"
                       ) as raised:
        call("cluster_teardown", confirm=confirm, **SPOKE)
    assert raised.value.todo.startswith("If that is meant: -e coco_teardown_confirm=one")
    assert raised.value.details["kept"] == []
    assert names(raised.value.details["removed"]) == ALL
    assert not api.writes()


@pytest.mark.parametrize("confirm", ["one", "one-x7k2p", "two,one"])
def test_all_goes_in_order_and_the_second_run_changes_nothing(api: FakeApi, call: Any, confirm: str) -> None:
    result = call("cluster_teardown", confirm=confirm, **SPOKE)
    assert (result["changed"], result["confirmed"], names(result["removed"])) == (True, True, ALL)
    assert [request.path.rpartition("/")[2] for request in api.writes()] == [name.partition("/")[2] for name in ALL]
    again = call("cluster_teardown", **SPOKE)
    assert not again["confirmed"]
    assert (again["changed"], again["removed"]) == (False, []), "and it needs no name"


def test_what_speaks_against_it(api: FakeApi, call: Any, lines: Any) -> None:
    api.put({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "shop"}, "spec": {"runtimeClassName": "kata"}})
    with pytest.raises(CocoError, match="Nothing of one was removed · pods use kata runtime classes: shop/p"):
        call("cluster_teardown", confirm=["one"], **SPOKE)
    assert not api.writes()
    assert [b["code"] for b in call("cluster_teardown", check=True, **SPOKE)["blockers"]] == ["kata-pods"]
    assert "shop/p" in lines.warnings[0]


def test_probes_of_a_killed_run_are_no_hindrance(api: FakeApi, call: Any) -> None:
    api.put({"apiVersion": "v1", "kind": "Pod", "spec": {"runtimeClassName": "kata"},
             "metadata": {"name": "probe", "namespace": "shop", "labels": {"confidential.containers/probe": "attested"}}})
    assert call("cluster_teardown", confirm=["one"], **SPOKE)["changed"]
    assert api.find("v1", "Pod", "probe", "shop") is None


def test_keys_of_others_stay(api: FakeApi, call: Any) -> None:
    api.patch(("v1", "configmaps", OSC, "peer-pods-cm"), {"data": {"TAGS": "theirs"}}, "kubectl-edit", dry=False)
    result = call("cluster_teardown", confirm=["one"], **SPOKE)
    found = api.find("v1", "ConfigMap", "peer-pods-cm", OSC)
    assert found is not None
    assert found["data"] == {"TAGS": "theirs"}
    assert [(item["name"], item["keys"]) for item in result["removed"] if "keys" in item] == [("peer-pods-cm", ["AZURE_REGION"])]
    assert names(result["kept"]) == ["ConfigMap/peer-pods-cm", f"Namespace/{OSC}"]


def test_what_is_on_its_way_is_awaited(api: FakeApi, call: Any) -> None:
    """A run was killed while nodes rebooted: the next one does not go on before KataConfig is gone."""
    put(api, "KataConfig", "example", "kataconfiguration.openshift.io/v1", None, spec={"enablePeerPods": True},
        metadata={"finalizers": [FINALIZER]})
    api.delete(("kataconfiguration.openshift.io/v1", "kataconfigs", "", "example"))
    with pytest.raises(CocoError, match=rf"KataConfig example still there after 1 s · KataConfig example: held by {FINALIZER}"):
        call("cluster_teardown", confirm=["one"], **{**SPOKE, "wait_timeout": 1})
    assert not api.writes()


def test_an_image_of_the_inventory_is_spared(api: FakeApi, call: Any, lines: Any) -> None:
    """Its id is taken away after the deletion of KataConfig has begun, and before it is awaited."""
    put(api, "ConfigMap", "peer-pods-cm", data={"AZURE_REGION": "eastus", "AZURE_IMAGE_ID": "/mine"})
    call("cluster_teardown", confirm=["one"], **SPOKE)
    done = [f"{request.method} {request.path.rpartition('/')[2]}" for request in api.writes()]
    assert done.index("DELETE example") < done.index("PATCH peer-pods-cm") < done.index("DELETE peer-pods-cm")
    assert any("stays: Image /mine: the operator did not make it" in line for line in lines)


def test_a_runtime_class_of_a_killed_run_goes_before_the_operator(api: FakeApi, call: Any) -> None:
    api.delete(("kataconfiguration.openshift.io/v1", "kataconfigs", "", "example"))
    put(api, "RuntimeClass", "kata-remote", "node.k8s.io/v1", None, "manager", handler="kata-remote", metadata={"ownerReferences": [
        {"apiVersion": "kataconfiguration.openshift.io/v1", "kind": "KataConfig", "name": "example", "uid": "gone"}]})
    result = call("cluster_teardown", confirm=["one"], **SPOKE)
    assert names(result["removed"]) == ["RuntimeClass/kata-remote", *ALL[1:]]
    assert api.writes()[0].path.endswith("runtimeclasses/kata-remote")


NAME = "sandboxed-containers-operator.openshift-sandboxed-containers-op"
PLAN = {"kind": "InstallPlan", "namespace": OSC, "name": "install-1", "apiVersion": OLM}


def remembered(api: FakeApi, refs: list[Object]) -> Object:
    """What OLM remembers of the operator, its components as given."""
    return put(api, "Operator", NAME, "operators.coreos.com/v1", None, "olm", status={"components": {"refs": refs}})


@pytest.fixture
def _definitions(api: FakeApi) -> None:
    api.kinds += [Kind("operators.coreos.com/v1", "Operator", "operators", False)]
    put(api, "CustomResourceDefinition", "peerpods.confidentialcontainers.org", "apiextensions.k8s.io/v1", None, "olm", spec={
        "group": "confidentialcontainers.org", "names": {"kind": "PeerPod"}, "versions": [{"name": "v1alpha1", "storage": True}]})
    remembered(api, [PLAN])


@pytest.mark.usefixtures("_definitions")
def test_olm_forgets_the_operator_when_it_counts_nothing_to_it(api: FakeApi, call: Any, lines: Any) -> None:
    """Deleted before, it would be made anew."""
    seen = threading.Timer(0.5, remembered, (api, []))
    seen.start()
    call("cluster_teardown", confirm=["one"], crds=True, **SPOKE)
    seen.join()
    assert f"waiting for OLM, which still counts to Operator {NAME}: InstallPlan {OSC}/install-1" in lines
    assert [f"{request.method} {request.path.rpartition('/')[2]}" for request in api.writes()][-2:] == [f"DELETE {OSC}", f"DELETE {NAME}"]


@pytest.mark.usefixtures("_definitions")
def test_what_olm_goes_on_counting_is_named(api: FakeApi, call: Any) -> None:
    with pytest.raises(CocoError, match=rf"Operator {NAME} was not removed, all else was · .*: InstallPlan {OSC}/install-1 · .*the label"):
        call("cluster_teardown", confirm=["one"], crds=True, **{**SPOKE, "wait_timeout": 1})
    assert not [request for request in api.writes() if request.path.endswith(NAME)]
    assert [request for request in api.writes() if request.path.endswith("peerpods.confidentialcontainers.org")]
