"""Policies in the dialect of the generation, evaluated by regorus (the real server's engine, a newer release in v0 mode)."""

from __future__ import annotations

import json
import os
from typing import Any

os.environ["RUST_BACKTRACE"] = "0"  # a parse error would carry a stack trace and cost 0.2 s

import regorus

UNDEFINED = object()


class PolicyError(ValueError):
    """A policy that does not parse or cannot be evaluated, in the engine's words."""


class NoSuchRule(PolicyError):
    """The policy has no rule of this name."""


class Policy:
    """A parsed policy with its data (JSON text) and, if given, the function ``query_reference_value``.

    Raises :class:`PolicyError` when one of them does not parse.
    """

    def __init__(self, text: str, v0: bool, data: str = "{}", values: dict[str, Any] | None = None,
                 name: str = "policy.rego") -> None:
        self._engine = regorus.Engine()
        self._engine.set_rego_v0(v0)
        if values is not None:
            self._engine.add_extension("query_reference_value", 1, values.get)
        try:
            self._engine.add_policy(name, text)
            self._engine.add_data_json(data)
        except Exception as error:
            raise PolicyError(str(error)) from error

    def rule(self, rule: str, input_: Any) -> Any:
        """The value of ``data.policy.<rule>``: a JSON value or ``UNDEFINED``."""
        try:
            self._engine.set_input_json(json.dumps(input_))
            answer = self._engine.eval_rule_as_json(f"data.policy.{rule}")
        except Exception as error:
            if "not a valid rule path" in str(error):
                raise NoSuchRule(str(error)) from error
            raise PolicyError(str(error)) from error
        value = json.loads(answer)
        return UNDEFINED if value == "<undefined>" else value


def check(text: str, v0: bool) -> None:
    """Raises :class:`PolicyError` for text that does not parse."""
    Policy(text, v0)
