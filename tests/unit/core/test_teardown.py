"""What is ours, in which order it goes, what stays: vectors of managed fields as an API server wrote them."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.confidential.containers.plugins.module_utils import teardown

Object = dict[str, Any]
OSC, TRUSTEE, OLM = "openshift-sandboxed-containers-operator", "trustee-operator-system", "operators.coreos.com/v1alpha1"
OURS = {"manager": "confidential.containers", "operation": "Apply", "fieldsV1": {"f:spec": {"f:channel": {}}}}
THEIRS = {"manager": "kubectl-create", "operation": "Update", "fieldsV1": {"f:spec": {".": {}, "f:channel": {}}}}


def obj(kind: str, name: str, namespace: str = OSC, api: str = "v1", by: list[Object] | None = None, owner: str = "",
        uid: str = "", labels: Object | None = None, **more: Any) -> Object:
    meta: Object = {"name": name, "uid": uid or f"{kind}-{name}", "managedFields": [OURS] if by is None else by, "labels": labels or {}}
    if namespace:
        meta["namespace"] = namespace
    if owner:
        meta["ownerReferences"] = [{"apiVersion": "apps/v1", "kind": owner.partition("-")[0], "name": owner.partition("-")[2],
                                    "uid": owner, "controller": True}]
    meta |= more.pop("metadata", {})
    return {"apiVersion": api, "kind": kind, "metadata": meta, **more}


def kataconfig(by: list[Object] | None = None, finalizers: bool = True, peer_pods: bool = True) -> Object:
    return obj("KataConfig", "example", "", "kataconfiguration.openshift.io/v1", by, spec={"enablePeerPods": peer_pods},
               metadata={"finalizers": ["kataconfiguration.openshift.io/finalizer"] if finalizers else []})


def kbsconfig(**more: Any) -> Object:
    return obj("KbsConfig", "kbsconfig", TRUSTEE, "confidentialcontainers.org/v1alpha1",
               metadata={"finalizers": ["kbsconfig.confidentialcontainers.org/finalizer"]}, **more)


def olm(package: str, namespace: str, by: list[Object] | None = None) -> list[Object]:
    return [obj("Subscription", package, namespace, OLM, by, labels={f"operators.coreos.com/{package}.{namespace}": ""},
                spec={"name": package}),
            obj("OperatorGroup", "group", namespace, "operators.coreos.com/v1"),
            obj("ClusterServiceVersion", f"{package}.v1.0.0", namespace, OLM, [], labels={"olm.managed": "true"})]


def spoke(*more: Object, **changed: Any) -> Object:
    inside = [*olm("sandboxed-containers-operator", OSC), obj("Deployment", "controller-manager", by=[], owner="ClusterServiceVersion-x"),
              obj("ConfigMap", "peer-pods-cm", data={}), obj("Secret", "peer-pods-secret", data={}),
              obj("ConfigMap", "kube-root-ca.crt", by=[]), obj("Secret", "auth-json-secret", by=[]),
              obj("Pod", "osc-podvm-image-creation-x", by=[]), *more]
    return {"resources": [kataconfig()], "inside": inside, "namespaces": {OSC: obj("Namespace", OSC, "", by=[])}, "crds": [], "crs": [],
            "subscriptions": [inside[0]], "operators": [], "left": [], "pods": [], "makers": [], "pools": [], "classes": [],
            **changed}


def hub(*more: Object, **changed: Any) -> Object:
    inside = [*olm("trustee-operator", TRUSTEE), obj("Deployment", "trustee-operator-controller-manager", TRUSTEE, by=[], owner="C-x"),
              obj("Deployment", "trustee-deployment", TRUSTEE, by=[]), obj("Secret", "kbs-https-key", TRUSTEE, data={}), *more]
    return {"resources": [kbsconfig()], "inside": inside, "namespaces": {TRUSTEE: obj("Namespace", TRUSTEE, "", by=[])}, "crds": [],
            "crs": [], "subscriptions": [inside[0]], "operators": [], "left": [], "pods": [], "makers": [], "pools": [], "classes": [],
            **changed}


def plan(zone: str, facts: Object, **wanted: Any) -> Object:
    given = {"namespace": OSC if zone == "spoke" else TRUSTEE, "verify_namespace": "coco-verify", "allow_pods": False, "crds": False}
    return teardown.plan(zone, facts, {**given, **wanted})


def going(result: Object) -> list[str]:
    return [teardown.title({**item, "namespace": None}) for stage in result["stages"] for item in stage["objects"]]


def kept(result: Object) -> dict[str, str]:
    return {teardown.title({**item, "namespace": None}): item["why"] for item in result["kept"]}


def codes(result: Object) -> list[str]:
    return [blocker["code"] for blocker in result["blockers"]]


# Whose is it? ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("entries", "expected"), [
    ([OURS], True),
    ([], False),
    ([THEIRS], False),
    ([OURS, THEIRS], False),  # we merged fields into what somebody else made
    ([OURS, {"manager": "olm", "operation": "Update", "fieldsV1": {"f:metadata": {"f:labels": {".": {}}}}}], True),
    ([OURS, {"manager": "Mozilla", "operation": "Update", "fieldsV1": {"f:metadata": {"f:labels": {"f:x": {}}}}}], True),  # labelled
    ([OURS, {"manager": "argocd-controller", "operation": "Apply", "fieldsV1": {"f:spec": {"f:channel": {}}}}], False),
    ([{**OURS, "subresource": "status"}], False),
    ([{"manager": "manager", "operation": "Update", "fieldsV1": {"f:spec": {".": {}}}}, OURS], True),  # an operator's, completed by us
])
def test_whose(entries: list[Object], expected: bool) -> None:
    assert teardown.is_ours(obj("Subscription", "s", by=entries)) is expected


@pytest.mark.parametrize(("entries", "expected"), [
    ([], True),  # an apply that gives only a name leaves none
    ([{"manager": "confidential.containers", "operation": "Update", "fieldsV1": {"f:metadata": {"f:labels": {".": {}}}}}], True),
    ([{"manager": "before-first-apply", "operation": "Update", "fieldsV1": {}}, {"manager": "olm", "operation": "Update"}], True),
    ([{"manager": "kubectl-create", "operation": "Update", "fieldsV1": {"f:metadata": {"f:labels": {".": {}}}}}], False),
    ([{"manager": "argocd-controller", "operation": "Apply", "fieldsV1": {"f:metadata": {"f:labels": {"f:x": {}}}}}], False),
])
def test_whose_namespace(entries: list[Object], expected: bool) -> None:
    assert teardown.is_our_namespace(obj("Namespace", OSC, "", by=entries)) is expected


def test_keys_of_others() -> None:
    """peer-pods-cm as the lab's API server had it, and a key that somebody added."""
    shared = obj("ConfigMap", "peer-pods-cm", data={"AZURE_REGION": "x", "DISABLECVM": "false", "AZURE_IMAGE_ID": "/i", "TAGS": "t"}, by=[
        {"manager": "confidential.containers", "operation": "Update", "fieldsV1": {"f:data": {".": {}, "f:AZURE_REGION": {}}}},
        {"manager": "manager", "operation": "Update", "fieldsV1": {"f:data": {"f:DISABLECVM": {}}}},
        {"manager": "kubectl-patch", "operation": "Update", "fieldsV1": {"f:data": {"f:AZURE_IMAGE_ID": {}}}},
        {"manager": "kubectl-edit", "operation": "Update", "fieldsV1": {"f:data": {"f:TAGS": {}}}}])
    assert teardown.is_ours(shared)
    assert teardown.foreign_keys(shared) == ["TAGS"]
    facts = spoke()
    facts["inside"][4] = shared
    result = plan("spoke", facts)
    trims = [item for stage in result["stages"] for item in stage["trims"]]
    assert [(item["name"], item["keys"]) for item in trims] == [("peer-pods-cm", ["AZURE_IMAGE_ID", "AZURE_REGION", "DISABLECVM"])]
    assert kept(result)["ConfigMap peer-pods-cm"] == "others wrote TAGS"
    assert f"Namespace {OSC}" in kept(result)
    assert "ConfigMap peer-pods-cm" not in going(result)


