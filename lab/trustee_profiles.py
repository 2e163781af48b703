"""TrusteeConfig: what the trustee operator 1.0 and newer makes of a profile (reference/trustee.md 4.6, operators.md 2.3).

Every object is made once and kept as it is afterwards; 1.2 goes on to merge its TLS settings into kbs-config.toml.
"""

from __future__ import annotations

import base64
import logging
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lab import trustee_templates as texts
from lab.kube import ApiError, Kube, owner_reference
from lab.paths import time_scale
from lab.releases import STAND_IN, Trustee
from lab.trustee_migration import ANNOTATION, VALUE
from lab.trustee_objects import SERVICE

log = logging.getLogger("lab")
Object = dict[str, Any]

API = "confidentialcontainers.org/v1alpha1"
ROUTE = "kbs-route"
TLS = "kubernetes.io/tls"
READY = "TrusteeConfig is ready and KbsConfig is deployed successfully"
EARLY = "TrusteeConfig is ready but KbsConfig deployment is in progress"
WAITING = "TrusteeConfig reconciled but KbsConfig deployment is in progress"


def _encoded(data: dict[str, str | bytes]) -> dict[str, str]:
    return {key: base64.b64encode(value.encode() if isinstance(value, str) else value).decode()
            for key, value in data.items()}


def admin_keys() -> dict[str, str | bytes]:
    """A new key pair of the administrator. The private half stays in the cluster, as the product has it."""
    private = Ed25519PrivateKey.generate()
    return {
        "privateKey": private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                            serialization.NoEncryption()),
        "publicKey": private.public_key().public_bytes(serialization.Encoding.PEM,
                                                       serialization.PublicFormat.SubjectPublicKeyInfo),
    }


def merged(generated: Object, found: Object) -> Object:
    """The generated KbsConfig spec with what a user may have changed in the present one."""
    wanted = {**generated}
    replicas = (found.get("KbsDeploymentSpec") or {}).get("replicas")
    if replicas is not None:
        wanted["KbsDeploymentSpec"] = {"replicas": replicas}
    if found.get("KbsEnvVars"):
        wanted["KbsEnvVars"] = {**(generated.get("KbsEnvVars") or {}), **found["KbsEnvVars"]}
    secrets = {*(found.get("kbsSecretResources") or []), *generated["kbsSecretResources"]}
    if secrets != set(generated["kbsSecretResources"]):
        wanted["kbsSecretResources"] = sorted(secrets)
    for field, part in (("kbsLocalCertCacheSpec", "secrets"), ("ibmSEConfigSpec", "certStorePvc")):
        if (found.get(field) or {}).get(part):
            wanted[field] = found[field]
    return wanted


