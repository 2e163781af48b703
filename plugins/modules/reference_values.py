#!/usr/bin/python
# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: reference_values
short_description: Compute the reference values of a KBS
version_added: "0.1.0"
description:
  - Computes the reference values that a KBS compares evidence with, from the measurements of the pod VM image and from the
    PCR 8 values of initdata documents, in the format of the release.
  - An unchanged set keeps its expiration while that is far enough ahead, so that a repeated run changes nothing.
author:
  - The confidential.containers contributors (@confidential-containers)
options:
  release:
    description: The pair of OpenShift sandboxed containers and Trustee releases, such as V(1.11/1.0).
    type: str
    required: true
  measurements:
    description:
      - The image's C(measurements.json), as a path or as its content.
      - A PCR may have a list of values, one for each image version in use.
    type: raw
    required: true
  initdata:
    description: The initdata documents that are accepted; each has the key C(pcr8).
    type: list
    elements: dict
    default: []
  extra:
    description: More reference values by name. A list is added to one of the same name, anything else replaces it.
    type: dict
    default: {}
  tee:
    description: The trusted execution environment whose values these are; the names begin with it.
    type: str
    choices: [snp, tdx]
    default: snp
  expiration:
    description: When the values expire, in the form V(2027-12-31T00:00:00Z). Without it, O(validity_days) decides.
    type: str
  validity_days:
    description: How long new values are valid, in days.
    type: int
    default: 365
  renew_before_days:
    description: An unchanged set is renewed when it expires within so many days.
    type: int
    default: 60
  current:
    description: The data of the ConfigMap that the cluster holds.
    type: dict
    default: {}
  keep_current:
    description: Whether the PCR 8 values of O(current) stay accepted beside the new ones, as the first half of a roll-over.
    type: bool
    default: false
attributes:
  check_mode:
    description: Can run in check mode and say what would change.
    support: full
    details: The module only computes.
  diff_mode:
    description: Returns what has changed.
    support: none
    details: RV(changes) names what differs from O(current).
seealso:
  - module: confidential.containers.initdata_build
"""

EXAMPLES = r"""
- name: Compute the reference values
  confidential.containers.reference_values:
    release: "1.11/1.0"
    measurements: "{{ playbook_dir }}/measurements.json"
    initdata: ["{{ built }}"]
    current: "{{ hub.cluster.trustee.reference_values | default({}, true) }}"
  register: values
"""

RETURN = r"""
data:
  description: The data of the ConfigMap.
  returned: success
  type: dict
values:
  description: The reference values by name.
  returned: success
  type: dict
expiration:
  description: When they expire.
  returned: success
  type: str
  sample: "2027-11-24T10:00:00Z"
changes:
  description: Names that are C(added) or have another value than O(current), and names that are C(removed).
  returned: success
  type: dict
findings:
  description: What is questionable; each with C(severity), C(code), C(message) and C(hint).
  returned: always
  type: list
  elements: dict
"""

from ansible_collections.confidential.containers.plugins.module_utils.actions.reference_values import (
    ARGUMENT_SPEC,
    SPEC_KWARGS,
    run,
)
from ansible_collections.confidential.containers.plugins.module_utils.arguments import main as work


def main() -> None:
    work(ARGUMENT_SPEC, run, **SPEC_KWARGS)


if __name__ == "__main__":
    main()
