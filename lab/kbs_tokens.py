"""Tokens, sessions' keys and encrypted answers of the KBS, generation B."""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import os
import time
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, keywrap, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

CURVES: dict[str, ec.EllipticCurve] = {"P-256": ec.SECP256R1(), "P-521": ec.SECP521R1()}
LEEWAY = 60
ADMIN_LEEWAY = 15 * 60


class TokenError(ValueError):
    """A token that does not verify; the text is for the log."""


class JweError(ValueError):
    """An answer that cannot be encrypted to the key of the token."""


def b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def sign(claims: dict[str, Any], key: ec.EllipticCurvePrivateKey, chain: list[x509.Certificate]) -> str:
    """An ES256 JWT whose header carries its key, with the certificates inside the key."""
    numbers = key.public_key().public_numbers()

    def coordinate(number: int) -> str:
        return b64url(number.to_bytes((number.bit_length() + 7) // 8, "big"))  # not padded, as the real server

    jwk: dict[str, Any] = {"alg": "ES256"}
    if chain:
        jwk["x5c"] = [b64url(c.public_bytes(serialization.Encoding.DER)) for c in chain]
    jwk.update(kty="EC", crv="P-256", x=coordinate(numbers.x), y=coordinate(numbers.y))
    head = b64url(compact({"typ": "JWT", "alg": "ES256", "jwk": jwk}).encode())
    body = b64url(compact(claims).encode())
    r, s = decode_dss_signature(key.sign(f"{head}.{body}".encode(), ec.ECDSA(hashes.SHA256())))
    return f"{head}.{body}.{b64url(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def verify(token: str, trusted: list[x509.Certificate], insecure: bool) -> dict[str, Any]:
    """The claims of an attestation token. With ``insecure`` any ES256 token that carries its own key passes."""
    try:
        head_text, body_text, signature_text = token.split(".")
        head, claims, raw = json.loads(unb64url(head_text)), json.loads(unb64url(body_text)), unb64url(signature_text)
        jwk = head["jwk"]
        if head["alg"] != "ES256" or jwk["alg"] != "ES256" or len(raw) != 64:
            raise TokenError("unsupported algorithm")
        x, y = unb64url(jwk["x"]), unb64url(jwk["y"])
        if len(x) != 32 or len(y) != 32:
            raise TokenError("the coordinates of the header key are not 32 bytes")
        public = ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), ec.SECP256R1()).public_key()
    except TokenError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise TokenError(f"cannot parse token: {error!r}") from error
    if not insecure:
        _endorsed(jwk, public, trusted)
    der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    try:
        public.verify(der, f"{head_text}.{body_text}".encode(), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise TokenError("signature is not valid") from error
    if not isinstance(claims, dict) or not isinstance(claims.get("exp"), int) or claims["exp"] + LEEWAY < time.time():
        raise TokenError("ExpiredSignature")
    if "aud" in claims:
        raise TokenError("InvalidAudience")
    return claims


def _endorsed(jwk: dict[str, Any], public: ec.EllipticCurvePublicKey, trusted: list[x509.Certificate]) -> None:
    if not trusted:
        raise TokenError("Cannot verify token since trusted cert is empty")
    if not jwk.get("x5c"):
        raise TokenError("No x5c extra information found in JWK")
    try:
        chain = [x509.load_der_x509_certificate(_either(text)) for text in jwk["x5c"]]
    except (ValueError, TypeError) as error:
        raise TokenError(f"x5c cannot be parsed: {error}") from error
    if chain[0].public_key() != public:
        raise TokenError("the header key is not that of its certificate")
    now = datetime.datetime.now(datetime.timezone.utc)
    current = chain[0]
    for following in [*chain[1:], None]:
        if not current.not_valid_before_utc <= now <= current.not_valid_after_utc:
            raise TokenError("certificate has expired")
        if current in trusted:
            return
        for anchor in trusted:
            if _issued(current, anchor):
                return
        if following is None or not _issued(current, following):
            break
        current = following
    raise TokenError("Untrusted issuer certificate")


def _either(text: str) -> bytes:
    return base64.b64decode(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4))


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def admin(token: str, key: ed25519.Ed25519PublicKey) -> None:
    """Check an administrator's JWT: signature, ``nbf``, ``exp`` where there is one; fifteen minutes of tolerance."""
    try:
        head_text, body_text, signature = token.split(".")
        head, claims = json.loads(unb64url(head_text)), json.loads(unb64url(body_text))
        if head.get("alg") != "EdDSA":
            raise TokenError("algorithm")
        key.verify(unb64url(signature), f"{head_text}.{body_text}".encode())
    except TokenError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, InvalidSignature) as error:
        raise TokenError(f"{error!r}") from error
    now = time.time()
    if "exp" in claims and claims["exp"] + ADMIN_LEEWAY < now:
        raise TokenError("token has expired")
    if "nbf" in claims and claims["nbf"] - ADMIN_LEEWAY > now:
        raise TokenError("token is not valid yet")


def jwe(secret: bytes, jwk: dict[str, Any]) -> str:
    """A flattened JWE to the TEE's key, with exactly the header that the guest re-serialises."""
    algorithm = jwk.get("alg")
    cek, iv = os.urandom(32), os.urandom(12)
    header: dict[str, Any] = {"alg": algorithm, "enc": "A256GCM"}
    try:
        if jwk.get("kty") == "EC":
            if algorithm != "ECDH-ES+A256KW" or jwk.get("crv") != "P-256":
                raise JweError(f"curve {jwk.get('crv')} and algorithm {algorithm} is not supported")
            wrapped = _wrap_ec(cek, jwk, header)
        else:
            numbers = rsa.RSAPublicNumbers(int.from_bytes(unb64url(jwk["e"]), "big"), int.from_bytes(unb64url(jwk["n"]), "big"))
            if algorithm == "RSA-OAEP-256":
                scheme: padding.AsymmetricPadding = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
            elif algorithm == "RSA1_5":
                scheme = padding.PKCS1v15()
            else:
                raise JweError(f"algorithm {algorithm} is not supported")
            wrapped = numbers.public_key().encrypt(cek, scheme)
    except (ValueError, KeyError, TypeError) as error:
        raise JweError(str(error)) from error
    protected = b64url(compact(header).encode())
    sealed = AESGCM(cek).encrypt(iv, secret, protected.encode())
    return compact({"protected": protected, "encrypted_key": b64url(wrapped), "iv": b64url(iv),
                    "ciphertext": b64url(sealed[:-16]), "tag": b64url(sealed[-16:])})


def _wrap_ec(cek: bytes, jwk: dict[str, Any], header: dict[str, Any]) -> bytes:
    curve = ec.SECP256R1()
    theirs = ec.EllipticCurvePublicNumbers(int.from_bytes(unb64url(jwk["x"]), "big"), int.from_bytes(unb64url(jwk["y"]), "big"),
                                           curve).public_key()
    ours = ec.generate_private_key(curve)
    shared = ours.exchange(ec.ECDH(), theirs)
    name = b"ECDH-ES+A256KW"
    kek = hashlib.sha256((1).to_bytes(4, "big") + shared + len(name).to_bytes(4, "big") + name + bytes(8)
                         + (256).to_bytes(4, "big")).digest()
    numbers = ours.public_key().public_numbers()
    header["epk"] = {"crv": "P-256", "kty": "EC", "x": b64url(numbers.x.to_bytes(32, "big")),
                     "y": b64url(numbers.y.to_bytes(32, "big"))}
    return keywrap.aes_key_wrap(kek, cek)
