# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kata agent's policy: what the untrusted host may ask of a pod VM. Pure.

For each request the agent evaluates ``data.agent_policy.<Request>``; undefined means denied. So a policy names every request
there is. Sources: the request lists of kata 3.4 to 3.31 and later, the product's default (everything but logs and exec), and
the agents' engines: v0 up to kata 3.29, v1 from 3.30; the text here means the same in both.
"""

from __future__ import annotations

import json
import shlex
from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils import rego
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

Finding = dict[str, str]

#: Requests of kata 3.4 to 3.30, in the product's own file.
REQUESTS = (
    "AddARPNeighborsRequest", "AddSwapRequest", "CloseStdinRequest", "CopyFileRequest", "CreateContainerRequest",
    "CreateSandboxRequest", "DestroySandboxRequest", "ExecProcessRequest", "GetMetricsRequest", "GetOOMEventRequest",
    "GuestDetailsRequest", "ListInterfacesRequest", "ListRoutesRequest", "MemHotplugByProbeRequest", "OnlineCPUMemRequest",
    "PauseContainerRequest", "PullImageRequest", "ReadStreamRequest", "RemoveContainerRequest",
    "RemoveStaleVirtiofsShareMountsRequest", "ReseedRandomDevRequest", "ResumeContainerRequest", "SetGuestDateTimeRequest",
    "SetPolicyRequest", "SignalProcessRequest", "StartContainerRequest", "StartTracingRequest", "StatsContainerRequest",
    "StopTracingRequest", "TtyWinResizeRequest", "UpdateContainerRequest", "UpdateEphemeralMountsRequest",
    "UpdateInterfaceRequest", "UpdateRoutesRequest", "WaitProcessRequest", "WriteStreamRequest",
)
#: Newer ones and those the product's file leaves out: denied there by being undefined, here by name.
FURTHER = (
    "AddSwapPathRequest", "GetDiagnosticDataRequest", "GetIPTablesRequest", "MemAgentCompactConfig", "MemAgentMemcgConfig",
    "ResizeVolumeRequest", "SetIPTablesRequest", "VolumeStatsRequest",
)
#: Without these no pod starts or ends.
ESSENTIAL = (
    "CreateSandboxRequest", "CreateContainerRequest", "StartContainerRequest", "RemoveContainerRequest",
    "DestroySandboxRequest", "SignalProcessRequest", "WaitProcessRequest", "UpdateInterfaceRequest", "UpdateRoutesRequest",
)
OPTIONS: dict[str, Any] = {"exec": False, "logs": False, "stdin": False, "set_policy": False, "exec_allowlist": [],
                           "requests": {}}


def commands(allowlist: Any) -> list[list[str]]:
    """The allowed commands as argument lists; a text is split as a shell would. Raises :class:`CocoError`."""
    result = []
    for entry in allowlist or []:
        try:
            arguments = shlex.split(entry) if isinstance(entry, str) else [str(part) for part in entry]
        except (ValueError, TypeError) as error:
            raise CocoError(f"The allowed command {entry!r} cannot be used", str(error),
                            "Give the list of its arguments, for example ['cat', '/etc/os-release'].") from error
        if not arguments:
            raise CocoError("An allowed command is empty", f"exec_allowlist has {entry!r}",
                            "Give the list of its arguments, for example ['cat', '/etc/os-release'].")
        result.append(arguments)
    return result


def render(options: dict[str, Any] | None = None) -> str:
    """The policy text from options; every request of every known kata is in it by name.

    ``exec`` (any command), ``exec_allowlist`` (these only: argument lists, compared whole), ``logs`` (``ReadStreamRequest``),
    ``stdin`` (``WriteStreamRequest``), ``set_policy`` (the host may replace the policy), ``requests`` (name to bool, last
    word). Defaults: all false, so exec, logs and replacement are denied. Raises :class:`CocoError` for unknown names.
    """
    given = dict(options or {})
    unknown = sorted(set(given) - set(OPTIONS))
    if unknown:
        raise CocoError("The kata agent policy cannot be rendered", f"unknown options: {', '.join(unknown)}",
                        f"Known options: {', '.join(OPTIONS)}.")
    chosen = {**OPTIONS, **given}
    allowed = dict.fromkeys(REQUESTS, True) | dict.fromkeys(FURTHER, False)
    allowed.update(
        ExecProcessRequest=bool(chosen["exec"]), ReadStreamRequest=bool(chosen["logs"]),
        WriteStreamRequest=bool(chosen["stdin"]), SetPolicyRequest=bool(chosen["set_policy"]),
    )
    strange = sorted(name for name in chosen["requests"] or {} if name not in allowed)
    if strange:
        raise CocoError("The kata agent policy cannot be rendered", f"unknown requests: {', '.join(strange)}",
                        "Use the agent's names, such as ExecProcessRequest.")
    allowed.update({name: bool(value) for name, value in (chosen["requests"] or {}).items()})
    listed = commands(chosen["exec_allowlist"])
    if listed and allowed["ExecProcessRequest"]:
        raise CocoError("The kata agent policy cannot be rendered", "exec allows every command, and exec_allowlist some",
                        "Set exec to false: the list is what is allowed then.")
    text = "package agent_policy\n\n" + ("import rego.v1\n\n" if listed else "")
    text += "".join(f"default {name} := {'true' if allowed[name] else 'false'}\n" for name in sorted(allowed))
    for arguments in listed:
        text += f"\nExecProcessRequest if {{\n\tinput.process.Args == {json.dumps(arguments, ensure_ascii=False)}\n}}\n"
    return text


def lint(text: str, dialects: tuple[str, ...] | list[str] = ("v0",)) -> list[Finding]:
    """Faults of an agent policy: form, requests that no pod lives without, openings for the host."""
    found = rego.lint(text, "agent_policy", dialects, "the kata agent")
    if any(item["code"] == "code-fence" for item in found):
        return found
    missing = [name for name in REQUESTS if not rego.defines(text, name)]
    fatal = [name for name in ESSENTIAL if name in missing or _denied(text, name)]
    if fatal:
        found.append(rego.finding("error", "no-pod-starts", f"the policy denies {', '.join(fatal)}, so no pod starts",
                                  "Define each of them (an undefined request is denied); start from the rendered policy."))
    rest = [name for name in missing if name not in fatal]
    if rest:
        found.append(rego.finding("warning", "undefined-requests", f"undefined and so denied: {', '.join(rest)}",
                                  "Give each a default, so that the denial is a decision."))
    if _denied(text, "CopyFileRequest") and "CopyFileRequest" not in missing:
        found.append(rego.finding("warning", "no-copy",
                                  "CopyFileRequest is denied: config map, Secret and token volumes stay empty",
                                  "Allow it unless the pods mount none."))
    for name, code, effect in (
        ("AllowRequestsFailingPolicy", "allow-failing", "every denial is only a remark in a log"),
        ("SetPolicyRequest", "set-policy", "the untrusted host may replace this policy"),
    ):
        if rego.default_of(text, name) == "true":
            found.append(rego.finding("error" if code == "allow-failing" else "warning", code,
                                      f"{name} is true: {effect}", f"Set 'default {name} := false'."))
    for name, code, effect in (
        ("ExecProcessRequest", "exec", "whoever may exec in the cluster reads the memory of the pod's processes"),
        ("ReadStreamRequest", "logs", "the untrusted host reads what containers print"),
    ):
        if rego.default_of(text, name) == "true":
            found.append(rego.finding("warning", code, f"{name} is true: {effect}",
                                      f"Set 'default {name} := false' for workloads with secrets."))
    return found


def _denied(text: str, name: str) -> bool:
    """A default of false and no rule that could say otherwise."""
    if rego.default_of(text, name) != "false":
        return False
    rules = [line for line in rego.code(text).splitlines() if line.startswith(name)]
    return not rules
