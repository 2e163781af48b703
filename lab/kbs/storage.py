"""Where a server keeps things: named values of bytes, in files as the generation lays them out. Failures are ``OSError``.

Every read goes to the file anew: what the kubelet (or a test) replaces is live.
"""

from __future__ import annotations

import base64
import errno
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lab.kbs.wire import loads

SLASH = "\\x2F"


class Store(Protocol):
    """Named values."""

    def names(self) -> list[str]: ...

    def exists(self, name: str) -> bool: ...

    def read(self, name: str) -> bytes: ...

    def write(self, name: str, data: bytes) -> None: ...

    def delete(self, name: str) -> None: ...


class Tree:
    """A file for each name, whose slashes are directories."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, name: str) -> Path:
        """The file of a name."""
        return self.directory / name

    def names(self) -> list[str]:
        """Names of the top level."""
        return sorted(os.listdir(self.directory)) if self.directory.is_dir() else []

    def exists(self, name: str) -> bool:
        """Is there such a value?"""
        return self.path(name).exists()

    def read(self, name: str) -> bytes:
        """The value."""
        return self.path(name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        """Create or replace the value; directories appear as needed."""
        file = self.path(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)

    def delete(self, name: str) -> None:
        """Remove the value."""
        self.path(name).unlink()


class Flat(Tree):
    """A file for each name; a slash in it is written as four characters (generation D, LocalFs)."""

    def path(self, name: str) -> Path:
        """The file of a name."""
        return self.directory / name.replace("/", SLASH)

    def names(self) -> list[str]:
        """All names."""
        return [name.replace(SLASH, "/") for name in super().names()]


class JsonMap:
    """All values in one JSON file, in padded URL-safe base64 (generation D, LocalJson). The file is made when missing."""

    def __init__(self, file: Path) -> None:
        self.file = file
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("{}")

    def _values(self) -> dict[str, str]:
        found = loads(self.file.read_bytes())
        if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
            raise ValueError("no map of strings")
        return found

    def names(self) -> list[str]:
        """All names."""
        return sorted(self._values())

    def exists(self, name: str) -> bool:
        """Is there such a value?"""
        return name in self._values()

    def read(self, name: str) -> bytes:
        """The value. Raises ``ValueError`` for one that is not encoded."""
        values = self._values()
        if name not in values:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return base64.b64decode(values[name].encode(), altchars=b"-_", validate=True)

    def write(self, name: str, data: bytes) -> None:
        """Create or replace the value."""
        self.file.write_text(json.dumps({**self._values(), name: base64.urlsafe_b64encode(data).decode()}))

    def delete(self, name: str) -> None:
        """Remove the value."""
        values = self._values()
        if values.pop(name, None) is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        self.file.write_text(json.dumps(values))


class Memory:
    """Values that end with the process."""

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}

    def names(self) -> list[str]:
        """All names."""
        return sorted(self._values)

    def exists(self, name: str) -> bool:
        """Is there such a value?"""
        return name in self._values

    def read(self, name: str) -> bytes:
        """The value."""
        if name not in self._values:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return self._values[name]

    def write(self, name: str, data: bytes) -> None:
        """Create or replace the value."""
        self._values[name] = data

    def delete(self, name: str) -> None:
        """Remove the value."""
        if self._values.pop(name, None) is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


@dataclass(frozen=True)
class Document:
    """One value of a store."""

    store: Store
    name: str

    def exists(self) -> bool:
        """Is it there?"""
        return self.store.exists(self.name)

    def read(self) -> bytes:
        """Its bytes."""
        return self.store.read(self.name)

    def write(self, data: bytes) -> None:
        """Create or replace it."""
        self.store.write(self.name, data)


def file(path: Path) -> Document:
    """A file as a document."""
    return Document(Tree(path.parent), path.name)
