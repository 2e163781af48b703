"""Keys and certificates that are read at the start, and the words of a start without them (trustee-verified.md 3.7)."""

from __future__ import annotations

import json
import logging
import re
import ssl
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from lab.kbs import admin
from lab.kbs.admin import Administrators, Anybody, Issuers, Personas, SingleKey
from lab.kbs.errors import StartError, os_error
from lab.kbs.generation import Generation
from lab.kbs.settings import AdminConfig, HttpConfig, IssuersConfig, PersonasConfig, SignerConfig, TokenConfig
from lab.kbs.tokens import Signer, Verifier
from lab.paths import rooted

log = logging.getLogger("lab")

_VERIFIER = ("Token Verifier error", "Failed to initialize Token Verifier")
_SERVICE = ("Attestation error: Failed to initialize attestation service",)
_HTTPS = "HTTPS initialization failed"
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def administrators(config: AdminConfig) -> Administrators:
    """Who may administrate."""
    if isinstance(config, PersonasConfig):
        return _personas(config)
    if isinstance(config, IssuersConfig):
        return _issuers(config)
    return Anybody() if config.insecure else SingleKey(admin_key(config.key))


def _personas(config: PersonasConfig) -> Administrators:
    roles = [(role.name, anchored(role.pattern)) for role in config.roles]
    keys = [(name, admin_key(path)) for name, path in config.keys] if config.kind == "Simple" else []
    return Personas(keys, roles, anonymous=config.kind == "InsecureAllowAll")


def _issuers(config: IssuersConfig) -> Administrators:
    roles = [(role.name, anchored(role.pattern)) for role in config.roles]
    if config.mode == "InsecureAllowAll":
        return Anybody()
    found = []
    for one in config.issuers if config.mode == "AuthenticatedAuthorization" else []:
        failed = "failed to initialize [admin] configuration: Invalid admin token verifier config: "
        try:
            pem = rooted(one.key).read_bytes()
        except OSError as error:
            raise StartError(failed + os_error(error)) from error
        if b"-----BEGIN PUBLIC KEY-----" not in pem and b"-----BEGIN CERTIFICATE-----" not in pem:
            raise StartError(failed + "failed to decode PEM public key")
        try:
            found.append((admin.public_key(pem), one.issuer, one.audience))
        except (ValueError, TypeError):
            log.warning("lab-kbs verifies tokens of Ed25519 keys only, so nobody is an administrator by %s", one.key)
    return Issuers(found, roles, denied=config.mode == "DenyAll")


def anchored(pattern: str) -> re.Pattern[str]:
    """A pattern of paths that a role may reach."""
    if not pattern.startswith("^/kbs") or not pattern.endswith("$"):
        raise StartError("Admin Role regex must be anchored.")
    try:
        return re.compile(pattern)
    except re.error as error:
        raise StartError(f"invalid Admin Role regex: {error}") from error


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


def verifier(config: TokenConfig, generation: Generation) -> Verifier:
    """What attestation tokens are checked with."""
    if not (config.certificates or config.key_sets or config.insecure_key or generation.no_trust_starts):
        raise StartError(*_VERIFIER, "Cannot verify token since no trusted verification materials are provided")
    trusted = [one for path in config.certificates
               for one in _certificates(path, *_VERIFIER, f"failed to read certificate {path}")]
    return Verifier(trusted, [key for path in config.key_sets for key in _key_set(path)], config.insecure_key,
                    generation.token_audience)


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
    if config.profile:
        log.info("TLS profile: %s", config.profile.capitalize())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version, context.maximum_version = (_VERSIONS[version] for version in config.tls or generation.tls)
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
