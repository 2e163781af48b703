"""The administrator's JWT by the rules of generation B (trustee.md 2.2, trustee-verified.md 3.4)."""

from __future__ import annotations

import time
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from lab.kbs.wire import loads, unb64url

TOLERANCE = 15 * 60
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
    """Raises :class:`AdminError` unless signed by ``key`` and in time.

    ``iat``, ``exp`` and ``nbf`` are checked where present, with 15 minutes of tolerance; ``aud``, ``iss`` and ``role`` do not
    matter.
    """
    try:
        head_text, body_text, signature = token.split(".")
        head: Any = loads(unb64url(head_text))
        claims: Any = loads(unb64url(body_text))
        if head["alg"] != "EdDSA":
            raise AdminError("Key algorithm mismatch")
        key.verify(unb64url(signature), f"{head_text}.{body_text}".encode())
        times = {name: _time(claims, name) for name in ("iat", "exp", "nbf")}
    except AdminError:
        raise
    except InvalidSignature as error:
        raise AdminError("Invalid signature") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AdminError(f"JWT compact encoding error: {error}") from error
    moment = time.time() if now is None else now
    if times["iat"] is not None and times["iat"] - TOLERANCE > moment:
        raise AdminError("Clock drift detected")
    if times["exp"] is not None and times["exp"] + TOLERANCE < moment:
        raise AdminError("Token has expired")
    if times["nbf"] is not None and times["nbf"] - TOLERANCE > moment:
        raise AdminError("Token is not valid yet")


def _time(claims: Any, name: str) -> int | None:
    value = claims.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise AdminError(f"{name} is no time")
    return value
