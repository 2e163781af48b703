# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge: a session with one cluster's API server.

Credentials come from the ``kubernetes`` client's own loaders; requests go through its connection pool as plain JSON, without
discovery documents or model classes of their own. Certificates are verified against the cluster's authority only, whatever
REQUESTS_CA_BUNDLE or SSL_CERT_FILE say.
"""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import urllib3
from kubernetes import client, config
from kubernetes.config.config_exception import ConfigException

from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

Object = dict[str, Any]
Objects = list[Object]

FIELD_MANAGER = "confidential.containers"
WORKERS = 8
CONTENT = {
    "merge": "application/merge-patch+json", "json": "application/json-patch+json", "apply": "application/apply-patch+yaml",
}
DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"


class ApiFailure(Exception):
    """An answer other than success: HTTP ``status``, ``reason`` and ``message`` of the Status object, its ``details``."""

    def __init__(self, status: int, reason: str, message: str, details: Any = None) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status, self.reason, self.message, self.details = status, reason, message, details or {}


class Unreachable(Exception):
    """No answer at all (connection, TLS or time-out)."""


@dataclass(frozen=True)
class Kind:
    """Where a kind is served."""

    prefix: str
    plural: str
    namespaced: bool
    verbs: tuple[str, ...] = ()


class UnknownKind(Exception):
    """The cluster serves no such kind."""

    def __init__(self, api_version: str, kind: str) -> None:
        super().__init__(f"no kind {kind} in {api_version}")
        self.api_version, self.kind = api_version, kind


def title(obj: Object) -> str:
    """``Kind namespace/name`` of an object or reference."""
    meta = obj.get("metadata", {})
    name = meta.get("name") or obj.get("name", "")
    namespace = meta.get("namespace") or obj.get("namespace")
    return f"{obj.get('kind', '?')} {namespace}/{name}" if namespace else f"{obj.get('kind', '?')} {name}"


def explain(what: str, error: Exception, server: str = "") -> CocoError:
    """A failure in words a user can act on."""
    if isinstance(error, Unreachable):
        text = str(error)
        if "CERTIFICATE_VERIFY_FAILED" in text or "certificate verify failed" in text:
            return CocoError(what, f"the certificate of {server} is not trusted: {text}",
                             "Set ca_cert (or certificate-authority in the kubeconfig) to the authority of the API server.")
        return CocoError(what, f"{server} does not answer: {text}",
                         "Check host, kubeconfig and context, and that this machine reaches the API server.")
    if isinstance(error, UnknownKind):
        return CocoError(what, f"the cluster has no kind {error.kind} in {error.api_version}",
                         "Install the operator that brings it first (steps 1 and 3), or wait until its CSV is Succeeded.")
    if isinstance(error, ApiFailure):
        if error.status == 401:
            return CocoError(what, f"{server} refused the credentials (401 {error.message})",
                             "The token has expired or is not of this cluster: log in anew and update kubeconfig or api_key.")
        if error.status == 403:
            return CocoError(what, f"the credentials may not do this: {error.message}",
                             "Grant the named verb on the named resource to that user, or use other credentials.")
        if error.status == 409 and error.reason == "Conflict" and "conflict" in error.message:
            return CocoError(what, f"another manager owns a field: {error.message}",
                             "Remove the field there or here; only objects that this collection defines whole are forced.")
        if error.status == 422 or error.status == 400:
            return CocoError(what, f"the API server refused the object: {error.message}",
                             "Correct the named field; it comes from a variable of the role or a template.")
        if "failed calling webhook" in error.message:
            return CocoError(what, f"an admission webhook does not answer: {error.message}",
                             "Wait until the operator that serves it is ready, then run again.")
        return CocoError(what, f"{error.status} {error.reason}: {error.message}", "Look at the named object and run again.")
    return CocoError(what, str(error), "Run again with -vvv for the whole trace.")


class Cluster:
    """Requests to one API server; usable from several threads."""

    def __init__(self, configuration: Any) -> None:
        configuration.retries = urllib3.Retry(total=2, connect=2, read=0, status=0, redirect=0, backoff_factor=0.2)
        configuration.connection_pool_maxsize = WORKERS + 8
        self.configuration = configuration
        self.server = str(configuration.host).rstrip("/")
        self._client = client.ApiClient(configuration)
        self._pool = self._client.rest_client.pool_manager
        self._kinds: dict[tuple[str, str], Kind] = {}
        self._lock = threading.Lock()

    @classmethod
    def from_params(cls, params: dict[str, Any], prefix: str = "") -> Cluster:
        """A session as a module's cluster options say (with ``prefix``, such as ``hub_``, where one is given).

        Without any option: the default kubeconfig, else the pod's own ServiceAccount. Raises :class:`CocoError`.
        """
        def option(name: str) -> Any:
            return params.get(prefix + name)

        configuration = client.Configuration()
        kubeconfig = option("kubeconfig")
        try:
            if option("host"):
                configuration.host = option("host")
            elif isinstance(kubeconfig, dict):
                config.load_kube_config_from_dict(kubeconfig, context=option("context"), client_configuration=configuration)
            elif kubeconfig and str(kubeconfig).lstrip().startswith("{"):
                config.load_kube_config_from_dict(json.loads(str(kubeconfig)), context=option("context"),
                                                  client_configuration=configuration)
            elif kubeconfig:
                path = os.path.expanduser(str(kubeconfig))
                if not os.path.exists(path):
                    raise CocoError("The cluster cannot be reached", f"the kubeconfig {path} does not exist",
                                    "Set kubeconfig (coco_kubeconfig) to a file that exists where the task runs.")
                config.load_kube_config(path, context=option("context"), client_configuration=configuration)
            else:
                config.load_config(context=option("context"), client_configuration=configuration)
        except (ConfigException, ValueError, OSError) as error:
            raise CocoError("The cluster cannot be reached", f"no usable credentials: {error}",
                            "Set kubeconfig and context, or host and api_key.") from error
        if option("api_key"):
            configuration.api_key = {"authorization": option("api_key"), "BearerToken": option("api_key")}
            configuration.api_key_prefix = {"authorization": "Bearer", "BearerToken": "Bearer"}
        if option("username") and option("password"):
            pair = f"{option('username')}:{option('password')}".encode()
            token = "Basic " + base64.b64encode(pair).decode()
            configuration.api_key = {"authorization": token, "BearerToken": token}
        for name, attribute in (("ca_cert", "ssl_ca_cert"), ("client_cert", "cert_file"), ("client_key", "key_file"),
                                ("proxy", "proxy")):
            if option(name):
                setattr(configuration, attribute, option(name))
        if option("validate_certs") is not None:
            configuration.verify_ssl = bool(option("validate_certs"))
        return cls(configuration)

    # Requests ---------------------------------------------------------------------------------------------------

    def _headers(self) -> dict[str, str]:
        if getattr(self.configuration, "refresh_api_key_hook", None):
            self.configuration.refresh_api_key_hook(self.configuration)
        headers = {"Accept": "application/json", "User-Agent": FIELD_MANAGER}
        for setting in self.configuration.auth_settings().values():
            if setting.get("value"):
                headers[setting["key"]] = setting["value"]
        return headers

    def raw(self, method: str, path: str, query: dict[str, Any] | None = None, body: Any = None,
            content: str = "application/json", accept: str = "", timeout: float = 60, stream: bool = False) -> Any:
        """One request; the ``urllib3`` response. Raises :class:`ApiFailure` or :class:`Unreachable`."""
        headers = self._headers()
        if accept:
            headers["Accept"] = accept
        data = None
        if body is not None:
            headers["Content-Type"] = content
            data = json.dumps(body).encode()
        url = self.server + path + ("?" + urlencode(query) if query else "")
        try:
            answer = self._pool.request(method, url, body=data, headers=headers, preload_content=not stream,
                                        timeout=urllib3.Timeout(connect=10, read=timeout), redirect=False)
        except urllib3.exceptions.HTTPError as error:
            cause = getattr(error, "reason", None) or error
            raise Unreachable(str(cause)) from error
        if answer.status >= 400:
            raw = answer.data if not stream else answer.read()
            try:
                found = json.loads(raw)
                raise ApiFailure(answer.status, found.get("reason", ""), found.get("message", ""), found.get("details"))
            except (ValueError, AttributeError):
                raise ApiFailure(answer.status, "", raw.decode(errors="replace").strip()[:500]) from None
        return answer

    def request(self, method: str, path: str, query: dict[str, Any] | None = None, body: Any = None,
                content: str = "application/json", timeout: float = 60) -> Any:
        """One request; the decoded JSON answer."""
        return json.loads(self.raw(method, path, query, body, content, timeout=timeout).data)

    # Kinds ------------------------------------------------------------------------------------------------------

    def kind(self, api_version: str, kind: str) -> Kind:
        """Where a kind is served; the whole discovery is two requests. Raises :class:`UnknownKind`."""
        with self._lock:
            if not self._kinds:
                self._discover()
            found = self._kinds.get((api_version, kind))
        if found is None:
            raise UnknownKind(api_version, kind)
        return found

    def forget_kinds(self) -> None:
        """Discover anew at the next need (a CRD was just installed)."""
        with self._lock:
            self._kinds = {}

    def kinds(self) -> dict[tuple[str, str], Kind]:
        """Every kind served."""
        with self._lock:
            if not self._kinds:
                self._discover()
            return dict(self._kinds)

    def _discover(self) -> None:
        for root in ("/api", "/apis"):
            document = json.loads(self.raw("GET", root, accept=DISCOVERY).data)
            if "items" in document:
                for group in document["items"]:
                    name = group.get("metadata", {}).get("name", "")
                    for version in group["versions"]:
                        self._learn(f"{name}/{version['version']}" if name else version["version"], [
                            {"name": r["resource"], "kind": r["responseKind"]["kind"], "namespaced": r["scope"] == "Namespaced",
                             "verbs": r.get("verbs", [])} for r in version.get("resources", []) if r.get("responseKind")])
                continue
            versions = document.get("versions", [])
            groups = [v if root == "/api" else "" for v in versions] or [
                g["preferredVersion"]["groupVersion"] for g in document.get("groups", [])]
            for group_version in groups:
                prefix = "/api/" if "/" not in group_version else "/apis/"
                self._learn(group_version, self.request("GET", prefix + group_version)["resources"])

    def _learn(self, api_version: str, resources: list[Object]) -> None:
        prefix = ("/api/" if "/" not in api_version else "/apis/") + api_version
        for resource in resources:
            if "/" not in resource["name"]:
                self._kinds[api_version, resource["kind"]] = Kind(prefix, resource["name"], bool(resource["namespaced"]),
                                                                  tuple(resource.get("verbs", [])))

    def path(self, api_version: str, kind: str, namespace: str | None = None, name: str | None = None) -> str:
        """The path of a collection or an object."""
        served = self.kind(api_version, kind)
        parts = [served.prefix]
        if served.namespaced and namespace:
            parts += ["namespaces", quote(namespace)]
        parts.append(served.plural)
        if name:
            parts.append(quote(name))
        return "/".join(parts)

    # Objects ----------------------------------------------------------------------------------------------------

    def get(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> Object | None:
        """The object; None where it, its namespace or its kind is not there."""
        try:
            found: Object = self.request("GET", self.path(api_version, kind, namespace, name))
        except UnknownKind:
            return None
        except ApiFailure as error:
            if error.status == 404:
                return None
            raise
        return found

    def list(self, api_version: str, kind: str, namespace: str | None = None, labels: str = "",
             fields: str = "") -> Objects:
        """The objects of a kind; none where the kind is not served."""
        query = {name: value for name, value in (("labelSelector", labels), ("fieldSelector", fields)) if value}
        try:
            found = self.request("GET", self.path(api_version, kind, namespace), query)
        except UnknownKind:
            return []
        return [{"apiVersion": api_version, "kind": kind, **item} for item in found.get("items") or []]

    def create(self, obj: Object, dry_run: bool = False) -> Object:
        path = self.path(obj["apiVersion"], obj["kind"], obj["metadata"].get("namespace"))
        query = {"fieldManager": FIELD_MANAGER, **({"dryRun": "All"} if dry_run else {})}
        found: Object = self.request("POST", path, query, obj)
        return found

    def patch(self, obj: Object, patch: Any, kind: str = "merge", dry_run: bool = False, force: bool = False,
              subresource: str = "") -> Object:
        """Patch the object that ``obj`` names."""
        meta = obj["metadata"]
        path = self.path(obj["apiVersion"], obj["kind"], meta.get("namespace"), meta["name"])
        query: dict[str, Any] = {"fieldManager": FIELD_MANAGER}
        if kind == "apply":
            query.update(force="true" if force else "false", fieldValidation="Strict")
        if dry_run:
            query["dryRun"] = "All"
        found: Object = self.request("PATCH", path + (f"/{subresource}" if subresource else ""), query, patch, CONTENT[kind])
        return found

    def delete(self, obj: Object, dry_run: bool = False, propagation: str = "Background", grace: int | None = None) -> bool:
        """Delete; False where there was nothing."""
        meta = obj["metadata"]
        query: dict[str, Any] = {"propagationPolicy": propagation}
        if dry_run:
            query["dryRun"] = "All"
        if grace is not None:
            query["gracePeriodSeconds"] = grace
        try:
            self.raw("DELETE", self.path(obj["apiVersion"], obj["kind"], meta.get("namespace"), meta["name"]), query)
        except UnknownKind:
            return False
        except ApiFailure as error:
            if error.status == 404:
                return False
            raise
        return True

    def logs(self, namespace: str, pod: str, container: str = "", tail: int = 200, since_seconds: int = 0,
             previous: bool = False) -> str:
        """The end of a container's log; empty where there is none."""
        query: dict[str, Any] = {"tailLines": tail}
        if container:
            query["container"] = container
        if since_seconds:
            query["sinceSeconds"] = since_seconds
        if previous:
            query["previous"] = "true"
        try:
            answer = self.raw("GET", f"/api/v1/namespaces/{namespace}/pods/{pod}/log", query, accept="*/*")
        except ApiFailure as error:
            if error.status in (400, 404):
                return ""
            raise
        text: str = answer.data.decode(errors="replace")
        return text

    def watch(self, api_version: str, kind: str, namespace: str | None, name: str, version: str,
              seconds: int = 30) -> Iterator[tuple[str, Object]]:
        """(type, object) of one object's changes after ``version``, for about ``seconds``."""
        query = {"watch": "true", "fieldSelector": f"metadata.name={name}", "resourceVersion": version,
                 "timeoutSeconds": seconds, "allowWatchBookmarks": "true"}
        answer = self.raw("GET", self.path(api_version, kind, namespace), query, timeout=seconds + 10, stream=True)
        rest = b""
        try:
            for chunk in answer.stream(65536):
                lines = (rest + chunk).split(b"\n")
                rest = lines.pop()
                for line in lines:
                    event = json.loads(line)
                    yield event["type"], event["object"]
        except urllib3.exceptions.HTTPError as error:
            raise Unreachable(str(error)) from error
        finally:
            answer.close()

    def list_version(self, api_version: str, kind: str, namespace: str | None, name: str) -> tuple[Object | None, str]:
        """The object (or None) and the version to watch from."""
        found = self.request("GET", self.path(api_version, kind, namespace), {"fieldSelector": f"metadata.name={name}"})
        items = [{"apiVersion": api_version, "kind": kind, **item} for item in found.get("items") or []]
        return (items[0] if items else None), str(found["metadata"]["resourceVersion"])

    def allowed(self, verb: str, group: str, resource: str, namespace: str = "", subresource: str = "") -> bool:
        """May these credentials do this? (SelfSubjectAccessReview)"""
        attributes = {"verb": verb, "group": group, "resource": resource, "namespace": namespace, "subresource": subresource}
        answer = self.request("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", None, {
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {k: v for k, v in attributes.items() if v}}})
        return bool(answer["status"].get("allowed"))
