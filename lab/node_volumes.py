"""Volumes of a pod as files: what the kubelet mounts, with its update rules.

configMap, secret, projected and downwardAPI volumes are directories written the kubelet's way: ``..<time>/<key>``,
``..data`` swapped atomically, ``<key> -> ..data/<key>``. They carry no write permission, for programs run without the
right to override that. A mount is a link from the container path (below rootfs) to the volume, so a refreshed volume is
seen at once; a subPath is copied when its container starts and never again.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import time
from pathlib import Path
from typing import Any

from lab.node_env import FieldError, Lookup, config_data, field, resource
from lab.node_spec import volume_kind

Object = dict[str, Any]
Payload = dict[str, tuple[bytes, int]]  # path in the volume → content, mode


class MountError(Exception):
    """A volume that cannot be set up (yet): the text behind ``MountVolume.SetUp failed for volume …``."""


def _items(data: dict[str, bytes], source: Object, mode: int, complaint: str, optional: bool) -> Payload:
    items = source.get("items")
    if not items:
        return {key: (value, mode) for key, value in data.items()}
    payload: Payload = {}
    for item in items:
        if item["key"] not in data:
            if optional:
                continue
            raise MountError(f"{complaint}: {item['key']}")
        payload[item["path"]] = (data[item["key"]], item.get("mode") or mode)
    return payload


def _configmap(source: Object, mode: int, lookup: Lookup) -> Payload:
    obj = lookup("ConfigMap", source["name"])
    optional = bool(source.get("optional"))
    if obj is None:
        if optional:
            return {}
        raise MountError(f'configmap "{source["name"]}" not found')
    return _items(config_data(obj), source, mode, "configmap references non-existent config key", optional)


def _secret(source: Object, mode: int, lookup: Lookup) -> Payload:
    name = source.get("secretName") or source.get("name", "")
    obj = lookup("Secret", name)
    optional = bool(source.get("optional"))
    if obj is None:
        if optional:
            return {}
        raise MountError(f'secret "{name}" not found')
    return _items(config_data(obj), source, mode, "references non-existent secret key", optional)


def _downward(source: Object, mode: int, pod: Object, addresses: dict[str, str]) -> Payload:
    payload: Payload = {}
    for item in source.get("items") or []:
        if "fieldRef" in item:
            try:
                text = field(pod, item["fieldRef"]["fieldPath"], addresses)
            except FieldError as error:
                raise MountError(str(error)) from error
        else:
            reference = item["resourceFieldRef"]
            chosen = next(c for c in pod["spec"]["containers"] if c["name"] == reference.get("containerName"))
            text = resource(chosen, reference, {})
        payload[item["path"]] = (text.encode(), item.get("mode") or mode)
    return payload


def payload(volume: Object, pod: Object, lookup: Lookup, addresses: dict[str, str], tokens: dict[str, str]) -> Payload:
    """The files of a configMap, secret, downwardAPI or projected volume.

    ``tokens``: ServiceAccount tokens by audience ("" for the API server's). Raises :class:`MountError`.
    """
    kind = volume_kind(volume)
    source = volume[kind]
    mode = source.get("defaultMode")
    mode = 0o644 if mode is None else mode
    if kind == "configMap":
        return _configmap(source, mode, lookup)
    if kind == "secret":
        return _secret(source, mode, lookup)
    if kind == "downwardAPI":
        return _downward(source, mode, pod, addresses)
    files: Payload = {}
    for part in source.get("sources") or []:
        if "configMap" in part:
            files |= _configmap(part["configMap"], mode, lookup)
        elif "secret" in part:
            files |= _secret(part["secret"], mode, lookup)
        elif "downwardAPI" in part:
            files |= _downward(part["downwardAPI"], mode, pod, addresses)
        elif "serviceAccountToken" in part:
            token = part["serviceAccountToken"]
            files[token["path"]] = (tokens.get(token.get("audience") or "", "").encode(), 0o600)
    return files


def audiences(pod: Object) -> dict[str, int]:
    """Audience → seconds of every ServiceAccount token that the pod's projected volumes ask for."""
    found: dict[str, int] = {}
    for volume in pod["spec"].get("volumes") or []:
        for part in (volume.get("projected") or {}).get("sources") or []:
            if "serviceAccountToken" in part:
                token = part["serviceAccountToken"]
                found[token.get("audience") or ""] = token.get("expirationSeconds") or 3600
    return found


def _read(directory: Path) -> Payload:
    current = directory / "..data"
    found: Payload = {}
    if not current.exists():
        return found
    for path in sorted(current.rglob("*")):
        if path.is_file():
            found[str(path.relative_to(current))] = (path.read_bytes(), stat.S_IMODE(path.stat().st_mode))
    return found


def write(directory: Path, files: Payload) -> bool:
    """Make the volume hold exactly ``files``, as the kubelet's atomic writer does. Returns whether anything changed."""
    wanted = {path: (content, mode & ~0o222 | 0o400) for path, (content, mode) in files.items()}
    if (directory / "..data").exists() and _read(directory) == wanted:
        return False
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o755)
    stamp = time.strftime("..%Y_%m_%d_%H_%M_%S.", time.gmtime()) + str(time.monotonic_ns())[-10:]
    fresh = directory / stamp
    fresh.mkdir()
    for name, (content, mode) in wanted.items():
        target = fresh / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(mode)
    before = os.readlink(directory / "..data") if (directory / "..data").is_symlink() else None
    link = directory / "..data_tmp"
    link.unlink(missing_ok=True)
    link.symlink_to(stamp)
    link.rename(directory / "..data")
    tops = {name.split("/")[0] for name in wanted}
    for entry in directory.iterdir():
        if not entry.name.startswith("..") and entry.name not in tops:
            entry.unlink()
    for name in tops:
        if not (directory / name).is_symlink():
            (directory / name).symlink_to(f"..data/{name}")
    for place in [*(p for p in fresh.rglob("*") if p.is_dir()), fresh]:
        place.chmod(0o555)
    if before and before != stamp:
        remove(directory / before)
    directory.chmod(0o555)
    return True


