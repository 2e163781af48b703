# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The work of the module azure_peerpods_info: the cluster's own words first, Azure Resource Manager for the rest."""

from __future__ import annotations

from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils import (
    azure_ids,
    azure_image,
    azure_rights,
    azure_subnet,
)
from ansible_collections.confidential.containers.plugins.module_utils.arguments import azure_options
from ansible_collections.confidential.containers.plugins.module_utils.azure import Azure
from ansible_collections.confidential.containers.plugins.module_utils.context import Context
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

#: Of Microsoft.Authorization/permissions and denyAssignments, for which the clients of network and compute have no call.
AUTHORIZATION_API = "2022-04-01"
NETWORK = "Microsoft.Network"
#: Of galleries, and of managed images. An image may be in another subscription than the one of the clients.
GALLERY_API, IMAGE_API = "2023-07-03", "2024-03-01"

ARGUMENT_SPEC: dict[str, Any] = {
    "cluster": {"type": "dict", "required": True},
    "subnet_id": {"type": "str"},
    "vnet_name": {"type": "str"},
    "subnet_name": {"type": "str"},
    "pods": {"type": "int", "default": 1},
    "image_id": {"type": "str"},
    "confidential": {"type": "bool", "default": True},
    "rights": {"type": "list", "elements": "str", "choices": list(azure_rights.NEEDED), "default": list(azure_rights.NEEDED)},
    **azure_options(),
}
SPEC_KWARGS: dict[str, Any] = {"mutually_exclusive": [("subnet_id", "vnet_name"), ("subnet_id", "subnet_name")]}


def run(params: dict[str, Any], context: Context) -> dict[str, Any]:
    """Find and judge what pod VMs will be connected to; fail with every error at once."""
    cluster, conf = params["cluster"], params["cluster"].get("cloud_conf") or {}
    if cluster.get("platform") != "Azure" or not conf:
        raise CocoError("This is no cluster on Azure", f"its platform is {cluster.get('platform') or 'unknown'}, its cloud-conf "
                        f"{'there' if conf else 'missing'}", "Give the cluster that cluster_info found (gather: platform, cloud_conf).")
    azure = Azure.from_params(params, context.progress, conf.get("subscriptionId", ""))
    if azure.login.verify is False:
        context.warn("Azure's certificates are not verified (cert_validation_mode: ignore): anybody on the way could read the tokens")
    _same(conf.get("subscriptionId", ""), azure.subscription, "subscription", "subscription_id (AZURE_SUBSCRIPTION_ID)")
    _same(conf.get("tenantId", ""), azure.login.tenant, "tenant", "tenant (AZURE_TENANT)")
    group = conf.get("resourceGroup") or cluster.get("resource_group", "")
    vnet_group = conf.get("vnetResourceGroup") or group
    names = (params["vnet_name"] or conf.get("vnetName", ""), params["subnet_name"] or conf.get("subnetName", ""))
    if params["subnet_id"]:
        given = azure_ids.parse(params["subnet_id"])
        if [kind.lower() for kind in given.types] != ["virtualnetworks", "subnets"]:
            raise CocoError("This is no id of a subnet", f"got {params['subnet_id']}", "Give .../virtualNetworks/<name>/subnets/<name>.")
        _same(conf.get("subscriptionId", ""), given.subscription, "subscription", "the subscription of subnet_id")
        vnet_group, names = given.group, (given.names[0], given.names[1])
    vnet = _vnet(azure, vnet_group, names[0])
    subnet = _subnet(vnet, names[1])
    found = azure_subnet.judge(subnet, params["pods"])
    region, properties = conf.get("location", ""), subnet.get("properties") or {}
    if region and vnet.get("location", "").replace(" ", "").lower() != region.replace(" ", "").lower():
        found.append(azure_subnet.finding("error", "region", f"the virtual network {vnet['name']} is in {vnet.get('location')}, the "
                                          f"cluster in {region}", "Choose the cluster's virtual network (vnet_name)."))
    security = azure_ids.build(azure.subscription, group, NETWORK, "networkSecurityGroups", conf["securityGroupName"]) \
        if conf.get("securityGroupName") else (properties.get("networkSecurityGroup") or {}).get("id", "")
    for item in _unique(security, (properties.get("networkSecurityGroup") or {}).get("id", "")):
        found += azure_subnet.judge_flows(_security_group(azure, item), subnet)
    gateway = _gateway(azure, (properties.get("natGateway") or {}).get("id", ""))
    found += _rights(azure, group, vnet_group, [name for name in params["rights"] if name != "gateway" or not gateway])
    found += _image(azure, params["image_id"] or "", region or vnet.get("location", ""), params["confidential"])
    for told in found:
        if told["severity"] == "warning":
            context.warn(f"{told['message']} · {told['hint']}")
    errors = [item for item in found if item["severity"] == "error"]
    if errors:
        raise CocoError("Azure is not ready for pod VMs", "; ".join(e["message"] for e in errors),
                        " ".join(dict.fromkeys(e["hint"] for e in errors)), findings=found)
    return {"changed": False, "findings": found, "calls": azure.calls, "credential": azure.login.used, "azure": {
        "subscription": azure.subscription, "tenant": conf.get("tenantId", ""), "region": region or vnet.get("location", ""),
        "aro": bool(cluster.get("aro")), "resource_group": group, "vnet_resource_group": vnet_group, "vnet": vnet["id"],
        "subnet": subnet["id"], "security_group": security, "nat_gateway": gateway, "free_addresses": azure_subnet.free_addresses(subnet),
        "address_prefixes": azure_subnet.prefixes(subnet)},
        "peerpods": {key: value for key, value in (
            ("CLOUD_PROVIDER", "azure"), ("AZURE_REGION", region or vnet.get("location", "")), ("AZURE_RESOURCE_GROUP", group),
            ("AZURE_SUBNET_ID", subnet["id"]), ("AZURE_NSG_ID", security)) if value}}


