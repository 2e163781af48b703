# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects for comparison and for people: what differs, without what the server keeps and without secret values. Pure."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from typing import Any

Object = dict[str, Any]

VOLATILE = ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink")
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


#: Of this process: a plain digest would let anybody who sees a diff try out weak secrets.
_KEY = secrets.token_bytes(32)


def mask(value: str) -> str:
    """A mark by which a change of a secret value is visible within one run, and the value is not."""
    return f"<hidden:{hmac.new(_KEY, value.encode(), hashlib.sha256).hexdigest()[:16]}>"


def cleaned(obj: Object | None) -> Object:
    """An object without what the server keeps; Secret values as marks."""
    if obj is None:
        return {}
    shown = {key: value for key, value in obj.items() if key != "status"}
    shown["metadata"] = {key: value for key, value in obj.get("metadata", {}).items() if key not in VOLATILE}
    if obj.get("kind") == "Secret":
        for field in ("data", "stringData"):
            if isinstance(shown.get(field), dict):
                shown[field] = {key: mask(str(value)) for key, value in shown[field].items()}
        annotations = shown["metadata"].get("annotations") or {}
        if LAST_APPLIED in annotations:
            shown["metadata"]["annotations"] = {**annotations, LAST_APPLIED: mask(str(annotations[LAST_APPLIED]))}
    return shown


def owned(obj: Object, manager: str) -> Any:
    """The fields that a manager has applied, as the server keeps them."""
    for item in obj.get("metadata", {}).get("managedFields") or []:
        if item.get("manager") == manager and item.get("operation") == "Apply" and not item.get("subresource"):
            return item.get("fieldsV1")
    return None


def same(before: Object, after: Object, manager: str) -> bool:
    """Did an apply change nothing: neither content nor what ``manager`` owns? (Status and other writers do not count.)"""
    return cleaned(before) == cleaned(after) and owned(before, manager) == owned(after, manager)


def difference(before: Object | None, after: Object | None, name: str) -> dict[str, Any]:
    """An Ansible diff of one object; None: not there."""
    def text(obj: Object | None) -> str:
        return json.dumps(cleaned(obj), indent=2, sort_keys=True) + "\n" if obj else ""

    return {"before": text(before), "after": text(after), "before_header": name, "after_header": name}
