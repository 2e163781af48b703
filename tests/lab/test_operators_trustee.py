"""lab-trustee-operator 1.0: passes over a KbsConfig (reference/operators.md 2.3, trustee.md 4)."""

from __future__ import annotations

import asyncio
import random

import pytest

from lab.trustee_objects import Missing, environment, is_ready, pod_spec, references, wanted_mounts
from lab.trustee_operator import Operator, version_of
from tests.lab.operators_fake import FakeKube

NS = "trustee-operator-system"
API = "confidentialcontainers.org/v1alpha1"
SPEC = {
    "kbsConfigMapName": "kbs-config-cm",
    "kbsAuthSecretName": "kbs-auth-public-key",
    "kbsDeploymentType": "AllInOneDeployment",
    "kbsRvpsRefValuesConfigMapName": "rvps-reference-values",
    "kbsResourcePolicyConfigMapName": "resource-policy",
    "kbsAttestationPolicyConfigMapName": "attestation-policy",
    "kbsSecretResources": ["kbsres1", "security-policy"],
    "kbsHttpsKeySecretName": "kbs-https-key",
    "kbsHttpsCertSecretName": "kbs-https-certificate",
    "kbsAttestationKeySecretName": "signer-key",
    "kbsAttestationCertSecretName": "signer-cert",
}
BASE = "/opt/confidential-containers"


def obj(kind, name, api="v1", **body):
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": NS}, **body}


class Lab:
    def __init__(self, spec=SPEC, inputs=True):
        self.kube = FakeKube(obj("KbsConfig", "kbsconfig", API, spec=dict(spec)))
        if inputs:
            for kind, name in references(spec):
                self.kube.put(obj(kind, name))
        self.operator = Operator(self.kube, NS, "image/trustee", random.Random(1))

    def run(self):
        return asyncio.run(self.operator.reconcile(f"{NS}/kbsconfig"))

    @property
    def config(self):
        return self.kube.peek("KbsConfig", "kbsconfig", NS)

    @property
    def deployment(self):
        return self.kube.peek("Deployment", "trustee-deployment", NS)


def test_order_deployment_finalizer_service_status():
    lab = Lab()
    lab.run()
    assert [c for c in lab.kube.calls if not c.startswith("create Event")] == [
        "create Deployment trustee-deployment", "replace KbsConfig kbsconfig", "create Service kbs-service"]
    assert lab.config["metadata"]["finalizers"] == ["kbsconfig.confidentialcontainers.org/finalizer"]
    assert "ownerReferences" not in lab.deployment["metadata"]
    service = lab.kube.peek("Service", "kbs-service", NS)
    assert service["metadata"]["ownerReferences"][0]["kind"] == "KbsConfig"
    assert service["spec"]["ports"] == [{"name": "kbs-port", "port": 8080, "targetPort": 8080, "protocol": "TCP"}]
    assert service["spec"]["selector"] == {"app": "kbs"}
    assert service["spec"]["type"] == "ClusterIP"


def test_mounts_of_1_0():
    mounts = {m["mountPath"]: m for m in pod_spec(SPEC, "i", [])["containers"][0]["volumeMounts"]}
    volumes = {v["name"]: v for v in pod_spec(SPEC, "i", [])["volumes"]}
    assert set(mounts) == {
        BASE, f"{BASE}/kbs/repository/default", "/etc/kbs-config", "/etc/auth-secret", "/etc/https-key", "/etc/https-cert",
        "/etc/attestation-key", "/etc/attestation-cert", f"{BASE}/rvps/reference-values", f"{BASE}/opa",
        f"{BASE}/attestation-service/policies/opa/default_cpu.rego", f"{BASE}/kbs/repository/default/kbsres1",
        f"{BASE}/kbs/repository/default/security-policy",
    }
    assert {p: m["subPath"] for p, m in mounts.items() if "subPath" in m} == {
        f"{BASE}/attestation-service/policies/opa/default_cpu.rego": "default_cpu.rego"}
    assert volumes[mounts[BASE]["name"]]["emptyDir"] == {"medium": "Memory"}
    assert volumes[mounts["/etc/kbs-config"]["name"]]["configMap"] == {"name": "kbs-config-cm"}
    assert volumes["kbsres1"]["secret"] == {"secretName": "kbsres1"}
    assert set(volumes) == {m["name"] for m in mounts.values()}


def test_container():
    container = pod_spec(SPEC, "image/trustee", [])["containers"][0]
    assert container["command"] == ["/usr/local/bin/kbs", "--config-file", "/etc/kbs-config/kbs-config.toml"]
    assert container["name"] == "kbs"
    assert container["image"] == "image/trustee"
    assert not {"livenessProbe", "readinessProbe", "startupProbe"} & set(container)


def test_https_needs_both_and_tdx_is_a_file():
    spec = {**SPEC, "tdxConfigSpec": {"kbsTdxConfigMapName": "tdx-config"}}
    del spec["kbsHttpsCertSecretName"]
    mounts = {m.path: m for m in wanted_mounts(spec)}
    assert "/etc/https-key" not in mounts
    assert mounts["/etc/sgx_default_qcnl.conf"].sub_path == "sgx_default_qcnl.conf"
    assert ("ConfigMap", "tdx-config") in references(spec)