def _same(clusters: str, given: str, what: str, option: str) -> None:
    if clusters and given and clusters.lower() != given.lower() and "." not in given:  # a tenant may be given as a domain
        raise CocoError(f"This is another {what} than the cluster's", f"the cluster is in {clusters}, given is {given}",
                        f"Set {option} to {clusters}.")


def _raw(response: Any, *_rest: Any) -> Any:
    """The document as ARM sent it: the clients' own classes differ from release to release."""
    return response.http_response.json()


def _choose(items: list[dict[str, Any]], name: str, what: str, option: str) -> dict[str, Any]:
    names = sorted(item["name"] for item in items)
    chosen = [item for item in items if item["name"].lower() == name.lower()] if name else items
    if len(chosen) == 1:
        return chosen[0]
    seen = f"there is no {name} among {', '.join(names) or 'none'}" if name else f"there are {len(names)}: {', '.join(names) or 'none'}"
    raise CocoError(f"The {what} of the pod VMs is not found", seen, f"Set {option} to one of them." if names else
                    "Check that subscription_id is the cluster's.", candidates=names)


def _vnet(azure: Azure, group: str, name: str) -> dict[str, Any]:
    with azure.explained(f"The virtual network {name} in {group} cannot be read"):
        if not name:
            names = [item.name for item in azure.network.virtual_networks.list(group)]
            name = _choose([{"name": item} for item in names], "", f"virtual network (in {group})", "vnet_name")["name"]
        return dict(azure.network.virtual_networks.get(group, name, cls=_raw))


def _subnet(vnet: dict[str, Any], name: str) -> dict[str, Any]:
    return _choose((vnet.get("properties") or {}).get("subnets") or [], name, f"subnet (in {vnet['name']})", "subnet_name")


def _unique(*ids: str) -> list[str]:
    return list({item.lower(): item for item in ids if item}.values())


