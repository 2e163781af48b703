"""One container of a pod: image, environment, start, probes, end, restart with back-off."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lab import runtime
from lab.kube import now
from lab.node_env import ConfigError, environment
from lab.node_probe import follow
from lab.node_volumes import MountError

if TYPE_CHECKING:
    from lab.node_pod import PodWorker
    from lab.node_sandbox import Run

Object = dict[str, Any]

BACKOFF_FIRST, BACKOFF_MOST, BACKOFF_RESET = 10.0, 300.0, 600.0
SYNC_SECONDS = 10.0


class StartError(Exception):
    """A container that could not be made or started: the waiting reason and the runtime's text."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message


class Container:
    """Keeps one container as its pod's restart policy says."""

    def __init__(self, worker: PodWorker, spec: Object, init: bool, before: Object | None) -> None:
        self.worker, self.spec, self.init = worker, spec, init
        self.name: str = spec["name"]
        self.restarts = 0
        self.state: Object = {"waiting": {"reason": "PodInitializing" if worker.has_init and not init
                                          else "ContainerCreating"}}
        self.last: Object = {}
        self.ready = self.started = False
        self.run: Run | None = None
        self.values: dict[str, str] = {}  # its environment since it started; a command run in it later sees the same
        self.identifier = ""
        self.image_id = ""
        self.killed_by_probe = ""
        self.changed = asyncio.Event()
        self._failures = 0
        self._began = 0.0
        if before:
            self.resume(before)

    def resume(self, before: Object) -> None:
        """Take over what the status said before this lab-node (or this boot of the node)."""
        self.restarts = int(before.get("restartCount") or 0)
        self.last = before.get("lastState") or {}
        state = before.get("state") or {}
        self.identifier = before.get("containerID") or ""
        if "running" in state:
            self.restarts += 1
            self.last = {"terminated": self._terminated(137, "Error", "", state["running"].get("startedAt"))}
        elif "terminated" in state and not self.init:
            self.restarts += 1
            self.last = state

    # Status ---------------------------------------------------------------------------------------------------------

    def status(self) -> Object:
        """The containerStatus."""
        return {
            "name": self.name, "image": self.spec["image"], "imageID": self.image_id, "containerID": self.identifier,
            "ready": self.ready, "started": self.started, "restartCount": self.restarts, "state": self.state,
            "lastState": self.last,
        }

    def wait_for(self, reason: str, message: str = "") -> None:
        """Show the container as waiting."""
        waiting = {"reason": reason, "message": message} if message else {"reason": reason}
        if self.state != {"waiting": waiting}:
            self.state = {"waiting": waiting}
            self.touch()

    def touch(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()
        self.worker.touch()

    def _terminated(self, code: int, reason: str, message: str, started: str | None) -> Object:
        result: Object = {"exitCode": code, "reason": reason, "startedAt": started or now(), "finishedAt": now(),
                          "containerID": self.identifier}
        if message:
            result["message"] = message
        return result

    def _message(self, code: int) -> str:
        """The termination message: the file the program wrote, or the end of its log where the pod asks for that."""
        path = self.worker.rootfs(self.name) / str(
            self.spec.get("terminationMessagePath") or "/dev/termination-log").lstrip("/")
        text = ""
        with contextlib.suppress(OSError):
            text = path.read_text(errors="replace")[:4096]
            path.unlink()
        if not text and code and self.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            with contextlib.suppress(OSError):
                lines = self.worker.log(self.name).read_text(errors="replace").splitlines(keepends=True)
                text = "".join(lines[-80:])[-2048:]
        return text

    def end(self, code: int) -> None:
        """Record an exit."""
        started = (self.state.get("running") or {}).get("startedAt")
        reason = "Completed" if code == 0 else "Error"
        self.state = {"terminated": self._terminated(code, reason, self._message(code), started)}
        self.ready = self.started = False
        self.run = None
        self.touch()

    # Life -----------------------------------------------------------------------------------------------------------

    def restarts_after(self, code: int) -> bool:
        policy = self.worker.pod["spec"].get("restartPolicy") or "Always"
        if self.init:
            return code != 0 and policy != "Never"
        return policy == "Always" or (policy == "OnFailure" and code != 0)

    async def supervise(self) -> int:
        """Run the container until it has ended for good; its exit code."""
        while True:
            await self._pull()
            await self._start()
            assert self.run is not None
            probes = [asyncio.ensure_future(c) for c in self._probes()]
            try:
                code = await self.run.wait()
            finally:
                for probe in probes:
                    probe.cancel()
            self.end(code)
            if self.worker.stopping or not self.restarts_after(code):
                return code
            await self._back_off()
            self.last, self.restarts = self.state, self.restarts + 1

    async def _pull(self) -> None:
        """Wait until the image is one the lab has."""
        image, worker = self.spec["image"], self.worker
        always = self.spec.get("imagePullPolicy") == "Always"
        delay = BACKOFF_FIRST
        while runtime.lookup(image, self.spec.get("command")) is None:
            detail = runtime.pull_error(image)
            if runtime.repository(image) is None:
                self.wait_for("InvalidImageName", detail)
                worker.event("Warning", "InspectFailed", detail)
                worker.event("Warning", "Failed", "Error: InvalidImageName")
            else:
                worker.event("Normal", "Pulling", f'Pulling image "{image}"')
                worker.event("Warning", "Failed", f'Failed to pull image "{image}": {detail}')
                worker.event("Warning", "Failed", "Error: ErrImagePull")
                self.wait_for("ErrImagePull", detail)
                await asyncio.sleep(SYNC_SECONDS * worker.scale)
                worker.event("Normal", "BackOff", f'Back-off pulling image "{image}"')
                worker.event("Warning", "Failed", "Error: ImagePullBackOff")
                self.wait_for("ImagePullBackOff", f'Back-off pulling image "{image}": ErrImagePull: {detail}')
            await asyncio.sleep(delay * worker.scale)
            delay = min(delay * 2, BACKOFF_MOST)
        name = runtime.repository(image) or image
        self.image_id = f"{name}@sha256:{hashlib.sha256(image.encode()).hexdigest()}"
        if always:
            worker.event("Normal", "Pulling", f'Pulling image "{image}"')
            worker.event("Normal", "Pulled", f'Successfully pulled image "{image}" in 1ms (1ms including waiting). '
                                             "Image size: 1 bytes.")
        else:
            worker.event("Normal", "Pulled", f'Container image "{image}" already present on machine')

    def own_environment(self) -> dict[str, str]:
        """The variables that the pod gives a container that starts now. Raises ConfigError."""
        worker = self.worker
        return environment(worker.pod, self.spec, worker.lookup, worker.addresses, worker.node.allocatable())

    async def _start(self) -> None:
        """Start the container, waiting with the kubelet's reasons while that cannot be done."""
        worker = self.worker
        told = ""
        while True:
            try:
                values = self.own_environment()
                self.identifier = f"cri-o://{os.urandom(32).hex()}"
                self.run = await worker.sandbox.start(self, values)
                self.values = values
                break
            except (ConfigError, MountError) as error:
                reason, message = "CreateContainerConfigError", str(error)
            except StartError as error:
                reason, message = error.reason, error.message
            self.wait_for(reason, message)
            if message != told:
                worker.event("Warning", "Failed", f"Error: {message}")
                told = message
            await worker.sleep_or_change(SYNC_SECONDS * worker.scale)
        self.killed_by_probe = ""
        self._began = asyncio.get_running_loop().time()
        self.state = {"running": {"startedAt": now()}}
        self.started = "startupProbe" not in self.spec
        self.ready = not self.init and self.started and "readinessProbe" not in self.spec
        worker.event("Normal", "Created", f"Created container: {self.name}")
        worker.event("Normal", "Started", f"Started container {self.name}")
        self.touch()

    async def _back_off(self) -> None:
        """CrashLoopBackOff: 10 s doubling to 300 s, scaled; the first restart is immediate."""
        worker = self.worker
        if asyncio.get_running_loop().time() - self._began > BACKOFF_RESET * worker.scale:
            self._failures = 0
        self._failures += 1
        if self._failures == 1:
            return
        pause = min(BACKOFF_FIRST * 2 ** (self._failures - 2), BACKOFF_MOST)
        meta = worker.pod["metadata"]
        pod = f"{meta['name']}_{meta['namespace']}({meta['uid']})"
        minutes, seconds = divmod(int(pause), 60)
        words = f"{minutes}m{seconds}s" if minutes else f"{seconds}s"
        ended = self.state
        worker.event("Warning", "BackOff", f"Back-off restarting failed container {self.name} in pod {pod}")
        self.last = ended
        self.wait_for("CrashLoopBackOff", f"back-off {words} restarting failed container={self.name} pod={pod}")
        await asyncio.sleep(pause * worker.scale)
        self.state = ended

    # Probes ---------------------------------------------------------------------------------------------------------

    def _probes(self) -> list[Any]:
        if self.init:
            return []
        return [self._probe(kind) for kind in ("startup", "readiness", "liveness") if f"{kind}Probe" in self.spec]

    async def _probe(self, kind: str) -> None:
        worker = self.worker
        if kind != "startup":
            while not self.started:
                await self.changed.wait()
        report: Callable[[bool, str, bool], None] = {
            "startup": self._startup, "readiness": self._readiness, "liveness": self._liveness}[kind]

        async def execute(command: list[str]) -> tuple[int, str]:
            return await worker.sandbox.execute_captured(self, command)

        told = False

        def tell(healthy: bool, text: str, decided: bool) -> None:
            nonlocal told
            if not healthy and not told:
                worker.event("Warning", "Unhealthy", f"{kind.capitalize()} probe failed: {text}")
            told = not healthy
            report(healthy, text, decided)

        await follow(self.spec[f"{kind}Probe"], self.spec, worker.listen, worker.addresses["podIP"], worker.scale,
                     execute, tell)

    def _startup(self, healthy: bool, text: str, decided: bool) -> None:
        if healthy and decided and not self.started:
            self.started = True
            self.ready = "readinessProbe" not in self.spec
            self.touch()
        elif not healthy and decided and not self.started:
            self._kill("startup")

    def _readiness(self, healthy: bool, text: str, decided: bool) -> None:
        if decided and self.ready != healthy and "running" in self.state:
            self.ready = healthy
            self.touch()

    def _liveness(self, healthy: bool, text: str, decided: bool) -> None:
        if not healthy and decided:
            self._kill("liveness")

    def _kill(self, probe: str) -> None:
        if self.run is None or self.killed_by_probe:
            return
        self.killed_by_probe = probe
        self.worker.event("Normal", "Killing", f"Container {self.name} failed {probe} probe, will be restarted")
        grace = float(self.worker.pod["spec"].get("terminationGracePeriodSeconds") or 30)
        self.worker.spawn(self.stop(grace))

    async def stop(self, grace: float) -> None:
        """SIGTERM, then SIGKILL after ``grace`` seconds (at once for 0)."""
        run = self.run
        if run is None:
            return
        if grace > 0:
            await run.signal(signal.SIGTERM)
            deadline = asyncio.get_running_loop().time() + grace
            while self.run is run and asyncio.get_running_loop().time() < deadline:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.changed.wait(), min(0.5, max(grace, 0.01)))
        if self.run is run:
            await run.signal(signal.SIGKILL)
