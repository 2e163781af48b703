# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: trustee_objects
short_description: The names of Trustee's objects
version_added: 0.1.0
author:
  - The confidential.containers contributors (@confidential-containers)
description:
  - What the objects on the hub are called for a pair of releases and a kind of deployment.
  - With a TrusteeConfig the operator fixes the names, and keeps the objects that exist.
options:
  _input:
    description: A pair of releases, such as V(1.11/1.0).
    type: str
    required: true
  kind:
    description: The kind of deployment. V(auto) takes the release's own.
    type: str
    choices: [auto, KbsConfig, TrusteeConfig]
    default: auto
"""

EXAMPLES = r"""
- name: Show the config map of the KBS
  ansible.builtin.debug:
    msg: "{{ ('1.13/1.2' | confidential.containers.trustee_objects).config_map }}"
"""

RETURN = r"""
_value:
  description:
    - C(kind), and the names C(kbsconfig), C(config_map), C(auth_secret), C(reference_values), C(attestation_policy),
      C(resource_policy), C(https_key), C(https_certificate), C(signer_key), C(signer_certificate); with a TrusteeConfig also
      C(trusteeconfig), C(https_tls), C(signer_tls), C(sample_secret).
  type: dict
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.confidential.containers.plugins.module_utils import releases, trustee
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError


def trustee_objects(value: Any, kind: str = "auto") -> Any:
    """The names of Trustee's objects."""
    try:
        return trustee.object_names(releases.parse(value).trustee, kind)
    except CocoError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filter trustee_objects."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"trustee_objects": trustee_objects}
