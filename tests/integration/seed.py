"""What a cluster and its Azure hold, to be compared with what a fresh lab held."""

from __future__ import annotations

import time
from typing import Any

from tests.integration.lab import Lab
from tests.lab.arm_running import Arm

#: What comes and goes by itself, on every cluster.
PASSING = {"Event", "Lease", "ComponentStatus", "Endpoints", "EndpointSlice", "ControllerRevision", "PackageManifest"}
#: What nodes remember of reboots (their configuration is compared), and what controllers write into objects of the installation.
REMEMBERED = ("lab.confidential.containers/", "machineconfiguration.openshift.io/desiredDrain",
              "machineconfiguration.openshift.io/lastAppliedDrain")


def everything(lab: Lab) -> dict[str, Any]:
    """Every object of every kind served, by name, without what is written into it all the time; and every resource at Azure."""
    found: dict[str, Any] = Arm(lab.facts["azure"]).resources()
    groups = lab.request("GET", "/apis")["groups"]
    for version in [version["groupVersion"] for group in groups for version in group["versions"]] + ["v1"]:
        prefix = "/api/v1" if version == "v1" else f"/apis/{version}"
        for kind in (lab.request("GET", prefix) or {"resources": []})["resources"]:
            if "/" in kind["name"] or "list" not in kind["verbs"] or kind["kind"] in PASSING:
                continue
            for item in (lab.request("GET", f"{prefix}/{kind['name']}") or {}).get("items", []):
                meta = item["metadata"]
                annotations = {key: value for key, value in (meta.get("annotations") or {}).items() if not key.startswith(REMEMBERED)}
                content = {key: value for key, value in item.items() if key not in ("metadata", "status")}
                found[f"{version} {kind['kind']} {meta.get('namespace', '')}/{meta['name']}"] = {
                    **content, "labels": meta.get("labels"), "annotations": annotations or None, "finalizers": meta.get("finalizers")}
    return found


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return [f"{sign} {name}" for sign, names in (("+", after.keys() - before.keys()), ("-", before.keys() - after.keys()),
                                                 ("~", {n for n in before.keys() & after.keys() if before[n] != after[n]}))
            for name in sorted(names)]


def at_rest(lab: Lab) -> dict[str, Any]:
    """:func:`everything` of a lab that nobody uses, once all that a started control plane writes is written.

    OLM's roles come last: three for each of the two OperatorGroups of an installation.
    """
    found: dict[str, Any] = {}
    for _ in range(12):
        changed = differences(found, found := everything(lab))
        roles = sum(" ClusterRole /olm.og." in name for name in found)
        if not changed and roles >= 6:
            return found
        time.sleep(5)
    raise AssertionError(f"a lab that nobody uses does not come to rest: {roles} roles of OLM, changed: {changed}")
