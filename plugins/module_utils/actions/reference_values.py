# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The work of the module reference_values."""

from __future__ import annotations

import datetime
import json
from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils import measurements, releases, rvps
from ansible_collections.confidential.containers.plugins.module_utils.arguments import cluster_options
from ansible_collections.confidential.containers.plugins.module_utils.cluster import (
    ApiFailure,
    Cluster,
    Object,
    Unreachable,
    explain,
)
from ansible_collections.confidential.containers.plugins.module_utils.cluster_diff import difference
from ansible_collections.confidential.containers.plugins.module_utils.context import Context
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

#: How often a write is tried again because somebody else wrote in between.
ATTEMPTS = 10

ARGUMENT_SPEC: dict[str, Any] = {
    "release": {"type": "str", "required": True},
    "spokes": {"type": "dict", "default": {}},
    "remove": {"type": "list", "elements": "str", "default": []},
    "known": {"type": "list", "elements": "str", "default": []},
    "extra": {"type": "dict", "default": {}},
    "keep_old": {"type": "bool", "default": False},
    "expiration": {"type": "str"},
    "validity_days": {"type": "int", "default": 365},
    "renew_before_days": {"type": "int", "default": 60},
    "namespace": {"type": "str", "default": "trustee-operator-system"},
    "config_map": {"type": "str"},
    **cluster_options(),
}
SPEC_KWARGS: dict[str, Any] = {}


def run(params: dict[str, Any], context: Context) -> dict[str, Any]:
    """Compute the values; with ``config_map`` merge them into it, by the spokes' names and under an optimistic lock."""
    trustee = releases.parse(params["release"]).trustee
    parts = {str(name): _part(str(name), spoke) for name, spoke in params["spokes"].items()}
    if not params["config_map"]:
        return {"changed": False, **_outcome(params, context, trustee, parts, None)}
    cluster = Cluster.from_params(params)
    try:
        return _store(cluster, params, context, trustee, parts)
    except (ApiFailure, Unreachable) as error:
        raise explain(f"The config map {params['config_map']} was not handled", error, cluster.server) from error


def _store(cluster: Cluster, params: dict[str, Any], context: Context, trustee: releases.TrusteeRelease,
           parts: dict[str, rvps.Part]) -> dict[str, Any]:
    """Read, merge and write, again where somebody else wrote in between."""
    name = {"name": params["config_map"], "namespace": params["namespace"]}
    for attempt in range(ATTEMPTS):
        current = cluster.get("v1", "ConfigMap", name["name"], name["namespace"])
        outcome = _outcome(params, context, trustee, parts, current)
        after = outcome["object"]
        found: Object = current or {}
        before: dict[str, Any] = {"data": found.get("data"), "annotations": found.get("metadata", {}).get("annotations") or {}}
        wanted = after["metadata"]["annotations"]
        if before["data"] == after["data"] and all(before["annotations"].get(key) == text for key, text in wanted.items()):
            return {"changed": False, **outcome}
        result = {"changed": True, **outcome}
        if context.diff:
            shown = {**after, "metadata": {**(current or after)["metadata"], **after["metadata"]}}
            result["diff"] = [difference(current, shown, f"ConfigMap {name['namespace']}/{name['name']}")]
        try:
            _write(cluster, current, after, context.check_mode)
        except ApiFailure as error:
            if context.check_mode and error.status == 404:
                return result
            if error.status != 409 or attempt == ATTEMPTS - 1:
                raise
            context.progress(f"ConfigMap {name['namespace']}/{name['name']}: somebody else wrote it; merging anew")
            continue
        return result
    raise AssertionError("unreachable")


def _write(cluster: Cluster, current: Object | None, after: Object, dry_run: bool) -> None:
    """Create, or replace data and annotations of exactly the version that was read."""
    if current is None:
        cluster.create(after, dry_run=dry_run)
        return
    gone = {key: None for key in (current.get("data") or {}) if key not in after["data"]}
    version = current["metadata"]["resourceVersion"]
    cluster.patch(after, {"metadata": {"resourceVersion": version, "annotations": after["metadata"]["annotations"]},
                          "data": {**gone, **after["data"]}}, dry_run=dry_run)


def _outcome(params: dict[str, Any], context: Context, trustee: releases.TrusteeRelease, parts: dict[str, rvps.Part],
             current: Object | None) -> dict[str, Any]:
    """What the config map holds afterwards. The expiration in use stays while the values do and it is far enough ahead."""
    now = datetime.datetime.now(datetime.timezone.utc)
    annotations = (current or {}).get("metadata", {}).get("annotations") or {}
    held: dict[str, dict[str, Any]] = {}
    if (current or {}).get("data"):
        try:
            held = rvps.parse((current or {})["data"], trustee)
        except CocoError as error:
            context.warn(str(error))
    known = rvps.read_parts(annotations.get(rvps.SPOKES))
    together = rvps.update_parts(known, parts, params["keep_old"], params["remove"])
    values = rvps.combine(together, params["extra"])
    if params["keep_old"]:
        values = rvps.keep(values, held)
    expiration = params["expiration"] or _kept(held, values, now, params["renew_before_days"]) \
        or rvps.timestamp(now + datetime.timedelta(days=params["validity_days"]))
    data = rvps.render(values, expiration, trustee)
    parsed = rvps.parse(data, trustee) if trustee.rvps_format != "empty" else {}
    findings = rvps.findings(parsed, trustee, now, 0)
    errors = [finding for finding in findings if finding["severity"] == "error"]
    if errors:
        raise CocoError("The reference values would not work", "; ".join(e["message"] for e in errors),
                        " ".join(dict.fromkeys(e["hint"] for e in errors)), findings=findings)
    others = sorted(set(together) - set(parts))
    gone = [name for name in others if name not in params["known"]]
    if params["known"] and gone:
        context.warn(f"the KBS still accepts what {', '.join(gone)} ran, which the inventory no longer names · Where a spoke is gone "
                     "for good: playbooks/spoke_remove.yml -e coco_spoke=<name>.")
    old = {name: item["value"] for name, item in held.items()}
    wanted = {rvps.SPOKES: json.dumps(together, sort_keys=True)}
    if trustee.migration_annotation:
        wanted[trustee.migration_annotation] = trustee.migration_value
    return {
        "data": data, "values": values, "spokes": together, "others": others,
        "expiration": expiration, "findings": findings,
        "changes": {"added": sorted(n for n in values if old.get(n) != values[n]),
                    "removed": sorted(n for n in old if n not in values)},
        "object": {"apiVersion": "v1", "kind": "ConfigMap", "data": data,
                   "metadata": {"name": params["config_map"], "namespace": params["namespace"], "annotations": wanted}},
    }


def _part(name: str, spoke: Any) -> rvps.Part:
    if not isinstance(spoke, dict) or set(spoke) - {"measurements", "initdata", "tee"}:
        raise CocoError(f"The reference values of {name} cannot be computed", f"it is given as {spoke!r}",
                        "Give a map with measurements, initdata (documents with pcr8) and perhaps tee.")
    tee = str(spoke.get("tee") or "snp")
    image = measurements.parse_measurements(_document(spoke.get("measurements")), tee)
    return rvps.part(image, [str(item["pcr8"]) for item in spoke.get("initdata") or []], tee)


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
