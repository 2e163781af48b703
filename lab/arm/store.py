"""The resources, kept in one JSON file."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Resource = dict[str, Any]


class Store:
    """Resources by id, whatever its case. Every change is written to ``file`` before it is answered."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.resources: dict[str, Resource] = json.loads(file.read_text()) if file.exists() else {}

    def get(self, resource_id: str) -> Resource | None:
        """The resource as stored (not a copy), or None."""
        return self.resources.get(resource_id.lower().rstrip("/"))

    def of_type(self, kind: str, below: str = "") -> list[Resource]:
        """Resources of a full type below an id, in the order of their ids."""
        prefix = below.lower().rstrip("/") + "/"
        return [one for key, one in sorted(self.resources.items())
                if one["type"].lower() == kind.lower() and (not below or key.startswith(prefix))]

    def below(self, resource_id: str) -> Iterator[str]:
        """Ids of what lies below a resource."""
        prefix = resource_id.lower().rstrip("/") + "/"
        return iter([one["id"] for key, one in self.resources.items() if key.startswith(prefix)])

    def put(self, resource: Resource) -> Resource:
        """Store a resource under its id, in place of what is there; it gets a new ETag, and what it lies in, too."""
        self.resources[resource["id"].lower()] = resource
        self.touch(resource["id"])
        self.save()
        return resource

    def touch(self, resource_id: str) -> None:
        """A new ETag for a resource and all that it lies in."""
        key = resource_id.lower()
        while key.count("/") > 4:
            if key in self.resources:
                self.resources[key]["etag"] = f'W/"{uuid.uuid4()}"'
            key = key.rpartition("/")[0]

    def remove(self, resource_id: str) -> None:
        """Remove a resource and what lies below it."""
        for child in [*self.below(resource_id), resource_id]:
            self.resources.pop(child.lower(), None)
        self.touch(resource_id)
        self.save()

    def save(self) -> None:
        """Write the file, whole or not at all."""
        self.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        partial = self.file.with_suffix(".partial")
        partial.write_text(json.dumps(self.resources, indent=1))
        os.replace(partial, self.file)
