"""lab-osc and lab-podvm-image beside the sandboxed containers operator and its image job (operators.md 3, 4).

One KataConfig lives through this file: the tests build on each other in their order. What happened in which order is read from the
API server's own history: a watch from an old resource version on.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import seed
from tests.contract.cluster import OSC, Event, history, subscribe, until
from tests.integration.lab import Lab

CORE, APPS, BATCH = f"/api/v1/namespaces/{OSC}", f"/apis/apps/v1/namespaces/{OSC}", f"/apis/batch/v1/namespaces/{OSC}"
MACHINES = "/apis/machineconfiguration.openshift.io/v1"
KATACONFIGS = "/apis/kataconfiguration.openshift.io/v1/kataconfigs"
KATACONFIG = f"{KATACONFIGS}/contract"
CLASSES = "/apis/node.k8s.io/v1/runtimeclasses"
SCC = "/apis/security.openshift.io/v1/securitycontextconstraints"
WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
NODES = "/api/v1/nodes"
GATES, CONFIG, SECRET = f"{CORE}/configmaps/osc-feature-gates", f"{CORE}/configmaps/peer-pods-cm", f"{CORE}/secrets/peer-pods-secret"
IMAGE_CONFIG = f"{CORE}/configmaps/azure-podvm-image-cm"
POOL, EXTENSION = f"{MACHINES}/machineconfigpools/kata-oc", f"{MACHINES}/machineconfigs/50-enable-sandboxed-containers-extension"
CREATE_JOB, DELETE_JOB = f"{BATCH}/jobs/osc-podvm-image-creation", f"{BATCH}/jobs/osc-podvm-image-deletion"
MONITOR, CAA = f"{APPS}/daemonsets/openshift-sandboxed-containers-monitor", f"{APPS}/daemonsets/osc-caa-ds"
WEBHOOK, SERVICE = f"{APPS}/deployments/peer-pods-webhook", f"{CORE}/services/peer-pods-webhook-svc"
MUTATING, SCC_NAME = f"{WEBHOOKS}/mutating-webhook-configuration", f"{SCC}/sandboxed-containers-operator-scc"

WORKER, KATA_OC = "node-role.kubernetes.io/worker", "node-role.kubernetes.io/kata-oc"
FINALIZER, CLASS_FINALIZER = "kataconfiguration.openshift.io/finalizer", "kataconfig.openshift.io/runtime-class-cleanup"
KEYS = ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_SUBSCRIPTION_ID")
INITDATA = base64.b64encode(gzip.compress(b'algorithm = "sha384"\nversion = "0.1.0"\n[data]\nmine = "1"\n')).decode()
IMAGE = (f"/subscriptions/{seed.SUBSCRIPTION}/resourceGroups/{seed.cloud_conf('lab')['resourceGroup']}/providers/"
         "Microsoft.Compute/galleries/")

Condition = tuple[str, str, str]
SETTLED: Condition = ("False", "", "")
INSTALLING: Condition = ("True", "Installing", "Performing initial installation of kata on cluster")
UNINSTALLING: Condition = ("True", "Uninstalling", "Removing kata from cluster")
CREATING: Condition = ("True", "PodVMImageJobRunning", "Creating Pod VM Image")
CREATED: Condition = ("True", "PodVMImageJobCompleted", "Created Pod VM Image")
DELETING: Condition = ("True", "PodVMImageJobRunning", "Deleting Pod VM Image")
DELETED: Condition = ("True", "PodVMImageJobCompleted", "Deleted Pod VM Image")


def blocked(name: str) -> Condition:
    return ("False", "BlockedByExistingKataPods", f'existing pods using "{name}" RuntimeClass found. Please delete the pods manually '
            "for KataConfig deletion to proceed")


def condition(kataconfig: dict[str, Any] | None) -> Condition | None:
    """The only condition there is, InProgress; None before the first."""
    conditions = ((kataconfig or {}).get("status") or {}).get("conditions") or []
    assert [item["type"] for item in conditions] in ([], ["InProgress"])
    return (conditions[0]["status"], conditions[0]["reason"], conditions[0]["message"]) if conditions else None


def inputs(lab: Lab, name: str) -> dict[str, str]:
    return dict(lab.request("GET", f"{CORE}/configmaps/{name}")["data"])


def log(lab: Lab) -> str:
    """What the operator's manager has logged since it runs; a rollout moves it to another node, then nothing for a moment."""
    text = ""
    for pod in lab.request("GET", f"{CORE}/pods?labelSelector=control-plane=controller-manager")["items"]:
        if pod["status"]["phase"] == "Running" and not pod["metadata"].get("deletionTimestamp"):
            url = f"{lab.api.configuration.host}{CORE}/pods/{pod['metadata']['name']}/log?container=manager"
            answer = lab.api.rest_client.request("GET", url)
            text += bytes(answer.read() or answer.data).decode()
    return text


