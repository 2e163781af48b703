"""Processes of a lab: started in the background, known by pid files, ended only when they are its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "olm", "catalog")


class StartError(Exception):
    """A program did not start: what failed, its last lines, what to do."""


def started(pid: int) -> str:
    """The start time of a process, which tells a process from a later one with its number; empty when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


class Processes:
    """The processes of the cluster in ``directory``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.logs = directory / "log"
        self.pids = directory / "pid"

    def start(self, name: str, argv: list[str], env: dict[str, str] | None = None, cwd: Path | None = None) -> None:
        """Start a program; its output goes to ``log/<name>.log``."""
        self.logs.mkdir(parents=True, exist_ok=True)
        self.pids.mkdir(parents=True, exist_ok=True)
        with (self.logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                                       env={**os.environ, **(env or {})}, cwd=cwd or self.directory)
        (self.pids / name).write_text(f"{process.pid} {started(process.pid)}")

    def running(self) -> dict[str, int]:
        """Pids by name."""
        found = {}
        for file in sorted(self.pids.glob("*")) if self.pids.exists() else []:
            pid, _, start = file.read_text().partition(" ")
            if start and started(int(pid)) == start:
                found[file.name] = int(pid)
        return found

    def check(self, name: str) -> None:
        """Raise when the program has ended."""
        if name not in self.running():
            raise self.failure(name, "ended at once")

    def failure(self, name: str, what: str) -> StartError:
        log = self.logs / f"{name}.log"
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-12:]) if log.exists() else "(no log)"
        return StartError(f"{name} {what} · the end of {log}:\n{tail}\n· mend the cause, then 'python -m lab up' again")

    def stop(self, *names: str, seconds: float = 5, number: int = signal.SIGTERM) -> None:
        """End the named programs (all when none is named), kindly first."""
        running = self.running()
        chosen = {name: pid for name, pid in running.items() if not names or name in names}
        for pid in chosen.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + seconds
        while any(started(pid) for pid in chosen.values()) and time.monotonic() < deadline:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(-1, os.WNOHANG)
            time.sleep(0.02)
        for pid in chosen.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for name in chosen:
            (self.pids / name).unlink(missing_ok=True)


def sweep(state: Path) -> int:
    """Kill what still runs below ``state`` (pods, pod VMs, leftovers of a killed predecessor): only processes whose
    command line or environment names that directory and that belong to this user. Returns how many."""
    needle = str(state).encode()
    count = 0
    for entry in Path("/proc").glob("[0-9]*"):
        pid = int(entry.name)
        if pid in (os.getpid(), os.getppid()):
            continue
        try:
            if entry.stat().st_uid != os.getuid():
                continue
            words = (entry / "cmdline").read_bytes()
            variables = dict(v.split(b"=", 1) for v in (entry / "environ").read_bytes().split(b"\0") if b"=" in v)
        except OSError:
            continue
        ours = any(variables.get(name, b"").startswith(needle) for name in (b"LAB_ROOT", b"LAB_HOSTS"))
        control_plane = needle in words and words.split(b"\0")[0].rpartition(b"/")[2].decode() in CONTROL_PLANE
        if ours or control_plane:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                count += 1
    return count
