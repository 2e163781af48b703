"""Performance, measured on a lab of its own: ``make bench``.

Prints figures beside what the project wants to reach; asserts nothing. The peer, one ``kubernetes.core.k8s`` task per
object, runs in the same session on the same objects, because ratios hold on a busy machine and seconds do not.
"""

from __future__ import annotations

import collections
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import Any

import yaml

from tests.integration.lab import ROOT, Lab, Run

PEER_PACKAGES = ["ansible==12.3.0", "kubernetes==37.0.2"]
DROPPED = ("managedFields", "resourceVersion", "uid", "creationTimestamp", "generation", "ownerReferences", "finalizers",
           "selfLink", "deletionTimestamp")


def say(text: str) -> None:
    print(text, flush=True)


def cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measured(work: Any) -> tuple[Any, float, float]:
    """Result, wall seconds and CPU seconds of the child processes of ``work()``."""
    began, before = time.monotonic(), cpu()
    result = work()
    return result, time.monotonic() - began, cpu() - before


def requests(lab: Lab, mark: int) -> collections.Counter[str]:
    """Requests of the inventory's user by verb, dry runs named."""
    return collections.Counter(event["verb"] + (" (dry run)" if "dryRun=All" in event["requestURI"] else "")
                               for event in lab.events(mark))


def managed_objects(lab: Lab) -> list[dict[str, Any]]:
    """The objects that the collection applied, as manifests."""
    found = lab.managed()
    for item in found:
        item.pop("status", None)
        for name in DROPPED:
            item["metadata"].pop(name, None)
    return found


def peer_environment() -> Path:
    """A Python environment with the peer collections; made once."""
    directory = ROOT / ".cache" / "bench-venv"
    if not (directory / ".ready").exists():
        say("bench: installing the peer collections (500 MB, about a minute the first time)")
        venv.create(directory, with_pip=True)
        subprocess.run([directory / "bin" / "python", "-m", "pip", "install", "-q", *PEER_PACKAGES], check=True)
        (directory / ".ready").touch()
    return directory / "bin"


def peer_run(lab: Lab, objects: list[dict[str, Any]], directory: Path, binaries: Path) -> None:
    """One ``kubernetes.core.k8s`` task per object, server-side apply."""
    tasks = [{"kubernetes.core.k8s": {"definition": item, "apply": True, "kubeconfig": lab.cluster["kubeconfig"],
                                      "server_side_apply": {"field_manager": "peer", "force_conflicts": True}},
              "name": f"Apply {item['kind']} {item['metadata']['name']}", "no_log": True} for item in objects]
    playbook = directory / "peer.yml"
    playbook.write_text(yaml.safe_dump([{"hosts": "localhost", "connection": "local", "gather_facts": False,
                                         "vars": {"ansible_python_interpreter": str(binaries / "python")},
                                         "tasks": tasks}]))
    (directory / "ansible.cfg").write_text("[defaults]\n")
    env = {**os.environ, "ANSIBLE_CONFIG": str(directory / "ansible.cfg"), "ANSIBLE_HOME": str(directory / "ansible-home")}
    env.pop("ANSIBLE_COLLECTIONS_PATH", None)
    done = subprocess.run([binaries / "ansible-playbook", "-i", "localhost,", playbook], env=env, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        raise SystemExit(f"bench: the peer's playbook failed; its last lines:\n{done.stdout[-2000:]}")


def memory(state: Path) -> dict[str, int]:
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


def expect(run: Run) -> Run:
    if run.code != 0:
        raise SystemExit(f"bench: the site run failed; its last lines:\n{run.output[-3000:]}")
    return run


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="coco-bench-") as temporary:
        directory = Path(temporary)
        lab = Lab(directory / "state")
        figures: list[tuple[str, str, str]] = []
        try:
            lab.lab("up")
            lab.lab("down")
            _, wall, _ = measured(lambda: lab.lab("up"))
            figures.append(("lab up, warm", f"{wall:.1f} s", "25 s"))
            lab.lab("snapshot", "virgin")
            _, wall, _ = measured(lambda: lab.lab("restore", "virgin"))
            figures.append(("lab from a snapshot", f"{wall:.1f} s", "10 s"))
            say("bench: first site run")
            mark = lab.mark
            _, wall, seconds = measured(lambda: expect(lab.playbook("site")))
            figures.append(("site, first run", f"{wall:.1f} s, {seconds:.1f} CPU s", "90 s (with a warm lab up)"))
            figures.append(("  requests", json.dumps(dict(requests(lab, mark))), ""))
            say("bench: second site run")
            _, wall, _ = measured(lambda: expect(lab.playbook("site")))
            figures.append(("site, second run", f"{wall:.1f} s", "30 s"))
            mark = lab.mark
            _, wall, own = measured(lambda: expect(lab.playbook("site", "--skip-tags", "step13,step14")))
            objects = managed_objects(lab)
            counted = requests(lab, mark)
            figures.append(("site without the proof, no change", f"{wall:.1f} s, {own:.1f} CPU s", ""))
            figures.append(("  requests", json.dumps(dict(counted)), ""))
            figures.append(("  requests per object", f"{counted.total() / len(objects):.1f} ({len(objects)} objects)", "2"))
            for name, size in sorted(memory(lab.state).items()):
                figures.append((f"  memory {name}", f"{size} MiB", "80 MiB"))
            binaries = peer_environment()
            say("bench: the peer, one kubernetes.core.k8s task per object")
            peer_run(lab, objects, directory, binaries)
            _, wall, peer = measured(lambda: peer_run(lab, objects, directory, binaries))
            figures.append(("peer, no change", f"{wall:.1f} s, {peer:.1f} CPU s", ""))
            figures.append(("CPU, site / peer", f"{own / peer:.2f}", "0.25"))
        finally:
            lab.lab("down", check=False)
            width = max((len(name) for name, _, _ in figures), default=0)
            for name, value, goal in figures:
                say(f"{name.ljust(width)}  {value}" + (f"   (to reach: {goal})" if goal else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
