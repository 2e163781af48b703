# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The KBS configuration of each Trustee release. Pure.

Sources: the operator's templates and samples at each tag, and the configuration that each KBS generation was seen to accept.
Token signing with a configured key and trusted certificates (the Restricted layout) is the only way written unless plain
HTTP or the insecure token key is asked for by name.
"""

from __future__ import annotations

import json
import tomllib
from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError
from ansible_collections.confidential.containers.plugins.module_utils.releases import TrusteeRelease

BASE = "/opt/confidential-containers"
DEFAULTS: dict[str, Any] = {
    "insecure_http": False,  # plain HTTP inside (edge route)
    "insecure_token": False,  # accept any token that carries its own key: no attestation security for bearer requests
    "https_key": "/etc/https-key/privateKey",
    "https_certificate": "/etc/https-cert/certificate",
    "signer_key": "/etc/attestation-key/token.key",
    "signer_certificate": "/etc/attestation-cert/token.crt",
    "admin_public_key": "/etc/auth-secret/publicKey",
    "worker_count": 4,
    "token_minutes": 5,
    "session_minutes": 5,
}


def options(release: TrusteeRelease, given: dict[str, Any] | None) -> dict[str, Any]:
    """The defaults with what is given; :class:`CocoError` for an option that does not exist."""
    unknown = sorted(set(given or {}) - set(DEFAULTS))
    if unknown:
        raise CocoError("The KBS configuration cannot be rendered", f"unknown options: {', '.join(unknown)}",
                        f"Known options: {', '.join(DEFAULTS)}.")
    chosen = {**DEFAULTS, **(given or {})}
    if not release.signer_fields:
        # No signer fields in this KbsConfig: the signer's files lie in the HTTPS Secrets, which are mounted whole.
        chosen["signer_key"] = (given or {}).get("signer_key", "/etc/https-key/token.key")
        chosen["signer_certificate"] = (given or {}).get("signer_certificate", "/etc/https-cert/token.crt")
    return chosen


def render(release: TrusteeRelease, given: dict[str, Any] | None = None) -> str:
    """The configuration file's text for a release."""
    chosen = options(release, given)
    if release.kbs_config_format == "json":
        return _json(chosen)
    tables = {"toml-b": _b, "toml-c": _c, "toml-d": _d}[release.kbs_config_format](release, chosen)
    return _toml(tables)


def config_map_data(release: TrusteeRelease, given: dict[str, Any] | None = None,
                    present: dict[str, str] | None = None) -> dict[str, str]:
    """The data of the config map: the file under the key that the release reads.

    present: the config map's data in the cluster where the operator adds its TLS settings (``tls_*`` of ``[http_server]``) to
    the file. A file that means ours plus those settings is kept as it is; any other is replaced by ours with those settings, so
    that operator and run do not undo each other's work for ever.
    Source: the operator of Trustee 1.2 merges the cluster's TLS profile into the config map of a TrusteeConfig.
    """
    ours, theirs = render(release, given), (present or {}).get(release.kbs_config_key, "")
    return {release.kbs_config_key: _with_operator_tls(ours, theirs) if theirs else ours}


def _with_operator_tls(ours: str, theirs: str) -> str:
    try:
        found = tomllib.loads(theirs)
    except tomllib.TOMLDecodeError:
        return ours
    server = found.get("http_server")
    tls = {key: value for key, value in server.items() if key.startswith("tls_")} if isinstance(server, dict) else {}
    wanted = tomllib.loads(ours)
    wanted["http_server"] |= tls
    if found == wanted:
        return theirs
    head, line, tail = ours.partition("[http_server]\n")
    return head + line + "".join(f"{key} = {_toml_value(value)}\n" for key, value in tls.items()) + tail


def warnings(given: dict[str, Any] | None) -> list[str]:
    """The insecure choices among the options, in words."""
    found = []
    if (given or {}).get("insecure_http"):
        found.append("the KBS speaks plain HTTP inside the cluster (insecure_http)")
    if (given or {}).get("insecure_token"):
        found.append("the KBS accepts any token that carries its own key: attestation protects nothing (insecure_token)")
    return found


Tables = list[tuple[str, dict[str, Any]]]


def _http(release: TrusteeRelease, chosen: dict[str, Any]) -> dict[str, Any]:
    table: dict[str, Any] = {"sockets": ["0.0.0.0:8080"], "insecure_http": bool(chosen["insecure_http"])}
    if not chosen["insecure_http"]:
        table["private_key"] = chosen["https_key"]
        table["certificate"] = chosen["https_certificate"]
    if release.worker_count:
        table["worker_count"] = int(chosen["worker_count"])
    return table


def _token(release: TrusteeRelease, chosen: dict[str, Any]) -> dict[str, Any]:
    if chosen["insecure_token"]:
        return {release.insecure_token_key: True}
    return {release.insecure_token_key: False, "trusted_certs_paths": [chosen["signer_certificate"]]}


