"""Writes each task's result, as callbacks get it, as a line of JSON to the file that RECORD names."""

from __future__ import annotations

import json
import os
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: record
type: notification
short_description: Write each result to a file
description: Test helper.
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "record"

    def _write(self, result: Any, failed: bool) -> None:
        with open(os.environ["RECORD"], "a", encoding="utf-8") as file:
            file.write(json.dumps({"task": result._task.get_name(), "result": {**result._result, "failed": failed}}, default=str) + "\n")

    def v2_runner_on_ok(self, result: Any) -> None:
        self._write(result, False)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._write(result, True)
