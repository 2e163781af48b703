"""Microsoft.Compute: sizes, quota, virtual machines, disks, galleries."""

from __future__ import annotations

import datetime
import uuid
from dataclasses import dataclass
from typing import Any

from lab.arm import network
from lab.arm.errors import Refusal
from lab.arm.ids import last, ref, same
from lab.arm.store import Resource, Store

PREFIX = "Microsoft.Compute/"
MACHINE, DISK, IMAGE = f"{PREFIX}virtualMachines", f"{PREFIX}disks", f"{PREFIX}images"
GALLERY, DEFINITION, VERSION = f"{PREFIX}galleries", f"{PREFIX}galleries/images", f"{PREFIX}galleries/images/versions"
TYPES = (MACHINE, DISK, IMAGE, GALLERY, DEFINITION, VERSION)
Links = list[tuple[str, str]]
Zones = dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Size:
    """A VM size: its quota family, ``confidential`` type (SNP, TDX or empty), {region: zones}, {region: zones or all that are refused}."""

    name: str
    family: str
    vcpus: int
    memory: int
    confidential: str
    regions: Zones
    refused: Zones


ALL = ("1", "2", "3")


def _sizes() -> list[Size]:
    rows: tuple[tuple[str, str, str, str, int, Zones, Zones], ...] = (
        ("DC", "as_v5", "standardDCASv5Family", "SNP", 4, {"eastus": ALL, "westus": (), "northeurope": ALL, "westeurope": ALL}, {}),
        ("DC", "ads_v5", "standardDCADSv5Family", "SNP", 4, {"eastus": ALL, "westus": (), "northeurope": ALL}, {"eastus": ("3",)}),
        ("EC", "as_v5", "standardECASv5Family", "SNP", 8, {"eastus": ALL, "westus": (), "northeurope": ALL}, {}),
        ("EC", "ads_v5", "standardECADSv5Family", "SNP", 8, {"eastus": ALL, "northeurope": ALL}, {"eastus": ALL}),
        ("DC", "es_v5", "standardDCESv5Family", "TDX", 4, {"westeurope": ALL, "centralus": ALL}, {}),
        ("EC", "eds_v5", "standardECEDSv5Family", "TDX", 8, {"westeurope": ALL, "centralus": ALL}, {}),
        ("D", "s_v5", "standardDSv5Family", "", 4, {"eastus": ALL, "westus": (), "northeurope": ALL, "westeurope": ALL,
                                                   "centralus": ALL}, {}),
        ("B", "als_v2", "standardBalsv2Family", "", 2, {"eastus": ALL, "northeurope": ALL}, {}))
    return [Size(f"Standard_{prefix}{count}{suffix}", family, count, count * ratio, kind, regions, refused)
            for prefix, suffix, family, kind, ratio, regions, refused in rows for count in (2, 4, 8, 16, 32)]


SIZES = _sizes()
REGIONS = {"eastus": "East US", "westus": "West US", "northeurope": "North Europe", "westeurope": "West Europe", "centralus": "Central US"}
#: vCPU limits of a family in a region where they are not ``FAMILY_LIMIT``; confidential families have none by default.
LIMITS = {("eastus", "standardDCASv5Family"): 64, ("eastus", "standardECASv5Family"): 8, ("eastus", "standardDSv5Family"): 400,
          ("northeurope", "standardDCASv5Family"): 32}
FAMILY_LIMIT, TOTAL_LIMIT = 10, 500
#: Values of a definition's feature SecurityType with which confidential machines can be made of its versions.
CONFIDENTIAL_FEATURES = ("ConfidentialVM", "ConfidentialVmSupported", "TrustedLaunchAndConfidentialVmSupported")


def kind_of(name: str) -> str | None:
    """The type as Azure spells it; None for one that the lab does not have."""
    return next((known for known in TYPES if same(known, name)), None)


def size_named(name: str) -> Size | None:
    """The size of a name, whatever its case."""
    return next((size for size in SIZES if same(size.name, name)), None)


def skus(location: str) -> list[dict[str, Any]]:
    """One item a size and region, as the Resource SKUs API shows them; of all regions if ``location`` is empty."""
    found = []
    for region in REGIONS:
        if location and not same(region, location):
            continue
        for size in SIZES:
            if region in size.regions:
                found.append(_sku(size, region))
        found.append({"resourceType": "disks", "name": "Premium_LRS", "tier": "Premium", "size": "P10", "locations": [region],
                      "locationInfo": [{"location": region, "zones": list(ALL)}], "capabilities": [], "restrictions": []})
    return found


