"""A scripted Azure: Resource Manager and Entra's token endpoint on one TLS port, answering GET from a table of documents."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.fake_api.tls import Authority


class FakeArm:
    """``documents``: path (lower case, without query) to a document or, for lists, to a list that is sent one item a page.

    ``answers``: path to (status, headers, body) triples that are sent first, one each. ``requests``: (path, api-version, authorization)
    of what came to ARM; ``logins``: the forms that came to the token endpoint, which refuses with ``refusal`` where that is set.
    """

    def __init__(self, directory: Path) -> None:
        authority = Authority(directory, "arm")
        self.ca = str(authority.ca)
        self.documents: dict[str, Any] = {}
        self.answers: dict[str, list[tuple[int, dict[str, str], Any]]] = {}
        self.requests: list[tuple[str, str, str]] = []
        self.logins: list[dict[str, str]] = []
        self.refusal = ""
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer(*fake.get(self.path, self.headers.get("Authorization") or ""))

            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                fake.logins.append({key: values[0] for key, values in form.items()})
                if fake.refusal:
                    self._answer(401, {}, {"error": "invalid_client", "error_description": fake.refusal})
                else:
                    self._answer(200, {}, {"token_type": "Bearer", "expires_in": 3600, "access_token": "the-token"})

            def _answer(self, code: int, headers: dict[str, str], body: Any) -> None:
                data = json.dumps(body).encode()
                self.send_response(code)
                for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

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

    def options(self, subscription: str, tenant: str) -> dict[str, Any]:
        """The options with which a module logs in here."""
        return {"subscription_id": subscription, "tenant": tenant, "client_id": "the-client", "secret": "the-secret",
                "adfs_authority_url": self.url, "arm_endpoint": self.url, "azure_ca_cert": self.ca}

    def get(self, target: str, authorization: str) -> tuple[int, dict[str, str], Any]:
        """(status, headers, body) for a GET."""
        parts = urlsplit(target)
        path, query = parts.path.lower(), parse_qs(parts.query)
        if path.endswith("/.well-known/openid-configuration"):
            base = f"{self.url}/{parts.path.split('/')[1]}"
            return 200, {}, {"issuer": f"{base}/v2.0", "token_endpoint": f"{base}/oauth2/v2.0/token",
                             "authorization_endpoint": f"{base}/oauth2/v2.0/authorize", "tenant_region_scope": None}
        self.requests.append((path, query.get("api-version", [""])[0], authorization))
        if "api-version" not in query or authorization != "Bearer the-token":
            return 400, {}, {"error": {"code": "MissingApiVersionParameter", "message": "api-version or token is missing"}}
        if self.answers.get(path):
            return self.answers[path].pop(0)
        found = self.documents.get(path)
        if found is None:
            return 404, {}, {"error": {"code": "ResourceNotFound", "message": f"The Resource '{parts.path}' was not found."}}
        if not isinstance(found, list):
            return 200, {}, found
        page = int(query.get("$skiptoken", ["0"])[0])
        more = {"nextLink": f"{self.url}{parts.path}?api-version={query['api-version'][0]}&$skiptoken={page + 1}"}
        return 200, {}, {"value": found[page:page + 1], **(more if page + 1 < len(found) else {})}
