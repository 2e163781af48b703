"""Attestation tokens: issued and verified as by the real server, with its hole (trustee.md 1.7, 5.1)."""

from __future__ import annotations

import datetime
import time
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from lab.kbs.wire import b64url, compact, loads, unb64url

LEEWAY = 60  # seconds past `exp`


class TokenError(ValueError):
    """A token that does not verify; the text is for the log."""


@dataclass
class Signer:
    """What signs tokens. Without a certificate the header key has no ``x5c``."""

    key: ec.EllipticCurvePrivateKey
    certificates: list[x509.Certificate] = field(default_factory=list)
    url: str = ""

    def sign(self, claims: dict[str, Any]) -> str:
        """An ES256 JWT whose header carries its key; coordinates are not padded, as in the real server.

        Raises :class:`TokenError` for a key of another curve: the real server starts with it, and cannot sign.
        """
        if not isinstance(self.key.curve, ec.SECP256R1):
            raise TokenError("the token signer is no EC P-256 key")
        numbers = self.key.public_key().public_numbers()
        jwk: dict[str, Any] = {"alg": "ES256"}
        if self.url:
            jwk["x5u"] = self.url
        if self.certificates:
            jwk["x5c"] = [b64url(one.public_bytes(serialization.Encoding.DER)) for one in self.certificates]
        jwk |= {"kty": "EC", "crv": "P-256", "x": b64url(_shortest(numbers.x)), "y": b64url(_shortest(numbers.y))}
        head = b64url(compact({"typ": "JWT", "alg": "ES256", "jwk": jwk}).encode())
        body = b64url(compact(claims).encode())
        r, s = decode_dss_signature(self.key.sign(f"{head}.{body}".encode(), ec.ECDSA(hashes.SHA256())))
        return f"{head}.{body}.{b64url(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def _shortest(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


@dataclass
class Verifier:
    """How tokens are trusted: certificates, key sets, or (``insecure``) whatever key the token carries."""

    trusted: list[x509.Certificate] = field(default_factory=list)
    key_set: list[dict[str, Any]] = field(default_factory=list)
    insecure: bool = False
    audience: bool = False  # a token with `aud` passes

    def verify(self, token: str) -> dict[str, Any]:
        """The claims of a token that verifies. Raises :class:`TokenError`.

        A good signature by the chosen key, ``exp`` not more than a minute ago, no ``aud`` (but in generation D). ``nbf`` is not looked at.
        """
        try:
            head_text, body_text, signature_text = token.split(".")
            head = loads(unb64url(head_text))
            algorithm = head["alg"]
        except (ValueError, KeyError, TypeError) as error:
            raise TokenError(f"Failed to decode attestation token header: {error!r}") from error
        jwk = self._key(head)
        if not isinstance(jwk.get("alg"), str):
            raise TokenError("Failed to find key_algorithm in Jwk")
        if jwk["alg"] != "ES256":
            raise TokenError(f"lab-kbs verifies ES256 only, not {jwk['alg']}")
        if algorithm != jwk["alg"]:
            raise TokenError("Failed to decode attestation token: InvalidAlgorithm")
        public = _public_key(jwk)
        try:
            raw = unb64url(signature_text)
            if len(raw) != 64:
                raise InvalidSignature
            der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
            public.verify(der, f"{head_text}.{body_text}".encode(), ec.ECDSA(hashes.SHA256()))
            claims = loads(unb64url(body_text))
        except InvalidSignature as error:
            raise TokenError("Failed to decode attestation token: InvalidSignature") from error
        except ValueError as error:
            raise TokenError(f"Failed to decode attestation token: {error}") from error
        return self._in_time(claims)

    def _key(self, head: dict[str, Any]) -> dict[str, Any]:
        jwk = head.get("jwk")
        if isinstance(jwk, dict):
            if self.insecure:
                return jwk
            if not self.trusted:
                raise TokenError("Cannot verify token since trusted cert is empty")
            self._endorsed(jwk)
            return jwk
        if not self.key_set:
            raise TokenError("Cannot verify token since trusted JWK Set is empty")
        if not isinstance(head.get("kid"), str):
            raise TokenError("Failed to decode kid in the token header")
        for key in self.key_set:
            if key.get("kid") == head["kid"]:
                return key
        raise TokenError(f"Failed to find Jwk with kid {head['kid']} in JwkSet")

    def _in_time(self, claims: Any) -> dict[str, Any]:
        if not isinstance(claims, dict):
            raise TokenError("Failed to decode attestation token: JSON error")
        end = claims.get("exp")
        if isinstance(end, bool) or not isinstance(end, int | float):
            raise TokenError('Failed to decode attestation token: MissingRequiredClaim("exp")')
        if end < time.time() - LEEWAY:
            raise TokenError("Failed to decode attestation token: ExpiredSignature")
        if "aud" in claims and not self.audience:
            raise TokenError("Failed to decode attestation token: InvalidAudience")
        return claims

    def _endorsed(self, jwk: dict[str, Any]) -> None:
        """The key must be that of the first certificate in ``x5c``, and that one must chain to a trusted root."""
        if "x5c" not in jwk:
            raise TokenError("No x5c extension inside JWK. Invalid public key.")
        if not jwk["x5c"]:
            raise TokenError("Empty x5c extension inside JWK. Invalid public key.")
        try:
            certificates = [x509.load_der_x509_certificate(unb64url(_either(text))) for text in jwk["x5c"]]
            leaf = certificates[0].public_key()
        except (ValueError, TypeError, AttributeError) as error:
            raise TokenError("Illegal x5c cert") from error
        if leaf != _public_key(jwk):
            raise TokenError("jwk public key does not match x5c")
        if not _chains(certificates[0], certificates[1:], self.trusted, datetime.datetime.now(datetime.timezone.utc)):
            raise TokenError("JWK cannot be validated by trust anchor")


def _either(text: str) -> str:
    """Standard or URL-safe base64: the verifier takes both."""
    return text.replace("\n", "").replace("+", "-").replace("/", "_").rstrip("=")


def _public_key(jwk: dict[str, Any]) -> ec.EllipticCurvePublicKey:
    try:
        if jwk["kty"] != "EC" or jwk["crv"] != "P-256":
            raise TokenError("lab-kbs verifies EC P-256 keys only")
        x, y = unb64url(jwk["x"]), unb64url(jwk["y"])
        if len(x) != 32 or len(y) != 32:  # an unpadded coordinate: every GET of such a signer fails (trustee.md 5.1)
            raise TokenError("Failed to decode attestation token: InvalidSignature")
        return ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), ec.SECP256R1()).public_key()
    except TokenError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TokenError(f"Failed to decode attestation token header: {error!r}") from error


def _chains(leaf: x509.Certificate, others: list[x509.Certificate], trusted: list[x509.Certificate],
            now: datetime.datetime) -> bool:
    """Does ``leaf`` lead to a self-signed certificate that is trusted (OpenSSL's rule without partial chains)?"""
    current, pool = leaf, [*trusted, *others]
    for _ in range(len(pool) + 1):
        if not current.not_valid_before_utc <= now <= current.not_valid_after_utc:
            return False
        if current.issuer == current.subject and _issued(current, current):
            return current in trusted
        issuer = next((one for one in pool if one != current and _is_ca(one) and _issued(current, one)), None)
        if issuer is None:
            return False
        current = issuer
    return False


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return bool(certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except x509.ExtensionNotFound:
        return False


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
