"""lab-osc: stand-in for the sandboxed containers operator (MachineConfig mode, peer pods on Azure).

One pass over the KataConfig as reference/operators.md 3.1 orders it. Status is written at the end of a pass, on the
install path only when nothing failed: a missing ConfigMap or Secret shows in the log and nowhere else.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import os
import sys
from collections.abc import Iterable

from lab import osc_install, osc_remove
from lab.kube import ApiError, Controller, Kube
from lab.osc_credentials import Credentials
from lab.osc_objects import RUNTIMECLASS_FINALIZER, Settings, runtime_log_level
from lab.osc_pass import KATA_API, MCO_API, Pass
from lab.osc_serving import Object, allowed, denied, errored, serve
from lab.osc_state import MC, Invalid, annotation, condition, labels_of, pods_of_classes
from lab.paths import time_scale
from lab.program import main
from lab.releases import OSC, OSC_NAMESPACE

log = logging.getLogger("lab")

DASHBOARD = "grafana-dashboard-sandboxed-containers"
VALIDATE = "/validate-kataconfiguration-openshift-io-v1-kataconfig"


class Operator:
    """The operator's controllers and its admission check."""

    def __init__(self, kube: Kube, settings: Settings) -> None:
        self.kube, self.settings = kube, settings
        self.controller = Controller(kube, "kataconfig", self.reconcile)
        self.classes = Controller(kube, "runtimeclass", self.reconcile_class)
        self.credentials = Credentials(kube, settings)
        self.seen: dict[str, tuple[str, str, Object]] = {}
        self.reported: dict[str, float] = {}

        self.controller.watch(KATA_API, "KataConfig")
        self.controller.watch(MCO_API, "MachineConfigPool", self._pool_changed)
        self.controller.watch("v1", "Node", self._node_changed)
        self.controller.watch("v1", "ConfigMap", self._everyone, namespace=settings.namespace,
                              field_selector="metadata.name=osc-feature-gates")
        if settings.release.rolls_caa:
            self.inputs = Controller(kube, "peer-pods-cm", self._inputs_changed)
            self.inputs.watch("v1", "ConfigMap", namespace=settings.namespace, field_selector="metadata.name=peer-pods-cm")
        self.classes.watch("node.k8s.io/v1", "RuntimeClass")

    async def run(self) -> None:
        """Watch, reconcile and serve until cancelled."""
        watching = [self.controller.run(), self.classes.run(), self.credentials.controller.run()]
        if self.settings.release.rolls_caa:
            watching.append(self.inputs.run())
        await asyncio.gather(*watching, serve({VALIDATE: self.validate}))

    # What wakes a reconciliation

    def _everyone(self, _obj: Object) -> Iterable[str]:
        return list(self.controller.store["KataConfig"])

    async def _inputs_changed(self, _name: str) -> float | None:
        """peer-pods-cm was edited: look at the KataConfig again."""
        self.controller.enqueue(*self.controller.store["KataConfig"])
        return None

    def _pool_changed(self, pool: Object) -> Iterable[str]:
        return self._everyone(pool) if pool["metadata"]["name"] in ("kata-oc", "worker", "master") else []

    def _node_changed(self, node: Object) -> Iterable[str]:
        """Workers wake it with another state or other labels; heartbeats do not."""
        name = node["metadata"]["name"]
        mark = (annotation(node, MC + "state"), annotation(node, MC + "currentConfig"), labels_of(node))
        if self.seen.get(name) == mark and name in self.controller.store["Node"]:
            return []
        self.seen[name] = mark
        return self._everyone(node)

    # Admission

    async def validate(self, request: Object) -> Object:
        """Only CREATE is checked: one KataConfig for a cluster."""
        if request.get("operation") != "CREATE":
            return allowed()
        try:
            found = await self.kube.list(KATA_API, "KataConfig")
        except ApiError as error:
            return errored(f"Failed to list KataConfig custom resources: {error.message}")
        if found:
            return denied("A KataConfig instance already exists, refusing to create a duplicate")
        return allowed()

    # Reconciliation

    async def reconcile(self, name: str) -> float | None:
        """One pass over a KataConfig."""
        kataconfig = await self.kube.get(KATA_API, "KataConfig", name)
        if kataconfig is None:
            return None
        work = Pass(self.kube, self.settings, kataconfig, self.reported)
        await self._protect_classes()
        try:
            await osc_install.feature_gates(work)
        except (ApiError, Invalid) as error:
            log.error("feature gates: %s", error)
        await work.read()
        try:
            work.choose()
        except Invalid as error:
            log.error("Invalid KataConfig.spec.kataConfigPoolSelector - please fix your KataConfig: %s", error)
            return None
        before = copy.deepcopy(kataconfig.get("status") or {})
        value, reason = condition(work.status)
        if work.deleting and (value, reason) not in (("True", "Installing"), ("True", "Updating")):
            try:
                again = await osc_remove.remove(work)
            finally:
                if not work.gone:
                    await self._write_status(work, before)
            if work.gone:
                return None
        else:
            again = await osc_install.install(work)
            await self._write_status(work, before)
        later = await self._dashboard()
        await self._log_level(work)
        return min((t for t in (again, later) if t is not None), default=None)

    async def _write_status(self, work: Pass, before: Object) -> None:
        await work.finish_status()
        if work.status == before:
            return
        fresh = await self.kube.get(KATA_API, "KataConfig", work.name)
        if fresh is None:
            return
        fresh["status"] = work.status
        await self.kube.replace(fresh, "status")
        value, reason = condition(work.status)
        log.info("KataConfig %s: InProgress=%s reason=%r nodes=%s", work.name, value, reason, work.status.get("kataNodes"))

    async def _dashboard(self) -> float | None:
        """Copy of the dashboard ConfigMap for the console; tried again after 15 s."""
        source = await self.kube.get("v1", "ConfigMap", DASHBOARD, self.settings.namespace)
        copied = {"apiVersion": "v1", "kind": "ConfigMap", "data": (source or {}).get("data") or {},
                  "metadata": {"name": DASHBOARD, "namespace": "openshift-config-managed",
                               "labels": {"console.openshift.io/dashboard": "true"}}}
        try:
            await self.kube.ensure(copied)
        except ApiError as error:
            log.error("dashboard: %s", error)
            return 15 * time_scale()
        return None

    async def _log_level(self, work: Pass) -> None:
        level = work.spec.get("logLevel", "info")
        if level != "info" and not work.deleting:
            await self.kube.ensure(runtime_log_level(level, work.pool_name))

    # Runtime classes stay until no pod needs them

    async def _protect_classes(self) -> None:
        for name in self.settings.release.runtime_classes if self.settings.release.class_finalizer else ():
            found = await self.kube.get("node.k8s.io/v1", "RuntimeClass", name)
            if found and not found["metadata"].get("deletionTimestamp"):
                finalizers = found["metadata"].get("finalizers") or []
                if RUNTIMECLASS_FINALIZER not in finalizers:
                    found["metadata"]["finalizers"] = [*finalizers, RUNTIMECLASS_FINALIZER]
                    await self.kube.replace(found)

    async def reconcile_class(self, name: str) -> float | None:
        """Take the finalizer off a RuntimeClass that is being deleted, once no pod that may run uses it."""
        found = await self.kube.get("node.k8s.io/v1", "RuntimeClass", name)
        if found is None or not found["metadata"].get("deletionTimestamp"):
            return None
        finalizers = found["metadata"].get("finalizers") or []
        if RUNTIMECLASS_FINALIZER not in finalizers:
            return None
        pods = await self.kube.list("v1", "Pod")
        if pods_of_classes(pods, [name], ("Running", "Pending", "Unknown")):
            log.info("RuntimeClass %s is still used by pods", name)
            return 10 * time_scale()
        found["metadata"]["finalizers"] = [f for f in finalizers if f != RUNTIMECLASS_FINALIZER]
        await self.kube.replace(found)
        return None


