# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: resource_policy
short_description: The resource policy of a release
version_added: 0.1.0
positional: documents, verification_secret
author:
  - The confidential.containers contributors (@confidential-containers)
description:
  - Gives resources only for evidence all of whose parts are affirming.
  - An initdata document may open only some Secrets, so that the weakest one does not open all of them.
options:
  _input:
    description: A pair of releases, such as V(1.11/1.0).
    type: str
    required: true
  documents:
    description:
      - The initdata documents that are accepted, each with C(name), C(pcr8) and C(resources), the names of the Secrets that it
        opens. One without C(resources) opens all, but the one named C(verification) only O(verification_secret).
    type: list
    elements: dict
    default: []
  verification_secret:
    description: The name of the Secret with the verification resource.
    type: str
    default: coco-verification
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


def resource_policy(value: Any, documents: Any = (), verification_secret: str = "coco-verification") -> Any:
    """The resource policy of a release, with the limits of the initdata documents."""
    try:
        return policy.resource_policy(releases.parse(value).trustee, policy.limits(list(documents), verification_secret))
    except CocoError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filter resource_policy."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"resource_policy": resource_policy}
