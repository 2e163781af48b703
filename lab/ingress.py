"""lab-ingress: stands in for OpenShift's router, and for what its API does to Routes; keeps hosts.json, the lab's DNS.

TLS on ``127.c.0.2:8443``: passthrough routes by SNI to a ready pod behind the Service, edge and reencrypt routes ended
here with the router's certificate. Plain HTTP on ``127.c.0.2:8080``. The kubeconfig's cluster number ``c`` comes from
nodes.json.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import logging
import os
import socket
import ssl
import tempfile
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from lab.egress import join
from lab.ingress_table import Backend, Table, build, defaults, names, status
from lab.kube import ApiError, Kube, key_of, now
from lab.node import arguments, read_nodes, when_ready
from lab.program import main

log = logging.getLogger("lab")
Object = dict[str, Any]

TLS_PORT, HTTP_PORT = 8443, 8080
SERVER_TIMEOUT, TUNNEL_TIMEOUT, CONNECT_TIMEOUT = 30.0, 3600.0, 5.0
KINDS = (("route.openshift.io/v1", "Route"), ("v1", "Service"), ("discovery.k8s.io/v1", "EndpointSlice"))
UNAVAILABLE = (
    "<html><body><h1>Application is not available</h1><p>The application is currently not serving requests at this "
    "endpoint. It may not have been started or is still starting.</p></body></html>"
)


def page(code: int, text: str, body: str = "", extra: str = "") -> bytes:
    """A whole HTTP answer of the router itself."""
    data = body.encode()
    return (f"HTTP/1.1 {code} {text}\r\n{extra}Content-Type: text/html\r\nContent-Length: {len(data)}\r\n"
            "Cache-Control: private, max-age=0, no-cache, no-store\r\nConnection: close\r\n\r\n").encode() + data


def server_name(hello: bytes) -> tuple[bool, str]:
    """(complete, SNI) of the bytes a TLS client sent so far; no SNI gives an empty name."""
    if len(hello) < 5:
        return False, ""
    if hello[0] != 22:
        return True, ""
    length = int.from_bytes(hello[3:5], "big")
    if len(hello) < 5 + length:
        return False, ""
    try:
        return True, _sni(hello[5:5 + length])
    except IndexError:
        return True, ""


def _sni(body: bytes) -> str:
    at = 4 + 2 + 32
    at += 1 + body[at]
    at += 2 + int.from_bytes(body[at:at + 2], "big")
    at += 1 + body[at]
    end = at + 2 + int.from_bytes(body[at:at + 2], "big")
    at += 2
    while at + 4 <= min(end, len(body)):
        kind, size = int.from_bytes(body[at:at + 2], "big"), int.from_bytes(body[at + 2:at + 4], "big")
        if kind == 0 and size > 5:
            return body[at + 9:at + 4 + size].decode("ascii", "replace").lower()
        at += 4 + size
    return ""


def request_line(head: bytes) -> tuple[str, str]:
    """(host without port, path) of an HTTP request head."""
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    host = next((line[5:].strip() for line in lines[1:] if line.lower().startswith("host:")), "")
    return host.partition(":")[0].lower(), words[1] if len(words) > 1 else "/"


class Router:
    """The data plane: connections to backends, by the table of the moment."""

    def __init__(self, certificate: Path, key: Path, service_ca: Path) -> None:
        self.table = Table()
        self.service_ca = service_ca
        self.default = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.default.load_cert_chain(certificate, key)
        self._turn = itertools.count()
        self._own: dict[tuple[str, str], ssl.SSLContext] = {}

    def find(self, host: str, path: str = "/") -> Backend | None:
        return next((b for b in self.table.backends.get(host, []) if path.startswith(b.path or "/")), None)

    def context(self, backend: Backend | None) -> ssl.SSLContext:
        """The TLS identity of a route: its own certificate or the router's."""
        if backend is None or backend.certificate is None:
            return self.default
        if backend.certificate not in self._own:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            with tempfile.TemporaryDirectory() as directory:
                files = [Path(directory) / name for name in ("crt", "key")]
                for file, text in zip(files, backend.certificate, strict=True):
                    file.touch(mode=0o600)
                    file.write_text(text)
                try:
                    context.load_cert_chain(files[0], files[1])
                except (ssl.SSLError, ValueError) as error:
                    log.warning("route %s: its certificate cannot be used (%s); the router's is", backend.route, error)
                    return self.default
            self._own[backend.certificate] = context
        return self._own[backend.certificate]

    async def dial(self, backend: Backend) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to a ready pod, in turn. Raises OSError where there is none."""
        context: ssl.SSLContext | None = None
        if backend.termination == "reencrypt":
            context = ssl.create_default_context(cafile=str(self.service_ca))
            if backend.destination_ca:
                context = ssl.create_default_context(cadata=backend.destination_ca)
        error: OSError = ConnectionRefusedError("no ready endpoint")
        start = next(self._turn)
        for offset in range(len(backend.addresses)):
            address = backend.addresses[(start + offset) % len(backend.addresses)]
            try:
                return await asyncio.wait_for(asyncio.open_connection(
                    *address, ssl=context, server_hostname=backend.service if context else None), CONNECT_TIMEOUT)
            except TimeoutError:
                error = TimeoutError("connect timed out")
            except OSError as problem:
                error = problem
        raise error

    # TLS ------------------------------------------------------------------------------------------------------------

    async def accept(self, listener: socket.socket) -> None:
        """Accept TLS connections for ever."""
        loop = asyncio.get_running_loop()
        tasks: set[asyncio.Task[None]] = set()
        while True:
            connection, _ = await loop.sock_accept(listener)
            task = asyncio.ensure_future(self._tls(connection))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async def _peek(self, connection: socket.socket) -> str | None:
        """The SNI of the client's first record, left unread in the socket."""
        loop = asyncio.get_running_loop()
        before = -1
        while True:
            ready: asyncio.Future[None] = loop.create_future()
            loop.add_reader(connection, _finish, ready)
            try:
                await ready
            finally:
                loop.remove_reader(connection)
            data = connection.recv(32768, socket.MSG_PEEK)
            complete, name = server_name(data)
            if complete:
                return name
            if not data:
                return None
            if len(data) == before:
                await asyncio.sleep(0.01)
            before = len(data)

    async def _tls(self, connection: socket.socket) -> None:
        try:
            name = await asyncio.wait_for(self._peek(connection), 10)
            if name is None:
                connection.close()
                return
            backend = self.find(name)
            if backend is not None and backend.termination == "passthrough":
                await self._passthrough(connection, backend)
                return
            await self._terminate(connection, self.context(backend))
        except (OSError, TimeoutError, ssl.SSLError):
            connection.close()

    async def _passthrough(self, connection: socket.socket, backend: Backend) -> None:
        try:
            up = await self.dial(backend)
        except OSError as error:
            log.info("%s: %s: connection closed", backend.route, error)
            connection.close()
            return
        reader, writer = await asyncio.open_connection(sock=connection)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(join(reader, writer, *up), backend.timeout or TUNNEL_TIMEOUT)

    async def _terminate(self, connection: socket.socket, context: ssl.SSLContext) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        done: asyncio.Future[None] = loop.create_future()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                with contextlib.suppress(asyncio.CancelledError):
                    await self.http(reader, writer, secure=True)
            finally:
                if not done.done():
                    done.set_result(None)

        protocol = asyncio.StreamReaderProtocol(reader, connected, loop=loop)
        await loop.connect_accepted_socket(lambda: protocol, connection, ssl=context)
        await done

    async def plain(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One plain HTTP connection."""
        with contextlib.suppress(asyncio.CancelledError):  # Python 3.11 logs a cancelled handler as an error
            await self.http(reader, writer)

    # HTTP -----------------------------------------------------------------------------------------------------------

    async def http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, secure: bool = False) -> None:
        """Route one connection by the Host of its first request."""
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError, OSError):
            writer.close()
            return
        host, path = request_line(head)
        backend = self.find(host, path)
        answer = self._refuse(backend, host, path, secure)
        if answer is None and backend is not None:
            answer = await self._forward(backend, head, reader, writer)
        if answer is not None:
            with contextlib.suppress(OSError):
                writer.write(answer)
                await writer.drain()
            writer.close()

    @staticmethod
    def _refuse(backend: Backend | None, host: str, path: str, secure: bool) -> bytes | None:
        """The router's own answer where the request goes to no backend."""
        if backend is None or (backend.termination == "passthrough" and secure):
            return page(503, "Service Unavailable", UNAVAILABLE)
        if secure:
            return None if backend.termination else page(503, "Service Unavailable", UNAVAILABLE)
        if not backend.termination or backend.insecure == "Allow":
            return None
        if backend.insecure == "Redirect":
            return page(302, "Found", extra=f"Location: https://{host}{path}\r\n")
        return page(503, "Service Unavailable", UNAVAILABLE)

    async def _forward(self, backend: Backend, head: bytes, reader: asyncio.StreamReader,
                       writer: asyncio.StreamWriter) -> bytes | None:
        try:
            up_reader, up_writer = await self.dial(backend)
        except OSError as error:
            log.info("%s: %s", backend.route, error)
            return page(503, "Service Unavailable", UNAVAILABLE)
        up_writer.write(head)
        timeout = backend.timeout or SERVER_TIMEOUT
        upload = asyncio.ensure_future(_copy(reader, up_writer))
        try:
            first = await asyncio.wait_for(up_reader.read(65536), timeout)
        except TimeoutError:
            upload.cancel()
            up_writer.close()
            return page(504, "Gateway Time-out", "<html><body><h1>504 Gateway Time-out</h1></body></html>")
        except OSError:
            first = b""
        if not first:
            upload.cancel()
            up_writer.close()
            return page(502, "Bad Gateway", "<html><body><h1>502 Bad Gateway</h1></body></html>")
        try:
            writer.write(first)
            await writer.drain()
            await _copy(up_reader, writer)
        except OSError:
            pass
        finally:
            upload.cancel()
            up_writer.close()
            writer.close()
        return None


def _version(obj: Object) -> int:
    return int(obj["metadata"]["resourceVersion"])


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, ssl.SSLError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


class Ingress:
    """The control plane: watches, defaults and admits routes, writes hosts.json."""

    def __init__(self, kube: Kube, router: Router, number: int, hosts: Path, api: str) -> None:
        self.kube, self.router, self.number, self.hosts, self.api = kube, router, number, hosts, api
        self.domain = ""
        self.stores: dict[str, dict[str, Object]] = {kind: {} for _, kind in KINDS}
        self._dirty = asyncio.Event()
        self._unsynced = len(KINDS)

    async def follow(self, api_version: str, kind: str) -> None:
        store, synced = self.stores[kind], False
        async for type, obj in self.kube.watch(api_version, kind):
            if type == "SYNCED":
                self._unsynced -= 0 if synced else 1
                synced = True
            elif type == "DELETED":
                store.pop(key_of(obj), None)
            else:
                before = store.get(key_of(obj))
                # What we wrote ourselves is newer than what the watch may still have to say.
                if before is None or _version(obj) >= _version(before):
                    store[key_of(obj)] = obj
            self._dirty.set()

    async def run(self) -> None:
        """Settle after each change."""
        while not self.domain:
            config = await self.kube.get("config.openshift.io/v1", "Ingress", "cluster")
            self.domain = (config or {}).get("spec", {}).get("domain", "")
            if not self.domain:
                await asyncio.sleep(0.5)
        while True:
            await self._dirty.wait()
            await asyncio.sleep(0.02)
            self._dirty.clear()
            if self._unsynced:
                continue
            try:
                await self.settle()
            except (ApiError, aiohttp.ClientError, TimeoutError, OSError) as error:
                if not isinstance(error, ApiError) or error.status not in (404, 409):
                    log.warning("settle: %r; trying again", error)
                await asyncio.sleep(0.2)
                self._dirty.set()

    async def settle(self) -> None:
        routes, services, slices = (self.stores[kind] for _, kind in KINDS)
        for route in list(routes.values()):
            patch = defaults(route, self.domain)
            if patch:
                meta = route["metadata"]
                fresh = await self.kube.patch("route.openshift.io/v1", "Route", meta["name"], patch, meta["namespace"])
                routes[key_of(route)] = {"apiVersion": "route.openshift.io/v1", "kind": "Route", **fresh}
        table = self.router.table = build(routes, services, slices, self.domain)
        found = names(table, services, slices, f"127.{self.number}.0.2:{TLS_PORT}", f"127.{self.number}.0.2:{HTTP_PORT}",
                      self.number)
        for name in ("kubernetes.default.svc", "kubernetes.default.svc.cluster.local"):
            found[f"{name}:443"] = self.api
        self.write(found)
        for key, verdict in table.verdicts.items():
            written = status(routes[key], verdict, self.domain, now())
            if written is not None:
                if not verdict.admitted:
                    log.info("route %s not admitted: %s: %s", key, verdict.reason, verdict.message)
                await self.kube.patch_status(routes[key], written)

    def write(self, found: dict[str, str]) -> None:
        """hosts.json, replaced whole and only when it differs."""
        text = json.dumps(found, indent=1, sort_keys=True)
        if self.hosts.exists() and self.hosts.read_text() == text:
            return
        partial = self.hosts.with_name(f".{self.hosts.name}.{os.getpid()}")
        partial.write_text(text)
        partial.rename(self.hosts)


async def run(given: argparse.Namespace) -> None:
    """Serve a cluster until cancelled."""
    directory = given.state / given.cluster
    number = int(read_nodes(directory / "nodes.json")[0]["address"].split(".")[1])
    pki = directory / "pki"
    router = Router(pki / "router.crt", pki / "router.key", pki / "service-ca.crt")
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setblocking(False)
    listener.bind((f"127.{number}.0.2", TLS_PORT))
    listener.listen(256)
    kube = Kube.from_kubeconfig(given.kubeconfig, agent="lab-ingress")
    server = yaml.safe_load(given.kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
    ingress = Ingress(kube, router, number, directory / "hosts.json", server.partition("://")[2])
    works = [asyncio.ensure_future(router.accept(listener))]
    try:
        plain = await asyncio.start_server(router.plain, f"127.{number}.0.2", HTTP_PORT)
        works.append(asyncio.ensure_future(plain.serve_forever()))
    except OSError as error:
        log.warning("no plain HTTP: %s", error)
    try:
        await when_ready(kube)
        works += [asyncio.ensure_future(ingress.follow(*kind)) for kind in KINDS]
        works.append(asyncio.ensure_future(ingress.run()))
        log.info("routes on 127.%d.0.2:%d (TLS) and :%d", number, TLS_PORT, HTTP_PORT)
        done, _ = await asyncio.wait(works, return_when=asyncio.FIRST_COMPLETED)
        for work in done:
            work.result()
    finally:
        for work in works:
            work.cancel()
        listener.close()
        await kube.close()


if __name__ == "__main__":
    options = arguments("lab-ingress: router of one cluster of the lab, and the lab's hosts.json")
    raise SystemExit(main("lab-ingress", "OpenShift router (HAProxy)", "OpenShift 4.20", lambda: run(options)))
