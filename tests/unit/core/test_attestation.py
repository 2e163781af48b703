"""attestation.py: verdicts, and the texts by which causes are known. Sources: trustee.md 1.8 and 11, deployment.md 8.4, operators.md 10."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import tomllib
from pathlib import Path

import pytest

from ansible_collections.confidential.containers.plugins.module_utils import attestation, initdata
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError


@pytest.mark.parametrize(("text", "cause"), [
    ('Error: configuration file "/etc/kbs-config/kbs-config.toml" not found', "lacks the key kbs-config.toml"),
    ("Error: expected value at line 1 column 2 in kbs-config.json", "format of another release"),
    ('Error: invalid config: missing configuration field "admin.type"', "format of another release"),
    ('missing configuration field "admin.authorization_mode"', "format of another release"),
    ("Failed to parse admin public key", "administrator's public key"), ("Read admin public key failed", "administrator's public key"),
    ("HTTPS initialization failed", "certificate or key"), ("Read Token Signer private key failed", "token signer"),
    ("Reference value of svn is expired.", "expired"), ("Is a directory (os error 21)", "attestation policy file is missing"),
    ("Cannot verify token since trusted cert is empty", "trusts no token signer"),
    ("KBS Client Protocol Version Mismatch: expect =0.4.0 while the request is 0.2.0", "different releases"),
    ('no runtime for "kata-remote" is configured', "does not know the runtime"),
    ("0/3 nodes are available: 3 Insufficient kata.peerpods.io/vm.", "no node offers"),
    ("GalleryImageNotFound", "image does not exist"), ("OperationNotAllowed: quota", "quota"), ("SkuNotAvailable", "quota or region"),
    ("failed to establish agent proxy connection to 10.0.0.4:15150", "does not answer"),
    ('Internal error occurred: failed calling webhook "mwebhook.peerpods.io": no endpoints', "webhook"),
    ("Back-off pulling image: ImagePullBackOff", "cannot be pulled"), ("Image policy rejected: denied", "image policy refuses"),
])
def test_known_symptoms(text: str, cause: str) -> None:
    found, hint = attestation.diagnose(f"a line before\n{text}\nand one after")
    assert cause in found
    assert hint.endswith((".", ")"))


def test_unknown_symptoms_and_a_healthy_log() -> None:
    healthy = ("Using config file /etc/kbs-config/kbs-config.toml\nNo RVPS address provided and will launch a built-in RVPS.\n"
               "Starting HTTPS server at [0.0.0.0:8080]\nstarting 4 workers\n")
    assert attestation.diagnose("") == ("", "")
    assert attestation.diagnose(healthy) == ("", "")


def test_every_symptom_can_be_met_and_has_a_next_step() -> None:
    assert all(cause and hint for _, cause, hint in attestation.SYMPTOMS)
    assert len({pattern for pattern, _, _ in attestation.SYMPTOMS}) == len(attestation.SYMPTOMS)


CHECKS = [attestation.check("a", True, "fine"), attestation.check("b", None, "not made")]
BROKEN = attestation.check("c", False, "seen c", "cause c", "hint c")
CRITICAL = attestation.check("d", False, "seen d", "", "hint d", "critical")


def test_verdicts() -> None:
    assert attestation.verdict_trustee(CHECKS) == "healthy"
    assert attestation.verdict_trustee([*CHECKS, BROKEN]) == "broken"
    assert attestation.verdict_trustee([*CHECKS, BROKEN, CRITICAL]) == "insecure"
    assert attestation.check("a", True, severity="critical")["severity"] == "info", "a good check is no finding"


def test_failure_names_the_worst_first() -> None:
    error = attestation.failure("Trustee is not as it must be", "insecure", [*CHECKS, BROKEN, CRITICAL])
    assert error.seen == "d: seen d; c: cause c"
    assert error.todo == "hint d hint c"
    assert error.result()["verdict"] == "insecure"
    assert "log" in attestation.failure("x", "broken", [attestation.check("c", False)]).todo


DOCUMENT = initdata.document({"aa.toml": initdata.aa_toml("https://k"), "cdh.toml": initdata.cdh_toml(
    "https://k", "", {"image_security_policy_uri": "kbs:///default/security-policy/insecure"})})


def test_tampered_document_differs_in_the_uri_only() -> None:
    uri = "kbs:///default/security-policy/probe-1"
    tampered = attestation.tampered_initdata(DOCUMENT, uri)
    assert tampered.replace(uri.encode(), b"kbs:///default/security-policy/insecure") == DOCUMENT
    assert initdata.digest(tampered) != initdata.digest(DOCUMENT)
    assert uri in initdata.parse(tampered)["data"]["cdh.toml"]
    bare = initdata.document({"aa.toml": initdata.aa_toml("https://k"), "cdh.toml": initdata.cdh_toml("https://k")})
    with pytest.raises(CocoError, match="image_security_policy_uri"):
        attestation.tampered_initdata(bare, uri)


PATH = "default/security-policy/probe-1"


def line(status: int, size: int, path: str = PATH, method: str = "GET", error: str = "") -> str:
    told = f"[2026-11-24T00:00:00Z ERROR kbs::error] {error}\n" if error else ""
    asked = f'"{method} /kbs/v0/resource/{path} HTTP/1.1" {status} {size} "-" "-" 0.000100'
    return f"{told}[2026-11-24T00:00:00Z INFO actix_web::middleware::logger] 10.1.0.9 {asked}\n"


def body(variant: str, detail: str) -> int:
    """Bytes of an error body (trustee.md 1.8)."""
    kind = f"https://github.com/confidential-containers/kbs/errors/{variant}"
    return len(json.dumps({"type": kind, "detail": detail}, separators=(",", ":")))


def test_the_answer_is_known_by_its_size() -> None:
    denied, absent = body("PolicyDeny", "Access denied by policy"), body("PluginInternalError", "Plugin internal error")
    assert denied != absent
    untrusted = body("TokenVerifierError", "Token Verifier error")
    log = line(401, denied) + line(401, absent) + line(200, 321) + line(401, untrusted) + line(500, denied)
    assert attestation.answers_on(log, PATH) == ["denied", "passed", "passed", "other", "other"]
    assert attestation.answers_on(line(401, denied, "default/security-policy/probe-12"), PATH) == [], "another path"
    assert attestation.answers_on(line(401, denied, method="POST"), PATH) == []
    assert attestation.answers_on(line(401, denied).replace("probe-1", "probeX1"), "default/security-policy/probe.1") == []
    assert attestation.answers_on("", PATH) == []


def test_a_request_without_a_token_is_no_proof_of_anything() -> None:
    """Its body has the size of a missing resource's; the KBS's error line tells them apart. (A client's first try is without.)"""
    size = body("TokenNotFound", "Attestation Token not found")
    assert size == body("PluginInternalError", "Plugin internal error")
    denied = line(401, body("PolicyDeny", "Access denied by policy"), error="PolicyDeny")
    absent = line(401, size, error="PluginInternalError { source: not found }")
    first = line(401, size, error="TokenNotFound")
    assert attestation.answers_on(first + denied, PATH) == ["other", "denied"]
    assert attestation.answers_on(first + absent, PATH) == ["other", "passed"]
    elsewhere = line(401, size, "default/other/key", error="TokenNotFound")
    assert attestation.answers_on(elsewhere + absent, PATH) == ["passed"], "an error line belongs to the answer after it"


def test_the_attest_error_has_a_body_of_140_bytes() -> None:
    """trustee.md 1.8 gives that size of a real answer: our way of counting is the server's."""
    assert body("AttestationError", "Attestation error: RCAR handshake Attest failed") == 140


@pytest.mark.parametrize(("served", "expected", "code"), [("secret", "secret", 0), ("other", "secret", 22), (None, "secret", 21)])
def test_the_script_of_the_probe(tmp_path: Path, served: str | None, expected: str, code: int) -> None:
    """Run by a real shell, with a curl that hands out a file."""
    program = "#!/bin/sh\nwhile [ $# -gt 1 ]; do [ \"$1\" = -o ] && target=$2; shift; done\n"
    program += f"printf %s {served} > \"$target\"\n" if served else "exit 22\n"
    (tmp_path / "curl").write_text(program)
    (tmp_path / "sleep").write_text("#!/bin/sh\n")
    for name in ("curl", "sleep"):
        (tmp_path / name).chmod(0o755)
    script = attestation.script("default/coco-verification/random").replace("/tmp/probe", str(tmp_path / "probe"))
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "EXPECTED_SHA256": hashlib.sha256(expected.encode()).hexdigest()}
    done = subprocess.run(["sh", "-c", script], env=environment, capture_output=True, check=False, timeout=30)
    assert done.returncode == code
    assert done.stdout == b"", "the secret is never printed"
    assert code == 0 or code in attestation.EXITS


