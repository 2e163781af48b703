"""Run a command with a pod's rootfs at ``/``: started inside fresh user and mount namespaces by lab-node.

The new root shows this machine's programs read-only in effect (the user owns none of them there), the lab's own files at
their paths, and the pod's volumes at theirs. Standard library only; run by path.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import sys
from pathlib import Path

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC = 1, 2, 4, 32, 4096, 16384
MS_PRIVATE, MS_RELATIME = 1 << 18, 1 << 21
SYSTEM = ("usr", "bin", "sbin", "lib", "lib64", "lib32", "proc", "dev", "sys")
ETC = ("passwd", "group", "ssl", "pki", "ca-certificates", "alternatives", "ld.so.cache", "nsswitch.conf", "localtime",
       "terminfo")
libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: Path, kind: str | None, flags: int) -> None:
    """mount(2); raises OSError."""
    if libc.mount(source.encode(), str(target).encode(), kind.encode() if kind else None, flags, None) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))


def bind(source: Path, target: Path) -> None:
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    mount(str(source), target, None, MS_BIND | MS_REC)


def freeze(target: Path) -> None:
    """Make a bound configMap, secret or projected volume read-only, where the kernel lets us keep its other flags."""
    for locked in (0, MS_NOSUID, MS_NOSUID | MS_NODEV, MS_NOSUID | MS_NODEV | MS_RELATIME, MS_RELATIME):
        if libc.mount(None, str(target).encode(), None, MS_REMOUNT | MS_BIND | MS_RDONLY | locked, None) == 0:
            return


def show(source: Path, target: Path) -> None:
    """Show a host directory's entry: a link as the same link, anything else bound."""
    if source.is_symlink():
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.is_symlink():
            target.symlink_to(os.readlink(source))
    elif source.exists():
        bind(source, target)


def overlay(rootfs: Path, root: Path) -> None:
    """Bind the pod's volumes and files over the new root: links of the rootfs are its mounts."""
    for top, directories, files in os.walk(rootfs):
        for name in [*directories, *files]:
            path = Path(top) / name
            target = root / path.relative_to(rootfs)
            if path.is_symlink():
                source = path.resolve()
                if source.exists() and path.readlink().is_absolute():
                    bind(source, target)
                    if (source / "..data").is_symlink():
                        freeze(target)
            elif path.is_file():
                bind(path, target)


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("--rootfs", required=True, type=Path)
    options.add_argument("--cwd", default="/")
    options.add_argument("--visible", action="append", default=[], type=Path)
    options.add_argument("command", nargs="+")
    given = options.parse_args()
    libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None)
    rootfs: Path = given.rootfs
    root = rootfs.parent / "enter"
    root.mkdir(exist_ok=True)
    mount("tmpfs", root, "tmpfs", MS_NOSUID)
    for name in SYSTEM:
        show(Path("/") / name, root / name)
    for name in ETC:
        show(Path("/etc") / name, root / "etc" / name)
    for name in ("tmp", "run", "var", "root", "home"):
        (root / name).mkdir(exist_ok=True)
    for path in given.visible:
        if path.exists() and path.parts[1] not in SYSTEM:
            bind(path, root / str(path).lstrip("/"))
    overlay(rootfs, root)
    os.chroot(root)
    os.environ.pop("LAB_ROOT", None)
    try:
        os.chdir(given.cwd)
    except FileNotFoundError:
        os.chdir("/")
    command = given.command
    try:
        os.execvp(command[0], command)  # noqa: S606
    except FileNotFoundError:
        print(f'exec failed: executable file `{command[0]}` not found in $PATH: No such file or directory',
              file=sys.stderr)
        return 127
    except PermissionError:
        print(f'exec failed: `{command[0]}`: Permission denied', file=sys.stderr)
        return 126


if __name__ == "__main__":
    raise SystemExit(main())
