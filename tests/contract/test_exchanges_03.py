"""Every exchange recorded of the real KBS of product 0.3 (v0.11.0, protocol 0.1.1), carried out anew with live nonces and keys."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from tests.contract import policies
from tests.contract.client import AUTH, Answer, Key, attestation, b64, b64url, report_data
from tests.contract.groups import GROUPS_03
from tests.contract.server import Server
from tests.contract.sides import SIDES
from tests.contract.talk import ALLOW_ALL, RESOURCE, SECRET, Talk, matches

OLD = pytest.mark.parametrize("side", ["0.3"], indirect=True)


@pytest.fixture
def talk(server: Server) -> Talk:
    """A conversation with a fresh server that has a reference value file: without one nobody attests."""
    values(server, [])
    server.start()
    return server.talk()


NOBODY = "0" * 32
AUTH_03 = {**AUTH, "version": "0.1.1", "extra-params": {"supported-hash-algorithms": ["sha256", "sha384", "sha512"]}}
VALUE = {"name": "svn", "expiration": "2099-01-01T00:00:00Z", "hash-value": [{"alg": "sha256", "value": "1"}]}
CUSTOM = ('package policy\nimport rego.v1\ndefault executables := 33\nexecutables := 3 if "1" in data.reference.svn\n'
          'default hardware := 97\nhardware := 2 if "1" in data.reference.svn\n'
          'default configuration := 36\nconfiguration := 2 if "1" in data.reference.svn\n')


def test_every_recorded_exchange_belongs_to_one_group() -> None:
    for exchange in json.loads(SIDES["0.3"].file.read_text()):
        assert sum(matches(exchange["label"], patterns) for patterns in GROUPS_03.values()) == 1, exchange["label"]


def test_every_group_is_carried_out() -> None:
    for name in GROUPS_03:
        assert f'    talk.done(*GROUPS_03["{name}"])\n' in Path(__file__).read_text(), name


@OLD
def test_get_and_auth(talk: Talk) -> None:
    talk("get/no-session", "GET", RESOURCE)
    talk("get/unknown-cookie", "GET", RESOURCE, cookie=NOBODY)
    talk("get/bearer-garbage", "GET", RESOURCE, bearer="abc")
    talk("get/basic-auth", "GET", RESOURCE, authorization="Basic YTpi")

    def auth(name: str, body: Any, path: str = "auth", method: str = "POST") -> None:
        talk(f"auth/{name}", method, f"/kbs/v0/{path}", body)

    auth("ok", AUTH_03)
    auth("ok-extra-string", {**AUTH_03, "extra-params": ""})
    for version in ("0.0.0", "0.1.0", "0.1.1", "0.2.0", "0.4.0", "x"):
        auth(f"version-{version}", {**AUTH_03, "version": version})
    for tee in ("foo", "tdx", "azsnpvtpm", "aztdxvtpm", "az-snp-vtpm", "sev", "sampledevice", "tpm", "nvidia", "csv", "cca", "se",
                "hygondcu"):
        auth(f"tee-{tee}", {**AUTH_03, "tee": tee})
    auth("no-extra-params", {name: value for name, value in AUTH_03.items() if name != "extra-params"})
    auth("unknown-field", {**AUTH_03, "foo": 1})
    auth("not-json", b"hello")
    talk("auth/no-content-type", "POST", "/kbs/v0/auth", AUTH_03, json_type=False)
    auth("GET", b"", method="GET")
    auth("PUT", AUTH_03, method="PUT")
    auth("trailing-slash", AUTH_03, "auth/")
    auth("extra-segment", AUTH_03, "auth/foo/bar")
    talk.done(*GROUPS_03["get"])


@OLD
def test_attest(talk: Talk) -> None:
    key, attest = talk.side.new_key(), "/kbs/v0/attest"
    session = talk("attest/base-auth", "POST", "/kbs/v0/auth", AUTH_03).session()
    cookie, nonce = session
    right, message = report_data(nonce, key.jwk, None), talk.side.message(nonce, key)
    talk("attest/no-cookie", "POST", attest, message)
    talk("attest/unknown-cookie", "POST", attest, message, cookie=NOBODY)
    talk("attest/not-json", "POST", attest, b"x", cookie=cookie)
    talk("attest/empty-object", "POST", attest, {}, cookie=cookie)
    for name, report in (
        ("wrong-nonce", b64(report_data("A" * 43 + "=", key.jwk, None))), ("bad-report-data", b64(bytes(48))),
        ("zero-padded", b64(right + bytes(16))), ("hex", right.hex()), ("0.4.0-report-data", b64(report_data(nonce, key.jwk))),
        ("sha256", b64(report_data(nonce, key.jwk, None, "sha256"))),
    ):
        talk.attest(f"attest/{name}", session, key, report=report)
    talk.attest("attest/no-svn", session, key, evidence={"report_data": b64(right)})
    talk.attest("attest/svn-number", session, key, svn=1)
    talk.attest("attest/no-report-data", session, key, evidence={"svn": "1"})
    talk.attest("attest/evidence-as-string-0.1.0-form", session, key, evidence=json.dumps(message["tee-evidence"]))
    talk("attest/0.4.0-body", "POST", attest, attestation(nonce, key, report=b64(right)), cookie=cookie)
    talk("attest/unknown-members", "POST", attest, {**message, "init-data": None})
    first = talk.attest("attest/extra-jwk-member", session, key, jwk={**key.jwk, "kid": "k"}, report=b64(right))
    for name, body in (("good-after-failures", message), ("re-attest-garbage", {**message, "tee-evidence": {}})):
        assert talk(f"attest/{name}", "POST", attest, body, cookie=cookie).json() == first.json()
    talk("attest/re-attest-empty-object", "POST", attest, {}, cookie=cookie)
    session = talk.auth("attest/re-attest-empty-object")
    report = b64(report_data(session[1], key.jwk, None))
    talk.attest("attest/extra-members-svn7-init_data", session, key, evidence={
        "svn": "7", "report_data": report, "foo": {"x": 1}, "init_data": "AAAA", "launch_digest": "abcde"})
    cookie, _ = talk("device/auth", "POST", "/kbs/v0/auth", {**AUTH_03, "tee": "tdx"}).session()
    talk("device/auth", "POST", "/kbs/v0/auth", talk.side.auth, cookie=cookie)
    talk.done(*GROUPS_03["attest"])


@OLD
def test_token_and_stock_resource_policy(talk: Talk) -> None:
    key = talk.side.new_key()
    talk.handshake("token/sample", key)
    cookie, answer = talk.handshake("default-policy/sample", key)
    talk("default-policy/get", "GET", RESOURCE, cookie=cookie)
    talk("default-policy/get-missing", "GET", "/kbs/v0/resource/default/kbsres1/nokey", cookie=cookie)
    talk("default-policy/get-bearer", "GET", RESOURCE, bearer=answer.json()["token"])
    talk("default-policy/get-malformed", "GET", "/kbs/v0/resource/a/b/c/d", cookie=cookie)
    talk.done(*GROUPS_03["token"])


@OLD
def test_admin(talk: Talk) -> None:
    admin, now = talk.client.admin, int(time.time())
    _, answer = talk.attested(talk.side.new_key())

    def put(name: str, bearer: str = "", path: str = "default/kbsres1/key1", body: bytes = SECRET, authorization: str = "") -> None:
        talk(f"admin/{name}", "POST", f"/kbs/v0/resource/{path}", body, bearer=bearer, authorization=authorization)

    put("no-jwt")
    put("basic", authorization="Basic YTpi")
    put("other-key", admin(ed25519.Ed25519PrivateKey.generate()))
    put("expired", admin(iat=1000, exp=2000))
    put("expired-30s", admin(exp=now - 30))
    put("expired-14min", admin(iat=now - 4000, exp=now - 14 * 60))
    put("expired-16min", admin(iat=now - 4000, exp=now - 16 * 60))
    put("no-exp", admin(exp=None))
    put("no-iat-no-exp", admin(iat=None, exp=None))
    put("nbf-1h", admin(nbf=now + 3600))
    put("nbf-10min", admin(nbf=now + 600))
    put("iat-future-1h", admin(iat=now + 3600))
    put("aud-list", admin(aud=["x"], iss="y", role="admin"))
    put("aud-string", admin(aud="x"))
    put("role-other", admin(role="nobody"))
    put("exp-string", admin(exp="x"))
    put("garbage", "abc")
    put("attestation-token", answer.json().get("token", f"{b64url(b'{}')}.e30.AAAA"))
    put("lowercase-bearer", authorization=f"bearer {admin()}")
    put("ok", admin())
    put("overwrite", admin())
    put("empty-body", admin(), "default/kbsres1/empty", b"")
    put("binary", admin(), "default/kbsres1/bin", bytes(range(256)))
    put("two-segments", admin(), "kbsres1/two", b"two")
    put("one-segment", admin(), "one", b"x")
    put("four-segments", admin(), "a/b/c/d")
    put("leading-dot", admin(), "default/kbsres1/.key")
    put("space", admin(), "default/kbsres1/a%20b")
    for size in (262144, 262145, 2097152, 2097153):
        put(f"body-{size}", admin(), "default/kbsres1/big", bytes(size))
    talk("admin/delete", "DELETE", RESOURCE, bearer=admin())
    talk("admin/put", "PUT", RESOURCE, b"x", bearer=admin())
    talk("admin/head", "HEAD", RESOURCE)
    talk("admin/options", "OPTIONS", RESOURCE)
    talk("admin/list-resources", "GET", "/kbs/v0/resource", bearer=admin())
    talk("unknown-plugin-get", "GET", "/kbs/v0/foo/a/b/c")
    talk("unknown-plugin-post", "POST", "/kbs/v0/foo")
    talk("prefix-only", "GET", "/kbs/v0/")
    for name, path in (("root", ""), ("foo", "foo"), ("healthz", "healthz"), ("metrics", "metrics"),
                       ("double-prefix", "kbs/v0/kbs/v0/resource/a/b/c"), ("kbs-v1", "kbs/v1/auth")):
        talk(f"url/{name}", "GET", f"/{path}")
    talk("rv-rest/GET1", "GET", "/kbs/v0/reference-value", bearer=admin())
    talk("rv-rest/GET2", "GET", "/kbs/v0/reference-value/svn", bearer=admin())
    talk("rv-rest/POST1", "POST", "/kbs/v0/reference-value",
         {"version": "0.1.0", "type": "sample", "payload": b64(b'{"svn":["1"]}')}, bearer=admin())
    talk.done(*GROUPS_03["admin"])


@OLD
def test_anybody_may_set_the_attestation_policy(talk: Talk, server: Server) -> None:
    """The hole of 0.3 and 0.4: no token, garbage or another's, all replace the policy that decides about every guest."""
    key, stock = talk.side.new_key(), (Path(server.path("policies")) / "opa" / "default.rego").read_text()
    good = {"type": "rego", "policy_id": "default"}

    def put(name: str, members: dict[str, Any], text: str, bearer: str = "", encoded: str = "") -> None:
        body = {**members, "policy": encoded or b64url(text.encode())}
        talk(f"attpol/{name}", "POST", "/kbs/v0/attestation-policy", body, bearer=bearer)

    put("NO-JWT", good, policies.OLD_ALL)
    talk.handshake("attpol/after-NO-JWT", key)
    put("garbage-jwt", good, stock, "abc")
    put("with-jwt", good, stock, talk.client.admin())
    put("no-type", {"policy_id": "default"}, stock)
    put("type-foo", {**good, "type": "foo"}, stock)
    put("no-id", {}, stock)
    put("bad-id", {**good, "policy_id": "../x"}, stock)
    put("empty-id", {**good, "policy_id": ""}, stock)
    put("id-default_cpu", {**good, "policy_id": "default_cpu"}, policies.OLD_ALL)
    talk.handshake("attpol/after-default_cpu", key)
    put("std-padded", {"policy_id": "default"}, "", encoded=b64((stock + "#" * (4 - len(stock.encode()) % 3)).encode()))
    talk("attpol/not-json", "POST", "/kbs/v0/attestation-policy", b"x")
    put("bad-rego", good, "no policy")
    talk("attpol/get", "GET", "/kbs/v0/attestation-policy", bearer=talk.client.admin())
    for name, text in policies.OLD_ATTESTATION.items():
        put(f"set-{name}", good, text)
        talk.handshake(f"attpol/after-{name}", key)
    put("restore", good, stock)
    talk.done(*GROUPS_03["attpol"])


