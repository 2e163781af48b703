# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Uninstalling: what of a cluster is ours, in which order it goes, what stays and why. Pure.

Nothing is removed that the collection did not bring. What it made carries its field manager; what the operators and OLM made for
it is known by owner, label or name; all else is somebody else's, stays, and keeps what holds it. The operator goes last: without it
the finalizers of its resources never clear. Source: the documented order of uninstalling, the operators' deletion paths and what
they leave behind, OLM and managed fields as run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils.kataconfig import KATA_RUNTIMES, pool_blockers
from ansible_collections.confidential.containers.plugins.module_utils.peerpods import (
    MANAGER,
    OPERATOR_KEYS,
    provider_of,
)
from ansible_collections.confidential.containers.plugins.module_utils.podvm_image import of_others

Object = dict[str, Any]
Finding = dict[str, str]

#: Managers that only carry out what others asked for; a field of theirs makes nothing anybody's.
CONTROLLERS = frozenset({
    "manager", "olm", "olm.install", "catalog", "kube-controller-manager", "kube-apiserver", "before-first-apply",
    "cluster-policy-controller", "openshift-controller-manager", "pod-security-admission-label-synchronization-controller",
})
OLM = "operators.coreos.com/v1alpha1"
OLM_GROUPS = "operators.coreos.com/v1"
#: What every namespace gets by itself.
AUTOMATIC = frozenset({
    "ConfigMap/kube-root-ca.crt", "ConfigMap/openshift-service-ca.crt", "ServiceAccount/default", "ServiceAccount/builder",
    "ServiceAccount/deployer", "RoleBinding/system:deployers", "RoleBinding/system:image-builders", "RoleBinding/system:image-pullers",
})
AUTOMATIC_SECRETS = frozenset({"kubernetes.io/service-account-token", "kubernetes.io/dockercfg"})
#: Kinds of OLM that somebody chose; OLM's labels on them make them nobody else's.
CHOSEN = frozenset({"Subscription", "OperatorGroup", "CatalogSource"})
CREDENTIALS_REQUEST = "cloudcredential.openshift.io/credentials-request"


@dataclass(frozen=True)
class Zone:
    """What one operator brings: its OLM package and Deployment, its resources in the order in which they go, its CRDs, the names
    (or their beginnings, with ``*``) of what it makes in its namespace without an owner, and (apiVersion, kind, name, namespace)
    of what it leaves elsewhere."""

    package: str
    deployment: str
    resources: tuple[tuple[str, str], ...]
    crds: tuple[str, ...]
    makes: tuple[str, ...]
    leaves: tuple[tuple[str, str, str, str], ...] = field(default=())


ZONES = {
    "spoke": Zone(
        "sandboxed-containers-operator", "controller-manager",
        (("kataconfiguration.openshift.io/v1", "KataConfig"),),
        ("kataconfigs.kataconfiguration.openshift.io", "peerpods.confidentialcontainers.org"),
        ("Secret/auth-json-secret", "ConfigMap/azure-podvm-image-cm", "ConfigMap/aws-podvm-image-cm", "ConfigMap/gcp-podvm-image-cm",
         "ConfigMap/osc-daemonset-config", "Job/osc-podvm-image-*", "Pod/osc-podvm-image-*", "Deployment/peer-pods-webhook",
         "Service/peer-pods-webhook-svc", "NetworkPolicy/kata-monitor-*", "NetworkPolicy/peer-pods-webhook-*",
         "NetworkPolicy/kata-install-*", "NetworkPolicy/kata-uninstall-*", "NetworkPolicy/podvm-image-*"),
        (("node.k8s.io/v1", "RuntimeClass", "kata-remote", ""),
         ("security.openshift.io/v1", "SecurityContextConstraints", "sandboxed-containers-operator-scc", ""),
         ("v1", "ConfigMap", "grafana-dashboard-sandboxed-containers", "openshift-config-managed"),
         ("rbac.authorization.k8s.io/v1", "RoleBinding", "controller-manager-service-auth-reader", "kube-system"),
         ("cloudcredential.openshift.io/v1", "CredentialsRequest", "openshift-sandboxed-containers-azure",
          "openshift-cloud-credential-operator")),
    ),
    "hub": Zone(
        "trustee-operator", "trustee-operator-controller-manager",
        (("confidentialcontainers.org/v1alpha1", "TrusteeConfig"), ("confidentialcontainers.org/v1alpha1", "KbsConfig")),
        ("trusteeconfigs.confidentialcontainers.org", "kbsconfigs.confidentialcontainers.org"),
        ("Deployment/trustee-deployment", "Service/kbs-service"),
    ),
}


