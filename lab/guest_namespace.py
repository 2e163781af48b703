"""The inside of a pod VM: a process in namespaces of its own that starts the containers.

Started by lab-guest as ``unshare -Urnm python -m lab.guest_namespace``. It raises ``lo``, listens on 127.0.0.1:8006 and
joins each connection to lab-guest's unix socket, gives each container a root of its own (the machine's programs,
read-only, with the pod's volumes at their paths) and waits for it. Requests come one JSON object a line on a unix socket.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import fcntl
import json
import os
import signal
import socket
import struct
import sys
from pathlib import Path
from typing import Any

MS_BIND, MS_REC = 4096, 16384
PR_SET_PDEATHSIG = 1
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc", "/proc", "/dev", "/sys")
libc = ctypes.CDLL(None, use_errno=True)


def raise_loopback() -> None:
    """Set ``lo`` up in this network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sH14s", b"lo", 0, b"")
        flags = struct.unpack("16sH14s", fcntl.ioctl(sock, 0x8913, request))[1]
        fcntl.ioctl(sock, 0x8914, struct.pack("16sH14s", b"lo", flags | 1, b""))


def mount(source: str, target: Path, kind: str | None, flags: int) -> None:
    """mount(2); raises OSError."""
    target_bytes = str(target).encode()
    if libc.mount(source.encode(), target_bytes, kind.encode() if kind else None, flags, None) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))


def bind(source: Path, target: Path) -> None:
    """Show ``source`` at ``target``."""
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    mount(str(source), target, None, MS_BIND | MS_REC)


def build_root(root: Path, visible: list[str], volumes: list[dict[str, str]]) -> None:
    """A container's root below ``root``: the machine's programs, the lab's own, and the pod's volumes."""
    root.mkdir(parents=True, exist_ok=True)
    mount("tmpfs", root, "tmpfs", 0)
    for name in SYSTEM:
        path = Path(name)
        if path.is_symlink():
            (root / name[1:]).symlink_to(os.readlink(path))
        elif path.is_dir():
            bind(path, root / name[1:])
    for name in visible:
        if not any(Path(name).is_relative_to(system) for system in SYSTEM):
            bind(Path(name), root / name[1:])
    for directory in ("tmp", "run", "var"):
        (root / directory).mkdir(exist_ok=True)
    for volume in volumes:
        bind(Path(volume["source"]), root / volume["destination"].lstrip("/"))


class Holder:
    """Runs containers and answers requests."""

    def __init__(self, api: str, directory: Path, visible: list[str], chroot: bool) -> None:
        self.api, self.directory, self.visible, self.chroot = api, directory, visible, chroot
        self.running: dict[str, asyncio.subprocess.Process] = {}

    async def forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Join one connection of a container to lab-guest."""
        try:
            up_reader, up_writer = await asyncio.open_unix_connection(self.api)
        except OSError:
            writer.close()
            return

        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            try:
                while data := await source.read(65536):
                    target.write(data)
                    await target.drain()
            except OSError:
                pass
            finally:
                target.close()

        await asyncio.gather(copy(reader, up_writer), copy(up_reader, writer))

    async def run(self, request: dict[str, Any]) -> dict[str, Any]:
        """Start a program and wait for its end: its exit code (128 + signal, or 127 where there is no such program)."""
        root: Path | None = None
        if self.chroot:
            root = self.directory / "roots" / request["container"]
            if not root.exists():
                build_root(root, self.visible, request.get("mounts", []))

        def enter() -> None:
            os.setsid()
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if root is not None:
                os.chroot(root)
            os.chdir(request.get("cwd") or "/")

        with open(request["stdout"], "ab") as out, open(request["stderr"], "ab") as err:
            try:
                process = await asyncio.create_subprocess_exec(
                    *request["command"], env=request["env"], stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=err,
                    preexec_fn=enter,
                )
            except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
                err.write(f"{error}\n".encode())
                return {"exit_code": 127}
        self.running[request["id"]] = process
        try:
            code = await process.wait()
        finally:
            self.running.pop(request["id"], None)
        return {"exit_code": code if code >= 0 else 128 - code}

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request a connection: run or signal."""
        request = json.loads(await reader.readline())
        if request["do"] == "run":
            try:
                result = await self.run(request)
            except OSError as error:
                result = {"error": str(error)}
        else:
            process = self.running.get(request["id"])
            if process is not None:
                os.killpg(process.pid, request["signal"])
            result = {}
        writer.write(json.dumps(result).encode() + b"\n")
        try:
            await writer.drain()
        finally:
            writer.close()


async def serve(options: argparse.Namespace) -> None:
    """Listen until the pod VM ends (its end of standard input closes)."""
    holder = Holder(options.api, Path(options.directory), options.visible, options.chroot)
    if options.network:
        raise_loopback()
        await asyncio.start_server(holder.forward, "127.0.0.1", 8006)
    Path(options.control).unlink(missing_ok=True)
    await asyncio.start_unix_server(holder.answer, options.control)
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for process in holder.running.values():
        os.killpg(process.pid, signal.SIGKILL)


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("--api", required=True)
    options.add_argument("--control", required=True)
    options.add_argument("--directory", required=True)
    options.add_argument("--visible", action="append", default=[])
    options.add_argument("--network", action="store_true")
    options.add_argument("--chroot", action="store_true")
    asyncio.run(serve(options.parse_args()))
