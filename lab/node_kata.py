"""Pods with a runtime class: a pod VM made by lab-caa, its containers driven through the guest's agent.

A socket answers one JSON object a line. lab-node never looks into the VM: what the agent refuses is refused here too.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import runtime
from lab.node_container import Container, StartError
from lab.node_process import rotate
from lab.node_spec import volume_kind
from lab.node_volumes import MountError, mounts

if TYPE_CHECKING:
    from lab.node_pod import PodWorker
    from lab.node_sandbox import Execution, Output

Object = dict[str, Any]
HYPERVISOR = "/run/peerpod/hypervisor.sock"
CRIO = "etc/crio/crio.conf.d"
RETRY_SECONDS = 12.0
EVENT_SECONDS = 60.0


class SandboxError(Exception):
    """Why a sandbox could not be made, in the runtime's words."""


async def ask(socket: str, request: Object) -> Object:
    """One request to a line socket. Raises OSError where nothing answers."""
    reader, writer = await asyncio.open_unix_connection(socket, limit=1 << 24)
    try:
        writer.write(json.dumps(request).encode() + b"\n")
        await writer.drain()
        line = await reader.readline()
    finally:
        writer.close()
    if not line:
        raise ConnectionResetError("ttrpc: closed")
    answer: Object = json.loads(line)
    return answer


class KataRun:
    """A container in a pod VM."""

    def __init__(self, sandbox: KataSandbox, container: Container, name: str) -> None:
        self.sandbox, self.container, self.name = sandbox, container, name
        self._stop = asyncio.Event()

    async def _agent(self, method: str, **fields: Any) -> Object:
        return await ask(self.sandbox.agent, {"method": method, "container": self.name, **fields})

    async def wait(self) -> int:
        code = 255
        waiting = asyncio.ensure_future(self._agent("WaitProcessRequest"))
        stopping = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                answer = waiting.result()
                code = int(answer.get("exit_code", 255))
                if "error" in answer and answer.get("code") == "PERMISSION_DENIED":
                    # The process runs, but its end cannot be learned: until the pod is stopped it counts as running.
                    await self._stop.wait()
                    code = 137
            else:
                code = 137
        except (OSError, ValueError):
            self.sandbox.lost = True
        finally:
            waiting.cancel()
            stopping.cancel()
        await self.sandbox.refresh_log(self.container)
        return code

    async def signal(self, number: int) -> None:
        """Signal the process; a kill holds even where the policy refuses the request (the VM goes with the pod)."""
        with contextlib.suppress(OSError, ValueError):
            await asyncio.wait_for(self._agent("SignalProcessRequest", signal=int(number)), 5)
        if number == signal.SIGKILL:
            await asyncio.sleep(0.1)
            self._stop.set()


