"""Configurations: what the real server of generation B refuses, with which words, and what it starts with (trustee-verified.md 3.7).

These tests start the program themselves (KBS_CONTRACT_PROGRAM, else lab-kbs).
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tests.contract import policies
from tests.contract.client import Key, b64url
from tests.contract.server import Server, public_pem, signer_key
from tests.contract.talk import ALLOW_ALL, RESOURCE, SECRET

NO_ADMIN_KEY = "Admin auth error: `auth_public_key` is not set in the config file"


def caused(first: str, *causes: str) -> str:
    """A chain of causes as it is printed."""
    numbered = [f"    {index}: {cause}" for index, cause in enumerate(causes)] if len(causes) > 1 else [f"    {causes[0]}"]
    return "\n".join([first, "", "Caused by:", *numbered])


@pytest.mark.parametrize(("changes", "words"), [
    ({"admin": None}, NO_ADMIN_KEY),
    ({"admin": {"auth_public_key": None, "type": "Simple", "personas": [{"id": "admin", "public_key_path": "/x"}]}}, NO_ADMIN_KEY),
    ({"admin": {"auth_public_key": None, "authorization_mode": "DenyAll"}}, NO_ADMIN_KEY),
    ({"admin": {"auth_public_key": "/absent"}}, "Admin auth error: Read admin public key failed"),
    ({"admin": {"auth_public_key": "<dir>/admin.key"}}, "Admin auth error: Failed to parse admin public key"),
    ({"admin": {"auth_public_key": "<dir>/tls.crt"}}, "Admin auth error: Failed to parse admin public key"),
    ({"http_server": None}, caused("HTTPS initialization failed", "Missing certificate")),
    ({"http_server": {"certificate": None}}, caused("HTTPS initialization failed", "Missing certificate")),
    ({"http_server": {"private_key": None}}, caused("HTTPS initialization failed", "Missing private key")),
    ({"http_server": {"private_key": "/absent"}}, "HTTPS initialization failed"),
    ({"attestation_token": {"trusted_certs_paths": ["/absent"]}},
     caused("Token Verifier error", "Failed to initialize Token Verifier", "failed to read certificate /absent")),
    ({"plugins": [{"name": "foo", "type": "LocalFs"}]},
     "invalid config: unknown variant `foo`, expected one of `Sample`, `sample`, `ResourceStorage`, `resource`"),
    ({"plugins": [{"name": "resource", "dir_path": "/x"}]}, "invalid config: missing field `type`"),
    ({"attestation_service": None}, "invalid config: missing field `type`"),
    ({"attestation_service": {"type": None}}, "invalid config: missing field `type`"),
    ({"attestation_service": {"attestation_token_broker": "Ear"}},
     'invalid config: invalid type: string "Ear", expected internally tagged enum AttestationTokenConfig'),
    ({"attestation_service": {"attestation_token_broker": {"type": "ear"}}},
     "invalid config: unknown variant `ear`, expected `Simple` or `Ear`"),
    ({"attestation_service": {"attestation_token_broker": {"type": "Ear", "signer": {"cert_path": "/x"}}}},
     "invalid config: missing field `key_path`"),
    ({"attestation_service": {"attestation_token_broker": {"type": "Ear", "signer": {"key_path": "/absent"}}}},
     caused("Attestation error: Failed to initialize attestation service", "Read Token Signer private key failed")),
    ({"attestation_service": {"rvps_config": {"storage": {"type": "LocalJson"}}}}, "invalid config: missing field `type`"),
    ({"policy_engine": {"policy_path": None}}, "invalid config: missing field `policy_path`"),
    ({"http_server": {"sockets": ["localhost:8080"]}}, "invalid config: invalid socket address syntax"),
    ({"http_server": {"sockets": "127.0.0.1:8080"}},
     'invalid config: invalid type: string "127.0.0.1:8080", expected a sequence'),
])
def test_refused(server: Server, changes: dict[str, Any], words: str) -> None:
    config = json.loads(json.dumps(server.changed(**changes)).replace("<dir>", str(server.directory)))
    server.launch(config)
    assert f"Error: {words}" in server.fails()


def test_toml_in_a_json_file(server: Server) -> None:
    """The format of another release: the very first thing an upgrade meets."""
    server.file = server.directory / "kbs-config.json"
    server.launch()
    assert "Error: expected value at line 1 column 2 in kbs-config.json" in server.fails()


def test_missing_configuration(server: Server) -> None:
    server.launch(write=False)
    assert f'Error: configuration file "{server.file}" not found' in server.fails()


def test_configuration_that_is_no_toml(server: Server) -> None:
    server.launch(text="this is no TOML")
    assert "Error: TOML parse error" in server.fails()


@pytest.mark.parametrize("changes", [
    {"http_server": {"unknown": 1, "worker_count": 4}, "admin": {"type": "Simple"}},
    {"http_server": {"insecure_http": "false"}, "attestation_token": {"attestation_token_type": "CoCo"}},
    {"attestation_service": {"timeout": "5", "attestation_token_config": {"duration_min": 5}}},
], ids=["unknown keys", "strings as booleans", "strings as numbers"])
def test_tolerated(server: Server, changes: dict[str, Any]) -> None:
    server.start({**server.changed(**changes), "unknown_table": {"a": 1}})
    assert server.client().send("GET", RESOURCE).status == 401
    assert "Using config file" in server.log
    assert f"Starting HTTPS server at [127.0.0.1:{server.port}]" in server.log


def test_the_same_structure_as_json(server: Server) -> None:
    server.file = server.directory / "kbs-config.json"
    server.start(text=json.dumps(server.config))
    assert server.client().send("GET", RESOURCE).status == 401


def test_no_plugins(server: Server) -> None:
    server.start(server.changed(plugins=None))
    answer = server.client().send("GET", RESOURCE)
    assert (answer.status, answer.json()["detail"]) == (404, "Plugin resource not found")


def test_certificate_of_another_key(server: Server) -> None:
    """It starts, and every handshake fails."""
    server.start(server.changed(http_server={"private_key": server.path("other.key")}))
    with pytest.raises((ssl.SSLError, ConnectionError)):
        server.client().send("GET", RESOURCE)
    assert server.process is not None
    assert server.process.poll() is None


@pytest.mark.parametrize(("version", "accepted"), [
    (ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, False)])
def test_tls_versions(server: Server, version: ssl.TLSVersion, accepted: bool) -> None:
    server.start()
    context = server.client().context()
    context.minimum_version = ssl.TLSVersion.TLSv1_1
    context.maximum_version = context.minimum_version = version
    if version == ssl.TLSVersion.TLSv1_1:
        context.set_ciphers("DEFAULT@SECLEVEL=0")

    def handshake() -> str | None:
        with socket.create_connection(("127.0.0.1", server.port), 5) as plain, \
                context.wrap_socket(plain, server_hostname="localhost") as wrapped:
            return wrapped.version()

    if accepted:
        assert handshake() == "TLSv1.2"
    else:
        with pytest.raises(ssl.SSLError):
            handshake()


def test_plain_http_gets_nothing(server: Server) -> None:
    server.start()
    with socket.create_connection(("127.0.0.1", server.port), 5) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert b"HTTP" not in plain.recv(100)


@pytest.mark.parametrize(("token", "words"), [
    ({"trusted_certs_paths": []}, "Cannot verify token since trusted cert is empty"),
    ({"trusted_certs_paths": ["<dir>/tls.crt"]}, "JWK cannot be validated by trust anchor"),
], ids=["nothing trusted", "another signer trusted"])
def test_signer_that_is_not_trusted(server: Server, token: dict[str, Any], words: str) -> None:
    """It starts and attests; then no GET succeeds."""
    config = json.loads(json.dumps(server.changed(attestation_token=token)).replace("<dir>", str(server.directory)))
    server.start(config)
    cookie, answer = server.talk().attested(Key())
    assert answer.status == 200
    refused = server.client().send("GET", RESOURCE, {"cookie": f"kbs-session-id={cookie}"})
    assert (refused.status, refused.json()["detail"]) == (401, "Token Verifier error")
    assert words in server.log


def test_insecure_key_accepts_forged_tokens(server: Server) -> None:
    """With the insecure flag any ES256 token that carries its own key opens everything: a critical finding wherever it is set."""
    server.start(server.changed(attestation_token={"insecure_key": True, "trusted_certs_paths": None}))
    talk, key, attacker = server.talk(), Key(), signer_key()
    talk.resource()
    talk.resource_policy(policies.AFFIRMING)
    numbers = attacker.public_key().public_numbers()
    head = {"typ": "JWT", "alg": "ES256", "jwk": {"alg": "ES256", "kty": "EC", "crv": "P-256",
                                                   "x": b64url(numbers.x.to_bytes(32, "big")),
                                                   "y": b64url(numbers.y.to_bytes(32, "big"))}}
    claims = {"exp": int(time.time()) + 60, "submods": {"cpu0": {
        "ear.status": "affirming", "ear.veraison.annotated-evidence": {"runtime_data_claims": {"tee-pubkey": key.jwk}}}}}

    def forged(**changes: Any) -> str:
        told = {name: value for name, value in {**claims, **changes}.items() if value is not None}
        text = ".".join(b64url(json.dumps(part).encode()) for part in (head, told))
        r, s = decode_dss_signature(attacker.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{text}.{b64url(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"

    def get(token: str) -> Any:
        return talk.client.send("GET", RESOURCE, {"authorization": f"Bearer {token}"})

    assert key.decrypt(get(forged())) == SECRET
    now = int(time.time())
    assert get(forged(exp=now - 50)).status == 200  # a minute of leeway
    assert get(forged(nbf=now + 3600)).status == 200  # not looked at
    for refused in (forged(exp=now - 70), forged(exp=None), forged(aud="x")):
        assert get(refused).json()["detail"] == "Token Verifier error"


def test_insecure_api_needs_no_token(server: Server) -> None:
    server.start(server.changed(admin={"insecure_api": True, "auth_public_key": None}))
    assert server.client().send("POST", RESOURCE, body=SECRET).status == 200


def test_restart_keeps_files_and_loses_sessions(server: Server) -> None:
    server.start()
    talk, key = server.talk(), Key()
    talk.resource()
    talk.resource_policy(ALLOW_ALL)
    cookie, answer = talk.attested(key)
    assert server.stop() == 0
    server.start()
    gone = talk.client.send("GET", RESOURCE, {"cookie": f"kbs-session-id={cookie}"})
    assert gone.json()["detail"] == "Attestation Token not found"
    kept = talk.client.send("GET", RESOURCE, {"authorization": f"Bearer {answer.json()['token']}"})
    assert key.decrypt(kept) == SECRET
    assert "Policy default_cpu already exists, so the default policy will not be written." in server.log


def test_public_half_of_another_key_is_no_administrator(server: Server) -> None:
    (server.directory / "admin.pub").write_bytes(public_pem(signer_key()))
    server.launch()
    assert "Error: Admin auth error: Failed to parse admin public key" in server.fails()
