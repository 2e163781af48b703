"""``lab up`` and ``lab down``: the clusters' life."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lab import arm, build, seed, silicon
from lab.arm.seed import PLATFORMS
from lab.controlplane import ADMIN, Cluster, free_port
from lab.kube import ApiError, Kube
from lab.paths import run_directory, time_scale
from lab.pki import write_private
from lab.processes import Processes, StartError, started, sweep
from lab.releases import RELEASES

CLUSTER = "lab"
#: Azure, which all clusters share: a directory with lab-arm's in it.
CLOUD, ARM = "cloud", "lab-arm"
#: What a snapshot keeps of the whole lab, and of each cluster.
SHARED = (CLOUD, "silicon", "private")
OWN = ("etcd", "nodes", "pki", "release")
STAND_INS = tuple(n for n in ("node", "catalog", "mco", "ingress", "service_ca", "cco")
                  if Path(__file__).with_name(f"{n}.py").exists())
IDENTITIES = [*(f"lab-{name.replace('_', '-')}" for name in STAND_INS), "olm-operator", "catalog-operator",
              "system:kube-controller-manager"]
INGRESS_PORT = 8443


class UsageError(Exception):
    """A request that cannot be carried out: what failed, what was seen, what to do."""


class Progress:
    """Lines of progress with seconds."""

    def __init__(self) -> None:
        self.began = time.monotonic()

    def __call__(self, text: str) -> None:
        print(f"lab: {time.monotonic() - self.began:5.1f} s  {text}", flush=True)


@contextlib.contextmanager
def locked(state: Path) -> Iterator[None]:
    """One command at a time on a state directory."""
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (state / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def facts(state: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads((state / "lab.json").read_text())
    except FileNotFoundError:
        return None
    return found


def take_number(state: Path, taken: set[int], only: int | None = None) -> int:
    """A cluster number (the second octet of its addresses) that no other living lab of this machine has, nor ``taken``."""
    directory = Path("/tmp/coco-lab-numbers")
    directory.mkdir(exist_ok=True)
    directory.chmod(0o777)
    with (directory / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for number in [only] if only else range(200, 251):
            if number in taken:
                continue
            file = directory / str(number)
            try:
                owner = json.loads(file.read_text())
            except (OSError, ValueError):
                owner = None
            if owner and owner["state"] != str(state) and _lives(Path(owner["state"])):
                continue
            with contextlib.suppress(PermissionError):
                file.write_text(json.dumps({"state": str(state)}))
                return number
    if only:
        raise UsageError(f"cluster number {only} is taken · another lab of this machine uses the addresses 127.{only}.0.0/16 "
                         "that the snapshot has · stop that lab with 'python -m lab down' in its state directory")
    raise UsageError("no cluster number is free · 51 clusters run on this machine · stop some with 'python -m lab down'")


def _lives(state: Path) -> bool:
    """Does another lab run, or is a command at work that starts or restores it?"""
    if any(started(int(pid)) == start for pid, _, start in (text.partition(" ") for text in _etcd_pids(state))):
        return True
    try:
        with (state / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _etcd_pids(state: Path) -> list[str]:
    found = []
    for file in state.glob("*/pid/etcd"):
        with contextlib.suppress(OSError):
            found.append(file.read_text())
    return found


def names(count: int) -> list[str]:
    """The clusters of a lab: one that plays both zones, or a hub and spokes."""
    return [CLUSTER] if count == 1 else ["hub1", *(f"spoke{number}" for number in range(1, count))]


def is_up(state: Path) -> bool:
    found = facts(state)
    return found is not None and ARM in Processes(state / CLOUD).running() and all(_runs(state, name) for name in found["clusters"])


def _runs(state: Path, name: str) -> bool:
    running = Processes(state / name).running()
    return all(program in running for program in ("etcd", "kube-apiserver", "kube-controller-manager", "olm", "catalog",
                                                  *(f"lab-{n.replace('_', '-')}" for n in STAND_INS)))


def up(state: Path, releases: dict[str, str], platform: str = PLATFORMS[0]) -> None:
    """Start the lab with the clusters named, each at its release; nothing to do where it runs so."""
    for release in releases.values():
        if release not in RELEASES:
            raise UsageError(f"release {release!r} is unknown to the lab · it knows {', '.join(RELEASES)} · choose one of them")
    with locked(state):
        if is_up(state):
            found = facts(state) or {}
            running = {name: cluster["release"] for name, cluster in found["clusters"].items()}
            if running != releases:
                raise UsageError(f"the lab runs {_told(running)}, not {_told(releases)} · a running lab keeps its clusters and "
                                 "releases · 'python -m lab down' first, or another LAB_STATE")
            if found["azure"]["platform"] != platform:
                raise UsageError(f"the lab does not run on {platform} · a running lab keeps its platform · 'python -m lab down' first, "
                                 "or another LAB_STATE")
            print(f"lab: already up ({state})", flush=True)
            return
        progress = Progress()
        programs = build.programs()
        down_locked(state)
        shutil.rmtree(state / CLOUD, ignore_errors=True)
        clusters = make_clusters(state, dict.fromkeys(releases))
        prepare(state, clusters, releases, platform)
        azure = start_azure(state, clusters, platform)
        progress(f"Azure Resource Manager answers at {azure['endpoint']}")
        digest = seed_digest(programs, platform)

        def start(cluster: Cluster) -> None:
            openshift = RELEASES[releases[cluster.name]].openshift
            cache = build.cache_root() / f"seed-{digest}" / openshift / platform / cluster.name
            fresh = not (cache / ".complete").exists()
            if not fresh:
                shutil.copytree(cache / "etcd", cluster.directory / "etcd")
            start_all(state, clusters, cluster, programs, azure, progress, cache if fresh else None)

        _each(clusters, start)
        write_facts(state, clusters, releases, azure)
        progress(f"up: {_told(releases)}; " + ", ".join(f"kubeconfig {c.kubeconfig(ADMIN)}" for c in clusters))


def _told(releases: dict[str, str]) -> str:
    return ", ".join(f"{name} at release {release}" for name, release in releases.items())


def _each(clusters: list[Cluster], work: Callable[[Cluster], None]) -> None:
    """Do the work for all clusters at once; the first failure is raised when all have ended."""
    with ThreadPoolExecutor(len(clusters)) as pool:
        for done in [pool.submit(work, cluster) for cluster in clusters]:
            done.result()


def make_clusters(state: Path, numbers: dict[str, int | None]) -> list[Cluster]:
    """Places for clusters, emptied: numbers by name, None for any."""
    taken: set[int] = set()
    clusters = []
    for name, wanted in numbers.items():
        number = take_number(state, taken, wanted)
        taken.add(number)
        cluster = cluster_at(state, name, number, {use: free_port() for use in ("etcd", "etcd-peer", "api", "kcm")})
        cluster.clear()
        clusters.append(cluster)
    return clusters


def cluster_at(state: Path, name: str, number: int, ports: dict[str, int]) -> Cluster:
    return Cluster(name, number, state, [*seed.control_plane(name), *seed.workers(name)], seed.apps_domain(name), ports)


def prepare(state: Path, clusters: list[Cluster], releases: dict[str, str], platform: str) -> None:
    """Files that every start needs: certificates, node lists, measurements, silicon key."""
    for cluster in clusters:
        release = releases[cluster.name]
        if not (cluster.pki / "ca.crt").exists():
            cluster.write_pki(IDENTITIES)
        cluster.write_kubeconfigs(IDENTITIES)
        nodes = seed.nodes(cluster.name, cluster.number, platform)
        for node in nodes:
            node["labels"].update({f"node-role.kubernetes.io/{role}": "" for role in node["roles"]})
        (cluster.directory / "nodes.json").write_text(json.dumps(nodes, indent=1))
        (cluster.directory / "measurements.json").write_text(json.dumps(RELEASES[release].measurements(), indent=1))
        (cluster.directory / "release").write_text(release)
    for directory in ("arm", "images", "vms"):
        (state / CLOUD / directory).mkdir(parents=True, exist_ok=True, mode=0o700)
    if not (state / "silicon" / "key.pem").exists():
        private, public = silicon.generate()
        write_private(state / "silicon" / "key.pem", private)
        write_private(state / "silicon" / "public.pem", public)


def start_azure(state: Path, clusters: list[Cluster], platform: str) -> dict[str, Any]:
    """Start lab-arm with the resources of all clusters; what users need to know of it."""
    directory, processes = state / CLOUD / "arm", Processes(state / CLOUD)
    said = directory / "arm.json"
    said.unlink(missing_ok=True)
    processes.start(ARM, [
        sys.executable, "-m", "lab", "arm", "--state", str(directory), "--platform", platform,
        *(word for cluster in clusters for word in ("--cluster", cluster.name))], {"LAB_HOSTS": str(directory / "hosts.json")},
        cwd=Path(__file__).resolve().parent.parent)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        processes.check(ARM)
        if said.exists():
            found: dict[str, Any] = json.loads(said.read_text())
            return found
        time.sleep(0.05)
    raise processes.failure(ARM, "did not answer in 30 s")


def start_all(state: Path, clusters: list[Cluster], cluster: Cluster, programs: dict[str, Path], azure: dict[str, Any], said: Progress,
              seed_into: Path | None = None) -> None:
    """Start every program; with ``seed_into`` the data is seeded first and kept there for later starts."""
    def progress(text: str) -> None:
        said(f"{cluster.name}: {text}" if len(clusters) > 1 else text)

    processes = Processes(cluster.directory)
    cluster.start_etcd(processes, programs)
    cluster.start_apiserver(processes, programs)
    cluster.wait_ready(processes)
    if seed_into is not None:
        progress("API server ready; seeding a fresh installation (kept for later starts)")
        asyncio.run(seed_cluster(cluster, build.crds(programs, azure["platform"]), azure["platform"]))
        processes.stop("kube-apiserver", number=signal.SIGKILL)
        processes.stop("etcd")
        shutil.rmtree(seed_into, ignore_errors=True)
        shutil.copytree(cluster.directory / "etcd", seed_into / "etcd")
        (seed_into / ".complete").touch()
        cluster.start_etcd(processes, programs)
        cluster.start_apiserver(processes, programs)
        cluster.wait_ready(processes)
    progress("API server ready")
    cluster.start_controller_manager(processes, programs)
    start_stand_ins(state, clusters, cluster, processes)
    asyncio.run(apply_own(cluster, azure))
    wait_held(cluster)
    cluster.start_olm(processes, programs)
    asyncio.run(wait_settled(cluster, processes, progress))


def start_stand_ins(state: Path, clusters: list[Cluster], cluster: Cluster, processes: Processes) -> None:
    others = [other for other in clusters if other is not cluster]
    hosts = os.pathsep.join(str(one / "hosts.json") for one in (cluster.directory, *(o.directory for o in others), state / CLOUD / "arm"))
    root = Path(__file__).resolve().parent.parent
    for name in STAND_INS:
        program = f"lab-{name.replace('_', '-')}"
        processes.start(program, [
            sys.executable, "-m", f"lab.{name}", "--state", str(state), "--cluster", cluster.name, "--kubeconfig",
            str(cluster.kubeconfig(program)),
        ], {"LAB_STATE": str(state), "LAB_HOSTS": hosts, "LAB_TIME_SCALE": str(time_scale())}, cwd=root)


async def seed_cluster(cluster: Cluster, crds: list[dict[str, Any]], platform: str) -> None:
    """CRDs, then the objects of a fresh installation."""
    kube = Kube.from_kubeconfig(cluster.kubeconfig(ADMIN), agent="lab-seed")
    try:
        gate = asyncio.Semaphore(8)

        async def create(obj: dict[str, Any]) -> None:
            async with gate:
                await kube.ensure(obj)

        await asyncio.gather(*(create({**crd, "apiVersion": "apiextensions.k8s.io/v1"}) for crd in crds))
        release = RELEASES[(cluster.directory / "release").read_text()]
        for obj, status in seed.objects(cluster.name, release.openshift, platform):
            made = await ensure_served(kube, obj)
            if status is not None:
                await kube.patch_status(made, status)
    finally:
        await kube.close()


async def ensure_served(kube: Kube, obj: dict[str, Any]) -> dict[str, Any]:
    """Create an object whose CRD may not be served yet."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return await kube.ensure(obj)
        except ApiError as error:
            if error.status not in (404, 409, 429, 500, 503) or time.monotonic() > deadline:
                raise StartError(f"seeding {obj['kind']}/{obj['metadata']['name']} failed · {error} · this is a fault of the "
                                 "lab's seed: report it") from error
            kube._resources.clear()
            await asyncio.sleep(0.1)


