#!/usr/bin/python
# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: azure_capacity
short_description: Judge whether an Azure region can run pod VMs of a size
version_added: "0.1.0"
description:
  - Compares size, zones, kind of confidential computing, restrictions of the subscription, and the vCPU quotas of the size's
    family and of the whole region with what a number of pods needs. Fails with every error at once and names the nearest
    sizes that would do.
author:
  - The confidential.containers contributors (@confidential-containers)
options:
  region:
    description:
      - The name of the region, such as V(eastus); not its display name.
    type: str
    required: true
  size:
    description:
      - The size of the pod VMs, such as V(Standard_DC2as_v5).
    type: str
    required: true
  zones:
    description:
      - The zones in each of which the size must be available. Empty asks for any.
    type: list
    elements: str
    default: []
  tee:
    description:
      - The kind of confidential computing that the size must have; V(none) takes any size.
    type: str
    choices: [snp, tdx, none]
    default: snp
  pods:
    description:
      - The number of pods, each in a virtual machine of its own, that run at the same time.
    type: int
    default: 1
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
  - module: confidential.containers.azure_peerpods_info
"""

EXAMPLES = r"""
- name: Is there room for ten confidential pods
  confidential.containers.azure_capacity:
    region: eastus
    size: Standard_DC2as_v5
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
alternatives:
  description: The names of the nearest other sizes of the same kind that would do.
  returned: always
  type: list
  elements: str
size:
  description: What Azure says of the size; C(name), C(family), C(vcpus), C(confidential), C(zones), C(restricted_zones).
  returned: success
  type: dict
"""

from ansible_collections.confidential.containers.plugins.module_utils.actions.azure_capacity import (
    ARGUMENT_SPEC,
    SPEC_KWARGS,
    run,
)
from ansible_collections.confidential.containers.plugins.module_utils.arguments import main as work


def main() -> None:
    work(ARGUMENT_SPEC, run, **SPEC_KWARGS)


if __name__ == "__main__":
    main()
