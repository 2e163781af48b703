"""What else could put the same objects there: kubectl, and tasks of ``kubernetes.core``; each on the same cluster."""

from __future__ import annotations

import os
import subprocess
import venv
from pathlib import Path
from typing import Any

import yaml

from tests.bench.spent import Spent, spend
from tests.integration.lab import ROOT

PACKAGES = ["ansible==12.3.0", "kubernetes==37.0.2"]
OSC = "openshift-sandboxed-containers-operator"
TRUSTEE = "trustee-operator-system"
Objects = list[dict[str, Any]]

#: The documented steps that apply objects: which, and what kubectl is to wait for afterwards.
STEPS: list[tuple[str, list[str], list[str]]] = [
    ("01", [f"Namespace/{TRUSTEE}", "OperatorGroup/trustee-operator-group", "Subscription/trustee-operator"],
     ["deployment/trustee-operator-controller-manager", "-n", TRUSTEE, "--for=condition=Available"]),
    ("02", ["Secret/kbs-https-key", "Secret/kbs-https-certificate", "Secret/kbs-attestation-key", "Secret/kbs-attestation-certificate",
            "Route/kbs-service"], ["route/kbs-service", "-n", TRUSTEE, "--for=jsonpath={.status.ingress[0].host}"]),
    ("03", [f"Namespace/{OSC}", "OperatorGroup/sandboxed-containers-operator-group", "Subscription/sandboxed-containers-operator",
            "ConfigMap/osc-feature-gates"], ["deployment/controller-manager", "-n", OSC, "--for=condition=Available"]),
    ("05", ["Secret/peer-pods-secret", "ConfigMap/peer-pods-cm"], []),
    ("08", ["KataConfig/example-kataconfig"], ["runtimeclass/kata-remote", "--for=create"]),
    ("09", ["Secret/kbs-auth-public-key"], []),
    ("10", ["ConfigMap/kbs-config-cm"], []),
    ("11", ["ConfigMap/rvps-reference-values", "ConfigMap/attestation-policy", "ConfigMap/resource-policy", "Secret/security-policy",
            "Secret/coco-verification"], []),
    ("12", ["KbsConfig/kbsconfig"], ["deployment/trustee-deployment", "-n", TRUSTEE, "--for=condition=Available"]),
]


def by_step(objects: Objects) -> list[tuple[str, Objects, list[str]]]:
    """(step, its objects, what to wait for). Stops where objects and steps do not fit: the figures would be of other objects."""
    place = {name: step for step, names, _wait in STEPS for name in names}
    odd = {name_of(item) for item in objects} ^ set(place)
    if odd:
        raise SystemExit(f"bench: {', '.join(sorted(odd))}: applied and in no step, or the other way round; correct STEPS in "
                         "tests/bench/peers.py")
    return [(step, [item for item in objects if place[name_of(item)] == step], wait) for step, _names, wait in STEPS]


def name_of(item: dict[str, Any]) -> str:
    return f"{item['kind']}/{item['metadata']['name']}"


def binaries() -> Path:
    """A Python environment with the peer collections; made once."""
    directory = ROOT / ".cache" / "bench-venv"
    if not (directory / ".ready").exists():
        print("bench: installing the peer collections (500 MB, about a minute the first time)", flush=True)
        venv.create(directory, with_pip=True)
        subprocess.run([directory / "bin" / "python", "-m", "pip", "install", "-q", *PACKAGES], check=True)
        (directory / ".ready").touch()
    return directory / "bin"


def kubectl(program: Path, kubeconfig: str, objects: Objects, directory: Path) -> Spent:
    """(a) One ``kubectl apply --server-side`` and one ``kubectl wait`` for each step."""
    total = Spent(0, 0, 0)
    base = [str(program), "--kubeconfig", kubeconfig]
    for step, items, wait in by_step(objects):
        manifest = directory / f"step{step}.yml"
        manifest.write_text(yaml.safe_dump_all(items))
        manifest.chmod(0o600)
        total += spend([*base, "apply", "--server-side", "--force-conflicts", "--field-manager=peer", "-f", str(manifest)])
        if wait:
            total += spend([*base, "wait", "--timeout=60s", *wait])
    return total


def ansible(kubeconfig: str, objects: Objects, directory: Path, lists: bool) -> Spent:
    """(b) One ``kubernetes.core.k8s`` task for each object, or (c) one with a list for each step."""
    batches = [items for _step, items, _wait in by_step(objects) if items] if lists else [[item] for item in objects]
    tasks = [{"name": f"Apply {', '.join(map(name_of, items))}", "no_log": True, "kubernetes.core.k8s": {
        "definition": items if lists else items[0], "apply": True, "kubeconfig": kubeconfig,
        "server_side_apply": {"field_manager": "peer", "force_conflicts": True}}} for items in batches]
    playbook = directory / "peer.yml"
    playbook.write_text(yaml.safe_dump([{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks,
                                         "vars": {"ansible_python_interpreter": str(binaries() / "python")}}]))
    playbook.chmod(0o600)
    (directory / "ansible.cfg").write_text("[defaults]\n")
    env = {**os.environ, "ANSIBLE_CONFIG": str(directory / "ansible.cfg"), "ANSIBLE_HOME": str(directory / "ansible-home")}
    env.pop("ANSIBLE_COLLECTIONS_PATH", None)
    return spend([str(binaries() / "ansible-playbook"), "-i", "localhost,", str(playbook)], env)
