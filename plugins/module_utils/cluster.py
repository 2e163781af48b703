# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge: a session with one cluster's API server.

Credentials come from the ``kubernetes`` client's own loaders (``cluster_login.py``); requests are plain JSON over one pool of
connections, without discovery documents or model classes of their own. Kinds that every Kubernetes serves need no discovery.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from ansible_collections.confidential.containers.plugins.module_utils import cluster_login
from ansible_collections.confidential.containers.plugins.module_utils.cluster_errors import (
    ApiFailure,
    UnknownKind,
    Unreachable,
    explain,
    title,
)

try:
    import urllib3
except ImportError:
    HAS_URLLIB3 = False
else:
    HAS_URLLIB3 = True

__all__ = ["FIELD_MANAGER", "WORKERS", "ApiFailure", "Cluster", "Kind", "Object", "Objects", "UnknownKind", "Unreachable",
           "explain", "title"]

Object = dict[str, Any]
Objects = list[Object]

FIELD_MANAGER = "confidential.containers"
WORKERS = 8
CONTENT = {
    "merge": "application/merge-patch+json", "json": "application/json-patch+json", "apply": "application/apply-patch+yaml",
}
DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
#: Answers that say "later": throttling, and a server or a proxy before it that is (re)starting.
LATER = (429, 502, 503, 504)
ATTEMPTS = 5
LONGEST_PAUSE = 10.0


@dataclass(frozen=True)
class Kind:
    """Where a kind is served."""

    prefix: str
    plural: str
    namespaced: bool
    verbs: tuple[str, ...] = ()


def _kinds() -> dict[tuple[str, str], Kind]:
    table = {
        "v1": "ConfigMap:configmaps Secret:secrets Service:services ServiceAccount:serviceaccounts Pod:pods Event:events "
              "Endpoints:endpoints PersistentVolumeClaim:persistentvolumeclaims Namespace:namespaces! Node:nodes!",
        "apps/v1": "Deployment:deployments DaemonSet:daemonsets StatefulSet:statefulsets ReplicaSet:replicasets",
        "batch/v1": "Job:jobs CronJob:cronjobs",
        "rbac.authorization.k8s.io/v1": "Role:roles RoleBinding:rolebindings ClusterRole:clusterroles! "
                                        "ClusterRoleBinding:clusterrolebindings!",
        "node.k8s.io/v1": "RuntimeClass:runtimeclasses!",
        "discovery.k8s.io/v1": "EndpointSlice:endpointslices",
        "apiextensions.k8s.io/v1": "CustomResourceDefinition:customresourcedefinitions!",
        "operators.coreos.com/v1": "OperatorGroup:operatorgroups",
        "operators.coreos.com/v1alpha1": "Subscription:subscriptions InstallPlan:installplans "
                                         "ClusterServiceVersion:clusterserviceversions CatalogSource:catalogsources",
        "config.openshift.io/v1": "ClusterVersion:clusterversions! Infrastructure:infrastructures! Ingress:ingresses!",
        "route.openshift.io/v1": "Route:routes",
        "machineconfiguration.openshift.io/v1": "MachineConfigPool:machineconfigpools!",
        "kataconfiguration.openshift.io/v1": "KataConfig:kataconfigs!",
        "confidentialcontainers.org/v1alpha1": "KbsConfig:kbsconfigs TrusteeConfig:trusteeconfigs",
        "aro.openshift.io/v1alpha1": "Cluster:clusters!",
    }
    kinds = {}
    for api_version, text in table.items():
        for item in text.split():
            kind, plural = item.split(":")
            prefix = ("/apis/" if "/" in api_version else "/api/") + api_version
            kinds[api_version, kind] = Kind(prefix, plural.rstrip("!"), not plural.endswith("!"))
    return kinds


#: Kinds whose place is fixed: those of Kubernetes, and those of the operators that this collection works with. Whether the
#: cluster serves one of the latter is seen by its answer; no discovery is asked for.
KNOWN = _kinds()


