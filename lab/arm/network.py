"""Microsoft.Network: what a PUT means, what is shown, what may not be deleted.

A PUT replaces: properties, tags and embedded children that it does not name are gone. What only Azure writes (back references,
addresses) is made up when a resource is shown, never stored from a request.
"""

from __future__ import annotations

import ipaddress
import uuid
from collections.abc import Iterator
from typing import Any

from lab.arm.errors import Refusal
from lab.arm.ids import last, ref, same
from lab.arm.store import Resource, Store

PREFIX = "Microsoft.Network/"
VNET, SUBNET = f"{PREFIX}virtualNetworks", f"{PREFIX}virtualNetworks/subnets"
NSG, RULE = f"{PREFIX}networkSecurityGroups", f"{PREFIX}networkSecurityGroups/securityRules"
PUBLIC_IP, NAT, NIC, ROUTES = f"{PREFIX}publicIPAddresses", f"{PREFIX}natGateways", f"{PREFIX}networkInterfaces", f"{PREFIX}routeTables"
ROUTE = f"{PREFIX}routeTables/routes"
TYPES = (VNET, SUBNET, NSG, RULE, PUBLIC_IP, NAT, NIC, ROUTES, ROUTE)
#: Child types that their parents show, and that a PUT of the parent replaces: {parent: (property, child type)}.
EMBEDDED = {VNET: ("subnets", SUBNET), NSG: ("securityRules", RULE), ROUTES: ("routes", ROUTE)}
#: Properties that only Azure writes, by type.
BACK = {SUBNET: ("ipConfigurations",), NSG: ("subnets", "defaultSecurityRules", "networkInterfaces"), NAT: ("subnets",),
        ROUTES: ("subnets",), PUBLIC_IP: ("ipConfiguration", "natGateway"), NIC: ("virtualMachine",)}
#: Azure takes the first four addresses of a subnet and its last one.
RESERVED_FIRST = 4
DEFAULT_RULES = (
    ("AllowVnetInBound", 65000, "Inbound", "Allow", "VirtualNetwork", "VirtualNetwork"),
    ("AllowAzureLoadBalancerInBound", 65001, "Inbound", "Allow", "AzureLoadBalancer", "*"),
    ("DenyAllInBound", 65500, "Inbound", "Deny", "*", "*"),
    ("AllowVnetOutBound", 65000, "Outbound", "Allow", "VirtualNetwork", "VirtualNetwork"),
    ("AllowInternetOutBound", 65001, "Outbound", "Allow", "*", "Internet"),
    ("DenyAllOutBound", 65500, "Outbound", "Deny", "*", "*"),
)
Links = list[tuple[str, str]]


def kind_of(name: str) -> str | None:
    """The type as Azure spells it; None for one that the lab does not have."""
    return next((known for known in TYPES if same(known, name)), None)


def links(kind: str, properties: dict[str, Any]) -> Links:
    """(resource id, action) that a resource refers to, and for which its writer needs that right."""
    found: Links = []
    if kind == SUBNET:
        for name, of in (("networkSecurityGroup", NSG), ("routeTable", ROUTES), ("natGateway", NAT)):
            if ref(properties.get(name)):
                found.append((ref(properties[name]), f"{of}/join/action"))
    elif kind == NAT:
        found = [(ref(one), f"{PUBLIC_IP}/join/action") for one in properties.get("publicIpAddresses") or []]
    elif kind == NIC:
        if ref(properties.get("networkSecurityGroup")):
            found.append((ref(properties["networkSecurityGroup"]), f"{NSG}/join/action"))
        for config in properties.get("ipConfigurations") or []:
            inner = config.get("properties") or {}
            found.append((ref(inner.get("subnet")), f"{SUBNET}/join/action"))
            if ref(inner.get("publicIPAddress")):
                found.append((ref(inner["publicIPAddress"]), f"{PUBLIC_IP}/join/action"))
    return found


