"""What every stand-in has in common: its announcement, its log, its clean stop."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import TextIO

log = logging.getLogger("lab")


def setup_logging(into: TextIO | None = None) -> None:
    """Log to standard output, or to a file, one line an event: UTC time, level, text."""
    formatter = logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = __import__("time").gmtime
    handler = logging.StreamHandler(into or sys.stdout)
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)


def main(name: str, real: str, release: str, work: Callable[[], Awaitable[None]],
         log_file: TextIO | None = None) -> int:
    """Run ``work()`` until it ends or the program is told to stop.

    ``name`` is the stand-in (``lab-osc``), ``real`` the program it stands in for, ``release`` that program's release;
    ``log_file``: where the log goes, if not to standard output.
    Returns the exit status: 0 after a stop by SIGTERM or SIGINT, 1 after an error (logged in full).
    """
    setup_logging(log_file)
    log.info("%s: stand-in for %s (%s)", name, real, release)

    async def run() -> int:
        loop = asyncio.get_running_loop()
        task: asyncio.Future[None] = asyncio.ensure_future(work())
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, task.cancel)
        try:
            await task
        except asyncio.CancelledError:
            log.info("%s: stopped", name)
        except Exception:
            log.exception("%s: failed", name)
            return 1
        return 0

    return asyncio.run(run())
