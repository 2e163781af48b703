"""lab-cco: stands in for OpenShift's Cloud Credential Operator on Azure (reference/operators.md 7).

Passthrough only, as the real one: what the root Secret holds is copied to where a CredentialsRequest wants it; roleBindings are
ignored. In mode Manual nothing is done at all. The root Secret is the installation's, and so is its annotation with the mode.
"""

from __future__ import annotations

import argparse
import datetime
import logging
from collections.abc import Iterable
from typing import Any

from lab.kube import ApiError, Controller, Kube, key_of, now
from lab.node import arguments, when_ready
from lab.paths import time_scale
from lab.program import main

log = logging.getLogger("lab")
Object = dict[str, Any]

API = "cloudcredential.openshift.io/v1"
OPERATOR_API = "operator.openshift.io/v1"
ROOT_NAMESPACE, ROOT = "kube-system", "azure-credentials"
KEYS = ("azure_client_id", "azure_client_secret", "azure_tenant_id", "azure_subscription_id", "azure_region",
        "azure_resourcegroup", "azure_resource_prefix")
PREFIX = "cloudcredential.openshift.io/"
MODE, REQUEST, FINALIZER = f"{PREFIX}mode", f"{PREFIX}credentials-request", f"{PREFIX}deprovision"
STAND_IN = "lab.confidential.containers/stand-in"
AGAIN = 3600  # seconds after which an unchanged request is synchronised once more
FAILURE = "CredentialsProvisionFailure"


class Refused(Exception):
    """Why the request is not granted, in the operator's words."""


