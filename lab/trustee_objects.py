"""Deployment and Service that the trustee operator 1.0 makes of a KbsConfig (reference/trustee.md 4, operators.md 2.3)."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from lab.releases import STAND_IN

Object = dict[str, Any]

DEPLOYMENT, SERVICE = "trustee-deployment", "kbs-service"
BASE = "/opt/confidential-containers"
COMMAND = ["/usr/local/bin/kbs", "--config-file", "/etc/kbs-config/kbs-config.toml"]
CERT_CACHE = "/etc/kbs/certs"
LABELS = {"app": "kbs"}


class Missing(ValueError):
    """A name that the spec must give and does not, in the operator's words."""


@dataclass(frozen=True)
class Mount:
    """A ConfigMap or Secret and where it is mounted; with ``sub_path`` only that key, as a file."""

    kind: str
    name: str
    volume: str
    path: str
    sub_path: str = ""


def wanted_mounts(spec: Object) -> list[Mount]:
    """Every ConfigMap and Secret that the spec names, in the order in which the operator looks for them.

    Raises :class:`Missing` where a mandatory name is not given. An empty kbsDeploymentType means microservices.
    """
    found: list[Mount] = []

    def add(kind: str, field: str, volume: str, path: str, sub_path: str = "", needed: bool = False) -> None:
        name = spec.get(field) or ""
        if name:
            found.append(Mount(kind, name, volume, path, sub_path))
        elif needed:
            raise Missing(f"{kind} name hasn't been provided for volume {volume}")

    add("ConfigMap", "kbsConfigMapName", "kbs-config", "/etc/kbs-config", needed=True)
    add("Secret", "kbsAuthSecretName", "auth-secret", "/etc/auth-secret", needed=True)
    if spec.get("kbsHttpsKeySecretName") and spec.get("kbsHttpsCertSecretName"):
        add("Secret", "kbsHttpsKeySecretName", "https-key", "/etc/https-key")
        add("Secret", "kbsHttpsCertSecretName", "https-cert", "/etc/https-cert")
    if spec.get("kbsAttestationKeySecretName") and spec.get("kbsAttestationCertSecretName"):
        add("Secret", "kbsAttestationKeySecretName", "attestation-key", "/etc/attestation-key")
        add("Secret", "kbsAttestationCertSecretName", "attestation-cert", "/etc/attestation-cert")
    if spec.get("kbsDeploymentType") != "AllInOneDeployment":
        add("ConfigMap", "kbsAsConfigMapName", "as-config", "/etc/as-config", needed=True)
        add("ConfigMap", "kbsRvpsConfigMapName", "rvps-config", "/etc/rvps-config", needed=True)
    add("ConfigMap", "kbsRvpsRefValuesConfigMapName", "reference-values", f"{BASE}/rvps/reference-values", needed=True)
    add("ConfigMap", "kbsResourcePolicyConfigMapName", "opa", f"{BASE}/opa")
    add("ConfigMap", "kbsAttestationPolicyConfigMapName", "attestation-policy",
        f"{BASE}/attestation-service/policies/opa/default_cpu.rego", "default_cpu.rego")
    tdx = (spec.get("tdxConfigSpec") or {}).get("kbsTdxConfigMapName")
    if tdx:
        found.append(Mount("ConfigMap", tdx, "qplconf", "/etc/sgx_default_qcnl.conf", "sgx_default_qcnl.conf"))
    for name in spec.get("kbsSecretResources") or []:
        found.append(Mount("Secret", name, name, f"{BASE}/kbs/repository/default/{name}"))
    for entry in (spec.get("kbsLocalCertCacheSpec") or {}).get("secrets") or []:
        found.append(Mount("Secret", entry["secretName"], entry["secretName"], entry.get("mountPath") or CERT_CACHE))
    return found


def references(spec: Object) -> set[tuple[str, str]]:
    """(kind, name) of all the spec names, complete or not: what wakes a reconciliation."""
    found: set[tuple[str, str]] = set()
    for field, value in spec.items():
        if isinstance(value, str) and field.endswith(("ConfigMapName", "SecretName")):
            found.add(("ConfigMap" if field.endswith("ConfigMapName") else "Secret", value))
    tdx = (spec.get("tdxConfigSpec") or {}).get("kbsTdxConfigMapName")
    found.update([("ConfigMap", tdx)] if tdx else [])
    found.update(("Secret", name) for name in spec.get("kbsSecretResources") or [])
    found.update(("Secret", entry["secretName"])
                 for entry in (spec.get("kbsLocalCertCacheSpec") or {}).get("secrets") or [])
    return found


