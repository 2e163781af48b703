"""What Azure holds of a fresh cluster: groups, network, machines of the nodes, principals and their roles.

Everything agrees with the cluster's own ``cloud-conf`` (:func:`lab.seed.cloud_conf`). The worker subnet has service endpoints, an NSG and
(not on ARO) a route table (things that a careless PUT loses) and, as after an installation, no NAT gateway.
"""

from __future__ import annotations

import datetime
import secrets
import time
import uuid
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from lab import seed
from lab.arm import compute, network
from lab.arm.ids import GROUP_TYPE, SUBSCRIPTION_TYPE
from lab.arm.store import Resource, Store

PLATFORMS = ("azure", "aro")
OTHER_TENANT = "3c7f0e52-91d4-4b6a-8a0e-5f2b1c9d7e44"
SUBSCRIPTION_ID = f"/subscriptions/{seed.SUBSCRIPTION}"
#: A principal's name to what it is there for; the roles are in :func:`identities`.
CLIENTS = {
    "installer": "Contributor of the subscription, with a secret",
    "cluster": "the cluster's own service principal: Contributor of the cluster's groups",
    "reader": "Reader of the subscription",
    "network": "Network Contributor of the virtual network's group, nothing else",
    "nobody": "without any role",
    "expired": "its secret has expired",
    "certificate": "Contributor of the subscription, with a certificate",
    "workload": "Contributor of the subscription, with a federated token",
    "stranger": "of another tenant",
    "machine": "Contributor of the subscription: the system-assigned identity of the machine that lab-arm runs on",
    "assigned": "Contributor of the subscription: a user-assigned identity of that machine",
}
#: Managed identities: they have no secret and log in through the metadata service only.
MANAGED = {"machine": "system", "assigned": "user"}
#: What ARO's deny assignment leaves allowed (ARO-RP, pkg/cluster: denyAssignment).
ARO_EXCEPT = [
    "Microsoft.Compute/disks/beginGetAccess/action", "Microsoft.Compute/disks/endGetAccess/action", "Microsoft.Compute/disks/write",
    "Microsoft.Compute/snapshots/beginGetAccess/action", "Microsoft.Compute/snapshots/delete",
    "Microsoft.Compute/snapshots/endGetAccess/action", "Microsoft.Compute/snapshots/write",
    "Microsoft.Network/networkInterfaces/effectiveRouteTable/action", "Microsoft.Network/networkSecurityGroups/join/action",
    "Microsoft.Resources/tags/*",
]


def group(name: str) -> str:
    """The id of a resource group."""
    return f"{SUBSCRIPTION_ID}/resourceGroups/{name}"


def fill(store: Store, clusters: list[str], platform: str) -> None:
    """Put the subscription and each cluster's resources into an empty store."""
    store.put({"id": SUBSCRIPTION_ID, "name": seed.SUBSCRIPTION, "type": SUBSCRIPTION_TYPE, "properties": {}})
    for cluster in clusters:
        _fill_cluster(store, cluster, platform)


def _fill_cluster(store: Store, cluster: str, platform: str) -> None:
    conf, infra = seed.cloud_conf(cluster, platform), seed.infrastructure(cluster)
    own, net = group(conf["resourceGroup"]), group(conf["vnetResourceGroup"])
    tags = {f"kubernetes.io_cluster.{infra}": "owned"}

    def add(resource_id: str, kind: str, properties: dict[str, Any], **more: Any) -> str:
        resource: Resource = {"id": resource_id, "name": resource_id.rpartition("/")[2], "type": kind, "properties": properties}
        if kind not in (network.SUBNET, network.RULE, network.ROUTE):
            resource |= {"location": seed.REGION, "tags": dict(tags)}
        resource |= more
        rules = network if kind.startswith(network.PREFIX) else compute
        children = rules.written(store, kind, resource, None) if kind != GROUP_TYPE else []
        for one in (resource, *children):
            store.put(one)
        return resource_id

    managed = {"managedBy": _aro_id(cluster)} if platform == "aro" else {}
    for one in dict.fromkeys((net, own)):
        add(one, GROUP_TYPE, {}, **(managed if one == own else {}))
    nsg = add(f"{own}/providers/{network.NSG}/{conf['securityGroupName']}", network.NSG, {"securityRules": [
        _rule("apiserver_in", 101, "6443"), _rule("ingress_https", 102, "443")]})
    routes = add(f"{own}/providers/{network.ROUTES}/{conf['routeTableName']}", network.ROUTES, {"disableBgpRoutePropagation": False})
    joined = {"networkSecurityGroup": {"id": nsg}}
    if platform != "aro":  # the customer's subnets get the NSG only
        joined["routeTable"] = {"id": routes}
    vnet = f"{net}/providers/{network.VNET}/{conf['vnetName']}"
    add(vnet, network.VNET, {"addressSpace": {"addressPrefixes": ["10.0.0.0/16"]}, "enableDdosProtection": False, "subnets": [
        {"name": seed.master_subnet(cluster, platform), "properties": {"addressPrefix": "10.0.0.0/24", **joined}},
        {"name": conf["subnetName"], "properties": {
            "addressPrefix": "10.0.1.0/24", **joined, "privateLinkServiceNetworkPolicies": "Disabled",
            "serviceEndpoints": [{"service": "Microsoft.Storage", "locations": ["eastus", "westus"]},
                                 {"service": "Microsoft.ContainerRegistry", "locations": ["*"]}]}}]})
    for node in seed.nodes(cluster, 1):
        subnet = seed.master_subnet(cluster, platform) if "master" in node["roles"] else conf["subnetName"]
        nic = add(f"{own}/providers/{network.NIC}/{node['name']}-nic", network.NIC, {"ipConfigurations": [
            {"name": "pipConfig", "properties": {"subnet": {"id": f"{vnet}/subnets/{subnet}"}}}]})
        add(f"{own}/providers/{compute.MACHINE}/{node['name']}", compute.MACHINE, {
            "hardwareProfile": {"vmSize": node["labels"]["node.kubernetes.io/instance-type"]},
            "storageProfile": {"osDisk": {"name": f"{node['name']}_OSDisk", "createOption": "FromImage", "deleteOption": "Delete",
                                          "diskSizeGB": 128}},
            "networkProfile": {"networkInterfaces": [{"id": nic, "properties": {"deleteOption": "Detach"}}]}},
            zones=[node["labels"]["topology.kubernetes.io/zone"].rpartition("-")[2]])


