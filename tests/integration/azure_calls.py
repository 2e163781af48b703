"""The Azure modules' work as tasks call it, against a lab-arm of the test."""

from __future__ import annotations

import importlib
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.confidential.containers.plugins.module_utils import azure_login
from ansible_collections.confidential.containers.plugins.module_utils.context import Context
from lab import seed
from tests.lab.arm_running import Running

INFRA = seed.infrastructure("lab")
#: Variables of the environment that a login, or the way to it, may come from.
ENVIRONMENT = {name for names in azure_login.ENVIRONMENT.values() for name in names} | {
    "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "no_proxy", "CURL_CA_BUNDLE", "AZURE_CONFIG_DIR",
    "AZURE_POD_IDENTITY_AUTHORITY_HOST", "IDENTITY_ENDPOINT", "MSI_ENDPOINT"}


def conf(arm: Running) -> dict[str, Any]:
    return seed.cloud_conf("lab", arm.facts["platform"])


def subnet_id(arm: Running) -> str:
    found = conf(arm)
    return (f"{arm.subscription}/resourceGroups/{found['vnetResourceGroup']}/providers/Microsoft.Network/virtualNetworks/"
            f"{found['vnetName']}/subnets/{found['subnetName']}")


def place(arm: Running) -> dict[str, Any]:
    """The options that say where Azure is."""
    return {"adfs_authority_url": arm.facts["authority"], "arm_endpoint": arm.facts["endpoint"], "azure_ca_cert": arm.facts["ca"]}


def login(arm: Running, name: str) -> dict[str, Any]:
    """The options of a login with a secret."""
    return {**{key: arm.clients[name][key] for key in ("tenant", "client_id", "secret")}, **place(arm)}


def work(module: str, options: dict[str, Any], check: bool = False, warnings: list[str] | None = None) -> dict[str, Any]:
    """A module's work with options as a task has them."""
    code = importlib.import_module(f"ansible_collections.confidential.containers.plugins.module_utils.actions.{module}")
    validated = ArgumentSpecValidator(code.ARGUMENT_SPEC, **code.SPEC_KWARGS).validate(options)
    assert not validated.error_messages, validated.error_messages
    result: dict[str, Any] = code.run(validated.validated_parameters, Context(
        check_mode=check, diff=True, warn=[].append if warnings is None else warnings.append))
    return result


def call(arm: Running, module: str, name: str = "installer", check: bool = False, **options: Any) -> dict[str, Any]:
    """A module's work as the principal named; an option of None is left out."""
    given = {**login(arm, name), "subscription_id": arm.facts["subscription"], **options}
    result = work(module, {key: value for key, value in given.items() if value is not None}, check)
    assert arm.clients[name]["secret"] not in str(result)
    return result


def cluster(arm: Running, **changed: Any) -> dict[str, Any]:
    """What cluster_info finds; ``changed``: keys of cloud-conf that are otherwise (None: not there)."""
    found = {key: value for key, value in {**conf(arm), **changed}.items() if value is not None}
    return {"platform": "Azure", "aro": arm.facts["platform"] == "aro", "cloud_conf": found}


def info(arm: Running, name: str = "installer", **options: Any) -> dict[str, Any]:
    return call(arm, "azure_peerpods_info", name, **{"cluster": cluster(arm), **options})


def network(arm: Running, **options: Any) -> dict[str, Any]:
    return call(arm, "azure_peerpods_network", **{"infrastructure_name": INFRA, "subnet_id": subnet_id(arm), **options})


def writes(arm: Running) -> list[tuple[str, str]]:
    return [(one["method"], one["path"].rpartition("/")[2]) for one in arm.audit() if one["method"] != "GET"]
