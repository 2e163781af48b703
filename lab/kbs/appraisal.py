"""Attestation policies: stored, and turned into a trust vector (trustee.md 5.2)."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

from lab.kbs import rego
from lab.kbs.errors import Panicked, Refused, cause
from lab.kbs.generation import Generation
from lab.kbs.storage import Store
from lab.kbs.wire import unb64url

log = logging.getLogger("lab")

STOCK = Path(__file__).parent / "policies"
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
    """The policies in ``store``, one per id, read anew for each attestation."""

    def __init__(self, store: Store, generation: Generation) -> None:
        self._store, self._generation = store, generation
        for name in generation.policy_ids:
            if store.exists(f"{name}.rego"):
                log.info("Policy %s already exists, so the default policy will not be written.", name)
                continue
            try:
                store.write(f"{name}.rego", (STOCK / generation.stock / f"{name}.rego").read_bytes())
            except OSError as error:
                log.warning("default policy %s not written: %s", name, cause(error))

    def set(self, name: Any, encoded: Any) -> None:
        """Store a policy; one that is refused leaves the old one. Raises :class:`Refused`."""
        text = text_of(encoded)
        if not isinstance(name, str) or not re.fullmatch(self._generation.policy_id, name):
            raise Refused("Illegal policy id. Only support alphabet, numeric, `-` or `_`")
        try:
            if self._generation.policy_checked:
                rego.check(text, self._generation.rego_v0)
            self._store.write(f"{name}.rego", text.encode())
        except rego.PolicyError as error:
            raise Refused("policy does not parse", str(error)) from error
        except OSError as error:
            raise Refused("write policy failed", cause(error)) from error

    def appraise(self, kind: str, evidence: dict[str, Any], values: dict[str, Any]) -> tuple[dict[str, int], dict[str, Any]]:
        """Trust vector and extensions of a class's annotated evidence. Raises :class:`Refused`."""
        name = self._generation.policy_name.format(kind=kind)
        try:
            text = self._store.read(f"{name}.rego").decode()
        except (OSError, ValueError) as error:
            raise Refused(f"failed to read policy {name}", cause(error)) from error
        try:
            if self._generation.reference_data:
                data = json.dumps({self._generation.reference_data: values})
                policy = rego.Policy(text, self._generation.rego_v0, data)
            else:
                policy = rego.Policy(text, self._generation.rego_v0, values=values)
            if self._generation.claim_rules:
                return self._from_rules(policy, evidence), {}
            return self._from_object(policy, evidence), self._extensions(policy, evidence)
        except rego.PolicyError as error:
            raise Refused(f"failed to evaluate policy {name}", str(error)) from error

    def _from_rules(self, policy: rego.Policy, evidence: dict[str, Any]) -> dict[str, int]:
        """One rule per claim. One that is missing or undefined is skipped: a policy without defaults fails open."""
        vector = {}
        for claim in self._generation.trust_claims:
            value = _rule(policy, claim, evidence)
            if value is not None:
                vector[claim.replace("_", "-")] = self._claim(value)
        if not vector:
            raise Refused("At least one policy claim must be set.")
        return vector

    def _from_object(self, policy: rego.Policy, evidence: dict[str, Any]) -> dict[str, int]:
        """The object ``trust_claims``. A name that is none kills the real server's worker."""
        names = [claim.replace("_", "-") for claim in self._generation.trust_claims]
        try:
            claims = policy.rule("trust_claims", evidence)
        except rego.NoSuchRule:
            if not self._generation.no_claims_is_none:
                raise
            claims = rego.UNDEFINED
        if claims is rego.UNDEFINED and self._generation.no_claims_is_none:
            return dict.fromkeys(names, 0)
        if not isinstance(claims, dict):
            raise Refused("trust_claims is no object")
        found = {}
        for name in sorted(claims):
            found[name] = self._claim(claims[name])
            if name not in names:
                log.error("thread panicked: InvalidName(%r)", name)
                raise Panicked
        return {name: found[name] for name in names if name in found}

    @staticmethod
    def _extensions(policy: rego.Policy, evidence: dict[str, Any]) -> dict[str, Any]:
        """``extensions``: ``[{"key": number, "name", "value"}]``, members of the submodule."""
        found = _rule(policy, "extensions", evidence)
        try:
            return {str(one["name"]): one["value"] for one in found or []}
        except (TypeError, KeyError) as error:
            raise Refused("extensions is no list of extensions", repr(error)) from error

    def _claim(self, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise Refused("Policy claim value not number")
        wrapped = (value + 128) % 256 - 128
        if wrapped != value and not self._generation.wraps:
            raise Refused("Policy claim value out of range")
        return wrapped


def _rule(policy: rego.Policy, name: str, evidence: dict[str, Any]) -> Any:
    """The value of a rule; None where there is none, or none that is defined."""
    try:
        value = policy.rule(name, evidence)
    except rego.NoSuchRule:
        return None
    return None if value is rego.UNDEFINED else value