class KataSandbox:
    """The pod VM of one pod."""

    def __init__(self, worker: PodWorker) -> None:
        self.worker = worker
        self.agent = self.vm = ""
        self.lost = False
        self._names: dict[str, str] = {}
        self._creating: asyncio.Task[Object] | None = None
        self._lock = asyncio.Lock()

    @property
    def _record(self) -> Path:
        return self.worker.directory / "sandbox.json"

    def _hypervisor(self) -> str:
        path = self.worker.node.root / HYPERVISOR.lstrip("/")
        return os.readlink(path) if path.is_symlink() else str(path)

    async def _handler(self) -> str:
        name = self.worker.pod["spec"]["runtimeClassName"]
        found = await self.worker.node.kube.get("node.k8s.io/v1", "RuntimeClass", name)
        if found is None:
            raise SandboxError(f'failed to get sandbox runtime: runtimeclass.node.k8s.io "{name}" not found')
        return str(found["handler"])

    async def _create(self) -> None:
        handler = await self._handler()
        if not (self.worker.node.root / CRIO / f"50-{handler}").exists():
            raise SandboxError(f'failed to get sandbox runtime: no runtime for "{handler}" is configured')
        if handler != "kata-remote":
            raise SandboxError(f'runtime "{handler}" needs nested virtualization, which the lab\'s nodes do not have: '
                               "qemu: Could not access KVM kernel module: No such file or directory")
        meta = self.worker.pod["metadata"]
        request = {"method": "CreateVM", "pod": {
            "namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"],
            "annotations": meta.get("annotations") or {}}}
        failed = "CreateContainer failed: remote hypervisor call failed: rpc error: "
        self._creating = asyncio.ensure_future(ask(self._hypervisor(), request))
        try:
            answer = await asyncio.shield(self._creating)
        except (OSError, ValueError) as error:
            why = ("no such file or directory" if isinstance(error, FileNotFoundError) else "connection refused"
                   if isinstance(error, ConnectionRefusedError) else "connection reset by peer")
            raise SandboxError(f'{failed}code = Unavailable desc = connection error: desc = "transport: Error while '
                               f'dialing: dial unix {HYPERVISOR}: connect: {why}"') from error
        self._creating = None
        if "error" in answer:
            raise SandboxError(f"{failed}code = Unknown desc = {answer['error']}")
        self.vm, self.agent, self.lost = answer["vm"], answer["agent"], False
        self._record.write_text(json.dumps({"vm": self.vm, "agent": self.agent}))

    async def create(self) -> None:
        await self._stop_vm_before()
        told, at = "", 0.0
        while True:
            try:
                await self._create()
                return
            except SandboxError as error:
                text = str(error)
            if text != told or time.monotonic() - at > EVENT_SECONDS * self.worker.scale:
                self.worker.event("Warning", "FailedCreatePodSandBox",
                                  f"Failed to create pod sandbox: rpc error: code = Unknown desc = {text}")
                told, at = text, time.monotonic()
            await asyncio.sleep(max(RETRY_SECONDS * self.worker.scale, 0.5))

    async def _stop_vm_before(self) -> None:
        """A VM of this pod from before a reboot or a killed lab-node is not adopted: it is stopped."""
        if self._record.exists():
            await self._stop_vm(json.loads(self._record.read_text())["vm"])
            self._record.unlink(missing_ok=True)

    async def _stop_vm(self, vm: str) -> None:
        with contextlib.suppress(OSError, ValueError, TimeoutError):
            await asyncio.wait_for(ask(self._hypervisor(), {"method": "StopVM", "vm": vm}), 30)

    def _mounts(self, container: Container) -> list[dict[str, str]]:
        kinds = {v["name"]: volume_kind(v) for v in self.worker.pod["spec"].get("volumes") or []}
        found = []
        for entry in mounts(self.worker.pod["spec"])[container.name]:
            source = self.worker.volume(entry["name"])
            if entry.get("subPath"):
                source = source / entry["subPath"]
            found.append({"source": str(source), "destination": entry["mountPath"], "kind": kinds.get(entry["name"], "")})
        return found

    async def start(self, container: Container, values: dict[str, str]) -> KataRun:
        from lab.node_sandbox import expanded  # the two sandboxes know each other's container model

        if not runtime.is_guest(container.spec["image"]):
            raise StartError("CreateContainerError", f"CreateContainer failed: {container.spec['image']} is no image that "
                             "a pod VM of the lab can run; use one of " + ", ".join(sorted(runtime.GUEST_IMAGES)))
        async with self._lock:
            if self.lost:
                self.worker.event("Normal", "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")
                await self.create()
        command, args = expanded(container.spec, values)
        name = container.name if container.restarts == 0 else f"{container.name}-{container.restarts}"
        words = [*command, *args] or runtime.default_command(container.spec["image"])
        run = KataRun(self, container, name)
        env = {"HOSTNAME": self.worker.pod["metadata"]["name"]} | values
        request: Object = {"image": container.spec["image"], "command": words,
                           "env": [[k, v] for k, v in env.items()], "mounts": self._mounts(container)}
        if container.spec.get("workingDir"):
            request["cwd"] = container.spec["workingDir"]
        for method, fields in (("CreateContainerRequest", request), ("StartContainerRequest", {})):
            try:
                answer = await run._agent(method, **fields)
            except (OSError, ValueError) as error:
                self.lost = True
                raise StartError("CreateContainerError", f"CreateContainer failed: {error}") from error
            if "error" in answer:
                reason = "CreateContainerError" if method == "CreateContainerRequest" else "RunContainerError"
                raise StartError(reason, f"CreateContainer failed: {answer['error']}")
        rotate(self.worker.log(container.name))
        self.worker.log(container.name).parent.mkdir(parents=True, exist_ok=True)
        self.worker.log(container.name).touch()
        self._names[container.name] = name
        return run

    async def refresh_log(self, container: Container) -> None:
        """Fetch the whole log; an agent that refuses leaves it empty."""
        name = self._names.get(container.name)
        if name is None:
            return
        try:
            answer = await asyncio.wait_for(ask(self.agent, {"method": "ReadStreamRequest", "container": name}), 10)
        except (OSError, ValueError, TimeoutError):
            return
        path = self.worker.log(container.name)
        data = str(answer.get("stdout", "")).encode()
        if "error" not in answer and path.parent.exists() and (not path.exists() or path.stat().st_size != len(data)):
            path.write_bytes(data)

    async def _exec(self, container: Container, command: list[str]) -> Object:
        name = self._names.get(container.name, container.name)
        try:
            answer = await ask(self.agent, {"method": "ExecProcessRequest", "container": name, "command": command})
        except (OSError, ValueError) as error:
            raise StartError("ExecError", f"error executing command in container: {error}") from error
        if "error" in answer:
            raise StartError("ExecError", "error executing command in container: rpc error: code = "
                             f"{'PermissionDenied' if answer.get('code') == 'PERMISSION_DENIED' else 'Internal'} desc = "
                             f"{answer['error']}")
        return answer

    async def execute(self, container: Container, command: list[str], session: Execution, output: Output, tty: bool,
                      stdin: bool) -> int:
        answer = await self._exec(container, command)
        for channel, stream in ((1, "stdout"), (2, "stderr")):
            if answer.get(stream):
                await output(channel, str(answer[stream]).encode())
        return int(answer.get("exit_code", 255))

    async def execute_captured(self, container: Container, command: list[str]) -> tuple[int, str]:
        try:
            answer = await self._exec(container, command)
        except StartError as error:
            return 126, error.message
        return int(answer.get("exit_code", 255)), str(answer.get("stdout", "")) + str(answer.get("stderr", ""))

    async def destroy(self) -> None:
        """Stop the VM, also one whose creation is under way."""
        if self._creating is not None:
            with contextlib.suppress(OSError, ValueError, MountError):
                self.vm = (await self._creating).get("vm", "")
        vm = self.vm or (json.loads(self._record.read_text())["vm"] if self._record.exists() else "")
        if vm:
            await self._stop_vm(vm)
