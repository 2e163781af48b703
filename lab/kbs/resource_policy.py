"""The resource policy: one file, read for each request (trustee.md 5.6)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lab.kbs import rego
from lab.kbs.appraisal import STOCK, text_of
from lab.kbs.errors import Failure, Refused, os_error
from lab.kbs.generation import Generation
from lab.kbs.wire import b64url, loads


def _failure(*causes: str) -> Failure:
    return Failure("PolicyEngine", "Policy engine error", *causes)


class ResourcePolicy:
    """The policy in ``file``; the stock one is written when there is none."""

    def __init__(self, file: Path, generation: Generation) -> None:
        self._file, self._generation = file, generation
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes((STOCK / "resource.rego").read_bytes())

    def encoded(self) -> str:
        """The text in unpadded base64url."""
        return b64url(self._text().encode())

    def set(self, body: bytes) -> None:
        """Take ``{"policy": <unpadded base64url>}``; text that does not parse leaves the old policy."""
        try:
            text = text_of(loads(body)["policy"])
            rego.check(text, self._generation.rego_v0)
            self._file.write_text(text)
        except Refused as error:
            raise _failure(*error.causes) from error
        except OSError as error:
            raise _failure("write policy failed", os_error(error)) from error
        except (ValueError, KeyError, TypeError) as error:
            raise _failure("Illegal SetPolicy Request Json or policy", str(error)) from error

    def allows(self, claims: dict[str, Any], path: str) -> bool:
        """May a guest with these claims have the resource? Anything but true or false is a failure of its own."""
        try:
            policy = rego.Policy(self._text(), self._generation.rego_v0, {"resource-path": path})
            value = policy.rule("allow", claims)
        except rego.NoSuchRule:
            value = rego.UNDEFINED
        except rego.PolicyError as error:
            raise _failure(str(error)) from error
        if value is rego.UNDEFINED:
            raise _failure("query did not produce any values")
        if not isinstance(value, bool):
            raise _failure("not a bool")
        return value

    def _text(self) -> str:
        try:
            return self._file.read_text()
        except OSError as error:
            raise _failure("read policy failed", os_error(error)) from error
        except ValueError as error:
            raise _failure("read policy failed", str(error)) from error
