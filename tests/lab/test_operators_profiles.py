"""TrusteeConfig: generated objects, profiles, status, by release (reference/trustee.md 4.6, operators.md 2.3)."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import tomllib

import pytest
import regorus

from lab import trustee_templates as texts
from lab.releases import TRUSTEE
from lab.trustee_operator import Operator
from lab.trustee_profiles import EARLY, READY, WAITING, merged
from tests.lab.operators_fake import FakeKube

NS = "trustee-operator-system"
API = "confidentialcontainers.org/v1alpha1"
MARK = "kbs.confidentialcontainers.org/migrated-from-v1.1.0"
R10, R11, R12 = (TRUSTEE[version] for version in ("1.0.0", "1.1.0", "1.2.1"))
COMMON_MAPS = {"tc-kbs-config", "tc-resource-policy", "tc-rvps-reference-values"}


def tls(name, kind="kubernetes.io/tls", keys=("tls.key", "tls.crt")):
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": NS}, "type": kind,
            "data": {key: base64.b64encode(f"{name} {key}".encode()).decode() for key in keys}}


class Lab:
    def __init__(self, release, spec=None, *more):
        self.kube = FakeKube({"apiVersion": API, "kind": "TrusteeConfig", "metadata": {"name": "tc", "namespace": NS},
                              "spec": spec or {}}, *more)
        self.operator = Operator(self.kube, NS, release, "image/trustee", "image/operator", random.Random(1))

    def run(self):
        return asyncio.run(self.operator.reconcile_profile(f"{NS}/tc"))

    def run_kbs(self):
        return asyncio.run(self.operator.reconcile(f"{NS}/tc-kbs-config"))

    @property
    def config(self):
        return self.kube.peek("TrusteeConfig", "tc", NS)

    @property
    def kbs(self):
        return self.kube.peek("KbsConfig", "tc-kbs-config", NS)

    def data(self, kind, name):
        return self.kube.peek(kind, name, NS)["data"]


RESTRICTED = {"profileType": "Restricted", "httpsSpec": {"tlsSecretName": "web"},
              "attestationTokenVerificationSpec": {"tlsSecretName": "token"}}


def restricted(release):
    lab = Lab(release, RESTRICTED, tls("web"), tls("token"))
    lab.run()
    return lab


@pytest.mark.parametrize(("release", "maps", "sample"), [
    (R10, {"tc-attestation-policy", "tc-tdx-config"}, "kbsres1"),
    (R11, {"tc-attestation-policy-cpu", "tc-attestation-policy-gpu", "tc-tdx-config"}, "kbsres1"),
    (R12, {"tc-attestation-policy-cpu", "tc-attestation-policy-gpu"}, "attestation-status"),
])
def test_generated_objects(release, maps, sample):
    lab = restricted(release)
    assert set(lab.kube.names("ConfigMap")) == COMMON_MAPS | maps
    assert set(lab.kube.names("Secret")) == {
        "web", "token", sample, "tc-auth-secret", "tc-https-key-secret", "tc-https-cert-secret", "tc-attestation-key-secret",
        "tc-attestation-cert-secret"}
    assert set(lab.data("Secret", "tc-auth-secret")) == {"publicKey", "privateKey"}
    for name, key in (("https-key", "privateKey"), ("https-cert", "certificate"), ("attestation-key", "token.key"),
                      ("attestation-cert", "token.crt")):
        assert set(lab.data("Secret", f"tc-{name}-secret")) == {key}
    assert lab.data("Secret", "tc-https-cert-secret")["certificate"] == tls("web")["data"]["tls.crt"]
    assert set(lab.data("Secret", sample)) == ({"status"} if release is R12 else {"key1", "key2"})
    assert lab.kube.peek("ConfigMap", "tc-kbs-config", NS)["metadata"]["ownerReferences"][0]["kind"] == "TrusteeConfig"
    spec = lab.kbs["spec"]
    assert spec["kbsHttpsKeySecretName"] == "tc-https-key-secret"
    assert spec["kbsAttestationCertSecretName"] == "tc-attestation-cert-secret"
    assert spec["kbsSecretResources"] == [sample]
    assert "KbsEnvVars" not in spec
    assert ("tdxConfigSpec" in spec) == (release is not R12)
    assert ("kbsGpuAttestationPolicyConfigMapName" in spec) == (release is not R10)


@pytest.mark.parametrize("profile", ["Permissive", "anything", None])
def test_anything_but_restricted_is_permissive(profile):
    lab = Lab(R11, {"profileType": profile} if profile else {})
    lab.run()
    assert lab.kbs["spec"]["KbsEnvVars"] == {"RUST_LOG": "debug"}
    config = tomllib.loads(lab.data("ConfigMap", "tc-kbs-config")["kbs-config.toml"])
    assert config["http_server"]["insecure_http"] is True
    assert config["attestation_token"]["insecure_key"] is True


def test_status_of_1_0_is_early_and_polled():
    lab = Lab(R10)
    assert lab.run() == pytest.approx(10 * 0.05)
    assert lab.config["status"]["isReady"] is True
    assert lab.config["status"]["statusDescription"] == EARLY
    assert lab.config["status"]["kbsConfigRef"]["name"] == "tc-kbs-config"
    lab.kbs["status"] = {"isReady": True}
    assert lab.run() is None
    assert lab.config["status"]["statusDescription"] == READY
    assert lab.kube.names("Route") == []


@pytest.mark.parametrize("release", [R11, R12])
def test_status_of_newer_ones_mirrors_the_kbsconfig(release):
    lab = Lab(release)
    assert lab.run() is None
    assert (lab.config["status"]["isReady"], lab.config["status"]["statusDescription"]) == (False, WAITING)
    follower = lab.operator.controllers[1]
    assert "KbsConfig" in follower.store
    assert list(lab.operator._owners("TrusteeConfig")(lab.kbs)) == [f"{NS}/tc"]
    lab.kbs["status"] = {"isReady": True}
    lab.run()
    assert (lab.config["status"]["isReady"], lab.config["status"]["statusDescription"]) == (True, READY)


def test_route_of_1_1():
    lab = Lab(R11)
    lab.run()
    route = lab.kube.peek("Route", "kbs-route", NS)
    assert route["spec"]["tls"] == {"termination": "edge"}
    assert "host" not in route["spec"]
    assert restricted(R11).kube.peek("Route", "kbs-route", NS)["spec"]["tls"] == {"termination": "passthrough"}
    lab.config["spec"] = RESTRICTED
    for name in ("web", "token"):
        lab.kube.put(tls(name))
    lab.run()
    assert lab.kube.peek("Route", "kbs-route", NS)["spec"]["tls"] == {"termination": "edge"}, "never changed later"


@pytest.mark.parametrize(("secret", "text"), [
    (None, 'secrets "web" not found'),
    (tls("web", "Opaque"), "secret web is not of type kubernetes.io/tls, got Opaque"),
    (tls("web", keys=("tls.crt",)), "tls.key not found in TLS secret web"),
    (tls("web", keys=("tls.key",)), "tls.crt not found in TLS secret web"),
])
def test_bad_tls_secret(secret, text):
    lab = Lab(R11, {"httpsSpec": {"tlsSecretName": "web"}}, *([secret] if secret else []))
    with pytest.raises(LookupError, match=text):
        lab.run()
    assert lab.kbs is None
    assert "status" not in lab.config


def test_what_exists_is_kept():
    lab = restricted(R11)
    lab.data("ConfigMap", "tc-resource-policy")["policy.rego"] = "mine"
    key = lab.data("Secret", "tc-auth-secret")["privateKey"]
    lab.kube.peek("Secret", "web", NS)["data"]["tls.crt"] = "cmVuZXdlZA=="
    lab.run()
    assert lab.data("ConfigMap", "tc-resource-policy")["policy.rego"] == "mine"
    assert lab.data("Secret", "tc-auth-secret")["privateKey"] == key
    assert lab.data("Secret", "tc-https-cert-secret")["certificate"] == tls("web")["data"]["tls.crt"], "not the renewed one"


def test_fields_that_survive():
    lab = Lab(R12)
    lab.run()
    lab.kbs["spec"] |= {"KbsDeploymentSpec": {"replicas": 2}, "kbsSecretResources": ["attestation-status", "mine"],
                        "kbsResourcePolicyConfigMapName": "other", "KbsEnvVars": {"RUST_LOG": "info", "A": "b"}}
    lab.run()
    spec = lab.kbs["spec"]
    assert spec["KbsDeploymentSpec"] == {"replicas": 2}
    assert spec["kbsSecretResources"] == ["attestation-status", "mine"]
    assert spec["KbsEnvVars"] == {"RUST_LOG": "info", "A": "b"}
    assert spec["kbsResourcePolicyConfigMapName"] == "tc-resource-policy"
    assert merged({"kbsSecretResources": ["s"]}, {"kbsSecretResources": ["s"]}) == {"kbsSecretResources": ["s"]}


def test_1_2_goes_through_delete_and_recreate_of_its_own_config_once():
    lab = Lab(R12)
    lab.run()
    marked = {name for name in lab.kube.names("ConfigMap")
              if MARK in lab.kube.peek("ConfigMap", name, NS)["metadata"]["annotations"]}
    assert marked == {"tc-resource-policy", "tc-attestation-policy-cpu", "tc-attestation-policy-gpu"}
    with pytest.raises(LookupError, match='"tc-kbs-config" not found'):
        lab.run_kbs()
    assert "tc-kbs-config.v1.1" in lab.kube.names("ConfigMap")
    lab.run()
    lab.run_kbs()
    config = lab.kube.peek("ConfigMap", "tc-kbs-config", NS)
    assert config["metadata"]["annotations"][MARK] == "v1.2.0"
    assert tomllib.loads(config["data"]["kbs-config.toml"])["plugins"] == [
        {"name": "resource", "storage_backend_type": "kvstorage"}]
    before = set(lab.kube.names("ConfigMap"))
    lab.run()
    lab.run_kbs()
    assert set(lab.kube.names("ConfigMap")) == before
    assert json.loads(lab.data("ConfigMap", "tc-rvps-reference-values")["reference_value"]) == {}


def test_tls_settings():
    lab = restricted(R12)
    name = "tc-kbs-config"
    assert tomllib.loads(lab.data("ConfigMap", name)["kbs-config.toml"])["http_server"]["tls_profile"] == "intermediate"
    lab.kube.put({"kind": "APIServer", "metadata": {"name": "cluster"}, "spec": {"tlsSecurityProfile": {"type": "Modern"}}})
    lab.run()
    config = tomllib.loads(lab.data("ConfigMap", name)["kbs-config.toml"])
    assert config["http_server"]["tls_profile"] == "modern"
    custom = {"profile": "custom", "minVersion": "1.2", "ciphers": ["a", "b"]}
    assert texts.tls_settings(None, custom) == {"tls_profile": "custom", "tls_min_version": "1.2", "tls_ciphers": "a:b"}
    assert "tls_" not in restricted(R11).data("ConfigMap", name)["kbs-config.toml"]


@pytest.mark.parametrize("restricted_profile", [False, True])
@pytest.mark.parametrize("generation", ["B", "C", "D"])
def test_kbs_config_by_generation(generation, restricted_profile):
    config = tomllib.loads(texts.kbs_config(generation, restricted_profile, {}))
    assert config["admin"] == {
        "B": {"insecure_api": False, "auth_public_key": "/etc/auth-secret/publicKey"}, "C": {"type": "DenyAll"},
        "D": {"authorization_mode": "DenyAll"}}[generation]
    assert ("policy_engine" in config) == (generation != "D") == ("storage_backend" not in config)
    assert ("verifier_config" in config["attestation_service"]) == (generation != "B")
    token = config["attestation_token"]
    assert token["insecure_header_jwk" if generation == "D" else "insecure_key"] is not restricted_profile
    assert ("trusted_certs_paths" in token) == restricted_profile
    broker = config["attestation_service"].get("attestation_token_broker", {})
    assert ("signer" in broker) == restricted_profile
    assert ("private_key" in config["http_server"]) == restricted_profile


def evaluate(text, rule, data, v0=False, values=None, **more):
    engine = regorus.Engine()
    engine.set_rego_v0(v0)
    if values is not None:
        engine.add_extension("query_reference_value", 1, values.get)
    engine.add_policy("p.rego", text)
    engine.add_data_json(json.dumps(more))
    engine.set_input_json(json.dumps(data))
    return json.loads(engine.eval_rule_as_json(f"data.policy.{rule}"))


PCRS = {f"pcr{n}": f"v{n}" for n in texts.PCRS}
REFERENCE = {f"snp_pcr{n}": [f"v{n}"] for n in texts.PCRS}


def test_generated_cpu_policies():
    old = texts.cpu_policy("B")
    good, bad = {"azsnpvtpm": {"tpm": PCRS}}, {"azsnpvtpm": {"tpm": {**PCRS, "pcr08": "other"}}}
    assert [evaluate(old, rule, good, True, reference=REFERENCE) for rule in (
        "executables", "hardware", "configuration")] == [3, 2, 2]
    assert evaluate(old, "executables", bad, True, reference=REFERENCE) == 33
    assert evaluate(old, "hardware", {"sample": {"svn": "1"}}, True, reference=REFERENCE) == 97
    new = texts.cpu_policy("D")
    claims = evaluate(new, "trust_claims", {"az-snp-vtpm": {"tpm": PCRS}}, values=REFERENCE)
    assert (claims["executables"], claims["hardware"], claims["configuration"]) == (3, 2, 2)
    for key in ("az-snp-vtpm", "azsnpvtpm"):
        claims = evaluate(texts.cpu_policy("C"), "trust_claims", {key: {"tpm": PCRS}}, values=REFERENCE)
        assert (claims["executables"], claims["hardware"]) == (33, 97), "1.1 never matches on Azure"
    assert evaluate(texts.gpu_policy(), "trust_claims", {"nvidia": {}}, values={})["hardware"] == 97


def submods(**vector):
    return {"submods": {"cpu0": {"ear.status": "affirming", "ear.trustworthiness-vector": vector}}}


def test_generated_resource_policies():
    good, bad = submods(executables=3, hardware=2, configuration=2), submods(executables=33, hardware=2, configuration=2)
    assert evaluate(texts.resource_policy("B", False), "allow", {}, True) is True
    assert evaluate(texts.resource_policy("C", False), "allow", {}) is True
    assert evaluate(texts.resource_policy("D", False), "allow", {}, plugin="resource") is True
    assert evaluate(texts.resource_policy("D", False), "allow", {}, plugin="pkcs11") is False
    assert evaluate(texts.resource_policy("B", True), "allow", good, True) is True
    assert evaluate(texts.resource_policy("B", True), "allow", {"submods": {"cpu0": {"ear.status": "warning"}}}, True) is False
    for generation in "CD":
        policy = texts.resource_policy(generation, True)
        assert [evaluate(policy, "allow", data) for data in (good, bad, {"submods": {}})] == [True, False, False]
