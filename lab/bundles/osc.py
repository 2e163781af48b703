"""The bundle of the sandboxed containers operator (reference/operators.md 1.1)."""

from __future__ import annotations

from typing import Any

from lab.bundles.osc_crds import kataconfig, peerpod
from lab.bundles.parts import FULL, bound_token, csv, env, namespaced_permissions, owned, resources, rule
from lab.releases import OSC_NAMESPACE, Osc, pinned

WORDS = {
    "KataConfig": "Installs the kata runtime on worker nodes.",
    "PeerPod": "A cloud instance that belongs to a peer pod.",
}


def bundle(release: Osc) -> dict[str, Any]:
    """One bundle of the index (see :func:`lab.bundles.index`)."""
    crds = [kataconfig(), peerpod()]
    return {
        "name": release.csv,
        "version": release.version,
        "replaces": release.replaces,
        "skip_range": f">=1.1.0 <{release.version}",
        "csv": _csv(release, crds),
        "objects": [*crds, *_extras()],
    }


def _csv(release: Osc, crds: list[dict[str, Any]]) -> dict[str, Any]:
    annotations = {
        "alm-examples": "[]",
        "capabilities": "Seamless Upgrades",
        "containerImage": pinned("osc-operator", release.version),
        "createdAt": release.created,
        "features.operators.openshift.io/cnf": "false",
        "features.operators.openshift.io/disconnected": "true",
        "features.operators.openshift.io/proxy-aware": "false",
        "features.operators.openshift.io/token-auth-aws": "true",
        "features.operators.openshift.io/token-auth-azure": "true",
        "features.operators.openshift.io/token-auth-gcp": "true",
        "olm.skipRange": f">=1.1.0 <{release.version}",
        "operatorframework.io/suggested-namespace": OSC_NAMESPACE,
    }
    spec = {
        "displayName": "OpenShift sandboxed containers Operator",
        "description": "Lab bundle: the operator's shape, own text.",
        "minKubeVersion": "1.28.0",
        "keywords": ["sandboxed-containers", "kata"],
        "customresourcedefinitions": {"owned": owned(crds, WORDS)},
        "relatedImages": [{"name": name, "image": pinned(name, release.version)}
                          for name in ("osc-operator", *(image for _, image in _images(release)))],
        "install": {
            "strategy": "deployment",
            "spec": {
                "clusterPermissions": [{"serviceAccountName": "default", "rules": cluster_rules(release)}],
                "permissions": [{"serviceAccountName": "default", "rules": namespaced_permissions()}],
                "deployments": [_manager(release), _metrics_server(release)],
            },
        },
        "webhookdefinitions": [
            {
                "type": "ValidatingAdmissionWebhook",
                "generateName": "vkataconfig.kb.io",
                "admissionReviewVersions": ["v1"],
                "containerPort": 443,
                "targetPort": 9443,
                "deploymentName": "controller-manager",
                "failurePolicy": "Fail",
                "sideEffects": "None",
                "webhookPath": "/validate-kataconfiguration-openshift-io-v1-kataconfig",
                "rules": [
                    {
                        "apiGroups": ["kataconfiguration.openshift.io"],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE"],
                        "resources": ["kataconfigs"],
                    }
                ],
            }
        ],
    }
    return csv(release.csv, release.version, release.replaces, annotations, spec)


def _images(release: Osc) -> list[tuple[str, str]]:
    """(variable of the manager, short name) of the images that the operator uses."""
    found = [
        ("RELATED_IMAGE_KATA_MONITOR", "osc-monitor"),
        ("RELATED_IMAGE_CAA", "caa"),
        ("RELATED_IMAGE_PEERPODS_WEBHOOK", "peerpods-webhook"),
        ("RELATED_IMAGE_PODVM_BUILDER", "podvm-builder"),
        ("RELATED_IMAGE_PODVM_PAYLOAD", "podvm-payload"),
    ]
    if release.oci_image:
        found.append(("RELATED_IMAGE_PODVM_OCI", "podvm-oci"))
    if release.more_environment:
        found += [("RELATED_IMAGE_MUST_GATHER", "must-gather"), ("RELATED_IMAGE_STORAGE_HELPER", "storage-helper")]
    return found


def cluster_rules(release: Osc) -> list[dict[str, Any]]:
    """clusterPermissions of ServiceAccount ``default``."""
    status = "get, patch, update"
    cc, kata = "confidentialcontainers.org", "kataconfiguration.openshift.io"
    rules = [
        rule("", "pods, pods/finalizers", "get, create, patch, update"),
        rule(cc, "peerpods, pods", "create, patch, update"),
        rule("", "namespaces", "get, update"),
        rule("", "nodes/status", "patch"),
        rule("", "secrets", FULL),
        rule("", "secrets/finalizers", "update"),
        rule("", "secrets/status", status),
        rule(["", "machineconfiguration.openshift.io"],
             "configmaps, containerruntimeconfigs, endpoints, events, machineconfigpools, machineconfigs, nodes, "
             "persistentvolumeclaims, pods, secrets, services, services/finalizers", FULL),
        rule("admissionregistration.k8s.io", "mutatingwebhookconfigurations",
             "create, delete, get, list, update, watch"),
        rule("apps", "daemonsets, deployments, replicasets, statefulsets", FULL),
        rule("apps", "daemonsets/finalizers", "update", ["manager-role"]),
        rule("batch", "jobs", "create, delete, get, list, watch"),
        rule("cloudcredential.openshift.io", "credentialsrequests",
             "create, delete, get, list" if release.reads_accounts else "create, delete"),
        rule(cc, "peerpodconfigs, peerpods", FULL),
        rule(cc, "peerpodconfigs/finalizers, peerpods/finalizers", "update"),
        rule(cc, "peerpodconfigs/status, peerpods/status", status),
        rule("config.openshift.io", "clusterversions, infrastructures", "get, list, watch"),
        rule(kata, "kataconfigs, kataconfigs/finalizers", FULL),
        rule(kata, "kataconfigs/status", status),
        rule("node.k8s.io", "runtimeclasses", FULL),
        rule("security.openshift.io", "securitycontextconstraints", [*FULL, "use"]),
        rule("authentication.k8s.io", "tokenreviews", "create"),
        rule("authorization.k8s.io", "subjectaccessreviews", "create"),
    ]
    if release.reads_accounts:
        rules.append(rule("", "serviceaccounts", "get, list"))
    if release.network_policies:
        rules += [rule("networking.k8s.io", "networkpolicies", "create, delete, update"),
                  rule("", "pods", "get, list, watch")]
    return rules


