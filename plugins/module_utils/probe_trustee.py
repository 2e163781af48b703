# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Step 13: is Trustee well, and does it refuse what it must refuse? Uses the edges cluster and kbs."""

from __future__ import annotations

import datetime
import threading
import time
from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils import attestation, readiness, rvps
from ansible_collections.confidential.containers.plugins.module_utils.cluster import Cluster
from ansible_collections.confidential.containers.plugins.module_utils.context import Context
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError
from ansible_collections.confidential.containers.plugins.module_utils.kbs import Kbs, KbsFailure, forged_token
from ansible_collections.confidential.containers.plugins.module_utils.releases import TrusteeRelease

API = "confidentialcontainers.org/v1alpha1"
#: A deployment that is not ready is given this long before it is judged, in seconds (more where the task says less).
PATIENCE = 60
#: A name or a connection that fails is tried again for this long: routers and DNS follow a Route after a moment.
REACHABLE = 20
#: What to do about a KBS that others run.
OWNER = "Tell the KBS's owner: this is its configuration, which is not changed from here."


class TrusteeProbe:
    """The checks, layer by layer; a layer that fails ends those above it. Without a ``cluster`` those from outside only."""

    def __init__(self, cluster: Cluster | None, params: dict[str, Any], context: Context, release: TrusteeRelease) -> None:
        self.outside = cluster is None
        if cluster is not None:
            self.cluster = cluster
        self.params, self.context, self.release = params, context, release
        self.namespace = params["trustee_namespace"]
        self.checks: list[dict[str, Any]] = []

    def add(self, name: str, ok: bool | None, seen: str = "", cause: str = "", hint: str = "", severity: str = "error") -> bool:
        theirs = self.outside and "(--tags" in hint  # none of our steps mends it
        self.checks.append(attestation.check(name, ok, seen, cause, OWNER if theirs else hint, severity))
        self.context.progress(f"{name}: {'ok' if ok else 'not known' if ok is None else 'FAILED'} {seen}".rstrip())
        return bool(ok)

    def run(self) -> dict[str, Any]:
        spec = None if self.outside else self.configured()
        if spec is not None:
            self.files(spec)
        if (self.outside or (spec is not None and self.deployed())) and self.reachable():
            self.answers()
        verdict = attestation.verdict_trustee(self.checks)
        if verdict != "healthy":
            raise attestation.failure("Trustee is not as it must be", verdict, self.checks)
        return {"verdict": verdict, "checks": self.checks}

    def configured(self) -> dict[str, Any] | None:
        found = self.cluster.get(API, "KbsConfig", self.params["kbsconfig"], self.namespace)
        self.add("KbsConfig exists", found is not None, self.params["kbsconfig"], "" if found else "there is no KbsConfig",
                 "Run step 12 (--tags step12).")
        return dict(found.get("spec") or {}) if found else None

    def data(self, name: str | None) -> dict[str, str]:
        found = self.cluster.get("v1", "ConfigMap", name, self.namespace) if name else None
        return dict((found or {}).get("data") or {})

    def files(self, spec: dict[str, Any]) -> None:
        """What the KBS reads must lie under the keys that this release reads."""
        release = self.release
        for field, key, step in (
            ("kbsConfigMapName", release.kbs_config_key, "step10"),
            ("kbsAttestationPolicyConfigMapName", release.attestation_policy_key, "step11"),
            ("kbsResourcePolicyConfigMapName", release.resource_policy_key, "step11"),
        ):
            name = spec.get(field)
            data = self.data(name)
            self.add(f"{name or field} has {key}", key in data, "" if key in data else ", ".join(data) or "no such config map",
                     "" if key in data else f"the config map {name} has no key {key}, so the KBS does not find the file",
                     f"Run that step again (--tags {step},step12): Trustee {release.name} reads {key}.")
        self.values(self.data(spec.get("kbsRvpsRefValuesConfigMapName")))

    def values(self, data: dict[str, str]) -> None:
        try:
            parsed = rvps.parse(data, self.release)
        except CocoError as error:
            self.add("reference values can be read", False, error.seen, f"{error.what}: {error.seen}", error.todo)
            return
        found = rvps.findings(parsed, self.release, datetime.datetime.now(datetime.timezone.utc))
        errors = [item for item in found if item["severity"] == "error"]
        for item in found:
            if item["severity"] == "warning":
                self.context.warn(f"{item['message']} · {item['hint']}")
        self.add("reference values are in force", not errors, f"{len(parsed)} names", "; ".join(e["message"] for e in errors),
                 " ".join(dict.fromkeys(e["hint"] for e in errors)))

    def deployed(self) -> bool:
        deadline = time.monotonic() + min(PATIENCE, self.params["timeout"])
        pause = threading.Event()
        while True:
            deployment = self.cluster.get("apps/v1", "Deployment", "trustee-deployment", self.namespace)
            state = readiness.ready({"kind": "Deployment", **deployment} if deployment else None)
            if state["ready"]:
                return self.add("trustee-deployment is ready", True, state["message"])
            log = self.log(previous=True) + self.log()
            cause, hint = attestation.diagnose(log)
            if cause or time.monotonic() > deadline:
                break
            pause.wait(1)
        return self.add("trustee-deployment is ready", False, state["message"],
                        cause or f"the deployment is not ready: {state['message']}",
                        hint or "Look at the log of the pods with label app=kbs and of the operator.")

    def log(self, previous: bool = False) -> str:
        pods = self.cluster.list("v1", "Pod", self.namespace, labels="app=kbs")
        return "".join(self.cluster.logs(self.namespace, pod["metadata"]["name"], "kbs", 80, previous=previous) for pod in pods)

    def reachable(self) -> bool:
        self.kbs = Kbs(self.params["kbs_url"], self.params["ca_certificate"] or "", self.params["connect_to"] or "",
                       self.params["request_timeout"])
        deadline, pause = time.monotonic() + REACHABLE, threading.Event()
        while True:
            try:
                self.kbs.certificate()
                return self.add("the KBS is reached under its name", True, self.params["kbs_url"])
            except KbsFailure as error:
                if error.layer in ("tls", "silent") or time.monotonic() > deadline:
                    return self.add("the KBS is reached under its name", False, str(error), *self.layer(error))
            pause.wait(0.5)

    @staticmethod
    def layer(error: KbsFailure) -> tuple[str, str]:
        if error.layer == "tls":
            return (f"the KBS shows another certificate than the inventory's authority signed: {error}",
                    "Run step 2 and 12 (--tags step02,step12) to write certificate and key anew; if somebody else runs a KBS there, "
                    "correct the Route.")
        if error.layer == "silent":
            return (f"{error}: it may be deadlocked (KBS of Trustee 1.0 and 1.1 under parallel handshakes)",
                    "Delete the pods with label app=kbs in the Trustee namespace.")
        if error.layer == "name":
            return str(error), "Set coco_kbs_connect_to where the ingress domain is not resolved here."
        return str(error), "Check the Route, the router and the Service kbs-service; coco_kbs_connect_to names another address."

    def answers(self) -> None:
        """The protocol, and the refusals that protect secrets."""
        release, kbs = self.release, self.kbs
        try:
            protocol = kbs.protocol()
            self.add("the KBS speaks the release's protocol", protocol == release.protocol, protocol,
                     "" if protocol == release.protocol else f"it demands {protocol or 'something else'}, Trustee {release.name} "
                     f"has {release.protocol}", "Use the pair of the deployed release in coco_release.")
            denied = kbs.request("GET", "/kbs/v0/resource-policy")
            self.add("administration needs a key", denied.status == 401, f"{denied.status} {denied.type}",
                     "" if denied.status == 401 else "anybody may administer this KBS", "Run step 10 (--tags step10,step12).",
                     "critical")
            token = kbs.sample_token(release.protocol).json().get("token", "")
            refused = kbs.resource(self.params["resource"], token) if token else None
            seen = f"{refused.status} {refused.type}" if refused else "no token"
            granted = refused is not None and refused.status == 200
            self.add("evidence of the sample attester gets nothing", not granted, seen,
                     "a secret was given to evidence that anybody can make (an allow-all or fail-open policy)" if granted else "",
                     "Run step 11 (--tags step11,step12) to restore the policies.", "critical")
            if refused is not None and refused.type in ("PolicyEngine", "PolicyEngineError"):
                self.add("the resource policy can be evaluated", False, refused.type, "the resource policy gives no answer",
                         "Run step 11 (--tags step11,step12).")
            forged = kbs.resource(self.params["resource"], forged_token(release.submodule or "cpu", int(time.time())))
            self.add("a forged token gets nothing", forged.status != 200, f"{forged.status} {forged.type}",
                     "the KBS accepts any token that carries its own key: attestation protects nothing" if forged.status == 200
                     else "", "Run step 10 (--tags step10,step12): it names the trusted token signer.", "critical")
        except KbsFailure as error:
            self.add("the KBS answers", False, str(error), *self.layer(error))
