"""The table of steps, as the integration tests read it back."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.confidential.containers.plugins.callback import steps
from tests.integration.lab import parse


class Screen:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def display(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def callback() -> Any:
    plugin = steps.CallbackModule()
    plugin._display = Screen()
    return plugin


def play(name: str, hosts: str) -> Any:
    return SimpleNamespace(get_name=lambda: name, hosts=[hosts])


def result(action: str = "confidential.containers.k8s_objects", host: str = "lab", **data: Any) -> Any:
    return SimpleNamespace(_result=data, _task=SimpleNamespace(resolved_action=action), _host=SimpleNamespace(get_name=lambda: host))


def test_table_and_verdict(callback: Any) -> None:
    callback.v2_playbook_on_play_start(play("Before the steps | preflight", "hub"))
    callback.v2_runner_on_ok(result(changed=True))
    callback.v2_playbook_on_play_start(play("Step 01 | Install the Trustee operator", "hub"))
    callback.v2_runner_on_ok(result(changed=True))
    callback.v2_runner_on_ok(result(changed=False))
    callback.v2_playbook_on_play_start(play("Step 07 | Delete KataConfig", "spokes"))
    callback.v2_playbook_on_play_start(play("Step 14 | Verify attestation", "spokes"))
    callback.v2_runner_on_ok(result("confidential.containers.attestation_check", verdict="attested", mode="pods"))
    callback.v2_playbook_on_stats(None)
    run = parse(0, "\n".join(callback._display.lines), 0.0)
    assert [(n, s["title"], s["zone"], s["result"], s["changed"]) for n, s in run.steps.items()] == [
        ("01", "Install the Trustee operator", "hub", "ok", 1),
        ("07", "Delete KataConfig", "spoke", "not run", 0),
        ("14", "Verify attestation", "spoke", "ok", 0),
    ]
    assert run.verdict.startswith("the secret reached an attested pod")


def test_what_is_done_before_and_instead_of_a_step_is_counted_there(callback: Any) -> None:
    callback.v2_playbook_on_play_start(play("Before step 05 | Give pod VMs a way out", "spokes"))
    callback.v2_runner_on_ok(result(changed=True))
    callback.v2_playbook_on_play_start(play("Step 05 | Update the peer pods config map", "spokes"))
    callback.v2_runner_on_ok(result(changed=True))
    callback.v2_playbook_on_play_start(play("Step 11 | Configure values", "hub"))
    callback.v2_playbook_on_play_start(play("Instead of step 11 | The same elsewhere", "spokes"))
    callback.v2_runner_on_failed(result(changed=False))
    callback.v2_playbook_on_stats(None)
    run = parse(2, "\n".join(callback._display.lines), 0.0)
    assert [(n, s["title"], s["zone"], s["result"], s["changed"]) for n, s in run.steps.items()] == [
        ("05", "Update the peer pods config map", "spoke", "ok", 2), ("11", "Configure values", "spoke", "failed", 0)]


def test_a_failed_step_and_no_verdict(callback: Any) -> None:
    callback.v2_playbook_on_play_start(play("Step 12 | KbsConfig", "hub"))
    callback.v2_runner_on_failed(result(changed=False))
    callback.v2_playbook_on_stats(None)
    run = parse(2, "\n".join(callback._display.lines), 0.0)
    assert run.steps["12"]["result"] == "failed"
    assert run.verdict.startswith("not yet")


def test_step_13_alone_is_no_proof(callback: Any) -> None:
    callback.v2_playbook_on_play_start(play("Step 13 | Verify Trustee", "hub"))
    callback.v2_runner_on_ok(result("confidential.containers.attestation_check", verdict="ready", mode="trustee"))
    callback.v2_playbook_on_stats(None)
    assert parse(0, "\n".join(callback._display.lines), 0.0).verdict.startswith("not yet")


def test_other_playbooks_print_nothing(callback: Any) -> None:
    callback.v2_playbook_on_play_start(play("Something else", "all"))
    callback.v2_playbook_on_stats(None)
    assert callback._display.lines == []


@pytest.mark.parametrize(("second", "expected"), [
    ("attested", r"the secret reached an attested pod .* tampered initdata"),
    ("not proven", r"not proven \(spoke2\); the secret reached .* \(spoke1\)"),
])
def test_verdict_of_several_spokes(callback: Any, second: str, expected: str) -> None:
    callback.v2_playbook_on_play_start(play("Step 14 | Verify attestation", "spokes"))
    action = "confidential.containers.attestation_check"
    callback.v2_runner_on_ok(result(action, "spoke1", verdict="attested", mode="pods"))
    callback.v2_runner_on_failed(result(action, "spoke2", verdict=second, mode="pods"))
    callback.v2_playbook_on_stats(None)
    assert re.fullmatch(expected, parse(2, "\n".join(callback._display.lines), 0.0).verdict)
