"""Facts of the real server of generation B beyond the recorded exchanges (trustee-verified.md 1, 3.1, 3.2, 3.6)."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.contract import policies
from tests.contract.client import AUTH, Answer, Key, attestation, b64, b64url
from tests.contract.forms import unb64url
from tests.contract.server import Server
from tests.contract.talk import ALLOW_ALL, RESOURCE, SECRET, Talk


def claims(answer: Answer) -> dict[str, Any]:
    assert answer.status == 200, answer
    found: dict[str, Any] = json.loads(unb64url(answer.json()["token"].split(".")[1]))
    return found


def cpu0(answer: Answer) -> tuple[str, dict[str, int]]:
    """(status, trust vector)."""
    submodule = claims(answer)["submods"]["cpu0"]
    return submodule["ear.status"], submodule["ear.trustworthiness-vector"]


def set_policy(talk: Talk, text: str) -> None:
    talk.post("attestation-policy", {"policy_id": "default_cpu", "policy": b64url(text.encode())})


def set_values(talk: Talk, **values: Any) -> None:
    talk.post("reference-value", {"type": "sample", "payload": b64(json.dumps(values).encode())})


GOOD = {"launch_digest": ["abcde"], "svn": ["1"], "major_version": 1, "minimum_minor_version": 4}
NO_DEFAULTS = "\n".join(line for line in policies.CPU.splitlines() if not line.startswith("default ")) + "\n"


def test_policy_without_defaults_fails_open(talk: Talk) -> None:
    """Executables that match no reference value: with ``default executables`` contraindicated, without it *affirming*.

    The undefined rule is skipped, the vector holds only what is good, and the affirming resource policy hands out the secret.
    This is why every CPU policy must set the three defaults.
    """
    key = Key()
    talk.resource()
    talk.resource_policy(policies.AFFIRMING)
    set_values(talk, **{**GOOD, "launch_digest": ["another"]})

    set_policy(talk, policies.CPU)
    cookie, answer = talk.attested(key)
    assert cpu0(answer) == ("warning", {"configuration": 2, "executables": 33, "hardware": 2})
    assert talk.client.send("GET", RESOURCE, {"cookie": f"kbs-session-id={cookie}"}).status == 401

    set_policy(talk, NO_DEFAULTS)
    cookie, answer = talk.attested(key)
    assert cpu0(answer) == ("affirming", {"configuration": 2, "hardware": 2})
    assert key.decrypt(talk.client.send("GET", RESOURCE, {"cookie": f"kbs-session-id={cookie}"})) == SECRET


@pytest.mark.parametrize(("rules", "found"), [
    ("executables := 300\nhardware := -3", ("warning", {"executables": 44, "hardware": -3})),
    ("executables := 1\nhardware := 0", ("none", {"executables": 1, "hardware": 0})),
    ("executables := 3\nfile_system := 2", ("affirming", {"executables": 3, "file-system": 2})),
    ("executables := 3\nfoo := 97", ("affirming", {"executables": 3})),
    ("executables := 3\nhardware := 97", ("contraindicated", {"executables": 3, "hardware": 97})),
    ("executables := 3.5", None), ('executables := "3"', None), ("executables := true", None), ("foo := 3", None),
])
def test_values_of_rules(talk: Talk, rules: str, found: Any) -> None:
    set_policy(talk, f"package policy\n{rules}\n")
    _, answer = talk.attested(Key())
    if found is None:
        assert (answer.status, answer.json()["detail"]) == (401, "Attestation error: RCAR handshake Attest failed")
    else:
        assert cpu0(answer) == found


def test_answers_carry_no_other_header(talk: Talk) -> None:
    for answer in (talk.client.send("GET", RESOURCE), talk.client.send("GET", "/nothing")):
        assert sorted(answer.headers) == ["content-length", "date"]


@pytest.mark.parametrize(("size", "status"), [(120_000, 401), (140_000, 431)])
def test_long_bearer(talk: Talk, size: int, status: int) -> None:
    answer = talk.client.send("GET", RESOURCE, {"authorization": "Bearer " + "a" * size})
    assert answer.status == status
    assert bool(answer.body) == (status == 401)


@pytest.mark.parametrize(("past", "status"), [(14 * 60, 200), (16 * 60, 401)])
def test_tolerance_of_administrators_tokens(talk: Talk, past: int, status: int) -> None:
    bearer = talk.client.admin(exp=int(time.time()) - past)
    assert talk.client.send("POST", RESOURCE, {"authorization": f"Bearer {bearer}"}, SECRET).status == status


def test_policy_id_default_is_never_used(talk: Talk) -> None:
    talk.post("attestation-policy", {"policy_id": "default", "policy": b64url(b"package policy\nexecutables := 3\n")})
    assert cpu0(talk.attested(Key())[1])[0] == "contraindicated"


def test_cookie_is_not_prolonged_by_attest(talk: Talk) -> None:
    cookie, nonce = talk.session()
    time.sleep(1.1)
    headers = {"cookie": f"kbs-session-id={cookie}"}
    message = json.dumps(attestation(nonce, Key())).encode()
    expiry = [talk.client.send("POST", "/kbs/v0/attest", headers, message).headers["set-cookie"] for _ in range(2)]
    assert expiry[0] == expiry[1]
    assert cookie in expiry[0]


@pytest.mark.parametrize(("change", "words"), [
    (lambda message: message["tee-evidence"]["primary_evidence"].pop("svn"), "Deserialize Quote failed."),
    (lambda message: message["tee-evidence"]["primary_evidence"].update(report_data=b64(bytes(48))),
     "REPORT_DATA is different from that in Sample Quote"),
    (lambda message: message.pop("runtime-data"), "deserialize Attestation"),
    (lambda message: message["tee-evidence"].pop("additional_evidence"), "deserialize Attestation"),
    (lambda message: message["tee-evidence"].update(additional_evidence="no JSON"), ""),
    (lambda message: message["tee-evidence"].update(additional_evidence='{"foo": {}}'), ""),
])
def test_the_log_tells_the_cause(server: Server, change: Any, words: str) -> None:
    """The client never learns why evidence was refused; the log has it."""
    server.start()
    talk, key = server.talk(), Key()

    def message(nonce: str, key: Key) -> dict[str, Any]:
        made = attestation(nonce, key)
        change(made)
        return made

    _, answer = talk.attested(key, message=message)
    assert answer.json()["detail"] == "Attestation error: RCAR handshake Attest failed"
    assert words in server.log


def test_the_log_tells_of_sessions_and_verifiers(server: Server) -> None:
    server.start()
    talk, key = server.talk(), Key()
    data = json.dumps(attestation("A" * 43 + "=", key)).encode()
    talk.client.send("POST", "/kbs/v0/attest", body=data)
    talk.client.send("POST", "/kbs/v0/attest", {"cookie": "kbs-session-id=" + "0" * 32}, data)
    assert talk.attested(key, tee="tdx")[1].status == 401
    for words in ("cookie not found", "No cookie found", "feature `tdx-verifier` is not enabled for `verifier` crate."):
        assert words in server.log, words


def replace(file: str, text: str | None) -> None:
    """As the kubelet does: by rename; or remove."""
    path = Path(file)
    if text is None:
        path.unlink()
        return
    path.with_suffix(".new").write_text(text)
    os.rename(path.with_suffix(".new"), path)


def test_files_are_read_anew(server: Server) -> None:
    """Resources, policies and reference values are live; nothing but the configuration, keys and certificates needs a restart."""
    server.start()
    talk, key = server.talk(), Key()
    secret, policy, rv, cpu = (server.path(name) for name in (
        "repository/default/kbsres1/key1", "policy.rego", "rv.json", "policies/opa/default_cpu.rego"))
    talk.resource()
    replace(policy, ALLOW_ALL)
    cookie, _ = talk.attested(key)

    def get() -> Answer:
        return talk.client.send("GET", RESOURCE, {"cookie": f"kbs-session-id={cookie}"})

    assert key.decrypt(get()) == SECRET
    replace(secret, "new secret")
    assert key.decrypt(get()) == b"new secret"
    replace(secret, None)
    assert get().json()["detail"] == "Plugin internal error"
    for text in ("garbage", None):
        replace(policy, text)
        assert get().json()["detail"] == "Policy engine error"

    item = {"version": "0.1.0", "expiration": "2099-01-01T00:00:00Z"}
    replace(rv, json.dumps([{**item, "name": name, "value": value} for name, value in GOOD.items()]))
    assert cpu0(talk.attested(key)[1])[0] == "affirming"
    replace(cpu, NO_DEFAULTS + "instance_identity := 97\n")
    assert cpu0(talk.attested(key)[1])[0] == "contraindicated"
    replace(cpu, policies.CPU)
    replace(rv, json.dumps([{"name": "launch_digest", "value": ["abcde"], "expiration": "2024-01-01T00:00:00Z"}]))
    assert cpu0(talk.attested(key)[1])[1]["executables"] == 33
    assert "launch_digest is expired" in server.log
    for file, good in ((rv, "[]"), (cpu, policies.CPU)):
        for text in ("garbage", None):
            replace(file, text)
            assert talk.attested(key)[1].status == 401, file
        replace(file, good)
        assert talk.attested(key)[1].status == 200, file


def test_removed_attestation_policy_comes_back_with_a_restart(server: Server) -> None:
    server.start()
    replace(server.path("policies/opa/default_cpu.rego"), None)
    assert server.talk().attested(Key())[1].status == 401
    server.stop()
    server.start()
    assert server.talk().attested(Key())[1].status == 200


def test_what_is_written(server: Server) -> None:
    """The reference value file of generation B: a list with the sample extractor's twelve months."""
    server.start()
    set_values(server.talk(), svn=["1"])
    [item] = json.loads(Path(server.path("rv.json")).read_text())
    assert list(item) == ["version", "name", "expiration", "value"]
    assert (item["version"], item["name"], item["value"]) == ("0.1.0", "svn", ["1"])
    assert int(item["expiration"][:4]) == time.gmtime().tm_year + 1


