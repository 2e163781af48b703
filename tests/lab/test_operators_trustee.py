"""lab-trustee-operator: passes over a KbsConfig (reference/operators.md 2.3, trustee.md 4)."""

from __future__ import annotations

import asyncio
import base64
import json
import random

import pytest

from lab.releases import TRUSTEE
from lab.secret_converter import convert
from lab.trustee_migration import plugins, translated
from lab.trustee_objects import (
    VERSIONS,
    Missing,
    environment,
    is_ready,
    pod_spec,
    references,
    wanted_mounts,
)
from lab.trustee_operator import Operator, version_of
from tests.lab.operators_fake import FakeKube

NS = "trustee-operator-system"
OLD, R10, R11, R12 = (TRUSTEE[version] for version in ("0.3.0", "1.0.0", "1.1.0", "1.2.1"))
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
MARK = "kbs.confidentialcontainers.org/migrated-from-v1.1.0"


def obj(kind, name, api="v1", **body):
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": NS}, **body}


class Lab:
    def __init__(self, spec=SPEC, release=R10, marked=True):
        self.kube = FakeKube(obj("KbsConfig", "kbsconfig", API, spec=dict(spec)))
        for kind, name in references(spec, release):
            self.kube.put(obj(kind, name))
            if marked:
                self.kube.peek(kind, name, NS)["metadata"]["annotations"] = {MARK: "any"}
        self.operator = Operator(self.kube, NS, release, "image/trustee", "image/operator", random.Random(1))

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
    mounts = {m["mountPath"]: m for m in pod_spec(SPEC, R10, "i", [])["containers"][0]["volumeMounts"]}
    volumes = {v["name"]: v for v in pod_spec(SPEC, R10, "i", [])["volumes"]}
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
    container = pod_spec(SPEC, R10, "image/trustee", [])["containers"][0]
    assert container["command"] == ["/usr/local/bin/kbs", "--config-file", "/etc/kbs-config/kbs-config.toml"]
    assert container["name"] == "kbs"
    assert container["image"] == "image/trustee"
    assert not {"livenessProbe", "readinessProbe", "startupProbe"} & set(container)


def test_https_needs_both_and_tdx_is_a_file():
    spec = {**SPEC, "tdxConfigSpec": {"kbsTdxConfigMapName": "tdx-config"}}
    del spec["kbsHttpsCertSecretName"]
    mounts = {m.path: m for m in wanted_mounts(spec, R10)}
    assert "/etc/https-key" not in mounts
    assert mounts["/etc/sgx_default_qcnl.conf"].sub_path == "sgx_default_qcnl.conf"
    assert ("ConfigMap", "tdx-config") in references(spec, R10)


@pytest.mark.parametrize(("kind", "name"), sorted(references(SPEC, R10)))
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


def test_versions():
    assert version_of({"OPERATOR_CONDITION_NAME": "trustee-operator.v1.0.0"}) == "1.0.0"
    with pytest.raises(RuntimeError, match="stands in for"):
        version_of({"OPERATOR_CONDITION_NAME": "trustee-operator.v0.4.2"})


# 0.3

OLD_SPEC = {key: value for key, value in SPEC.items() if not key.startswith("kbsAttestation") or "Policy" in key}


def test_old_mounts_are_directories():
    mounts = {m.path: m for m in wanted_mounts({**OLD_SPEC, "tdxConfigSpec": {"kbsTdxConfigMapName": "tdx"}}, OLD)}
    assert {m.path for m in mounts.values() if m.sub_path} == {"/etc/sgx_default_qcnl.conf"}
    assert mounts[f"{BASE}/attestation-service/policies/opa"].name == "attestation-policy"
    assert f"{BASE}/kbs/repository/default/kbsres1" in mounts


def test_old_operator_never_writes_the_status_and_reads_no_proxy():
    lab = Lab(OLD_SPEC, OLD)
    lab.kube.put({"kind": "Proxy", "metadata": {"name": "cluster"}, "status": {"httpProxy": "http://p"}})
    lab.run()
    lab.deployment["status"] = {"readyReplicas": 1}
    lab.run()
    assert "status" not in lab.config
    assert lab.deployment["spec"]["template"]["spec"]["containers"][0]["env"] == []
    assert len(lab.operator.controllers) == 1, "no TrusteeConfig"


