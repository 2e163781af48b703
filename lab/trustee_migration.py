"""The trustee operator 1.2 and config maps that it takes for those of 1.1 (reference/trustee.md 4.5, deployment.md 8.3).

Nothing looks at who made a config map: without the annotation it is copied and deleted, or rewritten.
"""

from __future__ import annotations

import base64
import json
import logging
import re
from typing import Any

from lab.kube import Kube

log = logging.getLogger("lab")
Object = dict[str, Any]

ANNOTATION, VALUE = "kbs.confidentialcontainers.org/migrated-from-v1.1.0", "v1.2.0"
SUFFIX = ".v1.1"
CONFIG = "kbs-config.toml"
POLICIES = {
    "kbsResourcePolicyConfigMapName": "resource policy",
    "kbsAttestationPolicyConfigMapName": "CPU attestation policy",
    "kbsGpuAttestationPolicyConfigMapName": "GPU attestation policy",
}


def annotated(config_map: Object) -> bool:
    """Is it to be left alone? The annotation counts, not its value."""
    return ANNOTATION in (config_map["metadata"].get("annotations") or {})


def mark(config_map: Object) -> Object:
    """The config map with the annotation."""
    config_map["metadata"].setdefault("annotations", None)
    config_map["metadata"]["annotations"] = {**(config_map["metadata"]["annotations"] or {}), ANNOTATION: VALUE}
    return config_map


def plugins(toml: str) -> tuple[str, list[str]]:
    """(the text without its ``[[plugins]]`` sections, those sections)."""
    rest: list[str] = []
    found: list[list[str]] = []
    inside = False
    for line in toml.split("\n"):
        if line.strip() == "[[plugins]]":
            inside = True
            found.append([line])
        elif inside and not line.strip().startswith("["):
            found[-1].append(line)
        else:
            inside = False
            rest.append(line)
    return "\n".join(rest), ["\n".join(lines) for lines in found]


def translated(plugin: str) -> str:
    """A ``[[plugins]]`` section of 1.1 in 1.2's words."""
    if 'name = "resource"' not in plugin:
        return plugin
    if 'type = "LocalFs"' in plugin:
        plugin = plugin.replace('type = "LocalFs"', 'storage_backend_type = "kvstorage"')
        return "\n".join(line for line in plugin.split("\n") if "dir_path =" not in line)
    return re.sub(r'(?<!_)\btype = "Vault"', 'storage_backend_type = "Vault"', plugin)


def values(text: str) -> str | None:
    """``reference_value`` of what ``reference-values.json`` says; None where that is no list of objects.

    The whole item is encoded, with the standard alphabet although the KBS reads the URL-safe one: as the operator does.
    """
    try:
        items = json.loads(text)
    except ValueError:
        return None
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        return None
    named = [item for item in items if isinstance(item.get("name"), str)]

    def encoded(item: Object) -> str:
        compact = json.dumps(item, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
        for sign in "<>&":
            compact = compact.replace(sign, f"\\u{ord(sign):04x}")
        return base64.b64encode(compact.encode()).decode()

    return json.dumps({item["name"]: encoded(item) for item in named}, indent=2, sort_keys=True)


class Migration:
    """One look at the config maps of a KbsConfig."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self.kube, self.namespace = kube, namespace

    async def run(self, spec: Object) -> None:
        """Look at all of them. Raises ``ApiError``."""
        if spec.get("kbsConfigMapName"):
            await self._config(spec["kbsConfigMapName"])
        if spec.get("kbsRvpsRefValuesConfigMapName"):
            await self._values(spec["kbsRvpsRefValuesConfigMapName"])
        for field, words in POLICIES.items():
            if spec.get(field):
                await self._policy(spec[field], words)

    async def _get(self, name: str) -> Object | None:
        return await self.kube.get("v1", "ConfigMap", name, self.namespace)

    async def _backup(self, config_map: Object) -> None:
        name = config_map["metadata"]["name"] + SUFFIX
        if await self._get(name) is not None:
            log.info("Backup ConfigMap already exists, skipping creation name=%s", name)
            return
        meta = config_map["metadata"]
        kept = {key: meta[key] for key in ("labels", "ownerReferences") if meta.get(key)}
        annotations = {**(meta.get("annotations") or {}), "kbs.confidentialcontainers.org/backup-of": meta["name"]}
        await self.kube.create({
            "apiVersion": "v1", "kind": "ConfigMap", "data": config_map.get("data") or {},
            "metadata": {"name": name, "namespace": self.namespace, "annotations": annotations, **kept}})
        log.info("Created backup ConfigMap (will be preserved) name=%s original=%s", name, meta["name"])

    async def _config(self, name: str) -> None:
        found = await self._get(name)
        if found is None or annotated(found):
            return
        backup = await self._get(name + SUFFIX)
        if backup is not None:
            await self._merge(found, backup)
        elif CONFIG not in (found.get("data") or {}):
            await self.kube.replace(mark(found))
        else:
            log.info("Creating backup of v1.1 KBS config for migration name=%s backup=%s", name, name + SUFFIX)
            await self._backup(found)
            await self.kube.delete("v1", "ConfigMap", name, self.namespace)
            log.info("Deleted KBS config ConfigMap for v1.2 recreation name=%s", name)

    async def _merge(self, found: Object, backup: Object) -> None:
        _, old = plugins((backup.get("data") or {}).get(CONFIG, ""))
        if old:
            rest, _ = plugins((found.get("data") or {}).get(CONFIG, ""))
            found["data"][CONFIG] = "\n\n".join([rest, *map(translated, old)])
            log.info("Successfully merged plugins into v1.2 KBS config count=%d", len(old))
        else:
            await self.kube.delete("v1", "ConfigMap", backup["metadata"]["name"], self.namespace)
        await self.kube.replace(mark(found))

    async def _values(self, name: str) -> None:
        found = await self._get(name)
        if found is None or annotated(found):
            return
        data = found.get("data") or {}
        if "reference-values.json" in data:
            await self._backup(found)
            text = values(data["reference-values.json"])
            if text is None:
                log.info("Failed to parse old RVPS format, skipping migration name=%s", name)
                return
            del data["reference-values.json"]
            found["data"] = {**data, "reference_value": text}
            log.info("Successfully migrated RVPS ConfigMap name=%s", name)
        await self.kube.replace(mark(found))

    async def _policy(self, name: str, words: str) -> None:
        found = await self._get(name)
        if found is None or annotated(found):
            return
        log.info("Creating backup and deleting policy ConfigMap to trigger recreation name=%s type=%s", name, words)
        await self._backup(found)
        await self.kube.delete("v1", "ConfigMap", name, self.namespace)
        log.info("Successfully deleted non-migrated ConfigMap name=%s type=%s", name, words)
