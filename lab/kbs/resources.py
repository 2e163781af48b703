"""The resource plugin: secrets as files ``<repository>/<type>/<tag>``, opened per request (trustee.md 1.1)."""

from __future__ import annotations

import re
from pathlib import Path

from lab.kbs.errors import Refused, os_error

_SEGMENT = re.compile(r"[a-zA-Z0-9_-]+[a-zA-Z0-9_.-]*")


class Repository:
    """The secrets below one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def _file(self, path: str) -> Path:
        parts = path.split("/")
        if len(parts) != 3:
            raise Refused(f"illegal resource path: {path}", "a path has three segments")
        if not all(_SEGMENT.fullmatch(part) for part in parts):
            raise Refused(f"illegal resource path: {path}", "illegal characters")
        return self._directory.joinpath(*parts)

    def read(self, path: str) -> bytes:
        """The secret. Raises :class:`Refused`."""
        try:
            return self._file(path).read_bytes()
        except OSError as error:
            raise Refused(f"read resource {path} failed", os_error(error)) from error

    def write(self, path: str, secret: bytes) -> None:
        """Create or replace the secret; directories appear as needed. Raises :class:`Refused`."""
        file = self._file(path)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(secret)
        except OSError as error:
            raise Refused(f"write resource {path} failed", os_error(error)) from error
