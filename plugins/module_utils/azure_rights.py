# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which rights at Azure the steps need, and which of them are missing. Pure.

Rule: an action is granted when one entry of the permissions list names it in ``actions`` and not in its ``notActions``; names are
compared without regard to case, ``*`` stands for any text (Azure RBAC, "Understand Azure role definitions"). A deny assignment takes away
what roles grant (Azure RBAC, "Understand Azure deny assignments"); the permissions list does not show it.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any

#: In the group of the virtual machines: what cloud-api-adaptor and the image job do with the Secret's credentials (deployment.md 3.8).
MACHINES = (
    "Microsoft.Compute/virtualMachines/write", "Microsoft.Compute/virtualMachines/delete", "Microsoft.Compute/disks/write",
    "Microsoft.Compute/disks/delete", "Microsoft.Network/networkInterfaces/write", "Microsoft.Network/networkInterfaces/delete",
    "Microsoft.Network/networkInterfaces/join/action", "Microsoft.Network/networkSecurityGroups/join/action",
    "Microsoft.Compute/galleries/write", "Microsoft.Compute/galleries/images/write", "Microsoft.Compute/galleries/images/versions/write",
)
#: In the group of the virtual network: joining the subnet.
SUBNET = ("Microsoft.Network/virtualNetworks/subnets/join/action",)
#: In the group of the virtual network, where a NAT gateway has to be made.
GATEWAY = (
    "Microsoft.Network/publicIPAddresses/write", "Microsoft.Network/publicIPAddresses/join/action", "Microsoft.Network/natGateways/write",
    "Microsoft.Network/natGateways/join/action", "Microsoft.Network/virtualNetworks/subnets/write",
)
#: The id that means all principals in a deny assignment.
EVERYONE = "00000000-0000-0000-0000-000000000000"
#: What the rights are for, by the word of the module's option.
NEEDED = {"machines": MACHINES, "subnet": SUBNET, "gateway": GATEWAY}


def matches(pattern: str, action: str) -> bool:
    """Whether a pattern of a role definition covers an action."""
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), action, re.IGNORECASE) is not None


def granted(action: str, permissions: list[dict[str, Any]]) -> bool:
    """Whether the entries of ``Microsoft.Authorization/permissions`` of a scope grant an action."""
    return any(any(matches(pattern, action) for pattern in entry.get("actions") or [])
               and not any(matches(pattern, action) for pattern in entry.get("notActions") or []) for entry in permissions)


def missing(needed: tuple[str, ...], permissions: list[dict[str, Any]]) -> list[str]:
    """The needed actions that are not granted, in order."""
    return [action for action in needed if not granted(action, permissions)]


def identities(token: str) -> set[str]:
    """The object ids that an access token is made out for: the principal's own and those of its groups; empty where it does not tell."""
    parts = token.split(".")
    if len(parts) != 3:
        return set()
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return set()
    if not isinstance(claims, dict):
        return set()
    groups = claims.get("groups")
    return {str(one).lower() for one in [claims.get("oid"), *(groups if isinstance(groups, list) else [])] if one}


def denied(needed: tuple[str, ...], assignments: list[dict[str, Any]], scope: str, who: set[str]) -> list[dict[str, Any]]:
    """Which needed actions deny assignments forbid to a principal, on resources in a resource group.

    assignments: the items of ``Microsoft.Authorization/denyAssignments``; scope: the id of the group; who: the principal's object ids
    (:func:`identities`). Returns, for each assignment that forbids any, ``{"name", "scope", "actions", "certain"}``; not ``certain``
    where a group is named whose members are not known here, or the principal itself is not known.
    """
    found = []
    for item in assignments:
        properties = item.get("properties") or {}
        at = str(properties.get("scope") or str(item.get("id", "")).partition("/providers/Microsoft.Authorization/")[0])
        bound = _concerned(properties, who)
        if bound == "no" or properties.get("doNotApplyToChildScopes") or not _within(scope, at):
            continue
        actions = [action for action in needed if granted(action, properties.get("permissions") or [])]
        if actions:
            found.append({"name": str(properties.get("denyAssignmentName") or item.get("name", "")), "scope": at, "actions": actions,
                          "certain": bound == "yes"})
    return found


def _concerned(properties: dict[str, Any], who: set[str]) -> str:
    """``yes``, ``no`` or ``perhaps``: does a deny assignment bind these ids?"""
    def named(key: str) -> tuple[set[str], bool]:
        entries = properties.get(key) or []
        return {str(one.get("id", "")).lower() for one in entries}, any(
            str(one.get("type", "")).lower() == "group" for one in entries)

    bound, groups = named("principals")
    exempt, exempt_groups = named("excludePrincipals")
    if who & exempt:
        return "no"
    sure = bool({EVERYONE} & bound or who & bound)
    if not sure and who and not groups:
        return "no"
    return "yes" if sure and who and not exempt_groups else "perhaps"


def _within(scope: str, at: str) -> bool:
    one, other = scope.lower().rstrip("/"), at.lower().rstrip("/")
    return one == other or one.startswith(other + "/")
