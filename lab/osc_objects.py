"""Objects that the sandboxed containers operator makes, as functions of their inputs (reference/operators.md 3, 4)."""

from __future__ import annotations

import base64
import gzip
from dataclasses import dataclass, field
from typing import Any

from lab.bundles.parts import bound_token
from lab.kube import owner_reference
from lab.releases import OSC, OSC_NAMESPACE, STAND_IN, Osc

Object = dict[str, Any]

KATA_OC = "node-role.kubernetes.io/kata-oc"
MASTER = "node-role.kubernetes.io/master"
WORKER = "node-role.kubernetes.io/worker"
EXTENSION_MC = "50-enable-sandboxed-containers-extension"
KATACONFIG_FINALIZER = "kataconfiguration.openshift.io/finalizer"
RUNTIMECLASS_FINALIZER = "kataconfig.openshift.io/runtime-class-cleanup"
MONITOR = "openshift-sandboxed-containers-monitor"
CAA = "osc-caa-ds"
WEBHOOK = "peer-pods-webhook"
WEBHOOK_SERVICE = "peer-pods-webhook-svc"
WEBHOOK_SECRET = "peer-pods-webhook-svc-secret"
WEBHOOK_CONFIGURATION = "mutating-webhook-configuration"
SCC = "sandboxed-containers-operator-scc"
CREATE_JOB = "osc-podvm-image-creation"
DELETE_JOB = "osc-podvm-image-deletion"
IMAGE_CM = "azure-podvm-image-cm"
REQUEST_API, REQUEST_NAMESPACE = "cloudcredential.openshift.io/v1", "openshift-cloud-credential-operator"
REQUEST, CCO_SECRET, PEER_PODS_SECRET = "openshift-sandboxed-containers-azure", "cco-secret", "peer-pods-secret"
# peer-pods-secret's keys and those of the Cloud Credential Operator's Secret.
CREDENTIALS = {"AZURE_CLIENT_ID": "azure_client_id", "AZURE_CLIENT_SECRET": "azure_client_secret",
               "AZURE_TENANT_ID": "azure_tenant_id", "AZURE_SUBSCRIPTION_ID": "azure_subscription_id"}
# Overhead of the runtime classes: cpu, memory, 1.9 and newer; that of kata-nvidia-gpu is assumed.
RUNTIME_CLASSES = {"kata": ("250m", "350Mi"), "kata-nvidia-gpu": ("250m", "350Mi"), "kata-remote": ("250m", "120Mi")}

# What the operator puts into INITDATA while the confidential gate is off: a document without any key broker.
DEFAULT_INITDATA_TOML = b'''algorithm = "sha384"
version = "0.1.0"

[data]
"aa.toml" = \'\'\'
[token_configs]
\'\'\'
"cdh.toml" = \'\'\'
socket = 'unix:///run/confidential-containers/cdh.sock'
credentials = []

[kbc]
name = "offline_fs_kbc"
url = ""
\'\'\'
'''
DEFAULT_INITDATA = base64.b64encode(gzip.compress(DEFAULT_INITDATA_TOML, mtime=0)).decode()


@dataclass(frozen=True)
class Settings:
    """What the operator's pod was started with."""

    namespace: str = OSC_NAMESPACE
    images: dict[str, str] = field(default_factory=dict)  # KATA_MONITOR, CAA, PEERPODS_WEBHOOK, PODVM_BUILDER …
    extension: str = "sandboxed-containers"
    provider_override: str = ""
    release: Osc = OSC["1.11.1"]


def _meta(name: str, namespace: str | None = None, owner: Object | None = None, **more: Any) -> Object:
    meta: Object = {"name": name, "annotations": {STAND_IN: "lab-osc", **more.pop("annotations", {})}, **more}
    if namespace:
        meta["namespace"] = namespace
    if owner:
        meta["ownerReferences"] = [owner]
    return meta


def machine_config(kataconfig: str, pool: str, extension: str) -> Object:
    """MachineConfig that adds the RHCOS extension to ``pool``."""
    labels = {"machineconfiguration.openshift.io/role": pool, "app": kataconfig}
    return {
        "apiVersion": "machineconfiguration.openshift.io/v1",
        "kind": "MachineConfig",
        "metadata": _meta(EXTENSION_MC, labels=labels),
        "spec": {"config": {"ignition": {"version": "3.2.0"}}, "extensions": [extension]},
    }


