"""lab-guest: a pod VM. It processes its user data, measures initdata, and is the kata agent of its pod.

``python -m lab.guest --vm DIR``: DIR/vm.json is what lab-caa asked the cloud for (size, image, user data). The VM outlives
lab-caa, as a real one does.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import gzip
import hashlib
import json
import logging
import os
import signal
import sys
import tomllib
import zlib
from pathlib import Path
from typing import Any

import regorus
from aiohttp import web

from lab import program
from lab.guest_cdh import Attester, GuestError, Hub, api
from lab.releases import OSC

log = logging.getLogger("lab")

DEFAULT_RELEASE = "1.11.1"
INITDATA_FILES = ("aa.toml", "cdh.toml", "policy.rego")
DIGESTS = {"sha256": hashlib.sha256, "sha384": hashlib.sha384, "sha512": hashlib.sha512}

# The requests that kata 3.21 sends; the pod VM image of OSC allows all but these two.
REQUESTS = (
    "AddARPNeighborsRequest", "AddSwapRequest", "CloseStdinRequest", "CopyFileRequest", "CreateContainerRequest",
    "CreateSandboxRequest", "DestroySandboxRequest", "ExecProcessRequest", "GetMetricsRequest", "GetOOMEventRequest",
    "GuestDetailsRequest", "ListInterfacesRequest", "ListRoutesRequest", "MemHotplugByProbeRequest",
    "OnlineCPUMemRequest", "PauseContainerRequest", "PullImageRequest", "ReadStreamRequest", "RemoveContainerRequest",
    "RemoveStaleVirtiofsShareMountsRequest", "ReseedRandomDevRequest", "ResumeContainerRequest",
    "SetGuestDateTimeRequest", "SetPolicyRequest", "SignalProcessRequest", "StartContainerRequest",
    "StartTracingRequest", "StatsContainerRequest", "StopTracingRequest", "TtyWinResizeRequest",
    "UpdateContainerRequest", "UpdateEphemeralMountsRequest", "UpdateInterfaceRequest", "UpdateRoutesRequest",
    "WaitProcessRequest", "WriteStreamRequest",
)
DENIED_BY_IMAGE = ("ReadStreamRequest", "ExecProcessRequest")
# What the shim sends before the first container, in this order.
SANDBOX_REQUESTS = ("CreateSandboxRequest", "UpdateInterfaceRequest", "UpdateRoutesRequest")
DEFAULT_POLICY = "package agent_policy\n\n" + "".join(
    f"default {name} := {'false' if name in DENIED_BY_IMAGE else 'true'}\n" for name in REQUESTS
)


class UserDataError(ValueError):
    """User data that process-user-data refuses: the VM never becomes ready."""


def process_initdata(encoded: str, compressed: bool = True) -> tuple[dict[str, str], bytes]:
    """Files and digest of the ``initdata`` user data: base64 of gzip of TOML, up to OSC 1.9 base64 of TOML."""
    try:
        toml = base64.b64decode(encoded, validate=True)
        if compressed:
            toml = gzip.decompress(toml)
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise UserDataError(f"Error parse initdata: failed to decode: {error}") from error
    try:
        document = tomllib.loads(toml.decode())
    except ValueError as error:
        raise UserDataError(f"Error parse initdata: {error}") from error
    algorithm = document.get("algorithm")
    if algorithm not in DIGESTS:
        raise UserDataError(f"Error parse initdata: unsupported hash algorithm: {algorithm}")
    files = {}
    for name, text in document.get("data", {}).items():
        if name in INITDATA_FILES:
            files[name] = text
        else:
            log.warning("File: %s is not allowed in initdata.", name)
    return files, DIGESTS[algorithm](toml).digest()


def extend(pcr: bytes, digest: bytes) -> bytes:
    """One extend of the sha256 bank with the first 32 bytes of a digest (``head -c64`` of its hex form)."""
    return hashlib.sha256(pcr + digest[:32]).digest()


class AgentPolicy:
    """The kata agent's policy (regorus in the Rego v0 dialect, as kata 3.12-3.29 has it)."""

    def __init__(self, text: str) -> None:
        self.engine = regorus.Engine()
        self.engine.set_rego_v0(True)
        self.engine.add_policy("agent_policy", text)

    def _query(self, name: str) -> Any:
        try:
            text = self.engine.eval_rule_as_json(f"data.agent_policy.{name}")
        except Exception as error:
            if "not a valid rule path" in str(error):
                return None
            raise
        value = json.loads(text)
        return None if value == "<undefined>" else value

    def allows(self, name: str, request: Any) -> bool:
        self.engine.set_input_json(json.dumps(request))
        answer = self._query(name)
        if isinstance(answer, dict):
            answer = answer.get("allowed")
        return answer is True or self._query("AllowRequestsFailingPolicy") is True


def refusal(text: str, code: str = "INTERNAL") -> dict[str, Any]:
    return {"error": text, "code": code}


