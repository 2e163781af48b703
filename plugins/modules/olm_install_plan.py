#!/usr/bin/python
# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: olm_install_plan
short_description: Approve exactly the pinned operator and wait until it has succeeded
version_added: "0.1.0"
description:
  - Approves the install plan that installs the pinned CSV and nothing else, once the plan asks for approval, and waits until
    that CSV has succeeded for good.
  - A plan that holds another operator too is never approved. Plans for other versions stay unapproved and are reported.
  - An accepted CSV that is already installed is kept. Any other installed CSV is an error.
author:
  - The confidential.containers contributors (@confidential-containers)
options:
  namespace:
    description:
      - The namespace of the Subscription.
    type: str
    required: true
  subscription:
    description:
      - The name of the Subscription.
    type: str
    required: true
  csv:
    description:
      - The pinned CSV.
    type: str
    required: true
  accepted:
    description:
      - CSVs that are kept when they are installed already.
    type: list
    elements: str
    default: []
  ready:
    description:
      - Objects that the operator brings (C(apiVersion), C(kind), C(metadata)), which must be ready once the CSV has succeeded. Not
        awaited in check mode.
    type: list
    elements: dict
    default: []
  wait_timeout:
    description:
      - Seconds until the CSV must have succeeded and O(ready) must be ready.
    type: int
    default: 900
extends_documentation_fragment:
  - confidential.containers.cluster
attributes:
  check_mode:
    description: Can run in check mode and say what would change.
    support: full
    details: Nothing is approved and nothing awaited.
  diff_mode:
    description: Returns what has changed.
    support: none
    details: An approval has no content to compare.
seealso:
  - module: confidential.containers.k8s_objects
  - module: confidential.containers.cluster_info
"""

EXAMPLES = r"""
- name: Install the pinned Trustee operator
  confidential.containers.olm_install_plan:
    namespace: trustee-operator-system
    subscription: trustee-operator
    csv: trustee-operator.v1.0.0
"""

RETURN = r"""
csv:
  description: The CSV that is installed or to be installed.
  returned: success
  type: str
install_plan:
  description: The name of its install plan, or null.
  returned: success
  type: str
approved:
  description: Whether this task approved it.
  returned: success
  type: bool
pending:
  description: CSVs of plans that were left unapproved.
  returned: success
  type: list
  elements: str
findings:
  description: Where the Subscription differs from what is pinned; each with C(severity), C(code), C(message) and C(hint).
  returned: success
  type: list
  elements: dict
hint:
  description: What to do.
  returned: failure
  type: str
"""

from ansible_collections.confidential.containers.plugins.module_utils.actions.olm_install_plan import (
    ARGUMENT_SPEC,
    SPEC_KWARGS,
    run,
)
from ansible_collections.confidential.containers.plugins.module_utils.arguments import main as work


def main() -> None:
    work(ARGUMENT_SPEC, run, **SPEC_KWARGS)


if __name__ == "__main__":
    main()
