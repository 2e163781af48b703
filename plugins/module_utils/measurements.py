# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What initdata does to the measured registers, and what the pod VM image measures. Pure.

Sources: the guest's boot (``tpm2_pcrextend`` of the first 32 bytes of the digest), the Trustee verifiers, and the
``measurements.json`` that the dm-verity image publishes.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils import initdata
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

#: PCRs of the sha256 bank that the production policy compares, without 8 (initdata).
IMAGE_PCRS = (3, 9, 11, 12)
#: PCR 8 of a VM that no initdata reached (the adaptor's dummy document).
DUMMY_PCR8 = "4b58b30becd30d16f7f60d56b32661d921ae0d3310c6a89f5d552f9bfee921a9"
_HEX64 = re.compile(r"^[0-9a-f]{64}$")


def pcr8(digest: bytes) -> str:
    """PCR 8 (64 hex digits) after one extend with the first 32 bytes of the initdata digest."""
    return hashlib.sha256(bytes(32) + digest[:32]).hexdigest()


def host_data(digest: bytes) -> str:
    """SEV-SNP HOST_DATA: the digest cut or padded with zeros to 32 bytes, in hex."""
    return digest[:32].ljust(32, b"\0").hex()


def mr_config_id(digest: bytes) -> str:
    """TDX MRCONFIGID: the digest cut or padded with zeros to 48 bytes, in hex."""
    return digest[:48].ljust(48, b"\0").hex()


def registers(digest: bytes) -> dict[str, str]:
    """Every register that binds a digest: ``digest``, ``pcr8``, ``host_data``, ``mr_config_id`` (hex)."""
    if len(digest) not in (32, 48, 64):
        raise CocoError("The digest of initdata cannot be used", f"it has {len(digest)} bytes",
                        "Give the digest itself: 32, 48 or 64 bytes, no hex text.")
    return {"digest": digest.hex(), "pcr8": pcr8(digest), "host_data": host_data(digest),
            "mr_config_id": mr_config_id(digest)}


def bindings(toml: bytes) -> dict[str, str]:
    """:func:`registers` of a document, hashed over its exact bytes with the algorithm it names."""
    return registers(initdata.digest(toml))


def parse_measurements(document: Any, tee: str = "snp") -> dict[str, list[str]]:
    """Reference values of the pod VM image: ``{"snp_pcr03": [hex], …}``.

    ``document``: the image's ``measurements.json`` (``{"measurements": {"sha256": {"pcr03": "0x…"}}}``), or a map of PCR
    names to one value or a list of them (several image versions at once). Raises :class:`CocoError`.
    """
    where = "The measurements of the pod VM image"
    if not isinstance(document, dict):
        raise CocoError(f"{where} cannot be read", f"they are {type(document).__name__}, not a map",
                        "Give the image's measurements.json (coco_measurements) as a path or as a map.")
    bank = document.get("measurements", document)
    bank = bank.get("sha256", bank) if isinstance(bank, dict) else bank
    if not isinstance(bank, dict):
        bank = {}
    found: dict[str, list[str]] = {}
    for number in IMAGE_PCRS:
        name = f"pcr{number:02d}"
        value = bank.get(name)
        values = value if isinstance(value, list) and value else [value]
        cleaned = []
        for item in values:
            text = str(item or "").strip().lower().removeprefix("0x")
            if not _HEX64.match(text):
                raise CocoError(f"{where} lack {name}", f"its value is {item!r}, not 64 hex digits",
                                "Take measurements.json from the dm-verity image whose tag is the installed OSC version.")
            cleaned.append(text)
        found[f"{tee}_{name}"] = list(dict.fromkeys(cleaned))
    return found
