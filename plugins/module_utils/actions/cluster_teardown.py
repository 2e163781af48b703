# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The work of the module cluster_teardown."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils import teardown
from ansible_collections.confidential.containers.plugins.module_utils.arguments import cluster_options
from ansible_collections.confidential.containers.plugins.module_utils.cluster import (
    WORKERS,
    ApiFailure,
    Cluster,
    Object,
    Objects,
    UnknownKind,
    Unreachable,
    explain,
)
from ansible_collections.confidential.containers.plugins.module_utils.cluster_apply import delete_all
from ansible_collections.confidential.containers.plugins.module_utils.cluster_wait import wait_gone
from ansible_collections.confidential.containers.plugins.module_utils.cluster_watch import Source, View, until
from ansible_collections.confidential.containers.plugins.module_utils.context import Context
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError
from ansible_collections.confidential.containers.plugins.module_utils.probe_pods import LABEL, remove_probes

MCO = "machineconfiguration.openshift.io/v1"
CRD = "apiextensions.k8s.io/v1"
#: Kinds that may stand between a kata pod and what its author wrote.
MAKERS = (("apps/v1", "ReplicaSet"), ("apps/v1", "Deployment"), ("apps/v1", "StatefulSet"), ("apps/v1", "DaemonSet"),
          ("batch/v1", "Job"), ("batch/v1", "CronJob"))
#: Groups that show objects of other groups once more, and kinds that come and go by themselves.
MIRRORS = ("metrics.k8s.io", "custom.metrics.k8s.io", "packages.operators.coreos.com", "authorization.openshift.io")
PASSING = ("Event", "Endpoints", "EndpointSlice", "Lease", "ControllerRevision", "PodMetrics")
#: Seconds in which OLM has to see that an operator's components are gone; it takes one or two.
COUNTED = 120

ARGUMENT_SPEC: dict[str, Any] = {
    "zone": {"type": "str", "choices": ["spoke", "hub"], "required": True},
    "name": {"type": "str", "required": True},
    "confirm": {"type": "list", "elements": "str", "default": []},
    "namespace": {"type": "str", "required": True},
    "verify_namespace": {"type": "str", "default": "coco-verify"},
    "allow_pods": {"type": "bool", "default": False},
    "crds": {"type": "bool", "default": False},
    "wait_timeout": {"type": "int", "default": 5400},
    **cluster_options(),
}
SPEC_KWARGS: dict[str, Any] = {}


def run(params: dict[str, Any], context: Context) -> dict[str, Any]:
    """List what goes and what stays; remove it, stage after stage, unless in check mode."""
    cluster = Cluster.from_params(params)
    try:
        return _run(cluster, params, context)
    except (ApiFailure, UnknownKind, Unreachable) as error:
        raise explain(f"{params['name']} was not torn down as far as it should", error, cluster.server) from error


def _run(cluster: Cluster, params: dict[str, Any], context: Context) -> dict[str, Any]:
    infrastructure = cluster.get("config.openshift.io/v1", "Infrastructure", "cluster") or {}
    names = [params["name"], infrastructure.get("status", {}).get("infrastructureName") or params["name"]]
    decided = teardown.plan(params["zone"], gather(cluster, params), params)
    stages, kept, blockers = decided["stages"], decided["kept"], decided["blockers"]
    going = [item for stage in stages for item in [*stage["objects"], *stage["trims"]]]
    confirmed = bool(set(names) & set(params["confirm"]))
    result = {"changed": bool(going), "cluster": names[1], "confirmed": confirmed, "removed": going, "kept": kept, "blockers": blockers}
    if context.check_mode:
        for blocker in blockers:
            context.warn(f"{blocker['message']} · {blocker['hint']}")
        for stage in stages:
            context.progress(f"would go: {stage['title']}: {', '.join(map(_told, [*stage['objects'], *stage['trims']]))}")
        _stays(kept, context)
        return {**result, **_diffs(cluster, stages, context)}
    if going and not confirmed:
        raise CocoError(f"Nothing of {params['name']} was removed",
                        f"coco_teardown_confirm does not name it; what would go: {', '.join(map(_told, going))}",
                        f"If that is meant: -e coco_teardown_confirm={params['name']}; --check shows what stays and why.",
                        **{**result, "changed": False})
    if going and blockers:
        raise CocoError(f"Nothing of {params['name']} was removed", "; ".join(blocker["message"] for blocker in blockers),
                        " ".join(dict.fromkeys(blocker["hint"] for blocker in blockers)), **{**result, "changed": False})
    if params["zone"] == "spoke":
        remove_probes(cluster, context)
    diffs: list[dict[str, Any]] = []
    for stage in stages:
        context.progress(f"{stage['title']}: {', '.join(map(_told, [*stage['objects'], *stage['trims']]))}")
        diffs += _carry_out(cluster, stage, params["wait_timeout"], context)
    _stays(kept, context)
    return {**result, **({"diff": diffs} if diffs else {})}


def _stays(kept: list[Object], context: Context) -> None:
    for item in kept:
        context.progress(f"stays: {teardown.title(item)}: {item['why']}")


def _told(item: Object) -> str:
    return teardown.title(item) + (f" (keys {', '.join(item['keys'])})" if "keys" in item else "")


def _reference(item: Object) -> Object:
    meta = {"name": item["name"], **({"namespace": item["namespace"]} if item["namespace"] else {})}
    return {"apiVersion": item["apiVersion"], "kind": item["kind"], "metadata": meta}


