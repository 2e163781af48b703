"""CRDs of the trustee operator 1.0 and 1.1 (reference/operators.md 2.2, trustee.md 4.1, 4.6)."""

from __future__ import annotations

from typing import Any

from lab.bundles.parts import BOOLEAN, INTEGER, STRING, crd, obj, strings
from lab.releases import Trustee

GROUP = "confidentialcontainers.org"


def kbsconfig(release: Trustee) -> dict[str, Any]:
    """KbsConfig v1alpha1: nothing required in spec, names are free strings, the one enum has no default."""
    names = [
        "kbsConfigMapName",
        "kbsAuthSecretName",
        "kbsRvpsRefValuesConfigMapName",
        "kbsAsConfigMapName",
        "kbsRvpsConfigMapName",
        "kbsServiceType",
        "kbsHttpsKeySecretName",
        "kbsHttpsCertSecretName",
        "kbsAttestationKeySecretName",
        "kbsAttestationCertSecretName",
        "kbsResourcePolicyConfigMapName",
        "kbsAttestationPolicyConfigMapName",
    ]
    if release.routes:
        names.append("kbsGpuAttestationPolicyConfigMapName")
    spec = obj(
        {
            **{name: dict(STRING) for name in names},
            "kbsDeploymentType": {**STRING, "enum": ["AllInOneDeployment", "MicroservicesDeployment"]},
            "kbsSecretResources": strings(),
            "KbsEnvVars": {"type": "object", "additionalProperties": dict(STRING)},
            "KbsDeploymentSpec": obj({"replicas": {**INTEGER, "format": "int32"}}),
            "tdxConfigSpec": obj({"kbsTdxConfigMapName": dict(STRING)}),
            "ibmSEConfigSpec": obj({"certStorePvc": dict(STRING)}),
            "kbsLocalCertCacheSpec": obj(
                {
                    "secrets": {
                        "type": "array",
                        "items": obj({"secretName": dict(STRING), "mountPath": dict(STRING)}, ["secretName"]),
                    }
                }
            ),
        }
    )
    status = obj({"isReady": dict(BOOLEAN)}, ["isReady"] if release.routes else None)
    return crd(GROUP, "KbsConfig", "kbsconfigs", "v1alpha1", "Namespaced", spec, status)


def trusteeconfig() -> dict[str, Any]:
    """TrusteeConfig v1alpha1 of 1.0 and 1.1."""
    tls = obj({"tlsSecretName": dict(STRING)})
    spec = obj(
        {
            "profileType": dict(STRING),
            "kbsServiceType": dict(STRING),
            "httpsSpec": tls,
            "attestationTokenVerificationSpec": dict(tls),
        }
    )
    reference = obj(
        {name: dict(STRING)
         for name in ("apiVersion", "fieldPath", "kind", "name", "namespace", "resourceVersion", "uid")},
        None,
        **{"x-kubernetes-map-type": "atomic"},
    )
    status = obj({"isReady": dict(BOOLEAN), "kbsConfigRef": reference, "statusDescription": dict(STRING)})
    return crd(GROUP, "TrusteeConfig", "trusteeconfigs", "v1alpha1", "Namespaced", spec, status)
