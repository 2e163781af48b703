"""lab-service-ca: stands in for OpenShift's service-ca operator.

Serving certificates for Services that ask for a Secret by annotation, the CA bundle for ConfigMaps, webhook configurations
and APIServices that ask for it, and ``openshift-service-ca.crt`` in every namespace.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lab.kube import ApiError, Controller, Kube, key_of, owner_reference
from lab.node import arguments, when_ready
from lab.program import main

Object = dict[str, Any]

PREFIX = "service.beta.openshift.io/"
SECRET_NAME, SIGNED_BY, ERROR = f"{PREFIX}serving-cert-secret-name", f"{PREFIX}serving-cert-signed-by", (
    f"{PREFIX}serving-cert-generation-error")
ORIGIN_NAME, ORIGIN_UID, EXPIRY = f"{PREFIX}originating-service-name", f"{PREFIX}originating-service-uid", f"{PREFIX}expiry"
INJECT = f"{PREFIX}inject-cabundle"
PUBLISHED = "openshift-service-ca.crt"
STAND_IN = "lab.confidential.containers/stand-in"
VALID = datetime.timedelta(days=790)


class Signer:
    """The service CA."""

    def __init__(self, certificate: bytes, key: bytes) -> None:
        self.pem = certificate.decode()
        self.certificate = x509.load_pem_x509_certificate(certificate)
        loaded = serialization.load_pem_private_key(key, None)
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise ValueError("the service CA's key is not an EC key; remove <state>/<cluster>/pki and run 'lab up' again")
        self.key = loaded

    @property
    def name(self) -> str:
        began = int(self.certificate.not_valid_before_utc.timestamp())
        return f"openshift-service-serving-signer@{began}"

    def issue(self, service: str, namespace: str) -> tuple[bytes, bytes, datetime.datetime]:
        """(certificate chain, private key, expiry) of a Service."""
        key = ec.generate_private_key(ec.SECP256R1())
        host = f"{service}.{namespace}.svc"
        now = datetime.datetime.now(datetime.timezone.utc)
        ends = now + VALID
        names = [x509.DNSName(host), x509.DNSName(f"{host}.cluster.local")]
        leaf = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])]))
            .issuer_name(self.certificate.subject).public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5)).not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(True, False, True, False, False, False, False, False, False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                    serialization.NoEncryption())
        return leaf.public_bytes(serialization.Encoding.PEM) + self.pem.encode(), private, ends

    def signed(self, chain: bytes) -> bool:
        """Was this certificate issued by us and is it still valid?"""
        try:
            leaf = x509.load_pem_x509_certificate(chain)
            leaf.verify_directly_issued_by(self.certificate)
        except Exception:
            return False
        return leaf.not_valid_after_utc > datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=1)


def notes(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("annotations") or {}


def bundled(obj: Object, bundle: str) -> Object | None:
    """The merge patch that injects the CA bundle into an object that asks for it; None if it holds it already."""
    if notes(obj).get(INJECT) != "true":
        return None
    encoded = base64.b64encode(bundle.encode()).decode()
    if obj["kind"] == "ConfigMap":
        data = obj.get("data") or {}
        if data == {"service-ca.crt": bundle}:
            return None
        return {"data": {**dict.fromkeys(data), "service-ca.crt": bundle}}
    if obj["kind"] == "APIService":
        return None if obj["spec"].get("caBundle") == encoded else {"spec": {"caBundle": encoded}}
    hooks = obj.get("webhooks") or []
    if all(hook["clientConfig"].get("caBundle") == encoded for hook in hooks):
        return None
    return {"webhooks": [{**hook, "clientConfig": {**hook["clientConfig"], "caBundle": encoded}} for hook in hooks]}


class ServiceCa:
    """The controllers."""

    def __init__(self, kube: Kube, signer: Signer) -> None:
        self.kube, self.signer = kube, signer
        self.services = Controller(kube, "service-serving-cert", self.serve)
        self.services.watch("v1", "Service").watch("v1", "Secret", self._service_of)
        self.bundles = {
            (version, kind): Controller(kube, f"inject-{kind}", self._injector(version, kind)).watch(version, kind)
            for version, kind in (
                ("v1", "ConfigMap"), ("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration"),
                ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"),
                ("apiregistration.k8s.io/v1", "APIService"))
        }
        self.namespaces = Controller(kube, "publish-ca", self.publish).watch("v1", "Namespace")

    @staticmethod
    def _service_of(secret: Object) -> list[str]:
        name = notes(secret).get(ORIGIN_NAME)
        return [f"{secret['metadata']['namespace']}/{name}"] if name else []

    async def serve(self, key: str) -> float | None:
        """Keep the serving certificate of one Service."""
        service = self.services.store["Service"].get(key)
        if service is None or service["metadata"].get("deletionTimestamp"):
            return None
        name = notes(service).get(SECRET_NAME)
        if not name:
            return None
        meta = service["metadata"]
        found = self.services.store["Secret"].get(f"{meta['namespace']}/{name}")
        if found is not None:
            if notes(found).get(ORIGIN_UID) != meta["uid"]:
                await self._annotate(service, {ERROR: f"secret {meta['namespace']}/{name} does not have corresponding service "
                                                      f"UID {meta['uid']}"})
                return None
            if self.signer.signed(base64.b64decode((found.get("data") or {}).get("tls.crt", ""))):
                await self._annotate(service, {SIGNED_BY: self.signer.name, ERROR: None})
                return None
        await self._write(service, name, found)
        await self._annotate(service, {SIGNED_BY: self.signer.name, ERROR: None})
        return None

    async def _write(self, service: Object, name: str, found: Object | None) -> None:
        meta = service["metadata"]
        chain, private, ends = await asyncio.to_thread(self.signer.issue, meta["name"], meta["namespace"])
        secret: Object = {
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {
                "name": name, "namespace": meta["namespace"],
                "annotations": {ORIGIN_NAME: meta["name"], ORIGIN_UID: meta["uid"],
                                EXPIRY: ends.strftime("%Y-%m-%dT%H:%M:%SZ"), STAND_IN: "lab-service-ca"},
                "ownerReferences": [owner_reference(service, controller=False) | {"blockOwnerDeletion": False}],
            },
            "data": {"tls.crt": base64.b64encode(chain).decode(), "tls.key": base64.b64encode(private).decode()},
        }
        if found is None:
            await self.kube.create(secret)
        else:
            await self.kube.patch("v1", "Secret", name, {"data": secret["data"], "metadata": {
                "annotations": secret["metadata"]["annotations"]}}, meta["namespace"])

    async def _annotate(self, service: Object, wanted: dict[str, str | None]) -> None:
        if any(notes(service).get(k) != v for k, v in wanted.items()):
            meta = service["metadata"]
            await self.kube.patch("v1", "Service", meta["name"], {"metadata": {"annotations": wanted}}, meta["namespace"])

    def _injector(self, version: str, kind: str) -> Any:
        async def inject(key: str) -> float | None:
            obj = self.bundles[version, kind].store[kind].get(key)
            if obj is None:
                if kind == "ConfigMap" and key.endswith("/" + PUBLISHED):
                    await self.publish(key.partition("/")[0])
                return None
            patch = bundled(obj, self.signer.pem)
            if patch is not None:
                await self.kube.patch(version, kind, obj["metadata"]["name"], patch, obj["metadata"].get("namespace"))
            return None

        return inject

    async def publish(self, name: str) -> float | None:
        """``openshift-service-ca.crt`` in a namespace."""
        namespace = self.namespaces.store["Namespace"].get(name)
        if namespace is None or (namespace.get("status") or {}).get("phase") == "Terminating":
            return None
        if f"{key_of(namespace)}/{PUBLISHED}" in self.bundles["v1", "ConfigMap"].store["ConfigMap"]:
            return None
        try:
            await self.kube.create({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": PUBLISHED, "namespace": name, "annotations": {INJECT: "true", STAND_IN: "lab-service-ca"}},
                "data": {"service-ca.crt": self.signer.pem},
            })
        except ApiError as error:
            if error.status not in (403, 404, 409):  # exists already, or the namespace is being removed
                raise
        return None

    async def run(self) -> None:
        await asyncio.gather(self.services.run(), self.namespaces.run(), *(c.run() for c in self.bundles.values()))


async def run(given: argparse.Namespace) -> None:
    """Serve a cluster until cancelled."""
    pki: Path = given.state / given.cluster / "pki"
    signer = Signer((pki / "service-ca.crt").read_bytes(), (pki / "service-ca.key").read_bytes())
    kube = Kube.from_kubeconfig(given.kubeconfig, agent="lab-service-ca")
    try:
        await when_ready(kube)
        await ServiceCa(kube, signer).run()
    finally:
        await kube.close()


if __name__ == "__main__":
    options = arguments("lab-service-ca: serving certificates and CA bundles of one cluster of the lab")
    raise SystemExit(main("lab-service-ca", "OpenShift service-ca operator", "OpenShift 4.20", lambda: run(options)))
