"""What the sandboxed containers operator reads out of the cluster: selectors, node states, gates, configuration."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from lab.kube import now
from lab.osc_objects import DEFAULT_INITDATA, EXTENSION_MC, KATA_OC, MASTER, WORKER

Object = dict[str, Any]
MC = "machineconfiguration.openshift.io/"
NFD = "feature.node.kubernetes.io/runtime.kata"

# Keys that must be present and not empty before an image is built, CAA started or an image deleted, on Azure. Subnet and
# security group are not among them (reference/operators.md 3.2, step 13).
NEEDED_SECRET = ("AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_TENANT_ID", "AZURE_SUBSCRIPTION_ID")
NEEDED_CONFIG = ("CLOUD_PROVIDER", "AZURE_RESOURCE_GROUP", "AZURE_REGION")
PROVIDERS = {"Azure": "azure", "AWS": "aws", "GCP": "gcp", "None": "libvirt", "IBMCloud": "ibmcloud"}

NODE_LISTS = ("installed", "installing", "waitingToInstall", "failedToInstall", "uninstalling", "waitingToUninstall",
              "failedToUninstall")


class Invalid(ValueError):
    """An input the operator refuses, in its words."""


def labels_of(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("labels") or {}


def annotation(obj: Object, name: str) -> str:
    return str((obj["metadata"].get("annotations") or {}).get(name, ""))


def selects(selector: Object | None, labels: dict[str, str]) -> bool:
    """Does a LabelSelector match; None or an empty one matches all. Raises :class:`Invalid`."""
    matched = True
    for key, value in ((selector or {}).get("matchLabels") or {}).items():
        matched = matched and labels.get(key) == value
    for expression in (selector or {}).get("matchExpressions") or []:
        key, operator, values = expression["key"], expression["operator"], expression.get("values") or []
        if operator in ("In", "NotIn"):
            if not values:
                raise Invalid(f"values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty ({key})")
            inside = key in labels and labels[key] in values
            matched = matched and (inside if operator == "In" else not inside)
        elif operator in ("Exists", "DoesNotExist"):
            if values:
                raise Invalid(f"values: Invalid value: {values}: values set must be empty for exists and does not exist")
            matched = matched and ((key in labels) == (operator == "Exists"))
        else:
            raise Invalid(f'"{operator}" is not a valid label selector operator')
    return matched


def spec_of(kataconfig: Object) -> Object:
    """The spec; ``spec: null`` is allowed by the CRD."""
    return kataconfig.get("spec") or {}


def converged(pools: Iterable[Object]) -> bool:
    """Is this a cluster without own workers: exactly two pools, and ``worker`` is empty."""
    by_name = {pool["metadata"]["name"]: pool for pool in pools}
    worker = by_name.get("worker")
    return len(by_name) == 2 and worker is not None and (worker.get("status") or {}).get("machineCount", 0) == 0


def wanted_nodes(nodes: Iterable[Object], kataconfig: Object) -> list[str]:
    """Workers that are to carry the kata-oc label. Raises :class:`Invalid` for a bad selector."""
    spec = spec_of(kataconfig)
    selector = spec.get("kataConfigPoolSelector")
    selects(selector, {})
    found = []
    for node in nodes:
        labels = labels_of(node)
        if WORKER not in labels or not selects(selector, labels):
            continue
        if spec.get("checkNodeEligibility") and labels.get(NFD) != "true":
            continue
        found.append(node["metadata"]["name"])
    return found


def configuration(pool: Object | None) -> str:
    """Name of the rendered configuration a pool wants its nodes to have."""
    return str((((pool or {}).get("spec") or {}).get("configuration") or {}).get("name", ""))


def has_condition(pool: Object | None, kind: str) -> bool:
    """Is a condition of the pool True."""
    conditions = ((pool or {}).get("status") or {}).get("conditions") or []
    return any(c["type"] == kind and c["status"] == "True" for c in conditions)


def renders_extension(pool: Object | None) -> bool:
    """Does the configuration that the pool wants contain the operator's MachineConfig."""
    wanted = ((pool or {}).get("spec") or {}).get("configuration") or {}
    return EXTENSION_MC in [source.get("name") for source in wanted.get("source") or []]


def rolled_out(lists: Object, pool: Object | None) -> bool:
    """Has every kata node the pool's configuration, with the extension in it, and no other node a part of it left."""
    pending = [name for name in NODE_LISTS[1:] if lists.get(name)]
    return not pending and lists["readyNodeCount"] == lists["nodeCount"] and renders_extension(pool)


def rolled_back(nodes: Iterable[Object], pool: Object | None) -> bool:
    """Has every node of the pool (``worker`` or ``master``) its configuration, without the extension."""
    role = f"node-role.kubernetes.io/{(pool or {'metadata': {'name': 'worker'}})['metadata']['name']}"
    target = configuration(pool)
    return not renders_extension(pool) and all(
        annotation(node, MC + "state") == "Done" and annotation(node, MC + "currentConfig") == target
        for node in nodes
        if role in labels_of(node) and (role in (WORKER, MASTER))
    )


def node_lists(nodes: Iterable[Object], pools: dict[str, Object], single_pool: bool) -> Object:
    """``status.kataNodes``; lists that would be empty are left out (reference/operators.md 3.3)."""
    lists: dict[str, list[str]] = {name: [] for name in NODE_LISTS}
    count = 0
    for node in sorted(nodes, key=lambda n: n["metadata"]["name"]):
        labels = labels_of(node)
        kata = (MASTER if single_pool else KATA_OC) in labels
        if not kata and (single_pool or WORKER not in labels):
            continue
        count += kata
        pool = pools.get("master" if single_pool else "kata-oc" if kata else "worker")
        target, state = configuration(pool), annotation(node, MC + "state")
        name = _list_for(kata, state, bool(target) and annotation(node, MC + "currentConfig") == target)
        if name:
            lists[name].append(node["metadata"]["name"])
    found: Object = {"nodeCount": count, "readyNodeCount": len(lists["installed"])}
    found.update({name: names for name, names in lists.items() if names})
    return found


