"""Processes of containers: start, stop, exec; leftovers of a killed lab-node.

Programs run in a session of their own, without the right to override file permissions (so that a configMap mount is
read-only even for root), and end with lab-node. Shell images and ``exec`` see the pod's rootfs at ``/`` where user
namespaces are allowed (:mod:`lab.node_enter`); elsewhere they run beside us with LAB_ROOT set.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP = 1, 24
_CAP_DAC_OVERRIDE = 1
CHECKOUT = Path(__file__).resolve().parent.parent


def _enter() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    _LIBC.prctl(_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE, 0, 0, 0)


@functools.cache
def namespaces_allowed() -> bool:
    """May this user make user and mount namespaces?"""
    if shutil.which("unshare") is None:
        return False
    test = subprocess.run(["unshare", "--user", "--map-root-user", "--mount", "--", "true"], capture_output=True,
                          check=False)
    return test.returncode == 0


def base_environment() -> dict[str, str]:
    """What every process of a pod gets before its own variables: nothing of the environment of the lab's user."""
    tools = f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {"PATH": tools, "HOME": "/", "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(CHECKOUT),
            "PYTHONDONTWRITEBYTECODE": "1"}


def entered(argv: list[str], rootfs: Path, tools: Path, visible: list[Path], cwd: str) -> list[str]:
    """The words that run ``argv`` with the rootfs at ``/`` (or, without namespaces, as they are)."""
    if not namespaces_allowed():
        return argv
    words = ["unshare", "--user", "--map-root-user", "--mount", "--", sys.executable, "-I",
             str(Path(__file__).with_name("node_enter.py")), "--rootfs", str(rootfs), "--cwd", cwd]
    for path in sorted({CHECKOUT / "lab", tools, Path(sys.prefix), Path(sys.base_prefix), *visible}):
        words += ["--visible", str(path)]
    return [*words, "--", *argv]


class Process:
    """One run of a command."""

    def __init__(self, process: asyncio.subprocess.Process, pid_file: Path | None) -> None:
        self.process, self.pid_file = process, pid_file

    @classmethod
    async def start(cls, argv: list[str], env: dict[str, str], cwd: Path, log: Path, pid_file: Path) -> Process:
        """Run ``argv`` with its output appended to ``log``. Raises OSError where it cannot be started."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *argv, env=env, cwd=cwd, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True, preexec_fn=_enter)
        pid_file.parent.mkdir(parents=True, exist_ok=True)
        pid_file.write_text(f"{process.pid} {birth(process.pid)}\n")
        return cls(process, pid_file)

    async def wait(self) -> int:
        """The exit code as a container reports it (128 + signal)."""
        code = await self.process.wait()
        signal_group(self.process.pid, signal.SIGKILL)
        if self.pid_file is not None:
            self.pid_file.unlink(missing_ok=True)
        return code if code >= 0 else 128 - code

    def signal(self, number: int) -> None:
        signal_group(self.process.pid, number)


def signal_group(pid: int, number: int) -> None:
    """Signal a process group; one that is gone is no error."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def birth(pid: int) -> str:
    """When a process started (clock ticks after boot), which tells it from a later one with the same number."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def kill_leftover(pid_file: Path) -> bool:
    """Kill the process group that a killed predecessor left behind. Returns whether there was one."""
    try:
        pid, _, born = pid_file.read_text().strip().partition(" ")
        alive = bool(born) and birth(int(pid)) == born
    except (OSError, ValueError):
        return False
    if alive:
        signal_group(int(pid), signal.SIGKILL)
    pid_file.unlink(missing_ok=True)
    return alive


def rotate(log: Path) -> None:
    """Keep the log of the run before as ``<container>.previous.log``."""
    if log.exists():
        log.replace(log.with_name(log.stem + ".previous.log"))