@OLD
def test_resource_policy(talk: Talk) -> None:
    admin, key = talk.client.admin, talk.side.new_key()
    talk.resource()
    talk.post("resource/kbsres1/two", b"two")

    def post(name: str, body: Any, bearer: str) -> None:
        talk(f"respol/{name}", "POST", "/kbs/v0/resource-policy", body, bearer=bearer)

    talk("respol/get-no-jwt", "GET", "/kbs/v0/resource-policy")
    talk("respol/get-initial", "GET", "/kbs/v0/resource-policy", bearer=admin())
    post("set-no-jwt", {"policy": b64url(b"package policy\ndefault allow = true\n")}, "")
    post("not-json", b"x", admin())
    post("no-policy-key", {}, admin())
    post("std-padded", {"policy": b64(b"package policy\ndefault allow = true")}, admin())
    post("bad-rego", {"policy": b64url(b"this is no policy")}, admin())
    cookie, _ = talk.handshake("respol/session", key)
    for name, text in policies.OLD_RESOURCE.items():
        post(f"set-{name}", {"policy": b64url(text.encode())}, admin())
        path = {"query": f"{RESOURCE}?a=b", "two-seg-path": "/kbs/v0/resource/kbsres1/two"}.get(name, RESOURCE)
        opened(key, talk(f"respol/{name}/get", "GET", path, cookie=cookie), b"two" if name == "two-seg-path" else SECRET)
    talk.done(*GROUPS_03["respol"])


