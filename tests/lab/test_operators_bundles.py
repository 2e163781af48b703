"""The operator index against reference/operators.md 1 and 2."""

from __future__ import annotations

import json

import pytest

from lab.bundles import index
from lab.releases import IMAGES, OSC, RELEASES, TRUSTEE, pinned

PACKAGES = {package["package"]: package for package in index("1.11/1.0")}
OSC_BUNDLES = {b["version"]: b for b in PACKAGES["sandboxed-containers-operator"]["bundles"]}
TRUSTEE_BUNDLES = {b["version"]: b for b in PACKAGES["trustee-operator"]["bundles"]}
EVERY = [*OSC_BUNDLES.values(), *TRUSTEE_BUNDLES.values()]


def rules(bundle):
    return bundle["csv"]["spec"]["install"]["spec"]["clusterPermissions"][0]["rules"]


def verbs(bundle, group, resource):
    found = set()
    for rule in rules(bundle):
        if group in rule["apiGroups"] and resource in rule["resources"]:
            found |= set(rule["verbs"])
    return found


def crd(bundle, kind):
    return next(o for o in bundle["objects"] if o["kind"] == "CustomResourceDefinition"
                and o["spec"]["names"]["kind"] == kind)


def schema(bundle, kind):
    return crd(bundle, kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]


def test_unknown_pair():
    with pytest.raises(KeyError):
        index("1.9/9.9")


def test_the_index_offers_the_release_its_earlier_z_stream_and_newer_ones():
    assert list(OSC_BUNDLES) == ["1.11.0", "1.11.1", "1.12.0", "1.12.1"]
    assert list(TRUSTEE_BUNDLES) == ["1.0.0", "1.1.0"]


@pytest.mark.parametrize("package", PACKAGES.values(), ids=list(PACKAGES))
def test_one_channel_head(package):
    names = {b["name"] for b in package["bundles"]}
    replaced = [b["replaces"] for b in package["bundles"] if b["replaces"] in names]
    assert len(names) - len(set(replaced)) == 1
    assert len(replaced) == len(set(replaced))
    assert package["default_channel"] == "stable"
    assert {b["channel"] for b in package["bundles"]} == {"stable"}


def test_replaces_and_skip_range():
    assert OSC_BUNDLES["1.11.1"]["replaces"] == "sandboxed-containers-operator.v1.11.0"
    assert OSC_BUNDLES["1.11.1"]["skip_range"] == ">=1.1.0 <1.11.1"
    assert OSC_BUNDLES["1.11.1"]["csv"]["metadata"]["annotations"]["olm.skipRange"] == ">=1.1.0 <1.11.1"
    assert TRUSTEE_BUNDLES["1.0.0"]["replaces"] == "trustee-operator.v0.4.2"
    assert TRUSTEE_BUNDLES["1.1.0"]["replaces"] == "trustee-operator.v1.0.0"
    assert TRUSTEE_BUNDLES["1.0.0"]["skip_range"] == ""


@pytest.mark.parametrize("bundle", EVERY, ids=lambda b: b["name"])
def test_csv_shape(bundle):
    csv = bundle["csv"]
    assert csv["metadata"]["name"] == bundle["name"]
    assert csv["spec"]["version"] == bundle["version"]
    modes = {m["type"]: m["supported"] for m in csv["spec"]["installModes"]}
    assert modes == {"OwnNamespace": True, "SingleNamespace": True, "MultiNamespace": False, "AllNamespaces": False}
    owned = {o["name"] for o in csv["spec"]["customresourcedefinitions"]["owned"]}
    assert owned == {o["metadata"]["name"] for o in bundle["objects"] if o["kind"] == "CustomResourceDefinition"}
    package = next(p for p in bundle["properties"] if p["type"] == "olm.package")
    assert json.loads(package["value"])["version"] == bundle["version"]
    for deployment in csv["spec"]["install"]["spec"]["deployments"]:
        selector = deployment["spec"]["selector"]["matchLabels"]
        assert selector.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()


