"""Encodings, as strict as the real server's libraries."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any


def loads(data: bytes | str) -> Any:
    """JSON in UTF-8, without the extensions that Python's parser allows. Raises ``ValueError``."""

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is no JSON")

    return json.loads(data.decode() if isinstance(data, bytes) else data, parse_constant=refuse)


def compact(value: Any) -> str:
    """JSON without blanks, other alphabets kept as they are."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def canonical(value: Any) -> bytes:
    """The form that is hashed: members sorted, no blanks, UTF-8 (trustee.md 1.5)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def ordered(value: Any) -> Any:
    """The same value with the members of every object sorted, as the real server's maps are."""
    if isinstance(value, dict):
        return {name: ordered(value[name]) for name in sorted(value)}
    if isinstance(value, list):
        return [ordered(item) for item in value]
    return value


def b64url(data: bytes) -> str:
    """Unpadded base64url."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64url(text: str) -> bytes:
    """Decode unpadded base64url; padding, other alphabets and stray bits raise ``ValueError``."""
    if "=" in text:
        raise ValueError("Invalid padding")
    try:
        data = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError(f"Invalid base64url: {error}") from error
    if b64url(data) != text:
        raise ValueError("Invalid base64url: padding or stray bits")
    return data


def unb64(text: str) -> bytes:
    """Decode padded standard base64, strictly. Raises ``ValueError``."""
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError(f"Invalid base64: {error}") from error
    if base64.b64encode(data).decode() != text:
        raise ValueError("Invalid base64: padding or stray bits")
    return data
