"""The filters: the only way from a template to the core. Thin, documented, and their errors are Ansible's."""

from __future__ import annotations

import ast
import importlib
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.confidential.containers.plugins.module_utils import kata_policy, policy, releases

ROOT = Path(__file__).parents[3]
FILES = sorted((ROOT / "plugins" / "filter").glob("*.py"))
NAMES = [file.stem for file in FILES]


def load(name: str) -> Any:
    return importlib.import_module(f"ansible_collections.confidential.containers.plugins.filter.{name}")


def call(name: str, *arguments: Any) -> Any:
    return load(name).FilterModule().filters()[name](*arguments)


def test_there_are_filters() -> None:
    assert NAMES == ["attestation_policy", "azure_login", "azure_subnet", "image_policies", "kata_agent_policy", "kbs_config",
                     "release", "resource_policy", "throwaway_ssh_key", "trustee_objects"]


@pytest.mark.parametrize("name", NAMES)
def test_one_filter_per_file_under_its_name(name: str) -> None:
    module = load(name)
    assert list(module.FilterModule().filters()) == [name]
    documentation = yaml.safe_load(module.DOCUMENTATION)
    assert documentation["name"] == name
    assert documentation["version_added"]
    assert yaml.safe_load(module.EXAMPLES)[0]["name"]
    assert yaml.safe_load(module.RETURN)["_value"]["type"]


@pytest.mark.parametrize("name", NAMES)
def test_documented_options_are_the_arguments(name: str) -> None:
    module = load(name)
    (function,) = module.FilterModule().filters().values()
    arguments = [argument.arg for node in ast.walk(ast.parse((ROOT / "plugins" / "filter" / f"{name}.py").read_text()))
                 if isinstance(node, ast.FunctionDef) and node.name == function.__name__ for argument in node.args.args]
    assert arguments == ["value", *[option for option in yaml.safe_load(module.DOCUMENTATION)["options"] if option != "_input"]]


def test_azure_login_sees_the_environment_of_the_controller(monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = {"AZURE_CLIENT_ID": "pods"}
    for name in ("AZURE_CLIENT_ID", "ANSIBLE_AZURE_AUTH_SOURCE"):
        monkeypatch.delenv(name, raising=False)
    assert call("azure_login", {}, credentials)["options"] == {"client_id": "pods"}
    monkeypatch.setenv("AZURE_CLIENT_ID", "mine")
    assert call("azure_login", {}, credentials) == {"options": {}, "at_hand": True, "pod_vms": False}


def test_azure_subnet() -> None:
    conf = {"subscriptionId": "s", "resourceGroup": "g", "vnetName": "v", "subnetName": "w"}
    assert call("azure_subnet", {"cloud_conf": conf}).endswith("/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/v/subnets/w")
    assert call("azure_subnet", {"cloud_conf": None}) == ""


@pytest.mark.parametrize("pair", releases.PAIRS)
def test_facts_of_a_release(pair: str) -> None:
    found = call("release", pair)
    assert found == releases.facts(releases.parse(pair))
    assert f"{found['osc']['name']}/{found['trustee']['name']}" == pair


@pytest.mark.parametrize("pair", releases.PAIRS)
def test_kbs_config(pair: str) -> None:
    trustee = releases.parse(pair).trustee
    ((key, text),) = call("kbs_config", pair).items()
    assert key == trustee.kbs_config_key
    assert (json.loads if key.endswith("json") else tomllib.loads)(text)
    (plain,) = call("kbs_config", pair, {"insecure_http": True}).values()
    assert "https-key" not in plain or "token.key" in plain, "no server key in plain HTTP (0.3, 0.4 keep the signer there)"
    assert plain != text


@pytest.mark.parametrize("pair", releases.PAIRS)
def test_trustee_objects(pair: str) -> None:
    trustee = releases.parse(pair).trustee
    assert call("trustee_objects", pair)["kind"] == trustee.default_cr
    assert call("trustee_objects", pair, "KbsConfig")["config_map"] == "kbs-config-cm"
    if "TrusteeConfig" in trustee.crs:
        assert call("trustee_objects", pair, "TrusteeConfig")["config_map"] == "trusteeconfig-kbs-config"
    else:
        with pytest.raises(AnsibleFilterError, match="cannot be deployed as TrusteeConfig"):
            call("trustee_objects", pair, "TrusteeConfig")


@pytest.mark.parametrize("pair", releases.PAIRS[1:])
def test_policies(pair: str) -> None:
    trustee = releases.parse(pair).trustee
    assert call("attestation_policy", pair) == policy.attestation_policy(trustee)
    assert call("attestation_policy", pair, ["tdx"]) == policy.attestation_policy(trustee, ["tdx"])
    assert call("resource_policy", pair) == policy.resource_policy(trustee)
    assert policy.lint(call("attestation_policy", pair), "attestation", trustee) == []


def test_agent_policy_and_image_policies() -> None:
    assert call("kata_agent_policy", {"logs": True}) == kata_policy.render({"logs": True})
    assert set(call("image_policies", {})) == {"insecure", "signed", "reject"}


def test_throwaway_ssh_key() -> None:
    made = call("throwaway_ssh_key", {"a": "b"})
    assert made["a"] == "b"
    assert made["id_rsa.pub"].startswith("ssh-rsa AAAA")
    assert "PRIVATE" not in str(made)
    assert call("throwaway_ssh_key", made) == made, "one that is there is kept"
    assert call("throwaway_ssh_key", {})["id_rsa.pub"] != made["id_rsa.pub"]


@pytest.mark.parametrize(("name", "arguments"), [
    ("release", ("1.7/0.1",)), ("release", (None,)), ("kbs_config", ("1.11/1.1",)), ("kbs_config", ("1.11/1.0", {"htpp": 1})),
    ("attestation_policy", ("1.8/0.2",)), ("attestation_policy", ("1.11/1.0", ["sev"])), ("resource_policy", ("",)),
    ("kata_agent_policy", ({"execs": True},)), ("image_policies", ({"quay.io/a": "file:///key"},)),
])
def test_errors_are_ansibles_and_name_the_next_step(name: str, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        call(name, *arguments)
    assert " · " in str(caught.value)