def test_tokens_without_lifetime_work_for_a_minute(server: Server) -> None:
    service = server.config["attestation_service"]
    broker = {**service["attestation_token_broker"], "duration_min": 0}
    server.start(server.changed(attestation_service={"attestation_token_broker": broker}))
    talk, key = server.talk(), Key()
    talk.resource()
    talk.resource_policy(ALLOW_ALL)
    cookie, answer = talk.attested(key)
    assert claims(answer)["exp"] == claims(answer)["iat"]
    assert key.decrypt(talk.client.send("GET", RESOURCE, {"cookie": f"kbs-session-id={cookie}"})) == SECRET


def test_p521_attests_and_gets_nothing(talk: Talk) -> None:
    talk.resource()
    talk.resource_policy(ALLOW_ALL)
    cookie, answer = talk.attested(Key("EC521"))
    assert answer.status == 200
    assert talk.client.send("GET", RESOURCE, {"cookie": f"kbs-session-id={cookie}"}).json()["detail"] == "JWE failed"


def test_auth_probe_tells_the_protocol(talk: Talk) -> None:
    answer = talk.client.send("POST", "/kbs/v0/auth", body=json.dumps({**AUTH, "version": "0.0.0"}).encode())
    assert "expect =0.4.0 while the request is 0.0.0" in answer.json()["detail"]
