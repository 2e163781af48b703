"""lab-trustee-operator: stand-in for the trustee operator 1.0.0 (reference/operators.md 2.3).

Quirks of that release that it keeps: the Deployment has no owner and is not watched, so ``isReady`` follows only events of
KbsConfig, ConfigMaps and Secrets; ``isReady`` false is written as an absent field; the finalizer reads the Deployment first
and fails without it.
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

from lab.kube import Controller, Kube, key_of, owner_reference
from lab.paths import listen_address
from lab.program import main
from lab.releases import TRUSTEE
from lab.trustee_objects import (
    DEPLOYMENT,
    SERVICE,
    Object,
    deployment,
    environment,
    is_ready,
    pod_spec,
    references,
    service,
    wanted_mounts,
)

log = logging.getLogger("lab")

API = "confidentialcontainers.org/v1alpha1"
FINALIZER = "kbsconfig.confidentialcontainers.org/finalizer"


class Operator:
    """The operator's controllers, in its own namespace only."""

    def __init__(self, kube: Kube, namespace: str, image: str, shuffle: random.Random | None = None) -> None:
        self.kube, self.namespace, self.image = kube, namespace, image
        self.shuffle = shuffle or random.Random()
        self.controller = Controller(kube, "kbsconfig", self.reconcile)
        self.controller.watch(API, "KbsConfig", namespace=namespace)
        for kind in ("ConfigMap", "Secret"):
            self.controller.watch("v1", kind, self._users(kind), namespace=namespace)
        self.profiles = Controller(kube, "trusteeconfig", self.reconcile_profile)
        self.profiles.watch(API, "TrusteeConfig", namespace=namespace)

    async def run(self) -> None:
        """Watch, reconcile and answer health checks until cancelled."""
        await asyncio.gather(self.controller.run(), self.profiles.run(), health())

    def _users(self, kind: str) -> Callable[[Object], Iterable[str]]:
        """KbsConfigs that name a ConfigMap or Secret."""

        def keys(obj: Object) -> Iterable[str]:
            wanted = (kind, obj["metadata"]["name"])
            return [key for key, config in self.controller.store["KbsConfig"].items()
                    if wanted in references(config.get("spec") or {})]

        return keys

    async def reconcile_profile(self, key: str) -> float | None:
        """TrusteeConfig is served by the API but not worked on in this lab yet."""
        log.warning("TrusteeConfig %s is left untouched: lab-trustee-operator works on KbsConfig only", key)
        return None

    async def reconcile(self, key: str) -> float | None:
        """One pass over a KbsConfig."""
        name = key.rpartition("/")[2]
        config = await self.kube.get(API, "KbsConfig", name, self.namespace)
        if config is None:
            return None
        if config["metadata"].get("deletionTimestamp"):
            await self._finalize(config)
            return None
        spec = config.get("spec") or {}
        await self._check_inputs(spec)
        found = await self._write_deployment(spec)
        config = await self._add_finalizer(config)
        await self._write_service(config, spec)
        await self._write_status(config, is_ready(found))
        return None

    async def _check_inputs(self, spec: Object) -> None:
        """Everything that the spec names must exist. Raises ``LookupError`` or ``Missing``; the pass is repeated."""
        for mount in wanted_mounts(spec):
            if await self.kube.get("v1", mount.kind, mount.name, self.namespace) is None:
                raise LookupError(f'error in creating volume {mount.volume}: {mount.kind} "{mount.name}" not found')
        if spec.get("kbsDeploymentType") != "AllInOneDeployment":
            raise LookupError("lab-trustee-operator makes AllInOneDeployment only: set spec.kbsDeploymentType to it")

    async def _write_deployment(self, spec: Object) -> Object:
        proxy = await self.kube.get("config.openshift.io/v1", "Proxy", "cluster")
        pod = pod_spec(spec, self.image, environment(spec, proxy, self.shuffle))
        found = await self.kube.get("apps/v1", "Deployment", DEPLOYMENT, self.namespace)
        if found is None:
            log.info("Creating a new Deployment namespace=%s name=%s", self.namespace, DEPLOYMENT)
            return await self.kube.create(deployment(self.namespace, spec, pod))
        found["spec"]["template"]["spec"] = pod
        before = found["metadata"]["generation"]
        found = await self.kube.replace(found)
        if found["metadata"]["generation"] != before:
            log.info("Updating the Deployment namespace=%s name=%s", self.namespace, DEPLOYMENT)
        return found

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
            await self.kube.create(wanted)
        elif found["spec"].get("type") != wanted["spec"]["type"]:
            found["spec"]["type"] = wanted["spec"]["type"]
            await self.kube.replace(found)

    async def _write_status(self, config: Object, ready: bool) -> None:
        if bool((config.get("status") or {}).get("isReady")) == ready:
            return
        config["status"] = {"isReady": True} if ready else {}
        await self.kube.replace(config, "status")
        log.info("KbsConfig %s: isReady=%s", key_of(config), ready)

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
        await Operator(kube, namespace, variables["KBS_IMAGE_NAME"]).run()
    finally:
        await kube.close()


if __name__ == "__main__":
    sys.exit(main("lab-trustee-operator", "the trustee operator",
                  os.environ.get("OPERATOR_CONDITION_NAME", "1.0.0"), work))