@OLD
def test_allow_all(talk: Talk) -> None:
    admin, key = talk.client.admin, talk.side.new_key()
    talk.resource()
    talk.resource("empty", b"")
    talk.resource("bin", bytes(range(256)))
    talk.post("resource/kbsres1/two", b"two")
    cookie, attested = talk.attested(key)
    token = attested.json()["token"]
    talk("allow-all/set", "POST", "/kbs/v0/resource-policy", {"policy": b64url(ALLOW_ALL.encode())}, bearer=admin())
    talk("allow-all/get-policy", "GET", "/kbs/v0/resource-policy", bearer=admin())
    talk("allow-all/get-policy-with-segment", "GET", "/kbs/v0/resource-policy/default", bearer=admin())
    secrets = {"get-two-segments-other": b"two", "get-empty": b"", "get-bin": bytes(range(256))}
    for name, path in (
        ("get", "/default/kbsres1/key1"), ("get-missing", "/default/kbsres1/nokey"), ("get-missing-repo", "/norepo/x/y"),
        ("get-two-segments", "/kbsres1/key1"), ("get-two-segments-other", "/kbsres1/two"), ("get-one", "/key1"), ("get-none", ""),
        ("get-four", "/a/b/c/d"), ("get-leading-dot", "/default/kbsres1/.key"), ("get-space", "/default/kbsres1/a%20b"),
        ("get-trailing-slash", "/default/kbsres1/key1/"), ("get-double-slash", "//kbsres1/key1"),
        ("get-percent", "/default/kbsres1/%6bey1"), ("get-traversal", "/default/%2e%2e/key1"),
        ("get-quote", "/default/kbsres1/a%22b"), ("get-query", "/default/kbsres1/key1?x=1"), ("get-empty", "/default/kbsres1/empty"),
        ("get-bin", "/default/kbsres1/bin"),
    ):
        answer = talk(f"allow-all/{name}", "GET", f"/kbs/v0/resource{path}", cookie=cookie)
        opened(key, answer, secrets.get(name, SECRET))
    talk("allow-all/get-bearer", "GET", RESOURCE, bearer=token)
    talk("allow-all/bearer-lowercase", "GET", RESOURCE, authorization=f"bearer {token}")
    talk("allow-all/bearer-bad-signature", "GET", RESOURCE, bearer=f"{token.rpartition('.')[0]}.{'A' * 86}")
    talk("allow-all/cookie-wins-over-bad-bearer", "GET", RESOURCE, cookie=cookie, bearer="abc")
    authed, _ = talk.auth("allow-all/cookie-wins-over-bad-bearer")
    talk("allow-all/auth-only-cookie", "GET", RESOURCE, cookie=authed)
    opened(key, talk("allow-all/auth-only-cookie+bearer", "GET", RESOURCE, cookie=authed, bearer=token))
    talk.done(*GROUPS_03["allow-all"])