# The order ------------------------------------------------------------------------------------------------------------

def test_a_spoke_in_order() -> None:
    left = [obj("ConfigMap", "grafana-dashboard-sandboxed-containers", "openshift-config-managed", by=[]),
            obj("RuntimeClass", "kata-remote", "", "node.k8s.io/v1", by=[], owner="KataConfig-example"),
            obj("RoleBinding", "controller-manager-service-auth-reader", "kube-system", by=[],
                subjects=[{"kind": "ServiceAccount", "name": "controller-manager", "namespace": OSC}]),
            obj("CredentialsRequest", "openshift-sandboxed-containers-azure", "openshift-cloud-credential-operator",
                "cloudcredential.openshift.io/v1", by=[])]
    result = plan("spoke", spoke(left=left))
    assert (result["blockers"], result["kept"]) == ([], [])
    assert going(result) == [
        "KataConfig example", "ConfigMap peer-pods-cm", "Secret peer-pods-secret", "Subscription sandboxed-containers-operator",
        "ClusterServiceVersion sandboxed-containers-operator.v1.0.0", "ConfigMap grafana-dashboard-sandboxed-containers",
        "RoleBinding controller-manager-service-auth-reader", "CredentialsRequest openshift-sandboxed-containers-azure",
        "OperatorGroup group", f"Namespace {OSC}"]


