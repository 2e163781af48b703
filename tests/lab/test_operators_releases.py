"""What differs between the releases that the lab offers (reference/operators.md, deployment.md 1, trustee.md 4)."""

from __future__ import annotations

import asyncio
import types

import pytest

from lab import caa, podvm_image, runtime, seed
from lab.bundles import index
from lab.node_sandbox import HostSandbox
from lab.releases import IMAGES, OSC, RELEASES, TRUSTEE, pinned, release_of

PAIRS = list(RELEASES)


def bundle(pair, package, version):
    found = next(p for p in index(pair) if p["package"] == package)
    return next(b for b in found["bundles"] if b["version"] == version)


def osc_bundle(pair):
    return bundle(pair, "sandboxed-containers-operator", RELEASES[pair].osc)


def trustee_bundle(pair):
    return bundle(pair, "trustee-operator", RELEASES[pair].trustee)


def verbs(found, group, resource):
    (permission,) = found["csv"]["spec"]["install"]["spec"]["clusterPermissions"]
    return {verb for rule in permission["rules"] if group in rule["apiGroups"] and resource in rule["resources"]
            for verb in rule["verbs"]}


def containers(found, deployment):
    specs = {d["name"]: d["spec"] for d in found["csv"]["spec"]["install"]["spec"]["deployments"]}
    return {c["name"]: c for c in specs[deployment]["template"]["spec"]["containers"]}


