"""The built-in reference value provider: read anew for each attestation (trustee.md 5.4)."""

from __future__ import annotations

import datetime
import json
import logging
from typing import Any, Protocol

from lab.kbs.errors import Refused, cause
from lab.kbs.generation import Generation
from lab.kbs.storage import Document, Store
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


class Form(Protocol):
    """How items ``{"version"?, "name", "expiration", "value": any JSON}`` are kept. Raises what reading and parsing raise."""

    def load(self) -> list[dict[str, Any]]: ...

    def save(self, items: list[dict[str, Any]]) -> None: ...


class ListForm:
    """One document with a list of items."""

    def __init__(self, document: Document, created: bool) -> None:
        self._document = document
        if created and not document.exists():
            document.write(b"[]")

    def load(self) -> list[dict[str, Any]]:
        """All items."""
        items = loads(self._document.read())
        if not isinstance(items, list):
            raise TypeError("expected a sequence")
        return items

    def save(self, items: list[dict[str, Any]]) -> None:
        """Replace them."""
        self._document.write(json.dumps(items).encode())


class HashForm(ListForm):
    """The same with ``"hash-value": [{"alg", "value"}]`` in place of the value, a list of strings (up to v0.13)."""

    def load(self) -> list[dict[str, Any]]:
        """All items, with the values of their hashes."""
        items = super().load()
        for item in items:
            for one in item["hash-value"]:
                if not isinstance(one["alg"], str) or not isinstance(one["value"], str):
                    raise TypeError("alg and value are strings")
            item["value"] = [one["value"] for one in item["hash-value"]]
        return items


class ItemForm:
    """An item for each name (generation D)."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def load(self) -> list[dict[str, Any]]:
        """All items."""
        return [loads(self._store.read(name)) for name in self._store.names()]

    def save(self, items: list[dict[str, Any]]) -> None:
        """Write each."""
        for item in items:
            self._store.write(item["name"], json.dumps(item).encode())


def _form(place: Document | Store, generation: Generation) -> Form:
    if not isinstance(place, Document):
        return ItemForm(place)
    return {"value": ListForm, "hash-value": HashForm}[generation.reference_form](place, generation.reference_created)


class Rvps:
    """The reference values of one server."""

    def __init__(self, place: Document | Store, generation: Generation) -> None:
        self._form, self._generation = _form(place, generation), generation

    def items(self) -> list[dict[str, Any]]:
        """All items. Raises :class:`Refused` for a missing file, or one of another form."""
        try:
            items = self._form.load()
            for item in items:
                if not isinstance(item["name"], str):
                    raise TypeError("name is no string")
                datetime.datetime.strptime(item["expiration"], FORMAT)
                item["value"]
        except OSError as error:
            raise Refused("read reference values failed", cause(error)) from error
        except KeyError as error:
            raise Refused("deserialize reference values failed", f"missing field `{error.args[0]}`") from error
        except (ValueError, TypeError) as error:
            raise Refused("deserialize reference values failed", str(error)) from error
        return items

    def values(self) -> dict[str, Any]:
        """The values by name. Raises :class:`Refused`. Expired ones are skipped with a warning, in generations that look at it."""
        now = datetime.datetime.now(datetime.timezone.utc)
        found = {}
        for item in self.items():
            end = datetime.datetime.strptime(item["expiration"], FORMAT).replace(tzinfo=datetime.timezone.utc)
            if end < now and self._generation.reference_expiry:
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
            self._form.save(items)
        except (OSError, ValueError) as error:
            raise Refused("write reference values failed", cause(error)) from error
