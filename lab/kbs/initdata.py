"""initdata sent in plain text with the evidence (trustee.md 6.1; trustee-verified.md correction 15)."""

from __future__ import annotations

import hashlib
import json
import tomllib
from dataclasses import dataclass
from typing import Any

from lab.kbs.errors import Refused
from lab.kbs.generation import Generation

_PARSED = ("aa.toml", "cdh.toml")
_POLICY = "policy.rego"
_DATA = "policy_data := "


@dataclass(frozen=True)
class InitData:
    """The digest of the document's bytes, and its files as claims."""

    digest: bytes
    claims: dict[str, Any]


def parse(message: dict[str, str], generation: Generation) -> InitData:
    """The document in ``{"format", "body"}``. Raises :class:`Refused`. Any version passes; ``algorithm`` is case sensitive."""
    if message["format"] != "toml":
        raise Refused(f"Unsupported init-data format {message['format']}")
    try:
        document = tomllib.loads(message["body"])
    except ValueError as error:
        raise Refused("parse initdata", str(error)) from error
    for name, kind in (("version", str), ("algorithm", str), ("data", dict)):
        if name not in document:
            raise Refused("parse initdata", f"missing field `{name}`")
        if not isinstance(document[name], kind):
            raise Refused("parse initdata", f"invalid type of {name}")
    algorithm, known = document["algorithm"], generation.init_data_algorithms
    if algorithm not in known:
        raise Refused("parse initdata", f"unknown variant `{algorithm}`, expected one of "
                      + ", ".join(f"`{name}`" for name in known))
    claims: dict[str, Any] = {}
    for name, text in document["data"].items():
        if not isinstance(text, str):
            raise Refused("parse initdata", f"invalid type for key `data.{name}`, expected a string")
        if name == _POLICY and generation.agent_policy_claims and (data := _policy_data(text)) is not None:
            claims["agent_policy_claims"] = data
        else:
            claims[name] = _structured(text) if name in _PARSED else text
    return InitData(hashlib.new(algorithm, message["body"].encode()).digest(), claims)


def _structured(text: str) -> Any:
    """A TOML file as an object; text that does not parse stays text."""
    try:
        return tomllib.loads(text)
    except ValueError:
        return text


def _policy_data(text: str) -> Any:
    """The object that ends an agent's policy as ``policy_data := {..}``; None where there is none."""
    before, found, after = text.rpartition(_DATA)
    if not found or (before and not before.endswith("\n")):
        return None
    try:
        return json.loads(after)
    except ValueError:
        return None
