"""CRDs of the trustee operator (reference/operators.md 2.2, trustee.md 4.1, 4.6)."""

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
        "kbsResourcePolicyConfigMapName",
        "kbsAttestationPolicyConfigMapName",
    ]
    if release.signer:
        names += ["kbsAttestationKeySecretName", "kbsAttestationCertSecretName"]
    if release.gpu_policy:
        names.append("kbsGpuAttestationPolicyConfigMapName")
    fields: dict[str, Any] = {
        **{name: dict(STRING) for name in names},
        "kbsDeploymentType": {**STRING, "enum": ["AllInOneDeployment", "MicroservicesDeployment"]},
        "kbsSecretResources": strings(),
        "KbsEnvVars": {"type": "object", "additionalProperties": dict(STRING)},
        "ibmSEConfigSpec": obj({"certStorePvc": dict(STRING)}),
    }
    if release.replicas:
        fields["KbsDeploymentSpec"] = obj({"replicas": {**INTEGER, "format": "int32"}})
    if release.tdx_config:
        fields["tdxConfigSpec"] = obj({"kbsTdxConfigMapName": dict(STRING)})
    cache = {"secretName": dict(STRING), "mountPath": dict(STRING)}
    if release.cert_cache == "one":
        fields["kbsLocalCertCacheSpec"] = obj(cache)
    elif release.cert_cache == "list":
        fields["kbsLocalCertCacheSpec"] = obj({"secrets": {"type": "array", "items": obj(cache, ["secretName"])}})
    status = obj({"isReady": dict(BOOLEAN)}, ["isReady"] if release.status_required else None)
    return crd(GROUP, "KbsConfig", "kbsconfigs", "v1alpha1", "Namespaced", obj(fields), status)


def trusteeconfig(release: Trustee) -> dict[str, Any]:
    """TrusteeConfig v1alpha1 of 1.0 and newer."""
    tls = obj({"tlsSecretName": dict(STRING)})
    fields: dict[str, Any] = {
        "profileType": dict(STRING),
        "kbsServiceType": dict(STRING),
        "httpsSpec": tls,
        "attestationTokenVerificationSpec": dict(tls),
    }
    if release.config_format == "D":
        version = {**STRING, "pattern": r"^1\.[0-3]$"}
        fields["ibmSE"] = obj({"pvName": dict(STRING)}, ["pvName"])
        fields["tlsConfig"] = obj(
            {
                "profile": {**STRING, "enum": ["old", "intermediate", "modern", "custom"], "default": "intermediate"},
                "minVersion": version,
                "maxVersion": dict(version),
                "ciphers": strings(),
                "groups": strings(),
            },
            None,
            **{"x-kubernetes-validations": [
                {"rule": "!has(self.minVersion) || !has(self.maxVersion) || self.minVersion <= self.maxVersion",
                 "message": "minVersion must not be greater than maxVersion"}]},
        )
    reference = obj(
        {name: dict(STRING)
         for name in ("apiVersion", "fieldPath", "kind", "name", "namespace", "resourceVersion", "uid")},
        None,
        **{"x-kubernetes-map-type": "atomic"},
    )
    status = obj({"isReady": dict(BOOLEAN), "kbsConfigRef": reference, "statusDescription": dict(STRING)})
    return crd(GROUP, "TrusteeConfig", "trusteeconfigs", "v1alpha1", "Namespaced", obj(fields), status)
