"""The image → program table: what an image name means on this machine. Pure.

Tag and digest play no part; a command may choose another program of the same image (its base name is looked up).
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from lab.releases import IMAGES


@dataclass(frozen=True)
class Program:
    """A program of the lab that stands in for an image.

    ``argv`` starts it (the container's args follow); ``devices`` are the lab's own inputs it may see: ``cloud``,
    ``silicon_key``, ``silicon_public``; ``command`` tells whether the container's command is run as it is.
    """

    name: str
    argv: tuple[str, ...]
    devices: tuple[str, ...] = ()
    command: bool = False


def _module(name: str, *devices: str) -> Program:
    return Program("lab-" + name.rpartition(".")[2].replace("_", "-"), (sys.executable, "-m", name), devices)


_IDLE = _module("lab.idle")

# Keyed by repository, or by repository and base name of the command.
PROGRAMS: dict[str, Program] = {
    IMAGES["osc-operator"]: _module("lab.osc"),
    IMAGES["osc-operator"] + " metrics-server": _IDLE,
    IMAGES["osc-monitor"]: _IDLE,
    IMAGES["caa"]: _module("lab.caa", "cloud", "silicon_key"),
    IMAGES["peerpods-webhook"]: _module("lab.peerpods_webhook"),
    IMAGES["podvm-builder"]: _module("lab.podvm_image", "cloud"),
    IMAGES["podvm-payload"]: _module("lab.podvm_image"),
    IMAGES["podvm-oci"]: _module("lab.podvm_image"),
    IMAGES["kube-rbac-proxy"]: _IDLE,
    IMAGES["trustee-operator"]: _module("lab.trustee_operator"),
    IMAGES["trustee-operator"] + " secret-converter": _module("lab.secret_converter"),
    IMAGES["trustee"]: _module("lab.kbs", "silicon_public"),
}
for _name in ("trustee-operator", "trustee"):
    PROGRAMS[IMAGES[f"{_name}-preview"]] = PROGRAMS[IMAGES[_name]]

# Images with a shell of their own: what a pod VM runs; as an ordinary pod, a process of this machine.
GUEST_IMAGES: set[str] = {IMAGES["ubi"], IMAGES["ubi-minimal"], IMAGES["hello-openshift"]}

_DEFAULT_COMMANDS: dict[str, tuple[str, ...]] = {
    IMAGES["ubi"]: ("/bin/sh",),
    IMAGES["ubi-minimal"]: ("/bin/sh",),
    IMAGES["hello-openshift"]: (sys.executable, "-I", str(Path(__file__).with_name("node_hello.py"))),
}

DEVICES: dict[str, tuple[str, str]] = {
    "cloud": ("LAB_CLOUD", "cloud"),
    "silicon_key": ("LAB_SILICON_KEY", "silicon/key.pem"),
    "silicon_public": ("LAB_SILICON_PUBLIC", "silicon/public.pem"),
}

_REFERENCE = re.compile(
    r"^(?P<repository>[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?::\d+)?(?:/[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*)*)"
    r"(?::(?P<tag>[\w][\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?$"
)


def repository(image: str) -> str | None:
    """The repository of an image reference, short names completed as CRI-O would; None for an invalid one."""
    match = _REFERENCE.match(image)
    if match is None:
        return None
    name = match["repository"]
    first, slash, _ = name.partition("/")
    if not slash:
        return f"docker.io/library/{name}"
    if "." not in first and ":" not in first and first != "localhost":
        return f"docker.io/{name}"
    return name


def tag(image: str) -> str:
    """What the reference asks for after the name: digest, tag or ``latest``."""
    match = _REFERENCE.match(image)
    if match is None:
        return ""
    return match["digest"] or match["tag"] or "latest"


def is_guest(image: str) -> bool:
    """Is it an image that a pod VM can run?"""
    return repository(image) in GUEST_IMAGES


def lookup(image: str, command: list[str] | None = None) -> Program | None:
    """The program that stands in for an image started with ``command``; None where the registry has no such image."""
    name = repository(image)
    if name is None:
        return None
    if command:
        found = PROGRAMS.get(f"{name} {command[0].rpartition('/')[2]}")
        if found is not None:
            return found
        if name in PROGRAMS:
            return PROGRAMS[name]
    elif name in PROGRAMS:
        return PROGRAMS[name]
    if name in GUEST_IMAGES:
        return Program("lab-shell", _DEFAULT_COMMANDS[name], command=True)
    return None


def default_command(image: str) -> list[str]:
    """What a guest image runs when the pod gives no command."""
    return list(_DEFAULT_COMMANDS.get(repository(image) or "", ()))


def argv(program: Program, command: list[str], args: list[str]) -> list[str]:
    """The words to execute for a container of ``program`` with its (expanded) command and args.

    A shell image runs what the container says; a stand-in is started with the words that follow the first of the
    command, that being the path of the real program inside the image.
    """
    if program.command:
        if command:
            return [*command, *args]
        return args or list(program.argv)
    return [*program.argv, *command[1:], *args]


def pull_error(image: str) -> str:
    """CRI-O's words for an image that the registry does not have (or a reference that is none)."""
    if repository(image) is None:
        return f'Failed to apply default image tag "{image}": couldn\'t parse image name "{image}": invalid reference format'
    source = f"initializing source docker://{image}"
    host = (repository(image) or "").partition("/")[0]
    reason = {
        "quay.io": "unauthorized: access to the requested resource is not authorized",
        "docker.io": "requested access to the resource is denied",
    }.get(host, "manifest unknown")
    return (
        f"unable to pull image or OCI artifact: pull image err: {source}: reading manifest {tag(image)} in "
        f"{repository(image)}: {reason}; artifact err: provided artifact is a container image"
    )
