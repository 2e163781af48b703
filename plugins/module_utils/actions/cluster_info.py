# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The work of the module cluster_info: what this cluster is, in few requests. Reads only; of keys only public halves."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils import releases
from ansible_collections.confidential.containers.plugins.module_utils.arguments import cluster_options
from ansible_collections.confidential.containers.plugins.module_utils.cluster import (
    WORKERS,
    ApiFailure,
    Cluster,
    Object,
    UnknownKind,
    Unreachable,
    explain,
)
from ansible_collections.confidential.containers.plugins.module_utils.context import Context
from ansible_collections.confidential.containers.plugins.module_utils.kataconfig import kata_pods
from ansible_collections.confidential.containers.plugins.module_utils.peerpods import (
    FEDERATED,
    PROVIDERS,
    ROOT_MODE,
    ROOT_NAMESPACE,
    ROOT_SECRET,
)
from ansible_collections.confidential.containers.plugins.module_utils.trustee import stale_pods

CONFIG = "config.openshift.io/v1"
OLM = "operators.coreos.com/v1alpha1"
TRUSTEE = "confidentialcontainers.org/v1alpha1"
#: Parts of the section trustee that can be gathered alone.
TRUSTEE_PARTS = ("trustee_certificates", "trustee_auth", "trustee_values", "trustee_config", "trustee_deployment",
                 "trustee_kinds", "trustee_routes")
SECTIONS = ("version", "platform", "ingress", "topology", "cloud_conf", "operators", "trustee", "kata", "peerpods", "credentials",
            "pods", "permissions")
#: What the roles do with a cluster: (verb, group, resource, zone).
NEEDED = (
    ("create", "", "namespaces", "both"), ("patch", "", "configmaps", "both"), ("patch", "", "secrets", "both"),
    ("get", "", "secrets", "both"), ("create", "operators.coreos.com", "operatorgroups", "both"),
    ("patch", "operators.coreos.com", "subscriptions", "both"), ("patch", "operators.coreos.com", "installplans", "both"),
    ("patch", "route.openshift.io", "routes", "hub"), ("patch", "confidentialcontainers.org", "kbsconfigs", "hub"),
    ("patch", "kataconfiguration.openshift.io", "kataconfigs", "spoke"),
    ("delete", "kataconfiguration.openshift.io", "kataconfigs", "spoke"), ("create", "", "pods", "spoke"),
    ("delete", "", "pods", "both"), ("list", "", "nodes", "spoke"),
    ("list", "machineconfiguration.openshift.io", "machineconfigpools", "spoke"),
)

ARGUMENT_SPEC: dict[str, Any] = {
    "gather": {"type": "list", "elements": "str", "choices": [*SECTIONS, *TRUSTEE_PARTS]},
    "release": {"type": "str"},
    "trustee_namespace": {"type": "str", "default": "trustee-operator-system"},
    "osc_namespace": {"type": "str", "default": "openshift-sandboxed-containers-operator"},
    "auth_secret": {"type": "str", "default": "kbs-auth-public-key", "no_log": False},
    "https_certificate_secret": {"type": "str", "default": "kbs-https-certificate", "no_log": False},
    "signer_certificate_secret": {"type": "str", "default": "kbs-attestation-certificate", "no_log": False},
    "kbsconfig": {"type": "str", "default": "kbsconfig"},
    "config_map": {"type": "str", "default": "kbs-config-cm"},
    "reference_values_config_map": {"type": "str", "default": "rvps-reference-values"},
    "verification_secret": {"type": "str", "default": "coco-verification", "no_log": False},
    **cluster_options(),
}
SPEC_KWARGS: dict[str, Any] = {}