def _manager(release: Osc) -> dict[str, Any]:
    variables = env(PEERPODS_NAMESPACE=OSC_NAMESPACE,
                    **{name: pinned(image, release.version) for name, image in _images(release)})
    if release.more_environment:
        variables += env(TP_KATA_DAEMONSET="false")
    container: dict[str, Any] = {
        "name": "manager",
        "image": pinned("osc-operator", release.version),
        "imagePullPolicy": "Always",
        "command": ["/manager"],
        "args": ["--metrics-bind-address=127.0.0.1:8080", "--leader-elect"],
        "env": variables,
        "envFrom": [
            {"secretRef": {"name": "peer-pods-secret", "optional": True}},
            {"configMapRef": {"name": "peer-pods-cm", "optional": True}},
        ],
        "ports": [{"containerPort": 9443, "name": "webhook-server", "protocol": "TCP"}],
        "resources": resources("200m/256Mi", "100m/40Mi"),
        "volumeMounts": [
            {"name": "cert", "mountPath": "/tmp/k8s-webhook-server/serving-certs", "readOnly": True},
            {"name": "ssh", "mountPath": "/root/.ssh", "readOnly": True},
        ],
    }
    volumes: list[dict[str, Any]] = [
        {"name": "cert", "secret": {"defaultMode": 420, "secretName": "webhook-server-cert"}},
        {"name": "ssh", "secret": {"defaultMode": 384, "secretName": "ssh-key-secret", "optional": True}},
    ]
    containers: list[dict[str, Any]] = [container]
    if release.manager_token:
        mount, volume = bound_token()
        container["volumeMounts"].append(mount)
        volumes.append(volume)
    if release.rbac_proxy:
        containers.insert(0, _rbac_proxy(release))
    labels = {"control-plane": "controller-manager"}
    return {
        "name": "controller-manager",
        "label": labels,
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "containers": containers,
                    "terminationGracePeriodSeconds": 10,
                    "volumes": volumes,
                },
            },
        },
    }


def _rbac_proxy(release: Osc) -> dict[str, Any]:
    return {
        "name": "kube-rbac-proxy",
        "image": pinned("kube-rbac-proxy", release.version),
        "args": ["--secure-listen-address=0.0.0.0:8443", "--upstream=http://127.0.0.1:8080/", "--logtostderr=true"],
        "ports": [{"containerPort": 8443, "name": "https", "protocol": "TCP"}],
        "resources": resources("500m/128Mi", "5m/64Mi"),
    }


def _metrics_server(release: Osc) -> dict[str, Any]:
    labels = {"app": "operator-metrics-server"}
    container = {
        "name": "metrics-server",
        "image": pinned("osc-operator", release.version),
        "command": ["/metrics-server"],
        "ports": [{"containerPort": 8091, "name": "metrics", "protocol": "TCP"}],
        "resources": resources("", "50m/64Mi"),
    }
    return {
        "name": "operator-metrics-server",
        "label": labels,
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "strategy": {},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


def _extras() -> list[dict[str, Any]]:
    """The bundle's other objects. ServiceMonitors and PrometheusRules are left out: no such API in the lab."""

    def service(name: str, port: dict[str, Any], selector: dict[str, str]) -> dict[str, Any]:
        return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
                "spec": {"ports": [port], "selector": selector}}

    manager = {"control-plane": "controller-manager"}
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "prometheus-k8s"},
        "rules": [rule("", "services, endpoints, pods", "get, list, watch")],
    }
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "prometheus-k8s"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "prometheus-k8s"},
        "subjects": [{"kind": "ServiceAccount", "name": "prometheus-k8s", "namespace": "openshift-monitoring"}],
    }

    def config_map(name: str, data: dict[str, str]) -> dict[str, Any]:
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}

    return [
        service("webhook-service", {"port": 443, "protocol": "TCP", "targetPort": 9443}, manager),
        service("controller-manager-metrics-service",
                {"name": "https", "port": 8443, "protocol": "TCP", "targetPort": 8443}, manager),
        service("operator-metrics-service",
                {"name": "metrics", "port": 8091, "protocol": "TCP", "targetPort": "metrics"},
                {"app": "operator-metrics-server"}),
        config_map("manager-config", {"controller_manager_config.yaml": "leaderElection:\n  leaderElect: true\n"}),
        config_map("grafana-dashboard-sandboxed-containers", {"sandboxed-containers.json": "{}"}),
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "monitor"}},
        role,
        binding,
    ]