def test_a_binding_of_another_operator_stays() -> None:
    """Operators made from the same scaffold share the name."""
    binding = obj("RoleBinding", "controller-manager-service-auth-reader", "kube-system", by=[],
                  subjects=[{"kind": "ServiceAccount", "name": "controller-manager", "namespace": "another"}])
    assert not [name for name in going(plan("spoke", spoke(left=[binding]))) if name.startswith("RoleBinding")]


def test_a_hub_in_order() -> None:
    parent = obj("TrusteeConfig", "trusteeconfig", TRUSTEE, "confidentialcontainers.org/v1alpha1")
    child = obj("KbsConfig", "made", TRUSTEE, "confidentialcontainers.org/v1alpha1", by=[], owner="TrusteeConfig-trusteeconfig")
    result = plan("hub", hub(resources=[child, parent]))
    assert (result["blockers"], result["kept"]) == ([], [])
    assert going(result) == ["TrusteeConfig trusteeconfig", "KbsConfig made", "Secret kbs-https-key", "Subscription trustee-operator",
                             "ClusterServiceVersion trustee-operator.v1.0.0", "OperatorGroup group", f"Namespace {TRUSTEE}"]


def test_nothing_is_there() -> None:
    for zone in ("spoke", "hub"):
        empty = {name: {} if name == "namespaces" else [] for name in spoke()}
        assert plan(zone, empty, crds=True) == {"stages": [], "kept": [], "blockers": []}


def test_the_rest_of_a_run_that_was_killed() -> None:
    """Subscription and KataConfig are gone, operator and namespace are not."""
    facts = spoke(resources=[], subscriptions=[])
    facts["inside"] = facts["inside"][1:]
    assert going(plan("spoke", facts)) == ["ConfigMap peer-pods-cm", "Secret peer-pods-secret",
                                           "ClusterServiceVersion sandboxed-containers-operator.v1.0.0", "OperatorGroup group",
                                           f"Namespace {OSC}"]


