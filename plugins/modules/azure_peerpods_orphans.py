#!/usr/bin/python
# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: azure_peerpods_orphans
short_description: Find what peer pods left behind on Azure, and delete it when told to
version_added: "0.1.0"
description:
  - Pod VMs (C(podvm-<pod>-<id>) in the cluster's resource group) with their NICs and disks outlive an adaptor that was killed, and
    the image gallery outlives an operator that was removed too early. They cost money and nothing else removes them.
  - What belongs to a pod or a PeerPod, is young, lies in another subnet or is named otherwise is left alone. Images are orphans
    only where the cluster has no KataConfig.
  - Deleted are machines, then NICs, disks, image versions, definitions, galleries.
author:
  - The confidential.containers contributors (@confidential-containers)
options:
  state:
    description:
      - V(report) changes nothing. V(absent) deletes what O(only) lists, or all with O(delete).
    type: str
    choices: [report, absent]
    default: report
  resource_group:
    description:
      - The resource group of the cluster, where the adaptor makes pod VMs.
    type: str
    required: true
  subnet_id:
    description:
      - The id of the subnet of the cluster's pod VMs. Machines and NICs elsewhere are left alone. Empty for any subnet, which is safe
        only where no other cluster shares the resource group.
    type: str
    default: ''
  namespace:
    description:
      - The namespace of the sandboxed containers operator.
    type: str
    default: openshift-sandboxed-containers-operator
  minutes:
    description:
      - What is younger is left alone.
    type: int
    default: 30
  delete:
    description:
      - Delete all orphans, for O(state=absent).
    type: bool
    default: false
  only:
    description:
      - Ids or names of the orphans to delete, for O(state=absent). What is listed and belongs to a pod is an error.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - confidential.containers.azure
  - confidential.containers.cluster
attributes:
  check_mode:
    description: Can run in check mode and say what would change.
    support: full
    details: Nothing is deleted; C(deleted) says what would be.
  diff_mode:
    description: Returns what has changed.
    support: full
seealso:
  - module: confidential.containers.azure_peerpods_network
"""

EXAMPLES = r"""
- name: Report what was left behind
  confidential.containers.azure_peerpods_orphans:
    resource_group: mycluster-x7k2p-rg
  register: left_behind

- name: Delete one machine with its NIC and disk
  confidential.containers.azure_peerpods_orphans:
    state: absent
    resource_group: mycluster-x7k2p-rg
    only:
      - podvm-web-0a1b2c3d
      - podvm-web-0a1b2c3d-net
      - podvm-web-0a1b2c3d-disk
"""

RETURN = r"""
orphans:
  description: What belongs to no pod any more, in the order of removal; each with C(kind), C(id), C(name) and C(reason).
  returned: success
  type: list
  elements: dict
left:
  description: What is named like a peer pod's resource and left alone, with the reason.
  returned: success
  type: list
  elements: dict
deleted:
  description: Ids of what was deleted, or would be.
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

from ansible_collections.confidential.containers.plugins.module_utils.actions.azure_peerpods_orphans import (
    ARGUMENT_SPEC,
    SPEC_KWARGS,
    run,
)
from ansible_collections.confidential.containers.plugins.module_utils.arguments import main as work


def main() -> None:
    work(ARGUMENT_SPEC, run, **SPEC_KWARGS)


if __name__ == "__main__":
    main()