def wait_held(cluster: Cluster, seconds: float = 10) -> None:
    """Until lab-node holds port 8080 of one address: OLM would take it on every address and no pod could listen there."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            socket.create_connection((f"127.{cluster.number}.255.254", 8080), 1).close()
            return
        except OSError:
            time.sleep(0.05)


async def apply_own(cluster: Cluster, azure: dict[str, Any]) -> None:
    """What of an installation is this lab's own: where its operator index is, its login to Azure."""
    login = json.loads(Path(azure["clients"]).read_text())["cluster"]
    kube = Kube.from_kubeconfig(cluster.kubeconfig(ADMIN), agent="lab-seed")
    try:
        for obj in seed.own_objects(cluster.name, cluster.number, azure["platform"], login):
            await kube.apply(obj, "lab-seed", force=True)
    finally:
        await kube.close()


async def wait_settled(cluster: Cluster, processes: Processes, progress: Callable[[str], None]) -> None:
    """Until nodes are Ready, pools are settled and the operator index answers."""
    kube = Kube.from_kubeconfig(cluster.kubeconfig(ADMIN), agent="lab-seed")
    deadline = time.monotonic() + 90
    try:
        while True:
            nodes = await kube.list("v1", "Node")
            ready = [n for n in nodes if any(c["type"] == "Ready" and c["status"] == "True"
                                             for c in n.get("status", {}).get("conditions", []))]
            pools = await kube.list("machineconfiguration.openshift.io/v1", "MachineConfigPool")
            updated = [p for p in pools if any(c["type"] == "Updated" and c["status"] == "True"
                                               for c in p.get("status", {}).get("conditions", []))]
            source = await kube.get("operators.coreos.com/v1alpha1", "CatalogSource", "redhat-operators",
                                    "openshift-marketplace") or {}
            index = source.get("status", {}).get("connectionState", {}).get("lastObservedState", "")
            fresh = source.get("status", {}).get("connectionState", {}).get("address", "").startswith(f"127.{cluster.number}.")
            if len(ready) == len(cluster.nodes) and len(updated) == len(pools) >= 2 and index == "READY" and fresh:
                progress(f"{len(ready)} nodes Ready, pools settled, operator index READY")
                return
            for name in processes.logs.glob("*.log"):
                processes.check(name.stem)
            if time.monotonic() > deadline:
                raise processes.failure("lab-node" if len(ready) < len(cluster.nodes) else "catalog",
                                        f"did not settle in 90 s ({len(ready)} of {len(cluster.nodes)} nodes Ready, "
                                        f"{len(updated)} of {len(pools)} pools settled, index {index or 'silent'})")
            await asyncio.sleep(0.2)
    finally:
        await kube.close()


