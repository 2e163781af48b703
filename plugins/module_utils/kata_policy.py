# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kata agent's policy of a pod VM. Pure.

Sources: the requests of kata 3.4 to HEAD and the agent's rule that an undefined request is denied. The text means the same
in both Rego dialects (``import rego.v1`` with ``if``).
"""

from __future__ import annotations

import json
import re
from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

Finding = dict[str, str]

REQUESTS = (
    "AddARPNeighborsRequest", "AddSwapRequest", "CloseStdinRequest", "CopyFileRequest", "CreateContainerRequest",
    "CreateSandboxRequest", "DestroySandboxRequest", "ExecProcessRequest", "GetDiagnosticDataRequest", "GetMetricsRequest",
    "GetOOMEventRequest", "GuestDetailsRequest", "ListInterfacesRequest", "ListRoutesRequest", "MemAgentCompactConfig",
    "MemAgentMemcgConfig", "MemHotplugByProbeRequest", "OnlineCPUMemRequest", "PauseContainerRequest", "PullImageRequest",
    "ReadStreamRequest", "RemoveContainerRequest", "RemoveStaleVirtiofsShareMountsRequest", "ReseedRandomDevRequest",
    "ResumeContainerRequest", "SetGuestDateTimeRequest", "SetPolicyRequest", "SignalProcessRequest",
    "StartContainerRequest", "StartTracingRequest", "StatsContainerRequest", "StopTracingRequest",
    "TtyWinResizeRequest", "UpdateContainerRequest", "UpdateEphemeralMountsRequest", "UpdateInterfaceRequest",
    "UpdateRoutesRequest", "WaitProcessRequest", "WriteStreamRequest",
)
#: Without these no pod starts.
NEEDED = ("CreateSandboxRequest", "CreateContainerRequest", "StartContainerRequest", "UpdateInterfaceRequest",
          "UpdateRoutesRequest", "WaitProcessRequest", "RemoveContainerRequest", "DestroySandboxRequest",
          "SignalProcessRequest", "CopyFileRequest")
#: Denied unless asked for: they let the host look inside or replace the policy.
DENIED = ("ExecProcessRequest", "ReadStreamRequest", "WriteStreamRequest", "SetPolicyRequest", "GetDiagnosticDataRequest")
OPTIONS = ("exec", "logs", "exec_allowlist", "set_policy")


def render(options: dict[str, Any] | None = None) -> str:
    """The policy's text. Options: ``exec``, ``logs``, ``set_policy`` (false), ``exec_allowlist`` (commands, each a list of
    words or a text split at blanks, allowed exactly so)."""
    given = dict(options or {})
    unknown = sorted(set(given) - set(OPTIONS))
    if unknown:
        raise CocoError("The kata agent policy cannot be rendered", f"unknown options: {', '.join(unknown)}",
                        f"Known options: {', '.join(OPTIONS)}.")
    allowed = set(REQUESTS) - set(DENIED)
    if given.get("exec"):
        allowed |= {"ExecProcessRequest", "WriteStreamRequest", "ReadStreamRequest"}
    if given.get("logs") or given.get("exec_allowlist"):
        allowed.add("ReadStreamRequest")
    if given.get("set_policy"):
        allowed.add("SetPolicyRequest")
    text = "package agent_policy\n\nimport rego.v1\n\n"
    text += "".join(f"default {name} := {'true' if name in allowed else 'false'}\n\n" for name in REQUESTS)
    if not given.get("exec"):
        for command in given.get("exec_allowlist") or []:
            words = command if isinstance(command, list) else str(command).split()
            text += f"ExecProcessRequest if {{\n\tinput.process.Args == {json.dumps(words)}\n}}\n\n"
    return text.rstrip("\n") + "\n"


def lint(text: str) -> list[Finding]:
    """Faults and risks of an agent policy's text."""
    found: list[Finding] = []

    def add(severity: str, code: str, message: str, hint: str) -> None:
        found.append({"severity": severity, "code": code, "message": message, "hint": hint})

    code = re.sub(r"#.*$", "", text, flags=re.MULTILINE)
    if not re.search(r"^\s*package\s+agent_policy\s*$", code, re.MULTILINE):
        add("error", "package", "the package is not agent_policy", "Begin the text with 'package agent_policy'.")
    if re.search(r"\bif\b", code) and not re.search(r"^\s*import\s+(rego\.v1|future\.keywords(\.if)?)\s*$", code, re.MULTILINE):
        add("error", "if-without-import", "'if' is used without 'import rego.v1'",
            "Add 'import rego.v1': older agents read 'if' as a name and the rule is always true.")
    values = dict(re.findall(r"^\s*default\s+(\w+)\s*:?=\s*(true|false)\b", code, re.MULTILINE))
    open_failing = values.get("AllowRequestsFailingPolicy") == "true"
    missing = [name for name in NEEDED if name not in code]
    if missing and not open_failing:
        add("error", "undefined", f"undefined requests are denied: {', '.join(missing)}",
            "Define them, or no pod starts with this policy.")
    blocked = [name for name in NEEDED if values.get(name) == "false"
               and not re.search(rf"^\s*{name}\s+(if|\{{)", code, re.MULTILINE)]
    if blocked:
        add("error", "blocked", f"requests that every pod needs are false: {', '.join(blocked)}", "Allow them.")
    for name, message in (("SetPolicyRequest", "the host may replace the policy"), ("ExecProcessRequest", "exec is allowed"),
                          ("ReadStreamRequest", "logs leave the pod VM")):
        if values.get(name) == "true" or open_failing:
            add("warning", name, message, f"Set 'default {name} := false' unless it is meant so.")
    return found
