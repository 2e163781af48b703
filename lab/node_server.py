"""The kubelet's own API on port 10250: exec, logs, health. Only the API server's client certificate is let in."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import re
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import WSMsgType, web

from lab.node_container import Container, StartError
from lab.node_sandbox import Execution

if TYPE_CHECKING:
    from lab.node_agent import NodeAgent
    from lab.node_pod import PodWorker

KUBELET_PORT = 10250
PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
POLL_SECONDS = 0.2
_STAMP = re.compile(rb"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z) ?")


# Frames (pure) ------------------------------------------------------------------------------------------------------


def frame(data: bytes | str) -> tuple[int, bytes] | None:
    """Channel and payload of a client's frame; TEXT frames (str) carry the channel as a character. None if empty."""
    raw = data.encode() if isinstance(data, str) else data
    if not raw:
        return None
    # A TEXT frame cannot carry byte 255 alone: U+00FF is two bytes of UTF-8.
    if isinstance(data, str) and data[0] == "\xff":
        return CLOSE, data[1:].encode()
    return raw[0], raw[1:]


def exit_status(code: int) -> dict[str, Any]:
    """The Status of the error channel after a command that ran."""
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    return {
        "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def failure_status(message: str) -> dict[str, Any]:
    """The Status of a command that could not be run."""
    return {"metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
            "message": f"Internal error occurred: {message}",
            "details": {"causes": [{"message": message}]}}


# Logs (pure) --------------------------------------------------------------------------------------------------------


def parse_time(text: str) -> datetime.datetime:
    """An RFC 3339 time."""
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


def select(data: bytes, tail: int | None, since: datetime.datetime | None, started: str) -> list[tuple[bytes, bytes]]:
    """(time stamp, line with its end) of the lines that a log request asks for.

    A line without a stamp of its own has that of the line before, the first one that of the container's start.
    """
    lines: list[tuple[bytes, bytes]] = []
    stamp = started.encode()
    for line in data.splitlines(keepends=True):
        found = _STAMP.match(line)
        if found:
            stamp = found[1]
        if since is None or parse_time(stamp.decode()) >= since:
            lines.append((stamp, line))
    if tail is not None:
        lines = lines[-tail:] if tail > 0 else []
    return lines


class KubeletServer:
    """Answers for one node."""

    def __init__(self, node: NodeAgent) -> None:
        self.node = node
        self.app = web.Application()
        self.app.router.add_get("/healthz", self.health)
        self.app.router.add_route("*", "/exec/{namespace}/{pod}/{container}", self.execute)
        self.app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self.logs)
        self.app.router.add_route("*", "/{other:.*}", self.other)
        self.runner = web.AppRunner(self.app, access_log=None, shutdown_timeout=0.5)

    async def start(self, address: str, certificate: Path, key: Path, authority: Path) -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority))
        context.load_cert_chain(certificate, key)
        context.verify_mode = ssl.CERT_REQUIRED
        await self.runner.setup()
        await web.TCPSite(self.runner, address, KUBELET_PORT, ssl_context=context, reuse_address=True).start()

    async def stop(self) -> None:
        await self.runner.cleanup()

    async def health(self, request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def other(self, request: web.Request) -> web.Response:
        return web.Response(status=404, text=f"lab-node: {request.path}: not part of the lab's kubelet "
                                             "(exec and containerLogs are)\n")

    def _find(self, request: web.Request) -> tuple[PodWorker, str]:
        if self.node.down:
            raise web.HTTPServiceUnavailable(text=f"node {self.node.name} is rebooting")
        info = request.match_info
        worker = self.node.find(info["namespace"], info["pod"])
        if worker is None:
            raise web.HTTPNotFound(text=f'pod "{info["pod"]}" does not exist')
        spec = worker.pod["spec"]
        names = [c["name"] for c in [*(spec.get("initContainers") or []), *spec["containers"]]]
        if info["container"] not in names:
            raise web.HTTPBadRequest(text=f'container {info["container"]} is not valid for pod {info["pod"]}')
        return worker, info["container"]

    # exec -----------------------------------------------------------------------------------------------------------

    async def execute(self, request: web.Request) -> web.StreamResponse:
        worker, name = self._find(request)
        container = worker.container(name)
        if container is None or container.run is None:
            return web.Response(status=404, text=f"unable to upgrade connection: container not found (\"{name}\")")
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return web.Response(status=400, text="lab-node speaks WebSocket only; use a client of Kubernetes 1.31 or newer")
        query = request.query
        socket = web.WebSocketResponse(protocols=PROTOCOLS, max_msg_size=0)
        await socket.prepare(request)
        session = Execution()

        async def output(channel: int, data: bytes) -> None:
            if (channel == STDOUT and query.get("output")) or (channel == STDERR and query.get("error")):
                await socket.send_bytes(bytes([channel]) + data)

        reading = asyncio.ensure_future(_read(socket, session))
        running = asyncio.ensure_future(worker.sandbox.execute(
            container, query.getall("command", []), session, output, query.get("tty") in ("1", "true"),
            query.get("input") in ("1", "true")))
        try:
            await asyncio.wait({reading, running}, return_when=asyncio.FIRST_COMPLETED)
            if not running.done() and socket.closed:
                return socket
            status = exit_status(await running)
        except StartError as error:
            status = failure_status(error.message)
        finally:
            running.cancel()
        with contextlib.suppress(ConnectionError, RuntimeError):
            await socket.send_bytes(bytes([ERROR]) + json.dumps(status).encode())
            await socket.close()
        reading.cancel()
        return socket

    # logs -----------------------------------------------------------------------------------------------------------

    async def logs(self, request: web.Request) -> web.StreamResponse:
        worker, name = self._find(request)
        container, query = worker.container(name), request.query
        previous = query.get("previous") in ("1", "true")
        path = worker.log(name, previous)
        pod = request.match_info["pod"]
        if container is not None:
            waiting = container.state.get("waiting")
            started = container.run is not None or "terminated" in container.state or bool(container.last)
            if waiting and not started and not previous:
                message = f'container "{name}" in pod "{pod}" is waiting to start: {_why(waiting)}'
                return web.Response(status=400, text=message)
        if previous and not path.exists():
            return web.Response(status=400, text=f'previous terminated container "{name}" in pod "{pod}" not found')
        try:
            tail = int(query["tailLines"]) if "tailLines" in query else None
            limit = int(query["limitBytes"]) if "limitBytes" in query else None
            since = _since(query.get("sinceSeconds"), query.get("sinceTime"))
        except ValueError as error:
            return web.Response(status=400, text=str(error))
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        follow = query.get("follow") in ("1", "true") and not previous
        stamps = query.get("timestamps") in ("1", "true")
        with contextlib.suppress(ConnectionError):
            async for chunk in self._lines(worker, container, path, tail, since, follow, stamps):
                if limit is not None:
                    chunk, limit = chunk[:limit], limit - len(chunk[:limit])
                await response.write(chunk)
                if limit == 0:
                    break
            await response.write_eof()
        return response

    @staticmethod
    async def _lines(worker: PodWorker, container: Container | None, path: Path, tail: int | None,
                     since: datetime.datetime | None, follow: bool, stamps: bool) -> AsyncIterator[bytes]:
        def shown(data: bytes, tail: int | None) -> bytes:
            started = worker.pod["metadata"]["creationTimestamp"]
            lines = select(data, tail, since, started)
            return b"".join(stamp + b" " + line if stamps else line for stamp, line in lines)

        run = container.run if container is not None else None
        if container is not None:
            await worker.sandbox.refresh_log(container)
        data = path.read_bytes() if path.exists() else b""
        yield shown(data, tail)
        offset = len(data)
        while follow and run is not None and container is not None:
            live = container.run is run
            if live:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(container.changed.wait(), POLL_SECONDS)
                await worker.sandbox.refresh_log(container)
            if path.exists():
                with path.open("rb") as file:
                    file.seek(offset)
                    data = file.read()
                if data:
                    offset += len(data)
                    yield shown(data, None)
            if not live:
                return


def _why(waiting: dict[str, Any]) -> str:
    reason = str(waiting.get("reason") or "ContainerCreating")
    if reason in ("ErrImagePull", "ImagePullBackOff"):
        return "trying and failing to pull image" if reason == "ImagePullBackOff" else "image can't be pulled"
    return reason


def _since(seconds: str | None, time: str | None) -> datetime.datetime | None:
    if seconds:
        return datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0) - datetime.timedelta(seconds=int(seconds))
    return parse_time(time) if time else None


async def _read(socket: web.WebSocketResponse, session: Execution) -> None:
    """Feed a session from its client's frames until the connection ends."""
    async for message in socket:
        if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
            continue
        found = frame(message.data)
        if found is None:
            continue
        channel, data = found
        if channel == STDIN and data:
            session.input.put_nowait(data)
        elif channel == CLOSE and data[:1] == bytes([STDIN]):
            session.input.put_nowait(None)
        elif channel == RESIZE:
            with contextlib.suppress(ValueError, KeyError):
                size = json.loads(data)
                session.sizes.put_nowait((int(size["Width"]), int(size["Height"])))
    session.input.put_nowait(None)
