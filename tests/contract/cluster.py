"""A cluster with the stand-ins of the platform, observed from outside: only through the Kubernetes API."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from tests.integration.lab import Lab

OSC, TRUSTEE = "openshift-sandboxed-containers-operator", "trustee-operator-system"


def until(seen: Callable[[], Any], seconds: float = 60) -> Any:
    """The first true value of ``seen``; AssertionError after ``seconds``."""
    end = time.monotonic() + seconds
    while not (value := seen()):
        assert time.monotonic() < end, f"not seen within {seconds} s"
        time.sleep(0.2)
    return value


def namespace(lab: Lab, name: str) -> None:
    lab.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})


def subscribe(lab: Lab, name: str, package: str) -> dict[str, Any]:
    """Install the head of the package's channel ``stable`` in a namespace of its own; the CSV once it has succeeded."""
    group = f"/apis/operators.coreos.com/v1/namespaces/{name}/operatorgroups"
    alpha = f"/apis/operators.coreos.com/v1alpha1/namespaces/{name}"
    namespace(lab, name)
    lab.request("POST", group, {"apiVersion": "operators.coreos.com/v1", "kind": "OperatorGroup",
                                "metadata": {"name": package}, "spec": {"targetNamespaces": [name]}})
    lab.request("POST", f"{alpha}/subscriptions", {
        "apiVersion": "operators.coreos.com/v1alpha1", "kind": "Subscription", "metadata": {"name": package},
        "spec": {"name": package, "channel": "stable", "source": "redhat-operators", "sourceNamespace": "openshift-marketplace"}})

    def succeeded() -> Any:
        return next((item for item in lab.request("GET", f"{alpha}/clusterserviceversions")["items"]
                     if item.get("status", {}).get("phase") == "Succeeded"), None)
    found: dict[str, Any] = until(succeeded, 120)
    return found


@dataclass
class Event:
    at: int  # the resource version, one order for all kinds
    kind: str  # ADDED, MODIFIED, DELETED
    value: dict[str, Any]


def history(lab: Lab, since: str, *paths: str) -> dict[str, list[Event]]:
    """What happened to the named objects since a resource version, oldest first."""
    def read(path: str) -> list[Event]:
        collection, name = path.rsplit("/", 1)
        url = f"{lab.api.configuration.host}{collection}?watch=true&timeoutSeconds=1&resourceVersion={since}" \
              f"&fieldSelector=metadata.name%3D{name}"
        answer = lab.api.rest_client.request("GET", url)
        answer.read()
        found = [json.loads(line) for line in bytes(answer.data).decode().splitlines()]
        assert not [item for item in found if item["type"] == "ERROR"], found
        return [Event(int(item["object"]["metadata"]["resourceVersion"]), item["type"], item["object"]) for item in found]
    with ThreadPoolExecutor(20) as pool:
        return dict(zip(paths, pool.map(read, paths), strict=True))