def write_facts(state: Path, clusters: list[Cluster], releases: dict[str, str], azure: dict[str, Any]) -> None:
    content = {
        "time_scale": time_scale(), "azure": azure,
        "clusters": {cluster.name: {
            "name": cluster.name, "number": cluster.number, "release": releases[cluster.name],
            "kubeconfig": str(cluster.kubeconfig(ADMIN)), "api": cluster.server, "apps_domain": cluster.domain,
            "ingress_address": f"127.{cluster.number}.0.2:{INGRESS_PORT}",
            "measurements": str(cluster.directory / "measurements.json"), "hosts": str(cluster.directory / "hosts.json"),
            "audit_log": str(cluster.directory / "audit.log"), "platform": azure["platform"], "ports": cluster.ports,
        } for cluster in clusters},
    }
    partial = state / "lab.json.partial"
    partial.write_text(json.dumps(content, indent=1))
    partial.rename(state / "lab.json")


def seed_digest(programs: dict[str, Path], platform: str) -> str:
    whole = hashlib.sha256(json.dumps(build.crds(programs, platform)).encode())
    whole.update(Path(seed.__file__).read_bytes())
    return whole.hexdigest()[:16]


def down(state: Path) -> None:
    """Stop the lab's processes; the data stays."""
    if not state.exists():
        print("lab: nothing runs", flush=True)
        return
    with locked(state):
        count = down_locked(state)
        print(f"lab: stopped ({count} processes)", flush=True)


