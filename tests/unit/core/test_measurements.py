"""measurements.py. Vectors: trustee.md 6.3, 6.4 and deployment.md 6.2, 6.3, 6.4."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from ansible_collections.confidential.containers.plugins.module_utils import initdata, measurements
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

from .test_initdata import DEPLOYMENT, TRUSTEE

SHA256 = "d7841f044a07ffac7205f00a48d83e0ab0a243dd8d8da32503224d7ed8ccbfc9"
SHA512 = ("6251173e60336042cf77f9d6059568af24cb8352a17d6b8f3222eb8c8e42404cfbad1f021acc7326ee10d7903dc86c09"
          "219c08a2f77163984ac0402353230d0d")


@pytest.mark.parametrize(("algorithm", "pcr8"), [
    ("sha256", "9dd975891a873a87c5881db7848f98e38ec550faefcef28f418eeea365ef14c2"),
    ("sha384", "24bba545324d4bcff32231c8f4f9e038dd64086ebab72a3a2b31ac82985b7f69"),
    ("sha512", "05ad18e3f4f575b571e94219fc34e17be1f0b6f31f64624bde5c1d19b29e0ec9"),
])
def test_pcr8_of_the_same_bytes(algorithm: str, pcr8: str) -> None:
    """trustee.md 6.4: the first 32 bytes of each digest extend the register once."""
    assert measurements.pcr8(initdata.digest(TRUSTEE, algorithm)) == pcr8


@pytest.mark.parametrize(("toml", "pcr8"), [
    (DEPLOYMENT, "8cf0fb4860fd4a88d0ba2d6096eb9876d727155e18f8eabf52d01b3038c45640"),
    (DEPLOYMENT[:-1], "3e3a6c4d0cc984e07366716d072c9d14b1b3098dbc8b7103dc6a8684ab0493d5"),
    (DEPLOYMENT.replace(b"sha256", b"sha384"), "2b937a6e76754c2235a3e47574fbad872c5538abdd515045e7eb838b9c62357c"),
])
def test_bindings_use_the_documents_own_algorithm(toml: bytes, pcr8: str) -> None:
    """deployment.md 6.4."""
    assert measurements.bindings(toml)["pcr8"] == pcr8


def test_registers_of_confidential_machines() -> None:
    """trustee.md 6.3 and 6.4: HOST_DATA has 32 bytes, MRCONFIGID 48."""
    found = measurements.bindings(TRUSTEE)
    assert found == {"digest": SHA256, "pcr8": "9dd975891a873a87c5881db7848f98e38ec550faefcef28f418eeea365ef14c2",
                     "host_data": SHA256, "mr_config_id": SHA256 + "0" * 32}
    long = measurements.registers(initdata.digest(TRUSTEE, "sha512"))
    assert (long["host_data"], long["mr_config_id"]) == (SHA512[:64], SHA512[:96])
    middle = measurements.registers(initdata.digest(TRUSTEE, "sha384"))
    assert middle["host_data"] == middle["digest"][:64]
    assert middle["mr_config_id"] == middle["digest"]


def test_the_dummy_document_of_the_adaptor() -> None:
    """trustee.md 6.4: 66 bytes; this PCR 8 means that no initdata reached the virtual machine."""
    dummy = b"algorithm = \"sha256\"\nversion = \"0.1.0\"\n\n[data]\n\"aa.toml\" = '''\n'''"
    assert len(dummy) == 66
    found = measurements.bindings(dummy)
    assert found["digest"] == "adb48cc14fea9403d3d51f3b5f5068fd4d80445a14e94f1b3d5dbabaad66478d"
    assert found["pcr8"] == measurements.DUMMY_PCR8


@pytest.mark.parametrize("digest", [b"", b"x" * 31, b"x" * 33, SHA512.encode()])
def test_only_digests_have_registers(digest: bytes) -> None:
    with pytest.raises(CocoError, match=f"{len(digest)} bytes"):
        measurements.registers(digest)


VALUES = {f"pcr{number:02d}": hashlib.sha256(bytes([number])).hexdigest() for number in (3, 9, 11, 12)}
ZERO = "00" + "a" * 62


def test_published_measurements() -> None:
    """deployment.md 6.2: /image/measurements.json; 0x is a prefix, the zeros after it are digits."""
    document = {"measurements": {"sha256": {name: f"0x{value}" for name, value in VALUES.items()}}}
    found = measurements.parse_measurements(document)
    assert found == {f"snp_{name}": [value] for name, value in VALUES.items()}
    assert measurements.parse_measurements(VALUES, "tdx") == {f"tdx_{name}": [value] for name, value in VALUES.items()}
    leading = measurements.parse_measurements({**VALUES, "pcr03": f"0x{ZERO}"})
    assert leading["snp_pcr03"] == [ZERO], "lstrip('0x') would eat the leading zeros"


def test_several_image_versions_and_capitals() -> None:
    found = measurements.parse_measurements({**VALUES, "pcr11": [VALUES["pcr11"].upper(), "0x" + VALUES["pcr03"], VALUES["pcr11"]]})
    assert found["snp_pcr11"] == [VALUES["pcr11"], VALUES["pcr03"]]


@pytest.mark.parametrize("document", [
    {}, [], "text", None, {"measurements": []}, {"measurements": {"sha256": None}}, {**VALUES, "pcr09": ""}, {**VALUES, "pcr09": []},
    {**VALUES, "pcr09": "0x12"}, {**VALUES, "pcr09": "z" * 64}, {key: value for key, value in VALUES.items() if key != "pcr12"},
    {**VALUES, "pcr03": [VALUES["pcr03"], None]}, {**VALUES, "pcr03": VALUES["pcr03"] + "\n00"},
])
def test_measurements_that_cannot_be_used(document: Any) -> None:
    with pytest.raises(CocoError) as caught:
        measurements.parse_measurements(document)
    assert caught.value.todo
