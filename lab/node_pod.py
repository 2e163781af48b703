"""One pod on one node: volumes, sandbox, containers, status, end."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import logging
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from lab.egress import loopback
from lab.kube import ApiError, now
from lab.node_container import Container
from lab.node_env import references
from lab.node_kata import KataSandbox
from lab.node_process import kill_leftover
from lab.node_sandbox import HostSandbox, Sandbox
from lab.node_spec import unsupported, volume_kind
from lab.node_status import conditions, ended, merge_conditions, phase, same
from lab.node_volumes import MountError, audiences, host_path, payload, remove, shared_root, write

if TYPE_CHECKING:
    from lab.node_agent import NodeAgent

log = logging.getLogger("lab")
Object = dict[str, Any]

REFRESH_SECONDS = 60.0
WRITTEN = ("configMap", "secret", "projected", "downwardAPI")
ERRORS = (ApiError, aiohttp.ClientError, TimeoutError, OSError)


class PodWorker:
    """Keeps a pod of a node as its object says."""

    def __init__(self, node: NodeAgent, pod: Object) -> None:
        self.node, self.pod = node, pod
        self.uid: str = pod["metadata"]["uid"]
        self.scale = node.settings.scale
        self.directory: Path = node.settings.directory / "pods" / self.uid
        self.has_init = bool(pod["spec"].get("initContainers"))
        self.stopping = self.gone = False
        self.failure: tuple[str, str] | None = None
        self.addresses = {"podIP": "", "hostIP": node.address}
        self.listen = ""
        self.sandbox_ready = False
        self.tokens: dict[str, str] = {}
        self.renewal = 0.0
        self.inits: list[Container] = []
        self.mains: list[Container] = []
        self.references = references(pod)
        self.sandbox: Sandbox = HostSandbox(self)
        if pod["spec"].get("runtimeClassName"):
            self.sandbox = KataSandbox(self)
        self._dirty = asyncio.Event()
        self._news = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._life: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._writer: asyncio.Task[None] | None = None
        self._refreshing = False
        self._shared = shared_root(pod["spec"])

    # What others ask ------------------------------------------------------------------------------------------------

    @property
    def virtual(self) -> bool:
        """Does the pod run in a VM?"""
        return isinstance(self.sandbox, KataSandbox)

    @property
    def title(self) -> str:
        return f"{self.pod['metadata']['namespace']}/{self.pod['metadata']['name']}"

    def log(self, container: str, previous: bool = False) -> Path:
        return self.directory / "log" / f"{container}{'.previous' if previous else ''}.log"

    def pid_file(self, container: str) -> Path:
        return self.directory / "pid" / container

    def rootfs(self, container: str) -> Path:
        """Where the container's files are; one directory for the pod unless its containers disagree on a path."""
        return self.directory / ("rootfs" if self._shared else f"rootfs-{container}")

    def volume(self, name: str) -> Path:
        """The volume's place on this machine. Raises MountError."""
        volume = next((v for v in self.pod["spec"].get("volumes") or [] if v["name"] == name), None)
        if volume is not None and "hostPath" in volume:
            return host_path(volume["hostPath"], self.node.root)
        return self.directory / "volumes" / name

    def lookup(self, kind: str, name: str) -> Object | None:
        return self.node.store.get(kind, self.pod["metadata"]["namespace"], name)

    def container(self, name: str) -> Container | None:
        return next((c for c in [*self.inits, *self.mains] if c.name == name), None)

    def event(self, type: str, reason: str, message: str) -> None:
        """Record an event about the pod."""
        self.node.record(self.pod, type, reason, message)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def touch(self) -> None:
        """The status may have changed."""
        self._dirty.set()

    async def sleep_or_change(self, seconds: float) -> None:
        """Sleep, but not beyond the next change of an object that the pod names."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), seconds)
        self._news.clear()

    # What happens to it ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._writer = asyncio.ensure_future(self._write_loop())
        if self.pod["metadata"].get("deletionTimestamp"):
            self._prepare_containers()
            self.terminate()
        elif not ended(self.pod):
            self._life = asyncio.ensure_future(self._live())

    def update(self, pod: Object) -> None:
        """The object changed."""
        if int(pod["metadata"]["resourceVersion"]) >= int(self.pod["metadata"]["resourceVersion"]):
            self.pod = pod
        if pod["metadata"].get("deletionTimestamp"):
            self.terminate()
        elif any("downwardAPI" in json.dumps(v) for v in pod["spec"].get("volumes") or []):
            self.plan_refresh()

    def named_object_changed(self) -> None:
        """A ConfigMap or Secret that the pod names changed."""
        self._news.set()
        self.plan_refresh()

    def plan_refresh(self) -> None:
        if not self._refreshing and self.sandbox_ready and not self.stopping:
            self._refreshing = True
            self.spawn(self._refresh_later())

    async def _refresh_later(self) -> None:
        """Bring mounted volumes up to date after the kubelet's sync delay."""
        await asyncio.sleep(REFRESH_SECONDS * self.scale)
        self._refreshing = False
        if not self.stopping:
            for volume in self._mounted_volumes():
                self._write_volume(volume, quiet=True)

    # Life -----------------------------------------------------------------------------------------------------------

    def _prepare_containers(self) -> None:
        status = self.pod.get("status") or {}
        before = {s["name"]: s for s in [*(status.get("initContainerStatuses") or []),
                                         *(status.get("containerStatuses") or [])]}
        spec = self.pod["spec"]
        self.inits = [Container(self, c, True, before.get(c["name"])) for c in spec.get("initContainers") or []]
        self.mains = [Container(self, c, False, before.get(c["name"])) for c in spec["containers"]]

    async def _live(self) -> None:
        while True:
            try:
                await self._run()
                return
            except MountError as error:
                log.warning("pod %s: %s", self.title, error)
            except ERRORS as error:
                log.warning("pod %s: %r; trying again", self.title, error)
            except Exception:
                log.exception("pod %s", self.title)
            await asyncio.sleep(1)

    def _fail(self, reason: str, message: str) -> None:
        self.failure = (reason, message)
        self.event("Warning", reason, message)
        self.touch()

    async def _run(self) -> None:
        self._prepare_containers()
        self.addresses["podIP"] = self.node.address_of(self.pod)
        self.listen = loopback(self.addresses["podIP"]) or "127.0.0.1"
        strange = unsupported(self.pod["spec"])
        if strange:
            self._fail("UnsupportedField", f"lab-node does not imitate {', '.join(strange)} of pod {self.title}; leave "
                                           "the field out or extend lab/node_spec.py")
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        for pid_file in sorted((self.directory / "pid").glob("*")):
            kill_leftover(pid_file)
        self.touch()
        await self._set_up_volumes()
        await self.sandbox.create()
        self.sandbox_ready = True
        self.touch()
        self.spawn(self._renew_tokens())
        for container in self.inits:
            if await container.supervise() != 0:
                self.touch()
                return
        for container in self.mains:
            if container.state.get("waiting", {}).get("reason") == "PodInitializing":
                container.wait_for("ContainerCreating")
        finished: set[str] = set()
        if self.pod["spec"].get("restartPolicy") in ("Never", "OnFailure"):
            finished = {c.name for c in self.mains if self._finished_before(c)}
        await asyncio.gather(*(c.supervise() for c in self.mains if c.name not in finished))
        self.touch()

    @staticmethod
    def _finished_before(container: Container) -> bool:
        """Did the container end for good before this lab-node (its end is in ``last``, nothing restarts it)?"""
        done = container.last.get("terminated")
        if container.restarts == 0 or not done or container.restarts_after(done["exitCode"]):
            return False
        container.state, container.last, container.restarts = container.last, {}, container.restarts - 1
        return True

    async def _set_up_volumes(self) -> None:
        told: dict[str, str] = {}
        delay = 0.5
        while True:
            failed = False
            await self._fetch_tokens()
            for volume in self._mounted_volumes():
                complaint = self._write_volume(volume)
                if complaint:
                    failed = True
                    text = f'MountVolume.SetUp failed for volume "{volume["name"]}" : {complaint}'
                    if told.get(volume["name"]) != text:
                        self.event("Warning", "FailedMount", text)
                        told[volume["name"]] = text
            if not failed:
                self._write_kubeconfig()
                return
            await self.sleep_or_change(delay)
            delay = min(delay * 2, 122 * self.scale + 0.5)

    def _mounted_volumes(self) -> list[Object]:
        """The volumes that a container mounts; the kubelet ignores others (OLM leaves one in a CSV with a webhook)."""
        spec = self.pod["spec"]
        used = {m["name"] for c in [*(spec.get("initContainers") or []), *spec["containers"]]
                for m in c.get("volumeMounts") or []}
        return [volume for volume in spec.get("volumes") or [] if volume["name"] in used]

    def _write_volume(self, volume: Object, quiet: bool = False) -> str:
        """Write one volume; what is wrong with it, or nothing."""
        kind = volume_kind(volume)
        path = self.directory / "volumes" / volume["name"]
        try:
            if kind == "hostPath":
                host_path(volume["hostPath"], self.node.root)
            elif kind == "emptyDir":
                path.mkdir(parents=True, exist_ok=True)
            elif kind in WRITTEN:
                write(path, payload(volume, self.pod, self.lookup, self.addresses, self.tokens))
        except MountError as error:
            if quiet:
                self.event("Warning", "FailedMount",
                           f'MountVolume.SetUp failed for volume "{volume["name"]}" : {error}')
            return str(error)
        return ""

    # The pod's identity ---------------------------------------------------------------------------------------------

    async def _fetch_tokens(self) -> None:
        """ServiceAccount tokens of projected volumes, bound to this pod."""
        meta, account = self.pod["metadata"], self.pod["spec"].get("serviceAccountName") or "default"
        for audience, seconds in audiences(self.pod).items():
            body: Object = {
                "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
                "spec": {"expirationSeconds": seconds, "boundObjectRef": {
                    "apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"]}},
            }
            if audience:
                body["spec"]["audiences"] = [audience]
            path = f"/api/v1/namespaces/{meta['namespace']}/serviceaccounts/{account}/token"
            for attempt in range(40):
                try:
                    answer = await self.node.kube.request("POST", path, body)
                    break
                except ApiError as error:
                    # The node authorizer learns of the binding a moment after we do.
                    if error.status != 403 or attempt == 39:
                        raise
                    await asyncio.sleep(0.1)
            self.tokens[audience] = answer["status"]["token"]
            expires = datetime.datetime.fromisoformat(answer["status"]["expirationTimestamp"])
            left = (expires - datetime.datetime.now(datetime.timezone.utc)).total_seconds()
            self.renewal = min(self.renewal or left * 0.8, left * 0.8)

    async def _renew_tokens(self) -> None:
        while self.tokens:
            await asyncio.sleep(max(self.renewal, 30))
            try:
                self.renewal = 0.0
                await self._fetch_tokens()
                for volume in self.pod["spec"].get("volumes") or []:
                    if "projected" in volume:
                        self._write_volume(volume)
            except ERRORS as error:
                log.warning("pod %s: token not renewed: %r", self.title, error)

    def _write_kubeconfig(self) -> None:
        """The pod's kubeconfig: its mounted token, or nobody where none is mounted."""
        user: Object = {}
        for volume in self.pod["spec"].get("volumes") or []:
            for part in (volume.get("projected") or {}).get("sources") or []:
                token = part.get("serviceAccountToken")
                if token and not token.get("audience") and not user:
                    user = {"tokenFile": str(self.directory / "volumes" / volume["name"] / token["path"])}
        settings = self.node.settings
        text = json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "pod",
            "clusters": [{"name": "pod", "cluster": {"server": settings.server,
                                                     "certificate-authority-data": settings.authority}}],
            "users": [{"name": "pod", "user": user}],
            "contexts": [{"name": "pod", "context": {"cluster": "pod", "user": "pod",
                                                     "namespace": self.pod["metadata"]["namespace"]}}],
        })
        path = self.directory / "kubeconfig"
        path.touch(mode=0o600)
        path.write_text(text)

    # Status ---------------------------------------------------------------------------------------------------------

    def status(self) -> Object:
        """The status as it is now."""
        before = self.pod.get("status") or {}
        init, main = [c.status() for c in self.inits], [c.status() for c in self.mains]
        current = phase(self.pod["spec"].get("restartPolicy") or "Always", init, main, len(self.inits))
        result: Object = {
            "startTime": before.get("startTime") or now(), "hostIP": self.node.address,
            "hostIPs": [{"ip": self.node.address}],
        }
        if self.failure:
            current = "Failed"
            result |= {"reason": self.failure[0], "message": self.failure[1]}
        result["phase"] = current
        if self.addresses["podIP"] and (self.sandbox_ready or before.get("podIP")):
            result |= {"podIP": self.addresses["podIP"], "podIPs": [{"ip": self.addresses["podIP"]}]}
        states = conditions(current, init, main, self.sandbox_ready, not self.node.down)
        result["conditions"] = merge_conditions(before.get("conditions") or [], states)
        if init:
            result["initContainerStatuses"] = init
        if not self.failure:
            result["containerStatuses"] = main
        return result

    def _worth_writing(self, wanted: Object) -> bool:
        current = dict(self.pod.get("status") or {})
        listed = {c["type"]: c for c in current.get("conditions") or []}
        mine = wanted["conditions"]
        current["conditions"] = [listed.get(c["type"], {}) for c in mine]
        return not same(wanted, current)

    async def _write_loop(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            try:
                await self.write_status()
            except ApiError as error:
                if error.status in (404, 409):
                    continue
                log.warning("pod %s: status: %s", self.title, error)
                self._dirty.set()
                await asyncio.sleep(0.5)
            except (aiohttp.ClientError, TimeoutError, OSError):
                self._dirty.set()
                await asyncio.sleep(0.5)

    async def write_status(self) -> None:
        wanted = self.status()
        if not self._worth_writing(wanted):
            return
        meta = self.pod["metadata"]
        answer = await self.node.kube.patch("v1", "Pod", meta["name"], {"metadata": {"uid": self.uid}, "status": wanted},
                                            meta["namespace"], "status", "strategic")
        if int(answer["metadata"]["resourceVersion"]) >= int(self.pod["metadata"]["resourceVersion"]):
            self.pod = {"apiVersion": "v1", "kind": "Pod", **answer}

    # End ------------------------------------------------------------------------------------------------------------

    def terminate(self, forced: bool = False) -> None:
        """Stop the pod and remove it; ``forced``: its object is gone already."""
        if self._ending is None:
            self._ending = asyncio.ensure_future(self._end(forced))

    async def _stop_containers(self, grace: float) -> None:
        self.stopping = True
        running = [c for c in [*self.inits, *self.mains] if c.run is not None]
        await asyncio.gather(*(c.stop(grace) for c in running))
        deadline = asyncio.get_running_loop().time() + 5
        while any(c.run is not None for c in running) and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.02)

    async def _cancel(self) -> None:
        tasks = [t for t in [self._life, *self._tasks] if t is not None and t is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()

    async def _end(self, forced: bool) -> None:
        self.stopping = True
        meta = self.pod["metadata"]
        for container in self.mains:
            if container.run is not None:
                self.event("Normal", "Killing", f"Stopping container {container.name}")
        grace = 2.0 if forced else float(meta.get("deletionGracePeriodSeconds") or 0)
        try:
            await self._stop_containers(grace)
            await self._cancel()
            await self.sandbox.destroy()
        except Exception:
            log.exception("pod %s: stop", self.title)
        for pid_file in sorted((self.directory / "pid").glob("*")):
            kill_leftover(pid_file)
        if not forced:
            self.sandbox_ready = False
            await self._delete()
        if self._writer is not None:
            self._writer.cancel()
        self.gone = True
        remove(self.directory)
        self.node.forget(self)

    async def _delete(self) -> None:
        """Write the last status, then let the object go."""
        meta = self.pod["metadata"]
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
        while True:
            try:
                if self.mains and not ended(self.pod):
                    await self.write_status()
                await self.node.kube.request("DELETE", path, {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}})
                return
            except ApiError as error:
                if error.status in (404, 409):
                    return
                log.warning("pod %s: delete: %s", self.title, error)
            except (aiohttp.ClientError, TimeoutError, OSError):
                pass
            await asyncio.sleep(0.5)

    async def halt(self) -> None:
        """The node goes down, or lab-node stops: processes end, the object stays."""
        if self._ending is not None and not self.gone:
            return
        if self.node.down and self._writer is not None:
            self._writer.cancel()  # a kubelet that is down writes nothing
        if not self.node.down and self.virtual:
            await self.sandbox.destroy()
        await self._stop_containers(0.0 if self.node.down else 1.5)
        await self._cancel()
        if self._writer is not None:
            self._writer.cancel()
