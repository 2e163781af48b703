"""A pod VM of each OSC release and the KBS of the Trustee release that belongs to it: evidence of the lab's silicon opens a secret."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import guest_cdh, silicon
from lab.kbs.generation import RELEASES, of_release
from lab.releases import OSC
from tests.contract import policies
from tests.contract.client import b64
from tests.contract.server import ROOT, Server
from tests.contract.sides import SIDES
from tests.contract.talk import SECRET

PCRS = {3: b"\x03" * 32, 8: b"\x08" * 32, 9: b"\x09" * 32, 11: b"\x0b" * 32, 12: b"\x0c" * 32}
VALUES = {
    "measurement": [silicon.REPORT["measurement"]], "snp_pcr11": ["0b" * 32],
    **{f"tcb_{name}": [silicon.REPORT[f"reported_tcb_{name}"]] for name in ("bootloader", "microcode", "snp", "tee")},
    "smt_enabled": ["1"], "tsme_enabled": ["1"], "abi_major": ["0"], "abi_minor": ["31"], "single_socket": ["0"],
    "smt_allowed": ["1"],
}
# OSC, generation of the KBS, and whether its stock policy finds the evidence of Azure.
PAIRS = (("1.9.0", "0.3", True), ("1.11.1", "B", True), ("1.12.1", "C", False), ("1.13.1", "D", True))


@pytest.fixture
def server(tmp_path: Path, generation: str) -> Iterator[Server]:
    """A KBS that trusts a silicon key, with the values of ``PCRS``, started; secrets for affirmed guests only."""
    made = Server(tmp_path, SIDES[generation])
    private, public = silicon.generate()
    (tmp_path / "silicon.key").write_bytes(private)
    (tmp_path / "silicon.pub").write_bytes(public)
    if generation == "0.3":
        (tmp_path / "rv.json").write_text(json.dumps([
            {"name": name, "expiration": "2099-01-01T00:00:00Z", "hash-value": [{"alg": "sha256", "value": value[0]}]}
            for name, value in VALUES.items()]))
    made.start(env={"LAB_SILICON_PUBLIC": made.path("silicon.pub")})
    talk = made.talk()
    talk.resource()
    talk.resource_policy(policies.AFFIRMING)
    if generation != "0.3":
        talk.post("reference-value", {"type": "sample", "payload": b64(json.dumps(VALUES).encode())})
    yield made
    made.stop()


def hub(server: Server, osc: str, pcrs: dict[int, bytes] = PCRS) -> guest_cdh.Hub:
    """The data hub of a pod VM."""
    url, ca = f"https://127.0.0.1:{server.port}", Path(server.path("ca.crt")).read_text()
    attester = guest_cdh.Attester(Path(server.path("silicon.key")).read_bytes(), pcrs, OSC[osc].tee)
    return guest_cdh.Hub(f"[token_configs.kbs]\nurl = '{url}'\ncert = '''{ca}'''\n",
                         f"[kbc]\nname = 'cc_kbc'\nurl = '{url}'\nkbs_cert = '''{ca}'''\n", attester, OSC[osc].protocol)


def get(found: guest_cdh.Hub) -> bytes:
    return asyncio.run(found.resource("default/kbsres1/key1"))


@pytest.mark.parametrize(("osc", "generation", "affirms"), PAIRS)
def test_guest_and_kbs_of_a_release(server: Server, osc: str, generation: str, affirms: bool) -> None:
    found = hub(server, osc)
    if not affirms:  # the real stock policy of 1.1 names a key that no evidence has
        with pytest.raises(guest_cdh.GuestError):
            get(found)
        stock = Path(server.path("policies/opa/default_cpu.rego"))
        stock.write_text(stock.read_text().replace("input.az_snp_vtpm", 'input["az-snp-vtpm"]'))
    assert get(found) == SECRET
    token, key = asyncio.run(found.attest())
    submods = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))["submods"]
    [submodule] = submods.values()
    assert list(submods) == ["cpu" if generation == "0.3" else "cpu0"]
    assert submodule["ear.status"] == "affirming"
    assert submodule["ear.veraison.annotated-evidence"][OSC[osc].tee]["tpm"]["pcr11"] == "0b" * 32
    assert submodule["ear.veraison.annotated-evidence"]["runtime_data_claims"]["tee-pubkey"] == dict(sorted(key.jwk.items()))
    assert ("RSA" in key.pem()) == (generation == "0.3")

    with pytest.raises(guest_cdh.GuestError) as refused:
        get(hub(server, osc, {**PCRS, 11: bytes(32)}))
    assert "Access denied by policy" in refused.value.cause


@pytest.mark.parametrize(("osc", "generation"), [("1.9.0", "B"), ("1.10.0", "0.3"), ("1.11.1", "0.3"), ("1.11.1", "D"),
                                                 ("1.12.1", "B")])
def test_releases_that_do_not_belong_together(server: Server, osc: str, generation: str) -> None:
    """Another protocol, or another name for the same TEE: the handshake ends before any evidence."""
    with pytest.raises(guest_cdh.GuestError) as refused:
        get(hub(server, osc))
    wanted = SIDES[generation].protocol
    if OSC[osc].protocol == wanted:
        assert "RCAR handshake Auth failed: deserialize Request" in refused.value.cause
    else:
        assert f"expect ={wanted} while the request is {OSC[osc].protocol}" in refused.value.cause


@pytest.mark.parametrize(("release", "name"), [
    ("0.3", "0.3"), ("0.3.0", "0.3"), ("1.0", "B"), ("1.0.0", "B"), ("1.1.0", "C"), ("1.2.0", "D"), ("1.2.1", "D")])
def test_generation_of_a_release(release: str, name: str) -> None:
    assert of_release(release).name == name


@pytest.mark.parametrize("release", ["0.2.0", "0.4.1", "2.0", "1", "", "1.0.0.0"])
def test_release_that_is_not_there(release: str) -> None:
    with pytest.raises(ValueError, match="has no release"):
        of_release(release)


def start(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean: dict[str, Any] = {name: value for name, value in os.environ.items() if not name.startswith("LAB_")}
    return subprocess.run([sys.executable, "-m", "lab.kbs", *words], cwd=ROOT, env={**clean, **environment}, text=True,
                          capture_output=True, check=False, timeout=30)


@pytest.mark.parametrize(("words", "environment", "told"), [
    ((), {}, "Trustee 1.0.0, upstream v0.15.0"),
    ((), {"LAB_RELEASE": "0.3.0"}, "Trustee 0.3.0, upstream v0.11.0"),
    ((), {"LAB_RELEASE": "1.2.1"}, "Trustee 1.2.1, upstream v0.21.0"),
    (("--release", "1.1"), {"LAB_RELEASE": "1.2.1"}, "Trustee 1.1.0, upstream v0.18.0"),
], ids=["default", "image of 0.3", "image of 1.2", "--release wins"])
def test_how_a_release_is_chosen(words: tuple[str, ...], environment: dict[str, str], told: str) -> None:
    ended = start("--config-file", "/absent.toml", *words, **environment)
    assert ended.returncode == 1
    assert told in ended.stdout
    assert 'Error: configuration file "/absent.toml" not found' in ended.stdout


def test_unknown_release_is_a_usage_error() -> None:
    ended = start("--config-file", "/absent.toml", "--release", "0.4")
    assert ended.returncode == 2
    assert f"only {', '.join(RELEASES)}" in ended.stderr
