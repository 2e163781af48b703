"""The pod VM image job while KataConfig is awaited: lines as it goes on, its own words when it fails, its log in a file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.confidential.containers.plugins.module_utils import cluster_image
from ansible_collections.confidential.containers.plugins.module_utils.cluster import Cluster
from ansible_collections.confidential.containers.plugins.module_utils.cluster_wait import wait_ready
from ansible_collections.confidential.containers.plugins.module_utils.context import Context
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError
from ansible_collections.confidential.containers.plugins.module_utils.podvm_image import JOB, SEEN
from tests.fake_api import FakeApi, status

OSC, IMAGE = "openshift-sandboxed-containers-operator", "/subscriptions/s/…/versions/1.0.0"
SECRET = "AZURE_CLIENT_SECRET=hidden"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, api: FakeApi) -> None:
    api.put({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "peer-pods-secret", "namespace": OSC}})
    monkeypatch.setattr(cluster_image, "EVERY", 0.1)
    monkeypatch.setattr(cluster_image, "FIRST", 0.1)
    monkeypatch.setattr(cluster_image, "LONGEST", 0.1)


def kataconfig(reason: str = "", **annotations: str) -> dict[str, Any]:
    condition = {"type": "InProgress", "status": "True" if reason else "False", "reason": reason, "message": ""}
    return {"apiVersion": "kataconfiguration.openshift.io/v1", "kind": "KataConfig", "metadata": {
        "name": "example-kataconfig", "creationTimestamp": "2026-01-01T00:00:00Z", "annotations": annotations},
        "spec": {"enablePeerPods": True}, "status": {"conditions": [condition], "kataNodes": {"nodeCount": 1, "readyNodeCount": 1}}}


def pod(name: str, phase: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": OSC, "labels": {"job-name": JOB}},
            "status": {"phase": phase}}


def config_map(image: str = "") -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "peer-pods-cm", "namespace": OSC},
            "data": {"AZURE_IMAGE_ID": image}}


def job(**more: Any) -> dict[str, Any]:
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": JOB, "namespace": OSC}, "status": {"active": 1, **more}}


def rest(api: FakeApi) -> None:
    """What else a KataConfig is made of."""
    api.put({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "kata-remote"}})
    api.put({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "osc-caa-ds", "namespace": OSC},
             "status": {"desiredNumberScheduled": 1, "numberReady": 1, "updatedNumberScheduled": 1}})
    api.put({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "peer-pods-webhook", "namespace": OSC},
             "spec": {"replicas": 1}, "status": {"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}})


def of_job(lines: list[str]) -> list[str]:
    return [line.removeprefix(f"{JOB}: ") for line in lines if line.startswith(JOB)]


def test_a_line_for_each_change_then_the_image(api: FakeApi, cluster: Cluster, tmp_path: Path) -> None:
    rest(api)
    api.put(config_map())
    api.put(kataconfig("PodVMImageJobRunning"))
    api.put(job())

    def running(log: str) -> None:
        api.logs["job-1"] = log
        api.put(pod("job-1", "Running"))

    api.later(0.5, running, "logging in\n")
    api.later(2.0, running, f"logging in\n{SECRET}\nuploading\n")

    def completed() -> None:
        api.logs["job-1"] += "done\n"
        api.put(pod("job-1", "Succeeded"))
        api.put(config_map(IMAGE))

    api.later(3.4, completed)
    api.later(4.8, api.put, kataconfig())
    lines: list[str] = []
    wait_ready(cluster, [kataconfig()], 30, Context(progress=lines.append), logs=str(tmp_path / "private"))
    assert of_job(lines) == ["job created", "pod job-1: running", "logging in", "uploading", "pod job-1 completed",
                             f"the pod VM image is {IMAGE}"]
    assert lines[-1] == "KataConfig example-kataconfig: ready"
    file = tmp_path / "private" / "osc-podvm-image-creation.log"
    assert file.read_text() == "--- pod job-1\nlogging in\nAZURE_CLIENT_SECRET=…\nuploading\ndone\n"
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_log_that_runs_is_no_flood(api: FakeApi, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_image, "FIRST", 60.0)
    monkeypatch.setattr(cluster_image, "LONGEST", 60.0)
    api.put(config_map())
    api.put(kataconfig("PodVMImageJobRunning"))
    api.put(job())
    api.put(pod("job-1", "Running"))
    for number in range(10):
        api.later(number / 5, api.logs.__setitem__, "job-1", f"{number} %\n")
    lines: list[str] = []
    with pytest.raises(CocoError, match="not ready after 2 s"):
        wait_ready(cluster, [kataconfig()], 2.4, Context(progress=lines.append))
    assert len(of_job(lines)) <= 2


def test_no_image_job_is_asked_for_where_all_is_well(api: FakeApi, cluster: Cluster) -> None:
    rest(api)
    api.put(config_map(IMAGE))
    api.put(kataconfig())
    api.put(pod("job-1", "Failed"))
    lines: list[str] = []
    wait_ready(cluster, [kataconfig()], 5, Context(progress=lines.append))
    assert lines == []
    assert not [r.path for r in api.requests if "/pods" in r.path or "/jobs" in r.path]


def test_a_job_that_failed_ends_the_wait_where_the_operator_went_on(api: FakeApi, cluster: Cluster, tmp_path: Path) -> None:
    """operators.md 3.4: the job is deleted, the condition is reset, nothing but the missing image shows it."""
    rest(api)
    api.put(config_map())
    api.put(kataconfig())
    api.logs.update({"job-1": "Error: first\n", "job-2": f"logging in\n{SECRET}\nError: Failed to login to Azure\n"})
    api.later(0.4, api.put, pod("job-1", "Failed"))
    api.put(job())
    api.later(2.0, api.put, pod("job-2", "Failed"))
    lines: list[str] = []
    began = time.monotonic()
    with pytest.raises(CocoError) as raised:
        wait_ready(cluster, [kataconfig()], 60, Context(progress=lines.append), logs=str(tmp_path / "private"))
    assert time.monotonic() - began < 5
    said = str(raised.value)
    assert said.startswith("The pod VM image was not built · osc-podvm-image-creation failed, its pod job-2 said: logging in / "
                           "AZURE_CLIENT_SECRET=… / Error: Failed to login to Azure · Correct the credentials")
    assert "--tags step05,step07,step08" in said
    assert "pod job-1 failed; the job tries once more" in of_job(lines)
    kept = (tmp_path / "private" / "osc-podvm-image-creation.log").read_text()
    assert kept.startswith("--- pod job-1\nError: first\n--- pod job-2\nlogging in\n")
    assert str(tmp_path / "private") in said
    assert "hidden" not in said + kept + "".join(lines)


def test_without_a_directory_the_error_says_where_the_log_is(api: FakeApi, cluster: Cluster) -> None:
    api.put(config_map())
    api.put(kataconfig())
    api.put(pod("job-1", "Failed"))
    with pytest.raises(CocoError, match=f"oc logs -n {OSC} job-1"):
        wait_ready(cluster, [kataconfig()], 60, Context())


def test_pods_of_an_earlier_job_do_not_end_the_wait(api: FakeApi, cluster: Cluster) -> None:
    rest(api)
    api.put(config_map())
    old = api.put(pod("job-1", "Failed"))
    api.put(kataconfig(**{SEEN: old["metadata"]["uid"]}))
    api.logs["job-1"] = "Error: of yesterday\n"
    lines: list[str] = []
    api.later(0.6, api.put, job())
    api.later(0.9, api.put, pod("job-2", "Succeeded"))
    api.later(0.9, api.put, config_map(IMAGE))
    wait_ready(cluster, [kataconfig()], 20, Context(progress=lines.append))
    assert not any("job-1" in line or "yesterday" in line for line in lines)


def test_an_api_server_that_restarts_does_not_matter(api: FakeApi, cluster: Cluster) -> None:
    rest(api)
    api.put(config_map())
    api.put(kataconfig())
    api.script("GET", "/pods$", 500, status(500, "InternalError", "etcdserver: no leader"), times=3)
    api.later(1.0, api.put, config_map(IMAGE))
    wait_ready(cluster, [kataconfig()], 20, Context())


def test_a_directory_that_cannot_be_used_is_warned_about(api: FakeApi, cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    api.put(config_map())
    api.put(kataconfig())
    api.put(pod("job-1", "Failed"))
    warnings: list[str] = []
    with pytest.raises(CocoError, match="The pod VM image was not built"):
        wait_ready(cluster, [kataconfig()], 60, Context(warn=warnings.append), logs=str(tmp_path / "open"))
    assert len(warnings) == 1
    assert "was not kept" in warnings[0]
