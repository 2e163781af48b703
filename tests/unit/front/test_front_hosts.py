"""Both hosts of a module's work, the controller's process and a process of its own, give the same, and neither shows a secret."""

from __future__ import annotations

import base64
import copy
import datetime
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.confidential.containers.plugins.module_utils import kata_policy, keys
from tests.fake_api import FakeApi

ROOT = Path(__file__).parents[3]
TOKEN, PASSWORD, DATA = "canary-token-4711", "canary-password-4711", "canary-data-4711"
PRIVATE = keys.new_ed25519()[0]
CA = keys.new_ca("test", 30, datetime.datetime.now(datetime.timezone.utc))[1]
CANARIES = {TOKEN, PASSWORD, DATA, base64.b64encode(PASSWORD.encode()).decode(), base64.b64encode(DATA.encode()).decode(),
            *[line for line in PRIVATE.splitlines() if not line.startswith("-")]}
OWN = "confidential.containers"


def playbook(api: FakeApi, directory: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The plays and their variables: a playbook's own text may be shown with an error, so no secret stands in it."""
    cluster = {"kubeconfig": api.kubeconfig(token=TOKEN)}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "shop"},
              "stringData": {"password": PASSWORD}, "data": {"d": base64.b64encode(DATA.encode()).decode()}}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
    policy = {"name": "bad", "kind": "resource", "text": "package other\n"}
    tasks: list[dict[str, Any]] = [
        {"name": "initdata", f"{OWN}.initdata_build": {
            "release": "1.11/1.0", "kbs_url": "https://kbs.test", "kbs_ca": CA, "policy": kata_policy.render(),
            "image_security_policy_uri": "kbs:///default/security-policy/signed"}},
        {"name": "initdata refused", f"{OWN}.initdata_build": {"release": "1.11/1.0", "toml": "no = toml = x"}},
        {"name": "key", f"{OWN}.kbs_keypair": {"private_key": PRIVATE}},
        {"name": "policy", f"{OWN}.policy_check": {"release": "1.11/1.0", "policies": [policy], "fail": False}},
        {"name": "policy refused", f"{OWN}.policy_check": {"release": "1.11/1.0", "policies": [policy]}},
        {"name": "objects in check mode", f"{OWN}.k8s_objects": {**cluster, "objects": [namespace, secret]}, "check_mode": True},
        {"name": "objects", f"{OWN}.k8s_objects": {**cluster, "objects": [namespace, secret]}},
        {"name": "objects again", f"{OWN}.k8s_objects": {**cluster, "objects": [namespace, secret]}},
        {"name": "objects in a group", f"{OWN}.k8s_objects": {"state": "absent", "objects": [secret]}},
        {"name": "a refusal that repeats a value", f"{OWN}.k8s_objects": {**cluster, "objects": [
            {**secret, "metadata": {"name": "refused", "namespace": "shop"}}]}},
        {"name": "options", f"{OWN}.k8s_objects": {**cluster, "objects": [secret], "state": "gone", "wat": True}},
        {"name": "an unexpected error", f"{OWN}.k8s_objects": {**cluster, "objects": [{**namespace, "metadata": {"name": "odd"}}]}},
    ]
    for task in tasks:
        task["ignore_errors"] = True
    elsewhere: list[dict[str, Any]] = [
        {"name": "with an environment", f"{OWN}.kbs_keypair": {"private_key": PRIVATE}, "environment": {"LC_ALL": "C"}},
        {"name": "async", f"{OWN}.kbs_keypair": {"private_key": PRIVATE}, "async": 20, "poll": 1},
    ]
    values: dict[str, Any] = {"the_cluster": cluster["kubeconfig"], "ansible_async_dir": str(directory / "async")}
    for number, task in enumerate([*tasks, *elsewhere]):
        module = next(name for name in task if name.startswith(OWN))
        for option, value in task[module].items():
            values[f"v{number}_{option}"] = value
            task[module][option] = f"{{{{ v{number}_{option} }}}}"
    return [{"hosts": "localhost", "gather_facts": False, "tasks": [*tasks, *elsewhere],
             "module_defaults": {f"group/{OWN}.cluster": {"kubeconfig": "{{ the_cluster }}"}}}], values


@dataclass
class Run:
    results: dict[str, dict[str, Any]]
    output: str

    def executed(self, task: str) -> bool:
        """Was a module sent for this task?"""
        text = self.output.partition(f"TASK [{task}]")[2].partition("\nTASK [")[0]
        return "AnsiballZ_" in text


@dataclass
class Runs:
    here: Run
    there: Run


