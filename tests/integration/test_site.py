"""The main job: check mode, first run, second run, the proof."""

from __future__ import annotations

import shutil

import pytest

from tests.integration.lab import Lab

STEPS = [f"{number:02d}" for number in range(1, 15)]


def test_check_mode_on_a_virgin_cluster_writes_nothing(virgin: Lab) -> None:
    mark = virgin.mark
    run = virgin.playbook("site", "--check", "--diff")
    assert run.code == 0, run.output
    assert [f"{e['verb']} {e['requestURI']}" for e in virgin.writes(mark)] == []
    assert sorted(run.steps) == STEPS
    assert "not verified" in run.verdict
    assert "PRIVATE KEY" not in run.output


def test_first_run_ends_with_the_proof(virgin: Lab) -> None:
    run = virgin.playbook("site", "--diff")
    assert run.code == 0, run.output
    assert {number: step["result"] for number, step in run.steps.items()} == dict.fromkeys(STEPS, "ok")
    assert run.verdict.startswith("the secret reached an attested pod (sha256 compared inside the pod)")
    assert run.verdict.endswith("the KBS refused the pod with tampered initdata")
    assert "PRIVATE KEY" not in run.output
    virgin.lab("snapshot", "deployed")


def test_second_run_changes_nothing(deployed: Lab) -> None:
    before, mark = deployed.owned(), deployed.mark
    run = deployed.playbook("site")
    assert run.code == 0, run.output
    assert run.changed == {}
    assert sorted(run.steps) == STEPS
    assert before
    assert deployed.owned() == before
    # Beside applies that change nothing, the probes of step 14 are the only writes.
    kinds = {event["objectRef"]["resource"] for event in deployed.writes(mark) if event["verb"] != "patch"}
    assert kinds == {"pods"}


def test_no_secret_reaches_the_output_of_a_verbose_run(deployed: Lab) -> None:
    """Private keys and secret values as the cluster and the state directory hold them, against -vvv --diff."""
    run = deployed.playbook("site", "--diff", "-vvv", "--skip-tags", "step14")
    assert run.code == 0, run.output
    secrets = deployed.request("GET", "/api/v1/namespaces/trustee-operator-system/secrets")["items"]
    values = {value for secret in secrets for key, value in (secret.get("data") or {}).items()
              if "PRIVATE" in _decoded(value) or "probe" in secret["metadata"]["name"] or "client" in key.lower()}
    assert values
    for value in values:
        assert value not in run.output
        assert _decoded(value).strip().splitlines()[-2 if "PRIVATE" in _decoded(value) else 0] not in run.output


def _decoded(value: str) -> str:
    import base64

    return base64.b64decode(value).decode(errors="replace")


@pytest.mark.parametrize("step", STEPS)
def test_a_step_alone_on_a_deployed_cluster_changes_nothing(deployed: Lab, step: str) -> None:
    run = deployed.playbook("site", "--tags", f"step{step}")
    assert run.code == 0, run.output
    assert run.changed == {}
    assert run.steps[step]["result"] == "ok"


def test_a_controller_without_private_state_keeps_what_the_hub_has(deployed: Lab) -> None:
    """A job in a throw-away container: nothing is made anew silently, and only what needs a private half would fail."""
    private = deployed.state / "private"
    private.rename(deployed.state / "elsewhere")
    before = deployed.owned()
    try:
        run = deployed.playbook("site")
        assert run.code == 0, run.output
        assert run.changed == {}
        assert deployed.owned() == before
        assert "is not at hand" in run.output
        assert run.verdict.startswith("the secret reached an attested pod")
        refused = deployed.playbook("rotate", variables={"coco_rotate": "authority"})
        assert refused.code != 0
        assert deployed.owned() == before
    finally:
        shutil.rmtree(private, ignore_errors=True)
        (deployed.state / "elsewhere").rename(private)
