"""lab-osc: passes over a KataConfig on an API server in memory (reference/operators.md 3)."""

from __future__ import annotations

import asyncio
import base64
import gzip
import logging
import tomllib

import pytest

from lab import osc_objects as make
from lab.kube import ApiError
from lab.osc import Operator, settings_of, version_of
from lab.osc_state import (
    DEFAULT_INITDATA,
    Invalid,
    converged,
    gated_image_config,
    gated_peer_pods,
    node_lists,
    selects,
    set_condition,
    validate_peer_pods,
)
from lab.releases import OSC
from lab.releases import OSC_NAMESPACE as NS
from tests.lab.operators_fake import FakeKube

PREFIX = "machineconfiguration.openshift.io/"
KATA = "kataconfiguration.openshift.io/v1"
IMAGES = {name: f"image/{name.lower()}" for name in
          ("KATA_MONITOR", "CAA", "PEERPODS_WEBHOOK", "PODVM_BUILDER", "PODVM_PAYLOAD", "PODVM_OCI")}
SECRET = {k: base64.b64encode(b"x").decode() for k in
          ("AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_TENANT_ID", "AZURE_SUBSCRIPTION_ID")}
CONFIG = {"CLOUD_PROVIDER": "azure", "AZURE_RESOURCE_GROUP": "rg", "AZURE_REGION": "eastus"}


def obj(kind, name, namespace=None, api="v1", **body):
    meta = {"name": name, **body.pop("meta", {})}
    if namespace:
        meta["namespace"] = namespace
    return {"apiVersion": api, "kind": kind, "metadata": meta, **body}


def node(name, config="rendered-worker-1", state="Done", role="worker", **labels):
    return obj("Node", name, meta={"labels": {f"node-role.kubernetes.io/{role}": "", **labels},
                                   "annotations": {PREFIX + "currentConfig": config, PREFIX + "state": state}})


def pool(name, config, count=2, updating=False, source=()):
    return obj("MachineConfigPool", name, api="machineconfiguration.openshift.io/v1",
               spec={"configuration": {"name": config, "source": [{"name": s} for s in source]}},
               status={"machineCount": count, "conditions": [{"type": "Updating", "status": str(updating)}]})


def kataconfig(**spec):
    return obj("KataConfig", "example-kataconfig", api=KATA, spec={"checkNodeEligibility": False, **spec})


