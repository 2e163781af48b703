# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 14: the proof. A secret reaches an attested pod, and the KBS refuses a pod with tampered initdata."""

from __future__ import annotations

import base64
import datetime
import hashlib
import re
import secrets
import threading
import time
from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils import attestation, initdata, measurements, rvps
from ansible_collections.confidential.containers.plugins.module_utils.cluster import (
    ApiFailure,
    Cluster,
    Object,
    Unreachable,
)
from ansible_collections.confidential.containers.plugins.module_utils.cluster_wait import wait_gone
from ansible_collections.confidential.containers.plugins.module_utils.context import Context
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError
from ansible_collections.confidential.containers.plugins.module_utils.releases import Pair

LABEL = "confidential.containers/probe"
API = "confidentialcontainers.org/v1alpha1"
#: Names the pod VM image of one pod. Source: cloud-api-adaptor, all releases.
IMAGE = "io.katacontainers.config.hypervisor.image"
#: Seconds between two looks at the events of a pod that does not start.
EVENTS = 5.0
#: Seconds for a probe's virtual machine to go.
GONE = 300


def remove_probes(spoke: Cluster, context: Context, namespace: str | None = None) -> None:
    """Remove probe pods, also those that a killed run left behind, and wait until their virtual machines are gone.

    Raises :class:`CocoError` naming a pod that does not go.
    """
    pods = [{**pod, "apiVersion": "v1", "kind": "Pod"} for pod in spoke.list("v1", "Pod", namespace, labels=LABEL)]
    for pod in pods:
        spoke.delete(pod, grace=1)
    if pods:
        wait_gone(spoke, pods, GONE, context)


