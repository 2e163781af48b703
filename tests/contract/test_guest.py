# ruff: noqa: F811 (the imported fixture is an argument)
"""lab-guest beside the pod VM of OSC 1.11: kata agent, its policy, and what containers get of the guest components."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.contract.cluster import until
from tests.contract.deployed import (
    ANNOTATION,
    SECRET,
    changed,
    deployed,  # noqa: F401
    encoded,
    execute,
    get,
    globally,
    log,
    pod,
    ready,
    waiting,
)
from tests.integration.lab import Lab

API = "http://127.0.0.1:8006"
KEY = "/cdh/resource/default/contract/key"
RUNNING = ("attested", "tampered", "image", "sparse", "lenient", "answering")
# Without Exec and ReadStream (trustee.md 8, what a plain pod needs at least).
NEEDED = ("CreateSandbox", "CreateContainer", "StartContainer", "RemoveContainer", "DestroySandbox", "SignalProcess", "WaitProcess",
          "StatsContainer", "GetOOMEvent", "GuestDetails", "OnlineCPUMem", "UpdateInterface", "UpdateRoutes",
          "UpdateEphemeralMounts", "TtyWinResize", "PullImage", "CopyFile")
SPARSE = "package agent_policy\n\n" + "".join(f"default {name}Request := true\n" for name in NEEDED)


def documents(opened: str) -> dict[str, str | None]:
    """The document of each pod; None: the global one, which the hub expects and which opens exec and logs."""
    policy = opened[opened.index("package agent_policy"):opened.rindex("'''")]
    return {
        "attested": None,
        "tampered": changed(opened, policy),
        "newline": f"{opened}\n",
        "image": changed(opened, None),
        "sparse": changed(opened, SPARSE),
        "lenient": changed(opened, f"{SPARSE}default AllowRequestsFailingPolicy := true\n"),
        "answering": changed(opened, f'{SPARSE}ExecProcessRequest = {{"allowed": true, "ops": []}}\n'),
        "blocked": changed(opened, policy.replace("CreateContainerRequest := true", "CreateContainerRequest := false")),
    }


@pytest.fixture(scope="module")
def pods(deployed: Lab) -> Iterator[Lab]:
    """The lab with one pod a document, all started at once."""
    with ExitStack() as stack:
        for name, document in documents(globally(deployed)).items():
            stack.enter_context(pod(deployed, name, {} if document is None else {ANNOTATION: encoded(document)}))
        until(lambda: all(ready(deployed, name) for name in RUNNING), 90)
        yield deployed


def fetch(lab: Lab, name: str, path: str) -> tuple[int, str]:
    """Status and text of a GET by a process in a pod."""
    code, said = execute(lab, name, "curl", "-s", "-m", "60", "-w", "\n%{http_code}", f"{API}{path}")
    assert code == 0, said
    text, _, status = said.rpartition("\n")
    return int(status), text


def part(token: str) -> dict[str, Any]:
    """The claims of a JWT."""
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(f"{token.split('.')[1]}=="))
    return claims


@pytest.mark.parametrize("name", ["image", "sparse"])
def test_exec_and_logs_are_refused(pods: Lab, name: str) -> None:
    """Without a policy in the document the image's, which allows all but these two; one that does not define a request denies
    it; ``<RequestName> is blocked by policy: <prints>`` (trustee.md 8). The log of a refused ReadStream is empty."""
    with pytest.raises(ValueError, match=r"PermissionDenied.*ExecProcessRequest is blocked by policy: "):
        execute(pods, name, "echo", "in")
    assert log(pods, name) == ""


def test_requests_failing_the_policy(pods: Lab) -> None:
    """AllowRequestsFailingPolicy lets through what is not defined (trustee.md 8)."""
    assert execute(pods, "lenient", "echo", "in") == (0, "in\n")
    until(lambda: log(pods, "lenient") == "started\n")


def test_policy_that_answers_with_an_object(pods: Lab) -> None:
    """``{"allowed": bool, "ops": […]}`` is an answer too (trustee.md 8); what the policy leaves out stays denied."""
    assert execute(pods, "answering", "echo", "in") == (0, "in\n")
    assert log(pods, "answering") == ""


def test_create_container_blocked(pods: Lab) -> None:
    """CreateContainerRequest false blocks every container (trustee.md 8, the guide's "strict" example)."""
    reason, message = until(lambda: (seen := waiting(pods, "blocked")) and "blocked by" in seen[1] and seen)
    assert reason == "CreateContainerError"
    assert "CreateContainerRequest is blocked by policy: " in message
    assert not ready(pods, "blocked")


def test_resource(pods: Lab) -> None:
    """An attested guest gets the bytes of a resource; of a failure the text says only the top (trustee.md 7.1)."""
    assert fetch(pods, "attested", KEY) == (200, SECRET)
    status, text = fetch(pods, "attested", "/cdh/resource/default/contract/none")
    assert status == 500
    assert "[CDH] [ERROR]: Get Resource failed" in text
    assert "401" not in text
    assert SECRET not in str(get(pods, "attested"))


def test_token(pods: Lab) -> None:
    """``token`` and ``tee_keypair`` (7.1); EAR, affirming: the digest and the image are the expected ones (5.1)."""
    for kind in ("kbs", "coco_as"):
        status, text = fetch(pods, "attested", f"/aa/token?token_type={kind}")
        assert status == 200
        said = json.loads(text)
        assert set(said) == {"token", "tee_keypair"}
        assert re.match(r"-----BEGIN (EC )?PRIVATE KEY-----\n", said["tee_keypair"])
        claims = part(said["token"])
        assert claims["eat_profile"] == "tag:github.com,2024:confidential-containers/Trustee"
        assert claims["exp"] > claims["iat"]
        assert {module: found["ear.status"] for module, found in claims["submods"].items()} == {"cpu0": "affirming"}


@pytest.mark.parametrize(("path", "status", "words"), [
    ("/aa/evidence?runtime_data=contract", 200, "{"), ("/aa/token?token_type=other", 400, "BAD REQUEST"),
    ("/aa/nothing", 404, "URL NOT FOUND"), ("/", 404, "URL NOT FOUND"),
])
def test_other_answers(pods: Lab, path: str, status: int, words: str) -> None:
    """The tables of trustee.md 7.1."""
    got, text = fetch(pods, "attested", path)
    assert got == status
    assert text.startswith(words)


def test_tampered_document_gets_no_resource(pods: Lab) -> None:
    """Other bytes, another PCR 8: the guest still attests, but is not affirming, and the KBS keeps the resource back
    (deployment.md 6.1, 6.3, 6.6)."""
    status, text = fetch(pods, "tampered", KEY)
    assert status == 500
    assert "[CDH] [ERROR]: Get Resource failed" in text
    assert SECRET not in text
    status, text = fetch(pods, "tampered", "/aa/token?token_type=kbs")
    assert status == 200
    assert part(json.loads(text)["token"])["submods"]["cpu0"]["ear.status"] != "affirming"


def test_one_newline_more(pods: Lab) -> None:
    """One trailing newline changes everything (deployment.md 6.4): the image policy is not given, which stops the pod before the
    pull (trustee.md 7.3)."""
    reason, message = until(lambda: (seen := waiting(pods, "newline")) and "[CDH]" in seen[1] and seen)
    assert reason == "CreateContainerError"
    assert "[CDH] [ERROR]: Image Pull error" in message
    assert not ready(pods, "newline")
