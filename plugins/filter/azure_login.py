# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: azure_login
short_description: The login to Azure that an inventory means
version_added: 0.1.0
author:
  - The confidential.containers contributors (@confidential-containers)
description:
  - What the inventory gives, else the environment of the controller (E(AZURE_CLIENT_ID), E(ANSIBLE_AZURE_AUTH_SOURCE)), else what the
    operators use for pod VMs.
options:
  _input:
    description: Options of the Azure modules, such as C(client_id), C(secret), C(auth_source), C(azure_ca_cert).
    type: dict
    required: true
  credentials:
    description: Content of C(peer-pods-secret), such as C(AZURE_CLIENT_ID).
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: See whether there is a login
  ansible.builtin.debug:
    msg: "{{ (coco_azure_login | default({}) | confidential.containers.azure_login(coco_cloud_credentials | default({}))).at_hand }}"
"""

RETURN = r"""
_value:
  description:
    - C(options), for the Azure modules; C(at_hand), whether there is a login; C(pod_vms), whether it is that of the pod VMs.
    - What the environment says is not among the options. The modules read it themselves.
  type: dict
"""

import os
from collections.abc import Callable
from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils import azure_options


def azure_login(value: Any, credentials: Any = None) -> Any:
    """The login to Azure that an inventory means."""
    return azure_options.login(value, credentials or {}, os.environ)


class FilterModule:
    """The filter azure_login."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"azure_login": azure_login}
