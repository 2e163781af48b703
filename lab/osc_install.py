"""The operator's install path: feature gates, pool and nodes, runtime classes, peer pods (reference/operators.md 3.2)."""

from __future__ import annotations

import logging
from typing import Any

from lab import osc_objects as make
from lab.kube import ApiError
from lab.osc_pass import KATA_API, MCO_API, Pass
from lab.osc_state import (
    NFD,
    PROVIDERS,
    Invalid,
    condition,
    gate_on,
    gated_image_config,
    gated_peer_pods,
    has_condition,
    image_id,
    job_result,
    labels_of,
    rolled_out,
    validate_peer_pods,
)
from lab.paths import time_scale

log = logging.getLogger("lab")
Object = dict[str, Any]
GATES = "osc-feature-gates"

IMAGE_MESSAGES = {
    "create": {"running": "Creating Pod VM Image", "completed": "Created Pod VM Image",
               "failed": "Failed to create Pod VM Image", "unknown": "Pod VM Image creation status is unknown"},
    "delete": {"running": "Deleting Pod VM Image", "completed": "Deleted Pod VM Image",
               "failed": "Failed to delete Pod VM Image", "unknown": "Pod VM Image deletion status is unknown"},
}
IMAGE_REASONS = {
    "running": ("True", "PodVMImageJobRunning"),
    "completed": ("True", "PodVMImageJobCompleted"),
    "failed": ("True", "PodVMImageJobFailed"),
    "unknown": ("Unknown", "PodVMImageJobStatusUnknown"),
}


async def feature_gates(work: Pass) -> None:
    """What the gate ``confidential`` decides, in every pass and before any node work."""
    confidential = gate_on(await work.namespaced("ConfigMap", GATES), "confidential")
    if not work.peer_pods:
        if confidential:
            log.error("no TEE platform labels found (expected the node labels of NFD)")
        return
    config = await work.namespaced("ConfigMap", "peer-pods-cm")
    if await provider(work) == "azure" and not work.deleting:
        image_config = await work.kube.ensure(make.image_config_map(work.settings, await cluster_id(work), work.owner))
        changed = gated_image_config(image_config, config, confidential)
        if changed:
            await work.kube.replace(changed)
    if config is None:
        log.info("peer-pods-cm is not there, feature gate confidential=%s not written to it", confidential)
        return
    changed = gated_peer_pods(config, confidential, work.settings.release.gate_owns_initdata)
    if changed:
        await work.kube.replace(changed)


async def check_deployment_mode(work: Pass) -> None:
    """Key ``deploymentMode`` of the gates: unknown values mean the default. Raises :class:`Invalid` for DaemonSet."""
    if not work.settings.release.deployment_mode:
        return
    gates = await work.namespaced("ConfigMap", GATES)
    mode = ((gates or {}).get("data") or {}).get("deploymentMode") or "DaemonSetFallback"
    if mode == "DaemonSet":
        raise Invalid("lab-osc works by MachineConfig only · osc-feature-gates asks for deploymentMode DaemonSet · set it to "
                      "MachineConfig or DaemonSetFallback")
    if mode not in ("MachineConfig", "DaemonSetFallback"):
        log.error("invalid deploymentMode %r, using DaemonSetFallback", mode)


async def provider(work: Pass) -> str:
    """The image provider: by platform type or the override, never by CLOUD_PROVIDER."""
    if work.settings.provider_override:
        return work.settings.provider_override
    found = await work.kube.get("config.openshift.io/v1", "Infrastructure", "cluster")
    status = (found or {}).get("status") or {}
    kind = (status.get("platformStatus") or {}).get("type") or status.get("platform") or "None"
    return PROVIDERS.get(kind, kind.lower())


async def cluster_id(work: Pass) -> str:
    """``spec.clusterID`` of the ClusterVersion."""
    found = await work.kube.get("config.openshift.io/v1", "ClusterVersion", "version")
    return str(((found or {}).get("spec") or {}).get("clusterID", ""))


async def install(work: Pass) -> float | None:
    """The install path. Returns seconds until the next pass, None to wait for an event; raises on what it cannot do."""
    if work.spec.get("checkNodeEligibility") and not any(labels_of(n).get(NFD) == "true" for n in work.nodes):
        log.error("no Nodes with required labels found. Is NFD running?")
        return 20 * time_scale()
    await check_deployment_mode(work)
    if work.peer_pods and work.settings.release.machine_configs:
        for config in make.remote_configs(work.pool_name):
            await work.kube.ensure(config)
    await _add_finalizer(work)
    started = await _machine_config(work)
    if started:
        work.set("True", "Installing", "Performing initial installation of kata on cluster")
    moved = False if work.converged else await _label_nodes(work)
    if moved and not started and condition(work.status)[1] != "Installing":
        work.set("True", "Updating", "Adding and/or removing kata-enabled nodes")
    if started or moved:
        work.status["waitingForMcoToStart"] = True
    if not work.converged:
        await work.kube.ensure(make.machine_config_pool())
    await work.read()
    if not _mco_done(work):
        return None
    if condition(work.status)[1] in ("Installing", "Updating", "Failed"):
        work.set("False")
    for name in work.settings.release.runtime_classes:
        if name != "kata-remote":
            await _runtime_class(work, name)
    await work.kube.ensure(make.security_context_constraints())
    await work.kube.ensure(make.monitor(work.settings, work.node_label, work.owner))
    if work.peer_pods:
        again = await _peer_pods(work)
        if again is not None:
            return again
    work.set("False")
    return None


