"""CRDs of the sandboxed containers operator 1.9 and newer: KataConfig, PeerPod (reference/operators.md 2.1)."""

from __future__ import annotations

from typing import Any

from lab.bundles.parts import BOOLEAN, INTEGER, STRING, crd, described, obj, strings

LABEL_SELECTOR = obj(
    {
        "matchExpressions": {
            "type": "array",
            "items": obj({"key": dict(STRING), "operator": dict(STRING), "values": strings()}, ["key", "operator"]),
        },
        "matchLabels": {"type": "object", "additionalProperties": dict(STRING)},
    },
    None,
    **{"nullable": True, "x-kubernetes-map-type": "atomic"},
)


def kataconfig() -> dict[str, Any]:
    """KataConfig v1: cluster scope, only condition type ``InProgress``."""
    spec = obj(
        {
            "kataConfigPoolSelector": {"description": "Workers that get kata; none means all.", **LABEL_SELECTOR},
            "checkNodeEligibility": described(BOOLEAN, "Only nodes that NFD calls able.", default=False),
            "logLevel": described(STRING, "Log level of CRI-O on kata nodes.", default="info"),
            "enablePeerPods": described(BOOLEAN, "Set up peer pods as well.", default=False),
        },
        ["checkNodeEligibility"],
        nullable=True,
    )
    lists = ("installed", "installing", "waitingToInstall", "failedToInstall", "uninstalling", "waitingToUninstall",
             "failedToUninstall")
    condition = {name: dict(STRING) for name in ("type", "status", "reason", "message")}
    condition["lastTransitionTime"] = {**STRING, "format": "date-time"}
    status = obj(
        {
            "runtimeClasses": strings(),
            "kataNodes": obj(
                {"nodeCount": dict(INTEGER), "readyNodeCount": dict(INTEGER), **{name: strings() for name in lists}}
            ),
            "conditions": {
                "type": "array",
                "items": obj(condition, ["lastTransitionTime", "message", "reason", "status", "type"]),
            },
            "waitingForMcoToStart": described(BOOLEAN, "Used by the operator itself.", default=False),
        },
        ["waitingForMcoToStart"],
    )
    columns = [
        {"name": "InProgress", "type": "string", "description": "Is an operation going on",
         "jsonPath": ".status.conditions[?(@.type=='InProgress')].status"},
        {"name": "Completed", "type": "integer", "description": "Nodes with kata",
         "jsonPath": ".status.kataNodes.readyNodeCount"},
        {"name": "Total", "type": "integer", "description": "Nodes that have or will have kata",
         "jsonPath": ".status.kataNodes.nodeCount"},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]
    return crd("kataconfiguration.openshift.io", "KataConfig", "kataconfigs", "v1", "Cluster", spec, status, columns)


def peerpod() -> dict[str, Any]:
    """PeerPod v1alpha1: one cloud VM, made by cloud-api-adaptor (``cleand`` is the product's spelling)."""
    spec = obj({"cloudProvider": dict(STRING), "instanceID": dict(STRING)})
    status = obj({"cleand": dict(BOOLEAN)})
    return crd("confidentialcontainers.org", "PeerPod", "peerpods", "v1alpha1", "Namespaced", spec, status)