def crds(found):
    return {o["spec"]["names"]["kind"]: o["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
            for o in found["objects"] if o["kind"] == "CustomResourceDefinition"}


# Table

def test_both_halves_of_an_offered_pair_are_built():
    assert PAIRS == ["1.9/0.3", "1.11/1.0", "1.12/1.1", "1.13/1.2"]
    for release in RELEASES.values():
        assert OSC[release.osc].built
        assert TRUSTEE[release.trustee].built
        assert release.osc in release.osc_index
        assert release.trustee in release.trustee_index


@pytest.mark.parametrize("pair", PAIRS)
def test_the_index_goes_on_to_the_next_release_where_one_exists(pair):
    release = RELEASES[pair]
    newest = pair == PAIRS[-1]
    assert (release.osc == release.osc_index[-1]) == newest
    assert (release.trustee == release.trustee_index[-1]) == newest
    for package in index(pair):
        bundles = package["bundles"]
        assert [b["replaces"] for b in bundles[1:]] == [b["name"] for b in bundles[:-1]]
        assert {b["skip_range"] == "" for b in bundles} == {package["package"] == "trustee-operator"}


def test_measurements_differ():
    seen = [tuple(sorted(release.pcrs.items())) for release in RELEASES.values()]
    assert len(set(seen)) == len(seen)
    for pcrs in seen:
        assert [number for number, _ in pcrs] == [3, 9, 11, 12]
        assert all(len(bytes.fromhex(value)) == 32 for _, value in pcrs)


@pytest.mark.parametrize("pair", PAIRS)
def test_the_cluster_is_of_the_releases_openshift(pair):
    version = RELEASES[pair].openshift
    (status,) = [status for obj, status in seed.objects("lab", version) if obj["kind"] == "ClusterVersion"]
    assert status["desired"]["version"] == version
    floor = {"1.9/0.3": (4, 15), "1.11/1.0": (4, 20, 6), "1.12/1.1": (4, 20, 18), "1.13/1.2": (4, 20, 29)}[pair]
    assert tuple(map(int, version.split("."))) >= floor


# Images

def test_release_of_a_pinned_image():
    assert release_of(pinned("caa", "1.12.1")) == "1.12.1"
    assert release_of(pinned("trustee", "1.2.1")) == "1.2.1"
    assert release_of(IMAGES["trustee"] + ":latest") == release_of(IMAGES["ubi"]) == ""
    assert pinned("trustee", "0.3.0").startswith("registry.redhat.io/confidential-compute-attestation-tech-preview/")
    assert pinned("trustee", "0.4.2").startswith("registry.redhat.io/build-of-trustee/")


def test_every_container_of_every_bundle_has_a_program():
    for pair in PAIRS:
        for package in index(pair):
            for found in package["bundles"]:
                for deployment in found["csv"]["spec"]["install"]["spec"]["deployments"]:
                    for container in deployment["spec"]["template"]["spec"]["containers"]:
                        assert runtime.lookup(container["image"], container.get("command")), container["image"]
                        assert release_of(container["image"]) == found["version"]
    assert runtime.lookup(pinned("trustee-operator", "1.2.1"), ["/secret-converter"]).argv[-1] == "lab.secret_converter"


@pytest.mark.parametrize(("image", "expected"), [
    (pinned("trustee", "1.1.0"), "1.1.0"), (pinned("trustee", "0.3.0"), "0.3.0"), (IMAGES["trustee"] + ":latest", None)])
def test_a_container_learns_its_release(image, expected, tmp_path):
    node = types.SimpleNamespace(
        name="n", settings=types.SimpleNamespace(tools=tmp_path, hosts="h", scale=1, state=tmp_path))
    worker = types.SimpleNamespace(node=node, listen="127.0.0.1", directory=tmp_path, rootfs=lambda _: tmp_path,
                                   pod={"metadata": {"name": "p", "namespace": "x"}})
    container = types.SimpleNamespace(name="kbs", spec={"image": image})
    env = HostSandbox(worker).environment(container, runtime.lookup(image), {})
    assert env.get("LAB_RELEASE") == expected


# Bundles

def test_manager_of_osc_by_release():
    old, new = osc_bundle("1.9/0.3"), osc_bundle("1.13/1.2")
    assert set(containers(old, "controller-manager")) == {"kube-rbac-proxy", "manager"}
    assert set(containers(new, "controller-manager")) == {"manager"}

    def names(found):
        return {e["name"] for e in containers(found, "controller-manager")["manager"]["env"]}

    more = {"RELATED_IMAGE_MUST_GATHER", "RELATED_IMAGE_STORAGE_HELPER", "TP_KATA_DAEMONSET"}
    assert "RELATED_IMAGE_PODVM_OCI" not in names(old)
    assert names(new) - names(osc_bundle("1.12/1.1")) == more
    mounts = [m["name"] for m in containers(new, "controller-manager")["manager"]["volumeMounts"]]
    assert mounts == ["cert", "ssh", "bound-sa-token"]


def test_rights_of_osc_by_release():
    old, middle, new = (osc_bundle(pair) for pair in ("1.9/0.3", "1.12/1.1", "1.13/1.2"))
    assert verbs(old, "", "serviceaccounts") == set()
    assert verbs(old, "cloudcredential.openshift.io", "credentialsrequests") == {"create", "delete"}
    assert verbs(middle, "", "serviceaccounts") == {"get", "list"}
    assert verbs(middle, "networking.k8s.io", "networkpolicies") == set()
    assert verbs(new, "networking.k8s.io", "networkpolicies") == {"create", "delete", "update"}


def test_rights_of_trustee_by_release():
    old, middle, new = (trustee_bundle(pair) for pair in ("1.9/0.3", "1.12/1.1", "1.13/1.2"))
    assert verbs(old, "", "secrets") == {"get", "list", "update", "watch"}
    assert verbs(old, "config.openshift.io", "proxies") == verbs(old, "route.openshift.io", "routes") == set()
    assert verbs(old, "confidentialcontainers.org", "trusteeconfigs") == set()
    assert "create" in verbs(middle, "route.openshift.io", "routes")
    assert verbs(middle, "config.openshift.io", "apiservers") == set()
    assert verbs(new, "config.openshift.io", "apiservers") == {"get", "list", "watch"}
    assert verbs(new, "", "persistentvolumeclaims") == {"create", "delete", "get", "list", "update", "watch"}
    assert verbs(new, "events.k8s.io", "events") == set()


def test_manager_of_trustee_by_release():
    name = "trustee-operator-controller-manager"
    old, new = (containers(trustee_bundle(pair), name)["manager"] for pair in ("1.9/0.3", "1.13/1.2"))
    assert {e["name"] for e in old["env"]} == {"POD_NAMESPACE", "KBS_IMAGE_NAME", "AS_IMAGE_NAME", "RVPS_IMAGE_NAME"}
    assert {"name": "OPERATOR_IMAGE_NAME", "value": pinned("trustee-operator", "1.2.1")} in new["env"]
    assert (new["resources"]["limits"]["memory"], new["resources"]["requests"]["memory"]) == ("512Mi", "256Mi")
    assert new["ports"][0]["containerPort"] == 8443
    assert "ports" not in old


FIELDS = {
    "0.3.0": set(),
    "0.4.0": {"KbsDeploymentSpec", "kbsLocalCertCacheSpec"},
    "1.0.0": {"KbsDeploymentSpec", "kbsLocalCertCacheSpec", "kbsAttestationKeySecretName", "kbsAttestationCertSecretName"},
    "1.1.0": {"KbsDeploymentSpec", "kbsLocalCertCacheSpec", "kbsAttestationKeySecretName", "kbsAttestationCertSecretName",
              "kbsGpuAttestationPolicyConfigMapName"},
}
FIELDS["1.2.1"] = FIELDS["1.1.0"]
ALWAYS = {
    "kbsConfigMapName", "kbsAuthSecretName", "kbsRvpsRefValuesConfigMapName", "kbsAsConfigMapName", "kbsRvpsConfigMapName",
    "kbsDeploymentType", "kbsServiceType", "kbsHttpsKeySecretName", "kbsHttpsCertSecretName", "kbsSecretResources",
    "kbsResourcePolicyConfigMapName", "kbsAttestationPolicyConfigMapName", "KbsEnvVars", "ibmSEConfigSpec"}


@pytest.mark.parametrize(("pair", "version"), [
    ("1.9/0.3", "0.3.0"), ("1.9/0.3", "0.4.0"), ("1.11/1.0", "1.0.0"), ("1.12/1.1", "1.1.0"), ("1.13/1.2", "1.2.1")])
def test_fields_of_kbsconfig(pair, version):
    found = crds(bundle(pair, "trustee-operator", version))
    tdx = {"tdxConfigSpec"} if TRUSTEE[version].tdx_config else set()
    assert set(found["KbsConfig"]["spec"]["properties"]) == ALWAYS | FIELDS[version] | tdx
    assert ("TrusteeConfig" in found) == (version >= "1.0")
    assert found["KbsConfig"]["status"].get("required") == (["isReady"] if version >= "1.1" else None)
    assert (version == "1.2.1") == ("tdxConfigSpec" not in found["KbsConfig"]["spec"]["properties"])


def test_tls_config_of_1_2_only():
    assert "tlsConfig" not in crds(trustee_bundle("1.12/1.1"))["TrusteeConfig"]["spec"]["properties"]
    fields = crds(trustee_bundle("1.13/1.2"))["TrusteeConfig"]["spec"]["properties"]
    assert fields["ibmSE"]["required"] == ["pvName"]
    tls = fields["tlsConfig"]
    assert tls["properties"]["profile"]["default"] == "intermediate"
    assert tls["properties"]["minVersion"]["pattern"] == r"^1\.[0-3]$"
    assert tls["x-kubernetes-validations"][0]["message"] == "minVersion must not be greater than maxVersion"


# cloud-api-adaptor

OLD_KEY, NEW_KEY = (f"io.katacontainers.config.{part}.cc_init_data" for part in ("runtime", "hypervisor"))


def adaptor(version, tmp_path, **env):
    return caa.Adaptor({"LAB_CLOUD": str(tmp_path / "cloud"), **env}, None, OSC[version])


@pytest.mark.parametrize(("version", "key"), [
    ("1.9.0", OLD_KEY), ("1.10.1", OLD_KEY), ("1.11.1", NEW_KEY), ("1.12.1", NEW_KEY), ("1.13.1", NEW_KEY)])
def test_annotation_key(version, key):
    assert OSC[version].annotation == key


def test_1_9_hands_initdata_on_as_it_is(tmp_path):
    old = adaptor("1.9.0", tmp_path, INITDATA="Z2xvYmFs")
    assert old.initdata({OLD_KEY: "anything at all"}) == "anything at all"
    assert old.initdata({NEW_KEY: "not looked at"}) == "Z2xvYmFs"
    assert adaptor("1.9.0", tmp_path).initdata({}) == ""
    new = adaptor("1.12.1", tmp_path)
    with pytest.raises(caa.CreateError, match="failed to set initdata from annotation"):
        new.initdata({NEW_KEY: "YWxnb3JpdGhtID0gInNoYTI1NiIK"})
    assert new.initdata({}) == new.initdata({OLD_KEY: "ignored"}) != ""


@pytest.mark.parametrize(("version", "needed"), [("1.9.0", True), ("1.10.1", True), ("1.11.1", False), ("1.13.1", False)])
def test_ssh_key_for_every_vm(version, needed, tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_ROOT", str(tmp_path))
    if needed:
        with pytest.raises(caa.CreateError, match=r"open /root/\.ssh/id_rsa\.pub: no such file"):
            adaptor(version, tmp_path).check_key()
        (tmp_path / "root" / ".ssh").mkdir(parents=True)
        (tmp_path / "root" / ".ssh" / "id_rsa.pub").write_text("ssh-rsa x")
    adaptor(version, tmp_path).check_key()


def test_names_on_the_wire():
    assert {v: OSC[v].tee for v in ("1.9.0", "1.11.1", "1.12.1", "1.13.1")} == {
        "1.9.0": "azsnpvtpm", "1.11.1": "azsnpvtpm", "1.12.1": "az-snp-vtpm", "1.13.1": "az-snp-vtpm"}
    assert {v: OSC[v].protocol for v in ("1.9.0", "1.10.1", "1.11.1", "1.13.1")} == {
        "1.9.0": "0.1.1", "1.10.1": "0.2.0", "1.11.1": "0.4.0", "1.13.1": "0.4.0"}


# Pod VM image

GUID = "0a1b2c3d-0000-4000-8000-000000000001"
JOB = {
    "CLOUD_PROVIDER": "azure", "AZURE_SUBSCRIPTION_ID": GUID, "AZURE_CLIENT_ID": GUID, "AZURE_CLIENT_SECRET": "s",
    "AZURE_TENANT_ID": GUID, "AZURE_RESOURCE_GROUP": "rg", "AZURE_REGION": "eastus", "IMAGE_GALLERY_NAME": "g",
    "IMAGE_DEFINITION_NAME": "d", "IMAGE_VERSION": "1.0.1", "CONFIDENTIAL_COMPUTE_ENABLED": "yes"}


def test_1_9_builds_of_the_payload(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_ROOT", str(tmp_path))
    job = {**JOB, "LAB_RELEASE": "1.9.0"}
    podvm_image.check(job)
    with pytest.raises(podvm_image.Failed, match="Failed to unpack the payload"):
        podvm_image.image_of(job)
    podvm_image.copy_payload(job)
    image = podvm_image.image_of(job)
    assert image["pcrs"] == {str(n): value for n, value in RELEASES["1.9/0.3"].pcrs.items()}
    assert image["image_policy"] == "kbs:///default/security-policy/osc"
    with pytest.raises(podvm_image.Failed, match="PODVM_IMAGE_URI is empty"):
        podvm_image.check({**JOB, "LAB_RELEASE": "1.12.1"})


def test_an_image_measures_as_its_own_release():
    for pair, version in (("1.12/1.1", "1.12.0"), ("1.13/1.2", "1.13.1")):
        image = podvm_image.image_of({**JOB, "PODVM_IMAGE_URI": "oci::" + pinned("podvm-oci", version)})
        assert image["pcrs"] == {str(n): value for n, value in RELEASES[pair].pcrs.items()}
        assert "image_policy" not in image
    for other in (pinned("podvm-oci", "1.10.1"), pinned("caa", "1.12.1")):
        with pytest.raises(podvm_image.Failed, match="manifest unknown"):
            podvm_image.image_of({**JOB, "PODVM_IMAGE_URI": "oci::" + other})


def test_versions_of_the_operators():
    from lab.osc import version_of as osc_version
    from lab.trustee_operator import version_of as trustee_version

    for release in RELEASES.values():
        assert osc_version({"OPERATOR_CONDITION_NAME": OSC[release.osc].csv}) == release.osc
        assert trustee_version({"OPERATOR_CONDITION_NAME": TRUSTEE[release.trustee].csv}) == release.trustee
    assert asyncio.iscoroutinefunction(caa.work)
