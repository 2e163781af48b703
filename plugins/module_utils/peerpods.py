# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""peer-pods-cm: the cloud settings of peer pods, discovered, merged and checked. Pure.

Source: the keys of cloud-api-adaptor and the operator's checks, by provider. The config map is shared: what the operator or a
user wrote and nobody here asks for stays.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

Finding = dict[str, str]


@dataclass(frozen=True)
class Provider:
    """A cloud's own keys. Confidential pod VMs are Azure's; on AWS and Google Cloud peer pods are ordinary VMs here."""

    name: str  # CLOUD_PROVIDER
    platform: str  # platformStatus.type of the cluster's Infrastructure
    required: tuple[str, ...]
    image_key: str  # filled by the operator's image job
    size_key: str
    sizes_key: str
    credentials: tuple[str, ...]  # keys of peer-pods-secret
    forms: dict[str, tuple[str, str]]  # key -> (pattern, what it must be)

    @property
    def image_config_map(self) -> str:
        """The config map of the image job."""
        return f"{self.name}-podvm-image-cm"


_ARM = r"/subscriptions/[0-9a-fA-F-]{36}/resourceGroups/[^/]+/providers/Microsoft\."
_ARM_ID = "a whole ARM id, /subscriptions/<subscription>/resourceGroups/<group>/providers/…, and exactly one"
PROVIDERS = {provider.name: provider for provider in (
    Provider(
        "azure", "Azure", ("AZURE_REGION", "AZURE_RESOURCE_GROUP", "AZURE_SUBNET_ID"), "AZURE_IMAGE_ID",
        "AZURE_INSTANCE_SIZE", "AZURE_INSTANCE_SIZES",
        ("AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_TENANT_ID", "AZURE_SUBSCRIPTION_ID"),
        {"AZURE_SUBNET_ID": (_ARM + r"Network/virtualNetworks/[^/]+/subnets/[^/]+", _ARM_ID),
         "AZURE_NSG_ID": (_ARM + r"Network/networkSecurityGroups/[^/]+", _ARM_ID),
         "AZURE_IMAGE_ID": (_ARM + r"Compute/(galleries/[^/]+/images/[^/]+/versions/[^/]+|images/[^/]+)", _ARM_ID)},
    ),
    Provider(
        "aws", "AWS", ("AWS_REGION", "AWS_SUBNET_ID", "AWS_VPC_ID", "AWS_SG_IDS"), "PODVM_AMI_ID",
        "PODVM_INSTANCE_TYPE", "PODVM_INSTANCE_TYPES", ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
        {"AWS_SUBNET_ID": (r"subnet-[0-9a-f]+", "a subnet id, subnet-…"), "AWS_VPC_ID": (r"vpc-[0-9a-f]+", "a VPC id, vpc-…"),
         "AWS_SG_IDS": (r"sg-[0-9a-f]+(,sg-[0-9a-f]+)*", "security group ids, sg-…, separated by commas"),
         "PODVM_AMI_ID": (r"ami-[0-9a-f]+", "an image id, ami-…")},
    ),
    Provider(
        "gcp", "GCP", ("GCP_PROJECT_ID", "GCP_ZONE", "GCP_NETWORK"), "PODVM_IMAGE_NAME",
        "GCP_MACHINE_TYPE", "GCP_INSTANCE_TYPES", ("GCP_CREDENTIALS",),
        {"GCP_ZONE": (r"[a-z]+-[a-z]+[0-9]+-[a-z]", "a zone, such as europe-west4-a"),
         "GCP_CONFIDENTIAL_TYPE": (r"TDX|SEV|SEV_SNP", "TDX, SEV or SEV_SNP")},
    ),
)}
#: The collection's field manager.
MANAGER = "confidential.containers"
#: Stands at peer-pods-cm from a write until the adaptor's pods are deleted, so that a run that is killed in between is resumed.
ADAPTOR_PENDING = "confidential.containers/adaptor-restart-pending"
#: Written by the operator or its image job, never by us unless given by name.
OPERATOR_KEYS = (*(provider.image_key for provider in PROVIDERS.values()), "DISABLECVM", "PEERPODS_LIMIT_PER_NODE")
#: What the Cloud Credential Operator passes through on Azure, and the annotation that must say V(passthrough).
ROOT_NAMESPACE, ROOT_SECRET, ROOT_MODE = "kube-system", "azure-credentials", "cloudcredential.openshift.io/mode"
#: With these in its Subscription (a federated identity) the operator itself writes peer-pods-secret, in newer releases.
FEDERATED = ("CLIENTID", "TENANTID", "SUBSCRIPTIONID")
SIZES = {
    "snp": re.compile(r"^Standard_(DC|EC)\d+c?ad?s_(cc_)?v5$"),
    "tdx": re.compile(r"^Standard_(DC|EC)\d+ed?s_v5$"),
}
DEFAULT_SIZE = {"snp": "Standard_DC2as_v5", "tdx": "Standard_DC2es_v5"}


