# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: release
short_description: What a pair of releases wants
version_added: 0.1.0
author:
  - The confidential.containers contributors (@confidential-containers)
description:
  - The row of the release table for a pair, as plain data for templates.
options:
  _input:
    description: A pair of releases, such as V(1.11/1.0).
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show the CSV of the Trustee operator
  ansible.builtin.debug:
    msg: "{{ ('1.11/1.0' | confidential.containers.release).trustee.csv }}"
"""

RETURN = r"""
_value:
  description: The keys C(name), C(osc) and C(trustee).
  type: dict
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.confidential.containers.plugins.module_utils import releases
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError


def release(value: Any) -> Any:
    """The facts of a pair of releases."""
    try:
        return releases.facts(releases.parse(value))
    except CocoError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filter release."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"release": release}