@OLD
def test_keys_of_the_tee(talk: Talk) -> None:
    """Only RSA1_5 opens; another key attests, and every GET fails."""
    talk.resource()
    talk.resource_policy(ALLOW_ALL)
    for label, kind in (("RSA15", "RSA15"), ("RSA256", "RSA256"), ("EC256", "EC"), ("EC521", "EC521")):
        key = Key(kind)
        cookie, _ = talk.handshake(f"key/{label}", key)
        opened(key, talk(f"key/{label}/get", "GET", RESOURCE, cookie=cookie))
    key = talk.side.new_key()
    session = talk.auth("key/EC521/get")

    def attest(name: str, jwk: dict[str, Any]) -> None:
        talk.attest(f"jwk/{name}/attest", session, key, jwk=jwk)

    attest("alg-missing", {name: value for name, value in key.jwk.items() if name != "alg"})
    session = talk.auth("jwk/alg-missing/attest")
    attest("alg-bad", {**key.jwk, "alg": "RSA-OAEP"})
    talk("jwk/alg-bad/get", "GET", RESOURCE, cookie=session[0])
    session = talk.auth("jwk/alg-bad/get")
    attest("kty-bad", {**key.jwk, "kty": "XX"})
    talk.done(*GROUPS_03["key"])


@OLD
def test_reference_values(talk: Talk, server: Server) -> None:
    key, svn = talk.side.new_key(), VALUE["hash-value"]
    talk.resource()
    talk("affirming/set", "POST", "/kbs/v0/resource-policy", {"policy": b64url(policies.AFFIRMING.encode())},
         bearer=talk.client.admin())

    def given(label: str, content: Any) -> str:
        values(server, content)
        return talk.handshake(label, key)[0]

    wrong, digest = [{"alg": "sha256", "value": "9"}], {**VALUE, "name": "launch_digest", "hash-value": [
        {"alg": "sha256", "value": "abcde"}]}
    given("rv/none", [])
    given("rv/svn", [VALUE])
    given("rv/svn-two-values", [{**VALUE, "hash-value": [*wrong, *svn]}])
    given("rv/svn-wrong", [{**VALUE, "hash-value": wrong}])
    given("rv/launch_digest", [digest])
    given("rv/svn+launch_digest", [VALUE, digest])
    cookie = given("affirming/stock-policy-all-rv", [VALUE, digest])
    talk("affirming/stock-policy/get", "GET", RESOURCE, cookie=cookie)
    Path(server.path("rv.json")).write_text(json.dumps([{**VALUE, "hash-value": wrong}]))
    talk.handshake("rv/in-place", key)
    given("rv/expired", [{**VALUE, "expiration": "2024-01-01T00:00:00Z"}])
    assert "Reference value of svn is expired." in server.log
    given("rv/with-version-0.1.0", [{**VALUE, "version": "0.1.0"}])
    given("rv/with-version-9", [{**VALUE, "version": "9"}])
    given("rv/value-form-v0.14", [{"name": "svn", "expiration": VALUE["expiration"], "value": ["1"]}])
    given("rv/value-number", [{**VALUE, "hash-value": [{"alg": "sha256", "value": 1}]}])
    given("rv/no-alg", [{**VALUE, "hash-value": [{"value": "1"}]}])
    given("rv/no-expiration", [{name: value for name, value in VALUE.items() if name != "expiration"}])
    given("rv/expiration-date-only", [{**VALUE, "expiration": "2099-01-01"}])
    given("rv/expiration-offset", [{**VALUE, "expiration": "2099-01-01T00:00:00+00:00"}])
    given("rv/extra-member", [{**VALUE, "foo": 1}])
    given("rv/duplicate-name", [VALUE, {**VALUE, "hash-value": wrong}])
    given("rv/object-not-list", {})
    given("rv/garbage", "garbage")
    given("rv/empty-file", "")
    given("rv/file-removed", None)
    (Path(server.path("policies")) / "opa" / "default.rego").write_text(CUSTOM)
    cookie = given("affirming/custom-policy", [VALUE])
    opened(key, talk("affirming/custom-policy/get", "GET", RESOURCE, cookie=cookie))
    talk.done(*GROUPS_03["rv"])


