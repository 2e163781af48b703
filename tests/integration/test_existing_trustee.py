"""A cluster that attests against a KBS which the collection does not run: a program of its own, administered over HTTP or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from ansible_collections.confidential.containers.plugins.module_utils import releases
from tests.contract.server import Server, private_pem, signer_key
from tests.contract.sides import SIDES
from tests.contract.test_administration import PAIRS, administer
from tests.integration.lab import ROOT, Lab, Run

SECRET = "open-sesame-4711"
RESOURCES = {"mine": {"word": SECRET}}
SIDE = {pair: SIDES[name] for name, pair in PAIRS.items()}[os.environ.get("LAB_RELEASE_IN_FULL", "1.11/1.0")]
TRUSTEE = releases.parse(PAIRS[SIDE.name]).trustee
#: An attestation policy that looks at nothing.
CLAIMS = {"executables": 3, "hardware": 2, "configuration": 2}
BLIND = "package policy\n\nimport rego.v1\n\n" + (
    f"trust_claims := {json.dumps(CLAIMS)}\n" if TRUSTEE.attestation_rules == "trust_claims"
    else "".join(f"default {name} := {value}\n\n" for name, value in CLAIMS.items()))


@pytest.fixture(scope="module")
def kbs(running_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A KBS beside the lab's cluster, with a certificate authority, policies and an administrator of its own."""
    server = Server(tmp_path_factory.mktemp("kbs"), SIDE)
    silicon = running_lab.state / "silicon" / "public.pem"
    try:
        server.start(env={"LAB_SILICON_PUBLIC": str(silicon)})
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def spoke(virgin: Lab, kbs: Server, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """The cluster in an inventory without a hub."""
    inventory = tmp_path_factory.mktemp("existing")
    (inventory / "group_vars").mkdir()
    choices = (ROOT / "inventories/lab/group_vars/all.yml").read_text().replace("coco_kbs_connect_to:", "lab_unused:")
    (inventory / "group_vars/all.yml").write_text(choices + f"""
coco_kbs_url: https://{kbs.address}:{kbs.port}
coco_kbs_ca_certificate: "{{{{ lookup('ansible.builtin.file', '{kbs.path('ca.crt')}') }}}}"
""")
    (inventory / "hosts.yml").write_text("spokes:\n  hosts:\n    lab:\n")
    return Lab(virgin.state, os.path.relpath(inventory, ROOT / "inventories"), "lab")


@pytest.fixture(scope="module")
def attested(spoke: Lab, kbs: Server) -> Lab:
    """After one run with the administrator's key."""
    run = spoke.playbook("site", variables=with_key(kbs))
    assert run.code == 0, run.output
    assert run.verdict.startswith("the secret reached an attested pod")
    assert SECRET not in run.output
    return spoke


def with_key(kbs: Server) -> dict[str, Any]:
    return {"coco_kbs_admin_key": Path(kbs.path("admin.key")).read_text(), "coco_resources": RESOURCES}


def changed(run: Run) -> int:
    found = re.search(r"^lab\s*: ok=\d+\s+changed=(\d+)", run.output, re.MULTILINE)
    assert found, run.output
    return int(found[1])


def test_the_hub_steps_do_nothing_here(attested: Lab, kbs: Server) -> None:
    assert attested.request("GET", "/api/v1/namespaces/trustee-operator-system") is None
    assert any(path.read_bytes() == SECRET.encode() for path in kbs.directory.rglob("*") if path.is_file()), "the KBS has the secret"


def test_second_run_changes_nothing(attested: Lab, kbs: Server) -> None:
    before = attested.owned()
    run = attested.playbook("site", variables=with_key(kbs))
    assert run.code == 0, run.output
    assert changed(run) == 0, run.output
    assert attested.owned() == before


def test_without_a_key_the_owner_learns_what_to_accept(attested: Lab) -> None:
    run = attested.playbook("site", "--tags", "step11", variables={"coco_resources": RESOURCES})
    assert run.code == 0, run.output
    for said in ("snp_pcr08", TRUSTEE.policy_ids[0], "resource_policy", "default/mine/word", "default/coco-verification/random"):
        assert said in run.output, said
    assert SECRET not in run.output


def test_without_a_key_a_named_resource_proves_it(attested: Lab, kbs: Server) -> None:
    """The owner put a resource there and told its digest; nobody told: the proof is refused, not left out."""
    administer(kbs, resources={"default/coco-verification/owners": "the owner's own"}, directory=None)
    told = {"coco_verification_resource": "default/coco-verification/owners",
            "coco_verification_sha256": hashlib.sha256(b"the owner's own").hexdigest()}
    run = attested.playbook("verify", variables=told)
    assert run.code == 0, run.output
    assert run.verdict.startswith("the secret reached an attested pod")
    run = attested.playbook("verify")
    assert run.code != 0
    assert "coco_verification_sha256" in run.output
    run = attested.playbook("verify", variables={**told, "coco_verification_sha256": "0" * 64})
    assert run.code != 0
    assert "did not reach the attested pod" in run.output


def test_a_blind_policy_of_the_owner_is_found(attested: Lab, kbs: Server) -> None:
    """The negative proof without the KBS's log: a tampered pod that is served says so."""
    administer(kbs, attestation_policies={TRUSTEE.policy_ids[0]: BLIND}, directory=None)
    run = attested.playbook("verify", "--tags", "step14", variables=with_key(kbs))
    assert run.code != 0
    assert "initdata is not enforced" in run.output
    run = attested.playbook("site", "--tags", "step11,step14", variables=with_key(kbs))
    assert run.code == 0, "the next run sets the policy again\n" + run.output


def test_an_open_resource_policy_of_the_owner_is_found(attested: Lab, kbs: Server) -> None:
    """Step 13 from outside: evidence that anybody can make gets the secret."""
    administer(kbs, resource_policy="package policy\n\nimport rego.v1\n\ndefault allow := true\n", directory=None)
    run = attested.playbook("verify", "--tags", "step13", variables=with_key(kbs))
    assert run.code != 0
    assert "evidence of the sample attester gets nothing" in run.output
    assert "Tell the KBS's owner" in " ".join(run.output.split())
    run = attested.playbook("site", "--tags", "step11,step13", variables=with_key(kbs))
    assert run.code == 0, "the next run sets the policy again\n" + run.output


def test_refused_before_anything_is_written(attested: Lab, kbs: Server, tmp_path: Path) -> None:
    other = Server(tmp_path, SIDE)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"coco_kbs_admin_key": private_pem(ed25519.Ed25519PrivateKey.generate()).decode()}, "does not accept the administrator's key"),
        ({"coco_kbs_admin_key": private_pem(signer_key()).decode()}, "not an Ed25519 key"),
        ({"coco_kbs_url": f"https://127.0.0.1:{other.port}"}, "cannot be reached"),
        ({"coco_kbs_url": "http://127.0.0.1:1"}, "is http"),
        ({"coco_kbs_ca_certificate": Path(other.path("ca.crt")).read_text()}, "cannot be reached"),
        ({"coco_kbs_ca_certificate": Path(kbs.path("tls.crt")).read_text()}, "a server's own"),
    ]
    for choice, said in wrong:
        mark = attested.mark
        run = attested.playbook("site", variables={**with_key(kbs), **choice})
        assert run.code != 0
        assert said in " ".join(run.output.split()), run.output
        assert attested.writes(mark) == []


def test_a_hub_beside_it_is_a_contradiction(attested: Lab, tmp_path: Path) -> None:
    hub = tmp_path / "hub.yml"
    hub.write_text("hub:\n  hosts:\n    lab:\n")
    run = attested.playbook("site", "-i", str(hub), "--tags", "step05")
    assert run.code != 0
    assert "The inventory contradicts itself" in " ".join(run.output.split())


def test_neither_hub_nor_kbs(attested: Lab, tmp_path: Path) -> None:
    """Peer pods that are not confidential (inventories/aws): the steps of the spoke alone, and an empty group hub."""
    empty = tmp_path / "empty.yml"
    empty.write_text("hub:\n  hosts: {}\n")
    run = attested.playbook("site", "-i", str(empty), "--tags", "step03,step05", "--check",
                            variables={"coco_kbs_url": "", "peerpods_document": ""})
    assert run.code == 0, run.output
