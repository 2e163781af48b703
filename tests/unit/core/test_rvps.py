"""rvps.py. Sources: deployment.md 6.5, trustee.md 5.4, trustee-verified.md 2 and 3.5, trustee-verified-0.3.md 4."""

from __future__ import annotations

import base64
import datetime
import json
from typing import Any

import pytest

from ansible_collections.confidential.containers.plugins.module_utils import releases, rvps
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

TRUSTEE = releases.TRUSTEE_RELEASES
NOW = datetime.datetime(2026, 11, 24, tzinfo=datetime.timezone.utc)
END = "2027-12-12T00:00:00Z"
PCR8 = "8cf0fb4860fd4a88d0ba2d6096eb9876d727155e18f8eabf52d01b3038c45640"
VALUES: dict[str, Any] = {"snp_pcr11": ["b" * 64], "snp_pcr08": [PCR8, "c" * 64]}
#: deployment.md 6.5.
ITEM = f'{{"name":"snp_pcr08","expiration":"{END}","value":["{PCR8}"]}}'
ENCODED = ("eyJuYW1lIjoic25wX3BjcjA4IiwiZXhwaXJhdGlvbiI6IjIwMjctMTItMTJUMDA6MDA6MDBaIiwidmFsdWUiOlsiOGNmMGZiNDg2MGZkNGE4OGQwYmEyZDYwOTZl"
           "Yjk4NzZkNzI3MTU1ZTE4ZjhlYWJmNTJkMDFiMzAzOGM0NTY0MCJdfQ==")


def item(name: str, key: str, value: Any) -> dict[str, Any]:
    return {"name": name, "expiration": END, key: value}


def test_documented_empty_list() -> None:
    """0.1 and 0.2 (Simple broker): `[]`."""
    assert rvps.render(VALUES, END, TRUSTEE["0.2"]) == {"reference-values.json": "[]\n"}
    assert rvps.parse({"reference-values.json": "[]"}, TRUSTEE["0.2"]) == {}


@pytest.mark.parametrize("name", ["0.3", "0.4"])
def test_hash_values(name: str) -> None:
    """trustee-verified-0.3.md 4: `alg` and text values."""
    data = rvps.render(VALUES, END, TRUSTEE[name])
    assert list(data) == ["reference-values.json"]
    assert json.loads(data["reference-values.json"]) == [
        item("snp_pcr08", "hash-value", [{"alg": "sha256", "value": PCR8}, {"alg": "sha256", "value": "c" * 64}]),
        item("snp_pcr11", "hash-value", [{"alg": "sha256", "value": "b" * 64}]),
    ]


@pytest.mark.parametrize("name", ["1.0", "1.1"])
def test_values(name: str) -> None:
    data = rvps.render({**VALUES, "minimum_minor_version": 4}, END, TRUSTEE[name])
    assert json.loads(data["reference-values.json"]) == [
        item("minimum_minor_version", "value", 4), item("snp_pcr08", "value", [PCR8, "c" * 64]), item("snp_pcr11", "value", ["b" * 64]),
    ]


def test_map_vector() -> None:
    data = rvps.render({"snp_pcr08": [PCR8]}, END, TRUSTEE["1.2"])
    assert list(data) == ["reference_value"]
    assert json.loads(data["reference_value"]) == {"snp_pcr08": ENCODED}
    assert base64.urlsafe_b64decode(ENCODED).decode() == ITEM


@pytest.mark.parametrize("name", ["0.3", "0.4", "1.0", "1.1", "1.2"])
def test_read_back(name: str) -> None:
    parsed = rvps.parse(rvps.render(VALUES, END, TRUSTEE[name]), TRUSTEE[name])
    assert parsed == {key: {"value": value, "expiration": END} for key, value in VALUES.items()}
    assert rvps.findings(parsed, TRUSTEE[name], NOW) == []


def test_text_is_stable() -> None:
    for release in TRUSTEE.values():
        assert rvps.render(VALUES, END, release) == rvps.render(dict(reversed(VALUES.items())), END, release)


def test_url_safe_alphabet() -> None:
    """trustee.md 4.5: an item with ? or ~ at an unlucky offset differs between the alphabets; the KBS reads one of them."""
    found = [text for text in ("?" * n + "~" * n for n in range(1, 6))
             if "_" in json.loads(rvps.render({"x": text}, END, TRUSTEE["1.2"])["reference_value"])["x"]]
    assert found
    encoded = json.loads(rvps.render({"x": found[0]}, END, TRUSTEE["1.2"])["reference_value"])["x"]
    assert "/" not in encoded
    assert rvps.parse({"reference_value": json.dumps({"x": encoded})}, TRUSTEE["1.2"])["x"]["value"] == found[0]
    standard = encoded.replace("_", "/").replace("-", "+")
    with pytest.raises(CocoError, match="URL-safe"):
        rvps.parse({"reference_value": json.dumps({"x": standard})}, TRUSTEE["1.2"])


