#!/usr/bin/python
# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: preflight_check
short_description: Judge whether a cluster and an inventory are fit for the fourteen steps
version_added: "0.1.0"
description:
  - Takes what M(confidential.containers.cluster_info) found and the inventory's choices, fails with every error at once and
    reports insecure choices as warnings.
author:
  - The confidential.containers contributors (@confidential-containers)
options:
  release:
    description:
      - The pair of OpenShift sandboxed containers and Trustee releases, such as V(1.11/1.0).
    type: str
    required: true
  zones:
    description:
      - What the cluster is for.
    type: list
    elements: str
    choices: [hub, spoke]
    required: true
  cluster:
    description:
      - RV(confidential.containers.cluster_info#module:cluster).
    type: dict
    required: true
  choices:
    description:
      - The inventory's choices that can be judged beforehand.
    type: dict
    default: {}
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
"""

EXAMPLES = r"""
- name: Look at the cluster
  confidential.containers.cluster_info:
    release: "1.11/1.0"
  register: found

- name: Judge what was seen
  confidential.containers.preflight_check:
    release: "1.11/1.0"
    zones: [hub, spoke]
    cluster: "{{ found.cluster }}"
"""

RETURN = r"""
findings:
  description: Errors, warnings and notes; each with C(severity), C(code), C(message) and C(hint).
  returned: always
  type: list
  elements: dict
hint:
  description: What to do.
  returned: failure
  type: str
"""

from ansible_collections.confidential.containers.plugins.module_utils.actions.preflight_check import (
    ARGUMENT_SPEC,
    SPEC_KWARGS,
    run,
)
from ansible_collections.confidential.containers.plugins.module_utils.arguments import main as work


def main() -> None:
    work(ARGUMENT_SPEC, run, **SPEC_KWARGS)


if __name__ == "__main__":
    main()
