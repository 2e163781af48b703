"""What holds the containers of a pod: a directory and processes (ordinary pods). Pod VMs are in :mod:`lab.node_kata`."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import struct
import sys
import termios
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lab import runtime
from lab.node_container import Container, StartError
from lab.node_env import expand
from lab.node_process import Process, base_environment, entered, rotate, signal_group
from lab.node_volumes import mount, mounts
from lab.releases import release_of

if TYPE_CHECKING:
    from lab.node_pod import PodWorker

Object = dict[str, Any]
Output = Callable[[int, bytes], Awaitable[None]]  # channel 1 (stdout) or 2 (stderr), data


class Run(Protocol):
    """One run of a container."""

    async def wait(self) -> int:
        """The exit code."""

    async def signal(self, number: int) -> None:
        """Signal the container's processes."""


class HostRun:
    def __init__(self, process: Process) -> None:
        self.process = process

    async def wait(self) -> int:
        return await self.process.wait()

    async def signal(self, number: int) -> None:
        self.process.signal(number)


class Execution:
    """A command run inside a container for a client: its input and its end."""

    def __init__(self) -> None:
        self.input: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.sizes: asyncio.Queue[tuple[int, int]] = asyncio.Queue()


class Sandbox(Protocol):
    """What a pod's containers run in."""

    async def create(self) -> None:
        """Make it, waiting for ever where it cannot be made yet."""

    async def start(self, container: Container, values: dict[str, str]) -> Run:
        """Start a container. Raises StartError, MountError."""

    async def execute(self, container: Container, command: list[str], session: Execution, output: Output, tty: bool,
                      stdin: bool) -> int:
        """Run a command for a client; its exit code. Raises StartError."""

    async def execute_captured(self, container: Container, command: list[str]) -> tuple[int, str]:
        """Run a command; its exit code and output."""

    async def refresh_log(self, container: Container) -> None:
        """Bring the log file up to date."""

    async def destroy(self) -> None:
        """Remove it."""


def expanded(container: Object, values: dict[str, str]) -> tuple[list[str], list[str]]:
    """Command and args with ``$(VAR)`` replaced."""
    command = [expand(word, values) for word in container.get("command") or []]
    return command, [expand(word, values) for word in container.get("args") or []]


