"""Parts of lab-kbs that cannot be reached from outside, or not in a test's time."""

from __future__ import annotations

import datetime
import json
import time
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from lab.kbs import admin, appraisal, fields, rvps, sessions, tokens, wire
from lab.kbs.access import pointer
from lab.kbs.errors import Refused, StartError
from tests.contract.server import certificate, private_pem, signer_key


def test_sessions_end() -> None:
    kept = sessions.Sessions(minutes=5)
    session = kept.open("sample")
    session.token = "token"
    assert kept.token(session.id) == "token"
    session.expires = time.time() - 1
    assert kept.token(session.id) is None
    with pytest.raises(Refused, match=r"session expired\."):
        kept.get(session.id)
    with pytest.raises(Refused, match="No cookie found"):
        kept.get("another")


@pytest.mark.parametrize("changes", [{"exp": 1000}, {"nbf": 10_000}, {"iat": 10_000}, {"exp": "soon"}, {"exp": True}])
def test_times_of_administrators(changes: dict[str, Any]) -> None:
    key = ed25519.Ed25519PrivateKey.generate()

    def signed(**told: Any) -> str:
        text = ".".join(wire.b64url(json.dumps(part).encode()) for part in ({"alg": "EdDSA"}, told))
        return f"{text}.{wire.b64url(key.sign(text.encode()))}"

    admin.verify(signed(iat=5000, exp=5000, nbf=5000), key.public_key(), now=5000 + 899)
    with pytest.raises(admin.AdminError):
        admin.verify(signed(**changes), key.public_key(), now=5000)


def test_admin_key_must_be_of_the_one_form() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    public = key.public_key()
    admin.public_key(public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    for other in (private_pem(key), public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH),
                  private_pem(signer_key())):
        with pytest.raises(ValueError):
            admin.public_key(other)


def test_signer_with_a_short_coordinate_never_verifies() -> None:
    """1 key in 128: the header's coordinate is 31 bytes, and every GET of the real server fails."""
    while True:
        key = ec.generate_private_key(ec.SECP256R1())
        if key.public_key().public_numbers().x.bit_length() <= 248:
            break
    token = tokens.Signer(key).sign({"exp": int(time.time()) + 60})
    with pytest.raises(tokens.TokenError, match="InvalidSignature"):
        tokens.Verifier(insecure=True).verify(token)


def test_signer_of_another_curve_cannot_sign() -> None:
    with pytest.raises(tokens.TokenError, match="P-256"):
        tokens.Signer(ec.generate_private_key(ec.SECP384R1())).sign({})


def test_key_set() -> None:
    key = signer_key()
    numbers = key.public_key().public_numbers()
    jwk = {"kid": "a", "alg": "ES256", "kty": "EC", "crv": "P-256", "x": wire.b64url(numbers.x.to_bytes(32, "big")),
           "y": wire.b64url(numbers.y.to_bytes(32, "big"))}
    token = tokens.Signer(key).sign({"exp": int(time.time()) + 60})
    with pytest.raises(tokens.TokenError, match="trusted cert is empty"):
        tokens.Verifier(key_set=[jwk]).verify(token)  # a header key is never looked up in the set


@pytest.mark.parametrize(("value", "tier"), [
    (-128, 3), (-97, 3), (-96, 2), (-33, 2), (-32, 1), (-2, 1), (-1, 0), (0, 0), (1, 0), (2, 1), (31, 1), (32, 2), (95, 2),
    (96, 3), (127, 3)])
def test_tiers(value: int, tier: int) -> None:
    assert appraisal.tier(value) == tier


def test_twelve_months_from_a_leap_day() -> None:
    assert rvps.expires(datetime.datetime(2028, 2, 29, 1, 2, 3)) == "2029-02-28T01:02:03Z"


@pytest.mark.parametrize("text", ["YQ==", "YR", "Y", "Y+", "Y Q", "é"])
def test_base64url_is_strict(text: str) -> None:
    with pytest.raises(ValueError):
        wire.unb64url(text)


@pytest.mark.parametrize(("address", "good"), [
    ("0.0.0.0:8080", True), ("[::]:8080", True), ("::1:8080", False), ("[127.0.0.1]:1", False), ("kbs:8080", False),
    ("127.0.0.1", False), ("127.0.0.1:70000", False)])
def test_socket_addresses(address: str, good: bool) -> None:
    table = fields.Table({"sockets": [address]})
    if good:
        assert table.sockets("sockets", "") == [address]
    else:
        with pytest.raises(StartError, match="invalid socket address syntax"):
            table.sockets("sockets", "")


def test_json_pointers() -> None:
    assert pointer({"a/b": {"~": 1}}, "/a~1b/~0") == 1
    assert pointer({"a": [1]}, "/a/0") is None


def test_no_certificate_is_a_ca_by_accident() -> None:
    """A leaf that is trusted by itself is no root: the chain must end in a self-signed certificate."""
    root, leaf = signer_key(), signer_key()
    trusted = x509.load_pem_x509_certificate(certificate("leaf", leaf, ("root", root)))
    token = tokens.Signer(leaf, [trusted]).sign({"exp": int(time.time()) + 60})
    with pytest.raises(tokens.TokenError, match="trust anchor"):
        tokens.Verifier(trusted=[trusted]).verify(token)