def environment(spec: Object, proxy: Object | None, shuffle: random.Random | None = None) -> list[Object]:
    """Environment of the KBS: KbsEnvVars, then the cluster's proxy.

    The operator walks a Go map, so with more than one entry the order differs from pass to pass, and with it the pod
    template; ``shuffle`` gives that order (None: as written).
    """
    entries = [{"name": name, "value": str(value)} for name, value in (spec.get("KbsEnvVars") or {}).items()]
    if shuffle is not None:
        shuffle.shuffle(entries)
    status = (proxy or {}).get("status") or {}
    for field, name in (("httpProxy", "HTTP_PROXY"), ("httpsProxy", "HTTPS_PROXY"), ("noProxy", "NO_PROXY")):
        if status.get(field):
            entries.append({"name": name, "value": status[field]})
    return entries


def pod_spec(spec: Object, image: str, env: list[Object]) -> Object:
    """The pod of ``trustee-deployment`` in one piece (AllInOneDeployment). Raises :class:`Missing`."""
    volumes: list[Object] = [
        {"name": "confidential-containers", "emptyDir": {"medium": "Memory"}},
        {"name": "default", "emptyDir": {"medium": "Memory"}},
    ]
    mounts: list[Object] = [
        {"name": "confidential-containers", "mountPath": BASE},
        {"name": "default", "mountPath": f"{BASE}/kbs/repository/default"},
    ]
    seen = set()
    for mount in wanted_mounts(spec):
        source = {"configMap": {"name": mount.name}} if mount.kind == "ConfigMap" else {
            "secret": {"secretName": mount.name}
        }
        if mount.volume not in seen:
            volumes.append({"name": mount.volume, **source})
            seen.add(mount.volume)
        entry: Object = {"name": mount.volume, "mountPath": mount.path}
        if mount.sub_path:
            entry["subPath"] = mount.sub_path
        mounts.append(entry)
    claim = (spec.get("ibmSEConfigSpec") or {}).get("certStorePvc")
    if claim:
        volumes.append({"name": "ibmse", "persistentVolumeClaim": {"claimName": claim}})
        mounts.append({"name": "ibmse", "mountPath": "/opt/confidential-containers/ibmse"})
    container = {
        "name": "kbs",
        "image": image,
        "imagePullPolicy": "Always",
        "command": COMMAND,
        "env": env,
        "ports": [{"containerPort": 8080, "name": "kbs", "protocol": "TCP"}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": mounts,
    }
    return {"containers": [container], "volumes": volumes}


def deployment(namespace: str, spec: Object, pod: Object) -> Object:
    """Deployment ``trustee-deployment``; it has no owner up to 1.0."""
    replicas = (spec.get("KbsDeploymentSpec") or {}).get("replicas")
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": DEPLOYMENT,
            "namespace": namespace,
            "labels": dict(LABELS),
            "annotations": {STAND_IN: "lab-trustee-operator"},
        },
        "spec": {
            "replicas": 1 if replicas is None else replicas,
            "selector": {"matchLabels": dict(LABELS)},
            "template": {"metadata": {"labels": dict(LABELS)}, "spec": pod},
        },
    }


def service(namespace: str, spec: Object, owner: Object) -> Object:
    """Service ``kbs-service``, owned by the KbsConfig."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": SERVICE,
            "namespace": namespace,
            "annotations": {STAND_IN: "lab-trustee-operator"},
            "ownerReferences": [owner],
        },
        "spec": {
            "type": spec.get("kbsServiceType") or "ClusterIP",
            "selector": dict(LABELS),
            "ports": [{"name": "kbs-port", "port": 8080, "targetPort": 8080, "protocol": "TCP"}],
        },
    }


def is_ready(found: Object | None) -> bool:
    """The operator's rule: at least one replica ready, and as many as wanted."""
    if found is None:
        return False
    ready = (found.get("status") or {}).get("readyReplicas") or 0
    return bool(ready >= 1 and ready == found["spec"].get("replicas"))
