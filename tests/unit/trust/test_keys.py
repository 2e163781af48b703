"""keys.py: what is made is accepted by its own checks, and every fault is found."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from ansible_collections.confidential.containers.plugins.module_utils import keys
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

NOW = datetime.datetime(2026, 11, 24, tzinfo=datetime.timezone.utc)
HOST = "kbs.example.test"


def codes(findings: list[dict[str, str]]) -> set[str]:
    return {finding["code"] for finding in findings}


def test_ed25519_pair() -> None:
    private, public = keys.new_ed25519()
    assert keys.public_of(private) == public
    assert keys.same_public(public, public.strip())
    assert not keys.same_public(public, keys.new_ed25519()[1])
    assert keys.fingerprint(public).startswith("SHA256:")


def test_errors_hold_no_key_material() -> None:
    private, _rest = keys.new_ed25519()
    body = private.splitlines()[1]
    with pytest.raises(CocoError) as caught:
        keys.public_of(private.replace("-----END", "----END"))
    assert body not in str(caught.value)


def test_leaf_of_ca() -> None:
    ca_key, ca = keys.new_ca("CA", 100, NOW)
    key, leaf = keys.new_leaf(ca_key, ca, [HOST, "10.0.0.1"], 50, NOW)
    assert keys.check_certificate(leaf, ca, [HOST, "10.0.0.1"], NOW, key) == []
    assert keys.expires(leaf) == NOW + datetime.timedelta(days=50)
    extensions = x509.load_pem_x509_certificate(leaf.encode()).extensions
    parent = x509.load_pem_x509_certificate(ca.encode()).extensions
    assert extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier == \
        parent.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    constraints = parent.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value.ca


@pytest.mark.parametrize(("days", "severity"), [(49, "warning"), (51, "error"), (-1, "error")])
def test_time_is_judged(days: int, severity: str) -> None:
    ca_key, ca = keys.new_ca("CA", 100, NOW)
    _rest, leaf = keys.new_leaf(ca_key, ca, [HOST], 50, NOW)
    found = keys.check_certificate(leaf, ca, [HOST], NOW + datetime.timedelta(days=days))
    assert [finding["severity"] for finding in found] == [severity]


def test_other_faults() -> None:
    ca_key, ca = keys.new_ca("CA", 100, NOW)
    _rest, other_ca = keys.new_ca("CA", 100, NOW)
    _rest, leaf = keys.new_leaf(ca_key, ca, [HOST], 90, NOW)
    assert "host" in codes(keys.check_certificate(leaf, ca, ["other.test"], NOW))
    assert "issuer" in codes(keys.check_certificate(leaf, other_ca, [HOST], NOW))
    assert "key" in codes(keys.check_certificate(leaf, ca, [HOST], NOW, ca_key))
    assert codes(keys.check_certificate(leaf[:200], ca, [HOST], NOW)) == {"unreadable"}


def test_signer_never_begins_with_a_zero_byte() -> None:
    made: list[Any] = []

    def zero_led() -> ec.EllipticCurvePrivateKey:
        number = 1
        while True:
            key = ec.derive_private_key(number, ec.SECP256R1())
            if key.public_key().public_numbers().x.bit_length() <= 248:
                return key
            number += 1

    def generate() -> ec.EllipticCurvePrivateKey:
        made.append(zero_led() if not made else ec.generate_private_key(ec.SECP256R1()))
        return made[-1]

    key, certificate = keys.new_signer("signer", 90, NOW, generate)
    assert len(made) >= 2
    assert "BEGIN PRIVATE KEY" in key
    assert keys.check_signer(key, certificate, NOW) == []
    assert keys.check_signer(None, certificate, NOW) == []