def down_locked(state: Path) -> int:
    (state / "lab.json").unlink(missing_ok=True)
    clusters = [Processes(directory.parent) for directory in state.glob("*/pid")]
    count = 0
    for processes in clusters:
        names = processes.running()
        count += len(names)
        processes.stop(*([n for n in names if n.startswith("lab-")] or ["-"]), seconds=3)
    count += sweep(state)
    for processes in clusters:
        processes.stop(*[n for n in processes.running() if not n.startswith("lab-") and n != "etcd"] or ["-"], seconds=0.5)
        processes.stop("etcd", seconds=3)
    sweep(state)
    shutil.rmtree(run_directory(state), ignore_errors=True)
    run_directory(state)
    return count


def snapshot(state: Path, name: str) -> None:
    """Keep the running lab's state under a name; the lab goes on."""
    _check_name(name)
    with locked(state):
        if not is_up(state):
            raise UsageError("no snapshot can be taken · the lab is not up · 'python -m lab up' first")
        progress = Progress()
        found = facts(state) or {}
        target = state / "snapshots" / name
        partial = target.with_name(name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True, mode=0o700)
        programs = build.programs()
        clusters = _running_clusters(state, found)
        for kept in SHARED:
            if (state / kept).is_dir():
                shutil.copytree(state / kept, partial / kept, symlinks=True,
                                ignore=shutil.ignore_patterns("*.sock", "*.partial", "roots", "pid"))

        def keep(cluster: Cluster) -> None:
            processes = Processes(cluster.directory)
            processes.stop("kube-apiserver", number=signal.SIGKILL)
            processes.stop("etcd")
            into = partial / "clusters" / cluster.name
            for kept in OWN:
                if (cluster.directory / kept).is_dir():
                    shutil.copytree(cluster.directory / kept, into / kept, symlinks=True)
                elif (cluster.directory / kept).exists():
                    shutil.copy2(cluster.directory / kept, into / kept)
            (into / "number").write_text(str(cluster.number))
            cluster.start_etcd(processes, programs)
            cluster.start_apiserver(processes, programs)
            cluster.wait_ready(processes)

        _each(clusters, keep)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
        progress(f"snapshot {name} taken")