def credentials_request(settings: Settings) -> Object:
    """What the operator asks the Cloud Credential Operator for; it has no owner."""
    roles = ["Reader", "Virtual Machine Contributor", "Network Contributor", "Storage Account Contributor"]
    spec: Object = {
        "secretRef": {"name": CCO_SECRET, "namespace": settings.namespace},
        "providerSpec": {"apiVersion": REQUEST_API, "kind": "AzureProviderSpec"},
    }
    if settings.release.gallery_role:
        roles.append("Compute Gallery Artifacts Publisher")
        spec["serviceAccountNames"] = ["default"]
    spec["providerSpec"]["roleBindings"] = [{"role": role} for role in roles]
    return {"apiVersion": REQUEST_API, "kind": "CredentialsRequest", "metadata": _meta(REQUEST, REQUEST_NAMESPACE), "spec": spec}


def peer_pods_secret(settings: Settings, given: Object) -> Object:
    """peer-pods-secret of the Cloud Credential Operator's Secret, to which it belongs."""
    data = given.get("data") or {}
    labels = {"kataconfiguration.openshift.io/credentials-request-based": "true"}
    return {
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": _meta(PEER_PODS_SECRET, settings.namespace, owner_reference(given), labels=labels),
        "data": {key: data.get(source, "") for key, source in CREDENTIALS.items()},
    }


REMOTE_CONFIGS = ("50-kata-remote", "40-worker-kata-remote-config")


def remote_configs(pool: str) -> list[Object]:
    """MachineConfigs that bring CRI-O's handler and kata's configuration for peer pods (1.10 and older)."""
    files = {
        "50-kata-remote": ("/etc/crio/crio.conf.d/50-kata-remote",
                           '[crio.runtime.runtimes.kata-remote]\nruntime_type = "vm"\n'),
        "40-worker-kata-remote-config": ("/opt/kata/configuration-remote.toml",
                                         "[runtime]\ncreate_container_timeout = 900\n"),
    }
    found: list[Object] = []
    for name in REMOTE_CONFIGS:
        path, text = files[name]
        source = f"data:text/plain;charset=utf-8;base64,{base64.b64encode(text.encode()).decode()}"
        content = {"path": path, "mode": 420, "contents": {"source": source}}
        labels = {"machineconfiguration.openshift.io/role": pool, "app": "peerpodconfig-openshift"}
        found.append({
            "apiVersion": "machineconfiguration.openshift.io/v1",
            "kind": "MachineConfig",
            "metadata": _meta(name, labels=labels),
            "spec": {"config": {"ignition": {"version": "3.2.0"}, "storage": {"files": [content]}}},
        })
    return found


def machine_config_pool() -> Object:
    """Pool ``kata-oc``: nodes with the role label, configuration of workers plus its own. It has no owner."""
    return {
        "apiVersion": "machineconfiguration.openshift.io/v1",
        "kind": "MachineConfigPool",
        "metadata": _meta("kata-oc", labels={"pools.operator.machineconfiguration.openshift.io/kata-oc": ""}),
        "spec": {
            "machineConfigSelector": {
                "matchExpressions": [
                    {"key": "machineconfiguration.openshift.io/role", "operator": "In", "values": ["kata-oc", "worker"]}
                ]
            },
            "nodeSelector": {"matchLabels": {KATA_OC: ""}},
        },
    }


def runtime_class(settings: Settings, name: str, node_label: str, owner: Object) -> Object:
    """A RuntimeClass of the release; its handler has its name."""
    cpu, memory = RUNTIME_CLASSES[name]
    meta = _meta(name, owner=owner)
    if settings.release.class_finalizer:
        meta["finalizers"] = [RUNTIMECLASS_FINALIZER]
    return {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": meta,
        "handler": name,
        "overhead": {"podFixed": {"cpu": cpu, "memory": memory}},
        "scheduling": {"nodeSelector": {node_label: ""}},
    }


