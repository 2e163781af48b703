"""attestation_check: each layer of Trustee that can fail is told from the others; the proof holds in both directions."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.confidential.containers.plugins.module_utils import (
    initdata,
    measurements,
    probe_pods,
    probe_trustee,
    releases,
    rvps,
)
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError
from tests.fake_api import Authority, FakeApi
from tests.fake_api.kbs import FakeKbs, error, silent
from tests.fake_api.store import Object

RELEASE, TRUSTEE, HOST = "1.11/1.0", "trustee-operator-system", "kbs.lab.test"
TOML = b"""algorithm = "sha256"
version = "0.1.0"

[data]
"cdh.toml" = '''
[image]
image_security_policy_uri = "kbs:///default/security-policy/production"
'''
"""
PCR8 = measurements.pcr8(initdata.digest(TOML))


def obj(api_version: str, kind: str, name: str, namespace: str = TRUSTEE, **more: Any) -> Object:
    labels = {"labels": more.pop("labels")} if "labels" in more else {}
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": namespace, **labels}, **more}


def values(pcr8: str = PCR8, expiration: str = "2099-01-01T00:00:00Z") -> dict[str, str]:
    names = {f"snp_pcr{number:02d}": ["0" * 63 + "1"] for number in (3, 9, 11, 12)}
    return rvps.render({**names, "snp_pcr08": [pcr8]}, expiration, releases.parse(RELEASE).trustee)


@pytest.fixture(autouse=True)
def hub(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    """A hub as steps 1 to 12 leave it."""
    monkeypatch.setattr(probe_trustee, "REACHABLE", 0)
    for name, data in (("config", {"kbs-config.toml": "x"}), ("attestation", {"default_cpu.rego": "x"}), ("resource", {"policy.rego": "x"}),
                       ("rvps-reference-values", values())):
        api.put(obj("v1", "ConfigMap", name, data=data))
    api.put(obj("confidentialcontainers.org/v1alpha1", "KbsConfig", "kbsconfig", spec={
        "kbsConfigMapName": "config", "kbsAttestationPolicyConfigMapName": "attestation", "kbsResourcePolicyConfigMapName": "resource",
        "kbsRvpsRefValuesConfigMapName": "rvps-reference-values"}))
    api.put(obj("apps/v1", "Deployment", "trustee-deployment", spec={"replicas": 1},
                status={"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}))
    api.put(obj("v1", "Pod", "kbs-1", labels={"app": "kbs"}))
    api.put(obj("v1", "Secret", "coco-verification", data={"random": base64.b64encode(b"very-private-random").decode()}))
    api.logs["kbs-1"] = ""
    return api


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def kbs(authority: Authority) -> Iterator[FakeKbs]:
    with FakeKbs(authority.server(HOST)) as server:
        yield server


@pytest.fixture
def check(call: Any, kbs: FakeKbs, authority: Authority) -> Any:
    def run(**options: Any) -> Object:
        given = {"mode": "trustee", "release": RELEASE, "kbs_url": f"https://{HOST}", "ca_certificate": authority.pem,
                 "connect_to": kbs.address, "request_timeout": 1, "timeout": 0}
        result: Object = call("attestation_check", **{**given, **options})
        return result
    return run


def failed(raised: Any) -> list[str]:
    return [item["name"] for item in raised.value.details["checks"] if item["ok"] is False]


# Trustee --------------------------------------------------------------------------------------------------------------

def test_healthy(check: Any, kbs: FakeKbs, lines: list[str]) -> None:
    result = check()
    assert (result["verdict"], result["changed"], result["mode"]) == ("healthy", False, "trustee")
    assert [item["name"] for item in result["checks"]] == [
        "KbsConfig exists", "config has kbs-config.toml", "attestation has default_cpu.rego", "resource has policy.rego",
        "reference values are in force", "trustee-deployment is ready", "the KBS is reached under its name",
        "the KBS speaks the release's protocol", "administration needs a key", "evidence of the sample attester gets nothing",
        "a forged token gets nothing"]
    assert all(item["ok"] for item in result["checks"])
    assert "the KBS is reached under its name: ok https://kbs.lab.test" in lines
    (evidence,) = [body for _method, path, body in kbs.requests if path == "/kbs/v0/attest"]
    assert evidence["runtime-data"]["nonce"] == "bm9uY2U="


@pytest.mark.parametrize("mode", ["trustee", "pods"])
def test_check_mode_verifies_nothing(api: FakeApi, check: Any, kbs: FakeKbs, mode: str) -> None:
    result = check(check=True, mode=mode, namespace="n", initdata="x")
    assert result == {"changed": False, "mode": mode, "verdict": "not verified", "checks": []}
    assert not api.requests
    assert not kbs.requests


def test_no_kbsconfig(api: FakeApi, check: Any) -> None:
    with pytest.raises(CocoError, match=r"Trustee is not as it must be · KbsConfig exists: there is no KbsConfig · Run step 12") as raised:
        check(kbsconfig="other")
    assert raised.value.details["verdict"] == "broken"
    assert len(raised.value.details["checks"]) == 1


@pytest.mark.parametrize(("name", "step"), [("config", "step10"), ("attestation", "step11"), ("resource", "step11")])
def test_a_file_under_a_key_that_the_release_does_not_read(api: FakeApi, check: Any, name: str, step: str) -> None:
    api.put(obj("v1", "ConfigMap", name, data={"kbs-config.toml": None, "default_cpu.rego": None, "policy.rego": None, "another": "x"}))
    with pytest.raises(CocoError, match=f"--tags {step},step12") as raised:
        check()
    assert len(failed(raised)) == 1
    assert len(raised.value.details["checks"]) == 11, "what can still be probed is probed"


@pytest.mark.parametrize(("data", "name", "text"), [
    (values(expiration="2020-01-01T00:00:00Z"), "reference values are in force", "expired"),
    ({"reference-values.json": "no json"}, "reference values can be read", "no json|JSON"),
])
def test_reference_values(api: FakeApi, check: Any, data: dict[str, str], name: str, text: str) -> None:
    api.put(obj("v1", "ConfigMap", "rvps-reference-values", data=data))
    with pytest.raises(CocoError, match=text) as raised:
        check()
    assert failed(raised) == [name]


def test_reference_values_that_expire_soon_are_a_warning(api: FakeApi, check: Any, lines: Any) -> None:
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 86400))
    api.put(obj("v1", "ConfigMap", "rvps-reference-values", data=values(expiration=soon)))
    assert check()["verdict"] == "healthy"
    assert lines.warnings


def test_a_deployment_that_crashes_says_why(api: FakeApi, check: Any, kbs: FakeKbs) -> None:
    api.put(obj("apps/v1", "Deployment", "trustee-deployment", status={"availableReplicas": 0}))
    api.logs["kbs-1"] = 'Error: configuration file "/etc/kbs-config/kbs-config.toml" not found'
    with pytest.raises(CocoError, match=r"trustee-deployment is ready: the config map lacks the key kbs-config.toml") as raised:
        check()
    assert failed(raised) == ["trustee-deployment is ready"]
    assert not kbs.requests, "a layer that fails ends those above it"


def test_a_deployment_that_is_not_ready_for_no_known_reason(api: FakeApi, check: Any) -> None:
    api.put(obj("apps/v1", "Deployment", "trustee-deployment", status={"availableReplicas": 0}))
    with pytest.raises(CocoError, match="the deployment is not ready: 0 of 1 replicas available · Look at the log of the pods"):
        check()


def test_the_deployment_gets_some_time(api: FakeApi, check: Any) -> None:
    api.put(obj("apps/v1", "Deployment", "trustee-deployment", status={"availableReplicas": 0}))
    api.later(0.5, api.put, obj("apps/v1", "Deployment", "trustee-deployment", status={"availableReplicas": 1}))
    assert check(timeout=10)["verdict"] == "healthy"


def unreachable(check: Any, text: str, **options: Any) -> CocoError:
    with pytest.raises(CocoError, match=text) as raised:
        check(**options)
    assert failed(raised) == ["the KBS is reached under its name"]
    assert raised.value.details["verdict"] == "broken"
    return raised.value


def test_a_name_that_does_not_resolve(check: Any) -> None:
    error_ = unreachable(check, "the name kbs.no-such.invalid cannot be resolved", kbs_url="https://kbs.no-such.invalid", connect_to="")
    assert "coco_kbs_connect_to" in error_.todo


def test_nothing_listens(check: Any) -> None:
    assert "Check the Route, the router" in unreachable(check, r"127\.0\.0\.1:1: .*refused", connect_to="127.0.0.1:1").todo


def test_a_router_that_follows_late_is_waited_for(check: Any, kbs: FakeKbs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_trustee, "REACHABLE", 0.8)
    started = time.monotonic()
    unreachable(check, "refused", connect_to="127.0.0.1:1")
    assert time.monotonic() - started > 0.8


@pytest.mark.parametrize("wrong", ["authority", "name"])
def test_a_certificate_of_somebody_else(check: Any, authority: Authority, tmp_path: Path, wrong: str,
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    """That does not pass by waiting."""
    monkeypatch.setattr(probe_trustee, "REACHABLE", 20)
    started = time.monotonic()
    other = Authority(tmp_path, "other").server(HOST) if wrong == "authority" else authority.server("elsewhere.test")
    with FakeKbs(other) as stranger:
        found = unreachable(check, "shows another certificate than the inventory's authority signed", connect_to=stranger.address)
    assert "Run step 2 and 12" in found.todo
    assert not stranger.requests
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_bundles_of_the_environment_play_no_part(check: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, str(Authority(tmp_path, "company").ca))
    assert check()["verdict"] == "healthy"


def test_a_server_that_does_not_speak_tls(check: Any) -> None:
    with FakeKbs(None) as plain:
        unreachable(check, "the TLS handshake with kbs.lab.test at .* failed", connect_to=plain.address)


def test_it_accepts_and_never_answers(check: Any, kbs: FakeKbs) -> None:
    """Not even in the handshake, or only after it (a deadlock): the same symptom and hint, but another layer."""
    started = time.monotonic()
    with silent() as address:
        hint = unreachable(check, "accepts connections and does not answer: it may be deadlocked", connect_to=address,
                           request_timeout=1).todo
    kbs.mute = True
    with pytest.raises(CocoError, match="accepts connections and does not answer: it may be deadlocked") as raised:
        check()
    assert failed(raised) == ["the KBS answers"]
    assert raised.value.todo == hint == "Delete the pods with label app=kbs in the Trustee namespace."
    assert time.monotonic() - started < 8


def test_another_release_answers(check: Any, kbs: FakeKbs) -> None:
    kbs.protocol = "0.2.0"
    with pytest.raises(CocoError, match=r"it demands 0\.2\.0, Trustee 1\.0 has 0\.4\.0") as raised:
        check()
    assert failed(raised) == ["the KBS speaks the release's protocol"]


def test_401_to_everything(check: Any, kbs: FakeKbs) -> None:
    """Something that only refuses is no KBS of this release, and nothing it refuses proves anything good."""
    for path in ("POST /kbs/v0/auth", "POST /kbs/v0/attest"):
        kbs.answers[path] = (401, error("Unauthorized", "no"))
    with pytest.raises(CocoError, match="it demands something else"):
        check()


@pytest.mark.parametrize(("path", "answer", "name"), [
    ("GET /kbs/v0/resource-policy", (200, {}), "administration needs a key"),
    ("GET /kbs/v0/resource/default/coco-verification/random", (200, "secret"), "evidence of the sample attester gets nothing"),
])
def test_what_is_given_away_is_insecure(check: Any, kbs: FakeKbs, path: str, answer: tuple[int, Any], name: str) -> None:
    kbs.answers[path] = answer
    with pytest.raises(CocoError) as raised:
        check()
    assert raised.value.details["verdict"] == "insecure"
    assert name in failed(raised)


def test_a_forged_token_that_is_believed(check: Any, kbs: FakeKbs) -> None:
    kbs.answers["POST /kbs/v0/attest"] = (401, error("VerifyError", "no sample attester"))
    kbs.answers["GET /kbs/v0/resource/default/coco-verification/random"] = (200, "secret")
    with pytest.raises(CocoError, match="the KBS accepts any token that carries its own key") as raised:
        check()
    assert failed(raised) == ["a forged token gets nothing"]


def test_a_resource_policy_that_gives_no_answer(check: Any, kbs: FakeKbs) -> None:
    kbs.answers["GET /kbs/v0/resource/default/coco-verification/random"] = (401, error("PolicyEngine", "evaluation"))
    with pytest.raises(CocoError, match="the resource policy gives no answer") as raised:
        check()
    assert failed(raised) == ["the resource policy can be evaluated"]


@pytest.mark.parametrize(("options", "text"), [
    ({"kbs_url": "kbs.lab.test"}, "its URL is 'kbs.lab.test'"), ({"connect_to": "somewhere"}, "connect-to address is 'somewhere'"),
    ({"ca_certificate": "no pem"}, "the given authority is no PEM"),
])
def test_unusable_options(check: Any, options: Object, text: str) -> None:
    with pytest.raises(CocoError, match=text):
        check(**options)


def test_a_cluster_that_refuses(api: FakeApi, check: Any) -> None:
    api.forbidden.add(("get", "kbsconfigs"))
    with pytest.raises(CocoError, match="The verification could not be carried out · the credentials may not do this"):
        check()


# Pods -----------------------------------------------------------------------------------------------------------------

def world(api: FakeApi, attested: Object | None = None, log: str = "denied", tampered: Object | None = None) -> list[str]:
    """Runs probe pods: the attested one ends with a status, the tampered one leaves a line in the KBS's log. Names as they come."""
    seen: list[str] = []

    def react(event: str, pod: Object) -> None:
        if event == "ADDED" and pod["kind"] == "Namespace":
            api.put(obj("v1", "ServiceAccount", "default", pod["metadata"]["name"]))
        role = (pod["metadata"].get("labels") or {}).get(probe_pods.LABEL)
        if event != "ADDED" or not role:
            return
        seen.append(pod["metadata"]["name"])
        toml, _encoding = initdata.decode(pod["metadata"]["annotations"][releases.parse(RELEASE).osc.initdata_annotation])
        if role == "attested":
            assert toml == TOML
            api.put({**pod, "status": attested or {"phase": "Succeeded"}})
            return
        assert toml != TOML
        found = re.search(r"kbs:///(default/security-policy/probe-[^'\"]+)", toml.decode())
        assert found
        size = {"denied": 110, "passed": 117}.get(log, 0)
        if size:
            api.logs["kbs-1"] += f'10.0.0.1 "GET /kbs/v0/resource/{found[1]} HTTP/1.1" 401 {size} "-" "attestation-agent"\n'
        api.put({**pod, "status": tampered or {"phase": "Pending"}})

    api.reactors.append(react)
    return seen


