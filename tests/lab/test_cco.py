"""lab-cco and lab-osc's credentials controller on an API server in memory (reference/operators.md 7)."""

from __future__ import annotations

import asyncio
import base64

import pytest

from lab import cco
from lab import osc_objects as make
from lab.osc_credentials import Credentials
from lab.osc_state import Invalid
from lab.releases import OSC
from lab.releases import OSC_NAMESPACE as NS
from tests.lab.operators_fake import FakeKube

REQUEST = ("CredentialsRequest", make.REQUEST, make.REQUEST_NAMESPACE)
KEY = f"{make.REQUEST_NAMESPACE}/{make.REQUEST}"
ROOT = {key: base64.b64encode(key.upper().encode()).decode() for key in cco.KEYS}


def obj(kind, name, namespace=None, api="v1", **body):
    meta = {"name": name, **body.pop("meta", {})}
    if namespace:
        meta["namespace"] = namespace
    return {"apiVersion": api, "kind": kind, "metadata": meta, **body}


def root(mode="passthrough", **data):
    notes = {} if mode is None else {"annotations": {"cloudcredential.openshift.io/mode": mode}}
    return obj("Secret", "azure-credentials", "kube-system", meta=notes, data={**ROOT, **data})


def request(version="1.11.1"):
    return make.credentials_request(make.Settings(release=OSC[version]))


class Cluster:
    """A cluster in memory with both controllers, each pass by hand."""

    def __init__(self, *objects, mode="", version="1.11.1"):
        self.kube = FakeKube(obj("CloudCredential", "cluster", spec={"credentialsMode": mode}), obj("Namespace", NS), *objects)
        self.operator = cco.CloudCredentialOperator(self.kube)
        self.credentials = Credentials(self.kube, make.Settings(release=OSC[version]))

    def grant(self):
        return asyncio.run(self.operator.reconcile(KEY))

    def ask(self):
        return asyncio.run(self.credentials.reconcile("example-kataconfig"))

    def secret(self, name="cco-secret"):
        return self.kube.peek("Secret", name, NS)

    @property
    def status(self):
        return self.kube.peek(*REQUEST)["status"]

    def conditions(self):
        return {c["type"]: (c["status"], c["message"]) for c in self.status.get("conditions") or []}


def test_passthrough_copies_the_root_secret():
    lab = Cluster(root(), request())
    lab.grant()
    made = lab.secret()
    assert made["data"] == ROOT
    assert made["metadata"]["annotations"]["cloudcredential.openshift.io/credentials-request"] == KEY
    assert lab.kube.peek(*REQUEST)["metadata"]["finalizers"] == ["cloudcredential.openshift.io/deprovision"]
    assert (lab.status["provisioned"], lab.status["lastSyncGeneration"], lab.conditions()) == (True, 1, {})
    calls = len(lab.kube.calls)
    assert lab.grant() > 0
    assert len(lab.kube.calls) == calls, "nothing to do"


def test_renewal_of_the_root_secret():
    lab = Cluster(root(), request())
    lab.grant()
    lab.operator.requests.store["CredentialsRequest"] = {KEY: lab.kube.peek(*REQUEST)}
    assert list(lab.operator._secret_changed(root())) == [KEY]
    assert list(lab.operator._secret_changed(lab.secret())) == [KEY]
    assert list(lab.operator._secret_changed(obj("Secret", "other", NS))) == []
    lab.kube.put(root(azure_client_secret="bmV3"))
    lab.grant()
    assert lab.secret()["data"]["azure_client_secret"] == "bmV3"


def test_manual_makes_nothing():
    lab = Cluster(root(), request(), mode="Manual")
    assert lab.grant() is None
    assert lab.kube.calls == []


