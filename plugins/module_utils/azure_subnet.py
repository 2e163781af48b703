# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is a subnet fit for pod VMs? Documents of Azure Resource Manager in, findings out. Pure.

Sources: deployment.md 3.8; Azure keeps five addresses of each IPv4 prefix of a subnet; rules of a network security group are looked at
by ascending priority, the first that matches decides.
"""

from __future__ import annotations

import ipaddress
from typing import Any, TypeAlias

Finding = dict[str, str]
Document = dict[str, Any]
Network: TypeAlias = "ipaddress.IPv4Network | ipaddress.IPv6Network"

RESERVED = 5
ANYWHERE = ipaddress.ip_network("0.0.0.0/0")
#: Flows inside the subnet: (protocol, port, what for).
INSIDE = (("Tcp", 15150, "the agent proxy"), ("Udp", 9000, "VXLAN"))


def finding(severity: str, code: str, message: str, hint: str) -> Finding:
    return {"severity": severity, "code": code, "message": message, "hint": hint}


def prefixes(subnet: Document) -> list[str]:
    """The address prefixes of a subnet, IPv4 and IPv6: CIDR texts."""
    properties = subnet.get("properties") or {}
    return list(properties.get("addressPrefixes") or []) or [p for p in [properties.get("addressPrefix")] if p]


def free_addresses(subnet: Document) -> int:
    """IPv4 addresses that are left for new interfaces."""
    networks = [ipaddress.ip_network(prefix, strict=False) for prefix in prefixes(subnet)]
    total = sum(network.num_addresses - RESERVED for network in networks if network.version == 4)
    return max(0, total - len((subnet.get("properties") or {}).get("ipConfigurations") or []))


def judge(subnet: Document, pods: int) -> list[Finding]:
    """Findings about a subnet for a number of pods (one address each)."""
    name, properties, found = subnet.get("name", ""), subnet.get("properties") or {}, []
    free = free_addresses(subnet)
    if free < pods:
        found.append(finding("error", "subnet-full", f"the subnet {name} ({', '.join(prefixes(subnet))}) has {free} free addresses, "
                             f"{pods} are needed", "Enlarge the subnet, choose another (subnet_name), or plan for fewer pods."))
    services = sorted((item.get("properties") or {}).get("serviceName", "") for item in properties.get("delegations") or [])
    if services:
        found.append(finding("error", "subnet-delegated", f"the subnet {name} is delegated to {', '.join(services)}: no virtual machine "
                             "may be in it", "Choose the workers' subnet (subnet_name)."))
    if properties.get("natGateway"):
        gateway = properties["natGateway"].get("id", "")
        found.append(finding("info", "nat-gateway-kept", f"the subnet {name} has the NAT gateway {gateway}", ""))
    return found


def judge_flows(group: Document, subnet: Document) -> list[Finding]:
    """Findings about a network security group that is in force in a subnet: the flows of pod VMs that it refuses."""
    networks = [ipaddress.ip_network(prefix, strict=False) for prefix in prefixes(subnet)]
    rules = _rules(group)
    found = []
    for protocol, port, purpose in INSIDE:
        for direction in ("Inbound", "Outbound"):
            for network in networks:
                rule = _refusing(rules, direction, protocol, port, network, network)
                if rule:
                    found.append(_refused(group, rule, f"{direction.lower()} {port}/{protocol.lower()} within {network} ({purpose})"))
    for network in networks:
        if network.version == 4:
            rule = _refusing(rules, "Outbound", "Tcp", 443, network, None)
            if rule:
                found.append(_refused(group, rule, f"outbound 443/tcp from {network} (registry and Trustee)"))
    return list({item["message"]: item for item in found}.values())


def _refused(group: Document, rule: str, flow: str) -> Finding:
    return finding("error", "nsg-flow", f"the network security group {group.get('name', '')} refuses {flow} by its rule {rule}",
                   "Allow it by a rule of a lower priority number.")


def _rules(group: Document) -> list[Document]:
    properties = group.get("properties") or {}
    every = [*(properties.get("securityRules") or []), *(properties.get("defaultSecurityRules") or [])]
    return sorted(({"name": rule.get("name", ""), **(rule.get("properties") or {})} for rule in every), key=lambda r: int(r["priority"]))


def _refusing(rules: list[Document], direction: str, protocol: str, port: int, source: Network, destination: Network | None) -> str:
    """The name of the rule that refuses a flow; empty where it is allowed. No destination: the Internet."""
    for rule in rules:
        allow = str(rule.get("access", "")).lower() == "allow"
        if str(rule.get("direction", "")).lower() == direction.lower() \
                and str(rule.get("protocol", "*")).lower() in ("*", protocol.lower()) \
                and any(_in_range(port, text) for text in _values(rule, "destinationPortRange")) \
                and any(_covers(text, source, allow) for text in _values(rule, "sourceAddressPrefix")) \
                and any(_covers(text, destination, allow) for text in _values(rule, "destinationAddressPrefix")):
            return "" if allow else str(rule["name"])
    return "" if not rules else "(none allows it)"


def _values(rule: Document, key: str) -> list[str]:
    several = rule.get(key + ("es" if key.endswith("Prefix") else "s")) or []
    return [*several, *([rule[key]] if rule.get(key) else [])]


def _in_range(port: int, text: str) -> bool:
    if text == "*":
        return True
    low, dash, high = text.partition("-")
    return int(low) <= port <= int(high if dash else low)


def _covers(text: str, network: Network | None, whole: bool) -> bool:
    """Whether a prefix or service tag covers a network: all of it (``whole``, as an allowing rule must), or a part (a refusing one)."""
    if text == "*":
        return True
    if network is None:
        return text in ("Internet", str(ANYWHERE))
    if text == "VirtualNetwork":
        return True
    try:
        other = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False  # another service tag
    if isinstance(other, ipaddress.IPv4Network) and isinstance(network, ipaddress.IPv4Network):
        return network.subnet_of(other) if whole else network.overlaps(other)
    if isinstance(other, ipaddress.IPv6Network) and isinstance(network, ipaddress.IPv6Network):
        return network.subnet_of(other) if whole else network.overlaps(other)
    return False
