# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a KbsConfig refers to, and which pods of the KBS run with less than that. Pure.

A pod reads its configuration, keys and certificates once; other files reach it when the kubelet gets to it, and some (subPath
mounts, the copies of 1.2) never do. So a pod that is older than an object's last change has to be replaced before anything can
be proved. That is read off the cluster, not remembered: a run that was killed in between resumes.
Source: the Trustee operator's volumes, and the live-reload behaviour of the KBS as run.
"""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]

CONFIG_MAPS = ("kbsConfigMapName", "kbsRvpsRefValuesConfigMapName", "kbsAttestationPolicyConfigMapName",
               "kbsGpuAttestationPolicyConfigMapName", "kbsResourcePolicyConfigMapName")
SECRETS = ("kbsAuthSecretName", "kbsHttpsKeySecretName", "kbsHttpsCertSecretName", "kbsAttestationKeySecretName",
           "kbsAttestationCertSecretName")


def references(spec: dict[str, Any]) -> dict[str, list[str]]:
    """The names of the objects that a KbsConfig's spec refers to: ``{"ConfigMap": [...], "Secret": [...]}``."""
    return {"ConfigMap": sorted({spec[field] for field in CONFIG_MAPS if spec.get(field)}),
            "Secret": sorted({spec[field] for field in SECRETS if spec.get(field)} | set(spec.get("kbsSecretResources") or []))}


def changed_at(metadata: dict[str, Any]) -> str:
    """When an object's data last changed (RFC 3339, to the second), by its managed fields; else when it was made."""
    times = [entry["time"] for entry in metadata.get("managedFields") or []
             if entry.get("time") and "f:data" in (entry.get("fieldsV1") or {})]
    return max(times, default=str(metadata.get("creationTimestamp", "")))


def stale_pods(spec: dict[str, Any], metadata: dict[str, list[dict[str, Any]]], pods: list[Object]) -> list[dict[str, Any]]:
    """The pods that are older than something they read: ``[{"name", "because": ["ConfigMap kbs-config-cm", …]}]``.

    metadata: of the namespace's objects by kind. Times have whole seconds; an equal one does not count as older.
    """
    wanted = references(spec)
    times = {f"{kind} {item['name']}": changed_at(item) for kind, items in metadata.items() for item in items
             if item["name"] in wanted.get(kind, [])}
    found = []
    for pod in pods:
        made = str(pod["metadata"].get("creationTimestamp", ""))
        because = sorted(name for name, time in times.items() if time > made)
        if because and not pod["metadata"].get("deletionTimestamp"):
            found.append({"name": pod["metadata"]["name"], "because": because})
    return found
