"""The resource plugin: secrets ``<repository>/<type>/<tag>`` in a store, opened per request (trustee.md 1.1)."""

from __future__ import annotations

import re

from lab.kbs.errors import Refused, cause
from lab.kbs.generation import Generation
from lab.kbs.storage import Store

_SEGMENT = re.compile(r"[a-zA-Z0-9_-]+[a-zA-Z0-9_.-]*")


class Repository:
    """The secrets in one store."""

    def __init__(self, store: Store, generation: Generation) -> None:
        self._store, self._generation = store, generation

    def _name(self, path: str) -> str:
        parts = path.split("/")
        if len(parts) == 2 and self._generation.default_repository:
            parts.insert(0, "default")
        if len(parts) != 3:
            raise Refused(f"illegal resource path: {path}", "a path has three segments")
        if not all(_SEGMENT.fullmatch(part) for part in parts):
            raise Refused(f"illegal resource path: {path}", "illegal characters")
        return "/".join(parts)

    def read(self, path: str) -> bytes:
        """The secret. Raises :class:`Refused`."""
        try:
            secret = self._store.read(self._name(path))
        except (OSError, ValueError) as error:
            raise Refused(f"read resource {path} failed", cause(error)) from error
        if not secret and not self._generation.empty_resources:
            raise Refused("resource not found")
        return secret

    def write(self, path: str, secret: bytes) -> None:
        """Create or replace the secret. Raises :class:`Refused`."""
        try:
            self._store.write(self._name(path), secret)
        except (OSError, ValueError) as error:
            raise Refused(f"write resource {path} failed", cause(error)) from error

    def delete(self, path: str) -> None:
        """Remove the secret. Raises :class:`Refused`."""
        try:
            self._store.delete(self._name(path))
        except (OSError, ValueError) as error:
            raise Refused(f"delete resource {path} failed", cause(error)) from error
