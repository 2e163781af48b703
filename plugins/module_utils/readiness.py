# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When is an object ready, in its kind's own sense? Pure.

Sources: the conditions of Kubernetes kinds, OLM as run, the operators' condition tables. Each answer is
``{"ready", "failed", "reason", "message"}``; ``failed`` means that it will not become ready by waiting.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils.peerpods import provider_of

Object = dict[str, Any]
Answer = dict[str, Any]

OSC_NAMESPACE = "openshift-sandboxed-containers-operator"
TRUSTEE_NAMESPACE = "trustee-operator-system"
CCO_NAMESPACE = "openshift-cloud-credential-operator"
#: Kinds of related objects that only help to say why: where they may not be read they are left out, and nothing is concluded.
OPTIONAL = frozenset({"Secret", "CredentialsRequest", "CloudCredential"})


def _reference(api_version: str, kind: str, name: str, namespace: str = "") -> Object:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": namespace or None}}


#: Objects that the readiness of a kind looks at besides itself; handed over as ``{"Kind/name": object or None}``.
RELATED: dict[str, list[Object]] = {
    "KataConfig": [
        _reference("node.k8s.io/v1", "RuntimeClass", "kata-remote"),
        _reference("v1", "ConfigMap", "peer-pods-cm", OSC_NAMESPACE),
        _reference("apps/v1", "DaemonSet", "osc-caa-ds", OSC_NAMESPACE),
        _reference("apps/v1", "DaemonSet", "peerpodconfig-ctrl-caa-daemon", OSC_NAMESPACE),  # its name in OSC 1.8
        _reference("apps/v1", "Deployment", "peer-pods-webhook", OSC_NAMESPACE),
        _reference("v1", "Secret", "peer-pods-secret", OSC_NAMESPACE),
        _reference("cloudcredential.openshift.io/v1", "CredentialsRequest", "openshift-sandboxed-containers-azure", CCO_NAMESPACE),
        _reference("operator.openshift.io/v1", "CloudCredential", "cluster"),
    ],
    "KbsConfig": [_reference("apps/v1", "Deployment", "trustee-deployment", TRUSTEE_NAMESPACE)],
}


def _answer(ready: bool, reason: str = "", message: str = "", failed: bool = False) -> Answer:
    return {"ready": ready, "failed": failed, "reason": reason, "message": message}


def _conditions(obj: Object) -> dict[str, Object]:
    return {condition["type"]: condition for condition in obj.get("status", {}).get("conditions") or []}


def _observed(obj: Object) -> bool:
    generation = obj.get("metadata", {}).get("generation", 0)
    return bool(obj.get("status", {}).get("observedGeneration", generation) >= generation)


def _namespace(obj: Object, release: Any, related: Any) -> Answer:
    phase = obj.get("status", {}).get("phase", "Active")
    return _answer(phase == "Active", phase, f"the namespace is {phase}")


def _crd(obj: Object, release: Any, related: Any) -> Answer:
    established = _conditions(obj).get("Established", {})
    names = _conditions(obj).get("NamesAccepted", {})
    if names.get("status") == "False":
        return _answer(False, names.get("reason", ""), names.get("message", ""), failed=True)
    return _answer(established.get("status") == "True", established.get("reason", "NotEstablished"),
                   established.get("message", ""))


def _deployment(obj: Object, release: Any, related: Any) -> Answer:
    status, wanted = obj.get("status", {}), obj.get("spec", {}).get("replicas", 1)
    conditions = _conditions(obj)
    progressing = conditions.get("Progressing", {})
    if progressing.get("reason") == "ProgressDeadlineExceeded":
        return _answer(False, "ProgressDeadlineExceeded", progressing.get("message", ""), failed=True)
    available, updated = status.get("availableReplicas", 0), status.get("updatedReplicas", 0)
    message = f"{available} of {wanted} replicas available"
    trouble = conditions.get("ReplicaFailure", {})
    if trouble.get("status") == "True":
        message += f" ({trouble.get('message', '')})"
    ready = _observed(obj) and updated >= wanted and available >= wanted and status.get("replicas", 0) == wanted
    return _answer(bool(ready and wanted > 0), "Available" if ready else "Progressing", message)


