"""A container's environment as the kubelet resolves it: env, envFrom, fieldRef, ``$(VAR)``. Pure."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Any

from lab.node_schedule import quantity

Object = dict[str, Any]
# kind ("ConfigMap" or "Secret"), name → the object in the pod's namespace, or None
Lookup = Callable[[str, str], Object | None]


class ConfigError(Exception):
    """A reference that cannot be resolved: the container waits with CreateContainerConfigError and this text."""


class FieldError(Exception):
    """A field path that cannot be served to a pod."""


_REFERENCE = re.compile(r"\$(?:\$|\(([^()]*)\))")
_SUBSCRIPT = re.compile(r"^metadata\.(labels|annotations)\['(.+)'\]$")


def expand(text: str, values: dict[str, str]) -> str:
    """``$(NAME)`` replaced where known, left as it is where not; ``$$(NAME)`` gives ``$(NAME)``."""

    def one(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return values.get(match[1], match[0])

    return _REFERENCE.sub(one, text)


def field(pod: Object, path: str, addresses: dict[str, str]) -> str:
    """The value of a downward API field. ``addresses`` has ``podIP`` and ``hostIP``."""
    meta, spec = pod["metadata"], pod["spec"]
    match = _SUBSCRIPT.match(path)
    if match:
        return str((meta.get(match[1]) or {}).get(match[2], ""))
    simple: dict[str, Callable[[], Any]] = {
        "metadata.name": lambda: meta["name"],
        "metadata.namespace": lambda: meta["namespace"],
        "metadata.uid": lambda: meta["uid"],
        "metadata.labels": lambda: _lines(meta.get("labels")),
        "metadata.annotations": lambda: _lines(meta.get("annotations")),
        "spec.nodeName": lambda: spec.get("nodeName", ""),
        "spec.serviceAccountName": lambda: spec.get("serviceAccountName", ""),
        "status.podIP": lambda: addresses["podIP"],
        "status.podIPs": lambda: addresses["podIP"],
        "status.hostIP": lambda: addresses["hostIP"],
        "status.hostIPs": lambda: addresses["hostIP"],
    }
    if path not in simple:
        raise FieldError(f'unsupported fieldPath: {path}')
    return str(simple[path]())


def _lines(values: dict[str, str] | None) -> str:
    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t") + '"'

    return "\n".join(f"{key}={quoted(value)}" for key, value in sorted((values or {}).items()))


def resource(container: Object, reference: Object, allocatable: dict[str, str]) -> str:
    """The value of a resourceFieldRef: whole units of the divisor, rounded up."""
    kind, _, name = reference["resource"].partition(".")
    resources = container.get("resources") or {}
    value = (resources.get(kind) or {}).get(name)
    if value is None and kind == "limits":
        value = allocatable.get(name)
    divisor = reference.get("divisor") or "1"
    if str(divisor) == "0":
        divisor = "1"
    whole = quantity(value or "0") / quantity(divisor)
    return str(-int(-whole // 1))


def config_data(obj: Object) -> dict[str, bytes]:
    """The keys of a ConfigMap or Secret with their bytes."""
    if obj["kind"] == "Secret":
        return {key: base64.b64decode(value) for key, value in (obj.get("data") or {}).items()}
    data = {key: value.encode() for key, value in (obj.get("data") or {}).items()}
    return data | {key: base64.b64decode(value) for key, value in (obj.get("binaryData") or {}).items()}


def _text(obj: Object, key: str) -> str | None:
    """The value of a key as an environment variable sees it (a ConfigMap's binaryData does not count)."""
    data = obj.get("data") or {}
    if key not in data:
        return None
    return base64.b64decode(data[key]).decode(errors="surrogateescape") if obj["kind"] == "Secret" else str(data[key])


def _missing(kind: str, name: str) -> ConfigError:
    return ConfigError(f'{kind.lower()} "{name}" not found')


def environment(pod: Object, container: Object, lookup: Lookup, addresses: dict[str, str],
                allocatable: dict[str, str] | None = None) -> dict[str, str]:
    """The container's own variables, in the kubelet's order: envFrom first, env wins, later entries see earlier ones.

    Raises :class:`ConfigError` with the kubelet's text for a reference that is not optional and cannot be resolved.
    """
    values: dict[str, str] = {}
    for source in container.get("envFrom") or []:
        reference, kind = (source["configMapRef"], "ConfigMap") if "configMapRef" in source else (
            source["secretRef"], "Secret")
        obj = lookup(kind, reference["name"])
        if obj is None:
            if reference.get("optional"):
                continue
            raise _missing(kind, reference["name"])
        for key in sorted(obj.get("data") or {}):
            name = (source.get("prefix") or "") + key
            if name and "=" not in name and "\0" not in name:
                values[name] = _text(obj, key) or ""
    for entry in container.get("env") or []:
        value = _entry(pod, container, entry, lookup, addresses, allocatable or {}, values)
        if value is not None:
            values[entry["name"]] = value
    return values


def _entry(pod: Object, container: Object, entry: Object, lookup: Lookup, addresses: dict[str, str],
           allocatable: dict[str, str], values: dict[str, str]) -> str | None:
    origin = entry.get("valueFrom")
    if not origin:
        return expand(str(entry.get("value") or ""), values)
    if "fieldRef" in origin:
        try:
            return field(pod, origin["fieldRef"]["fieldPath"], addresses)
        except FieldError as error:
            raise ConfigError(str(error)) from error
    if "resourceFieldRef" in origin:
        reference = origin["resourceFieldRef"]
        named = reference.get("containerName")
        chosen = next((c for c in pod["spec"]["containers"] if c["name"] == named), container)
        return resource(chosen, reference, allocatable)
    kind, reference = ("ConfigMap", origin["configMapKeyRef"]) if "configMapKeyRef" in origin else (
        "Secret", origin["secretKeyRef"])
    obj = lookup(kind, reference["name"])
    if obj is None:
        if reference.get("optional"):
            return None
        raise _missing(kind, reference["name"])
    value = _text(obj, reference["key"])
    if value is None and not reference.get("optional"):
        raise ConfigError(f"couldn't find key {reference['key']} in {kind} {pod['metadata']['namespace']}/{reference['name']}")
    return value


def references(pod: Object) -> set[tuple[str, str]]:
    """(kind, name) of every ConfigMap and Secret that the pod's volumes and variables name."""
    found: set[tuple[str, str]] = set()
    spec = pod["spec"]
    for volume in spec.get("volumes") or []:
        sources = [volume, *((volume.get("projected") or {}).get("sources") or [])]
        for source in sources:
            if "configMap" in source:
                found.add(("ConfigMap", source["configMap"]["name"]))
            if "secret" in source:
                found.add(("Secret", source["secret"].get("secretName") or source["secret"].get("name", "")))
    for container in [*(spec.get("initContainers") or []), *spec["containers"]]:
        for source in container.get("envFrom") or []:
            if "configMapRef" in source:
                found.add(("ConfigMap", source["configMapRef"]["name"]))
            if "secretRef" in source:
                found.add(("Secret", source["secretRef"]["name"]))
        for entry in container.get("env") or []:
            origin = entry.get("valueFrom") or {}
            if "configMapKeyRef" in origin:
                found.add(("ConfigMap", origin["configMapKeyRef"]["name"]))
            if "secretKeyRef" in origin:
                found.add(("Secret", origin["secretKeyRef"]["name"]))
    return found