def _carry_out(cluster: Cluster, stage: dict[str, Any], seconds: int, context: Context) -> list[dict[str, Any]]:
    """One stage, until all of it is gone; also what is on its way already because a run was killed. The diffs."""
    references = [_reference(item) for item in stage["objects"]]
    for reference in references:
        if (reference["apiVersion"], reference["kind"]) == (teardown.OLM_GROUPS, "Operator"):
            _wait_uncounted(cluster, reference["metadata"]["name"], min(seconds, COUNTED), context)
    results, diffs = delete_all(cluster, references, context)
    leaving = [{**obj, "metadata": {**obj["metadata"], "uid": result["uid"]}}
               for obj, result in zip(references, results, strict=True) if result["action"] != "absent"]
    for item in stage["spares"]:  # once the deletion has begun: before it, the operator would build an image for an empty id
        cluster.patch(_reference(item), {"data": dict.fromkeys(item["keys"], "")})
    if leaving:
        wait_gone(cluster, leaving, seconds, context)
    for item in stage["trims"]:
        cluster.patch(_reference(item), {"data": dict.fromkeys(item["keys"])})
    return diffs


def _wait_uncounted(cluster: Cluster, name: str, seconds: float, context: Context) -> None:
    """Wait until OLM counts no component to one of its Operator objects. Raises :class:`CocoError` at the deadline."""
    source = Source(teardown.OLM_GROUPS, "Operator", name=name)
    shown: list[str] = []

    def counted(view: View) -> list[str]:
        return teardown.components(view.get(source) or {})

    def check(view: View) -> bool | None:
        left = counted(view)
        if left and left != shown:
            shown[:] = left
            context.progress(f"waiting for OLM, which still counts to Operator {name}: {', '.join(left)}")
        return None if left else True

    def late(view: View) -> CocoError:
        return CocoError(f"Operator {name} was not removed, all else was",
                         f"OLM would make it anew, because it still counts to it: {', '.join(counted(view))}",
                         f"Delete these, or take the label operators.coreos.com/{name} off them, and run again.")

    until(cluster, [source], seconds, check, late, f"Waiting for the components of Operator {name} failed")


def _diffs(cluster: Cluster, stages: list[dict[str, Any]], context: Context) -> dict[str, Any]:
    """In check mode: the diffs of what would go, if asked for."""
    if not context.diff:
        return {}
    diffs = [diff for stage in stages for diff in delete_all(cluster, [_reference(item) for item in stage["objects"]], context)[1]]
    return {"diff": diffs} if diffs else {}


# What is there --------------------------------------------------------------------------------------------------------

def gather(cluster: Cluster, params: dict[str, Any]) -> dict[str, Any]:
    """The facts of :func:`teardown.plan`."""
    zone = teardown.ZONES[params["zone"]]
    names = [params["namespace"], *([params["verify_namespace"]] if params["zone"] == "spoke" else [])]
    found = {name: cluster.get("v1", "Namespace", name) for name in names}
    namespaces = {name: obj for name, obj in found.items() if obj is not None}
    crds = [crd for crd in (cluster.get(CRD, "CustomResourceDefinition", name) for name in zone.crds) if crd is not None]
    subscriptions = [obj for obj in cluster.list(teardown.OLM, "Subscription") if obj.get("spec", {}).get("name") == zone.package]
    facts: dict[str, Any] = {
        "namespaces": namespaces, "inside": [obj for name in namespaces for obj in contents(cluster, name)], "crds": crds,
        "resources": [obj for api, kind in zone.resources for obj in cluster.list(api, kind)],
        "crs": [obj for crd in crds for obj in _of(cluster, crd)], "subscriptions": subscriptions,
        "operators": [obj for obj in cluster.list(teardown.OLM_GROUPS, "Operator")
                      if obj["metadata"]["name"] == f"{zone.package}.{params['namespace']}"[:63]],
        "left": [obj for api, kind, name, namespace in zone.leaves
                 if (obj := cluster.get(api, kind, name, namespace or None)) is not None],
        "pods": [], "makers": [], "pools": [],
        "classes": cluster.list("node.k8s.io/v1", "RuntimeClass") if params["zone"] == "spoke" else [],
    }
    if params["zone"] == "spoke" and facts["resources"]:
        facts["pods"] = [pod for pod in cluster.list("v1", "Pod") if LABEL not in (pod["metadata"].get("labels") or {})]
        facts["makers"] = [obj for api, kind in MAKERS for obj in cluster.list(api, kind)]
        facts["pools"] = cluster.list(MCO, "MachineConfigPool")
    return facts


def _of(cluster: Cluster, crd: Object) -> Objects:
    spec = crd["spec"]
    version = next((item["name"] for item in spec["versions"] if item.get("storage")), spec["versions"][0]["name"])
    return cluster.list(f"{spec['group']}/{version}", spec["names"]["kind"])


def contents(cluster: Cluster, namespace: str) -> Objects:
    """Every object of a namespace, once, without those that come and go by themselves."""
    kinds: dict[tuple[str, str], str] = {}
    for (api_version, kind), served in cluster.kinds().items():
        group = api_version.partition("/")[0] if "/" in api_version else ""
        if served.namespaced and {"list", "delete"} <= set(served.verbs) and group not in MIRRORS and kind not in PASSING:
            kinds.setdefault((group, kind), api_version)
    with ThreadPoolExecutor(WORKERS) as pool:
        lists = list(pool.map(lambda item: cluster.list(item[1], item[0][1], namespace), kinds.items()))
    return list({obj["metadata"].get("uid"): obj for objects in lists for obj in objects}.values())
