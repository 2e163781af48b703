"""kbs_keypair: the hub's public half is the one in use; a killed rotation can be gone on with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.confidential.containers.plugins.module_utils import keys
from ansible_collections.confidential.containers.plugins.module_utils.actions import kbs_keypair
from ansible_collections.confidential.containers.plugins.module_utils.context import Context
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError


def run(where: Path, check: bool = False, **options: Any) -> dict[str, Any]:
    params = {"directory": str(where / "hub"), "name": "kbs-admin", "state": "present", "public_key": None,
              "private_key": None, **options}
    return kbs_keypair.run(params, Context(check_mode=check))


def test_created_then_kept(tmp_path: Path) -> None:
    first = run(tmp_path)
    assert (first["changed"], first["action"], first["private_available"]) == (True, "created", True)
    assert os.stat(first["private_key_path"]).st_mode & 0o777 == 0o600
    assert os.stat(tmp_path / "hub").st_mode & 0o777 == 0o700
    assert keys.public_of(Path(first["private_key_path"]).read_text()) == first["public_key"]
    second = run(tmp_path, public_key=first["public_key"])
    assert (second["changed"], second["action"], second["fingerprint"]) == (False, "kept", first["fingerprint"])


def test_check_mode_writes_nothing(tmp_path: Path) -> None:
    result = run(tmp_path, check=True)
    assert result["changed"]
    assert result["private_key_path"] is None
    assert list(tmp_path.iterdir()) == []


def test_lost_private_half_is_not_made_again(tmp_path: Path) -> None:
    _rest, public = keys.new_ed25519()
    result = run(tmp_path, public_key=public)
    assert (result["changed"], result["private_available"], result["public_key"]) == (False, False, public)
    assert [finding["severity"] for finding in result["findings"]] == ["warning"]
    assert not (tmp_path / "hub" / "kbs-admin.pem").exists()


def test_rotation_killed_and_resumed(tmp_path: Path) -> None:
    old = run(tmp_path)["public_key"]
    new = run(tmp_path, public_key=old, state="rotated")
    assert new["action"] == "rotated"
    assert new["public_key"] != old
    waiting = run(tmp_path, public_key=old)
    assert (waiting["public_key"], waiting["private_available"], waiting["changed"]) == (old, True, False)
    assert keys.public_of(Path(waiting["private_key_path"]).read_text()) == old
    resumed = run(tmp_path, public_key=old, state="rotated")
    assert (resumed["action"], resumed["public_key"]) == ("resumed", new["public_key"])
    settled = run(tmp_path, public_key=new["public_key"])
    assert settled["private_available"]
    assert not (tmp_path / "hub" / "kbs-admin.previous.pem").exists()
    assert not run(tmp_path, public_key=new["public_key"])["changed"]


def test_rotation_without_the_old_private_half_resumes_too(tmp_path: Path) -> None:
    _rest, lost = keys.new_ed25519()
    new = run(tmp_path, public_key=lost, state="rotated")
    assert run(tmp_path, public_key=lost, state="rotated")["public_key"] == new["public_key"]
    assert not run(tmp_path, public_key=lost)["private_available"]


def test_handed_in_key_touches_no_directory(tmp_path: Path) -> None:
    private, public = keys.new_ed25519()
    result = run(tmp_path, private_key=private, public_key=public)
    assert (result["public_key"], result["private_available"], result["private_key_path"]) == (public, True, None)
    other = run(tmp_path, private_key=private, public_key=keys.new_ed25519()[1])
    assert not other["private_available"]
    assert list(tmp_path.iterdir()) == []


def test_unusable_public_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CocoError, match="rotated"):
        run(tmp_path, public_key="no key")