def written(store: Store, kind: str, resource: Resource, old: Resource | None) -> list[Resource]:
    """The children to be stored with a resource, whose properties are put in order in place. Raises :class:`Refusal`.

    ``resource``: id, name, type, location, tags, sku, properties of the request.
    """
    properties = resource["properties"]
    for name in ("provisioningState", "resourceGuid", *BACK.get(kind, ())):
        properties.pop(name, None)
    if kind in (VNET, NSG, PUBLIC_IP, NAT, NIC):
        properties["resourceGuid"] = (old or {}).get("properties", {}).get("resourceGuid") or str(uuid.uuid4())
    for target, _action in links(kind, properties):
        if store.get(target) is None:
            raise Refusal(400, "InvalidResourceReference",
                          f"Resource {target} referenced by resource {resource['id']} was not found. Please make sure that the referenced "
                          "resource exists, and that both resources are in the same region.")
    if kind == SUBNET:
        _check_subnet(store, resource, old)
    elif kind == PUBLIC_IP:
        _check_public_ip(resource, old)
    elif kind == NAT:
        _check_nat(store, resource)
    elif kind == NIC:
        _check_nic(store, resource, old)
    elif kind == RULE:
        _check_rule(store, resource)
    if kind not in EMBEDDED:
        return []
    name, child_kind = EMBEDDED[kind]
    children = []
    wanted = properties.pop(name, None) or []
    for one in wanted:
        child: Resource = {"id": f"{resource['id']}/{name}/{one.get('name')}", "name": one.get("name"), "type": child_kind,
                           "properties": dict(one.get("properties") or {})}
        before = store.get(child["id"])
        written(store, child_kind, child, before)
        children.append(child)
    keys = {child["id"].lower() for child in children}
    for lost in store.of_type(child_kind, resource["id"]):
        if lost["id"].lower() not in keys:
            refuse_removal(store, child_kind, lost["id"])
    return children


def _prefixes(properties: dict[str, Any]) -> list[str]:
    return list(properties.get("addressPrefixes") or ([properties["addressPrefix"]] if properties.get("addressPrefix") else []))


def _check_subnet(store: Store, resource: Resource, old: Resource | None) -> None:
    properties = resource["properties"]
    prefixes = _prefixes(properties)
    if not prefixes:
        raise Refusal(400, "NoAddressPrefixOrPoolProvided",
                      f"Subnet {resource['name']} must have one of either Address Prefixes or IPAM Pool Prefix Allocations.")
    try:
        networks = [ipaddress.ip_network(prefix) for prefix in prefixes]
    except ValueError as error:
        raise Refusal(400, "InvalidCIDRNotation", f"The address prefix {prefixes[0]} in resource {resource['id']} has an invalid CIDR "
                      "notation.") from error
    vnet_id = resource["id"].rsplit("/", 2)[0]
    for other in store.of_type(SUBNET, vnet_id):
        if not same(other["id"], resource["id"]) and any(
                ipaddress.ip_network(prefix).overlaps(network) for prefix in _prefixes(other["properties"]) for network in networks):
            raise Refusal(400, "NetcfgSubnetRangesOverlap",
                          f"Subnet '{resource['name']}' is not valid because its IP address range overlaps with that of an existing subnet "
                          f"in virtual network '{last(vnet_id)}'.")
    if old and _prefixes(old["properties"]) != prefixes and users(store, resource["id"]):
        raise Refusal(400, "InUsePrefixCannotBeDeleted", f"IpPrefix {', '.join(_prefixes(old['properties']))} on Subnet {resource['name']} "
                      "has active allocations and cannot be deleted.")
    properties.setdefault("privateEndpointNetworkPolicies", "Disabled")
    properties.setdefault("privateLinkServiceNetworkPolicies", "Enabled")
    properties.setdefault("delegations", [])