@pytest.mark.parametrize(("given", "text"), [
    ([], 'unable to fetch root cloud cred secret: Secret "azure-credentials" not found'),
    ([root(None)], "cannot proceed without cloud cred secret annotation"),
    ([root("mint")], "mint mode is invalid"),
])
def test_why_nothing_is_granted(given, text):
    lab = Cluster(request(), *given)
    lab.grant()
    assert lab.secret() is None
    assert lab.status["provisioned"] is False
    assert lab.conditions() == {"CredentialsProvisionFailure": ("True", f"failed to grant creds: {text}")}
    lab.kube.put(root())
    lab.grant()
    assert lab.conditions() == {"CredentialsProvisionFailure": ("False", "successfully granted credentials request")}
    assert lab.secret()


def test_missing_namespace_and_other_platform():
    lab = Cluster(root(), request())
    del lab.kube.objects["Namespace", "", NS]
    lab.grant()
    assert lab.conditions() == {"MissingTargetNamespace": ("True", f"target namespace {NS} not found")}
    lab.kube.put(obj("Namespace", NS))
    lab.grant()
    assert lab.conditions()["MissingTargetNamespace"][0] == "False"
    assert lab.secret()
    foreign = request()
    foreign["spec"]["providerSpec"]["kind"] = "AWSProviderSpec"
    lab = Cluster(root(), foreign)
    lab.grant()
    assert lab.conditions()["Ignored"][0] == "True"
    assert lab.secret() is None


def test_the_secret_goes_with_its_request():
    lab = Cluster(root(), request())
    lab.grant()
    asyncio.run(lab.kube.delete("", *REQUEST))
    assert lab.kube.peek(*REQUEST), "held by the finalizer"
    lab.grant()
    assert lab.kube.peek(*REQUEST) is None
    assert lab.secret() is None


# lab-osc

def kata(peer_pods=True, **meta):
    return obj("KataConfig", "example-kataconfig", meta=meta, spec={"enablePeerPods": peer_pods})


def test_osc_asks_and_copies():
    lab = Cluster(root(), kata())
    with pytest.raises(Invalid, match="cco-secret"):
        lab.ask()
    spec = lab.kube.peek(*REQUEST)["spec"]
    assert spec["secretRef"] == {"name": "cco-secret", "namespace": NS}
    assert spec["providerSpec"]["kind"] == "AzureProviderSpec"
    lab.grant()
    assert lab.ask() is None
    made = lab.secret("peer-pods-secret")
    assert made["data"] == {name: ROOT[name.lower()] for name in
                            ("AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_TENANT_ID", "AZURE_SUBSCRIPTION_ID")}
    assert made["metadata"]["labels"] == {"kataconfiguration.openshift.io/credentials-request-based": "true"}
    (owner,) = made["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Secret", "cco-secret", lab.secret()["metadata"]["uid"])


@pytest.mark.parametrize("given", [
    [kata(), obj("Secret", "peer-pods-secret", NS, data={})], [kata(False)],
    [kata(deletionTimestamp="2026-01-01T00:00:00Z", finalizers=["x"])],
])
def test_osc_leaves_alone(given):
    """A Secret that is there, whatever is in it; a KataConfig without peer pods; one that is going."""
    lab = Cluster(root(), *given)
    assert lab.ask() is None
    assert lab.kube.calls == []


def test_osc_gives_the_request_back_when_kataconfig_is_gone():
    lab = Cluster(root(), request())
    lab.ask()
    assert lab.kube.calls == [f"delete CredentialsRequest {make.REQUEST}"]
    lab.ask()
    assert len(lab.kube.calls) == 1


def test_roles_by_release():
    def roles(version):
        return [binding["role"] for binding in request(version)["spec"]["providerSpec"]["roleBindings"]]
    old = ["Reader", "Virtual Machine Contributor", "Network Contributor", "Storage Account Contributor"]
    assert roles("1.9.0") == roles("1.10.1") == old
    assert roles("1.11.1") == [*old, "Compute Gallery Artifacts Publisher"]
    assert request("1.13.1")["spec"]["serviceAccountNames"] == ["default"]
    assert "serviceAccountNames" not in request("1.9.0")["spec"]