@pytest.mark.parametrize(("phase", "approved", "versions", "goes"), [
    ("Installing", True, ["sandboxed-containers-operator.v1.0.0"], True),
    ("RequiresApproval", True, ["sandboxed-containers-operator.v1.0.0"], True),  # approved a moment ago
    ("RequiresApproval", False, ["sandboxed-containers-operator.v1.0.0"], False),
    ("Complete", True, ["sandboxed-containers-operator.v1.0.0"], False),
    ("Failed", True, ["sandboxed-containers-operator.v1.0.0"], False),
    ("Installing", True, ["sandboxed-containers-operator.v1.0.0", "another.v1"], False),  # somebody else's, too
    ("Installing", True, [], False),
])
def test_an_install_plan_under_way_does_not_bring_the_operator_back(phase: str, approved: bool, versions: list[str], goes: bool) -> None:
    under_way = obj("InstallPlan", "install-1", api=OLM, by=[], owner="Subscription-x", status={"phase": phase},
                    spec={"approved": approved, "clusterServiceVersionNames": versions})
    names = going(plan("spoke", spoke(under_way)))
    assert ("InstallPlan install-1" in names) is goes
    if goes:
        at = names.index("InstallPlan install-1")
        assert names[at - 1].startswith("Subscription ")
        assert names[at + 1].startswith("ClusterServiceVersion ")


# What stays -----------------------------------------------------------------------------------------------------------

def test_a_resource_of_others_keeps_everything() -> None:
    facts = spoke(resources=[kataconfig([THEIRS])])
    result = plan("spoke", facts)
    assert going(result) == []
    assert kept(result)["KataConfig example"] == "it was not made by this collection"
    assert kept(result)["ConfigMap peer-pods-cm"] == "KataConfig example stays and needs it"
    assert "Subscription sandboxed-containers-operator" in kept(result)


def test_what_an_operator_made_of_others_is_theirs() -> None:
    """The KbsConfig of somebody else's TrusteeConfig, into which step 12 wrote the secret resources: fields of ours in it, no more."""
    parent = obj("TrusteeConfig", "theirs", TRUSTEE, "confidentialcontainers.org/v1alpha1", by=[THEIRS])
    child = obj("KbsConfig", "made", TRUSTEE, "confidentialcontainers.org/v1alpha1", owner="TrusteeConfig-theirs")
    result = plan("hub", hub(resources=[parent, child]))
    assert going(result) == []
    assert {"TrusteeConfig theirs", "KbsConfig made", "Secret kbs-https-key", "Subscription trustee-operator"} <= set(kept(result))


def test_an_operator_of_others_stays_without_our_objects() -> None:
    facts = spoke()
    facts["inside"][0] = facts["subscriptions"][0] = olm("sandboxed-containers-operator", OSC, [THEIRS])[0]
    result = plan("spoke", facts, crds=True)
    assert going(result) == ["KataConfig example", "ConfigMap peer-pods-cm", "Secret peer-pods-secret"]
    assert {"Subscription sandboxed-containers-operator", "OperatorGroup group", f"Namespace {OSC}"} <= set(kept(result))


@pytest.mark.parametrize("other", [
    obj("Secret", "mine", by=[THEIRS]), obj("Deployment", "app", by=[THEIRS]),
    obj("Subscription", "another", api=OLM, by=[THEIRS], labels={f"operators.coreos.com/another.{OSC}": ""}, spec={"name": "another"}),
    obj("ClusterServiceVersion", "another.v1", api=OLM, by=[], labels={"olm.managed": "true"}),
])
def test_a_namespace_with_something_of_others_stays(other: Object) -> None:
    result = plan("spoke", spoke(other))
    assert kept(result) == {f"Namespace {OSC}": f"it holds what is not ours: {other['kind']} {other['metadata']['name']}"}
    assert f"{other['kind']} {other['metadata']['name']}" not in going(result)


@pytest.mark.parametrize("along", [
    obj("ReplicaSet", "app-77", by=[], owner="Deployment-app"), obj("ConfigMap", "manager-config", by=[], labels={"olm.managed": "true"}),
    obj("Secret", "default-token", by=[THEIRS], type="kubernetes.io/service-account-token"),
    obj("Secret", "peer-pods-secret-2", by=[THEIRS], metadata={"annotations": {teardown.CREDENTIALS_REQUEST: "x"}}),
    obj("ClusterServiceVersion", "another.v1", api=OLM, by=[], labels={"olm.copiedFrom": "openshift-operators"}),
])
def test_what_vanishes_with_a_namespace(along: Object) -> None:
    result = plan("spoke", spoke(along))
    assert f"Namespace {OSC}" in going(result)
    assert along["metadata"]["name"] not in str(result)


