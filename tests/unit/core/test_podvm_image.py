"""podvm_image.py: the image job's stages by what its pods did. Sources: operators.md 3.4, 3.5; deployment.md 3.7."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.confidential.containers.plugins.module_utils import podvm_image

JOB: dict[str, Any] = {"metadata": {"name": podvm_image.JOB}, "status": {"active": 1}}


def pod(name: str, phase: str = "Running", made: str = "2026-11-26T10:00:00Z", **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": f"uid-{name}", "creationTimestamp": made}, "status": {"phase": phase, **status}}


def kataconfig(seen: str = "", made: str = "2026-11-26T09:00:00Z") -> dict[str, Any]:
    return {"metadata": {"creationTimestamp": made, "annotations": {podvm_image.SEEN: seen} if seen else {}}}


@pytest.mark.parametrize(("job", "pods", "line", "ended", "failed"), [
    (None, [], "", False, False),
    (JOB, [], "job created", False, False),
    (JOB, [pod("a", "Pending")], "pod a: starting", False, False),
    (JOB, [pod("a")], "pod a: running", False, False),
    (JOB, [pod("a", "Succeeded")], "pod a completed", True, False),
    (None, [pod("a", "Failed"), pod("b", "Succeeded")], "pod b completed", True, False),
    (JOB, [pod("a", "Failed")], "pod a failed; the job tries once more", True, False),
    (JOB, [pod("a", "Failed"), pod("b")], "pod b: running", False, False),
    (JOB, [pod("a", "Failed"), pod("b", "Failed")], "pod b failed", True, True),  # the next job may have begun
    (None, [pod("a", "Failed")], "pod a failed", True, True),  # the operator has deleted the job
    ({"status": {"conditions": [{"type": "Failed", "status": "True"}]}}, [pod("a", "Failed")], "pod a failed", True, True),
])
def test_stages(job: Any, pods: list[Any], line: str, ended: bool, failed: bool) -> None:
    found = podvm_image.stage(job, pods)
    assert (found.line, found.ended, found.failed) == (line, ended, failed)
    assert found.pod == (pods[-1]["metadata"]["name"] if pods else "")


def test_why_a_pod_does_not_start() -> None:
    pulling = {"name": "create", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "manifest unknown"}}}
    usual = {"name": "copy", "state": {"waiting": {"reason": "PodInitializing"}}}
    assert podvm_image.stage(JOB, [pod("a", "Pending", initContainerStatuses=[usual], containerStatuses=[pulling])]).line == \
        "pod a: ImagePullBackOff manifest unknown"
    lost = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no node"}
    assert podvm_image.stage(JOB, [pod("a", "Pending", conditions=[lost])]).line == "pod a: Unschedulable no node"


def test_pods_of_the_past_are_not_of_now() -> None:
    """Pods stay for ever: those of before this KataConfig, and those up to the one that was there at the last trigger."""
    pods = [pod("c", made="2026-11-26T10:20:00Z"), pod("a", made="2026-11-26T08:00:00Z"), pod("b", made="2026-11-26T10:10:00Z")]

    def names(config: Any) -> list[str]:
        return [one["metadata"]["name"] for one in podvm_image.of_now(pods, config)]

    assert names(kataconfig()) == ["b", "c"]
    assert names(kataconfig("uid-b")) == ["c"]
    assert names(kataconfig("uid-c")) == []
    assert names(kataconfig("uid-a")) == ["b", "c"]
    assert names(kataconfig("uid-of-a-pod-that-was-deleted")) == ["b", "c"]
    assert names(kataconfig(made="2026-11-26T10:15:00Z")) == ["c"]
    assert names(None) == ["a", "b", "c"]
    assert podvm_image.newest_uid(pods) == "uid-c"
    assert podvm_image.newest_uid([]) == ""


def test_lines_are_for_people() -> None:
    log = "start\n\n 10%\r 20%\r 30%\r\nAZURE_CLIENT_SECRET=abc\naz login -u me -p abc --tenant t\n" + "x" * 200 + "\n"
    lines = podvm_image.readable(log)
    assert lines[:4] == ["start", "30%", "AZURE_CLIENT_SECRET=…", "az login -u me -p … --tenant t"]
    assert podvm_image.last_line(log) == "x" * 159 + "…"
    assert podvm_image.last_line("one\ntwo\n") == "two"
    assert podvm_image.last_line("\n") == ""


def test_the_first_error_is_told_with_the_last_lines() -> None:
    """A trace after it would push it out."""
    lines = ["2026-11-26T10:00:00Z INFO logging in", "2026-11-26T10:00:01Z ERROR Failed to login to Azure", *"abcdef"]
    assert podvm_image.told("\n".join(lines), 3) == ["ERROR Failed to login to Azure", "…", "e", "f"]
    assert podvm_image.told("\n".join(lines[:3]), 5) == ["INFO logging in", "ERROR Failed to login to Azure", "a"]
    assert podvm_image.told("", 5) == []
    assert podvm_image.last_line(lines[0]) == "INFO logging in"


@pytest.mark.parametrize(("log", "todo"), [
    ("Error: Failed to login to Azure", "coco_cloud_credentials"), ("AADSTS7000215: Invalid client secret", "coco_cloud_credentials"),
    ("Error: AZURE_CLIENT_SECRET is empty", "coco_cloud_credentials"), ("Error: AZURE_REGION is empty", "coco_peerpods"),
    ("Error: CLOUD_PROVIDER is empty or not set to azure", "CLOUD_PROVIDER"),
    ("ERROR: (AuthorizationFailed) The client does not have authorization\nFailed to create Azure image gallery", "Contributor"),
    ("Failed to create the storage account", "policies"), ("Failed to get the pod VM image x: manifest unknown", "pull secret"),
    ("something else", ""),
])
def test_hints(log: str, todo: str) -> None:
    assert todo in podvm_image.hint(log)
    assert bool(podvm_image.hint(log)) is bool(todo)


def status(value: str, reason: str = "", ready: int = 1) -> dict[str, Any]:
    return {"spec": {"enablePeerPods": True}, "metadata": {}, "status": {
        "conditions": [{"type": "InProgress", "status": value, "reason": reason}], "kataNodes": {"nodeCount": 1, "readyNodeCount": ready}}}


@pytest.mark.parametrize(("given", "settled", "due"), [
    (status("False"), True, True), (status("True", "Installing"), False, False), (status("False", ready=0), False, False),
    (status("True", "PodVMImageJobRunning"), False, True), (status("False", "BlockedByExistingKataPods"), False, False), ({}, False, False),
    ({**status("False"), "spec": {}}, True, False), ({**status("False"), "metadata": {"deletionTimestamp": "t"}}, True, False),
])
def test_when_the_job_is_looked_at(given: Any, settled: bool, due: bool) -> None:
    assert (podvm_image.settled(given), podvm_image.due(given)) == (settled, due)


def test_the_image_of_the_provider() -> None:
    assert podvm_image.image_of({"data": {"AZURE_IMAGE_ID": "/i"}}) == "/i"
    assert podvm_image.image_of({"data": {"CLOUD_PROVIDER": "aws", "AZURE_IMAGE_ID": "/i"}}) == ""
    assert podvm_image.image_of(None) == ""