def security_context_constraints() -> Object:
    """SCC of the monitor."""
    return {
        "apiVersion": "security.openshift.io/v1",
        "kind": "SecurityContextConstraints",
        "metadata": _meta(SCC),
        "allowHostDirVolumePlugin": True,
        "allowHostIPC": False,
        "allowHostNetwork": False,
        "allowHostPID": False,
        "allowHostPorts": False,
        "allowPrivilegedContainer": False,
        "allowPrivilegeEscalation": True,
        "priority": None,
        "allowedCapabilities": None,
        "defaultAddCapabilities": None,
        "readOnlyRootFilesystem": False,
        "requiredDropCapabilities": None,
        "runAsUser": {"type": "RunAsAny"},
        "seLinuxContext": {"type": "MustRunAs", "seLinuxOptions": {"type": "osc_monitor.process"}},
        "fsGroup": {"type": "RunAsAny"},
        "supplementalGroups": {"type": "RunAsAny"},
        "users": [],
        "groups": [],
        "volumes": ["*"],
    }


def monitor(settings: Settings, node_label: str, owner: Object) -> Object:
    """DaemonSet of the kata monitor, port 8090."""
    labels = {"name": MONITOR}
    container = {
        "name": "kata-monitor",
        "image": settings.images["KATA_MONITOR"],
        "imagePullPolicy": "Always",
        "command": ["/usr/bin/kata-monitor", "--listen-address=:8090"],
        "ports": [{"containerPort": 8090, "protocol": "TCP"}],
        "securityContext": {
            "runAsUser": 0,
            "seLinuxOptions": {"type": "osc_monitor.process", "level": "s0"},
        },
        "volumeMounts": [{"name": "sbs", "mountPath": "/run/vc/sbs"}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": _meta(MONITOR, settings.namespace, owner),
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "serviceAccountName": "monitor",
                    "nodeSelector": {node_label: ""},
                    "containers": [container],
                    "volumes": [{"name": "sbs", "hostPath": {"path": "/run/vc/sbs", "type": "DirectoryOrCreate"}}],
                },
            },
        },
    }


def caa_daemonset(settings: Settings, node_label: str, owner: Object, config_version: str = "") -> Object:
    """DaemonSet ``osc-caa-ds``: the whole of peer-pods-secret and peer-pods-cm becomes its environment.

    With ``config_version``, the resourceVersion of peer-pods-cm, an edit of that ConfigMap rolls the pods.
    """
    labels = {"name": CAA}
    container = {
        "name": "caa-pod",
        "image": settings.images["CAA"],
        "imagePullPolicy": "Always",
        "command": ["/usr/local/bin/entrypoint.sh"],
        "securityContext": {"privileged": True, "runAsUser": 0},
        "env": [{"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
        "envFrom": [{"secretRef": {"name": "peer-pods-secret"}}, {"configMapRef": {"name": "peer-pods-cm"}}],
        "volumeMounts": [
            {"name": "auth-json-volume", "mountPath": "/root/containers/", "readOnly": True},
            {"name": "ssh", "mountPath": "/root/.ssh", "readOnly": True},
            {"name": "pods-dir", "mountPath": "/run/peerpod"},
            {"name": "netns", "mountPath": "/run/netns", "mountPropagation": "HostToContainer"},
        ],
    }
    volumes = [
        {"name": "auth-json-volume", "secret": {"secretName": "auth-json-secret", "optional": True}},
        {"name": "ssh", "secret": {"secretName": "ssh-key-secret", "optional": True, "defaultMode": 0o600}},
        {"name": "pods-dir", "hostPath": {"path": "/run/peerpod", "type": "DirectoryOrCreate"}},
        {"name": "netns", "hostPath": {"path": "/run/netns", "type": "DirectoryOrCreate"}},
    ]
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": _meta(CAA, settings.namespace, owner),
        "spec": {
            "selector": {"matchLabels": labels},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
            "template": {
                "metadata": {
                    "labels": labels,
                    **({"annotations": {"peer-pods-cm/version": config_version}} if config_version else {}),
                },
                "spec": {
                    "serviceAccountName": "default",
                    "hostNetwork": True,
                    "nodeSelector": {node_label: ""},
                    "containers": [container],
                    "volumes": volumes,
                },
            },
        },
    }


def auth_json_secret(settings: Settings, pull_secret: Object) -> Object:
    """The cluster's pull secret as the file that the pod VM builder and CAA read."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _meta("auth-json-secret", settings.namespace),
        "type": "Opaque",
        "data": {"auth.json": (pull_secret.get("data") or {}).get(".dockerconfigjson", "")},
    }


def gallery_name(cluster_id: str) -> str:
    """Name of the image gallery: a prefix and the first eight characters of the cluster's id."""
    return f"PodVMGallery_{cluster_id[:8]}"


def image_version(cluster_id: str) -> str:
    """``<number from the cluster's id>.0.1``; Azure wants three integers, each at most 2147483647."""
    return f"{int(cluster_id[:8], 16) % 2147483647}.0.1" if cluster_id else "0.0.1"


def image_config_map(settings: Settings, cluster_id: str, owner: Object) -> Object:
    """``azure-podvm-image-cm`` with its defaults; CONFIDENTIAL_COMPUTE_ENABLED is set by the feature gate."""
    data = {
        "CONFIDENTIAL_COMPUTE_ENABLED": "no",
        "IMAGE_GALLERY_NAME": gallery_name(cluster_id),
        "IMAGE_DEFINITION_NAME": "podvm-image",
        "IMAGE_DEFINITION_PUBLISHER": "RedHat",
        "IMAGE_DEFINITION_OFFER": "OSC-PodVM",
        "IMAGE_DEFINITION_SKU": "OSC-PodVM",
        "IMAGE_DEFINITION_VM_GENERATION": "V2",
        "IMAGE_DEFINITION_OS_TYPE": "Linux",
        "IMAGE_VERSION": image_version(cluster_id),
        "BASE_IMAGE_SKU": "94_gen2",
        "VM_SIZE": "Standard_D2as_v5",
        "BOOT_FIPS": "no",
        "UPDATE_PEERPODS_CM": "yes",
    }
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _meta(IMAGE_CM, settings.namespace, owner if settings.release.owns_image_config else None),
        "data": data,
    }