class HostSandbox:
    """A pod as processes of this machine."""

    def __init__(self, worker: PodWorker) -> None:
        self.worker = worker

    async def create(self) -> None:
        return

    def environment(self, container: Container, program: runtime.Program, values: dict[str, str]) -> dict[str, str]:
        """The whole environment of a container's process: its own variables, then the lab's."""
        worker, settings = self.worker, self.worker.node.settings
        meta = worker.pod["metadata"]
        env = base_environment() | {"HOSTNAME": meta["name"]} | values
        if program.command:
            env["PATH"] = f"{settings.tools}:{env['PATH']}"
        env |= {
            "LAB_ROOT": str(worker.rootfs(container.name)), "LAB_POD_ADDRESS": worker.listen,
            "LAB_HOSTS": settings.hosts, "LAB_TIME_SCALE": str(settings.scale),
            "LAB_POD_NAMESPACE": meta["namespace"], "LAB_POD_NAME": meta["name"], "LAB_NODE_NAME": worker.node.name,
            "KUBECONFIG": str(worker.directory / "kubeconfig"),
        }
        if release := release_of(container.spec["image"]):
            env["LAB_RELEASE"] = release
        for device in program.devices:
            name, path = runtime.DEVICES[device]
            env[name] = str(settings.state / path)
        return env

    def _words(self, argv: list[str], container: Container) -> list[str]:
        worker = self.worker
        visible = [worker.directory / "kubeconfig", worker.directory / "volumes"]
        return entered(argv, worker.rootfs(container.name), worker.node.settings.tools, visible,
                       container.spec.get("workingDir") or "/")

    def prepare(self, container: Container) -> Path:
        """The container's rootfs with its mounts in place."""
        worker = self.worker
        rootfs = worker.rootfs(container.name)
        (rootfs / "tmp").mkdir(parents=True, exist_ok=True)
        for entry in mounts(worker.pod["spec"])[container.name]:
            mount(rootfs, entry, worker.volume(entry["name"]))
        return rootfs

    async def start(self, container: Container, values: dict[str, str]) -> Run:
        worker, spec = self.worker, container.spec
        program = runtime.lookup(spec["image"], spec.get("command"))
        assert program is not None
        rootfs = self.prepare(container)
        command, args = expanded(spec, values)
        argv = runtime.argv(program, command, args)
        env = self.environment(container, program, values)
        cwd = rootfs / str(spec.get("workingDir") or "").lstrip("/")
        cwd.mkdir(parents=True, exist_ok=True)
        if program.command:
            if not _found(argv[0], env["PATH"], rootfs):
                raise StartError("CreateContainerError", f"container create failed: executable file `{argv[0]}` not "
                                 "found in $PATH: No such file or directory")
            argv = self._words(argv, container)
        rotate(worker.log(container.name))
        try:
            process = await Process.start(argv, env, cwd, worker.log(container.name), worker.pid_file(container.name))
        except OSError as error:
            raise StartError("CreateContainerError", f"container create failed: {error}") from error
        return HostRun(process)

    async def _spawn(self, container: Container, command: list[str], **streams: Any) -> asyncio.subprocess.Process:
        program = runtime.lookup(container.spec["image"], container.spec.get("command"))
        assert program is not None
        env = self.environment(container, program, container.values)
        rootfs = self.worker.rootfs(container.name)
        if not _found(command[0], env["PATH"], rootfs):
            raise StartError("ExecError", f"error executing command in container: executable file `{command[0]}` "
                             "not found in $PATH: No such file or directory")
        try:
            return await asyncio.create_subprocess_exec(*self._words(command, container), env=env, cwd=rootfs,
                                                        **({"start_new_session": True} | streams))
        except OSError as error:
            raise StartError("ExecError", f"exec failed: {error}") from error

    async def execute_captured(self, container: Container, command: list[str]) -> tuple[int, str]:
        pipe = asyncio.subprocess.PIPE
        try:
            process = await self._spawn(container, command, stdin=asyncio.subprocess.DEVNULL, stdout=pipe,
                                        stderr=asyncio.subprocess.STDOUT)
        except StartError as error:
            return 126, error.message
        try:
            output, _ = await process.communicate()
        except asyncio.CancelledError:
            signal_group(process.pid, signal.SIGKILL)
            raise
        return process.returncode or 0, output.decode(errors="replace")

    async def execute(self, container: Container, command: list[str], session: Execution, output: Output, tty: bool,
                      stdin: bool) -> int:
        if tty:
            return await self._execute_tty(container, command, session, output)
        pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        process = await self._spawn(container, command, stdin=pipe if stdin else null, stdout=pipe, stderr=pipe)

        async def feed() -> None:
            assert process.stdin is not None
            with contextlib.suppress(ConnectionError):
                while (data := await session.input.get()) is not None:
                    process.stdin.write(data)
                    await process.stdin.drain()
            process.stdin.close()

        async def drain(reader: asyncio.StreamReader, channel: int) -> None:
            while data := await reader.read(65536):
                await output(channel, data)

        feeder = asyncio.ensure_future(feed()) if stdin else None
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            await asyncio.gather(drain(process.stdout, 1), drain(process.stderr, 2))
            code = await process.wait()
        finally:
            if feeder is not None:
                feeder.cancel()
            signal_group(process.pid, signal.SIGKILL)
        return code if code >= 0 else 128 - code

    async def _execute_tty(self, container: Container, command: list[str], session: Execution, output: Output) -> int:
        master, slave = os.openpty()
        loop = asyncio.get_running_loop()
        words = [sys.executable, "-I", "-c", "import os,sys,fcntl,termios; os.setsid(); "
                 "fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])", *command]
        try:
            process = await self._spawn(container, words, stdin=slave, stdout=slave, stderr=slave,
                                        start_new_session=False)
        finally:
            os.close(slave)
        queue: asyncio.Queue[bytes] = asyncio.Queue()

        def readable() -> None:
            try:
                data = os.read(master, 65536)
            except OSError:
                data = b""
            queue.put_nowait(data)
            if not data:
                loop.remove_reader(master)

        async def feed() -> None:
            while (data := await session.input.get()) is not None:
                os.write(master, data)

        async def resize() -> None:
            while True:
                width, height = await session.sizes.get()
                fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

        loop.add_reader(master, readable)
        helpers = [asyncio.ensure_future(feed()), asyncio.ensure_future(resize())]
        try:
            while data := await queue.get():
                await output(1, data)
            code = await process.wait()
        finally:
            for helper in helpers:
                helper.cancel()
            loop.remove_reader(master)
            os.close(master)
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        return code if code >= 0 else 128 - code

    async def refresh_log(self, container: Container) -> None:
        return

    async def destroy(self) -> None:
        return


def _found(word: str, path: str, rootfs: Path) -> bool:
    """Is there such a program in the container (this machine's, or a file of the pod's)?"""
    if "/" in word:
        return Path(word).exists() or (rootfs / word.lstrip("/")).exists()
    return shutil.which(word, path=path) is not None
