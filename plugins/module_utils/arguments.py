# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Argument specifications that modules share, what of the arguments is secret, and the one way a module file runs its work."""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.confidential.containers.plugins.module_utils.context import Context
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

Run = Callable[[dict[str, Any], Context], dict[str, Any]]
Secrets = Callable[[dict[str, Any]], set[str]]

#: Shorter values are not searched for in the output: replacing "a" or "true" everywhere hides nothing and garbles all.
SHORTEST_SECRET = 8
HIDDEN = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"
#: Keys of a kubeconfig whose values are secret.
KUBECONFIG_SECRETS = ("token", "password", "client-key-data", "id-token", "refresh-token", "access-token", "client-secret")


def cluster_options(prefix: str = "") -> dict[str, dict[str, Any]]:
    """The options of a cluster connection, named as in ``kubernetes.core`` (each name behind ``prefix``).

    Environment variables are looked at when the session is made (``cluster_login.py``), not here: a kubeconfig that a task
    names must never be overruled by a host that the environment names.
    """
    options: dict[str, dict[str, Any]] = {
        "kubeconfig": {"type": "raw", "no_log": False},
        "context": {"type": "str"},
        "host": {"type": "str"},
        "api_key": {"type": "str", "no_log": True},
        "username": {"type": "str"},
        "password": {"type": "str", "no_log": True},
        "ca_cert": {"type": "path", "aliases": ["ssl_ca_cert"]},
        "client_cert": {"type": "path", "aliases": ["cert_file"]},
        "client_key": {"type": "path", "no_log": False, "aliases": ["key_file"]},
        "validate_certs": {"type": "bool", "aliases": ["verify_ssl"]},
        "proxy": {"type": "str"},
    }
    if not prefix:
        return options
    return {prefix + name: {key: value for key, value in option.items() if key != "aliases"} for name, option in options.items()}


def azure_options() -> dict[str, dict[str, Any]]:
    """The options of a login to Azure, named as in ``azure.azcollection``. The environment is looked at by ``azure_login.py``."""
    return {
        "subscription_id": {"type": "str"},
        "tenant": {"type": "str"},
        "client_id": {"type": "str"},
        "secret": {"type": "str", "no_log": True},
        "x509_certificate_path": {"type": "path"},
        "auth_source": {"type": "str", "choices": ["auto", "env", "cli", "msi", "workload_identity"]},
        "cloud_environment": {"type": "str"},
        "adfs_authority_url": {"type": "str"},
        "cert_validation_mode": {"type": "str", "choices": ["validate", "ignore"]},
        "azure_ca_cert": {"type": "path"},
        "arm_endpoint": {"type": "str"},
    }


def kubeconfig_secrets(value: Any) -> set[str]:
    """The secret values inside a kubeconfig that is given as content (a dict, or its JSON text), not as a path."""
    found: set[str] = set()
    for key, leaf in _leaves(_content(value)):
        if key in KUBECONFIG_SECRETS:
            found.add(leaf)
            found.update(_decoded(leaf))
    return found


def object_secrets(objects: Any) -> set[str]:
    """The values of the Secrets among manifests, as they are written and as they are sent."""
    found: set[str] = set()
    for obj in objects if isinstance(objects, list) else []:
        if not isinstance(obj, dict) or obj.get("kind") != "Secret":
            continue
        for _key, leaf in _leaves(obj.get("data")):
            found.add(leaf)
            found.update(_decoded(leaf))
        for _key, leaf in _leaves(obj.get("stringData")):
            found.update((leaf, base64.b64encode(leaf.encode()).decode()))
    return found


def secret_values(params: dict[str, Any], known: set[str], more: Secrets | None = None) -> set[str]:
    """Every value to be kept out of the output: of no_log options (``known``), of kubeconfigs, and what the work names."""
    found = {str(value) for value in known}
    for name, value in params.items():
        if name.endswith("kubeconfig"):
            found |= kubeconfig_secrets(value)
    if more is not None:
        with contextlib.suppress(KeyError, TypeError, ValueError):  # of options that are not valid
            found |= more(params)
    return {value for value in found if len(value) >= SHORTEST_SECRET}


def shown(params: dict[str, Any], argument_spec: dict[str, Any]) -> dict[str, Any]:
    """The parameters as the result's ``invocation`` may show them (values still have to be scrubbed)."""
    visible = {}
    for name, value in params.items():
        hidden = bool(argument_spec.get(name, {}).get("no_log")) and value is not None
        if name.endswith("kubeconfig") and _content(value) is not None:
            hidden = True
        visible[name] = HIDDEN if hidden else _without_secret_data(value)
    return visible


def _without_secret_data(value: Any) -> Any:
    if isinstance(value, dict):
        secret = value.get("kind") == "Secret"
        return {key: dict.fromkeys(item, HIDDEN) if secret and key in ("data", "stringData") and isinstance(item, dict)
                else _without_secret_data(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_secret_data(item) for item in value]
    return value


def _content(value: Any) -> dict[str, Any] | None:
    if isinstance(value, dict):
        return value
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            document = json.loads(value)
        except ValueError:
            return {}
        return document if isinstance(document, dict) else {}
    return None


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _leaves(item, str(name))
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item, key)
    elif isinstance(value, str):
        yield key, value


def _decoded(text: str) -> set[str]:
    try:
        return {base64.b64decode(text, validate=True).decode()}
    except (binascii.Error, ValueError):
        return set()


def unexpected(error: Exception) -> dict[str, Any]:
    """The result of an error that nobody thought of."""
    return {"failed": True, "hint": "Report it with the output of -vvv.",
            "msg": f"The module failed unexpectedly · {type(error).__name__}: {error} · This is an error of the collection: please "
                   "report it with the output of -vvv."}


def main(argument_spec: dict[str, Any], run: Run, secrets: Secrets | None = None, **kwargs: Any) -> None:
    """Run a module's work in a process of its own.

    ``secrets`` names secret values among the parameters beyond those of no_log options; ``kwargs``: required_if and the like,
    as AnsibleModule takes them. Nothing is written to the machine's log: a kubeconfig or a Secret may be among the options.
    """
    kwargs.setdefault("supports_check_mode", True)

    class Module(AnsibleModule):  # type: ignore[misc]
        """Options that are not valid end before the work begins: their secret values must not be shown either."""

        def fail_json(self, msg: str, **result: Any) -> None:
            self.no_log_values |= secret_values(self.params, self.no_log_values, secrets)
            super().fail_json(msg, **{"invocation": {"module_args": shown(self.params, argument_spec)}, **result})

    module = Module(argument_spec=argument_spec, no_log=True, **kwargs)
    module.no_log_values = secret_values(module.params, module.no_log_values, secrets)
    context = Context(check_mode=module.check_mode, diff=module._diff, warn=module.warn)
    invocation = {"module_args": shown(module.params, argument_spec)}
    try:
        result = run(module.params, context)
    except CocoError as error:
        module.fail_json(**{**error.result(), "invocation": invocation})
        return
    except Exception as error:
        module.fail_json(**{**unexpected(error), "exception": traceback.format_exc(), "invocation": invocation})
        return
    if result.get("failed"):
        module.fail_json(**{"msg": "The module failed.", **result, "invocation": invocation})
    module.exit_json(**{**result, "invocation": invocation})
