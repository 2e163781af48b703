# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What peer pods left behind on Azure: which resources belong to no pod any more, and in which order they go. Pure.

A pod VM is ``podvm-<pod>-<8 hexadecimal digits>``, its NIC and disk begin with that name; the operator's image gallery is
``PodVMGallery_`` and the first eight characters of the cluster id (operators.md 3.5, deployment.md 8.1). Whatever is in doubt
(young, in use, in another subnet, of another name) is left alone: a wrong deletion costs more than an hour of a machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

Resource = dict[str, Any]
Judge = Callable[[str, Resource, str, str], bool]

PODVM = re.compile(r"podvm-(?P<pod>.+)-[0-9a-f]{8}", re.IGNORECASE)
GALLERY = "PodVMGallery_"
#: The order of removal: nothing goes while something that stands on it is there.
ORDER = ("vm", "nic", "disk", "version", "definition", "gallery")
#: Pods' names are cut in VM names (at most 63 characters in all), so a name may be a beginning only from this length.
CUT = 40


def podvm(name: str) -> str:
    """The name of the pod VM that a resource's name begins with, empty where it is not named as ours are."""
    found = PODVM.match(name)
    return found[0] if found else ""


def alive(vm: str, instances: list[str], pods: list[str]) -> bool:
    """Whether a pod VM (by name) belongs to a PeerPod (``instances``: ids or names) or to a pod (``pods``: names)."""
    if any(instance.rstrip("/").rpartition("/")[2].lower() == vm.lower() for instance in instances):
        return True
    found = PODVM.fullmatch(vm)
    pod = found["pod"].lower() if found else ""
    return any(name.lower() == pod or (len(pod) >= CUT and name.lower().startswith(pod)) for name in pods)


def young(resource: Resource, now: str, minutes: int) -> bool:
    """Whether a resource is younger than ``minutes`` at ``now`` (RFC 3339); one that tells no age is not."""
    made = str((resource.get("properties") or {}).get("timeCreated") or "")
    return bool(made) and _time(now) - _time(made) < timedelta(minutes=minutes)


def _time(text: str) -> datetime:
    """RFC 3339 as Azure writes it: seven digits of a second, and Z."""
    return datetime.fromisoformat(re.sub(r"\.\d+", "", text).replace("Z", "+00:00"))


def find(there: dict[str, list[Resource]], cluster: dict[str, Any], now: str, minutes: int) -> dict[str, Any]:
    """``orphans``: dicts of ``kind``, ``id``, ``name``, ``reason`` in the order of removal; ``left``: what is left alone and why.

    ``there``: resources as ARM gives them by kind (``vm``, ``nic``, ``disk``, ``gallery``, ``definition``, ``version``).
    ``cluster``: ``instances`` (of PeerPods), ``pods`` (names of kata pods), ``gallery`` (suffix: the cluster id's first eight
    characters), ``image_id`` (in use, or empty), ``kataconfig`` (whether there is one), ``subnet_id`` (of the pod VMs; empty:
    any). ``now``: RFC 3339; ``minutes``: the youngest age of an orphan.
    """
    orphans: list[dict[str, str]] = []
    left: list[dict[str, str]] = []

    def judge(kind: str, resource: Resource, doubt: str, reason: str) -> bool:
        entry = {"kind": kind, "id": str(resource.get("id", "")), "name": str(resource.get("name", ""))}
        (left if doubt else orphans).append({**entry, "reason": doubt or reason})
        return not doubt

    nics = {str(nic.get("id", "")).lower(): nic for nic in there.get("nic", [])}
    going: set[str] = set()
    for vm in there.get("vm", []):
        name = str(vm.get("name", ""))
        if PODVM.fullmatch(name):
            doubt = _doubt_of_vm(vm, nics, cluster, now, minutes)
            if judge("vm", vm, doubt, "no pod and no PeerPod belongs to it"):
                going.add(str(vm.get("id", "")).lower())
    for kind, key in (("nic", "virtualMachine"), ("disk", "managedBy")):
        for resource in there.get(kind, []):
            name = podvm(str(resource.get("name", "")))
            if name:
                user = resource.get(key) or (resource.get("properties") or {}).get(key) or ""
                user = str(user.get("id", "") if isinstance(user, dict) else user).lower()
                doubt = _doubt_of_part(resource, kind, name, user, going, cluster, now, minutes)
                judge(kind, resource, doubt, "its pod VM is an orphan" if user else "no pod VM uses it")
    _images(there, cluster, now, minutes, judge)
    return {"orphans": sorted(orphans, key=lambda one: (ORDER.index(one["kind"]), one["id"].lower())), "left": left}