def settings_of(environment: dict[str, str], version: str) -> Settings:
    """What the CSV's environment says."""
    prefix = "RELATED_IMAGE_"
    return Settings(
        namespace=environment.get("PEERPODS_NAMESPACE", OSC_NAMESPACE),
        images={name[len(prefix):]: value for name, value in environment.items() if name.startswith(prefix)},
        extension=environment.get("SANDBOXED_CONTAINERS_EXTENSION") or "sandboxed-containers",
        provider_override=environment.get("PROVIDER_OVERRIDE", ""),
        release=OSC[version],
    )


def version_of(environment: dict[str, str]) -> str:
    """The operator's version by the condition name that OLM sets (``sandboxed-containers-operator.v1.11.1``).

    Raises ``RuntimeError`` for a version whose behaviour the lab does not imitate.
    """
    name = environment.get("OPERATOR_CONDITION_NAME", "")
    version = name.rpartition(".v")[2] or "1.11.1"
    if version not in OSC or not OSC[version].built:
        known = ", ".join(v for v, release in OSC.items() if release.built)
        raise RuntimeError(f"lab-osc stands in for {known} · asked to be {version} · install one of these versions")
    return version


async def work() -> None:
    environment = dict(os.environ)
    version = version_of(environment)
    kube = Kube.from_kubeconfig(agent=f"manager/lab-osc-{version}")  # the real program's field manager is "manager"
    try:
        await Operator(kube, settings_of(environment, version)).run()
    finally:
        await kube.close()


if __name__ == "__main__":
    sys.exit(main("lab-osc", "the OpenShift sandboxed containers operator",
                  os.environ.get("OPERATOR_CONDITION_NAME", "1.11"), work))