async def _add_finalizer(work: Pass) -> None:
    meta = work.kataconfig["metadata"]
    if not work.deleting and make.KATACONFIG_FINALIZER not in (meta.get("finalizers") or []):
        meta["finalizers"] = [*(meta.get("finalizers") or []), make.KATACONFIG_FINALIZER]
        work.kataconfig = await work.kube.replace(work.kataconfig)
        work.kataconfig.setdefault("apiVersion", KATA_API)
        work.kataconfig.setdefault("kind", "KataConfig")


async def _machine_config(work: Pass) -> bool:
    """Make the extension's MachineConfig; True when it was not there."""
    wanted = make.machine_config(work.name, work.pool_name, work.settings.extension)
    if await work.kube.get(MCO_API, "MachineConfig", make.EXTENSION_MC):
        return False
    await work.kube.create(wanted)
    return True


async def _label_nodes(work: Pass) -> bool:
    """Label the chosen workers, unlabel the others; True when a label changed."""
    changed = False
    for node in work.nodes:
        name = node["metadata"]["name"]
        has, wants = make.KATA_OC in labels_of(node), name in work.wanted
        if has != wants:
            patch = {"metadata": {"labels": {make.KATA_OC: "" if wants else None}}}
            await work.kube.patch("v1", "Node", name, patch)
            changed = True
    return changed


def _mco_done(work: Pass) -> bool:
    """Has the Machine Config Operator started and finished; follows ``waitingForMcoToStart``."""
    pool, lists = work.pools.get(work.pool_name), work.lists()
    updating, settled = has_condition(pool, "Updating"), rolled_out(lists, pool)
    if updating or settled:
        work.status["waitingForMcoToStart"] = False
    leaving = lists.get("uninstalling") or lists.get("waitingToUninstall")
    return not work.status["waitingForMcoToStart"] and not updating and not leaving


async def _runtime_class(work: Pass, name: str) -> None:
    await work.kube.ensure(make.runtime_class(work.settings, name, work.node_label, work.owner))
    work.add_class(name)


async def _peer_pods(work: Pass) -> float | None:
    """Peer pods: pull secret, checks, image, CAA, webhook, runtime class. Seconds while an image is being built."""
    pull = await work.kube.get("v1", "Secret", "pull-secret", "openshift-config")
    if pull is None:
        raise Invalid('secrets "pull-secret" not found in namespace openshift-config')
    await work.kube.ensure(make.auth_json_secret(work.settings, pull))
    try:
        validate_peer_pods(await work.namespaced("Secret", "peer-pods-secret"),
                           await work.namespaced("ConfigMap", "peer-pods-cm"))
    except Invalid as error:
        log.error("error validating peer-pods-cm and peer-pods-secret: %s", error)
        raise
    again = await make_image(work)
    if again is not None:
        return again
    await _write_caa(work)
    for obj in make.peer_pods_webhook(work.settings):
        await work.kube.ensure(obj)
    await _runtime_class(work, "kata-remote")
    return None


async def _write_caa(work: Pass) -> None:
    """The DaemonSet is written whole in every pass: hand-made changes of its template do not last."""
    version = ""
    if work.settings.release.rolls_caa:
        config = await work.namespaced("ConfigMap", "peer-pods-cm")
        if config is None:
            raise Invalid("peer pod configmap peer-pods-cm missing")
        version = config["metadata"]["resourceVersion"]
    wanted = make.caa_daemonset(work.settings, work.node_label, work.owner, version)
    found = await work.kube.get("apps/v1", "DaemonSet", make.CAA, work.settings.namespace)
    if found is None:
        await work.kube.create(wanted)
        return
    found["spec"] = wanted["spec"]
    await work.kube.replace(found)


async def make_image(work: Pass) -> float | None:
    """The image creation job. A failed job is no error: the pass goes on and the condition is reset."""
    if await provider(work) != "azure":
        work.set("True", "PodVMImageUnsupportedProvider", "Pod VM image provider is unsupported")
        log.error("Pod VM image provider is unsupported")
        return None
    job = await work.kube.get("batch/v1", "Job", make.CREATE_JOB, work.settings.namespace)
    if job is None:
        if image_id(await work.namespaced("ConfigMap", "peer-pods-cm")):
            return None
        try:
            job = await work.kube.create(make.image_job(work.settings, "create", await cluster_id(work)))
        except ApiError as error:
            log.error("image creation job: %s", error)
            return 15 * time_scale()
    result = await report_job(work, job, "create")
    if result in ("running", "unknown"):
        return 15 * time_scale()
    await work.kube.delete("batch/v1", "Job", make.CREATE_JOB, work.settings.namespace)
    return 15 * time_scale() if result == "completed" else None


async def report_job(work: Pass, job: Object, action: str) -> str:
    """Show a job's state as condition and event; its state."""
    result = job_result(job)
    status, reason = IMAGE_REASONS[result]
    work.set(status, reason, IMAGE_MESSAGES[action][result])
    name = job["metadata"]["name"]
    text = {"running": f"PodVM image job ({name}) is running",
            "completed": f"PodVM image job ({name}) completed successfully",
            "failed": f"PodVM image job ({name}) failed"}.get(result)
    if text:
        await work.job_event(job, "Warning" if result == "failed" else "Normal", reason, text)
    return result