def refusal(lab: Lab, path: str, body: dict[str, Any]) -> tuple[int, str]:
    """Status and message of a refused POST."""
    answer = lab.api.rest_client.request("POST", lab.api.configuration.host + path, body=body,
                                         headers={"Content-Type": "application/json"})
    answer.read()
    return answer.status, json.loads(answer.data)["message"]


def kataconfig(name: str) -> dict[str, Any]:
    return {"apiVersion": "kataconfiguration.openshift.io/v1", "kind": "KataConfig", "metadata": {"name": name},
            "spec": {"enablePeerPods": True}}


def first(events: list[Event], kind: str) -> int:
    """When an object first came or went."""
    return next(event.at for event in events if event.kind == kind)


def completed(events: list[Event]) -> int:
    """When a Job was first Complete. Its object goes later than asked: deletion that orphans is the garbage collector's."""
    return next(event.at for event in events
                if ("Complete", "True") in [(c["type"], c["status"]) for c in event.value.get("status", {}).get("conditions", [])])


def conditions(events: list[Event]) -> list[Condition]:
    """The conditions one after the other, without repetitions."""
    found: list[Condition] = []
    for event in events:
        seen = condition(event.value)
        if seen and found[-1:] != [seen]:
            found.append(seen)
    return found


def in_order(wanted: list[Any], found: list[Any]) -> bool:
    """Does ``found`` have ``wanted`` as a subsequence."""
    rest = iter(found)
    return all(item in rest for item in wanted)


@pytest.fixture(scope="module")
def osc(cluster: Lab) -> Lab:
    """The operator, and the user's objects: the gate off, credentials with a key missing, INITDATA of the user's."""
    if cluster.request("GET", f"/api/v1/namespaces/{OSC}") is None:
        subscribe(cluster, OSC, "sandboxed-containers-operator")
    cluster.request("POST", f"{CORE}/configmaps", {"metadata": {"name": "osc-feature-gates"}, "data": {"confidential": "false"}})
    azure, conf = cluster.facts["azure"], seed.cloud_conf("lab")
    own = json.loads(Path(azure["clients"]).read_text())["installer"]
    given = dict(zip(KEYS, (own["client_id"], own["tenant"], azure["subscription"]), strict=True))
    cluster.request("POST", f"{CORE}/secrets", {"metadata": {"name": "peer-pods-secret"},
                                                "stringData": {**given, "AZURE_CLIENT_SECRET": ""}})
    network = f"/subscriptions/{azure['subscription']}/resourceGroups/{conf['resourceGroup']}/providers/Microsoft.Network"
    cluster.request("POST", f"{CORE}/configmaps", {"metadata": {"name": "peer-pods-cm"}, "data": {
        "CLOUD_PROVIDER": "azure", "AZURE_RESOURCE_GROUP": conf["resourceGroup"], "AZURE_REGION": "eastus", "INITDATA": INITDATA,
        "AZURE_SUBNET_ID": f"{network}/virtualNetworks/{conf['vnetName']}/subnets/{conf['subnetName']}",
        "AZURE_NSG_ID": f"{network}/networkSecurityGroups/{conf['securityGroupName']}"}})
    return cluster


