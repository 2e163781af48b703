# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The work of the module initdata_info."""

from __future__ import annotations

from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils import initdata, measurements, releases
from ansible_collections.confidential.containers.plugins.module_utils.arguments import cluster_options
from ansible_collections.confidential.containers.plugins.module_utils.cluster import (
    ApiFailure,
    Cluster,
    Unreachable,
    explain,
)
from ansible_collections.confidential.containers.plugins.module_utils.context import Context
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

ARGUMENT_SPEC: dict[str, Any] = {
    "release": {"type": "str"},
    "encoded": {"type": "str", "aliases": ["annotation"]},
    "toml": {"type": "str"},
    "annotations": {"type": "dict"},
    "pod": {"type": "str"},
    "namespace": {"type": "str"},
    **cluster_options(),
}
SPEC_KWARGS: dict[str, Any] = {
    "required_one_of": [["encoded", "toml", "annotations", "pod"]],
    "mutually_exclusive": [["encoded", "toml", "annotations", "pod"]],
    "required_by": {"pod": ["namespace"]},
}
KEYS = (releases.HYPERVISOR_ANNOTATION, releases.RUNTIME_ANNOTATION)


def run(params: dict[str, Any], context: Context) -> dict[str, Any]:
    """Read a document back into files, digest and registers, with findings."""
    annotations, key = params["annotations"], ""
    if params["pod"]:
        annotations = _annotations(params)
    encoded = params["encoded"] or ""
    if annotations is not None:
        key = next((name for name in KEYS if annotations.get(name)), "")
        if not key:
            return {"changed": False, "found": False, "findings": []}
        encoded = str(annotations[key])
    if params["toml"]:
        toml, encoding = params["toml"].encode(), ""
    else:
        toml, encoding = initdata.decode(encoded)
    parsed = initdata.parse(toml)
    findings = initdata.check(parsed["data"], parsed["algorithm"], parsed["version"])
    if params["release"]:
        findings += _release_findings(releases.parse(params["release"]).osc, encoding, key)
    known = parsed["algorithm"] in initdata.ALGORITHMS
    bindings = measurements.bindings(toml) if known else {}
    return {"changed": False, "found": True, "toml": toml.decode(), "files": parsed["data"], "algorithm": parsed["algorithm"],
            "version": parsed["version"], "encoding": encoding, "annotation_key": key, **bindings, "findings": findings}


def _annotations(params: dict[str, Any]) -> dict[str, Any]:
    cluster = Cluster.from_params(params)
    try:
        pod = cluster.get("v1", "Pod", params["pod"], params["namespace"])
    except (ApiFailure, Unreachable) as error:
        raise explain(f"Pod {params['namespace']}/{params['pod']} cannot be read", error, cluster.server) from error
    if pod is None:
        raise CocoError("The pod's initdata cannot be read", f"there is no pod {params['namespace']}/{params['pod']}",
                        "Name a pod that exists.")
    return pod["metadata"].get("annotations") or {}


def _release_findings(osc: releases.OscRelease, encoding: str, key: str) -> list[dict[str, str]]:
    found = []
    if encoding and encoding != osc.initdata_encoding:
        found.append({"severity": "error", "code": "encoding", "message": f"the text is {encoding}, OSC {osc.name} reads "
                      f"{osc.initdata_encoding}", "hint": "Build it anew with initdata_build for this release."})
    if key and key != osc.initdata_annotation:
        found.append({"severity": "error", "code": "annotation", "message": f"the annotation {key} is ignored by OSC {osc.name}",
                      "hint": f"Use {osc.initdata_annotation}."})
    return found
