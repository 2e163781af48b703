"""The lab's command line."""

from __future__ import annotations

import argparse
import collections
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lab import build, up
from lab.arm.seed import PLATFORMS
from lab.paths import state_directory
from lab.processes import StartError
from lab.releases import RELEASES

READ_VERBS = ("get", "list", "watch")
REVIEWS = ("selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews", "tokenreviews", "subjectaccessreviews")


def need(state: Path) -> dict[str, Any]:
    found = up.facts(state)
    if found is None:
        raise up.UsageError(f"the lab is not up · no {state / 'lab.json'} · 'python -m lab up' starts it")
    return found


def of(state: Path, name: str) -> dict[str, Any]:
    """The facts of one cluster; the first one where none is named."""
    clusters: dict[str, dict[str, Any]] = need(state)["clusters"]
    if name and name not in clusters:
        raise up.UsageError(f"no cluster {name!r} · the lab has {', '.join(clusters)} · name one of them")
    return clusters[name] if name else next(iter(clusters.values()))


def status(state: Path) -> int:
    found = up.facts(state)
    if found is None:
        left = sum(len(up.running_programs(state, directory.parent.name)) for directory in state.glob("*/pid"))
        print(f"lab: down ({state}); {left} programs left over" if left else f"lab: down ({state})")
        return 1
    print(f"lab: up, time scale {found['time_scale']}, state {state}")
    print(f"     containers of pod VMs are kept apart by: {up.isolation(state)}")
    print(f"Azure ({found['azure']['platform']}): {found['azure']['endpoint']}, principals {found['azure']['clients']}")
    for program, pid, rss in up.running_programs(state, up.CLOUD):
        print(f"     {program:<26} pid {pid:<8} {rss:>5} MiB")
    for name, cluster in found["clusters"].items():
        print(f"{name}: release {cluster['release']}, API {cluster['api']}, router {cluster['ingress_address']} for "
              f"*.{cluster['apps_domain']}")
        for program, pid, rss in up.running_programs(state, name):
            print(f"     {program:<26} pid {pid:<8} {rss:>5} MiB")
    return 0


def kubectl(cluster: dict[str, Any], *arguments: str, capture: bool = False) -> subprocess.CompletedProcess[str]:
    program = build.programs()["kubectl"]
    return subprocess.run([str(program), "--kubeconfig", cluster["kubeconfig"], *arguments], text=True,
                          stdout=subprocess.PIPE if capture else None)


def logs(state: Path, name: str, program: str, follow: bool) -> int:
    """A platform program's log, or that of the pods whose name begins so."""
    cluster = of(state, name)
    directory = state / cluster["name"] / "log"
    file = directory / f"{program}.log"
    if not file.exists():
        file = directory / f"lab-{program}.log"
    if program.removeprefix("lab-") == "arm":
        file = state / up.CLOUD / "arm" / "arm.log"
    if file.exists():
        return subprocess.run(["tail", "-n", "+1", *(["-f"] if follow else []), str(file)]).returncode
    listing = kubectl(cluster, "get", "pods", "-A", "-o", "json", capture=True)
    pods = [p["metadata"] for p in json.loads(listing.stdout)["items"] if p["metadata"]["name"].startswith(program)]
    machines = sorted((state / "cloud" / "vms").glob(f"*{program}*/console.log"))
    if not pods and not machines:
        known = sorted(p.stem for p in directory.glob("*.log"))
        raise up.UsageError(f"no log of {program!r} · neither a program, a pod nor a pod VM begins so · programs: "
                            f"{', '.join(known)}; pods: 'kubectl get pods -A'")
    for machine in machines:
        print(f"==> pod VM {machine.parent.name} <==")
        print(machine.read_text(errors="replace"))
    for pod in pods:
        print(f"==> pod {pod['namespace']}/{pod['name']} <==", flush=True)
        kubectl(cluster, "logs", "-n", pod["namespace"], pod["name"], "--all-containers", *(["-f"] if follow else []))
    return 0


def audit_events(file: Path) -> Iterator[dict[str, Any]]:
    with file.open() as lines:
        for line in lines:
            if line.endswith("\n"):  # the last one may still be in the making
                yield json.loads(line)


def is_write(event: dict[str, Any]) -> bool:
    """Was something persisted? Dry runs, reviews and refused requests persist nothing."""
    return (event["verb"] not in READ_VERBS and "dryRun=All" not in event["requestURI"]
            and event.get("objectRef", {}).get("resource") not in REVIEWS
            and event.get("responseStatus", {}).get("code", 500) < 300)