def run(params: dict[str, Any], context: Context) -> dict[str, Any]:
    """Gather the wanted sections; ``cluster`` holds only those (and ``server``)."""
    pair = releases.parse(params["release"]) if params.get("release") else None
    cluster = Cluster.from_params(params)
    wanted = params["gather"] or list(SECTIONS)
    parts = TRUSTEE_PARTS if "trustee" in wanted else [name for name in wanted if name in TRUSTEE_PARTS]
    adaptor = pair.osc.caa_name if pair else "osc-caa-ds"
    gatherers: dict[str, Callable[[], dict[str, Any]]] = {
        "version": lambda: version(cluster), "platform": lambda: platform(cluster), "ingress": lambda: ingress(cluster),
        "topology": lambda: topology(cluster), "cloud_conf": lambda: cloud_conf(cluster),
        "operators": lambda: operators(cluster, params), "trustee": lambda: trustee(cluster, params, parts),
        "kata": lambda: kata(cluster), "peerpods": lambda: peerpods(cluster, params["osc_namespace"], adaptor),
        "credentials": lambda: credentials(cluster, params["osc_namespace"]),
        "pods": lambda: pods(cluster), "permissions": lambda: permissions(cluster, pair),
    }
    found: dict[str, Any] = {"server": cluster.server}
    try:
        sections = [name for name in gatherers if name in wanted or (name == "trustee" and parts)]
        with ThreadPoolExecutor(WORKERS) as pool:
            for part in pool.map(lambda name: gatherers[name](), sections):
                found.update(part)
    except (ApiFailure, UnknownKind, Unreachable) as error:
        raise explain("The cluster cannot be examined", error, cluster.server) from error
    return {"changed": False, "cluster": found}


def version(cluster: Cluster) -> dict[str, Any]:
    kubernetes = cluster.request("GET", "/version")["gitVersion"]
    found = cluster.get(CONFIG, "ClusterVersion", "version") or {}
    history = found.get("status", {}).get("history") or []
    done = [item["version"] for item in history if item.get("state") == "Completed"]
    desired = found.get("status", {}).get("desired", {}).get("version", "")
    return {"openshift_version": done[0] if done else desired, "kubernetes_version": kubernetes.lstrip("v")}


def platform(cluster: Cluster) -> dict[str, Any]:
    found = (cluster.get(CONFIG, "Infrastructure", "cluster") or {}).get("status", {})
    status = found.get("platformStatus") or {}
    kind = status.get("type") or found.get("platform") or ""
    azure = status.get("azure") or {}
    aro = cluster.get("aro.openshift.io/v1alpha1", "Cluster", "cluster") is not None
    return {"platform": kind, "aro": aro, "infrastructure_name": found.get("infrastructureName", ""),
            "resource_group": azure.get("resourceGroupName", ""), "region": (status.get("aws") or {}).get("region", "")}


def ingress(cluster: Cluster) -> dict[str, Any]:
    found = cluster.get(CONFIG, "Ingress", "cluster") or {}
    return {"ingress_domain": found.get("spec", {}).get("domain", "")}


def topology(cluster: Cluster) -> dict[str, Any]:
    nodes = cluster.list("v1", "Node")

    def role(name: str) -> list[str]:
        label = f"node-role.kubernetes.io/{name}"
        return sorted(n["metadata"]["name"] for n in nodes if label in (n["metadata"].get("labels") or {}))

    pools = cluster.list("machineconfiguration.openshift.io/v1", "MachineConfigPool")
    workers = next((p for p in pools if p["metadata"]["name"] == "worker"), {})
    converged = len(pools) == 2 and workers.get("status", {}).get("machineCount", 1) == 0
    return {
        "topology": {"control_plane": sorted(set(role("master")) | set(role("control-plane"))), "workers": role("worker"),
                     "converged": converged},
        "nodes": [{"name": n["metadata"]["name"], "labels": n["metadata"].get("labels") or {}} for n in nodes],
        "pools": [_pool(p) for p in pools],
    }


def _pool(pool: Object) -> dict[str, Any]:
    conditions = {c["type"]: c["status"] for c in pool.get("status", {}).get("conditions") or []}
    return {"name": pool["metadata"]["name"], "paused": bool(pool.get("spec", {}).get("paused")),
            "degraded": conditions.get("Degraded") == "True", "updated": conditions.get("Updated") == "True",
            "machine_count": pool.get("status", {}).get("machineCount", 0)}


def cloud_conf(cluster: Cluster) -> dict[str, Any]:
    found = cluster.get("v1", "ConfigMap", "cloud-conf", "openshift-cloud-controller-manager") or {}
    text = (found.get("data") or {}).get("cloud.conf", "")
    try:
        document = json.loads(text) if text else None
    except ValueError:
        document = None
    secret = ("aadClientSecret", "aadClientCertPassword", "aadClientCertPath")
    known = {key: value for key, value in document.items() if key not in secret} if isinstance(document, dict) else None
    return {"cloud_conf": known}


