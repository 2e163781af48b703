"""kata_policy.py: the same meaning in the agent's old and new engine, and a lint that finds openings."""

from __future__ import annotations

import json
from typing import Any

import pytest
import regorus

from ansible_collections.confidential.containers.plugins.module_utils import kata_policy
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

DIALECTS = [True, False]


def evaluate(text: str, name: str, given: dict[str, Any] | None = None, v0: bool = True) -> bool:
    """As the agent does: true or denied."""
    engine = regorus.Engine()
    engine.set_rego_v0(v0)
    engine.add_policy("agent.rego", text)
    engine.set_input_json(json.dumps(given or {}))
    return engine.eval_rule_as_json(f"data.agent_policy.{name}") == "true"


def codes(text: str, dialects: tuple[str, ...] = ("v0",)) -> set[str]:
    return {finding["code"] for finding in kata_policy.lint(text, dialects)}


def command(*arguments: str) -> dict[str, Any]:
    return {"container_id": "c", "process": {"Args": list(arguments)}}


@pytest.mark.parametrize("v0", DIALECTS)
def test_defaults(v0: bool) -> None:
    text = kata_policy.render()
    assert len(kata_policy.REQUESTS) == 36
    closed = {"ExecProcessRequest", "ReadStreamRequest", "WriteStreamRequest", "SetPolicyRequest"}
    assert {name for name in kata_policy.REQUESTS if not evaluate(text, name, v0=v0)} == closed
    for name in ("GetDiagnosticDataRequest", "MemAgentCompactConfig", "MemAgentMemcgConfig", "SetIPTablesRequest"):
        assert f"default {name} := false\n" in text
        assert not evaluate(text, name, v0=v0)
    assert codes(text, ("v0", "v1")) == set()


@pytest.mark.parametrize("v0", DIALECTS)
@pytest.mark.parametrize(("option", "request_name"), [
    ("exec", "ExecProcessRequest"), ("logs", "ReadStreamRequest"), ("stdin", "WriteStreamRequest"),
    ("set_policy", "SetPolicyRequest"),
])
def test_options_open_one_request(v0: bool, option: str, request_name: str) -> None:
    before, after = kata_policy.render(), kata_policy.render({option: True})
    changed = {name for name in (*kata_policy.REQUESTS, *kata_policy.FURTHER)
               if evaluate(before, name, v0=v0) != evaluate(after, name, v0=v0)}
    assert changed == {request_name}


@pytest.mark.parametrize("v0", DIALECTS)
def test_allowlist_is_exact(v0: bool) -> None:
    text = kata_policy.render({"exec_allowlist": [["cat", "/etc/os-release"], "sh -c 'echo \"hi\"'", ["/bin/ünïcode"]]})
    for arguments in (["cat", "/etc/os-release"], ["sh", "-c", 'echo "hi"'], ["/bin/ünïcode"]):
        assert evaluate(text, "ExecProcessRequest", command(*arguments), v0)
    for arguments in (["cat"], ["cat", "/etc/os-release", "/etc/shadow"], ["cat", "/etc/os-releases"], ["/etc/os-release", "cat"],
                      ["cat /etc/os-release"], ["sh"], []):
        assert not evaluate(text, "ExecProcessRequest", command(*arguments), v0), arguments
    assert not evaluate(text, "ExecProcessRequest", {}, v0), "a request without a process"
    assert evaluate(text, "CreateContainerRequest", v0=v0)
    assert codes(text, ("v0", "v1")) == set()


def test_an_argument_cannot_break_out_of_the_text() -> None:
    trick = ['"]\n}\ndefault SetPolicyRequest := true\n#', "`", "\\", "{{ x }}"]
    text = kata_policy.render({"exec_allowlist": [trick]})
    for v0 in DIALECTS:
        assert evaluate(text, "ExecProcessRequest", command(*trick), v0)
        assert not evaluate(text, "SetPolicyRequest", v0=v0)


