"""Who may read a resource: token, resource policy, and the key that the answer is encrypted to (trustee.md 1.7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lab.kbs import jwe
from lab.kbs.errors import Failure
from lab.kbs.generation import Generation
from lab.kbs.http import Request
from lab.kbs.metrics import Metrics
from lab.kbs.resource_policy import ResourcePolicy
from lab.kbs.sessions import COOKIE, Sessions
from lab.kbs.tokens import TokenError, Verifier


@dataclass(frozen=True)
class Grant:
    """Leave to read one resource."""

    tee_key: Any
    generation: Generation

    def encrypt(self, secret: bytes) -> str:
        """The secret, for the TEE's key only."""
        if not isinstance(self.tee_key, dict):
            raise Failure("JweError", "JWE failed", "the TEE public key is no JWK")
        try:
            return jwe.encrypt(secret, self.tee_key, self.generation)
        except jwe.JweError as error:
            raise Failure("JweError", "JWE failed", str(error)) from error


class Access:
    """The check of a guest's request for a resource."""

    def __init__(self, sessions: Sessions, verifier: Verifier, policy: ResourcePolicy, tee_key_paths: list[str],
                 metrics: Metrics, generation: Generation) -> None:
        self._sessions, self._verifier, self._policy, self._metrics = sessions, verifier, policy, metrics
        self._generation, self._paths = generation, (*tee_key_paths, *generation.tee_key_paths)

    def check(self, request: Request, path: str) -> Grant:
        """Raises :class:`Failure` unless the token verifies and the policy allows ``path`` (plugin included)."""
        token = self._sessions.token(request.cookie(COOKIE)) or request.bearer()
        if token is None:
            raise Failure("TokenNotFound", "Attestation Token not found")
        try:
            claims = self._verifier.verify(token)
        except TokenError as error:
            raise Failure("TokenVerifierError", "Token Verifier error", str(error)) from error
        self._metrics.count("policy_evaluations")
        try:
            allowed = self._policy.allows(claims, path, request.query)
        except Failure:
            self._metrics.count("policy_errors")
            raise
        if not allowed:
            self._metrics.count("policy_violations")
            raise Failure("PolicyDeny", "Access denied by policy")
        self._metrics.count("policy_approvals")
        return Grant(self._tee_key(claims), self._generation)

    def _tee_key(self, claims: dict[str, Any]) -> Any:
        for path in self._paths:
            found = pointer(claims, path)
            if found is not None:
                return found
        raise Failure("TokenVerifierError", "Token Verifier error", "No TEE public key in the token")


def pointer(value: Any, path: str) -> Any:
    """What a JSON pointer (RFC 6901) finds below objects; None where there is nothing."""
    for part in path.split("/")[1:]:
        if not isinstance(value, dict):
            return None
        value = value.get(part.replace("~1", "/").replace("~0", "~"))
    return value
