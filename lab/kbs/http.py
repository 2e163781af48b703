"""A small HTTP/1.1 server whose answers are the real server's to the byte: lower-case names, no header that it does not send.

Nothing else is in its answers than ``content-length``, ``date`` and what a handler adds. Limits are those of the real server:
a head of more than 128 KiB is 431 (trustee-verified.md 1.5), a body above the configured size is left to the handler.
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from urllib.parse import parse_qsl, unquote_to_bytes

from lab.kbs.errors import Panicked

MAX_HEAD = 128 * 1024
_CHUNK = 65536


@dataclass
class Request:
    """What a client asked. ``body`` is None where it is larger than the server takes."""

    method: str
    target: str  # as sent
    headers: dict[str, str]  # lower-case names
    body: bytes | None
    remote: str

    @property
    def path(self) -> str:
        """The path without query, percent-decoded."""
        return unquote_to_bytes(self.target.partition("?")[0]).decode(errors="replace")

    @property
    def query(self) -> dict[str, str]:
        """The parameters after the question mark."""
        return dict(parse_qsl(self.target.partition("?")[2], keep_blank_values=True))

    def bearer(self) -> str | None:
        """The bearer token; the scheme is case sensitive."""
        scheme, blank, token = self.headers.get("authorization", "").partition(" ")
        return token if scheme == "Bearer" and blank else None

    def cookie(self, name: str) -> str | None:
        """The value of a cookie."""
        for pair in self.headers.get("cookie", "").split(";"):
            key, equals, value = pair.strip().partition("=")
            if equals and key == name:
                return value
        return None


@dataclass
class Response:
    """What the client gets."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)  # lower-case names


class Malformed(Exception):
    """Bytes that are no HTTP request: 400, and the connection ends."""


Handler = Callable[[Request], Response]


class Server:
    """Serves one handler on any number of addresses."""

    def __init__(self, handler: Handler, max_body: int, connections: Callable[[int], None]) -> None:
        self._handler, self._max_body, self._connections = handler, max_body, connections
        self._open: set[asyncio.StreamWriter] = set()
        self._servers: list[asyncio.Server] = []

    async def listen(self, host: str, port: int, context: ssl.SSLContext | None) -> None:
        """Start to accept connections."""
        self._servers.append(await asyncio.start_server(self._connection, host, port, ssl=context, limit=MAX_HEAD))

    async def refuse(self, host: str, port: int) -> None:
        """Accept connections and end each at once: a server that cannot finish a handshake."""
        self._servers.append(await asyncio.start_server(lambda _reader, writer: writer.close(), host, port))

    def close(self) -> None:
        """Stop at once."""
        for server in self._servers:
            server.close()
        for writer in list(self._open):
            writer.transport.abort()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        self._connections(len(self._open))
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, TimeoutError):
            pass  # the client went away
        except (asyncio.CancelledError, Panicked):
            pass  # the server stops, or would have lost its worker
        except asyncio.LimitOverrunError:
            await _send(writer, Response(431), "GET", keep=False)
        except Malformed:
            await _send(writer, Response(400), "GET", keep=False)
        finally:
            self._open.discard(writer)
            self._connections(len(self._open))
            with contextlib.suppress(ConnectionError, ssl.SSLError, TimeoutError):
                writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its answer. Does the connection stay open?"""
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, version, headers = _parse(head)
        if headers.get("expect", "").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await self._body(reader, headers)
        remote = writer.get_extra_info("peername")[0]
        response = self._handler(Request(method, target, headers, body, remote))
        connection = headers.get("connection", "").lower()
        keep = connection != "close" if version == "HTTP/1.1" else connection == "keep-alive"
        await _send(writer, response, method, keep)
        return keep

    async def _body(self, reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes | None:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return await self._chunked(reader)
        if "transfer-encoding" in headers:
            raise Malformed
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            raise Malformed
        return await self._exactly(reader, int(length))

    async def _exactly(self, reader: asyncio.StreamReader, length: int) -> bytes | None:
        """``length`` bytes; what is beyond the limit is read, so that the client hears the answer, and not kept."""
        if length <= self._max_body:
            return await reader.readexactly(length)
        while length > 0:
            length -= len(await reader.readexactly(min(length, _CHUNK)))
        return None

    async def _chunked(self, reader: asyncio.StreamReader) -> bytes | None:
        parts: list[bytes] | None = []
        total = 0
        while True:
            text = (await reader.readuntil(b"\r\n")).split(b";")[0].strip()
            try:
                size = int(text, 16)
            except ValueError as error:
                raise Malformed from error
            if size == 0:
                while await reader.readuntil(b"\r\n") != b"\r\n":
                    pass
                return None if parts is None else b"".join(parts)
            part = await self._exactly(reader, size)
            total += size
            if part is None or parts is None or total > self._max_body:
                parts = None
            else:
                parts.append(part)
            if await reader.readexactly(2) != b"\r\n":
                raise Malformed


def _parse(head: bytes) -> tuple[str, str, str, dict[str, str]]:
    """(method, target, version, headers) of a head."""
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or words[2] not in ("HTTP/1.0", "HTTP/1.1") or not words[0].isalpha() or not words[1].startswith(("/", "*")):
        raise Malformed
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise Malformed
        key = name.lower()
        joined = "; " if key == "cookie" else ", "
        headers[key] = f"{headers[key]}{joined}{value.strip()}" if key in headers else value.strip()
    return words[0], words[1], words[2], headers


async def _send(writer: asyncio.StreamWriter, response: Response, method: str, keep: bool) -> None:
    lines = [f"HTTP/1.1 {response.status} {http.HTTPStatus(response.status).phrase}",
             f"content-length: {len(response.body)}", *(f"{name}: {value}" for name, value in response.headers.items())]
    if not keep:
        lines.append("connection: close")
    lines.append(f"date: {formatdate(usegmt=True)}")
    body = b"" if method == "HEAD" else response.body
    writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        await writer.drain()
