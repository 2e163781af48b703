"""A small asyncio client of the Kubernetes API for stand-ins, and a controller loop shaped like controller-runtime's.

The stand-ins imitate operators built on controller-runtime: level-triggered, several watched kinds mapped to one key, no
marks of their own in the objects. That is why they do not use a handler framework that keeps finalizers and annotations
in every object it sees.
"""

from __future__ import annotations

import asyncio
import base64
import datetime
import json
import logging
import os
import random
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, cast

import aiohttp
import yaml

log = logging.getLogger("lab")

Object = dict[str, Any]
Objects = list[Object]

PATCH_TYPES = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "apply": "application/apply-patch+yaml",
    "strategic": "application/strategic-merge-patch+json",
}


class ApiError(Exception):
    """An answer of the API server other than success: HTTP status, reason and message of its Status object."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status, self.reason, self.message = status, reason, message


class WatchExpired(Exception):
    """The resource version of a watch is too old: list again."""


def now() -> str:
    """The present time as Kubernetes writes it."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def key_of(obj: Object) -> str:
    """``namespace/name``, or ``name`` for a cluster-scoped object."""
    meta = obj["metadata"]
    namespace = meta.get("namespace")
    return f"{namespace}/{meta['name']}" if namespace else cast(str, meta["name"])


def owner_reference(owner: Object, controller: bool = True) -> Object:
    """The ownerReference that makes ``owner`` the controller of an object."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": controller,
        "blockOwnerDeletion": True,
    }


def _material(entry: dict[str, Any], name: str, base: Path) -> str | None:
    """A file with the kubeconfig's ``<name>`` (a path) or ``<name>-data`` (base64)."""
    if entry.get(name):
        return str(base / entry[name])
    data = entry.get(f"{name}-data")
    if not data:
        return None
    with tempfile.NamedTemporaryFile(delete=False) as file:
        file.write(base64.b64decode(data))
    return file.name


