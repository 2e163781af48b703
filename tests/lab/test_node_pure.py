"""lab-node's pure parts: images, pod fields, environment, status, frames, logs."""

from __future__ import annotations

import base64
import datetime
import re
from pathlib import Path
from typing import Any

import pytest

from lab import runtime
from lab.egress import loopback, target
from lab.node_env import ConfigError, environment, expand, references
from lab.node_server import CLOSE, exit_status, frame, select
from lab.node_spec import unsupported
from lab.node_status import conditions, merge_conditions, phase, same
from lab.releases import IMAGES, pinned

ADDRESSES = {"podIP": "10.200.4.2", "hostIP": "10.200.0.13"}


def pod(**spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"app": "x"}, "annotations": {"a/b": 'say "hi"'}},
        "spec": {"nodeName": "w1", "serviceAccountName": "sa", "containers": [{"name": "c", "image": "i"}], **spec},
    }


# runtime ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("image", "command", "module"), [
    ("osc-operator", ["/manager"], "lab.osc"),
    ("osc-operator", ["/metrics-server"], "lab.idle"),
    ("osc-monitor", None, "lab.idle"),
    ("caa", ["/usr/local/bin/entrypoint.sh"], "lab.caa"),
    ("peerpods-webhook", None, "lab.peerpods_webhook"),
    ("podvm-builder", ["/podvm-builder.sh"], "lab.podvm_image"),
    ("trustee-operator", None, "lab.trustee_operator"),
    ("trustee", ["/usr/local/bin/kbs"], "lab.kbs"),
])
def test_pinned_image_means_program(image: str, command: list[str] | None, module: str) -> None:
    program = runtime.lookup(pinned(image, "1.11.1"), command)
    assert program is not None
    assert program.argv[-1] == module
    assert runtime.argv(program, command or [], ["--x"])[-2:] == [module, "--x"]


def test_devices_only_where_named() -> None:
    assert runtime.PROGRAMS[IMAGES["trustee"]].devices == ("silicon_public",)
    assert runtime.PROGRAMS[IMAGES["caa"]].devices == ("cloud", "silicon_key")
    named = {IMAGES[n] for n in ("trustee", "trustee-preview", "caa", "podvm-builder")}
    assert all(not p.devices for name, p in runtime.PROGRAMS.items()
               if name.split(" ")[0] not in named)


def test_guest_image_runs_its_command() -> None:
    image = IMAGES["ubi"] + ":9.4"
    program = runtime.lookup(image, ["sleep"])
    assert runtime.is_guest(image)
    assert program is not None
    assert runtime.argv(program, ["sleep"], ["1"]) == ["sleep", "1"]
    assert runtime.argv(program, [], []) == ["/bin/sh"]


@pytest.mark.parametrize("image", ["quay.io/nobody/nothing:1", "nginx", "Not An Image", IMAGES["ubi"] + "-extra"])
def test_unknown_image(image: str) -> None:
    assert runtime.lookup(image) is None
    assert runtime.pull_error(image)


def test_pull_error_has_the_real_form() -> None:
    text = runtime.pull_error("quay.io/nobody/nothing:1")
    assert re.match(r"unable to pull image or OCI artifact: pull image err: initializing source "
                    r"docker://quay\.io/nobody/nothing:1: reading manifest 1 in quay\.io/nobody/nothing: unauthorized", text)


# pod fields ---------------------------------------------------------------------------------------------------------


def test_supported_pod_has_no_complaint() -> None:
    assert unsupported(pod(
        tolerations=[{"operator": "Exists"}], priorityClassName="x", runtimeClassName="kata-remote", hostPID=True,
        imagePullSecrets=[{"name": "s"}], terminationGracePeriodSeconds=10, securityContext={"runAsUser": 0},
        volumes=[{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}],
    )["spec"]) == []


