# ruff: noqa: F811 (the imported fixture is an argument)
"""lab-caa beside cloud-api-adaptor of OSC 1.11 (operators.md 4, 10; deployment.md 3.6)."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from lab import seed
from tests.contract.cluster import OSC, until
from tests.contract.deployed import (
    ANNOTATION,
    CONFIG,
    HYPERVISOR,
    WHERE,
    changed,
    deployed,  # noqa: F401
    encoded,
    events,
    execute,
    globally,
    labelled,
    log,
    pod,
    ready,
    replaced,
    waiting,
)
from tests.integration.lab import Lab
from tests.lab.arm_running import Arm

DAEMON = f"/apis/apps/v1/namespaces/{OSC}/daemonsets/osc-caa-ds"
LABEL = "name=osc-caa-ds"
VM = "kata.peerpods.io/vm"
CONFIDENTIAL, OTHER = "Standard_DC2as_v5", "Standard_D4s_v5"
REFUSED = "ExecProcessRequest is blocked by policy"


def adaptors_log(lab: Lab) -> str:
    return "".join(log(lab, item["metadata"]["name"], OSC) for item in labelled(lab, LABEL))


def workers(lab: Lab) -> list[dict[str, Any]]:
    return list(lab.request("GET", "/api/v1/nodes?labelSelector=node-role.kubernetes.io/kata-oc")["items"])


def offered(lab: Lab) -> set[str | None]:
    """What each node of the pool offers of VMs."""
    return {node["status"]["capacity"].get(VM) for node in workers(lab)}


def peer_pods(lab: Lab, name: str) -> list[dict[str, Any]]:
    found = lab.request("GET", f"/apis/confidentialcontainers.org/v1alpha1/namespaces/{WHERE}/peerpods")["items"]
    return [item for item in found if item["metadata"]["name"].startswith(f"{name}-resource-")]


@contextmanager
def configured(lab: Lab, restart: bool = True, **values: str) -> Iterator[None]:
    """peer-pods-cm with other values, for the time of a ``with``; adaptors are restarted for them, and afterwards."""
    before = lab.request("GET", CONFIG)["data"]
    lab.request("PATCH", CONFIG, {"data": values})
    try:
        if restart:
            replaced(lab, LABEL)
        yield
    finally:
        lab.request("PATCH", CONFIG, {"data": {name: before.get(name) for name in values}})
        replaced(lab, LABEL)


def failure(lab: Lab, name: str, words: str) -> str:
    """The events of a pod whose sandbox is not made, once they have said these words; the pod stays ContainerCreating."""
    told: str = until(lambda: words in (seen := events(lab, name, "FailedCreatePodSandBox")) and seen)
    until(lambda: waiting(lab, name)[0] == "ContainerCreating")
    assert told.startswith("Failed to create pod sandbox: rpc error: code = Unknown desc = ")
    return told


def test_daemon_set(deployed: Lab) -> None:
    """The table of section 4: account, network, where it runs, and its two sources, neither of them optional."""
    spec = deployed.request("GET", DAEMON)["spec"]
    assert spec["selector"]["matchLabels"] == {"name": "osc-caa-ds"}
    assert spec["updateStrategy"]["rollingUpdate"]["maxUnavailable"] == 1
    template = spec["template"]["spec"]
    assert (template["serviceAccountName"], template["hostNetwork"]) == ("default", True)
    assert template["nodeSelector"] == {"node-role.kubernetes.io/kata-oc": ""}
    [found] = template["containers"]
    assert (found["name"], found["command"], found["imagePullPolicy"]) == ("caa-pod", ["/usr/local/bin/entrypoint.sh"], "Always")
    assert (found["securityContext"]["privileged"], found["securityContext"]["runAsUser"]) == (True, 0)
    assert [item["name"] for item in found["env"]] == ["NODE_NAME"]
    sources = {kind: item[kind] for item in found["envFrom"] for kind in item}
    assert {kind: item["name"] for kind, item in sources.items()} == {
        "secretRef": "peer-pods-secret", "configMapRef": "peer-pods-cm"}
    assert not any(item.get("optional") for item in sources.values())
    nodes = sorted(node["metadata"]["name"] for node in workers(deployed))
    until(lambda: sorted(item["spec"].get("nodeName", "") for item in labelled(deployed, LABEL)) == nodes)
    until(lambda: offered(deployed) == {"10"})  # PEERPODS_LIMIT_PER_NODE


def test_vm_of_a_pod(deployed: Lab) -> None:
    """The words of success (operators.md 10); a PeerPod of the pod with the finalizer, gone with the pod (2.1)."""
    with pod(deployed, "made") as name:
        until(lambda: ready(deployed, name))
        found = re.search(r"created an instance (podvm-made-\S+) for sandbox \S+", adaptors_log(deployed))
        assert found
        [made] = peer_pods(deployed, name)
        assert re.fullmatch(r"made-resource-[a-z0-9]{5}", made["metadata"]["name"])
        assert made["metadata"]["finalizers"] == ["peer.pod/finalizer"]
        [owner] = made["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"]) == ("Pod", name)
        assert made["spec"]["cloudProvider"] == "azure"
        assert re.fullmatch(rf"/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.Compute/virtualMachines/{found.group(1)}",
                            made["spec"]["instanceID"])
        arm = Arm(deployed.facts["azure"])
        machine = arm.compute().virtual_machines.get(seed.cloud_conf("lab")["resourceGroup"], found.group(1))
        assert (machine.security_profile.security_type, machine.hardware_profile.vm_size) == ("ConfidentialVM", CONFIDENTIAL)
        nic = machine.network_profile.network_interfaces[0].id
        assert nic.endswith(f"/{found.group(1)}-net")
    until(lambda: not peer_pods(deployed, name))
    until(lambda: not [key for key in arm.resources() if found.group(1) in key])


def test_configuration_is_read_at_the_start_only(deployed: Lab) -> None:
    """Before PR #1950 an edited peer-pods-cm changes nothing until the adaptor's pods are deleted (deployment.md 3.6).

    Then the new INITDATA holds, and a pod's annotation wins over it (operators.md 4).
    """
    opened = globally(deployed)
    closed = changed(opened, None)
    with configured(deployed, restart=False, INITDATA=encoded(closed)):
        with pod(deployed, "edited") as name:
            until(lambda: ready(deployed, name))
            assert execute(deployed, name, "echo", "in") == (0, "in\n")
        replaced(deployed, LABEL)
        with pod(deployed, "restarted") as name, pod(deployed, "own", {ANNOTATION: encoded(opened)}) as own:
            until(lambda: ready(deployed, name) and ready(deployed, own))
            with pytest.raises(ValueError, match=REFUSED):
                execute(deployed, name, "echo", "in")
            assert execute(deployed, own, "echo", "in") == (0, "in\n")


def test_annotation(deployed: Lab) -> None:
    """``hypervisor.cc_init_data`` wins over the global document; ``runtime.cc_init_data`` was that of 1.9 and 1.10 (section 4).

    The adaptor looks at the algorithm only, not at the version (trustee.md 6.1).
    """
    closed = changed(globally(deployed), None).replace('version = "0.1.0"', 'version = "9.9.9"')
    with pod(deployed, "new", {ANNOTATION: encoded(closed)}) as new, \
            pod(deployed, "old", {"io.katacontainers.config.runtime.cc_init_data": encoded(closed)}) as old:
        until(lambda: ready(deployed, new) and ready(deployed, old))
        with pytest.raises(ValueError, match=REFUSED):
            execute(deployed, new, "echo", "in")
        assert execute(deployed, old, "echo", "in") == (0, "in\n")


PLAIN = 'algorithm = "sha256"\nversion = "0.1.0"\n\n[data]\n'
NO_IMAGE = (f"/subscriptions/{seed.SUBSCRIPTION}/resourceGroups/{seed.cloud_conf('lab')['resourceGroup']}/providers/Microsoft.Compute"
            "/galleries/none/images/podvm-image/versions/1.0.1")
FAILURES = {
    "not base64": ({ANNOTATION: "!"}, "failed to set initdata from annotation"),
    "not gzip": ({ANNOTATION: base64.b64encode(PLAIN.encode()).decode()}, "failed to set initdata from annotation"),
    "algorithm": ({ANNOTATION: encoded(PLAIN.replace("sha256", "md5"))}, "failed to set initdata from annotation"),
    "too large": ({ANNOTATION: encoded(f'{PLAIN}"aa.toml" = "{os.urandom(40_000).hex()}"\n')},
                  "base64 encoded userData is greater than 64KB"),
    "no such image": ({f"{HYPERVISOR}image": NO_IMAGE}, "GalleryImageNotFound"),
    "no image": ({f"{HYPERVISOR}image": "/subscriptions/none"}, "InvalidParameter"),
}


@pytest.mark.parametrize(("annotations", "words"), FAILURES.values(), ids=FAILURES)
def test_failures(deployed: Lab, annotations: dict[str, str], words: str) -> None:
    """Rows 2 and 9 of operators.md 10: in the adaptor's log and in the pod's event; the pod stays ContainerCreating."""
    with pod(deployed, "failing", annotations) as name:
        failure(deployed, name, words)
        assert words in adaptors_log(deployed)


def test_words_of_the_cloud(deployed: Lab) -> None:
    """Row 1 of operators.md 10: what comes before the cloud's own words."""
    with pod(deployed, "cloud", {f"{HYPERVISOR}image": NO_IMAGE}) as name:
        assert re.search(r"creating an instance : Creating instance \(podvm-cloud-\S+\): .*beginning VM creation or update: ",
                         failure(deployed, name, "GalleryImageNotFound"))