def remove(tree: Path) -> None:
    """Remove a directory whose parts may be without write permission."""
    if tree.is_symlink() or not tree.exists():
        tree.unlink(missing_ok=True)
        return
    for top, names, _ in os.walk(tree):
        for name in [".", *names]:
            path = Path(top) / name
            if not path.is_symlink():
                with contextlib.suppress(OSError):
                    path.chmod(0o755)
    shutil.rmtree(tree, ignore_errors=True)


_HOST_TYPES = {"Directory": ("a directory", Path.is_dir), "File": ("a file", Path.is_file),
               "Socket": ("a socket file", Path.is_socket)}


def host_path(source: Object, node_root: Path) -> Path:
    """The directory or file of a hostPath volume, made where its type asks for that."""
    path = node_root / str(source["path"]).lstrip("/")
    kind = source.get("type") or ""
    if kind in ("", "DirectoryOrCreate"):
        if not path.exists() and not path.is_symlink():
            path.mkdir(parents=True, exist_ok=True)
    elif kind == "FileOrCreate":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    elif kind in _HOST_TYPES:
        words, test = _HOST_TYPES[kind]
        if not test(path):
            raise MountError(f"hostPath type check failed: {source['path']} is not {words}")
    else:
        raise MountError(f"hostPath type check failed: the lab has no {kind}")
    return path


def mounts(spec: Object) -> dict[str, list[Object]]:
    """The volumeMounts of each container, outer paths first."""
    return {
        container["name"]: sorted(container.get("volumeMounts") or [], key=lambda m: m["mountPath"].rstrip("/").count("/"))
        for container in [*(spec.get("initContainers") or []), *spec["containers"]]
    }


def shared_root(spec: Object) -> bool:
    """Can all containers share one rootfs, that is, does no path mean different volumes in different containers?"""
    seen: dict[str, tuple[str, str]] = {}
    for entries in mounts(spec).values():
        for entry in entries:
            path = entry["mountPath"].rstrip("/")
            meaning = (entry["name"], entry.get("subPath") or "")
            if seen.setdefault(path, meaning) != meaning:
                return False
    return True


def mount(rootfs: Path, entry: Object, volume: Path) -> None:
    """Show ``volume`` (a directory or file on this machine) at the container path of a volumeMount.

    Raises :class:`MountError` for a subPath that leaves the volume.
    """
    target = rootfs / entry["mountPath"].strip("/")
    source = volume
    if entry.get("subPath"):
        if ".." in Path(entry["subPath"]).parts:
            raise MountError(f"subPath {entry['subPath']} must not contain '..'")
        source = volume / entry["subPath"]
    target.parent.mkdir(parents=True, exist_ok=True)
    frozen = (volume / "..data").is_symlink() and bool(entry.get("subPath"))
    if target.is_symlink() or target.is_file():
        if target.is_symlink() and not frozen and Path(os.readlink(target)) == source:
            return
        target.unlink()
    elif target.is_dir():
        remove(target)
    if frozen and source.is_file():
        shutil.copyfile(source, target)
        target.chmod(stat.S_IMODE(source.stat().st_mode))
        return
    if frozen and source.is_dir():
        shutil.copytree(source, target, symlinks=False)
        return
    if entry.get("subPath") and not source.exists():
        source.mkdir(parents=True, exist_ok=True)
    target.symlink_to(source)
