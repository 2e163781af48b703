#!/usr/bin/python
# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: peerpods_cm
short_description: Merge the cloud settings of pod VMs into peer-pods-cm
version_added: "0.1.0"
description:
  - Computes the settings from the cluster's own cloud configuration and what is given, checks them, and merges them into the
    shared config map. What is given is written; defaults and discovered values only where there is nothing yet, so what
    others wrote stays.
  - Restarts cloud-api-adaptor, whose environment is frozen, only when it must see the change and only in releases whose
    operator does not do it. A restart that a killed run did not get to is made up for.
author:
  - The confidential.containers contributors (@confidential-containers)
options:
  release:
    description:
      - The pair of OpenShift sandboxed containers and Trustee releases, such as V(1.11/1.0).
    type: str
    required: true
  namespace:
    description:
      - The namespace of the sandboxed containers operator.
    type: str
    default: openshift-sandboxed-containers-operator
  name:
    description:
      - The name of the config map.
    type: str
    default: peer-pods-cm
  data:
    description:
      - Keys that are given, over what is discovered. C(CLOUD_PROVIDER) is V(azure), V(aws) or V(gcp); without it, the cluster's
        platform says.
    type: dict
    default: {}
  image_id:
    description:
      - The id of a prepared pod VM image, written under the provider's own key. Without it, the operator's image job builds one.
    type: str
  initdata:
    description:
      - The encoded initdata document for pods that name none. One that decodes to the same bytes as what is there is kept.
    type: str
  tee:
    description:
      - The TEE for which sizes are checked.
    type: str
    choices: [snp, tdx]
    default: snp
  restart_caa:
    description:
      - V(never) leaves cloud-api-adaptor alone; new pods then get the old settings until it restarts.
    type: str
    choices: [auto, never]
    default: auto
  wait_timeout:
    description:
      - Seconds for cloud-api-adaptor to be ready again.
    type: int
    default: 600
extends_documentation_fragment:
  - confidential.containers.cluster
attributes:
  check_mode:
    description: Can run in check mode and say what would change.
    support: full
    details: The server dry-runs the write; nothing is restarted.
  diff_mode:
    description: Returns what has changed.
    support: full
    details: The config map before and after.
seealso:
  - module: confidential.containers.initdata_build
  - module: confidential.containers.kataconfig_plan
"""

EXAMPLES = r"""
- name: Give sizes and the initdata document
  confidential.containers.peerpods_cm:
    release: "1.11/1.0"
    data:
      AZURE_INSTANCE_SIZE: Standard_DC2as_v5
      AZURE_INSTANCE_SIZES: Standard_DC2as_v5,Standard_DC4as_v5
    initdata: "{{ built.encoded }}"
"""

RETURN = r"""
data:
  description: The data of the config map afterwards.
  returned: success
  type: dict
changes:
  description: What changes; each with C(key), C(before) and C(after).
  returned: success
  type: list
  elements: dict
restarted:
  description: The pods of cloud-api-adaptor that were restarted.
  returned: success
  type: list
  elements: str
findings:
  description: What is questionable; each with C(severity), C(code), C(message) and C(hint).
  returned: success
  type: list
  elements: dict
hint:
  description: What to do.
  returned: failure
  type: str
"""

from ansible_collections.confidential.containers.plugins.module_utils.actions.peerpods_cm import (
    ARGUMENT_SPEC,
    SPEC_KWARGS,
    run,
)
from ansible_collections.confidential.containers.plugins.module_utils.arguments import main as work


def main() -> None:
    work(ARGUMENT_SPEC, run, **SPEC_KWARGS)


if __name__ == "__main__":
    main()
