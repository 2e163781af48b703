#!/usr/bin/python
# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: reference_values
short_description: Compute the reference values of a KBS, and merge them into its config map by the spokes' names
version_added: "0.1.0"
description:
  - Computes the reference values that a KBS compares evidence with, from the measurements of the pod VM images and from the
    PCR 8 values of initdata documents of each spoke, in the format of the release.
  - With O(config_map), merges them into that config map. An annotation of it tells whose values they are, so the values of
    spokes that this task does not name stay. A write that somebody else overtook is merged anew.
  - An unchanged set keeps its expiration while that is far enough ahead, so that a repeated run changes nothing.
author:
  - The confidential.containers contributors (@confidential-containers)
options:
  release:
    description:
      - The pair of OpenShift sandboxed containers and Trustee releases, such as V(1.11/1.0).
    type: str
    required: true
  spokes:
    description:
      - The spokes whose values these are, by name. Each is a map with C(measurements), the image's C(measurements.json) as a
        path or as its content, with C(initdata), the documents that are accepted (each has the key C(pcr8)), and perhaps with
        C(tee), V(snp) or V(tdx).
      - A PCR in C(measurements) may have a list of values, one for each image version in use.
    type: dict
    default: {}
  remove:
    description:
      - Spokes that lose their values.
    type: list
    elements: str
    default: []
  known:
    description:
      - Every spoke that there should be. With it, values of other spokes are warned about.
    type: list
    elements: str
    default: []
  extra:
    description:
      - More reference values by name. A list is added to one of the same name, anything else replaces it.
    type: dict
    default: {}
  keep_old:
    description:
      - Whether what the KBS accepts now stays accepted beside the new values, as the first half of a roll-over.
    type: bool
    default: false
  expiration:
    description:
      - When the values expire, in the form V(2027-12-31T00:00:00Z). Without it, O(validity_days) decides.
    type: str
  validity_days:
    description:
      - How long new values are valid, in days.
    type: int
    default: 365
  renew_before_days:
    description:
      - An unchanged set is renewed when it expires within so many days.
    type: int
    default: 60
  namespace:
    description:
      - The namespace of the Trustee operator.
    type: str
    default: trustee-operator-system
  config_map:
    description:
      - The config map of the reference values. Without it, the module only computes and needs no cluster.
    type: str
extends_documentation_fragment:
  - confidential.containers.cluster
attributes:
  check_mode:
    description: Can run in check mode and say what would change.
    support: full
    details: The server dry-runs the write.
  diff_mode:
    description: Returns what has changed.
    support: full
    details: The config map before and after.
seealso:
  - module: confidential.containers.initdata_build
  - module: confidential.containers.attestation_check
"""

EXAMPLES = r"""
- name: Accept what the spokes run
  confidential.containers.reference_values:
    release: "1.11/1.0"
    config_map: rvps-reference-values
    spokes:
      spoke1:
        measurements: "{{ playbook_dir }}/measurements.json"
        initdata: ["{{ built }}"]

- name: No longer accept what a removed spoke ran
  confidential.containers.reference_values:
    release: "1.11/1.0"
    config_map: rvps-reference-values
    remove: [spoke2]
"""

RETURN = r"""
data:
  description: The data of the config map.
  returned: success
  type: dict
values:
  description: The reference values by name.
  returned: success
  type: dict
spokes:
  description: Each spoke's own values.
  returned: success
  type: dict
others:
  description: Spokes of the config map that the task does not name.
  returned: success
  type: list
  elements: str
expiration:
  description: When they expire.
  returned: success
  type: str
  sample: "2027-11-24T10:00:00Z"
changes:
  description: Names that are C(added) or have another value than before, and names that are C(removed).
  returned: success
  type: dict
object:
  description: The config map as it is written.
  returned: success
  type: dict
findings:
  description: What is questionable; each with C(severity), C(code), C(message) and C(hint).
  returned: always
  type: list
  elements: dict
hint:
  description: What to do.
  returned: failure
  type: str
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