def test_a_namespace_of_others_stays() -> None:
    result = plan("spoke", spoke(namespaces={OSC: obj("Namespace", OSC, "", by=[THEIRS])}))
    assert kept(result) == {f"Namespace {OSC}": "it was not made by this collection"}


def test_definitions() -> None:
    crd = obj("CustomResourceDefinition", "peerpods.confidentialcontainers.org", "", "apiextensions.k8s.io/v1", by=[])
    known = obj("Operator", "o", "", "operators.coreos.com/v1", by=[])
    podvm = obj("PeerPod", "p", "default", "confidentialcontainers.org/v1alpha1", by=[])
    name = "CustomResourceDefinition peerpods.confidentialcontainers.org"
    assert kept(plan("spoke", spoke(crds=[crd])))[name].startswith("OLM leaves them")
    assert kept(plan("spoke", spoke(crds=[crd], crs=[podvm]), crds=True)) == {name: "there is still PeerPod default/p"}
    result = plan("spoke", spoke(crds=[crd], crs=[kataconfig()], operators=[known]), crds=True)
    assert going(result)[-4:] == [name, "OperatorGroup group", f"Namespace {OSC}", "Operator o"], "OLM counts what is in the namespace, too"
    elsewhere = obj("Subscription", "s", "another", OLM, spec={"name": "sandboxed-containers-operator"})
    facts = spoke(crds=[crd], subscriptions=[elsewhere])
    assert kept(plan("spoke", facts, crds=True)) == {name: "Subscription another/s installs this operator too"}


def runtime_class(name: str, owner: str) -> Object:
    return obj("RuntimeClass", name, "", "node.k8s.io/v1", by=[], owner=owner,
               metadata={"finalizers": ["kataconfig.openshift.io/runtime-class-cleanup"]})


def test_runtime_classes_go_while_the_operator_can_release_them() -> None:
    """The garbage collector deletes them when KataConfig is gone; without the operator their finalizer would never clear."""
    classes = [runtime_class("kata-remote", "KataConfig-example"), runtime_class("mine", "Somebody-else")]
    assert going(plan("spoke", spoke(classes=classes)))[:2] == ["KataConfig example", "RuntimeClass kata-remote"]
    killed = plan("spoke", spoke(classes=classes, resources=[]))
    assert going(killed)[0] == "RuntimeClass kata-remote", "a run was killed after KataConfig had gone"
    theirs = plan("spoke", spoke(classes=classes, resources=[kataconfig(by=[THEIRS])]))
    assert going(theirs) == []
    facts = spoke(classes=classes, resources=[])
    facts["inside"] = [item for item in facts["inside"] if item["kind"] != "Deployment"]
    assert "the finalizer of RuntimeClass kata-remote is gone" in plan("spoke", facts)["blockers"][0]["message"]


def test_components_that_olm_counts() -> None:
    refs = [{"kind": "InstallPlan", "namespace": OSC, "name": "install-1", "apiVersion": OLM},
            {"kind": "ClusterRole", "name": "r", "apiVersion": "rbac.authorization.k8s.io/v1"}]
    assert teardown.components({"status": {"components": {"refs": refs}}}) == ["ClusterRole r", f"InstallPlan {OSC}/install-1"]
    for nothing in ({}, {"status": None}, {"status": {"components": None}}, {"status": {"components": {"labelSelector": {}}}}):
        assert teardown.components(nothing) == []


# What speaks against it -----------------------------------------------------------------------------------------------

