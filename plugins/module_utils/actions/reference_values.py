# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The work of the module reference_values."""

from __future__ import annotations

import datetime
import json
from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils import measurements, releases, rvps
from ansible_collections.confidential.containers.plugins.module_utils.context import Context
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

ARGUMENT_SPEC: dict[str, Any] = {
    "release": {"type": "str", "required": True},
    "measurements": {"type": "raw", "required": True},
    "initdata": {"type": "list", "elements": "dict", "default": []},
    "extra": {"type": "dict", "default": {}},
    "tee": {"type": "str", "choices": ["snp", "tdx"], "default": "snp"},
    "expiration": {"type": "str"},
    "validity_days": {"type": "int", "default": 365},
    "renew_before_days": {"type": "int", "default": 60},
    "current": {"type": "dict", "default": {}},
    "keep_current": {"type": "bool", "default": False},
}
SPEC_KWARGS: dict[str, Any] = {}


def run(params: dict[str, Any], context: Context) -> dict[str, Any]:
    """Values from measurements and initdata, in the release's format, with an expiration that stays while it can."""
    trustee = releases.parse(params["release"]).trustee
    now = datetime.datetime.now(datetime.timezone.utc)
    image = measurements.parse_measurements(_document(params["measurements"]), params["tee"])
    pcr8s = [str(item["pcr8"]) for item in params["initdata"]]
    values = rvps.reference_values(image, pcr8s, params["extra"], params["tee"])
    before: dict[str, dict[str, Any]] = {}
    if params["current"]:
        try:
            before = rvps.parse(params["current"], trustee)
        except CocoError as error:
            context.warn(str(error))
    if params["keep_current"]:
        values = rvps.merge(before, values, [f"{params['tee']}_pcr08"])
    expiration = params["expiration"] or _kept(before, values, now, params["renew_before_days"]) \
        or rvps.timestamp(now + datetime.timedelta(days=params["validity_days"]))
    data = rvps.render(values, expiration, trustee)
    parsed = rvps.parse(data, trustee) if trustee.rvps_format != "empty" else {}
    findings = rvps.findings(parsed, trustee, now, 0)
    errors = [finding for finding in findings if finding["severity"] == "error"]
    if errors:
        raise CocoError("The reference values would not work", "; ".join(e["message"] for e in errors),
                        " ".join(dict.fromkeys(e["hint"] for e in errors)), findings=findings)
    old = {name: item["value"] for name, item in before.items()}
    return {"changed": data != params["current"], "data": data, "values": values, "expiration": expiration,
            "changes": {"added": sorted(n for n in values if old.get(n) != values[n]),
                        "removed": sorted(n for n in old if n not in values)}, "findings": findings}


def _document(given: Any) -> Any:
    if not isinstance(given, str):
        return given
    try:
        with open(given, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError) as error:
        raise CocoError("The measurements of the pod VM image cannot be read", f"{given}: {error}",
                        "Set coco_measurements to the path of the image's measurements.json, or to its content.") from error


def _kept(before: dict[str, dict[str, Any]], values: dict[str, Any], now: datetime.datetime, days: int) -> str:
    """The expiration in use, where the values are the same and it is far enough ahead."""
    if {name: item["value"] for name, item in before.items()} != values:
        return ""
    used = {item["expiration"] for item in before.values()}
    if len(used) != 1:
        return ""
    (expiration,) = used
    try:
        ahead = rvps.parse_expiration(expiration) > now + datetime.timedelta(days=days)
    except CocoError:
        return ""
    return expiration if ahead else ""
