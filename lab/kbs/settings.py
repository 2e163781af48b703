"""What a server runs with, and the tables that all generations of the configuration file have in common (trustee.md 3)."""

from __future__ import annotations

from dataclasses import dataclass, field

from lab.kbs.errors import StartError
from lab.kbs.fields import Table
from lab.kbs.storage import Document, Store

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
    profile: str = ""  # of TLS, where the file has them
    tls: tuple[str, str] | None = None  # oldest and newest version; None: those of the generation


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
    policies: Store
    token_minutes: int
    signer: SignerConfig | None
    reference_values: Document | Store
    sessions: Store | None = None  # None: they end with the process


@dataclass(frozen=True)
class KeyConfig:
    """``[admin]`` to generation B: the file of the one key, or no check at all."""

    key: str
    insecure: bool


@dataclass(frozen=True)
class Role:
    """What a role may reach: a pattern of paths, anchored at both ends."""

    name: str
    pattern: str


@dataclass(frozen=True)
class PersonasConfig:
    """``[admin]`` of generation C."""

    kind: str  # "Simple", "InsecureAllowAll", "DenyAll"
    keys: list[tuple[str, str]] = field(default_factory=list)  # (id, file)
    roles: list[Role] = field(default_factory=list)


@dataclass(frozen=True)
class Issuer:
    """One identity provider of generation D."""

    key: str
    issuer: str
    audience: str


@dataclass(frozen=True)
class IssuersConfig:
    """``[admin]`` of generation D."""

    mode: str  # "AuthenticatedAuthorization", "InsecureAllowAll", "DenyAll"
    issuers: list[Issuer] = field(default_factory=list)
    roles: list[Role] = field(default_factory=list)


AdminConfig = KeyConfig | PersonasConfig | IssuersConfig


@dataclass(frozen=True)
class Config:
    """The whole file."""

    http: HttpConfig
    admin: AdminConfig
    token: TokenConfig
    service: ServiceConfig
    repository: Store | None  # None: no resource plugin
    resource_policy: Document
    plugins: list[str] = field(default_factory=list)


def http(http: Table) -> HttpConfig:
    """``[http_server]``."""
    return HttpConfig(
        sockets=http.sockets("sockets", "127.0.0.1:8080"), insecure=http.flag("insecure_http"),
        private_key=http.text("private_key", ""), certificate=http.text("certificate", ""),
        payload_mib=http.number("payload_request_size", 2), workers=http.number("worker_count", 0))


def token(token: Table, insecure: str) -> TokenConfig:
    """``[attestation_token]``."""
    return TokenConfig(
        insecure_key=token.flag(insecure), certificates=token.texts("trusted_certs_paths"),
        key_sets=token.texts("trusted_jwk_sets"), tee_key_paths=token.texts("extra_teekey_paths"))


def built_in(service: Table) -> None:
    """The attestation service must be the built-in one."""
    kind = service.variant("type", "coco_as_builtin", "coco_as_grpc", "intel_ta")
    if kind != "coco_as_builtin":
        raise StartError(f"lab-kbs has the built-in attestation service only, not {kind}")


def token_signer(broker: Table) -> SignerConfig | None:
    """The configured signer of tokens."""
    signer = broker.table("signer")
    return None if signer is None else SignerConfig(
        key=signer.text("key_path"), certificate=signer.text("cert_path", ""), url=signer.text("cert_url", ""))


def built_in_rvps(rvps: Table) -> None:
    """The RVPS must be the built-in one."""
    if rvps.variant("type", "BuiltIn", "GrpcRemote") == "GrpcRemote":
        raise StartError("lab-kbs has the built-in RVPS only: set rvps_config.type to BuiltIn")