def test_single_requests_have_the_last_word() -> None:
    text = kata_policy.render({"requests": {"CopyFileRequest": False, "VolumeStatsRequest": True}})
    assert not evaluate(text, "CopyFileRequest")
    assert evaluate(text, "VolumeStatsRequest")
    assert codes(text) == {"no-copy"}


def test_render_is_stable() -> None:
    assert kata_policy.render({"logs": False}) == kata_policy.render()
    assert kata_policy.render().endswith("\n")


@pytest.mark.parametrize("options", [
    {"execs": True}, {"requests": {"ExecRequest": True}}, {"exec": True, "exec_allowlist": ["ls"]}, {"exec_allowlist": [[]]},
    {"exec_allowlist": [""]}, {"exec_allowlist": ["sh -c 'open"]},
])
def test_wrong_options(options: dict[str, Any]) -> None:
    with pytest.raises(CocoError) as caught:
        kata_policy.render(options)
    assert caught.value.todo


@pytest.mark.parametrize("name", ["UpdateInterfaceRequest", "CreateSandboxRequest", "CreateContainerRequest"])
@pytest.mark.parametrize("how", ["undefined", "false"])
def test_lint_names_what_stops_a_pod(name: str, how: str) -> None:
    line = f"default {name} := true\n"
    text = kata_policy.render().replace(line, "" if how == "undefined" else line.replace("true", "false"))
    found = [finding for finding in kata_policy.lint(text) if finding["code"] == "no-pod-starts"]
    assert [(finding["severity"], name in finding["message"]) for finding in found] == [("error", True)]


def test_lint_names_undefined_requests() -> None:
    text = kata_policy.render().replace("default StartTracingRequest := true\n", "")
    found = [finding for finding in kata_policy.lint(text) if finding["code"] == "undefined-requests"]
    assert found[0]["severity"] == "warning"
    assert "StartTracingRequest" in found[0]["message"]
    commented = kata_policy.render().replace("default StartTracingRequest", "# default StartTracingRequest")
    assert "undefined-requests" in codes(commented)


def test_lint_finds_openings() -> None:
    everything = "package agent_policy\n" + "".join(f"default {name} := true\n" for name in kata_policy.REQUESTS)
    assert codes(everything) == {"set-policy", "exec", "logs"}
    assert {finding["severity"] for finding in kata_policy.lint(everything)} == {"warning"}
    assert codes(kata_policy.render() + "default AllowRequestsFailingPolicy := true\n") == {"allow-failing"}


def test_lint_form() -> None:
    text = kata_policy.render()
    assert "package" in codes(text.replace("agent_policy", "policy"))
    assert "callout" in codes(text.replace("agent_policy", "agent_policy 1", 1))
    assert codes(f"```rego\n{text}```\n") == {"code-fence"}


RULE = '\nExecProcessRequest {}{{\n\tinput.process.Args == ["ls"]\n}}\n'


def test_lint_knows_what_the_engines_do() -> None:
    plain = kata_policy.render()
    unimported = plain + RULE.format("if ")
    assert evaluate(unimported, "ExecProcessRequest", command("rm"), v0=True), "on a v0 engine the rule is always true"
    assert "if-without-import" in codes(unimported, ("v0",))
    bare = plain + RULE.format("")
    with pytest.raises(Exception, match="if"):
        evaluate(bare, "ExecProcessRequest", command("ls"), v0=False)
    assert "body-without-if" in codes(bare, ("v1",))
    imported = plain.replace("\n\n", "\n\nimport rego.v1\n\n", 1) + RULE.format("if ")
    for v0 in DIALECTS:
        assert evaluate(imported, "ExecProcessRequest", command("ls"), v0)
        assert not evaluate(imported, "ExecProcessRequest", command("rm"), v0)
    assert codes(imported, ("v0", "v1")) == set()


def test_a_code_fence_is_the_only_finding() -> None:
    assert codes("```rego\npackage agent_policy\n```\n") == {"code-fence"}


def test_commands_keep_their_letters() -> None:
    assert '["/bin/ünï"]' in kata_policy.render({"exec_allowlist": [["/bin/ünï"]]})
