"""The small programs: peer pods webhook, pod VM image job, idle programs, webhook server."""

from __future__ import annotations

import asyncio
import base64
import datetime
import json
import ssl

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from lab import idle, podvm_image, seed
from lab.osc_serving import allowed, denied, serve
from lab.peerpods_webhook import HYPERVISOR, mutate, review
from lab.podvm_image import Failed
from lab.releases import RELEASES, pinned
from tests.lab.arm_running import Running
from tests.lab.operators_fake import FakeKube

GROUP = seed.cloud_conf("lab")["resourceGroup"]
NS = "openshift-sandboxed-containers-operator"
VM = {"requests": {"kata.peerpods.io/vm": "1"}, "limits": {"kata.peerpods.io/vm": "1"}}


def pod(*containers, runtime_class="kata-remote", **spec):
    return {"metadata": {"name": "p"}, "spec": {"runtimeClassName": runtime_class, "containers": list(containers), **spec}}


def test_other_runtime_classes_pass():
    assert mutate(pod({"name": "c", "resources": {"limits": {"cpu": "1"}}}, runtime_class="kata")) == []
    assert mutate({"metadata": {}, "spec": {"containers": [{"name": "c"}]}}) == []


def test_sums_become_annotations_and_resources_go():
    patch = mutate(pod(
        {"name": "a", "resources": {"limits": {"cpu": "500m", "memory": "512Mi", "nvidia.com/gpu": "1"},
                                    "requests": {"cpu": "4", "memory": "8Gi"}}},
        {"name": "b", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}},
        initContainers=[{"name": "i", "resources": {"limits": {"cpu": "8"}}}],
    ))
    changes = {p["path"]: p["value"] for p in patch}
    assert changes["/metadata/annotations"] == {HYPERVISOR + "default_vcpus": "2", HYPERVISOR + "default_memory": "1536",
                                                HYPERVISOR + "default_gpus": "1"}
    assert changes["/spec/containers"] == [{"name": "a", "resources": VM}, {"name": "b"}]
    assert changes["/spec/initContainers"] == [{"name": "i"}]


def test_without_resources_only_the_vm_is_asked_for():
    assert mutate(pod({"name": "a", "resources": {}})) == [
        {"op": "replace", "path": "/spec/containers", "value": [{"name": "a", "resources": VM}]}]


def test_update_of_a_changed_pod_changes_nothing():
    assert mutate(pod({"name": "a", "resources": VM}, {"name": "b", "resources": {}})) == []


def test_review_answers():
    answer = asyncio.run(review({"object": pod({"name": "a"}), "namespace": "n"}))
    assert answer["allowed"] is True
    assert json.loads(base64.b64decode(answer["patch"]))[0]["path"] == "/spec/containers"
    bad = pod({"name": "a", "resources": {"limits": {"cpu": "much"}}})
    assert asyncio.run(review({"object": bad}))["allowed"] is False
    assert "patch" not in allowed()
    assert denied("no")["status"] == {"code": 403, "message": "no"}


# Image job

@pytest.fixture(scope="module")
def arm(tmp_path_factory):
    running = Running(tmp_path_factory.mktemp("cloud") / "arm", "azure")
    yield running
    running.stop()


@pytest.fixture
def environment(arm, monkeypatch):
    directory = podvm_image.Path(arm.facts["control"]).parent
    monkeypatch.setenv("LAB_TIME_SCALE", "0")
    monkeypatch.setenv("LAB_HOSTS", str(directory / "hosts.json"))
    client = arm.clients["installer"]
    yield {
        "CLOUD_PROVIDER": "azure", "AZURE_SUBSCRIPTION_ID": arm.facts["subscription"], "AZURE_CLIENT_ID": client["client_id"],
        "AZURE_CLIENT_SECRET": client["secret"], "AZURE_TENANT_ID": client["tenant"], "AZURE_RESOURCE_GROUP": GROUP,
        "AZURE_REGION": "eastus",
        "IMAGE_GALLERY_NAME": "PodVMGallery_1f2e3d4c", "IMAGE_DEFINITION_NAME": "podvm-image", "IMAGE_VERSION": "1.0.1",
        "PODVM_IMAGE_URI": "oci::" + pinned("podvm-oci", "1.11.1"), "CONFIDENTIAL_COMPUTE_ENABLED": "yes",
        "UPDATE_PEERPODS_CM": "yes", "LAB_CLOUD": str(directory.parent), "LAB_POD_NAMESPACE": NS,
    }
    for file in (directory.parent / "images").glob("*"):
        file.unlink()


def cluster():
    return FakeKube({"apiVersion": "v1", "kind": "ConfigMap", "data": {"A": "b", "AZURE_IMAGE_ID": ""},
                     "metadata": {"name": "peer-pods-cm", "namespace": NS}})


def images(environment):
    folder = podvm_image.Path(environment["LAB_CLOUD"]) / "images"
    return [json.loads(file.read_text()) for file in folder.glob("*.json")] if folder.exists() else []


def galleries(arm):
    return [one.name for one in arm.compute().galleries.list_by_resource_group(GROUP)]