def _sku(size: Size, region: str) -> dict[str, Any]:
    zones, refused = size.regions[region], size.refused.get(region, ())
    abilities = {"vCPUs": size.vcpus, "MemoryGB": size.memory, "HyperVGenerations": "V2" if size.confidential else "V1,V2",
                 "CpuArchitectureType": "x64", "PremiumIO": "True", "vCPUsAvailable": size.vcpus}
    if size.confidential:
        abilities["ConfidentialComputingType"] = size.confidential
    restrictions: list[dict[str, Any]] = []
    if refused and set(refused) >= set(zones):
        restrictions.append({"type": "Location", "values": [region], "restrictionInfo": {"locations": [region]},
                             "reasonCode": "NotAvailableForSubscription"})
    if refused:
        restrictions.append({"type": "Zone", "values": [region], "restrictionInfo": {"locations": [region], "zones": list(refused)},
                             "reasonCode": "NotAvailableForSubscription"})
    return {"resourceType": "virtualMachines", "name": size.name, "tier": "Standard", "size": size.name.removeprefix("Standard_"),
            "family": size.family, "locations": [region], "restrictions": restrictions,
            "locationInfo": [{"location": region, "zones": list(zones), "zoneDetails": []}],
            "capabilities": [{"name": name, "value": str(value)} for name, value in abilities.items()]}


def _limit(region: str, size: Size) -> int:
    return LIMITS.get((region, size.family), 0 if size.confidential else FAMILY_LIMIT)


def used(store: Store, subscription: str, region: str, family: str = "") -> int:
    """vCPUs of the virtual machines in a region, of one family or all."""
    total = 0
    for machine in store.of_type(MACHINE, f"/subscriptions/{subscription}"):
        size = size_named(machine["properties"]["hardwareProfile"]["vmSize"])
        if size and same(machine["location"], region) and family in ("", size.family):
            total += size.vcpus
    return total


def usages(store: Store, subscription: str, region: str) -> list[dict[str, Any]]:
    """Quota and use in a region: total vCPUs, virtual machines, and one item a family."""
    machines = sum(same(one["location"], region) for one in store.of_type(MACHINE, f"/subscriptions/{subscription}"))
    rows = [("cores", "Total Regional vCPUs", used(store, subscription, region), TOTAL_LIMIT),
            ("virtualMachines", "Virtual Machines", machines, 25000)]
    for family in dict.fromkeys(size.family for size in SIZES):
        size = next(size for size in SIZES if size.family == family)
        words = family.removeprefix("standard").removesuffix("Family")
        rows.append((family, f"Standard {words} Family vCPUs", used(store, subscription, region, family), _limit(region, size)))
    return [{"unit": "Count", "currentValue": now, "limit": limit, "name": {"value": name, "localizedValue": text}}
            for name, text, now, limit in rows]


def links(kind: str, properties: dict[str, Any]) -> Links:
    """(resource id, action) that a resource refers to, and for which its writer needs that right."""
    found: Links = []
    if kind == MACHINE:
        profile = properties.get("networkProfile", {})
        for one in profile.get("networkInterfaces") or []:
            found.append((ref(one), "Microsoft.Network/networkInterfaces/join/action"))
        for one in profile.get("networkInterfaceConfigurations") or []:
            found += network.links(network.NIC, _interface(one))
        image = ref(properties.get("storageProfile", {}).get("imageReference"))
        if "/images/" in image.lower():
            found.append((image, f"{VERSION if '/versions/' in image.lower() else IMAGE}/read"))
    return found


def written(store: Store, kind: str, resource: Resource, old: Resource | None) -> list[Resource]:
    """What is to be stored with a resource (a machine's OS disk), whose properties are put in order in place. Raises :class:`Refusal`."""
    properties = resource["properties"]
    for name in ("provisioningState", "instanceView"):
        properties.pop(name, None)
    for target, _action in links(kind, properties):
        if store.get(target) is None and "/galleries/" in target.lower():
            raise Refusal(404, "GalleryImageNotFound", f"The gallery image {target} is not available in {resource['location']} region. "
                          "Please contact image owner to replicate to this region, or change your requested region.")
        if store.get(target) is None:
            raise Refusal(404, "NotFound", f"The resource {target} cannot be found in subscription {target.split('/')[2]}.")
    properties["timeCreated"] = (old or {}).get("properties", {}).get("timeCreated") or _now()
    if kind == MACHINE:
        return _written_machine(store, resource, old)
    if kind == DISK:
        properties.setdefault("diskSizeGB", 32)
        properties["diskState"] = "Attached" if resource.get("managedBy") else "Unattached"
    return []