# 1.1

def test_1_1_owns_and_watches_the_deployment_and_tells_events():
    lab = Lab({**SPEC, "kbsGpuAttestationPolicyConfigMapName": "gpu-policy"}, R11)
    lab.run()
    assert lab.deployment["metadata"]["ownerReferences"][0]["kind"] == "KbsConfig"
    assert {"Deployment", "Service"} <= set(lab.operator.controller.store)
    assert lab.config["status"] == {"isReady": False}, "always present"
    assert lab.kube.events == [("Normal", "DeploymentCreated"), ("Normal", "ServiceCreated")]
    keys = lab.operator._owners("KbsConfig")
    assert list(keys(lab.deployment)) == [f"{NS}/kbsconfig"]
    lab.deployment["status"] = {"readyReplicas": 1}
    lab.run()
    assert lab.config["status"] == {"isReady": True}
    assert lab.kube.events[2:] == [("Normal", "Ready")]
    mounts = {m["mountPath"]: m for m in lab.deployment["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]}
    assert mounts[f"{BASE}/attestation-service/policies/opa/default_gpu.rego"]["subPath"] == "default_gpu.rego"


def test_certificate_cache_paths():
    spec = {**SPEC, "kbsLocalCertCacheSpec": {"secrets": [{"secretName": "vcek"}, {"secretName": "x", "mountPath": "/x"}]}}
    paths = [m.path for m in wanted_mounts(spec, R10) if m.name in ("vcek", "x")]
    assert paths == ["/etc/kbs/certs", "/x"]
    assert [m.path for m in wanted_mounts(spec, R11) if m.name == "vcek"] == [
        f"{BASE}/attestation-service/kds-store/vcek"]
    one = {**OLD_SPEC, "kbsLocalCertCacheSpec": {"secretName": "vcek", "mountPath": "/y"}}
    assert ("Secret", "vcek") in references(one, TRUSTEE["0.4.2"])
    assert [m.path for m in wanted_mounts(one, TRUSTEE["0.4.2"]) if m.name == "vcek"] == ["/y"]


# 1.2

def test_mounts_of_1_2():
    pod = pod_spec(SPEC, R12, "i", [], "o")
    kbs, init = pod["containers"][0], pod["initContainers"][0]
    mounts = {m["mountPath"]: m for m in kbs["volumeMounts"]}
    storage = f"{BASE}/storage"
    assert {p: m["subPath"] for p, m in mounts.items() if "subPath" in m} == {
        f"{storage}/kbs/resource-policy.rego": "resource-policy.rego",
        f"{storage}/local_json/reference_value": "reference_value",
        f"{storage}/attestation_service_policy/default_cpu.rego": "default_cpu.rego",
    }
    assert {storage, f"{storage}/repository", f"{storage}/kbs", f"{storage}/local_json",
            f"{storage}/attestation_service_policy"} <= set(mounts)
    assert not any(path.startswith("/tmp/kbs-secrets") for path in mounts)
    assert (init["name"], init["image"], init["command"]) == ("secret-converter", "o", ["/secret-converter"])
    extra = {m["mountPath"] for m in init["volumeMounts"]} - set(mounts)
    assert extra == {"/tmp/kbs-secrets/kbsres1", "/tmp/kbs-secrets/security-policy"}
    with pytest.raises(Missing, match="OPERATOR_IMAGE_NAME environment variable must be set"):
        pod_spec(SPEC, R12, "i", [])


def test_reference_values_are_optional_in_1_2():
    spec = {key: value for key, value in SPEC.items() if key != "kbsRvpsRefValuesConfigMapName"}
    assert "reference-values" not in [m.volume for m in wanted_mounts(spec, R12)]
    with pytest.raises(Missing):
        wanted_mounts(spec, R11)


def test_a_config_map_rolls_the_pods_and_the_template_is_the_operators():
    lab = Lab(release=R12)
    assert lab.run() == pytest.approx(10 * 0.05)
    assert lab.kube.peek("Service", "kbs-service", NS) is None, "nothing more in the pass that makes the Deployment"
    lab.run()
    assert lab.kube.peek("Service", "kbs-service", NS)
    assert lab.kube.events == [], "1.2 has no right to its kind of event"
    template = lab.deployment["spec"]["template"]
    before = template["metadata"]["annotations"][VERSIONS]
    assert [part.partition(":")[0] for part in before.split(",")] == [
        "kbs-config-cm", "rvps-reference-values", "attestation-policy", "resource-policy"]
    template["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"] = "now"
    lab.kube.put(lab.kube.peek("ConfigMap", "resource-policy", NS))
    lab.kube.put(lab.kube.peek("Secret", "kbsres1", NS))
    lab.run()
    after = lab.deployment["spec"]["template"]["metadata"]["annotations"]
    assert set(after) == {VERSIONS}
    assert after[VERSIONS] != before


def test_environment_of_1_2_is_sorted():
    lab = Lab({**SPEC, "KbsEnvVars": {"Z": "1", "A": "2", "HTTP_PROXY": "mine"}}, R12)
    lab.kube.put({"kind": "Proxy", "metadata": {"name": "cluster"}, "status": {"httpProxy": "http://p", "noProxy": "n"}})
    lab.run()
    env = lab.deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    assert [(e["name"], e["value"]) for e in env] == [("A", "2"), ("HTTP_PROXY", "mine"), ("NO_PROXY", "n"), ("Z", "1")]


def test_1_2_deletes_config_maps_without_the_annotation():
    lab = Lab(release=R12, marked=False)
    config = lab.kube.peek("ConfigMap", "kbs-config-cm", NS)
    config["data"] = {"kbs-config.toml": "[http_server]"}
    values = lab.kube.peek("ConfigMap", "rvps-reference-values", NS)
    values["data"] = {"reference-values.json": '[{"name": "snp_pcr03", "value": ["ab"]}]'}
    with pytest.raises(LookupError, match='ConfigMap "kbs-config-cm" not found'):
        lab.run()
    assert sorted(lab.kube.names("ConfigMap")) == [
        "attestation-policy.v1.1", "kbs-config-cm.v1.1", "resource-policy.v1.1", "rvps-reference-values",
        "rvps-reference-values.v1.1"]
    values = lab.kube.peek("ConfigMap", "rvps-reference-values", NS)
    assert values["metadata"]["annotations"] == {MARK: "v1.2.0"}
    stored = json.loads(values["data"]["reference_value"])
    assert json.loads(base64.b64decode(stored["snp_pcr03"])) == {"name": "snp_pcr03", "value": ["ab"]}
    assert "reference-values.json" not in values["data"]


@pytest.mark.parametrize("text", ["nonsense", "{}", '["x"]'])
def test_values_that_cannot_be_read_are_left(text):
    lab = Lab(release=R12)
    values = lab.kube.peek("ConfigMap", "rvps-reference-values", NS)
    values["data"], values["metadata"]["annotations"] = {"reference-values.json": text}, {}
    lab.run()
    values = lab.kube.peek("ConfigMap", "rvps-reference-values", NS)
    assert values["data"] == {"reference-values.json": text}
    assert MARK not in values["metadata"]["annotations"]


def test_plugins_are_translated():
    rest, found = plugins('[a]\nx = 1\n[[plugins]]\nname = "resource"\ntype = "LocalFs"\ndir_path = "/p"\n[b]\ny = 2')
    assert rest == "[a]\nx = 1\n[b]\ny = 2"
    assert [translated(plugin) for plugin in found] == ['[[plugins]]\nname = "resource"\nstorage_backend_type = "kvstorage"']
    vault = '[[plugins]]\nname = "resource"\ntype = "Vault"\nvault_url = "u"'
    assert translated(vault).split("\n")[2] == 'storage_backend_type = "Vault"'
    assert translated('[[plugins]]\nname = "pkcs11"\ntype = "LocalFs"').endswith('type = "LocalFs"')


def test_secret_converter(tmp_path):
    (tmp_path / "in" / "s1" / "..data").mkdir(parents=True)
    (tmp_path / "in" / "s1" / "k").write_bytes(b"\x00v")
    (tmp_path / "out").mkdir()
    assert convert(tmp_path / "in", tmp_path / "out") == 1
    assert [file.name for file in (tmp_path / "out").iterdir()] == [r"default\x2Fs1\x2Fk"]
    assert convert(tmp_path / "nothing", tmp_path / "out") == 0
