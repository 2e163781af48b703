"""Small pieces that both bundles are made of."""

from __future__ import annotations

from typing import Any

FULL = ["create", "delete", "get", "list", "patch", "update", "watch"]


def rule(groups: str | list[str], resources: str, verbs: list[str] | str,
         names: list[str] | None = None) -> dict[str, Any]:
    """An RBAC rule; resources and verbs may be given as comma lists."""
    found: dict[str, Any] = {
        "apiGroups": [groups] if isinstance(groups, str) else groups,
        "resources": [name.strip() for name in resources.split(",")],
        "verbs": [name.strip() for name in verbs.split(",")] if isinstance(verbs, str) else verbs,
    }
    if names:
        found["resourceNames"] = names
    return found


def namespaced_permissions() -> list[dict[str, Any]]:
    """What every operator-sdk operator needs for leader election."""
    return [
        rule("", "configmaps", FULL),
        rule("coordination.k8s.io", "leases", FULL),
        rule("", "events", "create, patch"),
    ]


def install_modes() -> list[dict[str, Any]]:
    """Own and single namespace only."""
    return [
        {"type": "OwnNamespace", "supported": True},
        {"type": "SingleNamespace", "supported": True},
        {"type": "MultiNamespace", "supported": False},
        {"type": "AllNamespaces", "supported": False},
    ]


def env(**values: str) -> list[dict[str, str]]:
    """Environment of a container."""
    return [{"name": name, "value": value} for name, value in values.items()]


def resources(limits: str = "", requests: str = "") -> dict[str, Any]:
    """Resources from ``cpu/memory`` texts."""
    found: dict[str, Any] = {}
    for name, text in (("limits", limits), ("requests", requests)):
        if text:
            cpu, memory = text.split("/")
            found[name] = {"cpu": cpu, "memory": memory}
    return found


def bound_token() -> tuple[dict[str, Any], dict[str, Any]]:
    """(mount, volume) of a ServiceAccount token for the audience ``openshift`` (identity federation of clouds)."""
    mount = {"name": "bound-sa-token", "mountPath": "/var/run/secrets/openshift/serviceaccount", "readOnly": True}
    token = {"serviceAccountToken": {"audience": "openshift", "path": "token"}}
    return mount, {"name": "bound-sa-token", "projected": {"sources": [token]}}


# OpenAPI pieces
STRING: dict[str, Any] = {"type": "string"}
BOOLEAN: dict[str, Any] = {"type": "boolean"}
INTEGER: dict[str, Any] = {"type": "integer"}


def strings() -> dict[str, Any]:
    """A list of strings."""
    return {"type": "array", "items": dict(STRING)}


def described(schema: dict[str, Any], description: str, **more: Any) -> dict[str, Any]:
    """A copy of a schema with a description and further keywords."""
    return {"description": description, **schema, **more}


def obj(properties: dict[str, Any], required: list[str] | None = None, /, **more: Any) -> dict[str, Any]:
    """An object schema."""
    found: dict[str, Any] = {"type": "object", "properties": properties, **more}
    if required:
        found["required"] = required
    return found


def crd(group: str, kind: str, plural: str, version: str, scope: str, spec: dict[str, Any], status: dict[str, Any],
        columns: list[dict[str, str]] | None = None) -> dict[str, Any]:
    """A CustomResourceDefinition with one version and the status subresource."""
    found: dict[str, Any] = {
        "name": version,
        "served": True,
        "storage": True,
        "schema": {
            "openAPIV3Schema": obj(
                {"apiVersion": dict(STRING), "kind": dict(STRING), "metadata": {"type": "object"},
                 "spec": spec, "status": status}
            )
        },
        "subresources": {"status": {}},
    }
    if columns:
        found["additionalPrinterColumns"] = columns
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "names": {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower()},
            "scope": scope,
            "versions": [found],
        },
    }


def csv(name: str, version: str, replaces: str, annotations: dict[str, str], spec: dict[str, Any]) -> dict[str, Any]:
    """A ClusterServiceVersion; ``spec`` gives what is particular to the operator."""
    return {
        "apiVersion": "operators.coreos.com/v1alpha1",
        "kind": "ClusterServiceVersion",
        "metadata": {"name": name, "namespace": "placeholder", "annotations": annotations},
        "spec": {
            "version": version,
            "replaces": replaces,
            "maturity": "stable",
            "installModes": install_modes(),
            "maintainers": [{"name": "confidential.containers contributors", "email": "nobody@example.test"}],
            "provider": {"name": "confidential.containers lab (stand-in)"},
            **spec,
        },
    }


def owned(crds: list[dict[str, Any]], words: dict[str, str]) -> list[dict[str, str]]:
    """The CSV's list of owned CRDs; ``words`` maps a kind to its description."""
    return [
        {
            "name": entry["metadata"]["name"],
            "version": entry["spec"]["versions"][0]["name"],
            "kind": entry["spec"]["names"]["kind"],
            "displayName": entry["spec"]["names"]["kind"],
            "description": words[entry["spec"]["names"]["kind"]],
        }
        for entry in crds
    ]
