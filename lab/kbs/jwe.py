"""Answers encrypted to the TEE's key (trustee.md 1.6): the header's bytes are those that the guest re-serialises."""

from __future__ import annotations

import hashlib
import logging
import os
from typing import Any

from cryptography.hazmat.primitives import hashes, keywrap
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from lab.kbs.generation import Generation
from lab.kbs.wire import b64url, compact, unb64url

log = logging.getLogger("lab")

EC_ALGORITHM = "ECDH-ES+A256KW"
_CURVES: dict[str, type[ec.EllipticCurve]] = {"P-256": ec.SECP256R1, "P-521": ec.SECP521R1}


class JweError(ValueError):
    """A key to which nothing can be encrypted; the text is for the log."""


def encrypt(secret: bytes, jwk: dict[str, Any], generation: Generation) -> str:
    """A flattened JWE of ``secret`` for the key ``jwk``. Raises :class:`JweError`.

    EC with ECDH-ES+A256KW, RSA with RSA-OAEP-256 or RSA1_5, as the generation has them; content A256GCM with the protected
    header as AAD. The form of 0.1.x has the header as plain JSON, no AAD, and the tag at the end of the content.
    """
    header: dict[str, Any] = {"alg": jwk.get("alg"), "enc": "A256GCM"}
    cek, iv = os.urandom(32), os.urandom(12)
    try:
        wrapped = _ec(cek, jwk, header, generation) if jwk.get("kty") == "EC" else _rsa(cek, jwk, generation)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise JweError(str(error)) from error
    if not generation.jwe_bound:
        return compact({"protected": compact(header), "encrypted_key": b64url(wrapped), "iv": b64url(iv),
                        "ciphertext": b64url(AESGCM(cek).encrypt(iv, secret, None)), "tag": ""})
    protected = b64url(compact(header).encode())
    sealed = AESGCM(cek).encrypt(iv, secret, protected.encode())
    return compact({"protected": protected, "encrypted_key": b64url(wrapped), "iv": b64url(iv),
                    "ciphertext": b64url(sealed[:-16]), "tag": b64url(sealed[-16:])})


def kek(shared: bytes) -> bytes:
    """The key that wraps the content key: Concat KDF of RFC 7518, empty party information."""
    name = EC_ALGORITHM.encode()
    return hashlib.sha256((1).to_bytes(4, "big") + shared + len(name).to_bytes(4, "big") + name + bytes(8)
                          + (256).to_bytes(4, "big")).digest()


def _ec(cek: bytes, jwk: dict[str, Any], header: dict[str, Any], generation: Generation) -> bytes:
    if not generation.curves:
        raise JweError("Only RSA key is support for TEE pub key")
    if jwk["alg"] != EC_ALGORITHM or jwk["crv"] not in generation.curves:
        raise JweError(f"curve {jwk['crv']} and algorithm {jwk['alg']} is not supported")
    curve = _CURVES[jwk["crv"]]()
    x, y = (int.from_bytes(unb64url(jwk[name]), "big") for name in ("x", "y"))
    ours = ec.generate_private_key(curve)
    shared = ours.exchange(ec.ECDH(), ec.EllipticCurvePublicNumbers(x, y, curve).public_key())
    numbers, size = ours.public_key().public_numbers(), (curve.key_size + 7) // 8
    header["epk"] = {"crv": jwk["crv"], "kty": "EC", "x": b64url(numbers.x.to_bytes(size, "big")),
                     "y": b64url(numbers.y.to_bytes(size, "big"))}
    return keywrap.aes_key_wrap(kek(shared), cek)


def _rsa(cek: bytes, jwk: dict[str, Any], generation: Generation) -> bytes:
    if jwk["alg"] not in generation.rsa:
        if generation.rsa == ("RSA1_5",):
            raise JweError(f"algorithm is not RSA1_5 but {jwk['alg']}")
        raise JweError(f"algorithm {jwk['alg']} is not supported")
    modulus, exponent = (int.from_bytes(unb64url(jwk[name]), "big") for name in ("n", "e"))
    key = rsa.RSAPublicNumbers(exponent, modulus).public_key()
    if jwk["alg"] == "RSA-OAEP-256":
        return key.encrypt(cek, padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None))
    log.warning("Use deprecated algorithm RSA1_5")
    return key.encrypt(cek, padding.PKCS1v15())
