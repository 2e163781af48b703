"""Fields of a configuration file, read with the coercions and refused with the words of the real server's library."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any

from lab.kbs.errors import StartError

_TRUE, _FALSE = ("true", "on", "1", "yes"), ("false", "off", "0", "no")


@dataclass(frozen=True)
class Words:
    """How the real server tells of a configuration that does not deserialise."""

    invalid: str = "invalid config: {text}{place}"
    missing: str = "invalid config: missing field `{name}`"
    place: str = ""  # ``{path}`` of the key, after an invalid value
    file: str = ""


WORDS = Words()


def _found(value: Any) -> str:
    if isinstance(value, bool):
        return f"boolean `{str(value).lower()}`"
    if isinstance(value, int):
        return f"integer `{value}`"
    if isinstance(value, float):
        return f"floating point `{value}`"
    if isinstance(value, str):
        return f'string "{value}"'
    return "sequence" if isinstance(value, list) else "map"


class Table:
    """One table of the file. Unknown keys are ignored, as the real server does."""

    def __init__(self, values: Any, expected: str = "a map", path: str = "", words: Words = WORDS) -> None:
        self.path, self.words = path, words
        if not isinstance(values, dict):
            raise self.invalid(f"invalid type: {_found(values)}, expected {expected}", path)
        self.values = values

    def invalid(self, text: str, path: str) -> StartError:
        """A value that does not deserialise."""
        return StartError(self.words.invalid.format(text=text, file=self.words.file,
                                                    place=self.words.place.format(path=path)))

    def missing(self, name: str) -> StartError:
        """A key that is not there."""
        return StartError(self.words.missing.format(name=name, file=self.words.file, path=self._at(name)))

    def _at(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path and not self.path.endswith("]") else self.path + name

    def table(self, name: str, expected: str = "a map") -> Table | None:
        """A table inside this one, None where there is none."""
        return Table(self.values[name], expected, self._at(name), self.words) if name in self.values else None

    def must(self, name: str) -> Table:
        """A table that must be there."""
        found = self.table(name)
        if found is None:
            raise self.missing(name)
        return found

    def below(self, name: str) -> Table:
        """A table inside this one, an empty one where there is none."""
        return self.table(name) or Table({}, path=self._at(name), words=self.words)

    def tables(self, name: str) -> list[Table]:
        """An array of tables."""
        return [Table(item, path=f"{self._at(name)}[{index}]", words=self.words)
                for index, item in enumerate(self._list(name))]

    def text(self, name: str, default: str | None = None) -> str:
        """A string; required where there is no default."""
        value = self.values.get(name, default)
        if value is None:
            raise self.missing(name)
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, int | float):
            return str(value)
        if not isinstance(value, str):
            raise self.invalid(f"invalid type: {_found(value)}, expected a string", self._at(name))
        return value

    def texts(self, name: str, default: list[str] | None = None) -> list[str]:
        """A list of strings."""
        return [Table({name: item}, path=self.path, words=self.words).text(name) for item in self._list(name, default)]

    def flag(self, name: str) -> bool:
        """A boolean, false where it is absent; also as a string or number."""
        value = self.values.get(name, False)
        if isinstance(value, str) and value.lower() in (*_TRUE, *_FALSE):
            return value.lower() in _TRUE
        if isinstance(value, int):
            return value != 0
        raise self.invalid(f"invalid type: {_found(value)}, expected a boolean", self._at(name))

    def number(self, name: str, default: int) -> int:
        """An integer; also as a string."""
        value = self.values.get(name, default)
        if isinstance(value, str):
            try:
                return int(value)
            except ValueError as error:
                raise self.invalid(f"invalid type: {_found(value)}, expected an integer", self._at(name)) from error
        if not isinstance(value, int | float):
            raise self.invalid(f"invalid type: {_found(value)}, expected an integer", self._at(name))
        return int(value)

    def variant(self, name: str, *known: str, required: bool = True) -> str:
        """The tag of an enum."""
        if name not in self.values and not required:
            return known[0]
        value = self.text(name)
        if value not in known:
            raise self.invalid(f"unknown variant `{value}`, {_one_of(known)}", self._at(name))
        return value

    def sockets(self, name: str, default: str) -> list[str]:
        """Socket addresses: an IP address and a port each, no names."""
        found = self.texts(name, [default])
        for text in found:
            host, _, port = text.rpartition(":")
            try:
                if host.startswith("[") == (ipaddress.ip_address(host.strip("[]")).version == 4) or not 0 <= int(port) < 65536:
                    raise ValueError
            except ValueError as error:
                raise self.invalid("invalid socket address syntax", self._at(name)) from error
        return found

    def _list(self, name: str, default: list[str] | None = None) -> list[Any]:
        value = self.values.get(name, default if default is not None else [])
        if not isinstance(value, list):
            raise self.invalid(f"invalid type: {_found(value)}, expected a sequence", self._at(name))
        return value


def _one_of(known: tuple[str, ...]) -> str:
    quoted = [f"`{name}`" for name in known]
    if len(quoted) < 3:
        return "expected " + " or ".join(quoted)
    return "expected one of " + ", ".join(quoted)
