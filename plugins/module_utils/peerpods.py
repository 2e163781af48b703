# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""peer-pods-cm: the cloud settings of peer pods, discovered, merged and checked. Pure.

Source: the keys of cloud-api-adaptor and the operator's checks. The config map is shared: what the operator or a user wrote
and nobody here asks for stays.
"""

from __future__ import annotations

import re
from typing import Any

Finding = dict[str, str]

REQUIRED = ("CLOUD_PROVIDER", "AZURE_REGION", "AZURE_RESOURCE_GROUP", "AZURE_SUBNET_ID")
#: Written by the operator or its image job, never by us unless given by name.
OPERATOR_KEYS = ("AZURE_IMAGE_ID", "DISABLECVM", "PEERPODS_LIMIT_PER_NODE")
SIZES = {
    "snp": re.compile(r"^Standard_(DC|EC)\d+c?ad?s_(cc_)?v5$"),
    "tdx": re.compile(r"^Standard_(DC|EC)\d+ed?s_v5$"),
}
ARM_ID = {
    "AZURE_SUBNET_ID": r"/providers/Microsoft\.Network/virtualNetworks/[^/]+/subnets/[^/]+",
    "AZURE_NSG_ID": r"/providers/Microsoft\.Network/networkSecurityGroups/[^/]+",
    "AZURE_IMAGE_ID": r"/providers/Microsoft\.Compute/(galleries/[^/]+/images/[^/]+/versions/[^/]+|images/[^/]+)",
}
DEFAULT_SIZE = {"snp": "Standard_DC2as_v5", "tdx": "Standard_DC2es_v5"}


def desired(options: dict[str, Any], cloud_conf: dict[str, Any] | None, infrastructure: dict[str, Any] | None,
            tee: str = "snp") -> dict[str, str]:
    """The keys an Azure cluster wants: from the cluster's own cloud configuration, over defaults, under what is given."""
    conf = cloud_conf or {}
    status = ((infrastructure or {}).get("status") or {}).get("platformStatus") or {}
    group = conf.get("resourceGroup") or (status.get("azure") or {}).get("resourceGroupName") or ""
    subscription = conf.get("subscriptionId", "")
    base = f"/subscriptions/{subscription}/resourceGroups"
    data = {
        "CLOUD_PROVIDER": "azure", "VXLAN_PORT": "9000", "AZURE_REGION": str(conf.get("location", "")),
        "AZURE_RESOURCE_GROUP": str(group), "PROXY_TIMEOUT": str(options.get("proxy_timeout") or "5m"),
        "AZURE_INSTANCE_SIZE": DEFAULT_SIZE[tee], "AZURE_INSTANCE_SIZES": DEFAULT_SIZE[tee],
    }
    if conf.get("vnetName") and conf.get("subnetName"):
        network = conf.get("vnetResourceGroup") or group
        data["AZURE_SUBNET_ID"] = (f"{base}/{network}/providers/Microsoft.Network/virtualNetworks/{conf['vnetName']}"
                                   f"/subnets/{conf['subnetName']}")
    if conf.get("securityGroupName"):
        data["AZURE_NSG_ID"] = f"{base}/{group}/providers/Microsoft.Network/networkSecurityGroups/{conf['securityGroupName']}"
    given = {key: str(value) for key, value in options.items() if key.isupper()}
    data.update(given)
    if "AZURE_INSTANCE_SIZE" in given and "AZURE_INSTANCE_SIZES" not in given:
        data["AZURE_INSTANCE_SIZES"] = given["AZURE_INSTANCE_SIZE"]
    for key in ("AZURE_INSTANCE_SIZES", "TAGS"):
        if data.get(key):
            data[key] = ",".join(part.strip() for part in data[key].split(","))
    return data


def merge(current: dict[str, str] | None, wanted: dict[str, str]) -> tuple[dict[str, str], list[dict[str, str]]]:
    """(the data afterwards, the changes): keys of others stay; the image id is made empty only where there is none yet."""
    data = dict(current or {})
    changes = []
    for key, value in {**({"AZURE_IMAGE_ID": ""} if "AZURE_IMAGE_ID" not in data else {}), **wanted}.items():
        if key in OPERATOR_KEYS and value == "" and data.get(key):
            continue
        if data.get(key) != value:
            changes.append({"key": key, "before": data.get(key, ""), "after": value})
            data[key] = value
    return data, changes


def env_relevant(changes: list[dict[str, str]]) -> bool:
    """Does a change matter to a running adaptor, whose environment is frozen? (The image job's own key does not.)"""
    return any(change["key"] != "AZURE_IMAGE_ID" or change["after"] for change in changes)


def validate(data: dict[str, str], tee: str = "snp") -> list[Finding]:
    """What would not work: missing keys, ids that are no ARM ids, sizes that are not confidential for the TEE, blanks."""
    found: list[Finding] = []

    def add(severity: str, code: str, message: str, hint: str) -> None:
        found.append({"severity": severity, "code": code, "message": message, "hint": hint})

    if data.get("CLOUD_PROVIDER") != "azure":
        add("error", "provider", f"CLOUD_PROVIDER is {data.get('CLOUD_PROVIDER')!r}", "Only azure is set up so far.")
    for key in REQUIRED:
        if not data.get(key):
            add("error", "missing", f"{key} is empty", f"Give {key} in coco_peerpods; the cluster's cloud-conf has none.")
    for key, form in ARM_ID.items():
        value = data.get(key, "")
        if value and not re.fullmatch(r"/subscriptions/[0-9a-fA-F-]{36}/resourceGroups/[^/]+" + form, value):
            add("error", "arm-id", f"{key} is {value!r}, which is no ARM id of that kind",
                "Write the whole id: /subscriptions/<subscription>/resourceGroups/<group>/providers/…; exactly one.")
    for key in ("AZURE_INSTANCE_SIZES", "TAGS"):
        if " " in data.get(key, ""):
            add("error", "blanks", f"{key} contains blanks", "Separate by commas only.")
    sizes = [size for size in data.get("AZURE_INSTANCE_SIZES", "").split(",") if size]
    default = data.get("AZURE_INSTANCE_SIZE", "")
    if data.get("DISABLECVM") != "true":
        for size in dict.fromkeys([*([default] if default else []), *sizes]):
            if not SIZES[tee].match(size):
                add("error", "size", f"{size} is no confidential size for {tee.upper()}",
                    f"Use sizes such as {DEFAULT_SIZE[tee]}; each virtual machine of another size would be refused.")
    if default and sizes and default not in sizes:
        add("error", "default-size", f"AZURE_INSTANCE_SIZE {default} is not among AZURE_INSTANCE_SIZES", "Add it to the list.")
    for tag in filter(None, data.get("TAGS", "").split(",")):
        if not re.fullmatch(r"[^=\s]+=[^=\s]*", tag):
            add("error", "tags", f"TAGS has {tag!r}", "Write key=value, separated by commas.")
    return found
