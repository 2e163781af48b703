"""The server under test: lab-kbs, or another program or server named by the environment.

    KBS_CONTRACT_PROGRAM     a command that takes ``--config-file FILE`` (default: python -m lab kbs)
    KBS_CONTRACT_GENERATION  which one that is: 0.3, B (default), C or D
    KBS_CONTRACT_URL         a fresh server that already runs, with
    KBS_CONTRACT_CA            its CA certificate (file), and
    KBS_CONTRACT_ADMIN_KEY     the administrator's private key (file, PKCS#8)

The table of differences applies to the stand-in only.
"""

from __future__ import annotations

import copy
import datetime
import ipaddress
import json
import os
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID

from tests.contract.client import Client
from tests.contract.sides import SIDES, Side
from tests.contract.talk import Talk

ROOT = Path(__file__).resolve().parents[2]
URL = os.environ.get("KBS_CONTRACT_URL", "")
PROGRAM = os.environ.get("KBS_CONTRACT_PROGRAM", "")
STAND_IN = not URL and not PROGRAM
GENERATION = os.environ.get("KBS_CONTRACT_GENERATION", "B")


def private_pem(key: Any) -> bytes:
    return bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                   serialization.NoEncryption()))


def public_pem(key: Any) -> bytes:
    return bytes(key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))


def signer_key() -> ec.EllipticCurvePrivateKey:
    """An EC key of which neither coordinate begins with a zero byte: the real server's GETs would all fail with one."""
    while True:
        key = ec.generate_private_key(ec.SECP256R1())
        numbers = key.public_key().public_numbers()
        if min(numbers.x, numbers.y).bit_length() > 248:
            return key


def certificate(name: str, key: Any, issuer: tuple[str, Any] | None = None) -> bytes:
    """A certificate for 127.0.0.1: self-signed and a CA, or a leaf of ``issuer``."""
    subject, signer = issuer or (name, key)
    now = datetime.datetime.now(datetime.timezone.utc)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    made = (x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False))
    return made.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def toml(tables: dict[str, Any], prefix: str = "") -> str:
    """Tables as TOML; a list of dicts is an array of tables."""
    plain = {name: value for name, value in tables.items() if not isinstance(value, dict) and not _tables(value)}
    text = "".join(f"{name} = {json.dumps(value)}\n" for name, value in plain.items())
    for name, value in tables.items():
        for item in value if _tables(value) else [value]:
            if isinstance(item, dict):
                heading = f"[[{prefix}{name}]]" if _tables(value) else f"[{prefix}{name}]"
                text += f"\n{heading}\n{toml(item, f'{prefix}{name}.')}"
    return text


def _tables(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(item, dict) for item in value)


def configuration(server: Server) -> dict[str, Any]:
    """The product's layout of the generation, with a token signer, in one directory."""
    path = server.path
    signer = {"key_path": path("signer.key"), "cert_path": path("signer.crt")}
    http = {"sockets": [f"127.0.0.1:{server.port}"], "private_key": path("tls.key"), "certificate": path("tls.crt")}
    if server.side.name == "D":
        return {
            "http_server": http,
            "admin": {
                "authorization_mode": "AuthenticatedAuthorization",
                "authentication": {"bearer_jwt": {"identity_providers": [{"public_key_uri": path("admin.pub")}]}},
                "authorization": {"regex_acl": {"acls": [{"role": "admin", "allowed_endpoints": "^/kbs/.+$"}]}}},
            "attestation_token": {"insecure_header_jwk": False, "trusted_certs_paths": [path("signer.crt")]},
            "attestation_service": {
                "type": "coco_as_builtin", "attestation_token_broker": {"duration_min": 5, "signer": signer},
                "rvps_config": {"type": "BuiltIn", "storage_type": "LocalJson"}},
            "storage_backend": {"storage_type": "LocalFs", "backends": {
                "local_fs": {"dir_path": path("storage")}, "local_json": {"file_dir_path": path("storage/local_json")}}},
            "plugins": [{"name": "resource", "storage_backend_type": "kvstorage"}],
        }
    admin: dict[str, Any] = {"auth_public_key": path("admin.pub")}
    if server.side.name == "C":
        admin = {"type": "Simple", "personas": [{"id": "admin", "public_key_path": path("admin.pub")}]}
    return {
        "http_server": http,
        "admin": admin,
        "attestation_token": {"insecure_key": False, "trusted_certs_paths": [path("signer.crt")]},
        "attestation_service": {
            "type": "coco_as_builtin", "work_dir": path("as"), "policy_engine": "opa",
            "attestation_token_broker": {"type": "Ear", "policy_dir": path("policies"), "duration_min": 5, "signer": signer},
            "rvps_config": {"type": "BuiltIn", "storage": {"type": "LocalJson", "file_path": path("rv.json")}}},
        "policy_engine": {"policy_path": path("policy.rego")},
        "plugins": [{"name": "resource", "type": "LocalFs", "dir_path": path("repository")}],
    }


