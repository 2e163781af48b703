"""azure_peerpods_orphans through Azure's own libraries: a report by default, deletion only of what is named, never a living pod's."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError
from tests.fake_api import FakeApi
from tests.fake_api.arm import SUBSCRIPTION, FakeArm

MODULE, OSC = "azure_peerpods_orphans", "openshift-sandboxed-containers-operator"
BASE = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/providers"
SUBNET = f"{BASE}/Microsoft.Network/virtualNetworks/v/subnets/workers"
DEAD, LIVE = "podvm-dead-0a1b2c3d", "podvm-live-0a1b2c3d"
GALLERY = f"{BASE}/Microsoft.Compute/galleries/PodVMGallery_abcd1234"
OPTIONS = {"resource_group": "rg", "subnet_id": SUBNET}
IN_ORDER = [DEAD, f"{DEAD}-net", f"{DEAD}-disk", "1.0.1", "podvm-image", "PodVMGallery_abcd1234"]


@pytest.fixture
def arm(tmp_path: Path, api: FakeApi) -> Iterator[FakeArm]:
    with FakeArm(tmp_path) as found:
        for name in (DEAD, LIVE, "worker-0"):
            vm, nic = f"{BASE}/Microsoft.Compute/virtualMachines/{name}", f"{BASE}/Microsoft.Network/networkInterfaces/{name}-net"
            found.put(vm, properties={"timeCreated": "2026-01-01T00:00:00.1234567+00:00",
                                      "networkProfile": {"networkInterfaces": [{"id": nic}]}})
            found.put(nic, properties={"virtualMachine": {"id": vm}, "ipConfigurations": [{"properties": {"subnet": {"id": SUBNET}}}]})
            found.put(f"{BASE}/Microsoft.Compute/disks/{name}-disk", managedBy=vm, properties={"timeCreated": "2026-01-01T00:00:00Z"})
        found.put(GALLERY)
        found.put(f"{GALLERY}/images/podvm-image")
        found.put(f"{GALLERY}/images/podvm-image/versions/1.0.1")
        found.put(GALLERY.replace("abcd1234", "theirs00"))
        api.put({"apiVersion": "config.openshift.io/v1", "kind": "ClusterVersion", "metadata": {"name": "version"},
                 "spec": {"clusterID": "abcd1234-0000-0000-0000-000000000000"}})
        api.put({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "live", "namespace": "default"},
                 "spec": {"runtimeClassName": "kata-remote"}})
        yield found


@pytest.fixture
def call(call: Any, arm: FakeArm) -> Any:
    """Logged in to that Azure."""
    return functools.partial(call, **arm.options())


def test_a_report_by_default(arm: FakeArm, call: Any, lines: list[str]) -> None:
    result = call(MODULE, **OPTIONS)
    assert (result["changed"], result["deleted"], arm.writes()) == (False, [], [])
    assert [one["name"] for one in result["orphans"]] == IN_ORDER
    assert {one["name"] for one in result["left"]} == {LIVE, f"{LIVE}-net", f"{LIVE}-disk"}
    assert len(lines) == len(IN_ORDER)


def test_the_subscription_is_the_subnets_where_none_is_given(arm: FakeArm, call: Any) -> None:
    assert len(call(MODULE, **{**OPTIONS, "subscription_id": None})["orphans"]) == len(IN_ORDER)


def test_all_in_order_and_twice(arm: FakeArm, call: Any) -> None:
    would = call(MODULE, check=True, diff=True, state="absent", delete=True, **OPTIONS)
    assert (would["changed"], arm.writes()) == (True, [])
    assert GALLERY in would["diff"][0]["before"]
    result = call(MODULE, state="absent", delete=True, **OPTIONS)
    assert result["deleted"] == would["deleted"]
    assert arm.writes() == [("DELETE", name) for name in IN_ORDER]
    again = call(MODULE, state="absent", delete=True, **OPTIONS)
    assert (again["changed"], again["orphans"]) == (False, [])
    assert {path.rpartition("/")[2] for path in arm.resources} >= {LIVE, "worker-0", "podvmgallery_theirs00"}


def test_only_what_is_listed(arm: FakeArm, call: Any) -> None:
    for changed in (True, False):
        assert call(MODULE, state="absent", only=[DEAD], **OPTIONS)["changed"] is changed
    assert arm.writes() == [("DELETE", DEAD)]


def test_nothing_goes_by_default_or_by_mistake(arm: FakeArm, call: Any) -> None:
    with pytest.raises(CocoError, match="neither a list nor delete"):
        call(MODULE, state="absent", **OPTIONS)
    with pytest.raises(CocoError, match="it belongs to a pod"):
        call(MODULE, state="absent", only=[DEAD, LIVE], **OPTIONS)
    assert arm.writes() == []


def test_a_peerpod_without_its_pod_keeps_its_machine(arm: FakeArm, api: FakeApi, call: Any) -> None:
    api.put({"apiVersion": "confidentialcontainers.org/v1alpha1", "kind": "PeerPod", "metadata": {"name": "p", "namespace": "default"},
             "spec": {"cloudProvider": "azure", "instanceID": f"{BASE}/Microsoft.Compute/virtualMachines/{DEAD}"}})
    assert [one["kind"] for one in call(MODULE, **OPTIONS)["orphans"]] == ["version", "definition", "gallery"]


def test_a_peerpod_that_waits_for_its_adaptor_keeps_nothing(arm: FakeArm, api: FakeApi, call: Any) -> None:
    api.put({"apiVersion": "confidentialcontainers.org/v1alpha1", "kind": "PeerPod", "metadata": {
        "name": "p", "namespace": "default", "finalizers": ["peer.pod/finalizer"], "deletionTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"cloudProvider": "azure", "instanceID": f"{BASE}/Microsoft.Compute/virtualMachines/{DEAD}"}})
    assert [one["name"] for one in call(MODULE, **OPTIONS)["orphans"]] == IN_ORDER


def test_images_of_a_kataconfig_stay(arm: FakeArm, api: FakeApi, call: Any) -> None:
    api.put({"apiVersion": "kataconfiguration.openshift.io/v1", "kind": "KataConfig", "metadata": {"name": "k"}})
    assert [one["kind"] for one in call(MODULE, **OPTIONS)["orphans"]] == ["vm", "nic", "disk"]


def test_a_disk_that_went_with_its_machine(arm: FakeArm, call: Any) -> None:
    arm.refused[f"DELETE {BASE}/Microsoft.Compute/disks/{DEAD}"] = (404, "ResourceNotFound")
    assert len(call(MODULE, state="absent", delete=True, **OPTIONS)["deleted"]) == len(IN_ORDER)


def test_a_cluster_that_does_not_answer_deletes_nothing(arm: FakeArm, call: Any) -> None:
    with pytest.raises(CocoError, match="cannot be"):
        call(MODULE, state="absent", delete=True, kubeconfig=None, host="https://127.0.0.1:1", api_key="a-token-of-nobody", **OPTIONS)
    assert arm.writes() == []
