"""The bundle of the trustee operator (reference/operators.md 1.2)."""

from __future__ import annotations

from typing import Any

from lab.bundles.parts import FULL, csv, env, namespaced_permissions, owned, resources, rule
from lab.bundles.trustee_crds import GROUP, kbsconfig, trusteeconfig
from lab.releases import Trustee, pinned

ACCOUNT = "trustee-operator-controller-manager"
WORDS = {
    "KbsConfig": "Deploys a key broker service.",
    "TrusteeConfig": "Deploys Trustee by profile.",
}


def bundle(release: Trustee) -> dict[str, Any]:
    """One bundle of the index (see :func:`lab.bundles.index`)."""
    crds = [kbsconfig(release), *([trusteeconfig(release)] if release.profiles else [])]
    return {
        "name": release.csv,
        "version": release.version,
        "replaces": release.replaces,
        "skip_range": "",
        "csv": _csv(release, crds),
        "objects": crds,
    }


def _csv(release: Trustee, crds: list[dict[str, Any]]) -> dict[str, Any]:
    annotations = {
        "alm-examples": "[]",
        "capabilities": "Basic Install",
        "containerImage": pinned("trustee-operator", release.version),
        "createdAt": release.created,
        "operatorframework.io/suggested-namespace": "trustee-operator-system",
    }
    spec = {
        "displayName": "Red Hat build of Trustee",
        "description": "Lab bundle: the operator's shape, own text.",
        "keywords": ["trustee", "kbs", "attestation"],
        "customresourcedefinitions": {"owned": owned(crds, WORDS)},
        "relatedImages": [
            {"name": name, "image": pinned(name, release.version)} for name in ("trustee-operator", "trustee")
        ],
        "install": {
            "strategy": "deployment",
            "spec": {
                "clusterPermissions": [{"serviceAccountName": ACCOUNT, "rules": cluster_rules(release)}],
                "permissions": [{"serviceAccountName": ACCOUNT, "rules": namespaced_permissions()}],
                "deployments": [_manager(release)],
            },
        },
    }
    return csv(release.csv, release.version, release.replaces, annotations, spec)


def cluster_rules(release: Trustee) -> list[dict[str, Any]]:
    """clusterPermissions of the operator's ServiceAccount."""
    kinds = ("kbsconfigs", "trusteeconfigs") if release.profiles else ("kbsconfigs",)
    rules = [
        rule("", "configmaps, secrets", FULL if release.writes_inputs else "get, list, update, watch"),
        rule("", "services", FULL),
        rule("apps", "deployments", FULL),
        rule("", "namespaces", "get, update"),
        rule(GROUP, ", ".join(kinds), FULL),
        rule(GROUP, ", ".join(f"{kind}/finalizers" for kind in kinds), "update"),
        rule(GROUP, ", ".join(f"{kind}/status" for kind in kinds), "get, patch, update"),
        rule("authentication.k8s.io", "tokenreviews", "create"),
        rule("authorization.k8s.io", "subjectaccessreviews", "create"),
    ]
    if release.proxies:
        rules.append(rule("config.openshift.io", "proxies", "get, list, watch"))
    if release.routes:
        rules.append(rule("route.openshift.io", "routes", FULL))
    if release.claims:
        rules += [
            rule("", "persistentvolumeclaims", "create, delete, get, list, update, watch"),
            rule("", "persistentvolumes", "get, list, watch"),
            rule("config.openshift.io", "apiservers", "get, list, watch"),
        ]
    return rules


def _manager(release: Trustee) -> dict[str, Any]:
    labels = {"control-plane": "controller-manager"}
    image, operator = pinned("trustee", release.version), pinned("trustee-operator", release.version)

    def probe(path: str, delay: int, period: int) -> dict[str, Any]:
        return {"httpGet": {"path": path, "port": 8081}, "initialDelaySeconds": delay, "periodSeconds": period}

    container: dict[str, Any] = {
        "name": "manager",
        "image": operator,
        "command": ["/manager"],
        "args": ["--metrics-bind-address=:8443", "--leader-elect", "--health-probe-bind-address=:8081"],
        "env": [
            {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
            *env(KBS_IMAGE_NAME=image, AS_IMAGE_NAME=image, RVPS_IMAGE_NAME=image),
            *(env(KBS_IMAGE_NAME_MICROSERVICES=image) if release.microservices_image else []),
            *(env(OPERATOR_IMAGE_NAME=operator) if release.layout == "storage" else []),
        ],
        "livenessProbe": probe("/healthz", 15, 20),
        "readinessProbe": probe("/readyz", 5, 10),
        "resources": resources(*release.memory),
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    if release.metrics_port:
        container["ports"] = [{"containerPort": 8443, "name": "https", "protocol": "TCP"}]
    return {
        "name": ACCOUNT,
        "label": labels,
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "strategy": {},
            "template": {
                "metadata": {"annotations": {"kubectl.kubernetes.io/default-container": "manager"}, "labels": labels},
                "spec": {
                    "containers": [container],
                    "securityContext": {"runAsNonRoot": True},
                    "serviceAccountName": ACCOUNT,
                    "terminationGracePeriodSeconds": 10,
                },
            },
        },
    }