@pytest.fixture(scope="module")
def start(osc: Lab) -> Iterator[str]:
    """A KataConfig; the resource version before it."""
    found = osc.request("GET", KATACONFIGS)
    assert found["items"] == []
    # the webhook of failurePolicy Fail answers a moment after the CSV has succeeded
    until(lambda: "serving webhooks" in log(osc))
    osc.request("POST", KATACONFIGS, kataconfig("contract"))
    yield found["metadata"]["resourceVersion"]
    for path in (GATES, SECRET, CONFIG):
        osc.request("DELETE", path)


@pytest.fixture(scope="module")
def settled(osc: Lab, start: str) -> dict[str, Any]:
    """The gate on, the credentials whole: the KataConfig once it has settled with an image and its last RuntimeClass."""
    osc.request("PATCH", GATES, {"data": {"confidential": "true"}})
    osc.request("PATCH", SECRET, {"stringData": {"AZURE_CLIENT_SECRET": json.loads(
        Path(osc.facts["azure"]["clients"]).read_text())["installer"]["secret"]}})

    def seen() -> Any:
        found = osc.request("GET", KATACONFIG)
        return condition(found) == SETTLED and inputs(osc, "peer-pods-cm").get("AZURE_IMAGE_ID") \
            and "kata-remote" in found["status"].get("runtimeClasses", []) and found
    found: dict[str, Any] = until(seen, 120)
    return found


@pytest.fixture(scope="module")
def installation(osc: Lab, start: str, settled: dict[str, Any]) -> dict[str, list[Event]]:
    workers = [node["metadata"]["name"] for node in osc.request("GET", f"{NODES}?labelSelector={WORKER}")["items"]]
    return history(osc, start, KATACONFIG, EXTENSION, POOL, MONITOR, CAA, WEBHOOK, SERVICE, MUTATING, SCC_NAME, CREATE_JOB,
                   f"{CLASSES}/kata", f"{CLASSES}/kata-remote", f"{CORE}/secrets/auth-json-secret", *(f"{NODES}/{n}" for n in workers))


def test_installing(osc: Lab, start: str) -> None:
    """True/Installing is what the pass that makes the MachineConfig leaves (operators.md 3.2, 3.3).

    Before it False with an empty reason may be there, "not started" (3.3, deployment.md 4), so it is waited for.
    """
    until(lambda: condition(osc.request("GET", KATACONFIG)) == INSTALLING)
    until(lambda: osc.request("GET", POOL))
    assert osc.request("GET", EXTENSION)["metadata"]["labels"] == {
        "machineconfiguration.openshift.io/role": "kata-oc", "app": "contract"}
    pool = osc.request("GET", POOL)
    assert "pools.operator.machineconfiguration.openshift.io/kata-oc" in pool["metadata"]["labels"]
    [expression] = pool["spec"]["machineConfigSelector"]["matchExpressions"]
    assert (expression["key"], expression["operator"], set(expression["values"])) == (
        "machineconfiguration.openshift.io/role", "In", {"kata-oc", "worker"})
    assert pool["spec"]["nodeSelector"] == {"matchLabels": {KATA_OC: ""}}
    nodes = osc.request("GET", NODES)["items"]
    assert [WORKER in node["metadata"]["labels"] for node in nodes] == [KATA_OC in node["metadata"]["labels"] for node in nodes]
    assert FINALIZER in osc.request("GET", KATACONFIG)["metadata"]["finalizers"]


def test_gate_off(osc: Lab, start: str) -> None:
    """Off: no confidential image, DISABLECVM true, a default INITDATA over the user's (operators.md 3.1, deployment.md 2.3).

    The head of the channel (1.11 and later) makes the image's ConfigMap the KataConfig's (operators.md 3.5).
    """
    found = until(lambda: osc.request("GET", IMAGE_CONFIG))
    until(lambda: inputs(osc, "peer-pods-cm").get("DISABLECVM") == "true")
    text = gzip.decompress(base64.b64decode(until(lambda: inputs(osc, "peer-pods-cm")["INITDATA"]))).decode()
    assert 'algorithm = "sha384"' in text
    assert "mine" not in text
    assert found["data"]["CONFIDENTIAL_COMPUTE_ENABLED"] == "no"
    assert [owner["kind"] for owner in found["metadata"]["ownerReferences"]] == ["KataConfig"]


