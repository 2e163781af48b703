"""Volumes: contents, atomic update, read-only modes, subPath, hostPath."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from lab.node_volumes import MountError, audiences, host_path, mount, mounts, payload, remove, shared_root, write

POD: dict[str, Any] = {"metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"b": "2", "a": "1"}},
                       "spec": {"containers": [{"name": "c"}]}}
ADDRESSES = {"podIP": "10.200.4.2", "hostIP": "10.200.0.13"}


def objects(kind: str, name: str) -> dict[str, Any] | None:
    return {
        ("ConfigMap", "cm"): {"kind": "ConfigMap", "data": {"a": "1", "b": "2"},
                              "binaryData": {"bin": base64.b64encode(b"\xff\x00").decode()}},
        ("Secret", "s"): {"kind": "Secret", "data": {"k": base64.b64encode(b"v").decode()}},
    }.get((kind, name))


def files(volume: dict[str, Any], tokens: dict[str, str] | None = None) -> dict[str, tuple[bytes, int]]:
    return payload(volume, POD, objects, ADDRESSES, tokens or {})


def test_configmap_and_items() -> None:
    assert files({"configMap": {"name": "cm"}}) == {"a": (b"1", 0o644), "b": (b"2", 0o644), "bin": (b"\xff\x00", 0o644)}
    assert files({"configMap": {"name": "cm", "items": [{"key": "a", "path": "x/y", "mode": 0o600}]}}) == {
        "x/y": (b"1", 0o600)}


@pytest.mark.parametrize(("volume", "text"), [
    ({"configMap": {"name": "none"}}, 'configmap "none" not found'),
    ({"secret": {"secretName": "none"}}, 'secret "none" not found'),
    ({"configMap": {"name": "cm", "items": [{"key": "z", "path": "z"}]}}, "configmap references non-existent config key: z"),
    ({"secret": {"secretName": "s", "items": [{"key": "z", "path": "z"}]}}, "references non-existent secret key: z"),
    ({"projected": {"sources": [{"secret": {"name": "none"}}]}}, 'secret "none" not found'),
])
def test_missing(volume: dict[str, Any], text: str) -> None:
    with pytest.raises(MountError) as caught:
        files(volume)
    assert str(caught.value) == text


def test_optional_is_empty() -> None:
    assert files({"secret": {"secretName": "none", "optional": True}}) == {}
    assert files({"configMap": {"name": "cm", "optional": True, "items": [{"key": "z", "path": "z"}]}}) == {}


def test_projected_and_downward() -> None:
    volume = {"projected": {"sources": [
        {"serviceAccountToken": {"path": "token"}}, {"serviceAccountToken": {"path": "other", "audience": "x"}},
        {"downwardAPI": {"items": [{"path": "ns", "fieldRef": {"fieldPath": "metadata.namespace"}},
                                   {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        {"configMap": {"name": "cm", "items": [{"key": "a", "path": "a"}]}}]}}
    found = files(volume, {"": "T", "x": "X"})
    assert {k: v[0] for k, v in found.items()} == {"token": b"T", "other": b"X", "ns": b"n", "labels": b'a="1"\nb="2"', "a": b"1"}
    assert audiences({"spec": {"volumes": [{"name": "v", **volume}]}}) == {"": 3600, "x": 3600}


def test_update_is_one_swap(tmp_path: Path) -> None:
    volume = tmp_path / "v"
    assert write(volume, {"a": (b"1", 0o644), "gone": (b"x", 0o644)})
    first = os.readlink(volume / "..data")
    opened = (volume / "a").open()
    assert not write(volume, {"a": (b"1", 0o644), "gone": (b"x", 0o644)})
    assert os.readlink(volume / "..data") == first
    assert write(volume, {"a": (b"2", 0o644), "new": (b"n", 0o600)})
    assert os.readlink(volume / "..data") != first
    assert (volume / "a").read_bytes() == b"2"
    assert sorted(p.name for p in volume.iterdir() if not p.name.startswith("..")) == ["a", "new"]
    assert len(list(volume.iterdir())) == 4
    assert opened.read() == "1"
    opened.close()


def test_nothing_may_be_written(tmp_path: Path) -> None:
    volume = tmp_path / "v"
    write(volume, {"a": (b"1", 0o666), "d/b": (b"2", 0o700)})
    for path in (volume, volume / "..data", volume / "a", volume / "d", volume / "d" / "b"):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o222, path
    remove(volume)
    assert not volume.exists()


def test_directory_mount_follows_subpath_does_not(tmp_path: Path) -> None:
    volume, root = tmp_path / "v", tmp_path / "rootfs"
    write(volume, {"a": (b"1", 0o644)})
    mount(root, {"mountPath": "/etc/dir"}, volume)
    mount(root, {"mountPath": "/etc/file", "subPath": "a"}, volume)
    write(volume, {"a": (b"2", 0o644)})
    assert (root / "etc/dir/a").read_bytes() == b"2"
    assert (root / "etc/file").read_bytes() == b"1"
    mount(root, {"mountPath": "/etc/file", "subPath": "a"}, volume)  # the container starts again
    assert (root / "etc/file").read_bytes() == b"2"
    with pytest.raises(MountError):
        mount(root, {"mountPath": "/x", "subPath": "../y"}, volume)


def test_secret_below_an_empty_dir(tmp_path: Path) -> None:
    """As the KBS deployment mounts them: a repository with secrets at paths inside it."""
    root, repository, secret = tmp_path / "rootfs", tmp_path / "repository", tmp_path / "secret"
    repository.mkdir()
    write(secret, {"key1": (b"x", 0o644)})
    entries = [{"name": "s", "mountPath": "/opt/kbs/repository/default/s"}, {"name": "r", "mountPath": "/opt/kbs"}]
    for entry in mounts({"containers": [{"name": "c", "volumeMounts": entries}]})["c"]:
        mount(root, entry, {"s": secret, "r": repository}[entry["name"]])
    assert (root / "opt/kbs/repository/default/s/key1").read_bytes() == b"x"


def test_containers_that_disagree_get_their_own_root() -> None:
    one = {"name": "a", "volumeMounts": [{"name": "v", "mountPath": "/x"}]}
    assert shared_root({"containers": [one, {"name": "b", "volumeMounts": [{"name": "v", "mountPath": "/x/"}]}]})
    assert not shared_root({"containers": [one, {"name": "b", "volumeMounts": [{"name": "w", "mountPath": "/x"}]}]})


def test_host_path_types(tmp_path: Path) -> None:
    assert host_path({"path": "/run/peerpod", "type": "DirectoryOrCreate"}, tmp_path).is_dir()
    assert host_path({"path": "/run/peerpod"}, tmp_path) == tmp_path / "run/peerpod"
    assert host_path({"path": "/f", "type": "FileOrCreate"}, tmp_path).is_file()
    for kind, words in (("Directory", "a directory"), ("Socket", "a socket file"), ("File", "a file")):
        with pytest.raises(MountError) as caught:
            host_path({"path": "/none", "type": kind}, tmp_path)
        assert str(caught.value) == f"hostPath type check failed: /none is not {words}"
