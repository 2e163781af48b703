"""lab-trustee-operator: stand-in for the trustee operator (reference/operators.md 2.3).

Quirks that it keeps: up to 1.0 the Deployment has no owner and is not watched, so ``isReady`` follows only events of
KbsConfig, ConfigMaps and Secrets, and false is an absent field; the finalizer reads the Deployment first and fails without it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import sys
from collections.abc import Callable, Iterable
from typing import Any

from aiohttp import web

from lab.kube import ApiError, Controller, Kube, key_of, owner_reference
from lab.paths import listen_address, time_scale
from lab.program import main
from lab.releases import TRUSTEE, Trustee
from lab.trustee_migration import Migration
from lab.trustee_objects import (
    DEPLOYMENT,
    SERVICE,
    Object,
    config_versions,
    deployment,
    environment,
    is_ready,
    ordered_environment,
    pod_spec,
    references,
    service,
    wanted_mounts,
)
from lab.trustee_profiles import Profiles

log = logging.getLogger("lab")

API = "confidentialcontainers.org/v1alpha1"
FINALIZER = "kbsconfig.confidentialcontainers.org/finalizer"
COMPONENT = "kbsconfig-controller"


class Operator:
    """The operator's controllers, in its own namespace only."""

    def __init__(self, kube: Kube, namespace: str, release: Trustee, image: str, operator_image: str = "",
                 shuffle: random.Random | None = None) -> None:
        self.kube, self.namespace, self.release = kube, namespace, release
        self.image, self.operator_image = image, operator_image
        self.shuffle = None if release.sorted_environment else shuffle or random.Random()
        self.migration = Migration(kube, namespace)
        self.controllers = [Controller(kube, "kbsconfig", self.reconcile)]
        self.controller = self.controllers[0]
        self.controller.watch(API, "KbsConfig", namespace=namespace)
        for kind in ("ConfigMap", "Secret"):
            self.controller.watch("v1", kind, self._users(kind), namespace=namespace)
        if release.owns_deployment:
            self.controller.watch("apps/v1", "Deployment", self._owners("KbsConfig"), namespace=namespace)
            self.controller.watch("v1", "Service", self._owners("KbsConfig"), namespace=namespace)
        if release.profiles:
            self.profiles = Profiles(kube, namespace, release)
            follower = Controller(kube, "trusteeconfig", self.reconcile_profile)
            follower.watch(API, "TrusteeConfig", namespace=namespace)
            if not release.ready_early:
                follower.watch(API, "KbsConfig", self._owners("TrusteeConfig"), namespace=namespace)
            if release.migration:  # a deleted config map comes back
                for kind in ("ConfigMap", "Secret"):
                    follower.watch("v1", kind, self._owners("TrusteeConfig"), namespace=namespace)
            self.controllers.append(follower)

    async def run(self) -> None:
        """Watch, reconcile and answer health checks until cancelled."""
        await asyncio.gather(*(controller.run() for controller in self.controllers), health())

    def _owners(self, kind: str) -> Callable[[Object], Iterable[str]]:
        """Keys of the owners of a kind that an object has."""

        def keys(obj: Object) -> Iterable[str]:
            owners = obj["metadata"].get("ownerReferences") or []
            return [f"{self.namespace}/{owner['name']}" for owner in owners if owner["kind"] == kind]

        return keys

    def _users(self, kind: str) -> Callable[[Object], Iterable[str]]:
        """KbsConfigs that name a ConfigMap or Secret."""

        def keys(obj: Object) -> Iterable[str]:
            wanted = (kind, obj["metadata"]["name"])
            return [key for key, config in self.controller.store["KbsConfig"].items()
                    if wanted in references(config.get("spec") or {}, self.release)]

        return keys

    async def reconcile_profile(self, key: str) -> float | None:
        """One pass over a TrusteeConfig."""
        return await self.profiles.reconcile(key.rpartition("/")[2])

    async def reconcile(self, key: str) -> float | None:
        """One pass over a KbsConfig."""
        name = key.rpartition("/")[2]
        config = await self.kube.get(API, "KbsConfig", name, self.namespace)
        if config is None:
            return None
        config.setdefault("apiVersion", API)
        config.setdefault("kind", "KbsConfig")
        if config["metadata"].get("deletionTimestamp"):
            await self._finalize(config)
            return None
        spec = config.get("spec") or {}
        if self.release.migration:
            try:
                await self.migration.run(spec)
            except ApiError as error:
                log.error("ConfigMap migration encountered an error, will retry: %s", error)
                return 30 * time_scale()
        config_maps = await self._check_inputs(spec)
        created, found = await self._write_deployment(config, spec, config_maps)
        config = await self._add_finalizer(config)
        if created and self.release.requeue_after_create:
            return 10 * time_scale()
        await self._write_service(config, spec)
        if self.release.writes_status:
            await self._write_status(config, is_ready(found))
        return None

    async def _check_inputs(self, spec: Object) -> dict[str, Object]:
        """Everything that the spec names must exist; the ConfigMaps by name.

        Raises ``LookupError`` or ``Missing``; the pass is repeated.
        """
        config_maps: dict[str, Object] = {}
        for mount in wanted_mounts(spec, self.release):
            found = await self.kube.get("v1", mount.kind, mount.name, self.namespace)
            if found is None:
                raise LookupError(f'error in creating volume {mount.volume}: {mount.kind} "{mount.name}" not found')
            if mount.kind == "ConfigMap":
                config_maps[mount.name] = found
        if spec.get("kbsDeploymentType") != "AllInOneDeployment":
            raise LookupError("lab-trustee-operator makes AllInOneDeployment only: set spec.kbsDeploymentType to it")
        return config_maps

    async def _environment(self, spec: Object) -> list[Object]:
        proxy = None
        if self.release.proxies:
            proxy = await self.kube.get("config.openshift.io/v1", "Proxy", "cluster")
        found = environment(spec, proxy, self.shuffle)
        return ordered_environment(found) if self.release.sorted_environment else found

    async def _write_deployment(self, config: Object, spec: Object, config_maps: dict[str, Object]) -> tuple[bool, Object]:
        """(made in this pass, the Deployment)."""
        release = self.release
        pod = pod_spec(spec, release, self.image, await self._environment(spec), self.operator_image)
        versions = config_versions(spec, config_maps) if release.whole_template else ""
        owner = owner_reference(config) if release.owns_deployment else None
        wanted = deployment(self.namespace, spec, pod, versions, owner)
        found = await self.kube.get("apps/v1", "Deployment", DEPLOYMENT, self.namespace)
        if found is None:
            log.info("Creating a new Deployment namespace=%s name=%s", self.namespace, DEPLOYMENT)
            try:
                found = await self.kube.create(wanted)
            except ApiError as error:
                await self._event(config, "Warning", "DeploymentCreateFailed", error.message)
                raise
            await self._event(config, "Normal", "DeploymentCreated", "Trustee deployment created successfully")
            return True, found
        if release.whole_template:
            found["spec"]["template"] = wanted["spec"]["template"]
            found["spec"]["replicas"] = wanted["spec"]["replicas"]
        else:
            found["spec"]["template"]["spec"] = pod
        before = found["metadata"]["generation"]
        try:
            found = await self.kube.replace(found)
        except ApiError as error:
            await self._event(config, "Warning", "DeploymentUpdateFailed", error.message)
            raise
        if found["metadata"]["generation"] != before:
            log.info("Updating the Deployment namespace=%s name=%s", self.namespace, DEPLOYMENT)
            await self._event(config, "Normal", "DeploymentUpdated", "Trustee deployment updated successfully")
        return False, found

    async def _event(self, config: Object, kind: str, reason: str, message: str) -> None:
        if self.release.events:
            await self.kube.event(config, kind, reason, message, COMPONENT)

    async def _add_finalizer(self, config: Object) -> Object:
        finalizers = config["metadata"].get("finalizers") or []
        if FINALIZER in finalizers:
            return config
        config["metadata"]["finalizers"] = [*finalizers, FINALIZER]
        return await self.kube.replace(config)

    async def _write_service(self, config: Object, spec: Object) -> None:
        wanted = service(self.namespace, spec, owner_reference(config))
        found = await self.kube.get("v1", "Service", SERVICE, self.namespace)
        if found is None:
            try:
                await self.kube.create(wanted)
            except ApiError as error:
                await self._event(config, "Warning", "ServiceCreateFailed", error.message)
                raise
            await self._event(config, "Normal", "ServiceCreated", "KBS service created successfully")
        elif found["spec"].get("type") != wanted["spec"]["type"]:
            found["spec"]["type"] = wanted["spec"]["type"]
            try:
                await self.kube.replace(found)
            except ApiError as error:
                await self._event(config, "Warning", "ServiceUpdateFailed", error.message)
                raise

    async def _write_status(self, config: Object, ready: bool) -> None:
        status = config.get("status") or {}
        before = bool(status.get("isReady"))
        if before == ready and ("isReady" in status or not self.release.status_required):
            return
        config["status"] = {"isReady": ready} if ready or self.release.status_required else {}
        await self.kube.replace(config, "status")
        log.info("KbsConfig %s: isReady=%s", key_of(config), ready)
        if ready != before:
            kind, reason, text = ("Normal", "Ready", "Trustee deployment is ready") if ready else (
                "Warning", "NotReady", "Trustee deployment is no longer ready")
            await self._event(config, kind, reason, text)

    async def _finalize(self, config: Object) -> None:
        """Delete the Deployment, then let the KbsConfig go; without the Deployment this fails for ever."""
        finalizers = config["metadata"].get("finalizers") or []
        if FINALIZER not in finalizers:
            return
        found = await self.kube.get("apps/v1", "Deployment", DEPLOYMENT, self.namespace)
        if found is None:
            raise LookupError(f'deployments.apps "{DEPLOYMENT}" not found')
        await self.kube.delete("apps/v1", "Deployment", DEPLOYMENT, self.namespace)
        config["metadata"]["finalizers"] = [f for f in finalizers if f != FINALIZER]
        await self.kube.replace(config)
        log.info("KbsConfig %s: finalized", key_of(config))