def test_without_the_operator_nothing_begins() -> None:
    facts = spoke()
    facts["inside"] = [item for item in facts["inside"] if item["kind"] != "Deployment"]
    result = plan("spoke", facts)
    assert codes(result) == ["operator-gone"]
    assert "--tags step03" in result["blockers"][0]["hint"]
    facts["resources"] = [kataconfig(finalizers=False)]
    assert codes(plan("spoke", facts)) == [], "nothing holds it"


def test_without_the_deployment_a_kbsconfig_would_hang() -> None:
    facts = hub()
    facts["inside"] = [item for item in facts["inside"] if item["metadata"]["name"] != "trustee-deployment"]
    assert codes(plan("hub", facts)) == ["deployment-gone"]


@pytest.mark.parametrize("missing", ["peer-pods-cm", "peer-pods-secret"])
def test_without_credentials_the_image_would_never_go(missing: str) -> None:
    facts = spoke()
    facts["inside"] = [item for item in facts["inside"] if item["metadata"]["name"] != missing]
    assert codes(plan("spoke", facts)) == ["credentials"]
    assert codes(plan("spoke", {**facts, "resources": [kataconfig(peer_pods=False)]})) == []


def test_a_paused_pool() -> None:
    pool = obj("MachineConfigPool", "worker", "", spec={"paused": True})
    assert codes(plan("spoke", spoke(pools=[pool]))) == ["pool-paused"]


def test_kata_pods() -> None:
    def pod(name: str, owner: str = "") -> Object:
        return obj("Pod", name, "default", by=[THEIRS], owner=owner, spec={"runtimeClassName": "kata-remote"})

    ours = obj("Deployment", "ours", "default", "apps/v1")
    theirs = obj("Deployment", "theirs", "default", "apps/v1", by=[THEIRS])
    sets = [obj("ReplicaSet", name, "default", "apps/v1", by=[], owner=f"Deployment-{name}") for name in ("ours", "theirs")]
    facts = spoke(pods=[pod("lone"), pod("a", "ReplicaSet-ours")], makers=[ours, theirs, *sets])
    assert codes(plan("spoke", facts)) == ["kata-pods"]
    allowed = plan("spoke", facts, allow_pods=True)
    assert (codes(allowed), going(allowed)[:3]) == ([], ["Deployment ours", "Pod lone", "KataConfig example"])
    refused = plan("spoke", {**facts, "pods": [pod("b", "ReplicaSet-theirs"), pod("c", "Workflow-w")]}, allow_pods=True)
    assert codes(refused) == ["kata-workloads"]
    assert "default/b (Deployment default/theirs), default/c (Workflow default/w)" in refused["blockers"][0]["message"]


JOB = {"manager": "kubectl-patch", "operation": "Update", "fieldsV1": {"f:data": {"f:AZURE_IMAGE_ID": {}}}}
MINE = {**JOB, "manager": "confidential.containers"}


@pytest.mark.parametrize(("made", "by", "spared"), [
    ("/image", [OURS, JOB], False), ("/image", [OURS, MINE], True), ("/another", [OURS, JOB], True), ("", [OURS, MINE], True),
    ("", [OURS, JOB], False)])
def test_an_image_that_the_operator_did_not_make_is_spared(made: str, by: list[Object], spared: bool) -> None:
    """The operator deletes the image whose id it finds when KataConfig goes (operators.md 3.5)."""
    facts = spoke()
    facts["inside"] = [one for one in facts["inside"] if one["metadata"]["name"] != "peer-pods-cm"]
    facts["inside"].append(obj("ConfigMap", "peer-pods-cm", by=by, data={"CLOUD_PROVIDER": "azure", "AZURE_IMAGE_ID": "/image"},
                               metadata={"annotations": {"LATEST_IMAGE_ID": made} if made else {}}))
    result = plan("spoke", facts)
    [stage] = [stage for stage in result["stages"] if stage["title"].startswith("KataConfig")]
    assert [(item["name"], item["keys"]) for item in stage["spares"]] == ([("peer-pods-cm", ["AZURE_IMAGE_ID"])] if spared else [])
    assert ("Image /image" in kept(result)) is spared
