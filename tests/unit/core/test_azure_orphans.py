"""Orphans on Azure: what belongs to no pod is found, in the order of removal; whatever is in doubt is left alone."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.confidential.containers.plugins.module_utils import azure_orphans as orphans

GROUP = "/subscriptions/s/resourceGroups/g/providers"
SUBNET = f"{GROUP}/Microsoft.Network/virtualNetworks/v/subnets/workers"
NOW, OLD, NEW = "2026-11-26T12:00:00Z", "2026-11-26T10:00:00.1234567+00:00", "2026-11-26T11:55:00.1234567Z"
VM = "podvm-web-0a1b2c3d"
CLUSTER: dict[str, Any] = {"instances": [], "pods": [], "gallery": "12345678", "image_id": "", "kataconfig": False, "subnet_id": SUBNET}


def vm(name: str = VM, made: str = OLD) -> dict[str, Any]:
    return {"id": f"{GROUP}/Microsoft.Compute/virtualMachines/{name}", "name": name, "properties": {
        "timeCreated": made, "networkProfile": {"networkInterfaces": [{"id": nic(name)["id"].upper()}]}}}


def nic(name: str = VM, subnet: str = SUBNET, used: bool = True) -> dict[str, Any]:
    properties: dict[str, Any] = {"ipConfigurations": [{"properties": {"subnet": {"id": subnet}}}]}
    if used:
        properties["virtualMachine"] = {"id": f"{GROUP}/Microsoft.Compute/virtualMachines/{name}"}
    return {"id": f"{GROUP}/Microsoft.Network/networkInterfaces/{name}-net", "name": f"{name}-net", "properties": properties}


def disk(name: str = VM, made: str = OLD, used: bool = True) -> dict[str, Any]:
    found = {"id": f"{GROUP}/Microsoft.Compute/disks/{name}-disk", "name": f"{name}-disk", "properties": {"timeCreated": made}}
    return {**found, "managedBy": f"{GROUP}/Microsoft.Compute/virtualMachines/{name}"} if used else found


def images(name: str = "PodVMGallery_12345678") -> dict[str, list[dict[str, Any]]]:
    gallery = f"{GROUP}/Microsoft.Compute/galleries/{name}"
    return {"gallery": [{"id": gallery, "name": name}], "definition": [{"id": f"{gallery}/images/podvm-image", "name": "podvm-image"}],
            "version": [{"id": f"{gallery}/images/podvm-image/versions/1.0.1", "name": "1.0.1"}]}


def find(there: dict[str, list[dict[str, Any]]], minutes: int = 30, **cluster: Any) -> dict[str, Any]:
    return orphans.find(there, {**CLUSTER, **cluster}, NOW, minutes)


def kinds(found: dict[str, Any]) -> list[str]:
    return [one["kind"] for one in found["orphans"]]


ALL = {"vm": [vm()], "nic": [nic()], "disk": [disk()], **images()}


def test_order_of_removal() -> None:
    found = find(ALL)
    assert kinds(found) == ["vm", "nic", "disk", "version", "definition", "gallery"]
    assert found["left"] == []


@pytest.mark.parametrize("cluster", [
    {"instances": [vm()["id"].upper()]}, {"instances": [VM]}, {"pods": ["web"]}, {"kataconfig": True, "pods": ["web", "other"]}])
def test_of_living_pods_nothing(cluster: dict[str, Any]) -> None:
    found = find({"vm": [vm()], "nic": [nic()], "disk": [disk()]}, **cluster)
    assert found["orphans"] == []
    assert {one["kind"] for one in found["left"]} == {"vm", "nic", "disk"}


def test_a_nic_that_waits_for_its_machine_is_no_orphan() -> None:
    """The adaptor makes the NIC first; its pod is there already."""
    assert find({"nic": [nic(used=False)]}, pods=["web"])["orphans"] == []
    assert kinds(find({"nic": [nic(used=False)], "disk": [disk(used=False)]})) == ["nic", "disk"]


def test_young_ones_stay_with_their_parts() -> None:
    there = {"vm": [vm(made=NEW)], "nic": [nic()], "disk": [disk()]}
    assert find(there)["orphans"] == []
    assert kinds(find(there, minutes=5)) == ["vm", "nic", "disk"]


@pytest.mark.parametrize("name", ["podvm-web", "my-podvm-web-0a1b2c3d", "worker-0", "podvm-web-0a1b2c3g", "podvm-web-0a1b2c3d-mine"])
def test_other_names_are_not_even_seen(name: str) -> None:
    assert find({"vm": [vm(name)]}) == {"orphans": [], "left": []}


def test_machines_of_another_cluster_stay() -> None:
    elsewhere = SUBNET.replace("workers", "others")
    found = find({"vm": [vm()], "nic": [nic(subnet=elsewhere)], "disk": [disk()]})
    assert found["orphans"] == []
    assert find({"nic": [nic(subnet=elsewhere, used=False)]})["orphans"] == []
    assert find({"vm": [vm()]})["orphans"] == [], "a machine whose NIC is not seen is not known to be ours"
    assert kinds(find({"vm": [vm()]}, subnet_id="")) == ["vm"]


def test_a_long_pod_name_is_cut() -> None:
    pod = "a" * 60
    name = f"podvm-{pod[:45]}-0a1b2c3d"
    assert orphans.alive(name, [], [pod])
    assert not orphans.alive("podvm-we-0a1b2c3d", [], ["web"]), "a short name is no beginning"


@pytest.mark.parametrize(("cluster", "left"), [
    ({}, []), ({"kataconfig": True}, ["version", "definition", "gallery"]),
    ({"image_id": images()["version"][0]["id"].upper()}, ["version", "definition", "gallery"]),
    ({"image_id": images()["definition"][0]["id"] + "/versions/9.0.1"}, ["definition", "gallery"])])
def test_images_in_use_stay(cluster: dict[str, Any], left: list[str]) -> None:
    assert [one["kind"] for one in find(images(), **cluster)["left"]] == left


@pytest.mark.parametrize(("name", "suffix"), [("PodVMGallery_87654321", "12345678"), ("PodVMGallery_123456789", "12345678"),
                                              ("Gallery_12345678", "12345678"), ("PodVMGallery_", "")])
def test_galleries_of_others_are_not_even_seen(name: str, suffix: str) -> None:
    assert find(images(name), gallery=suffix) == {"orphans": [], "left": []}


def test_the_choice() -> None:
    found = find(ALL)["orphans"]
    assert orphans.chosen(found, True, []) == (found, [])
    assert orphans.chosen(found, False, []) == ([], [])
    assert orphans.chosen(found, False, [VM.upper(), disk()["id"], "no-such"]) == ([found[0], found[2]], ["no-such"])
    assert orphans.chosen(found, True, [VM])[0] == [found[0]], "a list restricts"
