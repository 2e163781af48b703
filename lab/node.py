"""lab-node: scheduler, kubelets of all nodes and a small container runtime, one process a cluster.

``python -m lab.node --state <state> --cluster <name> --kubeconfig <path>``. Nodes come from ``<state>/<cluster>/nodes.json``:
``[{"name", "address": "10.c.0.y", "labels", "annotations", "taints", "providerID", "capacity"}]`` (all but the first two
may be missing). Each node speaks with its own certificate (``pki/node-<name>.crt``) where there is one.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import logging
import os
import socket
import ssl
import sys
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from lab.egress import egress_socket, serve
from lab.kube import ApiError, Kube
from lab.node_agent import NodeAgent, Settings
from lab.node_process import CHECKOUT, kill_leftover, namespaces_allowed
from lab.node_scheduler import Scheduler
from lab.node_store import KINDS, Store
from lab.node_volumes import remove
from lab.paths import time_scale
from lab.program import main

log = logging.getLogger("lab")
Object = dict[str, Any]
OLM_PORT = 8080


def arguments(description: str) -> argparse.Namespace:
    """The command line that all platform stand-ins share."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--state", required=True, type=Path, help="the lab's state directory")
    options.add_argument("--cluster", required=True, help="name of the cluster")
    options.add_argument("--kubeconfig", required=True, type=Path)
    given = options.parse_args()
    given.state = given.state.resolve()
    return given


def read_nodes(path: Path) -> list[Object]:
    """The entries of nodes.json. Raises ValueError naming what is wrong."""
    content = json.loads(path.read_text())
    entries: list[Object] = content["nodes"] if isinstance(content, dict) else content
    for entry in entries:
        entry.setdefault("address", entry.get("ip"))
        if not entry.get("name") or not entry.get("address"):
            raise ValueError(f"{path}: an entry without name or address: {entry}; run 'lab up' to write it anew")
    return entries


def settings(state: Path, cluster: str, kubeconfig: Path, number: int) -> Settings:
    """What all nodes share, from the files of the cluster."""
    config = yaml.safe_load(kubeconfig.read_text())
    entry = config["clusters"][0]["cluster"]
    authority = entry.get("certificate-authority-data")
    if not authority:
        authority = base64.b64encode((kubeconfig.parent / entry["certificate-authority"]).read_bytes()).decode()
    directory = state / cluster
    return Settings(state=state, cluster=cluster, directory=directory,
                    hosts=os.environ.get("LAB_HOSTS") or str(directory / "hosts.json"),
                    tools=directory / "tools", scale=time_scale(), server=entry["server"], authority=authority,
                    number=number)


def write_tools(directory: Path) -> None:
    """The lab's ``curl`` for shell images."""
    directory.mkdir(parents=True, exist_ok=True)
    curl = directory / "curl"
    curl.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I "{CHECKOUT / "lab" / "curl.py"}" "$@"\n')
    curl.chmod(0o755)


def node_client(shared: Settings, name: str, admin: Kube) -> Kube:
    """The API under the node's own identity, or the admin's where the lab has no certificate for it."""
    pki = shared.directory / "pki"
    certificate, key = pki / f"node-{name}.crt", pki / f"node-{name}.key"
    if not certificate.exists():
        return admin
    context = ssl.create_default_context(cadata=base64.b64decode(shared.authority).decode())
    context.load_cert_chain(certificate, key)
    return Kube(shared.server, context, agent="lab-node")


async def sweep(agents: list[NodeAgent], directory: Path) -> None:
    """Remove directories and processes of pods that no longer exist."""
    for agent in agents:
        await agent.synced.wait()
    known = {uid for agent in agents for uid in agent.pods}
    for place in sorted((directory / "pods").glob("*")):
        if place.name not in known:
            for pid_file in (place / "pid").glob("*"):
                kill_leftover(pid_file)
            remove(place)


async def when_ready(admin: Kube) -> None:
    """Wait for the API server."""
    while True:
        try:
            await admin.request("GET", "/readyz", timeout=5)
            return
        except (ApiError, aiohttp.ClientError, TimeoutError, OSError):
            await asyncio.sleep(0.2)


def hold_port(number: int) -> socket.socket | None:
    """Take one address of the port that OLM's programs would otherwise bind on every address of the machine.

    OLM then logs ``address already in use`` and works on; pods can use the port (reference/lab.md 9.2).
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        held.bind((f"127.{number}.255.254", OLM_PORT))
        held.listen(1)
    except OSError as error:
        held.close()
        log.warning("port %d is taken on every address · %s · pods of this lab cannot listen on it; restart the lab that "
                    "holds it ('python -m lab down', then 'up')", OLM_PORT, error)
        return None
    return held


async def run(given: argparse.Namespace) -> None:
    """Serve a cluster until cancelled."""
    entries = read_nodes(given.state / given.cluster / "nodes.json")
    number = int(entries[0]["address"].split(".")[1])
    held = hold_port(number)
    shared = settings(given.state, given.cluster, given.kubeconfig, number)
    for leftover in sorted((shared.directory / "pods").glob("*/pid/*")):
        kill_leftover(leftover)
    write_tools(shared.tools)
    proxy = await serve(egress_socket(given.state, given.cluster), number)
    admin = Kube.from_kubeconfig(given.kubeconfig, agent="lab-node")
    await when_ready(admin)
    agents: dict[str, NodeAgent] = {}

    def changed(kind: str, namespace: str, name: str) -> None:
        for agent in agents.values():
            agent.named_object_changed(kind, namespace, name)

    def seen(node: Object) -> None:
        agent = agents.get(node["metadata"]["name"])
        if agent is not None:
            agent.node_changed(node)

    store = Store(admin, changed)
    scheduler = Scheduler(admin, seen)
    for index, entry in enumerate(entries):
        client = node_client(shared, entry["name"], admin)
        agents[entry["name"]] = NodeAgent(shared, entry, index, client, admin, store)
    log.info("%d nodes, addresses 10.%d.0.0/16 served on 127.%d.0.0/16; exec and shells %s", len(agents), number, number,
             "see the pod's files at /" if namespaces_allowed() else "run without namespaces (LAB_ROOT)")
    await asyncio.gather(*(agent.register() for agent in agents.values()))
    works = [asyncio.ensure_future(w) for w in (*(store.follow(kind) for kind in KINDS), scheduler.follow("Node"),
                                                scheduler.follow("Pod"), scheduler.run())]
    for kind in KINDS:
        await store.synced[kind].wait()
    try:
        await asyncio.gather(*(agent.start() for agent in agents.values()))
        works.append(asyncio.ensure_future(sweep(list(agents.values()), shared.directory)))
        log.info("ready")
        while works:
            done, _ = await asyncio.wait(works, return_when=asyncio.FIRST_COMPLETED)
            for work in done:
                work.result()
                works.remove(work)
    finally:
        for work in works:
            work.cancel()
        await asyncio.gather(*(agent.stop() for agent in agents.values()), return_exceptions=True)
        proxy.close()
        if held is not None:
            held.close()
        for client in {agent.kube for agent in agents.values()} | {admin}:
            await client.close()


if __name__ == "__main__":
    options = arguments("lab-node: scheduler, kubelets and container runtime of one cluster of the lab")
    raise SystemExit(main("lab-node", "kube-scheduler, kubelet and CRI-O", "OpenShift 4.20", lambda: run(options)))
