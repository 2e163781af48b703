"""The operator's deletion path (reference/operators.md 3.4, 3.6)."""

from __future__ import annotations

import logging

from lab import osc_objects as make
from lab.osc_install import IMAGE_MESSAGES, cluster_id, provider, report_job
from lab.osc_pass import KATA_API, MCO_API, Pass
from lab.osc_state import (
    Invalid,
    condition,
    has_condition,
    image_id,
    labels_of,
    pods_of_classes,
    rolled_back,
    validate_peer_pods,
)
from lab.paths import time_scale

log = logging.getLogger("lab")


async def remove(work: Pass) -> float | None:
    """The deletion path; seconds until the next pass, None to wait for an event. The caller writes the status always."""
    if make.KATACONFIG_FINALIZER not in (work.kataconfig["metadata"].get("finalizers") or []):
        return None
    blocking = pods_of_classes(await work.kube.list("v1", "Pod"), work.status.get("runtimeClasses") or [])
    if blocking:
        text = (f'existing pods using "{blocking}" RuntimeClass found. Please delete the pods manually for KataConfig '
                "deletion to proceed")
        work.set("False", "BlockedByExistingKataPods", text)
        raise Invalid(text)
    moved = False if work.converged else await _unlabel_nodes(work)
    removed = await work.kube.delete(MCO_API, "MachineConfig", make.EXTENSION_MC)
    if moved or removed:
        work.set("True", "Uninstalling", "Removing kata from cluster")
        work.status["waitingForMcoToStart"] = True
    await work.read()
    if not _mco_done(work):
        return None
    if condition(work.status)[1] in ("Uninstalling", "Failed", "BlockedByExistingKataPods"):
        work.set("False")
    await work.kube.delete(MCO_API, "MachineConfigPool", "kata-oc")
    await _delete(work, "apps/v1", "DaemonSet", make.MONITOR)
    if work.peer_pods:
        await _delete(work, "apps/v1", "DaemonSet", make.CAA)
        if work.settings.release.machine_configs:
            for name in make.REMOTE_CONFIGS:
                await work.kube.delete(MCO_API, "MachineConfig", name)
        await _delete(work, "apps/v1", "Deployment", make.WEBHOOK)
        await _delete(work, "v1", "Service", make.WEBHOOK_SERVICE)
        await work.kube.delete("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration",
                               make.WEBHOOK_CONFIGURATION)
        again = await _delete_image(work)
        if again is not None:
            return again
    await work.kube.delete("security.openshift.io/v1", "SecurityContextConstraints", make.SCC)
    await work.kube.delete(MCO_API, "ContainerRuntimeConfig", "kata-crio-config")
    fresh = await work.kube.get(KATA_API, "KataConfig", work.name)
    if fresh is not None:
        kept = [f for f in fresh["metadata"].get("finalizers") or [] if f != make.KATACONFIG_FINALIZER]
        fresh["metadata"]["finalizers"] = kept
        await work.kube.replace(fresh)
    work.gone = True
    log.info("KataConfig %s: uninstallation completed", work.name)
    return None


async def _delete(work: Pass, api_version: str, kind: str, name: str) -> None:
    await work.kube.delete(api_version, kind, name, work.settings.namespace)


async def _unlabel_nodes(work: Pass) -> bool:
    changed = False
    for node in work.nodes:
        if make.KATA_OC in labels_of(node):
            patch = {"metadata": {"labels": {make.KATA_OC: None}}}
            await work.kube.patch("v1", "Node", node["metadata"]["name"], patch)
            changed = True
    return changed


def _mco_done(work: Pass) -> bool:
    """Has the pool taken its nodes back, without the extension."""
    pool = work.pools.get("master" if work.converged else "worker")
    updating, settled = has_condition(pool, "Updating"), rolled_back(work.nodes, pool)
    if updating or settled:
        work.status["waitingForMcoToStart"] = False
    return not work.status["waitingForMcoToStart"] and not updating and settled


async def _delete_image(work: Pass) -> float | None:
    """The image deletion job. The keys are checked before anything else, an empty image id included."""
    secret = await work.namespaced("Secret", "peer-pods-secret")
    config = await work.namespaced("ConfigMap", "peer-pods-cm")
    try:
        validate_peer_pods(secret, config)
    except Invalid as error:
        log.error("error validating peer-pods-cm and peer-pods-secret: %s", error)
        work.set("True", "PodVMImageJobFailed", IMAGE_MESSAGES["delete"]["failed"])
        raise
    if await provider(work) != "azure":
        return None
    image = image_id(config)
    job = await work.kube.get("batch/v1", "Job", make.DELETE_JOB, work.settings.namespace)
    if job is None:
        if not image:
            return None
        job = await work.kube.create(make.image_job(work.settings, "delete", await cluster_id(work), image))
    result = await report_job(work, job, "delete")
    if result in ("running", "unknown") or (result == "completed" and image):
        return 15 * time_scale()
    await _delete(work, "batch/v1", "Job", make.DELETE_JOB)
    return None