def _security_group(azure: Azure, item: str) -> dict[str, Any]:
    parsed = azure_ids.parse(item)
    with azure.explained(f"The network security group {parsed.name} in {parsed.group} cannot be read"):
        return dict(azure.network.network_security_groups.get(parsed.group, parsed.name, cls=_raw))


def _gateway(azure: Azure, item: str) -> dict[str, Any]:
    if not item:
        return {}
    parsed = azure_ids.parse(item)
    with azure.explained(f"The NAT gateway {parsed.name} in {parsed.group} cannot be read"):
        document = azure.network.nat_gateways.get(parsed.group, parsed.name, cls=_raw)
    addresses = (document.get("properties") or {}).get("publicIpAddresses") or []
    return {"id": item, "public_ips": [address["id"] for address in addresses], "tags": document.get("tags") or {}}


def _image(azure: Azure, image_id: str, region: str, confidential: bool) -> list[azure_subnet.Finding]:
    """A given image: two requests, of which the second asks what virtual machines it is for."""
    if not image_id:
        return []
    definition = azure_image.definition_of(image_id)
    version = GALLERY_API if definition else IMAGE_API
    documents = []
    for path in (image_id, definition) if definition and confidential else (image_id,):
        try:
            documents.append(azure.get(path, version))
        except CocoError as error:
            finding = azure_image.unreadable(image_id, str(error.details.get("code", "")), error.seen)
            if finding is None:
                raise
            return [finding]
    return azure_image.judge(image_id, documents[0], documents[1] if len(documents) > 1 else None, region, confidential)


def _rights(azure: Azure, group: str, vnet_group: str, parts: list[str]) -> list[azure_subnet.Finding]:
    needed: dict[str, tuple[str, ...]] = {}
    for part in parts:
        name = group if part == "machines" or group.lower() == vnet_group.lower() else vnet_group
        needed[name] = needed.get(name, ()) + azure_rights.NEEDED[part]
    found = []
    for name, actions in needed.items():
        scope = f"/subscriptions/{azure.subscription}/resourceGroups/{name}"
        permissions = azure.list(f"{scope}/providers/Microsoft.Authorization/permissions", AUTHORIZATION_API)
        lacking = azure_rights.missing(actions, permissions)
        if lacking:
            found.append(azure_subnet.finding(
                "error", "rights", f"the credentials ({azure.login.used}) lack at {scope}: {', '.join(lacking)}",
                "Assign a role with these actions at that scope (Contributor, or Virtual Machine Contributor and Network Contributor); "
                "a new assignment takes some minutes."))
        if "machines" in parts and name == group:
            found += _denied(azure, scope, actions)
    return found


def _denied(azure: Azure, scope: str, actions: tuple[str, ...]) -> list[azure_subnet.Finding]:
    """What deny assignments forbid in the machines' group: ARO locks its managed one."""
    try:
        assignments = azure.list(f"{scope}/providers/Microsoft.Authorization/denyAssignments", AUTHORIZATION_API)
    except CocoError as error:
        return [azure_subnet.finding("warning", "deny-unread", f"whether a deny assignment locks {scope} is not known: {error.seen}",
                                     "Give the principal the role Reader there, or find out by making a pod VM.")]
    found = []
    for item in azure_rights.denied(actions, assignments, scope, azure_rights.identities(azure.token()) if assignments else set()):
        severity, verb = ("error", "forbids") if item["certain"] else ("warning", "may forbid")
        found.append(azure_subnet.finding(
            severity, "deny-assignment", f"the deny assignment {item['name']} at {item['scope']} {verb} the credentials "
            f"({azure.login.used}) to do {', '.join(item['actions'])}", "No role helps against it. Make pod VMs with a principal that it "
            "excepts. On ARO that is the cluster's own: leave coco_cloud_credentials empty, so that the Cloud Credential Operator passes "
            "it to the operators, or give that principal."))
    return found
