# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge: following the pod VM image job while KataConfig is awaited: its stages, its log, its failure."""

from __future__ import annotations

import contextlib
import time

from ansible_collections.confidential.containers.plugins.module_utils import podvm_image
from ansible_collections.confidential.containers.plugins.module_utils.cluster import Cluster, Object
from ansible_collections.confidential.containers.plugins.module_utils.cluster_errors import (
    ApiFailure,
    UnknownKind,
    Unreachable,
)
from ansible_collections.confidential.containers.plugins.module_utils.context import Context
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError
from ansible_collections.confidential.containers.plugins.module_utils.files import PrivateDirectory
from ansible_collections.confidential.containers.plugins.module_utils.readiness import OSC_NAMESPACE

#: Seconds between two looks at the job's pods, and between two shown lines of the log: first, growth, longest.
EVERY, FIRST, GROWTH, LONGEST = 2.0, 2.0, 1.3, 30.0
#: Lines of the log that an error tells, and that are kept.
TOLD, KEPT = 5, 5000
FILE = f"{podvm_image.JOB}.log"


def job_and_pods(cluster: Cluster) -> tuple[Object | None, list[Object]]:
    """The Job, if it is there, and the pods of this and of earlier ones."""
    pods = cluster.list("v1", "Pod", OSC_NAMESPACE, labels=f"job-name={podvm_image.JOB}")  # first: a job that goes leaves them
    return cluster.get("batch/v1", "Job", podvm_image.JOB, OSC_NAMESPACE), pods


class ImageJob:
    """One job, followed. ``directory``: where its whole log is written, private to the user; empty for nowhere."""

    def __init__(self, cluster: Cluster, context: Context, directory: str = "") -> None:
        self.cluster, self.context, self.directory = cluster, context, directory
        self.shown = self.line = self.file = ""
        self.awaited = False
        self.pods: list[str] = []
        self.written: list[str] = []
        self.look_at = self.log_at = 0.0
        self.pause = FIRST

    def look(self, kataconfig: Object, image: str) -> None:
        """Tell what has changed. Raises :class:`CocoError` when the job has failed for good."""
        now = time.monotonic()
        self.awaited = self.awaited or not image
        if now < self.look_at or (image and not self.shown):
            return
        self.look_at = now + EVERY
        with contextlib.suppress(ApiFailure, UnknownKind, Unreachable):
            job, pods = job_and_pods(self.cluster)
            pods = podvm_image.of_now(pods, kataconfig)
            self.pods = [pod["metadata"]["name"] for pod in pods]
            stage = podvm_image.stage(job, pods)
            if stage.line and stage.line != self.shown:
                self.shown = stage.line
                self.tell(stage.line)
            if stage.pod and not stage.ended and now >= self.log_at:
                self.log_at, self.pause = now + self.pause, min(LONGEST, self.pause * GROWTH)
                line = podvm_image.last_line(self.cluster.logs(OSC_NAMESPACE, stage.pod, tail=TOLD))
                if line and line != self.line:
                    self.line = line
                    self.tell(line)
            if stage.ended:
                self.keep()
            if stage.failed and not image:
                raise self.error(stage)

    def done(self, image: str) -> None:
        """The image is there: report it, if it was waited for."""
        if self.awaited:
            with contextlib.suppress(ApiFailure, UnknownKind, Unreachable):
                self.keep()
            self.tell(f"the pod VM image is {image}")
            self.awaited = False

    def tell(self, line: str) -> None:
        self.context.progress(f"{podvm_image.JOB}: {line}")

    def keep(self) -> None:
        """Write the whole log of all pods, once for the same pods."""
        if not self.directory or not self.pods or self.written == self.pods:
            return
        texts = [f"--- pod {pod}\n" + "\n".join(podvm_image.readable(self.cluster.logs(OSC_NAMESPACE, pod, tail=KEPT))) + "\n"
                 for pod in self.pods]
        self.written = list(self.pods)
        try:
            self.file = PrivateDirectory(self.directory).write(FILE, "".join(texts).encode())
        except CocoError as error:
            self.context.warn(f"The log of {podvm_image.JOB} was not kept · {error}")

    def error(self, stage: podvm_image.Stage) -> CocoError:
        """The failure in the job's own words."""
        log = self.cluster.logs(OSC_NAMESPACE, stage.pod, tail=KEPT)
        where = f"The whole log is in {self.file}." if self.file else \
            f"The whole log: oc logs -n {OSC_NAMESPACE} {stage.pod} --tail=-1."
        hint = podvm_image.hint(log) or "Mend what it names."
        return CocoError("The pod VM image was not built", said(stage.pod, log),
                         f"{hint} Then run again (--tags step05,step07,step08): the job is started again, without a reboot. {where}",
                         image_job={"pod": stage.pod, "log": podvm_image.told(log, TOLD), "file": self.file})


def said(pod: str, log: str) -> str:
    """The end of what a failed pod said."""
    return f"{podvm_image.JOB} failed, its pod {pod} said: {' / '.join(podvm_image.told(log, TOLD)) or 'nothing'}"


def last_words(cluster: Cluster, kataconfig: Object) -> str:
    """The end of the log of the job's newest pod, if that has failed; empty otherwise."""
    _job, pods = job_and_pods(cluster)
    stage = podvm_image.stage(None, podvm_image.of_now(pods, kataconfig))
    return said(stage.pod, cluster.logs(OSC_NAMESPACE, stage.pod, tail=KEPT)) if stage.failed else ""
