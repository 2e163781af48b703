"""The configuration file of generation D: one storage for everything (trustee.md 3.4; trustee-verified.md 3.7)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from lab.kbs.errors import StartError
from lab.kbs.fields import Table
from lab.kbs.generation import Generation
from lab.kbs.settings import (
    PLUGINS,
    Config,
    HttpConfig,
    Issuer,
    IssuersConfig,
    Role,
    ServiceConfig,
    built_in,
    built_in_rvps,
    http,
    token,
    token_signer,
)
from lab.kbs.storage import Document, Flat, JsonMap, Memory, Store
from lab.paths import rooted

STORAGE = "/opt/confidential-containers/storage"
_KINDS = ("Memory", "LocalFs", "LocalJson", "Postgres", "Redis")


def read(root: Table, generation: Generation) -> Config:
    """What the tables say. Raises :class:`StartError`."""
    service = root.below("attestation_service")
    web, admin = _http(root.must("http_server"), generation), _admin(root.must("admin"))
    built_in(service)
    broker, rvps = service.below("attestation_token_broker"), service.table("rvps_config")
    storage = Storage(root.below("storage_backend"))
    if rvps is not None:
        built_in_rvps(rvps)
    plugins = root.tables("plugins")
    return Config(
        http=web, admin=admin, token=token(root.below("attestation_token"), "insecure_header_jwk"),
        service=ServiceConfig(
            session_minutes=service.number("timeout", generation.session_minutes),
            policies=storage("attestation_service_policy"), token_minutes=broker.number("duration_min", generation.token_minutes),
            signer=token_signer(broker), sessions=storage("kbs_protocol_session", storage.sessions),
            reference_values=storage("reference_value", storage.kind(rvps, "storage_type") if rvps else "")),
        repository=_repository(plugins, storage), resource_policy=Document(storage("kbs"), "resource-policy.rego"),
        plugins=[plugin.text("name") for plugin in plugins],
    )


class Storage:
    """``[storage_backend]``: a store for each namespace."""

    def __init__(self, table: Table) -> None:
        backends = table.below("backends")
        self._default = self.kind(table, "storage_type") or "Memory"
        self.sessions = self.kind(table, "session_storage_type")
        files = rooted(backends.below("local_fs").text("dir_path", STORAGE))
        maps = rooted(backends.below("local_json").text("file_dir_path", f"{STORAGE}/local_json"))
        self._make: dict[str, Callable[[str], Store]] = {
            "Memory": lambda _name: Memory(), "LocalFs": lambda name: _flat(files / name),
            "LocalJson": lambda name: JsonMap(maps / name)}

    @staticmethod
    def kind(table: Table, name: str) -> str:
        """A kind of storage that the lab has; empty where none is told."""
        if name not in table.values:
            return ""
        kind = table.variant(name, *_KINDS)
        if kind in ("Postgres", "Redis"):
            raise StartError(f"lab-kbs has no storage in {kind}: use LocalFs, LocalJson or Memory")
        return kind

    def __call__(self, namespace: str, kind: str = "") -> Store:
        """The store of a namespace."""
        return self._make[kind or self._default](namespace)


def _http(table: Table, generation: Generation) -> HttpConfig:
    """``[http_server]`` with its TLS profile."""
    oldest, newest = generation.tls
    profile = table.variant("tls_profile", "intermediate", "old", "modern", "custom", required=False)
    if profile == "modern":
        oldest = newest
    elif profile == "custom":
        known = ("1.2", "1.3")
        oldest, newest = (table.variant(name, *known) if name in table.values else default
                          for name, default in (("tls_min_version", oldest), ("tls_max_version", newest)))
    return replace(http(table), profile=profile, tls=(oldest, newest))


def _flat(directory: Path) -> Store:
    directory.mkdir(parents=True, exist_ok=True)
    return Flat(directory)


def _admin(admin: Table) -> IssuersConfig:
    mode = admin.variant("authorization_mode", "AuthenticatedAuthorization", "InsecureAllowAll", "DenyAll")
    for name in admin.values:
        if name not in ("authorization_mode", "authentication", "authorization"):
            raise admin.invalid(f"unknown field `{name}`, expected one of `authorization_mode`, `authentication`, "
                                "`authorization`", f"admin.{name}")
    bearer = admin.below("authentication").below("bearer_jwt")
    acl = admin.below("authorization").below("regex_acl")
    return IssuersConfig(
        mode, [_issuer(one) for one in bearer.tables("identity_providers")],
        [Role(one.text("role"), one.text("allowed_endpoints")) for one in acl.tables("acls")])


def _issuer(provider: Table) -> Issuer:
    if "jwk_set_uri" in provider.values:
        raise StartError("lab-kbs knows administrators by public_key_uri only, not by jwk_set_uri")
    return Issuer(provider.text("public_key_uri").removeprefix("file://"), provider.text("issuer", ""), provider.text("audience", ""))


def _repository(plugins: list[Table], storage: Storage) -> Store | None:
    """The secrets of the resource plugin."""
    found = None
    for plugin in plugins:
        if plugin.variant("name", *PLUGINS) in ("resource", "ResourceStorage"):
            plugin.variant("storage_backend_type", "kvstorage")
            found = storage("repository")
    return found
