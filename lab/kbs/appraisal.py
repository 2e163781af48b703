"""Attestation policies: stored, and turned into a trust vector (trustee.md 5.2)."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

from lab.kbs import rego
from lab.kbs.errors import Refused, os_error
from lab.kbs.generation import Generation
from lab.kbs.wire import unb64url

log = logging.getLogger("lab")

STOCK = Path(__file__).parent / "policies"
_ID = re.compile(r"[A-Za-z0-9_-]+")
_STATUS = ("none", "affirming", "warning", "contraindicated")


def text_of(encoded: Any) -> str:
    """A policy as it travels: unpadded base64url. Raises :class:`Refused`."""
    if not isinstance(encoded, str):
        raise Refused("the policy is no string")
    try:
        return unb64url(encoded).decode()
    except ValueError as error:
        raise Refused("Failed to decode policy", str(error)) from error


def tier(value: int) -> int:
    """0 none, 1 affirming, 2 warning, 3 contraindicated."""
    if 2 <= value <= 31 or -32 <= value <= -2:
        return 1
    if 32 <= value <= 95 or -96 <= value <= -33:
        return 2
    return 3 if value >= 96 or value <= -97 else 0


def status(vector: dict[str, int]) -> str:
    """The worst tier of a trust vector."""
    return _STATUS[max(tier(value) for value in vector.values())]


class Policies:
    """The policies in ``directory``, one file per id, read anew for each attestation."""

    def __init__(self, directory: Path, generation: Generation) -> None:
        self._directory, self._generation = directory, generation
        directory.mkdir(parents=True, exist_ok=True)
        for name in generation.policy_ids:
            file = self._file(name)
            if file.exists():
                log.info("Policy %s already exists, so the default policy will not be written.", name)
                continue
            try:
                file.write_bytes((STOCK / f"{name}.rego").read_bytes())
            except OSError as error:
                log.warning("default policy %s not written: %s", name, os_error(error))

    def set(self, name: Any, encoded: Any) -> None:
        """Store a policy; one that does not parse leaves the old one. Raises :class:`Refused`."""
        text = text_of(encoded)
        if not isinstance(name, str) or not _ID.fullmatch(name):
            raise Refused("Illegal policy id. Only support alphabet, numeric, `-` or `_`")
        try:
            rego.check(text, self._generation.rego_v0)
            self._file(name).write_text(text)
        except rego.PolicyError as error:
            raise Refused("policy does not parse", str(error)) from error
        except OSError as error:
            raise Refused("write policy failed", os_error(error)) from error

    def vector(self, name: str, evidence: dict[str, Any], reference_values: dict[str, Any]) -> dict[str, int]:
        """The trust vector of annotated evidence. Raises :class:`Refused`.

        A rule that is missing or undefined is skipped, as v0.15 does: a policy without defaults fails open.
        """
        try:
            text = self._file(name).read_text()
        except (OSError, ValueError) as error:
            raise Refused(f"failed to read policy {name}",
                          os_error(error) if isinstance(error, OSError) else str(error)) from error
        vector: dict[str, int] = {}
        try:
            policy = rego.Policy(text, self._generation.rego_v0, {self._generation.reference_data: reference_values})
            for claim in self._generation.trust_claims:
                value = self._claim(policy, claim, evidence)
                if value is not None:
                    vector[claim.replace("_", "-")] = value
        except rego.PolicyError as error:
            raise Refused(f"failed to evaluate policy {name}", str(error)) from error
        if not vector:
            raise Refused("At least one policy claim must be set.")
        return vector

    def _claim(self, policy: rego.Policy, claim: str, evidence: dict[str, Any]) -> int | None:
        try:
            value = policy.rule(claim, evidence)
        except rego.NoSuchRule:
            return None
        if value is rego.UNDEFINED:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise Refused("Policy claim value not number")
        return (value + 128) % 256 - 128

    def _file(self, name: str) -> Path:
        return self._directory / f"{name}.rego"