class PodProbe:
    """Probe pods, one after the other, always removed. Without a ``hub`` nothing is known of the KBS but what pods tell."""

    def __init__(self, spoke: Cluster, hub: Cluster | None, params: dict[str, Any], context: Context, pair: Pair) -> None:
        self.spoke, self.hub, self.params, self.context, self.pair = spoke, hub, params, context, pair
        self.namespace = params["namespace"]
        self.checks: list[dict[str, Any]] = []
        self.pause = threading.Event()
        self.sha256 = ""

    def run(self) -> dict[str, Any]:
        self.sha256 = self.expected()
        toml, _encoding = initdata.decode(self.params["initdata"])
        path = f"default/security-policy/probe-{secrets.token_hex(8)}"
        tampered = attestation.tampered_initdata(toml, f"kbs:///{path}") if self.hub else attestation.opened_initdata(toml)
        self.ensure_namespace()
        self.sweep()
        try:
            if not self.positive(toml):
                raise attestation.failure("The secret did not reach the attested pod", "not proven", self.checks)
            if not (self.negative(tampered, path) if self.hub else self.told(tampered)):
                raise attestation.failure("The refusal of a tampered pod is not proven", "not proven", self.checks)
        finally:
            self.leave()
        return {"verdict": "attested", "checks": self.checks, "sha256_compared_in_pod": True}

    def expected(self) -> str:
        """The sha256 of the secret: given, or of the hub's; the secret itself is neither kept nor shown."""
        if self.params["sha256"]:
            return str(self.params["sha256"]).lower()
        if self.hub is None:
            raise CocoError("Attestation cannot be verified", "nobody knows what a verification resource of this KBS holds: neither its "
                            "digest nor the administrator's key is given", "Give coco_verification_resource and coco_verification_sha256, "
                            "or coco_kbs_admin_key; coco_attestation_verify_when: never leaves the proof out.")
        _repository, name, key = self.params["resource"].split("/")
        found = self.hub.get("v1", "Secret", name, self.params["trustee_namespace"])
        data = ((found or {}).get("data") or {}).get(key)
        if not data:
            raise CocoError("Attestation cannot be verified", f"the hub has no Secret {name} with key {key}",
                            "Run step 11 (--tags step11,step12), which makes it.")
        return hashlib.sha256(base64.b64decode(data)).hexdigest()

    def ensure_namespace(self) -> None:
        if self.spoke.get("v1", "Namespace", self.namespace) is None:
            self.spoke.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}})
            deadline = time.monotonic() + 15
            while self.spoke.get("v1", "ServiceAccount", "default", self.namespace) is None and time.monotonic() < deadline:
                self.pause.wait(0.2)

    def sweep(self) -> None:
        remove_probes(self.spoke, self.context, self.namespace)

    def leave(self) -> None:
        """Remove the probes at the end; one that stays does not change the verdict."""
        try:
            self.sweep()
        except (CocoError, ApiFailure, Unreachable) as error:
            self.context.warn(f"A probe pod was left behind · {error} · The next run of step 7 or 14 removes it.")

    def pod(self, role: str, toml: bytes, script: str = "") -> Object:
        osc = self.pair.osc
        return {
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": f"probe-{role}-{secrets.token_hex(3)}", "namespace": self.namespace, "labels": {LABEL: role},
                "annotations": {osc.initdata_annotation: initdata.encode(toml, osc.initdata_encoding), **self.image()},
            },
            "spec": {
                "runtimeClassName": self.params["runtime_class"], "restartPolicy": "Never", "automountServiceAccountToken": False,
                "terminationGracePeriodSeconds": 1,
                "containers": [{
                    "name": "probe", "image": self.params["image"],
                    "command": ["sh", "-c", script or attestation.script(self.params["resource"])],
                    "env": [{"name": "EXPECTED_SHA256", "value": self.sha256}],
                    "securityContext": {"allowPrivilegeEscalation": False, "privileged": False,
                                        "seccompProfile": {"type": "RuntimeDefault"}},
                }],
            },
        }

    def image(self) -> dict[str, str]:
        """The annotation for another pod VM image than the cluster's."""
        return {IMAGE: self.params["podvm_image_id"]} if self.params["podvm_image_id"] else {}

    def create(self, pod: Object) -> None:
        deadline = time.monotonic() + 30
        while True:
            try:
                self.spoke.create(pod)
                return
            except ApiFailure as error:
                if "failed calling webhook" not in error.message or time.monotonic() > deadline:
                    raise
            self.pause.wait(0.5)

    def state(self, pod: Object) -> tuple[str, int | None, str]:
        """(phase, exit code, what the pod's status says)."""
        found = self.spoke.get("v1", "Pod", pod["metadata"]["name"], self.namespace) or {}
        status = found.get("status", {})
        said, code = [], None
        for container in status.get("containerStatuses") or []:
            waiting, ended = container["state"].get("waiting"), container["state"].get("terminated")
            if waiting:
                said.append(f"{waiting.get('reason', '')} {waiting.get('message', '')}".strip())
            if ended:
                code = ended.get("exitCode")
        for condition in status.get("conditions") or []:
            if condition.get("status") == "False" and condition.get("message"):
                said.append(condition["message"])
        return status.get("phase", "Unknown"), code, "; ".join(said)

    def events(self, pod: Object) -> str:
        found = self.spoke.list("v1", "Event", self.namespace, fields=f"involvedObject.name={pod['metadata']['name']}")
        warnings = [f"{e.get('reason', '')}: {e.get('message', '')}" for e in found if e.get("type") == "Warning"]
        return "; ".join(warnings[-4:])

    def positive(self, toml: bytes) -> bool:
        pod = self.pod("attested", toml)
        name = pod["metadata"]["name"]
        began = time.time()
        self.context.progress(f"probe {name}: a pod with the inventory's initdata; it compares the secret's sha256 itself")
        self.create(pod)
        shown = ""
        deadline, look_at = time.monotonic() + self.params["timeout"], time.monotonic() + EVENTS
        while True:
            phase, code, said = self.state(pod)
            if phase == "Succeeded":
                self.checks.append(attestation.check("the secret reaches an attested pod", True, "sha256 compared inside the pod"))
                self.context.progress(f"probe {name}: the secret reached the attested pod (sha256 compared inside the pod)")
                return True
            if f"{phase} {said}" != shown:
                shown = f"{phase} {said}"
                self.context.progress(f"probe {name}: {shown}".rstrip())
            refused = "Image Pull error" in said or "CreateContainerError" in said
            if phase == "Failed" or refused or time.monotonic() > deadline:
                break
            if phase == "Pending" and time.monotonic() > look_at:
                look_at = time.monotonic() + EVENTS
                if attestation.hopeless(self.events(pod)):
                    break
            self.pause.wait(0.5)
        log = self.kbs_log(began)
        text = attestation.EXITS.get(code or 0, "") or said or f"the pod is {phase} after {self.params['timeout']} s"
        cause, hint = self.why(toml, log, f"{said} {self.events(pod)}")
        self.checks.append(attestation.check("the secret reaches an attested pod", False, text, f"{text}: {cause}" if cause else text,
                                             hint))
        return False

    def why(self, toml: bytes, log: str, said: str) -> tuple[str, str]:
        """The likely cause of a failed positive probe, from the KBS's log, the reference values and the pod's events."""
        found = self.value_trouble(toml)
        if found:
            return found
        cause, hint = attestation.diagnose(log + said)
        if cause and "Image policy rejected" not in said:
            return cause, hint
        if "Access denied by policy" in log or "PolicyDeny" in log:
            return ("the KBS denied it by policy: the evidence does not match the reference values "
                    "(snp_pcr03, snp_pcr09, snp_pcr11, snp_pcr12 are measured by the pod VM image)",
                    "Take measurements.json of the installed OSC version (coco_measurements) and run step 11.")
        if self.hub is None:
            return (cause or said or "the KBS gave this pod nothing", "Have the KBS's owner accept what step 11 prints or sets (--tags "
                    "step11), and look for PolicyDeny in the KBS's log; measurements.json must be that of the installed OSC version.")
        if not log.strip():
            return ("the KBS saw no request", "Check that the pod VM's network reaches the KBS's URL, and that initdata names it.")
        return cause or said, hint or "Look at the KBS's log and the pod's events."

    def value_trouble(self, toml: bytes) -> tuple[str, str] | None:
        if self.hub is None:
            return None
        spec = (self.hub.get(API, "KbsConfig", self.params["kbsconfig"], self.params["trustee_namespace"]) or {}).get("spec") or {}
        name = spec.get("kbsRvpsRefValuesConfigMapName", "rvps-reference-values")
        config_map = self.hub.get("v1", "ConfigMap", name, self.params["trustee_namespace"]) or {}
        try:
            parsed = rvps.parse(config_map.get("data") or {}, self.pair.trustee)
        except CocoError as error:
            return f"{error.what}: {error.seen}", error.todo
        found = rvps.findings(parsed, self.pair.trustee, datetime.datetime.now(datetime.timezone.utc), 0)
        for item in found:
            if item["severity"] == "error":
                return item["message"], item["hint"]
        pcr8 = measurements.pcr8(initdata.digest(toml))
        accepted = (parsed.get("snp_pcr08") or {}).get("value") or []
        if pcr8 not in accepted:
            return (f"PCR 8 of this initdata ({pcr8}) is not among the reference values snp_pcr08",
                    "Run step 11 (--tags step11), which accepts the inventory's documents.")
        return None

    def negative(self, toml: bytes, path: str) -> bool:
        pod = self.pod("tampered", toml)
        name = pod["metadata"]["name"]
        began = time.time()
        self.context.progress(f"probe {name}: a pod with tampered initdata; the KBS must refuse it")
        self.create(pod)
        deadline = time.monotonic() + self.params["timeout"]
        shown = ""
        while time.monotonic() < deadline:
            phase, _code, said = self.state(pod)
            answers = attestation.answers_on(self.kbs_log(began), path)
            if f"{phase} {said}" != shown:
                shown = f"{phase} {said}"
                self.context.progress(f"probe {name}: {shown}".rstrip()[:200])
            if phase in ("Running", "Succeeded") or "passed" in answers:
                self.checks.append(attestation.check(
                    "a tampered pod is refused", False, shown, "a pod with tampered initdata was served: initdata is not enforced",
                    "Check that the attestation policy compares PCR 8 and has a default for each claim (step 11).", "critical"))
                return False
            if "denied" in answers:
                self.checks.append(attestation.check("a tampered pod is refused", True, f"the KBS's policy denied {path}"))
                self.context.progress(f"probe {name}: refused by the KBS's policy (on a path of its own)")
                return True
            self.pause.wait(0.5)
        cause, hint = attestation.diagnose(f"{shown} {self.events(pod)}")
        self.checks.append(attestation.check(
            "a tampered pod is refused", False, shown, cause or "the KBS saw no request of the tampered pod, so nothing is proven",
            hint or "Look at the pod's events; the control pod succeeded in this run."))
        return False

    def told(self, toml: bytes) -> bool:
        """The negative probe without the KBS's log: the tampered pod runs, and tells by its exit code what the KBS made of it."""
        pod = self.pod("tampered", toml, attestation.refusal_script(self.params["resource"]))
        name = pod["metadata"]["name"]
        self.context.progress(f"probe {name}: a pod with tampered initdata; the KBS must not find it affirming, and give it nothing")
        self.create(pod)
        deadline = time.monotonic() + self.params["timeout"]
        shown = ""
        while time.monotonic() < deadline:
            phase, code, said = self.state(pod)
            if f"{phase} {said}" != shown:
                shown = f"{phase} {said}"
                self.context.progress(f"probe {name}: {shown}".rstrip()[:200])
            if code == attestation.REFUSED:
                self.checks.append(attestation.check("a tampered pod is refused", True, "the KBS appraised it, not as affirming, and gave "
                                                     "it nothing"))
                self.context.progress(f"probe {name}: appraised by the KBS, not as affirming, and refused")
                return True
            if code is not None:
                text = attestation.REFUSAL_EXITS.get(code, f"the container ended with {code}")
                self.checks.append(attestation.check(
                    "a tampered pod is refused", False, text, text, "Have the KBS's owner use an attestation policy that compares PCR 8 "
                    "and has a default for each claim, and a resource policy that wants affirming evidence.",
                    "critical" if code in (0, 32) else "error"))
                return False
            self.pause.wait(0.5)
        cause, hint = attestation.diagnose(f"{shown} {self.events(pod)}")
        self.checks.append(attestation.check(
            "a tampered pod is refused", False, shown, cause or "the tampered pod did not run, so nothing is proven",
            hint or "Look at the pod's events; the control pod succeeded in this run."))
        return False

    def kbs_log(self, since: float) -> str:
        """The KBS's log of this probe (its Authorization headers are not in it)."""
        if self.hub is None:
            return ""
        namespace = self.params["trustee_namespace"]
        seconds = max(1, int(time.time() - since) + 2)
        pods = self.hub.list("v1", "Pod", namespace, labels="app=kbs")
        text = "".join(self.hub.logs(namespace, pod["metadata"]["name"], "kbs", 2000, since_seconds=seconds) for pod in pods)
        return re.sub(r"Bearer \S+", "Bearer …", text)