class Cluster:
    """Requests to one API server; usable from several threads."""

    _sessions: dict[tuple[Any, ...], Cluster] = {}  # noqa: RUF012 (one per process, on purpose)

    def __init__(self, configuration: Any, tls: Any) -> None:
        self.configuration = configuration
        self.server = str(configuration.host).rstrip("/")
        self._pool = cluster_login.pool(configuration, tls, WORKERS * 2)
        self._kinds: dict[tuple[str, str], Kind] = {}
        self._lock = threading.Lock()
        self._pause = threading.Event()

    @classmethod
    def from_params(cls, params: dict[str, Any], prefix: str = "") -> Cluster:
        """The session that a module's cluster options name (option names behind ``prefix``, such as ``hub_``).

        Sessions are kept for as long as the process lives. Raises :class:`CocoError` where there are no usable credentials.
        """
        given = cluster_login.options(params, prefix)
        path = given["kubeconfig"] if isinstance(given["kubeconfig"], str) else None
        stamp = os.stat(path).st_mtime_ns if path and os.path.exists(path) else 0
        key = (os.getpid(), stamp, json.dumps(given, sort_keys=True, default=str))
        if key not in cls._sessions:
            cls._sessions[key] = cls(*cluster_login.load(given))
        return cls._sessions[key]

    # Requests ---------------------------------------------------------------------------------------------------

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": "application/json", "User-Agent": FIELD_MANAGER}
        for setting in self.configuration.auth_settings().values():
            if setting.get("value"):
                headers[setting["key"]] = setting["value"]
        return headers

    def raw(self, method: str, path: str, query: dict[str, Any] | None = None, body: Any = None,
            content: str = "application/json", accept: str = "", timeout: float = 60, stream: bool = False) -> Any:
        """One request; the ``urllib3`` response. Repeated where the server says "later" (429, 502-504).

        Raises :class:`ApiFailure` or :class:`Unreachable`.
        """
        headers = self._headers()
        if accept:
            headers["Accept"] = accept
        data = None
        if body is not None:
            headers["Content-Type"] = content
            data = json.dumps(body).encode()
        url = self.server + path + ("?" + urlencode(query) if query else "")
        for attempt in range(1, ATTEMPTS + 1):
            try:
                answer = self._pool.request(method, url, body=data, headers=headers, preload_content=not stream,
                                            timeout=urllib3.Timeout(connect=10, read=timeout), redirect=False)
            except urllib3.exceptions.HTTPError as error:
                raise Unreachable(str(getattr(error, "reason", None) or error)) from error
            if answer.status < 400:
                return answer
            text = answer.data if not stream else answer.read()
            if stream:
                answer.release_conn()
            if answer.status not in LATER or attempt == ATTEMPTS or (method == "POST" and answer.status != 429):
                raise _failure(answer.status, text)
            self._pause.wait(_pause(answer.headers.get("Retry-After"), attempt))
        raise Unreachable("no answer")

    def request(self, method: str, path: str, query: dict[str, Any] | None = None, body: Any = None,
                content: str = "application/json", timeout: float = 60) -> Any:
        """One request; the decoded JSON answer."""
        data = self.raw(method, path, query, body, content, timeout=timeout).data
        try:
            return json.loads(data)
        except ValueError as error:
            raise Unreachable(f"the answer is no JSON, so this is no API server: {data[:60]!r}") from error

    # Kinds ------------------------------------------------------------------------------------------------------

    def kind(self, api_version: str, kind: str) -> Kind:
        """Where a kind is served; the whole discovery is two requests. Raises :class:`UnknownKind`.

        A kind of :data:`KNOWN` may turn out not to be served when it is asked for: see :func:`_of_kind`.
        """
        found = KNOWN.get((api_version, kind))
        if found is None:
            with self._lock:
                if not self._kinds:
                    self._discover()
                found = self._kinds.get((api_version, kind))
        if found is None:
            raise UnknownKind(api_version, kind)
        return found

    def recheck(self, api_version: str) -> None:
        """Ask again what one API version serves (one small request): its CRDs may have been installed meanwhile."""
        prefix = ("/apis/" if "/" in api_version else "/api/") + api_version
        try:
            resources = self.request("GET", prefix)["resources"]
        except ApiFailure as error:
            if error.status == 404:
                return
            raise
        with self._lock:
            self._learn(api_version, resources)

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
            found = document.get("versions") or [v["groupVersion"] for g in document.get("groups", []) for v in g["versions"]]
            for group_version in found:
                self._learn(group_version, self.request("GET", f"{root}/{group_version}")["resources"])

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
            with _of_kind(api_version, kind):
                found: Object = self.request("GET", self.path(api_version, kind, namespace, name))
        except UnknownKind:
            return None
        except ApiFailure as error:
            if error.status == 404:
                return None
            raise
        return {"apiVersion": api_version, "kind": kind, **found}

    def list(self, api_version: str, kind: str, namespace: str | None = None, labels: str = "",
             fields: str = "") -> Objects:
        """The objects of a kind; none where the kind is not served."""
        try:
            return self.list_version(api_version, kind, namespace, labels, fields)[0]
        except UnknownKind:
            return []
        except ApiFailure as error:
            if error.status == 404:
                return []
            raise

    def list_version(self, api_version: str, kind: str, namespace: str | None = None, labels: str = "",
                     fields: str = "") -> tuple[Objects, str]:
        """The objects, and the version to watch them from. Raises :class:`UnknownKind` where the kind is not served."""
        query = {name: value for name, value in (("labelSelector", labels), ("fieldSelector", fields)) if value}
        with _of_kind(api_version, kind):
            found = self.request("GET", self.path(api_version, kind, namespace), query)
        items = [{"apiVersion": api_version, "kind": kind, **item} for item in found.get("items") or []]
        return items, str(found.get("metadata", {}).get("resourceVersion", ""))

    def metadata(self, kind: str, namespace: str) -> Objects:
        """The metadata of the core objects of a kind in a namespace; their content is not even sent."""
        accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
        answer = self.raw("GET", self.path("v1", kind, namespace), accept=accept)
        return [item["metadata"] for item in json.loads(answer.data).get("items") or []]

    def create(self, obj: Object, dry_run: bool = False) -> Object:
        """Create the object; :class:`ApiFailure` 409 where it exists."""
        path = self.path(obj["apiVersion"], obj["kind"], obj["metadata"].get("namespace"))
        query = {"fieldManager": FIELD_MANAGER, **({"dryRun": "All"} if dry_run else {})}
        with _of_kind(obj["apiVersion"], obj["kind"]):
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
        with _of_kind(obj["apiVersion"], obj["kind"]):
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
            with _of_kind(obj["apiVersion"], obj["kind"]):
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

    def watch(self, api_version: str, kind: str, namespace: str | None, version: str, labels: str = "", fields: str = "",
              seconds: int = 30, opened: Callable[[Any], None] | None = None) -> Iterator[tuple[str, Object]]:
        """(type, object) of changes after ``version``, for about ``seconds``; ``opened`` gets the response (to cut it off)."""
        query = {"watch": "true", "resourceVersion": version, "timeoutSeconds": seconds, "allowWatchBookmarks": "true"}
        query |= {name: value for name, value in (("labelSelector", labels), ("fieldSelector", fields)) if value}
        with _of_kind(api_version, kind):
            answer = self.raw("GET", self.path(api_version, kind, namespace), query, timeout=seconds + 5, stream=True)
        if opened is not None:
            opened(answer)
        rest = b""
        try:
            for chunk in answer.stream(65536):
                lines = (rest + chunk).split(b"\n")
                rest = lines.pop()
                for line in lines:
                    event = json.loads(line)
                    yield event["type"], event["object"]
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise Unreachable(str(error)) from error
        finally:
            answer.close()

    def allowed(self, verb: str, group: str, resource: str, namespace: str = "", subresource: str = "") -> bool:
        """May these credentials do this? (SelfSubjectAccessReview)"""
        attributes = {"verb": verb, "group": group, "resource": resource, "namespace": namespace, "subresource": subresource}
        answer = self.request("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", None, {
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {k: v for k, v in attributes.items() if v}}})
        return bool(answer["status"].get("allowed"))


@contextlib.contextmanager
def _of_kind(api_version: str, kind: str) -> Iterator[None]:
    """A path that the server does not know means a kind that it does not serve."""
    try:
        yield
    except ApiFailure as error:
        if error.not_served:
            raise UnknownKind(api_version, kind) from error
        raise


def _failure(status: int, text: bytes) -> ApiFailure:
    try:
        found = json.loads(text)
        return ApiFailure(status, found.get("reason") or "", found.get("message") or "", found.get("details"))
    except (ValueError, AttributeError):
        return ApiFailure(status, "", text.decode(errors="replace").strip()[:500])


def _pause(retry_after: str | None, attempt: int) -> float:
    """Seconds to the next attempt: as the server says, else growing."""
    try:
        wished = float(retry_after or "")
    except ValueError:
        wished = 0.25 * 2.0 ** attempt
    return min(wished, LONGEST_PAUSE)
