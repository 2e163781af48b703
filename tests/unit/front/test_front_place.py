"""In process only where that is the same place: connection, interpreter, become, async, environment, delegation."""

from __future__ import annotations

import datetime
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail

from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError
from ansible_collections.confidential.containers.plugins.plugin_utils.front import Front, plain

WORK = SimpleNamespace(
    ARGUMENT_SPEC={"a": {"type": "str", "required": True}, "state": {"choices": ["present"]}, "key": {"type": "str", "no_log": True},
                   "objects": {"type": "list", "elements": "dict"}},
    SPEC_KWARGS={"required_together": [["key", "objects"]]}, run=lambda params, context: {"changed": False, "seen": params},
    secrets=lambda params: {str(item["secret"]) for item in params["objects"] or []})


def front(work: Any = WORK, args: dict[str, Any] | None = None, connection: str = "local", play_become: bool = False, **task: Any) -> Front:
    made = Front.__new__(Front)
    given = {"become": False, "async_val": 0, "environment": [{}], "delegate_to": None, "args": args or {"a": "x"}, "action": "coll.mod",
             "check_mode": False, "diff": False, **task}
    made._task, made.work = SimpleNamespace(**given), work
    made._play_context = SimpleNamespace(become=play_become)
    made._connection = SimpleNamespace(transport=connection)
    made._templar = SimpleNamespace(template=lambda text: sys.executable if text == "{{ ansible_playbook_python }}" else text)
    made._display = SimpleNamespace(display=print)
    return made


OWN = {"ansible_python_interpreter": sys.executable}


@pytest.mark.parametrize(("task", "variables", "here"), [
    ({}, OWN, True),
    ({}, {}, True),
    ({}, {"ansible_python_interpreter": "{{ ansible_playbook_python }}"}, True),
    ({}, {"ansible_python_interpreter": "/opt/p", "ansible_playbook_python": "/opt/p"}, True),
    ({"connection": "ansible.builtin.local"}, OWN, True),
    ({}, {"ansible_python_interpreter": "/usr/libexec/platform-python"}, False),
    ({}, {"ansible_python_interpreter": "auto_silent"}, False),
    ({"become": True}, OWN, False),
    ({"play_become": True}, OWN, False),
    ({"async_val": 10}, OWN, False),
    ({"environment": [{}, {"HTTPS_PROXY": "x"}]}, OWN, False),
    ({"environment": None}, OWN, True),
    ({"connection": "ssh"}, OWN, False),
    ({"delegate_to": "bastion"}, {**OWN, "ansible_delegated_vars": {"bastion": {"ansible_python_interpreter": "/usr/bin/python3"}}}, False),
    ({"delegate_to": "bastion"}, {"ansible_python_interpreter": "/opt/p", "ansible_delegated_vars": {"bastion": OWN}}, True),
])
def test_place(task: dict[str, Any], variables: dict[str, Any], here: bool) -> None:
    assert front(**task)._here(variables) is here


def result(made: Front) -> dict[str, Any]:
    parameters, secrets, _warnings = made._parameters()
    return made._clean(made.work.run(parameters, None), secrets)


def test_secret_values_are_scrubbed_wherever_they_stand() -> None:
    made = front(args={"a": "see long-secret-1 here", "key": "long-secret-1",
                       "objects": [{"secret": "long-secret-2", "note": "has long-secret-2"}]})
    found = result(made)
    assert "long-secret" not in str(found)
    assert found["changed"] is False


def test_short_and_boolean_values_garble_nothing() -> None:
    found = result(front(args={"a": "a true story", "key": "true", "objects": []}))
    assert found["seen"]["a"] == "a true story"
    assert found["changed"] is False


def test_invalid_options_are_told_without_their_secrets() -> None:
    made = front(args={"a": "x", "key": "long-secret-1", "objects": "long-secret-1"})
    with pytest.raises(AnsibleActionFail) as raised:
        made._parameters()
    said = str(raised.value)
    assert "coll.mod: the task's options are not valid" in said
    assert "ansible-doc coll.mod" in said
    assert "long-secret" not in said
    with pytest.raises(AnsibleActionFail, match="value of state must be one of") as raised:
        front(args={"a": "x", "state": "long-secret-2", "objects": [{"secret": "long-secret-2"}], "key": "k"})._parameters()
    assert "long-secret" not in str(raised.value)
    with pytest.raises(AnsibleActionFail, match="parameters are required together"):
        front(args={"a": "x", "key": "k"})._parameters()


def test_values_without_tags() -> None:
    class Text(str):
        pass

    class Number(int):
        pass

    found = plain({Text("a"): [Text("b"), Number(3), 1.5, True, None, b"x", (Text("c"),)], "d": datetime.date(2026, 1, 2)})
    assert found == {"a": ["b", 3, 1.5, True, None, b"x", ["c"]], "d": "2026-01-02"}
    assert [type(item) for item in found["a"][:2]] == [str, int]
    assert type(next(iter(found))) is str


@pytest.mark.parametrize(("error", "hint"), [(CocoError("It failed", "with long-secret-1", "Do this."), "Do this."),
                                             (RuntimeError("with long-secret-1"), "Report it with the output of -vvv.")])
def test_errors_are_results(monkeypatch: pytest.MonkeyPatch, error: Exception, hint: str) -> None:
    def fails(params: Any, context: Any) -> dict[str, Any]:
        context.progress("progress with long-secret-1")
        context.warn("warning with long-secret-1")
        raise error

    shown: list[str] = []
    made = front(SimpleNamespace(**{**vars(WORK), "run": fails}), args={"a": "x", "key": "long-secret-1", "objects": []})
    made._display = SimpleNamespace(display=shown.append)
    monkeypatch.setattr(Front.__mro__[1], "run", lambda *_arguments, **_named: {})
    found = made.run(None, OWN)
    assert (found["failed"], found["hint"]) == (True, hint)
    assert shown == ["  progress with ********"]
    assert found["warnings"] == ["warning with ********"]
    assert found["invocation"]["module_args"]["key"] == "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"
    assert "long-secret" not in str(found)
