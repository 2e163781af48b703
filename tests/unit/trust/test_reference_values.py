"""reference_values: names, format, and an expiration that stays while it can."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.confidential.containers.plugins.module_utils.actions import reference_values
from ansible_collections.confidential.containers.plugins.module_utils.context import Context
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

MEASURED = {"measurements": {"sha256": {f"pcr{number:02d}": "0x" + f"{number:064x}" for number in (3, 9, 11, 12)}}}
PCR8 = "a" * 64


def run(**options: Any) -> dict[str, Any]:
    params: dict[str, Any] = {name: spec.get("default") for name, spec in reference_values.ARGUMENT_SPEC.items()}
    params.update({"release": "1.11/1.0", "measurements": MEASURED, "initdata": [{"name": "a", "pcr8": PCR8}], **options})
    return reference_values.run(params, Context())


def test_names_and_form() -> None:
    result = run()
    items = json.loads(result["data"]["reference-values.json"])
    assert [item["name"] for item in items] == ["snp_pcr03", "snp_pcr08", "snp_pcr09", "snp_pcr11", "snp_pcr12"]
    assert items[0]["value"] == [f"{3:064x}"]
    assert items[1]["value"] == [PCR8]
    assert {item["expiration"] for item in items} == {result["expiration"]}


def test_unchanged_set_keeps_its_expiration() -> None:
    first = run(expiration="2099-01-01T00:00:00Z")
    second = run(current=first["data"])
    assert second["expiration"] == "2099-01-01T00:00:00Z"
    assert not second["changed"]
    assert run(current=first["data"], renew_before_days=36500)["expiration"] != first["expiration"]
    assert run(current=first["data"], initdata=[{"name": "b", "pcr8": "b" * 64}])["changed"]


def test_roll_over_keeps_old_pcr8() -> None:
    first = run()
    second = run(current=first["data"], keep_current=True, initdata=[{"name": "b", "pcr8": "b" * 64}])
    assert second["values"]["snp_pcr08"] == ["b" * 64, PCR8]


def test_measurements_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "measurements.json"
    path.write_text(json.dumps(MEASURED))
    assert run(measurements=str(path))["values"] == run()["values"]
    with pytest.raises(CocoError, match=r"absent\.json"):
        run(measurements=str(tmp_path / "absent.json"))
    path.write_text("{")
    with pytest.raises(CocoError, match=r"measurements\.json"):
        run(measurements=str(path))