def told(tmp_path: Path, token: str, resource: bool) -> int:
    """How the script of a tampered pod ends, with a curl that answers as told."""
    (tmp_path / "token.json").write_text(token)
    curl = tmp_path / "curl"
    curl.write_text(f"""#!/bin/sh
for last; do :; done
case "$last" in
  */aa/token*) [ -s {tmp_path}/token.json ] && cp {tmp_path}/token.json {tmp_path}/token ;;
  *) {'true' if resource else 'false'} ;;
esac
""")
    curl.chmod(0o755)
    text = attestation.refusal_script("default/a/b").replace("/tmp/", f"{tmp_path}/").replace("sleep 1", "true")
    return subprocess.run(["sh", "-c", text], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, check=False, timeout=20).returncode


def guest_token(*statuses: str) -> str:
    submods = {f"part{number}": {"ear.status": status, "odd": "ÿ??>>"} for number, status in enumerate(statuses)}
    parts = [base64.urlsafe_b64encode(json.dumps(part, separators=(",", ":"), ensure_ascii=False).encode()).rstrip(b"=").decode()
             for part in ({"alg": "ES256"}, {"exp": 1, "submods": submods})]
    return json.dumps({"token": ".".join([*parts, "c2ln"]), "tee_keypair": "-----BEGIN EC PRIVATE KEY-----"}, separators=(",", ":"))


