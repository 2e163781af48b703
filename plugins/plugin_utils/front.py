# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The common front of the collection's modules: the same function in the controller's process.

A module of ours is complete and runs wherever its task says. Where that is the controller itself, with the controller's
own interpreter, starting a process for it buys nothing and costs its imports again; then the work runs here. Ansible loads
action plugins in the parent process, so what an action file imports at file level is paid once a playbook.
"""

from __future__ import annotations

import datetime
import sys
import traceback
from types import ModuleType
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.parameters import remove_values
from ansible.plugins.action import ActionBase
from ansible.utils.vars import merge_hash

from ansible_collections.confidential.containers.plugins.module_utils.arguments import (
    secret_values,
    shown,
    unexpected,
)
from ansible_collections.confidential.containers.plugins.module_utils.context import Context
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

KEYWORDS = ("mutually_exclusive", "required_together", "required_one_of", "required_if", "required_by")


def plain(value: Any) -> Any:
    """A value without the tags and lazy containers of ansible-core 2.19 and newer, as its JSON form would give it."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, bytes):
        return bytes(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (datetime.date, datetime.datetime)):
        return value.isoformat()
    if type(value).__name__ in ("AnsibleVaultEncryptedUnicode", "EncryptedString"):
        return str.__str__(str(value))
    return value


class Front(ActionBase):  # type: ignore[misc]
    """Base of the two-line action files; ``work`` is the module of ``module_utils/actions``."""

    work: ModuleType
    _supports_async = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the work here where that is the same as running it there, else execute the module."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        if not self._here(task_vars or {}):
            executed = self._execute_module(task_vars=task_vars, wrap_async=self._task.async_val)
            return dict(merge_hash(result, executed))
        parameters, secrets, warnings = self._parameters()
        context = Context(
            check_mode=bool(self._task.check_mode), diff=bool(self._task.diff),
            progress=lambda text: self._display.display(f"  {remove_values(text, secrets)}"), warn=warnings.append,
        )
        try:
            done = self.work.run(parameters, context)
        except CocoError as error:
            done = error.result()
        except Exception as error:
            done = {**unexpected(error), "exception": traceback.format_exc()}
        result.update(self._clean(done, secrets))
        if warnings:
            result["warnings"] = [*result.get("warnings", []), *remove_values(warnings, secrets)]
        result["invocation"] = {"module_args": remove_values(shown(parameters, self.work.ARGUMENT_SPEC), secrets)}
        return result

    def _here(self, task_vars: dict[str, Any]) -> bool:
        """Is the place the task names this very process's?"""
        if self._task.async_val or self._task.become or self._play_context.become:
            return False
        if any(self._task.environment or []):
            return False
        if getattr(self._connection, "transport", "") not in ("local", "ansible.builtin.local"):
            return False
        variables = task_vars
        if self._task.delegate_to:
            variables = (task_vars.get("ansible_delegated_vars") or {}).get(self._task.delegate_to) or {}
        interpreter = variables.get("ansible_python_interpreter")
        if interpreter is None:
            return True
        named = str(self._templar.template(interpreter))
        return named in (sys.executable, str(task_vars.get("ansible_playbook_python") or sys.executable))

    def _parameters(self) -> tuple[dict[str, Any], set[str], list[str]]:
        """The validated parameters, the secret values among them, and warnings about them."""
        keywords = getattr(self.work, "SPEC_KWARGS", {})
        validator = ArgumentSpecValidator(self.work.ARGUMENT_SPEC, **{name: keywords.get(name) for name in KEYWORDS})
        given = plain(dict(self._task.args))
        validated = validator.validate(given)
        known = set(getattr(validated, "_no_log_values", set()))
        if validated.error_messages:
            hidden = secret_values(given, known, getattr(self.work, "secrets", None))
            raise AnsibleActionFail(
                f"{self._task.action}: the task's options are not valid · {remove_values(validated.errors.msg, hidden)} · "
                f"see 'ansible-doc {self._task.action}'"
            )
        parameters = validated.validated_parameters
        both = [f"Both option {w['option']} and its alias {w['alias']} are set." for w in getattr(validated, "_warnings", [])]
        return parameters, secret_values(parameters, known, getattr(self.work, "secrets", None)), both

    @staticmethod
    def _clean(done: dict[str, Any], secrets: set[str]) -> dict[str, Any]:
        """The result without secret values; booleans and nulls stay what they are."""
        kept = {key: value for key, value in done.items() if value is None or isinstance(value, bool)}
        return {**remove_values(done, secrets), **kept}