def test_osc_deployments():
    found = {d["name"]: d["spec"] for d in OSC_BUNDLES["1.11.1"]["csv"]["spec"]["install"]["spec"]["deployments"]}
    assert set(found) == {"controller-manager", "operator-metrics-server"}
    manager = found["controller-manager"]
    pod = manager["template"]["spec"]
    container = pod["containers"][0]
    assert "serviceAccountName" not in pod
    assert manager["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    assert container["command"] == ["/manager"]
    assert container["args"] == ["--metrics-bind-address=127.0.0.1:8080", "--leader-elect"]
    assert not {"livenessProbe", "readinessProbe", "startupProbe"} & set(container)
    assert all(next(iter(source.values()))["optional"] for source in container["envFrom"])
    assert container["resources"] == {"limits": {"cpu": "200m", "memory": "256Mi"},
                                      "requests": {"cpu": "100m", "memory": "40Mi"}}
    names = {e["name"]: e["value"] for e in container["env"]}
    assert names["RELATED_IMAGE_CAA"] == pinned("caa", "1.11.1")
    assert names["RELATED_IMAGE_CAA"].startswith(IMAGES["caa"] + "@sha256:")


def test_osc_webhook():
    (webhook,) = OSC_BUNDLES["1.11.1"]["csv"]["spec"]["webhookdefinitions"]
    assert webhook["generateName"] == "vkataconfig.kb.io"
    assert webhook["webhookPath"] == "/validate-kataconfiguration-openshift-io-v1-kataconfig"
    assert webhook["rules"][0]["operations"] == ["CREATE"]
    assert (webhook["containerPort"], webhook["targetPort"], webhook["failurePolicy"]) == (443, 9443, "Fail")


def test_osc_rights_are_those_of_the_csv_and_no_more():
    bundle = OSC_BUNDLES["1.11.1"]
    full = {"create", "delete", "get", "list", "patch", "update", "watch"}
    assert verbs(bundle, "", "nodes") == full
    assert verbs(bundle, "batch", "jobs") == {"create", "delete", "get", "list", "watch"}
    assert verbs(bundle, "admissionregistration.k8s.io", "mutatingwebhookconfigurations") == full - {"patch"}
    assert verbs(bundle, "config.openshift.io", "infrastructures") == {"get", "list", "watch"}
    assert verbs(bundle, "rbac.authorization.k8s.io", "clusterroles") == set()
    assert verbs(bundle, "networking.k8s.io", "networkpolicies") == set()
    assert not any("*" in rule["apiGroups"] + rule["resources"] + rule["verbs"] for rule in rules(bundle))


def test_trustee_rights():
    full = {"create", "delete", "get", "list", "patch", "update", "watch"}
    assert verbs(TRUSTEE_BUNDLES["1.0.0"], "", "secrets") == full
    assert verbs(TRUSTEE_BUNDLES["1.0.0"], "config.openshift.io", "proxies") == {"get", "list", "watch"}
    assert verbs(TRUSTEE_BUNDLES["1.0.0"], "route.openshift.io", "routes") == set()
    assert verbs(TRUSTEE_BUNDLES["1.1.0"], "route.openshift.io", "routes") == full


def test_trustee_deployment():
    (deployment,) = TRUSTEE_BUNDLES["1.0.0"]["csv"]["spec"]["install"]["spec"]["deployments"]
    pod = deployment["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert deployment["name"] == pod["serviceAccountName"] == "trustee-operator-controller-manager"
    assert container["livenessProbe"] == {"httpGet": {"path": "/healthz", "port": 8081}, "initialDelaySeconds": 15,
                                          "periodSeconds": 20}
    assert container["readinessProbe"]["initialDelaySeconds"] == 5
    assert {"KBS_IMAGE_NAME", "KBS_IMAGE_NAME_MICROSERVICES", "AS_IMAGE_NAME", "RVPS_IMAGE_NAME",
            "POD_NAMESPACE"} == {e["name"] for e in container["env"]}
    assert "webhookdefinitions" not in TRUSTEE_BUNDLES["1.0.0"]["csv"]["spec"]


def test_kataconfig_crd():
    entry = crd(OSC_BUNDLES["1.11.1"], "KataConfig")
    properties = schema(OSC_BUNDLES["1.11.1"], "KataConfig")
    assert entry["spec"]["scope"] == "Cluster"
    spec, status = properties["spec"], properties["status"]
    assert spec["nullable"] is True
    assert spec["required"] == ["checkNodeEligibility"]
    assert spec["properties"]["checkNodeEligibility"]["default"] is False
    assert spec["properties"]["kataConfigPoolSelector"]["nullable"] is True
    assert spec["properties"]["logLevel"]["default"] == "info"
    assert status["required"] == ["waitingForMcoToStart"]
    assert sorted(status["properties"]["conditions"]["items"]["required"]) == [
        "lastTransitionTime", "message", "reason", "status", "type"]
    columns = [c["name"] for c in entry["spec"]["versions"][0]["additionalPrinterColumns"]]
    assert columns == ["InProgress", "Completed", "Total", "Age"]


def test_kbsconfig_crd():
    properties = schema(TRUSTEE_BUNDLES["1.0.0"], "KbsConfig")
    spec = properties["spec"]
    assert "required" not in spec
    enums = [name for name, value in spec["properties"].items() if "enum" in value]
    assert enums == ["kbsDeploymentType"]
    assert "default" not in spec["properties"]["kbsDeploymentType"]
    assert {"KbsEnvVars", "KbsDeploymentSpec"} <= set(spec["properties"])
    secrets = spec["properties"]["kbsLocalCertCacheSpec"]["properties"]["secrets"]["items"]
    assert secrets["required"] == ["secretName"]
    assert "required" not in properties["status"]
    assert schema(TRUSTEE_BUNDLES["1.1.0"], "KbsConfig")["status"]["required"] == ["isReady"]
    assert "kbsGpuAttestationPolicyConfigMapName" not in spec["properties"]


def test_trusteeconfig_crd_has_no_enum_for_the_profile():
    spec = schema(TRUSTEE_BUNDLES["1.0.0"], "TrusteeConfig")["spec"]["properties"]
    assert spec["profileType"] == {"type": "string"}
    assert "tlsConfig" not in spec


def test_release_table():
    release = RELEASES["1.11/1.0"]
    assert OSC[release.osc].csv == "sandboxed-containers-operator.v1.11.1"
    assert TRUSTEE[release.trustee].csv == "trustee-operator.v1.0.0"
    values = release.measurements()["measurements"]["sha256"]
    assert set(values) == {"pcr03", "pcr09", "pcr11", "pcr12"}
    assert all(len(bytes.fromhex(v.removeprefix("0x"))) == 32 and v.startswith("0x") for v in values.values())
    assert len(set(values.values())) == 4
