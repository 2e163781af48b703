"""kbs_certificates: the hub decides what is in use; nothing that was lost is made again silently."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.confidential.containers.plugins.module_utils import keys
from ansible_collections.confidential.containers.plugins.module_utils.actions import kbs_certificates
from ansible_collections.confidential.containers.plugins.module_utils.context import Context
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

HOST = "kbs.example.test"


def run(where: Path, check: bool = False, **options: Any) -> dict[str, Any]:
    params: dict[str, Any] = {name: spec.get("default") for name, spec in kbs_certificates.ARGUMENT_SPEC.items()}
    params.update(directory=str(where / "hub"), hosts=[HOST], **options)
    return kbs_certificates.run(params, Context(check_mode=check))


def held(result: dict[str, Any]) -> dict[str, Any]:
    return {"cluster_ca": result["ca_certificate"], "cluster_certificate": result["certificate"],
            "cluster_signer_certificate": result["signer_certificate"]}


def test_made_once(tmp_path: Path) -> None:
    first = run(tmp_path)
    assert first["changed"]
    assert set(first["renewed"]) == {"ca", "certificate", "signer"}
    assert first["certificate_write"]
    assert first["signer_write"]
    assert keys.key_fits(first["private_key"], first["certificate"])
    assert keys.key_fits(first["signer_key"], first["signer_certificate"])
    for path in (tmp_path / "hub").iterdir():
        assert os.stat(path).st_mode & 0o777 == 0o600
    second = run(tmp_path, **held(first))
    assert not second["changed"]
    assert not second["certificate_write"]
    assert not second["signer_write"]
    assert not second["private_key"]
    assert not second["signer_key"]


def test_killed_before_the_secret_was_written(tmp_path: Path) -> None:
    first = run(tmp_path)
    again = run(tmp_path)
    assert not again["changed"]
    assert again["certificate_write"]
    assert (again["certificate"], again["private_key"]) == (first["certificate"], first["private_key"])
    assert (again["signer_certificate"], again["signer_key"]) == (first["signer_certificate"], first["signer_key"])


def test_certificate_that_an_operator_copied_without_its_authority(tmp_path: Path) -> None:
    """trustee.md 4.6: what a TrusteeConfig's operator makes of our TLS Secret holds the certificate alone."""
    first = run(tmp_path)
    copied = {**held(first), "cluster_ca": ""}
    again = run(tmp_path, **copied)
    assert not again["changed"]
    assert again["certificate_write"]
    assert (again["certificate"], again["private_key"]) == (first["certificate"], first["private_key"])
    assert again["ca_certificate"] == first["ca_certificate"]
    (tmp_path / "hub" / "kbs-tls.key").unlink()
    kept = run(tmp_path, **copied)
    assert not kept["changed"]
    assert not kept["certificate_write"], "without its key it is kept as it is"


def test_check_mode_gives_public_halves_only(tmp_path: Path) -> None:
    result = run(tmp_path, check=True)
    assert list(tmp_path.iterdir()) == []
    assert result["certificate_write"]
    assert result["private_key"] is None
    assert result["signer_key"] is None
    assert "BEGIN CERTIFICATE" in result["ca_certificate"]
    assert "BEGIN CERTIFICATE" in result["certificate"]


def test_renewed_by_the_same_authority(tmp_path: Path) -> None:
    first = run(tmp_path)
    for options in ({"state": "renewed"}, {"renew_before_days": 366}):
        second = run(tmp_path, **held(first), **options)
        assert "certificate" in second["renewed"]
        assert second["ca_certificate"].strip() == first["ca_certificate"].strip()
        assert second["certificate"] != first["certificate"]


def test_another_host_gets_a_new_certificate(tmp_path: Path) -> None:
    first = run(tmp_path)
    params = {name: spec.get("default") for name, spec in kbs_certificates.ARGUMENT_SPEC.items()}
    params.update(directory=str(tmp_path / "hub"), hosts=[HOST, "other.test"], **held(first))
    second = kbs_certificates.run(params, Context())
    assert second["renewed"] == ["certificate"]


def test_lost_directory_keeps_what_the_hub_has(tmp_path: Path) -> None:
    first = run(tmp_path / "one")
    second = run(tmp_path / "two", **held(first))
    assert not second["changed"]
    assert not second["ca_available"]
    assert second["certificate"].strip() == first["certificate"].strip()
    assert any(finding["severity"] == "warning" for finding in second["findings"])


