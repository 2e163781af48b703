"""The configuration file (trustee.md 3.2, 3.3; trustee-verified.md 3.7): what the server runs with. Generation D: config_d."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

from lab.kbs import config_d
from lab.kbs.errors import StartError
from lab.kbs.fields import Table
from lab.kbs.generation import Generation
from lab.kbs.settings import (
    PLUGINS,
    AdminConfig,
    Config,
    KeyConfig,
    PersonasConfig,
    Role,
    ServiceConfig,
    built_in,
    built_in_rvps,
    http,
    token,
    token_signer,
)
from lab.kbs.storage import Document, Store, Tree, file
from lab.paths import rooted

WORK = "/opt/confidential-containers/attestation-service"
REFERENCE_VALUES = "/opt/confidential-containers/rvps/reference-values.json"
REPOSITORY = "/opt/confidential-containers/kbs/repository"
RESOURCE_POLICY = "/opa/confidential-containers/kbs/policy.rego"


def read(path: str, generation: Generation) -> Config:
    """The configuration in ``path``. Raises :class:`StartError` where the real server would not start."""
    root = Table(_parse(path), words=replace(generation.words, file=path))
    return {"B": _b, "C": _c, "D": config_d.read}[generation.config](root, generation)


def _b(root: Table, generation: Generation) -> Config:
    return _files(root, root.below("http_server"), key_admin(root.below("admin")), generation)


def _c(root: Table, generation: Generation) -> Config:
    return _files(root, root.must("http_server"), personas(root.must("admin")), generation)


def _files(root: Table, web: Table, admin: AdminConfig, generation: Generation) -> Config:
    """What generations B and C have in common: everything in files of its own."""
    engine = root.table("policy_engine")
    plugins = root.tables("plugins")
    return Config(
        http=http(web), admin=admin, token=token(root.below("attestation_token"), "insecure_key"),
        service=_service(root.below("attestation_service"), generation), repository=_repository(plugins),
        resource_policy=file(rooted(engine.text("policy_path") if engine else RESOURCE_POLICY)),
        plugins=[plugin.text("name") for plugin in plugins],
    )


def key_admin(admin: Table) -> KeyConfig:
    """``[admin]`` to generation B."""
    return KeyConfig(admin.text("auth_public_key", ""), admin.flag("insecure_api"))


def personas(admin: Table) -> PersonasConfig:
    """``[admin]`` of generation C."""
    kind = admin.variant("type", "Simple", "InsecureAllowAll", "DenyAll")
    keys = [(one.text("id"), one.text("public_key_path")) for one in admin.tables("personas")]
    return PersonasConfig(kind, keys, [Role(one.text("id"), one.text("allowed_endpoints")) for one in admin.tables("roles")])


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
    built_in(service)
    work = service.text("work_dir", WORK)
    broker = service.table("attestation_token_broker", "internally tagged enum AttestationTokenConfig")
    if broker is not None and generation.broker_type and broker.variant("type", "Simple", "Ear") == "Simple":
        raise StartError("lab-kbs issues EAR tokens only: set attestation_token_broker.type to Ear")
    broker = broker or service.below("attestation_token_broker")
    return ServiceConfig(
        session_minutes=service.number("timeout", generation.session_minutes),
        policies=Tree(rooted(broker.text("policy_dir", generation.policy_dir.format(work=work))) / "opa"),
        token_minutes=broker.number("duration_min", generation.token_minutes), signer=token_signer(broker),
        reference_values=_reference_values(service.table("rvps_config")),
    )


def _reference_values(rvps: Table | None) -> Document:
    if rvps is None:
        return file(rooted(REFERENCE_VALUES))
    built_in_rvps(rvps)
    storage = rvps.table("storage")
    if storage is None:
        return file(rooted(REFERENCE_VALUES))
    if storage.variant("type", "LocalFs", "LocalJson") == "LocalFs":
        return file(rooted(storage.text("file_path", REFERENCE_VALUES.removesuffix(".json"))) / "lab-kbs.json")
    return file(rooted(storage.text("file_path", REFERENCE_VALUES)))


def _repository(plugins: list[Table]) -> Store | None:
    """The secrets of the resource plugin."""
    found = None
    for plugin in plugins:
        if plugin.variant("name", *PLUGINS) in ("resource", "ResourceStorage"):
            plugin.variant("type", "LocalFs")
            found = Tree(rooted(plugin.text("dir_path", REPOSITORY)))
    return found