def operators(cluster: Cluster, params: dict[str, Any]) -> dict[str, Any]:
    def one(namespace: str, package: str) -> dict[str, Any]:
        subscriptions = [s for s in cluster.list(OLM, "Subscription", namespace) if s["spec"].get("name") == package]
        installed = [c for c in cluster.list(OLM, "ClusterServiceVersion", namespace)
                     if c["metadata"]["name"].startswith(package + ".") and c.get("status", {}).get("reason") != "Copied"]
        subscription = subscriptions[0] if subscriptions else {}
        csv = subscription.get("status", {}).get("installedCSV", "")
        current = next((c for c in installed if c["metadata"]["name"] == csv), installed[-1] if installed else {})
        return {"csv": current.get("metadata", {}).get("name", ""), "phase": current.get("status", {}).get("phase", ""),
                "subscription": subscription.get("metadata", {}).get("name", ""),
                "approval": subscription.get("spec", {}).get("installPlanApproval", ""),
                "channel": subscription.get("spec", {}).get("channel", "")}

    return {"operators": {"osc": one(params["osc_namespace"], releases.OSC_PACKAGE),
                          "trustee": one(params["trustee_namespace"], releases.TRUSTEE_PACKAGE)}}


def _decoded(secret: Object | None, *keys: str) -> str:
    data = (secret or {}).get("data") or {}
    for key in keys:
        try:
            text = base64.b64decode(data.get(key, "")).decode()
        except (binascii.Error, UnicodeDecodeError):
            continue
        if text and "PRIVATE" not in text:
            return text
    return ""


def trustee(cluster: Cluster, params: dict[str, Any], parts: Iterable[str]) -> dict[str, Any]:
    """The wanted parts of what the hub holds."""
    namespace = params["trustee_namespace"]

    def get(kind: str, name: str, api: str = "v1") -> Object | None:
        return cluster.get(api, kind, name, namespace)

    found: dict[str, Any] = {}
    if "trustee_certificates" in parts:
        https = get("Secret", params["https_certificate_secret"])
        signer = get("Secret", params["signer_certificate_secret"])
        found |= {"https_certificate": _decoded(https, "certificate", "tls.crt"), "ca": _decoded(https, "ca.crt"),
                  "signer_certificate": _decoded(signer, "token.crt", "tls.crt")}
    if "trustee_auth" in parts:
        auth = get("Secret", params["auth_secret"])
        found |= {"auth_public_key": _decoded(auth, "publicKey", "kbs.pem"),
                  "auth_private_present": "privateKey" in ((auth or {}).get("data") or {})}
    if "trustee_values" in parts:
        values = get("ConfigMap", params["reference_values_config_map"])
        found |= {"reference_values": (values or {}).get("data"),
                  "verification_present": get("Secret", params["verification_secret"]) is not None}
    if "trustee_config" in parts:
        found["config"] = (get("ConfigMap", params["config_map"]) or {}).get("data")
    if "trustee_kinds" in parts:
        found["kinds"] = [
            {"kind": kind, "name": item["metadata"]["name"],
             "generated": any(owner.get("kind") == "TrusteeConfig" for owner in item["metadata"].get("ownerReferences") or [])}
            for kind in ("KbsConfig", "TrusteeConfig") for item in cluster.list(TRUSTEE, kind, namespace)]
    if "trustee_deployment" in parts:
        kbsconfig = get("KbsConfig", params["kbsconfig"], TRUSTEE) or {}
        pods = cluster.list("v1", "Pod", namespace, labels="app=kbs")
        metadata = {kind: cluster.metadata(kind, namespace) for kind in ("ConfigMap", "Secret")} if pods else {}
        found |= {"kbsconfig": kbsconfig.get("spec"), "is_ready": kbsconfig.get("status", {}).get("isReady"),
                  "stale_pods": stale_pods(kbsconfig.get("spec") or {}, metadata, pods),
                  "deployed": get("Deployment", "trustee-deployment", "apps/v1") is not None}
    if "trustee_routes" in parts:
        routes = cluster.list("route.openshift.io/v1", "Route", namespace)
        found["routes"] = [{"name": r["metadata"]["name"], "host": r.get("spec", {}).get("host", ""),
                            "termination": (r.get("spec", {}).get("tls") or {}).get("termination", "")} for r in routes]
    return {"trustee": found}


