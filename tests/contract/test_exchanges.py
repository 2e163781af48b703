"""Every exchange recorded of the real KBS of generation B (v0.15.0), carried out anew with live nonces and keys.

Reference values and attestation policies follow in test_exchanges_values.py. Against a server named by KBS_CONTRACT_URL the tests
run once, in this order (that of the recording): it must be fresh.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from tests.contract import policies
from tests.contract.client import AUTH, Key, attestation, b64, b64url, report_data
from tests.contract.groups import GROUPS
from tests.contract.sides import SIDES
from tests.contract.talk import ALLOW_ALL, RESOURCE, SECRET, Talk, matches

NOBODY = "0" * 32
DATA = """
[data]
"aa.toml" = '''
[token_configs]
[token_configs.kbs]
url = "http://kbs.example.com:8080"
'''

"cdh.toml" = '''
[kbc]
name = "cc_kbc"
url = "http://kbs.example.com:8080"
'''
"""  # the document of the reference (trustee.md 6.4), whose digest is in the recorded tokens
ALL = pytest.mark.parametrize("side", ["B", "C", "D"], indirect=True)  # those of protocol 0.4.0


def test_every_recorded_exchange_belongs_to_one_group() -> None:
    for name in "BCD":
        for exchange in json.loads(SIDES[name].file.read_text()):
            assert sum(matches(exchange["label"], patterns) for patterns in GROUPS.values()) == 1, exchange["label"]


def test_every_group_is_carried_out() -> None:
    """Each group has a test that ends with ``done``, which finds what was left out."""
    tests = "".join(file.read_text() for file in Path(__file__).parent.glob("test_exchanges*.py"))
    for name in GROUPS:
        assert f'    talk.done(*GROUPS["{name}"])\n' in tests, name


@ALL
def test_get_without_attestation(talk: Talk) -> None:
    talk("get/no-session", "GET", RESOURCE)
    talk("get/unknown-cookie", "GET", RESOURCE, cookie=NOBODY)
    talk("get/bearer-garbage", "GET", RESOURCE, bearer="abc")
    talk("get/basic-auth", "GET", RESOURCE, authorization="Basic YTpi")
    talk.done(*GROUPS["get"])


@ALL
def test_auth(talk: Talk) -> None:
    def auth(name: str, body: Any, path: str = "auth", method: str = "POST") -> None:
        talk(f"auth/{name}", method, f"/kbs/v0/{path}", body)

    auth("ok", AUTH)
    auth("ok-extra-string", {**AUTH, "extra-params": ""})
    for name, version in (("version-0.0.0", "0.0.0"), ("version-0.2.0", "0.2.0"), ("version-garbage", "x")):
        auth(name, {**AUTH, "version": version})
    for name, tee in (("unknown-tee", "foo"), ("tee-tdx", "tdx"), ("tee-azsnpvtpm", "azsnpvtpm"),
                      ("tee-az-snp-vtpm", "az-snp-vtpm")):
        auth(name, {**AUTH, "tee": tee})
    auth("no-extra-params", {name: value for name, value in AUTH.items() if name != "extra-params"})
    auth("unknown-field", {**AUTH, "foo": 1})
    auth("not-json", b"hello")
    auth("empty", b"")
    talk("auth/no-content-type", "POST", "/kbs/v0/auth", AUTH, json_type=False)
    auth("GET", b"", method="GET")
    auth("PUT", AUTH, method="PUT")
    auth("trailing-slash", AUTH, "auth/")
    auth("extra-segment", AUTH, "auth/foo/bar")
    talk.done(*GROUPS["auth"])


@ALL
def test_attest(talk: Talk) -> None:
    key = Key()
    session = talk.auth("attest/base-auth")
    cookie, nonce = session
    right = report_data(nonce, key.jwk)
    talk("attest/no-cookie", "POST", "/kbs/v0/attest", attestation(nonce, key))
    talk("attest/unknown-cookie", "POST", "/kbs/v0/attest", attestation(nonce, key), cookie=NOBODY)
    talk("attest/not-json", "POST", "/kbs/v0/attest", b"x", cookie=cookie)
    talk("attest/empty-object", "POST", "/kbs/v0/attest", {}, cookie=cookie)
    talk.attest("attest/wrong-nonce", (cookie, "A" * 43 + "="), key)
    talk.attest("attest/bad-report-data", session, key, report=b64(bytes(48)))
    talk.attest("attest/zero-padded-report-data", session, key, report=b64(right + bytes(16)))
    talk.attest("attest/hex-report-data", session, key, report=right.hex())
    talk.attest("attest/no-svn", session, key, evidence={"report_data": b64(right)})
    talk.attest("attest/svn-number", session, key, svn=1)
    talk.attest("attest/empty-evidence", session, key, evidence={})
    talk.attest("attest/report-data-without-additional", session, key, report=b64(report_data(nonce, key.jwk, None)),
                no_init_data=True)
    talk.attest("attest/sha256-report-data", session, key, report=b64(report_data(nonce, key.jwk, algorithm="sha256")))
    first = talk.attest("attest/good-after-failures", session, key)
    again = talk.attest("attest/re-attest-garbage-evidence", session, key, report=b64(bytes(32)))
    assert again.json() == first.json()
    talk("attest/re-attest-empty-object", "POST", "/kbs/v0/attest", {}, cookie=cookie)
    session = talk.auth("attest/re-attest-empty-object")
    talk.attest("attest/init-data-key-missing", session, key, no_init_data=True)
    session = talk.auth("attest/init-data-key-missing")
    talk.attest("attest/extra-field-svn7", session, key,
                evidence={"svn": "7", "report_data": b64(report_data(session[1], key.jwk)), "foo": {"x": 1}})
    talk.done(*GROUPS["attest"])


@ALL
def test_token_and_stock_resource_policy(talk: Talk) -> None:
    key = Key()
    talk.handshake("token/sample", key)
    cookie, answer = talk.handshake("default-policy/sample", key)
    talk("default-policy/get", "GET", RESOURCE, cookie=cookie)
    talk("default-policy/get-missing", "GET", "/kbs/v0/resource/default/kbsres1/nokey", cookie=cookie)
    talk("default-policy/get-bearer", "GET", RESOURCE, bearer=answer.json()["token"])
    talk.done(*GROUPS["token"])


@ALL
def test_admin(talk: Talk) -> None:
    admin = talk.client.admin
    _, answer = talk.attested(Key())
    now = int(time.time())

    def put(name: str, bearer: str, path: str = "default/kbsres1/key1", body: bytes = SECRET) -> None:
        talk(f"admin/set-resource/{name}", "POST", f"/kbs/v0/resource/{path}", body, bearer=bearer)

    put("no-jwt", "")
    put("other-key", admin(ed25519.Ed25519PrivateKey.generate()))
    put("expired", admin(iat=1000, exp=2000))
    put("expired-30s", admin(exp=now - 30))
    put("no-exp", admin(exp=None))
    put("nbf-future", admin(nbf=now + 3600))
    put("aud-iss", admin(aud=["x"], iss="y", role="admin"))
    put("aud-string", admin(aud="x"))
    put("role-other", admin(role="nobody"))
    put("garbage", "abc")
    put("attestation-token", answer.json()["token"])
    put("ok", admin())
    put("overwrite", admin())
    put("empty-body", admin(), "default/kbsres1/empty", b"")
    put("binary", admin(), "default/kbsres1/bin", bytes(range(256)))
    put("two-segments", admin(), "kbsres1/key1", b"x")
    put("four-segments", admin(), "a/b/c/d", b"x")
    put("leading-dot", admin(), "default/kbsres1/.key", b"x")
    put("space", admin(), "default/kbsres1/a%20b", b"x")
    put("2MiB", admin(), "default/kbsres1/big", bytes(2 * 1024 * 1024))
    put("2MiB+1", admin(), "default/kbsres1/big", bytes(2 * 1024 * 1024 + 1))
    talk("admin/delete-resource", "DELETE", "/kbs/v0/resource/default/kbsres1/empty", bearer=admin())
    talk("admin/put-resource", "PUT", RESOURCE, b"x", bearer=admin())
    talk("admin/head-resource", "HEAD", RESOURCE)
    talk("admin/options-resource", "OPTIONS", RESOURCE)
    talk("admin/list-resources", "GET", "/kbs/v0/resource", bearer=admin())
    talk("admin/unknown-plugin", "GET", "/kbs/v0/foo/a/b/c", bearer=admin())
    talk("admin/unknown-plugin-post", "POST", "/kbs/v0/foo", bearer=admin())
    talk("admin/prefix-only", "GET", "/kbs/v0/", bearer=admin())
    talk("admin/wrong-prefix", "GET", "/foo")
    talk("admin/double-prefix", "GET", "/kbs/v0/kbs/v0/resource/a/b/c")
    talk("healthz", "GET", "/healthz")
    talk.done(*GROUPS["admin"])


@ALL
def test_resource_policy(talk: Talk) -> None:
    admin, key = talk.client.admin, Key()
    talk.resource()

    def policy(name: str, text: str, encoded: str = "", bearer: str | None = None) -> None:
        body = {"policy": encoded or b64url(text.encode())}
        talk(f"admin/set-resource-policy/{name}", "POST", "/kbs/v0/resource-policy", body,
             bearer=admin() if bearer is None else bearer)

    talk("admin/get-resource-policy/no-jwt", "GET", "/kbs/v0/resource-policy")
    talk("admin/get-resource-policy/initial", "GET", "/kbs/v0/resource-policy", bearer=admin())
    policy("no-jwt", "package policy\ndefault allow = true\n", bearer="")
    talk("admin/set-resource-policy/not-json", "POST", "/kbs/v0/resource-policy", b"x", bearer=admin())
    policy("std-base64-padded", "", b64(b"package policy\ndefault allow = true"))
    policy("bad-rego", "this is no policy")
    policy("rego-v0-body", policies.V0_BODY)
    cookie, _ = talk.handshake("bad-policy", key)
    talk("policy/v0-body/get", "GET", RESOURCE, cookie=cookie)
    for name in ("wrong-package", "no-allow", "allow-undefined", "allow-number", "deny-all", "allow-if-no-import", "data-plugin",
                 "data-string", "query"):
        policy(name, policies.RESOURCE[name])
        path = RESOURCE + ("?a=b" if name == "query" else "")
        answer = talk(f"policy/{name}/get", "GET", path, cookie=cookie)
        assert answer.status != 200 or key.decrypt(answer) == SECRET
        if name == "data-plugin":
            talk("policy/data-plugin/get-query", "GET", RESOURCE + "?a=b", cookie=cookie)
    policy("allow-all", ALLOW_ALL)
    talk("admin/get-resource-policy/allow-all", "GET", "/kbs/v0/resource-policy", bearer=admin())
    talk("admin/get-resource-policy/with-id", "GET", "/kbs/v0/resource-policy/default", bearer=admin())
    talk.done(*GROUPS["policy"])


@ALL
def test_allow_all(talk: Talk) -> None:
    key = Key()
    talk.resource()
    talk.resource("empty", b"")
    talk.resource("bin", bytes(range(256)))
    talk.resource_policy(ALLOW_ALL)
    cookie, attested = talk.attested(key)
    token = attested.json()["token"]
    secrets = {"get": SECRET, "get-percent-encoded": SECRET, "get-empty": b"", "get-binary": bytes(range(256))}
    for name, path in (
        ("get", "default/kbsres1/key1"), ("get-missing", "default/kbsres1/nokey"), ("get-missing-repo", "norepo/x/y"),
        ("get-two-segments", "kbsres1/key1"), ("get-one-segment", "key1"), ("get-no-segment", ""),
        ("get-four-segments", "a/b/c/d"), ("get-leading-dot", "default/kbsres1/.key"), ("get-space", "default/kbsres1/a%20b"),
        ("get-trailing-slash", "default/kbsres1/key1/"), ("get-double-slash", "/kbsres1/key1"),
        ("get-percent-encoded", "default/kbsres1/%6bey1"), ("get-traversal", "default/%2e%2e/key1"),
    ):
        answer = talk(f"allow-all/{name}", "GET", f"/kbs/v0/resource/{path}" if path else "/kbs/v0/resource", cookie=cookie)
        assert answer.status != 200 or key.decrypt(answer) == secrets[name]
    talk("allow-all/get-unknown-plugin", "GET", "/kbs/v0/nope/a/b/c", cookie=cookie)
    for name, path in (("get-empty", "empty"), ("get-binary", "bin")):
        answer = talk(f"allow-all/{name}", "GET", f"/kbs/v0/resource/default/kbsres1/{path}", cookie=cookie)
        assert answer.status != 200 or key.decrypt(answer) == secrets[name]
    talk("allow-all/get-bearer", "GET", RESOURCE, bearer=token)
    talk("allow-all/get-bearer-lowercase-scheme", "GET", RESOURCE, authorization=f"bearer {token}")
    head, body, signature = token.split(".")
    talk("allow-all/get-bearer-bad-signature", "GET", RESOURCE, bearer=f"{head}.{body}.{'A' * len(signature)}")
    none = b64url(b'{"typ":"JWT","alg":"none"}')
    talk("allow-all/get-bearer-alg-none", "GET", RESOURCE, bearer=f"{none}.{body}.")
    authed, _ = talk.auth("allow-all/get-bearer-alg-none")
    talk("allow-all/get-auth-only-cookie", "GET", RESOURCE, cookie=authed)
    talk("allow-all/get-auth-only-cookie+bearer", "GET", RESOURCE, cookie=authed, bearer=token)
    talk("allow-all/two-tokens-cookie-wins", "GET", RESOURCE, cookie=cookie, bearer="abc")
    for kind in ("EC521", "RSA256", "RSA15"):
        other = Key(kind)
        cookie, _ = talk.handshake(f"allow-all/{kind}", other)
        answer = talk(f"allow-all/{kind}/get", "GET", RESOURCE, cookie=cookie)
        assert answer.status != 200 or other.decrypt(answer) == SECRET
    talk.auth("allow-all/RSA15/get")
    talk.done(*GROUPS["allow-all"])


@ALL
def test_keys_of_the_tee(talk: Talk) -> None:
    key = Key()
    talk.resource()
    talk.resource_policy(ALLOW_ALL)
    session = talk.session()

    def attest(name: str, jwk: dict[str, Any]) -> None:
        talk.attest(f"jwk/{name}/attest", session, key, jwk=jwk)

    attest("alg-missing", {name: value for name, value in key.jwk.items() if name != "alg"})
    session = talk.auth("jwk/alg-missing/attest")
    for name, changed in (("alg-bad", {"alg": "ECDH-ES"}), ("crv-bad", {"crv": "P-384"})):
        attest(name, {**key.jwk, **changed})
        talk(f"jwk/{name}/get", "GET", RESOURCE, cookie=session[0])
        session = talk.auth(f"jwk/{name}/get")
    attest("extra-field", {**key.jwk, "kid": "k"})
    session = talk.auth("jwk/extra-field/attest")
    attest("kty-bad", {**key.jwk, "kty": "XX"})
    talk.done(*GROUPS["jwk"])


@ALL
def test_initdata(talk: Talk) -> None:
    key = Key()

    def document(algorithm: str = "sha256", version: str = "0.1.0", data: str = DATA) -> dict[str, str]:
        return {"format": "toml", "body": f'version = "{version}"\nalgorithm = "{algorithm}"\n{data}'}

    agent = "package agent_policy\ndefault CreateContainerRequest := true\n"
    for name, init_data in (
        ("vector", document()), ("format-json", {"format": "json", "body": "{}"}),
        ("bad-toml", {"format": "toml", "body": "not toml ["}), ("bad-version", document(version="9.9.9")),
        *((algorithm, document(algorithm)) for algorithm in ("sha-384", "SHA256", "sm3", "sha384")),
        ("bad-algorithm", document("md5")), ("no-data", document(data="")),
        ("bad-aa-toml", document(data='[data]\n"aa.toml" = "not [ toml"\n"other" = "x"\n')),
        ("policy-data", document(data=f'[data]\n"policy.rego" = \'\'\'\n{agent}policy_data := {{\n  "a": [1, 2]\n}}\n\'\'\'\n')),
        ("policy-nodata", document(data=f'[data]\n"policy.rego" = \'\'\'\n{agent}\'\'\'\n')),
        ("string", "abc"), ("extra-key", {**document(), "x": 1}),
    ):
        talk.handshake(f"initdata/{name}", key, init_data=init_data)
    talk.auth("initdata/extra-key/attest")
    talk.done(*GROUPS["initdata"])


@ALL
def test_device(talk: Talk) -> None:
    key = Key()

    def devices(report: bytes) -> str:
        return json.dumps({"sampledevice": {"svn": "2", "report_data": b64(report)}})

    session = talk.session()
    talk.attest("device/attest", session, key, additional=devices(report_data(session[1], key.jwk, None)))
    session = talk.auth("device/attest")
    talk.attest("device/bad", session, key, additional=devices(bytes(3)))
    talk.done(*GROUPS["device"])


def test_digest_of_the_reference() -> None:
    """The suite's own hashing, against the worked example of the protocol (trustee.md 1.5): else it would prove nothing."""
    jwk = {"kty": "EC", "crv": "P-256", "alg": "ECDH-ES+A256KW", "x": "cuRutQllhM0ShqBklzmKwoMCtKwmIdLq3f_efZHdh3c",
           "y": "mz8DT6EcL820LbqRfufOHedeFR75i5bD0OTyh6J5IPo"}
    assert b64(report_data("qSvKhISBUrvG2TXw9ofMUPZ+xJptNdzri1WYp26aJrk=", jwk)) == \
        "Fr1VY9QJYphKqf82agAA7hPet8Ci15knnTDJfhxNrGNjjRsiLdXuefYm1efYMjb5"


@pytest.mark.parametrize(("part", "value"), [
    ("status", 404), ("body", {"type": "https://github.com/confidential-containers/kbs/errors/TokenNotFound", "detail": "no"}),
    ("headers", {"content-length": "117", "content-type": "application/json"}),
])
def test_a_wrong_answer_is_noticed(talk: Talk, part: str, value: Any) -> None:
    """The comparison can fail: had the real server answered otherwise, the stand-in would not pass."""
    talk.recorded["get/no-session"][0]["answer"][part] = value
    with pytest.raises(AssertionError, match="get/no-session: answer"):
        talk("get/no-session", "GET", RESOURCE)


@ALL
def test_a_forgotten_exchange_is_noticed(talk: Talk) -> None:
    with pytest.raises(AssertionError, match=r"not carried out.*get/basic-auth"):
        talk.done(*GROUPS["get"])
