"""What a fresh OpenShift installation on Azure looks like through its API."""

from __future__ import annotations

import base64
import json
from typing import Any

Object = dict[str, Any]

REGION = "eastus"
SUBSCRIPTION = "6f3a1c52-0b7d-4f0e-9a55-2d4c8e1b7a10"
TENANT = "9d1e4b7c-55aa-4c1e-8f0b-7a6e3c2d1f00"
CLUSTER_ID = "b4c1d2e3-7f60-4a8b-9c0d-1e2f3a4b5c6d"
OLM_NAMESPACE = "openshift-operator-lifecycle-manager"

NAMESPACES = (
    OLM_NAMESPACE, "openshift-marketplace", "openshift-operators", "openshift-config", "openshift-config-managed",
    "openshift-cloud-controller-manager", "openshift-machine-config-operator", "openshift-machine-api", "openshift-ingress",
    "openshift-ingress-operator", "openshift-monitoring", "openshift-cloud-credential-operator", "openshift",
)
CLUSTER_OPERATORS = ("operator-lifecycle-manager", "operator-lifecycle-manager-catalog")


def infrastructure(cluster: str) -> str:
    """The infrastructure name, with which the installer names everything."""
    return f"{cluster}-x7k2p"


def base_domain(cluster: str) -> str:
    """The cluster's domain; Routes live below ``apps.`` of it."""
    return f"{cluster}.example.test"


def apps_domain(cluster: str) -> str:
    """The domain of Routes."""
    return f"apps.{base_domain(cluster)}"


def control_plane(cluster: str) -> list[str]:
    """The names of the control-plane nodes."""
    return [f"{cluster}-control-plane-{index}" for index in range(3)]


def workers(cluster: str) -> list[str]:
    """The names of the worker nodes."""
    return [f"{cluster}-worker-{REGION}-{index}" for index in (1, 2)]


def _object(api_version: str, kind: str, name: str, namespace: str | None = None, **content: Any) -> Object:
    metadata: Object = {"name": name}
    if namespace:
        metadata["namespace"] = namespace
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **content}


def master_subnet(cluster: str, platform: str) -> str:
    """The name of the control plane's subnet."""
    return "master-subnet" if platform == "aro" else f"{infrastructure(cluster)}-master-subnet"


def cloud_conf(cluster: str, platform: str = "azure") -> Object:
    """The Azure cloud provider's configuration (the cluster's own knowledge of its network).

    On ARO the network is the customer's: a group and names of their own; the cluster's group is managed.
    """
    name = infrastructure(cluster)
    aro = platform == "aro"
    group = f"aro-{name}" if aro else f"{name}-rg"
    return {
        "cloud": "AzurePublicCloud", "tenantId": TENANT, "subscriptionId": SUBSCRIPTION, "resourceGroup": group,
        "location": REGION, "vnetName": f"{cluster}-vnet" if aro else f"{name}-vnet",
        "vnetResourceGroup": f"{cluster}-network-rg" if aro else group,
        "subnetName": "worker-subnet" if aro else f"{name}-worker-subnet", "securityGroupName": f"{name}-nsg",
        "routeTableName": f"{name}-node-routetable", "useManagedIdentityExtension": True, "vmType": "standard",
        "loadBalancerSku": "standard", "useInstanceMetadata": True,
    }


def nodes(cluster: str, number: int, platform: str = "azure") -> list[Object]:
    """What lab-node registers."""
    group = cloud_conf(cluster, platform)["resourceGroup"]
    found = []
    for index, name in enumerate([*control_plane(cluster), *workers(cluster)]):
        roles = ["master", "control-plane"] if name in control_plane(cluster) else ["worker"]
        zone = f"{REGION}-{index % 3 + 1}"
        found.append({
            "name": name, "roles": roles, "address": f"10.{number}.0.{10 + index}",
            "providerID": f"azure:///subscriptions/{SUBSCRIPTION}/resourceGroups/{group}/providers/"
                          f"Microsoft.Compute/virtualMachines/{name}",
            "labels": {
                "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64", "kubernetes.io/hostname": name,
                "node.openshift.io/os_id": "rhel", "topology.kubernetes.io/region": REGION,
                "topology.kubernetes.io/zone": zone, "node.kubernetes.io/instance-type": "Standard_D8s_v5",
            },
        })
    return found


