# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: kata_agent_policy
short_description: The kata agent policy of a pod VM
version_added: 0.1.0
author:
  - The confidential.containers contributors (@confidential-containers)
description:
  - Denies exec, logs and a change of the policy unless asked for.
options:
  _input:
    description: "Choices: C(exec), C(logs), C(set_policy), C(exec_allowlist)."
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Render a strict policy
  ansible.builtin.debug:
    msg: "{{ {} | confidential.containers.kata_agent_policy }}"
"""

RETURN = r"""
_value:
  description: The text of the policy in Rego.
  type: str
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.confidential.containers.plugins.module_utils import kata_policy
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError


def kata_agent_policy(value: Any) -> Any:
    """The kata agent policy for these choices."""
    try:
        return kata_policy.render(value)
    except CocoError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filter kata_agent_policy."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"kata_agent_policy": kata_agent_policy}
