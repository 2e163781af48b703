"""The pod VM: user data, measurement, agent policy, containers, image policy."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import caa, guest, guest_cdh, silicon
from lab.releases import OSC

ROOT = Path(__file__).resolve().parents[2]

# trustee.md 6.4 (vector run on the real tools)
VECTOR = b"""version = "0.1.0"
algorithm = "sha256"

[data]
"aa.toml" = '''
[token_configs]
[token_configs.kbs]
url = "http://kbs.example.com:8080"
'''

"cdh.toml" = '''
[kbc]
name = "cc_kbc"
url = "http://kbs.example.com:8080"
'''
"""
VECTOR_PCR8 = "9dd975891a873a87c5881db7848f98e38ec550faefcef28f418eeea365ef14c2"


def encode(toml: bytes) -> str:
    return base64.b64encode(gzip.compress(toml, mtime=0)).decode()


def test_initdata_is_measured_as_the_reference_vector_says() -> None:
    files, digest = guest.process_initdata(encode(VECTOR))
    assert sorted(files) == ["aa.toml", "cdh.toml"]
    assert guest.extend(bytes(32), digest).hex() == VECTOR_PCR8


def test_missing_initdata_measures_as_the_adaptors_dummy() -> None:
    adaptor = caa.Adaptor({"LAB_CLOUD": "/nonexistent/cloud"}, None, OSC["1.11.1"])  # type: ignore[arg-type]
    _, digest = guest.process_initdata(adaptor.initdata({}))
    assert guest.extend(bytes(32), digest).hex() == "4b58b30becd30d16f7f60d56b32661d921ae0d3310c6a89f5d552f9bfee921a9"


def test_only_the_first_32_bytes_of_a_longer_digest_are_extended() -> None:
    digest = hashlib.sha384(VECTOR).digest()
    assert guest.extend(bytes(32), digest).hex() == "24bba545324d4bcff32231c8f4f9e038dd64086ebab72a3a2b31ac82985b7f69"


@pytest.mark.parametrize(
    ("encoded", "text"),
    [
        (base64.b64encode(VECTOR).decode(), "failed to decode"),
        ("no base64", "failed to decode"),
        (encode(VECTOR.replace(b"sha256", b"SHA256")), "unsupported hash algorithm: SHA256"),
        (encode(b"algorithm = "), "Error parse initdata"),
    ],
    ids=["plain base64", "garbage", "algorithm in upper case", "no TOML"],
)
def test_user_data_that_the_guest_refuses(encoded: str, text: str) -> None:
    with pytest.raises(guest.UserDataError, match=text):
        guest.process_initdata(encoded)


def test_plain_initdata_of_osc_1_9() -> None:
    """Up to 1.9 base64 of the TOML itself; what later releases take is refused, and the VM never becomes ready."""
    files, digest = guest.process_initdata(base64.b64encode(VECTOR).decode(), compressed=False)
    assert sorted(files) == ["aa.toml", "cdh.toml"]
    assert guest.extend(bytes(32), digest).hex() == VECTOR_PCR8
    with pytest.raises(guest.UserDataError, match="Error parse initdata"):
        guest.process_initdata(encode(VECTOR), compressed=False)


@pytest.mark.parametrize(("cdh", "uri"), [
    (None, "kbs:///default/security-policy/osc"),
    ("[kbc]\nname = 'cc_kbc'\n", "kbs:///default/security-policy/osc"),
    ("[image]\nimage_security_policy_uri = 'kbs:///default/other/p'\n", "kbs:///default/other/p"),
    ("[image]\nimage_security_policy = '{}'\n", None),
], ids=["no cdh.toml", "no [image]", "another URI", "inline"])
def test_image_policy_baked_into_the_image(cdh: str | None, uri: str | None) -> None:
    hub = guest_cdh.Hub(None, cdh, guest_cdh.Attester(None, {}, "azsnpvtpm"), "0.1.1", "kbs:///default/security-policy/osc")
    assert hub.image.get("image_security_policy_uri") == uri


def test_default_policy_of_the_image_denies_exec_and_logs_only() -> None:
    policy = guest.AgentPolicy(guest.DEFAULT_POLICY)
    denied = [name for name in guest.REQUESTS if not policy.allows(name, {})]
    assert denied == ["ExecProcessRequest", "ReadStreamRequest"]


def test_a_request_that_the_policy_does_not_define_is_denied() -> None:
    policy = guest.AgentPolicy("package agent_policy\ndefault CreateSandboxRequest := true\n")
    assert policy.allows("CreateSandboxRequest", {})
    assert not policy.allows("UpdateInterfaceRequest", {})


def test_evidence_is_bound_to_report_data_and_pcrs() -> None:
    private, public = silicon.generate()
    evidence = silicon.quote(private, b"r" * 48, {8: b"\x01" * 32})
    assert silicon.verify(public, evidence, b"r" * 48)["tpm"]["pcr08"] == "01" * 32
    with pytest.raises(silicon.EvidenceError, match="nonce doesn't match"):
        silicon.verify(public, evidence, b"s" * 48)
    forged = json.loads(json.dumps(evidence))
    forged["quote"]["pcrs"][8] = "02" * 32
    with pytest.raises(silicon.EvidenceError, match="Digest of PCRs"):
        silicon.verify(public, forged, b"r" * 48)
    with pytest.raises(silicon.EvidenceError, match="signature"):
        silicon.verify(silicon.generate()[1], evidence, b"r" * 48)


IMAGE = "quay.io/team/app:1.0"


@pytest.mark.parametrize(
    ("policy", "refused"),
    [
        ({"default": [{"type": "insecureAcceptAnything"}], "transports": {}}, ""),
        ({"default": [{"type": "reject"}], "transports": {}}, "rejected by `reject` rule"),
        ({"default": [{"type": "reject"}],
          "transports": {"docker": {"quay.io/team": [{"type": "insecureAcceptAnything"}]}}}, ""),
        ({"default": [{"type": "insecureAcceptAnything"}],
          "transports": {"docker": {"quay.io/team/app": [{"type": "reject"}]}}}, "rejected by `reject` rule"),
        ({"default": [{"type": "sigstoreSigned"}], "transports": {}}, "Neither keyPath nor keyData"),
        ({"default": [{"type": "sigstoreSigned", "keyData": "k"}], "transports": {}}, "no signature found"),
        ({"transports": {}}, "Illegal policy"),
    ],
)
def test_image_policy(policy: dict[str, Any], refused: str) -> None:
    hub = guest_cdh.Hub(None, "[image]\nimage_security_policy = '''" + json.dumps(policy) + "'''\n",
                        guest_cdh.Attester(None, {}, "azsnpvtpm"))
    if refused:
        with pytest.raises(guest_cdh.GuestError, match=refused):
            asyncio.run(hub.check_image(IMAGE))
    else:
        asyncio.run(hub.check_image(IMAGE))


@pytest.mark.parametrize(
    ("annotations", "size"),
    [
        ({}, "Standard_DC2as_v5"),
        ({"machine_type": "Standard_DC4as_v5"}, "Standard_DC4as_v5"),
        ({"machine_type": "Standard_D64s_v5"}, "Standard_DC2as_v5"),
        ({"default_vcpus": "3"}, "Standard_DC4as_v5"),
    ],
    ids=["default", "listed", "not listed", "smallest that fits"],
)
def test_size_of_a_pod_vm(annotations: dict[str, str], size: str) -> None:
    env = {"LAB_CLOUD": "/nonexistent/cloud", "AZURE_INSTANCE_SIZE": "Standard_DC2as_v5",
           "AZURE_INSTANCE_SIZES": "Standard_DC2as_v5,Standard_DC4as_v5,Standard_DC8as_v5"}
    adaptor = caa.Adaptor(env, None, OSC["1.11.1"])  # type: ignore[arg-type]
    assert adaptor.size({caa.HYPERVISOR + name: value for name, value in annotations.items()}) == size


@pytest.fixture(params=["namespaces", "none"])
def agent(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A running pod VM; with user namespaces, and (``unshare`` not found) without."""
    directory = tmp_path / "vm"
    directory.mkdir()
    private, _ = silicon.generate()
    (tmp_path / "silicon.pem").write_bytes(private)
    scratch = Path("/tmp") / f"coco-lab-test-{os.getpid()}"
    toml = VECTOR + b"\"policy.rego\" = '''\n" + guest.DEFAULT_POLICY.replace(
        "ReadStreamRequest := false", "ReadStreamRequest := true").encode() + b"'''\n"
    (directory / "vm.json").write_text(json.dumps({
        "name": "vm", "confidential": True, "pcrs": {}, "user_data": {"initdata": encode(toml)},
        "agent": f"{scratch}.sock", "scratch": str(scratch), "tee": "azsnpvtpm", "boot_seconds": 0,
        "silicon_key": str(tmp_path / "silicon.pem"),
    }))
    env = dict(os.environ)
    if request.param == "none":
        tools = tmp_path / "tools"
        tools.mkdir()
        env["PATH"] = str(tools)
    process = subprocess.Popen([sys.executable, "-m", "lab.guest", "--vm", str(directory)], cwd=ROOT, env=env)
    deadline = time.monotonic() + 20
    while not Path(f"{scratch}.sock").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (directory / "isolation").read_text() == request.param
    yield Path(f"{scratch}.sock")
    process.terminate()
    process.wait(10)


