"""What of lab-kbs is the lab's own: the silicon trust anchor, its place in a pod, its size. The rest is in tests/contract."""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import silicon
from tests.contract import policies
from tests.contract.client import Answer, Key, attestation, b64url, report_data
from tests.contract.forms import unb64url
from tests.contract.server import Server
from tests.contract.talk import RESOURCE, SECRET, Talk

TOML = 'version = "0.1.0"\nalgorithm = "sha256"\n[data]\n"aa.toml" = "x = 1"\n'
PCR8 = hashlib.sha256(bytes(32) + hashlib.sha256(TOML.encode()).digest()).digest()
PCRS = {3: b"\x03" * 32, 8: PCR8, 9: b"\x09" * 32, 11: b"\x0b" * 32, 12: b"\x0c" * 32}

# The shape of our production policy on Azure (five PCRs bound), with and without its defaults.
RULES = """
executables := 3 if {
  input.azsnpvtpm.measurement in data.reference.measurement
  input.azsnpvtpm.tpm.pcr08 in data.reference.snp_pcr08
  input.azsnpvtpm.tpm.pcr11 in data.reference.snp_pcr11
}
hardware := 2 if input.azsnpvtpm.reported_tcb_snp in data.reference.tcb_snp
configuration := 2 if input.azsnpvtpm.policy_debug_allowed == "0"
"""
HEAD = "package policy\nimport rego.v1\n"
DEFAULTS = "default executables := 33\ndefault hardware := 97\ndefault configuration := 36\n"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A KBS that trusts a silicon key, with the reference values of ``PCRS``; not started yet."""
    made = Server(tmp_path)
    private, public = silicon.generate()
    (tmp_path / "silicon.key").write_bytes(private)
    (tmp_path / "silicon.pub").write_bytes(public)
    values = {"measurement": [silicon.REPORT["measurement"]], "snp_pcr08": [PCR8.hex()], "snp_pcr11": ["0b" * 32],
              "tcb_snp": [silicon.REPORT["reported_tcb_snp"]]}
    (tmp_path / "rv.json").write_text(json.dumps([
        {"name": name, "expiration": "2099-01-01T00:00:00Z", "value": value} for name, value in values.items()]))
    yield made
    made.stop()


def started(server: Server) -> Talk:
    server.start(env={"LAB_SILICON_PUBLIC": server.path("silicon.pub")})
    talk = server.talk()
    talk.resource()
    talk.resource_policy(policies.AFFIRMING)
    return talk


def attest(server: Server, talk: Talk, key: Key, pcrs: dict[int, bytes] = PCRS, init_data: Any = None,
           silicon_key: bytes = b"") -> tuple[str, Answer]:
    def message(nonce: str, key: Key) -> dict[str, Any]:
        signer = silicon_key or (server.directory / "silicon.key").read_bytes()
        quote = silicon.quote(signer, report_data(nonce, key.jwk), pcrs)
        return attestation(nonce, key, evidence=quote, init_data=init_data)

    return talk.attested(key, "azsnpvtpm", message)


def cpu0(answer: Answer) -> dict[str, Any]:
    assert answer.status == 200, answer
    found: dict[str, Any] = json.loads(unb64url(answer.json()["token"].split(".")[1]))["submods"]["cpu0"]
    return found


def use(talk: Talk, text: str) -> None:
    talk.post("attestation-policy", {"policy_id": "default_cpu", "policy": b64url(text.encode())})


def get(talk: Talk, cookie: str) -> Answer:
    return talk.client.send("GET", RESOURCE, {"cookie": f"kbs-session-id={cookie}"})


def test_measured_initdata_opens_the_secret(server: Server) -> None:
    talk, key = started(server), Key()
    use(talk, HEAD + DEFAULTS + RULES)
    cookie, answer = attest(server, talk, key)
    evidence = cpu0(answer)["ear.veraison.annotated-evidence"]
    assert cpu0(answer)["ear.status"] == "affirming"
    assert list(evidence) == ["azsnpvtpm", "init_data", "report_data", "runtime_data_claims"]
    assert evidence["init_data"] == evidence["azsnpvtpm"]["tpm"]["pcr08"] == PCR8.hex()
    assert key.decrypt(get(talk, cookie)) == SECRET


def test_one_changed_byte_of_initdata_fails_open_without_defaults(server: Server) -> None:
    """v0.15 skips undefined rules: with PCR 8 tampered ``executables`` is undefined, the rest affirming, so the token is too."""
    talk, key = started(server), Key()
    tampered = {**PCRS, 8: hashlib.sha256(bytes(32) + hashlib.sha256(TOML.encode() + b"#").digest()).digest()}

    use(talk, HEAD + DEFAULTS + RULES)
    cookie, answer = attest(server, talk, key, tampered)
    assert cpu0(answer)["ear.trustworthiness-vector"] == {"configuration": 2, "executables": 33, "hardware": 2}
    assert cpu0(answer)["ear.status"] == "warning"
    assert get(talk, cookie).json()["detail"] == "Access denied by policy"

    use(talk, HEAD + RULES)
    cookie, answer = attest(server, talk, key, tampered)
    assert cpu0(answer)["ear.trustworthiness-vector"] == {"configuration": 2, "hardware": 2}
    assert cpu0(answer)["ear.status"] == "affirming"
    assert key.decrypt(get(talk, cookie)) == SECRET


@pytest.mark.parametrize(("body", "status", "words"), [
    (TOML, 200, ""),
    (TOML + "#", 401, "Expected init_data digest is different from the content of PCR8"),
    (TOML.replace("sha256", "sha384"), 401, "Expected init_data digest is different from the content of PCR8"),
])
def test_initdata_in_plain_text_is_compared_with_pcr8(server: Server, body: str, status: int, words: str) -> None:
    talk = started(server)
    _, answer = attest(server, talk, Key(), init_data={"format": "toml", "body": body})
    assert answer.status == status
    assert words in server.log
    if status == 200:
        evidence = cpu0(answer)["ear.veraison.annotated-evidence"]
        assert evidence["init_data_claims"] == {"aa.toml": {"x": 1}}


def test_other_silicon_and_other_report_data_are_refused(server: Server) -> None:
    talk, key = started(server), Key()
    assert attest(server, talk, key, silicon_key=silicon.generate()[0])[1].status == 401
    assert "Failed to verify vTPM quote" in server.log

    def message(nonce: str, key: Key) -> dict[str, Any]:
        quote = silicon.quote((server.directory / "silicon.key").read_bytes(), bytes(48), PCRS)
        return attestation(nonce, key, evidence=quote)

    assert talk.attested(key, "azsnpvtpm", message)[1].status == 401
    assert "TPM quote nonce doesn't match expected report_data" in server.log


def test_without_silicon_nothing_of_azure_verifies(server: Server) -> None:
    server.start()
    assert attest(server, server.talk(), Key())[1].status == 401
    assert "without LAB_SILICON_PUBLIC" in server.log


def test_it_announces_itself_and_its_trust_anchor(server: Server) -> None:
    started(server)
    first, *rest = server.log.splitlines()
    assert "lab-kbs: stand-in for the KBS of the Red Hat build of Trustee" in first
    assert any("trusts the lab's silicon key" in line for line in rest)


def test_in_a_pod(server: Server) -> None:
    """Configured paths lie below LAB_ROOT, and the wildcard address is the pod's."""
    root, server.address = server.directory, "127.7.1.9"
    text = json.dumps(server.config).replace(f"{root}/", "/").replace("127.0.0.1", "0.0.0.0")
    server.file = root / "kbs-config.json"
    server.start(text=text, env={"LAB_ROOT": str(root), "LAB_POD_ADDRESS": server.address})
    assert (root / "policy.rego").exists()
    client = server.client()
    client.context = lambda: _no_names(server)  # type: ignore[method-assign]
    assert client.send("GET", RESOURCE).status == 401


