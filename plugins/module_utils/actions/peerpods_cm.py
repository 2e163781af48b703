# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The work of the module peerpods_cm."""

from __future__ import annotations

import json
from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils import initdata, peerpods, releases
from ansible_collections.confidential.containers.plugins.module_utils.arguments import cluster_options
from ansible_collections.confidential.containers.plugins.module_utils.cluster import (
    ApiFailure,
    Cluster,
    Object,
    UnknownKind,
    Unreachable,
    explain,
)
from ansible_collections.confidential.containers.plugins.module_utils.cluster_apply import difference
from ansible_collections.confidential.containers.plugins.module_utils.cluster_wait import wait_ready
from ansible_collections.confidential.containers.plugins.module_utils.context import Context
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError
from ansible_collections.confidential.containers.plugins.module_utils.kataconfig import kata_pods

ARGUMENT_SPEC: dict[str, Any] = {
    "release": {"type": "str", "required": True},
    "namespace": {"type": "str", "default": "openshift-sandboxed-containers-operator"},
    "name": {"type": "str", "default": "peer-pods-cm"},
    "data": {"type": "dict", "default": {}},
    "image_id": {"type": "str"},
    "initdata": {"type": "str"},
    "tee": {"type": "str", "choices": ["snp", "tdx"], "default": "snp"},
    "restart_caa": {"type": "str", "choices": ["auto", "never"], "default": "auto"},
    "wait_timeout": {"type": "int", "default": 600},
    **cluster_options(),
}
SPEC_KWARGS: dict[str, Any] = {}


def run(params: dict[str, Any], context: Context) -> dict[str, Any]:
    """Merge what is wanted into the shared config map; restart the adaptor only where it must see the change."""
    osc = releases.parse(params["release"]).osc
    cluster = Cluster.from_params(params)
    try:
        return _run(cluster, params, context, osc)
    except (ApiFailure, UnknownKind, Unreachable) as error:
        raise explain(f"The config map {params['name']} was not handled", error, cluster.server) from error


def _run(cluster: Cluster, params: dict[str, Any], context: Context, osc: releases.OscRelease) -> dict[str, Any]:
    namespace, name = params["namespace"], params["name"]
    current = cluster.get("v1", "ConfigMap", name, namespace)
    given = {key: str(value) for key, value in params["data"].items()}
    if params.get("initdata"):
        given["INITDATA"] = params["initdata"]
    before = (current or {}).get("data") or {}
    infrastructure = _infrastructure(cluster)
    provider = peerpods.provider_of(given, infrastructure)
    if given.get(provider.image_key) and not params.get("image_id"):
        raise CocoError(f"The config map {name} is not written", f"{provider.image_key} is given among the other keys (coco_peerpods)",
                        "Give it as image_id (coco_peerpods_image_id): steps 7 and 8 have to know that the image is yours.")
    if params.get("image_id"):
        given[provider.image_key] = params["image_id"]
    wanted = peerpods.desired({"proxy_timeout": osc.proxy_timeout, **given}, _cloud_conf(cluster), infrastructure, params["tee"])
    wanted = _asked({**given, **wanted}, set(given), before, provider)
    if "INITDATA" in wanted and initdata.same(before.get("INITDATA", ""), wanted["INITDATA"]):
        wanted["INITDATA"] = before["INITDATA"]
    data, changes = peerpods.merge(before if current else None, wanted)
    findings = peerpods.validate(data, params["tee"])
    errors = [finding for finding in findings if finding["severity"] == "error"]
    if errors:
        raise CocoError(f"The config map {name} would not work", "; ".join(e["message"] for e in errors),
                        " ".join(dict.fromkeys(e["hint"] for e in errors)), findings=findings)
    result: dict[str, Any] = {"changed": bool(changes) or current is None, "data": data, "changes": changes, "restarted": [],
                              "findings": findings}
    target: Object = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}}
    after = {**target, "data": data}
    pending = peerpods.ADAPTOR_PENDING in ((current or {}).get("metadata", {}).get("annotations") or {})
    restart = (peerpods.env_relevant(changes) or pending) and params["restart_caa"] == "auto" and not osc.watches_peer_pods_cm \
        and cluster.get("apps/v1", osc.caa_kind, osc.caa_name, namespace) is not None
    if result["changed"]:
        if context.diff:
            result["diff"] = [difference(current and {**target, **current}, after, f"ConfigMap {namespace}/{name}")]
        _write(cluster, target, current, data, before, restart, context)
    if restart:
        result["restarted"] = _restart(cluster, target, osc, params["wait_timeout"] if data.get(provider.image_key) else 0, context)
        result["changed"] = result["changed"] or bool(result["restarted"])
    return result


def _asked(wanted: dict[str, str], given: set[str], before: dict[str, str], provider: peerpods.Provider) -> dict[str, str]:
    """What is given, and of defaults and discovered values only those for which there is nothing yet."""
    size, sizes = provider.size_key, provider.sizes_key
    if size in given and wanted[size] not in before.get(sizes, "").split(","):
        given = {*given, sizes}
    return {key: value for key, value in wanted.items() if key in given or not before.get(key)}


def _write(cluster: Cluster, target: Object, current: Object | None, data: dict[str, str], before: dict[str, str],
           restart: bool, context: Context) -> None:
    mark = {"annotations": {peerpods.ADAPTOR_PENDING: "true"}} if restart else {}
    try:
        if current is None:
            cluster.create({**target, "metadata": {**target["metadata"], **mark}, "data": data}, dry_run=context.check_mode)
        else:
            changed = {key: value for key, value in data.items() if before.get(key) != value}
            version = {"metadata": {"resourceVersion": current["metadata"]["resourceVersion"], **mark}}
            cluster.patch(target, {**version, "data": changed}, dry_run=context.check_mode)
    except ApiFailure as error:
        if context.check_mode and error.status == 404:
            return
        raise


def _restart(cluster: Cluster, config_map: Object, osc: releases.OscRelease, seconds: int, context: Context) -> list[str]:
    """Delete the adaptor's pods (their environment is frozen) and wait for new ones; ``seconds`` 0: without an image none can start."""
    namespace = config_map["metadata"]["namespace"]
    pods = cluster.list("v1", "Pod", namespace, labels=f"name={osc.caa_name}")
    names = sorted(pod["metadata"]["name"] for pod in pods)
    running = kata_pods(cluster.list("v1", "Pod"))
    if running:
        context.warn(f"cloud-api-adaptor restarts while kata pods run ({', '.join(running)}): it forgets their virtual machines, "
                     "which stay behind when the pods are deleted; look for podvm-* machines")
    if context.check_mode:
        return names
    for pod in pods:
        cluster.delete({**pod, "apiVersion": "v1", "kind": "Pod"})
    cluster.patch(config_map, {"metadata": {"annotations": {peerpods.ADAPTOR_PENDING: None}}})
    if not names or not seconds:
        return names
    context.progress(f"{osc.caa_name}: {len(names)} pods restarted for the new configuration")
    wait_ready(cluster, [{"apiVersion": "apps/v1", "kind": osc.caa_kind, "metadata": {"name": osc.caa_name, "namespace": namespace}}],
               seconds, context)
    return names


def _cloud_conf(cluster: Cluster) -> dict[str, Any] | None:
    found = cluster.get("v1", "ConfigMap", "cloud-conf", "openshift-cloud-controller-manager") or {}
    try:
        document = json.loads((found.get("data") or {}).get("cloud.conf", "null"))
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _infrastructure(cluster: Cluster) -> dict[str, Any] | None:
    return cluster.get("config.openshift.io/v1", "Infrastructure", "cluster")
