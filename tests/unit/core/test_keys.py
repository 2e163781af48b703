"""keys.py beside tests/unit/trust: the exact forms, what openssl says of them, hosts, and foreign keys."""

from __future__ import annotations

import base64
import datetime
import hashlib
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ansible_collections.confidential.containers.plugins.module_utils import keys
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

NOW = datetime.datetime(2026, 11, 24, tzinfo=datetime.timezone.utc)
HOST = "kbs.example.test"
#: The reference's test pair.
PRIVATE = ("-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIFWzMclxGq39PyjhYQ8I7q4I+b54Qkgq7qNt8k/Sbczz\n"
           "-----END PRIVATE KEY-----\n")
PUBLIC = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAyauOw0LBSH/Eh/xb+rNGIbrOfuHqi+eKqAH7x+X3dOo=\n-----END PUBLIC KEY-----\n"


def der(pem: str) -> bytes:
    return base64.b64decode("".join(line for line in pem.splitlines() if not line.startswith("-----")))


def test_ed25519_forms() -> None:
    private, public = keys.new_ed25519()
    assert (len(der(private)), len(der(public))) == (48, 44)
    assert der(private).hex().startswith("302e020100300506032b657004220420")
    assert der(public).hex().startswith("302a300506032b6570032100")
    assert "BEGIN PRIVATE KEY" in private
    assert "BEGIN PUBLIC KEY" in public
    assert keys.public_of(PRIVATE) == PUBLIC
    assert keys.fingerprint(PUBLIC) == "SHA256:" + base64.b64encode(hashlib.sha256(der(PUBLIC)).digest()).decode().rstrip("=")


def foreign_private_keys() -> dict[str, str]:
    key = ed25519.Ed25519PrivateKey.generate()
    raw = key.private_bytes(serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption())
    public = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    second = bytes.fromhex("3051020101300506032b657004220420") + raw + bytes.fromhex("812100") + public
    pem = serialization.Encoding.PEM
    return {
        "pkcs8 v2": f"-----BEGIN PRIVATE KEY-----\n{base64.b64encode(second).decode()}\n-----END PRIVATE KEY-----\n",
        "openssh": key.private_bytes(pem, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()).decode(),
        "encrypted": key.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")).decode(),
        "ec": ec.generate_private_key(ec.SECP256R1()).private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode(),
        "raw": raw.hex(), "empty": "", "cut": PRIVATE[:60],
    }


@pytest.mark.parametrize("form", ["pkcs8 v2", "openssh", "encrypted", "ec", "raw", "empty", "cut"])
def test_foreign_private_keys_are_refused(form: str) -> None:
    text = foreign_private_keys()[form]
    with pytest.raises(CocoError) as caught:
        keys.public_of(text)
    assert caught.value.todo
    for line in filter(None, text.splitlines()[1:-1]):
        assert line not in str(caught.value), "key material in an error"


@pytest.mark.parametrize("form", ["private", "certificate", "ec", "nonsense"])
def test_foreign_public_keys_are_refused(form: str) -> None:
    signer, certificate = keys.new_signer("s", 10, NOW)
    point = serialization.load_pem_private_key(signer.encode(), None).public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
    text = {"private": PRIVATE, "certificate": certificate, "ec": point, "nonsense": "nonsense"}[form]
    with pytest.raises(CocoError) as caught:
        keys.load_public(text)
    assert caught.value.todo
    assert PRIVATE.splitlines()[1] not in str(caught.value)


def test_extensions_that_strict_verifiers_want() -> None:
    ca_key, ca = keys.new_ca("CA", 100, NOW)
    _rest, leaf = keys.new_leaf(ca_key, ca, [HOST, "127.0.0.1"], 50, NOW)
    parent = x509.load_pem_x509_certificate(ca.encode()).extensions
    usage = parent.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.key_cert_sign
    assert parent.get_extension_for_class(x509.SubjectKeyIdentifier)
    own = x509.load_pem_x509_certificate(leaf.encode())
    assert isinstance(own.public_key(), ec.EllipticCurvePublicKey)
    assert list(own.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.SERVER_AUTH]
    names = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [HOST]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]


