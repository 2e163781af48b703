"""The instance metadata service's token endpoint: managed identities of the machine that this runs on. Plain HTTP, as the real one's.

One identity of the system's, and user-assigned ones that are asked for by ``client_id`` or ``object_id``.
"""

from __future__ import annotations

import json
import time
from typing import Any

from aiohttp import web

from lab.arm.entra import Entra

PATH = "/metadata/identity/oauth2/token"
#: Only versions that the managed identities' documentation names.
VERSIONS = ("2018-02-01", "2019-08-01")
SERVER = "IMDS/150.870.65.1854"
#: Query parameters that name a user-assigned identity; those of resource ids name none, the lab has no such resources.
NAMED_BY = {"client_id": "client_id", "object_id": "object_id", "msi_res_id": "", "mi_res_id": ""}


class Imds:
    """``identities``: applications of :mod:`lab.arm.seed` with ``managed`` ``system`` or ``user``."""

    def __init__(self, entra: Entra, identities: list[dict[str, Any]]) -> None:
        self.entra, self.identities = entra, identities

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.handle)
        return app

    async def handle(self, request: web.Request) -> web.Response:
        """Any request."""
        status, document = self.answer(request)
        return web.Response(status=status, text=json.dumps(document), content_type="application/json", headers={"Server": SERVER})

    def answer(self, request: web.Request) -> tuple[int, dict[str, Any]]:
        """(status, document) of a request."""
        def refused(text: str, error: str = "invalid_request") -> tuple[int, dict[str, Any]]:
            return 400, {"error": error, "error_description": text}

        if request.path != PATH:
            return 404, {"error": "not_found", "error_description": f"lab-arm's metadata service has only {PATH}."}
        if request.method != "GET":
            return 405, {"error": "method_not_allowed", "error_description": "The requested method is not allowed."}
        if request.headers.get("Metadata") != "true":
            return refused("Required metadata header not specified")
        if "X-Forwarded-For" in request.headers:
            return refused("Requests with an X-Forwarded-For header are refused")
        for name in ("api-version", "resource"):
            if not request.query.get(name):
                return refused(f"Required query variable '{name}' is missing")
        if request.query["api-version"] not in VERSIONS:
            return refused(f"api-version {request.query['api-version']} is not supported")
        resource = request.query["resource"]
        if not resource.startswith("https://"):
            return refused(f"AADSTS500011: The resource principal named {resource} was not found.", "invalid_resource")
        identity = self._identity(request)
        if identity is None:
            return refused("Identity not found")
        now = int(time.time())
        return 200, {"access_token": self.entra.issue(identity, resource), "client_id": identity["client_id"], "resource": resource,
                     "expires_in": str(self.entra.seconds), "ext_expires_in": str(self.entra.seconds), "not_before": str(now),
                     "expires_on": str(now + self.entra.seconds), "token_type": "Bearer"}

    def _identity(self, request: web.Request) -> dict[str, Any] | None:
        asked = {key: request.query[name] for name, key in NAMED_BY.items() if name in request.query}
        if not asked:
            return next((one for one in self.identities if one["managed"] == "system"), None)
        return next((one for one in self.identities if all(one.get(key) == value for key, value in asked.items())), None)
