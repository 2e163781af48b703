#!/usr/bin/python
# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: azure_peerpods_info
short_description: Find and judge the Azure network of pod VMs
version_added: "0.1.0"
description:
  - Takes region, resource groups, virtual network, subnet and network security group from the cluster's own cloud configuration
    and asks Azure Resource Manager for the rest only; free addresses, delegation, NAT gateway, refused flows, missing rights,
    and a pod VM image where one is given.
  - Works on ARO and on clusters that were installed by yourself. Fails with every error at once. Changes nothing.
author:
  - The confidential.containers contributors (@confidential-containers)
options:
  cluster:
    description:
      - RV(confidential.containers.cluster_info#module:cluster), with the sections C(platform) and C(cloud_conf).
    type: dict
    required: true
  subnet_id:
    description:
      - The full id of the subnet, in place of the workers' own. Excludes O(vnet_name) and O(subnet_name).
    type: str
  vnet_name:
    description:
      - The virtual network, in place of the cluster's own.
    type: str
  subnet_name:
    description:
      - The subnet, in place of the workers' own.
    type: str
  pods:
    description:
      - The number of pods that run at the same time; each needs an address.
    type: int
    default: 1
  image_id:
    description:
      - The id of a prepared pod VM image, a version of a gallery image. It must exist, be replicated to the region, and be for
        confidential virtual machines. Asked for with two requests; without an id with none.
    type: str
  confidential:
    description:
      - Whether the image must be for confidential virtual machines (feature C(SecurityType) of its definition).
    type: bool
    default: true
  rights:
    description:
      - The rights that the credentials must have. V(machines) to make pod VMs and their image, V(subnet) to join the subnet, V(gateway)
        to make a NAT gateway where the subnet has none.
      - With V(machines), deny assignments that forbid it are looked for, too; ARO locks its managed resource group by one.
    type: list
    elements: str
    choices: [machines, subnet, gateway]
    default: [machines, subnet, gateway]
extends_documentation_fragment:
  - confidential.containers.azure
attributes:
  check_mode:
    description: Can run in check mode and say what would change.
    support: full
    details: The module changes nothing.
  diff_mode:
    description: Returns what has changed.
    support: none
    details: The module changes nothing.
seealso:
  - module: confidential.containers.cluster_info
  - module: confidential.containers.azure_capacity
"""

EXAMPLES = r"""
- name: Look at the cluster
  confidential.containers.cluster_info:
    gather: [platform, cloud_conf]
  register: found

- name: Look at its network
  confidential.containers.azure_peerpods_info:
    cluster: "{{ found.cluster }}"
    pods: 10
"""

RETURN = r"""
findings:
  description: Errors, warnings and notes; each with C(severity), C(code), C(message) and C(hint).
  returned: always
  type: list
  elements: dict
calls:
  description: The number of requests that were sent to Azure Resource Manager.
  returned: success
  type: int
credential:
  description: Which credentials were used, without their secret.
  returned: success
  type: str
hint:
  description: What to do.
  returned: failure
  type: str
azure:
  description:
    - What was found; C(subscription), C(tenant), C(region), C(aro), C(resource_group), C(vnet_resource_group), C(vnet), C(subnet),
      C(security_group), C(nat_gateway) (empty, or its C(id), C(public_ips) and C(tags)), C(free_addresses), C(address_prefixes).
  returned: success
  type: dict
peerpods:
  description: The same as keys of C(peer-pods-cm).
  returned: success
  type: dict
candidates:
  description: The names among which to choose, where there are several or the given one is not there.
  returned: failure
  type: list
  elements: str
"""

from ansible_collections.confidential.containers.plugins.module_utils.actions.azure_peerpods_info import (
    ARGUMENT_SPEC,
    SPEC_KWARGS,
    run,
)
from ansible_collections.confidential.containers.plugins.module_utils.arguments import main as work


def main() -> None:
    work(ARGUMENT_SPEC, run, **SPEC_KWARGS)


if __name__ == "__main__":
    main()