# Whose is it? ---------------------------------------------------------------------------------------------------------

def _writers(obj: Object) -> list[Object]:
    return [entry for entry in obj["metadata"].get("managedFields") or [] if not entry.get("subresource")]


def _owners(obj: Object) -> set[Any]:
    return {ref.get("uid") for ref in obj["metadata"].get("ownerReferences") or []}


def _made(entry: Object) -> bool:
    """Did this entry's manager make or apply the object? Who makes one by POST owns the map of its content itself."""
    fields = entry.get("fieldsV1") or {}
    return entry.get("operation") == "Apply" or any("." in fields.get(part, {}) for part in ("f:spec", "f:data", "f:rules"))


def is_ours(obj: Object) -> bool:
    """Made by this collection: it owns fields, and nobody else but controllers made or applies the object.

    Source: managed fields as an API server writes them. An object of somebody else that we merged fields into is not ours.
    """
    writers = _writers(obj)
    strangers = [entry for entry in writers if entry.get("manager") not in CONTROLLERS | {MANAGER}]
    return any(entry.get("manager") == MANAGER for entry in writers) and not any(map(_made, strangers))


def is_our_namespace(obj: Object) -> bool:
    """Made by this collection, or by nobody who can be told: an apply that gives only a name leaves no managed fields (seen)."""
    return all(entry.get("manager") in CONTROLLERS | {MANAGER} for entry in _writers(obj))


def foreign_keys(obj: Object) -> list[str]:
    """Keys of a ConfigMap's or Secret's data that others wrote: no field of ours, of an operator or of its image job."""
    data = set(obj.get("data") or {})
    known = {key for entry in _writers(obj) if entry.get("manager") in CONTROLLERS | {MANAGER}
             for key in data if f"f:{key}" in ((entry.get("fieldsV1") or {}).get("f:data") or {})}
    return sorted(data - known - set(OPERATOR_KEYS))


def goes_along(obj: Object, zone: Zone) -> bool:
    """Does it vanish with its owner, its operator or its namespace, whoever wrote it?"""
    meta, name = obj["metadata"], f"{obj['kind']}/{obj['metadata']['name']}"
    marks = [*(meta.get("labels") or {})]
    if obj["kind"] in CHOSEN:
        return False
    if obj["kind"] == "ClusterServiceVersion":
        return meta["name"].startswith(f"{zone.package}.v") or "olm.copiedFrom" in marks
    return bool(
        meta.get("ownerReferences") or name in AUTOMATIC or obj.get("type") in AUTOMATIC_SECRETS
        or CREDENTIALS_REQUEST in (meta.get("annotations") or {})
        or any(mark.startswith(("olm.", "operators.coreos.com/")) for mark in marks)
        or any(name == made or (made.endswith("*") and name.startswith(made[:-1])) for made in zone.makes))


# The plan -------------------------------------------------------------------------------------------------------------

def reference(obj: Object, why: str = "") -> Object:
    """A short form of an object for results: ``{"apiVersion", "kind", "name", "namespace", "why"}``."""
    return {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "name": obj["metadata"]["name"],
            "namespace": obj["metadata"].get("namespace"), "why": why}


def title(item: Object) -> str:
    """``Kind namespace/name`` of a :func:`reference`."""
    return f"{item['kind']} {item['namespace'] + '/' if item['namespace'] else ''}{item['name']}"


def components(operator: Object) -> list[str]:
    """What OLM still counts to an Operator object, as titles. While there is anything, OLM makes a deleted one anew.

    Source: OLM's operator controller (every object that carries the operator's label).
    """
    refs = ((operator.get("status") or {}).get("components") or {}).get("refs") or []
    return sorted(title({"namespace": None, **ref}) for ref in refs)


