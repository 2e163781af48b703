# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decisions about operator installations: which install plan may be approved, and what a Subscription complains about. Pure.

Source: the behaviour of OLM 0.46 as run: a plan may be approved only in phase RequiresApproval; ``startingCSV`` is no lock.
"""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]

COMPLAINTS = ("ResolutionFailed", "CatalogSourcesUnhealthy", "BundleUnpackFailed", "InstallPlanFailed")


def complaint(subscription: Object) -> str:
    """What the Subscription says stands in its way; empty when nothing does."""
    found = []
    for condition in subscription.get("status", {}).get("conditions") or []:
        wrong = condition.get("type") in COMPLAINTS
        if wrong and condition.get("status") == "True":
            found.append(f"{condition['type']}/{condition.get('reason', '')}: {condition.get('message', '')}")
    return "; ".join(found)


def choose(plans: list[Object], csv: str, named: str = "") -> tuple[Object | None, list[Object]]:
    """(the plan to approve or already approved for exactly ``csv``, plans for something else left unapproved).

    A plan that would install anything besides ``csv`` is never chosen. OLM sometimes makes two for the same: the one that the
    Subscription names (``named``, its ``status.installPlanRef``) is the one that leads somewhere, else the newest.
    """
    chosen: Object | None = None
    others = []
    for plan in sorted(plans, key=lambda p: str(p["metadata"].get("creationTimestamp", ""))):
        names = plan.get("spec", {}).get("clusterServiceVersionNames") or []
        if set(names) == {csv}:
            if chosen is None or chosen["metadata"]["name"] != named:
                chosen = plan
        elif not plan.get("spec", {}).get("approved"):
            others.append(plan)
    return chosen, others


def approvable(plan: Object) -> bool:
    """May the plan be approved now? Approving one without a phase makes OLM fail and plan anew."""
    return plan.get("status", {}).get("phase") == "RequiresApproval" and not plan.get("spec", {}).get("approved")


def drift(subscription: Object, package: str, csv: str) -> list[dict[str, str]]:
    """Findings about a Subscription that no longer is as pinned."""
    spec = subscription.get("spec", {})
    found = []
    if spec.get("installPlanApproval") != "Manual":
        found.append({"severity": "warning", "code": "approval",
                      "message": f"the Subscription approves plans by itself ({spec.get('installPlanApproval') or 'Automatic'})",
                      "hint": "Run the step that installs the operator: it sets installPlanApproval to Manual."})
    if spec.get("name") != package:
        found.append({"severity": "error", "code": "package", "message": f"the Subscription is for {spec.get('name')}",
                      "hint": f"Name the Subscription of {package}."})
    installed = subscription.get("status", {}).get("installedCSV")
    if installed and installed != csv:
        found.append({"severity": "info", "code": "installed", "message": f"{installed} is installed", "hint": ""})
    return found
