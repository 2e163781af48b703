# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: attestation_policy
short_description: The attestation policy of a release
version_added: 0.1.0
author:
  - The confidential.containers contributors (@confidential-containers)
description:
  - The production CPU policy for Azure, with a default for every claim.
options:
  _input:
    description: A pair of releases, such as V(1.11/1.0).
    type: str
    required: true
  tees:
    description: Of V(snp) and V(tdx).
    type: list
    elements: str
    default: [snp]
"""

EXAMPLES = r"""
- name: Render the policy
  ansible.builtin.debug:
    msg: "{{ '1.11/1.0' | confidential.containers.attestation_policy }}"
"""

RETURN = r"""
_value:
  description: The text of the policy in Rego.
  type: str
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.confidential.containers.plugins.module_utils import policy, releases
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError


def attestation_policy(value: Any, tees: list[str] | None = None) -> Any:
    """The attestation policy of a release."""
    try:
        return policy.attestation_policy(releases.parse(value).trustee, tees)
    except CocoError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filter attestation_policy."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"attestation_policy": attestation_policy}
