# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ids of Azure Resource Manager: read, built, compared. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError


@dataclass(frozen=True)
class Id:
    """``/subscriptions/<subscription>/resourceGroups/<group>/providers/<provider>/<types[0]>/<names[0]>/…``."""

    subscription: str
    group: str
    provider: str
    types: tuple[str, ...]
    names: tuple[str, ...]

    @property
    def name(self) -> str:
        """The last name: the resource's own."""
        return self.names[-1]

    def __str__(self) -> str:
        path = (part for pair in zip(self.types, self.names, strict=True) for part in pair)
        return build(self.subscription, self.group, self.provider, *path)


def parse(text: str) -> Id:
    """The parts of a resource's id. Raises :class:`CocoError` when it is none."""
    parts = text.strip().strip("/").split("/")
    words = [part.lower() for part in parts[:5:2]]
    if len(parts) < 8 or len(parts) % 2 or not all(parts) or words != ["subscriptions", "resourcegroups", "providers"]:
        raise CocoError("This is no id of an Azure resource", f"got {text!r}",
                        "Give the full id: /subscriptions/<id>/resourceGroups/<group>/providers/<provider>/<type>/<name>.")
    return Id(parts[1], parts[3], parts[5], tuple(parts[6::2]), tuple(parts[7::2]))


def build(subscription: str, group: str, provider: str, *path: str) -> str:
    """The id of a resource; ``path``: type, name, and so on for children."""
    return f"/subscriptions/{subscription}/resourceGroups/{group}/providers/{provider}/" + "/".join(path)


def same(one: str, other: str) -> bool:
    """Whether two ids name one resource: Azure compares them without regard to case."""
    return one.strip().strip("/").lower() == other.strip().strip("/").lower()
