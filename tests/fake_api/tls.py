"""A certificate authority of a test, and server certificates of it."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

from ansible_collections.confidential.containers.plugins.module_utils import keys


class Authority:
    """Files below a directory: ``ca`` (PEM), and a certificate with its key for each :meth:`server`."""

    def __init__(self, directory: Path, name: str = "test") -> None:
        self.directory, self.name = directory, name
        self._key, self.pem = keys.new_ca(f"{name} CA", 30, datetime.datetime.now(datetime.timezone.utc))
        self.ca = directory / f"{name}-ca.pem"
        self.ca.write_text(self.pem)

    def server(self, *hosts: str) -> ssl.SSLContext:
        """The TLS side of a server with a certificate for ``hosts``."""
        now = datetime.datetime.now(datetime.timezone.utc)
        key, certificate = keys.new_leaf(self._key, self.pem, list(hosts or ("localhost", "127.0.0.1")), 30, now)
        path = self.directory / f"{self.name}-{len(list(self.directory.iterdir()))}.pem"
        path.write_text(key + certificate)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context
