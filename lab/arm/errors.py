"""Refusals in Azure's own form and words."""

from __future__ import annotations

from typing import Any


class Refusal(Exception):
    """An answer of Azure Resource Manager that is an error: ``status``, ``code``, ``message``, more ``headers``."""

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status, self.code, self.message, self.headers = status, code, message, headers or {}

    def body(self) -> dict[str, Any]:
        """The document that is sent."""
        return {"error": {"code": self.code, "message": self.message}}