def provider_of(data: dict[str, Any] | None, infrastructure: dict[str, Any] | None = None) -> Provider:
    """The provider that peer-pods-cm names, else the cluster's platform; Azure where neither says.

    Raises :class:`CocoError` for one that is not known here.
    """
    named = str((data or {}).get("CLOUD_PROVIDER") or "")
    status = ((infrastructure or {}).get("status") or {}).get("platformStatus") or {}
    by_platform = {provider.platform: provider for provider in PROVIDERS.values()}
    if named and named not in PROVIDERS:
        raise CocoError(f"Peer pods of the provider {named} cannot be set up", f"CLOUD_PROVIDER is {named!r}",
                        f"Set CLOUD_PROVIDER in coco_peerpods to one of {', '.join(PROVIDERS)}, or leave it out.")
    return PROVIDERS[named] if named else by_platform.get(str(status.get("type", "")), PROVIDERS["azure"])


def desired(options: dict[str, Any], cloud_conf: dict[str, Any] | None, infrastructure: dict[str, Any] | None,
            tee: str = "snp") -> dict[str, str]:
    """The keys that a cluster wants: from what it knows of its cloud, over defaults, under what is given."""
    given = {key: str(value) for key, value in options.items() if key.isupper()}
    provider = provider_of(given, infrastructure)
    status = ((infrastructure or {}).get("status") or {}).get("platformStatus") or {}
    known = {"azure": _azure, "aws": _aws, "gcp": _gcp}[provider.name](cloud_conf or {}, status, tee)
    data = {"CLOUD_PROVIDER": provider.name, "VXLAN_PORT": "9000", "PROXY_TIMEOUT": str(options.get("proxy_timeout") or "5m"),
            **known, **given}
    if provider.size_key in given and provider.sizes_key not in given:
        data[provider.sizes_key] = given[provider.size_key]
    for key in (provider.sizes_key, "TAGS", "AWS_SG_IDS"):
        if data.get(key):
            data[key] = ",".join(part.strip() for part in data[key].split(","))
    return data


def worker_subnet(conf: dict[str, Any], group: str) -> str:
    """The ARM id of the worker nodes' subnet by ``cloud.conf``; ``group`` where that names none. Empty without a network in it."""
    if not conf.get("vnetName") or not conf.get("subnetName"):
        return ""
    network = conf.get("vnetResourceGroup") or conf.get("resourceGroup") or group
    return (f"/subscriptions/{conf.get('subscriptionId', '')}/resourceGroups/{network}/providers/Microsoft.Network/virtualNetworks/"
            f"{conf['vnetName']}/subnets/{conf['subnetName']}")


def _azure(conf: dict[str, Any], status: dict[str, Any], tee: str) -> dict[str, str]:
    group = str(conf.get("resourceGroup") or (status.get("azure") or {}).get("resourceGroupName") or "")
    base = f"/subscriptions/{conf.get('subscriptionId', '')}/resourceGroups"
    data = {"AZURE_REGION": str(conf.get("location", "")), "AZURE_RESOURCE_GROUP": group,
            "AZURE_INSTANCE_SIZE": DEFAULT_SIZE[tee], "AZURE_INSTANCE_SIZES": DEFAULT_SIZE[tee]}
    if subnet := worker_subnet(conf, group):
        data["AZURE_SUBNET_ID"] = subnet
    if conf.get("securityGroupName"):
        data["AZURE_NSG_ID"] = f"{base}/{group}/providers/Microsoft.Network/networkSecurityGroups/{conf['securityGroupName']}"
    return data


def _aws(conf: dict[str, Any], status: dict[str, Any], tee: str) -> dict[str, str]:
    return {"AWS_REGION": str((status.get("aws") or {}).get("region", "")), "PODVM_INSTANCE_TYPE": "t3.medium"}


def _gcp(conf: dict[str, Any], status: dict[str, Any], tee: str) -> dict[str, str]:
    return {"GCP_PROJECT_ID": str((status.get("gcp") or {}).get("projectID", "")), "GCP_MACHINE_TYPE": "e2-medium"}


def merge(current: dict[str, str] | None, wanted: dict[str, str]) -> tuple[dict[str, str], list[dict[str, str]]]:
    """(the data afterwards, the changes): keys of others stay; the image id is made empty only where there is none yet."""
    data = dict(current or {})
    image_key = provider_of(wanted).image_key
    changes = []
    for key, value in {**({image_key: ""} if image_key not in data else {}), **wanted}.items():
        if key in OPERATOR_KEYS and value == "" and data.get(key):
            continue
        if data.get(key) != value:
            changes.append({"key": key, "before": data.get(key, ""), "after": value})
            data[key] = value
    return data, changes


def env_relevant(changes: list[dict[str, str]]) -> bool:
    """Does a change matter to a running adaptor, whose environment is frozen? (The image job's own key does not.)"""
    images = {provider.image_key for provider in PROVIDERS.values()}
    return any(change["key"] not in images or change["after"] for change in changes)


