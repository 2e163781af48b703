"""The KBS's configuration, generation B (v0.15): read as strictly, refused with the same words."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from lab.paths import rooted

PLUGINS = ("Sample", "sample", "ResourceStorage", "resource")
SPKI_ED25519 = bytes.fromhex("302a300506032b6570032100")


class StartError(Exception):
    """The server does not start; the text is what follows ``Error:``."""


@dataclass
class Config:
    """What the server runs with."""

    sockets: list[str]
    insecure_http: bool
    private_key: str
    certificate: str
    payload_mib: int
    insecure_api: bool
    admin_key: ed25519.Ed25519PublicKey | None
    insecure_key: bool
    trusted: list[x509.Certificate]
    timeout_minutes: int
    policy_dir: Path
    duration_minutes: int
    signer: ec.EllipticCurvePrivateKey
    signer_chain: list[x509.Certificate]
    reference_values: Path
    repository: Path | None
    resource_policy: Path
    notes: list[str] = field(default_factory=list)


def read(path: str) -> Config:
    """Read and check a configuration file; :class:`StartError` where the real server would not start."""
    file = rooted(path)
    try:
        text = file.read_text()
    except OSError as error:
        raise StartError(f'configuration file "{path}" not found') from error
    if not path.endswith(".toml"):
        raise StartError(f"expected value at line 1 column 2 in {Path(path).name}")
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise StartError(f"invalid config: {error} in {path}") from error
    http, admin = raw.get("http_server", {}), raw.get("admin", {})
    notes: list[str] = []
    service = _service(raw)
    broker = service.get("attestation_token_broker", {})
    signer, chain = _signer(broker.get("signer"), notes)
    token = raw.get("attestation_token", {})
    trusted = [certificate for name in token.get("trusted_certs_paths", []) for certificate in _certificates(name)]
    work = service.get("work_dir", "/opt/confidential-containers/attestation-service")
    storage = service.get("rvps_config", {}).get("storage", {})
    if service.get("rvps_config", {}).get("type", "BuiltIn") == "BuiltIn":
        notes.append("No RVPS address provided and will launch a built-in RVPS.")
    insecure_http = bool(http.get("insecure_http", False))
    if not insecure_http:
        _https(http)
    return Config(
        sockets=list(http.get("sockets", ["127.0.0.1:8080"])), insecure_http=insecure_http,
        private_key=http.get("private_key", ""), certificate=http.get("certificate", ""),
        payload_mib=int(http.get("payload_request_size", 2)), insecure_api=bool(admin.get("insecure_api", False)),
        admin_key=_admin_key(admin), insecure_key=bool(token.get("insecure_key", False)), trusted=trusted,
        timeout_minutes=int(service.get("timeout", 5)),
        policy_dir=rooted(broker.get("policy_dir", f"{work}/token/ear/policies")) / "opa",
        duration_minutes=int(broker.get("duration_min", 5)), signer=signer, signer_chain=chain,
        reference_values=rooted(storage.get("file_path", "/opt/confidential-containers/rvps/reference-values.json")),
        repository=_repository(raw.get("plugins", [])),
        resource_policy=rooted(raw.get("policy_engine", {}).get(
            "policy_path", "/opa/confidential-containers/kbs/policy.rego")),
        notes=notes,
    )


def _service(raw: dict[str, Any]) -> dict[str, Any]:
    service = raw.get("attestation_service")
    if service is None:
        raise StartError('invalid config: missing configuration field "attestation_service"')
    kind = service.get("type")
    if kind != "coco_as_builtin":
        raise StartError(f"invalid config: attestation service type {kind!r} is not built into this server")
    return dict(service)


def _signer(signer: dict[str, Any] | None, notes: list[str]) -> tuple[ec.EllipticCurvePrivateKey, list[x509.Certificate]]:
    if signer is None:
        notes.append("No Token Signer key in config file, create an ephemeral key and without CA pubkey cert")
        return ec.generate_private_key(ec.SECP256R1()), []
    failed = "Attestation error: Failed to initialize attestation service\n\nCaused by:\n    Read Token Signer private key failed"
    try:
        key = serialization.load_pem_private_key(rooted(signer["key_path"]).read_bytes(), None)
    except (OSError, ValueError, KeyError) as error:
        raise StartError(failed) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise StartError(failed)
    return key, _certificates(signer["cert_path"]) if signer.get("cert_path") else []


def _certificates(path: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(rooted(path).read_bytes())
    except (OSError, ValueError) as error:
        raise StartError("Token Verifier error\n\nCaused by:\n    0: Failed to initialize Token Verifier\n"
                         f"    1: failed to read certificate {path}") from error


def _https(http: dict[str, Any]) -> None:
    for name, what in (("certificate", "Missing certificate"), ("private_key", "Missing private key")):
        if not http.get(name):
            raise StartError(f"HTTPS initialization failed\n\nCaused by:\n    {what}")
        try:
            rooted(http[name]).read_bytes()
        except OSError as error:
            raise StartError(f"HTTPS initialization failed\n\nCaused by:\n    {error.strerror} (os error {error.errno})") \
                from error


def _admin_key(admin: dict[str, Any]) -> ed25519.Ed25519PublicKey | None:
    if admin.get("insecure_api"):
        return None
    path = admin.get("auth_public_key")
    if not path:
        raise StartError("Admin auth error: `auth_public_key` is not set in the config file")
    try:
        pem = rooted(path).read_bytes()
    except OSError as error:
        raise StartError("Admin auth error: Read admin public key failed") from error
    try:
        key = serialization.load_pem_public_key(pem)
        der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        if not isinstance(key, ed25519.Ed25519PublicKey) or not der.startswith(SPKI_ED25519):
            raise ValueError
    except (ValueError, TypeError) as error:
        raise StartError("Admin auth error: Failed to parse admin public key") from error
    return key


def _repository(plugins: list[dict[str, Any]]) -> Path | None:
    repository = None
    for plugin in plugins:
        if plugin.get("name") not in PLUGINS:
            raise StartError(f"invalid config: unknown variant `{plugin.get('name')}`, expected one of "
                             + ", ".join(f"`{name}`" for name in PLUGINS))
        if plugin["name"] in ("resource", "ResourceStorage"):
            repository = rooted(plugin.get("dir_path", "/opt/confidential-containers/kbs/repository"))
    return repository