def image_job(settings: Settings, action: str, cluster_id: str, image_id: str = "") -> Object:
    """The Job that makes (``create``) or removes (``delete``) the pod VM image. It has no owner."""
    variables = {
        "IMAGE_GALLERY_NAME": gallery_name(cluster_id),
        "IMAGE_VERSION": image_version(cluster_id),
    }
    if settings.release.oci_image:
        variables["PODVM_IMAGE_URI"] = f"oci::{settings.images['PODVM_OCI']}"
    if action == "delete":
        variables["IMAGE_ID"] = image_id
    mounts: list[Object] = [
        {"name": "auth-json-volume", "mountPath": "/tmp/regauth", "readOnly": True},
        {"name": "ssh-key-secret", "mountPath": "/root/.ssh", "readOnly": True},
    ]
    volumes: list[Object] = [
        {"name": "auth-json-volume", "secret": {"secretName": "auth-json-secret"}},
        {"name": "ssh-key-secret", "secret": {"secretName": "ssh-key-secret", "optional": True, "defaultMode": 0o600}},
    ]
    if settings.release.job_token:
        mount, volume = bound_token()
        mounts.append(mount)
        volumes.append(volume)
    command = {"create": ["/podvm-builder.sh", "create"], "delete": ["/podvm-builder.sh", "delete", "-f", "-g"]}[action]
    pod: Object = {"restartPolicy": "Never", "volumes": volumes}
    if action == "create" and settings.release.copy_container:
        volumes.append({"name": "payload", "emptyDir": {}})
        mounts.append({"name": "payload", "mountPath": "/payload"})
        pod["initContainers"] = [
            {
                "name": "copy",
                "image": settings.images["PODVM_PAYLOAD"],
                "command": ["/bin/sh", "-c", "cp /podvm-binaries.tar.gz /payload/"],
                "volumeMounts": [{"name": "payload", "mountPath": "/payload"}],
            }
        ]
    config_maps = ("peer-pods-cm", "azure-podvm-image-cm", "aws-podvm-image-cm", "gcp-podvm-image-cm",
                   "libvirt-podvm-image-cm")
    pod["containers"] = [
        {
            "name": action,
            "image": settings.images["PODVM_BUILDER"],
            "imagePullPolicy": "Always",
            "command": command,
            "securityContext": {
                "privileged": True,
                "runAsUser": 0,
                "seLinuxOptions": {"type": "unconfined_t"},
            },
            "env": [{"name": name, "value": value} for name, value in variables.items()],
            "envFrom": [
                {"secretRef": {"name": "peer-pods-secret"}},
                {"secretRef": {"name": "peer-pods-image-creation-secret", "optional": True}},
                *({"configMapRef": {"name": name, "optional": True}} for name in config_maps),
            ],
            "volumeMounts": mounts,
        }
    ]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": _meta(CREATE_JOB if action == "create" else DELETE_JOB, settings.namespace),
        "spec": {
            "parallelism": 1,
            "completions": 1,
            "backoffLimit": 1,
            "template": {"metadata": {"name": f"osc-podvm-image-{action}"}, "spec": pod},
        },
    }


