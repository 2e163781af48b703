"""Verifiers of evidence: ``(evidence, expected report data, initdata digest) -> claims``.

The lab has three: the sample TEE and its device as they are, and the Azure SEV-SNP vTPM with the lab's silicon key as trust
anchor (lab/silicon.py). Every other TEE is refused in the words of a build without that verifier.
"""

from __future__ import annotations

import base64
import hashlib
import logging
from typing import Any

from lab import silicon
from lab.kbs.errors import Refused
from lab.kbs.generation import Generation
from lab.kbs.wire import unb64

log = logging.getLogger("lab")


class Verifiers:
    """The verifiers of one server."""

    def __init__(self, generation: Generation, silicon_public: bytes | None) -> None:
        self._generation, self._silicon = generation, silicon_public
        self._known = {"sample": self._sample, "sampledevice": self._device, generation.azure: self._azure}

    def verify(self, tee: str, evidence: Any, report_data: bytes, digest: bytes | None) -> dict[str, Any]:
        """The claims of evidence that verifies. Raises :class:`Refused`."""
        verifier = self._known.get(tee)
        if verifier is None:
            feature = self._generation.features.get(tee, tee)
            raise Refused(f"feature `{feature}-verifier` is not enabled for `verifier` crate.")
        return verifier(evidence, report_data, digest)

    def _sample(self, evidence: Any, report_data: bytes, digest: bytes | None) -> dict[str, Any]:
        quote = _quote(evidence, report_data)
        claims = {**self._generation.sample_claims, **quote}
        if self._generation.sample_init_data == "evidence":
            claims["init_data"] = str(evidence.get("init_data", ""))
        elif digest is not None and self._generation.sample_init_data == "digest":
            claims["init_data"] = base64.b64encode(digest).decode()
        elif digest is not None:
            log.warning("Sample does not support init data hash mechanism. skip.")
        return claims

    def _device(self, evidence: Any, report_data: bytes, _digest: bytes | None) -> dict[str, Any]:
        return {"svn": _quote(evidence, report_data)["svn"]}

    def _azure(self, evidence: Any, report_data: bytes, digest: bytes | None) -> dict[str, Any]:
        if self._silicon is None:
            raise Refused("lab-kbs was started without LAB_SILICON_PUBLIC: it cannot verify "
                          f"{self._generation.azure} evidence")
        try:
            claims = silicon.verify(self._silicon, evidence, report_data)
        except silicon.EvidenceError as error:
            raise Refused(str(error)) from error
        if digest is not None and claims["init_data"] != _extended(digest):
            raise Refused("Expected init_data digest is different from the content of PCR8")
        return claims


def _quote(evidence: Any, report_data: bytes) -> dict[str, Any]:
    """The two fields of a sample quote; others are ignored. The report data must be equal, byte for byte."""
    try:
        svn, given = evidence["svn"], evidence["report_data"]
        if not isinstance(svn, str) or not isinstance(given, str):
            raise TypeError("svn and report_data are strings")
        decoded = unb64(given)
    except KeyError as error:
        raise Refused("Deserialize Quote failed.", f"missing field `{error.args[0]}`") from error
    except (TypeError, ValueError) as error:
        raise Refused("Deserialize Quote failed.", str(error)) from error
    if decoded != report_data:
        raise Refused("REPORT_DATA is different from that in Sample Quote")
    return {"svn": svn, "report_data": given}


def _extended(digest: bytes) -> str:
    """PCR 8 after one extension by a digest of 32 bytes; nothing equals a digest of another length."""
    return hashlib.sha256(bytes(32) + digest).hexdigest() if len(digest) == 32 else ""
