"""Performance, measured on labs of its own: ``make bench``; ``--write`` puts the figures into docs/performance.md.

Prints figures beside what the project wants to reach; asserts nothing. The peers (``peers.py``) run in the same session on the
same objects, because ratios hold on a busy machine and seconds do not.
"""

from __future__ import annotations

import collections
import datetime
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

from lab import build
from tests.bench import peers
from tests.bench.spent import Spent, spend
from tests.integration.lab import ROOT, Lab

DROPPED = ("managedFields", "resourceVersion", "uid", "creationTimestamp", "generation", "ownerReferences", "finalizers",
           "selfLink", "deletionTimestamp")
DOCUMENT = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- figures: make bench -->", "<!-- end of figures -->"
#: The peers ask nothing of Azure.
WITHOUT_AZURE = ("-e", "coco_azure=never coco_azure_network=none")
PLAIN = """- hosts: lab
  gather_facts: false
  tasks:
"""


class Figures:
    """The rows of the report."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, str]] = []

    def add(self, what: str, value: Any, goal: str = "") -> None:
        self.rows.append((what, str(value), goal))
        print(f"bench: {what}: {value}" + (f" (to reach: {goal})" if goal else ""), flush=True)

    def table(self) -> str:
        lines = ["| what | measured | to reach |", "| --- | --- | --- |", *(f"| {' | '.join(row)} |" for row in self.rows)]
        return "\n".join(lines)


def requests(lab: Lab, mark: int) -> collections.Counter[str]:
    """Requests of the inventory's user by verb, dry runs named."""
    return collections.Counter(event["verb"] + (" (dry run)" if "dryRun=All" in event["requestURI"] else "")
                               for event in lab.events(mark))


def told(counted: collections.Counter[str]) -> str:
    return f"{counted.total()}: " + ", ".join(f"{count} {verb}" for verb, count in counted.most_common())


def arm_calls(lab: Lab) -> int:
    """Requests to Azure Resource Manager so far, tokens not counted."""
    return len(Path(lab.facts["azure"]["audit"]).read_text().splitlines())


def managed_objects(lab: Lab) -> list[dict[str, Any]]:
    """The objects that the steps before the proof applied, as manifests.

    Not the install plans, which OLM makes and a step approves; with the two namespaces, of which nothing but the name is applied.
    """
    found = [item for item in lab.managed() if item["kind"] not in ("InstallPlan", "Namespace")]
    found += [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in (peers.TRUSTEE, peers.OSC)]
    for item in found:
        item.pop("status", None)
        for name in DROPPED:
            item["metadata"].pop(name, None)
    return found


def site(lab: Lab, *arguments: str) -> Spent:
    return spend([str(Path(sys.executable).parent / "ansible-playbook"), "-i", f"inventories/{lab.inventory}", "playbooks/site.yml",
                  *arguments], lab.env, ROOT)


def floor(lab: Lab, directory: Path) -> tuple[float, float]:
    """CPU seconds of ansible-playbook itself, and of one task that does nothing."""
    spent = []
    for count in (1, 101):
        playbook = directory / f"plain{count}.yml"
        playbook.write_text(PLAIN + "    - ansible.builtin.debug: {msg: '{{ coco_release }}'}\n" * count)
        spent.append(spend([str(Path(sys.executable).parent / "ansible-playbook"), "-i", f"inventories/{lab.inventory}", str(playbook)],
                           lab.env, ROOT).cpu)
    return spent[0], (spent[1] - spent[0]) / 100


