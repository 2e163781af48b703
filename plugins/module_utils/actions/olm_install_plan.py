# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The work of the module olm_install_plan."""

from __future__ import annotations

import time
from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils import olm
from ansible_collections.confidential.containers.plugins.module_utils.arguments import cluster_options
from ansible_collections.confidential.containers.plugins.module_utils.cluster import (
    ApiFailure,
    Cluster,
    Object,
    UnknownKind,
    Unreachable,
    explain,
)
from ansible_collections.confidential.containers.plugins.module_utils.cluster_wait import wait_ready
from ansible_collections.confidential.containers.plugins.module_utils.cluster_watch import Source, View, until
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
    "ready": {"type": "list", "elements": "dict", "default": []},
    "wait_timeout": {"type": "int", "default": 900},
    **cluster_options(),
}
SPEC_KWARGS: dict[str, Any] = {}


def run(params: dict[str, Any], context: Context) -> dict[str, Any]:
    """Approve exactly the pinned CSV's plan, wait until that CSV has succeeded and what it brings is ready."""
    cluster = Cluster.from_params(params)
    try:
        return _run(cluster, params, context)
    except (ApiFailure, UnknownKind, Unreachable) as error:
        raise explain(f"The install plan of {params['csv']} was not handled", error, cluster.server) from error


def _run(cluster: Cluster, params: dict[str, Any], context: Context) -> dict[str, Any]:
    namespace = params["namespace"]
    work = Installation(cluster, params, context)
    if context.check_mode:
        names = [params["csv"], *params["accepted"]]
        found = {name: cluster.get(API, "ClusterServiceVersion", name, namespace) for name in names}
        return work.predict(cluster.get(API, "Subscription", params["subscription"], namespace),
                            cluster.list(API, "InstallPlan", namespace), found)
    began = time.monotonic()
    result = until(cluster, [work.subscription, work.plans, *work.csvs.values()], params["wait_timeout"], work.check, work.late, work.what)
    if params["ready"]:
        try:
            wait_ready(cluster, params["ready"], max(1.0, params["wait_timeout"] - (time.monotonic() - began)), context)
        except CocoError as error:
            error.details = {**result, **error.details}
            raise
    return result


class Installation:
    """One operator's way from the Subscription to a CSV that has succeeded."""

    def __init__(self, cluster: Cluster, params: dict[str, Any], context: Context) -> None:
        self.cluster, self.params, self.context = cluster, params, context
        self.namespace, self.wanted = params["namespace"], params["csv"]
        self.what = f"The install plan of {self.wanted} was not handled"
        self.subscription = Source(API, "Subscription", self.namespace, name=params["subscription"])
        self.plans = Source(API, "InstallPlan", self.namespace)
        self.csvs = {name: Source(API, "ClusterServiceVersion", self.namespace, name=name) for name in [self.wanted, *params["accepted"]]}
        self.result: dict[str, Any] = {"changed": False, "csv": self.wanted, "install_plan": None, "approved": False, "pending": [],
                                       "findings": []}
        self.approved: set[str] = set()
        self.since = 0.0
        self.line = ""

    def look(self, subscription: Object | None, plans: list[Object]) -> tuple[Object, str, Object | None]:
        """(the Subscription, the CSV that counts, its plan); what is found goes into the result."""
        if subscription is None:
            raise CocoError(f"The operator {self.wanted} cannot be installed",
                            f"there is no Subscription {self.namespace}/{self.params['subscription']}",
                            "Create it first (the operator's role does), then run again.")
        installed = subscription.get("status", {}).get("installedCSV") or ""
        if installed and installed not in self.csvs:
            raise CocoError(f"The installed operator {installed} is not the pinned one", f"{self.wanted} is pinned, accepted are "
                            f"{', '.join(self.csvs)}", "Set coco_release to the pair of the installed operators, or upgrade "
                            "the operator step by step first.", installed=installed)
        target = installed or self.wanted
        named = (subscription.get("status", {}).get("installPlanRef") or {}).get("name", "")
        chosen, others = olm.choose(plans, target, named)
        self.result.update(
            csv=target, pending=sorted({n for p in others for n in p["spec"]["clusterServiceVersionNames"]}),
            findings=olm.drift(subscription, str(subscription["spec"].get("name", "")), self.wanted),
            install_plan=chosen["metadata"]["name"] if chosen else self.result["install_plan"])
        return subscription, target, chosen

    def predict(self, subscription: Object | None, plans: list[Object], csvs: dict[str, Object | None]) -> dict[str, Any]:
        """The result of check mode."""
        if subscription is None:
            return {**self.result, "changed": True}
        _subscription, target, chosen = self.look(subscription, plans)
        phase = (csvs[target] or {}).get("status", {}).get("phase", "")
        approve = not phase and chosen is not None and olm.approvable(chosen)
        return {**self.result, "changed": phase != "Succeeded", "approved": approve}

    def check(self, view: View) -> dict[str, Any] | None:
        """Approve what may be approved; the result once the CSV has succeeded for long enough."""
        if any(view.trouble(source) and "no such kind" not in view.trouble(source) for source in (self.subscription, self.plans)):
            return None  # what was seen before an outage is no ground for a decision
        subscription, target, chosen = self.look(view.get(self.subscription), view.objects(self.plans))
        csv = view.get(self.csvs[target]) or {}
        phase = csv.get("status", {}).get("phase", "")
        if phase == "Succeeded":
            self.since = self.since or time.monotonic()
            if not self.result["approved"] or time.monotonic() - self.since >= STABLE:
                return self.result
        else:
            self.since = 0.0
        if not phase and chosen is not None and olm.approvable(chosen) and chosen["metadata"]["name"] not in self.approved:
            self.cluster.patch({**chosen, "apiVersion": API, "kind": "InstallPlan"}, {"spec": {"approved": True}})
            self.approved.add(chosen["metadata"]["name"])
            self.context.progress(f"{self.namespace}: install plan {chosen['metadata']['name']} approved for {target}")
            self.result.update(changed=True, approved=True)
        line = _line(subscription, chosen, phase, csv, target)
        if line != self.line:
            self.line = line
            self.context.progress(f"{self.namespace}: {line}")
        return None

    def late(self, _view: View) -> CocoError:
        """The error of the deadline."""
        pending = f"; unapproved plans: {', '.join(self.result['pending'])}" if self.result["pending"] else ""
        return CocoError(f"The operator {self.result['csv']} was not installed in {self.params['wait_timeout']} s",
                         (self.line or "the cluster gave no answer") + pending,
                         "Check the Subscription's channel and catalog source, and that the index offers this CSV; the run can be "
                         "repeated.", **self.result)


def _line(subscription: dict[str, Any], plan: dict[str, Any] | None, phase: str, csv: dict[str, Any], target: str) -> str:
    if phase:
        status = csv.get("status", {})
        return f"{target} is {phase} ({status.get('reason', '')}: {status.get('message', '')})"
    if plan is not None:
        status = plan.get("status", {})
        said = [c["message"] for c in status.get("conditions") or [] if c.get("message") and c.get("status") == "False"]
        trouble = "; ".join(filter(None, [*said, olm.complaint(subscription)]))
        return f"install plan {plan['metadata']['name']} is {status.get('phase') or 'being made'}" + (f" ({trouble})" if trouble else "")
    return olm.complaint(subscription) or f"waiting for the install plan of {target}"