def test_image_config(osc: Lab, start: str) -> None:
    """What the image job is told (deployment.md 3.7, operators.md 3.5)."""
    cluster_id = osc.request("GET", "/apis/config.openshift.io/v1/clusterversions/version")["spec"]["clusterID"]
    found = until(lambda: osc.request("GET", IMAGE_CONFIG))["data"]
    assert found["IMAGE_GALLERY_NAME"] == f"PodVMGallery_{cluster_id[:8]}"
    number, rest = found["IMAGE_VERSION"].split(".", 1)
    assert (number.isdecimal(), rest) == (True, "0.1")
    wanted = {"IMAGE_DEFINITION_NAME": "podvm-image", "IMAGE_DEFINITION_PUBLISHER": "RedHat", "IMAGE_DEFINITION_OFFER": "OSC-PodVM",
              "IMAGE_DEFINITION_SKU": "OSC-PodVM", "IMAGE_DEFINITION_VM_GENERATION": "V2", "VM_SIZE": "Standard_D2as_v5",
              "UPDATE_PEERPODS_CM": "yes"}
    assert {key: found.get(key) for key in wanted} == wanted


def test_missing_key(osc: Lab, start: str) -> None:
    """A needed key that is empty: the rollout ends, kata is there, the status stays Installing; only the log says why (3.4)."""
    def logged() -> Any:
        text = log(osc)
        return "error validating peer-pods-cm and peer-pods-secret" in text and text
    text = until(logged, 120)
    assert "validatePeerPodsConfigs: cannot find the required keys in peer-pods-secret Secret" in text
    assert "checkKeysPresentAndNotEmpty: key not present or has an empty value" in text
    assert condition(osc.request("GET", KATACONFIG)) == INSTALLING
    status = osc.request("GET", POOL)["status"]
    assert status["updatedMachineCount"] == status["machineCount"] > 0
    assert osc.request("GET", f"{CLASSES}/kata")
    for path in (CREATE_JOB, CAA, WEBHOOK, f"{CLASSES}/kata-remote"):
        assert osc.request("GET", path) is None, path


def test_gate_on(osc: Lab, start: str) -> None:
    """On: a confidential image, DISABLECVM false, the default INITDATA is taken away and the user's is kept (operators.md 3.1)."""
    osc.request("PATCH", GATES, {"data": {"confidential": "true"}})
    until(lambda: "INITDATA" not in inputs(osc, "peer-pods-cm"))
    assert inputs(osc, "peer-pods-cm")["DISABLECVM"] == "false"
    assert inputs(osc, "azure-podvm-image-cm")["CONFIDENTIAL_COMPUTE_ENABLED"] == "yes"
    osc.request("PATCH", CONFIG, {"data": {"INITDATA": INITDATA}})


def test_settled(osc: Lab, settled: dict[str, Any]) -> None:
    """Settled: node lists without the empty ones, RuntimeClasses, the user's INITDATA still there (deployment.md 4)."""
    names = sorted(node["metadata"]["name"] for node in osc.request("GET", f"{NODES}?labelSelector={KATA_OC}")["items"])
    found = until(lambda: (item := osc.request("GET", KATACONFIG)) and item["status"]["kataNodes"].get("installed") and item)
    assert found["status"]["kataNodes"] == {"nodeCount": len(names), "readyNodeCount": len(names), "installed": names}
    assert found["status"]["waitingForMcoToStart"] is False
    assert inputs(osc, "peer-pods-cm")["INITDATA"] == INITDATA


def test_duplicate(osc: Lab, settled: dict[str, Any]) -> None:
    """A second KataConfig is refused in the program's words; an update of the first never is (operators.md 1.1)."""
    status, message = refusal(osc, KATACONFIGS, kataconfig("second"))
    assert status == 403
    assert message == ('admission webhook "vkataconfig.kb.io" denied the request: '
                       "A KataConfig instance already exists, refusing to create a duplicate")
    osc.request("PATCH", KATACONFIG, {"metadata": {"annotations": {"contract": "1"}}})