@pytest.mark.parametrize(("spec", "path"), [
    ({"containers": [{"name": "c", "lifecycle": {"preStop": {}}}]}, "spec.containers[0].lifecycle"),
    ({"containers": [{"name": "c", "volumeMounts": [{"name": "v", "subPathExpr": "$(X)"}]}]},
     "spec.containers[0].volumeMounts[0].subPathExpr"),
    ({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "x"}}]}, "spec.volumes[0].persistentVolumeClaim"),
    ({"initContainers": [{"name": "c", "restartPolicy": "Always"}]}, "spec.initContainers[0].restartPolicy"),
    ({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{}]}}},
     "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution"),
    ({"topologySpreadConstraints": [{}]}, "spec.topologySpreadConstraints"),
    ({"hostAliases": [{}]}, "spec.hostAliases"),
])
def test_unsupported_field_is_named(spec: dict[str, Any], path: str) -> None:
    assert unsupported(pod(**spec)["spec"]) == [path]


# environment --------------------------------------------------------------------------------------------------------


def objects(kind: str, name: str) -> dict[str, Any] | None:
    known = {
        ("ConfigMap", "cm"): {"kind": "ConfigMap", "data": {"A": "from-cm", "B": "cm-b", "bad=name": "x"}},
        ("Secret", "s"): {"kind": "Secret", "data": {"A": base64.b64encode(b"from-secret").decode()}},
    }
    return known.get((kind, name))


def test_environment_order_and_expansion() -> None:
    container = {
        "name": "c", "envFrom": [{"configMapRef": {"name": "cm"}}, {"secretRef": {"name": "s"}},
                                 {"prefix": "P_", "configMapRef": {"name": "cm"}},
                                 {"secretRef": {"name": "gone", "optional": True}}],
        "env": [{"name": "B", "value": "own"}, {"name": "C", "value": "$(B)-$(A)-$(NONE)-$$(B)"},
                {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "L", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
                {"name": "Z", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "zz", "optional": True}}},
                {"name": "M", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}}],
        "resources": {"limits": {"memory": "1.5Gi"}},
    }
    values = environment(pod(), container, objects, ADDRESSES)
    assert values == {"A": "from-secret", "B": "own", "P_A": "from-cm", "P_B": "cm-b", "NODE": "w1", "IP": "10.200.4.2",
                      "C": "own-from-secret-$(NONE)-$(B)", "L": "x", "M": "1536"}