def objects(cluster: str, openshift: str, platform: str = "azure") -> list[tuple[Object, Object | None]]:
    """(object, status) in the order of creation, of the OpenShift version named."""
    found: list[tuple[Object, Object | None]] = [
        (_object("v1", "Namespace", namespace), None) for namespace in NAMESPACES
    ]

    def add(obj: Object, status: Object | None = None) -> None:
        found.append((obj, status))

    name, domain = infrastructure(cluster), base_domain(cluster)
    conf = cloud_conf(cluster, platform)
    azure = {"resourceGroupName": conf["resourceGroup"], "networkResourceGroupName": conf["vnetResourceGroup"],
             "cloudName": "AzurePublicCloud"}
    add(_object("config.openshift.io/v1", "Infrastructure", "cluster", spec={
        "cloudConfig": {"name": "cloud-provider-config", "key": "config"},
        "platformSpec": {"type": "Azure"}}), {
        "infrastructureName": name, "platform": "Azure",
        "platformStatus": {"type": "Azure", "azure": azure},
        "apiServerURL": f"https://api.{domain}:6443", "apiServerInternalURI": f"https://api-int.{domain}:6443",
        "etcdDiscoveryDomain": "", "controlPlaneTopology": "HighlyAvailable", "infrastructureTopology": "HighlyAvailable",
        "cpuPartitioning": "None"})
    add(_object("config.openshift.io/v1", "Ingress", "cluster", spec={"domain": apps_domain(cluster)}))
    add(_object("config.openshift.io/v1", "DNS", "cluster", spec={"baseDomain": domain}))
    add(_object("config.openshift.io/v1", "Proxy", "cluster", spec={"trustedCA": {"name": ""}}), {})
    add(_object("config.openshift.io/v1", "APIServer", "cluster", spec={}))
    add(_object("config.openshift.io/v1", "FeatureGate", "cluster", spec={}))
    add(_object("config.openshift.io/v1", "Network", "cluster", spec={
        "clusterNetwork": [{"cidr": "10.128.0.0/14", "hostPrefix": 23}], "serviceNetwork": ["172.30.0.0/16"],
        "networkType": "OVNKubernetes"}))
    add(_object("operator.openshift.io/v1", "CloudCredential", "cluster", spec={"credentialsMode": "", "managementState": "Managed"}))
    stamp = "2026-10-01T08:00:00Z"
    add(_object("config.openshift.io/v1", "ClusterVersion", "version", spec={
        "clusterID": CLUSTER_ID, "channel": f"stable-{openshift.rpartition('.')[0]}"}), {
        "desired": {"version": openshift, "image": f"quay.io/openshift-release-dev/ocp-release:{openshift}-x86_64"},
        "history": [{"state": "Completed", "version": openshift, "startedTime": stamp, "completionTime": stamp,
                     "image": f"quay.io/openshift-release-dev/ocp-release:{openshift}-x86_64", "verified": False}],
        "observedGeneration": 1, "versionHash": "lab", "availableUpdates": [],
        "conditions": [
            {"type": "Available", "status": "True", "lastTransitionTime": stamp, "message": f"Done applying {openshift}"},
            {"type": "Progressing", "status": "False", "lastTransitionTime": stamp,
             "message": f"Cluster version is {openshift}"},
        ]})
    for operator in CLUSTER_OPERATORS:  # OLM's own, which it writes anew only after some seconds
        add(_object("config.openshift.io/v1", "ClusterOperator", operator, spec={}), {
            "versions": [{"name": "operator", "version": openshift}], "conditions": [
                {"type": kind, "status": status, "lastTransitionTime": stamp}
                for kind, status in (("Available", "True"), ("Progressing", "False"), ("Degraded", "False"), ("Upgradeable", "True"))]})
    add(_object("v1", "ConfigMap", "cloud-conf", "openshift-cloud-controller-manager",
                data={"cloud.conf": json.dumps(conf, indent=1)}))
    pull_secret = {"auths": {"registry.redhat.io": {"auth": base64.b64encode(b"lab:lab").decode()}}}
    add(_object("v1", "Secret", "pull-secret", "openshift-config", type="kubernetes.io/dockerconfigjson",
                stringData={".dockerconfigjson": json.dumps(pull_secret)}))
    add(_object("v1", "ConfigMap", "user-ca-bundle", "openshift-config", data={"ca-bundle.crt": ""}))
    for role in ("master", "worker"):
        add(_object("machineconfiguration.openshift.io/v1", "MachineConfig", f"00-{role}", spec={
            "config": {"ignition": {"version": "3.4.0"}}}))
        found[-1][0]["metadata"]["labels"] = {"machineconfiguration.openshift.io/role": role}
        add(_object("machineconfiguration.openshift.io/v1", "MachineConfigPool", role, spec={
            "machineConfigSelector": {"matchLabels": {"machineconfiguration.openshift.io/role": role}},
            "nodeSelector": {"matchLabels": {f"node-role.kubernetes.io/{role}": ""}}, "paused": False}))
        found[-1][0]["metadata"]["labels"] = {f"pools.operator.machineconfiguration.openshift.io/{role}": ""}
    add(_object("operators.coreos.com/v1", "OLMConfig", "cluster", spec={"features": {"disableCopiedCSVs": False}}))
    add(_object("operators.coreos.com/v1", "OperatorGroup", "olm-operators", OLM_NAMESPACE,
                spec={"targetNamespaces": [OLM_NAMESPACE]}))
    add(_object("operators.coreos.com/v1", "OperatorGroup", "global-operators", "openshift-operators", spec={}))
    add(_object("scheduling.k8s.io/v1", "PriorityClass", "openshift-user-critical", value=1000000000,
                description="System priority class for user workloads that are critical"))
    if platform == "aro":
        add(_object("aro.openshift.io/v1alpha1", "Cluster", "cluster", spec={
            "azEnvironment": "AzurePublicCloud", "location": REGION, "infraId": name, "domain": domain,
            "clusterResourceGroupId": f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{conf['resourceGroup']}"}))
    return found


def own_objects(cluster: str, number: int, platform: str, login: dict[str, str]) -> list[Object]:
    """What differs from lab to lab, so that it is no part of the kept seed; ``login``: the cluster's principal at Azure."""
    conf = cloud_conf(cluster, platform)
    index = _object("operators.coreos.com/v1alpha1", "CatalogSource", "redhat-operators", "openshift-marketplace", spec={
        "sourceType": "grpc", "address": f"127.{number}.0.3:50051", "displayName": "Red Hat Operators", "publisher": "Red Hat",
        "priority": -100})
    index["metadata"]["annotations"] = {"lab.confidential.containers/stand-in": "lab-catalog"}
    root = _object("v1", "Secret", "azure-credentials", "kube-system", stringData={
        "azure_client_id": login["client_id"], "azure_client_secret": login["secret"], "azure_tenant_id": login["tenant"],
        "azure_subscription_id": SUBSCRIPTION, "azure_region": conf["location"], "azure_resource_prefix": infrastructure(cluster),
        "azure_resourcegroup": conf["resourceGroup"]})
    root["metadata"]["annotations"] = {"cloudcredential.openshift.io/mode": "passthrough"}  # for the Cloud Credential Operator
    return [index, root]