def test_runtime_classes(osc: Lab, settled: dict[str, Any]) -> None:
    """Handler, overhead, nodeSelector, owner, and the finalizer of 1.11 and later (operators.md 3.2, deployment.md 1.4)."""
    for name, memory in (("kata", "350Mi"), ("kata-remote", "120Mi")):
        found = osc.request("GET", f"{CLASSES}/{name}")
        assert found["handler"] == name
        assert found["overhead"] == {"podFixed": {"cpu": "250m", "memory": memory}}
        assert found["scheduling"]["nodeSelector"] == {KATA_OC: ""}
        assert [owner["kind"] for owner in found["metadata"]["ownerReferences"]] == ["KataConfig"]
        assert CLASS_FINALIZER in found["metadata"]["finalizers"]


def test_conditions(installation: dict[str, list[Event]]) -> None:
    """Installing, image job, settled; nothing else but what 3.3 lists of it."""
    found = conditions(installation[KATACONFIG])
    assert in_order([INSTALLING, CREATING, SETTLED], found), found
    assert set(found) <= {INSTALLING, CREATING, CREATED, SETTLED}, found


def test_install_order(installation: dict[str, list[Event]]) -> None:
    """Finalizer, MachineConfig, node label, pool, RuntimeClass, SCC and monitor, pull secret, job, CAA, webhook, kata-remote (3.2)."""
    def with_finalizer(event: Event) -> bool:
        return FINALIZER in event.value["metadata"].get("finalizers", [])

    def came(path: str) -> int:
        return first(installation[path], "ADDED")
    labelled = [event.at for path, events in installation.items() if path.startswith(NODES)
                for event in events if KATA_OC in event.value["metadata"]["labels"]]
    order = [("finalizer", next(event.at for event in installation[KATACONFIG] if with_finalizer(event))),
             ("extension", came(EXTENSION)), ("label", min(labelled)), ("pool", came(POOL)), ("kata", came(f"{CLASSES}/kata")),
             ("scc", came(SCC_NAME)), ("monitor", came(MONITOR)), ("pull secret", came(f"{CORE}/secrets/auth-json-secret")),
             ("job", came(CREATE_JOB)), ("job done", completed(installation[CREATE_JOB])), ("caa", came(CAA)),
             ("webhook", came(WEBHOOK)), ("service", came(SERVICE)), ("mutating", came(MUTATING)),
             ("kata-remote", came(f"{CLASSES}/kata-remote"))]
    assert order == sorted(order, key=lambda item: item[1])


def test_image_job(osc: Lab, installation: dict[str, list[Event]]) -> None:
    """The Job's shape; its object goes, its pods stay, orphaned, with the label (operators.md 3.5)."""
    job = installation[CREATE_JOB][0].value
    assert not job["metadata"].get("ownerReferences")
    spec = job["spec"]
    assert (spec["parallelism"], spec["completions"], spec["backoffLimit"]) == (1, 1, 1)
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    [container] = spec["template"]["spec"]["containers"]
    assert container["name"] == "create"
    assert container["securityContext"]["privileged"] is True
    sources = {next(iter(source.values()))["name"]: next(iter(source.values())).get("optional", False) for source in container["envFrom"]}
    assert sources["peer-pods-secret"] is False
    assert sources["peer-pods-image-creation-secret"] is sources["peer-pods-cm"] is sources["azure-podvm-image-cm"] is True
    until(lambda: osc.request("GET", CREATE_JOB) is None)
    [pod] = osc.request("GET", f"{CORE}/pods?labelSelector=job-name=osc-podvm-image-creation")["items"]
    assert pod["status"]["phase"] == "Succeeded"
    assert not pod["metadata"].get("ownerReferences")