@pytest.fixture
def prove(call: Any) -> Any:
    def run(**options: Any) -> Object:
        given = {"mode": "pods", "release": RELEASE, "namespace": "coco-verify", "initdata": initdata.encode(TOML, "gzip+base64"),
                 "timeout": 3}
        result: Object = call("attestation_check", **{**given, **options})
        return result
    return run


def probes(api: FakeApi) -> list[str]:
    return [key[3] for key in api.objects if key[1] == "pods" and key[2] == "coco-verify"]


def sizes() -> tuple[int, int]:
    """The bodies of the KBS's two answers, as its own serializer writes them."""
    denied = {"type": "https://github.com/confidential-containers/kbs/errors/PolicyDeny", "detail": "Access denied by policy"}
    missing = {"type": "https://github.com/confidential-containers/kbs/errors/PluginInternalError", "detail": "Plugin internal error"}
    return (len(json.dumps(denied, separators=(",", ":"))), len(json.dumps(missing, separators=(",", ":"))))


def test_the_proof(api: FakeApi, prove: Any, lines: list[str]) -> None:
    seen = world(api)
    result = prove()
    assert (result["verdict"], result["changed"], result["sha256_compared_in_pod"]) == ("attested", False, True)
    assert [(item["name"], item["ok"]) for item in result["checks"]] == [
        ("the secret reaches an attested pod", True), ("a tampered pod is refused", True)]
    assert [name.split("-")[1] for name in seen] == ["attested", "tampered"]
    assert probes(api) == [], "probes are removed"
    sent = json.dumps([r.body for r in api.writes()])
    assert "very-private-random" not in sent
    assert base64.b64encode(b"very-private-random").decode() not in sent


