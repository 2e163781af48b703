"""The built-in reference value provider: one JSON file, read anew for each attestation (trustee.md 5.4)."""

from __future__ import annotations

import datetime
import json
import logging
from pathlib import Path
from typing import Any

from lab.kbs.errors import Refused, os_error
from lab.kbs.wire import loads, unb64

log = logging.getLogger("lab")

FORMAT = "%Y-%m-%dT%H:%M:%SZ"
VERSION = "0.1.0"
MONTHS = 12


def expires(now: datetime.datetime) -> str:
    """Twelve months ahead, the sample extractor's lifetime."""
    try:
        later = now.replace(year=now.year + 1)
    except ValueError:  # 29 February
        later = now.replace(year=now.year + 1, day=28)
    return later.strftime(FORMAT)


class Rvps:
    """Reference values in ``file``: ``[{"version"?, "name", "expiration", "value": any JSON}]``."""

    def __init__(self, file: Path) -> None:
        self.file = file
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("[]")

    def items(self) -> list[dict[str, Any]]:
        """The file's items. Raises :class:`Refused` for a missing file, or one that is not such a list."""
        try:
            items = loads(self.file.read_bytes())
            for item in items:
                if not isinstance(item["name"], str):
                    raise TypeError("name is no string")
                datetime.datetime.strptime(item["expiration"], FORMAT)
                item["value"]
        except OSError as error:
            raise Refused("read reference values failed", os_error(error)) from error
        except KeyError as error:
            raise Refused("deserialize reference values failed", f"missing field `{error.args[0]}`") from error
        except (ValueError, TypeError) as error:
            raise Refused("deserialize reference values failed", str(error)) from error
        return list(items)

    def values(self) -> dict[str, Any]:
        """The values by name. Expired ones are skipped with a warning. Raises :class:`Refused`."""
        now = datetime.datetime.now(datetime.timezone.utc)
        found = {}
        for item in self.items():
            end = datetime.datetime.strptime(item["expiration"], FORMAT).replace(tzinfo=datetime.timezone.utc)
            if end < now:
                log.warning("Reference value of %s is expired.", item["name"])
                continue
            found[item["name"]] = item["value"]
        return found

    def register(self, body: bytes) -> None:
        """Take a message of the ``sample`` extractor. Raises :class:`Refused`."""
        try:
            message = loads(body)
            if message.get("version", VERSION) != VERSION:
                raise Refused("Version unmatched", f"need {VERSION}, given {message['version']}")
            if message["type"] != "sample":
                raise Refused(f"provenance extractor of type {message['type']} not found")
            values = dict(loads(unb64(message["payload"])).items())
        except KeyError as error:
            raise Refused("parse message", f"missing field `{error.args[0]}`") from error
        except (ValueError, TypeError, AttributeError) as error:
            raise Refused("parse message", str(error)) from error
        end = expires(datetime.datetime.now(datetime.timezone.utc))
        items = [item for item in self.items() if item["name"] not in values]
        items += [{"version": VERSION, "name": name, "expiration": end, "value": value} for name, value in values.items()]
        try:
            self.file.write_text(json.dumps(items))
        except OSError as error:
            raise Refused("write reference values failed", os_error(error)) from error