def _interface(configuration: dict[str, Any]) -> dict[str, Any]:
    """The properties of the network interface that a machine's networkInterfaceConfiguration asks for."""
    given = configuration.get("properties") or {}
    return {"ipConfigurations": [{"name": one.get("name"), "properties": {"subnet": (one.get("properties") or {}).get("subnet") or {}}}
                                 for one in given.get("ipConfigurations") or []],
            **({"networkSecurityGroup": given["networkSecurityGroup"]} if given.get("networkSecurityGroup") else {})}


def _make_interfaces(store: Store, resource: Resource) -> list[Resource]:
    """The interfaces that a machine asks for to be made with it. Raises :class:`Refusal`."""
    profile = resource["properties"].get("networkProfile", {})
    group = resource["id"].rsplit("/providers/", 1)[0]
    made: list[Resource] = []
    for one in profile.pop("networkInterfaceConfigurations", None) or []:
        nic: Resource = {"id": f"{group}/providers/{network.NIC}/{one.get('name')}", "name": one.get("name"), "type": network.NIC,
                         "location": resource["location"], "tags": dict(resource.get("tags") or {}), "properties": _interface(one)}
        network.written(store, network.NIC, nic, None)
        option = (one.get("properties") or {}).get("deleteOption", "Detach")
        profile.setdefault("networkInterfaces", []).append({"id": nic["id"], "properties": {"primary": not made, "deleteOption": option}})
        made.append(nic)
    return made


def _check_image(store: Store, properties: dict[str, Any]) -> None:
    """Raise :class:`Refusal` unless confidential machines can be made of an image."""
    image = ref(properties.get("storageProfile", {}).get("imageReference"))
    definition = store.get(image.rsplit("/versions/", 1)[0]) if "/versions/" in image else None
    features = (definition or {}).get("properties", {}).get("features") or []
    kinds = [str(one.get("value")) for one in features if one.get("name") == "SecurityType"]
    if definition is not None and not set(kinds) & set(CONFIDENTIAL_FEATURES):
        raise Refusal(400, "BadRequest", "The provided gallery image does not support security type 'ConfidentialVM'.")


def _written_machine(store: Store, resource: Resource, old: Resource | None) -> list[Resource]:
    properties, region = resource["properties"], resource["location"]
    name = properties.get("hardwareProfile", {}).get("vmSize", "")
    size = size_named(name)
    if size is None or region not in size.regions:
        known = ",".join(one.name for one in SIZES if region in one.regions)
        raise Refusal(400, "InvalidParameter", f"The value {name} provided for the VM size is not valid. The valid sizes in the current "
                      "region "
                      f"are: {known}. Find out more on the available VM sizes in each region at https://aka.ms/azure-regions.")
    zones, refused = resource.get("zones") or [], size.refused.get(region, ())
    if refused and (set(zones) & set(refused) if zones else set(refused) >= set(size.regions[region])):
        raise Refusal(409, "SkuNotAvailable",
                      f"The requested VM size for resource 'Following SKUs have failed for Capacity Restrictions: {size.name}' is "
                      "currently not "
                      f"available in location '{region}'. Please try another size or deploy to a different location or different zone. See "
                      "https://aka.ms/azureskunotavailable for details.")
    security = properties.get("securityProfile", {}).get("securityType", "")
    if security == "ConfidentialVM" and not size.confidential:
        raise Refusal(400, "BadRequest", f"The VM size '{size.name}' is not supported for creation of VMs and Virtual Machine Scale Set "
                      "with "
                      "'ConfidentialVM' security type.")
    image = ref(properties.get("storageProfile", {}).get("imageReference"))
    if image and "/images/" not in image.lower():
        raise Refusal(400, "InvalidParameter", "The value of parameter imageReference.id is invalid.")
    if security == "ConfidentialVM":
        _check_image(store, properties)
    if old is None:
        _check_quota(store, resource, size)
    for one in properties.get("networkProfile", {}).get("networkInterfaces") or []:
        for other in store.of_type(MACHINE):
            taken = other["properties"].get("networkProfile", {}).get("networkInterfaces") or []
            if not same(other["id"], resource["id"]) and any(same(ref(nic), ref(one)) for nic in taken):
                raise Refusal(400, "NicInUse", f"Network Interface {ref(one)} is used by existing resource {other['id']}. In order to "
                              "delete the "
                              "network interface, it must be dissociated from the resource. To learn more, see aka.ms/deletenic.")
    properties["vmId"] = (old or {}).get("properties", {}).get("vmId") or str(uuid.uuid4())
    properties.get("osProfile", {}).pop("adminPassword", None)
    properties.get("osProfile", {}).pop("customData", None)  # written, never shown
    disk = properties.setdefault("storageProfile", {}).setdefault("osDisk", {})
    disk.setdefault("name", f"{resource['name']}_OsDisk_1_{uuid.uuid4().hex}")
    disk.setdefault("deleteOption", "Detach")
    group = resource["id"].rsplit("/providers/", 1)[0]
    disk_id = f"{group}/providers/{DISK}/{disk['name']}"
    disk.setdefault("managedDisk", {})["id"] = disk_id
    made = _make_interfaces(store, resource)
    if store.get(disk_id):
        return made
    return [*made, {"id": disk_id, "name": disk["name"], "type": DISK, "location": region, "tags": dict(resource.get("tags") or {}),
             "managedBy": resource["id"], "sku": {"name": disk["managedDisk"].get("storageAccountType", "Premium_LRS")},
             "properties": {"osType": disk.get("osType", "Linux"), "diskSizeGB": disk.get("diskSizeGB", 32), "diskState": "Attached",
                            "timeCreated": _now(), "creationData": {"createOption": "FromImage"}}}]


