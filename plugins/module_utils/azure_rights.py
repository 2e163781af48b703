# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which rights at Azure the steps need, and which of them are missing. Pure.

Rule: an action is granted when one entry of the permissions list names it in ``actions`` and not in its ``notActions``; names are
compared without regard to case, ``*`` stands for any text (Azure RBAC, "Understand Azure role definitions").
"""

from __future__ import annotations

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
