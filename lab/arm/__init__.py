"""lab-arm: stands in for Azure Resource Manager, for Entra's token endpoint and for a machine's managed identities.

``python -m lab arm --state DIR --port 0`` runs it alone, seeded with one cluster's resources; a JSON document on standard output says
where it is as soon as it answers. See docs/lab.md, "Azure in the lab".
"""

from __future__ import annotations

import argparse
import asyncio
import json
import ssl
import sys
from pathlib import Path
from typing import Any

from aiohttp import web

from lab import seed as cluster_seed
from lab.arm import seed
from lab.arm.entra import Entra
from lab.arm.imds import Imds
from lab.arm.rights import Denial, Rights
from lab.arm.server import Arm
from lab.arm.store import Store
from lab.pki import Authority, write_private
from lab.program import log
from lab.program import main as run_program

HOST = "127.0.0.1"
#: What programs of the lab call it, by ``hosts.json``.
NAMES = ("management.azure.com", "login.microsoftonline.com")
AUDIENCE = "https://management.azure.com"
#: Names that no resolver knows: whoever reaches the server under them came through a proxy that does.
FAR = {"endpoint": "management.azure.lab.example.test", "authority": "login.azure.lab.example.test"}


def prepare(directory: Path, clusters: list[str], platform: str) -> dict[str, Any]:
    """The state below ``directory``, made where it is missing: certificate, identities, resources. Returns the identities."""
    file = directory / "identities.json"
    if not file.exists():
        Authority(directory / "pki", "ca").issue("arm", "lab-arm", names=(HOST, "localhost", *NAMES, *FAR.values()))
        found = seed.identities(clusters, platform)
        for name, client in found["clients"].items():
            for kind in ("pem", "token", "stale"):
                if kind in client:
                    path = directory / f"{name}.{kind}"
                    write_private(path, client[kind].encode())
                    client[kind] = str(path)
        write_private(directory / "clients.json", json.dumps(found["clients"], indent=1).encode())
        seed.fill(Store(directory / "resources.json"), clusters, platform)
        found["platform"] = platform
        write_private(file, json.dumps(found).encode())  # last: what is there is whole
    identities: dict[str, Any] = json.loads(file.read_text())
    return identities


def platform(directory: Path) -> str:
    """How the clusters of a state were installed."""
    return str(json.loads((directory / "identities.json").read_text())["platform"])


def facts(directory: Path, port: int, metadata: int, platform: str) -> dict[str, Any]:
    """What users of the stand-in need to know; the secrets are in the file that ``clients`` names (0600)."""
    url = f"https://{HOST}:{port}"
    return {"endpoint": url, "authority": url, "far": {key: f"https://{name}:{port}" for key, name in FAR.items()},
            "metadata": f"http://{HOST}:{metadata}", "audience": AUDIENCE, "ca": str(directory / "pki" / "ca.crt"),
            "tenant": cluster_seed.TENANT, "subscription": cluster_seed.SUBSCRIPTION, "platform": platform,
            "clients": str(directory / "clients.json"), "audit": str(directory / "arm-audit.jsonl"),
            "control": str(directory / "control.json")}


def _write(file: Path, document: dict[str, Any]) -> None:
    """Whole or not at all."""
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(document))
    partial.rename(file)


async def serve(directory: Path, ports: tuple[int, int], clusters: list[str], platform: str, announce: bool) -> None:
    """Serve until cancelled; ``ports``: of Azure Resource Manager and Entra, and of the metadata service (0: any)."""
    identities = prepare(directory, clusters, platform)
    entra = Entra([cluster_seed.TENANT, seed.OTHER_TENANT], identities["applications"], identities["key"].encode(), AUDIENCE)
    rights = Rights(identities["assignments"], [Denial(**one) for one in identities["denials"]])
    arm = Arm(directory, Store(directory / "resources.json"), entra, rights, cluster_seed.TENANT, "")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(directory / "pki" / "arm.crt", directory / "pki" / "arm.key")
    imds = Imds(entra, [one for one in identities["applications"].values() if "managed" in one])
    runners = [web.AppRunner(one.application(), access_log=None) for one in (arm, imds)]
    try:
        for runner, port, tls in zip(runners, ports, (context, None), strict=True):
            await runner.setup()
            await web.TCPSite(runner, HOST, port, ssl_context=tls).start()
        bound, metadata = (int(runner.addresses[0][1]) for runner in runners)
        arm.url = f"https://{HOST}:{bound}"
        _write(directory / "hosts.json", {f"{name}:443": f"{HOST}:{bound}" for name in NAMES})
        found = facts(directory, bound, metadata, platform)
        log.info("listening on %s, %d resources of %s (%s)", arm.url, len(arm.store.resources), ", ".join(clusters), platform)
        log.info("stands in for the instance metadata service of this machine on http://%s:%d (managed identities)", HOST, metadata)
        _write(directory / "arm.json", found)  # last: it answers
        if announce:
            print(json.dumps(found), flush=True)
        await asyncio.Event().wait()
    finally:
        for runner in runners:
            await runner.cleanup()


def main(arguments: list[str]) -> int:
    """``python -m lab arm``: until SIGTERM or SIGINT. The log goes to ``DIR/arm.log``, the facts to standard output."""
    parser = argparse.ArgumentParser(prog="python -m lab arm", description="Azure Resource Manager alone, without a cluster.")
    parser.add_argument("--state", type=Path, required=True, help="directory of its state; made where it is missing")
    parser.add_argument("--port", type=int, default=0, help="0 (default): any free one")
    parser.add_argument("--metadata-port", type=int, default=0, help="of the metadata service; 0 (default): any free one")
    parser.add_argument("--platform", choices=seed.PLATFORMS, default="azure", help="how the cluster was installed")
    parser.add_argument("--cluster", action="append", default=[], metavar="NAME", help="clusters whose resources are there (default: lab)")
    options = parser.parse_args(arguments)
    directory = options.state.resolve()
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    async def work() -> None:
        await serve(directory, (options.port, options.metadata_port), options.cluster or ["lab"], options.platform, announce=True)

    with (directory / "arm.log").open("a") as file:
        return run_program("lab-arm", "Azure Resource Manager, Entra's token endpoint and the instance metadata service",
                           "api-versions up to 2026-04-01", work, file)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