def _no_names(server: Server) -> Any:
    context = ssl.create_default_context(cafile=server.path("ca.crt"))
    context.check_hostname = False
    return context


def test_it_stays_small(server: Server) -> None:
    """At most 80 MiB, after a few handshakes and a secret of the largest size."""
    talk, key = started(server), Key()
    talk.resource("big", bytes(2 * 1024 * 1024))
    for _ in range(20):
        attest(server, talk, key)
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    assert peak <= 80 * 1024, f"{peak} KiB"


def test_it_stops_at_once_with_an_open_connection(server: Server) -> None:
    server.start()
    connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=server.client().context())
    for _ in range(2):  # kept alive
        connection.request("GET", RESOURCE)
        assert connection.getresponse().read()
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 3
    assert "Traceback" not in server.log


def exchange(server: Server, sent: bytes) -> bytes:
    """The status line for raw bytes."""
    with socket.create_connection(("127.0.0.1", server.port), 5) as plain, \
            server.client().context().wrap_socket(plain, server_hostname="localhost") as wrapped:
        wrapped.sendall(sent)
        return wrapped.recv(1000).partition(b"\r\n")[0]


@pytest.mark.parametrize(("head", "body", "status"), [
    ("POST /kbs/v0/auth HTTP/1.1\r\ntransfer-encoding: chunked", "3\r\n{\"a\r\n3\r\n\":1\r\n1\r\n}\r\n0\r\n\r\n", 401),
    ("POST /kbs/v0/auth HTTP/1.1\r\ntransfer-encoding: chunked", "x\r\n", 400),
    ("POST /kbs/v0/auth HTTP/1.1\r\ncontent-length: -1", "", 400),
    ("POST /kbs/v0/auth HTTP/1.1\r\nno header", "", 400),
    ("GET /metrics HTTP/2.0", "", 400),
    ("nonsense", "", 400),
    ("GET /metrics HTTP/1.0", "", 200),
])
def test_http(server: Server, head: str, body: str, status: int) -> None:
    server.start()
    assert exchange(server, f"{head}\r\n\r\n{body}".encode()).split()[1] == str(status).encode()
