"""The configuration file of generation B (trustee.md 3.2; trustee-verified.md 3.7): what the server runs with."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.kbs.errors import StartError
from lab.kbs.fields import Table
from lab.kbs.generation import Generation
from lab.paths import rooted

WORK = "/opt/confidential-containers/attestation-service"
REFERENCE_VALUES = "/opt/confidential-containers/rvps/reference-values.json"
REPOSITORY = "/opt/confidential-containers/kbs/repository"
RESOURCE_POLICY = "/opa/confidential-containers/kbs/policy.rego"
PLUGINS = ("Sample", "sample", "ResourceStorage", "resource")


@dataclass(frozen=True)
class HttpConfig:
    """``[http_server]``; paths as written."""

    sockets: list[str]
    insecure: bool
    private_key: str
    certificate: str
    payload_mib: int
    workers: int  # 0: one per CPU


@dataclass(frozen=True)
class TokenConfig:
    """``[attestation_token]``: whose tokens are accepted."""

    insecure_key: bool
    certificates: list[str]
    key_sets: list[str]
    tee_key_paths: list[str]


@dataclass(frozen=True)
class SignerConfig:
    """The configured token signer."""

    key: str
    certificate: str
    url: str


@dataclass(frozen=True)
class ServiceConfig:
    """``[attestation_service]``, built in."""

    session_minutes: int
    policy_dir: Path
    token_minutes: int
    signer: SignerConfig | None
    reference_values: Path


@dataclass(frozen=True)
class Config:
    """The whole file."""

    http: HttpConfig
    insecure_api: bool
    admin_key: str
    token: TokenConfig
    service: ServiceConfig
    repository: Path | None  # None: no resource plugin
    resource_policy: Path
    plugins: list[str] = field(default_factory=list)


def read(path: str, generation: Generation) -> Config:
    """The configuration in ``path``. Raises :class:`StartError` where the real server would not start."""
    root = Table(_parse(path))
    http = root.table("http_server") or Table({})
    admin = root.table("admin") or Table({})
    token = root.table("attestation_token") or Table({})
    engine = root.table("policy_engine")
    service = root.table("attestation_service") or Table({})
    plugins = root.tables("plugins")
    return Config(
        http=HttpConfig(
            sockets=http.sockets("sockets", "127.0.0.1:8080"), insecure=http.flag("insecure_http"),
            private_key=http.text("private_key", ""), certificate=http.text("certificate", ""),
            payload_mib=http.number("payload_request_size", 2), workers=http.number("worker_count", 0)),
        insecure_api=admin.flag("insecure_api"), admin_key=admin.text("auth_public_key", ""),
        token=TokenConfig(
            insecure_key=token.flag("insecure_key"), certificates=token.texts("trusted_certs_paths"),
            key_sets=token.texts("trusted_jwk_sets"), tee_key_paths=token.texts("extra_teekey_paths")),
        service=_service(service, generation), repository=_repository(plugins),
        resource_policy=rooted(engine.text("policy_path") if engine else RESOURCE_POLICY),
        plugins=[plugin.text("name") for plugin in plugins],
    )


def _parse(path: str) -> Any:
    """The file's tree: TOML, or JSON where the name says so."""
    name = Path(path).name
    try:
        text = rooted(path).read_text()
    except OSError as error:
        raise StartError(f'configuration file "{path}" not found') from error
    except ValueError as error:
        raise StartError(f"stream did not contain valid UTF-8 in {name}") from error
    if path.endswith(".json"):
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise StartError(f"expected value at line {error.lineno} column {error.colno} in {name}") from error
    if not path.endswith(".toml"):
        raise StartError(f'configuration file "{path}" is not of a registered file format')
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise StartError(f"TOML parse error: {error} in {name}") from error


def _service(service: Table, generation: Generation) -> ServiceConfig:
    kind = service.variant("type", "coco_as_builtin", "coco_as_grpc", "intel_ta")
    if kind != "coco_as_builtin":
        raise StartError(f"lab-kbs has the built-in attestation service only, not {kind}")
    work = service.text("work_dir", WORK)
    broker = service.table("attestation_token_broker", "internally tagged enum AttestationTokenConfig")
    if broker is not None and broker.variant("type", "Simple", "Ear") == "Simple":
        raise StartError("lab-kbs issues EAR tokens only: set attestation_token_broker.type to Ear")
    broker = broker or Table({})
    signer = broker.table("signer")
    return ServiceConfig(
        session_minutes=service.number("timeout", generation.session_minutes),
        policy_dir=rooted(broker.text("policy_dir", f"{work}/token/ear/policies")) / "opa",
        token_minutes=broker.number("duration_min", generation.token_minutes),
        signer=None if signer is None else SignerConfig(
            key=signer.text("key_path"), certificate=signer.text("cert_path", ""), url=signer.text("cert_url", "")),
        reference_values=_reference_values(service.table("rvps_config")),
    )


def _reference_values(rvps: Table | None) -> Path:
    if rvps is None:
        return rooted(REFERENCE_VALUES)
    if rvps.variant("type", "BuiltIn", "GrpcRemote") == "GrpcRemote":
        raise StartError("lab-kbs has the built-in RVPS only: set rvps_config.type to BuiltIn")
    storage = rvps.table("storage")
    if storage is None:
        return rooted(REFERENCE_VALUES)
    if storage.variant("type", "LocalFs", "LocalJson") == "LocalFs":
        return rooted(storage.text("file_path", REFERENCE_VALUES.removesuffix(".json"))) / "lab-kbs.json"
    return rooted(storage.text("file_path", REFERENCE_VALUES))


def _repository(plugins: list[Table]) -> Path | None:
    """The directory of the resource plugin."""
    found = None
    for plugin in plugins:
        if plugin.variant("name", *PLUGINS) in ("resource", "ResourceStorage"):
            plugin.variant("type", "LocalFs")
            found = rooted(plugin.text("dir_path", REPOSITORY))
    return found
