# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The common front of the collection's modules: the same function in the controller's process.

A module of ours is complete and runs wherever its task says. Where that is the controller itself, with the controller's
own interpreter, starting a process for it buys nothing and costs its imports again; then the work runs here. Ansible loads
action plugins in the parent process, so what an action file imports at file level is paid once a playbook.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.parameters import remove_values
from ansible.plugins.action import ActionBase
from ansible.utils.vars import merge_hash

from ansible_collections.confidential.containers.plugins.module_utils.context import Context
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError


def plain(value: Any) -> Any:
    """A value without the tags and lazy containers of ansible-core 2.19 and newer."""
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
        parameters, secrets = self._parameters()
        warnings: list[str] = []
        context = Context(
            check_mode=bool(self._task.check_mode), diff=bool(self._task.diff),
            progress=lambda text: self._display.display(f"  {remove_values(text, secrets)}"), warn=warnings.append,
        )
        try:
            done = self.work.run(parameters, context)
        except CocoError as error:
            done = error.result()
        cleaned: dict[str, Any] = remove_values(done, secrets)
        if warnings:
            cleaned["warnings"] = [*cleaned.get("warnings", []), *remove_values(warnings, secrets)]
        cleaned["invocation"] = {"module_args": self._shown(parameters, secrets)}
        result.update(cleaned)
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

    def _parameters(self) -> tuple[dict[str, Any], set[str]]:
        """The validated parameters and the secret values among them."""
        keywords = getattr(self.work, "SPEC_KWARGS", {})
        validator = ArgumentSpecValidator(
            self.work.ARGUMENT_SPEC,
            **{name: keywords.get(name) for name in ("mutually_exclusive", "required_together", "required_one_of",
                                                     "required_if", "required_by")},
        )
        validated = validator.validate(plain(dict(self._task.args)))
        if validated.error_messages:
            raise AnsibleActionFail(
                f"{self._task.action}: the task's options are not valid · {validated.errors.msg} · "
                f"see 'ansible-doc {self._task.action}'"
            )
        return validated.validated_parameters, set(getattr(validated, "_no_log_values", set()))

    def _shown(self, parameters: dict[str, Any], secrets: set[str]) -> dict[str, Any]:
        """The parameters as ``invocation`` may show them."""
        shown = {}
        for name, value in parameters.items():
            hidden = self.work.ARGUMENT_SPEC.get(name, {}).get("no_log") and value is not None
            shown[name] = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER" if hidden else remove_values(value, secrets)
        return shown
