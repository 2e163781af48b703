"""The resource policy: one document, read for each request (trustee.md 5.6)."""

from __future__ import annotations

from typing import Any

from lab.kbs import rego
from lab.kbs.appraisal import STOCK, text_of
from lab.kbs.errors import Failure, Refused, cause
from lab.kbs.generation import Generation
from lab.kbs.storage import Document
from lab.kbs.wire import b64url, compact, loads


def _encoded(body: bytes) -> str:
    try:
        policy = loads(body)["policy"]
        if not isinstance(policy, str):
            raise TypeError("the policy is no string")
        return policy
    except (ValueError, KeyError, TypeError) as error:
        raise Refused("Illegal SetPolicy Request Json") from error


class ResourcePolicy:
    """The policy in ``document``; the stock one is written when there is none."""

    def __init__(self, document: Document, generation: Generation) -> None:
        self._document, self._generation = document, generation
        if not document.exists():
            document.write((STOCK / generation.stock / "resource.rego").read_bytes())

    def answer(self) -> tuple[bytes, str]:
        """What GET resource-policy tells, and its type: the text in unpadded base64url, or a list of names."""
        if self._generation.policy_listed:
            return compact([self._document.name.removesuffix(".rego")]).encode(), "application/json"
        return b64url(self._text().encode()).encode(), "text/xml"

    def set(self, body: bytes) -> None:
        """Take ``{"policy": <unpadded base64url>}``; text that is refused leaves the old policy."""
        try:
            text = text_of(_encoded(body))
            if self._generation.policy_checked:
                rego.check(text, self._generation.rego_v0)
            self._document.write(text.encode())
        except Refused as error:
            if self._generation.policy_told:
                raise Failure("ParsePolicyError", "Failed to parse policy: " + ": ".join(error.causes)) from error
            raise self._failure(*error.causes) from error
        except OSError as error:
            raise self._failure("write policy failed", cause(error)) from error
        except ValueError as error:
            raise self._failure("Illegal policy", str(error)) from error

    def allows(self, claims: dict[str, Any], path: str, query: dict[str, str]) -> bool:
        """May a guest with these claims have the resource? Anything but true or false is a failure or a denial."""
        text = self._text()
        try:
            policy = rego.Policy(text, self._generation.rego_v0, self._generation.policy_data(path, query), name="")
        except rego.PolicyError as error:
            raise self._failure("Failed to load policy", str(error)) from error
        try:
            value = policy.rule("allow", claims)
        except rego.NoSuchRule:
            value = rego.UNDEFINED
        except rego.PolicyError as error:
            raise self._failure("Failed to evaluate policy", str(error)) from error
        if isinstance(value, bool):
            return value
        if self._generation.policy_told:
            return False
        raise self._failure("query did not produce any values" if value is rego.UNDEFINED else "not a bool")

    def _failure(self, *causes: str) -> Failure:
        if self._generation.policy_told:
            return Failure("PolicyEngineError", "Policy engine error: " + ": ".join(causes))
        return Failure("PolicyEngine", "Policy engine error", *causes)

    def _text(self) -> str:
        try:
            return self._document.read().decode()
        except OSError as error:
            if self._generation.policy_told:
                raise self._failure(f"Policy `{self._document.name}` not found") from error
            raise self._failure("read policy failed", cause(error)) from error
        except ValueError as error:
            raise self._failure("read policy failed", str(error)) from error
