# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: azure_subnet
short_description: The subnet of a cluster's worker nodes on Azure
version_added: 0.1.0
author:
  - The confidential.containers contributors (@confidential-containers)
description:
  - The id of the subnet by the cluster's own cloud configuration. Empty when that names none.
options:
  _input:
    description: The result C(cluster) of M(confidential.containers.cluster_info), gathered with C(platform) and C(cloud_conf).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the subnet
  ansible.builtin.debug:
    msg: "{{ info.cluster | confidential.containers.azure_subnet }}"
"""

RETURN = r"""
_value:
  description: The id of the subnet.
  type: str
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils import peerpods


def azure_subnet(value: Any) -> Any:
    """The id of the subnet of the worker nodes."""
    return peerpods.worker_subnet(value.get("cloud_conf") or {}, value.get("resource_group") or "")


class FilterModule:
    """The filter azure_subnet."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"azure_subnet": azure_subnet}
