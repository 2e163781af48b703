"""Which fields of a pod lab-node understands. A field outside this list fails the pod by name, never silently. Pure."""

from __future__ import annotations

from typing import Any

Shape = Any  # None: any value; dict: known keys; [shape]: a list of such

_PROBE: Shape = {
    "httpGet": {"path": None, "port": None, "host": None, "scheme": None, "httpHeaders": None},
    "tcpSocket": {"port": None, "host": None},
    "exec": {"command": None},
    "initialDelaySeconds": None, "timeoutSeconds": None, "periodSeconds": None, "successThreshold": None,
    "failureThreshold": None, "terminationGracePeriodSeconds": None,
}
_FIELD: Shape = {"apiVersion": None, "fieldPath": None}
_RESOURCE: Shape = {"containerName": None, "resource": None, "divisor": None}
_ITEMS: Shape = [{"key": None, "path": None, "mode": None}]
_DOWNWARD: Shape = [{"path": None, "fieldRef": _FIELD, "resourceFieldRef": _RESOURCE, "mode": None}]
_KEY: Shape = {"name": None, "key": None, "optional": None}

# Settings of isolation: there are no containers here, so they change nothing that a program could see.
_SECURITY: Shape = {
    "privileged": None, "runAsUser": None, "runAsGroup": None, "runAsNonRoot": None, "readOnlyRootFilesystem": None,
    "allowPrivilegeEscalation": None, "capabilities": None, "seLinuxOptions": None, "seccompProfile": None,
    "appArmorProfile": None, "procMount": None, "fsGroup": None, "fsGroupChangePolicy": None, "supplementalGroups": None,
    "supplementalGroupsPolicy": None,
}

_CONTAINER: Shape = {
    "name": None, "image": None, "command": None, "args": None, "workingDir": None, "ports": None,
    "envFrom": [{"prefix": None, "configMapRef": {"name": None, "optional": None},
                 "secretRef": {"name": None, "optional": None}}],
    "env": [{"name": None, "value": None, "valueFrom": {
        "fieldRef": _FIELD, "resourceFieldRef": _RESOURCE, "configMapKeyRef": _KEY, "secretKeyRef": _KEY}}],
    "resources": {"limits": None, "requests": None},
    "volumeMounts": [{"name": None, "mountPath": None, "subPath": None, "readOnly": None, "mountPropagation": None,
                      "recursiveReadOnly": None}],
    "livenessProbe": _PROBE, "readinessProbe": _PROBE, "startupProbe": _PROBE,
    "terminationMessagePath": None, "terminationMessagePolicy": None, "imagePullPolicy": None,
    "securityContext": _SECURITY, "stdin": None, "stdinOnce": None, "tty": None,
}
_INIT: Shape = {k: v for k, v in _CONTAINER.items() if k not in ("livenessProbe", "readinessProbe", "startupProbe")}

_VOLUME: Shape = {
    "name": None,
    "configMap": {"name": None, "items": _ITEMS, "defaultMode": None, "optional": None},
    "secret": {"secretName": None, "items": _ITEMS, "defaultMode": None, "optional": None},
    "emptyDir": {"medium": None, "sizeLimit": None},
    "hostPath": {"path": None, "type": None},
    "downwardAPI": {"items": _DOWNWARD, "defaultMode": None},
    "projected": {"defaultMode": None, "sources": [{
        "configMap": {"name": None, "items": _ITEMS, "optional": None},
        "secret": {"name": None, "items": _ITEMS, "optional": None},
        "downwardAPI": {"items": _DOWNWARD},
        "serviceAccountToken": {"audience": None, "expirationSeconds": None, "path": None},
    }]},
}

_AFFINITY: Shape = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{
            "matchExpressions": None, "matchFields": None}]},
        "preferredDuringSchedulingIgnoredDuringExecution": None,
    },
    "podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": None},
    "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": None},
}

_SPEC: Shape = {
    "volumes": [_VOLUME], "initContainers": [_INIT], "containers": [_CONTAINER], "restartPolicy": None,
    "terminationGracePeriodSeconds": None, "dnsPolicy": None, "nodeSelector": None, "serviceAccountName": None,
    "serviceAccount": None, "automountServiceAccountToken": None, "nodeName": None, "hostNetwork": None, "hostPID": None,
    "hostIPC": None, "hostUsers": None, "securityContext": {**_SECURITY, "sysctls": []}, "imagePullSecrets": None,
    "affinity": _AFFINITY,
    "schedulerName": None, "tolerations": None, "priorityClassName": None, "priority": None, "preemptionPolicy": None,
    "runtimeClassName": None, "overhead": None, "enableServiceLinks": None, "os": None,
}


def _walk(value: Any, shape: Shape, path: str) -> list[str]:
    if shape is None or value is None:
        return []
    if isinstance(shape, list):
        found: list[str] = []
        if not shape:
            return [path] if value else []
        for index, item in enumerate(value):
            found += _walk(item, shape[0], f"{path}[{index}]")
        return found
    found = []
    for key, item in value.items():
        if key not in shape:
            found.append(f"{path}.{key}")
        else:
            found += _walk(item, shape[key], f"{path}.{key}")
    return found


def unsupported(spec: dict[str, Any]) -> list[str]:
    """Paths of the fields of a pod spec that lab-node does not imitate (``spec.containers[0].lifecycle``)."""
    return _walk(spec, _SPEC, "spec")


def volume_kind(volume: dict[str, Any]) -> str:
    """The one source of a volume (an entry without any is an emptyDir)."""
    return next((key for key in volume if key != "name"), "emptyDir")
