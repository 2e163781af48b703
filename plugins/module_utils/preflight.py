# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is this cluster and this inventory fit for the fourteen steps? Facts in, findings out. Pure."""

from __future__ import annotations

from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils import (
    kataconfig,
    measurements,
    peerpods,
    releases,
    trustee,
)
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError
from ansible_collections.confidential.containers.plugins.module_utils.policy import IMAGE_FLAVOURS

Finding = dict[str, str]


def _finding(severity: str, code: str, message: str, hint: str) -> Finding:
    return {"severity": severity, "code": code, "message": message, "hint": hint}


def judge(pair: releases.Pair, zones: list[str], cluster: dict[str, Any], choices: dict[str, Any]) -> list[Finding]:
    """Findings about a cluster (as cluster_info gives it) and the inventory's choices."""
    found = _versions(pair, zones, cluster) + _rights(zones, cluster)
    if "hub" in zones:
        found += _hub(pair, choices) + _kind(pair, cluster, choices)
    if "spoke" in zones:
        found += _spoke(pair, cluster, choices)
    return found


def _versions(pair: releases.Pair, zones: list[str], cluster: dict[str, Any]) -> list[Finding]:
    found = []
    version = cluster.get("openshift_version", "")
    if not version:
        found.append(_finding("error", "no-openshift", "the cluster has no ClusterVersion",
                              "Point the inventory at an OpenShift cluster."))
    elif "spoke" in zones:
        floor = releases.openshift_floor(pair.osc, version)
        if floor:
            found.append(_finding("error", "openshift-floor", f"OpenShift {version} is below {floor}, the floor of OSC "
                                  f"{pair.osc.name}", f"Update the cluster to {floor} or newer, or use another release."))
    halves: list[tuple[str, str, releases.OscRelease | releases.TrusteeRelease]] = [
        ("hub", "trustee", pair.trustee), ("spoke", "osc", pair.osc)]
    for zone, name, half in halves:
        installed = ((cluster.get("operators") or {}).get(name) or {}).get("csv", "")
        if zone in zones and installed:
            try:
                if releases.check_csv(half, installed) == "accepted":
                    found.append(_finding("info", "csv-kept", f"{installed} is installed and kept ({half.csv} is newer)", ""))
            except CocoError as error:
                found.append(_finding("error", "csv", f"{error.what}: {error.seen}", error.todo))
    return found


def _rights(zones: list[str], cluster: dict[str, Any]) -> list[Finding]:
    found = []
    for item in (cluster.get("permissions") or {}).get("missing", []):
        if item["zone"] in ("both", *zones):
            group = f".{item['group']}" if item["group"] else ""
            found.append(_finding("error", "forbidden", f"the credentials may not {item['verb']} {item['resource']}{group}",
                                  "Grant that right, or use the credentials of a cluster administrator."))
    return found


def _hub(pair: releases.Pair, choices: dict[str, Any]) -> list[Finding]:
    found = []
    if choices.get("route_termination") == "edge":
        found.append(_finding("warning", "plain-http", "the KBS speaks plain HTTP inside the cluster (edge Route)",
                              "Use coco_route_termination: passthrough."))
        if not pair.trustee.signer_fields:
            found.append(_finding("error", "edge-signer", f"an edge Route leaves no place for the token signer of Trustee "
                                  f"{pair.trustee.name}: anybody could forge tokens", "Use coco_route_termination: passthrough."))
    if pair.trustee.unauthenticated_attestation_policy:
        found.append(_finding("warning", "unauthenticated-policy", f"the KBS of Trustee {pair.trustee.name} accepts an "
                              "attestation policy from anybody over HTTP", "Trustee 1.0 ends it; the policy is mounted read-only "
                              "here, so it cannot be replaced."))
    try:
        if isinstance(choices.get("measurements"), dict):
            measurements.parse_measurements(choices["measurements"])
    except CocoError as error:
        found.append(_finding("error", "measurements", f"{error.what}: {error.seen}", error.todo))
    return found


