"""Each step by its tag alone, in a run of its own, on the cluster that the steps before it left behind."""

from __future__ import annotations

import subprocess
import time

import pytest

from tests.integration.lab import ROOT, Lab, kill

STEPS = [f"{number:02d}" for number in range(1, 15)]


@pytest.mark.parametrize("step", STEPS)
def test_step_alone(virgin: Lab, step: str) -> None:
    run = virgin.playbook("site", "--tags", f"step{step}")
    assert run.code == 0, run.output
    assert run.steps[step]["result"] == "ok"
    if step == "14":
        assert run.verdict.startswith("the secret reached an attested pod")


def test_a_killed_run_resumes(running_lab: Lab) -> None:
    running_lab.lab("restore", "virgin")
    process = subprocess.Popen(["ansible-playbook", "-i", "inventories/lab", "playbooks/site.yml"], cwd=ROOT,
                               env=running_lab.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    path = "/apis/kataconfiguration.openshift.io/v1/kataconfigs"
    while time.monotonic() < deadline:
        found = running_lab.request("GET", path)
        if found and found["items"]:
            break
        time.sleep(0.2)
    else:
        raise AssertionError("step 8 did not begin")
    kill(process)
    run = running_lab.playbook("site")
    assert run.code == 0, run.output
    assert run.verdict.startswith("the secret reached an attested pod")


def test_a_run_killed_before_step_12_still_restarts_the_kbs(deployed: Lab) -> None:
    """What a step changed is read off the cluster by step 12, not remembered by the run that changed it.

    The content of a Secret that is mounted already: only the age of the pod tells, the Deployment stays as it was.
    """
    namespace = "/api/v1/namespaces/trustee-operator-system"
    pods = f"{namespace}/pods?labelSelector=app%3Dkbs"
    before: set[str] = set()
    for word in ("open-sesame-41", "open-sesame-42"):
        before = {pod["metadata"]["uid"] for pod in deployed.request("GET", pods)["items"]}
        variables = {"coco_resources": {"mine": {"word": word}}}
        for step in ("step11", "step12"):
            run = deployed.playbook("site", "--tags", step, variables=variables)
            assert run.code == 0, run.output
    assert "is older than" in run.output
    assert not before & {pod["metadata"]["uid"] for pod in deployed.request("GET", pods)["items"]}
    again = deployed.playbook("site", "--tags", "step12", variables=variables)
    assert again.changed == {}