def test_create_then_delete(environment, arm):
    kube = cluster()
    asyncio.run(podvm_image.create(environment, kube))
    (image,) = images(environment)
    expected = (f"{arm.subscription}/resourceGroups/{GROUP}/providers/Microsoft.Compute/galleries/PodVMGallery_1f2e3d4c"
                "/images/podvm-image/versions/1.0.1")
    definition = arm.compute().gallery_images.get(GROUP, "PodVMGallery_1f2e3d4c", "podvm-image")
    assert [(one.name, one.value) for one in definition.features] == [("SecurityType", "ConfidentialVmSupported")]
    assert arm.compute().gallery_image_versions.get(GROUP, "PodVMGallery_1f2e3d4c", "podvm-image", "1.0.1").id == expected
    assert image["id"] == expected
    assert image["confidential"] is True
    assert image["pcrs"] == {str(k): v for k, v in RELEASES["1.11/1.0"].pcrs.items()}
    config = kube.peek("ConfigMap", "peer-pods-cm", NS)
    assert config["data"] == {"A": "b", "AZURE_IMAGE_ID": expected}
    assert config["metadata"]["annotations"] == {"LATEST_IMAGE_ID": expected, "IMAGE_GALLERY_NAME": "PodVMGallery_1f2e3d4c"}
    asyncio.run(podvm_image.delete({**environment, "IMAGE_ID": expected}, kube))
    config = kube.peek("ConfigMap", "peer-pods-cm", NS)
    assert images(environment) == []
    assert galleries(arm) == []
    assert config["data"]["AZURE_IMAGE_ID"] == ""
    assert config["metadata"]["annotations"] == {}


def test_not_confidential_unless_the_image_config_map_says_yes(environment):
    environment["CONFIDENTIAL_COMPUTE_ENABLED"] = "no"
    assert podvm_image.image_of(environment)["confidential"] is False


def test_config_map_is_left_alone_without_update_peerpods_cm(environment):
    kube = cluster()
    asyncio.run(podvm_image.create({**environment, "UPDATE_PEERPODS_CM": "no"}, kube))
    assert kube.peek("ConfigMap", "peer-pods-cm", NS)["data"]["AZURE_IMAGE_ID"] == ""
    assert len(images(environment)) == 1


@pytest.mark.parametrize(("changes", "text"), [
    ({"CLOUD_PROVIDER": ""}, "CLOUD_PROVIDER is empty or not set to azure"),
    ({"CLOUD_PROVIDER": "aws"}, "CLOUD_PROVIDER is empty or not set to azure"),
    ({"AZURE_RESOURCE_GROUP": ""}, "AZURE_RESOURCE_GROUP is empty"),
    ({"AZURE_TENANT_ID": "anything"}, "Failed to login to Azure"),
    ({"AZURE_CLIENT_SECRET": "wrong"}, "Failed to login to Azure"),
    ({"AZURE_RESOURCE_GROUP": "nowhere"}, "Failed to create Azure image gallery"),
    ({"PODVM_IMAGE_URI": "oci::example.test/other:1"}, "Failed to get the pod VM image"),
])
def test_script_errors(environment, changes, text):
    with pytest.raises(Failed, match=text):
        asyncio.run(podvm_image.create({**environment, **changes}, cluster()))
    assert images(environment) == []


def test_create_fails_without_the_config_map(environment):
    with pytest.raises(Failed, match="Failed to update peer-pods-cm"):
        asyncio.run(podvm_image.create(environment, FakeKube()))


def test_action_of_the_container():
    assert podvm_image.action_of(["create"]) == "create"
    assert podvm_image.action_of(["delete", "-f", "-g"]) == "delete"
    assert podvm_image.action_of(["-c", "cp /podvm-binaries.tar.gz /payload/"]) == "copy"


# Servers

def certificate(folder, name):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    start = datetime.datetime(2026, 1, 1)
    made = (x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(start)
            .not_valid_after(start + datetime.timedelta(days=3650))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), False).sign(key, hashes.SHA256()))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tls.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "tls.key").write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))


async def _post(port, body):
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    async with aiohttp.ClientSession() as session:
        for _ in range(100):
            try:
                async with session.post(f"https://127.231.7.9:{port}/x", json=body, ssl=context) as answer:
                    return await answer.json()
            except aiohttp.ClientConnectorError:
                await asyncio.sleep(0.02)
    raise AssertionError("the server did not start")


def test_webhook_server(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_ROOT", str(tmp_path))
    monkeypatch.setenv("LAB_POD_ADDRESS", "127.231.7.9")
    certificate(tmp_path / "certs", "one")

    async def refuse(request):
        return denied(f"not {request['name']}")

    async def run():
        task = asyncio.ensure_future(serve({"/x": refuse}, "0.0.0.0:19443", "/certs"))
        try:
            return await _post(19443, {"apiVersion": "admission.k8s.io/v1", "request": {"uid": "u1", "name": "n"}})
        finally:
            task.cancel()

    answer = asyncio.run(run())
    assert answer["response"] == {"uid": "u1", "allowed": False, "status": {"code": 403, "message": "not n"}}
    assert answer["kind"] == "AdmissionReview"


def test_webhook_server_needs_its_certificate(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_ROOT", str(tmp_path))
    with pytest.raises(FileNotFoundError):
        asyncio.run(serve({}, "0.0.0.0:19444", "/certs"))


def test_idle_ports():
    assert idle.socket_of([]) == "0.0.0.0:8091"
    assert idle.socket_of(["--listen-address=:8090", "--unknown"]) == "0.0.0.0:8090"