def _kind(pair: releases.Pair, cluster: dict[str, Any], choices: dict[str, Any]) -> list[Finding]:
    """Can Trustee be deployed as the kind of object that is chosen, beside what the hub holds?"""
    try:
        names = trustee.object_names(pair.trustee, choices.get("trustee_kind") or "auto")
    except CocoError as error:
        return [_finding("error", "trustee-kind", f"{error.what}: {error.seen}", error.todo)]
    found = []
    ours = {("TrusteeConfig", names.get("trusteeconfig")), ("KbsConfig", names["kbsconfig"])}
    for item in (cluster.get("trustee") or {}).get("kinds") or []:
        if item["generated"] or (item["kind"], item["name"]) in ours:
            continue
        if item["kind"] != names["kind"]:
            found.append(_finding("error", "trustee-kind", f"Trustee runs as {item['kind']} {item['name']}, and {names['kind']} is "
                                  "wanted", f"Set coco_trustee_kind: {item['kind']}, or delete that {item['kind']} first."))
        elif names["kind"] == "TrusteeConfig":
            found.append(_finding("error", "trustee-name", f"there is another {item['kind']}, {item['name']}: a namespace holds one "
                                  "Trustee", f"Delete it first; ours is {names['trusteeconfig']}."))
    if names["kind"] == "KbsConfig":
        return found
    if choices.get("trustee_profile") == "Permissive":
        found.append(_finding("warning", "permissive", "the TrusteeConfig has the profile Permissive: what the operator makes by itself "
                              "is open, and the KBS logs in detail", "Use coco_trustee_profile: Restricted."))
    elif choices.get("route_termination") == "edge":
        found.append(_finding("error", "restricted-edge", "the profile Restricted wants TLS in the KBS, and an edge Route ends it "
                              "before", "Use coco_route_termination: passthrough, or coco_trustee_kind: KbsConfig."))
    return found


def _spoke(pair: releases.Pair, cluster: dict[str, Any], choices: dict[str, Any]) -> list[Finding]:
    found = []
    flavours = {choices.get("image_security_policy", "insecure")}
    flavours |= {doc.get("image_security_policy") for doc in (choices.get("initdata") or {}).values()
                 if (doc or {}).get("image_security_policy")}
    for flavour in sorted(str(f) for f in flavours):
        if flavour not in IMAGE_FLAVOURS:
            found.append(_finding("error", "image-policy", f"the image policy {flavour!r} is unknown",
                                  f"Use one of {', '.join(IMAGE_FLAVOURS)}."))
    found += _weak_documents(choices)
    try:
        provider = peerpods.provider_of(choices.get("peerpods"), {"status": {"platformStatus": {"type": cluster.get("platform")}}})
        names = choices.get("credential_names") or []
        found += peerpods.check_credentials(names, provider)
        if not names and not (cluster.get("peerpods_secret") or {}).get("present") and "credentials_operator" in cluster:
            found += peerpods.check_source(cluster["credentials_operator"], provider)
    except CocoError as error:
        found.append(_finding("error", "provider", f"{error.what}: {error.seen}", error.todo))
    existing = cluster.get("kataconfig")
    if existing is None or choices.get("recreate") == "always":
        for pool in cluster.get("pools") or []:
            if pool["paused"] or pool["degraded"]:
                state = "paused" if pool["paused"] else "degraded"
                found.append(_finding("error", f"pool-{state}", f"the machine config pool {pool['name']} is {state}",
                                      "Mend it first: KataConfig would never finish."))
        nodes = [{"metadata": {"name": n["name"], "labels": n["labels"]}} for n in cluster.get("nodes") or []]
        found += kataconfig.selector_blockers(nodes, choices.get("selector") or {})
    if existing is not None and choices.get("recreate") == "always" and cluster.get("kata_pods") \
            and not choices.get("allow_pods"):
        found.append(_finding("error", "kata-pods", f"pods use kata runtime classes: {', '.join(cluster['kata_pods'])}",
                              "Delete them first, or set coco_kataconfig_allow_pods: true."))
    return found


def _weak_documents(choices: dict[str, Any]) -> list[Finding]:
    """What each document lets the spoke's administrators do, and that a weak one must not open every secret."""
    found = []
    documents: dict[str, Any] = choices.get("initdata") or {"default": {}}
    for name, given in documents.items():
        document = given or {}
        weak = []
        if (document.get("image_security_policy") or choices.get("image_security_policy")) == "insecure":
            weak.append(("image-insecure", "accepts images without a signature",
                         "Use image_security_policy: signed, with coco_image_signature_keys."))
        agent = document.get("agent_policy") or choices.get("agent_policy") or {}
        weak += [(f"agent-{right}", f"allows {right}", "Whoever may start pods on the spoke can then look into pods with it.")
                 for right in ("exec", "logs", "set_policy") if agent.get(right)]
        limited = document.get("resources") is not None or name == "verification"
        for code, what, hint in weak:
            opens = "" if limited else ", and opens every secret of the KBS"
            more = "" if limited else f" Name the Secrets that it may open (coco_initdata.{name}.resources)."
            if name != "verification" or code != "image-insecure":
                found.append(_finding("warning", code, f"the initdata document {name} {what}{opens}", hint + more))
    return found