class Container:
    def __init__(self, request: dict[str, Any], directory: Path) -> None:
        self.name: str = request["container"]
        self.request = request
        self.output = directory / f"{self.name}.log"
        self.output.touch()
        self.task: asyncio.Task[dict[str, Any]] | None = None


class Agent:
    """The kata agent: one connection a request, one JSON object a line."""

    def __init__(self, directory: Path, policy: AgentPolicy, hub: Hub, scratch: Path) -> None:
        self.directory, self.policy, self.hub, self.scratch = directory, policy, hub, scratch
        self.containers: dict[str, Container] = {}
        self.stop = asyncio.Event()
        self.sandbox = False
        self.network = False

    # The namespace holder ---------------------------------------------------------------------------------------

    async def start_namespace(self, api_socket: Path) -> None:
        """Start the process in which containers run; without user namespaces containers run beside us and the lab's
        curl maps 127.0.0.1:8006 to the socket."""
        self.api_socket = api_socket
        self.control = self.scratch / "ns.sock"
        tools = self.directory / "bin"
        tools.mkdir(exist_ok=True)
        curl = tools / "curl"
        curl.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I "{Path(__file__).with_name("curl.py")}" "$@"\n')
        curl.chmod(0o755)
        visible = {str(tools), str(Path(__file__).parent), sys.prefix, sys.base_prefix}
        command = [sys.executable, "-m", "lab.guest_namespace", "--api", str(api_socket), "--control",
                   str(self.control), "--directory", str(self.directory)]
        command += [word for path in sorted(visible) for word in ("--visible", path)]
        for how, flags in (("namespaces", ["--network", "--chroot"]), ("none", [])):
            prefix = ["unshare", "--user", "--map-root-user", "--net", "--mount", "--"] if flags else []
            try:
                self.holder = await asyncio.create_subprocess_exec(
                    *prefix, *command, *flags, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                    cwd=Path(__file__).parent.parent)
            except FileNotFoundError:
                continue
            assert self.holder.stdout is not None
            if (await self.holder.stdout.readline()).strip() == b"ready":
                self.network = bool(flags)
                log.info("containers run in %s", "namespaces of their own" if flags else
                         "the machine's namespaces; the lab's curl maps 127.0.0.1:8006")
                (self.directory / "isolation").write_text(how)
                return
            await self.holder.wait()
        raise RuntimeError("the pod VM's namespace holder did not start; see this VM's log")

    async def inside(self, request: dict[str, Any]) -> dict[str, Any]:
        reader, writer = await asyncio.open_unix_connection(str(self.control), limit=1 << 24)
        writer.write(json.dumps(request).encode() + b"\n")
        await writer.drain()
        line = await reader.readline()
        writer.close()
        result: dict[str, Any] = json.loads(line) if line else {"error": "the pod VM is gone"}
        return result

    def environment(self, container: Container) -> dict[str, str]:
        env = {"PATH": f"{self.directory / 'bin'}:/usr/local/bin:/usr/bin:/bin", "HOME": "/", "HOSTNAME": "podvm"}
        if not self.network:
            env["LAB_GUEST_API"] = str(self.api_socket)
        given = dict(container.request.get("env", []))
        env.update(given)
        if "PATH" in given:
            env["PATH"] = f"{self.directory / 'bin'}:{env['PATH']}"
        return env

    # Requests ---------------------------------------------------------------------------------------------------

    async def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        method = request.get("method", "")
        if not self.sandbox and method == "CreateContainerRequest":
            for name in SANDBOX_REQUESTS:
                if not self.policy.allows(name, {}):
                    return refusal(f"{name} is blocked by policy: ", "PERMISSION_DENIED")
            self.sandbox = True
        handler = getattr(self, "do_" + method, None)
        if handler is None:
            return refusal(f"unknown request {method!r}", "UNIMPLEMENTED")
        if not self.policy.allows(method, self.policy_input(method, request)):
            return refusal(f"{method} is blocked by policy: ", "PERMISSION_DENIED")
        result: dict[str, Any] = await handler(request)
        return result

    @staticmethod
    def policy_input(method: str, request: dict[str, Any]) -> dict[str, Any]:
        """The request as the policy sees it (the fields of the agent's protocol that policies of ours read)."""
        process = {"Args": request.get("command", []), "Env": [f"{k}={v}" for k, v in request.get("env", [])]}
        if method == "CreateContainerRequest":
            return {"container_id": request.get("container"), "OCI": {"Process": process}}
        if method == "ExecProcessRequest":
            return {"container_id": request.get("container"), "process": process}
        return {"container_id": request.get("container")}

    async def do_CreateContainerRequest(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            await self.hub.check_image(request["image"])
        except GuestError as error:
            log.error("confidential data hub: %s: %s", error, error.cause)
            return refusal(f"rpc status: Status {{ code: INTERNAL, message: \"[CDH] [ERROR]: {error}\" }}")
        self.containers[request["container"]] = Container(request, self.directory)
        return {}

    async def do_StartContainerRequest(self, request: dict[str, Any]) -> dict[str, Any]:
        container = self.containers[request["container"]]
        container.task = asyncio.ensure_future(self.inside({
            "do": "run", "id": container.name, "container": container.name, "command": container.request["command"],
            "env": self.environment(container), "mounts": container.request.get("mounts", []),
            "stdout": str(container.output), "stderr": str(container.output), "cwd": container.request.get("cwd"),
        }))
        return {}

    async def do_WaitProcessRequest(self, request: dict[str, Any]) -> dict[str, Any]:
        task = self.containers[request["container"]].task
        if task is None:
            return refusal(f"container {request['container']} was not started")
        return await asyncio.shield(task)

    async def do_ReadStreamRequest(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"stdout": self.containers[request["container"]].output.read_text(errors="replace")}

    async def do_ExecProcessRequest(self, request: dict[str, Any]) -> dict[str, Any]:
        container = self.containers[request["container"]]
        name = f"exec-{os.urandom(4).hex()}"
        out, err = self.directory / f"{name}.out", self.directory / f"{name}.err"
        result = await self.inside({
            "do": "run", "id": name, "container": container.name, "command": request["command"],
            "env": self.environment(container), "mounts": container.request.get("mounts", []),
            "stdout": str(out), "stderr": str(err),
        })
        texts = {"stdout": out.read_text(errors="replace"), "stderr": err.read_text(errors="replace")}
        out.unlink()
        err.unlink()
        return {**result, **texts}

    async def do_SignalProcessRequest(self, request: dict[str, Any]) -> dict[str, Any]:
        return await self.inside({"do": "signal", "id": request["container"],
                                  "signal": request.get("signal", signal.SIGTERM)})

    async def do_DestroySandboxRequest(self, request: dict[str, Any]) -> dict[str, Any]:
        self.stop.set()
        return {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                request = json.loads(line)
                try:
                    answer = await self.handle(request)
                except (KeyError, OSError) as error:
                    answer = refusal(f"{request.get('method')}: {error!r}", "INVALID_ARGUMENT")
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except (OSError, ValueError):
            pass
        finally:
            writer.close()


async def boot(directory: Path) -> None:
    """Boot, become ready, run until told to stop."""
    vm = json.loads((directory / "vm.json").read_text())
    (directory / "pid").write_text(str(os.getpid()))
    await asyncio.sleep(vm["boot_seconds"])
    release = OSC[vm.get("osc", DEFAULT_RELEASE)]
    initdata = vm["user_data"]["initdata"]
    files, digest = process_initdata(initdata, release.gzip_initdata) if initdata else ({}, b"")
    peerpod = directory / "run" / "peerpod"
    peerpod.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (peerpod / name).write_text(text)
    pcrs = {int(index): bytes.fromhex(value) for index, value in vm["pcrs"].items()}
    pcrs[8] = bytes(32)
    if digest:
        (peerpod / "initdata.digest").write_text(digest.hex())
        pcrs[8] = extend(bytes(32), digest)
    log.info("initdata digest %s, PCR 8 %s", digest.hex() or "(no initdata)", pcrs[8].hex())
    silicon_key = Path(vm["silicon_key"]).read_bytes() if vm["confidential"] else None
    hub = Hub(files.get("aa.toml"), files.get("cdh.toml"), Attester(silicon_key, pcrs, vm["tee"]),
              release.protocol, vm.get("image_policy", ""))
    log.info("guest components of OSC %s, KBS protocol %s", release.version, release.protocol)
    policy = AgentPolicy(files.get("policy.rego", DEFAULT_POLICY))

    scratch = Path(vm["scratch"])
    scratch.mkdir(mode=0o700, exist_ok=True)
    runner = web.AppRunner(api(hub), access_log=None)
    await runner.setup()
    api_socket = scratch / "api.sock"
    api_socket.unlink(missing_ok=True)
    await web.UnixSite(runner, str(api_socket)).start()
    agent = Agent(directory, policy, hub, scratch)
    await agent.start_namespace(api_socket)
    agent_socket = Path(vm["agent"])
    agent_socket.unlink(missing_ok=True)
    server = await asyncio.start_unix_server(agent.serve, str(agent_socket), limit=1 << 24)
    log.info("kata agent ready")
    try:
        await agent.stop.wait()
    finally:
        server.close()
        if agent.holder.stdin is not None:
            agent.holder.stdin.close()
        agent_socket.unlink(missing_ok=True)
        await runner.cleanup()


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("--vm", required=True, type=Path)
    vm_directory: Path = options.parse_args().vm
    version = json.loads((vm_directory / "vm.json").read_text()).get("osc", DEFAULT_RELEASE)
    sys.exit(program.main("lab-guest", "a pod VM with kata agent and guest components", f"OSC {version}",
                          lambda: boot(vm_directory)))