@pytest.mark.parametrize(("kind", "name"), sorted(references(SPEC)))
def test_every_named_object_must_exist(kind, name):
    lab = Lab()
    del lab.kube.objects[kind, NS, name]
    with pytest.raises(LookupError, match=f'{kind} "{name}" not found'):
        lab.run()
    assert lab.deployment is None
    assert "finalizers" not in lab.config["metadata"]


@pytest.mark.parametrize(("field", "text"), [
    ("kbsConfigMapName", "ConfigMap name hasn't been provided for volume kbs-config"),
    ("kbsAuthSecretName", "Secret name hasn't been provided for volume auth-secret"),
    ("kbsRvpsRefValuesConfigMapName", "ConfigMap name hasn't been provided for volume reference-values"),
    ("kbsDeploymentType", "ConfigMap name hasn't been provided for volume as-config"),
])
def test_mandatory_names(field, text):
    lab = Lab({k: v for k, v in SPEC.items() if k != field})
    with pytest.raises(Missing, match=text):
        lab.run()
    assert lab.deployment is None


def test_ready_rule_and_absent_false():
    assert not is_ready(None)
    assert not is_ready({"spec": {"replicas": 2}, "status": {"readyReplicas": 1}})
    assert not is_ready({"spec": {"replicas": 0}, "status": {}})
    assert is_ready({"spec": {"replicas": 1}, "status": {"readyReplicas": 1}})
    lab = Lab()
    lab.run()
    assert "status" not in lab.config
    lab.deployment["status"] = {"readyReplicas": 1}
    lab.run()
    assert lab.config["status"] == {"isReady": True}
    lab.deployment["status"] = {}
    lab.run()
    assert lab.config["status"] == {}


def test_the_deployment_is_not_watched():
    lab = Lab()
    assert set(lab.operator.controller.store) == {"KbsConfig", "ConfigMap", "Secret"}


def test_only_named_objects_wake_it():
    lab = Lab()
    lab.operator.controller.store["KbsConfig"][f"{NS}/kbsconfig"] = lab.config
    keys = lab.operator._users("ConfigMap")
    assert list(keys(obj("ConfigMap", "resource-policy"))) == [f"{NS}/kbsconfig"]
    assert list(keys(obj("ConfigMap", "kbsres1"))) == []


def test_update_touches_the_pod_template_only():
    lab = Lab()
    lab.run()
    lab.deployment["spec"]["template"]["metadata"]["annotations"] = {"kubectl.kubernetes.io/restartedAt": "now"}
    lab.config["spec"]["KbsDeploymentSpec"] = {"replicas": 2}
    lab.config["spec"]["kbsSecretResources"] = ["kbsres1"]
    lab.run()
    assert lab.deployment["spec"]["replicas"] == 1
    assert lab.deployment["spec"]["template"]["metadata"]["annotations"]
    assert "security-policy" not in [v["name"] for v in lab.deployment["spec"]["template"]["spec"]["volumes"]]


def test_replicas_at_creation():
    lab = Lab({**SPEC, "KbsDeploymentSpec": {"replicas": 2}})
    lab.run()
    assert lab.deployment["spec"]["replicas"] == 2


def test_environment_and_proxy():
    proxy = {"status": {"httpProxy": "http://p", "noProxy": ".svc"}}
    assert environment({"KbsEnvVars": {"RUST_LOG": "debug"}}, proxy) == [
        {"name": "RUST_LOG", "value": "debug"}, {"name": "HTTP_PROXY", "value": "http://p"},
        {"name": "NO_PROXY", "value": ".svc"}]
    many = {"KbsEnvVars": {f"V{n}": "x" for n in range(6)}}
    shuffle = random.Random(2)
    orders = {tuple(e["name"] for e in environment(many, None, shuffle)) for _ in range(10)}
    assert len(orders) > 1, "a Go map has no order"


def test_deletion_and_its_trap():
    lab = Lab()
    lab.run()
    lab.config["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    gone = lab.kube.objects.pop(("Deployment", NS, "trustee-deployment"))
    with pytest.raises(LookupError, match="not found"):
        lab.run()
    assert lab.config["metadata"]["finalizers"]
    lab.kube.put(gone)
    lab.run()
    assert lab.config is None
    assert lab.deployment is None


def test_trusteeconfig_stays_untouched():
    lab = Lab()
    lab.kube.calls.clear()
    assert asyncio.run(lab.operator.reconcile_profile(f"{NS}/trusteeconfig")) is None
    assert lab.kube.calls == []


def test_versions():
    assert version_of({"OPERATOR_CONDITION_NAME": "trustee-operator.v1.0.0"}) == "1.0.0"
    with pytest.raises(RuntimeError, match="stands in for"):
        version_of({"OPERATOR_CONDITION_NAME": "trustee-operator.v1.1.0"})