async def call(socket: Path, **request: Any) -> dict[str, Any]:
    reader, writer = await asyncio.open_unix_connection(str(socket))
    writer.write(json.dumps(request).encode() + b"\n")
    await writer.drain()
    answer: dict[str, Any] = json.loads(await reader.readline())
    writer.close()
    return answer


async def run(socket: Path, name: str, script: str, **more: Any) -> tuple[int, str]:
    assert await call(socket, method="CreateContainerRequest", container=name, image=IMAGE,
                      command=["sh", "-c", script], **more) == {}
    assert await call(socket, method="StartContainerRequest", container=name) == {}
    code = await call(socket, method="WaitProcessRequest", container=name)
    log = await call(socket, method="ReadStreamRequest", container=name)
    return code["exit_code"], log["stdout"]


def test_containers_run_for_real(agent: Path) -> None:
    code, log = asyncio.run(run(agent, "one", "printf abc | sha256sum; echo $NAME; exit 3", env=[["NAME", "value"]]))
    assert code == 3
    assert log.splitlines() == [f"{hashlib.sha256(b'abc').hexdigest()}  -", "value"]


def test_the_guest_api_is_at_its_address_and_a_failure_is_no_success(agent: Path) -> None:
    script = "curl -sS -f http://127.0.0.1:8006/aa/evidence?runtime_data=x -o /dev/null; echo $?; " \
             "curl -s -f http://127.0.0.1:8006/cdh/resource/default/a/b; echo $?; curl -s http://127.0.0.1:9/; echo $?"
    assert asyncio.run(run(agent, "two", script)) == (0, "0\n22\n7\n")


def test_exec_is_refused_by_the_policy(agent: Path) -> None:
    answer = asyncio.run(call(agent, method="ExecProcessRequest", container="any", command=["id"]))
    assert answer == {"error": "ExecProcessRequest is blocked by policy: ", "code": "PERMISSION_DENIED"}