@pytest.mark.parametrize("value", [1, [1], ["a", None], True])
def test_old_releases_hold_texts_only(value: Any) -> None:
    """trustee-verified-0.3.md 4: a number as value makes every attestation 401."""
    for name in ("0.3", "0.4"):
        with pytest.raises(CocoError, match="texts only"):
            rvps.render({"svn": value}, END, TRUSTEE[name])
    assert rvps.render({"svn": value}, END, TRUSTEE["1.0"])


WRONG: list[tuple[str, str, Any]] = [
    ("0.3", "reference-values.json", [item("a", "value", ["x"])]),  # the form of 1.0
    ("0.4", "reference-values.json", [item("a", "value", ["x"])]),
    ("0.3", "reference-values.json", [item("a", "hash-value", [{"value": "x"}])]),  # no alg
    ("0.3", "reference-values.json", [item("a", "hash-value", [{"alg": "sha256", "value": 1}])]),
    ("0.3", "reference-values.json", [{"name": "a", "hash-value": [{"alg": "sha256", "value": "x"}]}]),  # no expiration
    ("0.3", "reference-values.json", {}),
    ("1.0", "reference-values.json", [item("a", "hash-value", [{"alg": "sha256", "value": "x"}])]),  # the form of 0.4
    ("1.1", "reference-values.json", [item("a", "hash-value", [{"alg": "sha256", "value": "x"}])]),
    ("1.0", "reference-values.json", {"a": ENCODED}),  # the form of 1.2
    ("1.0", "reference-values.json", [{"name": "a", "value": ["x"]}]),
    ("1.0", "reference-values.json", ["a"]),
    ("1.2", "reference_value", [item("a", "value", ["x"])]),  # the form of 1.1
    ("1.2", "reference_value", {"a": item("a", "value", ["x"])}),  # the operator's own sample, unencoded
    ("1.2", "reference_value", {"a": ENCODED.rstrip("=")}),  # padding is wanted
    ("1.2", "reference_value", {"a": base64.urlsafe_b64encode(b"[1]").decode()}),
]


@pytest.mark.parametrize(("name", "key", "document"), WRONG)
def test_what_the_kbs_cannot_read(name: str, key: str, document: Any) -> None:
    release = TRUSTEE[name]
    text = json.dumps(document)
    with pytest.raises(CocoError) as caught:
        rvps.parse({key: text}, release)
    assert release.name in caught.value.seen
    assert "step 11" in caught.value.todo


@pytest.mark.parametrize("text", ["", "garbage", "null", "1"])
@pytest.mark.parametrize("name", list(TRUSTEE))
def test_garbage(name: str, text: str) -> None:
    with pytest.raises(CocoError):
        rvps.parse({TRUSTEE[name].rvps_key: text}, TRUSTEE[name])


def test_another_releases_key() -> None:
    with pytest.raises(CocoError, match=r"reads reference_value\b"):
        rvps.parse({"reference-values.json": "[]"}, TRUSTEE["1.2"])
    with pytest.raises(CocoError, match="no key"):
        rvps.parse({}, TRUSTEE["1.0"])


@pytest.mark.parametrize("text", ["2027-12-12", "2027-12-12T00:00:00+00:00", "2027-12-12T00:00:00.5Z", "2027-12-12 00:00:00Z", "", "soon",
                                  "2027-13-12T00:00:00Z"])
def test_expiration_has_one_form(text: str) -> None:
    with pytest.raises(CocoError, match="2027-12-31T00:00:00Z"):
        rvps.parse_expiration(text)
    with pytest.raises(CocoError):
        rvps.render(VALUES, text, TRUSTEE["1.0"])
    found = rvps.findings({"a": {"value": ["x"], "expiration": text}}, TRUSTEE["1.0"], NOW)
    assert [(f["severity"], f["code"]) for f in found] == [("error", "expiration-form")]


def test_timestamp() -> None:
    east = datetime.timezone(datetime.timedelta(hours=2))
    assert rvps.timestamp(datetime.datetime(2027, 12, 12, 2, tzinfo=east)) == END
    assert rvps.parse_expiration(END) == datetime.datetime(2027, 12, 12, tzinfo=datetime.timezone.utc)


