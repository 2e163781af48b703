# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge: the KBS over HTTP: a connection with the real name and an explicit address, and the sample attester's handshake.

TLS is verified against the given authority only; REQUESTS_CA_BUNDLE and SSL_CERT_FILE play no part.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import socket
import ssl
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

try:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
    MISSING = ""
except ImportError as missing:
    MISSING = str(missing)

from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError, require

PREFIX = "/kbs/v0"


@dataclass
class Answer:
    """An HTTP answer; ``type`` and ``detail`` of an error document, without the common prefix."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)

    def json(self) -> dict[str, Any]:
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def type(self) -> str:
        return str(self.json().get("type", "")).rsplit("/", 1)[-1]

    @property
    def detail(self) -> str:
        return str(self.json().get("detail", ""))


class KbsFailure(Exception):
    """No answer: ``layer`` is name, connect, tls or silent."""

    def __init__(self, layer: str, text: str) -> None:
        super().__init__(text)
        self.layer = layer


def b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Kbs:
    """Requests to one KBS, one connection each (so that every probe stands alone)."""

    def __init__(self, url: str, ca: str = "", connect_to: str = "", timeout: float = 10) -> None:
        require("cryptography", MISSING)
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise CocoError("The KBS cannot be reached", f"its URL is {url!r}", "Give https://host[:port].")
        self.host, self.secure = parts.hostname, parts.scheme == "https"
        self.port = parts.port or (443 if self.secure else 80)
        self.address = self._address(connect_to) if connect_to else (self.host, self.port)
        self.timeout = timeout
        self.context: ssl.SSLContext | None = None
        if self.secure:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self.context.minimum_version = ssl.TLSVersion.TLSv1_2
            if ca:
                try:
                    self.context.load_verify_locations(cadata=ca)
                except ssl.SSLError as error:
                    raise CocoError("The KBS's certificate cannot be verified", f"the given authority is no PEM ({error})",
                                    "Give the PEM of the certificate authority.") from error
            else:
                self.context.load_default_certs()

    @staticmethod
    def _address(connect_to: str) -> tuple[str, int]:
        host, _colon, port = connect_to.rpartition(":")
        if not host or not port.isdigit():
            raise CocoError("The KBS cannot be reached", f"the connect-to address is {connect_to!r}", "Write host:port.")
        return host.strip("[]"), int(port)

    def connect(self) -> socket.socket:
        """A connected (and verified) socket. Raises :class:`KbsFailure`."""
        where = f"{self.address[0]}:{self.address[1]}"
        try:
            sock = socket.create_connection(self.address, self.timeout)
        except socket.gaierror as error:
            raise KbsFailure("name", f"the name {self.address[0]} cannot be resolved: {error}") from error
        except OSError as error:
            raise KbsFailure("connect", f"{where}: {error}") from error
        if self.context is None:
            return sock
        try:
            return self.context.wrap_socket(sock, server_hostname=self.host)
        except ssl.SSLCertVerificationError as error:
            sock.close()
            raise KbsFailure("tls", f"the certificate of {self.host} is not accepted: {error.verify_message}") from error
        except TimeoutError as error:
            sock.close()
            raise KbsFailure("silent", f"{where} accepts connections and does not answer") from error
        except OSError as error:
            sock.close()
            raise KbsFailure("handshake", f"the TLS handshake with {self.host} at {where} failed: {error}") from error

    def certificate(self) -> bytes:
        """The server's certificate (DER)."""
        with self.connect() as sock:
            return (sock.getpeercert(binary_form=True) or b"") if isinstance(sock, ssl.SSLSocket) else b""

    def request(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        """One request; ``body`` as JSON unless bytes."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=self.timeout)
        connection.sock = self.connect()
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        try:
            connection.request(method, path, data, {"Content-Type": "application/json", **(headers or {})})
            answer = connection.getresponse()
            return Answer(answer.status, answer.read(), {k.lower(): v for k, v in answer.getheaders()})
        except TimeoutError as error:
            raise KbsFailure("silent", f"{self.host} accepts connections and does not answer") from error
        except (OSError, http.client.HTTPException) as error:
            raise KbsFailure("http", f"{self.host} broke off: {error!r}") from error
        finally:
            connection.close()

    # Probes -----------------------------------------------------------------------------------------------------

    def protocol(self) -> str:
        """The protocol version that the server demands (asked with an impossible one); empty where it does not say."""
        answer = self.request("POST", f"{PREFIX}/auth", {"version": "0.0.0", "tee": "sample", "extra-params": {}})
        _before, found, rest = answer.detail.partition("expect =")
        return rest.split(" ")[0] if found else ""

    def sample_token(self, protocol: str) -> Answer:
        """A whole handshake with the sample attester; the answer of /attest (a token, or the refusal)."""
        key = ec.generate_private_key(ec.SECP256R1())
        jwk = public_jwk(key)
        challenge = self.request("POST", f"{PREFIX}/auth", {"version": protocol, "tee": "sample", "extra-params": ""})
        if challenge.status != 200:
            return challenge
        nonce = challenge.json()["nonce"]
        bound = {"additional-evidence": "", "nonce": nonce, "tee-pubkey": jwk}
        canonical = json.dumps(bound, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        report_data = base64.b64encode(hashlib.sha384(canonical).digest()).decode()
        cookie = challenge.headers.get("set-cookie", "").split(";")[0]
        return self.request("POST", f"{PREFIX}/attest", {
            "init-data": None, "runtime-data": {"nonce": nonce, "tee-pubkey": jwk},
            "tee-evidence": {"primary_evidence": {"svn": "1", "report_data": report_data}, "additional_evidence": ""},
        }, {"Cookie": cookie})

    def resource(self, path: str, token: str) -> Answer:
        return self.request("GET", f"{PREFIX}/resource/{path}", None, {"Authorization": f"Bearer {token}"})


def public_jwk(key: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    numbers = key.public_key().public_numbers()
    return {"kty": "EC", "crv": "P-256", "alg": "ECDH-ES+A256KW", "x": b64url(numbers.x.to_bytes(32, "big")),
            "y": b64url(numbers.y.to_bytes(32, "big"))}


def forged_token(submodule: str, now: int) -> str:
    """A token that anybody can make: affirming claims, signed with a key that it carries itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    tee = public_jwk(ec.generate_private_key(ec.SECP256R1()))
    jwk = {**public_jwk(key), "alg": "ES256"}
    claims = {
        "eat_profile": "tag:github.com,2024:confidential-containers/Trustee", "iat": now, "exp": now + 300,
        "submods": {submodule: {
            "ear.status": "affirming", "ear.appraisal-policy-id": "default",
            "ear.trustworthiness-vector": {"configuration": 2, "executables": 3, "hardware": 2},
            "ear.veraison.annotated-evidence": {"runtime_data_claims": {
                "nonce": base64.b64encode(os.urandom(32)).decode(), "tee-pubkey": tee, "additional-evidence": ""}}}},
    }
    parts = [b64url(json.dumps(part, separators=(",", ":")).encode()) for part in ({"typ": "JWT", "alg": "ES256", "jwk": jwk}, claims)]
    r, s = decode_dss_signature(key.sign(".".join(parts).encode(), ec.ECDSA(hashes.SHA256())))
    return ".".join([*parts, b64url(r.to_bytes(32, "big") + s.to_bytes(32, "big"))])
