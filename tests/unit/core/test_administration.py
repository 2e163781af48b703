"""administration.py: the administrator's token, messages, merging. Sources: trustee.md 1.1, 2.2, 2.3 and 5.4; trustee-verified.md 3.4."""

from __future__ import annotations

import base64
import datetime
import json

import pytest

from ansible_collections.confidential.containers.plugins.module_utils import administration, keys
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

KEY = """-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIFWzMclxGq39PyjhYQ8I7q4I+b54Qkgq7qNt8k/Sbczz
-----END PRIVATE KEY-----
"""
NOW = datetime.datetime(2026, 11, 26, tzinfo=datetime.timezone.utc)


def test_token() -> None:
    """Header and claims as every generation takes them: no aud, no nbf; signed by the key."""
    head, body, signature = administration.token(KEY, 1764000000).split(".")
    assert head == "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCJ9"  # trustee.md 2.2
    assert json.loads(administration.unb64url(body)) == {"role": "admin", "iat": 1764000000, "exp": 1764000600}
    keys.load_public(keys.public_of(KEY)).verify(administration.unb64url(signature), f"{head}.{body}".encode())


def test_signature_of_the_vector() -> None:
    """trustee.md 2.2: Ed25519 is deterministic."""
    signed = "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCJ9.eyJpYXQiOjE3NjQwMDAwMDAsImV4cCI6MTc2NDAwNzIwMH0"
    assert administration.b64url(keys.load_ed25519(KEY).sign(signed.encode())) == (
        "zhg95Qp-Nzoi0JWQsdhILqUfYPw5oXqjhXFI_Da3Gg8U3y10EB42_4BcbZy7mdU0sMR0wrgPQ8Xq2PVp19ccDQ")


def test_claims_may_be_others_but_not_the_times() -> None:
    body = administration.token(KEY, 1000, {"role": "editor", "iss": "me", "exp": 9}).split(".")[1]
    assert json.loads(administration.unb64url(body)) == {"role": "editor", "iss": "me", "iat": 1000, "exp": 1600}


@pytest.mark.parametrize("path", ["default/a/b", "default/my-secret/key.1", "_x/y/z"])
def test_paths(path: str) -> None:
    assert administration.check_path(path) == path


@pytest.mark.parametrize("path", ["a/b", "a/b/c/d", "default/.a/b", "default/a b/c", "default/../b", ""])
def test_paths_that_the_kbs_refuses(path: str) -> None:
    with pytest.raises(CocoError, match="three segments"):
        administration.check_path(path)


def test_messages() -> None:
    assert administration.policy_message("a?>") == {"policy": "YT8-"}
    assert administration.policy_message("x", "default_cpu") == {"type": "rego", "policy_id": "default_cpu", "policy": "eA"}
    message = administration.reference_message({"snp_pcr08": ["ab"]})
    assert (message["version"], message["type"]) == ("0.1.0", "sample")
    assert json.loads(base64.b64decode(message["payload"])) == {"snp_pcr08": ["ab"]}


@pytest.mark.parametrize(("held", "sent", "wanted", "keep_old", "after"), [
    (None, [], ["a"], False, ["a"]), (["x"], [], ["a"], False, ["x", "a"]), (["x", "old"], ["old"], ["a"], False, ["x", "a"]),
    (["x", "old"], ["old"], ["a"], True, ["x", "old", "a"]), (["x", "a"], ["a"], ["a"], False, ["x", "a"]),
    ("odd", [], ["a"], False, ["a"]),
    (["old"], ["old"], [], False, []),
])
def test_merged(held: object, sent: list[str], wanted: list[str], keep_old: bool, after: list[str]) -> None:
    assert administration.merged(held, sent, wanted, keep_old) == after


def test_what_is_remembered_of_a_roll_over() -> None:
    assert administration.remembered({"a": ["1"], "b": ["2"]}, {"a": ["3", "1"]}) == {"a": ["3", "1"], "b": ["2"]}
    assert administration.remembered({"a": ["1"]}, {"a": ["3"]}) == {"a": ["3", "1"]}


def test_digests_reveal_nothing_without_the_key() -> None:
    other, _public = keys.new_ed25519()
    one = administration.fingerprint(KEY, "resource a/b/c", b"secret")
    assert one == administration.fingerprint(KEY, "resource a/b/c", b"secret")
    assert len({one, administration.fingerprint(KEY, "resource a/b/d", b"secret"),
                administration.fingerprint(other, "resource a/b/c", b"secret"),
                administration.fingerprint(KEY, "resource a/b/c", b"secret2")}) == 4


def test_the_verification_value_belongs_to_key_kbs_and_path() -> None:
    other, _public = keys.new_ed25519()
    value = administration.verification_value(KEY, "https://kbs/", "a/b/c")
    assert value == administration.verification_value(KEY, "https://kbs", "a/b/c")
    assert len(value) == 43
    assert value not in (administration.verification_value(other, "https://kbs", "a/b/c"),
                         administration.verification_value(KEY, "https://other", "a/b/c"),
                         administration.verification_value(KEY, "https://kbs", "a/b/d"))


@pytest.mark.parametrize("data", [b"[]", b"no json", b'{"https://kbs": 7}', b'{"https://kbs": {"digests": 7}}'])
def test_a_memory_that_is_something_else(data: bytes) -> None:
    with pytest.raises(CocoError, match="Remove the file"):
        administration.read_memory(data, "https://kbs")


def test_the_authority_of_a_kbs() -> None:
    key, pem = keys.new_ca("kbs", 100, NOW)
    leaf = keys.new_leaf(key, pem, ["kbs.example.com"], 90, NOW)[1]
    later = datetime.timedelta(days=90)

    def codes(text: str, now: datetime.datetime) -> list[tuple[str, str]]:
        return [(item["severity"], item["code"]) for item in administration.check_authority(text, now)]

    assert codes("", NOW) == []
    assert codes(pem, NOW) == []
    assert codes(pem + pem, NOW + later) == [("warning", "kbs-ca-expires")] * 2
    assert codes(pem, NOW + 2 * later) == [("error", "kbs-ca-expired")]
    assert codes(leaf, NOW) == [("error", "kbs-ca-leaf")]
    assert codes("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", NOW) == [("error", "kbs-ca")]
