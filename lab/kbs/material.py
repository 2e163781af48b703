"""Keys and certificates that are read at the start, and the words of a start without them (trustee-verified.md 3.7)."""

from __future__ import annotations

import json
import logging
import ssl
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from lab.kbs import admin
from lab.kbs.config import HttpConfig, SignerConfig, TokenConfig
from lab.kbs.errors import StartError, os_error
from lab.kbs.generation import Generation
from lab.kbs.tokens import Signer, Verifier
from lab.paths import rooted

log = logging.getLogger("lab")

_VERIFIER = ("Token Verifier error", "Failed to initialize Token Verifier")
_SERVICE = ("Attestation error: Failed to initialize attestation service",)
_HTTPS = "HTTPS initialization failed"
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def admin_key(path: str) -> ed25519.Ed25519PublicKey:
    """The administrator's public key."""
    if not path:
        raise StartError("Admin auth error: `auth_public_key` is not set in the config file")
    try:
        pem = rooted(path).read_bytes()
    except OSError as error:
        raise StartError("Admin auth error: Read admin public key failed", os_error(error)) from error
    try:
        return admin.public_key(pem)
    except (ValueError, TypeError) as error:
        raise StartError("Admin auth error: Failed to parse admin public key", str(error)) from error


def verifier(config: TokenConfig) -> Verifier:
    """What attestation tokens are checked with."""
    trusted = [one for path in config.certificates
               for one in _certificates(path, *_VERIFIER, f"failed to read certificate {path}")]
    return Verifier(trusted, [key for path in config.key_sets for key in _key_set(path)], config.insecure_key)


def signer(config: SignerConfig | None) -> Signer:
    """What signs attestation tokens; an ephemeral key where none is configured."""
    if config is None:
        log.info("No Token Signer key in config file, create an ephemeral key and without CA pubkey cert")
        return Signer(ec.generate_private_key(ec.SECP256R1()))
    try:
        key = serialization.load_pem_private_key(rooted(config.key).read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise StartError(*_SERVICE, "Read Token Signer private key failed") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise StartError(*_SERVICE, "Read Token Signer private key failed")
    certificates = []
    if config.certificate:
        certificates = _certificates(config.certificate, *_SERVICE, "Read Token Signer cert file failed")
    return Signer(key, certificates, config.url)


def tls(config: HttpConfig, generation: Generation) -> ssl.SSLContext | None:
    """The server's TLS, of the generation's versions only; None where key and certificate do not belong together.

    The real server starts with such a pair, and every handshake fails.
    """
    for path, what in ((config.certificate, "certificate"), (config.private_key, "private key")):
        if not path:
            raise StartError(_HTTPS, f"Missing {what}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = _VERSIONS[generation.tls]
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(rooted(config.certificate), rooted(config.private_key), password=lambda: b"")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            return None
        raise StartError(_HTTPS, str(error)) from error
    except OSError as error:
        raise StartError(_HTTPS, os_error(error)) from error
    return context


def _certificates(path: str, *failed: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(rooted(path).read_bytes())
    except (OSError, ValueError) as error:
        raise StartError(*failed) from error


def _key_set(path: str) -> list[dict[str, Any]]:
    if path.startswith(("http://", "https://")):
        raise StartError(f"lab-kbs reads trusted_jwk_sets from files only, not from {path}")
    try:
        keys: list[dict[str, Any]] = json.loads(rooted(path.removeprefix("file://")).read_bytes())["keys"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StartError(*_VERIFIER, f"failed to read JWK set {path}") from error
    return keys
