# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: kbs_config
short_description: The data of the KBS configuration map
version_added: 0.1.0
author:
  - The confidential.containers contributors (@confidential-containers)
description:
  - Renders the configuration of the KBS in the format of a Trustee release.
options:
  _input:
    description: A pair of releases, such as V(1.11/1.0).
    type: str
    required: true
  options:
    description: Choices in place of the defaults, such as C(insecure_http).
    type: dict
    default: {}
  present:
    description: The data of the config map in the cluster, where the operator adds its TLS settings (TrusteeConfig). They are kept.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Render the configuration
  ansible.builtin.debug:
    msg: "{{ '1.11/1.0' | confidential.containers.kbs_config }}"
"""

RETURN = r"""
_value:
  description: The data of the config map.
  type: dict
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.confidential.containers.plugins.module_utils import kbs_config as core
from ansible_collections.confidential.containers.plugins.module_utils import releases
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError


def kbs_config(value: Any, options: dict[str, Any] | None = None, present: dict[str, str] | None = None) -> Any:
    """The config map data of the KBS configuration."""
    try:
        return core.config_map_data(releases.parse(value).trustee, options, present)
    except CocoError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filter kbs_config."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"kbs_config": kbs_config}
