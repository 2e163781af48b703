"""readiness.py: each kind is ready in its own sense, and every failing state says why."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from ansible_collections.confidential.containers.plugins.module_utils import releases
from ansible_collections.confidential.containers.plugins.module_utils.readiness import KINDS, OPTIONAL, RELATED, ready


def condition(kind: str, status: str, reason: str = "", message: str = "") -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": reason, "message": message}


def obj(kind: str, status: dict[str, Any] | None = None, spec: dict[str, Any] | None = None, **meta: Any) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": "x", **meta}, "spec": spec or {}, "status": status or {}}


def verdict(*arguments: Any) -> tuple[bool, bool, str]:
    answer = ready(*arguments)
    assert set(answer) == {"ready", "failed", "reason", "message"}
    assert not (answer["ready"] and answer["failed"])
    return answer["ready"], answer["failed"], answer["reason"]


def test_absent_and_kinds_without_a_rule() -> None:
    assert verdict(None) == (False, False, "NotFound")
    for kind in ("RuntimeClass", "MutatingWebhookConfiguration", "ConfigMap"):
        assert kind not in KINDS
        assert verdict(obj(kind)) == (True, False, "Exists")


@pytest.mark.parametrize(("phase", "good"), [("Active", True), ("Terminating", False)])
def test_namespace(phase: str, good: bool) -> None:
    assert verdict(obj("Namespace", {"phase": phase})) == (good, False, phase)


def test_crd() -> None:
    kind = "CustomResourceDefinition"
    assert verdict(obj(kind))[:2] == (False, False)
    assert verdict(obj(kind, {"conditions": [condition("Established", "False", "Installing")]}))[:2] == (False, False)
    assert verdict(obj(kind, {"conditions": [condition("Established", "True", "InitialNamesAccepted")]}))[:2] == (True, False)
    clash = obj(kind, {"conditions": [condition("NamesAccepted", "False", "PluralConflict", "taken")]})
    assert verdict(clash) == (False, True, "PluralConflict")


DEPLOYED = obj("Deployment", {"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1},
               {"replicas": 1}, generation=2)


@pytest.mark.parametrize(("change", "good"), [
    ({}, True), ({"observedGeneration": 1}, False), ({"updatedReplicas": 0}, False), ({"availableReplicas": 0}, False),
    ({"replicas": 2}, False),
])
def test_deployment(change: dict[str, int], good: bool) -> None:
    given = copy.deepcopy(DEPLOYED)
    given["status"].update(change)
    assert verdict(given)[:2] == (good, False)


def test_deployment_failures() -> None:
    given = copy.deepcopy(DEPLOYED)
    given["status"]["conditions"] = [condition("Progressing", "False", "ProgressDeadlineExceeded", "has timed out")]
    assert verdict(given) == (False, True, "ProgressDeadlineExceeded")
    given["status"] = {"conditions": [condition("ReplicaFailure", "True", "FailedCreate", "exceeded quota")]}
    answer = ready(given)
    assert not answer["ready"]
    assert not answer["failed"]
    assert "exceeded quota" in answer["message"]


DAEMONS = obj("DaemonSet", {"observedGeneration": 1, "desiredNumberScheduled": 2, "numberReady": 2,
                            "updatedNumberScheduled": 2}, generation=1)


@pytest.mark.parametrize(("change", "good"), [
    ({}, True), ({"numberReady": 1}, False), ({"updatedNumberScheduled": 1}, False), ({"observedGeneration": 0}, False),
    ({"desiredNumberScheduled": 0, "numberReady": 0, "updatedNumberScheduled": 0}, False),
])
def test_daemon_set(change: dict[str, int], good: bool) -> None:
    given = copy.deepcopy(DAEMONS)
    given["status"].update(change)
    assert verdict(given)[:2] == (good, False)


def test_job() -> None:
    assert verdict(obj("Job", {"active": 1})) == (False, False, "Running")
    assert verdict(obj("Job", {"conditions": [condition("Complete", "True")]})) == (True, False, "Complete")
    failed = obj("Job", {"conditions": [condition("Failed", "True", "BackoffLimitExceeded", "too often")]})
    assert verdict(failed) == (False, True, "BackoffLimitExceeded")


def test_pod() -> None:
    assert verdict(obj("Pod", {"phase": "Succeeded"}))[:2] == (True, False)
    assert verdict(obj("Pod", {"phase": "Failed", "reason": "Evicted"})) == (False, True, "Evicted")
    assert verdict(obj("Pod", {"phase": "Running", "conditions": [condition("Ready", "False")]}))[:2] == (False, False)
    assert verdict(obj("Pod", {"phase": "Running", "conditions": [condition("Ready", "True")]}))[:2] == (True, False)
    waiting = {"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull", "message": "denied"}}}]}
    answer = ready(obj("Pod", waiting))
    assert not answer["failed"]
    assert answer["message"] == "ErrImagePull denied"


def test_route() -> None:
    assert verdict(obj("Route")) == (False, False, "NotAdmitted")
    refused = {"host": "kbs.test", "conditions": [
        condition("Admitted", "False", "HostAlreadyClaimed", "a route in another namespace holds kbs.test and is older than x")]}
    answer = ready(obj("Route", {"ingress": [refused]}))
    assert (answer["failed"], answer["reason"]) == (True, "HostAlreadyClaimed")
    assert "another namespace holds kbs.test" in answer["message"]
    admitted = {"host": "kbs.test", "conditions": [condition("Admitted", "True")]}
    assert verdict(obj("Route", {"ingress": [refused, admitted]})) == (True, False, "Admitted")
    assert verdict(obj("Route", spec={"host": "kbs.test"}))[0] is False, "a host alone is no admission"


@pytest.mark.parametrize(("phase", "reason", "good", "failed"), [
    ("Pending", "RequirementsNotMet", False, False), ("Installing", "InstallWaiting", False, False),
    ("Succeeded", "InstallSucceeded", True, False), ("Pending", "NeedsCertRotation", False, False),
    ("Failed", "ComponentUnhealthy", False, False),  # OLM goes back to InstallReady by itself
    ("Failed", "InstallCheckFailed", False, False), ("Replacing", "BeingReplaced", False, False),
    ("Failed", "TooManyOperatorGroups", False, True), ("Failed", "UnsupportedOperatorGroup", False, True),
])
def test_csv(phase: str, reason: str, good: bool, failed: bool) -> None:
    given = obj("ClusterServiceVersion", {"phase": phase, "reason": reason, "message": "m"})
    assert verdict(given) == (good, failed, reason)


@pytest.mark.parametrize(("phase", "good", "failed"), [
    ("", False, False), ("RequiresApproval", False, False), ("Installing", False, False), ("Complete", True, False),
    ("Failed", False, True),
])
def test_install_plan(phase: str, good: bool, failed: bool) -> None:
    given = obj("InstallPlan", {"phase": phase, "conditions": [condition("Installed", "False", "", "said")]})
    assert verdict(given)[:2] == (good, failed)
    assert ready(given)["message"] == "said"


def test_subscription() -> None:
    assert verdict(obj("Subscription"))[:2] == (False, False)
    bad = {"conditions": [condition("ResolutionFailed", "True", "ConstraintsNotSatisfiable",
                                    "no operators found in channel nope of package P")], "installedCSV": "p.v1"}
    answer = ready(obj("Subscription", bad))
    seen = (answer["ready"], answer["failed"], answer["reason"])
    assert seen == (False, False, "ConstraintsNotSatisfiable"), "short-lived in upgrades"
    assert "channel nope" in answer["message"]
    pending = {"installPlanRef": {"name": "i"}, "state": "UpgradePending",
               "conditions": [condition("InstallPlanPending", "True", "RequiresApproval"),
                              condition("ResolutionFailed", "False")]}
    assert verdict(obj("Subscription", pending)) == (True, False, "UpgradePending")


@pytest.mark.parametrize(("state", "good"), [("READY", True), ("TRANSIENT_FAILURE", False), ("CONNECTING", False), ("", False)])
def test_catalog_source(state: str, good: bool) -> None:
    given = obj("CatalogSource", {"connectionState": {"lastObservedState": state}})
    assert verdict(given)[:2] == (good, False)


def pool(wanted: str = "r-1", current: str = "r-1", paused: bool = False, observed: int = 3,
         **conditions: tuple[str, str]) -> dict[str, Any]:
    status = {"observedGeneration": observed, "configuration": {"name": current}, "machineCount": 2, "updatedMachineCount": 2,
              "readyMachineCount": 2, "unavailableMachineCount": 0,
              "conditions": [condition(name, value, "", said) for name, (value, said) in conditions.items()]}
    return obj("MachineConfigPool", status, {"configuration": {"name": wanted}, "paused": paused}, generation=3)


def test_pool() -> None:
    assert verdict(pool(Updated=("True", "")))[:2] == (True, False)
    assert verdict(pool(wanted="r-2", Updated=("True", "")))[0] is False, "seconds after a MachineConfig Updated is still True"
    assert verdict(pool(observed=2, Updated=("True", "")))[0] is False
    rollout = ready(pool(wanted="r-2", Updated=("False", ""), Updating=("True", "All nodes are updating to MachineConfig r-2")))
    assert not rollout["ready"]
    assert not rollout["failed"]
    assert "updating to MachineConfig r-2" in rollout["message"]
    said = 'Node w1 is reporting: "disk full"'
    broken = ready(pool(Updated=("False", ""), Degraded=("True", ""), NodeDegraded=("True", said)))
    assert (broken["failed"], broken["reason"]) == (True, "Degraded")
    assert said in broken["message"]
    paused = ready(pool(wanted="r-2", paused=True, Updated=("False", ""),
                        Updating=("False", "Pool is paused; will not update to MachineConfig r-2")))
    assert (paused["ready"], paused["failed"], paused["reason"]) == (False, False, "Paused")
    assert "will not update" in paused["message"]


def kata(status: str = "False", reason: str = "", message: str = "", total: int = 2, done: int = 2,
         peer_pods: bool = True, **meta: Any) -> dict[str, Any]:
    return obj("KataConfig", {"conditions": [condition("InProgress", status, reason, message)],
                              "kataNodes": {"nodeCount": total, "readyNodeCount": done, "installing": ["w2"][:total - done]}},
               {"enablePeerPods": peer_pods}, **meta)


REQUEST = "CredentialsRequest/openshift-sandboxed-containers-azure"


def others(**change: Any) -> dict[str, Any]:
    known: dict[str, Any] = {
        "RuntimeClass/kata-remote": obj("RuntimeClass"),
        "ConfigMap/peer-pods-cm": {"kind": "ConfigMap", "data": {"AZURE_IMAGE_ID": "/subscriptions/x"}},
        "DaemonSet/osc-caa-ds": DAEMONS, "Deployment/peer-pods-webhook": DEPLOYED,
        "DaemonSet/peerpodconfig-ctrl-caa-daemon": None,  # OSC 1.8
        "Secret/peer-pods-secret": obj("Secret"), REQUEST: None, "CloudCredential/cluster": None,
    }
    assert set(known) == {f"{item['kind']}/{item['metadata']['name']}" for item in RELATED["KataConfig"]}
    names = {"runtime": "RuntimeClass/kata-remote", "image": "ConfigMap/peer-pods-cm", "caa": "DaemonSet/osc-caa-ds",
             "webhook": "Deployment/peer-pods-webhook", "secret": "Secret/peer-pods-secret", "request": REQUEST,
             "operator": "CloudCredential/cluster"}
    return {**known, **{names[name]: value for name, value in change.items()}}


def test_kataconfig_is_a_composite() -> None:
    assert verdict(kata(), None, others()) == (True, False, "Installed")
    empty = {"kind": "ConfigMap", "data": {"AZURE_IMAGE_ID": ""}}
    for change, reason in (({"image": empty}, "NoImage"), ({"image": None}, "NoImage"), ({"runtime": None}, "NoRuntimeClass"),
                           ({"caa": None}, "NotReady"), ({"webhook": None}, "NotReady")):
        assert ready(kata(), None, others(**change))["reason"] == reason
        assert not ready(kata(), None, others(**change))["ready"]
    assert not ready(kata(), None, None)["ready"], "without related objects nothing is known"
    assert ready(kata(peer_pods=False), None, None)["ready"], "without peer pods nothing else counts"


def test_kataconfig_takes_the_image_key_of_the_provider() -> None:
    for settings, wanted in (({"AZURE_IMAGE_ID": "/subscriptions/x"}, False), ({"PODVM_AMI_ID": "ami-1"}, True)):
        image = {"kind": "ConfigMap", "data": {"CLOUD_PROVIDER": "aws", **settings}}
        assert ready(kata(), None, others(image=image))["ready"] is wanted


def test_kataconfig_takes_the_adaptor_of_the_release() -> None:
    """deployment.md 3.6: another name up to OSC 1.8. What is looked at must also be among the objects that are watched."""
    for name, pair in (("peerpodconfig-ctrl-caa-daemon", "1.8/0.2"), ("osc-caa-ds", "1.9/0.3"), ("osc-caa-ds", "1.13/1.2")):
        facts = releases.facts(releases.parse(pair))
        given = others(caa=None)
        assert ready(kata(), facts, given)["message"].startswith(f"DaemonSet/{name}")
        assert ready(kata(), facts, {**given, f"DaemonSet/{name}": DAEMONS})["ready"]
        assert f"DaemonSet/{name}" in {f"{item['kind']}/{item['metadata']['name']}" for item in RELATED["KataConfig"]}


@pytest.mark.parametrize(("status", "reason", "message", "failed"), [
    ("True", "Installing", "Performing initial installation of kata on cluster", False),
    ("True", "Updating", "Adding and/or removing kata-enabled nodes", False),
    ("True", "PodVMImageJobRunning", "Creating Pod VM Image", False),
    ("True", "PodVMImageJobCompleted", "Created Pod VM Image", False),
    ("Unknown", "PodVMImageJobStatusUnknown", "Pod VM Image creation status is unknown", False),
    ("False", "BlockedByExistingKataPods", "existing pods using \"kata-remote\" RuntimeClass found", False),
    ("True", "Failed", "Node w1 Degraded: disk full", True),
    ("True", "PodVMImageJobFailed", "Failed to create Pod VM Image", True),
])
def test_kataconfig_conditions(status: str, reason: str, message: str, failed: bool) -> None:
    answer = ready(kata(status, reason, message), None, others())
    assert (answer["ready"], answer["failed"], answer["reason"]) == (False, failed, reason)
    assert message in answer["message"]


def test_kataconfig_nodes_and_deletion() -> None:
    half = ready(kata(done=1), None, others())
    assert not half["ready"]
    assert "1 of 2 nodes, installing: w2" in half["message"]
    assert not ready(kata(total=0, done=0), None, others())["ready"], "no node is no installation"
    leaving = kata("True", "PodVMImageJobFailed", "Failed to delete Pod VM Image", deletionTimestamp="2026-11-24T00:00:00Z")
    assert verdict(leaving, None, others()) == (False, False, "Deleting")


INSTALLING = ("True", "Installing", "Performing initial installation of kata on cluster")
REFUSED = condition("CredentialsProvisionFailure", "True", "CredentialsProvisionFailure",
                    "failed to grant creds: cannot proceed without cloud cred secret annotation")
MANUAL = obj("CloudCredential", spec={"credentialsMode": "Manual"})


@pytest.mark.parametrize(("seen", "text", "refused"), [
    ({}, f"no {REQUEST} asks for it", False),
    ({"request": obj("CredentialsRequest")}, "is not provisioned yet", False),
    ({"request": obj("CredentialsRequest", {"provisioned": True})}, "the operator has not copied cco-secret yet", False),
    ({"request": obj("CredentialsRequest", {"provisioned": False, "conditions": [REFUSED]})},
     "CredentialsProvisionFailure: failed to grant creds: cannot proceed without cloud cred secret annotation", True),
    ({"operator": MANUAL, "request": obj("CredentialsRequest")}, "mode Manual", True),
])
def test_kataconfig_without_credentials(seen: dict[str, Any], text: str, refused: bool) -> None:
    """operators.md 3.4, 7: the status stays Installing, and the operator only logs it. Refused is said at once; the rest may still
    come while nodes reboot, and fails when they have."""
    given = others(secret=None, **seen)
    early, late = (ready(kata(*INSTALLING, done=done), None, given) for done in (1, 2))
    for answer in (early, late):
        assert (answer["ready"], answer["reason"]) == (False, "NoCredentials")
        assert text in answer["message"]
    assert "1 of 2 nodes, installing: w2" in early["message"]
    assert (early["failed"], late["failed"]) == (refused, True)
    assert ready(kata(peer_pods=False), None, given)["ready"]


def test_nothing_is_concluded_from_what_may_not_be_read() -> None:
    given = others(secret=None)
    del given["Secret/peer-pods-secret"]
    assert ready(kata(), None, given)["ready"]
    given = others(secret=None)
    del given[REQUEST], given["CloudCredential/cluster"]
    assert ready(kata(*INSTALLING), None, given)["message"].endswith("there is no peer-pods-secret")
    assert {item["kind"] for item in RELATED["KataConfig"]} >= OPTIONAL


def test_kbsconfig_follows_its_deployment() -> None:
    given = obj("KbsConfig")
    assert verdict(given) == (False, False, "NoDeployment")
    assert verdict(given, None, {"Deployment/trustee-deployment": None})[:2] == (False, False)
    assert verdict(given, None, {"Deployment/trustee-deployment": DEPLOYED})[:2] == (True, False)
    late = copy.deepcopy(DEPLOYED)
    late["status"]["availableReplicas"] = 0
    assert verdict(given, None, {"Deployment/trustee-deployment": late})[:2] == (False, False)
    stale = obj("KbsConfig", {"isReady": True})
    assert verdict(stale, None, {"Deployment/trustee-deployment": late})[0] is False, "isReady is not believed"


def test_kbsconfig_is_ready_when_its_secrets_are_mounted() -> None:
    """The operator's pass comes after the change; until then the deployment of before is still well."""
    given = obj("KbsConfig", spec={"kbsSecretResources": ["mine", "coco-verification"]})
    related = {"Deployment/trustee-deployment": copy.deepcopy(DEPLOYED)}
    pod = related["Deployment/trustee-deployment"].setdefault("spec", {}).setdefault("template", {}).setdefault("spec", {})
    pod["volumes"] = [{"name": "mine", "secret": {"secretName": "mine"}}, {"name": "x", "emptyDir": {}}]
    assert verdict(given, None, related) == (False, False, "NotMounted")
    pod["volumes"].append({"name": "v", "secret": {"secretName": "coco-verification"}})
    assert verdict(given, None, related)[:2] == (True, False)


