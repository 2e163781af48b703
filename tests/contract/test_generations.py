"""Generations 0.3, C and D beyond their exchanges: starts and refusals, files, administrators (trustee-verified.md 3; -0.3.md 6)."""

from __future__ import annotations

import base64
import json
import re
import ssl
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.contract import policies
from tests.contract.client import Answer
from tests.contract.server import Server, toml
from tests.contract.talk import ALLOW_ALL, RESOURCE, SECRET, Talk
from tests.contract.test_facts import GOOD, claims, cpu0, replace, set_values

C_ADMIN = {"type": "Simple", "personas": []}
D_ADMIN = {"authorization_mode": "DenyAll"}
OTHERS = pytest.mark.parametrize("side", ["0.3", "C", "D"], indirect=True)
D = pytest.mark.parametrize("side", ["D"], indirect=True)
CD = pytest.mark.parametrize("side", ["C", "D"], indirect=True)


@pytest.mark.parametrize(("side", "changes", "words"), [
    ("0.3", {"admin": None}, "Admin auth error: `auth_public_key` is not set in the config file"),
    ("0.3", {"admin": {"auth_public_key": None, **C_ADMIN}}, "Admin auth error: `auth_public_key` is not set in the config file"),
    ("0.3", {"attestation_service": {"attestation_token_broker": "Simple"}},
     'invalid type: string "Simple", expected internally tagged enum AttestationTokenConfig'),
    ("0.3", {"plugins": [{"name": "resource", "storage_backend_type": "kvstorage"}]}, "invalid config: missing field `type`"),
    ("0.3", {"policy_engine": {"policy_path": None}}, "missing field `policy_path`"),
    ("C", {"admin": None}, 'invalid config: missing configuration field "admin"'),
    ("C", {"http_server": None}, 'invalid config: missing configuration field "http_server"'),
    ("C", {"admin": {"type": None, "personas": None, "auth_public_key": "<dir>/admin.pub"}},
     'invalid config: missing configuration field "admin.type"'),
    ("C", {"admin": {"type": None, "personas": None, **D_ADMIN}}, 'missing configuration field "admin.type"'),
    ("C", {"admin": {"personas": [{"id": "a", "public_key_path": "/absent"}]}}, "Admin auth error: Read admin public key failed"),
    ("C", {"admin": {"personas": [{"id": "a", "public_key_path": "<dir>/tls.crt"}]}},
     "Admin auth error: Failed to parse admin public key"),
    ("C", {"admin": {"roles": [{"id": "admin", "allowed_endpoints": "/kbs/.+"}]}}, "Admin Role regex must be anchored."),
    ("C", {"plugins": [{"name": "foo", "type": "LocalFs"}]},
     "invalid config: unknown variant `foo`, expected one of `Sample`, `sample`, `ResourceStorage`, `resource` "
     "for key `plugins[0]name`"),
    ("D", {"admin": None}, 'failed to load configuration file <dir>/kbs-config.toml: missing configuration field "admin"'),
    ("D", {"http_server": None}, 'missing configuration field "http_server"'),
    ("D", {"admin": {"authorization_mode": None}}, 'missing configuration field "admin.authorization_mode"'),
    ("D", {"admin": {"authorization_mode": None, "authentication": None, "authorization": None, **C_ADMIN}},
     'missing configuration field "admin.authorization_mode"'),
    ("D", {"admin": {"type": "Simple"}}, "unknown field `type`"),
    ("D", {"admin": {"authentication": {"bearer_jwt": {"identity_providers": [{"public_key_uri": "/absent"}]}}}},
     "failed to initialize [admin] configuration: Invalid admin token verifier config: No such file or directory (os error 2)"),
    ("D", {"admin": {"authentication": {"bearer_jwt": {"identity_providers": [{"public_key_uri": "<dir>/admin.key"}]}}}},
     "Invalid admin token verifier config: failed to decode PEM public key"),
    ("D", {"attestation_token": {"trusted_certs_paths": None}},
     "Cannot verify token since no trusted verification materials are provided"),
    ("D", {"attestation_token": {"trusted_certs_paths": None, "insecure_key": True}}, "no trusted verification materials"),
    ("D", {"http_server": {"private_key": "/absent"}}, "HTTPS initialization failed"),
], indirect=["side"])
def test_refused(server: Server, changes: dict[str, Any], words: str) -> None:
    config = json.loads(json.dumps(server.changed(**changes)).replace("<dir>", str(server.directory)))
    server.launch(config)
    assert words.replace("<dir>", str(server.directory)) in server.fails()


@pytest.mark.parametrize(("side", "changes"), [
    ("0.3", {"http_server": {"worker_count": 4}, "attestation_token": {"insecure_header_jwk": True}}),
    ("C", {"admin": {"auth_public_key": "/absent", "insecure_api": True}}),
    ("C", {"attestation_service": {"attestation_token_broker": {"type": "ear"}}}),
    ("D", {"attestation_token": {"insecure_key": True}, "http_server": {"tls_profile": "intermediate"}}),
    ("D", {"admin": {"authentication": {"bearer_jwt": {"identity_providers": [{"public_key_uri": "<dir>/tls.crt"}]}}}}),
], indirect=["side"])
def test_tolerated(server: Server, changes: dict[str, Any]) -> None:
    config = json.loads(json.dumps({**server.changed(**changes), "unknown": {"a": 1}}).replace("<dir>", str(server.directory)))
    server.start(config)
    assert server.client().send("GET", RESOURCE).status == 401