class Server:
    """A KBS with its own directory, keys and free port."""

    def __init__(self, directory: Path, side: Side = SIDES["B"]) -> None:
        self.directory, self.address, self.side = directory, "127.0.0.1", side
        self.process: subprocess.Popen[bytes] | None = None
        self.log_file, self.file = directory / "log", directory / "kbs-config.toml"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        admin, ca, leaf, signer = (ed25519.Ed25519PrivateKey.generate(), signer_key(), signer_key(), signer_key())
        for name, data in {
            "admin.key": private_pem(admin), "admin.pub": public_pem(admin), "ca.crt": certificate("contract CA", ca),
            "tls.key": private_pem(leaf), "tls.crt": certificate("localhost", leaf, ("contract CA", ca)),
            "signer.key": private_pem(signer), "signer.crt": certificate("token signer", signer),
            "other.key": private_pem(signer_key()),
        }.items():
            (directory / name).write_bytes(data)
        self.config = configuration(self)

    def path(self, name: str) -> str:
        return str(self.directory / name)

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def changed(self, **tables: Any) -> dict[str, Any]:
        """The good configuration with other members in some tables; a table or member that is None goes away."""
        config = copy.deepcopy(self.config)
        for name, members in tables.items():
            if members is None:
                del config[name]
            elif isinstance(members, dict):
                config[name] = {key: value for key, value in {**config[name], **members}.items() if value is not None}
            else:
                config[name] = members
        return config

    def launch(self, config: dict[str, Any] | None = None, text: str = "", env: dict[str, str] | None = None,
               write: bool = True) -> None:
        """Start the program, on a configuration or its text (or on whatever there is)."""
        if write:
            self.file.write_text(text or toml(config or self.config).lstrip())
        words = shlex.split(PROGRAM) or [sys.executable, "-m", "lab", "kbs", "--release", self.side.release]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("LAB_")}
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen([*words, "--config-file", str(self.file)], cwd=ROOT, stdout=log, stderr=log,
                                            env={**clean, "RUST_LOG": "debug", **(env or {})})

    def start(self, config: dict[str, Any] | None = None, text: str = "", env: dict[str, str] | None = None) -> None:
        """Start it and wait until it listens."""
        self.launch(config, text, env)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            assert self.process is not None
            assert self.process.poll() is None, self.log
            try:
                socket.create_connection((self.address, self.port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise AssertionError(f"the server does not listen\n{self.log}")

    def fails(self) -> str:
        """It must end with status 1; what it said."""
        assert self.process is not None
        assert self.process.wait(30) == 1, self.log
        return self.log

    def stop(self) -> int:
        """Stop it by SIGTERM; the exit status."""
        if self.process is None:
            return 0
        self.process.terminate()
        try:
            return self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def client(self) -> Client:
        return Client(f"https://{self.address}:{self.port}", self.path("ca.crt"), (self.directory / "admin.key").read_bytes(),
                      dict(self.side.claims))

    def talk(self) -> Talk:
        return Talk(self.client(), STAND_IN, self.side)


def remote() -> Talk:
    """The server that KBS_CONTRACT_URL names."""
    key, side = Path(os.environ["KBS_CONTRACT_ADMIN_KEY"]).read_bytes(), SIDES[GENERATION]
    return Talk(Client(URL, os.environ["KBS_CONTRACT_CA"], key, dict(side.claims)), STAND_IN, side)