def notes(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("annotations") or {}


def target_of(request: Object) -> tuple[str, str]:
    """(namespace, name) of the Secret that is wanted."""
    ref = request["spec"]["secretRef"]
    return str(ref.get("namespace", "")), str(ref.get("name", ""))


def credentials(root: Object | None) -> dict[str, str]:
    """What is handed on of the root Secret. Raises :class:`Refused`."""
    if root is None:
        raise Refused(f'unable to fetch root cloud cred secret: Secret "{ROOT}" not found')
    mode = notes(root).get(MODE)
    if mode is None:
        raise Refused("cannot proceed without cloud cred secret annotation")
    if mode == "mint":
        raise Refused("mint mode is invalid")
    if mode != "passthrough":
        raise Refused(f"unexpected value in the cloud cred secret annotation {MODE}: {mode}")
    data = root.get("data") or {}
    return {key: data.get(key, "") for key in KEYS}


def set_condition(status: Object, kind: str, active: bool, reason: str, message: str) -> None:
    """Set a condition; one that was never true is not begun with False. Its time changes with its status."""
    conditions = status.setdefault("conditions", [])
    old = next((c for c in conditions if c["type"] == kind), None)
    if old is None and not active:
        return
    value, stamp = str(active), now()
    if old is not None and (old["status"], old.get("reason"), old.get("message")) == (value, reason, message):
        return
    changed = old["lastTransitionTime"] if old is not None and old["status"] == value else stamp
    conditions[:] = [c for c in conditions if c["type"] != kind]
    conditions.append({"type": kind, "status": value, "reason": reason, "message": message, "lastProbeTime": stamp,
                       "lastTransitionTime": changed})


def failing(status: Object) -> bool:
    return any(c["status"] == "True" for c in status.get("conditions") or [])


def fresh(status: Object, seconds: float) -> bool:
    """Was the request synchronised within so many seconds?"""
    stamp = status.get("lastSyncTimestamp")
    if not stamp:
        return False
    then = datetime.datetime.fromisoformat(stamp.replace("Z", "+00:00"))
    return datetime.datetime.now(datetime.timezone.utc) - then < datetime.timedelta(seconds=seconds)


class CloudCredentialOperator:
    """The controller of CredentialsRequests."""

    def __init__(self, kube: Kube) -> None:
        self.kube = kube
        self.requests = Controller(kube, "credentialsrequest", self.reconcile)
        self.requests.watch(API, "CredentialsRequest").watch("v1", "Secret", self._secret_changed)
        self.requests.watch("v1", "Namespace", self._namespace_changed).watch(OPERATOR_API, "CloudCredential", self._everyone)

    async def run(self) -> None:
        """Watch and reconcile until cancelled."""
        await self.requests.run()

    # What wakes a reconciliation

    def _everyone(self, _obj: Object) -> Iterable[str]:
        return list(self.requests.store["CredentialsRequest"])

    def _secret_changed(self, secret: Object) -> Iterable[str]:
        """The root Secret concerns every request, a written one its own."""
        meta = secret["metadata"]
        if (meta.get("namespace"), meta["name"]) == (ROOT_NAMESPACE, ROOT):
            return self._everyone(secret)
        return [notes(secret)[REQUEST]] if REQUEST in notes(secret) else []

    def _namespace_changed(self, namespace: Object) -> Iterable[str]:
        name = namespace["metadata"]["name"]
        return [key for key, request in self.requests.store["CredentialsRequest"].items() if target_of(request)[0] == name]

    # Reconciliation

    async def reconcile(self, key: str) -> float | None:
        """One pass over a request."""
        settings = await self.kube.get(OPERATOR_API, "CloudCredential", "cluster")
        if ((settings or {}).get("spec") or {}).get("credentialsMode") == "Manual":
            log.info("operator set to disabled / manual mode, %s is left alone", key)
            return None
        namespace, _, name = key.partition("/")
        request = await self.kube.get(API, "CredentialsRequest", name, namespace)
        if request is None:
            return None
        request |= {"apiVersion": API, "kind": "CredentialsRequest"}
        if request["metadata"].get("deletionTimestamp"):
            await self._remove(request)
            return None
        before = request.get("status") or {}
        status: Object = {"lastSyncGeneration": 0, "provisioned": False, **before,
                          "conditions": [dict(c) for c in before.get("conditions") or []]}
        again = await self._handle(request, status)
        if not status["conditions"] and "conditions" not in before:
            del status["conditions"]
        if status != before:
            current = await self.kube.get(API, "CredentialsRequest", name, namespace)
            if current is not None:
                await self.kube.replace({**current, "apiVersion": API, "kind": "CredentialsRequest", "status": status}, "status")
        return again

    async def _handle(self, request: Object, status: Object) -> float | None:
        """Grant a request or say why not: changes ``status``. Seconds until it is looked at again."""
        kind = (request["spec"].get("providerSpec") or {}).get("kind")
        other = kind != "AzureProviderSpec"
        set_condition(status, "Ignored", other, "InfrastructureMismatch" if other else "InfrastructureMatch",
                      f"CredentialsRequest is {'not ' if other else ''}for platform Azure")
        if other:
            return None
        await self._add_finalizer(request)
        namespace, name = target_of(request)
        found = await self.kube.get("v1", "Namespace", namespace)
        missing = found is None or bool(found["metadata"].get("deletionTimestamp"))
        set_condition(status, "MissingTargetNamespace", missing, "NamespaceMissing" if missing else "NamespaceExists",
                      f"target namespace {namespace} {'not found' if missing else 'exists'}")
        if missing:
            return None
        root = await self.kube.get("v1", "Secret", ROOT, ROOT_NAMESPACE)
        target = await self.kube.get("v1", "Secret", name, namespace)
        version = (root or {"metadata": {}})["metadata"].get("resourceVersion", "")
        generation = request["metadata"].get("generation", 1)
        seconds = AGAIN * time_scale()
        if status["provisioned"] and target is not None and not failing(status) and fresh(status, seconds) \
                and status["lastSyncGeneration"] == generation \
                and (root is None or status.get("lastSyncCloudCredsSecretResourceVersion") == version):
            return seconds
        try:
            await self._write(request, target, credentials(root))
        except Refused as error:
            log.error("error syncing credentials of %s: %s", key_of(request), error)
            set_condition(status, FAILURE, True, FAILURE, f"failed to grant creds: {error}")
            status["provisioned"] = False
            return 60 * time_scale()
        set_condition(status, FAILURE, False, "CredentialsProvisionSuccess", "successfully granted credentials request")
        status |= {"provisioned": True, "lastSyncTimestamp": now(), "lastSyncGeneration": generation,
                   "lastSyncCloudCredsSecretResourceVersion": version}
        log.info("credentials of %s are in Secret %s/%s", key_of(request), namespace, name)
        return seconds

    async def _write(self, request: Object, target: Object | None, data: dict[str, str]) -> None:
        namespace, name = target_of(request)
        marks = {REQUEST: key_of(request), STAND_IN: "lab-cco"}
        if target is None:
            await self.kube.create({"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": data,
                                    "metadata": {"name": name, "namespace": namespace, "annotations": marks}})
        elif target.get("data") != data or not marks.items() <= notes(target).items():
            await self.kube.patch("v1", "Secret", name, {"data": data, "metadata": {"annotations": marks}}, namespace)

    async def _add_finalizer(self, request: Object) -> None:
        finalizers = request["metadata"].get("finalizers") or []
        if FINALIZER not in finalizers:
            await self._finalizers(request, [*finalizers, FINALIZER])

    async def _remove(self, request: Object) -> None:
        """A request that goes takes its Secret with it."""
        finalizers = request["metadata"].get("finalizers") or []
        if FINALIZER not in finalizers:
            return
        namespace, name = target_of(request)
        await self.kube.delete("v1", "Secret", name, namespace)
        await self._finalizers(request, [item for item in finalizers if item != FINALIZER])
        log.info("%s and its Secret %s/%s are gone", key_of(request), namespace, name)

    async def _finalizers(self, request: Object, finalizers: list[str]) -> None:
        meta = request["metadata"]
        patch = {"metadata": {"finalizers": finalizers, "resourceVersion": meta["resourceVersion"]}}
        try:
            await self.kube.patch(API, "CredentialsRequest", meta["name"], patch, meta["namespace"])
        except ApiError as error:
            if error.status != 404:
                raise


async def run(given: argparse.Namespace) -> None:
    """Serve a cluster until cancelled."""
    kube = Kube.from_kubeconfig(given.kubeconfig, agent="lab-cco")
    try:
        await when_ready(kube)
        await CloudCredentialOperator(kube).run()
    finally:
        await kube.close()


if __name__ == "__main__":
    options = arguments("lab-cco: cloud credentials of one cluster of the lab")
    raise SystemExit(main("lab-cco", "OpenShift Cloud Credential Operator", "OpenShift 4.20", lambda: run(options)))
