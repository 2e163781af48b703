"""What runs in virtual machines: the pod VMs that lab-caa started beside this stand-in. A machine that Azure deletes stops."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

#: Seconds between the request to end and the end.
PATIENCE = 1.0


def stop(cloud: Path, name: str) -> None:
    """End the pod VM of a name, if one runs: below ``cloud``/vms, with its process number in the file ``pid``."""
    directory = cloud / "vms" / name
    if _signal(directory, signal.SIGTERM):
        asyncio.get_running_loop().call_later(PATIENCE, _signal, directory, signal.SIGKILL)


def _signal(directory: Path, number: int) -> bool:
    with contextlib.suppress(OSError, ValueError):
        pid = int((directory / "pid").read_text())
        if str(directory).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, number)
            return True
    return False
