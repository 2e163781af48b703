#!/usr/bin/python
# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: azure_peerpods_network
short_description: Give pod VMs on Azure a way out, or take it back
version_added: "0.1.0"
description:
  - Pod VMs have no public IP and stand behind no load balancer. Where their subnet has no egress, a Standard static public IP and
    a NAT gateway are created beside the virtual network, tagged, and attached to the subnet.
  - An egress that is there (a NAT gateway, a default route to a firewall) is kept and reported.
  - The subnet is read whole and written whole, and only if nobody wrote it in between, so that nothing of it is lost.
  - V(absent) detaches and removes only what carries our tags for this cluster.
  - Attaching a NAT gateway changes the address from which the workers of that subnet are seen outside.
author:
  - The confidential.containers contributors (@confidential-containers)
options:
  state:
    description:
      - Whether the way out shall be there.
    type: str
    choices: [present, absent]
    default: present
  infrastructure_name:
    description:
      - The infrastructure name of the cluster, of which names and tags are made.
    type: str
    required: true
  subnet_id:
    description:
      - The id of the subnet of workers and pod VMs. What is created stands beside its virtual network.
    type: str
    required: true
  nat_gateway:
    description:
      - The name of the NAT gateway. Empty for C(<infrastructure name>-coco-nat).
      - With a name given, another NAT gateway at the subnet is an error; without, it is kept.
    type: str
    default: ''
  public_ip:
    description:
      - The name of the public IP. Empty for C(<infrastructure name>-coco-nat-ip).
    type: str
    default: ''
  idle_timeout:
    description:
      - Minutes after which idle connections are closed, 4 to 120.
    type: int
    default: 10
  zones:
    description:
      - The availability zone of what is created, at most one. Empty leaves the choice to Azure.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - confidential.containers.azure
attributes:
  check_mode:
    description: Can run in check mode and say what would change.
    support: full
    details: Nothing is written; C(created) and C(bills) say what would be.
  diff_mode:
    description: Returns what has changed.
    support: full
seealso:
  - module: confidential.containers.azure_peerpods_orphans
  - module: confidential.containers.peerpods_cm
"""

EXAMPLES = r"""
- name: Give the workers' subnet a way out
  confidential.containers.azure_peerpods_network:
    infrastructure_name: mycluster-x7k2p
    subnet_id: "{{ peerpods.AZURE_SUBNET_ID }}"

- name: Take it back
  confidential.containers.azure_peerpods_network:
    state: absent
    infrastructure_name: mycluster-x7k2p
    subnet_id: "{{ peerpods.AZURE_SUBNET_ID }}"
"""

RETURN = r"""
created:
  description: Ids of what was created, or would be.
  returned: success
  type: list
  elements: str
removed:
  description: Ids of what was removed, or would be.
  returned: success
  type: list
  elements: str
attached:
  description: Whether the subnet got the NAT gateway in this run.
  returned: success
  type: bool
kept:
  description: What was found and left as it is, and why.
  returned: success
  type: list
  elements: str
nat_gateway:
  description: The id of the subnet's NAT gateway, empty where there is none.
  returned: success
  type: str
bills:
  description: What Azure bills for what is created.
  returned: success
  type: list
  elements: str
calls:
  description: Number of requests to Azure Resource Manager.
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
"""

from ansible_collections.confidential.containers.plugins.module_utils.actions.azure_peerpods_network import (
    ARGUMENT_SPEC,
    SPEC_KWARGS,
    run,
)
from ansible_collections.confidential.containers.plugins.module_utils.arguments import main as work


def main() -> None:
    work(ARGUMENT_SPEC, run, **SPEC_KWARGS)


if __name__ == "__main__":
    main()