def test_the_sizes_are_the_kbss() -> None:
    assert sizes() == (110, 117)


def test_the_pods_are_removed_after_a_failure_and_those_of_a_killed_run_before(api: FakeApi, prove: Any) -> None:
    api.put(obj("v1", "Pod", "probe-old", "coco-verify", labels={probe_pods.LABEL: "attested"}))
    world(api, attested={"phase": "Failed", "containerStatuses": [{"name": "probe", "state": {"terminated": {"exitCode": 21}}}]})
    with pytest.raises(CocoError) as raised:
        prove()
    assert raised.value.details["verdict"] == "not proven"
    assert probes(api) == []


@pytest.mark.parametrize(("code", "log", "text"), [
    (21, "", "the pod could not fetch the secret: the KBS saw no request"),
    (22, "x", "the pod fetched other bytes than the hub's secret"),
    (21, "PolicyDeny", "the KBS denied it by policy: the evidence does not match the reference values"),
    (21, "KBS Client Protocol Version Mismatch: expect =0.4.0", "guest and KBS are of different releases"),
])
def test_why_the_secret_did_not_arrive(api: FakeApi, prove: Any, code: int, log: str, text: str) -> None:
    api.logs["kbs-1"] = log
    world(api, attested={"phase": "Failed", "containerStatuses": [{"name": "probe", "state": {"terminated": {"exitCode": code}}}]})
    with pytest.raises(CocoError, match=f"The secret did not reach the attested pod · .*{text}"):
        prove()


