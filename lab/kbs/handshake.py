"""The handshake: /auth and /attest (trustee.md 1.2 to 1.4; trustee-verified.md 3.2)."""

from __future__ import annotations

import logging
import re

from lab.kbs import attestation
from lab.kbs.attestation import AttestationService
from lab.kbs.errors import Failure, Refused
from lab.kbs.generation import Generation
from lab.kbs.http import Request
from lab.kbs.metrics import Metrics
from lab.kbs.sessions import COOKIE, Session, Sessions
from lab.kbs.storage import Store
from lab.kbs.tokens import Signer, TokenError
from lab.kbs.wire import loads

log = logging.getLogger("lab")

_AUTH = "Attestation error: RCAR handshake Auth failed: "
_ATTEST = "Attestation error: RCAR handshake Attest failed"
_VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")


class Handshake:
    """Opens sessions and turns evidence into their tokens."""

    def __init__(self, generation: Generation, service: AttestationService, signer: Signer, minutes: int,
                 metrics: Metrics, store: Store | None = None) -> None:
        self._generation, self._service, self._signer, self._metrics = generation, service, signer, metrics
        self.sessions = Sessions(minutes, generation.session_unknown, generation.session_ended, store)

    def auth(self, body: bytes) -> Session:
        """A session for a request of the right protocol and a known TEE. The answer tells the cause."""
        self._metrics.count("auth_requests")
        try:
            session = self.sessions.open(self._request(body))
        except Refused as error:
            self._metrics.count("auth_errors")
            raise Failure("AttestationError", _AUTH + error.causes[0], *error.causes[1:]) from error
        self._metrics.count("auth_successes")
        return session

    def _request(self, body: bytes) -> str:
        """The TEE of a request."""
        try:
            message = loads(body)
            version, tee = message["version"], message["tee"]
            message["extra-params"]
            if not isinstance(version, str) or tee not in self._generation.tees:
                raise ValueError(f"unknown variant `{tee}`")
        except (ValueError, KeyError, TypeError) as error:
            raise Refused("deserialize Request", repr(error)) from error
        if not _VERSION.fullmatch(version):
            raise Refused("failed to parse KBS version")
        if version != self._generation.protocol:
            raise Refused(f"KBS Client Protocol Version Mismatch: expect ={self._generation.protocol} while the request is "
                          f"{version}")
        if tee in self._generation.unchallenged:
            raise Refused("Attestation Service generate challenge failed")
        return str(tee)

    def attest(self, request: Request, body: bytes) -> Session:
        """The session with its token. The answer to a failure never tells the cause, and the session stays usable."""
        self._metrics.count("attestation_requests")
        try:
            return self._attest(request, body)
        except Refused as error:
            self._metrics.count("attestation_errors")
            raise Failure("AttestationError", _ATTEST, *error.causes) from error

    def _attest(self, request: Request, body: bytes) -> Session:
        cookie = request.cookie(COOKIE)
        if cookie is None:
            raise Refused("cookie not found")
        message = attestation.message(body, self._generation)
        session = self.sessions.get(cookie)
        if session.token is not None:
            return session
        if message.nonce is not None and message.nonce != session.nonce:
            raise Refused("RCAR handshake nonce mismatch")
        try:
            claims = self._service.claims(session.tee, session.nonce, message)
            session.token = self._signer.sign(claims)
            self.sessions.keep(session)
        except Refused as error:
            self._metrics.count("attestation_failures", session.tee)
            raise error.within("verify TEE evidence failed") from error
        except TokenError as error:
            raise Refused("issue token failed", str(error)) from error
        self._metrics.count("attestation_successes", session.tee)
        log.info("%s Verifier/endorsement check passed.", session.tee)
        return session
