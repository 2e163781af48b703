# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The operator's job that builds the pod VM image: how far it is, why it failed, what to do. Pure.

Source: the operator's image generator. A failed job is no error to the operator: it deletes the Job, leaves the pods, goes on and
looks installed; whatever wakes it next, its own change of the status too, makes the next job. So what the pods did decides. A job
makes at most two of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils.peerpods import MANAGER, provider_of

Object = dict[str, Any]

JOB = "osc-podvm-image-creation"
#: At KataConfig: the newest pod of the job when it was triggered again. That pod and older ones are of the past.
SEEN = "confidential.containers/image-job-seen"
#: At peer-pods-cm: the id of the image that the job made.
MADE = "LATEST_IMAGE_ID"
#: Pods of one job: the first and one more try.
TRIES = 2
#: Of a line of the log that is shown, in characters.
LONGEST = 160

_SECRETS = re.compile(r"((?:SECRET|PASSWORD|TOKEN|KEY)\w*=|(?:\s-p|--password)[ =])[^\s\"']+")
_LOGIN = ("Correct the credentials: coco_cloud_credentials (Secret peer-pods-secret), or a Secret peer-pods-image-creation-secret of "
          "your own, which comes after it and wins.")
#: What the job's log says, and what to do.
HINTS: tuple[tuple[str, str], ...] = (
    (r"Failed to login|AADSTS\d+|invalid_client", _LOGIN),
    (r"\bAZURE_(CLIENT_ID|CLIENT_SECRET|TENANT_ID|SUBSCRIPTION_ID) is empty", _LOGIN),
    (r"CLOUD_PROVIDER is empty or not set", "Set CLOUD_PROVIDER in coco_peerpods to the cluster's cloud, or leave it out."),
    (r"\b[A-Z_]+ is empty", "Give the named key in coco_peerpods (--tags step05)."),
    (r"AuthorizationFailed|does not have authorization|LinkedAuthorizationFailed",
     "Give the operators' credentials the role Contributor at AZURE_RESOURCE_GROUP; a new assignment takes some minutes."),
    (r"QuotaExceeded|OperationNotAllowed|SkuNotAvailable", "Raise the quota that is named, or choose another region."),
    (r"Failed to create (the )?(Azure image gallery|storage account|image version)|Failed to create the storage account",
     "Check rights, policies and quota of the operators' credentials at AZURE_RESOURCE_GROUP."),
    (r"manifest unknown|unauthorized|pull access denied|ImagePullBackOff|ErrImagePull",
     "The cluster must pull the operator's images: check its pull secret and mirrors."),
    (r"Failed to update peer-pods-cm|cannot patch resource", "Look at who may write peer-pods-cm, then run again."),
)


_STAMP = re.compile(r"^\d{4}-\d\d-\d\d[T ][\d:.,]+Z?\s+")
_ERROR = re.compile(r"\berror\b|\bfailed\b|\bis empty$", re.IGNORECASE)


def hint(log: str) -> str:
    """What to do about the first known cause in a log; empty where none is known."""
    return next((todo for pattern, todo in HINTS if re.search(pattern, log)), "")


def readable(log: str) -> list[str]:
    """The lines of a log: without blank ones, what a progress bar overwrote, and values that look like secrets."""
    lines = [line.rstrip("\r").rpartition("\r")[2].strip() for line in log.split("\n")]
    return [_SECRETS.sub(r"\1…", line) for line in lines if line]


def told(log: str, count: int) -> list[str]:
    """The last lines of a log, and before them its first error, if that is not among them: causes come before consequences."""
    lines = [_STAMP.sub("", line) for line in readable(log)]
    first = next((line for line in lines if _ERROR.search(line)), "")
    return lines[-count:] if not first or first in lines[-count:] else [first, "…", *lines[1 - count:]]


def last_line(log: str) -> str:
    """The last line of a log, cut to fit; empty where there is none."""
    line = _STAMP.sub("", (readable(log) or [""])[-1])
    return line if len(line) <= LONGEST else line[:LONGEST - 1] + "…"


def of_now(pods: list[Object], kataconfig: Object | None) -> list[Object]:
    """The job's pods, oldest first, without those of before this KataConfig and of before the last trigger."""
    meta = (kataconfig or {}).get("metadata") or {}
    seen = (meta.get("annotations") or {}).get(SEEN, "")
    since = max([_made(pod) for pod in pods if seen and pod["metadata"].get("uid") == seen] + [str(meta.get("creationTimestamp") or "")])
    return sorted((pod for pod in pods if _made(pod) >= since and (not seen or pod["metadata"].get("uid") != seen)),
                  key=lambda pod: (_made(pod), pod["metadata"]["name"]))