def test_a_document_that_the_hub_does_not_accept_is_named(api: FakeApi, prove: Any) -> None:
    api.put(obj("v1", "ConfigMap", "rvps-reference-values", data=values("f" * 64)))
    world(api, attested={"phase": "Failed", "containerStatuses": [{"name": "probe", "state": {"terminated": {"exitCode": 21}}}]})
    with pytest.raises(CocoError, match=f"PCR 8 of this initdata .{PCR8}. is not among the reference values"):
        prove()


def test_a_pod_that_never_starts(api: FakeApi, prove: Any) -> None:
    world(api, attested={"phase": "Pending", "containerStatuses": [{"name": "probe",
                                                                    "state": {"waiting": {"reason": "ContainerCreating"}}}]})
    api.put(obj("v1", "Event", "e", "coco-verify"))
    with pytest.raises(CocoError, match="The secret did not reach the attested pod"):
        prove(timeout=1)
    assert probes(api) == []


def test_probes_with_an_image_of_their_own(api: FakeApi, prove: Any) -> None:
    world(api)
    prove()
    prove(podvm_image_id="/subscriptions/s/other")
    sent = [r.body["metadata"]["annotations"].get("io.katacontainers.config.hypervisor.image") for r in api.writes()
            if r.method == "POST" and r.body["kind"] == "Pod"]
    assert sent == [None, None, "/subscriptions/s/other", "/subscriptions/s/other"]