def _rule(name: str, priority: int, port: str) -> dict[str, Any]:
    return {"name": name, "properties": {
        "protocol": "Tcp", "sourcePortRange": "*", "destinationPortRange": port, "sourceAddressPrefix": "*",
        "destinationAddressPrefix": "*", "access": "Allow", "priority": priority, "direction": "Inbound"}}


def _aro_id(cluster: str) -> str:
    return f"{group(f'{cluster}-rg')}/providers/Microsoft.RedHatOpenShift/openShiftClusters/{cluster}"


def identities(clusters: list[str], platform: str) -> dict[str, Any]:
    """Applications with their secrets, role and deny assignments, the tokens' signing key; new ones at each call.

    ``{key, applications: {client id: …}, assignments: {object id: [[role, scope]]}, denials: […], clients: {name: …}}``. ``clients`` is
    what a user of the stand-in needs to log in; its private keys and tokens are texts (``pem``, ``token``, ``stale``), for files.
    """
    applications: dict[str, Any] = {}
    assignments: dict[str, list[list[str]]] = {}
    clients: dict[str, dict[str, str]] = {}
    confs = [seed.cloud_conf(cluster, platform) for cluster in clusters]
    nets = [group(conf["vnetResourceGroup"]) for conf in confs]
    owns = [group(conf["resourceGroup"]) for conf in confs]
    roles = {
        "installer": [["Contributor", SUBSCRIPTION_ID]], "reader": [["Reader", SUBSCRIPTION_ID]],
        "cluster": [["Contributor", one] for one in dict.fromkeys([*owns, *nets])],
        "network": [["Network Contributor", one] for one in nets], "nobody": [], "expired": [["Contributor", SUBSCRIPTION_ID]],
        "stranger": [], **{name: [["Contributor", SUBSCRIPTION_ID]] for name in ("certificate", "workload", *MANAGED)},
    }
    for name in CLIENTS:
        client, object_id = str(uuid.uuid4()), str(uuid.uuid4())
        tenant = OTHER_TENANT if name == "stranger" else seed.TENANT
        application: dict[str, Any] = {"name": f"lab-{name}", "client_id": client, "object_id": object_id, "tenant": tenant}
        public = {"client_id": client, "object_id": object_id, "tenant": tenant}
        if name == "certificate":
            application["certificate"], public["pem"] = _certificate(f"lab-{name}")
        elif name == "workload":
            application["federated"], public["token"], public["stale"] = _federated()
        elif name in MANAGED:
            application["managed"] = MANAGED[name]
        else:
            application["secret"] = public["secret"] = secrets.token_urlsafe(30)
        if name == "expired":
            application["secret_expires"] = time.time() - 86400
        applications[client], assignments[object_id], clients[name] = application, roles[name], public
    denials = []
    if platform == "aro":
        exempt = [clients["cluster"]["object_id"]]
        denials = [{"name": "Deny assignment for ARO managed resource group", "scope": one, "exempt": exempt, "actions": [
            "*/action", "*/delete", "*/write"], "not_actions": ARO_EXCEPT} for one in owns]
    return {"key": secrets.token_hex(32), "applications": applications, "assignments": assignments, "denials": denials, "clients": clients}


def _certificate(name: str) -> tuple[str, str]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
                   .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
                   .not_valid_after(now + datetime.timedelta(days=365)).sign(key, hashes.SHA256()))
    text = certificate.public_bytes(serialization.Encoding.PEM).decode()
    return text, text + _private(key)


def _private(key: rsa.RSAPrivateKey) -> str:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()


def _federated() -> tuple[dict[str, str], str, str]:
    """(federated credential of an application, a token that it accepts for a year, one that expired an hour ago)."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    trusted = {"issuer": "https://oidc.lab.example.test", "subject": "system:serviceaccount:lab:installer",
               "audience": "api://AzureADTokenExchange",
               "public_key": key.public_key().public_bytes(serialization.Encoding.PEM,
                                                           serialization.PublicFormat.SubjectPublicKeyInfo).decode()}
    now = int(time.time())

    def token(begin: int, end: int) -> str:
        return jwt.encode({"iss": trusted["issuer"], "sub": trusted["subject"], "aud": trusted["audience"], "iat": begin, "nbf": begin,
                           "exp": end}, _private(key), algorithm="RS256", headers={"kid": "lab"})

    return trusted, token(now, now + 365 * 86400), token(now - 7200, now - 3600)