@pytest.mark.parametrize(("name", "severity"), [("0.3", "error"), ("0.4", "error"), ("1.0", "error"), ("1.1", "warning"),
                                                ("1.2", "warning")])
def test_expired(name: str, severity: str) -> None:
    """Skipped up to 1.0, still used from 1.1 on (trustee-verified.md 2)."""
    found = rvps.findings({"snp_pcr08": {"value": [PCR8], "expiration": "2026-11-24T00:00:00Z"}}, TRUSTEE[name], NOW)
    assert [(f["severity"], f["code"]) for f in found] == [(severity, "expired")]
    assert "step 11" in found[0]["hint"]
    assert "snp_pcr08" in found[0]["message"]


@pytest.mark.parametrize(("days", "code"), [(1, "expires-soon"), (60, "expires-soon"), (61, ""), (400, "")])
def test_expires_soon(days: int, code: str) -> None:
    end = rvps.timestamp(NOW + datetime.timedelta(days=days))
    found = rvps.findings({"a": {"value": ["x"], "expiration": end}}, TRUSTEE["1.0"], NOW)
    assert [f["code"] for f in found] == ([code] if code else [])


@pytest.mark.parametrize(("value", "bad"), [([], True), ("", True), (None, True), (0, False), (["x"], False)])
def test_empty_values(value: Any, bad: bool) -> None:
    found = rvps.findings({"a": {"value": value, "expiration": END}}, TRUSTEE["1.0"], NOW)
    assert [f["code"] for f in found] == (["empty"] if bad else [])


def test_a_spokes_own_values() -> None:
    image = {f"snp_pcr{number:02d}": [str(number) * 64] for number in (3, 9)}
    assert rvps.part(image, ["A" * 64, "b" * 64, "a" * 64]) == {
        "snp_pcr03": ["3" * 64], "snp_pcr09": ["9" * 64], "snp_pcr08": ["a" * 64, "b" * 64]}
    assert image == {"snp_pcr03": ["3" * 64], "snp_pcr09": ["9" * 64]}, "the given map is not changed"
    assert "tdx_pcr08" in rvps.part({}, [PCR8], "tdx")


def test_values_of_all_spokes_together() -> None:
    parts = {"b": {"snp_pcr03": ["1", "3"], "snp_pcr08": ["x"]}, "a": {"snp_pcr03": ["1"], "snp_pcr08": ["y"]}}
    assert rvps.combine(parts, {"snp_pcr03": ["4", "1"], "measurement": ["m"], "n": 4}) == {
        "snp_pcr03": ["1", "3", "4"], "snp_pcr08": ["y", "x"], "measurement": ["m"], "n": 4}


@pytest.mark.parametrize("name", ["", "a b", "1a", "a/b", 'a"'])
def test_names_no_policy_can_look_up(name: str) -> None:
    with pytest.raises(CocoError):
        rvps.combine({}, {name: ["x"]})


def test_roll_over() -> None:
    """Old values stay beside the new ones until the spokes have rolled; other spokes are not touched."""
    parts = {"a": {"snp_pcr08": ["old"]}, "b": {"snp_pcr08": ["other"]}}
    wanted = {"a": {"snp_pcr08": ["new"]}}
    assert rvps.update_parts(parts, wanted, True, []) == {"a": {"snp_pcr08": ["new", "old"]}, "b": {"snp_pcr08": ["other"]}}
    assert rvps.update_parts(parts, wanted, False, []) == {"a": {"snp_pcr08": ["new"]}, "b": {"snp_pcr08": ["other"]}}
    assert rvps.update_parts(parts, {}, False, ["b", "absent"]) == {"a": {"snp_pcr08": ["old"]}}
    assert parts == {"a": {"snp_pcr08": ["old"]}, "b": {"snp_pcr08": ["other"]}}, "the given maps are not changed"


def test_what_is_held_stays_accepted() -> None:
    held = {"snp_pcr08": {"value": ["old", "new"], "expiration": END}, "gone": {"value": ["x"], "expiration": END},
            "n": {"value": 3, "expiration": END}}
    assert rvps.keep({"snp_pcr08": ["new", "newer"], "n": 1}, held) == {"snp_pcr08": ["new", "newer", "old"], "n": 1}


def test_whose_values_they_are() -> None:
    assert rvps.read_parts(None) == {}
    assert rvps.read_parts('{"a": {"snp_pcr08": ["x"]}}') == {"a": {"snp_pcr08": ["x"]}}
    for broken in ("[]", "{", '{"a": 1}', '{"a": {"b": 1}}'):
        with pytest.raises(CocoError, match="annotation"):
            rvps.read_parts(broken)