class Lab:
    """A cluster in memory and the operator on it."""

    def __init__(self, *more, spec=None, gate="true", peer_pods=True, version="1.11.1"):
        self.kube = FakeKube(
            node("w1"), node("w2"), node("m1", "rendered-master-1", role="master"),
            pool("worker", "rendered-worker-1"), pool("master", "rendered-master-1", 1),
            obj("Infrastructure", "cluster", api="config.openshift.io/v1",
                status={"platformStatus": {"type": "Azure"}}),
            obj("ClusterVersion", "version", api="config.openshift.io/v1",
                spec={"clusterID": "1f2e3d4c-0000-4000-8000-000000000000"}),
            obj("Secret", "pull-secret", "openshift-config", data={".dockerconfigjson": "e30="}),
            obj("ConfigMap", "osc-feature-gates", NS, data={"confidential": gate}),
            kataconfig(**({"enablePeerPods": peer_pods} if spec is None else spec)),
            *more,
        )
        self.operator = Operator(self.kube, make.Settings(images=IMAGES, release=OSC[version]))

    def run(self):
        return asyncio.run(self.operator.reconcile("example-kataconfig"))

    @property
    def kata(self):
        return self.kube.peek("KataConfig", "example-kataconfig")

    @property
    def condition(self):
        (found,) = self.kata["status"]["conditions"]
        return found["status"], found["reason"], found["message"]

    def mco_rolls(self):
        """What the Machine Config Operator does after the pool was made."""
        self.kube.put(pool("kata-oc", "rendered-kata-oc-1", source=[make.EXTENSION_MC]))
        for name in ("w1", "w2"):
            self.kube.put(node(name, "rendered-kata-oc-1", **{make.KATA_OC: ""}))

    def mco_rolls_back(self):
        for name in ("w1", "w2"):
            self.kube.put(node(name))

    def finish_job(self, name, kind="Complete", **data):
        job = self.kube.peek("Job", name, NS)
        job["status"] = {"conditions": [{"type": kind, "status": "True"}]}
        if data:
            self.kube.peek("ConfigMap", "peer-pods-cm", NS)["data"].update(data)

    def installed(self):
        """Everything up to a settled KataConfig with an image."""
        self.run()
        self.mco_rolls()
        self.run()
        self.finish_job(make.CREATE_JOB, AZURE_IMAGE_ID="/image/1")
        self.run()
        self.run()
        assert self.condition == ("False", "", "")
        return self

    def deleted(self):
        self.kata["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        return self


def with_inputs(**kwargs):
    return Lab(obj("Secret", "peer-pods-secret", NS, data=dict(SECRET)),
               obj("ConfigMap", "peer-pods-cm", NS, data=dict(CONFIG)), **kwargs)


# Installation

def test_first_pass_makes_machine_config_labels_and_pool_then_waits():
    lab = with_inputs()
    assert lab.run() is None
    assert lab.condition == ("True", "Installing", "Performing initial installation of kata on cluster")
    assert lab.kata["status"]["waitingForMcoToStart"] is True
    mc = lab.kube.peek("MachineConfig", make.EXTENSION_MC)
    assert mc["metadata"]["labels"] == {PREFIX + "role": "kata-oc", "app": "example-kataconfig"}
    assert mc["spec"]["extensions"] == ["sandboxed-containers"]
    assert make.KATA_OC in lab.kube.peek("Node", "w1")["metadata"]["labels"]
    assert make.KATA_OC not in lab.kube.peek("Node", "m1")["metadata"]["labels"]
    assert lab.kube.peek("MachineConfigPool", "kata-oc")["spec"]["nodeSelector"] == {"matchLabels": {make.KATA_OC: ""}}
    assert lab.kata["metadata"]["finalizers"] == ["kataconfiguration.openshift.io/finalizer"]
    assert lab.kube.names("RuntimeClass") == []
    assert lab.kata["status"]["kataNodes"] == {
        "nodeCount": 2, "readyNodeCount": 0, "waitingToInstall": ["w1", "w2"]}
    assert "50-kata-remote" not in lab.kube.names("MachineConfig")


def test_it_waits_for_the_machine_config_operator():
    lab = with_inputs()
    lab.run()
    lab.kube.put(pool("kata-oc", "rendered-kata-oc-1", updating=True, source=[make.EXTENSION_MC]))
    lab.kube.put(node("w1", state="Working", **{make.KATA_OC: ""}))
    lab.run()
    assert lab.kata["status"]["kataNodes"]["installing"] == ["w1"]
    assert lab.kata["status"]["kataNodes"]["waitingToInstall"] == ["w2"]
    assert lab.kata["status"]["waitingForMcoToStart"] is False
    assert lab.kube.names("RuntimeClass") == []


def test_image_job_then_caa_webhook_and_runtime_class():
    lab = with_inputs()
    lab.run()
    lab.mco_rolls()
    assert lab.run() == pytest.approx(15 * 0.05)
    assert lab.condition == ("True", "PodVMImageJobRunning", "Creating Pod VM Image")
    assert lab.kube.names("RuntimeClass") == ["kata"]
    assert lab.kube.names("DaemonSet") == [make.MONITOR]
    job = lab.kube.peek("Job", make.CREATE_JOB, NS)
    assert "ownerReferences" not in job["metadata"]
    assert job["spec"]["backoffLimit"] == 1
    assert [c["name"] for c in job["spec"]["template"]["spec"]["initContainers"]] == ["copy"]
    lab.finish_job(make.CREATE_JOB, AZURE_IMAGE_ID="/image/1")
    lab.run()
    assert lab.condition == ("True", "PodVMImageJobCompleted", "Created Pod VM Image")
    assert lab.kube.names("Job") == []
    assert lab.run() is None
    assert lab.condition == ("False", "", "")
    assert set(lab.kube.names("DaemonSet")) == {make.MONITOR, "osc-caa-ds"}
    assert lab.kata["status"]["runtimeClasses"] == ["kata", "kata-remote"]
    remote = lab.kube.peek("RuntimeClass", "kata-remote")
    assert remote["overhead"] == {"podFixed": {"cpu": "250m", "memory": "120Mi"}}
    assert remote["metadata"]["finalizers"] == ["kataconfig.openshift.io/runtime-class-cleanup"]
    events = [o for o in lab.kube.objects.values() if o["kind"] == "Event"]
    assert [e["reason"] for e in events] == ["PodVMImageJobRunning", "PodVMImageJobCompleted"]
    assert {e["involvedObject"]["kind"] for e in events} == {"Job"}
    assert all(e["metadata"]["name"].startswith("job-event-") for e in events)


def test_no_job_with_an_image_id_given():
    lab = with_inputs()
    lab.kube.peek("ConfigMap", "peer-pods-cm", NS)["data"]["AZURE_IMAGE_ID"] = "/given"
    lab.run()
    lab.mco_rolls()
    lab.run()
    assert lab.kube.names("Job") == []
    assert lab.condition == ("False", "", "")


def test_failed_job_resets_the_condition_and_goes_on():
    lab = with_inputs()
    lab.run()
    lab.mco_rolls()
    lab.run()
    lab.finish_job(make.CREATE_JOB, "Failed")
    lab.run()
    assert lab.condition == ("False", "", "")
    assert "osc-caa-ds" in lab.kube.names("DaemonSet")
    assert lab.kube.names("Job") == []
    assert not lab.kube.peek("ConfigMap", "peer-pods-cm", NS)["data"].get("AZURE_IMAGE_ID")
    lab.run()
    assert lab.kube.names("Job") == [make.CREATE_JOB], "the next trigger builds again"


@pytest.mark.parametrize("missing", ["secret", "config", "key"])
def test_missing_inputs_never_reach_the_status(missing, caplog):
    lab = with_inputs()
    if missing == "secret":
        del lab.kube.objects["Secret", NS, "peer-pods-secret"]
    elif missing == "config":
        del lab.kube.objects["ConfigMap", NS, "peer-pods-cm"]
    else:
        lab.kube.peek("ConfigMap", "peer-pods-cm", NS)["data"]["AZURE_REGION"] = ""
    lab.run()
    lab.mco_rolls()
    with caplog.at_level(logging.ERROR), pytest.raises(Invalid, match="validatePeerPodsConfigs"):
        lab.run()
    assert "error validating peer-pods-cm and peer-pods-secret" in caplog.text
    assert lab.condition[:2] == ("True", "Installing")
    lab.deleted()
    with pytest.raises(Invalid):
        lab.run()
    assert lab.condition[:2] == ("True", "Installing"), "deletion never begins"
    assert make.EXTENSION_MC in lab.kube.names("MachineConfig")


def test_invalid_selector_only_logs(caplog):
    lab = with_inputs(spec={"enablePeerPods": True, "kataConfigPoolSelector": {
        "matchExpressions": [{"key": "a", "operator": "In"}]}})
    assert lab.run() is None
    assert "Invalid KataConfig.spec.kataConfigPoolSelector - please fix your KataConfig" in caplog.text
    assert "status" not in lab.kata
    assert lab.kube.names("MachineConfig") == []


def test_selector_and_a_later_change():
    lab = with_inputs(spec={"enablePeerPods": False, "kataConfigPoolSelector": {"matchLabels": {"kata": "yes"}}})
    lab.kube.put(node("w1", kata="yes"))
    lab.run()
    assert make.KATA_OC not in lab.kube.peek("Node", "w2")["metadata"]["labels"]
    lab.kube.put(pool("kata-oc", "rendered-kata-oc-1", 1, source=[make.EXTENSION_MC]))
    lab.kube.put(node("w1", "rendered-kata-oc-1", kata="yes", **{make.KATA_OC: ""}))
    lab.run()
    assert lab.condition == ("False", "", "")
    lab.kube.put(node("w2", kata="yes"))
    lab.run()
    assert lab.condition == ("True", "Updating", "Adding and/or removing kata-enabled nodes")


def test_eligibility_needs_nfd(caplog):
    lab = with_inputs(spec={"checkNodeEligibility": True})
    assert lab.run() == pytest.approx(1.0)
    assert "no Nodes with required labels found. Is NFD running?" in caplog.text
    assert "conditions" not in lab.kata["status"]


def test_degraded_node():
    lab = with_inputs()
    lab.run()
    lab.kube.put(pool("kata-oc", "rendered-kata-oc-1", updating=True, source=[make.EXTENSION_MC]))
    broken = node("w1", state="Degraded", **{make.KATA_OC: ""})
    broken["metadata"]["annotations"][PREFIX + "reason"] = "disk full"
    lab.kube.put(broken)
    lab.run()
    assert lab.condition == ("True", "Failed", "Node w1 Degraded: disk full")
    assert lab.kata["status"]["kataNodes"]["failedToInstall"] == ["w1"]


def test_null_spec_is_allowed():
    lab = with_inputs()
    lab.kata["spec"] = None
    lab.run()
    assert lab.condition[:2] == ("True", "Installing")


# osc-caa-ds and the webhook

def test_hand_made_changes_of_the_caa_template_are_reverted_at_the_next_pass():
    lab = with_inputs().installed()
    template = lab.kube.peek("DaemonSet", "osc-caa-ds", NS)["spec"]["template"]
    template["spec"]["containers"][0]["env"].append({"name": "REBOOT", "value": "now"})
    template["metadata"]["annotations"] = {"kubectl.kubernetes.io/restartedAt": "now"}
    lab.run()
    template = lab.kube.peek("DaemonSet", "osc-caa-ds", NS)["spec"]["template"]
    assert [e["name"] for e in template["spec"]["containers"][0]["env"]] == ["NODE_NAME"]
    assert "annotations" not in template["metadata"]


def test_caa_daemonset_spec():
    found = make.caa_daemonset(make.Settings(images=IMAGES), make.KATA_OC, {})
    pod = found["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert (container["name"], container["command"]) == ("caa-pod", ["/usr/local/bin/entrypoint.sh"])
    assert container["securityContext"] == {"privileged": True, "runAsUser": 0}
    assert pod["hostNetwork"] is True
    assert pod["nodeSelector"] == {make.KATA_OC: ""}
    assert not any("optional" in next(iter(source.values())) for source in container["envFrom"])
    volumes = {v["name"]: v for v in pod["volumes"]}
    assert volumes["ssh"]["secret"] == {"secretName": "ssh-key-secret", "optional": True, "defaultMode": 0o600}
    assert volumes["pods-dir"]["hostPath"]["path"] == "/run/peerpod"


def test_webhook_is_made_once_and_never_updated():
    lab = with_inputs().installed()
    deployment = lab.kube.peek("Deployment", "peer-pods-webhook", NS)
    assert deployment["spec"]["replicas"] == 2
    assert "ownerReferences" not in deployment["metadata"]
    deployment["spec"]["template"]["spec"]["containers"][0]["image"] = "old"
    lab.run()
    again = lab.kube.peek("Deployment", "peer-pods-webhook", NS)
    assert again["spec"]["template"]["spec"]["containers"][0]["image"] == "old"
    configuration = lab.kube.peek("MutatingWebhookConfiguration", "mutating-webhook-configuration")
    assert configuration["webhooks"][0]["failurePolicy"] == "Fail"
    values = configuration["webhooks"][0]["namespaceSelector"]["matchExpressions"][0]["values"]
    assert NS in values
    assert "default" not in values


# Feature gates

def test_gate_owns_disablecvm_and_off_overwrites_initdata():
    config = obj("ConfigMap", "peer-pods-cm", NS, data={**CONFIG, "INITDATA": "user's"})
    on = gated_peer_pods(config, True)
    assert on["data"] == {**CONFIG, "INITDATA": "user's", "DISABLECVM": "false"}
    off = gated_peer_pods(on, False)
    assert off["data"]["DISABLECVM"] == "true"
    assert off["data"]["INITDATA"] == DEFAULT_INITDATA
    again = gated_peer_pods(off, True)
    assert "INITDATA" not in again["data"]
    assert gated_peer_pods(on, True) is None
    assert gated_peer_pods(None, True) is None
    document = tomllib.loads(gzip.decompress(base64.b64decode(DEFAULT_INITDATA)).decode())
    assert document["algorithm"] == "sha384"


def test_confidential_image_only_while_there_is_no_image():
    image = obj("ConfigMap", "azure-podvm-image-cm", NS, data={"CONFIDENTIAL_COMPUTE_ENABLED": "no"})
    empty = obj("ConfigMap", "peer-pods-cm", NS, data={"AZURE_IMAGE_ID": ""})
    built = obj("ConfigMap", "peer-pods-cm", NS, data={"AZURE_IMAGE_ID": "/x"})
    assert gated_image_config(image, empty, True)["data"]["CONFIDENTIAL_COMPUTE_ENABLED"] == "yes"
    assert gated_image_config(image, None, True)["data"]["CONFIDENTIAL_COMPUTE_ENABLED"] == "yes"
    assert gated_image_config(image, built, True) is None


@pytest.mark.parametrize(("value", "expected"), [("true", "false"), ("false", "true"), ("True", "true"), ("1", "true")])
def test_only_the_literal_true_opens_the_gate(value, expected):
    lab = with_inputs(gate=value)
    lab.run()
    assert lab.kube.peek("ConfigMap", "peer-pods-cm", NS)["data"]["DISABLECVM"] == expected


def test_image_config_map_is_owned_by_the_kataconfig():
    lab = with_inputs()
    lab.run()
    found = lab.kube.peek("ConfigMap", "azure-podvm-image-cm", NS)
    assert found["metadata"]["ownerReferences"][0]["kind"] == "KataConfig"
    assert found["data"]["CONFIDENTIAL_COMPUTE_ENABLED"] == "yes"
    assert found["data"]["IMAGE_GALLERY_NAME"] == "PodVMGallery_1f2e3d4c"
    assert found["data"]["IMAGE_VERSION"].endswith(".0.1")


# Deletion

def pod(name, runtime_class, phase="Running"):
    return obj("Pod", name, "default", spec={"runtimeClassName": runtime_class}, status={"phase": phase})


def test_deletion_order():
    lab = with_inputs().installed().deleted()
    lab.kube.calls.clear()
    lab.run()
    assert lab.condition == ("True", "Uninstalling", "Removing kata from cluster")
    assert lab.kube.names("MachineConfig") == []
    assert "kata-oc" in lab.kube.names("MachineConfigPool")
    assert lab.kata["status"]["kataNodes"]["waitingToUninstall"] == ["w1", "w2"]
    lab.mco_rolls_back()
    assert lab.run() == pytest.approx(15 * 0.05)
    assert lab.condition == ("True", "PodVMImageJobRunning", "Deleting Pod VM Image")
    job = lab.kube.peek("Job", make.DELETE_JOB, NS)
    assert job["spec"]["template"]["spec"]["containers"][0]["command"] == ["/podvm-builder.sh", "delete", "-f", "-g"]
    assert lab.kube.names("DaemonSet") == lab.kube.names("Deployment") == []
    assert make.SCC in lab.kube.names("SecurityContextConstraints")
    lab.finish_job(make.DELETE_JOB, AZURE_IMAGE_ID="")
    assert lab.run() is None
    assert lab.kata is None
    assert lab.kube.names("SecurityContextConstraints") == []
    deletes = [c for c in lab.kube.calls if c.startswith("delete")]
    assert deletes == [
        f"delete MachineConfig {make.EXTENSION_MC}", "delete MachineConfigPool kata-oc", f"delete DaemonSet {make.MONITOR}",
        "delete DaemonSet osc-caa-ds", "delete Deployment peer-pods-webhook", "delete Service peer-pods-webhook-svc",
        "delete MutatingWebhookConfiguration mutating-webhook-configuration", f"delete Job {make.DELETE_JOB}",
        f"delete SecurityContextConstraints {make.SCC}",
    ]
    assert {"peer-pods-cm", "osc-feature-gates"} <= set(lab.kube.names("ConfigMap"))
    assert "auth-json-secret" in lab.kube.names("Secret")


@pytest.mark.parametrize("phase", ["Running", "Succeeded"])
def test_pods_of_its_runtime_classes_block_deletion_in_any_phase(phase):
    lab = with_inputs().installed().deleted()
    lab.kube.put(pod("p", "kata-remote", phase))
    with pytest.raises(Invalid):
        lab.run()
    assert lab.condition == ("False", "BlockedByExistingKataPods", (
        'existing pods using "kata-remote" RuntimeClass found. Please delete the pods manually for KataConfig '
        "deletion to proceed"))
    assert make.KATA_OC in lab.kube.peek("Node", "w1")["metadata"]["labels"]


def test_deletion_without_secret_hangs_with_job_failed_even_without_an_image():
    lab = with_inputs().installed().deleted()
    lab.kube.peek("ConfigMap", "peer-pods-cm", NS)["data"]["AZURE_IMAGE_ID"] = ""
    del lab.kube.objects["Secret", NS, "peer-pods-secret"]
    lab.run()
    lab.mco_rolls_back()
    with pytest.raises(Invalid):
        lab.run()
    assert lab.condition == ("True", "PodVMImageJobFailed", "Failed to delete Pod VM Image")
    assert lab.kata["metadata"]["finalizers"]


def test_failed_deletion_job_goes_on():
    lab = with_inputs().installed().deleted()
    lab.run()
    lab.mco_rolls_back()
    lab.run()
    lab.finish_job(make.DELETE_JOB, "Failed")
    lab.run()
    assert lab.kata is None
    assert lab.kube.peek("ConfigMap", "peer-pods-cm", NS)["data"]["AZURE_IMAGE_ID"] == "/image/1"


def test_runtime_class_waits_for_pods_that_may_run():
    lab = with_inputs().installed()
    found = lab.kube.peek("RuntimeClass", "kata-remote")
    found["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    lab.kube.put(pod("p", "kata-remote", "Pending"))
    assert asyncio.run(lab.operator.reconcile_class("kata-remote")) == pytest.approx(0.5)
    lab.kube.put(pod("p", "kata-remote", "Succeeded"))
    assert asyncio.run(lab.operator.reconcile_class("kata-remote")) is None
    assert lab.kube.peek("RuntimeClass", "kata-remote") is None


# Admission and pieces

def test_second_kataconfig_is_refused():
    lab = with_inputs()
    create = asyncio.run(lab.operator.validate({"operation": "CREATE"}))
    assert create["allowed"] is False
    assert create["status"]["message"] == "A KataConfig instance already exists, refusing to create a duplicate"
    assert asyncio.run(lab.operator.validate({"operation": "UPDATE"}))["allowed"] is True
    del lab.kube.objects["KataConfig", "", "example-kataconfig"]
    assert asyncio.run(lab.operator.validate({"operation": "CREATE"}))["allowed"] is True

    async def refuse(*_args, **_kwargs):
        raise ApiError(403, "Forbidden", "no")

    lab.kube.list = refuse
    answer = asyncio.run(lab.operator.validate({"operation": "CREATE"}))
    assert answer["status"]["message"].startswith("Failed to list KataConfig custom resources: ")


def test_node_lists_ignore_states_that_match_none():
    pools = {"kata-oc": pool("kata-oc", "c"), "worker": pool("worker", "w")}
    nodes = [node("a", "c", "Rebooting", **{make.KATA_OC: ""}), node("b", "w", "Done")]
    assert node_lists(nodes, pools, False) == {"nodeCount": 1, "readyNodeCount": 0}


def test_converged_needs_exactly_two_pools():
    assert converged([pool("master", "m"), pool("worker", "w", 0)])
    assert not converged([pool("master", "m"), pool("worker", "w", 1)])
    assert not converged([pool("master", "m"), pool("worker", "w", 0), pool("custom", "c", 0)])


def test_selectors():
    assert selects(None, {"a": "b"})
    assert selects({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["x"]}]}, {})
    assert not selects({"matchExpressions": [{"key": "a", "operator": "Exists"}]}, {})
    with pytest.raises(Invalid):
        selects({"matchExpressions": [{"key": "a", "operator": "Equals", "values": ["x"]}]}, {})


def test_condition_time_stands_still_without_a_change():
    status = {"conditions": [{"type": "InProgress", "status": "False", "reason": "", "message": "",
                              "lastTransitionTime": "2020-01-01T00:00:00Z"}]}
    set_condition(status, "False")
    assert status["conditions"][0]["lastTransitionTime"] == "2020-01-01T00:00:00Z"
    set_condition(status, "True", "Installing", "m")
    assert status["conditions"][0]["lastTransitionTime"] > "2020"


def test_validation_texts():
    with pytest.raises(Invalid, match="cannot find the required keys in peer-pods-secret Secret"):
        validate_peer_pods({"data": {}}, {"data": CONFIG})
    with pytest.raises(Invalid, match="cannot find the required keys in peer-pods-cm ConfigMap"):
        validate_peer_pods({"data": SECRET}, {"data": {}})
    validate_peer_pods({"data": SECRET}, {"data": CONFIG})


# Other releases

def test_1_9_makes_and_removes_its_machine_configs():
    lab = with_inputs(version="1.9.0")
    lab.run()
    made = [c for c in lab.kube.calls if c.startswith("create MachineConfig ")]
    assert made == [f"create MachineConfig {name}" for name in (
        "50-kata-remote", "40-worker-kata-remote-config", make.EXTENSION_MC)]
    handler = lab.kube.peek("MachineConfig", "50-kata-remote")
    assert handler["metadata"]["labels"] == {PREFIX + "role": "kata-oc", "app": "peerpodconfig-openshift"}
    assert handler["spec"]["config"]["storage"]["files"][0]["path"] == "/etc/crio/crio.conf.d/50-kata-remote"
    lab = with_inputs(version="1.9.0").installed().deleted()
    lab.run()
    lab.mco_rolls_back()
    lab.run()
    assert lab.kube.names("MachineConfig") == []
    assert with_inputs(version="1.9.0", peer_pods=False).run() is None


def test_1_9_leaves_initdata_and_classes_alone():
    lab = with_inputs(version="1.9.0", gate="false")
    lab.kube.peek("ConfigMap", "peer-pods-cm", NS)["data"]["INITDATA"] = "user's"
    lab.installed()
    data = lab.kube.peek("ConfigMap", "peer-pods-cm", NS)["data"]
    assert (data["INITDATA"], data["DISABLECVM"]) == ("user's", "true")
    assert "finalizers" not in lab.kube.peek("RuntimeClass", "kata-remote")["metadata"]
    assert "ownerReferences" not in lab.kube.peek("ConfigMap", "azure-podvm-image-cm", NS)["metadata"]


@pytest.mark.parametrize(("version", "copies", "oci", "token"), [
    ("1.9.0", True, False, False), ("1.11.1", True, True, False), ("1.12.1", False, True, True),
    ("1.13.1", False, True, True)])
def test_image_job_by_release(version, copies, oci, token):
    images = {name: image for name, image in IMAGES.items() if oci or name != "PODVM_OCI"}
    job = make.image_job(make.Settings(images=images, release=OSC[version]), "create", "1f2e3d4c-0000")
    pod = job["spec"]["template"]["spec"]
    assert ("initContainers" in pod) == copies
    assert ("PODVM_IMAGE_URI" in [e["name"] for e in pod["containers"][0]["env"]]) == oci
    assert ("bound-sa-token" in [v["name"] for v in pod["volumes"]]) == token


def test_1_13_rolls_caa_with_the_config_map():
    lab = with_inputs(version="1.13.1").installed()
    assert lab.kata["status"]["runtimeClasses"] == ["kata", "kata-nvidia-gpu", "kata-remote"]

    def mark():
        return lab.kube.peek("DaemonSet", "osc-caa-ds", NS)["spec"]["template"]["metadata"]["annotations"]

    config = lab.kube.peek("ConfigMap", "peer-pods-cm", NS)
    assert mark() == {"peer-pods-cm/version": config["metadata"]["resourceVersion"]}
    mark()["kubectl.kubernetes.io/restartedAt"] = "now"
    lab.kube.put(config)
    lab.operator.controller.store["KataConfig"]["example-kataconfig"] = lab.kata
    asyncio.run(lab.operator._inputs_changed("peer-pods-cm"))
    assert lab.operator.controller._dirty == {"example-kataconfig"}
    lab.run()
    assert mark() == {"peer-pods-cm/version": lab.kube.peek("ConfigMap", "peer-pods-cm", NS)["metadata"]["resourceVersion"]}
    assert not hasattr(with_inputs(version="1.12.1").operator, "inputs")


@pytest.mark.parametrize(("version", "mode", "words"), [
    ("1.11.1", "DaemonSet", None), ("1.12.1", "MachineConfig", None), ("1.12.1", "DaemonSetFallback", None),
    ("1.12.1", "nonsense", "using DaemonSetFallback"), ("1.12.1", "DaemonSet", "lab-osc works by MachineConfig only")])
def test_deployment_mode(version, mode, words, caplog):
    lab = with_inputs(version=version)
    lab.kube.peek("ConfigMap", "osc-feature-gates", NS)["data"]["deploymentMode"] = mode
    if words and mode == "DaemonSet":
        with pytest.raises(Invalid, match=words):
            lab.run()
        assert lab.kube.names("MachineConfig") == []
        return
    lab.run()
    assert make.EXTENSION_MC in lab.kube.names("MachineConfig")
    assert (words or "") in caplog.text


def test_versions():
    assert version_of({"OPERATOR_CONDITION_NAME": "sandboxed-containers-operator.v1.11.0"}) == "1.11.0"
    with pytest.raises(RuntimeError, match="stands in for"):
        version_of({"OPERATOR_CONDITION_NAME": "sandboxed-containers-operator.v1.10.1"})
    assert settings_of({"RELATED_IMAGE_CAA": "x"}, "1.11.1").images == {"CAA": "x"}