def test_an_image_that_does_not_exist_is_not_waited_for(api: FakeApi, prove: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod whose sandbox cannot be made stays Pending; only its events say why."""
    monkeypatch.setattr(probe_pods, "EVENTS", 0.2)
    seen = world(api, attested={"phase": "Pending"})

    def react(event: str, pod: Object) -> None:
        if event == "ADDED" and pod["metadata"]["name"] in seen:
            words = "failed to create pod sandbox: GalleryImageNotFound: The gallery image /x is not available"
            api.put({**obj("v1", "Event", "e", "coco-verify"), "type": "Warning", "reason": "FailedCreatePodSandBox",
                     "message": words, "involvedObject": {"kind": "Pod", "name": pod["metadata"]["name"]}})
    api.reactors.append(react)
    began = time.monotonic()
    with pytest.raises(CocoError, match=r"the pod VM image does not exist.*Correct the id: of the pod"):
        prove(timeout=60)
    assert time.monotonic() - began < 20
    assert probes(api) == []


@pytest.mark.parametrize(("log", "tampered", "text"), [
    ("passed", {}, "a pod with tampered initdata was served: initdata is not enforced"),
    ("", {"phase": "Running"}, "a pod with tampered initdata was served: initdata is not enforced"),
    ("", {"phase": "Pending"}, "the KBS saw no request of the tampered pod, so nothing is proven"),
])
def test_a_refusal_that_is_not_proven(api: FakeApi, prove: Any, log: str, tampered: Object, text: str) -> None:
    world(api, log=log, tampered=tampered)
    with pytest.raises(CocoError, match=f"The refusal of a tampered pod is not proven · .*{text}") as raised:
        prove(timeout=1)
    assert [item["ok"] for item in raised.value.details["checks"]] == [True, False]
    assert probes(api) == []


def test_a_probe_that_stays_is_a_warning(api: FakeApi, prove: Any, lines: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_pods, "GONE", 0)
    world(api)
    whole = api.create

    def create(made: Object, *more: Any, **named: Any) -> Object:
        if made["kind"] == "Pod":
            made = {**made, "metadata": {**made["metadata"], "finalizers": ["a/b"]}}
        return whole(made, *more, **named)

    monkeypatch.setattr(api, "create", create)
    assert prove()["verdict"] == "attested"
    assert "A probe pod was left behind" in lines.warnings[0]


def test_a_starting_webhook_is_waited_for(api: FakeApi, prove: Any) -> None:
    world(api)
    body = {"reason": "InternalError", "message": 'failed calling webhook "mwebhook.peerpods.io"'}
    api.script("POST", "/pods$", 500, body)
    assert prove()["verdict"] == "attested"


def test_no_secret_to_compare(api: FakeApi, prove: Any) -> None:
    api.delete(("v1", "secrets", TRUSTEE, "coco-verification"))
    with pytest.raises(CocoError, match="the hub has no Secret coco-verification with key random · Run step 11"):
        prove()
    assert not api.writes()


def test_a_document_without_an_image_policy(prove: Any) -> None:
    toml = b'algorithm = "sha256"\nversion = "0.1.0"\n\n[data]\n"aa.toml" = "x"\n'
    with pytest.raises(CocoError, match="names no image_security_policy_uri"):
        prove(initdata=initdata.encode(toml, "gzip+base64"))


def test_hub_and_spoke_are_two_clusters(api: FakeApi, prove: Any) -> None:
    """The spoke has no Trustee; whatever is read of it comes from the hub."""
    with FakeApi() as spoke:
        world_of_spoke = world(spoke, log="")

        def copy(event: str, pod: Object) -> None:
            if event == "ADDED" and (pod["metadata"].get("labels") or {}).get(probe_pods.LABEL) == "tampered":
                toml, _encoding = initdata.decode(next(iter(pod["metadata"]["annotations"].values())))
                found = re.search(r"kbs:///(default/security-policy/probe-[^'\"]+)", toml.decode())
                assert found
                api.logs["kbs-1"] += f'"GET /kbs/v0/resource/{found[1]} HTTP/1.1" 401 110\n'

        spoke.reactors.append(copy)
        assert prove(kubeconfig=spoke.kubeconfig(), hub_kubeconfig=api.kubeconfig())["verdict"] == "attested"
        assert len(world_of_spoke) == 2
    assert not api.writes()


# Pods, where the KBS is run by others ---------------------------------------------------------------------------------

def ended(code: int) -> Object:
    state = {"terminated": {"exitCode": code}}
    return {"phase": "Failed" if code else "Succeeded", "containerStatuses": [{"name": "probe", "state": state}]}


def foreign(api: FakeApi, tampered: Object) -> list[Object]:
    """Runs probe pods; what the tampered one says of itself. The pods as they come."""
    seen: list[Object] = []

    def react(event: str, pod: Object) -> None:
        if event == "ADDED" and pod["kind"] == "Namespace":
            api.put(obj("v1", "ServiceAccount", "default", pod["metadata"]["name"]))
        role = (pod["metadata"].get("labels") or {}).get(probe_pods.LABEL)
        if event == "ADDED" and role:
            seen.append(pod)
            api.put({**pod, "status": {"phase": "Succeeded"} if role == "attested" else tampered})

    api.reactors.append(react)
    return seen


def test_the_proof_without_a_hub(api: FakeApi, prove: Any) -> None:
    """Only the spoke is asked; the tampered document lets the container start, and the container tells."""
    api.delete(("v1", "secrets", TRUSTEE, "coco-verification"))
    seen = foreign(api, ended(31))
    result = prove(without_hub=True, sha256="AB" * 32, resource="default/given/one")
    assert result["verdict"] == "attested"
    attested, tampered = seen
    assert attested["spec"]["containers"][0]["env"] == [{"name": "EXPECTED_SHA256", "value": "ab" * 32}]
    toml, _encoding = initdata.decode(next(iter(tampered["metadata"]["annotations"].values())))
    assert b"insecureAcceptAnything" in toml
    assert b"kbs:///" not in toml
    script = tampered["spec"]["containers"][0]["command"][2]
    assert "/aa/token" in script
    assert "/cdh/resource/default/given/one" in script
    assert not [r for r in api.requests if f"/namespaces/{TRUSTEE}/" in r.path], "no Trustee of this cluster is looked at"
    assert probes(api) == []


@pytest.mark.parametrize(("code", "text", "severity"), [
    (0, "got the secret: initdata is not enforced", "critical"), (32, "affirming: initdata is not measured", "critical"),
    (33, "got no token of the KBS, so nothing is proven", "error"), (2, "the container ended with 2", "error"),
])
def test_what_the_tampered_pod_tells(api: FakeApi, prove: Any, code: int, text: str, severity: str) -> None:
    foreign(api, ended(code))
    with pytest.raises(CocoError, match=f"The refusal of a tampered pod is not proven · .*{text}") as raised:
        prove(without_hub=True, sha256="ab" * 32)
    assert raised.value.details["checks"][-1]["severity"] == severity
    assert probes(api) == []


def test_a_tampered_pod_that_does_not_run_proves_nothing(api: FakeApi, prove: Any) -> None:
    foreign(api, {"phase": "Pending"})
    with pytest.raises(CocoError, match="the tampered pod did not run, so nothing is proven"):
        prove(without_hub=True, sha256="ab" * 32, timeout=1)


def test_without_a_hub_the_digest_must_be_told(api: FakeApi, prove: Any) -> None:
    with pytest.raises(CocoError, match="coco_verification_sha256"):
        prove(without_hub=True)
    assert not api.writes()


def test_a_kbs_of_others_from_outside(api: FakeApi, check: Any, kbs: FakeKbs) -> None:
    """No cluster is asked; what is wrong is the owner's to mend."""
    for name in ("config", "attestation", "resource", "rvps-reference-values"):
        api.delete(("v1", "configmaps", TRUSTEE, name))
    assert check(without_hub=True)["verdict"] == "healthy"
    assert not [r for r in api.requests if TRUSTEE in r.path]
    kbs.answers["GET /kbs/v0/resource-policy"] = (200, {})
    with pytest.raises(CocoError, match="Tell the KBS's owner") as raised:
        check(without_hub=True)
    assert raised.value.details["verdict"] == "insecure"
    assert "step" not in str(raised.value.todo)
    with pytest.raises(CocoError, match="coco_kbs_connect_to"):
        check(without_hub=True, connect_to=None)