def peer_pods_webhook(settings: Settings) -> list[Object]:
    """Deployment, Service and MutatingWebhookConfiguration of the peer pods webhook; none has an owner."""
    labels = {"app": WEBHOOK}
    certificates = "/tmp/k8s-webhook-server/serving-certs"
    container = {
        "name": WEBHOOK,
        "image": settings.images["PEERPODS_WEBHOOK"],
        "imagePullPolicy": "Always",
        "env": [
            {"name": "PEERPODS_NAMESPACE", "value": settings.namespace},
            {"name": "TARGET_RUNTIMECLASS", "value": "kata-remote"},
            {"name": "POD_VM_EXTENDED_RESOURCE", "value": "kata.peerpods.io/vm"},
        ],
        "ports": [{"containerPort": 9443, "name": "webhook-server", "protocol": "TCP"}],
        "resources": {
            "limits": {"cpu": "500m", "memory": "128Mi"},
            "requests": {"cpu": "10m", "memory": "64Mi"},
        },
        "volumeMounts": [{"name": "cert", "mountPath": certificates, "readOnly": True}],
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _meta(WEBHOOK, settings.namespace, labels=labels),
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "containers": [container],
                    "volumes": [{"name": "cert", "secret": {"secretName": WEBHOOK_SECRET, "defaultMode": 420}}],
                },
            },
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _meta(WEBHOOK_SERVICE, settings.namespace,
                          annotations={"service.beta.openshift.io/serving-cert-secret-name": WEBHOOK_SECRET}),
        "spec": {"ports": [{"port": 443, "protocol": "TCP", "targetPort": 9443}], "selector": labels},
    }
    configuration = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": _meta(WEBHOOK_CONFIGURATION,
                          annotations={"service.beta.openshift.io/inject-cabundle": "true"}),
        "webhooks": [
            {
                "name": "mwebhook.peerpods.io",
                "admissionReviewVersions": ["v1"],
                "clientConfig": {
                    "service": {"name": WEBHOOK_SERVICE, "namespace": settings.namespace, "path": "/mutate-v1-pod"}
                },
                "failurePolicy": "Fail",
                "sideEffects": "None",
                "namespaceSelector": {
                    "matchExpressions": [
                        {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": EXCLUDED_NAMESPACES}
                    ]
                },
                "rules": [
                    {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["pods"]}
                ],
            }
        ],
    }
    return [deployment, service, configuration]


EXCLUDED_NAMESPACES = [
    "kube-node-lease", "kube-public", "kube-system", "openshift", "openshift-apiserver", "openshift-apiserver-operator",
    "openshift-authentication", "openshift-cloud-controller-manager", "openshift-cloud-credential-operator",
    "openshift-cluster-version", "openshift-config", "openshift-config-managed", "openshift-console",
    "openshift-controller-manager", "openshift-dns", "openshift-etcd", "openshift-image-registry", "openshift-infra",
    "openshift-ingress", "openshift-ingress-operator", "openshift-kube-apiserver", "openshift-kube-controller-manager",
    "openshift-kube-scheduler", "openshift-machine-api", "openshift-machine-config-operator", "openshift-marketplace",
    "openshift-monitoring", "openshift-multus", "openshift-network-operator", "openshift-oauth-apiserver",
    "openshift-operator-lifecycle-manager", "openshift-operators", "openshift-ovn-kubernetes",
    "openshift-sandboxed-containers-operator", "openshift-service-ca", "openshift-service-ca-operator",
]


def runtime_log_level(level: str, pool: str) -> Object:
    """ContainerRuntimeConfig for a CRI-O log level other than ``info``."""
    return {
        "apiVersion": "machineconfiguration.openshift.io/v1",
        "kind": "ContainerRuntimeConfig",
        "metadata": _meta("kata-crio-config"),
        "spec": {
            "machineConfigPoolSelector": {
                "matchLabels": {f"pools.operator.machineconfiguration.openshift.io/{pool}": ""}
            },
            "containerRuntimeConfig": {"logLevel": level},
        },
    }
