"""The generations that the suite knows: how a client speaks to each, and where its recording is. Nothing comes from lab/."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.contract.client import AUTH, Key, attestation, plain_attestation

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Side:
    """One generation, seen by a client."""

    name: str
    release: str  # of the Red Hat build, for ``--release``
    recording: str
    git_hash: str
    message: Callable[..., dict[str, Any]] = attestation
    key: str = "EC"  # the kind that its clients make
    protocol: str = "0.4.0"
    compact: bool = False  # of its recording only the compact form is left
    claims: tuple[tuple[str, str], ...] = ()  # what an administrator's token has beside the times

    @property
    def auth(self) -> dict[str, Any]:
        """The body of a request for a challenge."""
        return {**AUTH, "version": self.protocol}

    def new_key(self) -> Key:
        """A TEE's key."""
        return Key(self.key)

    @property
    def file(self) -> Path:
        """The condensed recording."""
        return HERE / self.recording


SIDES = {side.name: side for side in (
    Side("0.3", "0.3", "generation-0.3.json", "", plain_attestation, "RSA15", "0.1.1"),
    Side("B", "1.0", "generation-b.json", "ea56c1bfa7"),
    Side("C", "1.1", "generation-c.json", "f5cb8fc1b5", compact=True),
    Side("D", "1.2", "generation-d.json", "258ea4acb7", claims=(("role", "admin"),)),
)}
