"""reference_values: names, format, and an expiration that stays while it can."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.confidential.containers.plugins.module_utils.actions import reference_values
from ansible_collections.confidential.containers.plugins.module_utils.cluster_errors import ApiFailure
from ansible_collections.confidential.containers.plugins.module_utils.context import Context
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

MEASURED = {"measurements": {"sha256": {f"pcr{number:02d}": "0x" + f"{number:064x}" for number in (3, 9, 11, 12)}}}
PCR8 = "a" * 64


class Hub:
    """A config map with the API server's optimistic lock; ``race`` is written by somebody else before our first write."""

    server = "https://hub.test"

    def __init__(self, race: dict[str, Any] | None = None) -> None:
        self.found: dict[str, Any] | None = None
        self.version, self.race, self.writes = 0, race, 0

    def get(self, *_reference: str) -> dict[str, Any] | None:
        return json.loads(json.dumps(self.found))

    def _overtaken(self) -> None:
        if self.race is not None:
            other, self.race = self.race, None
            run(self, spokes=other)

    def create(self, obj: dict[str, Any], dry_run: bool = False) -> None:
        self._overtaken()
        if self.found is not None:
            raise ApiFailure(409, "AlreadyExists", "exists", None)
        self._keep(obj, dry_run)

    def patch(self, obj: dict[str, Any], patch: dict[str, Any], dry_run: bool = False) -> None:
        self._overtaken()
        if self.found is None or patch["metadata"]["resourceVersion"] != self.found["metadata"]["resourceVersion"]:
            raise ApiFailure(409, "Conflict", "the object has been modified", None)
        merged = {**self.found["data"], **patch["data"]}
        self._keep({**obj, "data": {key: text for key, text in merged.items() if text is not None},
                    "metadata": {**obj["metadata"], "annotations": patch["metadata"]["annotations"]}}, dry_run)

    def _keep(self, obj: dict[str, Any], dry_run: bool) -> None:
        if not dry_run:
            self.version += 1
            self.writes += 1
            self.found = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self.version)}}

    @property
    def pcr8s(self) -> list[str]:
        (values,) = (item["value"] for item in json.loads((self.found or {})["data"]["reference-values.json"])
                     if item["name"] == "snp_pcr08")
        return list(values)


def spoke(pcr8: str = PCR8, **more: Any) -> dict[str, Any]:
    return {"measurements": MEASURED, "initdata": [{"name": "a", "pcr8": pcr8}], **more}


def run(hub: Hub | None = None, check_mode: bool = False, **options: Any) -> dict[str, Any]:
    params: dict[str, Any] = {name: spec.get("default") for name, spec in reference_values.ARGUMENT_SPEC.items()}
    params.update({"release": "1.11/1.0", "spokes": {"one": spoke()}, "config_map": hub and "rvps", **options})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference_values.Cluster, "from_params", lambda _params: hub)
        return reference_values.run(params, Context(check_mode=check_mode))


def test_names_and_form() -> None:
    result = run()
    assert not result["changed"]
    items = json.loads(result["data"]["reference-values.json"])
    assert [item["name"] for item in items] == ["snp_pcr03", "snp_pcr08", "snp_pcr09", "snp_pcr11", "snp_pcr12"]
    assert items[0]["value"] == [f"{3:064x}"]
    assert items[1]["value"] == [PCR8]
    assert {item["expiration"] for item in items} == {result["expiration"]}


def test_unchanged_set_keeps_its_expiration() -> None:
    hub = Hub()
    assert run(hub, expiration="2099-01-01T00:00:00Z")["changed"]
    second = run(hub)
    assert second["expiration"] == "2099-01-01T00:00:00Z"
    assert not second["changed"]
    assert hub.writes == 1
    assert run(hub, check_mode=True, renew_before_days=36500)["expiration"] != "2099-01-01T00:00:00Z"
    assert run(hub, check_mode=True, spokes={"one": spoke("b" * 64)})["changed"]
    assert hub.writes == 1, "check mode writes nothing"


def test_spokes_are_merged_by_name() -> None:
    hub = Hub()
    run(hub)
    result = run(hub, spokes={"two": spoke("b" * 64)})
    assert result["others"] == ["one"]
    assert hub.pcr8s == [PCR8, "b" * 64]
    run(hub, spokes={"one": spoke("c" * 64)})
    assert hub.pcr8s == ["c" * 64, "b" * 64], "the old value of a spoke goes, that of its neighbour stays"
    run(hub, spokes={}, remove=["two"])
    assert hub.pcr8s == ["c" * 64]


def test_roll_over_keeps_what_is_accepted() -> None:
    hub = Hub()
    run(hub)
    assert run(hub, keep_old=True, spokes={"one": spoke("b" * 64)})["values"]["snp_pcr08"] == ["b" * 64, PCR8]
    run(hub, spokes={"one": spoke("b" * 64)})
    assert hub.pcr8s == ["b" * 64]


@pytest.mark.parametrize("exists", [False, True])
def test_a_write_that_was_overtaken_is_merged_anew(exists: bool) -> None:
    hub = Hub()
    if exists:
        run(hub)
    hub.race = {"two": spoke("b" * 64)}
    run(hub, spokes={"one": spoke("c" * 64)})
    assert hub.pcr8s == ["c" * 64, "b" * 64], "neither of two writers at the same time is lost"


def test_spokes_of_different_image_versions() -> None:
    newer = {"measurements": {"sha256": {f"pcr{number:02d}": f"{number + 100:064x}" for number in (3, 9, 11, 12)}}}
    values = run(spokes={"one": spoke(), "two": spoke("b" * 64, measurements=newer)})["values"]
    assert values["snp_pcr11"] == [f"{11:064x}", f"{111:064x}"]


def test_measurements_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "measurements.json"
    path.write_text(json.dumps(MEASURED))
    assert run(spokes={"one": spoke(measurements=str(path))})["values"] == run()["values"]
    with pytest.raises(CocoError, match=r"absent\.json"):
        run(spokes={"one": spoke(measurements=str(tmp_path / "absent.json"))})
    path.write_text("{")
    with pytest.raises(CocoError, match=r"measurements\.json"):
        run(spokes={"one": spoke(measurements=str(path))})
    with pytest.raises(CocoError, match="one"):
        run(spokes={"one": {"mesurements": {}}})
