"""A KBS whose answers a test scripts. By default it is one that is well and gives nothing to anybody."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ERRORS = "https://github.com/confidential-containers/kbs/errors/"


def error(variant: str, detail: str = "") -> dict[str, str]:
    return {"type": ERRORS + variant, "detail": detail}


class FakeKbs:
    """``answers``: "METHOD /path" to (status, document); what is not named is answered as a sound KBS would."""

    def __init__(self, tls: ssl.SSLContext | None, protocol: str = "0.4.0") -> None:
        self.protocol, self.answers, self.requests = protocol, dict[str, tuple[int, Any]](), list[tuple[str, str, Any]]()
        self.mute = False  # reads requests and never answers
        self.stopping = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"kbs": self}))
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FakeKbs:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        scripted = self.answers.get(f"{method} {path}")
        if scripted is not None:
            return scripted
        if path == "/kbs/v0/auth":
            if body["version"] != self.protocol:
                return 401, error("AttestationError", "Attestation error: RCAR handshake Auth failed: KBS Client Protocol Version "
                                  f"Mismatch: expect ={self.protocol} while the request is {body['version']}")
            return 200, {"nonce": "bm9uY2U=", "extra-params": ""}
        if path == "/kbs/v0/attest":
            return 200, {"token": "sample-token"}
        if path.startswith("/kbs/v0/resource/"):
            return 401, error("PolicyDeny", "Access denied by policy")
        return 401, error("TokenNotFound", "Attestation Token not found")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    kbs: FakeKbs

    def log_message(self, *_arguments: object) -> None:
        """Silent."""

    def one(self) -> None:
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = json.loads(text) if text else None
        self.kbs.requests.append((self.command, self.path, body))
        if self.kbs.mute:
            self.kbs.stopping.wait(30)
            return
        status, document = self.kbs.answer(self.command, self.path, body)
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Set-Cookie", "kbs-session-id=abc; Path=/")
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = one


@contextmanager
def silent() -> Iterator[str]:
    """The address of something that accepts connections and says nothing, not even in the TLS handshake."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"