def _doubt_of_vm(vm: Resource, nics: dict[str, Resource], cluster: dict[str, Any], now: str, minutes: int) -> str:
    if alive(str(vm["name"]), cluster["instances"], cluster["pods"]):
        return "it belongs to a pod"
    if young(vm, now, minutes):
        return f"it is younger than {minutes} minutes"
    interfaces = ((vm.get("properties") or {}).get("networkProfile") or {}).get("networkInterfaces") or []
    own = [nics[str(one.get("id", "")).lower()] for one in interfaces if str(one.get("id", "")).lower() in nics]
    if cluster.get("subnet_id") and not any(_in_subnet(nic, cluster["subnet_id"]) for nic in own):
        return "it is not seen in the subnet of this cluster's pod VMs"
    return ""


def _doubt_of_part(resource: Resource, kind: str, vm: str, user: str, going: set[str], cluster: dict[str, Any], now: str,
                   minutes: int) -> str:
    if user and user not in going:
        return "a machine that stays uses it"
    if alive(vm, cluster["instances"], cluster["pods"]):
        return "it belongs to a pod"
    if young(resource, now, minutes):
        return f"it is younger than {minutes} minutes"
    if kind == "nic" and cluster.get("subnet_id") and not _in_subnet(resource, cluster["subnet_id"]):
        return "it is not in the subnet of this cluster's pod VMs"
    return ""


def _in_subnet(nic: Resource, subnet: str) -> bool:
    configurations = (nic.get("properties") or {}).get("ipConfigurations") or []
    return any(str(((one.get("properties") or {}).get("subnet") or {}).get("id", "")).lower() == subnet.lower()
               for one in configurations)


def _images(there: dict[str, list[Resource]], cluster: dict[str, Any], now: str, minutes: int, judge: Judge) -> None:
    """The gallery of this cluster with what is in it. All of it is in use while there is a KataConfig."""
    own, used = f"/galleries/{GALLERY}{cluster['gallery']}/".lower(), str(cluster.get("image_id") or "").lower()
    for kind in ("version", "definition", "gallery"):
        for resource in there.get(kind, []):
            path = str(resource.get("id", "")).lower()
            if not cluster["gallery"] or own not in f"{path}/":
                continue
            doubt = ""
            if cluster["kataconfig"]:
                doubt = "there is a KataConfig: its images are in use"
            elif used and f"{used}/".startswith(f"{path}/"):
                doubt = "peer-pods-cm names an image in it"
            elif young(resource, now, minutes):
                doubt = f"it is younger than {minutes} minutes"
            judge(kind, resource, doubt, "there is no KataConfig any more")


def chosen(orphans: list[dict[str, str]], delete: bool, only: list[str]) -> tuple[list[dict[str, str]], list[str]]:
    """The orphans to delete: all with ``delete``, else those of ``only`` (ids or names); and what of ``only`` is none."""
    wanted = {one.lower() for one in only}
    if delete and not only:
        return orphans, []
    picked = [one for one in orphans if {one["id"].lower(), one["name"].lower()} & wanted]
    known = {text for one in picked for text in (one["id"].lower(), one["name"].lower())}
    return picked, [one for one in only if one.lower() not in known]
