"""The pod VM image: made by the operator's job, given by its id, named by one pod."""

from __future__ import annotations

from typing import Any

from tests.integration.lab import Lab, Run
from tests.integration.test_kataconfig import OSC, boots, image
from tests.integration.test_workloads import recap

STEPS = ("--tags", "step05,step07,step08")
CREDENTIALS = {"AZURE_CLIENT_ID": "no-guid", "AZURE_CLIENT_SECRET": "not-a-real-secret-of-the-lab",
               "AZURE_TENANT_ID": "9d1e4b7c-55aa-4c1e-8f0b-7a6e3c2d1f00", "AZURE_SUBSCRIPTION_ID": "6f3a1c52-0b7d-4f0e-9a55-2d4c8e1b7a10"}
JOB = "osc-podvm-image-creation"
IMAGE = "io.katacontainers.config.hypervisor.image"


def pods(lab: Lab, label: str) -> set[str]:
    found = lab.request("GET", f"/api/v1/namespaces/{OSC}/pods?labelSelector={label.replace('=', '%3D')}")["items"]
    return {pod["metadata"]["uid"] for pod in found if not pod["metadata"].get("deletionTimestamp")}


def set_image(lab: Lab, value: str) -> None:
    assert lab.request("PATCH", f"/api/v1/namespaces/{OSC}/configmaps/peer-pods-cm", {"data": {"AZURE_IMAGE_ID": value}})


def lines(run: Run) -> list[str]:
    """What was shown of the job, in order."""
    return [line.partition(f"{JOB}: ")[2] for line in run.output.splitlines() if f"{JOB}: " in line and "·" not in line]


def test_a_job_that_fails_ends_the_run_with_its_own_words(deployed: Lab) -> None:
    """The operator goes on and looks installed in between (operators.md 3.4).

    The credentials are wrong before the id is cleared: an operator that has just been started might begin a job at once.
    """
    wrong = deployed.playbook("site", "--tags", "step05", variables={"coco_cloud_credentials": CREDENTIALS})
    assert wrong.code == 0, wrong.output
    set_image(deployed, "")
    run = deployed.playbook("site", *STEPS, variables={"coco_cloud_credentials": CREDENTIALS})
    assert run.code != 0, run.output
    said = " ".join(run.output.split())
    assert "The pod VM image was not built" in said
    assert "Failed to login to Azure" in said, run.output
    assert "Correct the credentials: coco_cloud_credentials" in said
    assert run.steps["08"]["result"] == "failed", run.output
    assert run.steps["08"]["seconds"] < 120, "long before coco_install_timeout"
    assert "not-a-real-secret" not in run.output
    file = deployed.state / "private" / "lab" / f"{JOB}.log"
    assert "Failed to login to Azure" in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600


def test_the_next_run_starts_the_job_again(deployed: Lab) -> None:
    before = boots(deployed)
    check = deployed.playbook("site", *STEPS, "--check")
    assert check.code == 0, check.output
    assert image(deployed) == ""
    run = deployed.playbook("site", *STEPS)
    assert run.code == 0, run.output
    assert f"the last {JOB} failed" in run.output, run.output
    assert "no-guid" not in run.output
    assert image(deployed).startswith("/subscriptions/")
    told = lines(run)
    assert told[-1] == f"the pod VM image is {image(deployed)}", run.output
    assert len(told) == len(set(told)) <= 14, told
    assert boots(deployed) == before
    again = deployed.playbook("site", *STEPS)
    assert (again.code, again.changed, lines(again)) == (0, {}, []), again.output


def test_an_image_of_ones_own_runs_no_job_and_can_be_taken_out_again(deployed: Lab) -> None:
    built, jobs, adaptor = image(deployed), pods(deployed, f"job-name={JOB}"), pods(deployed, "name=osc-caa-ds")
    given = built.replace("/versions/", "/versions/9")
    run = deployed.playbook("site", *STEPS, variables={"coco_peerpods_image_id": given})
    assert run.code == 0, run.output
    assert image(deployed) == given
    assert pods(deployed, f"job-name={JOB}") == jobs
    assert not adaptor & pods(deployed, "name=osc-caa-ds"), "its environment is frozen"
    adaptor = pods(deployed, "name=osc-caa-ds")
    run = deployed.playbook("site", *STEPS)
    assert run.code == 0, run.output
    assert "was given in the inventory and is no longer" in run.output
    assert image(deployed) == built
    assert len(pods(deployed, f"job-name={JOB}") - jobs) == 1
    told = lines(run)
    assert told[-1] == f"the pod VM image is {built}"
    assert any("running" in line or "starting" in line for line in told), told
    assert len(told) > 3, told
    assert len(told) == len(set(told)) <= 14, told
    assert f"Image {built} made" in (deployed.state / "private" / "lab" / f"{JOB}.log").read_text()
    assert not adaptor & pods(deployed, "name=osc-caa-ds"), "it must not go on with the given image"
    assert deployed.playbook("site", *STEPS).changed == {}


def kbs_access(lab: Lab, image_id: str, **more: Any) -> Run:
    return lab.playbook("workloads", "--tags", "kbs_access", variables={"workload_kbs_access_podvm_image_id": image_id, **more})


def test_the_image_of_one_pod(deployed: Lab) -> None:
    run = kbs_access(deployed, image(deployed))
    assert run.code == 0, run.output
    (pod,) = deployed.request("GET", "/api/v1/namespaces/kbs-access/pods")["items"]
    assert pod["metadata"]["annotations"][IMAGE] == image(deployed)
    assert recap(kbs_access(deployed, image(deployed)))["changed"] == 0
    run = kbs_access(deployed, image(deployed) + "9", workload_kbs_access_wait_timeout=20)
    assert run.code != 0
    said = " ".join(run.output.split())
    assert "GalleryImageNotFound" in said
    assert "annotation io.katacontainers.config.hypervisor.image" in said
    assert kbs_access(deployed, "", workload_kbs_access_state="absent").code == 0


def test_the_image_of_the_verification_pods(deployed: Lab) -> None:
    run = deployed.playbook("verify", "--tags", "step14", variables={"attestation_verify_podvm_image_id": image(deployed) + "9"})
    assert run.code != 0
    assert "the pod VM image does not exist" in " ".join(run.output.split())
    assert run.seconds < 60, "not after the whole coco_verify_timeout"
    run = deployed.playbook("verify", "--tags", "step14", variables={"attestation_verify_podvm_image_id": image(deployed)})
    assert run.code == 0, run.output
