# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The work of the module policy_check."""

from __future__ import annotations

from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils import kata_policy, policy, releases
from ansible_collections.confidential.containers.plugins.module_utils.context import Context
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

try:
    import regorus
except ImportError:
    regorus = None

KINDS = ["attestation", "resource", "agent", "image"]
ARGUMENT_SPEC: dict[str, Any] = {
    "release": {"type": "str", "required": True},
    "policies": {"type": "list", "elements": "dict", "required": True, "options": {
        "name": {"type": "str", "required": True},
        "kind": {"type": "str", "choices": KINDS, "required": True},
        "text": {"type": "str", "required": True},
    }},
    "cases": {"type": "list", "elements": "dict", "default": [], "aliases": ["inputs"], "options": {
        "policy": {"type": "str", "required": True},
        "name": {"type": "str", "default": ""},
        "rule": {"type": "str", "default": "allow"},
        "input": {"type": "dict", "default": {}},
        "data": {"type": "dict", "default": {}},
        "expect": {"type": "raw"},
    }},
    "fail": {"type": "bool", "default": True},
}
SPEC_KWARGS: dict[str, Any] = {}


def run(params: dict[str, Any], context: Context) -> dict[str, Any]:
    """Lint every policy; evaluate where an engine is installed."""
    trustee = releases.parse(params["release"]).trustee
    texts = {item["name"]: item for item in params["policies"]}
    findings = []
    for item in params["policies"]:
        linted = kata_policy.lint(item["text"]) if item["kind"] == "agent" else policy.lint(item["text"], item["kind"], trustee)
        findings += [{**finding, "policy": item["name"]} for finding in linted]
        if regorus is not None and item["kind"] in ("attestation", "resource"):
            findings += _parses(item, trustee)
    results = []
    for case in params["cases"] if regorus is not None else []:
        text = texts[case["policy"]]["text"] if case["policy"] in texts else ""
        value = policy.evaluate(regorus.Engine(), text, case["rule"], case["input"], case["data"], trustee)
        good = case["expect"] is None or str(value) == str(case["expect"])
        results.append({"policy": case["policy"], "name": case["name"], "value": value, "expect": case["expect"], "ok": good})
        if not good:
            findings.append({"severity": "error", "code": "case", "policy": case["policy"],
                             "message": f"{case['name'] or case['rule']} is {value}, expected {case['expect']}",
                             "hint": "Correct the policy, or what is expected of it."})
    errors = [finding for finding in findings if finding["severity"] == "error"]
    for finding in findings:
        if finding["severity"] == "warning":
            context.warn(f"policy {finding['policy']}: {finding['message']} · {finding['hint']}")
    if errors and params["fail"]:
        raise CocoError("The policies are refused", "; ".join(f"{e['policy']}: {e['message']}" for e in errors),
                        " ".join(dict.fromkeys(e["hint"] for e in errors)), findings=findings)
    return {"changed": False, "findings": findings, "evaluated": regorus is not None, "results": results}


def _parses(item: dict[str, Any], trustee: releases.TrusteeRelease) -> list[dict[str, str]]:
    try:
        rule = "allow" if item["kind"] == "resource" else "executables"
        policy.evaluate(regorus.Engine(), item["text"], rule, {}, {"reference": {}}, trustee)
    except CocoError as error:
        return [{"severity": "error", "code": "parse", "policy": item["name"], "message": error.seen, "hint": error.todo}]
    return []
