# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The work of the module kataconfig_plan."""

from __future__ import annotations

from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils import kataconfig, podvm_image, releases
from ansible_collections.confidential.containers.plugins.module_utils.arguments import cluster_options
from ansible_collections.confidential.containers.plugins.module_utils.cluster import (
    ApiFailure,
    Cluster,
    UnknownKind,
    Unreachable,
    explain,
)
from ansible_collections.confidential.containers.plugins.module_utils.cluster_image import job_and_pods
from ansible_collections.confidential.containers.plugins.module_utils.context import Context
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError
from ansible_collections.confidential.containers.plugins.module_utils.peerpods import (
    ADAPTOR_PENDING,
    provider_of,
)
from ansible_collections.confidential.containers.plugins.module_utils.probe_pods import remove_probes

API = "kataconfiguration.openshift.io/v1"
MCO = "machineconfiguration.openshift.io/v1"
RETRIGGER = "confidential.containers/retrigger"

ARGUMENT_SPEC: dict[str, Any] = {
    "release": {"type": "str", "required": True},
    "namespace": {"type": "str", "default": "openshift-sandboxed-containers-operator"},
    "name": {"type": "str", "default": "example-kataconfig"},
    "image_id": {"type": "str", "default": ""},
    "selector": {"type": "dict", "default": {}},
    "recreate": {"type": "str", "choices": ["auto", "always"], "default": "auto"},
    "allow_pods": {"type": "bool", "default": False},
    "act": {"type": "bool", "default": False},
    **cluster_options(),
}
SPEC_KWARGS: dict[str, Any] = {}


def run(params: dict[str, Any], context: Context) -> dict[str, Any]:
    """Decide; with ``act`` refuse blockers and carry out a retrigger."""
    osc = releases.parse(params["release"]).osc
    cluster = Cluster.from_params(params)
    try:
        facts = gather(cluster, params)
        decided = kataconfig.plan(facts, {**params, "recreate": params["recreate"]})
        if decided["needed"] in ("create", "recreate"):
            facts["pools"] = cluster.list(MCO, "MachineConfigPool")
            facts["nodes"] = cluster.list("v1", "Node")
            if decided["needed"] == "recreate":
                if params["act"] and not context.check_mode:
                    remove_probes(cluster, context)
                facts["pods"] = cluster.list("v1", "Pod")
            decided = kataconfig.plan(facts, params)
        for reason in decided["reasons"]:
            context.progress(f"KataConfig: {reason}")
        result = {"changed": False, "restart_adaptor": facts["adaptor_pending"] and not osc.watches_peer_pods_cm, **decided}
        if params["act"] and decided["blockers"]:
            texts = "; ".join(blocker["message"] for blocker in decided["blockers"])
            raise CocoError("KataConfig is not touched", texts, " ".join(b["hint"] for b in decided["blockers"]), **decided)
        if params["act"] and decided["needed"] == "retrigger":
            restart = bool(facts["image"]) and not osc.watches_peer_pods_cm
            if not context.check_mode:
                retrigger(cluster, params["namespace"], facts, restart)
            result.update(changed=True, restart_adaptor=restart or result["restart_adaptor"])
        if params["act"] and decided["spare_image"]:
            if not context.check_mode:
                delete_without_image(cluster, params["namespace"], facts)
            result["changed"] = True
        return result
    except (ApiFailure, UnknownKind, Unreachable) as error:
        raise explain("The state of KataConfig cannot be read", error, cluster.server) from error


def gather(cluster: Cluster, params: dict[str, Any]) -> dict[str, Any]:
    """What the decision always needs; the image job only where the nodes are done and there is no image."""
    existing = cluster.list(API, "KataConfig")
    named = [k for k in existing if k["metadata"]["name"] == params["name"]]
    found = next(iter(named or existing), None)
    peerpods = cluster.get("v1", "ConfigMap", "peer-pods-cm", params["namespace"])
    settings = (peerpods or {}).get("data") or {}
    provider = provider_of(settings)
    image = cluster.get("v1", "ConfigMap", provider.image_config_map, params["namespace"])
    facts: dict[str, Any] = {
        "kataconfig": found, "peerpods_cm": settings, "podvm_image_cm": (image or {}).get("data") or {},
        "image": settings.get(provider.image_key, ""), "ours": podvm_image.ours(peerpods),
        "of_others": podvm_image.of_others(peerpods), "image_job": None,
        "adaptor_pending": ADAPTOR_PENDING in ((peerpods or {}).get("metadata", {}).get("annotations") or {})}
    if peerpods and not facts["image"] and podvm_image.due(found):
        job, pods = job_and_pods(cluster)
        facts.update(image_job=podvm_image.of_now(pods, found), idle=job is None and podvm_image.settled(found))
    return facts


def delete_without_image(cluster: Cluster, namespace: str, facts: dict[str, Any]) -> None:
    """Delete KataConfig, then take the user's image id away: the operator would delete the image that it finds there."""
    cluster.delete({**facts["kataconfig"], "apiVersion": API, "kind": "KataConfig"})
    cluster.patch({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "peer-pods-cm", "namespace": namespace}},
                  {"data": {provider_of(facts["peerpods_cm"]).image_key: ""}})


def retrigger(cluster: Cluster, namespace: str, facts: dict[str, Any], restart: bool) -> None:
    """Clear the image id and make the operator look again: it builds a confidential image, without a reboot.

    ``restart``: the adaptor runs with the old id (and with what the gate changed since): say so until it was restarted. The id goes
    first: a run that is killed after it finds no image and no job, and triggers again.
    """
    provider = provider_of(facts["peerpods_cm"])
    newest = podvm_image.newest_uid(job_and_pods(cluster)[1])  # before the operator can make another
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "peer-pods-cm", "namespace": namespace}}
    if facts["image"]:
        mark = {"metadata": {"annotations": {ADAPTOR_PENDING: "true"}}} if restart else {}
        cluster.patch(config_map, {**mark, "data": {provider.image_key: ""}})
    image = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": provider.image_config_map, "namespace": namespace}}
    if cluster.get("v1", "ConfigMap", provider.image_config_map, namespace) is not None:
        cluster.patch(image, {"data": {"CONFIDENTIAL_COMPUTE_ENABLED": "yes"}})
    marked = facts["kataconfig"]
    old = (marked["metadata"].get("annotations") or {}).get(RETRIGGER, "0")
    seen = {podvm_image.SEEN: newest} if newest else {}
    cluster.patch({**marked, "apiVersion": API, "kind": "KataConfig"},
                  {"metadata": {"annotations": {RETRIGGER: str(int(old) + 1), **seen}}})