def test_size_of_a_vm_and_limit_per_node(deployed: Lab) -> None:
    """The size that a pod is annotated with, and the smallest listed one that fits its resources (deployment.md 3.2).

    PEERPODS_LIMIT_PER_NODE is what a node offers (operators.md 4).

    The chosen size is seen by the refusal of Azure: it is none of a confidential VM, which DISABLECVM false asks for.
    """
    with configured(deployed, AZURE_INSTANCE_SIZES=f"{CONFIDENTIAL},{OTHER}", PEERPODS_LIMIT_PER_NODE="3"):
        until(lambda: offered(deployed) == {"3"})
        containers = [{"name": "c", "image": "registry.access.redhat.com/ubi9/ubi", "command": ["sleep", "1000"],
                       "resources": {"limits": {"cpu": "3"}}}]
        with pod(deployed, "asked", {f"{HYPERVISOR}machine_type": OTHER}) as asked, \
                pod(deployed, "fitting", containers=containers) as fitting, pod(deployed, "default") as default:
            for name in (asked, fitting):
                failure(deployed, name, OTHER)
            until(lambda: ready(deployed, default))


def test_time_out(deployed: Lab) -> None:
    """Row 6 of operators.md 10: a guest that does not answer within PROXY_TIMEOUT; its VM is cleaned up.

    A negative PEERPODS_LIMIT_PER_NODE: no capacity (section 4), hence a pod bound by hand.
    """
    [node, *_] = [item["metadata"]["name"] for item in workers(deployed)]
    with configured(deployed, PROXY_TIMEOUT="1s", PEERPODS_LIMIT_PER_NODE="-1"), pod(deployed, "slow", nodeName=node) as name:
        told = failure(deployed, name, "failed to establish agent proxy connection to")
        assert "context deadline exceeded" in told
        assert offered(deployed) <= {None, "0"}
        said = adaptors_log(deployed)
        assert re.search(r"Trying to establish agent proxy connection to \S+:15150", said)
        assert re.search(r"cleaning up instance.* due to error", said)
    until(lambda: not peer_pods(deployed, "slow"))
    until(lambda: offered(deployed) == {"10"})


