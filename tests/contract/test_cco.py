"""lab-cco beside the Cloud Credential Operator on Azure, and lab-osc's controller of the credentials (operators.md 7).

The root Secret is the installation's; a snapshot is put back in the end.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.contract.cluster import OSC, namespace, subscribe, until
from tests.integration.lab import Lab

CCO = "/apis/cloudcredential.openshift.io/v1/namespaces/openshift-cloud-credential-operator/credentialsrequests"
MODE, ROOT = "/apis/operator.openshift.io/v1/cloudcredentials/cluster", "/api/v1/namespaces/kube-system/secrets"
PREFIX = "cloudcredential.openshift.io/"
KEYS = ("azure_client_id", "azure_client_secret", "azure_tenant_id", "azure_subscription_id", "azure_region", "azure_resourcegroup",
        "azure_resource_prefix")
HERE = "contract-cco"
CORE, KATACONFIG = f"/api/v1/namespaces/{OSC}", "/apis/kataconfiguration.openshift.io/v1/kataconfigs"
REQUEST = f"{CCO}/openshift-sandboxed-containers-azure"


def secret(lab: Lab, name: str, where: str = HERE) -> Any:
    return lab.request("GET", f"/api/v1/namespaces/{where}/secrets/{name}")


def values(found: Any) -> dict[str, str]:
    return {key: base64.b64decode(value).decode() for key, value in found["data"].items()}


def ask(lab: Lab, name: str, where: str = HERE) -> str:
    """A request for a Secret of its own name; its path."""
    lab.request("POST", CCO, {"apiVersion": f"{PREFIX}v1", "kind": "CredentialsRequest", "metadata": {"name": name}, "spec": {
        "secretRef": {"name": name, "namespace": where}, "providerSpec": {
            "apiVersion": f"{PREFIX}v1", "kind": "AzureProviderSpec", "roleBindings": [{"role": "Reader"}]}}})
    return f"{CCO}/{name}"


def condition(lab: Lab, path: str, kind: str) -> tuple[str, str] | None:
    found = (lab.request("GET", path).get("status") or {}).get("conditions") or []
    return next(((item["status"], item["message"]) for item in found if item["type"] == kind), None)


def write_root(lab: Lab, mode: str | None = "passthrough", **changed: str) -> None:
    lab.request("DELETE", f"{ROOT}/azure-credentials")
    notes = {} if mode is None else {"annotations": {f"{PREFIX}mode": mode}}
    lab.request("POST", ROOT, {"metadata": {"name": "azure-credentials", **notes},
                               "stringData": {**{key: f"{key}-1" for key in KEYS}, **changed}})


@pytest.fixture(scope="module")
def lab(cluster: Lab) -> Iterator[Lab]:
    """A cluster with a root Secret of this file's; the suites after it find the cluster as it was."""
    cluster.lab("snapshot", "before-cco")
    namespace(cluster, HERE)
    write_root(cluster)
    yield cluster
    cluster.lab("restore", "before-cco")


@pytest.fixture
def root(lab: Lab) -> Iterator[Lab]:
    """For tests that change the root Secret."""
    yield lab
    write_root(lab)


def test_passthrough(lab: Lab) -> None:
    """What the root Secret holds is copied as it is, roleBindings are ignored; annotation, finalizer and status say so."""
    path = ask(lab, "passed")
    found = until(lambda: secret(lab, "passed"))
    assert values(found) == {key: f"{key}-1" for key in KEYS}
    assert found["metadata"]["annotations"][f"{PREFIX}credentials-request"] == "openshift-cloud-credential-operator/passed"
    request = until(lambda: (item := lab.request("GET", path)).get("status", {}).get("provisioned") and item)
    assert request["metadata"]["finalizers"] == [f"{PREFIX}deprovision"]
    assert request["status"]["lastSyncGeneration"] == request["metadata"]["generation"]
    assert request["status"]["lastSyncTimestamp"]


def test_renewal(root: Lab) -> None:
    """A renewed root Secret reaches what was made of it."""
    ask(root, "renewed")
    until(lambda: secret(root, "renewed"))
    root.request("PATCH", f"{ROOT}/azure-credentials", {"stringData": {"azure_client_secret": "new"}})
    until(lambda: values(secret(root, "renewed"))["azure_client_secret"] == "new")


def test_a_lost_secret_is_made_again(lab: Lab) -> None:
    ask(lab, "lost")
    old = until(lambda: secret(lab, "lost"))["metadata"]["uid"]
    lab.request("DELETE", f"/api/v1/namespaces/{HERE}/secrets/lost")
    until(lambda: (found := secret(lab, "lost")) and found["metadata"]["uid"] != old)


@pytest.mark.parametrize(("mode", "text"), [("absent", "unable to fetch root cloud cred secret: "),
                                            (None, "cannot proceed without cloud cred secret annotation"),
                                            ("mint", "mint mode is invalid")])
def test_why_nothing_is_granted(root: Lab, mode: str | None, text: str) -> None:
    """CredentialsProvisionFailure with the operator's words; granted when the cause is mended."""
    if mode == "absent":
        root.request("DELETE", f"{ROOT}/azure-credentials")
    else:
        write_root(root, mode)
    name = f"refused-{mode}".lower()
    path = ask(root, name)
    status, message = until(lambda: condition(root, path, "CredentialsProvisionFailure"))
    assert (status, text in message) == ("True", True), message
    assert root.request("GET", path)["status"]["provisioned"] is False
    assert secret(root, name) is None
    write_root(root)
    until(lambda: secret(root, name))
    until(lambda: (condition(root, path, "CredentialsProvisionFailure") or ("", ""))[0] == "False")