def validate(data: dict[str, str], tee: str = "snp") -> list[Finding]:
    """What would not work: missing keys, values of another form, sizes that are not confidential for the TEE, blanks."""
    found: list[Finding] = []

    def add(severity: str, code: str, message: str, hint: str) -> None:
        found.append({"severity": severity, "code": code, "message": message, "hint": hint})

    provider = provider_of(data)
    for key in provider.required:
        if not data.get(key):
            add("error", "missing", f"{key} is empty", f"Give {key} in coco_peerpods; the cluster does not know it.")
    for key, (form, wanted) in provider.forms.items():
        value = data.get(key, "")
        if value and not re.fullmatch(form, value):
            add("error", "form", f"{key} is {value!r}", f"Write {wanted}.")
    for key in (provider.sizes_key, "TAGS"):
        if " " in data.get(key, ""):
            add("error", "blanks", f"{key} contains blanks", "Separate by commas only.")
    sizes = [size for size in data.get(provider.sizes_key, "").split(",") if size]
    default = data.get(provider.size_key, "")
    if provider.name == "azure" and data.get("DISABLECVM") != "true":
        for size in dict.fromkeys([*([default] if default else []), *sizes]):
            if not SIZES[tee].match(size):
                add("error", "size", f"{size} is no confidential size for {tee.upper()}",
                    f"Use sizes such as {DEFAULT_SIZE[tee]}; each virtual machine of another size would be refused.")
    if provider.name == "aws":
        for size in dict.fromkeys([*([default] if default else []), *sizes]):
            if size.startswith("t2."):
                add("error", "size", f"{size} has no TPM 2.0", "Use t3 or newer instance types.")
        if data.get("DISABLECVM") != "true":
            add("warning", "not-confidential", "pod VMs on AWS are not confidential here", "Set DISABLECVM: \"true\" in coco_peerpods.")
    if default and sizes and default not in sizes:
        add("error", "default-size", f"{provider.size_key} {default} is not among {provider.sizes_key}", "Add it to the list.")
    for tag in filter(None, data.get("TAGS", "").split(",")):
        if not re.fullmatch(r"[^=\s]+=[^=\s]*", tag):
            add("error", "tags", f"TAGS has {tag!r}", "Write key=value, separated by commas.")
    return found


def check_credentials(names: list[str], provider: Provider) -> list[Finding]:
    """What is wrong with the keys that are given for peer-pods-secret (their names; none: left to the cluster)."""
    missing = [key for key in provider.credentials if key not in names]
    if not names or not missing:
        return []
    return [{"severity": "error", "code": "credentials", "message": f"coco_cloud_credentials lacks {', '.join(missing)}",
             "hint": f"Give {', '.join(provider.credentials)}, or nothing, to leave the Secret to the Cloud Credential Operator."}]


def check_source(operator: dict[str, Any], provider: Provider) -> list[Finding]:
    """By which way peer-pods-secret will come where no credentials are given and none is there, or why by none.

    operator: ``credentials_operator`` of cluster_info. Source: the Cloud Credential Operator's modes on Azure, where there is no
    mint mode; of other clouds nothing is concluded.
    """
    if provider.name != "azure":
        return []
    unseen, root = operator.get("unseen") or [], f"Secret {ROOT_NAMESPACE}/{ROOT_SECRET}"
    todo = f"Give {', '.join(provider.credentials)} in coco_cloud_credentials, or create the Secret peer-pods-secret yourself."
    missing = "no coco_cloud_credentials are given and there is no peer-pods-secret"
    if operator.get("federated"):
        return [{"severity": "info", "code": "credentials-federated", "hint": "", "message":
                 f"peer-pods-secret is left to the operator: its Subscription has {', '.join(FEDERATED)}"}]
    if operator.get("mode") == "Manual":
        return [{"severity": "error", "code": "credentials-manual", "hint": todo, "message":
                 f"{missing}, and the Cloud Credential Operator makes none in mode Manual"}]
    if unseen:
        return [{"severity": "warning", "code": "credentials-unseen", "message":
                 f"{missing}; whether the Cloud Credential Operator will make one cannot be seen: {', '.join(unseen)} may not be read",
                 "hint": f"Step 8 says what the operator says. To be sure: {todo[0].lower()}{todo[1:]}"}]
    if not operator.get("present"):
        return [{"severity": "error", "code": "credentials-operator", "hint": todo, "message":
                 f"{missing}, and this cluster has no Cloud Credential Operator (CloudCredential cluster)"}]
    if not operator.get("root_secret"):
        return [{"severity": "error", "code": "credentials-root", "hint": todo, "message":
                 f"{missing}, and the Cloud Credential Operator has nothing to pass through: there is no {root}"}]
    if operator.get("root_mode") != "passthrough":
        state = f"is {operator['root_mode']!r}" if operator.get("root_mode") else "is missing"
        return [{"severity": "error", "code": "credentials-root", "hint": todo, "message":
                 f"{missing}, and the Cloud Credential Operator passes nothing through: {root}: annotation {ROOT_MODE} {state}"}]
    return [{"severity": "info", "code": "credentials-passthrough", "hint": "", "message":
             f"peer-pods-secret will come from the Cloud Credential Operator, which passes the cluster's own principal through ({root})"}]