def audit(cluster: dict[str, Any], user: str, count: bool, as_json: bool) -> int:
    counted: collections.Counter[tuple[str, str]] = collections.Counter()
    for event in audit_events(Path(cluster["audit_log"])):
        name = event["user"]["username"]
        if user and user not in name:
            continue
        counted[name, event["verb"]] += 1
        if count or not is_write(event):
            continue
        if as_json:
            print(json.dumps(event))
            continue
        ref = event.get("objectRef", {})
        place = "/".join(filter(None, (ref.get("namespace"), ref.get("name"), ref.get("subresource"))))
        print(f"{event['stageTimestamp'][:19]}Z {name:<60} {event['verb']:<8} {ref.get('resource', ''):<32} {place}")
    if count:
        for (name, verb), number in sorted(counted.items()):
            print(f"{number:>7} {verb:<10} {name}")
    return 0


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m lab", description="An OpenShift-shaped cluster on this machine.")
    top.add_argument("--state", type=Path, help="state directory (default: LAB_STATE, else .lab in the checkout)")
    commands = top.add_subparsers(dest="command", required=True)
    start = commands.add_parser("up", help="start the lab")
    start.add_argument("--clusters", type=int, default=1, choices=range(1, 9), metavar="N",
                       help="1 (default): one cluster, lab; more: hub1, spoke1, spoke2 ...")
    start.add_argument("--release", action="append", default=[], metavar="[CLUSTER=]RELEASE",
                       help=f"one of {', '.join(RELEASES)}; of one cluster where named, else of all (default 1.11/1.0)")
    start.add_argument("--platform", choices=PLATFORMS, default=PLATFORMS[0],
                       help="how the clusters were installed: azure (default), aro")
    commands.add_parser("down", help="stop it")
    commands.add_parser("status", help="what runs")
    config = commands.add_parser("kubeconfig", help="print the path of the administrator's kubeconfig")
    log = commands.add_parser("logs", help="a program's log")
    log.add_argument("program")
    log.add_argument("-f", "--follow", action="store_true")
    audited = commands.add_parser("audit", help="what was written, and by whom")
    audited.add_argument("--user", default="", help="only users whose name holds this")
    audited.add_argument("--count", action="store_true", help="count requests by user and verb instead")
    audited.add_argument("--json", action="store_true", help="whole audit events")
    for command in (config, log, audited):
        command.add_argument("--cluster", default="", help="of this cluster (default: the first)")
    snap = commands.add_parser("snapshot", help="keep the present state under a name")
    snap.add_argument("name", nargs="?")
    snap.add_argument("--list", action="store_true")
    back = commands.add_parser("restore", help="start the lab as it was at a snapshot")
    back.add_argument("name")
    commands.add_parser("kbs", help="the KBS alone (--config-file FILE [--release 1.0])", add_help=False)
    commands.add_parser("arm", help="Azure Resource Manager alone (--state DIR [--port 0])", add_help=False)
    commands.add_parser("build", help="build or find the real programs")
    return top


def main(arguments: list[str]) -> int:
    if "kbs" in arguments[:3]:
        from lab import kbs

        return int(kbs.main(arguments[arguments.index("kbs") + 1:]) or 0)
    if arguments[:1] == ["arm"]:
        from lab import arm

        return arm.main(arguments[1:])
    options = parser().parse_args(arguments)
    state = (options.state or state_directory()).resolve()
    try:
        return run(options, state)
    except (up.UsageError, StartError, build.BuildError) as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted; 'python -m lab down' stops what was started", file=sys.stderr)
        return 130


def chosen_releases(count: int, given: list[str]) -> dict[str, str]:
    """Release by cluster, from ``--clusters`` and ``--release``."""
    default = next((text for text in given if "=" not in text), "1.11/1.0")
    releases = dict.fromkeys(up.names(count), default)
    for text in given:
        name, equals, release = text.partition("=")
        if equals and name not in releases:
            raise up.UsageError(f"no cluster {name!r} · {count} clusters are {', '.join(releases)} · name one of them")
        if equals:
            releases[name] = release
    return releases


def run(options: argparse.Namespace, state: Path) -> int:
    os.environ["LAB_STATE"] = str(state)
    if options.command == "up":
        up.up(state, chosen_releases(options.clusters, options.release), options.platform)
    elif options.command == "down":
        up.down(state)
    elif options.command == "status":
        return status(state)
    elif options.command == "kubeconfig":
        print(of(state, options.cluster)["kubeconfig"])
    elif options.command == "logs":
        return logs(state, options.cluster, options.program, options.follow)
    elif options.command == "audit":
        return audit(of(state, options.cluster), options.user, options.count, options.json)
    elif options.command == "snapshot":
        if options.list or not options.name:
            print("\n".join(up.snapshots(state)))
        else:
            up.snapshot(state, options.name)
    elif options.command == "restore":
        up.restore(state, options.name)
    elif options.command == "build":
        print("\n".join(f"{name}: {path}" for name, path in build.programs().items()))
    return 0
