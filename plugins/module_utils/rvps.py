# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reference values in the formats of the Trustee releases. Pure.

Sources: the RVPS file formats of the KBS sources v0.9 to v0.21 and of the product's operators.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import json
import re
from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError
from ansible_collections.confidential.containers.plugins.module_utils.releases import TrusteeRelease

Finding = dict[str, str]
TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_.-]*$")


def timestamp(moment: datetime.datetime) -> str:
    """A time in the only form the KBS reads."""
    return moment.astimezone(datetime.timezone.utc).strftime(TIME_FORMAT)


def parse_expiration(text: str) -> datetime.datetime:
    """The time of an expiration; :class:`CocoError` for any other form than ``2027-12-31T00:00:00Z``."""
    try:
        return datetime.datetime.strptime(str(text), TIME_FORMAT).replace(tzinfo=datetime.timezone.utc)
    except ValueError:
        raise CocoError(f"The expiration {text!r} of reference values cannot be used",
                        "the KBS reads only the form 2027-12-31T00:00:00Z", "Write it in UTC in that form.") from None


Part = dict[str, list[str]]

#: The annotation of the config map that tells whose values they are: ``{"<spoke>": {"snp_pcr03": [hex], …}}``.
SPOKES = "confidential.containers/spokes"


def part(image: Part, pcr8s: list[str], tee: str = "snp") -> Part:
    """One spoke's reference values: its image's PCRs, and PCR 8 of each of its initdata documents (each once, in order)."""
    values = {name: list(dict.fromkeys(items)) for name, items in image.items()}
    values[f"{tee}_pcr08"] = list(dict.fromkeys(value.lower() for value in pcr8s))
    return values


def combine(parts: dict[str, Part], extra: dict[str, Any] | None = None) -> dict[str, Any]:
    """All reference values by name: those of every spoke together, in the order of the spokes' names, and extras.

    An extra value given as a list is added to one of the same name, any other replaces it. Raises :class:`CocoError`.
    """
    values: dict[str, Any] = {}
    for spoke in sorted(parts):
        for name, items in parts[spoke].items():
            values[name] = list(dict.fromkeys([*values.get(name, []), *items]))
    for name, value in (extra or {}).items():
        if not _NAME.match(str(name)):
            raise CocoError(f"The reference value name {name!r} cannot be used", "it is no name a policy can look up",
                            "Use letters, digits and underscores.")
        if isinstance(value, list) and isinstance(values.get(name), list):
            values[name] = list(dict.fromkeys([*values[name], *value]))
        else:
            values[name] = value
    return values


