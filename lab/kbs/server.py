"""The request handlers: which path and method does what, and how a failure is told (trustee.md 1; trustee-verified.md 3.1)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from lab.kbs import admin, material
from lab.kbs.access import Access
from lab.kbs.appraisal import Policies
from lab.kbs.attestation import AttestationService
from lab.kbs.config import Config
from lab.kbs.errors import Failure, Refused
from lab.kbs.generation import Generation
from lab.kbs.handshake import Handshake
from lab.kbs.http import Request, Response
from lab.kbs.metrics import Metrics
from lab.kbs.resource_policy import ResourcePolicy
from lab.kbs.resources import Repository
from lab.kbs.rvps import Rvps
from lab.kbs.verifiers import Verifiers
from lab.kbs.wire import compact, loads

log = logging.getLogger("lab")

PREFIX = "/kbs/v0/"
JSON = {"content-type": "application/json"}
XML = {"content-type": "text/xml"}


class Kbs:
    """One server. Raises :class:`lab.kbs.errors.StartError` where the real one does not start."""

    def __init__(self, config: Config, generation: Generation, silicon_public: bytes | None) -> None:
        self.generation = generation
        self.metrics = Metrics(generation.git_hash)
        self.repository = Repository(config.repository) if config.repository else None
        verifier = material.verifier(config.token)
        self.policy = ResourcePolicy(config.resource_policy, generation)
        self.admin_key = None if config.insecure_api else material.admin_key(config.admin_key)
        log.info("No RVPS address provided and will launch a built-in RVPS.")
        self.rvps = Rvps(config.service.reference_values)
        self.policies = Policies(config.service.policy_dir, generation)
        signer = material.signer(config.service.signer)
        service = AttestationService(generation, Verifiers(generation, silicon_public), self.policies, self.rvps,
                                     config.service.token_minutes)
        self.handshake = Handshake(generation, service, signer, config.service.session_minutes, self.metrics)
        self.access = Access(self.handshake.sessions, verifier, self.policy, config.token.tee_key_paths, self.metrics)

    def handle(self, request: Request) -> Response:
        """Answer one request; the access log is that of the real server."""
        began = time.monotonic()
        try:
            response = self._route(request)
        except Failure as failure:
            log.error("%s", failure.story())
            response = Response(failure.status, failure.body())
        except Exception:
            log.exception("lab-kbs: a handler failed")
            response = Response(500)
        seconds = time.monotonic() - began
        self.metrics.request(seconds, len(request.body or b""), len(response.body))
        log.info('%s "%s %s HTTP/1.1" %s %s "%s" "%s" %.6f', request.remote, request.method, request.target, response.status,
                 len(response.body), request.headers.get("referer", "-"), request.headers.get("user-agent", "-"), seconds)
        return response

    def _route(self, request: Request) -> Response:
        path = request.path
        if path == "/metrics" and request.method == "GET":
            return Response(200, self.metrics.text().encode())
        if not path.startswith(PREFIX) or path == PREFIX:
            return Response(404)
        if request.method not in self.generation.methods:
            return Response(405, headers={"allow": ", ".join(self.generation.methods)})
        if request.body is None:
            return Response(413, b"payload reached size limit", {"content-type": "text/plain; charset=utf-8"})
        first, _, rest = path.removeprefix(PREFIX).partition("/")
        handler = self._handlers(request.method).get(first)
        if handler is not None:
            return handler(request, request.body)
        if first != "resource" or self.repository is None:
            raise Failure("PluginNotFound", f"Plugin {first} not found", status=404)
        return self._resource(request, request.body, rest, self.repository)

    def _handlers(self, method: str) -> dict[str, Callable[[Request, bytes], Response]]:
        if method == "GET":
            return {"resource-policy": self._get_resource_policy, "reference-value": self._get_reference_values}
        return {"auth": self._auth, "attest": self._attest, "resource-policy": self._set_resource_policy,
                "attestation-policy": self._set_attestation_policy, "reference-value": self._set_reference_value}

    # The guest --------------------------------------------------------------------------------------------------

    def _auth(self, _request: Request, body: bytes) -> Response:
        session = self.handshake.auth(body)
        challenge = compact({"nonce": session.nonce, "extra-params": ""})
        return Response(200, challenge.encode(), {**JSON, "set-cookie": session.cookie})

    def _attest(self, request: Request, body: bytes) -> Response:
        session = self.handshake.attest(request, body)
        return Response(200, compact({"token": session.token}).encode(), {**JSON, "set-cookie": session.cookie})

    def _resource(self, request: Request, body: bytes, path: str, repository: Repository) -> Response:
        try:
            if request.method == "POST":
                self._admin(request)
                repository.write(path, body)
                self.metrics.count("resource_writes")
                return Response(200, headers=XML)
            grant = self.access.check(request, f"resource/{path}")
            answer = grant.encrypt(repository.read(path))
        except Refused as error:
            raise Failure("PluginInternalError", "Plugin internal error", *error.causes) from error
        self.metrics.count("resource_reads")
        return Response(200, answer.encode(), JSON)

    # The administrator ------------------------------------------------------------------------------------------

    def _admin(self, request: Request) -> None:
        if self.admin_key is None:
            return
        token = request.bearer()
        if token is None:
            raise Failure("AdminAuth", "Admin auth error: Failed to parse HTTP Auth Bearer header")
        try:
            admin.verify(token, self.admin_key)
        except admin.AdminError as error:
            raise Failure("AdminAuth", "Admin auth error: Admin Token verification failed", str(error)) from error

    def _get_resource_policy(self, request: Request, _body: bytes) -> Response:
        self._admin(request)
        return Response(200, self.policy.encoded().encode(), XML)

    def _set_resource_policy(self, request: Request, body: bytes) -> Response:
        self._admin(request)
        self.policy.set(body)
        return Response(200)

    def _set_attestation_policy(self, request: Request, body: bytes) -> Response:
        self._admin(request)
        try:
            try:
                message = loads(body)
                name, policy = message["policy_id"], message["policy"]
            except (ValueError, TypeError, KeyError) as error:
                raise Refused("parse set policy request", repr(error)) from error
            self.policies.set(name, policy)
        except Refused as error:
            raise Failure("AttestationError", "Attestation error: Set Attestation Policy failed", *error.causes) from error
        return Response(200)

    def _get_reference_values(self, request: Request, _body: bytes) -> Response:
        self._admin(request)
        try:
            return Response(200, compact(self.rvps.values()).encode(), JSON)
        except Refused as error:
            raise Failure("RvpsError", "RVPS configuration failed: Failed to get reference_values", *error.causes) from error

    def _set_reference_value(self, request: Request, body: bytes) -> Response:
        self._admin(request)
        try:
            self.rvps.register(body)
        except Refused as error:
            raise Failure("RvpsError", "RVPS configuration failed: Failed to register reference value: register reference value",
                          *error.causes) from error
        return Response(200, headers=JSON)
