# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The work of the module attestation_check."""

from __future__ import annotations

from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils import releases
from ansible_collections.confidential.containers.plugins.module_utils.arguments import cluster_options
from ansible_collections.confidential.containers.plugins.module_utils.cluster import (
    ApiFailure,
    Cluster,
    UnknownKind,
    Unreachable,
    explain,
)
from ansible_collections.confidential.containers.plugins.module_utils.context import Context
from ansible_collections.confidential.containers.plugins.module_utils.probe_pods import PodProbe
from ansible_collections.confidential.containers.plugins.module_utils.probe_trustee import TrusteeProbe

ARGUMENT_SPEC: dict[str, Any] = {
    "mode": {"type": "str", "choices": ["trustee", "pods"], "required": True},
    "release": {"type": "str", "required": True},
    "trustee_namespace": {"type": "str", "default": "trustee-operator-system"},
    "kbsconfig": {"type": "str", "default": "kbsconfig"},
    "timeout": {"type": "int", "default": 600},
    "request_timeout": {"type": "int", "default": 10},
    "kbs_url": {"type": "str"},
    "ca_certificate": {"type": "str"},
    "connect_to": {"type": "str"},
    "resource": {"type": "str", "default": "default/coco-verification/random"},
    "sha256": {"type": "str"},
    "without_hub": {"type": "bool", "default": False},
    "namespace": {"type": "str"},
    "image": {"type": "str", "default": "registry.access.redhat.com/ubi9/ubi-minimal:9.6"},
    "runtime_class": {"type": "str", "default": "kata-remote"},
    "podvm_image_id": {"type": "str", "default": ""},
    "initdata": {"type": "str"},
    **cluster_options(),
    **{f"hub_{name}": {key: value for key, value in spec.items() if key not in ("fallback", "aliases")}
       for name, spec in cluster_options().items()},
}
SPEC_KWARGS: dict[str, Any] = {"required_if": [("mode", "trustee", ["kbs_url"]), ("mode", "pods", ["namespace", "initdata"])]}


def run(params: dict[str, Any], context: Context) -> dict[str, Any]:
    """Verify Trustee, or prove attestation with pods. A failing verdict is an error with all checks in it."""
    pair = releases.parse(params["release"])
    if context.check_mode:
        return {"changed": False, "mode": params["mode"], "verdict": "not verified", "checks": []}
    cluster = Cluster.from_params(params)
    try:
        if params["mode"] == "trustee":
            result = TrusteeProbe(None if params["without_hub"] else cluster, params, context, pair.trustee).run()
        else:
            result = PodProbe(cluster, _hub(params, cluster), params, context, pair).run()
    except (ApiFailure, UnknownKind, Unreachable) as error:
        raise explain("The verification could not be carried out", error, cluster.server) from error
    return {"changed": False, "mode": params["mode"], **result}


def _hub(params: dict[str, Any], spoke: Cluster) -> Cluster | None:
    """The cluster that runs Trustee: another one, the spoke itself, or none that could be asked."""
    if params["without_hub"]:
        return None
    return Cluster.from_params(params, "hub_") if any(params.get(f"hub_{name}") for name in ("kubeconfig", "host")) else spoke