def test_image_id(osc: Lab, settled: dict[str, Any]) -> None:
    """The job's pod writes the id by ``kubectl patch``, not the operator; annotations of image and gallery (operators.md 3.5)."""
    found = osc.request("GET", CONFIG)
    image, gallery = found["data"]["AZURE_IMAGE_ID"], inputs(osc, "azure-podvm-image-cm")["IMAGE_GALLERY_NAME"]
    assert image.startswith(f"{IMAGE}PodVMGallery_")
    notes = found["metadata"]["annotations"]
    assert (notes["LATEST_IMAGE_ID"], notes["IMAGE_GALLERY_NAME"]) == (image, gallery)
    writers = [entry["manager"] for entry in found["metadata"]["managedFields"] if "f:AZURE_IMAGE_ID" in json.dumps(entry)]
    assert writers == ["kubectl-patch"]


def test_job_events(osc: Lab, settled: dict[str, Any]) -> None:
    """Events about the Job, not about the KataConfig (operators.md 3.5)."""
    name = "osc-podvm-image-creation"

    def seen() -> Any:
        found = {(item["type"], item["reason"]): item for item in osc.request("GET", f"{CORE}/events")["items"]
                 if item["involvedObject"]["name"] == name and item["metadata"]["name"].startswith("job-event-")}
        return ("Normal", "PodVMImageJobCompleted") in found and found
    found = until(seen)
    assert {key: item["message"] for key, item in found.items()} == {
        ("Normal", "PodVMImageJobRunning"): f"PodVM image job ({name}) is running",
        ("Normal", "PodVMImageJobCompleted"): f"PodVM image job ({name}) completed successfully"}
    assert {item["involvedObject"]["kind"] for item in found.values()} == {"Job"}


def test_caa(osc: Lab, settled: dict[str, Any]) -> None:
    """osc-caa-ds: on kata nodes, both inputs as its environment and neither optional (operators.md 4)."""
    found = until(lambda: (item := osc.request("GET", CAA)) and item["status"].get("numberReady")
                  == item["status"]["desiredNumberScheduled"] > 0 and item)
    assert found["status"]["desiredNumberScheduled"] == settled["status"]["kataNodes"]["nodeCount"]
    assert found["spec"]["selector"]["matchLabels"] == {"name": "osc-caa-ds"}
    assert found["spec"]["updateStrategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}
    pod = found["spec"]["template"]["spec"]
    assert (pod["hostNetwork"], pod["serviceAccountName"], pod["nodeSelector"]) == (True, "default", {KATA_OC: ""})
    [container] = pod["containers"]
    assert (container["name"], container["imagePullPolicy"]) == ("caa-pod", "Always")
    assert container["securityContext"] == {"privileged": True, "runAsUser": 0}
    assert container["command"] == ["/usr/local/bin/entrypoint.sh"]
    assert container["envFrom"] == [{"secretRef": {"name": "peer-pods-secret"}}, {"configMapRef": {"name": "peer-pods-cm"}}]
    secrets = {volume["secret"]["secretName"]: volume["secret"] for volume in pod["volumes"] if "secret" in volume}
    assert secrets["auth-json-secret"]["optional"] is secrets["ssh-key-secret"]["optional"] is True
    assert secrets["ssh-key-secret"]["defaultMode"] == 0o600


def test_webhook(osc: Lab, settled: dict[str, Any]) -> None:
    """The peer pods webhook's Deployment, Service and configuration, none with an owner (operators.md 4)."""
    deployment, service, mutating = (osc.request("GET", path) for path in (WEBHOOK, SERVICE, MUTATING))
    assert not [item for item in (deployment, service, mutating) if item["metadata"].get("ownerReferences")]
    assert deployment["spec"]["replicas"] == 2
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    assert {item["name"]: item["value"] for item in container["env"]} == {
        "PEERPODS_NAMESPACE": OSC, "TARGET_RUNTIMECLASS": "kata-remote", "POD_VM_EXTENDED_RESOURCE": "kata.peerpods.io/vm"}
    assert container["resources"] == {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"cpu": "500m", "memory": "128Mi"}}
    assert [(port["port"], port["targetPort"]) for port in service["spec"]["ports"]] == [(443, 9443)]
    assert until(lambda: osc.request("GET", f"{CORE}/secrets/peer-pods-webhook-svc-secret"))["type"] == "kubernetes.io/tls"
    [hook] = mutating["webhooks"]
    assert (hook["name"], hook["failurePolicy"]) == ("mwebhook.peerpods.io", "Fail")
    target = hook["clientConfig"]["service"]
    assert (target["name"], target["namespace"], target["path"]) == ("peer-pods-webhook-svc", OSC, "/mutate-v1-pod")
    assert [(rule["resources"], sorted(rule["operations"])) for rule in hook["rules"]] == [(["pods"], ["CREATE", "UPDATE"])]
    [expression] = hook["namespaceSelector"]["matchExpressions"]
    assert (expression["key"], expression["operator"]) == ("kubernetes.io/metadata.name", "NotIn")
    assert {"kube-system", OSC} <= set(expression["values"])