def play(directory: Path, api: FakeApi, interpreter: str) -> Run:
    directory.mkdir()
    plays, values = playbook(api, directory)
    (directory / "play.yml").write_text(yaml.safe_dump(plays))
    (directory / "values.json").write_text(json.dumps(values))
    (directory / "ansible.cfg").touch()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "K8S_AUTH_"))}
    environment |= {"ANSIBLE_CONFIG": str(directory / "ansible.cfg"), "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
                    "ANSIBLE_HOME": str(directory),
                    "ANSIBLE_CALLBACK_PLUGINS": str(Path(__file__).parent / "callbacks"), "ANSIBLE_CALLBACKS_ENABLED": "record",
                    "ANSIBLE_LOCALHOST_WARNING": "false", "ANSIBLE_INVENTORY_UNPARSED_WARNING": "false",
                    "RECORD": str(directory / "results"), "HOME": str(directory)}
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,", "-c", "local", "-vvv", "--diff",
               "-e", f"@{directory / 'values.json'}", "-e", f"ansible_python_interpreter={interpreter}", str(directory / "play.yml")]
    done = subprocess.run(command, env=environment, cwd=directory, capture_output=True, text=True, timeout=120)
    lines = (directory / "results").read_text().splitlines() if (directory / "results").exists() else []
    assert lines, done.stdout + done.stderr
    return Run({item["task"]: item["result"] for item in map(json.loads, lines)}, done.stdout + done.stderr)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    directory = tmp_path_factory.mktemp("hosts")
    other = directory / "python"
    other.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    other.chmod(0o755)
    with FakeApi() as api:
        api.token = TOKEN
        api.script("PATCH", "/secrets/refused", 422, {"reason": "Invalid", "message": f'data: Invalid value: "{PASSWORD}"'}, times=99)
        api.script("PATCH", "/namespaces/odd", 200, ["no object"], times=99)
        clean = copy.deepcopy(api.objects)
        here = play(directory / "here", api, "{{ ansible_playbook_python }}")
        api.objects = clean
        yield Runs(here, play(directory / "there", api, str(other)))


SAME = ["initdata", "initdata refused", "key", "policy", "policy refused", "objects in check mode", "objects", "objects again",
        "objects in a group", "a refusal that repeats a value"]
FAILED = {"initdata refused", "policy refused", "a refusal that repeats a value"}


def essential(result: dict[str, Any]) -> dict[str, Any]:
    """Without what Ansible adds on the way."""
    return {key: value for key, value in result.items() if not key.startswith(("_", "ansible_")) and key not in ("exception",
                                                                                                                 "deprecations")}


def masks(result: dict[str, Any]) -> dict[str, Any]:
    """The marks of secret values differ from process to process, on purpose."""
    text = re.sub(r"<hidden:[0-9a-f]{16}>", "<hidden>", re.sub(r"uid-\d+", "uid", json.dumps(result)))
    found: dict[str, Any] = json.loads(text)
    return found


@pytest.mark.parametrize("task", SAME)
def test_both_hosts_give_the_same(runs: Runs, task: str) -> None:
    here, there = masks(essential(runs.here.results[task])), masks(essential(runs.there.results[task]))
    assert here == there
    assert bool(here.get("failed")) is (task in FAILED)
    if task in FAILED:
        assert here["hint"]
        assert here["msg"].count(" · ") >= 1


@pytest.mark.parametrize("task", SAME)
def test_each_ran_where_it_should(runs: Runs, task: str) -> None:
    assert not runs.here.executed(task)
    assert runs.there.executed(task)


@pytest.mark.parametrize("task", ["with an environment", "async"])
def test_what_needs_a_process_of_its_own_gets_one(runs: Runs, task: str) -> None:
    assert runs.here.executed(task)
    assert runs.here.results[task]["public_key"] == runs.here.results["key"]["public_key"]


@pytest.mark.parametrize("name", ["here", "there"])
def test_no_secret_is_shown(runs: Runs, name: str) -> None:
    run: Run = getattr(runs, name)
    for canary in CANARIES:
        assert canary not in run.output
        assert canary not in json.dumps(run.results)
    assert "+" in run.output
    assert "<hidden:" in run.output, "a diff was shown"


def test_objects(runs: Runs) -> None:
    results = runs.here.results
    assert [results[task]["changed"] for task in ("objects in check mode", "objects", "objects again", "objects in a group")] == [
        True, True, False, True]
    assert results["objects"]["objects"][1]["action"] == "created"
    assert "Invalid value" in results["a refusal that repeats a value"]["msg"]
    assert results["objects"]["invocation"]["module_args"]["objects"][1]["metadata"] == {"name": "s", "namespace": "shop"}


def test_progress_is_shown_at_once_where_it_can_be(runs: Runs) -> None:
    assert "  Secret shop/s: created" in runs.here.output.splitlines()


@pytest.mark.parametrize("name", ["here", "there"])
def test_options_are_checked(runs: Runs, name: str) -> None:
    found = getattr(runs, name).results["options"]
    assert found["failed"]
    assert "state" in found["msg"] or "wat" in found["msg"]


@pytest.mark.parametrize("name", ["here", "there"])
def test_an_unexpected_error_is_one_of_ours(runs: Runs, name: str) -> None:
    found = getattr(runs, name).results["an unexpected error"]
    assert found["failed"]
    assert found["msg"].startswith("The module failed unexpectedly · ")
    assert "report it with the output of -vvv" in found["msg"]
    assert found["hint"]
