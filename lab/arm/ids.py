"""Resource ids. They are compared without regard to case and kept as they were first written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

GROUP_TYPE = "Microsoft.Resources/subscriptions/resourceGroups"
SUBSCRIPTION_TYPE = "Microsoft.Resources/subscriptions"


@dataclass(frozen=True)
class Place:
    """What a path means.

    ``type`` is the full type (``Microsoft.Network/virtualNetworks/subnets``); ``name`` is empty for a collection; ``verb`` is the
    last word of a path that is neither (``instanceView``, ``powerOff``).
    """

    path: str
    subscription: str
    group: str
    type: str
    name: str
    parent: str

    @property
    def provider(self) -> str:
        return self.type.partition("/")[0]

    @property
    def scope(self) -> str:
        """Where rights on it are asked: the resource, or what holds the collection."""
        return self.path if self.name else self.parent


def parse(path: str) -> Place | None:
    """The place of a path; None for one that is no subscription's, group's or resource's.

    ``/subscriptions/S``, ``/subscriptions/S/resourceGroups[/G]``,
    ``/subscriptions/S[/resourceGroups/G]/providers/P/type[/name[/type[/name …]]]``.
    """
    words = path.strip("/").split("/")
    if words[0].lower() != "subscriptions" or len(words) < 2 or not all(words):
        return None
    subscription, rest = words[1], words[2:]
    top = f"/subscriptions/{subscription}"
    if not rest:
        return Place(top, subscription, "", SUBSCRIPTION_TYPE, subscription, "")
    group = ""
    if rest[0].lower() == "resourcegroups":
        group = rest[1] if len(rest) > 1 else ""
        if len(rest) <= 2:
            return Place(path.rstrip("/"), subscription, group, GROUP_TYPE, group, top)
        top, rest = f"{top}/resourceGroups/{group}", rest[2:]
    if rest[0].lower() != "providers" or len(rest) < 3:
        return None
    kinds, names = rest[2::2], rest[3::2]
    whole = "/".join([rest[1], *kinds])
    if len(names) == len(kinds):
        parent = path.rstrip("/").rsplit("/", 2)[0] if len(kinds) > 1 else top
        return Place(path.rstrip("/"), subscription, group, whole, names[-1], parent)
    parent = path.rstrip("/").rsplit("/", 1)[0] if len(kinds) > 1 else top
    return Place(path.rstrip("/"), subscription, group, whole, "", parent)


def same(one: str, other: str) -> bool:
    """Are these the same id?"""
    return one.lower() == other.lower()


def last(resource_id: str) -> str:
    """The name at the end of an id."""
    return resource_id.rpartition("/")[2]


def ref(value: Any) -> str:
    """The id in a reference ``{"id": …}``; empty for anything else."""
    return str(value.get("id") or "") if isinstance(value, dict) else ""