@pytest.mark.parametrize("side", ["D"], indirect=True)
def test_configuration_of_another_generation_crashes(server: Server) -> None:
    """What the operator's migration is for: an unmodified configuration of 1.1 does not start on 1.2."""
    server.launch({"http_server": server.config["http_server"], "admin": C_ADMIN,
                   "plugins": [{"name": "resource", "type": "LocalFs"}], "attestation_service": {"type": "coco_as_builtin"}})
    assert 'missing configuration field "admin.authorization_mode"' in server.fails()


@pytest.mark.parametrize(("side", "tls", "version", "accepted"), [
    ("0.3", {}, ssl.TLSVersion.TLSv1_3, False), ("C", {}, ssl.TLSVersion.TLSv1_3, False), ("D", {}, ssl.TLSVersion.TLSv1_3, True),
    ("D", {}, ssl.TLSVersion.TLSv1_2, True), ("D", {"tls_profile": "modern"}, ssl.TLSVersion.TLSv1_2, False),
    ("D", {"tls_profile": "custom", "tls_max_version": "1.2"}, ssl.TLSVersion.TLSv1_3, False)], indirect=["side"])
def test_tls_versions(server: Server, tls: dict[str, str], version: ssl.TLSVersion, accepted: bool) -> None:
    server.start(server.changed(http_server=tls))
    client, context = server.client(), server.client().context()
    context.minimum_version = context.maximum_version = version
    client.context = lambda: context  # type: ignore[method-assign]
    if accepted:
        assert client.send("GET", RESOURCE).status == 401
    else:
        with pytest.raises(ssl.SSLError):
            client.send("GET", RESOURCE)
    assert ("TLS profile: " in server.log) == (server.side.name == "D")


@pytest.mark.parametrize(("side", "admin", "status", "detail"), [
    ("C", {"type": "InsecureAllowAll", "personas": None}, 200, ""),
    ("C", {"type": "DenyAll", "personas": None}, 401, "for any admin persona"),
    ("C", {"type": "Simple", "personas": None}, 401, "for any admin persona"),
    ("C", {"roles": [{"id": "admin", "allowed_endpoints": "^/kbs/v0/resource-policy$"}]}, 401, "for any admin persona"),
    ("C", {"roles": [{"id": "admin", "allowed_endpoints": "^/kbs/v0/resource/.+$"}]}, 200, ""),
    ("D", {"authorization_mode": "InsecureAllowAll"}, 200, ""),
    ("D", {"authorization_mode": "DenyAll"}, 401, "Admin access denied as DenyAll authorization_mode is enabled"),
], indirect=["side"])
def test_administrators(server: Server, admin: dict[str, Any], status: int, detail: str) -> None:
    server.start(server.changed(admin=admin))
    client = server.client()
    answer = client.send("POST", RESOURCE, {"authorization": f"Bearer {client.admin()}"}, SECRET)
    assert answer.status == status
    assert detail in answer.body.decode()


@D
def test_role_is_needed(talk: Talk) -> None:
    bearer = talk.client.admin(role=None)
    answer = talk.client.send("POST", RESOURCE, {"authorization": f"Bearer {bearer}"}, SECRET)
    assert answer.json()["detail"].endswith(
        'Failed to parse claims from token: AdminAccessDenied { reason: "Missing required `role` claim in JWT" }')


@D
def test_where_generation_d_keeps_things(server: Server) -> None:
    """One file per name with slashes as four characters, and reference values as a map of URL-safe base64."""
    server.start()
    talk, key, storage = server.talk(), server.side.new_key(), Path(server.path("storage"))
    talk.resource()
    talk.resource_policy(policies.AFFIRMING)
    set_values(talk, **GOOD)
    assert (storage / "repository" / r"default\x2Fkbsres1\x2Fkey1").read_bytes() == SECRET
    assert (storage / "kbs" / "resource-policy.rego").read_text() == policies.AFFIRMING
    assert sorted(file.name for file in (storage / "attestation_service_policy").iterdir()) == [
        "default_cpu.rego", "default_gpu.rego"]
    values = json.loads((storage / "local_json" / "reference_value").read_text())
    item = json.loads(base64.urlsafe_b64decode(values["svn"]))
    assert (list(item), item["value"]) == (["version", "name", "expiration", "value"], ["1"])
    cookie, answer = talk.attested(key)
    assert cpu0(answer)[0] == "affirming"
    server.stop()
    server.start()  # sessions outlive a restart
    assert key.decrypt(talk.client.send("GET", RESOURCE, {"cookie": f"kbs-session-id={cookie}"})) == SECRET
    deleted = talk.client.send("DELETE", RESOURCE, {"authorization": f"Bearer {talk.client.admin()}"})
    assert (deleted.status, deleted.headers["content-type"]) == (200, "text/xml")
    assert not list((storage / "repository").iterdir())


