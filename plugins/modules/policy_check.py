#!/usr/bin/python
# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: policy_check
short_description: Check policies of a KBS and of the kata agent before they are used
version_added: "0.1.0"
description:
  - Looks for faults of attestation, resource, kata agent and image policies that the release would not report, or would
    report only by refusing every pod.
  - Where the Python library C(regorus) is installed, attestation and resource policies are parsed, and O(cases) evaluated.
author:
  - The confidential.containers contributors (@confidential-containers)
requirements:
  - regorus (optional; without it nothing is evaluated)
options:
  release:
    description: The pair of OpenShift sandboxed containers and Trustee releases, such as V(1.11/1.0).
    type: str
    required: true
  policies:
    description: The policies to be checked.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The policy's name in findings and O(cases).
        type: str
        required: true
      kind:
        description: What the policy decides about.
        type: str
        choices: [attestation, resource, agent, image]
        required: true
      text:
        description: The policy (Rego, or JSON for V(image)).
        type: str
        required: true
  cases:
    description: Inputs with the answers that are expected.
    type: list
    elements: dict
    default: []
    aliases: [inputs]
    suboptions:
      policy:
        description: The name of one of O(policies).
        type: str
        required: true
      name:
        description: The case's name in the results.
        type: str
        default: ""
      rule:
        description: The rule whose value is asked for.
        type: str
        default: allow
      input:
        description: The input document.
        type: dict
        default: {}
      data:
        description: The data document; reference values lie under C(reference).
        type: dict
        default: {}
      expect:
        description: The value that is expected.
        type: raw
  fail:
    description: Whether findings with severity C(error) fail the task.
    type: bool
    default: true
attributes:
  check_mode:
    description: Can run in check mode and say what would change.
    support: full
    details: The module only reads its options.
  diff_mode:
    description: Returns what has changed.
    support: none
    details: The module changes nothing.
"""

EXAMPLES = r"""
- name: Check the policies of the KBS
  confidential.containers.policy_check:
    release: "1.11/1.0"
    policies:
      - name: resource
        kind: resource
        text: "{{ lookup('ansible.builtin.file', 'policy.rego') }}"
    cases:
      - policy: resource
        name: no evidence, no resource
        input: {}
        expect: false
"""

RETURN = r"""
findings:
  description: What is wrong; each with C(policy), C(severity), C(code), C(message) and C(hint).
  returned: always
  type: list
  elements: dict
evaluated:
  description: Whether an engine was at hand.
  returned: success
  type: bool
results:
  description: Each of O(cases) with C(policy), C(name), C(value), C(expect) and C(ok); empty where nothing is evaluated.
  returned: success
  type: list
  elements: dict
"""

from ansible_collections.confidential.containers.plugins.module_utils.actions.policy_check import (
    ARGUMENT_SPEC,
    SPEC_KWARGS,
    run,
)
from ansible_collections.confidential.containers.plugins.module_utils.arguments import main as work


def main() -> None:
    work(ARGUMENT_SPEC, run, **SPEC_KWARGS)


if __name__ == "__main__":
    main()
