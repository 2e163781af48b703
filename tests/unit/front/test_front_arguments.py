"""What of a task's options is secret, what an invocation shows, and how a module ends in a process of its own."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.confidential.containers.plugins.module_utils import arguments
from ansible_collections.confidential.containers.plugins.module_utils.arguments import HIDDEN, secret_values, shown
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

KUBECONFIG = {"users": [{"name": "me", "user": {"token": "token-value-1", "client-key-data": base64.b64encode(b"private-half-1").decode(),
                                                "auth-provider": {"config": {"id-token": "id-token-value"}}}}],
              "clusters": [{"cluster": {"server": "https://api.test"}}]}


@pytest.mark.parametrize("kubeconfig", [KUBECONFIG, json.dumps(KUBECONFIG)])
@pytest.mark.parametrize("name", ["kubeconfig", "hub_kubeconfig"])
def test_secrets_of_a_kubeconfig_that_is_given_as_content(kubeconfig: Any, name: str) -> None:
    found = secret_values({name: kubeconfig}, set())
    assert found == {"token-value-1", base64.b64encode(b"private-half-1").decode(), "private-half-1", "id-token-value"}
    assert shown({name: kubeconfig}, arguments.cluster_options())[name] == HIDDEN


def test_a_path_is_no_secret() -> None:
    assert secret_values({"kubeconfig": "/home/me/kubeconfig"}, set()) == set()
    assert shown({"kubeconfig": "/home/me/kubeconfig"}, {}) == {"kubeconfig": "/home/me/kubeconfig"}
    assert secret_values({"kubeconfig": "{broken"}, set()) == set()


def test_what_an_invocation_shows() -> None:
    spec = {"api_key": {"no_log": True}, "objects": {}, "empty": {"no_log": True}}
    secret = {"kind": "Secret", "metadata": {"name": "s"}, "data": {"k": "v"}, "stringData": {"k": "v"}}
    found = shown({"api_key": "x", "empty": None, "objects": [secret, {"kind": "ConfigMap", "data": {"k": "v"}}]}, spec)
    assert found == {"api_key": HIDDEN, "empty": None, "objects": [
        {"kind": "Secret", "metadata": {"name": "s"}, "data": {"k": HIDDEN}, "stringData": {"k": HIDDEN}},
        {"kind": "ConfigMap", "data": {"k": "v"}}]}


def test_the_second_cluster_has_the_same_options() -> None:
    first, second = arguments.cluster_options(), arguments.cluster_options("hub_")
    assert {f"hub_{name}" for name in first} == set(second)
    assert all("aliases" not in spec for spec in second.values())
    assert first["api_key"]["no_log"]
    assert second["hub_password"]["no_log"]


SPEC = {"state": {"choices": ["a", "b"]}, "objects": {"type": "list", "elements": "dict"}, "kubeconfig": {"type": "raw", "no_log": False}}
OBJECTS = [{"kind": "Secret", "stringData": {"k": "long-secret-1"}}]


def ended(capsys: pytest.CaptureFixture[str], run: Any, **options: Any) -> dict[str, Any]:
    with patch_module_args(options), pytest.raises(SystemExit):
        arguments.main(SPEC, run, lambda params: arguments.object_secrets(params["objects"]))
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_result(capsys: pytest.CaptureFixture[str]) -> None:
    found = ended(capsys, lambda params, _context: {"changed": True, "echo": params["objects"]}, objects=OBJECTS)
    assert found["changed"] is True
    assert "long-secret-1" not in json.dumps(found)
    assert found["invocation"]["module_args"]["objects"][0]["stringData"] == {"k": HIDDEN}


def test_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    def run(_params: Any, _context: Any) -> dict[str, Any]:
        raise CocoError("It failed", "with long-secret-1", "Do this.", changed=True, objects=[1])

    found = ended(capsys, run, objects=OBJECTS)
    assert found["msg"] == "It failed · with ******** · Do this."
    assert (found["failed"], found["changed"], found["hint"], found["objects"]) == (True, True, "Do this.", [1])


def test_a_failed_result(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(capsys, lambda _params, _context: {"failed": True})["msg"] == "The module failed."


def test_an_unexpected_error(capsys: pytest.CaptureFixture[str]) -> None:
    def run(_params: Any, _context: Any) -> dict[str, Any]:
        raise KeyError("long-secret-1")

    found = ended(capsys, run, objects=OBJECTS)
    assert found["msg"].startswith("The module failed unexpectedly · KeyError: ")
    assert "long-secret-1" not in json.dumps(found)


@pytest.mark.parametrize("wrong", [{"state": "c"}, {"wat": 1}, {"state": "long-secret-1"}, {"state": "id-token-value"}])
def test_invalid_options_show_no_secret(capsys: pytest.CaptureFixture[str], wrong: dict[str, Any]) -> None:
    found = ended(capsys, None, objects=OBJECTS, kubeconfig=KUBECONFIG, **wrong)
    assert found["failed"]
    text = json.dumps(found)
    for value in ("long-secret-1", "token-value-1", "id-token-value"):
        assert value not in text
    assert found["invocation"]["module_args"]["kubeconfig"] == HIDDEN