def _daemon_set(obj: Object, release: Any, related: Any) -> Answer:
    status = obj.get("status", {})
    wanted, ready, updated = (status.get(k, 0) for k in ("desiredNumberScheduled", "numberReady", "updatedNumberScheduled"))
    good = _observed(obj) and wanted > 0 and ready == wanted and updated == wanted
    return _answer(good, "Available" if good else "Progressing", f"{ready} of {wanted} pods ready")


def _job(obj: Object, release: Any, related: Any) -> Answer:
    conditions = _conditions(obj)
    if conditions.get("Failed", {}).get("status") == "True":
        return _answer(False, conditions["Failed"].get("reason", "Failed"), conditions["Failed"].get("message", ""), failed=True)
    done = conditions.get("Complete", {}).get("status") == "True"
    return _answer(done, "Complete" if done else "Running", f"{obj.get('status', {}).get('active', 0)} active")


def _pod(obj: Object, release: Any, related: Any) -> Answer:
    status = obj.get("status", {})
    phase = status.get("phase", "Pending")
    if phase == "Failed":
        return _answer(False, status.get("reason", "Failed"), status.get("message", ""), failed=True)
    if phase == "Succeeded":
        return _answer(True, "Succeeded")
    waiting = [c["state"]["waiting"] for c in status.get("containerStatuses") or [] if c.get("state", {}).get("waiting")]
    text = "; ".join(f"{w.get('reason', '')} {w.get('message', '')}".strip() for w in waiting)
    return _answer(_conditions(obj).get("Ready", {}).get("status") == "True", phase, text or f"the pod is {phase}")


def _route(obj: Object, release: Any, related: Any) -> Answer:
    entries = [(i.get("host", ""), c) for i in obj.get("status", {}).get("ingress") or [] for c in i.get("conditions") or []
               if c.get("type") == "Admitted"]
    for host, condition in entries:
        if condition.get("status") == "True":
            return _answer(True, "Admitted", host)
    for host, condition in entries:
        return _answer(False, condition.get("reason", ""), f"{host}: {condition.get('message', '')}", failed=True)
    return _answer(False, "NotAdmitted", "no router has admitted the route yet")


def _csv(obj: Object, release: Any, related: Any) -> Answer:
    status = obj.get("status", {})
    phase, reason = status.get("phase", "Pending"), status.get("reason", "")
    terminal = phase == "Failed" and reason in ("TooManyOperatorGroups", "UnsupportedOperatorGroup", "NoOperatorGroup",
                                                "ComponentFailedNoRetry", "InvalidInstallPlan")
    return _answer(phase == "Succeeded", reason or phase, f"{phase}: {status.get('message', '')}", failed=terminal)


def _install_plan(obj: Object, release: Any, related: Any) -> Answer:
    phase = obj.get("status", {}).get("phase", "")
    said = "; ".join(c.get("message", "") for c in obj.get("status", {}).get("conditions") or [] if c.get("message"))
    return _answer(phase == "Complete", phase or "Planning", said, failed=phase == "Failed")


def _subscription(obj: Object, release: Any, related: Any) -> Answer:
    found = [c for kind, c in _conditions(obj).items() if kind == "ResolutionFailed" and c.get("status") == "True"]
    if found:
        return _answer(False, found[0].get("reason", "ResolutionFailed"), found[0].get("message", ""))
    status = obj.get("status", {})
    known = bool(status.get("installPlanRef") or status.get("installedCSV"))
    return _answer(known, status.get("state", "Unresolved") or "Unresolved", "no install plan yet" if not known else "")


def _catalog_source(obj: Object, release: Any, related: Any) -> Answer:
    state = obj.get("status", {}).get("connectionState", {}).get("lastObservedState", "")
    return _answer(state == "READY", state or "Unknown", f"the catalog is {state or 'not connected'}")