def last_failed(pods: list[Object]) -> str:
    """The name of the last pod that failed; empty where none did."""
    return next((str(pod["metadata"]["name"]) for pod in reversed(pods) if pod.get("status", {}).get("phase") == "Failed"), "")


def newest_uid(pods: list[Object]) -> str:
    """The uid of the newest pod, for :data:`SEEN`; empty where there is none."""
    found = max(pods, key=_made, default=None)
    return str(found["metadata"].get("uid", "")) if found else ""


def _made(pod: Object) -> str:
    return str(pod["metadata"].get("creationTimestamp") or "")


@dataclass(frozen=True)
class Stage:
    """How far the job is: a line for people (empty: nothing yet), whether it is over (``ended``), and for good (``failed``)."""

    line: str
    pod: str = ""
    ended: bool = False
    failed: bool = False


def stage(job: Object | None, pods: list[Object]) -> Stage:
    """The stage by the Job (None: not there) and its pods (:func:`of_now`)."""
    if not pods:
        return Stage("job created" if job else "")
    pod = pods[-1]
    name, phase = pod["metadata"]["name"], pod.get("status", {}).get("phase", "Pending")
    if phase == "Succeeded":
        return Stage(f"pod {name} completed", name, ended=True)
    if phase == "Failed":
        failed = sum(one.get("status", {}).get("phase") == "Failed" for one in pods)
        over = job is None or failed >= TRIES or any(
            one.get("type") == "Failed" and one.get("status") == "True" for one in (job.get("status") or {}).get("conditions") or [])
        return Stage(f"pod {name} failed" + ("" if over else "; the job tries once more"), name, ended=True, failed=over)
    return Stage(f"pod {name}: {_waiting(pod) or ('running' if phase == 'Running' else 'starting')}", name)


def _waiting(pod: Object) -> str:
    status = pod.get("status", {})
    containers = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    states = [(one.get("state") or {}).get("waiting") or {} for one in containers]
    said = [f"{one['reason']} {one.get('message', '')}".strip() for one in states
            if one.get("reason") not in (None, "ContainerCreating", "PodInitializing")]
    said += [f"{one.get('reason', '')} {one.get('message', '')}".strip() for one in status.get("conditions") or []
             if one.get("type") == "PodScheduled" and one.get("status") == "False"]
    return said[0] if said else ""


def image_of(config_map: Object | None) -> str:
    """The image id in peer-pods-cm; empty where there is none."""
    data = (config_map or {}).get("data") or {}
    return str(data.get(provider_of(data).image_key) or "")


def ours(config_map: Object | None) -> bool:
    """Did we write the image id of peer-pods-cm last? Then it is one that the inventory gave: the image job writes by itself."""
    fields = ((config_map or {}).get("metadata") or {}).get("managedFields") or []
    key = provider_of((config_map or {}).get("data") or {}).image_key
    mine = [(entry.get("fieldsV1") or {}).get("f:data") or {} for entry in fields if entry.get("manager") == MANAGER]
    return any(f"f:{key}" in keys for keys in mine)


def of_others(config_map: Object | None) -> str:
    """The image id of peer-pods-cm where the operator's job did not make that image; empty where it did, or there is none.

    Source: the job marks the config map with the id of the image that it made (operators.md 3.5).
    """
    image = image_of(config_map)
    made = (((config_map or {}).get("metadata") or {}).get("annotations") or {}).get(MADE)
    return image if image and (ours(config_map) or (made and made != image)) else ""


def enabled(kataconfig: Object | None) -> bool:
    """Does a KataConfig ask for peer pods, and is it there to stay?"""
    found = kataconfig or {}
    return bool((found.get("spec") or {}).get("enablePeerPods")) and not found.get("metadata", {}).get("deletionTimestamp")


def _progress(kataconfig: Object | None) -> tuple[str, str, bool]:
    """(status, reason) of the condition InProgress, and whether every node is done."""
    status: Object = (kataconfig or {}).get("status") or {}
    found: Object = next((one for one in status.get("conditions") or [] if one.get("type") == "InProgress"), {})
    nodes: Object = status.get("kataNodes") or {}
    return str(found.get("status", "")), str(found.get("reason", "")), 0 < nodes.get("nodeCount", 0) == nodes.get("readyNodeCount")


def settled(kataconfig: Object | None) -> bool:
    """Has the operator finished its pass over all nodes: nothing makes it look again by itself (unless it watches peer-pods-cm)?"""
    return _progress(kataconfig) == ("False", "", True)


def due(kataconfig: Object | None) -> bool:
    """May the job have begun: are the nodes done?"""
    return enabled(kataconfig) and (settled(kataconfig) or _progress(kataconfig)[1].startswith("PodVMImage"))
