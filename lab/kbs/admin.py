"""Who is an administrator: one key (to generation B), personas (C), issuers and roles (D) (trustee.md 2; trustee-verified.md 3.4)."""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass
from typing import Any, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from lab.kbs.errors import Failure
from lab.kbs.http import Request
from lab.kbs.wire import loads, unb64url

log = logging.getLogger("lab")

TOLERANCE = 15 * 60
LEEWAY = 60
_PREFIX = bytes.fromhex("302a300506032b6570032100")


class AdminError(ValueError):
    """A token that is refused; the text is for the log."""


def public_key(pem: bytes) -> ed25519.Ed25519PublicKey:
    """The key of a PEM file in exactly the form that the real parser takes: SPKI, 44 bytes of DER. Raises ``ValueError``."""
    if not pem.lstrip().startswith(b"-----BEGIN PUBLIC KEY-----"):
        raise ValueError("no PUBLIC KEY")
    key = serialization.load_pem_public_key(pem)
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if not isinstance(key, ed25519.Ed25519PublicKey) or der[:12] != _PREFIX or len(der) != 44:
        raise ValueError("no Ed25519 key")
    return key


def verify(token: str, key: ed25519.Ed25519PublicKey, now: float | None = None) -> None:
    """The rules to generation B. Raises :class:`AdminError` unless signed by ``key`` and in time.

    ``iat``, ``exp`` and ``nbf`` are checked where present, with 15 minutes of tolerance; ``aud``, ``iss`` and ``role`` do not
    matter.
    """
    claims = _signed(token, key)
    times = {name: _time(claims, name) for name in ("iat", "exp", "nbf")}
    moment = time.time() if now is None else now
    if times["iat"] is not None and times["iat"] - TOLERANCE > moment:
        raise AdminError("Clock drift detected")
    if times["exp"] is not None and times["exp"] + TOLERANCE < moment:
        raise AdminError("Token has expired")
    if times["nbf"] is not None and times["nbf"] - TOLERANCE > moment:
        raise AdminError("Token is not valid yet")


def claims_in_time(token: str, key: ed25519.Ed25519PublicKey, now: float | None = None) -> dict[str, Any]:
    """The rules from generation C: ``exp`` is needed, with a minute of leeway; ``nbf`` and ``iat`` do not matter."""
    claims = _signed(token, key)
    end = _time(claims, "exp")
    if end is None:
        raise AdminError('Missing required claim "exp"')
    if end + LEEWAY < (time.time() if now is None else now):
        raise AdminError("ExpiredSignature")
    return claims


def _signed(token: str, key: ed25519.Ed25519PublicKey) -> dict[str, Any]:
    """The claims of a token that ``key`` signed."""
    try:
        head_text, body_text, signature = token.split(".")
        head: Any = loads(unb64url(head_text))
        claims: Any = loads(unb64url(body_text))
        if head["alg"] != "EdDSA":
            raise AdminError("Key algorithm mismatch")
        key.verify(unb64url(signature), f"{head_text}.{body_text}".encode())
        return dict(claims.items())
    except AdminError:
        raise
    except InvalidSignature as error:
        raise AdminError("Invalid signature") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AdminError(f"JWT compact encoding error: {error}") from error


def _time(claims: Any, name: str) -> int | None:
    value = claims.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise AdminError(f"{name} is no time")
    return value


class Administrators(Protocol):
    """The check of an administrator's call. ``endpoint`` is the first segment of a path that is no plugin's, else empty."""

    def check(self, request: Request, endpoint: str) -> None:
        """Raises :class:`Failure` for somebody else."""


class Anybody:
    """No check."""

    def check(self, _request: Request, _endpoint: str) -> None:
        """Everybody passes."""


@dataclass
class SingleKey:
    """One key (to generation B)."""

    key: ed25519.Ed25519PublicKey

    def check(self, request: Request, _endpoint: str) -> None:
        """A token of the key."""
        token = request.bearer()
        if token is None:
            raise Failure("AdminAuth", "Admin auth error: Failed to parse HTTP Auth Bearer header")
        try:
            verify(token, self.key)
        except AdminError as error:
            raise Failure("AdminAuth", "Admin auth error: Admin Token verification failed", str(error)) from error


@dataclass
class Personas:
    """Keys with names, and roles by name (generation C): no role at all means that everybody known may do everything."""

    keys: list[tuple[str, ed25519.Ed25519PublicKey]]
    roles: list[tuple[str, re.Pattern[str]]]
    anonymous: bool

    def check(self, request: Request, _endpoint: str) -> None:
        """A token of a persona whose role reaches the path."""
        who = "Anonymous" if self.anonymous else self._persona(request.bearer() or "")
        if who is None or (self.roles and not any(
                name == who and pattern.fullmatch(request.path) for name, pattern in self.roles)):
            raise Failure("AdminAuth", "Admin auth error: Admin Token could not be verified for any admin persona")

    def _persona(self, token: str) -> str | None:
        for name, key in self.keys:
            try:
                if "aud" in claims_in_time(token, key):
                    raise AdminError("InvalidAudience")
            except AdminError as error:
                log.warning("admin token is not of persona %s: %s", name, error)
                continue
            return name
        return None


@dataclass
class Issuers:
    """Identity providers and an access list by the token's role (generation D)."""

    keys: list[tuple[ed25519.Ed25519PublicKey, str, str]]  # (key, issuer, audience), empty where not configured
    roles: list[tuple[str, re.Pattern[str]]]
    denied: bool

    def check(self, request: Request, endpoint: str) -> None:
        """A token of an issuer with a role that reaches the path. The refusal's type depends on the endpoint."""
        cause = self._cause(request)
        if cause and endpoint:
            raise Failure("AdminAuthAccess", f"admin access denied for endpoint {endpoint}: {cause}")
        if cause:
            raise Failure("AdminAuthInitialization", f"failed to initialize [admin] configuration: {cause}")

    def _cause(self, request: Request) -> str:
        denied = "Admin access denied: "
        if self.denied:
            return denied + "Admin access denied as DenyAll authorization_mode is enabled"
        token = request.bearer()
        if token is None:
            return "Failed to parse HTTP Auth Bearer header"
        claims = self._claims(token)
        if claims is None:
            return denied + "Cannot verify token with any of the issuers"
        role = claims.get("role")
        if not isinstance(role, str):
            return denied + ("Failed to parse claims from token: AdminAccessDenied "
                             '{ reason: "Missing required `role` claim in JWT" }')
        if not any(name == role and pattern.fullmatch(request.path) for name, pattern in self.roles):
            return denied + f"Role {role} not allowed for path {request.path}"
        return ""

    def _claims(self, token: str) -> dict[str, Any] | None:
        for key, issuer, audience in self.keys:
            try:
                claims = claims_in_time(token, key)
            except AdminError as error:
                log.warning("admin token is not of this issuer: %s", error)
                continue
            told = claims.get("aud")
            if (not issuer or claims.get("iss") == issuer) and (
                    not audience or told == audience or (isinstance(told, list) and audience in told)):
                return claims
        return None