def _pool(obj: Object, release: Any, related: Any) -> Answer:
    conditions = _conditions(obj)
    if conditions.get("Degraded", {}).get("status") == "True":
        said = [conditions.get(name, {}).get("message", "") for name in ("NodeDegraded", "RenderDegraded", "Degraded")]
        return _answer(False, "Degraded", "; ".join(text for text in said if text), failed=True)
    status = obj.get("status", {})
    count, updated = status.get("machineCount", 0), status.get("updatedMachineCount", 0)
    message = conditions.get("Updating", {}).get("message") or f"{updated} of {count} machines updated"
    if obj.get("spec", {}).get("paused") and conditions.get("Updated", {}).get("status") != "True":
        return _answer(False, "Paused", f"the pool is paused: {message}")
    wanted = obj.get("spec", {}).get("configuration", {}).get("name")
    current = status.get("configuration", {}).get("name")
    good = conditions.get("Updated", {}).get("status") == "True" and _observed(obj) and wanted == current
    return _answer(good, "Updated" if good else "Updating", f"{updated} of {count} machines updated; {message}")


def _credentials(related: dict[str, Any]) -> tuple[str, bool]:
    """(why there is no peer-pods-secret, whether waiting will not bring it); no text where it is there or cannot be seen.

    Source: the operator makes it of what the Cloud Credential Operator grants, and logs a missing one only.
    """
    if "Secret/peer-pods-secret" not in related or related["Secret/peer-pods-secret"] is not None:
        return "", False
    mode = ((related.get("CloudCredential/cluster") or {}).get("spec") or {}).get("credentialsMode", "")
    if mode == "Manual":
        return ("there is no peer-pods-secret, and the Cloud Credential Operator (mode Manual) makes none: give "
                "coco_cloud_credentials (--tags step05)"), True
    name = "CredentialsRequest/openshift-sandboxed-containers-azure"
    if name not in related:
        return "there is no peer-pods-secret", False
    request = related[name]
    if request is None:
        return f"there is no peer-pods-secret, and no {name} asks for it", False
    said = [f"{kind}: {c.get('message', '')}" for kind, c in _conditions(request).items() if c.get("status") == "True"]
    if said:
        return (f"there is no peer-pods-secret: {name}: {'; '.join(said)}: mend that, or give coco_cloud_credentials "
                "(--tags step05)"), True
    done = request.get("status", {}).get("provisioned")
    state = "is provisioned, and the operator has not copied cco-secret yet" if done else "is not provisioned yet"
    return f"there is no peer-pods-secret: {name} {state}", False


def _kataconfig(obj: Object, release: Any, related: Any) -> Answer:
    progress = _conditions(obj).get("InProgress", {})
    status, reason, said = progress.get("status", ""), progress.get("reason", ""), progress.get("message", "")
    nodes = obj.get("status", {}).get("kataNodes") or {}
    total, ready = nodes.get("nodeCount", 0), nodes.get("readyNodeCount", 0)
    where = f"{ready} of {total} nodes"
    for name, word in (("installing", "installing"), ("waitingToInstall", "waiting"), ("failedToInstall", "failed")):
        if nodes.get(name):
            where += f", {word}: {', '.join(nodes[name])}"
    line = " ".join(part for part in (reason, said, f"({where})") if part)
    if obj.get("metadata", {}).get("deletionTimestamp"):
        return _answer(False, "Deleting", line)
    if reason in ("Failed", "PodVMImageJobFailed"):
        return _answer(False, reason, line, failed=True)
    missing, refused = _credentials(related or {}) if obj.get("spec", {}).get("enablePeerPods") else ("", False)
    if missing:
        return _answer(False, "NoCredentials", f"{line}; {missing}", failed=refused or 0 < total == ready)
    if status != "False" or reason or total == 0 or ready != total:
        return _answer(False, reason or "Waiting", line)
    if not obj.get("spec", {}).get("enablePeerPods"):
        return _answer(True, "Installed", where)
    others = related or {}
    osc = (release or {}).get("osc") or {}
    adaptor = osc.get("caa_name", "osc-caa-ds")
    settings = (others.get("ConfigMap/peer-pods-cm") or {}).get("data") or {}
    image = settings.get(provider_of(settings).image_key, "")
    if not image:
        return _answer(False, "NoImage", "the nodes are done, but no pod VM image exists yet: see the job "
                       f"osc-podvm-image-creation ({where})")
    if others.get("RuntimeClass/kata-remote") is None:
        return _answer(False, "NoRuntimeClass", f"the runtime class kata-remote does not exist yet ({where})")
    for name, check in ((f"DaemonSet/{adaptor}", _daemon_set), ("Deployment/peer-pods-webhook", _deployment)):
        found = others.get(name)
        state = check(found, None, None) if found else _answer(False, "NotFound", "does not exist yet")
        if not state["ready"]:
            return _answer(False, "NotReady", f"{name}: {state['message']}")
    return _answer(True, "Installed", where)