@pytest.mark.parametrize(("container", "text"), [
    ({"envFrom": [{"secretRef": {"name": "peer-pods-secret"}}]}, 'secret "peer-pods-secret" not found'),
    ({"envFrom": [{"configMapRef": {"name": "peer-pods-cm"}}]}, 'configmap "peer-pods-cm" not found'),
    ({"env": [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k"}}}]},
     "couldn't find key k in ConfigMap n/cm"),
    ({"env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]},
     "couldn't find key k in Secret n/s"),
])
def test_missing_reference_has_the_kubelets_text(container: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        environment(pod(), {"name": "c", **container}, objects, ADDRESSES)
    assert str(caught.value) == text


def test_expand_leaves_the_unknown() -> None:
    assert expand("$(A) $B $(C) $$(A) 5$", {"A": "1"}) == "1 $B $(C) $(A) 5$"


def test_references_are_found_everywhere() -> None:
    one = pod(volumes=[{"name": "v", "secret": {"secretName": "s1"}},
                       {"name": "p", "projected": {"sources": [{"configMap": {"name": "c1"}}, {"secret": {"name": "s2"}}]}}],
              containers=[{"name": "c", "envFrom": [{"configMapRef": {"name": "c2"}}],
                           "env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "s3", "key": "k"}}}]}])
    assert references(one) == {("Secret", "s1"), ("ConfigMap", "c1"), ("Secret", "s2"), ("ConfigMap", "c2"), ("Secret", "s3")}


# status -------------------------------------------------------------------------------------------------------------

RUNNING = {"name": "c", "state": {"running": {}}, "ready": True}
WAITING = {"name": "c", "state": {"waiting": {"reason": "ContainerCreating"}}}
CRASHING = {"name": "c", "state": {"waiting": {}}, "lastState": {"terminated": {"exitCode": 1}}}
DONE = {"name": "c", "state": {"terminated": {"exitCode": 0}}}
BROKEN = {"name": "c", "state": {"terminated": {"exitCode": 3}}}


@pytest.mark.parametrize(("policy", "init", "main", "expected"), [
    ("Always", [], [RUNNING], "Running"), ("Always", [], [WAITING], "Pending"), ("Always", [], [CRASHING], "Running"),
    ("Always", [], [RUNNING, WAITING], "Pending"), ("Never", [], [DONE], "Succeeded"), ("Never", [], [BROKEN, DONE], "Failed"),
    ("OnFailure", [], [BROKEN], "Running"), ("Always", [RUNNING], [WAITING], "Pending"), ("Never", [BROKEN], [WAITING], "Failed"),
    ("OnFailure", [BROKEN], [WAITING], "Pending"), ("Always", [DONE], [RUNNING], "Running"), ("Always", [], [DONE], "Running"),
])
def test_phase(policy: str, init: list[Any], main: list[Any], expected: str) -> None:
    assert phase(policy, init, main, len(init)) == expected


def test_conditions_texts() -> None:
    unready = conditions("Pending", [WAITING], [{**WAITING, "name": "m"}], False)
    assert unready["Initialized"] == ("False", "ContainersNotInitialized", "containers with incomplete status: [c]")
    assert unready["Ready"] == ("False", "ContainersNotReady", "containers with unready status: [m]")
    assert conditions("Succeeded", [], [DONE], True)["Ready"] == ("False", "PodCompleted", "")
    assert conditions("Running", [], [RUNNING], True)["Ready"][0] == "True"
    assert conditions("Running", [], [RUNNING], True, node_ready=False)["Ready"][0] == "False"


def test_transition_time_changes_with_status_only() -> None:
    before = [{"type": "Ready", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"}]
    kept = merge_conditions(before, {"Ready": ("True", "", "")})[0]
    fresh = merge_conditions(before, {"Ready": ("False", "x", "y")})[0]
    assert kept["lastTransitionTime"] == "2020-01-01T00:00:00Z"
    assert fresh["lastTransitionTime"] != "2020-01-01T00:00:00Z"


def test_same_ignores_what_others_wrote() -> None:
    assert same({"a": 1, "b": None}, {"a": 1, "c": 2})
    assert not same({"a": [1]}, {"a": [1, 2]})
    assert not same({"a": {"b": 1}}, {"a": None})


# frames and logs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("data", "expected"), [
    (b"\x00abc", (0, b"abc")), ("\x00abc", (0, b"abc")), (b"\xff\x00", (CLOSE, b"\x00")), ("\xff\x00", (CLOSE, b"\x00")),
    (b"\x04{}", (4, b"{}")), ("\x00grüß", (0, "grüß".encode())), (b"", None), ("", None),
])
def test_frames_text_and_binary(data: bytes | str, expected: tuple[int, bytes] | None) -> None:
    assert frame(data) == expected


def test_exit_status() -> None:
    assert exit_status(0) == {"metadata": {}, "status": "Success"}
    failed = exit_status(3)
    assert failed["reason"] == "NonZeroExitCode"
    assert failed["details"]["causes"] == [{"reason": "ExitCode", "message": "3"}]


LOG = b"2026-01-01T00:00:01Z INFO a\n  more\n2026-01-01T00:00:05Z INFO b\nlast"


def test_logs_selection() -> None:
    def text(*args: Any) -> list[bytes]:
        return [line for _, line in select(LOG, *args)]

    start = "2026-01-01T00:00:00Z"
    since = datetime.datetime(2026, 1, 1, 0, 0, 3, tzinfo=datetime.timezone.utc)
    assert b"".join(text(None, None, start)) == LOG
    assert text(1, None, start) == [b"last"]
    assert text(0, None, start) == []
    assert text(None, since, start) == [b"2026-01-01T00:00:05Z INFO b\n", b"last"]
    assert select(LOG, None, None, start)[1][0] == b"2026-01-01T00:00:01Z"


# egress -------------------------------------------------------------------------------------------------------------


def test_egress_mapping() -> None:
    assert target("10.200.4.2:9443", 200) == ("127.200.4.2", 9443)
    for refused in ("10.201.4.2:9443", "172.30.0.1:443", "example.test:443", "127.0.0.1:22", "10.200.4.2:x", "10.200.4.2"):
        assert target(refused, 200) is None
    assert loopback("192.0.2.1") is None


def test_no_program_of_the_table_is_missing() -> None:
    here = Path(runtime.__file__).parent
    modules = {p.argv[2].removeprefix("lab.") for p in runtime.PROGRAMS.values()}
    assert {m for m in modules if not (here / f"{m}.py").exists() and not (here / m / "__main__.py").exists()} == set()
