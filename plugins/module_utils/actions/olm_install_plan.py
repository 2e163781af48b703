# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The work of the module olm_install_plan."""

from __future__ import annotations

import threading
import time
from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils import olm
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

API = "operators.coreos.com/v1alpha1"
#: The CSV must be Succeeded for this long: OLM passes through Succeeded while it rotates certificates, in seconds.
STABLE = 1.0

ARGUMENT_SPEC: dict[str, Any] = {
    "namespace": {"type": "str", "required": True},
    "subscription": {"type": "str", "required": True},
    "csv": {"type": "str", "required": True},
    "accepted": {"type": "list", "elements": "str", "default": []},
    "wait_timeout": {"type": "int", "default": 900},
    **cluster_options(),
}
SPEC_KWARGS: dict[str, Any] = {}


def run(params: dict[str, Any], context: Context) -> dict[str, Any]:
    """Approve exactly the pinned CSV's plan and wait until that CSV has succeeded."""
    cluster = Cluster.from_params(params)
    try:
        return _run(cluster, params, context)
    except (ApiFailure, UnknownKind, Unreachable) as error:
        raise explain(f"The install plan of {params['csv']} was not handled", error, cluster.server) from error


def _run(cluster: Cluster, params: dict[str, Any], context: Context) -> dict[str, Any]:
    namespace, wanted = params["namespace"], params["csv"]
    accepted = [wanted, *params["accepted"]]
    result: dict[str, Any] = {"changed": False, "csv": wanted, "install_plan": None, "approved": False, "pending": [],
                              "findings": []}
    deadline = time.monotonic() + params["wait_timeout"]
    pause = threading.Event()
    shown, since = "", 0.0
    while True:
        subscription = cluster.get(API, "Subscription", params["subscription"], namespace)
        if subscription is None:
            if context.check_mode:
                return {**result, "changed": True}
            raise CocoError(f"The operator {wanted} cannot be installed",
                            f"there is no Subscription {namespace}/{params['subscription']}",
                            "Create it first (the operator's role does), then run again.")
        package = str(subscription["spec"].get("name", ""))
        installed = subscription.get("status", {}).get("installedCSV") or ""
        if installed and installed not in accepted:
            raise CocoError(f"The installed operator {installed} is not the pinned one", f"{wanted} is pinned, accepted are "
                            f"{', '.join(accepted)}", "Set coco_release to the pair of the installed operators, or upgrade "
                            "the operator step by step first.", installed=installed)
        target = installed or wanted
        plans = cluster.list(API, "InstallPlan", namespace)
        chosen, others = olm.choose(plans, target)
        result.update(csv=target, pending=sorted({n for p in others for n in p["spec"]["clusterServiceVersionNames"]}),
                      findings=olm.drift(subscription, package, wanted))
        if chosen is not None:
            result["install_plan"] = chosen["metadata"]["name"]
        csv = cluster.get(API, "ClusterServiceVersion", target, namespace)
        phase = (csv or {}).get("status", {}).get("phase", "")
        if phase == "Succeeded":
            since = since or time.monotonic()
            if not result["approved"] or time.monotonic() - since >= STABLE:
                return result
        else:
            since = 0.0
        if not phase and chosen is not None and olm.approvable(chosen):
            if context.check_mode:
                return {**result, "changed": True, "approved": True}
            cluster.patch({**chosen, "apiVersion": API, "kind": "InstallPlan"}, {"spec": {"approved": True}})
            context.progress(f"{namespace}: install plan {result['install_plan']} approved for {target}")
            result.update(changed=True, approved=True)
        elif context.check_mode:
            return {**result, "changed": phase != "Succeeded"}
        line = _line(subscription, chosen, phase, csv or {}, target)
        if line != shown:
            shown = line
            context.progress(f"{namespace}: {line}")
        if time.monotonic() > deadline:
            others_text = f"; unapproved plans: {', '.join(result['pending'])}" if result["pending"] else ""
            raise CocoError(f"The operator {target} was not installed in {params['wait_timeout']} s", line + others_text,
                            "Check the Subscription's channel and catalog source, and that the index offers this CSV; the "
                            "run can be repeated.", **{k: v for k, v in result.items() if k != "changed"})
        pause.wait(0.4)


def _line(subscription: dict[str, Any], plan: dict[str, Any] | None, phase: str, csv: dict[str, Any], target: str) -> str:
    if phase:
        status = csv.get("status", {})
        return f"{target} is {phase} ({status.get('reason', '')}: {status.get('message', '')})"
    if plan is not None:
        return f"install plan {plan['metadata']['name']} is {plan.get('status', {}).get('phase', 'being made')}"
    return olm.complaint(subscription) or f"waiting for the install plan of {target}"
