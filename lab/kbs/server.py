"""The request handlers: which path and method does what, and how a failure is told (trustee.md 1; trustee-verified.md 3.1)."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator

from lab.kbs import material
from lab.kbs.access import Access
from lab.kbs.appraisal import Policies
from lab.kbs.attestation import AttestationService
from lab.kbs.errors import Failure, Panicked, Refused
from lab.kbs.generation import Generation
from lab.kbs.handshake import Handshake
from lab.kbs.http import Request, Response
from lab.kbs.metrics import Metrics
from lab.kbs.resource_policy import ResourcePolicy
from lab.kbs.resources import Repository
from lab.kbs.rvps import Rvps
from lab.kbs.settings import Config
from lab.kbs.verifiers import Verifiers
from lab.kbs.wire import compact, loads

log = logging.getLogger("lab")

PREFIX = "/kbs/v0/"
JSON = {"content-type": "application/json"}
XML = {"content-type": "text/xml"}
Handler = Callable[[Request, bytes, str], Response]  # (request, its body, path after the first segment)


class Kbs:
    """One server. Raises :class:`lab.kbs.errors.StartError` where the real one does not start."""

    def __init__(self, config: Config, generation: Generation, silicon_public: bytes | None) -> None:
        self.generation = generation
        self.metrics = Metrics(generation.git_hash)
        self.repository = None if config.repository is None else Repository(config.repository, generation)
        verifier = material.verifier(config.token, generation)
        self.policy = ResourcePolicy(config.resource_policy, generation)
        self.administrators = material.administrators(config.admin)
        log.info("No RVPS address provided and will launch a built-in RVPS.")
        self.rvps = Rvps(config.service.reference_values, generation)
        self.policies = Policies(config.service.policies, generation)
        signer = material.signer(config.service.signer)
        service = AttestationService(generation, Verifiers(generation, silicon_public), self.policies, self.rvps,
                                     config.service.token_minutes)
        self.handshake = Handshake(generation, service, signer, config.service.session_minutes, self.metrics,
                                   config.service.sessions)
        self.access = Access(self.handshake.sessions, verifier, self.policy, config.token.tee_key_paths, self.metrics,
                             generation)
        self._handlers = self._table()

    def handle(self, request: Request) -> Response:
        """Answer one request; the access log is that of the real server."""
        began = time.monotonic()
        try:
            response = self._route(request)
        except Failure as failure:
            log.error("%s", failure.story())
            response = Response(failure.status, failure.body())
        except Panicked:
            raise
        except Exception:
            log.exception("lab-kbs: a handler failed")
            response = Response(500)
        seconds = time.monotonic() - began
        self.metrics.request(seconds, len(request.body or b""), len(response.body))
        log.info('%s "%s %s HTTP/1.1" %s %s "%s" "%s" %.6f', request.remote, request.method, request.target, response.status,
                 len(response.body), request.headers.get("referer", "-"), request.headers.get("user-agent", "-"), seconds)
        return response

    def _route(self, request: Request) -> Response:
        path, bare = request.path, self._bare(request)
        if bare is not None:
            return bare
        if not path.startswith(PREFIX) or (path == PREFIX and not self.generation.bare_prefix):
            return Response(404)
        if request.method not in self.generation.methods:
            return Response(405, headers={"allow": ", ".join(self.generation.methods)})
        if request.body is None:
            return Response(413, b"payload reached size limit", {"content-type": "text/plain; charset=utf-8"})
        first, _, rest = path.removeprefix(PREFIX).partition("/")
        handler = self._handlers[request.method].get(first)
        if handler is not None:
            return handler(request, request.body, rest)
        raise Failure("PluginNotFound", f"Plugin {first} not found", status=404)

    def _bare(self, request: Request) -> Response | None:
        """What is served without the prefix."""
        if request.method == "GET" and request.path == "/metrics" and self.generation.metrics:
            return Response(200, self.metrics.text().encode())
        if request.method == "GET" and request.path == "/healthz" and self.generation.healthz:
            return Response(200)
        return None

    def _table(self) -> dict[str, dict[str, Handler]]:
        """Method -> first segment -> handler; another segment is the name of a plugin that is not there."""
        table: dict[str, dict[str, Handler]] = {
            "GET": {"resource-policy": self._get_resource_policy},
            "POST": {"auth": self._auth, "attest": self._attest, "resource-policy": self._set_resource_policy,
                     "attestation-policy": self._set_attestation_policy},
            "PUT": {}, "DELETE": {},
        }
        if self.generation.reference_api:
            table["GET"]["reference-value"] = self._get_reference_value
            table["POST"]["reference-value"] = self._set_reference_value
        if self.repository is not None:
            table["GET"]["resource"] = self._read_resource
            table["POST"]["resource"] = self._write_resource
            table["PUT"]["resource"] = self._put_resource
            table["DELETE"]["resource"] = self._delete_resource
        return table

    # The guest --------------------------------------------------------------------------------------------------

    def _auth(self, _request: Request, body: bytes, _rest: str) -> Response:
        session = self.handshake.auth(body)
        challenge = compact({"nonce": session.nonce, "extra-params": ""})
        return Response(200, challenge.encode(), {**JSON, "set-cookie": session.cookie})

    def _attest(self, request: Request, body: bytes, _rest: str) -> Response:
        session = self.handshake.attest(request, body)
        return Response(200, compact({"token": session.token}).encode(), {**JSON, "set-cookie": session.cookie})

    def _read_resource(self, request: Request, _body: bytes, path: str) -> Response:
        grant = self.access.check(request, f"resource/{path}")
        with _plugin_errors():
            answer = grant.encrypt(self._secrets.read(path))
        self.metrics.count("resource_reads")
        return Response(200, answer.encode(), JSON)

    def _put_resource(self, request: Request, _body: bytes, path: str) -> Response:
        self.access.check(request, f"resource/{path}")
        raise Failure("PluginInternalError", "Plugin internal error", "the resource plugin has no use for PUT")

    # The administrator ------------------------------------------------------------------------------------------

    def _write_resource(self, request: Request, body: bytes, path: str) -> Response:
        self.administrators.check(request, "")
        with _plugin_errors():
            self._secrets.write(path, body)
        self.metrics.count("resource_writes")
        return Response(200, headers=XML)

    def _delete_resource(self, request: Request, _body: bytes, path: str) -> Response:
        self.administrators.check(request, "")
        with _plugin_errors():
            self._secrets.delete(path)
        return Response(200, headers=XML)

    @property
    def _secrets(self) -> Repository:
        assert self.repository is not None  # else there is no such path
        return self.repository

    def _get_resource_policy(self, request: Request, _body: bytes, _rest: str) -> Response:
        self.administrators.check(request, "resource-policy")
        text, kind = self.policy.answer()
        return Response(200, text, {"content-type": kind})

    def _set_resource_policy(self, request: Request, body: bytes, _rest: str) -> Response:
        self.administrators.check(request, "resource-policy")
        self.policy.set(body)
        return Response(200)

    def _set_attestation_policy(self, request: Request, body: bytes, _rest: str) -> Response:
        if not self.generation.open_attestation_policy:
            self.administrators.check(request, "attestation-policy")
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

    def _get_reference_value(self, request: Request, _body: bytes, rest: str) -> Response:
        self.administrators.check(request, "reference-value")
        failed = "RVPS configuration failed: Failed to get reference_values"
        by_name = self.generation.reference_api == "item"
        missing = f"{failed}: No reference value found for the given id: {rest}"
        try:
            values = self.rvps.values()
        except Refused as error:
            raise Failure("RvpsError", missing if by_name else failed, *error.causes) from error
        if not by_name:
            return Response(200, compact(values).encode(), JSON)
        if rest not in values:
            raise Failure("RvpsError", missing)
        return Response(200, compact(values[rest]).encode(), JSON)

    def _set_reference_value(self, request: Request, body: bytes, _rest: str) -> Response:
        self.administrators.check(request, "reference-value")
        try:
            self.rvps.register(body)
        except Refused as error:
            raise Failure("RvpsError", "RVPS configuration failed: Failed to register reference value: register reference value",
                          *error.causes) from error
        return Response(200, headers=JSON)


@contextlib.contextmanager
def _plugin_errors() -> Iterator[None]:
    """A refusal inside a plugin, as it is told."""
    try:
        yield
    except Refused as error:
        raise Failure("PluginInternalError", "Plugin internal error", *error.causes) from error
