"""A client of the KBS protocol, written from the specification alone: no import from lab/ or plugins/."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import ssl
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives import hashes, keywrap, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.contract.forms import unb64url

AUTH = {"version": "0.4.0", "tee": "sample",
        "extra-params": {"supported-hash-algorithms": ["sha256", "sha384", "sha512", "sm3"]}}


def b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]  # names as sent
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def session(self) -> tuple[str, str]:
        """(cookie, nonce) of a challenge."""
        found = next(value for name, value in self.headers.items() if name.lower() == "set-cookie")
        return found.partition(";")[0].partition("=")[2], self.json()["nonce"]


class Client:
    """One connection for each request, one request at a time: the real server can hang under parallel handshakes."""

    def __init__(self, url: str, ca: str, admin_key: bytes, claims: dict[str, str] | None = None) -> None:
        self.claims = claims or {}
        parts = urlsplit(url)
        self.host, self.port, self.ca = parts.hostname or "", parts.port or 443, ca
        key = serialization.load_pem_private_key(admin_key, None)
        assert isinstance(key, ed25519.Ed25519PrivateKey)
        self.admin_key = key

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ca)

    def send(self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"") -> Answer:
        """The path goes out as it is, dots and percents included."""
        connection = http.client.HTTPSConnection(self.host, self.port, context=self.context(), timeout=30)
        headers = headers or {}
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            if body or method in ("POST", "PUT"):
                connection.putheader("content-length", str(len(body)))
            connection.endheaders(body or None)
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        except http.client.RemoteDisconnected:
            return Answer(0, {}, b"")  # the connection ended without an answer
        finally:
            connection.close()

    def admin(self, key: ed25519.Ed25519PrivateKey | None = None, **claims: Any) -> str:
        """An administrator's token; a claim given as None is left out."""
        now = int(time.time())
        claims = {"iat": now, "exp": now + 7200, **self.claims, **claims}
        told = {name: value for name, value in claims.items() if value is not None}
        text = ".".join(b64url(json.dumps(part, separators=(",", ":")).encode())
                        for part in ({"alg": "EdDSA", "typ": "JWT"}, told))
        return f"{text}.{b64url((key or self.admin_key).sign(text.encode()))}"


class Key:
    """A TEE's key: ``EC`` (P-256), ``EC521``, ``RSA256`` or ``RSA15``."""

    def __init__(self, kind: str = "EC") -> None:
        self.kind = kind
        self.private: Any
        if kind.startswith("EC"):
            self.private = ec.generate_private_key(ec.SECP521R1() if kind == "EC521" else ec.SECP256R1())
            numbers = self.private.public_key().public_numbers()
            size = (self.private.curve.key_size + 7) // 8
            self.jwk = {"kty": "EC", "crv": "P-521" if kind == "EC521" else "P-256", "alg": "ECDH-ES+A256KW",
                        "x": b64url(numbers.x.to_bytes(size, "big")), "y": b64url(numbers.y.to_bytes(size, "big"))}
        else:
            self.private = rsa.generate_private_key(65537, 2048)
            public = self.private.public_key().public_numbers()
            self.jwk = {"kty": "RSA", "alg": "RSA-OAEP-256" if kind == "RSA256" else "RSA1_5",
                        "n": b64url(public.n.to_bytes(256, "big")), "e": "AQAB"}

    def decrypt(self, answer: Answer) -> bytes:
        """The secret in an encrypted answer; the additional data is the header as sent."""
        jwe = answer.json()
        if jwe["protected"].startswith("{"):  # the form of 0.1.x
            assert (self.kind, jwe["tag"]) == ("RSA15", "")
            cek = self.private.decrypt(unb64url(jwe["encrypted_key"]), padding.PKCS1v15())
            return AESGCM(cek).decrypt(unb64url(jwe["iv"]), unb64url(jwe["ciphertext"]), None)
        header = json.loads(unb64url(jwe["protected"]))
        if self.kind.startswith("EC"):
            cek = keywrap.aes_key_unwrap(self._kek(header), unb64url(jwe["encrypted_key"]))
        else:
            scheme = padding.PKCS1v15() if self.kind == "RSA15" else padding.OAEP(
                padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
            cek = self.private.decrypt(unb64url(jwe["encrypted_key"]), scheme)
        sealed = unb64url(jwe["ciphertext"]) + unb64url(jwe["tag"])
        return AESGCM(cek).decrypt(unb64url(jwe["iv"]), sealed, jwe["protected"].encode())

    def _kek(self, header: dict[str, Any]) -> bytes:
        x, y = (int.from_bytes(unb64url(header["epk"][name]), "big") for name in ("x", "y"))
        shared = self.private.exchange(ec.ECDH(), ec.EllipticCurvePublicNumbers(x, y, self.private.curve).public_key())
        name = header["alg"].encode()
        return hashlib.sha256(b"\0\0\0\1" + shared + len(name).to_bytes(4, "big") + name + bytes(8)
                              + b"\0\0\1\0").digest()


def report_data(nonce: str, jwk: dict[str, Any], additional: str | None = "", algorithm: str = "sha384") -> bytes:
    """What evidence binds; ``additional`` is None for devices, which do not bind it."""
    bound: dict[str, Any] = {"nonce": nonce, "tee-pubkey": jwk}
    if additional is not None:
        bound["additional-evidence"] = additional
    text = json.dumps(bound, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.new(algorithm, text.encode()).digest()


def attestation(nonce: str, key: Key, **changes: Any) -> dict[str, Any]:
    """A sample attester's message. ``changes``: report (base64 text), svn, evidence, init_data, no_init_data, additional, jwk."""
    jwk, additional = changes.get("jwk", key.jwk), changes.get("additional", "")
    report = changes.get("report", b64(report_data(nonce, jwk, additional)))
    evidence = changes.get("evidence", {"svn": changes.get("svn", "1"), "report_data": report})
    message: dict[str, Any] = {} if changes.get("no_init_data") else {"init-data": changes.get("init_data")}
    message["runtime-data"] = {"nonce": nonce, "tee-pubkey": jwk}
    message["tee-evidence"] = {"primary_evidence": evidence, "additional_evidence": additional}
    return message


def plain_attestation(nonce: str, key: Key, **changes: Any) -> dict[str, Any]:
    """The message of 0.1.1. ``changes``: report (base64 text), svn, evidence, jwk."""
    jwk = changes.get("jwk", key.jwk)
    report = changes.get("report", b64(report_data(nonce, jwk, None)))
    evidence = changes.get("evidence", {"svn": changes.get("svn", "1"), "report_data": report})
    return {"tee-pubkey": jwk, "tee-evidence": evidence}
