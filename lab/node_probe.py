"""Probes of containers: http, tcp and exec, with the kubelet's thresholds and its texts.

Delays are scaled as every modelled delay; a settled probe is asked less often, so that an idle lab stays idle. Timeouts
are not scaled (the machine is not faster than a real one).
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

Object = dict[str, Any]
Exec = Callable[[list[str]], Awaitable[tuple[int, str]]]
SETTLED_SECONDS = 2.0
LEAST_TIMEOUT = 5.0


def port_of(container: Object, port: int | str) -> int:
    """A probe's port: a number or the name of a containerPort. Raises ValueError."""
    if isinstance(port, int) or str(port).isdigit():
        return int(port)
    for one in container.get("ports") or []:
        if one.get("name") == port:
            return int(one["containerPort"])
    raise ValueError(f'couldn\'t find port: "{port}" for container {container["name"]}')


async def _http(probe: Object, container: Object, address: str, shown: str) -> tuple[bool, str]:
    get = probe["httpGet"]
    port, scheme = port_of(container, get["port"]), (get.get("scheme") or "HTTP").lower()
    path = get.get("path") or "/"
    path = path if path.startswith("/") else f"/{path}"
    url = f"{scheme}://{shown}:{port}{path}"
    context: ssl.SSLContext | None = None
    if scheme == "https":
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        reader, writer = await asyncio.open_connection(address, port, ssl=context)
    except OSError as error:
        words = "connect: connection refused" if isinstance(error, ConnectionRefusedError) else str(error)
        return False, f'Get "{url}": dial tcp {shown}:{port}: {words}'
    try:
        headers = {"Host": f"{shown}:{port}", "User-Agent": "kube-probe/1.33", "Accept": "*/*", "Connection": "close"}
        headers |= {h["name"]: h["value"] for h in get.get("httpHeaders") or []}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode())
        await writer.drain()
        words_ = (await reader.readline()).decode("latin-1").split()
        code = int(words_[1]) if len(words_) > 1 and words_[1].isdigit() else 0
    except (OSError, ValueError) as error:
        return False, f'Get "{url}": {error}'
    finally:
        writer.close()
    if 200 <= code < 400:
        return True, ""
    return False, f"HTTP probe failed with statuscode: {code}" if code else f'Get "{url}": EOF'


async def _tcp(probe: Object, container: Object, address: str, shown: str) -> tuple[bool, str]:
    port = port_of(container, probe["tcpSocket"]["port"])
    try:
        _, writer = await asyncio.open_connection(address, port)
    except OSError:
        return False, f"dial tcp {shown}:{port}: connect: connection refused"
    writer.close()
    return True, ""


async def once(probe: Object, container: Object, address: str, shown: str, execute: Exec) -> tuple[bool, str]:
    """One question: (healthy, what was wrong). ``address`` is where the pod listens, ``shown`` its podIP."""
    timeout = max(float(probe.get("timeoutSeconds") or 1), LEAST_TIMEOUT)
    try:
        if "httpGet" in probe:
            return await asyncio.wait_for(_http(probe, container, address, shown), timeout)
        if "tcpSocket" in probe:
            return await asyncio.wait_for(_tcp(probe, container, address, shown), timeout)
        code, output = await asyncio.wait_for(execute(probe["exec"]["command"]), timeout)
    except TimeoutError:
        return False, "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
    except ValueError as error:
        return False, str(error)
    return code == 0, output.strip()


async def follow(probe: Object, container: Object, address: str, shown: str, scale: float, execute: Exec,
                 report: Callable[[bool, str, bool], None]) -> None:
    """Ask for ever. ``report(healthy, text, decided)``: decided once the threshold of its kind is reached."""
    period = float(probe.get("periodSeconds") or 10)
    failure, success = int(probe.get("failureThreshold") or 3), int(probe.get("successThreshold") or 1)
    await asyncio.sleep(float(probe.get("initialDelaySeconds") or 0) * scale)
    run, last = 0, None
    while True:
        healthy, text = False, ""
        with contextlib.suppress(ConnectionError):
            healthy, text = await once(probe, container, address, shown, execute)
        run = run + 1 if healthy == last else 1
        last = healthy
        decided = run >= (success if healthy else failure)
        report(healthy, text, decided)
        settled = healthy and decided
        pause = max(period * scale, 0.1)
        await asyncio.sleep(min(period, max(pause, SETTLED_SECONDS)) if settled else pause)
