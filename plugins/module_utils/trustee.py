# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Trustee's objects are called, what a KbsConfig refers to, and which pods of the KBS run with less than that. Pure.

A pod reads its configuration, keys and certificates once; other files reach it when the kubelet gets to it, and some (subPath
mounts, the copies of 1.2) never do. So a pod that is older than an object's last change has to be replaced before anything can
be proved. That is read off the cluster, not remembered: a run that was killed in between resumes.
Source: the Trustee operator's volumes, and the live-reload behaviour of the KBS as run.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError
from ansible_collections.confidential.containers.plugins.module_utils.releases import TrusteeRelease

Object = dict[str, Any]

KINDS = ("auto", "KbsConfig", "TrusteeConfig")
PROFILES = ("Restricted", "Permissive")
#: With KbsConfig the names are ours to choose.
NAMES = {
    "kbsconfig": "kbsconfig", "config_map": "kbs-config-cm", "auth_secret": "kbs-auth-public-key",
    "reference_values": "rvps-reference-values", "attestation_policy": "attestation-policy", "resource_policy": "resource-policy",
    "https_key": "kbs-https-key", "https_certificate": "kbs-https-certificate",
    "signer_key": "kbs-attestation-key", "signer_certificate": "kbs-attestation-certificate",
}
#: With TrusteeConfig the operator looks for these, after the name of the TrusteeConfig, and makes what is not there.
SUFFIXES = {
    "kbsconfig": "kbs-config", "config_map": "kbs-config", "auth_secret": "auth-secret",
    "reference_values": "rvps-reference-values", "attestation_policy": "attestation-policy", "resource_policy": "resource-policy",
    "https_key": "https-key-secret", "https_certificate": "https-cert-secret",
    "signer_key": "attestation-key-secret", "signer_certificate": "attestation-cert-secret",
}
TRUSTEECONFIG = "trusteeconfig"

CONFIG_MAPS = ("kbsConfigMapName", "kbsRvpsRefValuesConfigMapName", "kbsAttestationPolicyConfigMapName",
               "kbsGpuAttestationPolicyConfigMapName", "kbsResourcePolicyConfigMapName")
SECRETS = ("kbsAuthSecretName", "kbsHttpsKeySecretName", "kbsHttpsCertSecretName", "kbsAttestationKeySecretName",
           "kbsAttestationCertSecretName")


def kind_of(release: TrusteeRelease, chosen: str) -> str:
    """``KbsConfig`` or ``TrusteeConfig``: what is chosen, for ``auto`` the release's own (release table).

    Raises :class:`CocoError` for a kind that does not exist or that the release's operator does not have.
    """
    if chosen not in KINDS:
        raise CocoError(f"coco_trustee_kind {chosen!r} is unknown", f"it is one of {', '.join(KINDS)}", "Use one of these.")
    kind = release.default_cr if chosen == "auto" else chosen
    if kind not in release.crs:
        raise CocoError(f"Trustee {release.name} cannot be deployed as {kind}", f"its operator has {', '.join(release.crs)} only",
                        "Leave coco_trustee_kind at auto, or use a release that has this kind.")
    return kind


def object_names(release: TrusteeRelease, chosen: str) -> dict[str, str]:
    """The names of Trustee's objects for a choice of kind: ``kind``, the keys of ``NAMES``; with TrusteeConfig also
    ``trusteeconfig``, ``https_tls`` and ``signer_tls`` (Secrets of type kubernetes.io/tls that its spec names) and
    ``sample_secret`` (which the operator always adds to the secret resources).

    Their data keys are those of KbsConfig, so content does not depend on the kind. Raises what :func:`kind_of` does.
    Source: the objects that the operator makes for a TrusteeConfig, 1.0 to 1.2; it keeps those that exist.
    """
    kind = kind_of(release, chosen)
    if kind == "KbsConfig":
        return {"kind": kind, **NAMES}
    names = {key: f"{TRUSTEECONFIG}-{suffix}" for key, suffix in SUFFIXES.items()}
    if release.gpu_policy:  # beside one for GPUs, the policy for CPUs says so
        names["attestation_policy"] += "-cpu"
    return {"kind": kind, "trusteeconfig": TRUSTEECONFIG, **names, "https_tls": f"{TRUSTEECONFIG}-https-tls",
            "signer_tls": f"{TRUSTEECONFIG}-attestation-tls", "sample_secret": release.sample_secret}


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
