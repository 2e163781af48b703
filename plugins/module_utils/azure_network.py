# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way out of pod VMs on Azure: what a subnet has, what is missing, and how a subnet is rewritten without losing anything. Pure.

Pod VMs have no public IP and stand behind no load balancer, so their subnet needs an egress of its own (deployment.md 3.8).
Resources are dicts as Azure Resource Manager gives them, never partial models: what is not known here is kept.
"""

from __future__ import annotations

import copy
from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils.azure_ids import parse, same
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

Resource = dict[str, Any]

#: Says that a resource is ours. Only what carries both tags is ever changed or removed.
MANAGED_BY, OURS = "managed-by", "confidential.containers"
CLUSTER = "openshift-cluster"
#: Next hops of a default route that lead out by themselves: a firewall, or forced tunnelling.
WAYS_OUT = ("virtualappliance", "virtualnetworkgateway")
BILLS = {"gateway": "1 NAT gateway (per hour and per GB)", "address": "1 Standard public IP (per hour)"}


def tags(infrastructure: str) -> dict[str, str]:
    """The tags of whatever is created for the cluster of this infrastructure name."""
    return {MANAGED_BY: OURS, CLUSTER: infrastructure}


def is_ours(resource: Resource | None, infrastructure: str) -> bool:
    """Whether a resource carries our tags for this cluster. Azure compares tag names case-insensitively, values exactly."""
    found = {str(key).lower(): value for key, value in ((resource or {}).get("tags") or {}).items()}
    return all(found.get(key) == value for key, value in tags(infrastructure).items())


def names(infrastructure: str) -> tuple[str, str]:
    """The names of NAT gateway and public IP where the user names none."""
    return f"{infrastructure}-coco-nat", f"{infrastructure}-coco-nat-ip"


def subnet_of(network: Resource, name: str) -> Resource:
    """The subnet of a virtual network (its GET embeds them) by name; CocoError that names those there are."""
    subnets = (network.get("properties") or {}).get("subnets") or []
    for subnet in subnets:
        if str(subnet.get("name", "")).lower() == name.lower():
            found: Resource = subnet
            return found
    there = ", ".join(sorted(str(s.get("name")) for s in subnets)) or "none"
    raise CocoError(f"The subnet {name} is not in the virtual network {network.get('name', '')}", f"its subnets: {there}",
                    "Name the subnet of the worker nodes (subnet).")


def reference(subnet: Resource, key: str) -> str:
    """The id that a subnet's property refers to (``natGateway``, ``routeTable``), empty without one."""
    return str(((subnet.get("properties") or {}).get(key) or {}).get("id", ""))


def attached(subnet: Resource, gateway: str) -> Resource:
    """The whole subnet with the NAT gateway of this id; a copy in which nothing else differs."""
    changed = copy.deepcopy(subnet)
    changed.setdefault("properties", {})["natGateway"] = {"id": gateway}
    return changed


def detached(subnet: Resource) -> Resource:
    """The whole subnet without a NAT gateway; a copy in which nothing else differs."""
    changed = copy.deepcopy(subnet)
    (changed.get("properties") or {}).pop("natGateway", None)
    return changed


def default_route(table: Resource | None) -> str:
    """The next hop of a route table's default route where it leads out by itself, such as ``VirtualAppliance 10.0.0.4``."""
    for route in ((table or {}).get("properties") or {}).get("routes") or []:
        properties = route.get("properties") or {}
        hop = str(properties.get("nextHopType", ""))
        if properties.get("addressPrefix") == "0.0.0.0/0" and hop.lower() in WAYS_OUT:
            return f"{hop} {properties.get('nextHopIpAddress') or ''}".strip()
    return ""


def kept(subnet: Resource, table: Resource | None, gateway: str, named: bool) -> str:
    """Why the subnet's egress is kept as it is, empty where there is none yet or it is the wanted gateway (an id).

    ``named``: the user named that gateway. Then another one at the subnet is an error: replacing it would change the address
    from which every worker of the subnet is seen, and Azure would do so without a word.
    """
    there = reference(subnet, "natGateway")
    if there and not same(there, gateway):
        if named:
            raise CocoError(f"The subnet {subnet.get('name')} has another NAT gateway",
                            f"attached is {there}, wanted {gateway}",
                            "Detach it yourself, or leave the name of the gateway empty to keep the one that is there.")
        return f"the NAT gateway {parse(there).name} is attached already"
    hop = default_route(table)
    if hop and not there:
        return f"the default route of {parse(reference(subnet, 'routeTable')).name} leads to {hop}"
    return ""