@OLD
def test_files_are_read_anew(talk: Talk, server: Server) -> None:
    key, policy = talk.side.new_key(), Path(server.path("policies")) / "opa" / "default.rego"
    secret, resource_policy, stock = server.path("repository/default/kbsres1/key1"), server.path("policy.rego"), policy.read_text()
    values(server, [VALUE])
    policy.write_text(CUSTOM)
    talk.resource()
    talk("reload/allow-all", "POST", "/kbs/v0/resource-policy", {"policy": b64url(ALLOW_ALL.encode())}, bearer=talk.client.admin())
    cookie, _ = talk.handshake("reload/session", key)

    def get(label: str, content: bytes = b"", path: str = RESOURCE) -> None:
        opened(key, talk(f"reload/{label}", "GET", path, cookie=cookie), content)

    def attest(label: str, text: str | None) -> None:
        replaced(str(policy), text)
        talk.handshake(f"reload/att policy {label}", key)

    get("v1", SECRET)
    replaced(secret, "v2")
    get("resource replaced", b"v2")
    replaced(f"{secret}new", "n")
    get("resource added", b"n", f"{RESOURCE}new")
    replaced(secret, None)
    get("resource removed")
    replaced(secret, "v3")
    get("resource back", b"v3")
    for label, text in (("deny", policies.RESOURCE["deny-all"]), ("allow", ALLOW_ALL), ("garbage", "garbage"), ("removed", None),
                        ("back", ALLOW_ALL)):
        replaced(resource_policy, text)
        get(f"policy file {label}", b"v3")
    attest("replaced", "package policy\nhardware := 2\n")
    policy.write_text("package policy\nhardware := 97\n")
    talk.handshake("reload/att policy in place", key)
    attest("garbage", "garbage")
    attest("removed", None)
    attest("back", stock)
    talk.done(*GROUPS_03["reload"])