def test_no_adaptor_on_the_node(deployed: Lab) -> None:
    """At its shutdown the adaptor takes the offer off (section 4), so that pods are not scheduled (10, row 8).

    One bound to a node by hand stays ContainerCreating. With the adaptor back both run.
    """
    [node, *_] = [item["metadata"]["name"] for item in workers(deployed)]
    deployed.request("PATCH", DAEMON, {"spec": {"template": {"spec": {"nodeSelector": {"contract": "none"}}}}})
    try:
        until(lambda: not labelled(deployed, LABEL))
        until(lambda: offered(deployed) == {None})
        with pod(deployed, "free") as free, pod(deployed, "bound", nodeName=node) as bound:
            assert f"Insufficient {VM}" in until(lambda: events(deployed, free, "FailedScheduling"))
            failure(deployed, bound, "dial unix /run/peerpod/hypervisor.sock")
            deployed.request("PATCH", DAEMON, {"spec": {"template": {"spec": {"nodeSelector": {"contract": None}}}}})
            until(lambda: ready(deployed, free) and ready(deployed, bound))
    finally:
        deployed.request("PATCH", DAEMON, {"spec": {"template": {"spec": {"nodeSelector": {"contract": None}}}}})
    until(lambda: offered(deployed) == {"10"})


def stopped_by(lab: Lab, reason: str) -> str:
    """Delete the adaptors' pods; the name of one that then waits for a reason."""
    for item in labelled(lab, LABEL):
        lab.request("DELETE", f"/api/v1/namespaces/{OSC}/pods/{item['metadata']['name']}?gracePeriodSeconds=1")

    def seen() -> str:
        return next((item["metadata"]["name"] for item in labelled(lab, LABEL)
                     for status in item["status"].get("containerStatuses", [])
                     if status["state"].get("waiting", {}).get("reason") == reason), "")
    return str(until(seen))


def back(lab: Lab) -> None:
    replaced(lab, LABEL)
    until(lambda: offered(lab) == {"10"})


def test_missing_value(deployed: Lab) -> None:
    """Row 5 of operators.md 10: a needed value is empty: CrashLoopBackOff, and the entry point's words."""
    before = deployed.request("GET", CONFIG)["data"]["AZURE_SUBNET_ID"]
    deployed.request("PATCH", CONFIG, {"data": {"AZURE_SUBNET_ID": ""}})
    try:
        name = stopped_by(deployed, "CrashLoopBackOff")
        assert "$AZURE_SUBNET_ID is NOT set" in log(deployed, name, OSC)
    finally:
        deployed.request("PATCH", CONFIG, {"data": {"AZURE_SUBNET_ID": before}})
        back(deployed)