def read_parts(annotation: str | None) -> dict[str, Part]:
    """The spokes' values from the config map's annotation. Raises :class:`CocoError` where it was edited to something else."""
    try:
        document = json.loads(annotation or "{}")
        return {str(spoke): {str(name): [str(item) for item in items] for name, items in values.items()}
                for spoke, values in document.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise CocoError("The reference values of the spokes cannot be read", f"the annotation {SPOKES} is no such map ({error})",
                        "Remove the annotation from the config map and run step 11 with every spoke (no --limit).") from error


def update_parts(parts: dict[str, Part], wanted: dict[str, Part], keep_old: bool, removed: list[str]) -> dict[str, Part]:
    """The spokes' values afterwards: those of ``wanted`` replaced (or, with ``keep_old``, added to), those of ``removed`` gone."""
    result = {spoke: values for spoke, values in parts.items() if spoke not in removed}
    for spoke, values in wanted.items():
        old = result.get(spoke, {}) if keep_old else {}
        result[spoke] = {name: list(dict.fromkeys([*items, *old.get(name, [])])) for name, items in values.items()}
    return result


def render(values: dict[str, Any], expiration: str, release: TrusteeRelease) -> dict[str, str]:
    """The data of the reference value ConfigMap for a release: ``{key: text}``; names sorted, text stable.

    Raises :class:`CocoError` for a value that the release's KBS cannot hold: its whole file would be refused.
    """
    parse_expiration(expiration)
    if release.rvps_format == "empty":
        return {release.rvps_key: "[]\n"}
    if release.rvps_format == "map":
        encoded = {
            name: base64.urlsafe_b64encode(
                json.dumps({"name": name, "expiration": expiration, "value": values[name]}, separators=(",", ":")).encode()
            ).decode()
            for name in sorted(values)
        }
        return {release.rvps_key: json.dumps(encoded, indent=2) + "\n"}
    items = []
    for name in sorted(values):
        item: dict[str, Any] = {"name": name, "expiration": expiration}
        if release.rvps_format == "hash-value":
            listed = values[name] if isinstance(values[name], list) else [values[name]]
            if not all(isinstance(value, str) for value in listed):
                raise CocoError(f"The reference value {name} cannot be used", f"it is {values[name]!r}; the KBS of Trustee "
                                f"{release.name} reads texts only, and fails every attestation otherwise",
                                "Give it as a text or a list of texts.")
            item["hash-value"] = [{"alg": "sha256", "value": value} for value in listed]
        else:
            item["value"] = values[name]
        items.append(item)
    return {release.rvps_key: json.dumps(items, indent=2) + "\n"}


def parse(data: dict[str, str], release: TrusteeRelease) -> dict[str, dict[str, Any]]:
    """``{name: {"value", "expiration"}}`` from a ConfigMap's data; :class:`CocoError` where the KBS could not read it."""
    key = release.rvps_key
    if key not in (data or {}):
        found = ", ".join(sorted(data or {})) or "no key"
        raise CocoError("The reference values cannot be read", f"the config map has {found}, the KBS of Trustee "
                        f"{release.name} reads {key}", f"Store them under the key {key} (step 11 does).")
    try:
        document = json.loads(data[key])
        if not isinstance(document, dict if release.rvps_format == "map" else list):
            raise ValueError(f"it is a {type(document).__name__}")
        items = [_decoded(text) for text in document.values()] if isinstance(document, dict) else document
        result = {}
        for item in items:
            value = _hashes(item["hash-value"]) if release.rvps_format == "hash-value" else item["value"]
            result[str(item["name"])] = {"value": value, "expiration": str(item["expiration"])}
    except (ValueError, TypeError, KeyError, AttributeError, binascii.Error) as error:
        raise CocoError("The reference values cannot be read", f"{key} is not in the format of Trustee {release.name} "
                        f"({type(error).__name__}: {error})",
                        "Every attestation fails until it is; run step 11 to write them anew.") from error
    return result


def _decoded(text: str) -> Any:
    """An item of the map. The KBS decodes strictly: URL-safe alphabet, padded (Python by itself reads more than that)."""
    if not re.fullmatch(r"[A-Za-z0-9_-]*=*", text):
        raise ValueError("an item is no URL-safe base64")
    return json.loads(base64.urlsafe_b64decode(text.encode()))


def _hashes(entries: list[dict[str, Any]]) -> list[str]:
    """The values of the older form: texts, each with its algorithm."""
    for entry in entries:
        if not isinstance(entry["alg"], str) or not isinstance(entry["value"], str):
            raise ValueError("a hash-value is no text")
    return [entry["value"] for entry in entries]


def findings(parsed: dict[str, dict[str, Any]], release: TrusteeRelease, now: datetime.datetime,
             renew_before_days: int = 60) -> list[Finding]:
    """What is wrong or soon will be: expired (an error where the release enforces it), soon expiring, empty."""
    result: list[Finding] = []
    for name, item in sorted(parsed.items()):
        try:
            expires = parse_expiration(item["expiration"])
        except CocoError as error:
            result.append({"severity": "error", "code": "expiration-form", "message": f"{name}: {error.what}, {error.seen}",
                           "hint": error.todo})
            continue
        if expires <= now:
            enforced = release.expiry_enforced
            effect = "the KBS skips it, so no evidence matches" if enforced else "this release still uses it"
            result.append({
                "severity": "error" if enforced else "warning", "code": "expired",
                "message": f"reference value {name} expired on {item['expiration']}: {effect}",
                "hint": "Run step 11 (--tags step11), which renews the expiration.",
            })
        elif expires <= now + datetime.timedelta(days=renew_before_days):
            result.append({"severity": "warning", "code": "expires-soon",
                           "message": f"reference value {name} expires on {item['expiration']}",
                           "hint": "Run step 11 (--tags step11) before that day."})
        if not item["value"] and item["value"] != 0:
            result.append({"severity": "error", "code": "empty", "message": f"reference value {name} is empty",
                           "hint": "Nothing can match it; give the measurements of the image in use."})
    return result


def keep(values: dict[str, Any], held: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """``values`` with what the KBS still accepts (``held``, as :func:`parse` gives it) added to lists of the same name."""
    result = dict(values)
    for name, item in held.items():
        if isinstance(item["value"], list) and isinstance(result.get(name), list):
            result[name] = list(dict.fromkeys([*result[name], *item["value"]]))
    return result
