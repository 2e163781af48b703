# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: image_policies
short_description: Image policies for the security-policy resource
version_added: 0.1.0
author:
  - The confidential.containers contributors (@confidential-containers)
description:
  - Every flavour (insecure, signed, reject) as a containers-policy document.
options:
  _input:
    description: Signed scopes, registry scope to C(kbs:///) URI of the public key.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Render the documents
  ansible.builtin.debug:
    msg: "{{ {'quay.io/team': 'kbs:///default/cosign/key'} | confidential.containers.image_policies }}"
"""

RETURN = r"""
_value:
  description: JSON text by flavour.
  type: dict
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.confidential.containers.plugins.module_utils import policy
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError


def image_policies(value: Any) -> Any:
    """Every image policy as JSON text."""
    try:
        return policy.image_policies(value)
    except CocoError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filter image_policies."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"image_policies": image_policies}
