"""What a command costs: wall seconds, CPU seconds of all its processes, resident MiB of the largest of them."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Spent:
    """The cost of one command, or of several one after the other."""

    wall: float
    cpu: float
    memory: float

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.wall + other.wall, self.cpu + other.cpu, max(self.memory, other.memory))

    def __str__(self) -> str:
        return f"{self.wall:.1f} s, {self.cpu:.1f} CPU s, {self.memory:.0f} MiB"


def spend(command: list[str], env: dict[str, str] | None = None, cwd: Path | None = None) -> Spent:
    """Run a command that must succeed; the processes that it waited for count as its own (wait4)."""
    with tempfile.TemporaryFile("w+") as output:
        began = time.monotonic()
        process = subprocess.Popen(command, env=env, cwd=cwd, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        _pid, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            output.seek(0)
            raise SystemExit(f"bench: {' '.join(command[:4])} … ended with {process.returncode}; its last lines:\n{output.read()[-3000:]}")
    return Spent(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)
