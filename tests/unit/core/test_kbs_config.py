"""kbs_config.py. Sources: deployment.md 2.9, trustee.md 2.1 and 3, trustee-verified.md 3.7, trustee-verified-0.3.md 6."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest

from ansible_collections.confidential.containers.plugins.module_utils import kbs_config, releases
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

TRUSTEE = releases.TRUSTEE_RELEASES
TOML = ("0.3", "0.4", "1.0", "1.1", "1.2")
BASE = "/opt/confidential-containers"
HTTP = {"sockets": ["0.0.0.0:8080"], "insecure_http": False, "private_key": "/etc/https-key/privateKey",
        "certificate": "/etc/https-cert/certificate"}
RVPS_FILE = f"{BASE}/rvps/reference-values/reference-values.json"
SNP = {"snp_verifier": {"vcek_sources": [{"type": "OfflineStore"}, {"type": "KDS"}]}}


def load(name: str, **options: Any) -> dict[str, Any]:
    data = kbs_config.config_map_data(TRUSTEE[name], options)
    assert list(data) == [TRUSTEE[name].kbs_config_key]
    (text,) = data.values()
    assert text.endswith("\n")
    result: dict[str, Any] = json.loads(text) if name == "0.2" else tomllib.loads(text)
    return result


def test_generation_a() -> None:
    """0.2: JSON (deployment.md 2.9, trustee.md 3.1)."""
    assert load("0.2") == {
        "insecure_http": False, "sockets": ["0.0.0.0:8080"], "auth_public_key": "/etc/auth-secret/publicKey",
        "attestation_token_config": {"attestation_token_type": "CoCo"},
        "repository_config": {"type": "LocalFs", "dir_path": f"{BASE}/kbs/repository"},
        "as_config": {"work_dir": f"{BASE}/attestation-service", "policy_engine": "opa", "attestation_token_broker": "Simple",
                      "attestation_token_config": {"duration_min": 5},
                      "rvps_config": {"store_type": "LocalJson", "store_config": {"file_path": RVPS_FILE}}},
        "policy_engine_config": {"policy_path": f"{BASE}/opa/policy.rego"},
        "private_key": "/etc/https-key/privateKey", "certificate": "/etc/https-cert/certificate",
    }


@pytest.mark.parametrize("name", ["0.3", "0.4", "1.0"])
def test_generation_b(name: str) -> None:
    """trustee.md 3.2. 0.3 and 0.4 have no signer fields: its files lie in the HTTPS Secrets (design.md)."""
    where = "attestation" if name == "1.0" else "https"
    key, certificate = f"/etc/{where}-key/token.key", f"/etc/{where}-cert/token.crt"
    assert load(name) == {
        "http_server": {**HTTP, **({"worker_count": 4} if name == "1.0" else {})},
        "admin": {"insecure_api": False, "auth_public_key": "/etc/auth-secret/publicKey"},
        "attestation_token": {"insecure_key": False, "trusted_certs_paths": [certificate]},
        "attestation_service": {
            "type": "coco_as_builtin", "timeout": 5, "work_dir": f"{BASE}/attestation-service", "policy_engine": "opa",
            "attestation_token_broker": {"type": "Ear", "policy_dir": f"{BASE}/attestation-service/policies", "duration_min": 5,
                                         "signer": {"key_path": key, "cert_path": certificate}},
            "rvps_config": {"type": "BuiltIn", "storage": {"type": "LocalJson", "file_path": RVPS_FILE}},
        },
        "plugins": [{"name": "resource", "type": "LocalFs", "dir_path": f"{BASE}/kbs/repository"}],
        "policy_engine": {"policy_path": f"{BASE}/opa/policy.rego"},
    }


def test_generation_c() -> None:
    """1.1: `[admin] type` is wanted, without it the KBS does not start (trustee-verified.md number 3)."""
    assert load("1.1") == {
        "http_server": {**HTTP, "worker_count": 4},
        "admin": {"type": "Simple", "personas": [{"id": "admin", "public_key_path": "/etc/auth-secret/publicKey"}]},
        "attestation_token": {"insecure_key": False, "trusted_certs_paths": ["/etc/attestation-cert/token.crt"]},
        "attestation_service": {
            "type": "coco_as_builtin", "timeout": 5, "work_dir": f"{BASE}/attestation-service", "policy_engine": "opa",
            "attestation_token_broker": {"policy_dir": f"{BASE}/attestation-service/policies", "duration_min": 5, "signer": {
                "key_path": "/etc/attestation-key/token.key", "cert_path": "/etc/attestation-cert/token.crt"}},
            "rvps_config": {"type": "BuiltIn", "storage": {"type": "LocalJson", "file_path": RVPS_FILE}},
            "verifier_config": SNP,
        },
        "plugins": [{"name": "resource", "type": "LocalFs", "dir_path": f"{BASE}/kbs/repository"}],
        "policy_engine": {"policy_path": f"{BASE}/opa/policy.rego"},
    }


def test_generation_d() -> None:
    """1.2: unified storage, `authorization_mode`, no unknown fields inside `[admin]` (trustee.md 2.1, 3.4)."""
    assert load("1.2") == {
        "http_server": {**HTTP, "worker_count": 4},
        "admin": {
            "authorization_mode": "AuthenticatedAuthorization",
            "authentication": {"bearer_jwt": {"identity_providers": [{"public_key_uri": "/etc/auth-secret/publicKey"}]}},
            "authorization": {"regex_acl": {"acls": [{"role": "admin", "allowed_endpoints": "^/kbs/.+$"}]}},
        },
        "attestation_token": {"insecure_header_jwk": False, "trusted_certs_paths": ["/etc/attestation-cert/token.crt"]},
        "attestation_service": {
            "type": "coco_as_builtin", "timeout": 5,
            "attestation_token_broker": {"duration_min": 5, "signer": {
                "key_path": "/etc/attestation-key/token.key", "cert_path": "/etc/attestation-cert/token.crt"}},
            "rvps_config": {"type": "BuiltIn", "storage_type": "LocalJson"},
            "verifier_config": SNP,
        },
        "storage_backend": {"storage_type": "LocalFs", "backends": {
            "local_fs": {"dir_path": f"{BASE}/storage"}, "local_json": {"file_dir_path": f"{BASE}/storage/local_json"}}},
        "plugins": [{"name": "resource", "storage_backend_type": "kvstorage"}],
    }


@pytest.mark.parametrize("name", list(TRUSTEE))
def test_plain_http(name: str) -> None:
    """No key paths then: they name Secrets that are not mounted."""
    table = load(name, insecure_http=True)
    server = table if name == "0.2" else table["http_server"]
    assert server["insecure_http"] is True
    assert {"private_key", "certificate"} & set(server) == set()


@pytest.mark.parametrize("name", TOML)
def test_insecure_token(name: str) -> None:
    table = load(name, insecure_token=True)
    assert table["attestation_token"] == {TRUSTEE[name].insecure_token_key: True}
    assert "signer" not in table["attestation_service"]["attestation_token_broker"]


@pytest.mark.parametrize("name", TOML)
def test_nothing_insecure_unless_asked_for(name: str) -> None:
    text = kbs_config.render(TRUSTEE[name])
    assert "insecure_http = true" not in text
    assert "InsecureAllowAll" not in text
    assert f"{TRUSTEE[name].insecure_token_key} = false" in text
    assert load(name)["attestation_token"]["trusted_certs_paths"]


def test_insecure_choices_are_warned_about() -> None:
    assert kbs_config.warnings(None) == []
    assert kbs_config.warnings({"insecure_http": False, "worker_count": 2}) == []
    assert [text.rsplit("(", 1)[1] for text in kbs_config.warnings({"insecure_http": True, "insecure_token": True})] == \
        ["insecure_http)", "insecure_token)"]


@pytest.mark.parametrize("name", list(TRUSTEE))
def test_unknown_options(name: str) -> None:
    with pytest.raises(CocoError, match="insecure_htpp") as caught:
        kbs_config.render(TRUSTEE[name], {"insecure_htpp": True})
    assert "insecure_http" in caught.value.todo


def test_options_reach_the_file() -> None:
    table = load("1.0", https_key="/a", https_certificate="/b", signer_key="/c", signer_certificate="/d", admin_public_key="/e",
                 worker_count=2, token_minutes=7, session_minutes=9)
    assert table["http_server"] == {**HTTP, "private_key": "/a", "certificate": "/b", "worker_count": 2}
    broker = table["attestation_service"]["attestation_token_broker"]
    assert (broker["signer"], broker["duration_min"]) == ({"key_path": "/c", "cert_path": "/d"}, 7)
    assert table["attestation_token"]["trusted_certs_paths"] == ["/d"]
    assert (table["admin"]["auth_public_key"], table["attestation_service"]["timeout"]) == ("/e", 9)
    assert load("0.3", signer_key="/c")["attestation_service"]["attestation_token_broker"]["signer"]["key_path"] == "/c"


def test_the_operators_tls_settings_are_kept() -> None:
    """operators.md 2.3: the operator of 1.2 merges only TLS settings into the kbs-config of a TrusteeConfig."""
    release = TRUSTEE["1.2"]
    (key, ours), = kbs_config.config_map_data(release).items()
    theirs = "# in the operator's order\n" + ours.replace("worker_count = 4\n", 'worker_count = 4\ntls_profile = "intermediate"\n')
    assert kbs_config.config_map_data(release, None, {key: theirs}) == {key: theirs}, "it means the same: not a byte changes"
    for changed in (theirs.replace("insecure_header_jwk = false", "insecure_header_jwk = true"), theirs + '\n[foreign]\nx = 1\n'):
        assert changed != theirs
        wanted = tomllib.loads(kbs_config.config_map_data(release, None, {key: changed})[key])
        assert wanted == tomllib.loads(theirs), "ours, with the settings"
    for nothing in ({}, {key: ""}, {key: "no = toml = at all"}, {key: "http_server = 1"}, {key: ours}):
        assert kbs_config.config_map_data(release, None, nothing) == {key: ours}