def snapshots(state: Path) -> list[str]:
    directory = state / "snapshots"
    return sorted(p.name for p in directory.iterdir() if p.suffix != ".partial") if directory.exists() else []


def restore(state: Path, name: str) -> None:
    """Start the lab as it was at a snapshot."""
    _check_name(name)
    source = state / "snapshots" / name
    if not source.exists():
        raise UsageError(f"snapshot {name!r} cannot be restored · there is none of that name, only: "
                         f"{', '.join(snapshots(state)) or 'none'} · take one with 'python -m lab snapshot {name}'")
    with locked(state):
        progress = Progress()
        programs = build.programs()
        down_locked(state)
        for kept in SHARED:
            shutil.rmtree(state / kept, ignore_errors=True)
            if (source / kept).is_dir():
                shutil.copytree(source / kept, state / kept, symlinks=True)
        parts = {part.name: part for part in sorted((source / "clusters").iterdir())}
        clusters = make_clusters(state, {name: int((part / "number").read_text()) for name, part in parts.items()})
        for cluster in clusters:
            for item in parts[cluster.name].iterdir():
                if item.is_dir():
                    shutil.copytree(item, cluster.directory / item.name, symlinks=True)
                elif item.name != "number":
                    shutil.copy2(item, cluster.directory / item.name)
        releases = {name: (part / "release").read_text() for name, part in parts.items()}
        for machine in (state / CLOUD / "vms").glob("*"):
            shutil.rmtree(machine)  # machines do not live through a power cut of the lab
        platform = arm.platform(state / CLOUD / "arm")
        prepare(state, clusters, releases, platform)
        azure = start_azure(state, clusters, platform)
        _each(clusters, lambda cluster: start_all(state, clusters, cluster, programs, azure, progress))
        write_facts(state, clusters, releases, azure)
        progress(f"restored {name}")


def _check_name(name: str) -> None:
    if not name or not all(c.isalnum() or c in "-_" for c in name):
        raise UsageError(f"{name!r} is no name for a snapshot · letters, digits, - and _ are allowed · choose another")


def _running_clusters(state: Path, found: dict[str, Any]) -> list[Cluster]:
    return [cluster_at(state, name, known["number"], known["ports"]) for name, known in found["clusters"].items()]


def running_programs(state: Path, cluster: str) -> list[tuple[str, int, int]]:
    """(program, pid, resident MiB) of a cluster's platform programs."""
    rows = []
    for name, pid in Processes(state / cluster).running().items():
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        rss = next((int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmRSS")), 0)
        rows.append((name, pid, rss))
    return rows


def isolation(state: Path) -> str:
    """How containers of pod VMs are kept apart on this machine."""
    try:
        done = subprocess.run(["unshare", "--user", "--map-root-user", "--net", "--mount", "true"], capture_output=True)
        separate = done.returncode == 0
    except OSError:
        separate = False
    return "network and mount namespaces" if separate else "nothing (the lab's curl maps 127.0.0.1:8006)"
