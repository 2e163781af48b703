"""Deployment and Service that the trustee operator makes of a KbsConfig (reference/trustee.md 4, operators.md 2.3)."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

from lab.releases import STAND_IN, Trustee

Object = dict[str, Any]

DEPLOYMENT, SERVICE = "trustee-deployment", "kbs-service"
BASE = "/opt/confidential-containers"
COMMAND = ["/usr/local/bin/kbs", "--config-file", "/etc/kbs-config/kbs-config.toml"]
LABELS = {"app": "kbs"}
VERSIONS = "kbs.confidentialcontainers.org/configmap-versions"


class Missing(ValueError):
    """A name that the spec must give and does not, in the operator's words."""


@dataclass(frozen=True)
class Mount:
    """A ConfigMap or Secret and where it is mounted; with ``sub_path`` only that key, as a file.

    ``converted``: mounted in the init container only, which copies it.
    """

    kind: str
    name: str
    volume: str
    path: str
    sub_path: str = ""
    converted: bool = False


@dataclass(frozen=True)
class Layout:
    """Where the inputs of the KBS are: (path, key) each, with an empty key for the whole directory."""

    empty: dict[str, str]  # volume -> path of what is neither ConfigMap nor Secret
    values: tuple[str, str]
    resource_policy: tuple[str, str]
    cpu_policy: tuple[str, str]
    gpu_policy: tuple[str, str]
    resources: str
    converted: bool = False


_POLICIES, _STORAGE = f"{BASE}/attestation-service/policies/opa", f"{BASE}/storage"
_STORED_POLICIES = f"{_STORAGE}/attestation_service_policy"
_FILES = Layout(
    empty={"confidential-containers": BASE, "default": f"{BASE}/kbs/repository/default"},
    values=(f"{BASE}/rvps/reference-values", ""),
    resource_policy=(f"{BASE}/opa", ""),
    cpu_policy=(f"{_POLICIES}/default_cpu.rego", "default_cpu.rego"),
    gpu_policy=(f"{_POLICIES}/default_gpu.rego", "default_gpu.rego"),
    resources=f"{BASE}/kbs/repository/default",
)
LAYOUTS: dict[str, Layout] = {
    "directories": replace(_FILES, cpu_policy=(_POLICIES, "")),
    "files": _FILES,
    "storage": Layout(
        empty={"base-storage-dir": _STORAGE, "attestation-policy-dir": _STORED_POLICIES,
               "resource-policy-dir": f"{_STORAGE}/kbs", "repository-dir": f"{_STORAGE}/repository",
               "rvps-dir": f"{_STORAGE}/local_json"},
        values=(f"{_STORAGE}/local_json/reference_value", "reference_value"),
        resource_policy=(f"{_STORAGE}/kbs/resource-policy.rego", "resource-policy.rego"),
        cpu_policy=(f"{_STORED_POLICIES}/default_cpu.rego", "default_cpu.rego"),
        gpu_policy=(f"{_STORED_POLICIES}/default_gpu.rego", "default_gpu.rego"),
        resources="/tmp/kbs-secrets",
        converted=True,
    ),
}


def cached_certificates(spec: Object, release: Trustee) -> list[Object]:
    """``{secretName, mountPath}`` of the local certificate caches."""
    cache = spec.get("kbsLocalCertCacheSpec") or {}
    if release.cert_cache == "one":
        return [cache] if cache.get("secretName") else []
    return list(cache.get("secrets") or [])


def wanted_mounts(spec: Object, release: Trustee) -> list[Mount]:
    """Every ConfigMap and Secret that the spec names, in the order in which the operator looks for them.

    Raises :class:`Missing` where a mandatory name is not given. An empty kbsDeploymentType means microservices.
    """
    found: list[Mount] = []
    layout = LAYOUTS[release.layout]

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
    add("ConfigMap", "kbsRvpsRefValuesConfigMapName", "reference-values", *layout.values, needed=release.values_needed)
    volume = "resource-policy" if layout.converted else "opa"
    add("ConfigMap", "kbsResourcePolicyConfigMapName", volume, *layout.resource_policy)
    add("ConfigMap", "kbsAttestationPolicyConfigMapName", "attestation-policy", *layout.cpu_policy)
    if release.gpu_policy:
        add("ConfigMap", "kbsGpuAttestationPolicyConfigMapName", "attestation-policy-gpu", *layout.gpu_policy)
    tdx = (spec.get("tdxConfigSpec") or {}).get("kbsTdxConfigMapName")
    if tdx:
        found.append(Mount("ConfigMap", tdx, "qplconf", "/etc/sgx_default_qcnl.conf", "sgx_default_qcnl.conf"))
    for name in spec.get("kbsSecretResources") or []:
        found.append(Mount("Secret", name, name, f"{layout.resources}/{name}", converted=layout.converted))
    for entry in cached_certificates(spec, release):
        path = entry.get("mountPath") or release.cert_cache_path
        found.append(Mount("Secret", entry["secretName"], entry["secretName"], path))
    return found