def _check_public_ip(resource: Resource, old: Resource | None) -> None:
    properties = resource["properties"]
    resource.setdefault("sku", {}).setdefault("name", "Basic")
    resource["sku"].setdefault("tier", "Regional")
    method = properties.setdefault("publicIPAllocationMethod", "Dynamic")
    if resource["sku"]["name"] == "Basic":
        raise Refusal(400, "IPv4BasicSkuPublicIpCountLimitReached",
                      "Cannot create more than 0 IPv4 Basic SKU public IP addresses for this subscription in this region.")
    if method != "Static":
        raise Refusal(400, "StandardSkuPublicIPAddressesMustBeStatic",
                      f"Standard sku publicIp {resource['id']} must have AllocationMethod set to Static.")
    properties.setdefault("publicIPAddressVersion", "IPv4")
    properties.setdefault("idleTimeoutInMinutes", 4)
    address = (old or {}).get("properties", {}).get("ipAddress")
    properties["ipAddress"] = address or f"203.0.113.{int(uuid.uuid5(uuid.NAMESPACE_URL, resource['id'].lower()).int % 254) + 1}"


def _check_nat(store: Store, resource: Resource) -> None:
    if resource.get("sku", {}).get("name") not in ("Standard", "StandardV2"):
        raise Refusal(400, "InvalidRequestFormat", f"Cannot parse the request: sku of {resource['id']} must be Standard or StandardV2.")
    properties = resource["properties"]
    idle = properties.setdefault("idleTimeoutInMinutes", 4)
    if not isinstance(idle, int) or not 4 <= idle <= 120:
        raise Refusal(400, "NatGatewayIdleTimeoutInvalid", f"The idleTimeoutInMinutes of {resource['id']} must be between 4 and 120.")
    for one in properties.get("publicIpAddresses") or []:
        address = store.get(ref(one)) or {}
        if not same(str(address.get("location")), str(resource.get("location"))):
            raise Refusal(400, "InvalidResourceReference", f"Resource {ref(one)} referenced by resource {resource['id']} was not found. "
                          "Please "
                          "make sure that the referenced resource exists, and that both resources are in the same region.")
        holder = holder_of(store, ref(one))
        if holder and not same(holder, resource["id"]):
            raise Refusal(400, "PublicIPAddressInUse", f"Resource {resource['id']} is referencing public IP address {ref(one)} that is "
                          f"already allocated to resource {holder}.")


def _check_rule(store: Store, resource: Resource) -> None:
    properties = resource["properties"]
    missing = [name for name in ("protocol", "access", "direction", "priority") if properties.get(name) in (None, "")]
    if missing:
        raise Refusal(400, "InvalidRequestFormat", f"Cannot parse the request: security rule {resource['name']} lacks "
                                                   f"{', '.join(missing)}.")
    if not 100 <= int(properties["priority"]) <= 4096:
        raise Refusal(400, "SecurityRuleInvalidPriority", f"Security rule {resource['name']} has invalid priority. Value provided: "
                      f"{properties['priority']} Allowed range 100-4096.")
    nsg = resource["id"].rsplit("/", 2)[0]
    for other in store.of_type(RULE, nsg):
        if not same(other["id"], resource["id"]) and other["properties"]["priority"] == properties["priority"] \
                and other["properties"]["direction"] == properties["direction"]:
            raise Refusal(400, "SecurityRuleConflict",
                          f"Security rule {resource['name']} conflicts with rule {other['name']}. Rules cannot have the same Priority and "
                          "Direction.")


def _check_nic(store: Store, resource: Resource, old: Resource | None) -> None:
    configs = resource["properties"].get("ipConfigurations") or []
    if not configs:
        raise Refusal(400, "NetworkInterfaceMustHaveAtLeastOneIpConfiguration",
                      f"Network interface {resource['id']} must have one or more IP configurations.")
    before = {config["name"]: config["properties"] for config in (old or {}).get("properties", {}).get("ipConfigurations", [])}
    for config in configs:
        config["id"], config["type"] = f"{resource['id']}/ipConfigurations/{config['name']}", f"{NIC}/ipConfigurations"
        inner = config.setdefault("properties", {})
        inner.setdefault("privateIPAllocationMethod", "Dynamic")
        inner.setdefault("privateIPAddressVersion", "IPv4")
        inner.setdefault("primary", config is configs[0])
        inner["provisioningState"] = "Succeeded"
        known = before.get(config["name"], {})
        if known and same(ref(known.get("subnet")), ref(inner.get("subnet"))) and "privateIPAddress" not in inner:
            inner["privateIPAddress"] = known["privateIPAddress"]
        if "privateIPAddress" not in inner:
            inner["privateIPAddress"] = free_address(store, ref(inner.get("subnet")))
        store.touch(ref(inner.get("subnet")))


