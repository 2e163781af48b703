# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The work of the module azure_peerpods_orphans."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils import azure_orphans
from ansible_collections.confidential.containers.plugins.module_utils.arguments import azure_options, cluster_options
from ansible_collections.confidential.containers.plugins.module_utils.azure import Azure
from ansible_collections.confidential.containers.plugins.module_utils.azure_ids import parse
from ansible_collections.confidential.containers.plugins.module_utils.cluster import (
    ApiFailure,
    Cluster,
    UnknownKind,
    Unreachable,
    explain,
)
from ansible_collections.confidential.containers.plugins.module_utils.context import Context
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError
from ansible_collections.confidential.containers.plugins.module_utils.kataconfig import kata_pods

#: What is listed in the resource group: (kind, path, api-version), the versions that Azure's library uses.
LISTED = (
    ("vm", "Microsoft.Compute/virtualMachines", "2026-04-01"), ("nic", "Microsoft.Network/networkInterfaces", "2026-03-01"),
    ("disk", "Microsoft.Compute/disks", "2026-03-02"), ("gallery", "Microsoft.Compute/galleries", "2026-03-03"),
)
GALLERIES = "2026-03-03"
GONE = ("ResourceNotFound", "NotFound")

ARGUMENT_SPEC: dict[str, Any] = {
    "state": {"type": "str", "choices": ["report", "absent"], "default": "report"},
    "resource_group": {"type": "str", "required": True},
    "subnet_id": {"type": "str", "default": ""},
    "namespace": {"type": "str", "default": "openshift-sandboxed-containers-operator"},
    "minutes": {"type": "int", "default": 30},
    "delete": {"type": "bool", "default": False},
    "only": {"type": "list", "elements": "str", "default": []},
    **azure_options(),
    **cluster_options(),
}
SPEC_KWARGS: dict[str, Any] = {}


def run(params: dict[str, Any], context: Context) -> dict[str, Any]:
    """Report orphans; with ``state: absent`` delete those that are listed, or all with ``delete``. Raises CocoError."""
    if params["state"] == "absent" and not params["delete"] and not params["only"]:
        raise CocoError("Nothing is deleted", "neither a list nor delete is given",
                        "List what shall go (only), or set delete: true for all that the report shows.")
    cluster = Cluster.from_params(params)
    azure = Azure.from_params(params, context.progress, parse(params["subnet_id"]).subscription if params["subnet_id"] else "")
    there = resources(azure, params["resource_group"])  # before the cluster's pods: a pod of a machine seen here is seen then, too
    try:
        living = {**state(cluster, params["namespace"]), "subnet_id": params["subnet_id"]}
    except (ApiFailure, UnknownKind, Unreachable) as error:
        raise explain("Nothing is deleted: the cluster's pods cannot be read", error, cluster.server) from error
    found = azure_orphans.find(there, living, datetime.now(timezone.utc).isoformat(), params["minutes"])
    for one in found["orphans"]:
        context.progress(f"Orphan: {one['kind']} {one['name']} ({one['reason']})")
    result: dict[str, Any] = {"changed": False, **found, "deleted": []}
    if params["state"] == "absent":
        picked = choice(found, params)
        result |= {"changed": bool(picked), "deleted": [one["id"] for one in picked]}
        if context.diff and picked:
            result["diff"] = [{"before_header": params["resource_group"], "after_header": params["resource_group"],
                               "before": "".join(f"{one['kind']} {one['id']}\n" for one in picked), "after": ""}]
        if not context.check_mode:
            for one in picked:
                remove(azure, one)
    return {**result, "calls": azure.calls, "credential": azure.login.used}


def choice(found: dict[str, Any], params: dict[str, Any]) -> list[dict[str, str]]:
    """What goes. CocoError, before anything is deleted, where something listed is there and no orphan."""
    picked, unknown = azure_orphans.chosen(found["orphans"], params["delete"], params["only"])
    wanted = {one.lower() for one in unknown}
    living = [one for one in found["left"] if {one["id"].lower(), one["name"].lower()} & wanted]
    if living:
        raise CocoError("Nothing is deleted: what is listed is no orphan", "; ".join(f"{o['name']}: {o['reason']}" for o in living),
                        "Take it off the list (only).")
    return picked


def resources(azure: Azure, group: str) -> dict[str, list[dict[str, Any]]]:
    """What is in the resource group, by kind; of galleries only those of peer pods are looked into."""
    base = f"/subscriptions/{azure.subscription}/resourceGroups/{group}/providers/"
    there: dict[str, list[dict[str, Any]]] = {kind: azure.list(base + path, version) for kind, path, version in LISTED}
    there["definition"], there["version"] = [], []
    for gallery in there["gallery"]:
        if str(gallery.get("name", "")).startswith(azure_orphans.GALLERY):
            there["definition"] += azure.list(f"{gallery['id']}/images", GALLERIES)
    for definition in there["definition"]:
        there["version"] += azure.list(f"{definition['id']}/versions", GALLERIES)
    return there


def state(cluster: Cluster, namespace: str) -> dict[str, Any]:
    """What the cluster still has: PeerPods (but those that only wait for an adaptor), kata pods, KataConfig, image, gallery's suffix."""
    config_map = cluster.get("v1", "ConfigMap", "peer-pods-cm", namespace) or {}
    version = cluster.get("config.openshift.io/v1", "ClusterVersion", "version") or {}
    return {
        "instances": [str((one.get("spec") or {}).get("instanceID", ""))
                      for one in listed(cluster, "confidentialcontainers.org/v1alpha1", "PeerPod")
                      if not one["metadata"].get("deletionTimestamp")],
        "pods": [name.partition("/")[2] for name in kata_pods(cluster.list("v1", "Pod"))],
        "kataconfig": bool(listed(cluster, "kataconfiguration.openshift.io/v1", "KataConfig")),
        "image_id": (config_map.get("data") or {}).get("AZURE_IMAGE_ID", ""),
        "gallery": str((version.get("spec") or {}).get("clusterID", ""))[:8],
    }


def listed(cluster: Cluster, api: str, kind: str) -> list[dict[str, Any]]:
    """The objects of a kind; none where the cluster has no such kind (the operator is gone)."""
    try:
        return cluster.list(api, kind)
    except UnknownKind:
        return []


def remove(azure: Azure, orphan: dict[str, str]) -> None:
    """Delete one resource; a NIC or disk may have gone with its machine already."""
    place = parse(orphan["id"])
    clients: dict[str, Any] = {
        "vm": lambda: azure.compute.virtual_machines, "nic": lambda: azure.network.network_interfaces,
        "disk": lambda: azure.compute.disks, "gallery": lambda: azure.compute.galleries,
        "definition": lambda: azure.compute.gallery_images, "version": lambda: azure.compute.gallery_image_versions}
    what = f"Deleting {orphan['kind']} {orphan['name']}"
    try:
        with azure.explained(f"{what} failed"):
            poller = clients[orphan["kind"]]().begin_delete(place.group, *place.names)
        azure.wait(poller, what)
    except CocoError as error:
        if error.details.get("code") not in GONE:
            raise
