# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Can a region run so many pod VMs of a size? Sizes and quotas in, findings out. Pure.

A size (a resource SKU of type virtualMachines) is a dict: ``name``, ``family``, ``location``, ``vcpus``, ``confidential`` (the capability
ConfidentialComputingType: SNP, TDX or empty), ``zones`` (list), ``restricted`` (whole region: the reason, else empty),
``restricted_zones`` (list). Quotas: family (or ``cores``: all of the region) to ``{"limit", "used"}``, in vCPUs.
"""

from __future__ import annotations

from typing import Any

Finding = dict[str, str]
Size = dict[str, Any]
Quotas = dict[str, dict[str, int]]

TOTAL = "cores"
#: So many alternatives are named.
NEAREST = 5


def open_zones(size: Size) -> list[str]:
    """The zones in which a size can be had."""
    return sorted(set(size["zones"]) - set(size["restricted_zones"]))


def usable(size: Size, zones: list[str]) -> bool:
    """Whether a size can be had, in each of the zones (none: anywhere in the region)."""
    if size["restricted"]:
        return False
    return set(zones) <= set(open_zones(size)) if zones else not size["zones"] or bool(open_zones(size))


def left(quotas: Quotas, name: str) -> int | None:
    """vCPUs that a quota leaves; None where it is not known."""
    found = {key.lower(): quota for key, quota in quotas.items()}.get(name.lower())
    return max(0, found["limit"] - found["used"]) if found else None


def fits(size: Size, quotas: Quotas, pods: int) -> bool:
    """Whether both quotas leave room for a number of pods."""
    need = size["vcpus"] * pods
    return all(room is None or room >= need for room in (left(quotas, size["family"]), left(quotas, TOTAL)))


def alternatives(sizes: list[Size], wanted: Size | None, quotas: Quotas, tee: str, zones: list[str], pods: int) -> list[str]:
    """Names of the nearest sizes of the same kind that would do: the same family first, then by the number of vCPUs."""
    vcpus, family = (wanted["vcpus"], wanted["family"]) if wanted else (2, "")
    good = [size for size in sizes if _kind(size) == tee and usable(size, zones) and fits(size, quotas, pods) and size is not wanted]
    good.sort(key=lambda size: (size["family"].lower() != family.lower(), abs(size["vcpus"] - vcpus), size["name"]))
    return [size["name"] for size in good[:NEAREST]]


def regions(sizes: list[Size], name: str) -> list[str]:
    """The regions in which a size can be had (``sizes``: of all regions)."""
    return sorted({size["location"].lower() for size in sizes if size["name"].lower() == name.lower() and usable(size, [])})


def _kind(size: Size) -> str:
    return str(size["confidential"]).lower() or "none"


def judge(sizes: list[Size], quotas: Quotas, name: str, region: str, tee: str, zones: list[str], pods: int) -> list[Finding]:
    """Findings about a size in a region (``sizes``: all that are known there) for a number of pods; ``tee``: snp, tdx or none."""
    found: list[Finding] = []
    wanted = next((size for size in sizes if size["name"].lower() == name.lower()), None)
    others = alternatives(sizes, wanted, quotas, tee, zones, pods)
    instead = f"Choose another size (AZURE_INSTANCE_SIZE), for example {', '.join(others)}" if others else \
        "No size of this kind would do here: use another region"

    def error(code: str, message: str, hint: str) -> None:
        found.append({"severity": "error", "code": code, "message": message, "hint": hint})

    if wanted is None:
        error("size-unknown", f"the size {name} does not exist in {region}", f"{instead}.")
        return found
    if tee != "none" and _kind(wanted) != tee:
        kind = wanted["confidential"] or "not confidential"
        error("size-not-confidential", f"the size {name} is {kind}, {tee.upper()} is asked for", f"{instead}.")
    if wanted["restricted"]:
        error("size-restricted", f"the size {name} is closed to this subscription in {region} ({wanted['restricted']})",
              f"{instead}; or ask Azure's support to open it.")
    elif not usable(wanted, zones):
        there = ", ".join(open_zones(wanted)) or "none"
        error("size-zone", f"the size {name} cannot be had in the zones {', '.join(zones) or 'of ' + region} (only in: {there})",
              f"Use nodes in other zones, or another size. {instead}.")
    need = wanted["vcpus"] * pods
    for quota, what in ((wanted["family"], f"the family {wanted['family']}"), (TOTAL, "all families together")):
        room = left(quotas, quota)
        if room is not None and room < need:
            limits = {key.lower(): value for key, value in quotas.items()}[quota.lower()]
            error("quota", f"{pods} pods of {name} need {need} vCPUs, but the quota of {what} in {region} leaves {room} "
                  f"({limits['used']} of {limits['limit']} used)", f"Ask for a quota of {limits['used'] + need}, or fewer pods. {instead}.")
    if left(quotas, wanted["family"]) is None:
        found.append({"severity": "warning", "code": "quota-unknown", "message": f"Azure names no quota of the family {wanted['family']}",
                      "hint": "Look at the quotas of the subscription in the portal."})
    return found