def _check_quota(store: Store, resource: Resource, size: Size) -> None:
    subscription, region = resource["id"].split("/")[2], resource["location"]
    for words, limit, now in ((f"{size.family} Cores", _limit(region, size), used(store, subscription, region, size.family)),
                              ("Total Regional Cores", TOTAL_LIMIT, used(store, subscription, region))):
        if now + size.vcpus > limit:
            raise Refusal(409, "OperationNotAllowed",
                          f"Operation could not be completed as it results in exceeding approved {words} quota. Additional details - "
                          "Deployment "
                          f"Model: Resource Manager, Location: {region}, Current Limit: {limit}, Current Usage: {now}, Additional "
                          "Required: "
                          f"{size.vcpus}, (Minimum) New Limit Required: {now + size.vcpus}. Setup Alerts when Quota reaches threshold. "
                          "Learn more "
                          "at https://aka.ms/quotamonitoringalerting .")


def view(_store: Store, _kind: str, stored: Resource) -> Resource:
    """A resource as Azure shows it."""
    return {**stored, "properties": {**stored["properties"], "provisioningState": "Succeeded"}}


def instance_view() -> dict[str, Any]:
    """The run-time state of a machine that runs."""
    return {"statuses": [{"code": "ProvisioningState/succeeded", "level": "Info", "displayStatus": "Provisioning succeeded"},
                         {"code": "PowerState/running", "level": "Info", "displayStatus": "VM running"}]}


def refuse_removal(store: Store, kind: str, own: str) -> None:
    """Raise :class:`Refusal` when a resource is in use."""
    resource = store.get(own) or {}
    if kind == DISK and resource.get("managedBy"):
        raise Refusal(409, "OperationNotAllowed", f"Disk {last(own)} is attached to VM {resource['managedBy']}.")
    if kind in (GALLERY, DEFINITION) and list(store.below(own)):
        nested = ", ".join(last(one) for one in store.below(own))
        raise Refusal(409, "CannotDeleteResource", f"Can not delete resource before nested resources are deleted. {nested}")


def removed(store: Store, resource: Resource) -> None:
    """After a machine is gone: its disk and interfaces go or are left behind, as their ``deleteOption`` says."""
    profile = resource["properties"]
    disk = profile.get("storageProfile", {}).get("osDisk", {})
    left = store.get(ref(disk.get("managedDisk")))
    if left is not None and disk.get("deleteOption") == "Delete":
        store.remove(left["id"])
    elif left is not None:
        left.pop("managedBy", None)
        left["properties"]["diskState"] = "Unattached"
    for one in profile.get("networkProfile", {}).get("networkInterfaces") or []:
        if (one.get("properties") or {}).get("deleteOption") == "Delete" and store.get(ref(one)):
            store.remove(ref(one))
    store.save()


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat()
