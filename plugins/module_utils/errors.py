# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one exception of the collection: what failed, what was seen, what to do."""

from __future__ import annotations

from typing import Any


class CocoError(Exception):
    """A failure with a next step.

    ``what`` failed, what was ``seen``, what to do (``todo``); ``details`` become keys of the task's result. The text is
    the three parts joined by a middle dot, so a user reads all of it in the task's ``msg``.
    """

    def __init__(self, what: str, seen: str = "", todo: str = "", **details: Any) -> None:
        self.what, self.seen, self.todo, self.details = what, seen, todo, details
        super().__init__(" · ".join(part.strip() for part in (what, seen, todo) if part.strip()))

    def result(self) -> dict[str, Any]:
        """The task's result: ``msg``, ``hint`` (the next step) and the details."""
        return {"failed": True, "msg": str(self), "hint": self.todo, **self.details}


def require(library: str, missing: str) -> None:
    """Raise :class:`CocoError` where an import of ``library`` failed (``missing``: the import's own words, empty when it did not)."""
    if missing:
        raise CocoError(f"The Python library {library} is not there", missing,
                        f"Install {library} (meta/ee-requirements.txt) for the Python interpreter that runs the task.")
