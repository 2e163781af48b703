# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The work of the module azure_capacity."""

from __future__ import annotations

from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils import azure_capacity
from ansible_collections.confidential.containers.plugins.module_utils.arguments import azure_options
from ansible_collections.confidential.containers.plugins.module_utils.azure import Azure
from ansible_collections.confidential.containers.plugins.module_utils.context import Context
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

ARGUMENT_SPEC: dict[str, Any] = {
    "region": {"type": "str", "required": True},
    "size": {"type": "str", "required": True},
    "zones": {"type": "list", "elements": "str", "default": []},
    "tee": {"type": "str", "choices": ["snp", "tdx", "none"], "default": "snp"},
    "pods": {"type": "int", "default": 1},
    **azure_options(),
}
SPEC_KWARGS: dict[str, Any] = {}


def run(params: dict[str, Any], context: Context) -> dict[str, Any]:
    """Judge size and quota; fail with every error at once."""
    azure = Azure.from_params(params, context.progress)
    if azure.login.verify is False:
        context.warn("Azure's certificates are not verified (cert_validation_mode: ignore): anybody on the way could read the tokens")
    region = params["region"]
    with azure.explained(f"The sizes and quotas of {region} cannot be read"):
        sizes = [_size(sku) for sku in azure.compute.resource_skus.list(filter=f"location eq '{region}'")
                 if sku.resource_type == "virtualMachines"]
        quotas = {usage.name.value: {"limit": int(usage.limit), "used": int(usage.current_value)}
                  for usage in azure.compute.usage.list(region)}
    asked = (params["size"], region, params["tee"], params["zones"], params["pods"])
    if not sizes:
        raise CocoError(f"The region {region} cannot run pod VMs", "Azure names no size of virtual machines there",
                        "Correct the region (its name, such as eastus, not its display name), or subscription_id.")
    found = azure_capacity.judge(sizes, quotas, *asked)
    errors = [finding for finding in found if finding["severity"] == "error"]
    for finding in found:
        if finding["severity"] == "warning":
            context.warn(f"{finding['message']} · {finding['hint']}")
    wanted = next((size for size in sizes if size["name"].lower() == params["size"].lower()), None)
    others = azure_capacity.alternatives(sizes, wanted, quotas, params["tee"], params["zones"], params["pods"])
    if errors and not others:
        with azure.explained("The sizes of other regions cannot be read"):
            every = [_size(sku) for sku in azure.compute.resource_skus.list() if sku.resource_type == "virtualMachines"]
        elsewhere = azure_capacity.regions(every, params["size"])
        errors.append({**errors[-1], "message": f"{params['size']} can be had in {', '.join(elsewhere) or 'no region'}"})
    if errors:
        raise CocoError(f"{region} cannot run {params['pods']} pods of {params['size']}", "; ".join(e["message"] for e in errors),
                        " ".join(dict.fromkeys(e["hint"] for e in errors)), findings=found, alternatives=others)
    return {"changed": False, "findings": found, "alternatives": others, "size": wanted, "calls": azure.calls,
            "credential": azure.login.used}


def _size(sku: Any) -> azure_capacity.Size:
    capabilities = {item.name: item.value for item in sku.capabilities or []}
    restrictions = sku.restrictions or []
    closed = [item for item in restrictions if str(getattr(item.type, "value", item.type)) == "Location"]
    zones = [zone for item in restrictions if item not in closed and item.restriction_info for zone in item.restriction_info.zones or []]
    reason = getattr(closed[0].reason_code, "value", closed[0].reason_code) if closed else ""
    return {"name": sku.name, "family": sku.family or "", "location": (sku.locations or [""])[0],
            "vcpus": int(capabilities.get("vCPUs", 0)),
            "confidential": capabilities.get("ConfidentialComputingType", ""),
            "zones": sorted({zone for info in sku.location_info or [] for zone in info.zones or []}),
            "restricted": str(reason or "restricted") if closed else "", "restricted_zones": sorted(set(zones))}
