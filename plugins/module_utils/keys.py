# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys and certificates of the KBS: made, read and checked as bytes. Pure (``cryptography`` computes, nothing is stored).

Sources: the PEM forms that every KBS release accepts (Ed25519: PKCS#8 v1 of 48 bytes, SPKI of 44), RFC 5280 for what strict
verifiers want, and the defect of KBS releases up to 1.1 that refuse a signer with a short coordinate.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import ipaddress
from collections.abc import Callable
from typing import Any

try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
    MISSING = ""
except ImportError as missing:
    MISSING = str(missing)

from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError, require

Finding = dict[str, str]
PRIVATE_DER, PUBLIC_DER = 48, 44


def check_library() -> None:
    """Raise :class:`CocoError` where ``cryptography`` is not installed."""
    require("cryptography", MISSING)


def _finding(severity: str, code: str, message: str, hint: str) -> Finding:
    return {"severity": severity, "code": code, "message": message, "hint": hint}


def _private_pem(key: Any) -> str:
    text: bytes = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return text.decode()


def _public_pem(key: Any) -> str:
    text: bytes = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return text.decode()


# The administrator's key --------------------------------------------------------------------------------------------

def new_ed25519() -> tuple[str, str]:
    """A new administrator's key pair: (private PEM, public PEM)."""
    key = ed25519.Ed25519PrivateKey.generate()
    return _private_pem(key), _public_pem(key.public_key())


def load_ed25519(private_pem: str) -> ed25519.Ed25519PrivateKey:
    """The private key of a PEM text; :class:`CocoError` for any other form than the KBS's clients write."""
    what = "The administrator's private key cannot be used"
    try:
        key = serialization.load_pem_private_key(private_pem.encode(), None)
    except (ValueError, TypeError) as error:
        raise CocoError(what, "it is no PEM private key without a passphrase, or it is cut short",
                        "Restore it from a backup, or rotate the pair (state rotated).") from error
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise CocoError(what, f"it is a {type(key).__name__}, not an Ed25519 key",
                        "Give an Ed25519 key: openssl genpkey -algorithm ed25519.")
    der = key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    if len(der) != PRIVATE_DER:
        raise CocoError(what, f"its DER form has {len(der)} bytes, not {PRIVATE_DER}", "Make a new pair (state rotated).")
    return key


def seed(private_pem: str) -> bytes:
    """The 32 bytes that an administrator's private key is made of."""
    raw: bytes = load_ed25519(private_pem).private_bytes(serialization.Encoding.Raw, serialization.PrivateFormat.Raw,
                                                         serialization.NoEncryption())
    return raw


def public_of(private_pem: str) -> str:
    """The public PEM that belongs to an administrator's private PEM."""
    return _public_pem(load_ed25519(private_pem).public_key())


def load_public(public_pem: str) -> ed25519.Ed25519PublicKey:
    """The public key of a PEM text; :class:`CocoError` for any other form than every KBS release accepts."""
    what = "The administrator's public key cannot be used"
    try:
        key = serialization.load_pem_public_key(public_pem.encode())
    except (ValueError, TypeError) as error:
        raise CocoError(what, "it is no PEM public key", "The Secret must hold 'BEGIN PUBLIC KEY', not a certificate.") from error
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise CocoError(what, f"it is a {type(key).__name__}, not an Ed25519 key", "Rotate the pair (state rotated).")
    return key


def fingerprint(public_pem: str) -> str:
    """``SHA256:<base64>`` over the public key's DER form."""
    der = load_public(public_pem).public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return "SHA256:" + base64.b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()


def same_public(first: str, second: str) -> bool:
    """Do two PEM texts carry the same administrator's public key?"""
    return fingerprint(first) == fingerprint(second)


def new_ssh_public_key() -> str:
    """The public half (OpenSSH, RSA) of a pair whose private half is thrown away here: nobody can log in with it.

    The Azure cloud-api-adaptor up to OSC 1.10 starts no virtual machine without such a file.
    """
    check_library()
    public = rsa.generate_private_key(65537, 3072).public_key()
    text: bytes = public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return text.decode() + " thrown-away\n"


# Certificates -------------------------------------------------------------------------------------------------------

def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _builder(subject: str, issuer: x509.Name, public: Any, days: int, now: datetime.datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder().subject_name(_name(subject)).issuer_name(issuer).public_key(public)
        .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _certificate_pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def new_ca(name: str, days: int, now: datetime.datetime) -> tuple[str, str]:
    """A certificate authority: (private PEM, certificate PEM); EC P-256."""
    key = ec.generate_private_key(ec.SECP256R1())
    usage = x509.KeyUsage(digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
                          key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False)
    certificate = (
        _builder(name, _name(name), key.public_key(), days, now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True).add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    return _private_pem(key), _certificate_pem(certificate)


def cross_certificate(old_key_pem: str, old_pem: str, new_pem: str, now: datetime.datetime) -> str:
    """The new authority's key, certified by the old one for as long as that lives: who trusts the old authority then also
    believes certificates of the new one. (RFC 5280 3.2; the old authority allows one authority below it.)"""
    old_key, old, new = load_ec(old_key_pem, "The key of the certificate authority"), load_certificate(old_pem), load_certificate(new_pem)
    usage = x509.KeyUsage(digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
                          key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False)
    certificate = (
        x509.CertificateBuilder().subject_name(new.subject).issuer_name(old.subject).public_key(new.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(min(old.not_valid_after_utc, new.not_valid_after_utc))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(new.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(old_key.public_key()), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True).add_extension(usage, critical=True)
        .sign(old_key, hashes.SHA256())
    )
    return _certificate_pem(certificate)


def new_leaf(ca_key_pem: str, ca_pem: str, hosts: list[str], days: int, now: datetime.datetime) -> tuple[str, str]:
    """A server's certificate for ``hosts`` (the first is its common name): (private PEM, certificate PEM)."""
    ca_key, ca = load_ec(ca_key_pem, "The key of the certificate authority"), load_certificate(ca_pem)
    key = ec.generate_private_key(ec.SECP256R1())
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    certificate = (
        _builder(hosts[0], ca.subject, key.public_key(), days, now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([_alternative(host) for host in hosts]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(authority, critical=False).sign(ca_key, hashes.SHA256())
    )
    return _private_pem(key), _certificate_pem(certificate)


def usable_signer(public: ec.EllipticCurvePublicKey) -> bool:
    """Is a token signer usable by every KBS release? (A coordinate beginning with a zero byte makes every GET fail.)"""
    numbers = public.public_numbers()
    return numbers.x.bit_length() > 248 and numbers.y.bit_length() > 248


def _generate() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def new_signer(name: str, days: int, now: datetime.datetime,
               generate: Callable[[], ec.EllipticCurvePrivateKey] = _generate) -> tuple[str, str]:
    """A token signer: (private PEM, self-issued certificate PEM)."""
    key = generate()
    while not usable_signer(key.public_key()):
        key = generate()
    certificate = (
        _builder(name, _name(name), key.public_key(), days, now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(key, hashes.SHA256())
    )
    return _private_pem(key), _certificate_pem(certificate)


def load_ec(private_pem: str, what: str) -> ec.EllipticCurvePrivateKey:
    """A P-256 private key; :class:`CocoError` naming ``what``."""
    try:
        key = serialization.load_pem_private_key(private_pem.encode(), None)
    except (ValueError, TypeError) as error:
        raise CocoError(f"{what} cannot be used", "it is no PEM private key without a passphrase, or it is cut short",
                        "Restore it from a backup, or give another one.") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CocoError(f"{what} cannot be used", f"it is a {type(key).__name__}, not an EC key on P-256",
                        "Give an EC P-256 key in PKCS#8.")
    return key


def load_certificate(pem: str) -> x509.Certificate:
    """The first certificate of a PEM text."""
    try:
        return x509.load_pem_x509_certificates(pem.encode())[0]
    except (ValueError, IndexError) as error:
        raise CocoError("A certificate cannot be read", "it is no PEM certificate, or it is cut short",
                        "Give the whole text from BEGIN CERTIFICATE to END CERTIFICATE.") from error


def expires(pem: str) -> datetime.datetime:
    """When the first certificate of a PEM text ends (UTC)."""
    return load_certificate(pem).not_valid_after_utc


def key_fits(private_pem: str, certificate_pem: str) -> bool:
    """Is this the private key of that certificate?"""
    try:
        key = serialization.load_pem_private_key(private_pem.encode(), None)
    except (ValueError, TypeError):
        return False
    return _public_pem(key.public_key()) == _public_pem(load_certificate(certificate_pem).public_key())


def same_certificate(first: str, second: str) -> bool:
    """Do two PEM texts begin with the same certificate?"""
    return load_certificate(first).fingerprint(hashes.SHA256()) == load_certificate(second).fingerprint(hashes.SHA256())


def covers(certificate: x509.Certificate, host: str) -> bool:
    """Does the certificate's subjectAltName name the host (one wildcard label allowed)?"""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    try:
        return ipaddress.ip_address(host) in names.get_values_for_type(x509.IPAddress)
    except ValueError:
        pass
    for name in names.get_values_for_type(x509.DNSName):
        wild = name.startswith("*.") and host.partition(".")[2].lower() == name[2:].lower()
        if wild or name.lower() == host.lower():
            return True
    return False


def chains(pem: str, ca_pem: str) -> bool:
    """Does the first certificate of a PEM text lead to an authority of ``ca_pem``, by way of those that follow it?"""
    authorities = x509.load_pem_x509_certificates(ca_pem.encode())
    current, *between = x509.load_pem_x509_certificates(pem.encode())
    for following in [*between, None]:
        if any(_issued(current, authority) for authority in authorities):
            return True
        if following is None or not _issued(current, following):
            return False
        current = following
    return False


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def check_certificate(pem: str, ca_pem: str | None, hosts: list[str], now: datetime.datetime, key_pem: str | None = None,
                      renew_before_days: int = 30) -> list[Finding]:
    """What is wrong with a server's certificate, or soon will be."""
    try:
        certificate = load_certificate(pem)
    except CocoError as error:
        return [_finding("error", "unreadable", f"{error.what}: {error.seen}", error.todo)]
    found: list[Finding] = []
    end = certificate.not_valid_after_utc
    if end <= now:
        found.append(_finding("error", "expired", f"the certificate expired on {end:%Y-%m-%d}", "Renew it."))
    elif end <= now + datetime.timedelta(days=renew_before_days):
        found.append(_finding("warning", "expires-soon", f"the certificate expires on {end:%Y-%m-%d}", "Renew it."))
    if certificate.not_valid_before_utc > now:
        found.append(_finding("error", "not-yet-valid", f"the certificate is valid from {certificate.not_valid_before_utc}",
                              "Check the clocks, or wait."))
    for host in hosts:
        if not covers(certificate, host):
            found.append(_finding("error", "host", f"the certificate does not name the host {host}",
                                  "Give a certificate whose subjectAltName holds it."))
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        if constraints.ca and certificate.issuer == certificate.subject:
            found.append(_finding("error", "ca-as-server", "a certificate authority is used as the server's certificate",
                                  "Guests refuse that: give a certificate with CA:false, signed by it."))
    except x509.ExtensionNotFound:
        pass
    if ca_pem and not chains(pem, ca_pem):
        found.append(_finding("error", "issuer", "the certificate is not signed by the given authority",
                              "Give the authority that signed it, and any certificates between them after the server's own."))
    if key_pem and not key_fits(key_pem, pem):
        found.append(_finding("error", "key", "the private key is not that of the certificate", "Give the pair that belongs "
                              "together."))
    return found


def check_signer(key_pem: str | None, certificate_pem: str, now: datetime.datetime, renew_before_days: int = 30) -> list[Finding]:
    """What is wrong with a token signer."""
    certificate = load_certificate(certificate_pem)
    public = certificate.public_key()
    found = []
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
        return [_finding("error", "signer-type", "the token signer is no EC key on P-256", "Give an EC P-256 key.")]
    if not usable_signer(public):
        found.append(_finding("error", "signer-zero", "a coordinate of the token signer begins with a zero byte",
                              "Make another key: with this one every request for a resource fails."))
    if certificate.not_valid_after_utc <= now + datetime.timedelta(days=renew_before_days):
        found.append(_finding("warning", "expires-soon", f"the signer's certificate ends on {certificate.not_valid_after_utc:%Y-%m-%d}",
                              "Renew it."))
    if key_pem and not key_fits(key_pem, certificate_pem):
        found.append(_finding("error", "key", "the signer's key is not that of its certificate", "Give the pair."))
    return found


def is_leaf(pem: str) -> bool:
    """Is it a server's certificate rather than an authority's?"""
    try:
        return not load_certificate(pem).extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return True