def _broker(release: TrusteeRelease, chosen: dict[str, Any], policy_dir: bool) -> Tables:
    broker: dict[str, Any] = {"type": "Ear"} if release.kbs_config_format == "toml-b" else {}
    if policy_dir:
        broker["policy_dir"] = f"{BASE}/attestation-service/policies"
    broker["duration_min"] = int(chosen["token_minutes"])
    tables: Tables = [("attestation_service.attestation_token_broker", broker)]
    if not chosen["insecure_token"]:
        tables.append(("attestation_service.attestation_token_broker.signer",
                       {"key_path": chosen["signer_key"], "cert_path": chosen["signer_certificate"]}))
    return tables


def _service(chosen: dict[str, Any], engine: bool) -> dict[str, Any]:
    table: dict[str, Any] = {"type": "coco_as_builtin", "timeout": int(chosen["session_minutes"])}
    if engine:
        table["work_dir"] = f"{BASE}/attestation-service"
        table["policy_engine"] = "opa"
    return table


def _rvps_b() -> Tables:
    path = f"{BASE}/rvps/reference-values/reference-values.json"
    return [("attestation_service.rvps_config", {"type": "BuiltIn"}),
            ("attestation_service.rvps_config.storage", {"type": "LocalJson", "file_path": path})]


_RESOURCE_B = ("[plugins]", {"name": "resource", "type": "LocalFs", "dir_path": f"{BASE}/kbs/repository"})
_POLICY_B = ("policy_engine", {"policy_path": f"{BASE}/opa/policy.rego"})
_SNP = ("attestation_service.verifier_config.snp_verifier", {"vcek_sources": [{"type": "OfflineStore"}, {"type": "KDS"}]})


def _b(release: TrusteeRelease, chosen: dict[str, Any]) -> Tables:
    return [
        ("http_server", _http(release, chosen)),
        ("admin", {"insecure_api": False, "auth_public_key": chosen["admin_public_key"]}),
        ("attestation_token", _token(release, chosen)),
        ("attestation_service", _service(chosen, engine=True)),
        *_broker(release, chosen, policy_dir=True),
        *_rvps_b(),
        _RESOURCE_B,
        _POLICY_B,
    ]


def _c(release: TrusteeRelease, chosen: dict[str, Any]) -> Tables:
    return [
        ("http_server", _http(release, chosen)),
        ("admin", {"type": "Simple"}),
        ("[admin.personas]", {"id": "admin", "public_key_path": chosen["admin_public_key"]}),
        ("attestation_token", _token(release, chosen)),
        ("attestation_service", _service(chosen, engine=True)),
        *_broker(release, chosen, policy_dir=True),
        *_rvps_b(),
        _SNP,
        _RESOURCE_B,
        _POLICY_B,
    ]


def _d(release: TrusteeRelease, chosen: dict[str, Any]) -> Tables:
    return [
        ("http_server", _http(release, chosen)),
        ("admin", {"authorization_mode": "AuthenticatedAuthorization"}),
        ("admin.authentication.bearer_jwt", {"identity_providers": [{"public_key_uri": chosen["admin_public_key"]}]}),
        ("admin.authorization.regex_acl", {"acls": [{"role": "admin", "allowed_endpoints": "^/kbs/.+$"}]}),
        ("attestation_token", _token(release, chosen)),
        ("attestation_service", _service(chosen, engine=False)),
        *_broker(release, chosen, policy_dir=False),
        ("attestation_service.rvps_config", {"type": "BuiltIn", "storage_type": "LocalJson"}),
        _SNP,
        ("storage_backend", {"storage_type": "LocalFs"}),
        ("storage_backend.backends.local_fs", {"dir_path": f"{BASE}/storage"}),
        ("storage_backend.backends.local_json", {"file_dir_path": f"{BASE}/storage/local_json"}),
        ("[plugins]", {"name": "resource", "storage_backend_type": "kvstorage"}),
    ]


def _json(chosen: dict[str, Any]) -> str:
    document: dict[str, Any] = {
        "insecure_http": bool(chosen["insecure_http"]), "sockets": ["0.0.0.0:8080"],
        "auth_public_key": chosen["admin_public_key"],
        "attestation_token_config": {"attestation_token_type": "CoCo"},
        "repository_config": {"type": "LocalFs", "dir_path": f"{BASE}/kbs/repository"},
        "as_config": {
            "work_dir": f"{BASE}/attestation-service", "policy_engine": "opa", "attestation_token_broker": "Simple",
            "attestation_token_config": {"duration_min": int(chosen["token_minutes"])},
            "rvps_config": {"store_type": "LocalJson", "store_config": {
                "file_path": f"{BASE}/rvps/reference-values/reference-values.json"}},
        },
        "policy_engine_config": {"policy_path": f"{BASE}/opa/policy.rego"},
    }
    if not chosen["insecure_http"]:
        document["private_key"] = chosen["https_key"]
        document["certificate"] = chosen["https_certificate"]
    return json.dumps(document, indent=2) + "\n"


def _toml(tables: Tables) -> str:
    """The few forms of TOML that the configurations need; a name in brackets is an array of tables."""
    parts = []
    for name, table in tables:
        header = f"[{name}]"  # "[plugins]" gives [[plugins]]
        parts.append("\n".join([header, *(f"{key} = {_toml_value(value)}" for key, value in table.items())]))
    return "\n\n".join(parts) + "\n"


def _toml_value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    return json.dumps(value)
