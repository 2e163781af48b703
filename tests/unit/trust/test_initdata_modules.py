"""initdata_build and initdata_info: what is built is read back, with the same digest and registers."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from ansible_collections.confidential.containers.plugins.module_utils import initdata, kata_policy, releases
from ansible_collections.confidential.containers.plugins.module_utils.actions import initdata_build, initdata_info
from ansible_collections.confidential.containers.plugins.module_utils.context import Context
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError


def run(work: Any, **options: Any) -> dict[str, Any]:
    params = {name: spec.get("default") for name, spec in work.ARGUMENT_SPEC.items()}
    result: dict[str, Any] = work.run({**params, **options}, Context())
    return result


def build(**options: Any) -> dict[str, Any]:
    return run(initdata_build, **{"release": "1.11/1.0", "kbs_url": "https://kbs.example.test",
                                  "policy": kata_policy.render(), **options})


def test_built_and_read_back() -> None:
    built = build()
    digest = hashlib.sha256(built["toml"].encode()).digest()
    assert built["digest"] == digest.hex()
    assert built["pcr8"] == hashlib.sha256(bytes(32) + digest).hexdigest()
    assert built["annotation"] == {"key": releases.HYPERVISOR_ANNOTATION, "value": built["encoded"]}
    assert not built["changed"]
    assert build() == built
    for given in ({"encoded": built["encoded"]}, {"annotations": {releases.HYPERVISOR_ANNOTATION: built["encoded"]}}):
        read = run(initdata_info, release="1.11/1.0", **given)
        assert read["found"]
        assert read["toml"] == built["toml"]
        assert read["pcr8"] == built["pcr8"]
        assert read["findings"] == []


def test_given_document_is_taken_byte_for_byte() -> None:
    toml = build()["toml"] + "# a remark\n"
    assert build(toml=toml, kbs_url=None, policy=None)["toml"] == toml


def test_what_the_guest_refuses_fails() -> None:
    with pytest.raises(CocoError):
        build(kbs_url="https://kbs.example.test/kbs/v0")
    with pytest.raises(CocoError):
        build(policy="package other\n")


def test_another_release_is_a_finding() -> None:
    text = initdata.encode(build()["toml"].encode(), "base64")
    found = run(initdata_info, release="1.11/1.0", annotations={releases.RUNTIME_ANNOTATION: text})["findings"]
    assert {"encoding", "annotation"} <= {finding["code"] for finding in found}
    assert run(initdata_info, annotations={"other": "x"})["found"] is False
    with pytest.raises(CocoError):
        run(initdata_info, encoded="no base64!")