@OLD
def test_missing_reference_values_fail_every_attestation(server: Server) -> None:
    """v0.11 makes no empty file: without the config map's no guest attests."""
    server.start()
    assert not Path(server.path("rv.json")).exists()
    assert server.talk().attested(server.side.new_key())[1].status == 401


def test_digest_of_the_reference() -> None:
    """The suite's own hashing, against the form of 0.2.0 and before (trustee.md 1.5)."""
    jwk = {"kty": "EC", "crv": "P-256", "alg": "ECDH-ES+A256KW", "x": "cuRutQllhM0ShqBklzmKwoMCtKwmIdLq3f_efZHdh3c",
           "y": "mz8DT6EcL820LbqRfufOHedeFR75i5bD0OTyh6J5IPo"}
    assert b64(report_data("qSvKhISBUrvG2TXw9ofMUPZ+xJptNdzri1WYp26aJrk=", jwk, None)) == \
        "5/FpBGxjMcPv5yOHo0r+iCSDOQ97tiJAmbbjJDdCgmaiuSRH1YU4ULW5OTF8IuQc"


def opened(key: Key, answer: Answer, secret: bytes = SECRET) -> None:
    """An answer that is no refusal holds the secret."""
    assert answer.status != 200 or key.decrypt(answer) == secret


def values(server: Server, content: Any) -> None:
    """The reference value file, replaced as the kubelet does; text as it is, None for no file."""
    replaced(server.path("rv.json"), content if content is None or isinstance(content, str) else json.dumps(content))


def replaced(file: str, text: str | None) -> None:
    path = Path(file)
    if text is None:
        path.unlink()
    else:
        path.with_name("new").write_text(text)
        path.with_name("new").rename(path)
