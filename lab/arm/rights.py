"""Role-based access control: roles at scopes, deny assignments."""

from __future__ import annotations

import fnmatch
import uuid
from dataclasses import dataclass
from typing import Any

from lab.arm.errors import Refusal

_NAMESPACE = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")

#: Azure's built-in roles, the parts that concern these providers: name to (actions, not actions).
ROLES: dict[str, tuple[list[str], list[str]]] = {
    "Owner": (["*"], []),
    "Contributor": (["*"], ["Microsoft.Authorization/*/Delete", "Microsoft.Authorization/*/Write",
                            "Microsoft.Authorization/elevateAccess/Action", "Microsoft.Compute/galleries/share/action"]),
    "Reader": (["*/read"], []),
    "Network Contributor": (["Microsoft.Authorization/*/read", "Microsoft.Network/*", "Microsoft.Resources/deployments/*",
                             "Microsoft.Resources/subscriptions/resourceGroups/read"], []),
    "Virtual Machine Contributor": ([
        "Microsoft.Authorization/*/read", "Microsoft.Compute/availabilitySets/*", "Microsoft.Compute/locations/*",
        "Microsoft.Compute/virtualMachines/*", "Microsoft.Compute/disks/write", "Microsoft.Compute/disks/read",
        "Microsoft.Compute/disks/delete", "Microsoft.Network/networkInterfaces/*", "Microsoft.Network/networkSecurityGroups/join/action",
        "Microsoft.Network/networkSecurityGroups/read", "Microsoft.Network/publicIPAddresses/join/action",
        "Microsoft.Network/publicIPAddresses/read", "Microsoft.Network/virtualNetworks/read",
        "Microsoft.Network/virtualNetworks/subnets/join/action", "Microsoft.Resources/deployments/*",
        "Microsoft.Resources/subscriptions/resourceGroups/read"], []),
}


@dataclass(frozen=True)
class Principal:
    """Who asks: ``client`` (application id), ``object_id``, ``tenant``."""

    client: str
    object_id: str
    tenant: str


@dataclass(frozen=True)
class Denial:
    """A deny assignment: these actions at this scope and below, for everybody but the object ids exempted."""

    name: str
    scope: str
    actions: list[str]
    not_actions: list[str]
    exempt: list[str]

    @property
    def id(self) -> str:
        return f"{self.scope}/providers/Microsoft.Authorization/denyAssignments/{uuid.uuid5(_NAMESPACE, self.scope + self.name)}"


class Rights:
    """``assignments``: {object id: [[role, scope], …]}; ``denials``: deny assignments."""

    def __init__(self, assignments: dict[str, list[list[str]]], denials: list[Denial]) -> None:
        self.assignments, self.denials = assignments, denials

    def roles(self, who: Principal, scope: str) -> list[str]:
        """Names of the roles that ``who`` has at ``scope``, inherited ones too."""
        return [role for role, at in self.assignments.get(who.object_id, []) if within(scope, at)]

    def visible(self, who: Principal, resource_id: str) -> bool:
        """May ``who`` know of this resource in a list?"""
        return any(granted(role, "Microsoft.Resources/subscriptions/resourceGroups/read") for role in self.roles(who, resource_id))

    def below(self, who: Principal, scope: str) -> bool:
        """Has ``who`` a role at ``scope``, above or below it?"""
        return any(within(scope, at) or within(at, scope) for _role, at in self.assignments.get(who.object_id, []))

    def permissions(self, who: Principal, scope: str) -> list[dict[str, Any]]:
        """The document of the permissions endpoint: one item a role. Deny assignments are not in it, as with Azure."""
        return [{"actions": ROLES[role][0], "notActions": ROLES[role][1], "dataActions": [], "notDataActions": []}
                for role in self.roles(who, scope)]

    def demand(self, who: Principal, action: str, scope: str) -> None:
        """Raise :class:`Refusal` (403) unless ``who`` may do ``action`` at ``scope``."""
        if not any(granted(role, action) for role in self.roles(who, scope)):
            raise Refusal(403, "AuthorizationFailed",
                          f"The client '{who.client}' with object id '{who.object_id}' does not have authorization to perform action "
                          f"'{action}' over scope '{scope}' or the scope is invalid. If access was recently granted, please refresh your "
                          "credentials.")
        for denial in self.denials:
            if within(scope, denial.scope) and who.object_id not in denial.exempt and matches(denial.actions, action) \
                    and not matches(denial.not_actions, action):
                raise Refusal(403, "DenyAssignmentAuthorizationFailed",
                              f"The client '{who.client}' with object id '{who.object_id}' has permission to perform action '{action}' on "
                              f"scope '{scope}'; however, the access is denied because of the deny assignment with name '{denial.name}' "
                              f"and Id '{denial.id}' at scope '{denial.scope}'.")

    def demand_linked(self, who: Principal, action: str, scope: str, linked_action: str, linked: str) -> None:
        """Raise :class:`Refusal` (403) unless ``who``, who does ``action`` at ``scope``, may do ``linked_action`` at ``linked``."""
        try:
            self.demand(who, linked_action, linked)
        except Refusal as refusal:
            if refusal.code != "AuthorizationFailed":
                raise
            raise Refusal(403, "LinkedAuthorizationFailed",
                          f"The client '{who.client}' with object id '{who.object_id}' has permission to perform action '{action}' on "
                          "scope "
                          f"'{scope}'; however, it does not have permission to perform action(s) '{linked_action}' on the linked scope(s) "
                          f"'{linked}' (respectively) or the linked scope(s) are invalid.") from refusal


def within(scope: str, at: str) -> bool:
    """Is ``scope`` at ``at`` or below it?"""
    one, other = scope.lower().rstrip("/"), at.lower().rstrip("/")
    return one == other or one.startswith(other + "/")


def matches(patterns: list[str], action: str) -> bool:
    """Does a pattern (``*`` stands for anything, slashes too) cover the action? Case does not matter."""
    return any(fnmatch.fnmatchcase(action.lower(), pattern.lower()) for pattern in patterns)


def granted(role: str, action: str) -> bool:
    """Does a built-in role allow the action?"""
    actions, not_actions = ROLES[role]
    return matches(actions, action) and not matches(not_actions, action)