def references(spec: Object, release: Trustee) -> set[tuple[str, str]]:
    """(kind, name) of all the spec names, complete or not: what wakes a reconciliation."""
    found: set[tuple[str, str]] = set()
    for field, value in spec.items():
        if isinstance(value, str) and field.endswith(("ConfigMapName", "SecretName")):
            found.add(("ConfigMap" if field.endswith("ConfigMapName") else "Secret", value))
    tdx = (spec.get("tdxConfigSpec") or {}).get("kbsTdxConfigMapName")
    found.update([("ConfigMap", tdx)] if tdx else [])
    found.update(("Secret", name) for name in spec.get("kbsSecretResources") or [])
    found.update(("Secret", entry["secretName"]) for entry in cached_certificates(spec, release))
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


def ordered_environment(entries: list[Object]) -> list[Object]:
    """The variables as 1.2 writes them: by name, what the spec gives before the proxy's."""
    found: dict[str, Object] = {}
    for entry in entries:
        found.setdefault(entry["name"], entry)
    return [found[name] for name in sorted(found)]


def config_versions(spec: Object, config_maps: dict[str, Object]) -> str:
    """``name:resourceVersion`` of the ConfigMaps that the KBS reads: a change of any rolls the pods (1.2)."""
    fields = ("kbsConfigMapName", "kbsRvpsRefValuesConfigMapName", "kbsAttestationPolicyConfigMapName",
              "kbsGpuAttestationPolicyConfigMapName", "kbsResourcePolicyConfigMapName")
    names = [spec[field] for field in fields if spec.get(field) in config_maps]
    return ",".join(f"{name}:{config_maps[name]['metadata']['resourceVersion']}" for name in names)


def pod_spec(spec: Object, release: Trustee, image: str, env: list[Object], operator_image: str = "") -> Object:
    """The pod of ``trustee-deployment`` in one piece (AllInOneDeployment). Raises :class:`Missing`."""
    layout = LAYOUTS[release.layout]
    volumes: list[Object] = [{"name": name, "emptyDir": {"medium": "Memory"}} for name in layout.empty]
    mounts: list[Object] = [{"name": name, "mountPath": path} for name, path in layout.empty.items()]
    converted: list[Object] = []
    seen = set()
    for mount in wanted_mounts(spec, release):
        source = {"configMap": {"name": mount.name}} if mount.kind == "ConfigMap" else {
            "secret": {"secretName": mount.name}
        }
        if mount.volume not in seen:
            volumes.append({"name": mount.volume, **source})
            seen.add(mount.volume)
        entry: Object = {"name": mount.volume, "mountPath": mount.path}
        if mount.sub_path:
            entry["subPath"] = mount.sub_path
        (converted if mount.converted else mounts).append(entry)
    claim = (spec.get("ibmSEConfigSpec") or {}).get("certStorePvc")
    if claim:
        volumes.append({"name": "ibmse", "persistentVolumeClaim": {"claimName": claim}})
        mounts.append({"name": "ibmse", "mountPath": "/opt/confidential-containers/ibmse"})
    security = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {
        "name": "kbs",
        "image": image,
        "imagePullPolicy": "Always",
        "command": COMMAND,
        "env": env,
        "ports": [{"containerPort": 8080, "name": "kbs", "protocol": "TCP"}],
        "securityContext": security,
        "volumeMounts": mounts,
    }
    pod: Object = {"containers": [container], "volumes": volumes}
    if layout.converted:
        if not operator_image:
            raise Missing("OPERATOR_IMAGE_NAME environment variable must be set (required for secret-converter init "
                          "container)")
        pod["initContainers"] = [{
            "name": "secret-converter",
            "image": operator_image,
            "command": ["/secret-converter"],
            "securityContext": security,
            "volumeMounts": [*mounts, *converted],
        }]
    return pod


def replicas_of(spec: Object) -> int:
    """How many pods the spec wants."""
    replicas = (spec.get("KbsDeploymentSpec") or {}).get("replicas")
    return 1 if replicas is None else int(replicas)


def deployment(namespace: str, spec: Object, pod: Object, versions: str = "", owner: Object | None = None) -> Object:
    """Deployment ``trustee-deployment``; up to 1.0 it has no owner."""
    template: Object = {"metadata": {"labels": dict(LABELS)}, "spec": pod}
    if versions:
        template["metadata"]["annotations"] = {VERSIONS: versions}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": DEPLOYMENT,
            "namespace": namespace,
            "labels": dict(LABELS),
            "annotations": {STAND_IN: "lab-trustee-operator"},
            **({"ownerReferences": [owner]} if owner else {}),
        },
        "spec": {
            "replicas": replicas_of(spec),
            "selector": {"matchLabels": dict(LABELS)},
            "template": template,
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
