"""Azure Resource Manager in this process: Azure's own libraries above, a dictionary below. Scripted, not true: lab-arm is that.

A PUT replaces the whole resource, as the real one does; an ETag that is not the resource's is 412; lists have one item a page.
"""

from __future__ import annotations

import io
import json
import re
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import requests
import urllib3

from ansible_collections.confidential.containers.plugins.module_utils import azure_login

ARM = "https://arm.test"
SUBSCRIPTION = "11111111-2222-3333-4444-555555555555"

Resource = dict[str, Any]


class Credential:
    """A token for everybody."""

    def get_token(self, *_scopes: str, **_options: Any) -> Any:
        return SimpleNamespace(token="a-token", expires_on=4102444800)

    def get_token_info(self, *_scopes: str, **_options: Any) -> Any:
        return SimpleNamespace(token="a-token", expires_on=4102444800, token_type="Bearer", refresh_on=None)


@dataclass
class FakeArm:
    """``calls``: (method, path); ``before_put``: called before each PUT, so that a test can come in between; ``slow``: writes
    are long-running operations, in progress at the first look."""

    resources: dict[str, Resource] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    refused: dict[str, tuple[int, str]] = field(default_factory=dict)
    before_put: Callable[[str], None] = lambda _path: None
    version: int = 0
    url: str = ARM
    slow: bool = False

    @classmethod
    def installed(cls, monkeypatch: pytest.MonkeyPatch) -> FakeArm:
        """One that answers whatever Azure's libraries send in this test; every login succeeds."""
        found = cls()
        login = azure_login.Login(Credential(), "a test's principal", "t", SUBSCRIPTION, azure_login.Cloud("test", ARM, ARM, ARM), True)
        monkeypatch.setattr(azure_login, "login", lambda _params: login)
        monkeypatch.setattr(requests.Session, "request", lambda _self, method, url, **options: found.request(method, url, **options))
        return found

    def put(self, resource_id: str, **resource: Any) -> str:
        """Store a resource; children of a virtual network are embedded in it when it is read."""
        self.version += 1
        name = resource_id.rpartition("/")[2]
        self.resources[resource_id.lower()] = {"id": resource_id, "name": name, **resource, "etag": f'W/"{self.version}"'}
        return resource_id

    def get(self, resource_id: str) -> Resource | None:
        return self.resources.get(resource_id.lower())

    def writes(self) -> list[tuple[str, str]]:
        """Everything but reads, with the last name of the path."""
        return [(method, path.rpartition("/")[2]) for method, path in self.calls if method != "GET"]

    def request(self, method: str, url: str, **options: Any) -> requests.Response:
        """In the place of requests.Session.request."""
        parts = urllib.parse.urlsplit(url)
        assert "api-version" in urllib.parse.parse_qs(parts.query), f"{method} {url} names no api-version"
        headers = {key.lower(): value for key, value in (options.get("headers") or {}).items()}
        assert headers.get("authorization", "").startswith("Bearer "), f"{method} {url} without a token"
        self.calls.append((method, parts.path))
        sent = {"Content-Type": "application/json"}
        if "/operations/" in parts.path:
            status, body = 200, {"status": "InProgress" if self.calls.count((method, parts.path)) == 1 else "Succeeded"}
        else:
            status, body = self.answer(method, parts.path, parts.query, headers, options.get("data"))
        if self.slow and method in ("PUT", "DELETE") and status == 200:
            status = 201 if method == "PUT" else 202
            sent["Azure-AsyncOperation"] = f"{self.url}/subscriptions/{SUBSCRIPTION}/operations/{len(self.calls)}?api-version=x"
        found = requests.Response()
        found.status_code, found.url = status, url
        found.headers.update(sent)
        found.raw = urllib3.HTTPResponse(io.BytesIO(json.dumps(body).encode()), status=status, preload_content=False,
                                         headers=sent)
        return found

    def answer(self, method: str, path: str, query: str, headers: dict[str, str], data: Any) -> tuple[int, Any]:
        """(status, document) of one request."""
        key = path.lower()
        for part, (status, code) in self.refused.items():
            if part.lower() in f"{method} {path}".lower():
                return status, {"error": {"code": code, "message": f"{method} {path} is refused"}}
        if method == "PUT":
            self.before_put(path)
            now = self.resources.get(key)
            if "if-match" in headers and (now or {}).get("etag") != headers["if-match"]:
                return 412, {"error": {"code": "PreconditionFailed", "message": "Precondition failed."}}
            sent = json.loads(data.read() if hasattr(data, "read") else data)
            self.put((now or {}).get("id", path), **{k: v for k, v in sent.items() if k not in ("id", "name", "etag")})
            return 200, self.resources[key]
        if method == "DELETE":
            return (200 if self.resources.pop(key, None) else 204), {}
        if key in self.resources:
            return 200, self.read(key)
        if len(path.strip("/").split("/")) % 2:
            return self.page(key, path, query)
        return 404, {"error": {"code": "ResourceNotFound", "message": f"The Resource '{path}' was not found."}}

    def read(self, key: str) -> Resource:
        children = [one for path, one in self.resources.items() if re.fullmatch(re.escape(key) + r"/subnets/[^/]+", path)]
        found = self.resources[key]
        return {**found, "properties": {**found.get("properties", {}), "subnets": children}} if "/virtualnetworks/" in key and children \
            else found

    def page(self, key: str, path: str, query: str) -> tuple[int, Any]:
        items = [one for name, one in sorted(self.resources.items()) if re.fullmatch(re.escape(key) + "/[^/]+", name)]
        number = int(urllib.parse.parse_qs(query).get("$skiptoken", ["0"])[0])
        found: dict[str, Any] = {"value": items[number:number + 1]}
        if number + 1 < len(items):
            found["nextLink"] = f"{self.url}{path}?api-version=x&$skiptoken={number + 1}"
        return 200, found
