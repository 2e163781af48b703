# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: resource_policy
short_description: The resource policy of a release
version_added: 0.1.0
author:
  - The confidential.containers contributors (@confidential-containers)
description:
  - Gives resources only for evidence all of whose parts are affirming.
options:
  _input:
    description: A pair of releases, such as V(1.11/1.0).
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Render the policy
  ansible.builtin.debug:
    msg: "{{ '1.11/1.0' | confidential.containers.resource_policy }}"
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


def resource_policy(value: Any) -> Any:
    """The resource policy of a release."""
    try:
        return policy.resource_policy(releases.parse(value).trustee)
    except CocoError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filter resource_policy."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"resource_policy": resource_policy}