@D
def test_files_of_generation_d_are_read_anew(server: Server) -> None:
    server.start()
    talk, key, storage = server.talk(), server.side.new_key(), Path(server.path("storage"))
    secret, policy, cpu = (str(storage / name) for name in (
        r"repository/default\x2Fkbsres1\x2Fkey1", "kbs/resource-policy.rego", "attestation_service_policy/default_cpu.rego"))
    values = storage / "local_json" / "reference_value"
    talk.resource()
    replace(policy, ALLOW_ALL)
    cookie, _ = talk.attested(key)

    def get() -> Answer:
        return talk.client.send("GET", RESOURCE, {"cookie": f"kbs-session-id={cookie}"})

    replace(secret, "new secret")
    assert key.decrypt(get()) == b"new secret"
    replace(policy, "garbage")
    assert get().json()["detail"].startswith("Policy engine error: Failed to load policy: ")
    replace(policy, None)
    assert get().json()["detail"] == "Policy engine error: Policy `resource-policy.rego` not found"

    def given(items: dict[str, Any]) -> str:
        encoded = {name: base64.urlsafe_b64encode(json.dumps(
            {"name": name, "expiration": "2024-01-01T00:00:00Z", "value": value}).encode()).decode() for name, value in items.items()}
        replace(str(values), json.dumps(encoded))
        return cpu0(talk.attested(key)[1])[0]

    assert given(GOOD) == "affirming"  # expired ones are used
    assert given({**GOOD, "svn": ["9"]}) == "contraindicated"
    for file, good in ((str(values), "{}"), (cpu, policies.CPU_OBJECT)):
        for text in ("garbage", None):
            replace(file, text)
            assert talk.attested(key)[1].status == 401
        replace(file, good)
        assert talk.attested(key)[1].status == 200
    replace(str(values), json.dumps([{"name": "svn", "expiration": "2099-01-01T00:00:00Z", "value": ["1"]}]))  # the form of 1.1
    answer = talk.client.send("GET", "/kbs/v0/reference-value/svn", {"authorization": f"Bearer {talk.client.admin()}"})
    assert answer.json()["detail"].endswith("No reference value found for the given id: svn")


@D
def test_memory_is_the_default(server: Server) -> None:
    """Without a storage backend nothing of what an administrator sets outlives the process."""
    server.start(server.changed(storage_backend=None))
    server.talk().resource()
    assert not list(server.directory.glob("storage/repository*"))
    server.stop()
    assert not Path(server.path("storage/kbs")).exists()


@CD
def test_stock_policy_and_expired_values(talk: Talk) -> None:
    """Token of the reference (section 4): eight claims and identifiers. A token's `iss` is v0.21's, not the product's."""
    _, answer = talk.attested(talk.side.new_key())
    submodule = claims(answer)["submods"]["cpu0"]
    assert submodule["ear.trustworthiness-vector"] == {
        "instance-identity": 0, "configuration": 2, "executables": 33, "file-system": 0, "hardware": 97, "runtime-opaque": 0,
        "storage-opaque": 0, "sourced-data": 0}
    assert submodule["ear.trustee.identifiers"] == {"validated": {}}
    assert "iss" not in claims(answer)


@pytest.mark.parametrize(("side", "status"), [("0.3", 404), ("C", 200), ("D", 200)], indirect=["side"])
def test_git_hash_tells_the_release(talk: Talk, status: int) -> None:
    answer = talk.client.send("GET", "/metrics")
    assert answer.status == status
    assert status == 404 or re.search(rf'git_hash="{talk.side.git_hash}"', answer.body.decode())


@OTHERS
def test_forged_tokens_pass_with_the_insecure_flag(server: Server) -> None:
    """The flag has another name in D; the hole is the same."""
    flag = "insecure_header_jwk" if server.side.name == "D" else "insecure_key"
    (Path(server.path("rv.json"))).write_text("[]")
    config = server.changed(attestation_token={flag: True, "trusted_certs_paths": None})
    broker = config["attestation_service"]["attestation_token_broker"]
    broker.pop("signer")  # an ephemeral key: tokens of the last process pass too
    server.start(config)
    talk, key = server.talk(), server.side.new_key()
    talk.resource()
    talk.resource_policy(ALLOW_ALL)
    token = talk.attested(key)[1].json()["token"]
    server.stop()
    server.start(config)
    talk.resource()
    talk.resource_policy(ALLOW_ALL)
    assert key.decrypt(talk.client.send("GET", RESOURCE, {"authorization": f"Bearer {token}"})) == SECRET


def test_lists_of_tables_in_toml() -> None:
    """The suite's own writer, for the nested tables of generation D."""
    tables = {"a": {"b": {"c": [{"d": "e"}]}, "f": 1}}
    assert tomllib.loads(toml(tables)) == tables
