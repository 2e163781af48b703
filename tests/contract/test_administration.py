"""The module kbs_admin against the server of each generation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.confidential.containers.plugins.module_utils import keys, policy, releases
from ansible_collections.confidential.containers.plugins.module_utils.actions import kbs_admin
from ansible_collections.confidential.containers.plugins.module_utils.context import Context
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError
from tests.contract.server import Server

PAIRS = {"0.3": "1.9/0.3", "B": "1.11/1.0", "C": "1.12/1.1", "D": "1.13/1.2"}
EVERY = pytest.mark.parametrize("side", PAIRS, indirect=True)
READABLE = pytest.mark.parametrize("side", ["B", "C", "D"], indirect=True)
SECRET = "open-sesame-4711"


def administer(server: Server, check: bool = False, **options: Any) -> dict[str, Any]:
    """One run of the module, with the server's own key unless another is given."""
    params: dict[str, Any] = {
        **{name: spec.get("default") for name, spec in kbs_admin.ARGUMENT_SPEC.items()},
        "release": PAIRS[server.side.name], "kbs_url": f"https://{server.address}:{server.port}",
        "ca_certificate": Path(server.path("ca.crt")).read_text(), "private_key": Path(server.path("admin.key")).read_text(),
        "directory": str(server.directory / "private"), **options,
    }
    return kbs_admin.run(params, Context(check_mode=check, diff=True))


def everything(server: Server) -> dict[str, Any]:
    trustee = releases.parse(PAIRS[server.side.name]).trustee
    return {"resources": {"default/mine/word": SECRET}, "verification_resource": "default/coco-verification/random",
            "resource_policy": policy.resource_policy(trustee),
            "attestation_policies": {trustee.policy_ids[0]: policy.attestation_policy(trustee)}}


@EVERY
def test_set_once(server: Server) -> None:
    server.start()
    wanted = everything(server)
    planned = administer(server, check=True, **wanted)
    assert not (server.directory / "private").exists(), "check mode writes nothing"
    first = administer(server, **wanted)
    assert first["changed"]
    assert planned["changes"] == first["changes"]
    assert {"resource default/mine/word", "resource policy"} <= set(first["changes"])
    assert SECRET not in json.dumps(first)
    assert SECRET not in (server.directory / "private" / kbs_admin.MEMORY).read_text()
    second = administer(server, **wanted)
    assert (second["changed"], second["changes"]) == (False, [])
    assert second["verification"] == first["verification"]
    third = administer(server, **{**wanted, "resources": {"default/mine/word": "another-word"}})
    assert third["changes"] == ["resource default/mine/word"]
    assert administer(server, **{**wanted, "directory": None})["changed"], "without a memory nobody knows"


@EVERY
def test_what_a_pod_lost_is_there_again(server: Server) -> None:
    server.start()
    wanted = everything(server)
    administer(server, **wanted)
    stored = [path for path in server.directory.rglob("*") if path.is_file() and path.read_bytes() == SECRET.encode()]
    assert stored
    for path in stored:
        path.unlink()
    assert not administer(server, **wanted)["changed"], "nothing here can know"
    assert stored[0].read_bytes() == SECRET.encode()


@READABLE
def test_reference_values_are_merged(server: Server) -> None:
    server.start()
    server_values = {"snp_pcr08": ["of-others"], "svn": ["1"]}
    other = Path(server.path("others"))
    administer(server, reference_values=server_values, directory=str(other))
    assert administer(server, reference_values={"snp_pcr08": ["old"]})["changes"] == ["reference value snp_pcr08"]
    rolled = administer(server, reference_values={"snp_pcr08": ["new"]}, keep_old=True)
    assert json.loads(rolled["diff"][0]["after"]) == ["of-others", "old", "new"]
    assert not administer(server, reference_values={"snp_pcr08": ["new"]}, keep_old=True)["changed"]
    settled = administer(server, reference_values={"snp_pcr08": ["new"]})
    assert json.loads(settled["diff"][0]["after"]) == ["of-others", "new"], "ours goes, that of others stays"
    assert not administer(server, reference_values={"snp_pcr08": ["new"]})["changed"]
    assert not administer(server, reference_values=server_values, directory=str(other), keep_old=True)["changed"]


@pytest.mark.parametrize("side", ["0.3"], indirect=True)
def test_reference_values_by_file_only(server: Server) -> None:
    server.start()
    result = administer(server, reference_values={"snp_pcr08": ["x"]})
    assert (result["changed"], result["unsupported"]) == (False, ["reference values"])


@EVERY
def test_another_key_is_refused_before_anything_is_sent(server: Server) -> None:
    server.start()
    private, _public = keys.new_ed25519()
    with pytest.raises(CocoError, match="does not accept the administrator's key") as refused:
        administer(server, private_key=private, **everything(server))
    assert "coco_kbs_admin_key" in refused.value.todo
    assert not any(SECRET.encode() in path.read_bytes() for path in server.directory.rglob("*") if path.is_file())


def test_without_a_key(server: Server) -> None:
    server.start()
    with pytest.raises(CocoError, match="private key is not at hand"):
        administer(server, private_key=None)
    result = administer(server, private_key=None, without_key="report", **everything(server))
    assert (result["changed"], result["key_available"], result["verification"]) == (False, False, {})


def test_a_key_in_the_private_directory(server: Server) -> None:
    server.start()
    directory = server.directory / "private"
    directory.mkdir(mode=0o700)
    (directory / "kbs-admin.pem").write_bytes((server.directory / "admin.key").read_bytes())
    (directory / "kbs-admin.pem").chmod(0o600)
    assert administer(server, private_key=None, resources={"default/a/b": "value"})["changes"] == ["resource default/a/b"]


@pytest.mark.parametrize(("options", "said"), [
    ({"release": "1.9/0.3"}, "is not of Trustee 0.3"),
    ({"ca_certificate": None}, "cannot be reached"),
    ({"kbs_url": "https://kbs.invalid"}, "cannot be reached"),
    ({"kbs_url": "http://kbs.example.com"}, "is http"),
    ({"kbs_url": "kbs.example.com"}, "https://host"),
    ({"resources": {"a/b": "value"}}, "three segments"),
    ({"resources": {"default/a/b": ""}}, "empty"),
    ({"attestation_policies": {"default": "package policy"}}, "evaluates default_cpu"),
])
def test_refused(server: Server, options: dict[str, Any], said: str) -> None:
    server.start()
    with pytest.raises(CocoError, match=said) as refused:
        administer(server, **options)
    assert refused.value.todo


def test_policies_in_read_only_files(server: Server) -> None:
    """As an operator mounts them: whose they are is said."""
    server.start()
    trustee = releases.parse("1.11/1.0").trustee
    rv = Path(server.path("rv.json"))
    rv.unlink(missing_ok=True)
    rv.mkdir()
    with pytest.raises(CocoError, match="RvpsError") as refused:
        administer(server, reference_values={"snp_pcr08": ["x"]})
    assert "coco_kbs_manage" in refused.value.todo
    assert trustee.reference_api