def kata(cluster: Cluster) -> dict[str, Any]:
    configs = cluster.list("kataconfiguration.openshift.io/v1", "KataConfig")
    found = configs[0] if configs else None
    classes = sorted(c["metadata"]["name"] for c in cluster.list("node.k8s.io/v1", "RuntimeClass"))
    known = None
    if found is not None:
        known = {"name": found["metadata"]["name"], "spec": found.get("spec"), "status": found.get("status", {}),
                 "deleting": bool(found["metadata"].get("deletionTimestamp"))}
    return {"kataconfig": known, "runtime_classes": classes}


def peerpods(cluster: Cluster, namespace: str, adaptor: str) -> dict[str, Any]:
    def data(name: str) -> dict[str, str] | None:
        found = cluster.get("v1", "ConfigMap", name, namespace)
        return (found.get("data") or {}) if found else None

    daemon_set = cluster.get("apps/v1", "DaemonSet", adaptor, namespace)
    status = (daemon_set or {}).get("status", {})
    values = data("peer-pods-cm")
    provider = PROVIDERS.get((values or {}).get("CLOUD_PROVIDER", ""), PROVIDERS["azure"])
    secret, ssh_key = (cluster.get("v1", "Secret", name, namespace) for name in ("peer-pods-secret", "ssh-key-secret"))
    return {
        "peerpods_cm": values, "image_id": (values or {}).get(provider.image_key, ""), "feature_gates": data("osc-feature-gates"),
        "podvm_image_cm": data(provider.image_config_map),
        "peerpods_secret": {"present": secret is not None, "keys": sorted((secret or {}).get("data") or {})},
        "ssh_key_present": ssh_key is not None,
        "caa": {"present": daemon_set is not None, "desired": status.get("desiredNumberScheduled", 0),
                "ready": status.get("numberReady", 0)},
    }


def credentials(cluster: Cluster, namespace: str) -> dict[str, Any]:
    """By which way peer-pods-secret can come from the cluster; what may not be read is named in ``unseen``.

    Of the Cloud Credential Operator's root Secret only that it is there, and its mode.
    """
    unseen: list[str] = []

    def seen(text: str, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except ApiFailure as error:
            if error.status != 403:
                raise
            unseen.append(text)
            return None

    operator = seen("CloudCredential cluster", lambda: cluster.get("operator.openshift.io/v1", "CloudCredential", "cluster"))
    root = seen(f"Secret {ROOT_NAMESPACE}/{ROOT_SECRET}", lambda: cluster.get("v1", "Secret", ROOT_SECRET, ROOT_NAMESPACE))
    subscriptions = seen(f"Subscriptions of {namespace}", lambda: cluster.list(OLM, "Subscription", namespace)) or []
    variables = {item.get("name") for one in subscriptions if one["spec"].get("name") == releases.OSC_PACKAGE
                 for item in (one["spec"].get("config") or {}).get("env") or []}
    notes = (root or {}).get("metadata", {}).get("annotations") or {}
    return {"credentials_operator": {
        "present": operator is not None, "mode": ((operator or {}).get("spec") or {}).get("credentialsMode", ""),
        "root_secret": root is not None, "root_mode": notes.get(ROOT_MODE, ""), "federated": variables >= set(FEDERATED),
        "unseen": unseen}}


def pods(cluster: Cluster) -> dict[str, Any]:
    return {"kata_pods": kata_pods(cluster.list("v1", "Pod"))}


def permissions(cluster: Cluster, pair: releases.Pair | None) -> dict[str, Any]:
    needed = [*NEEDED]
    if pair and pair.trustee.default_cr == "TrusteeConfig":
        needed.append(("patch", "confidentialcontainers.org", "trusteeconfigs", "hub"))

    def missing(need: tuple[str, str, str, str]) -> dict[str, str] | None:
        verb, group, resource, zone = need
        if cluster.allowed(verb, group, resource):
            return None
        return {"verb": verb, "group": group, "resource": resource, "zone": zone}

    with ThreadPoolExecutor(WORKERS) as pool:
        return {"permissions": {"missing": [item for item in pool.map(missing, needed) if item]}}
