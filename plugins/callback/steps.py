# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: steps
type: aggregate
short_description: Table of the documented steps and the verdict at the end of a run
description:
  - Prints one line for each play named C(Step NN | title) at the end of the run, with zone, result, number of changed
    tasks and seconds, and below it the verdict of M(confidential.containers.attestation_check).
  - What plays named C(Before step NN | ...), C(After step NN | ...) and C(Instead of step NN | ...) do is counted there.
  - Prints nothing when a run holds no such play.
author:
  - The confidential.containers contributors (@confidential-containers)
requirements:
  - Enabled in C(callbacks_enabled) of the Ansible configuration.
"""

import re
import time
from typing import Any

from ansible.plugins.callback import CallbackBase

STEP = re.compile(r"^(Step|(?:Before|After|Instead of) step) (\d\d) \| (.+)$")
VERDICTS = {
    "attested": "the secret reached an attested pod (sha256 compared inside the pod); "
                "the KBS refused the pod with tampered initdata",
    "not verified": "not verified: nothing was proved in this run",
    "not yet": "not yet: the steps that prove it did not run",
}


class Step:
    """One line of the table: a step's plays. ``zone``: of the play that did something last."""

    def __init__(self, number: str, title: str, zone: str) -> None:
        self.number, self.title, self.zone = number, title, zone
        self.seconds = 0.0
        self.ran = self.changed = self.failed = 0

    @property
    def result(self) -> str:
        if self.failed:
            return "failed"
        return "ok" if self.ran else "not run"


def together(verdicts: dict[str, str]) -> str:
    """One verdict of all spokes: the worst one, with the spokes it is about where they differ."""
    if not verdicts:
        return "not yet"
    kinds = set(verdicts.values())
    if len(kinds) == 1:
        return kinds.pop()
    return "; ".join(f"{VERDICTS.get(verdict, verdict)} ({', '.join(sorted(h for h, v in verdicts.items() if v == verdict))})"
                     for verdict in sorted(kinds, key=lambda item: item == "attested"))


def render(steps: list[Step], verdict: str) -> list[str]:
    """The lines of the table and the verdict."""
    rows = [("step", "zone", "result", "changed", "seconds")]
    rows += [(f"{s.number} {s.title}", s.zone, s.result, str(s.changed), f"{s.seconds:.1f}") for s in steps]
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    lines = []
    for row in rows:
        cells = [row[i].ljust(widths[i]) if i < 3 else row[i].rjust(widths[i]) for i in range(5)]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return [*lines, "", f"verdict: {VERDICTS.get(verdict, verdict)}"]


class CallbackModule(CallbackBase):
    """Collects the plays of the documented steps."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "confidential.containers.steps"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self.steps: dict[str, Step] = {}
        self.current: Step | None = None
        self.zone, self.started = "", 0.0
        self.verdicts: dict[str, str] = {}

    def _end_step(self) -> None:
        if self.current is not None:
            self.current.seconds += time.monotonic() - self.started
            self.current = None

    def v2_playbook_on_play_start(self, play: Any) -> None:
        self._end_step()
        found = STEP.match(play.get_name().strip())
        if found:
            hosts = play.hosts if isinstance(play.hosts, str) else ",".join(play.hosts)
            self.zone, self.started = {"spokes": "spoke"}.get(hosts, hosts), time.monotonic()
            word, number, title = found.groups()
            self.current = self.steps.setdefault(number, Step(number, title, self.zone))
            if word == "Step":
                self.current.title = title
                self.current.zone = self.current.zone if self.current.ran else self.zone

    def _count(self, result: Any, failed: bool = False) -> None:
        data = result._result
        if isinstance(data.get("verdict"), str) and (result._task.resolved_action or "").endswith(".attestation_check"):
            mode = (data.get("mode") or "pods")
            if mode == "pods":
                self.verdicts[result._host.get_name()] = data["verdict"]
        if self.current is None:
            return
        self.current.ran += 1
        self.current.zone = self.zone
        self.current.changed += bool(data.get("changed"))
        self.current.failed += failed

    def v2_runner_on_ok(self, result: Any) -> None:
        self._count(result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._count(result, failed=not ignore_errors)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._count(result, failed=True)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        self._end_step()
        if not self.steps:
            return
        self._display.display("")
        for line in render(list(self.steps.values()), together(self.verdicts)):
            self._display.display(line)