def test_missing_target_namespace(lab: Lab) -> None:
    """MissingTargetNamespace until the namespace is there."""
    path = ask(lab, "early", "contract-cco-later")
    until(lambda: (condition(lab, path, "MissingTargetNamespace") or ("", ""))[0] == "True")
    namespace(lab, "contract-cco-later")
    until(lambda: secret(lab, "early", "contract-cco-later"))
    until(lambda: (condition(lab, path, "MissingTargetNamespace") or ("", ""))[0] == "False")


def test_manual_makes_nothing(lab: Lab) -> None:
    """In mode Manual no Secret, no status, no finalizer; what was asked meanwhile is granted afterwards."""
    lab.request("PATCH", MODE, {"spec": {"credentialsMode": "Manual"}})
    path = ask(lab, "manual")
    ask_again = ask(lab, "manual-2")
    lab.request("PATCH", ask_again, {"metadata": {"labels": {"seen": "twice"}}})
    log = until(lambda: "manual-2 is left alone" in (text := lab.lab("logs", "lab-cco")) and text)
    assert "operator set to disabled / manual mode" in log
    assert secret(lab, "manual") is None
    request = lab.request("GET", path)
    assert "status" not in request
    assert "finalizers" not in request["metadata"]
    lab.request("PATCH", MODE, {"spec": {"credentialsMode": ""}})
    until(lambda: secret(lab, "manual"))


def test_the_secret_goes_with_the_request(lab: Lab) -> None:
    path = ask(lab, "going")
    until(lambda: secret(lab, "going"))
    lab.request("DELETE", path)
    until(lambda: lab.request("GET", path) is None)
    assert secret(lab, "going") is None


# The sandboxed containers operator

@pytest.fixture(scope="module")
def osc(lab: Lab) -> Iterator[Lab]:
    """The operator with peer-pods-cm, an image id in it, and no Secret; all but the operator is taken away again."""
    if lab.request("GET", f"/api/v1/namespaces/{OSC}") is None:
        subscribe(lab, OSC, "sandboxed-containers-operator")
    lab.request("POST", f"{CORE}/configmaps", {"metadata": {"name": "peer-pods-cm"}, "data": {
        "CLOUD_PROVIDER": "azure", "AZURE_RESOURCE_GROUP": "contract", "AZURE_REGION": "eastus",
        "AZURE_IMAGE_ID": f"/subscriptions/{'0' * 8}-0000-0000-0000-{'0' * 12}/resourceGroups/contract/providers/"
                          "Microsoft.Compute/galleries/g/images/i/versions/1.0.0"}})
    yield lab
    lab.request("DELETE", f"{CORE}/configmaps/peer-pods-cm")


def create(lab: Lab) -> None:
    """A KataConfig; the webhook of failurePolicy Fail answers a moment after the CSV has succeeded."""
    body = {"apiVersion": "kataconfiguration.openshift.io/v1", "kind": "KataConfig", "metadata": {"name": "contract"},
            "spec": {"enablePeerPods": True}}

    def accepted() -> bool:
        with contextlib.suppress(AssertionError):
            return bool(lab.request("POST", KATACONFIG, body))
        return False
    until(accepted)


def test_request_of_the_operator(osc: Lab) -> None:
    """A KataConfig with peer pods and no Secret: the request, its Secret, peer-pods-secret with owner and label."""
    create(osc)
    spec = until(lambda: osc.request("GET", REQUEST))["spec"]
    assert spec["secretRef"] == {"name": "cco-secret", "namespace": OSC}
    assert spec["providerSpec"]["kind"] == "AzureProviderSpec"
    assert {"Reader", "Virtual Machine Contributor", "Network Contributor", "Storage Account Contributor"} <= {
        binding["role"] for binding in spec["providerSpec"]["roleBindings"]}
    found = until(lambda: secret(osc, "peer-pods-secret", OSC))
    assert values(found) == {key.upper(): f"{key}-1" for key in KEYS[:4]}
    assert found["metadata"]["labels"]["kataconfiguration.openshift.io/credentials-request-based"] == "true"
    assert [(owner["kind"], owner["name"]) for owner in found["metadata"]["ownerReferences"]] == [("Secret", "cco-secret")]


def test_given_back_when_kataconfig_is_gone(osc: Lab) -> None:
    """Request and Secrets go with KataConfig, and not before it: the image deletion needs the Secret (operators.md 3.4, 3.6)."""
    def settled() -> Any:
        status = osc.request("GET", f"{KATACONFIG}/contract").get("status") or {}
        return "kata-remote" in status.get("runtimeClasses", []) and [c for c in status["conditions"]
                                                                       if (c["status"], c["reason"]) == ("False", "")]
    until(settled, 120)
    osc.request("DELETE", f"{KATACONFIG}/contract")

    def gone() -> bool:
        there = secret(osc, "peer-pods-secret", OSC) and osc.request("GET", REQUEST)
        left = osc.request("GET", f"{KATACONFIG}/contract")
        assert there or left is None, "the credentials went before the KataConfig"
        return left is None
    until(gone, 120)
    for path in (REQUEST, f"{CORE}/secrets/cco-secret", f"{CORE}/secrets/peer-pods-secret"):
        until(lambda path=path: osc.request("GET", path) is None)
