# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The work of the module azure_peerpods_network."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils import azure_network as network
from ansible_collections.confidential.containers.plugins.module_utils.arguments import azure_options
from ansible_collections.confidential.containers.plugins.module_utils.azure import Azure
from ansible_collections.confidential.containers.plugins.module_utils.azure_ids import build, parse, same
from ansible_collections.confidential.containers.plugins.module_utils.context import Context
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

Resource = network.Resource

PROVIDER = "Microsoft.Network"
#: Reading and writing use one version, the newest that Azure's library knows: an older one may not show all that a subnet has.
API = "2026-03-01"
GONE = ("ResourceNotFound", "NotFound")
#: How often a subnet is read again because somebody else wrote it in between (412).
TRIES = 5

ARGUMENT_SPEC: dict[str, Any] = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "infrastructure_name": {"type": "str", "required": True},
    "subnet_id": {"type": "str", "required": True},
    "nat_gateway": {"type": "str", "default": ""},
    "public_ip": {"type": "str", "default": ""},
    "idle_timeout": {"type": "int", "default": 10},
    "zones": {"type": "list", "elements": "str", "default": []},
    **azure_options(),
}
SPEC_KWARGS: dict[str, Any] = {}


def run(params: dict[str, Any], context: Context) -> dict[str, Any]:
    """Give the subnet a way out where it has none, or take back the one that was made for it. Raises CocoError."""
    if not 4 <= params["idle_timeout"] <= 120:
        raise CocoError("The idle timeout is not valid", f"{params['idle_timeout']} minutes", "Azure allows 4 to 120 (idle_timeout).")
    if len(params["zones"]) > 1:
        raise CocoError("The zones are not valid", f"{', '.join(params['zones'])}", "A NAT gateway has one zone or none (zones).")
    subscription = parse(params["subnet_id"]).subscription
    azure = Azure.from_params(params, context.progress, subscription)
    if azure.subscription.lower() != subscription.lower():
        raise CocoError("The credentials are for another subscription", f"the subnet is in {subscription}, the credentials are for "
                        f"{azure.subscription}", f"Set subscription_id (AZURE_SUBSCRIPTION_ID) to {subscription}.")
    work = Work(azure, params, context)
    result = work.present() if params["state"] == "present" else work.absent()
    return {**result, "calls": azure.calls, "credential": azure.login.used}


