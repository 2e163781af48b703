# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps 7 and 8: what a cluster's KataConfig needs, and what speaks against acting. Pure.

Nodes reboot when a KataConfig comes or goes, so that is a decision with reasons. Source: the operator's rules for the
confidential feature gate (an image built before the gate is not confidential) and for its image job.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils import podvm_image
from ansible_collections.confidential.containers.plugins.module_utils.peerpods import provider_of

Object = dict[str, Any]
Finding = dict[str, str]

KATA_RUNTIMES = ("kata", "kata-remote", "kata-cc")


def plan(facts: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """What to do: ``{"needed": none|create|retrigger|recreate, "reasons": [text], "blockers": [finding], "name", "spare_image"}``.

    ``spare_image``: the operator did not make the image in use (or the inventory gives it), and would delete it with KataConfig.
    facts: ``kataconfig`` (object or None), ``peerpods_cm`` and ``podvm_image_cm`` (data), ``ours`` (we wrote the image id, so the
    inventory gave it), ``of_others`` (the image id where the operator's job did not make it), ``image_job`` (its pods of now; None
    where nothing is to look for), ``idle`` (neither a job nor a pass of the operator that could begin one), ``pools``, ``nodes``,
    ``pods`` (only looked at when something is to be done).
    wanted: ``name``, ``image_id`` (given in the inventory, or empty), ``selector`` (labels), ``recreate``
    (auto|always), ``allow_pods``.
    """
    existing = facts.get("kataconfig")
    settings = facts.get("peerpods_cm") or {}
    image = settings.get(provider_of(settings).image_key, "")
    confidential = (facts.get("podvm_image_cm") or {}).get("CONFIDENTIAL_COMPUTE_ENABLED", "").lower() == "yes"
    given = wanted.get("image_id") or ""
    taken_out = bool(image) and not given and bool(facts.get("ours"))
    foreign = bool(image) and image != given and not confidential
    reasons: list[str] = []
    needed = "none"
    if existing is None:
        needed = "create"
        reasons.append("there is no KataConfig: creating it reboots the selected nodes once")
    elif existing["metadata"].get("deletionTimestamp"):
        needed = "create"
        reasons.append(f"KataConfig {existing['metadata']['name']} is being deleted: it is created anew afterwards")
    elif wanted.get("recreate") == "always":
        needed = "recreate"
        reasons.append("re-creation was asked for (coco_kataconfig_recreate: always): nodes reboot twice")
    elif taken_out:
        needed = "retrigger"
        reasons.append(f"the pod VM image {image} was given in the inventory and is no longer (coco_peerpods_image_id): its id is "
                       "cleared and the operator builds one (no reboot); the image itself stays in the cloud")
    elif foreign:
        needed = "retrigger"
        reasons.append(f"the pod VM image {image} was built without the confidential feature gate: its id is cleared and a "
                       "confidential image built (no reboot)")
    elif not given and facts.get("image_job") is not None and (podvm_image.last_failed(facts["image_job"]) or facts.get("idle")):
        needed = "retrigger"
        last = podvm_image.last_failed(facts["image_job"])
        reasons.append((f"the last {podvm_image.JOB} failed ({last})" if last else "there is no pod VM image, and no job that "
                        "builds one") + ": the operator is made to look again (no reboot)")
    result: dict[str, Any] = {"needed": needed, "reasons": reasons, "blockers": [],
                              "spare_image": needed == "recreate" and bool(image) and image in (given, facts.get("of_others")),
                              "name": existing["metadata"]["name"] if existing else wanted.get("name", "example-kataconfig")}
    if needed in ("create", "recreate"):
        result["blockers"] += pool_blockers(facts.get("pools") or [])
        result["blockers"] += selector_blockers(facts.get("nodes") or [], wanted.get("selector") or {})
    if needed == "recreate" and not wanted.get("allow_pods"):
        result["blockers"] += _pod_blockers(facts.get("pods") or [])
    return result


def _finding(code: str, message: str, hint: str) -> Finding:
    return {"severity": "error", "code": code, "message": message, "hint": hint}


def pool_blockers(pools: list[Object]) -> list[Finding]:
    """A finding for each machine config pool that would not roll out: paused or degraded."""
    found = []
    for pool in pools:
        name = pool["metadata"]["name"]
        conditions = {c["type"]: c for c in pool.get("status", {}).get("conditions") or []}
        if pool.get("spec", {}).get("paused"):
            found.append(_finding("pool-paused", f"the machine config pool {name} is paused",
                                  f"Nothing would be rolled out: unpause it (spec.paused of MachineConfigPool {name})."))
        degraded = conditions.get("Degraded", {})
        if degraded.get("status") == "True":
            said = conditions.get("NodeDegraded", {}).get("message") or degraded.get("message") or "no message"
            found.append(_finding("pool-degraded", f"the machine config pool {name} is degraded: {said}",
                                  "Mend the named node first; a degraded pool does not roll out."))
    return found


def selector_blockers(nodes: list[Object], selector: dict[str, str]) -> list[Finding]:
    """A finding where no worker carries the labels."""
    workers = [n for n in nodes if "node-role.kubernetes.io/worker" in (n["metadata"].get("labels") or {})] or nodes
    matching = [n for n in workers if all((n["metadata"].get("labels") or {}).get(k) == v for k, v in selector.items())]
    if nodes and not matching:
        return [_finding("selector", f"the node selector {selector} matches no worker node",
                         "Label the nodes that shall run kata pods, or change coco_kataconfig_selector; we label none.")]
    return []


def kata_pods(pods: list[Object]) -> list[str]:
    """namespace/name of the pods that use a kata runtime class, in any phase."""
    return sorted(f"{p['metadata']['namespace']}/{p['metadata']['name']}" for p in pods
                  if str(p.get("spec", {}).get("runtimeClassName", "")).startswith(KATA_RUNTIMES))


def _pod_blockers(pods: list[Object]) -> list[Finding]:
    names = kata_pods(pods)
    if not names:
        return []
    return [_finding("kata-pods", f"pods use kata runtime classes: {', '.join(names)}",
                     "Delete them first, or set coco_kataconfig_allow_pods: true (they lose their virtual machines).")]
