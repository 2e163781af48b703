"""A scripted Azure: Resource Manager and Entra's token endpoint on one TLS port, for Azure's own libraries. Not true: lab-arm is that.

What is read comes from a table of documents, else from a store of resources. A PUT replaces the whole resource, as the real one does; an
ETag that is not the resource's is 412; every list has one item a page.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.fake_api.tls import Authority

SUBSCRIPTION = "11111111-2222-3333-4444-555555555555"
Resource = dict[str, Any]
Answer = tuple[int, dict[str, str], Any]


def refusal(status: int, code: str, message: str) -> Answer:
    return status, {}, {"error": {"code": code, "message": message}}


class FakeArm:
    """``documents``: path (lower case, without query) to a document or, for lists, to a list. ``resources``: what can be written, by id
    in lower case; ``put``, ``get``.

    ``answers``: path to answers that are sent first, one each; ``refused``: a part of ``METHOD path`` to the status and code that are
    always sent; ``before_put``: called before each PUT, so that a test can come in between; ``slow``: writes are long-running
    operations, in progress at the first look. ``calls``: (method, path) of what came to ARM; ``logins``: the forms that came to the token
    endpoint, which refuses with ``refusal`` where that is set.
    """

    def __init__(self, directory: Path) -> None:
        authority = Authority(directory, "arm")
        self.ca = str(authority.ca)
        self.documents: dict[str, Any] = {}
        self.answers: dict[str, list[Answer]] = {}
        self.resources: dict[str, Resource] = {}
        self.refused: dict[str, tuple[int, str]] = {}
        self.before_put: Callable[[str], None] = lambda _path: None
        self.slow = False
        self.calls: list[tuple[str, str]] = []
        self.logins: list[dict[str, str]] = []
        self.refusal = ""
        self._version = 0
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _any(self) -> None:
                data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {key.lower(): value for key, value in self.headers.items()}
                status, more, body = fake.respond(self.command, self.path, headers, data)
                sent = json.dumps(body).encode()
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", "Content-Length": str(len(sent)), **more}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(sent)

            do_GET = do_POST = do_PUT = do_DELETE = _any

            def log_message(self, *_arguments: Any) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.socket = authority.server("localhost").wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://localhost:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> FakeArm:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def options(self, subscription: str = SUBSCRIPTION, tenant: str = "t") -> dict[str, Any]:
        """The options with which a module logs in here."""
        return {"subscription_id": subscription, "tenant": tenant, "client_id": "the-client", "secret": "the-secret",
                "adfs_authority_url": self.url, "arm_endpoint": self.url, "azure_ca_cert": self.ca}

    def put(self, resource_id: str, **resource: Any) -> str:
        """Store a resource; children of a virtual network are embedded in it when it is read."""
        self._version += 1
        name = resource_id.rpartition("/")[2]
        self.resources[resource_id.lower()] = {"id": resource_id, "name": name, **resource, "etag": f'W/"{self._version}"'}
        return resource_id

    def get(self, resource_id: str) -> Resource | None:
        """A resource as stored (not a copy), or None."""
        return self.resources.get(resource_id.lower())

    def writes(self) -> list[tuple[str, str]]:
        """Everything but reads, with the last name of the path."""
        return [(method, path.rpartition("/")[2]) for method, path in self.calls if method != "GET"]

    def respond(self, method: str, target: str, headers: dict[str, str], data: bytes) -> Answer:
        """(status, headers, body) for a request; names of headers in lower case."""
        parts = urlsplit(target)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        tenant = parts.path.split("/")[1]
        if parts.path.endswith("/.well-known/openid-configuration"):
            base = f"{self.url}/{tenant}"
            return 200, {}, {"issuer": f"{base}/v2.0", "token_endpoint": f"{base}/oauth2/v2.0/token",
                             "authorization_endpoint": f"{base}/oauth2/v2.0/authorize", "tenant_region_scope": None}
        if method == "POST":
            self.logins.append({key: values[0] for key, values in parse_qs(data.decode()).items()})
            if self.refusal:
                return 401, {}, {"error": "invalid_client", "error_description": self.refusal}
            return 200, {}, {"token_type": "Bearer", "expires_in": 3600, "access_token": "the-token"}
        self.calls.append((method, parts.path))
        if "api-version" not in query or headers.get("authorization") != "Bearer the-token":
            return refusal(400, "MissingApiVersionParameter", "api-version or token is missing")
        if "/operations/" in parts.path:
            return 200, {}, {"status": "InProgress" if self.calls.count((method, parts.path)) == 1 else "Succeeded"}
        key = parts.path.lower()
        if self.answers.get(key):
            return self.answers[key].pop(0)
        for part, (status, code) in self.refused.items():
            if part.lower() in f"{method} {key}".lower():
                return refusal(status, code, f"{method} {parts.path} is refused")
        if method == "GET":
            return self._read(parts.path, query)
        status, body = self._write(method, parts.path, headers, data)
        if self.slow and status == 200:
            operation = f"{self.url}/subscriptions/{SUBSCRIPTION}/operations/{len(self.calls)}?api-version=x"
            return 201 if method == "PUT" else 202, {"Azure-AsyncOperation": operation}, body
        return status, {}, body

    def _write(self, method: str, path: str, headers: dict[str, str], data: bytes) -> tuple[int, Any]:
        key = path.lower()
        if method == "DELETE":
            return (200 if self.resources.pop(key, None) else 204), {}
        self.before_put(path)
        now = self.resources.get(key) or {}
        if "if-match" in headers and now.get("etag") != headers["if-match"]:
            return 412, {"error": {"code": "PreconditionFailed", "message": "Precondition failed."}}
        self.put(now.get("id", path), **{k: v for k, v in json.loads(data).items() if k not in ("id", "name", "etag")})
        return 200, self.resources[key]

    def _read(self, path: str, query: dict[str, str]) -> Answer:
        key = path.lower()
        found = self.documents.get(key)
        if found is None and key in self.resources:
            found = self._whole(key)
        if found is None and len(path.strip("/").split("/")) % 2:
            found = [one for name, one in sorted(self.resources.items()) if re.fullmatch(re.escape(key) + "/[^/]+", name)]
        if found is None:
            return refusal(404, "ResourceNotFound", f"The Resource '{path}' was not found.")
        if not isinstance(found, list):
            return 200, {}, found
        page = int(query.get("$skiptoken", "0"))
        more = {"nextLink": f"{self.url}{path}?api-version={query['api-version']}&$skiptoken={page + 1}"}
        return 200, {}, {"value": found[page:page + 1], **(more if page + 1 < len(found) else {})}

    def _whole(self, key: str) -> Resource:
        found = self.resources[key]
        children = [one for name, one in self.resources.items() if re.fullmatch(re.escape(key) + "/subnets/[^/]+", name)]
        return {**found, "properties": {**found.get("properties", {}), "subnets": children}} if children else found
