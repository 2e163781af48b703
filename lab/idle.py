"""lab-idle: programs of the products that do nothing a test could see (metrics server, kata monitor).

They announce themselves and answer their port: ``--listen-address=:8090`` or, without it, the metrics server's 8091.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

from aiohttp import web

from lab.paths import listen_address
from lab.program import log, main


async def _metrics(_request: web.Request) -> web.Response:
    return web.Response(text="# HELP lab_idle A stand-in runs.\n# TYPE lab_idle gauge\nlab_idle 1\n")


async def _healthy(_request: web.Request) -> web.Response:
    return web.Response(text="ok\n")


def application() -> web.Application:
    """Answers ``/metrics``, ``/healthz`` and ``/readyz``."""
    app = web.Application()
    app.router.add_get("/metrics", _metrics)
    for path in ("/healthz", "/readyz"):
        app.router.add_get(path, _healthy)
    return app


def socket_of(words: list[str]) -> str:
    """``host:port`` to listen on, by the program's arguments; unknown ones are the real program's own."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--listen-address", default=":8091")
    known, _ = parser.parse_known_args(words)
    address: str = known.listen_address
    return address if not address.startswith(":") else f"0.0.0.0{address}"


async def work() -> None:
    host, port = listen_address(socket_of(sys.argv[1:]))
    runner = web.AppRunner(application(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    log.info("answering /metrics at %s:%d", host, port)
    try:
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    sys.exit(main("lab-idle", "a program without visible work", os.environ.get("LAB_POD_NAME", "no pod"), work))
