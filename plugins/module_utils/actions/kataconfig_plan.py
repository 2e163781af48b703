# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The work of the module kataconfig_plan."""

from __future__ import annotations

from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils import kataconfig, releases
from ansible_collections.confidential.containers.plugins.module_utils.arguments import cluster_options
from ansible_collections.confidential.containers.plugins.module_utils.cluster import (
    ApiFailure,
    Cluster,
    UnknownKind,
    Unreachable,
    explain,
)
from ansible_collections.confidential.containers.plugins.module_utils.context import Context
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError
from ansible_collections.confidential.containers.plugins.module_utils.peerpods import provider_of
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
    "recreate": {"type": "str", "choices": ["auto", "always", "never"], "default": "auto"},
    "allow_pods": {"type": "bool", "default": False},
    "act": {"type": "bool", "default": False},
    **cluster_options(),
}
SPEC_KWARGS: dict[str, Any] = {}


def run(params: dict[str, Any], context: Context) -> dict[str, Any]:
    """Decide; with ``act`` refuse blockers and carry out a retrigger."""
    releases.parse(params["release"])
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
        result = {"changed": False, **decided}
        if params["act"] and decided["blockers"]:
            texts = "; ".join(blocker["message"] for blocker in decided["blockers"])
            raise CocoError("KataConfig is not touched", texts, " ".join(b["hint"] for b in decided["blockers"]), **decided)
        if params["act"] and decided["needed"] == "retrigger":
            if not context.check_mode:
                retrigger(cluster, params["namespace"], facts)
            result["changed"] = True
        return result
    except (ApiFailure, UnknownKind, Unreachable) as error:
        raise explain("The state of KataConfig cannot be read", error, cluster.server) from error


def gather(cluster: Cluster, params: dict[str, Any]) -> dict[str, Any]:
    """What the decision always needs."""
    existing = cluster.list(API, "KataConfig")
    named = [k for k in existing if k["metadata"]["name"] == params["name"]]
    peerpods = cluster.get("v1", "ConfigMap", "peer-pods-cm", params["namespace"])
    settings = (peerpods or {}).get("data") or {}
    image = cluster.get("v1", "ConfigMap", provider_of(settings).image_config_map, params["namespace"])
    return {"kataconfig": next(iter(named or existing), None), "peerpods_cm": settings,
            "podvm_image_cm": (image or {}).get("data") or {}}


def retrigger(cluster: Cluster, namespace: str, facts: dict[str, Any]) -> None:
    """Clear the image id and make the operator look again: it builds a confidential image, without a reboot."""
    provider = provider_of(facts["peerpods_cm"])
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "peer-pods-cm", "namespace": namespace}}
    cluster.patch(config_map, {"data": {provider.image_key: ""}})
    image = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": provider.image_config_map, "namespace": namespace}}
    if cluster.get("v1", "ConfigMap", provider.image_config_map, namespace) is not None:
        cluster.patch(image, {"data": {"CONFIDENTIAL_COMPUTE_ENABLED": "yes"}})
    marked = facts["kataconfig"]
    old = (marked["metadata"].get("annotations") or {}).get(RETRIGGER, "0")
    cluster.patch({**marked, "apiVersion": API, "kind": "KataConfig"},
                  {"metadata": {"annotations": {RETRIGGER: str(int(old) + 1)}}})
