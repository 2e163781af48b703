# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The work of the module preflight_check."""

from __future__ import annotations

import datetime
from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils import administration, preflight, releases
from ansible_collections.confidential.containers.plugins.module_utils.context import Context
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

ARGUMENT_SPEC: dict[str, Any] = {
    "release": {"type": "str", "required": True},
    "zones": {"type": "list", "elements": "str", "choices": ["hub", "spoke"], "required": True},
    "cluster": {"type": "dict", "required": True},
    "choices": {"type": "dict", "default": {}},
}
SPEC_KWARGS: dict[str, Any] = {}


def run(params: dict[str, Any], context: Context) -> dict[str, Any]:
    """Judge; fail with every error at once, report warnings."""
    found = preflight.judge(releases.parse(params["release"]), params["zones"], params["cluster"], params["choices"])
    found += _existing(params["choices"])
    errors = [finding for finding in found if finding["severity"] == "error"]
    for finding in found:
        if finding["severity"] == "warning":
            context.warn(f"{finding['message']} · {finding['hint']}")
        elif finding["severity"] == "info":
            context.progress(finding["message"])
    if errors:
        raise CocoError(f"The cluster is not ready for release {params['release']}", "; ".join(e["message"] for e in errors),
                        " ".join(dict.fromkeys(e["hint"] for e in errors)), findings=found)
    return {"changed": False, "findings": found}


def _existing(choices: dict[str, Any]) -> list[administration.Finding]:
    """Of a Trustee that others run: its URL and its certificate authority."""
    if not choices.get("kbs_url"):
        return []
    now = datetime.datetime.now(datetime.timezone.utc)
    return [*administration.check_url(choices["kbs_url"], bool(choices.get("kbs_insecure_http"))),
            *administration.check_authority(choices.get("kbs_ca_certificate") or "", now)]
