# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Argument specifications that modules share, and the one way a module file runs its work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.module_utils.basic import AnsibleModule, env_fallback

from ansible_collections.confidential.containers.plugins.module_utils.context import Context
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

Run = Callable[[dict[str, Any], Context], dict[str, Any]]


def cluster_options() -> dict[str, dict[str, Any]]:
    """The options of a cluster connection; names and environment variables as in ``kubernetes.core``."""
    return {
        "kubeconfig": {"type": "raw", "no_log": True, "fallback": (env_fallback, ["K8S_AUTH_KUBECONFIG", "KUBECONFIG"])},
        "context": {"type": "str", "fallback": (env_fallback, ["K8S_AUTH_CONTEXT"])},
        "host": {"type": "str", "fallback": (env_fallback, ["K8S_AUTH_HOST"])},
        "api_key": {"type": "str", "no_log": True, "fallback": (env_fallback, ["K8S_AUTH_API_KEY"])},
        "username": {"type": "str", "fallback": (env_fallback, ["K8S_AUTH_USERNAME"])},
        "password": {"type": "str", "no_log": True, "fallback": (env_fallback, ["K8S_AUTH_PASSWORD"])},
        "ca_cert": {"type": "path", "aliases": ["ssl_ca_cert"], "fallback": (env_fallback, ["K8S_AUTH_SSL_CA_CERT"])},
        "client_cert": {"type": "path", "aliases": ["cert_file"], "fallback": (env_fallback, ["K8S_AUTH_CERT_FILE"])},
        "client_key": {"type": "path", "no_log": False, "aliases": ["key_file"],
                       "fallback": (env_fallback, ["K8S_AUTH_KEY_FILE"])},
        "validate_certs": {"type": "bool", "aliases": ["verify_ssl"], "fallback": (env_fallback, ["K8S_AUTH_VERIFY_SSL"])},
        "proxy": {"type": "str", "fallback": (env_fallback, ["K8S_AUTH_PROXY"])},
    }


def main(argument_spec: dict[str, Any], run: Run, **kwargs: Any) -> None:
    """Run a module's work in a process of its own. ``kwargs``: required_if and the like, as AnsibleModule takes them."""
    module = AnsibleModule(argument_spec=argument_spec, supports_check_mode=True, **kwargs)
    context = Context(check_mode=module.check_mode, diff=module._diff, warn=module.warn)
    try:
        result = run(module.params, context)
    except CocoError as error:
        module.fail_json(**error.result())
        return
    module.exit_json(**result)