class Profiles:
    """One controller's work on TrusteeConfigs."""

    def __init__(self, kube: Kube, namespace: str, release: Trustee) -> None:
        self.kube, self.namespace, self.release = kube, namespace, release

    async def reconcile(self, name: str) -> float | None:
        """One pass; seconds until the next. Raises on what cannot be done: the status stays as it is then."""
        config = await self.kube.get(API, "TrusteeConfig", name, self.namespace)
        if config is None or config["metadata"].get("deletionTimestamp"):
            return None
        config.setdefault("apiVersion", API)
        config.setdefault("kind", "TrusteeConfig")
        spec = await self._spec(config)
        kbs = await self._kbs_config(config, spec)
        if self.release.routes:
            await self._route(config)
        ready = bool((kbs.get("status") or {}).get("isReady"))
        early = self.release.ready_early
        status = {
            "isReady": ready or early,
            "kbsConfigRef": {"apiVersion": API, "kind": "KbsConfig", "name": kbs["metadata"]["name"],
                             "namespace": self.namespace},
            "statusDescription": READY if ready else EARLY if early else WAITING,
        }
        if config.get("status") != status:
            config["status"] = status
            await self.kube.replace(config, "status")
            log.info("TrusteeConfig %s: %s", name, status["statusDescription"])
        return 10 * time_scale() if early and not ready else None

    async def _make(self, config: Object, kind: str, name: str, **content: Any) -> Object:
        """Make an object of the TrusteeConfig's unless there is one of that name."""
        marks = {STAND_IN: "lab-trustee-operator", **content.pop("annotations", {})}
        return await self.kube.ensure({
            "apiVersion": "v1", "kind": kind,
            "metadata": {"name": name, "namespace": self.namespace, "annotations": marks,
                         "ownerReferences": [owner_reference(config)]}, **content})

    async def _config_map(self, config: Object, name: str, key: str, text: str, new: bool = False) -> Object:
        """``new``: annotated, so that the KbsConfig controller of 1.2 leaves it alone."""
        marks = {ANNOTATION: VALUE} if new and self.release.migration else {}
        return await self._make(config, "ConfigMap", name, data={key: text}, annotations=marks)

    async def _secret(self, config: Object, name: str, data: dict[str, str | bytes]) -> None:
        await self._make(config, "Secret", name, type="Opaque", data=_encoded(data))

    async def _spec(self, config: Object) -> Object:
        """Make the inputs; the KbsConfig spec that names them."""
        given, name, release = config.get("spec") or {}, config["metadata"]["name"], self.release
        restricted = given.get("profileType") == "Restricted"
        form = release.config_format
        spec: Object = {"kbsDeploymentType": "AllInOneDeployment", "KbsDeploymentSpec": {"replicas": 1}}
        if given.get("kbsServiceType"):
            spec["kbsServiceType"] = given["kbsServiceType"]
        if not restricted:
            spec["KbsEnvVars"] = {"RUST_LOG": "debug"}
        spec["kbsConfigMapName"] = await self._kbs_toml(config, given, restricted)
        if await self.kube.get("v1", "Secret", f"{name}-auth-secret", self.namespace) is None:
            await self._secret(config, f"{name}-auth-secret", admin_keys())
        spec["kbsAuthSecretName"] = f"{name}-auth-secret"
        sample: dict[str, str | bytes] = {"status": "success"} if release.sample_secret == "attestation-status" else {
            "key1": "res1val1", "key2": "res1val2"}
        await self._secret(config, release.sample_secret, sample)
        spec["kbsSecretResources"] = [release.sample_secret]
        policy_key = "resource-policy.rego" if release.layout == "storage" else "policy.rego"
        for field, suffix, key, text, new in (
            ("kbsResourcePolicyConfigMapName", "resource-policy", policy_key, texts.resource_policy(form, restricted), True),
            ("kbsRvpsRefValuesConfigMapName", "rvps-reference-values", *texts.reference_values(form), False),
            ("kbsAttestationPolicyConfigMapName", "attestation-policy-cpu" if release.gpu_policy else "attestation-policy",
             "default_cpu.rego", texts.cpu_policy(form), True),
        ):
            await self._config_map(config, f"{name}-{suffix}", key, text, new)
            spec[field] = f"{name}-{suffix}"
        if release.gpu_policy:
            spec["kbsGpuAttestationPolicyConfigMapName"] = f"{name}-attestation-policy-gpu"
            await self._config_map(config, f"{name}-attestation-policy-gpu", "default_gpu.rego", texts.gpu_policy(), True)
        if release.tdx_config:
            await self._config_map(config, f"{name}-tdx-config", "sgx_default_qcnl.conf", texts.TDX_CONFIG)
            spec["tdxConfigSpec"] = {"kbsTdxConfigMapName": f"{name}-tdx-config"}
        await self._tls(config, spec, "httpsSpec", "https", "Https", ("privateKey", "certificate"))
        await self._tls(config, spec, "attestationTokenVerificationSpec", "attestation", "Attestation",
                        ("token.key", "token.crt"))
        return spec

    async def _kbs_toml(self, config: Object, given: Object, restricted: bool) -> str:
        name, form = f"{config['metadata']['name']}-kbs-config", self.release.config_format
        tls: dict[str, str] = {}
        if self.release.claims:
            server = await self.kube.get("config.openshift.io/v1", "APIServer", "cluster")
            tls = texts.tls_settings(server, given.get("tlsConfig"))
        found = await self._config_map(config, name, "kbs-config.toml", texts.kbs_config(form, restricted, tls))
        text = (found.get("data") or {}).get("kbs-config.toml", "")
        if tls and texts.with_tls(text, tls) != text:
            log.info("Updating KBS config map with new TLS settings name=%s", name)
            found["data"]["kbs-config.toml"] = texts.with_tls(text, tls)
            await self.kube.replace(found)
        return name

    async def _tls(self, config: Object, spec: Object, field: str, word: str, part: str, keys: tuple[str, str]) -> None:
        """Copy a TLS Secret of the user's into two of the operator's."""
        source = ((config.get("spec") or {}).get(field) or {}).get("tlsSecretName")
        if not source:
            return
        found = await self.kube.get("v1", "Secret", source, self.namespace)
        if found is None:
            raise LookupError(f'secrets "{source}" not found')
        if found.get("type") != TLS:
            raise LookupError(f"secret {source} is not of type {TLS}, got {found.get('type')}")
        for half, key, target in (("key", "tls.key", keys[0]), ("cert", "tls.crt", keys[1])):
            if key not in (found.get("data") or {}):
                raise LookupError(f"{key} not found in TLS secret {source}")
            name = f"{config['metadata']['name']}-{word}-{half}-secret"
            await self._make(config, "Secret", name, type="Opaque", data={target: found["data"][key]})
            spec[f"kbs{part}{half.capitalize()}SecretName"] = name

    async def _kbs_config(self, config: Object, spec: Object) -> Object:
        name = f"{config['metadata']['name']}-kbs-config"
        try:
            found = await self.kube.get(API, "KbsConfig", name, self.namespace)
            if found is None:
                log.info("Creating new KbsConfig namespace=%s name=%s", self.namespace, name)
                return await self.kube.create({
                    "apiVersion": API, "kind": "KbsConfig", "spec": spec,
                    "metadata": {"name": name, "namespace": self.namespace, "annotations": {STAND_IN: "lab-trustee-operator"},
                                 "ownerReferences": [owner_reference(config)]}})
            wanted = merged(spec, found.get("spec") or {})
            if wanted != found.get("spec"):
                found["spec"] = wanted
                return await self.kube.replace(found)
            return found
        except ApiError as error:
            log.error("KbsConfig %s: %s", name, error)
            raise LookupError("failed to create or update KbsConfig") from error

    async def _route(self, config: Object) -> None:
        """Route ``kbs-route``, made only where there is none."""
        https = bool(((config.get("spec") or {}).get("httpsSpec") or {}).get("tlsSecretName"))
        termination = "passthrough" if https else "edge"
        try:
            await self.kube.ensure({
                "apiVersion": "route.openshift.io/v1", "kind": "Route",
                "metadata": {"name": ROUTE, "namespace": self.namespace, "annotations": {STAND_IN: "lab-trustee-operator"},
                             "ownerReferences": [owner_reference(config)]},
                "spec": {"to": {"kind": "Service", "name": SERVICE}, "port": {"targetPort": "kbs-port"},
                         "tls": {"termination": termination}},
            })
        except ApiError as error:
            raise LookupError(f"error creating Trustee {termination} route: {error.message}") from error