@pytest.mark.parametrize(("token", "resource", "code"), [
    (guest_token("contraindicated"), False, 31), (guest_token("warning"), False, 31),
    (guest_token("affirming", "contraindicated"), False, 31),
    (guest_token("affirming"), False, 32), (guest_token("contraindicated"), True, 0), (guest_token("affirming"), True, 0),
    (guest_token(), False, 33), ("", False, 33), ("[AA] [ERROR]: no", False, 33),
])
def test_what_a_tampered_pod_tells(tmp_path: Path, token: str, resource: bool, code: int) -> None:
    assert told(tmp_path, token, resource) == code


def test_opened_initdata() -> None:
    toml = b"""algorithm = "sha256"
version = "0.1.0"

[data]
"cdh.toml" = '''
[image]
image_security_policy_uri = "kbs:///default/security-policy/signed"
'''
"""
    changed = attestation.opened_initdata(toml)
    inner = tomllib.loads(tomllib.loads(changed.decode())["data"]["cdh.toml"])["image"]
    assert list(inner) == ["image_security_policy"]
    assert json.loads(inner["image_security_policy"]) == {"default": [{"type": "insecureAcceptAnything"}], "transports": {}}
    with pytest.raises(CocoError, match="image_security_policy_uri"):
        attestation.opened_initdata(b'algorithm = "sha256"\nversion = "0.1.0"\n\n[data]\n')