def test_unknown_authority_is_an_error(tmp_path: Path) -> None:
    """The hub holds a server certificate, and its authority is neither there nor here."""
    first = run(tmp_path / "one")
    with pytest.raises(CocoError):
        run(tmp_path / "two", cluster_certificate=first["certificate"])


def test_authority_without_its_key_is_not_replaced_silently(tmp_path: Path) -> None:
    first = run(tmp_path)
    key = next(path for path in (tmp_path / "hub").iterdir() if path.name.endswith("ca.key"))
    key.unlink()
    before = sorted(path.read_bytes() for path in (tmp_path / "hub").iterdir())
    with pytest.raises(CocoError, match="key") as raised:
        run(tmp_path)
    assert raised.value.todo
    assert sorted(path.read_bytes() for path in (tmp_path / "hub").iterdir()) == before
    assert first["ca_certificate"].encode() in before


def test_given_certificate_is_checked(tmp_path: Path) -> None:
    own = run(tmp_path)
    given = {"source": "given", "ca_certificate": own["ca_certificate"], "certificate": own["certificate"],
             "private_key": own["private_key"]}
    assert run(tmp_path, **given)["certificate_write"]
    assert not run(tmp_path, **given, cluster_certificate=own["certificate"])["certificate_write"]
    with pytest.raises(CocoError):
        run(tmp_path, **{**given, "private_key": own["signer_key"]})


def test_given_certificate_of_another_authority_is_refused(tmp_path: Path) -> None:
    own, other = run(tmp_path / "one"), run(tmp_path / "two")
    with pytest.raises(CocoError):
        run(tmp_path / "one", source="given", ca_certificate=other["ca_certificate"], certificate=own["certificate"],
            private_key=own["private_key"])


def test_given_chain_with_an_intermediate(tmp_path: Path) -> None:
    """A company's root issues an intermediate authority, that one the server's certificate."""
    root = run(tmp_path)
    below = run(tmp_path, **held(root), state="authority_renewed")
    leaf = "".join(below["certificate"].partition("-----END CERTIFICATE-----\n")[:2])
    assert below["certificate"] != leaf, "the chain holds the intermediate"
    given = {"source": "given", "ca_certificate": root["ca_certificate"], "private_key": below["private_key"]}
    found = run(tmp_path / "given", **given, certificate=below["certificate"])
    assert found["certificate"].strip() == below["certificate"].strip()
    with pytest.raises(CocoError, match="not signed by the given authority"):
        run(tmp_path / "given", **given, certificate=leaf)


def test_renewed_authority_is_believed_by_who_trusts_the_old_one(tmp_path: Path) -> None:
    first = run(tmp_path)
    second = run(tmp_path, **held(first), state="authority_renewed")
    assert {"ca", "certificate"} <= set(second["renewed"])
    assert second["ca_certificate"] != first["ca_certificate"]
    for authority in (first["ca_certificate"], second["ca_certificate"]):
        assert keys.chains(second["certificate"], authority)
    third = run(tmp_path, **held(second), state="renewed")
    assert third["ca_certificate"] == second["ca_certificate"]
    assert keys.chains(third["certificate"], first["ca_certificate"]), "a later certificate is still believed by old pods"
    assert not run(tmp_path, **held(third))["changed"]


def test_authority_cannot_be_renewed_without_the_old_key(tmp_path: Path) -> None:
    first = run(tmp_path)
    next(path for path in (tmp_path / "hub").iterdir() if path.name.endswith("ca.key")).unlink()
    with pytest.raises(CocoError, match="has to certify the new one"):
        run(tmp_path, **held(first), state="authority_renewed")


@pytest.mark.parametrize("lost", ["signer", "tls"])
def test_signer_and_certificate_in_the_same_secrets(tmp_path: Path, lost: str) -> None:
    """Where both lie in the same Secrets, one is never written without the other; a lost key is made anew."""
    first = run(tmp_path, signer_with_certificate=True)
    assert first["certificate_write"]
    assert first["signer_write"]
    assert not run(tmp_path, signer_with_certificate=True, **held(first))["certificate_write"]
    missing = {**held(first), "cluster_signer_certificate": ""} if lost == "signer" else {**held(first), "cluster_certificate": ""}
    second = run(tmp_path, signer_with_certificate=True, **missing)
    assert second["private_key"] == first["private_key"]
    assert second["signer_key"] == first["signer_key"]
    (tmp_path / "hub" / ("kbs-tls.key" if lost == "signer" else "kbs-signer.key")).unlink()
    third = run(tmp_path, signer_with_certificate=True, **missing)
    assert third["private_key"]
    assert third["signer_key"]
    assert third["certificate_write"]
    assert third["signer_write"]
