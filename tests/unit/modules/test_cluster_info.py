"""cluster_info: what a cluster is, in few requests, of keys only public halves."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from ansible_collections.confidential.containers.plugins.module_utils.actions.cluster_info import SECTIONS
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError
from tests.fake_api import FakeApi
from tests.fake_api.store import Object

OSC, TRUSTEE = "openshift-sandboxed-containers-operator", "trustee-operator-system"
PEM = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----\n"
PRIVATE = "-----BEGIN PRIVATE KEY-----\nvery-private\n-----END PRIVATE KEY-----\n"


def obj(api_version: str, kind: str, name: str, namespace: str = "", meta: Object | None = None, **more: Any) -> Object:
    return {"apiVersion": api_version, "kind": kind,
            "metadata": {"name": name, **({"namespace": namespace} if namespace else {}), **(meta or {})}, **more}


def secret(name: str, **data: str) -> Object:
    return obj("v1", "Secret", name, TRUSTEE, data={key: base64.b64encode(value.encode()).decode() for key, value in data.items()})


@pytest.fixture
def openshift(api: FakeApi) -> FakeApi:
    config = "config.openshift.io/v1"
    api.put(obj(config, "ClusterVersion", "version", status={
        "desired": {"version": "4.18.31"}, "history": [{"state": "Partial", "version": "4.18.31"},
                                                       {"state": "Completed", "version": "4.18.30"}]}))
    api.put(obj(config, "Infrastructure", "cluster", status={
        "infrastructureName": "lab-x", "platformStatus": {"type": "Azure", "azure": {"resourceGroupName": "lab-rg"}}}))
    api.put(obj(config, "Ingress", "cluster", spec={"domain": "apps.lab.test"}))
    for name, role in (("m", "master"), ("w", "worker")):
        api.put(obj("v1", "Node", name, meta={"labels": {f"node-role.kubernetes.io/{role}": ""}}))
    for name in ("master", "worker"):
        api.put(obj("machineconfiguration.openshift.io/v1", "MachineConfigPool", name, spec={"paused": name == "worker"}, status={
            "machineCount": 1, "conditions": [{"type": "Updated", "status": "True"}, {"type": "Degraded", "status": "False"}]}))
    conf = {"subscriptionId": "s", "aadClientSecret": "very-private"}
    api.put(obj("v1", "ConfigMap", "cloud-conf", "openshift-cloud-controller-manager", data={"cloud.conf": json.dumps(conf)}))
    return api


def cluster(call: Any, *gather: str, **options: Any) -> Object:
    result = call("cluster_info", **({"gather": list(gather)} if gather else {}), **options)
    assert result["changed"] is False
    found: Object = result["cluster"]
    return found


def test_what_the_cluster_is(openshift: FakeApi, call: Any) -> None:
    found = cluster(call, "version", "platform", "ingress", "topology", "cloud_conf")
    assert found == {
        "server": openshift.url, "openshift_version": "4.18.30", "kubernetes_version": "1.32.9", "platform": "Azure", "aro": False,
        "infrastructure_name": "lab-x", "resource_group": "lab-rg", "region": "", "ingress_domain": "apps.lab.test",
        "topology": {"control_plane": ["m"], "workers": ["w"], "converged": False},
        "nodes": [{"name": "m", "labels": {"node-role.kubernetes.io/master": ""}},
                  {"name": "w", "labels": {"node-role.kubernetes.io/worker": ""}}],
        "pools": [{"name": "master", "paused": False, "degraded": False, "updated": True, "machine_count": 1},
                  {"name": "worker", "paused": True, "degraded": False, "updated": True, "machine_count": 1}],
        "cloud_conf": {"subscriptionId": "s"},
    }


def test_everything_of_an_empty_cluster(api: FakeApi, call: Any) -> None:
    """No section fails where nothing is there, in check mode either; a bare Kubernetes has no OpenShift version."""
    api.kinds = [kind for kind in api.kinds if "openshift" not in kind.api_version]
    found = cluster(call)
    assert found == cluster(call, *SECTIONS, check=True)
    assert found["openshift_version"] == ""
    assert (found["kataconfig"], found["cloud_conf"], found["peerpods_cm"], found["image_id"]) == (None, None, None, "")
    assert found["trustee"]["routes"] == []
    assert found["operators"]["osc"] == {"csv": "", "phase": "", "subscription": "", "approval": "", "channel": ""}
    assert not api.writes()


def test_few_requests(openshift: FakeApi, call: Any) -> None:
    cluster(call)
    assert len(openshift.requests) <= 60
    assert openshift.connections <= 16
    openshift.requests.clear()
    cluster(call, "ingress")
    assert [r.path for r in openshift.requests] == ["/apis/config.openshift.io/v1/ingresses/cluster"]


def test_a_sections_objects_only(openshift: FakeApi, call: Any) -> None:
    assert set(cluster(call, "ingress")) == {"server", "ingress_domain"}


def test_installed_operators(api: FakeApi, call: Any) -> None:
    olm = "operators.coreos.com/v1alpha1"
    api.put(obj(olm, "Subscription", "osc", OSC, spec={"name": "sandboxed-containers-operator", "installPlanApproval": "Manual",
                                                       "channel": "stable"},
                status={"installedCSV": "sandboxed-containers-operator.v1.11.1"}))
    for name, status in (("sandboxed-containers-operator.v1.11.0", {"phase": "Replacing"}),
                         ("sandboxed-containers-operator.v1.11.1", {"phase": "Succeeded"}),
                         ("another.v1", {"phase": "Failed"})):
        api.put(obj(olm, "ClusterServiceVersion", name, OSC, status=status))
    api.put(obj(olm, "ClusterServiceVersion", "trustee-operator.v1.0.0", TRUSTEE, status={"phase": "Succeeded", "reason": "Copied"}))
    found = cluster(call, "operators")["operators"]
    assert found["osc"] == {"csv": "sandboxed-containers-operator.v1.11.1", "phase": "Succeeded", "subscription": "osc",
                            "approval": "Manual",
                            "channel": "stable"}
    assert found["trustee"]["csv"] == "", "a copied CSV is installed elsewhere"


def test_trustee_shows_public_halves_only(api: FakeApi, call: Any) -> None:
    api.put(secret("kbs-auth-public-key", publicKey=PEM))
    api.put(secret("kbs-https-certificate", **{"certificate": PEM, "ca.crt": PEM, "tls.key": PRIVATE}))
    api.put(secret("kbs-attestation-certificate", **{"token.crt": PRIVATE, "tls.crt": PEM}))
    api.put(secret("coco-verification", random="very-private"))
    api.put(obj("route.openshift.io/v1", "Route", "kbs", TRUSTEE, spec={"host": "kbs.test", "tls": {"termination": "passthrough"}}))
    api.put(obj("confidentialcontainers.org/v1alpha1", "KbsConfig", "kbsconfig", TRUSTEE, spec={"kbsConfigMapName": "kbs-config"}))
    found = cluster(call, "trustee")["trustee"]
    assert (found["auth_public_key"], found["https_certificate"], found["ca"], found["signer_certificate"]) == (PEM, PEM, PEM, PEM)
    assert found["routes"] == [{"name": "kbs", "host": "kbs.test", "termination": "passthrough"}]
    assert found["verification_present"]
    assert found["kbsconfig"] == {"kbsConfigMapName": "kbs-config"}
    assert not found["deployed"]
    assert "very-private" not in json.dumps(found)


def test_how_trustee_is_deployed(api: FakeApi, call: Any) -> None:
    coco = "confidentialcontainers.org/v1alpha1"
    assert cluster(call, "trustee_kinds")["trustee"] == {"kinds": []}
    api.put(obj(coco, "TrusteeConfig", "trusteeconfig", TRUSTEE))
    api.put(obj(coco, "KbsConfig", "trusteeconfig-kbs-config", TRUSTEE, meta={"ownerReferences": [
        {"apiVersion": coco, "kind": "TrusteeConfig", "name": "trusteeconfig", "uid": "1"}]}))
    api.put(obj(coco, "KbsConfig", "kbsconfig", TRUSTEE))
    found = sorted((item["kind"], item["name"], item["generated"]) for item in cluster(call, "trustee_kinds")["trustee"]["kinds"])
    assert found == [("KbsConfig", "kbsconfig", False), ("KbsConfig", "trusteeconfig-kbs-config", True),
                     ("TrusteeConfig", "trusteeconfig", False)]


def test_where_credentials_come_from(api: FakeApi, call: Any) -> None:
    """Of the root Secret only its mode; what may not be read is named."""
    nothing = {"present": False, "mode": "", "root_secret": False, "root_mode": "", "federated": False, "unseen": []}
    assert cluster(call, "credentials")["credentials_operator"] == nothing
    api.put(obj("operator.openshift.io/v1", "CloudCredential", "cluster", spec={"credentialsMode": "Manual"}))
    data = {"azure_client_secret": base64.b64encode(b"very-private").decode()}
    api.put(obj("v1", "Secret", "azure-credentials", "kube-system", data=data,
                meta={"annotations": {"cloudcredential.openshift.io/mode": "passthrough"}}))
    env = [{"name": name, "value": "x"} for name in ("CLIENTID", "TENANTID", "SUBSCRIPTIONID")]
    api.put(obj("operators.coreos.com/v1alpha1", "Subscription", "osc", OSC, spec={"name": "sandboxed-containers-operator",
                                                                                  "config": {"env": env}}))
    found = cluster(call, "credentials")
    assert found["credentials_operator"] == {"present": True, "mode": "Manual", "root_secret": True, "root_mode": "passthrough",
                                             "federated": True, "unseen": []}
    assert "very-private" not in json.dumps(found)
    for what in ("secrets", "cloudcredentials"):
        api.forbidden.add(("get", what))
    assert cluster(call, "credentials")["credentials_operator"] == {
        **nothing, "federated": True, "unseen": ["CloudCredential cluster", "Secret kube-system/azure-credentials"]}


def test_a_private_half_is_seen_and_not_shown(api: FakeApi, call: Any) -> None:
    api.put(secret("kbs-auth-public-key", publicKey=PEM))
    assert cluster(call, "trustee_auth")["trustee"] == {"auth_public_key": PEM, "auth_private_present": False}
    api.put(secret("kbs-auth-public-key", publicKey=PEM, privateKey=PRIVATE))
    assert cluster(call, "trustee_auth")["trustee"] == {"auth_public_key": PEM, "auth_private_present": True}


def test_configuration_in_the_cluster(api: FakeApi, call: Any) -> None:
    assert cluster(call, "trustee_config")["trustee"] == {"config": None}
    api.put(obj("v1", "ConfigMap", "kbs-config-cm", TRUSTEE, data={"kbs-config.toml": "x = 1"}))
    assert cluster(call, "trustee_config")["trustee"] == {"config": {"kbs-config.toml": "x = 1"}}


def test_pods_older_than_what_they_read(api: FakeApi, call: Any) -> None:
    api.put(obj("confidentialcontainers.org/v1alpha1", "KbsConfig", "kbsconfig", TRUSTEE, spec={"kbsConfigMapName": "kbs-config"}))
    api.put(obj("v1", "Pod", "kbs-1", TRUSTEE, meta={"labels": {"app": "kbs"}, "creationTimestamp": "2026-01-01T00:00:00Z"}))
    api.put(obj("v1", "ConfigMap", "kbs-config", TRUSTEE, data={"a": "b"}))
    assert cluster(call, "trustee")["trustee"]["stale_pods"] == [{"name": "kbs-1", "because": ["ConfigMap kbs-config"]}]


@pytest.mark.parametrize(("release", "adaptor"), [("1.8/0.2", "peerpodconfig-ctrl-caa-daemon"), ("1.11/1.0", "osc-caa-ds"),
                                                  (None, "osc-caa-ds")])
def test_peer_pods(api: FakeApi, call: Any, release: str | None, adaptor: str) -> None:
    api.put(obj("apps/v1", "DaemonSet", adaptor, OSC, status={"desiredNumberScheduled": 2, "numberReady": 1}))
    api.put(obj("v1", "ConfigMap", "peer-pods-cm", OSC, data={"AZURE_IMAGE_ID": "/image"}))
    api.put({**obj("v1", "Secret", "peer-pods-secret", OSC), "data": {"AZURE_CLIENT_SECRET": "dmVyeS1wcml2YXRl"}})
    found = cluster(call, "peerpods", **({"release": release} if release else {}))
    assert found["caa"] == {"present": True, "desired": 2, "ready": 1}
    assert (found["image_id"], found["peerpods_cm"]) == ("/image", {"AZURE_IMAGE_ID": "/image"})
    assert found["peerpods_secret"] == {"present": True, "keys": ["AZURE_CLIENT_SECRET"]}
    assert "dmVyeS1wcml2YXRl" not in json.dumps(found)


def test_kata(api: FakeApi, call: Any) -> None:
    api.put(obj("kataconfiguration.openshift.io/v1", "KataConfig", "k", meta={"finalizers": ["f/g"]}, spec={"enablePeerPods": True}))
    api.delete(("kataconfiguration.openshift.io/v1", "kataconfigs", "", "k"))
    api.put(obj("node.k8s.io/v1", "RuntimeClass", "kata-remote"))
    api.put(obj("v1", "Pod", "p", "default", spec={"runtimeClassName": "kata-remote"}))
    api.put(obj("v1", "Pod", "q", "default", spec={}))
    found = cluster(call, "kata", "pods")
    assert found["kataconfig"] == {"name": "k", "spec": {"enablePeerPods": True}, "status": {}, "deleting": True}
    assert found["runtime_classes"] == ["kata-remote"]
    assert found["kata_pods"] == ["default/p"]


def test_missing_permissions_are_named(api: FakeApi, call: Any) -> None:
    api.forbidden |= {("patch", "routes"), ("delete", "kataconfigs")}
    assert cluster(call, "permissions")["permissions"]["missing"] == [
        {"verb": "patch", "group": "route.openshift.io", "resource": "routes", "zone": "hub"},
        {"verb": "delete", "group": "kataconfiguration.openshift.io", "resource": "kataconfigs", "zone": "spoke"}]


@pytest.mark.parametrize(("release", "missing"), [("1.12/1.1", []), ("1.13/1.2", ["trusteeconfigs"])])
def test_trusteeconfigs_matter_where_they_are_the_default(api: FakeApi, call: Any, release: str, missing: list[str]) -> None:
    api.forbidden.add(("patch", "trusteeconfigs"))
    found = cluster(call, "permissions", release=release)["permissions"]["missing"]
    assert [item["resource"] for item in found] == missing


def test_what_may_not_be_read(api: FakeApi, call: Any) -> None:
    api.forbidden.add(("list", "nodes"))
    with pytest.raises(CocoError, match=r'cannot be examined · the credentials may not do this: .*cannot list resource "nodes"'):
        cluster(call, "topology")


def test_an_unreachable_cluster(call: Any) -> None:
    with pytest.raises(CocoError, match=r"The cluster cannot be examined · http://127.0.0.1:1 does not answer"):
        cluster(call, "version", kubeconfig=None, host="http://127.0.0.1:1")
