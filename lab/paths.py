"""Paths and addresses as a program of the lab sees them.

A pod's files live below ``LAB_ROOT`` and its address is ``LAB_POD_ADDRESS``; names are resolved by ``hosts.json``, the
DNS of the lab's programs. Without these variables a program behaves like an ordinary one.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path


def state_directory() -> Path:
    """The lab's state directory: ``LAB_STATE``, else ``.lab`` in the checkout."""
    return Path(os.environ.get("LAB_STATE") or Path(__file__).resolve().parent.parent / ".lab").resolve()


def run_directory(state: Path) -> Path:
    """A short directory for unix sockets, whose paths may not exceed about 107 bytes; created 0700."""
    digest = hashlib.sha256(str(state.resolve()).encode()).hexdigest()[:8]
    directory = Path("/tmp") / f"coco-lab-{digest}"
    directory.mkdir(mode=0o700, exist_ok=True)
    if directory.stat().st_uid != os.getuid():
        raise PermissionError(f"{directory} belongs to another user; set LAB_STATE to another directory")
    return directory


def rooted(path: str | Path) -> Path:
    """The file a program means by ``path``: below ``LAB_ROOT`` when the program runs as a pod."""
    root = os.environ.get("LAB_ROOT")
    if not root or str(path).startswith(root):
        return Path(path)
    return Path(root) / str(path).lstrip("/")


def listen_address(socket: str) -> tuple[str, int]:
    """``host:port`` to listen on; the wildcard host means the pod's own address."""
    host, _, port = socket.rpartition(":")
    if host.strip("[]") in ("", "0.0.0.0", "::"):
        host = os.environ.get("LAB_POD_ADDRESS", host or "0.0.0.0")
    return host, int(port)


def time_scale() -> float:
    """The factor on every modelled delay (``LAB_TIME_SCALE``, default 0.05)."""
    return float(os.environ.get("LAB_TIME_SCALE", "0.05"))


def resolve(host: str, port: int) -> tuple[str, int]:
    """Where ``host:port`` is served, by the clusters' ``hosts.json`` (``LAB_HOSTS``: the own cluster's first).

    Raises ``OSError`` with the resolver's own words for a name the lab does not know.
    """
    if host.replace(".", "").isdigit() or host == "localhost":
        return host, port
    files = [name for name in os.environ.get("LAB_HOSTS", "").split(os.pathsep) if name]
    if not files:
        return host, port
    hosts = _hosts(files, host)
    target = hosts.get(f"{host}:{port}")
    if target is None:
        if any(name.rpartition(":")[0] == host for name in hosts):
            raise ConnectionRefusedError(f"connection refused: {host}:{port}")
        raise OSError(f"failed to lookup address information: Name or service not known: {host}")
    address, _, target_port = target.rpartition(":")
    return address, int(target_port)


def _hosts(files: list[str], host: str) -> dict[str, str]:
    """The names that a program sees: all of its own cluster's (the first file), and the Routes of the others."""
    service = host.endswith((".svc", ".svc.cluster.local"))
    found: dict[str, str] = {}
    for name in reversed(files[:1] if service else files):
        try:
            found |= json.loads(Path(name).read_text())
        except FileNotFoundError:
            continue
    return found