class Plan:
    """Fills stages in order; see :func:`plan`."""

    def __init__(self, name: str, facts: dict[str, Any], wanted: dict[str, Any]) -> None:
        self.name, self.zone, self.facts, self.wanted = name, ZONES[name], facts, wanted
        self.stages: list[dict[str, Any]] = []
        self.kept: list[Object] = []
        self.blockers: list[Finding] = []
        self.forgotten: list[Object] = []
        self.inside: list[Object] = [obj for obj in facts["inside"] if obj["metadata"].get("namespace") == wanted["namespace"]]
        self.subscriptions = [obj for obj in self.of("Subscription") if obj.get("spec", {}).get("name") == self.zone.package]

    def of(self, kind: str) -> list[Object]:
        return [obj for obj in self.inside if obj["kind"] == kind]

    def stage(self, text: str, objects: list[Object], why: str) -> None:
        if objects:
            self.stages.append({"title": text, "objects": [reference(obj, why) for obj in objects], "trims": [], "spares": []})

    def keep(self, objects: list[Object], why: str) -> None:
        self.kept += [reference(obj, why) for obj in objects]

    def block(self, code: str, message: str, hint: str) -> None:
        self.blockers.append({"severity": "error", "code": code, "message": message, "hint": hint})

    def make(self) -> dict[str, Any]:
        resources = self.facts["resources"]
        known = {obj["metadata"].get("uid"): obj for obj in resources}
        # What an operator made of another resource is as that is, though we may own fields in it.
        going = [obj for obj in resources if is_ours(next((known[uid] for uid in _owners(obj) if uid in known), obj))]
        staying = [obj for obj in resources if obj not in going]
        self.keep(staying, "it was not made by this collection")
        if self.name == "spoke" and going:
            self._pods()
            self._spoke_blockers(going)
        classes = [obj for obj in self.facts["classes"] if not _owners(obj) & {item["metadata"].get("uid") for item in staying}
                   and any(ref.get("kind") == "KataConfig" for ref in obj["metadata"].get("ownerReferences") or [])]
        self._operator_blockers(going or classes)
        for _api, kind in self.zone.resources:
            self.stage(f"{kind}, while its operator runs", [obj for obj in going if obj["kind"] == kind], "made by this collection")
        if self.name == "spoke" and going:
            self._spare_image()
        self.stage("Runtime classes of KataConfig, while the operator runs", classes, "the operator clears their finalizer")
        if staying:
            names = ", ".join(title(reference(obj)) for obj in staying)
            self.keep([obj for obj in self.inside if is_ours(obj) and not goes_along(obj, self.zone)] + self.subscriptions,
                      f"{names} stays and needs it")
        else:
            self._objects()
            self._operator(going)
        self._verification()
        self.stage("What OLM remembers of the operator", self.forgotten, "made by OLM for a Subscription that is gone")
        return {"stages": self.stages, "kept": self.kept, "blockers": self.blockers}

    def _spare_image(self) -> None:
        """An image that the operator's job did not make: the operator would delete it with KataConfig, so its id is taken away then."""
        for config_map in self.of("ConfigMap"):
            if config_map["metadata"]["name"] == "peer-pods-cm" and (image := of_others(config_map)):
                key = provider_of(config_map["data"]).image_key
                self.stages[-1]["spares"].append({**reference(config_map, "the image in it was not made here"), "keys": [key]})
                self.kept.append({"apiVersion": "", "kind": "Image", "name": image, "namespace": None,
                                  "why": "the operator did not make it"})

    # Pods and blockers

    def _pods(self) -> None:
        """Pods of kata would block the deletion; those whose makers may go are removed when that is allowed."""
        pods = [pod for pod in self.facts["pods"] if str(pod.get("spec", {}).get("runtimeClassName", "")).startswith(KATA_RUNTIMES)]
        if not pods:
            return
        if not self.wanted["allow_pods"]:
            names = ", ".join(sorted(f"{pod['metadata']['namespace']}/{pod['metadata']['name']}" for pod in pods))
            self.block("kata-pods", f"pods use kata runtime classes: {names}",
                       "Delete them with what makes them, or set coco_teardown_pods: true (they lose their virtual machines).")
            return
        lone: list[Object] = []
        makers: dict[str, Object] = {}
        held: dict[str, str] = {}
        for pod in pods:
            root = self._root(pod)
            if root is pod:
                lone.append(pod)
            elif is_ours(root):
                makers[str(root["metadata"].get("uid"))] = root
            else:
                held[f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"] = title(reference(root))
        if held:
            texts = ", ".join(f"{pod} ({root})" for pod, root in sorted(held.items()))
            self.block("kata-workloads", f"pods of kata would come back: {texts}", "Delete what makes them first; it is not ours.")
        self.stage("Workloads on kata, as allowed", [*makers.values(), *lone], "its pods would block the deletion of KataConfig")

    def _root(self, obj: Object) -> Object:
        """What makes a pod, at the top."""
        makers = {maker["metadata"].get("uid"): maker for maker in self.facts["makers"]}
        while True:
            owner = next((ref for ref in obj["metadata"].get("ownerReferences") or [] if ref.get("controller")), None)
            if owner is None:
                return obj
            if owner.get("uid") not in makers:
                return {"apiVersion": owner["apiVersion"], "kind": owner["kind"],
                        "metadata": {"name": owner["name"], "namespace": obj["metadata"].get("namespace")}}
            obj = makers[owner["uid"]]

    def _spoke_blockers(self, going: list[Object]) -> None:
        self.blockers += pool_blockers(self.facts["pools"])
        if not any(obj.get("spec", {}).get("enablePeerPods") for obj in going):
            return
        names = {f"{obj['kind']}/{obj['metadata']['name']}" for obj in self.inside}
        for wanted in ("ConfigMap/peer-pods-cm", "Secret/peer-pods-secret"):
            if wanted not in names:
                self.block("credentials", f"{wanted.replace('/', ' ')} is missing, without which the operator never deletes its image",
                           "Run site.yml --tags step05, which gives it again, and then this. Without coco_cloud_credentials the Secret is "
                           "the Cloud Credential Operator's: give them for that run.")

    def _operator_blockers(self, going: list[Object]) -> None:
        """Finalizers that nobody would clear. They are never cleared by force: what the operator would have undone would stay."""
        held = [obj for obj in going if obj["metadata"].get("finalizers")]
        deployments = {obj["metadata"]["name"] for obj in self.of("Deployment")}
        if held and self.zone.deployment not in deployments:
            names = ", ".join(title(reference(obj)) for obj in held)
            step = "step03" if self.name == "spoke" else "step01"
            self.block("operator-gone", f"the operator that would clear the finalizer of {names} is gone "
                       f"(no Deployment {self.wanted['namespace']}/{self.zone.deployment})",
                       f"Install it again (site.yml --tags {step}) and repeat; docs/teardown.md says what to do where that is impossible.")
        kbsconfigs = [obj for obj in held if obj["kind"] == "KbsConfig"]
        if kbsconfigs and "trustee-deployment" not in deployments:
            names = ", ".join(title(reference(obj)) for obj in kbsconfigs)
            self.block("deployment-gone", f"trustee-deployment is gone, without which the operator never clears the finalizer of {names}",
                       "Let the operator make it again (site.yml --tags step12) and repeat; from a KbsConfig that is being deleted the "
                       "finalizer must be removed by hand (docs/teardown.md).")

    # Objects, operator, namespace

    def _objects(self) -> None:
        own = [obj for obj in self.inside if is_ours(obj) and not goes_along(obj, self.zone)
               and obj["kind"] not in ("Subscription", "OperatorGroup", "KbsConfig", "TrusteeConfig")]
        mixed = [obj for obj in own if obj["kind"] in ("ConfigMap", "Secret") and foreign_keys(obj)]
        self.stage("Our objects", [obj for obj in own if obj not in mixed], "made by this collection")
        for obj in mixed:
            others = foreign_keys(obj)
            keys = sorted(set(obj["data"]) - set(others))
            self.keep([obj], f"others wrote {', '.join(others)}")
            if keys:
                self.stages.append({"title": f"Our keys of {title(reference(obj))}", "objects": [], "spares": [],
                                    "trims": [{**reference(obj, "others use the rest"), "keys": keys}]})

    def _operator(self, going: list[Object]) -> None:
        foreign = [obj for obj in self.subscriptions if not is_ours(obj)]
        groups = [obj for obj in self.of("OperatorGroup") if is_ours(obj)]
        namespace = self.facts["namespaces"].get(self.wanted["namespace"])
        brought = bool(self.subscriptions or groups or (namespace and is_our_namespace(namespace))) and not foreign
        if foreign:
            self.keep(foreign, "it was not made by this collection, so its operator stays")
            self.keep(groups, "an operator that stays needs it")
        if brought:
            self.stage("Subscription", self.subscriptions, "made by this collection")
            self.stage("Install plans under way", [obj for obj in self.of("InstallPlan") if self._reinstalls(obj)],
                       "OLM would carry it out once more and install the operator again")
            versions = [obj for obj in self.of("ClusterServiceVersion") if obj["metadata"]["name"].startswith(f"{self.zone.package}.v")
                        and "olm.copiedFrom" not in (obj["metadata"].get("labels") or {})]
            self.stage("Operator", versions, "installed by our Subscription")
            self.stage("What the operator leaves elsewhere", [obj for obj in self.facts["left"] if self._dangles(obj)],
                       "made by the operator, which does not remove it")
        self._crds(going)
        if brought:
            self.stage("OperatorGroup", groups, "made by this collection")
        if namespace:
            self._namespace(namespace, self.inside, not foreign)

    def _reinstalls(self, obj: Object) -> bool:
        """May OLM carry out this plan of our operator alone once more? It does until the plan is Complete or Failed.

        Without its Subscription it is garbage, but OLM may be quicker than the garbage collector. Source: OLM's catalog operator.
        """
        versions = obj.get("spec", {}).get("clusterServiceVersionNames") or []
        return (bool(versions) and all(name.startswith(f"{self.zone.package}.v") for name in versions)
                and bool(obj["spec"].get("approved")) and (obj.get("status") or {}).get("phase") not in ("Complete", "Failed"))

    def _dangles(self, obj: Object) -> bool:
        """Would it be left? What has an owner goes by itself; a binding is the operator's where it binds nobody else."""
        if obj["metadata"].get("ownerReferences"):
            return False
        return all(subject.get("namespace") == self.wanted["namespace"] for subject in obj.get("subjects") or [])

    def _crds(self, going: list[Object]) -> None:
        crds = self.facts["crds"]
        leaving = {obj["metadata"].get("uid") for obj in going}
        using = sorted(title(reference(obj)) for obj in self.facts["crs"] if obj["metadata"].get("uid") not in leaving)
        others = [obj for obj in self.facts["subscriptions"]
                  if obj["metadata"].get("namespace") != self.wanted["namespace"] or not is_ours(obj)]
        if not self.wanted["crds"]:
            self.keep(crds, "OLM leaves them, and deleting one deletes every object of its kind (coco_teardown_crds)")
        elif using:
            self.keep(crds, f"there is still {', '.join(using)}")
        elif others:
            self.keep(crds, f"{', '.join(title(reference(obj)) for obj in others)} installs this operator too")
        else:
            self.stage("Definitions of the operator's resources, as asked for", crds, "no resource of theirs remains")
            self.forgotten = self.facts["operators"]

    def _namespace(self, namespace: Object, inside: list[Object], allowed: bool = True) -> None:
        """A namespace goes when it is ours and holds nothing of others."""
        others = [obj for obj in inside if not goes_along(obj, self.zone)
                  and (not is_ours(obj) or (obj["kind"] in ("ConfigMap", "Secret") and foreign_keys(obj)))
                  and (obj["apiVersion"], obj["kind"]) not in self.zone.resources]
        if not allowed:
            self.keep([namespace], "an operator that stays is in it")
        elif not is_our_namespace(namespace):
            self.keep([namespace], "it was not made by this collection")
        elif others:
            names = ", ".join(title({**reference(obj), "namespace": None}) for obj in others[:5])
            more = f" and {len(others) - 5} more" if len(others) > 5 else ""
            self.keep([namespace], f"it holds what is not ours: {names}{more}")
        else:
            self.stage("Namespace", [namespace], "made by this collection, and nothing of others is in it")

    def _verification(self) -> None:
        namespace = self.facts["namespaces"].get(self.wanted["verify_namespace"])
        if self.name == "spoke" and namespace:
            inside = [obj for obj in self.facts["inside"] if obj["metadata"].get("namespace") == self.wanted["verify_namespace"]]
            self._namespace(namespace, inside)


def plan(zone: str, facts: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """What goes, in order, what stays and why, what speaks against beginning.

    zone: ``spoke`` or ``hub``. facts: ``resources`` (objects of the zone's kinds), ``inside`` (every object of the namespaces),
    ``namespaces`` (name -> object), ``crds``, ``crs`` (objects of those CRDs, anywhere), ``subscriptions`` (of the package, anywhere),
    ``operators`` (OLM's Operator objects of the package), ``left`` (what is there of :attr:`Zone.leaves`), and for a spoke ``pods``,
    ``makers`` (ReplicaSets, Deployments and so on of all namespaces), ``pools`` and ``classes`` (RuntimeClasses).
    wanted: ``namespace`` of the operator, ``verify_namespace``, ``allow_pods``, ``crds``.

    Returns ``{"stages": [{"title", "objects": [reference], "trims", "spares": [reference with "keys"]}], "kept": [reference],
    "blockers": [finding]}``; each reference says ``why``. A stage begins when the one before is gone; ``trims``: keys that go after its
    objects, ``spares``: keys that are emptied once their deletion has begun.
    """
    return Plan(zone, facts, wanted).make()
