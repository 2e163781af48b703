"""The lab's operator index: own minimal bundles in the shape of the products' (reference/operators.md 1, 2)."""

from __future__ import annotations

import json
from typing import Any

from lab.bundles import osc, trustee
from lab.releases import OSC, RELEASES, TRUSTEE

CHANNEL = "stable"


def index(release: str) -> list[dict[str, Any]]:
    """The packages of the index for a release pair such as ``1.11/1.0``.

    Each package: ``{"package", "default_channel", "bundles": [...]}``; each bundle, oldest first: ``name``,
    ``version``, ``replaces``, ``skip_range``, ``channel``, ``csv`` (the ClusterServiceVersion), ``objects`` (the rest
    of the bundle: CRDs, Services, ConfigMaps …), ``provided_apis`` and ``properties`` (values are JSON text, as in the
    index).
    Raises ``KeyError`` for a pair that the lab does not know.
    """
    wanted = RELEASES[release]
    return [
        _package("sandboxed-containers-operator", [osc.bundle(OSC[version]) for version in wanted.osc_index]),
        _package("trustee-operator", [trustee.bundle(TRUSTEE[version]) for version in wanted.trustee_index]),
    ]


def _package(name: str, bundles: list[dict[str, Any]]) -> dict[str, Any]:
    for bundle in bundles:
        bundle["channel"] = CHANNEL
        owned = [obj for obj in bundle["objects"] if obj["kind"] == "CustomResourceDefinition"]
        bundle["provided_apis"] = [
            {
                "group": crd["spec"]["group"],
                "version": version["name"],
                "kind": crd["spec"]["names"]["kind"],
                "plural": crd["spec"]["names"]["plural"],
            }
            for crd in owned
            for version in crd["spec"]["versions"]
        ]
        properties: list[tuple[str, dict[str, Any]]] = [
            ("olm.package", {"packageName": name, "version": bundle["version"]})
        ]
        for api in bundle["provided_apis"]:
            properties.append(("olm.gvk", {key: api[key] for key in ("group", "kind", "version")}))
        bundle["properties"] = [{"type": kind, "value": json.dumps(value)} for kind, value in properties]
    return {"package": name, "default_channel": CHANNEL, "bundles": bundles}