def address_body(location: str, infrastructure: str, zones: list[str]) -> Resource:
    """A Standard static public IP; without zones Azure makes it zone-redundant where the region has zones."""
    body: Resource = {"location": location, "tags": tags(infrastructure), "sku": {"name": "Standard"},
                      "properties": {"publicIPAllocationMethod": "Static", "publicIPAddressVersion": "IPv4"}}
    return {**body, "zones": zones} if zones else body


def gateway_body(location: str, infrastructure: str, zones: list[str], idle_timeout: int, address: str) -> Resource:
    """A NAT gateway behind the public IP of this id; ``idle_timeout`` in minutes. Azure allows it at most one zone."""
    body: Resource = {"location": location, "tags": tags(infrastructure), "sku": {"name": "Standard"},
                      "properties": {"idleTimeoutInMinutes": idle_timeout, "publicIpAddresses": [{"id": address}]}}
    return {**body, "zones": zones} if zones else body


def completed(gateway: Resource, idle_timeout: int, address: str) -> Resource:
    """Our gateway with the wanted idle timeout (minutes), and with the address of this id where it has none at all."""
    changed = copy.deepcopy(gateway)
    properties = changed.setdefault("properties", {})
    properties["idleTimeoutInMinutes"] = idle_timeout
    if not properties.get("publicIpAddresses") and not properties.get("publicIpPrefixes"):
        properties["publicIpAddresses"] = [{"id": address}]
    return changed


def plan_present(subnet: Resource, gateway: Resource | None, address: Resource | None, wanted: dict[str, Any]) -> dict[str, Any]:
    """What is to be done: ``actions`` (in order: ``address``, ``gateway``, ``update``, ``attach``) and what they bill for.

    ``wanted``: ``infrastructure``, ``idle_timeout`` (minutes), ``gateway_id`` and ``address_id``. A gateway of that name which is
    not ours is attached as it is. An address of that name which is not ours is never taken: CocoError.
    """
    actions: list[str] = []
    infrastructure = wanted["infrastructure"]
    ours = gateway is None or is_ours(gateway, infrastructure)
    properties = (gateway or {}).get("properties") or {}
    bare = not properties.get("publicIpAddresses") and not properties.get("publicIpPrefixes")
    if ours and bare:
        if address is None:
            actions.append("address")
        elif not is_ours(address, infrastructure):
            raise CocoError(f"The public IP {parse(wanted['address_id']).name} is not ours", "it lacks our tags for this cluster",
                            "Give another name for the public IP (public_ip), or remove that one.")
    if gateway is None:
        actions.append("gateway")
    elif ours and completed(gateway, wanted["idle_timeout"], wanted["address_id"]) != gateway:
        actions.append("update")
    if not same(reference(subnet, "natGateway"), wanted["gateway_id"]):
        actions.append("attach")
    return {"actions": actions, "bills": [BILLS[action] for action in ("gateway", "address") if action in actions]}


def plan_absent(gateway: Resource | None, address: Resource | None, subnet_id: str, infrastructure: str) -> dict[str, Any]:
    """What is to be removed: ``actions`` (in order: ``detach``, ``gateway``, ``address``); ``kept``: reasons for what stays.

    Only what carries our tags goes. CocoError where our gateway serves other subnets too: they would lose their way out.
    """
    actions: list[str] = []
    reasons: list[str] = []
    going = is_ours(gateway, infrastructure)
    if gateway is not None and not going:
        reasons.append(f"the NAT gateway {gateway.get('name')} does not carry our tags")
    if gateway is not None and going:
        served = [str(s.get("id", "")) for s in (gateway.get("properties") or {}).get("subnets") or []]
        others = [one for one in served if not same(one, subnet_id)]
        if others:
            raise CocoError(f"The NAT gateway {gateway.get('name')} is not removed", f"it also serves {', '.join(sorted(others))}",
                            "Give these subnets another way out and detach it from them first.")
        actions += ["detach", "gateway"] if served else ["gateway"]
    if address is not None:
        user = str(((address.get("properties") or {}).get("natGateway") or {}).get("id", ""))
        if not is_ours(address, infrastructure):
            reasons.append(f"the public IP {address.get('name')} does not carry our tags")
        elif user and not (going and same(user, str((gateway or {}).get("id", "")))):
            reasons.append(f"the public IP {address.get('name')} is used by {user}")
        else:
            actions.append("address")
    return {"actions": actions, "kept": reasons}