def test_trusteeconfig_has_made_its_kbsconfig() -> None:
    """operators.md 2.2: 1.0 says isReady too early; the KbsConfig is awaited by itself."""
    assert verdict(obj("TrusteeConfig")) == (False, False, "NoKbsConfig")
    assert verdict(obj("TrusteeConfig", {"isReady": True}))[0] is False
    made = {"isReady": False, "kbsConfigRef": {"name": "trusteeconfig-kbs-config"}, "statusDescription": "in progress"}
    assert verdict(obj("TrusteeConfig", made)) == (True, False, "in progress")


def test_endpoints() -> None:
    assert verdict(obj("Endpoints"))[0] is False
    assert ready({"kind": "Endpoints", "subsets": [{"notReadyAddresses": [{"ip": "10.0.0.1"}]}]})["ready"] is False
    assert ready({"kind": "Endpoints", "subsets": [{"addresses": [{"ip": "10.0.0.1"}]}]})["ready"] is True
    assert ready({"kind": "EndpointSlice", "endpoints": [{"conditions": {"ready": False}}]})["ready"] is False
    assert ready({"kind": "EndpointSlice", "endpoints": [{"conditions": {"ready": True}}]})["ready"] is True


def test_what_is_not_said_is_not_ready() -> None:
    deployed = obj("Deployment", {"observedGeneration": 2, "replicas": 1}, {"replicas": 1}, generation=2)
    assert not ready(deployed)["ready"]
    assert not ready({**deployed, "status": {**deployed["status"], "updatedReplicas": 1}})["ready"]
    assert not ready({**deployed, "status": {**deployed["status"], "availableReplicas": 1}})["ready"]
    assert not ready(obj("DaemonSet"))["ready"]
    assert not ready(obj("DaemonSet", {"desiredNumberScheduled": 1}))["ready"]
    assert ready(obj("Job"))["message"] == "0 active"
    assert ready(obj("MachineConfigPool"))["message"].startswith("0 of 0 machines")
    degraded = ready(obj("MachineConfigPool", {"conditions": [condition("Degraded", "True", "", "said")]}))
    assert (degraded["ready"], degraded["failed"], degraded["message"]) == (False, True, "said")
    assert ready({"kind": "EndpointSlice", "endpoints": [{"addresses": ["10.0.0.1"]}]})["ready"], "an unknown condition counts as ready"
