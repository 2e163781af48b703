"""The real program's command line, around the stand-in."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
from pathlib import Path

from lab import program
from lab.kbs import config, material
from lab.kbs.errors import StartError
from lab.kbs.generation import RELEASES, Generation, of_release
from lab.kbs.http import Server
from lab.kbs.server import Kbs
from lab.paths import listen_address

log = logging.getLogger("lab")


async def serve(path: str, generation: Generation) -> None:
    """Run the server until it is stopped. Raises :class:`StartError`."""
    log.info("Using config file %s", path)
    settings = config.read(path, generation)
    public = os.environ.get("LAB_SILICON_PUBLIC")
    if public:
        log.warning("lab-kbs trusts the lab's silicon key %s in place of the vendor's certificate chain", public)
    kbs = Kbs(settings, generation, Path(public).read_bytes() if public else None)
    http = settings.http
    log.info("Starting %s server at [%s]", "HTTP" if http.insecure else "HTTPS", ", ".join(http.sockets))
    context = None if http.insecure else material.tls(http, generation)

    def connections(number: int) -> None:
        kbs.metrics.connections = number

    limit = generation.payload or http.payload_mib * 1024 * 1024
    server = Server(kbs.handle, limit, connections)
    try:
        for socket in http.sockets:
            host, port = listen_address(socket)
            if context is None and not http.insecure:
                await server.refuse(host.strip("[]"), port)
            else:
                await server.listen(host.strip("[]"), port, context)
        log.info("starting %d workers", http.workers or os.cpu_count() or 1)
        await asyncio.Event().wait()
    except OSError as error:
        raise StartError("HTTP server failed to listen", str(error)) from error
    finally:
        server.close()


def main(arguments: list[str]) -> int:
    """Run the KBS with the given words; the exit status. A configuration that the real one refuses is 1 with ``Error:``.

    Its release is that of the image in a pod (``LAB_RELEASE``, set by the node), or ``--release``; a later patch release and
    none at all are fine.
    """
    options = argparse.ArgumentParser(prog="kbs")
    options.add_argument("-c", "--config-file", required=True)
    options.add_argument("--release", default=os.environ.get("LAB_RELEASE") or "1.0",
                         help=f"release of the Red Hat build of Trustee ({', '.join(RELEASES)})")
    chosen = options.parse_args(arguments)
    try:
        generation = of_release(chosen.release)
    except ValueError as error:
        options.error(str(error))
    status = 0

    async def work() -> None:
        nonlocal status
        try:
            await serve(chosen.config_file, generation)
        except StartError as error:
            print(f"Error: {error}", flush=True)
            status = 1

    release = f"Trustee {generation.product}, upstream {generation.upstream}, generation {generation.name}"
    return program.main("lab-kbs", "the KBS of the Red Hat build of Trustee", release, work) or status
