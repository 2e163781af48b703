"""lab-mco: what it has read may be older than what is there."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from lab.mco import PREFIX, Operator


class Nodes:
    """An API that has one node."""

    def __init__(self, **notes: str) -> None:
        self.node = {"metadata": {"name": "n", "annotations": {PREFIX + name: value for name, value in notes.items()}}, "spec": {}}
        self.patches: list[Any] = []

    async def get(self, api: str, kind: str, name: str) -> Any:
        return self.node if kind == "Node" else {"spec": {}}

    async def patch(self, api: str, kind: str, name: str, body: Any) -> None:
        self.patches.append(body)

    async def event(self, *said: Any) -> None:
        pass


def roll(nodes: Nodes) -> list[Any]:
    pool = {"metadata": {"name": "worker"}}
    operator = Operator(nodes, Path("/nowhere"))  # type: ignore[arg-type]
    asyncio.run(operator.roll(pool, "n", "new", {"spec": {"extensions": [], "kernelArguments": []}}))
    return nodes.patches


def test_a_node_that_is_done_is_left_alone() -> None:
    assert roll(Nodes(currentConfig="new", desiredConfig="new", state="Done")) == []


def test_one_that_is_behind_or_was_left_amid_the_work_is_brought_to_it() -> None:
    for notes in ({"currentConfig": "old", "state": "Done"}, {"currentConfig": "new", "state": "Working"}):
        patches = roll(Nodes(desiredConfig="new", **notes))
        assert patches[-1]["metadata"]["annotations"] == {
            PREFIX + "currentConfig": "new", PREFIX + "state": "Done", PREFIX + "reason": ""}
