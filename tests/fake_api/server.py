"""The HTTP side of the fake API server."""

from __future__ import annotations

import contextlib
import json
import re
import ssl
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.fake_api.store import Key, Kind, Object, Refused, Store

PATH = re.compile(r"^/(?:api|apis)/(?P<version>v1(?=/)|[^/]+/[^/]+)(?:/namespaces/(?P<namespace>[^/]+)(?=/[a-z]))?/(?P<plural>[a-z]+)"
                  r"(?:/(?P<name>[^/]+))?(?:/(?P<sub>[a-z]+))?$")
VERBS = {"GET": "get", "POST": "create", "PATCH": "patch", "DELETE": "delete"}


def status(code: int, reason: str, message: str, causes: list[dict[str, str]] | None = None) -> Object:
    """A Status object, as failures come."""
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message,
            "details": {"causes": causes or []}}


@dataclass
class Request:
    """One request as it came."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any
    connection: int

    @property
    def watch(self) -> bool:
        return self.query.get("watch") == "true"

    @property
    def dry(self) -> bool:
        return self.query.get("dryRun") == "All"


@dataclass
class Script:
    """Answers for requests that match, one each; ``close`` breaks off instead, ``delay`` seconds come first."""

    method: str
    pattern: re.Pattern[str]
    code: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    times: int = 1
    delay: float = 0
    close: bool = False
    watch: bool | None = None


class FakeApi(Store):
    """Use it in a ``with`` statement; ``url`` and :meth:`kubeconfig` lead to it."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__()
        self.requests: list[Request] = []
        self.connections = 0
        self.scripts: list[Script] = []
        self.token = ""
        self.forbidden: set[tuple[str, str]] = set()  # (verb, plural)
        self.logs: dict[str, str] = {}
        self.watch_seconds = 30.0  # after which the server ends a watch
        self.legacy_discovery = False
        self.stopping = threading.Event()
        handler = type("Handler", (_Handler,), {"api": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._server.tls = tls
        self.port = self._server.server_address[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}, "status": {"phase": "Active"}})

    def __enter__(self) -> FakeApi:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stopping.set()
        with self.changed:
            self.changed.notify_all()
        self._server.shutdown()
        self._server.server_close()

    # For tests --------------------------------------------------------------------------------------------------

    def put(self, obj: Object, manager: str = "somebody") -> Object:
        """Create or replace an object, as another manager."""
        with self.changed:
            key = self.key(obj)
            if key[2] and (missing := ("v1", "namespaces", "", key[2])) not in self.objects:
                self.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": missing[3]}, "status": {"phase": "Active"}})
            if key in self.objects:
                return self.patch(key, obj, manager, dry=False)
            return self.create(obj, manager)

    def find(self, api_version: str, kind: str, name: str, namespace: str = "") -> Object | None:
        served = self.kind(api_version, kind)
        assert served is not None
        return self.objects.get((api_version, served.plural, namespace if served.namespaced else "", name))

    def script(self, method: str, pattern: str, code: int, body: Any = None, **more: Any) -> Script:
        """Answer the next matching request(s) with this; the first script that matches and is not used up counts."""
        self.scripts.append(Script(method, re.compile(pattern), code, body, **more))
        return self.scripts[-1]

    def later(self, seconds: float, function: Any, *arguments: Any, **named: Any) -> None:
        """Call a function after some seconds."""
        timer = threading.Timer(seconds, function, arguments, named)
        timer.daemon = True
        timer.start()

    def writes(self) -> list[Request]:
        """Requests that changed something or would have."""
        return [r for r in self.requests if r.method != "GET" and not r.path.endswith("selfsubjectaccessreviews")]

    def kubeconfig(self, ca: str = "", token: str = "") -> Object:
        cluster = {"server": self.url, **({"certificate-authority": ca} if ca else {})}
        return {"apiVersion": "v1", "kind": "Config", "current-context": "fake",
                "clusters": [{"name": "fake", "cluster": cluster}],
                "users": [{"name": "me", "user": {"token": token or self.token or "unchecked"}}],
                "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "me"}}]}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    tls: ssl.SSLContext | None = None

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self.tls is None:
            super().finish_request(request, client_address)
            return
        with contextlib.suppress(OSError), self.tls.wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    api: FakeApi

    def setup(self) -> None:
        super().setup()
        self.api.connections += 1
        self.number = self.api.connections

    def log_message(self, *_arguments: object) -> None:
        """Silent."""

    def answer(self, code: int, body: Any, headers: dict[str, str] | None = None) -> None:
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "text/plain" if isinstance(body, str) else "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    def handle_one(self) -> None:
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        text = self.rfile.read(length)
        request = Request(self.command, unquote(parts.path), {k: v[0] for k, v in parse_qs(parts.query).items()},
                          {k.lower(): v for k, v in self.headers.items()}, json.loads(text) if text else None, self.number)
        api = self.api
        api.requests.append(request)
        if api.token and request.headers.get("authorization") != f"Bearer {api.token}":
            self.answer(401, status(401, "Unauthorized", "Unauthorized"))
            return
        script = self._scripted(request)
        if script is not None:
            api.stopping.wait(script.delay)
            if script.close:
                self.close_connection = True
                return
            body = script.body if script.body is not None else status(script.code, "Scripted", "scripted")
            self.answer(script.code, body, script.headers)
            return
        try:
            self._route(request)
        except Refused as error:
            self.answer(error.code, status(error.code, error.reason, error.message, error.causes))

    do_GET = do_POST = do_PATCH = do_DELETE = handle_one

    def _scripted(self, request: Request) -> Script | None:
        with self.api.changed:
            for script in self.api.scripts:
                if script.times and script.method == request.method and script.pattern.search(request.path) \
                        and script.watch in (None, request.watch):
                    script.times -= 1
                    return script
        return None

    # Routes -----------------------------------------------------------------------------------------------------

    def _route(self, request: Request) -> None:
        api, path = self.api, request.path
        if path == "/version":
            self.answer(200, {"gitVersion": "v1.32.9"})
            return
        if path in ("/api", "/apis"):
            self.answer(200, self._discovery(path, "apidiscovery" in request.headers.get("accept", "")))
            return
        if path.endswith("/selfsubjectaccessreviews"):
            wanted = request.body["spec"]["resourceAttributes"]
            self.answer(201, {"status": {"allowed": (wanted["verb"], wanted["resource"]) not in api.forbidden}})
            return
        version = re.fullmatch(r"/(?:api|apis)/(v1(?=$)|[^/]+\.[^/]+/v[^/]+|(?:apps|batch)/v1)", path)
        if version:
            served = [k for k in api.kinds if k.api_version == version[1]]
            if not served:
                self.answer(404, "404 page not found\n")
                return
            self.answer(200, {"kind": "APIResourceList", "groupVersion": version[1], "resources": [
                {"name": k.plural, "kind": k.kind, "namespaced": k.namespaced, "verbs": ["get", "list", "watch", "delete"]}
                for k in served]})
            return
        found = PATH.match(path)
        kind = api.kind(found["version"], found["plural"]) if found else None
        if found is None or kind is None:
            if path.startswith("/api/v1/"):  # as a real server: a Status in the core group, plain text elsewhere
                raise Refused(404, "NotFound", "the server could not find the requested resource")
            self.answer(404, "404 page not found\n")
            return
        self._allowed(request, kind, found)
        self._objects(request, kind, found["namespace"] or "", found["name"] or "", found["sub"] or "")

    def _discovery(self, root: str, aggregated: bool) -> Object:
        groups: dict[str, dict[str, list[Kind]]] = {}
        for kind in self.api.kinds:
            group, _slash, version = kind.api_version.rpartition("/")
            if (root == "/apis") is bool(group):
                groups.setdefault(group, {}).setdefault(version, []).append(kind)
        if aggregated and not self.api.legacy_discovery:
            return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "items": [
                {"metadata": {"name": group}, "versions": [{"version": version, "resources": [
                    {"resource": k.plural, "responseKind": {"kind": k.kind}, "scope": "Namespaced" if k.namespaced else "Cluster",
                     "verbs": ["get", "list", "delete"]} for k in served]} for version, served in versions.items()]}
                for group, versions in groups.items()]}
        if root == "/api":
            return {"kind": "APIVersions", "versions": sorted(groups.get("", {}))}
        return {"kind": "APIGroupList", "groups": [
            {"name": group, "versions": [{"groupVersion": f"{group}/{version}"} for version in versions]}
            for group, versions in groups.items()]}

    def _allowed(self, request: Request, kind: Kind, found: Any) -> None:
        verb = "watch" if request.watch else "list" if request.method == "GET" and not found["name"] else VERBS[request.method]
        if (verb, kind.plural) in self.api.forbidden:
            group = kind.api_version.rpartition("/")[0]
            where = f' in the namespace "{found["namespace"]}"' if found["namespace"] else " at the cluster scope"
            name = f'{kind.plural} "{found["name"]}"' if found["name"] else kind.plural
            raise Refused(403, "Forbidden", f'{name} is forbidden: User "tester" cannot {verb} resource "{kind.plural}" in API group '
                          f'"{group}"{where}')

    def _objects(self, request: Request, kind: Kind, namespace: str, name: str, sub: str) -> None:
        api, dry = self.api, request.dry
        key: Key = (kind.api_version, kind.plural, namespace, name)
        manager = request.query.get("fieldManager", "unknown")
        if request.method == "GET" and sub == "log":
            if name not in api.logs:
                raise Refused(404, "NotFound", f'pods "{name}" not found')
            self.answer(200, api.logs[name])
        elif request.method == "GET" and name:
            with api.changed:
                if key not in api.objects:
                    raise Refused(404, "NotFound", f'{kind.plural} "{name}" not found')
                body = json.loads(json.dumps(api.objects[key]))
            self.answer(200, body)
        elif request.watch:
            self._watch(request, kind, namespace)
        elif request.method == "GET":
            with api.changed:
                items = [obj for found, obj in sorted(api.objects.items()) if self._wanted(request, kind, namespace, found, obj)]
                body = {"kind": f"{kind.kind}List", "metadata": {"resourceVersion": str(api.version)},
                        "items": json.loads(json.dumps(items))}
            if "PartialObjectMetadataList" in request.headers.get("accept", ""):
                body["items"] = [{"metadata": item["metadata"]} for item in body["items"]]
            self.answer(200, body)
        elif request.method == "POST":
            self.answer(201, api.create({"apiVersion": kind.api_version, "kind": kind.kind, **request.body}, manager, dry=dry))
        elif request.method == "PATCH" and request.headers["content-type"] == "application/apply-patch+yaml":
            created, obj = api.apply(request.body, manager, request.query.get("force") == "true", dry)
            self.answer(201 if created else 200, obj)
        elif request.method == "PATCH":
            self.answer(200, api.patch(key, request.body, manager, dry))
        else:
            self.answer(200, api.delete(key, dry))

    @staticmethod
    def _wanted(request: Request, kind: Kind, namespace: str, key: Key, obj: Object) -> bool:
        if key[:2] != (kind.api_version, kind.plural) or (namespace and key[2] != namespace):
            return False
        labels = obj["metadata"].get("labels") or {}
        for part in filter(None, request.query.get("labelSelector", "").split(",")):
            label, equals, value = part.partition("=")
            if label not in labels or (equals and labels[label] != value):
                return False
        for part in filter(None, request.query.get("fieldSelector", "").split(",")):
            path, _equals, value = part.partition("=")
            at: Any = obj
            for name in path.split("."):
                at = (at or {}).get(name)
            if at != value:
                return False
        return True

    def _watch(self, request: Request, kind: Kind, namespace: str) -> None:
        api, seen = self.api, int(request.query.get("resourceVersion") or 0)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        if seen < api.oldest:
            self._event("ERROR", status(410, "Expired", f"too old resource version: {seen} ({api.oldest})"))
        else:
            end = time.monotonic() + min(api.watch_seconds, float(request.query.get("timeoutSeconds") or 30))
            while time.monotonic() < end and not api.stopping.is_set():
                with api.changed:
                    fresh = [item for item in api.history if item[0] > seen]
                    if not fresh:
                        api.changed.wait(min(0.5, max(0.0, end - time.monotonic())))
                for version, event, key, obj in fresh:
                    seen = version
                    if self._wanted(request, kind, namespace, key, obj):
                        self._event(event, obj)
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def _event(self, event: str, obj: Object) -> None:
        line = json.dumps({"type": event, "object": obj}).encode() + b"\n"
        self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
        self.wfile.flush()