def _list_for(kata: bool, state: str, settled: bool) -> str:
    if state == "Working":
        return "installing" if kata else "uninstalling"
    if state == "Degraded":
        return "failedToInstall" if kata else "failedToUninstall"
    if state == "Done" and settled:
        return "installed" if kata else ""
    if state == "Done":
        return "waitingToInstall" if kata else "waitingToUninstall"
    return ""


def degraded(nodes: Iterable[Object], lists: Object) -> str:
    """``Node <n> Degraded: <reason>`` for the first node that failed, else empty."""
    failed = [*lists.get("failedToInstall", []), *lists.get("failedToUninstall", [])]
    for node in nodes:
        if node["metadata"]["name"] in failed:
            return f"Node {node['metadata']['name']} Degraded: {annotation(node, MC + 'reason')}"
    return ""


def condition(status: Object) -> tuple[str, str]:
    """(status, reason) of condition InProgress; ("False", "") where there is none."""
    for entry in status.get("conditions") or []:
        if entry["type"] == "InProgress":
            return entry["status"], entry["reason"]
    return "False", ""


def set_condition(status: Object, value: str, reason: str = "", message: str = "") -> None:
    """Set condition InProgress in ``status``; the time changes with status or reason or message."""
    entry = {"type": "InProgress", "status": value, "reason": reason, "message": message, "lastTransitionTime": now()}
    for number, old in enumerate(status.setdefault("conditions", [])):
        if old["type"] == "InProgress":
            if all(old[key] == entry[key] for key in ("status", "reason", "message")):
                return
            status["conditions"][number] = entry
            return
    status["conditions"].append(entry)


def gate_on(gates: Object | None, name: str) -> bool:
    """Is a feature gate on: only the literal ``true`` counts; what 1.13 takes besides is not known."""
    return ((gates or {}).get("data") or {}).get(name) == "true"


def gated_peer_pods(config: Object | None, confidential: bool, owns_initdata: bool = True) -> Object | None:
    """``peer-pods-cm`` as the feature gate leaves it, or None where nothing changes.

    The gate owns DISABLECVM. With ``owns_initdata`` (1.11 and newer) it also, off, puts its default document into INITDATA
    over the user's; on, it takes away INITDATA only where that is the default.
    """
    if config is None:
        return None
    changed = copy.deepcopy(config)
    data = changed.setdefault("data", None) or {}
    data["DISABLECVM"] = "false" if confidential else "true"
    if owns_initdata and not confidential:
        data["INITDATA"] = DEFAULT_INITDATA
    elif owns_initdata and data.get("INITDATA") == DEFAULT_INITDATA:
        del data["INITDATA"]
    changed["data"] = data
    return changed if changed != config else None


def image_id(config: Object | None) -> str:
    """AZURE_IMAGE_ID of peer-pods-cm, empty where there is none."""
    return str(((config or {}).get("data") or {}).get("AZURE_IMAGE_ID", "") or "")


def gated_image_config(image_config: Object, peer_pods: Object | None, confidential: bool) -> Object | None:
    """``azure-podvm-image-cm`` as the gate leaves it, or None: untouched while an image exists."""
    value = "yes" if confidential else "no"
    if image_id(peer_pods) or (image_config.get("data") or {}).get("CONFIDENTIAL_COMPUTE_ENABLED") == value:
        return None
    changed = copy.deepcopy(image_config)
    changed.setdefault("data", {})["CONFIDENTIAL_COMPUTE_ENABLED"] = value
    return changed


def validate_peer_pods(secret: Object | None, config: Object | None) -> None:
    """The check before image job, CAA and image deletion. Raises :class:`Invalid` with the operator's words."""
    for obj, kind, name, needed in (
        (secret, "Secret", "peer-pods-secret", NEEDED_SECRET),
        (config, "ConfigMap", "peer-pods-cm", NEEDED_CONFIG),
    ):
        if obj is None:
            raise Invalid(f'validatePeerPodsConfigs: {"secrets" if kind == "Secret" else "configmaps"} "{name}" not found')
        data = obj.get("data") or {}
        missing = [key for key in needed if not data.get(key)]
        if missing:
            raise Invalid(
                f"checkKeysPresentAndNotEmpty: key not present or has an empty value ({missing[0]}): "
                f"validatePeerPodsConfigs: cannot find the required keys in {name} {kind}"
            )


def pods_of_classes(pods: Iterable[Object], classes: Iterable[str], phases: tuple[str, ...] = ()) -> str:
    """Name of the first runtime class among ``classes`` that a pod uses (in one of ``phases``, default any), else empty."""
    wanted = set(classes)
    for pod in pods:
        name = pod["spec"].get("runtimeClassName", "")
        if name in wanted and (not phases or (pod.get("status") or {}).get("phase", "Pending") in phases):
            return str(name)
    return ""


def job_result(job: Object) -> str:
    """``running``, ``completed``, ``failed`` or ``unknown`` by the Job's status."""
    status = job.get("status") or {}
    for entry in status.get("conditions") or []:
        if entry["status"] == "True" and entry["type"] in ("Complete", "Failed"):
            return {"Complete": "completed", "Failed": "failed"}[entry["type"]]
    known = ("startTime", "active", "succeeded", "failed", "conditions")
    return "running" if not status or any(status.get(name) for name in known) else "unknown"