class Kube:
    """A connection to one API server."""

    def __init__(self, server: str, context: ssl.SSLContext, token: str | None = None, token_file: str | None = None,
                 agent: str = "lab") -> None:
        self.server = server.rstrip("/")
        self.context, self.token, self.token_file, self.agent = context, token, token_file, agent
        self._session: aiohttp.ClientSession | None = None
        self._resources: dict[str, dict[str, tuple[str, bool]]] = {}

    @classmethod
    def from_kubeconfig(cls, path: str | Path | None = None, agent: str = "lab") -> Kube:
        """Connect as the current context of a kubeconfig (default ``KUBECONFIG``) says."""
        file = Path(path or os.environ["KUBECONFIG"])
        config = yaml.safe_load(file.read_text())
        current = next(c["context"] for c in config["contexts"] if c["name"] == config["current-context"])
        cluster = next(c["cluster"] for c in config["clusters"] if c["name"] == current["cluster"])
        user = next(u["user"] for u in config["users"] if u["name"] == current["user"])
        authority = _material(cluster, "certificate-authority", file.parent)
        context = ssl.create_default_context(cafile=authority)
        certificate = _material(user, "client-certificate", file.parent)
        if certificate:
            context.load_cert_chain(certificate, _material(user, "client-key", file.parent))
        return cls(cluster["server"], context, user.get("token"), user.get("tokenFile"), agent)

    @property
    def session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self.context, limit=0),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
                headers={"User-Agent": self.agent},
            )
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _headers(self) -> dict[str, str]:
        token = Path(self.token_file).read_text().strip() if self.token_file else self.token
        return {"Authorization": f"Bearer {token}"} if token else {}

    async def request(self, method: str, path: str, body: Any = None, params: dict[str, str] | None = None,
                      content_type: str = "application/json", timeout: float = 30) -> Any:
        """One request; the decoded JSON answer. Raises :class:`ApiError`; 429 is retried for ten seconds, as client-go does."""
        for _ in range(50):
            try:
                return await self._request(method, path, body, params, content_type, timeout)
            except ApiError as error:
                if error.status != 429 or path.endswith("/eviction"):
                    raise
            await asyncio.sleep(0.2)
        return await self._request(method, path, body, params, content_type, timeout)

    async def _request(self, method: str, path: str, body: Any, params: dict[str, str] | None, content_type: str,
                       timeout: float) -> Any:
        headers = self._headers()
        data = None
        if body is not None:
            headers["Content-Type"] = content_type
            data = json.dumps(body)
        async with self.session.request(method, self.server + path, data=data, params=params, headers=headers,
                                        timeout=aiohttp.ClientTimeout(total=timeout)) as answer:
            text = await answer.text()
            if answer.status >= 400:
                raise _error(answer.status, text)
            if "json" in answer.headers.get("Content-Type", ""):
                return json.loads(text)
            return text

    async def path(self, api_version: str, kind: str, namespace: str | None = None, name: str | None = None) -> str:
        """The URL path of a kind, a collection or an object; 404 ApiError where the kind is not served."""
        prefix = f"/api/{api_version}" if "/" not in api_version else f"/apis/{api_version}"
        known = self._resources.get(api_version, {})
        if kind not in known:
            listing = await self.request("GET", prefix)
            known = {
                r["kind"]: (r["name"], r["namespaced"]) for r in listing["resources"] if "/" not in r["name"]
            }
            self._resources[api_version] = known
        if kind not in known:
            raise ApiError(404, "NotFound", f'no matches for kind "{kind}" in version "{api_version}"')
        plural, namespaced = known[kind]
        parts = [prefix]
        if namespaced and namespace:
            parts += ["namespaces", namespace]
        parts.append(plural)
        if name:
            parts.append(name)
        return "/".join(parts)

    async def get(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> Object | None:
        """The object, or None where there is none."""
        try:
            return cast(Object, await self.request("GET", await self.path(api_version, kind, namespace, name)))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def list(self, api_version: str, kind: str, namespace: str | None = None, label_selector: str = "",
                   field_selector: str = "") -> Objects:
        """All objects of a kind (in a namespace), with apiVersion and kind filled in."""
        items, _ = await self._list(api_version, kind, namespace, label_selector, field_selector)
        return items

    async def _list(self, api_version: str, kind: str, namespace: str | None, label_selector: str,
                    field_selector: str) -> tuple[Objects, str]:
        params = _selectors(label_selector, field_selector)
        answer = await self.request("GET", await self.path(api_version, kind, namespace), params=params)
        items = [{"apiVersion": api_version, "kind": kind, **item} for item in answer.get("items") or []]
        return items, answer["metadata"]["resourceVersion"]

    async def create(self, obj: Object) -> Object:
        path = await self.path(obj["apiVersion"], obj["kind"], obj["metadata"].get("namespace"))
        return cast(Object, await self.request("POST", path, obj))

    async def ensure(self, obj: Object) -> Object:
        """Create the object unless it is there; what is there wins."""
        meta = obj["metadata"]
        found = await self.get(obj["apiVersion"], obj["kind"], meta["name"], meta.get("namespace"))
        if found is not None:
            return found
        try:
            return await self.create(obj)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
            return cast(Object, await self.get(obj["apiVersion"], obj["kind"], meta["name"], meta.get("namespace")))

    async def replace(self, obj: Object, subresource: str | None = None) -> Object:
        meta = obj["metadata"]
        path = await self.path(obj["apiVersion"], obj["kind"], meta.get("namespace"), meta["name"])
        return cast(Object, await self.request("PUT", path + (f"/{subresource}" if subresource else ""), obj))

    async def patch(self, api_version: str, kind: str, name: str, patch: Any, namespace: str | None = None,
                    subresource: str | None = None, type: str = "merge",
                    params: dict[str, str] | None = None) -> Object:
        path = await self.path(api_version, kind, namespace, name)
        if subresource:
            path += f"/{subresource}"
        return cast(Object, await self.request("PATCH", path, patch, params, PATCH_TYPES[type]))

    async def patch_status(self, obj: Object, status: Object) -> Object:
        """Merge ``status`` into the object's status subresource."""
        meta = obj["metadata"]
        return await self.patch(obj["apiVersion"], obj["kind"], meta["name"], {"status": status},
                                meta.get("namespace"), "status")

    async def apply(self, obj: Object, manager: str, force: bool = False) -> Object:
        """Server-side apply."""
        meta = obj["metadata"]
        params = {"fieldManager": manager, "force": "true" if force else "false"}
        return await self.patch(obj["apiVersion"], obj["kind"], meta["name"], obj, meta.get("namespace"),
                                type="apply", params=params)

    async def delete(self, api_version: str, kind: str, name: str, namespace: str | None = None,
                     grace: int | None = None, propagation: str | None = None) -> bool:
        """Delete; False where there was nothing."""
        params = {}
        if grace is not None:
            params["gracePeriodSeconds"] = str(grace)
        if propagation:
            params["propagationPolicy"] = propagation
        try:
            await self.request("DELETE", await self.path(api_version, kind, namespace, name), params=params)
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return True

    async def event(self, obj: Object, type: str, reason: str, message: str, component: str) -> None:
        """Record an event about ``obj``; a failure to record is logged, never raised."""
        meta = obj["metadata"]
        namespace = meta.get("namespace") or "default"
        stamp = now()
        body = {
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": f"{meta['name'][:200]}.{random.getrandbits(64):016x}", "namespace": namespace},
            "involvedObject": {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "name": meta["name"],
                               "namespace": meta.get("namespace", ""), "uid": meta.get("uid", ""),
                               "resourceVersion": meta.get("resourceVersion", "")},
            "type": type, "reason": reason, "message": message, "source": {"component": component},
            "firstTimestamp": stamp, "lastTimestamp": stamp, "count": 1, "reportingComponent": component,
        }
        try:
            await self.create(body)
        except (ApiError, aiohttp.ClientError, TimeoutError) as error:
            log.warning("event %s not recorded: %s", reason, error)

    async def watch(self, api_version: str, kind: str, namespace: str | None = None, label_selector: str = "",
                    field_selector: str = "") -> AsyncIterator[tuple[str, Object]]:
        """(type, object) for ever: ADDED for what is there, then changes; ``SYNCED`` ends each listing.

        Survives restarts of the API server and expired versions by listing anew (objects gone meanwhile come as
        DELETED) and waits while the kind is not served.
        """
        known: dict[str, Object] = {}
        delay = 0.2
        while True:
            try:
                items, version = await self._list(api_version, kind, namespace, label_selector, field_selector)
                fresh = {key_of(item): item for item in items}
                for key in [k for k in known if k not in fresh]:
                    yield "DELETED", known.pop(key)
                for key, item in fresh.items():
                    before = known.get(key)
                    known[key] = item
                    if before is None or before["metadata"].get("uid") != item["metadata"].get("uid"):
                        yield "ADDED", item
                    elif before["metadata"]["resourceVersion"] != item["metadata"]["resourceVersion"]:
                        yield "MODIFIED", item
                yield "SYNCED", {}
                delay = 0.2
                async for type, item in self._watch(api_version, kind, namespace, label_selector, field_selector,
                                                    version):
                    if type == "DELETED":
                        known.pop(key_of(item), None)
                    else:
                        known[key_of(item)] = item
                    yield type, item
            except WatchExpired:
                continue
            except ApiError as error:
                if error.status not in (404, 429) and error.status < 500:
                    log.warning("watch %s: %s", kind, error)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                log.debug("watch %s: %s", kind, error)
            await asyncio.sleep(delay)
            delay = min(delay * 1.5, 2.0)

    async def _watch(self, api_version: str, kind: str, namespace: str | None, label_selector: str,
                     field_selector: str, version: str) -> AsyncIterator[tuple[str, Object]]:
        params = {**_selectors(label_selector, field_selector), "watch": "true", "allowWatchBookmarks": "true",
                  "timeoutSeconds": "300"}
        path = await self.path(api_version, kind, namespace)
        while True:
            params["resourceVersion"] = version
            async with self.session.get(self.server + path, params=params, headers=self._headers(),
                                        timeout=aiohttp.ClientTimeout(total=None, sock_read=330)) as answer:
                if answer.status >= 400:
                    error = _error(answer.status, await answer.text())
                    if answer.status == 410:
                        raise WatchExpired from error
                    raise error
                async for line in _lines(answer.content):
                    event = json.loads(line)
                    obj = event["object"]
                    if event["type"] == "ERROR":
                        if obj.get("code") == 410:
                            raise WatchExpired
                        raise ApiError(obj.get("code", 500), obj.get("reason", ""), obj.get("message", ""))
                    version = obj["metadata"]["resourceVersion"]
                    if event["type"] != "BOOKMARK":
                        yield event["type"], {"apiVersion": api_version, "kind": kind, **obj}


def _selectors(label_selector: str, field_selector: str) -> dict[str, str]:
    params = {}
    if label_selector:
        params["labelSelector"] = label_selector
    if field_selector:
        params["fieldSelector"] = field_selector
    return params


def _error(status: int, text: str) -> ApiError:
    try:
        body = json.loads(text)
        return ApiError(status, body.get("reason", ""), body.get("message", text))
    except (ValueError, AttributeError):
        return ApiError(status, "", text.strip())


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Lines of any length (aiohttp's own readline refuses long ones)."""
    rest = b""
    async for chunk in stream.iter_any():
        parts = (rest + chunk).split(b"\n")
        rest = parts.pop()
        for part in parts:
            yield part


class Controller:
    """Watches kinds, keeps their objects in ``store`` and calls ``reconcile(key)``, one call a key at a time.

    A returned number asks for another call in that many seconds; an exception is logged and retried with back-off, as
    controller-runtime does (5 ms doubling, at most ``max_backoff`` seconds).
    """

    def __init__(self, kube: Kube, name: str, reconcile: Callable[[str], Awaitable[float | None]],
                 max_backoff: float = 16.0) -> None:
        self.kube, self.name, self.reconcile, self.max_backoff = kube, name, reconcile, max_backoff
        self.store: dict[str, dict[str, Object]] = {}
        self._watches: list[tuple[str, str, dict[str, str | None], Callable[[Object], Iterable[str]]]] = []
        self._dirty: set[str] = set()
        self._running: set[str] = set()
        self._failures: dict[str, int] = {}
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._unsynced = 0

    def watch(self, api_version: str, kind: str, map: Callable[[Object], Iterable[str]] | None = None,
              namespace: str | None = None, label_selector: str = "", field_selector: str = "") -> Controller:
        """Watch a kind; ``map`` gives the keys to reconcile after a change of an object (default: its own)."""
        selectors: dict[str, str | None] = {"namespace": namespace, "label_selector": label_selector,
                                            "field_selector": field_selector}
        self._watches.append((api_version, kind, selectors, map or (lambda obj: [key_of(obj)])))
        self.store[kind] = {}
        return self

    def enqueue(self, *keys: str) -> None:
        """Ask for a reconciliation of each key."""
        self._dirty.update(keys)
        self._wake.set()

    async def _follow(self, api_version: str, kind: str, selectors: dict[str, Any],
                      map: Callable[[Object], Iterable[str]]) -> None:
        synced = False
        async for type, obj in self.kube.watch(api_version, kind, **selectors):
            if type == "SYNCED":
                if not synced:
                    synced = True
                    self._unsynced -= 1
                    self._wake.set()
                continue
            if type == "DELETED":
                self.store[kind].pop(key_of(obj), None)
            else:
                self.store[kind][key_of(obj)] = obj
            self.enqueue(*map(obj))

    async def _one(self, key: str) -> None:
        try:
            again = await self.reconcile(key)
            self._failures.pop(key, None)
        except (ApiError, aiohttp.ClientError, TimeoutError, OSError, LookupError, ValueError) as error:
            count = self._failures[key] = self._failures.get(key, 0) + 1
            again = min(0.005 * 2**count, self.max_backoff)
            level = logging.INFO if isinstance(error, ApiError) and error.status == 409 else logging.ERROR
            log.log(level, "Reconciler error controller=%s object=%s error=%r", self.name, key, str(error))
            if not isinstance(error, (ApiError, aiohttp.ClientError, TimeoutError, OSError)):
                log.debug("reconcile", exc_info=True)
        finally:
            self._running.discard(key)
            self._wake.set()
        if again is not None:
            asyncio.get_running_loop().call_later(again, self.enqueue, key)

    def _start(self, coroutine: Any) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def run(self) -> None:
        """Watch and reconcile until cancelled."""
        self._unsynced = len(self._watches)
        followers = [asyncio.ensure_future(self._follow(a, k, s, m)) for a, k, s, m in self._watches]
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                for follower in followers:
                    if follower.done():
                        follower.result()
                if self._unsynced:
                    continue
                for key in sorted(self._dirty - self._running):
                    self._dirty.discard(key)
                    self._running.add(key)
                    self._start(self._one(key))
        finally:
            for task in [*followers, *self._tasks]:
                task.cancel()