def free_address(store: Store, subnet_id: str) -> str:
    """The next free address of a subnet. Raises :class:`Refusal` (400 SubnetIsFull)."""
    subnet = store.get(subnet_id)
    assert subnet is not None, "references are checked before"
    taken = {inner["privateIPAddress"] for _id, inner in _configurations(store, subnet_id)}
    for prefix in _prefixes(subnet["properties"]):
        network = ipaddress.ip_network(prefix)
        for number in range(RESERVED_FIRST, network.num_addresses - 1):
            if str(network[number]) not in taken:
                return str(network[number])
    raise Refusal(400, "SubnetIsFull", f"Subnet {subnet['name']} with address prefix {', '.join(_prefixes(subnet['properties']))} does "
                  "not have "
                  "enough capacity for 1 IP addresses.")


def _configurations(store: Store, subnet_id: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for nic in store.of_type(NIC):
        for config in nic["properties"].get("ipConfigurations", []):
            if same(ref(config["properties"].get("subnet")), subnet_id):
                yield config["id"], config["properties"]


def users(store: Store, subnet_id: str) -> list[str]:
    """Ids of the IP configurations in a subnet."""
    return [config_id for config_id, _inner in _configurations(store, subnet_id)]


def holder_of(store: Store, address_id: str) -> str:
    """The NAT gateway or IP configuration that has a public address; empty if none has."""
    for nat in store.of_type(NAT):
        if any(same(ref(one), address_id) for one in nat["properties"].get("publicIpAddresses") or []):
            return str(nat["id"])
    for nic in store.of_type(NIC):
        for config in nic["properties"].get("ipConfigurations", []):
            if same(ref(config["properties"].get("publicIPAddress")), address_id):
                return str(config["id"])
    return ""


def _subnets_with(store: Store, name: str, target: str) -> list[str]:
    return [one["id"] for one in store.of_type(SUBNET) if same(ref(one["properties"].get(name)), target)]


def _refs(found: list[str]) -> list[dict[str, str]]:
    return [{"id": one} for one in found]


def shown(store: Store, kind: str, resource: Resource) -> None:
    """Add to ``resource`` (a copy) what only Azure writes."""
    properties, own = resource["properties"], resource["id"]
    if kind in EMBEDDED:
        name, child = EMBEDDED[kind]
        properties[name] = [view(store, child, one) for one in store.of_type(child, own)]
    if kind == SUBNET and users(store, own):
        properties["ipConfigurations"] = _refs(users(store, own))
    elif kind == NSG:
        properties["defaultSecurityRules"] = [_default_rule(own, *rule) for rule in DEFAULT_RULES]
        nics = [one["id"] for one in store.of_type(NIC) if same(ref(one["properties"].get("networkSecurityGroup")), own)]
        if nics:
            properties["networkInterfaces"] = _refs(nics)
    elif kind == PUBLIC_IP and holder_of(store, own):
        holder = holder_of(store, own)
        properties["natGateway" if "/natgateways/" in holder.lower() else "ipConfiguration"] = {"id": holder}
    elif kind == NIC:
        machine = machine_of(store, own)
        if machine:
            properties["virtualMachine"] = {"id": machine}
    back = {NSG: "networkSecurityGroup", NAT: "natGateway", ROUTES: "routeTable"}.get(kind)
    if back and _subnets_with(store, back, own):
        properties["subnets"] = _refs(_subnets_with(store, back, own))


def view(store: Store, kind: str, stored: Resource) -> Resource:
    """A resource as Azure shows it; children are within their parents."""
    resource: Resource = {**stored, "properties": {**stored["properties"], "provisioningState": "Succeeded"}}
    shown(store, kind, resource)
    return resource


def _default_rule(nsg: str, name: str, priority: int, direction: str, access: str, source: str, target: str) -> Resource:
    return {"id": f"{nsg}/defaultSecurityRules/{name}", "name": name, "type": f"{NSG}/defaultSecurityRules", "properties": {
        "provisioningState": "Succeeded", "protocol": "*", "sourcePortRange": "*", "destinationPortRange": "*",
        "sourceAddressPrefix": source, "destinationAddressPrefix": target, "access": access, "priority": priority, "direction": direction}}


def machine_of(store: Store, nic_id: str) -> str:
    """The virtual machine that has a network interface; empty if none has."""
    for machine in store.of_type("Microsoft.Compute/virtualMachines"):
        if any(same(ref(one), nic_id) for one in machine["properties"].get("networkProfile", {}).get("networkInterfaces") or []):
            return str(machine["id"])
    return ""


def refuse_removal(store: Store, kind: str, own: str) -> None:
    """Raise :class:`Refusal` when a resource is in use."""
    if kind == SUBNET and users(store, own):
        raise Refusal(400, "InUseSubnetCannotBeDeleted",
                      f"Subnet {last(own)} is in use by {' and '.join(users(store, own))} and cannot be deleted. In order to delete the "
                      "subnet, delete all the resources within the subnet. See aka.ms/deletesubnet.")
    if kind == VNET:
        for subnet in store.of_type(SUBNET, own):
            refuse_removal(store, SUBNET, subnet["id"])
    if kind == NAT and _subnets_with(store, "natGateway", own):
        count = len(_subnets_with(store, "natGateway", own))
        raise Refusal(400, "CannotDeleteNatGatewayAssociatedToSubnet",
                      f"NAT Gateway {own} is still configured on {count} subnets. Remove NAT Gateway from all referenced subnets and then "
                      "delete NAT Gateway.")
    if kind == PUBLIC_IP and holder_of(store, own):
        raise Refusal(400, "PublicIPAddressCannotBeDeleted",
                      f"Public IP address {own} can not be deleted since it is still allocated to resource {holder_of(store, own)}. In "
                      "order "
                      "to delete the public IP, disassociate/detach the Public IP address from the resource. To learn how to do this, see "
                      "aka.ms/deletepublicip.")
    if kind == NIC and machine_of(store, own):
        raise Refusal(400, "NicInUse", f"Network Interface {own} is used by existing resource {machine_of(store, own)}. In order to "
                      "delete the "
                      "network interface, it must be dissociated from the resource. To learn more, see aka.ms/deletenic.")
    for of, name, code, text in ((NSG, "networkSecurityGroup", "InUseNetworkSecurityGroupCannotBeDeleted", "Network security group"),
                                 (ROUTES, "routeTable", "InUseRouteTableCannotBeDeleted", "Route table")):
        if kind == of and _subnets_with(store, name, own):
            raise Refusal(400, code, f"{text} {own} cannot be deleted because it is in use by the following resources: "
                          f"{', '.join(_subnets_with(store, name, own))}.")


def usages(store: Store, subscription: str, location: str) -> list[dict[str, Any]]:
    """Counts and limits of network resources in a region."""
    found = []
    for kind, name, text, limit in ((VNET, "VirtualNetworks", "Virtual Networks", 1000),
                                    (PUBLIC_IP, "PublicIPAddresses", "Public IP Addresses", 1000),
                                    (PUBLIC_IP, "StandardSkuPublicIpAddresses", "Public IPv4 Addresses - Standard", 1000),
                                    (NIC, "NetworkInterfaces", "Network Interfaces", 65536),
                                    (NSG, "NetworkSecurityGroups", "Network Security Groups", 5000),
                                    (NAT, "NatGateways", "NAT gateways", 100)):
        count = sum(same(str(one.get("location")), location) for one in store.of_type(kind, f"/subscriptions/{subscription}"))
        found.append({"id": f"/subscriptions/{subscription}/providers/Microsoft.Network/locations/{location}/usages/{name}",
                      "unit": "Count", "currentValue": count, "limit": limit, "name": {"value": name, "localizedValue": text}})
    return found