async def health(socket: str = "0.0.0.0:8081") -> None:
    """``/healthz`` and ``/readyz`` of the manager."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text="ok")

    app = web.Application()
    for path in ("/healthz", "/readyz"):
        app.router.add_get(path, answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    host, port = listen_address(socket)
    await web.TCPSite(runner, host, port).start()
    try:
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


def version_of(variables: dict[str, str]) -> str:
    """The operator's version by the condition name that OLM sets. Raises ``RuntimeError`` for one not imitated."""
    version = variables.get("OPERATOR_CONDITION_NAME", "").rpartition(".v")[2] or "1.0.0"
    if version not in TRUSTEE or not TRUSTEE[version].built:
        known = ", ".join(v for v, release in TRUSTEE.items() if release.built)
        raise RuntimeError(f"lab-trustee-operator stands in for {known} · asked to be {version} · "
                           "install one of these versions")
    return version


async def work() -> None:
    variables: dict[str, Any] = dict(os.environ)
    version = version_of(variables)
    kube = Kube.from_kubeconfig(agent=f"manager/lab-trustee-operator-{version}")  # field manager "manager", as there
    try:
        namespace = variables.get("POD_NAMESPACE", "trustee-operator-system")
        await Operator(kube, namespace, TRUSTEE[version], variables["KBS_IMAGE_NAME"],
                       variables.get("OPERATOR_IMAGE_NAME", "")).run()
    finally:
        await kube.close()


if __name__ == "__main__":
    sys.exit(main("lab-trustee-operator", "the trustee operator",
                  os.environ.get("OPERATOR_CONDITION_NAME", "1.0.0"), work))