def stand_ins(state: Path) -> dict[str, int]:
    """Resident MiB of each Python stand-in of the lab in ``state``."""
    sizes: dict[str, int] = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            environment = (process / "environ").read_bytes()
            status = (process / "status").read_text()
        except OSError:
            continue
        module = next((w.decode() for w in words if w.startswith(b"lab.")), None)
        if module and (str(state).encode() in b"\0".join(words) or str(state).encode() in environment):
            rss = next(int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmRSS"))
            sizes[module] = max(sizes.get(module, 0), rss)
    return sizes


def one_cluster(figures: Figures, directory: Path) -> tuple[Spent, Spent]:
    """The lab, the site run and its peers; (first run, no-change run) of the site."""
    lab = Lab(directory / "one" / "state")
    command = [sys.executable, "-m", "lab"]
    try:
        lab.lab("up")
        lab.lab("down")
        figures.add("lab up, warm", f"{spend([*command, 'up'], lab.env, ROOT).wall:.1f} s", "25 s")
        lab.lab("snapshot", "virgin")
        figures.add("lab from a snapshot", f"{spend([*command, 'restore', 'virgin'], lab.env, ROOT).wall:.1f} s", "10 s")
        mark = lab.mark
        first = site(lab)
        figures.add("site, first run", first, "90 s (with a warm lab up)")
        figures.add("its requests", told(requests(lab, mark)))
        figures.add("site, second run, with the proof", site(lab), "30 s")
        mark = lab.mark
        own = site(lab, "--skip-tags", "step13,step14", *WITHOUT_AZURE)
        counted = requests(lab, mark)
        objects = managed_objects(lab)
        figures.add("site without the proof and without Azure, no change", own)
        figures.add("its requests", told(counted))
        figures.add("its requests an object", f"{counted.total() / len(objects):.1f} ({len(objects)} objects)", "2")
        mark = lab.mark
        site(lab, "--skip-tags", "preflight,step13,step14", *WITHOUT_AZURE)
        figures.add("the same without preflight", f"{requests(lab, mark).total() / len(objects):.1f}")
        asked = arm_calls(lab)
        figures.add("site without the proof, no change, with Azure asked", site(lab, "--skip-tags", "step13,step14"))
        figures.add("its requests to Azure", arm_calls(lab) - asked)
        start, task = floor(lab, directory)
        figures.add("ansible-playbook itself; one task that does nothing", f"{start:.2f} CPU s; {task * 1000:.0f} CPU ms")
        for name, size in sorted(stand_ins(lab.state).items()):
            figures.add(f"memory of {name}", f"{size} MiB", "80 MiB")
        beside_peers(figures, lab, objects, own, directory)
        return first, site(lab)
    finally:
        lab.lab("down", check=False)


def beside_peers(figures: Figures, lab: Lab, objects: list[dict[str, Any]], own: Spent, directory: Path) -> None:
    """The no-change run beside (a), (b) and (c), each run twice: the first makes the peer an owner."""
    kubeconfig = lab.cluster["kubeconfig"]
    program = Path(build.programs()["kubectl"])
    peers.binaries()
    runs = {
        "(a) kubectl apply and wait for each step": lambda: peers.kubectl(program, kubeconfig, objects, directory),
        "(b) one kubernetes.core.k8s task for each object": lambda: peers.ansible(kubeconfig, objects, directory, lists=False),
        "(c) one kubernetes.core.k8s list for each step": lambda: peers.ansible(kubeconfig, objects, directory, lists=True),
    }
    for (name, run), goal in zip(runs.items(), ("", "0.1", "0.4"), strict=True):
        run()
        mark = lab.mark
        spent = run()
        figures.add(name, f"{spent}, {requests(lab, mark).total()} requests")
        figures.add(f"CPU of site / {name[:3]}", f"{own.cpu / spent.cpu:.2f}", goal)


def three_clusters(figures: Figures, directory: Path, first: Spent, again: Spent) -> None:
    """A hub and two spokes, beside one cluster."""
    lab = Lab(directory / "three" / "state", "lab_hub_spoke", "hub1")
    try:
        lab.lab("up", "--clusters", "3")
        spent = site(lab)
        figures.add("hub and 2 spokes, first run", spent)
        figures.add("wall, beside one cluster", f"{spent.wall / first.wall:.2f}", "1.6")
        spent = site(lab)
        figures.add("hub and 2 spokes, no change, with the proof", spent)
        figures.add("wall, beside one cluster", f"{spent.wall / again.wall:.2f}", "1.6")
    finally:
        lab.lab("down", check=False)


def write(figures: Figures) -> None:
    text = DOCUMENT.read_text()
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    said = f"Measured on {datetime.date.today()}, {os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}."
    DOCUMENT.write_text(f"{before}{BEGIN}\n{said}\n\n{figures.table()}\n{END}{after}")
    print(f"bench: {DOCUMENT.relative_to(ROOT)} written")


def main() -> int:
    figures = Figures()
    with tempfile.TemporaryDirectory(prefix="coco-bench-") as temporary:
        directory = Path(temporary)
        first, again = one_cluster(figures, directory)
        three_clusters(figures, directory, first, again)
    print(figures.table())
    if "--write" in sys.argv[1:]:
        write(figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
