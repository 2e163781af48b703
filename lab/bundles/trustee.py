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
    crds = [kbsconfig(release), trusteeconfig()]
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
    """clusterPermissions of the operator's ServiceAccount, 1.0 and 1.1."""
    kinds = ("kbsconfigs", "trusteeconfigs")
    rules = [
        rule("", "configmaps, secrets", FULL),
        rule("", "services", FULL),
        rule("apps", "deployments", FULL),
        rule("", "namespaces", "get, update"),
        rule(GROUP, ", ".join(kinds), FULL),
        rule(GROUP, ", ".join(f"{kind}/finalizers" for kind in kinds), "update"),
        rule(GROUP, ", ".join(f"{kind}/status" for kind in kinds), "get, patch, update"),
        rule("config.openshift.io", "proxies", "get, list, watch"),
        rule("authentication.k8s.io", "tokenreviews", "create"),
        rule("authorization.k8s.io", "subjectaccessreviews", "create"),
    ]
    if release.routes:
        rules.append(rule("route.openshift.io", "routes", FULL))
    return rules


def _manager(release: Trustee) -> dict[str, Any]:
    labels = {"control-plane": "controller-manager"}
    image = pinned("trustee", release.version)

    def probe(path: str, delay: int, period: int) -> dict[str, Any]:
        return {"httpGet": {"path": path, "port": 8081}, "initialDelaySeconds": delay, "periodSeconds": period}

    container = {
        "name": "manager",
        "image": pinned("trustee-operator", release.version),
        "command": ["/manager"],
        "args": ["--metrics-bind-address=:8443", "--leader-elect", "--health-probe-bind-address=:8081"],
        "env": [
            {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
            *env(
                KBS_IMAGE_NAME=image,
                KBS_IMAGE_NAME_MICROSERVICES=image,
                AS_IMAGE_NAME=image,
                RVPS_IMAGE_NAME=image,
            ),
        ],
        "livenessProbe": probe("/healthz", 15, 20),
        "readinessProbe": probe("/readyz", 5, 10),
        "resources": resources("500m/128Mi", "10m/64Mi"),
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
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
