# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: throwaway_ssh_key
short_description: Add the public half of a new ssh key to a map, if it lacks one
version_added: 0.1.0
author:
  - The confidential.containers contributors (@confidential-containers)
description:
  - The cloud-api-adaptor for Azure of OSC 1.8 to 1.10 starts no virtual machine without an ssh key. This makes one and throws
    its private half away, so that nobody can log in with it.
options:
  _input:
    description: A map. One that holds O(key) is returned as it is.
    type: dict
    required: true
  key:
    description: The key of the map.
    type: str
    default: id_rsa.pub
"""

EXAMPLES = r"""
- name: Show a key
  ansible.builtin.debug:
    msg: "{{ {} | confidential.containers.throwaway_ssh_key }}"
"""

RETURN = r"""
_value:
  description: The map with the key.
  type: dict
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.confidential.containers.plugins.module_utils import keys
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError


def throwaway_ssh_key(value: Any, key: str = "id_rsa.pub") -> Any:
    """The map with the public half of a key."""
    try:
        return value if value.get(key) else {**value, key: keys.new_ssh_public_key()}
    except CocoError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filter throwaway_ssh_key."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"throwaway_ssh_key": throwaway_ssh_key}
