"""A forward proxy of a test: HTTP CONNECT only, with a record of what was asked for."""

from __future__ import annotations

import select
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class ConnectProxy:
    """``connects``: the targets (``host:port``) in order. Any host is this machine here: only the port of a target counts."""

    def __init__(self, refuse: bool = False) -> None:
        self.connects: list[str] = []
        self.credentials: list[str] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_CONNECT(self) -> None:
                proxy.connects.append(self.path)
                proxy.credentials.append(self.headers.get("Proxy-Authorization") or "")
                if refuse:
                    self.send_error(403, "This way is closed")
                    return
                with socket.create_connection(("127.0.0.1", int(self.path.rpartition(":")[2])), timeout=10) as far:
                    self.send_response(200, "Connection established")
                    self.end_headers()
                    tunnel(self.connection, far)
                self.close_connection = True

            def log_message(self, *_arguments: Any) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> ConnectProxy:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def tunnel(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes both ways until one side ends."""
    while True:
        for ready in select.select([one, other], [], [])[0]:
            data = ready.recv(65536)
            if not data:
                return
            (other if ready is one else one).sendall(data)