def test_monitor(osc: Lab, settled: dict[str, Any]) -> None:
    """The monitor's DaemonSet and the pull secret's copy (operators.md 3.2, steps 11 and 12)."""
    pod = osc.request("GET", MONITOR)["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert (pod["serviceAccountName"], container["name"]) == ("monitor", "kata-monitor")
    assert [port["containerPort"] for port in container["ports"]] == [8090]
    assert container["securityContext"]["seLinuxOptions"]["type"] == "osc_monitor.process"
    source = osc.request("GET", "/api/v1/namespaces/openshift-config/secrets/pull-secret")["data"][".dockerconfigjson"]
    assert source in osc.request("GET", f"{CORE}/secrets/auth-json-secret")["data"].values()


def pod_of(lab: Lab, name: str) -> str:
    """A Pending pod of RuntimeClass ``kata`` that nobody schedules; its path."""
    pods = "/api/v1/namespaces/default/pods"
    lab.request("POST", pods, {"metadata": {"name": name}, "spec": {
        "runtimeClassName": "kata", "schedulerName": "nobody", "automountServiceAccountToken": False,
        "containers": [{"name": "main", "image": "registry.access.redhat.com/ubi9/ubi"}]}})
    return f"{pods}/{name}"


def test_blocked(osc: Lab, settled: dict[str, Any]) -> None:
    """Pods of its RuntimeClasses block the deletion in every phase, Completed too (operators.md 3.3, 3.4).

    A RuntimeClass of 1.11 and later waits only for those that may still run (3.6). Nothing is taken down meanwhile.
    """
    pod = pod_of(osc, "contract-kata")
    osc.request("DELETE", f"{CLASSES}/kata")
    assert CLASS_FINALIZER in osc.request("GET", f"{CLASSES}/kata")["metadata"]["finalizers"]
    osc.request("DELETE", KATACONFIG)
    until(lambda: condition(osc.request("GET", KATACONFIG)) == blocked("kata"))
    assert osc.request("GET", f"{CLASSES}/kata")

    osc.request("PATCH", f"{pod}/status", {"status": {"phase": "Succeeded"}})
    until(lambda: osc.request("GET", f"{CLASSES}/kata") is None)
    found = osc.request("GET", KATACONFIG)
    assert (condition(found), found["metadata"]["finalizers"]) == (blocked("kata"), [FINALIZER])
    assert found["metadata"]["deletionTimestamp"]
    assert osc.request("GET", f"{NODES}?labelSelector={KATA_OC}")["items"]
    for path in (EXTENSION, POOL, MONITOR, CAA, WEBHOOK, MUTATING):
        assert osc.request("GET", path), path
    osc.request("DELETE", f"{pod}?gracePeriodSeconds=0")


@pytest.fixture(scope="module")
def removal(osc: Lab, start: str, installation: dict[str, list[Event]]) -> dict[str, list[Event]]:
    """What happened until the KataConfig was gone, from its settled state on."""
    since = str(installation[KATACONFIG][-1].at)
    if not osc.request("GET", KATACONFIG)["metadata"].get("deletionTimestamp"):
        osc.request("DELETE", KATACONFIG)
    until(lambda: osc.request("GET", KATACONFIG) is None, 120)
    return history(osc, since, *installation, DELETE_JOB)


def test_removal_conditions(removal: dict[str, list[Event]]) -> None:
    """Blocked, uninstalling, image deletion; nothing else but what 3.3 lists of it."""
    found = conditions(removal[KATACONFIG])
    assert in_order([UNINSTALLING, DELETING], found), found
    assert set(found) <= {SETTLED, blocked("kata"), UNINSTALLING, DELETING, DELETED}, found


def test_removal_order(removal: dict[str, list[Event]]) -> None:
    """Node label, MachineConfig, pool, monitor, CAA, webhook, image job, SCC, finalizer (operators.md 3.6)."""
    def went(path: str) -> int:
        return first(removal[path], "DELETED")
    unlabelled = [event.at for path, events in removal.items() if path.startswith(NODES)
                  for event in events if KATA_OC not in event.value["metadata"]["labels"]]
    order = [("label", min(unlabelled)), ("extension", went(EXTENSION)), ("pool", went(POOL)), ("monitor", went(MONITOR)),
             ("caa", went(CAA)), ("webhook", went(WEBHOOK)), ("service", went(SERVICE)),
             ("mutating", went(MUTATING)), ("job", first(removal[DELETE_JOB], "ADDED")), ("job done", completed(removal[DELETE_JOB])),
             ("scc", went(SCC_NAME)), ("kataconfig", went(KATACONFIG))]
    assert order == sorted(order, key=lambda item: item[1])
    uninstalling = next(event.at for event in removal[KATACONFIG] if condition(event.value) == UNINSTALLING)
    assert min(unlabelled) < uninstalling < went(POOL)


def test_deletion_job(osc: Lab, removal: dict[str, list[Event]]) -> None:
    """Command and IMAGE_ID; it clears the id and takes the annotations away; its pods stay (operators.md 3.5)."""
    job = removal[DELETE_JOB][0].value
    assert not job["metadata"].get("ownerReferences")
    [container] = job["spec"]["template"]["spec"]["containers"]
    assert (container["name"], container["command"]) == ("delete", ["/podvm-builder.sh", "delete", "-f", "-g"])
    [image] = [item["value"] for item in container["env"] if item["name"] == "IMAGE_ID"]
    assert image.startswith(f"{IMAGE}PodVMGallery_")
    found = osc.request("GET", CONFIG)
    assert found["data"]["AZURE_IMAGE_ID"] == ""
    assert not {"LATEST_IMAGE_ID", "IMAGE_GALLERY_NAME"} & set(found["metadata"].get("annotations") or {})
    until(lambda: osc.request("GET", DELETE_JOB) is None)
    for name in ("osc-podvm-image-creation", "osc-podvm-image-deletion"):
        pods = osc.request("GET", f"{CORE}/pods?labelSelector=job-name={name}")["items"]
        assert [pod["status"]["phase"] for pod in pods] == ["Succeeded"], name


def test_leftovers(osc: Lab, removal: dict[str, list[Event]]) -> None:
    """User objects, the pull secret's copy and the dashboard stay; what has an owner is collected (operators.md 3.6)."""
    for path in (CONFIG, SECRET, GATES, f"{CORE}/secrets/auth-json-secret",
                 "/api/v1/namespaces/openshift-config-managed/configmaps/grafana-dashboard-sandboxed-containers"):
        assert osc.request("GET", path), path
    until(lambda: osc.request("GET", IMAGE_CONFIG) is None)
    until(lambda: osc.request("GET", f"{CLASSES}/kata-remote") is None)
    nodes = osc.request("GET", NODES)["items"]
    assert not [node for node in nodes if KATA_OC in node["metadata"]["labels"]]
    # CAA was stopped cleanly: it has taken its resource off
    until(lambda: not [node for node in osc.request("GET", NODES)["items"] if "kata.peerpods.io/vm" in node["status"]["capacity"]])
