"""The HTTP side of lab-arm: one request in, one answer out, nothing in between is waited for."""

from __future__ import annotations

import datetime
import json
import re
import urllib.parse
import uuid
from pathlib import Path
from types import ModuleType
from typing import Any

from aiohttp import web

from lab.arm import compute, machines, network, versions
from lab.arm.entra import Entra, OAuthError
from lab.arm.errors import Refusal
from lab.arm.ids import GROUP_TYPE, SUBSCRIPTION_TYPE, Place, last, parse, same
from lab.arm.rights import Denial, Principal, Rights, within
from lab.arm.store import Resource, Store

UNTRACKED = (network.SUBNET, network.RULE, network.ROUTE)
EVERYONE = "00000000-0000-0000-0000-000000000000"
AUTHORIZATION = "/providers/microsoft.authorization/"
LOCATIONS = ",".join(compute.REGIONS)


class Arm:
    """``directory`` holds ``control.json``, ``arm-audit.jsonl``; ``url``: of this server (that of the request being answered)."""

    def __init__(self, directory: Path, store: Store, entra: Entra, rights: Rights, tenant: str, url: str) -> None:
        self.directory, self.store, self.entra, self.rights, self.tenant, self.url = directory, store, entra, rights, tenant, url
        self.operations: dict[str, dict[str, Any]] = {}
        self.control: dict[str, Any] = {}
        self._control_time = 0

    def application(self) -> web.Application:
        app = web.Application(client_max_size=4 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self.handle)
        return app

    async def handle(self, request: web.Request) -> web.Response:
        """Any request; every one of ARM's is a line of the audit file."""
        form = {key: str(value) for key, value in (await request.post()).items()}
        body = await request.read()
        self._read_control()
        self.url = f"https://{request.host}"  # links and endpoints are named as the client calls this server
        words = request.path.strip("/").split("/")
        if request.path == "/metadata/endpoints":
            return web.json_response({"galleryEndpoint": self.url, "graphEndpoint": self.url, "portalEndpoint": self.url,
                                      "authentication": {"loginEndpoint": self.url, "audiences": [f"{self.entra.audience}/"]}})
        if words[1:] == ["v2.0", ".well-known", "openid-configuration"] or words[1:] == ["oauth2", "v2.0", "token"]:
            return self._login(words, form)
        who: list[Principal] = []
        try:
            status, document, headers = self.answer(request, body, who)
        except Refusal as refusal:
            status, document, headers = refusal.status, refusal.body(), refusal.headers
        headers["x-ms-request-id"] = headers["x-ms-correlation-request-id"] = str(uuid.uuid4())
        self._audit(request, who[0].client if who else "", status, document)
        if document is None:
            return web.Response(status=status, headers=headers)
        return web.json_response(document, status=status, headers=headers)

    def _login(self, words: list[str], form: dict[str, str]) -> web.Response:
        try:
            if words[-1] == "token":
                return web.json_response(self.entra.token(words[0], form, f"{self.url}/{words[0]}/oauth2/v2.0/token"))
            return web.json_response(self.entra.configuration(words[0], self.url))
        except OAuthError as error:
            return web.json_response(error.body(), status=error.status)

    def _read_control(self) -> None:
        """``control.json``, if it changed: throttle (number of requests), retry_after (seconds), page_size, token_seconds."""
        file = self.directory / "control.json"
        changed = file.stat().st_mtime_ns if file.exists() else 0
        if changed != self._control_time:
            self._control_time, self.control = changed, json.loads(file.read_text()) if changed else {}
        self.entra.seconds = int(self.control.get("token_seconds", 3600))

    def _audit(self, request: web.Request, client: str, status: int, document: Any) -> None:
        line = {"time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds"), "method": request.method,
                "path": request.path, "api_version": request.query.get("api-version", ""), "client": client, "status": status}
        if isinstance(document, dict) and isinstance(document.get("error"), dict):
            line["code"] = document["error"]["code"]
        with (self.directory / "arm-audit.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def answer(self, request: web.Request, body: bytes, who: list[Principal]) -> tuple[int, Any, dict[str, str]]:
        """(status, document, headers); ``who`` receives the principal. Raises :class:`Refusal`."""
        path, version = request.path.rstrip("/"), request.query.get("api-version", "")
        caller = self.entra.principal(request.headers.get("Authorization", ""), self.tenant, self.url)
        who.append(caller)
        self._throttle(request)
        if same(path, "/subscriptions"):
            versions.check("Microsoft.Resources", "subscriptions", version, LOCATIONS)
            return self._page(request, [self._subscription(one) for one in self.store.of_type(SUBSCRIPTION_TYPE)
                                        if self.rights.below(caller, one["id"])])
        at = path.lower().rfind(AUTHORIZATION)
        if at >= 0:
            return self._authorization(request, caller, path[:at], path[at + len(AUTHORIZATION):], version)
        place = parse(path)
        if place is None:
            tenant_part = re.fullmatch(r"(.*)/(resources|locations)", path, re.IGNORECASE)
            inner = parse(tenant_part[1]) if tenant_part else None
            if tenant_part is None or inner is None:
                raise Refusal(404, "NotFound", f"No HTTP resource was found that matches the request URI '{path}'.")
            self._known(inner)
            versions.check("Microsoft.Resources", tenant_part[2], version, LOCATIONS)
            return self._special(request, caller, inner, tenant_part[2].lower())
        self._known(place)
        versions.check(place.provider, place.type.partition("/")[2], version, LOCATIONS)
        if place.type.lower().split("/")[1] == "locations":
            return self._location(request, caller, place)
        if place.type.lower() == "microsoft.compute/skus":
            self.rights.demand(caller, "Microsoft.Compute/skus/read", place.scope)
            return 200, {"value": compute.skus(_location_filter(request.query.get("$filter", "")))}, {}  # in one page, as Azure's
        if place.type.lower() == "microsoft.compute/virtualmachines/instanceview" and not place.name:
            self._found(parse(place.parent) or place, caller, "read")
            return 200, compute.instance_view(), {}
        rules = self._rules(place)
        kind = place.type if rules is None else str(rules.kind_of(place.type))
        method = request.method
        if method in ("GET", "HEAD"):
            return self._read(request, caller, place, rules, kind)
        if not place.name:
            raise Refusal(405, "MethodNotAllowed", f"The request '{method} {path}' is not valid.")
        if method == "PUT":
            return self._put(request, caller, place, rules, kind, _document(body))
        if method == "PATCH":
            return self._patch(request, caller, place, rules, kind, _document(body))
        if method == "DELETE":
            return self._delete(request, caller, place, rules, kind)
        raise Refusal(405, "MethodNotAllowed", f"The requested resource does not support http method '{method}'.")

    def _throttle(self, request: web.Request) -> None:
        left = int(self.control.get("throttle", 0))
        if left:
            self.control["throttle"] = left - 1 if left > 0 else left
            seconds = int(self.control.get("retry_after", 1))
            kind = "reads" if request.method == "GET" else "writes"
            raise Refusal(429, "SubscriptionRequestsThrottled",
                          f"Number of {kind} requests for the subscription exceeded the limit. Please try again after '{seconds}' seconds "
                          "after "
                          "additional tokens are available. Refer to https://aka.ms/arm-throttling for additional information.",
                          {"Retry-After": str(seconds)})

    def _known(self, place: Place) -> None:
        if self.store.get(f"/subscriptions/{place.subscription}") is None:
            raise Refusal(404, "SubscriptionNotFound", f"The subscription '{place.subscription}' could not be found.")

    @staticmethod
    def _rules(place: Place) -> ModuleType | None:
        if place.type in (GROUP_TYPE, SUBSCRIPTION_TYPE):
            return None
        rules = {"microsoft.network": network, "microsoft.compute": compute}.get(place.provider.lower())
        if rules is None or rules.kind_of(place.type) is None:
            raise Refusal(404, "InvalidResourceType", f"The resource type '{place.type.partition('/')[2]}' could not be found in the "
                          "namespace "
                          f"'{place.provider}'. lab-arm does not have it.")
        return rules

    def _found(self, place: Place, caller: Principal, verb: str) -> Resource:
        """The resource at a place, which ``caller`` may do ``verb`` to."""
        self.rights.demand(caller, f"{place.type}/{verb}", place.path)
        found = self.store.get(place.path)
        if found is None:
            raise self._absent(place)
        return found

    def _absent(self, place: Place) -> Refusal:
        if place.group and self.store.get(f"/subscriptions/{place.subscription}/resourceGroups/{place.group}") is None:
            return Refusal(404, "ResourceGroupNotFound", f"Resource group '{place.group}' could not be found.")
        if place.type.count("/") > 1 and self.store.get(place.parent):
            return Refusal(404, "NotFound", f"Resource {place.path} not found.")
        named = "/".join([place.provider, *place.path.split("/")[7:]])
        return Refusal(404, "ResourceNotFound", f"The Resource '{named}' under resource group '{place.group}' was not found. For more "
                       "details "
                       "please go to https://aka.ms/ARMResourceNotFoundFix")

    def _show(self, rules: ModuleType | None, kind: str, resource: Resource) -> Resource:
        if rules is not None:
            shown: Resource = rules.view(self.store, kind, resource)
            return shown
        if kind == SUBSCRIPTION_TYPE:
            return self._subscription(resource)
        return {"id": resource["id"], "name": resource["name"], "type": "Microsoft.Resources/resourceGroups",
                **{key: resource[key] for key in ("location", "tags", "managedBy") if key in resource},
                "properties": {"provisioningState": "Succeeded"}}

    def _subscription(self, resource: Resource) -> Resource:
        return {"id": resource["id"], "subscriptionId": resource["name"], "tenantId": self.tenant, "displayName": "Lab subscription",
                "state": "Enabled", "authorizationSource": "RoleBased",
                "subscriptionPolicies": {"spendingLimit": "Off", "quotaId": "PayAsYouGo_2014-09-01"}}

    def _read(self, request: web.Request, caller: Principal, place: Place, rules: ModuleType | None, kind: str
              ) -> tuple[int, Any, dict[str, str]]:
        if place.name:
            found = self._found(place, caller, "read")
            shown = self._show(rules, kind, found)
            if "instanceview" in request.query.get("$expand", "").lower() and kind == compute.MACHINE:
                shown["properties"]["instanceView"] = compute.instance_view()
            return 200, shown, {"ETag": found["etag"]} if rules is network else {}
        everywhere = not place.group or kind == GROUP_TYPE
        if not (everywhere and self.rights.below(caller, place.scope)):
            self.rights.demand(caller, f"{kind}/read", place.scope)
            if place.group:
                self._present(place, "read")
        found_all = [one for one in self.store.of_type(kind, place.parent)
                     if not everywhere or self.rights.visible(caller, one["id"]) or self._may(caller, f"{kind}/read", one["id"])]
        return self._page(request, [self._show(rules, kind, one) for one in found_all])

    def _may(self, caller: Principal, action: str, scope: str) -> bool:
        try:
            self.rights.demand(caller, action, scope)
        except Refusal:
            return False
        return True

    def _present(self, place: Place, verb: str) -> None:
        """Raise :class:`Refusal` unless group and parent of a place exist."""
        group = f"/subscriptions/{place.subscription}/resourceGroups/{place.group}"
        if self.store.get(group) is None:
            raise Refusal(404, "ResourceGroupNotFound", f"Resource group '{place.group}' could not be found.")
        if not same(place.parent, group) and self.store.get(place.parent) is None:
            raise Refusal(404, "ParentResourceNotFound",
                          f"Failed to perform '{verb}' on resource(s) of type '{place.type.partition('/')[2]}', because the parent "
                          "resource "
                          f"'{place.parent.split('/providers/')[-1]}' could not be found.")

    def _put(self, request: web.Request, caller: Principal, place: Place, rules: ModuleType | None, kind: str, document: Resource
             ) -> tuple[int, Any, dict[str, str]]:
        self.rights.demand(caller, f"{kind}/write", place.path)
        old = self.store.get(place.path)
        _precondition(request, old)
        if rules is not None:
            self._present(place, "write")
        resource: Resource = {"id": old["id"] if old else self._spelled(place), "name": old["name"] if old else place.name, "type": kind,
                              "properties": json.loads(json.dumps(document.get("properties") or {}))}
        if kind not in UNTRACKED:
            resource |= {key: document[key] for key in ("tags", "zones", "sku", "identity", "plan") if document.get(key)}
            resource["location"] = self._region(place, document, old)
            if old and "managedBy" in old:
                resource["managedBy"] = old["managedBy"]
        if rules is None:
            resource["properties"] = {}
            return 200 if old else 201, self._show(None, kind, self.store.put(resource)), {}
        for target, action in rules.links(kind, resource["properties"]):
            if self.store.get(target) is not None:
                self.rights.demand_linked(caller, f"{kind}/write", place.path, action, target)
        children = rules.written(self.store, kind, resource, old)
        if kind in network.EMBEDDED:
            keys = {child["id"].lower() for child in children}
            for one in self.store.of_type(network.EMBEDDED[kind][1], resource["id"]):
                if one["id"].lower() not in keys:
                    self.store.remove(one["id"])
        for one in (resource, *children):
            self.store.put(one)
        shown = self._show(rules, kind, resource)
        shown["properties"] = {**shown["properties"], "provisioningState": "Updating" if old else "Creating"}
        return 200 if old else 201, shown, self._operation(request, place, location=False)

    def _spelled(self, place: Place) -> str:
        """The id of a new resource: its parent's as known, its type as Azure spells it."""
        group = self.store.get(f"/subscriptions/{place.subscription}/resourceGroups/{place.group}")
        if place.type == GROUP_TYPE or group is None:
            return place.path
        parent = self.store.get(place.parent)
        rules = self._rules(place)
        kind = str(rules.kind_of(place.type)) if rules else place.type
        if parent and not same(parent["id"], group["id"]):
            return f"{parent['id']}/{last(kind)}/{place.name}"
        return f"{group['id']}/providers/{kind}/{place.name}"

    @staticmethod
    def _region(place: Place, document: Resource, old: Resource | None) -> str:
        region = str(document.get("location") or "").replace(" ", "").lower()
        if not region:
            raise Refusal(400, "LocationRequired", "The location property is required for this definition.")
        if region not in compute.REGIONS:
            raise Refusal(400, "LocationNotAvailableForResourceType",
                          f"The provided location '{region}' is not available for resource type '{place.type}'. List of available regions "
                          "for "
                          f"the resource type is '{LOCATIONS}'.")
        if old and not same(old["location"], region):
            raise Refusal(409, "InvalidResourceLocation",
                          f"The resource '{place.name}' already exists in location '{old['location']}' in resource group '{place.group}'. "
                          "A "
                          f"resource with the same name cannot be created in location '{region}'. Please select a new resource name.")
        return region

    def _patch(self, request: web.Request, caller: Principal, place: Place, rules: ModuleType | None, kind: str, document: Resource
               ) -> tuple[int, Any, dict[str, str]]:
        found = self._found(place, caller, "write")
        _precondition(request, found)
        if rules is network and set(document) - {"tags"}:
            raise Refusal(400, "InvalidRequestFormat", "Cannot parse the request: only tags can be patched.")
        resource = {**found, "tags": dict(document.get("tags") or found.get("tags") or {})}
        if rules is compute and document.get("properties"):
            resource["properties"] = {**found["properties"], **document["properties"]}
            compute.written(self.store, kind, resource, found)
        self.store.put(resource)
        return 200, self._show(rules, kind, resource), {}

    def _delete(self, request: web.Request, caller: Principal, place: Place, rules: ModuleType | None, kind: str
                ) -> tuple[int, Any, dict[str, str]]:
        self.rights.demand(caller, f"{kind}/delete", place.path)
        found = self.store.get(place.path)
        if found is None:
            if rules is None:
                raise self._absent(place)
            return 204, None, {}
        if kind == SUBSCRIPTION_TYPE:
            raise Refusal(405, "MethodNotAllowed", "A subscription cannot be deleted.")
        _precondition(request, found)
        if rules is not None:
            rules.refuse_removal(self.store, kind, found["id"])
        self.store.remove(found["id"])
        if kind == compute.MACHINE:
            compute.removed(self.store, found)
            machines.stop(self.directory.parent, found["name"])
        return 202, None, self._operation(request, place, location=True)

    def _operation(self, request: web.Request, place: Place, location: bool) -> dict[str, str]:
        """Headers of a long-running operation: it is InProgress at the first look and has succeeded at the second."""
        name = str(uuid.uuid4())
        self.operations[name] = {"looks": 0}
        provider = "Microsoft.Compute" if same(place.provider, "Microsoft.Compute") else "Microsoft.Network"
        base = f"{self.url}/subscriptions/{place.subscription}/providers/{provider}/locations/eastus"
        # of the provider that is asked, whatever the version of the group's own API
        version = request.query["api-version"] if same(place.provider, provider) else versions.KNOWN[provider.lower()][-1]
        headers = {"Azure-AsyncOperation": f"{base}/operations/{name}?api-version={version}", "Retry-After": "0"}
        if location:
            headers["Location"] = f"{base}/operationResults/{name}?api-version={version}"
        return headers

    def _location(self, request: web.Request, caller: Principal, place: Place) -> tuple[int, Any, dict[str, str]]:
        """``locations/L/usages``, ``locations/L/operations/ID``, ``locations/L/operationResults/ID``."""
        words = place.path.lower().split("/providers/")[1].split("/")
        if len(words) == 4 and words[3] == "usages":
            if words[2] not in compute.REGIONS:
                raise Refusal(400, "LocationNotFound", f"The location '{words[2]}' was not found. The supported locations are "
                                                       f"'{LOCATIONS}'.")
            self.rights.demand(caller, f"{place.provider}/locations/usages/read", f"/subscriptions/{place.subscription}")
            source = network if words[0] == "microsoft.network" else compute
            return 200, {"value": source.usages(self.store, place.subscription, words[2])}, {}
        operation = self.operations.get(words[4]) if len(words) == 5 else None
        if operation is None:
            raise Refusal(404, "NotFound", f"The operation at '{place.path}' was not found.")
        operation["looks"] += 1
        done = operation["looks"] > 1
        headers = {} if done else {"Retry-After": "0"}
        if words[3] == "operationresults":
            return (204 if done else 202), None, headers if done else {**headers, "Location": str(request.url)}
        return 200, {"status": "Succeeded" if done else "InProgress"}, headers

    def _special(self, request: web.Request, caller: Principal, place: Place, what: str) -> tuple[int, Any, dict[str, str]]:
        """``…/resources`` of a subscription or group, ``…/locations`` of a subscription."""
        if what == "locations":
            self.rights.demand(caller, "Microsoft.Resources/subscriptions/locations/read", place.path)
            return self._page(request, [{"id": f"{place.path}/locations/{name}", "name": name, "displayName": text,
                                         "metadata": {"regionType": "Physical"}} for name, text in compute.REGIONS.items()])
        if place.group:
            self._found(place, caller, "read")
        elif not self.rights.below(caller, place.path):
            self.rights.demand(caller, "Microsoft.Resources/subscriptions/resources/read", place.path)
        wanted = _resource_filter(request.query.get("$filter", ""))
        found = [self.store.resources[key.lower()] for key in sorted(self.store.below(place.path))]
        listed: list[dict[str, Any]] = [
            {key: one[key] for key in ("id", "name", "type", "location", "tags", "sku", "managedBy", "zones") if key in one}
            for one in found if one["type"] not in (*UNTRACKED, GROUP_TYPE) and wanted(one) and self.rights.visible(caller, one["id"])]
        return self._page(request, listed)

    def _authorization(self, request: web.Request, caller: Principal, scope: str, what: str, version: str
                       ) -> tuple[int, Any, dict[str, str]]:
        place = parse(scope)
        if place is None:
            raise Refusal(404, "NotFound", f"No HTTP resource was found that matches the request URI '{request.path}'.")
        self._known(place)
        versions.check("Microsoft.Authorization", what, version, LOCATIONS)
        if request.method != "GET":
            raise Refusal(405, "MethodNotAllowed", f"The requested resource does not support http method '{request.method}'.")
        if what.lower() == "permissions":  # everybody may ask for their own
            return self._page(request, self.rights.permissions(caller, scope))
        self.rights.demand(caller, f"Microsoft.Authorization/{what}/read", scope)
        if what.lower() == "denyassignments":
            return self._page(request, [_denial(one) for one in self.rights.denials if within(scope, one.scope)])
        raise Refusal(404, "InvalidResourceType", f"The resource type '{what}' could not be found in the namespace "
                      "'Microsoft.Authorization'. "
                      "lab-arm does not have it.")

    def _page(self, request: web.Request, items: list[dict[str, Any]]) -> tuple[int, Any, dict[str, str]]:
        size = int(self.control.get("page_size", 1))
        begin = int(request.query.get("$skiptoken", "0"))
        document: dict[str, Any] = {"value": items[begin:begin + size]}
        if begin + size < len(items):
            query = {**request.query, "$skiptoken": str(begin + size)}
            document["nextLink"] = f"{self.url}{urllib.parse.quote(request.path)}?{urllib.parse.urlencode(query)}"
        return 200, document, {}


def _denial(one: Denial) -> Resource:
    return {"id": one.id, "name": last(one.id), "type": "Microsoft.Authorization/denyAssignments", "properties": {
        "denyAssignmentName": one.name, "scope": one.scope, "isSystemProtected": True, "doNotApplyToChildScopes": False,
        "permissions": [{"actions": one.actions, "notActions": one.not_actions, "dataActions": [], "notDataActions": []}],
        "principals": [{"id": EVERYONE, "type": "SystemDefined", "displayName": "All Principals"}],
        "excludePrincipals": [{"id": who, "type": "ServicePrincipal"} for who in one.exempt]}}


def _document(body: bytes) -> Resource:
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Refusal(400, "InvalidRequestContent", "The request content was invalid and could not be deserialized.")
    return found


def _precondition(request: web.Request, found: Resource | None) -> None:
    """If-Match and If-None-Match. Raises :class:`Refusal` (412)."""
    wanted, unwanted = request.headers.get("If-Match"), request.headers.get("If-None-Match")
    etag = (found or {}).get("etag")
    if wanted and (etag is None or wanted not in ("*", etag)):
        raise Refusal(412, "PreconditionFailed", f"Precondition failed. The ETag of the resource is {etag}, not {wanted}.")
    if unwanted and etag is not None and unwanted in ("*", etag):
        raise Refusal(412, "PreconditionFailed", "Precondition failed. The resource exists already.")


def _location_filter(text: str) -> str:
    if not text:
        return ""
    found = re.fullmatch(r"location eq '([^']+)'", text)
    if not found:
        raise Refusal(400, "InvalidParameter", f"The filter '{text}' is not supported: only location can be filtered.")
    return found[1].replace(" ", "").lower()


def _resource_filter(text: str) -> Any:
    if not text:
        return lambda _one: True
    kind = re.fullmatch(r"resourceType eq '([^']+)'", text)
    if kind:
        return lambda one: same(one["type"], kind[1])
    tag = re.fullmatch(r"tagName eq '([^']+)'(?: and tagValue eq '([^']*)')?", text)
    if tag:
        return lambda one: tag[1] in one.get("tags", {}) and tag[2] in (None, one["tags"][tag[1]])
    raise Refusal(400, "InvalidFilterInQueryString", f"Invalid $filter '{text}' specified in the query string.")
