"""The way from the API server to pods and kubelets: an HTTP CONNECT proxy on a unix socket.

The API server's egress selector asks for ``10.c.a.b:port``; the lab serves that address on ``127.c.a.b:port``. Anything
else is answered 502, as a network without that host would fail.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from pathlib import Path

from lab.paths import run_directory


def egress_socket(state: Path, cluster: str) -> Path:
    """Where lab-node serves the proxy of a cluster."""
    return run_directory(state) / f"egress-{cluster}.sock"


def loopback(address: str) -> str | None:
    """The loopback address on which a pod or node address is served; None for an address that is not the lab's."""
    try:
        parts = ipaddress.IPv4Address(address).packed
    except ValueError:
        return None
    return f"127.{parts[1]}.{parts[2]}.{parts[3]}" if parts[0] == 10 else None


def target(authority: str, number: int) -> tuple[str, int] | None:
    """Where ``host:port`` of a CONNECT request leads in the cluster with this number."""
    host, _, port = authority.rpartition(":")
    address = loopback(host)
    if address is None or not port.isdigit() or address.split(".")[1] != str(number):
        return None
    return address, int(port)


async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the end, then half-close."""
    with contextlib.suppress(ConnectionError, OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(ConnectionError, OSError, RuntimeError):
        if writer.can_write_eof():
            writer.write_eof()


async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, up_reader: asyncio.StreamReader,
               up_writer: asyncio.StreamWriter) -> None:
    """Join two connections until both directions ended."""
    try:
        await asyncio.gather(pipe(reader, up_writer), pipe(up_reader, writer))
    finally:
        for one in (writer, up_writer):
            one.close()


async def serve(socket: Path, number: int) -> asyncio.Server:
    """Listen on ``socket`` for the cluster with this number."""

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            writer.close()
            return
        words = head.split(b"\r\n", 1)[0].decode("latin-1").split()
        found = target(words[1], number) if len(words) == 3 and words[0] == "CONNECT" else None
        try:
            if found is None:
                raise OSError("no such host in the lab")
            up_reader, up_writer = await asyncio.open_connection(*found)
        except OSError as error:
            writer.write(f"HTTP/1.1 502 {error.strerror or error}\r\nContent-Length: 0\r\n\r\n".encode())
            with contextlib.suppress(ConnectionError):
                await writer.drain()
            writer.close()
            return
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with contextlib.suppress(asyncio.CancelledError):  # Python 3.11 logs a cancelled handler as an error
            await join(reader, writer, up_reader, up_writer)

    socket.unlink(missing_ok=True)
    return await asyncio.start_unix_server(connect, str(socket))
