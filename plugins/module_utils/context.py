# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a module's work knows of its run besides its parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


def _silent(text: str) -> None:
    """Reports nothing."""


@dataclass(frozen=True)
class Context:
    """``check_mode`` and ``diff`` as the task has them; ``progress`` shows a line at once (or nowhere, where the module
    runs in a process of its own); ``warn`` adds a warning to the result."""

    check_mode: bool = False
    diff: bool = False
    progress: Callable[[str], None] = _silent
    warn: Callable[[str], None] = _silent
