# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an API server can answer besides success, and how a user is told. Pure.

Sources: the Status objects and texts of kube-apiserver (read off a real one), OLM's and OpenShift's API groups.
"""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

#: Who brings a kind, by API group.
BRINGS = {
    "kataconfiguration.openshift.io": "Install the OpenShift sandboxed containers operator first (role "
                                      "sandboxed_containers_operator), or wait until its CSV is Succeeded.",
    "confidentialcontainers.org": "Install the Trustee operator first (step 1, role trustee_operator), or wait until its CSV is "
                                  "Succeeded.",
    "operators.coreos.com": "This cluster has no Operator Lifecycle Manager: check that the kubeconfig is of an OpenShift cluster.",
    "config.openshift.io": "This is no OpenShift cluster: check kubeconfig and context.",
    "route.openshift.io": "Check that this is an OpenShift cluster and that its openshift-apiserver is available "
                          "(oc get clusteroperator openshift-apiserver).",
    "machineconfiguration.openshift.io": "This cluster has no Machine Config Operator (hosted control plane, or no OpenShift).",
    "cert-manager.io": "Install the cert-manager operator first.",
}


class ApiFailure(Exception):
    """An answer other than success: HTTP ``status``, ``reason`` and ``message`` of the Status object, its ``details``."""

    def __init__(self, status: int, reason: str, message: str, details: Any = None) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status, self.reason, self.message, self.details = status, reason, message, details or {}

    @property
    def no_webhook(self) -> bool:
        """An admission webhook did not answer: its operator is not ready (yet)."""
        return "failed calling webhook" in self.message

    @property
    def no_dry_run(self) -> bool:
        """An admission webhook refuses dry runs: what a real request would give cannot be asked."""
        return "does not support dry run" in self.message

    @property
    def not_served(self) -> bool:
        """The server knows no such path: the kind, its version or its group is not there."""
        return self.status == 404 and self.message in ("404 page not found", "the server could not find the requested resource")

    @property
    def no_namespace(self) -> bool:
        """The namespace is not there."""
        return self.status == 404 and bool(re.search(r'namespaces? "[^"]+" not found', self.message))

    def conflicts(self) -> list[dict[str, str]]:
        """Fields that other managers own: ``[{"manager", "field"}]`` (of a server-side apply refused with 409)."""
        found = []
        for cause in self.details.get("causes") or []:
            if cause.get("reason") == "FieldManagerConflict":
                named = re.search(r'conflict with "([^"]+)"', cause.get("message", ""))
                found.append({"manager": named.group(1) if named else cause.get("message", ""), "field": cause.get("field", "")})
        return found


class Unreachable(Exception):
    """No answer at all (connection, TLS or time-out)."""


class UnknownKind(Exception):
    """The cluster serves no such kind."""

    def __init__(self, api_version: str, kind: str) -> None:
        super().__init__(f"no kind {kind} in {api_version}")
        self.api_version, self.kind = api_version, kind


def title(obj: dict[str, Any]) -> str:
    """``Kind namespace/name`` of an object or reference."""
    meta = obj.get("metadata", {})
    name = meta.get("name") or obj.get("name", "")
    namespace = meta.get("namespace") or obj.get("namespace")
    return f"{obj.get('kind', '?')} {namespace}/{name}" if namespace else f"{obj.get('kind', '?')} {name}"


def explain(what: str, error: Exception, server: str = "") -> CocoError:
    """A failure in words a user can act on."""
    if isinstance(error, Unreachable):
        return _unreachable(what, str(error), server)
    if isinstance(error, UnknownKind):
        group = error.api_version.partition("/")[0]
        return CocoError(what, f"the cluster has no kind {error.kind} in {error.api_version}",
                         BRINGS.get(group, "Install the operator that brings it first, or wait until its CSV is Succeeded."))
    if isinstance(error, ApiFailure):
        return _answered(what, error, server)
    return CocoError(what, str(error), "Run again with -vvv for the whole trace.")


def _unreachable(what: str, text: str, server: str) -> CocoError:
    lowered = text.lower()
    if "hostname mismatch" in lowered or "doesn't match" in lowered or "ip address mismatch" in lowered:
        return CocoError(what, f"the certificate of {server} is for another name: {text}",
                         "Use the name or address that the certificate carries, or set tls-server-name in the kubeconfig.")
    if "certificate has expired" in lowered or "not yet valid" in lowered:
        return CocoError(what, f"the certificate of {server} is not valid now: {text}",
                         "Check this machine's clock; else renew the API server's certificate.")
    if "certificate_verify_failed" in lowered or "certificate verify failed" in lowered:
        return CocoError(what, f"the certificate of {server} is not trusted: {text}",
                         "Set ca_cert (or certificate-authority in the kubeconfig) to the authority of the API server.")
    if "wrong_version_number" in lowered or "record layer failure" in lowered or "http_request" in lowered:
        return CocoError(what, f"{server} does not speak TLS: {text}", "Correct the scheme and the port of host.")
    if "name or service not known" in lowered or "failed to resolve" in lowered or "nodename nor servname" in lowered:
        return CocoError(what, f"the name in {server} cannot be resolved: {text}",
                         "Check host or the kubeconfig's server, and this machine's DNS; a private cluster needs its network or a proxy.")
    return CocoError(what, f"{server} does not answer: {text}",
                     "Check host, kubeconfig and context, and that this machine reaches the API server (network, VPN, proxy).")


def _answered(what: str, error: ApiFailure, server: str) -> CocoError:
    if error.status == 401:
        return CocoError(what, f"{server} refused the credentials (401 {error.message or error.reason})",
                         "The token has expired or is not of this cluster: log in anew and update kubeconfig or api_key.")
    if error.status == 403 and "being terminated" in error.message:
        return CocoError(what, f"its namespace is being deleted: {error.message}",
                         "Wait until the namespace is gone (oc get namespace), then run again.")
    if error.status == 403:
        return CocoError(what, f"the credentials may not do this: {error.message}",
                         "Grant the named verb on the named resource to that user, or use other credentials.")
    if error.status == 409 and (error.conflicts() or "conflict" in error.message):
        named = ", ".join(f"{c['field']} is owned by {c['manager']}" for c in error.conflicts())
        return CocoError(what, f"another manager owns a field: {named or error.message}",
                         "Remove the field there (or here), or set force: true for an object that only this task defines.",
                         conflicts=error.conflicts())
    if error.no_namespace:
        return CocoError(what, error.message, "Create the namespace first; it may stand in the same list of objects.")
    if error.status == 413:
        return CocoError(what, "the object is too large for the API server", "Make it smaller: a config map holds at most 1 MiB.")
    if error.status == 429:
        return CocoError(what, f"{server} is overloaded (429): {error.message}", "Run again later.")
    if error.no_webhook:
        return CocoError(what, f"an admission webhook does not answer: {error.message}",
                         "Wait until the operator that serves it is ready, then run again.")
    if error.status in (400, 422) or "admission webhook" in error.message:
        return CocoError(what, f"the API server refused the object: {error.message}",
                         "Correct the named field; it comes from a variable of the role or a template.")
    return CocoError(what, f"{error.status} {error.reason}: {error.message}", "Look at the named object and run again.")
