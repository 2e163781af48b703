# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: initdata_by_name
short_description: Results of a loop over initdata documents, by document name
version_added: 0.1.0
positional: documents
author:
  - The confidential.containers contributors (@confidential-containers)
description:
  - Turns the registered results of M(confidential.containers.initdata_build) in a loop over names into a map.
options:
  _input:
    description: The registered C(results).
    type: list
    elements: dict
    required: true
  documents:
    description: The map of documents that the loop went over; each one's C(resources) are kept.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Show the documents
  ansible.builtin.debug:
    msg: "{{ __built.results | confidential.containers.initdata_by_name }}"
"""

RETURN = r"""
_value:
  description: Each document by name.
  type: dict
"""

from collections.abc import Callable
from typing import Any

KEPT = ("toml", "encoded", "encoding", "algorithm", "digest", "pcr8", "host_data", "mr_config_id", "annotation")


def initdata_by_name(value: Any, documents: Any = None) -> Any:
    """Loop results by item, with the document's name and the Secrets that it opens (None: all)."""
    return {str(item["item"]): {"name": str(item["item"]), "resources": ((documents or {}).get(item["item"]) or {}).get("resources"),
                                **{key: found for key, found in item.items() if key in KEPT}} for item in value}


class FilterModule:
    """The filter initdata_by_name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"initdata_by_name": initdata_by_name}