class Work:
    """One subnet, its NAT gateway and that one's public IP."""

    def __init__(self, azure: Azure, params: dict[str, Any], context: Context) -> None:
        self.azure, self.context, self.params = azure, context, params
        self.infrastructure, self.subnet_id, place = params["infrastructure_name"], params["subnet_id"], parse(params["subnet_id"])
        if [part.lower() for part in place.types] != ["virtualnetworks", "subnets"]:
            raise CocoError("The id is not that of a subnet", self.subnet_id, "Give /…/virtualNetworks/<name>/subnets/<name> (subnet_id).")
        self.group, (self.vnet, self.subnet) = place.group, place.names
        own_gateway, own_address = network.names(self.infrastructure)
        self.gateway, self.address = params["nat_gateway"] or own_gateway, params["public_ip"] or own_address
        self.gateway_id, self.address_id = self._id("natGateways", self.gateway), self._id("publicIPAddresses", self.address)
        self.network_id = self._id("virtualNetworks", self.vnet)

    def _id(self, *path: str) -> str:
        return build(self.azure.subscription, self.group, PROVIDER, *path)

    def _find(self, resource_id: str) -> Resource | None:
        """The resource, or None where there is none of this id. A group or subscription that is not there stays an error."""
        try:
            return self.azure.get(resource_id, API)
        except CocoError as error:
            if error.details.get("code") in GONE:
                return None
            raise

    def present(self) -> dict[str, Any]:
        """Create and attach what is missing; keep an egress that is there."""
        vnet = self.azure.get(self.network_id, API)
        subnet = network.subnet_of(vnet, self.subnet)
        table_id = network.reference(subnet, "routeTable")
        table = self.azure.get(table_id, API) if table_id else None
        kept = network.kept(subnet, table, self.gateway_id, named=bool(self.params["nat_gateway"]))
        result: dict[str, Any] = {"changed": False, "created": [], "removed": [], "attached": False, "kept": [kept] if kept else [],
                                  "bills": [], "nat_gateway": network.reference(subnet, "natGateway")}
        if kept:
            self.context.progress(f"Outbound network: {kept}")
            return result
        gateway, address = self._find(self.gateway_id), self._find(self.address_id)
        wanted = {"infrastructure": self.infrastructure, "idle_timeout": self.params["idle_timeout"], "gateway_id": self.gateway_id,
                  "address_id": self.address_id}
        plan = network.plan_present(subnet, gateway, address, wanted)
        result |= {"changed": bool(plan["actions"]), "bills": plan["bills"], "nat_gateway": self.gateway_id,
                   "created": [{"gateway": self.gateway_id, "address": self.address_id}[action] for action in plan["actions"]
                               if action in ("gateway", "address")], "attached": "attach" in plan["actions"]}
        if plan["bills"]:
            self.context.progress(f"Outbound network: {self.gateway} for {self.subnet}; Azure bills {', '.join(plan['bills'])}")
        if self.context.diff and plan["actions"]:
            after = network.attached(subnet, self.gateway_id)
            result["diff"] = [self._difference(subnet, after, {"created": [], "idle_timeout": _idle(gateway)},
                                               {"created": result["created"], "idle_timeout": self.params["idle_timeout"]})]
        if not self.context.check_mode:
            self._carry_out(plan["actions"], str(vnet.get("location", "")), gateway)
        return result

    def _carry_out(self, actions: list[str], location: str, gateway: Resource | None) -> None:
        zones, idle = self.params["zones"], self.params["idle_timeout"]
        clients = self.azure.network
        if "address" in actions:
            self._put(f"Creating the public IP {self.address}", clients.public_ip_addresses, self.address,
                      network.address_body(location, self.infrastructure, zones))
        if "gateway" in actions:
            self._put(f"Creating the NAT gateway {self.gateway}", clients.nat_gateways, self.gateway,
                      network.gateway_body(location, self.infrastructure, zones, idle, self.address_id))
        if "update" in actions and gateway is not None:
            self._put(f"Updating the NAT gateway {self.gateway}", clients.nat_gateways, self.gateway,
                      network.completed(gateway, idle, self.address_id), str(gateway.get("etag", "")))
        if "attach" in actions:
            def attach(subnet: Resource) -> Resource:
                network.kept(subnet, None, self.gateway_id, named=True)  # an error if somebody attached another one in between
                return network.attached(subnet, self.gateway_id)

            self._rewrite(f"Attaching the NAT gateway to {self.subnet}", attach)

    def absent(self) -> dict[str, Any]:
        """Remove what carries our tags, after detaching it."""
        gateway, address = self._find(self.gateway_id), self._find(self.address_id)
        plan = network.plan_absent(gateway, address, self.subnet_id, self.infrastructure)
        actions = plan["actions"]
        removed = [{"gateway": self.gateway_id, "address": self.address_id}[action] for action in actions if action != "detach"]
        result: dict[str, Any] = {"changed": bool(actions), "created": [], "removed": removed, "attached": False, "kept": plan["kept"],
                                  "bills": [], "nat_gateway": ""}
        for reason in plan["kept"]:
            self.context.progress(f"Outbound network: {reason}")
        if self.context.diff and actions:
            result["diff"] = [{"before_header": self.subnet_id, "after_header": self.subnet_id,
                               "before": _text({"resources": removed}), "after": _text({"resources": []})}]
        if not self.context.check_mode:
            self._remove(actions)
        return result

    def _remove(self, actions: list[str]) -> None:
        clients = self.azure.network
        if "detach" in actions:
            def detach(subnet: Resource) -> Resource:
                ours = same(network.reference(subnet, "natGateway"), self.gateway_id)
                return network.detached(subnet) if ours else subnet

            self._rewrite(f"Detaching the NAT gateway from {self.subnet}", detach)
        for action, client, name in (("gateway", clients.nat_gateways, self.gateway),
                                     ("address", clients.public_ip_addresses, self.address)):
            if action in actions:
                what = f"Removing {name}"
                with self.azure.explained(f"{what} failed"):
                    poller = client.begin_delete(self.group, name)
                self.azure.wait(poller, what)

    def _put(self, what: str, client: Any, name: str, body: Resource, etag: str = "") -> None:
        with self.azure.explained(f"{what} failed"):
            poller = client.begin_create_or_update(self.group, name, _bytes(body), api_version=API, **_if_match(etag))
        self.azure.wait(poller, what)

    def _rewrite(self, what: str, change: Callable[[Resource], Resource]) -> None:
        """Read the subnet whole, write it whole and only if nobody wrote it in between (ETag); else begin anew."""
        for _attempt in range(TRIES):
            subnet = self.azure.get(self.subnet_id, API)
            body = change(subnet)
            if body == subnet:
                return
            try:
                with self.azure.explained(f"{what} failed"):
                    poller = self.azure.network.subnets.begin_create_or_update(
                        self.group, self.vnet, self.subnet, _bytes(body), api_version=API, **_if_match(str(subnet.get("etag", ""))))
                self.azure.wait(poller, what)
                return
            except CocoError as error:
                if error.details.get("code") != "PreconditionFailed":
                    raise
                self.context.progress(f"{what}: somebody else wrote the subnet, reading it again")
        raise CocoError(f"{what} failed", f"somebody else wrote the subnet {TRIES} times in between",
                        "Find out who writes it all the time, then run again.")

    def _difference(self, before: Resource, after: Resource, more_before: Resource, more_after: Resource) -> dict[str, str]:
        def side(subnet: Resource, more: Resource) -> str:
            return _text({**more, "natGateway": network.reference(subnet, "natGateway")})

        return {"before_header": self.subnet_id, "after_header": self.subnet_id, "before": side(before, more_before),
                "after": side(after, more_after)}


def _idle(gateway: Resource | None) -> Any:
    return ((gateway or {}).get("properties") or {}).get("idleTimeoutInMinutes")


def _bytes(body: Resource) -> io.BytesIO:
    """As it stands, past the library's models, which may drop what they do not know."""
    return io.BytesIO(json.dumps(body).encode())


def _if_match(etag: str) -> dict[str, Any]:
    return {"headers": {"If-Match": etag}} if etag else {}


def _text(document: Resource) -> str:
    return json.dumps(document, indent=2, sort_keys=True) + "\n"