def _kbsconfig(obj: Object, release: Any, related: Any) -> Answer:
    deployment = (related or {}).get("Deployment/trustee-deployment")
    if deployment is None:
        return _answer(False, "NoDeployment", "the operator has not made trustee-deployment: a config map or Secret that the "
                       "KbsConfig names is missing, or the operator does not run")
    volumes = deployment.get("spec", {}).get("template", {}).get("spec", {}).get("volumes") or []
    mounted = {(volume.get("secret") or {}).get("secretName") for volume in volumes}
    waiting = sorted(set(obj.get("spec", {}).get("kbsSecretResources") or []) - mounted)
    if waiting:
        return _answer(False, "NotMounted", f"trustee-deployment does not mount {', '.join(waiting)} yet: the operator has "
                       "not made its pass, or such a Secret is missing")
    return _deployment(deployment, release, None)


def _trusteeconfig(obj: Object, release: Any, related: Any) -> Answer:
    """That its KbsConfig is made: ``isReady`` comes too early in Trustee 1.0 and repeats the KbsConfig's from 1.1 on."""
    status = obj.get("status", {})
    made = (status.get("kbsConfigRef") or {}).get("name", "")
    return _answer(bool(made), status.get("statusDescription", "") if made else "NoKbsConfig", made or "the operator has not made its "
                   "KbsConfig: a Secret that the TrusteeConfig names is missing or not of type kubernetes.io/tls, or the operator "
                   "does not run")


def _endpoints(obj: Object, release: Any, related: Any) -> Answer:
    subsets = [address for subset in obj.get("subsets") or [] for address in subset.get("addresses") or []]
    slices = [e for e in obj.get("endpoints") or [] if (e.get("conditions") or {}).get("ready", True)]
    return _answer(bool(subsets or slices), "Addresses", "no ready address yet")


KINDS: dict[str, Callable[[Object, Any, Any], Answer]] = {
    "Namespace": _namespace, "CustomResourceDefinition": _crd, "Deployment": _deployment, "DaemonSet": _daemon_set,
    "Job": _job, "Pod": _pod, "Route": _route, "ClusterServiceVersion": _csv, "InstallPlan": _install_plan,
    "Subscription": _subscription, "CatalogSource": _catalog_source, "MachineConfigPool": _pool, "KataConfig": _kataconfig,
    "KbsConfig": _kbsconfig, "TrusteeConfig": _trusteeconfig, "Endpoints": _endpoints, "EndpointSlice": _endpoints,
}


def ready(obj: Object | None, release: dict[str, Any] | None = None, related: dict[str, Any] | None = None) -> Answer:
    """The readiness of an object; of kinds without a rule of their own, that it exists."""
    if obj is None:
        return _answer(False, "NotFound", "it does not exist yet")
    rule = KINDS.get(obj.get("kind", ""))
    return rule(obj, release, related) if rule else _answer(True, "Exists")