def test_openssl_agrees(tmp_path: Path) -> None:
    now = datetime.datetime.now(datetime.timezone.utc)
    ca_key, ca = keys.new_ca("CA", 100, now)
    _rest, leaf = keys.new_leaf(ca_key, ca, [HOST], 50, now)
    (tmp_path / "ca.pem").write_text(ca)
    (tmp_path / "leaf.pem").write_text(leaf)
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", str(tmp_path / "ca.pem")]
    good = subprocess.run([*command, "-verify_hostname", HOST, str(tmp_path / "leaf.pem")], capture_output=True, text=True,
                          check=False)
    assert good.returncode == 0, good.stdout + good.stderr
    bad = subprocess.run([*command, "-verify_hostname", "other.test", str(tmp_path / "leaf.pem")], capture_output=True,
                         check=False)
    assert bad.returncode != 0


def test_long_names_fit() -> None:
    ca_key, ca = keys.new_ca("C" * 80, 10, NOW)
    long = "kbs-service-trustee-operator-system.apps.a-very-long-cluster-name.example.test"
    _rest, leaf = keys.new_leaf(ca_key, ca, [long], 10, NOW)
    assert keys.check_certificate(leaf, ca, [long], NOW, renew_before_days=0) == []


@pytest.mark.parametrize(("name", "host", "good"), [
    (HOST, HOST, True), (HOST, HOST.upper(), True), ("*.apps.test", "kbs.apps.test", True),
    ("*.apps.test", "a.b.apps.test", False),
    ("*.apps.test", "apps.test", False), (HOST, "10.0.0.1", False), ("10.0.0.1", "10.0.0.1", True),
])
def test_hosts(name: str, host: str, good: bool) -> None:
    ca_key, ca = keys.new_ca("CA", 100, NOW)
    _rest, leaf = keys.new_leaf(ca_key, ca, [name], 50, NOW)
    assert keys.covers(keys.load_certificate(leaf), host) is good


def test_authority_as_server() -> None:
    _rest, ca = keys.new_ca(HOST, 100, NOW)
    assert {finding["code"] for finding in keys.check_certificate(ca, ca, [HOST], NOW)} == {"host", "ca-as-server"}
    assert not keys.is_leaf(ca)


def test_self_signed_server_is_no_authority() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(7)
        .not_valid_before(NOW).not_valid_after(NOW + datetime.timedelta(days=90))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False).sign(key, hashes.SHA256())
    ).public_bytes(serialization.Encoding.PEM).decode()
    assert keys.check_certificate(certificate, certificate, [HOST], NOW) == []
    assert keys.is_leaf(certificate)


def test_times() -> None:
    ca_key, ca = keys.new_ca("CA", 100, NOW)
    _rest, leaf = keys.new_leaf(ca_key, ca, [HOST], 50, NOW)
    codes = {days: [f["code"] for f in keys.check_certificate(leaf, ca, [HOST], NOW + datetime.timedelta(days=days))]
             for days in (-1, 0, 19, 21, 50)}
    assert codes == {-1: ["not-yet-valid"], 0: [], 19: [], 21: ["expires-soon"], 50: ["expired"]}
    assert keys.expires(leaf).tzinfo is not None


def test_findings_hold_no_key_material() -> None:
    ca_key, ca = keys.new_ca("CA", 100, NOW)
    other, _rest = keys.new_leaf(ca_key, ca, [HOST], 50, NOW)
    _rest, leaf = keys.new_leaf(ca_key, ca, [HOST], 50, NOW)
    told = str(keys.check_certificate(leaf, ca, ["x.test"], NOW, other)) + str(keys.check_certificate(other, ca, [HOST], NOW))
    assert all(line not in told for line in other.splitlines()[1:-1])


@pytest.mark.parametrize("coordinate", ["x", "y"])
def test_short_coordinates(coordinate: str) -> None:
    number = 1
    while getattr(ec.derive_private_key(number, ec.SECP256R1()).public_key().public_numbers(), coordinate).bit_length() > 248:
        number += 1
    weak = ec.derive_private_key(number, ec.SECP256R1())
    assert not keys.usable_signer(weak.public_key())
    good = ec.generate_private_key(ec.SECP256R1())
    while not keys.usable_signer(good.public_key()):
        good = ec.generate_private_key(ec.SECP256R1())
    queue = [weak, good]
    key, certificate = keys.new_signer("signer", 90, NOW, lambda: queue.pop(0))
    assert queue == []
    assert keys.key_fits(key, certificate)
    assert keys.load_certificate(certificate).public_key() == good.public_key()


def test_signer_of_another_pair() -> None:
    key, _rest = keys.new_signer("a", 90, NOW)
    _rest, certificate = keys.new_signer("b", 90, NOW)
    assert [finding["code"] for finding in keys.check_signer(key, certificate, NOW)] == ["key"]
