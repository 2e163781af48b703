"""Wrong input ends in a clear error (what failed · what was seen · what to do) before anything is written."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from tests.integration.lab import Lab

VERSION = "/apis/config.openshift.io/v1/clusterversions/version"
POOL = "/apis/machineconfiguration.openshift.io/v1/machineconfigpools/worker"


def refused(lab: Lab, pattern: str, variables: dict[str, Any], *arguments: str) -> None:
    """site.yml fails with a message of three parts that holds the pattern, and nothing was written."""
    mark = lab.mark
    run = lab.playbook("site", *arguments, variables=variables)
    assert run.code != 0, run.output
    found = messages(run.output)
    assert any(re.search(pattern, message) for message in found), f"{found}\n{run.output}"
    assert all(message.count(" · ") >= 2 or "must be one of" in message for message in found), found
    assert [f"{e['verb']} {e['requestURI']}" for e in lab.writes(mark)] == []


def messages(output: str) -> list[str]:
    """The messages of the failed tasks, those of loops item by item."""
    found = []
    for text in re.findall(r"^(?:fatal|failed): .*?=> (\{.*\})$", output, re.MULTILINE):
        result = json.loads(text)
        found.append(result["msg"])
    return [message for message in found if message != "One or more items failed"]


def pem(key: Any, common_name: str, host: str, days: int) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    end = now + datetime.timedelta(days=days)
    return (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(end - datetime.timedelta(days=400)).not_valid_after(end)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
            .sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode())


def given_tls(host: str, days: int) -> dict[str, Any]:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = pem(key, "given", host, days)
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return {"coco_tls_source": "given", "coco_tls_ca_certificate": certificate, "coco_tls_certificate": certificate,
            "coco_tls_key": private.decode()}


HOST = "kbs-service-trustee-operator-system.apps.lab.example.test"
AA = "[token_configs]\n[token_configs.kbs]\nurl = \"{}\"\n"

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "no release": ("coco_release is not set", {"coco_release": ""}),
    "unknown release": (r"OSC 9\.9 is not in the release table", {"coco_release": "9.9/1.0"}),
    "unpaired release": ("is not an allowed pair", {"coco_release": "1.11/1.1"}),
    "no cluster": ("does not answer", {"coco_kubeconfig": None, "coco_host": "https://127.0.0.1:1",
                                                           "coco_api_key": "x" * 20, "coco_validate_certs": False}),
    "no kubeconfig": ("kubeconfig .* does not exist", {"coco_kubeconfig": "/nonexistent/kubeconfig"}),
    "algorithm": ("the algorithm 'sha1' is unknown", {"coco_initdata_algorithm": "sha1"}),
    "aa without a KBS": ("aa.toml names no", {"coco_initdata": {"default": {"aa_toml": "x = 1\n"}, "verification": {}}}),
    "two KBS": ("must use one KBS", {"coco_initdata": {"default": {"aa_toml": AA.format("https://other.example.test")},
                                                       "verification": {}}}),
    "KBS with a path": ("has a path", {"coco_kbs_host": "kbs.example.test/kbs/v0"}),
    "http with a certificate": ("has a certificate for an http URL", {"coco_initdata": {"default": {
        "aa_toml": "[token_configs]\n[token_configs.kbs]\nurl = \"http://kbs.example.test\"\ncert = \"x\"\n"}, "verification": {}}}),
    "measurements": ("measurements.json.*No such file", {"coco_measurements": "/nonexistent/measurements.json"}),
    "size": ("Standard_D2s_v5 is no confidential size", {"coco_peerpods": {"AZURE_INSTANCE_SIZE": "Standard_D2s_v5"}}),
    "ARM id": ("whole ARM id", {"coco_peerpods": {"AZURE_SUBNET_ID": "worker-subnet"}}),
    "selector": ("matches no worker", {"coco_kataconfig_selector": {"no": "such-label"}}),
    "image policy": ("image_security_policy must be one of", {"coco_image_security_policy": "everything"}),
    "fail-open policy": ("'executables' has no default", {
        "coco_attestation_policy": "package policy\nimport rego.v1\nexecutables := 3 if input.x\n"}),
}


@pytest.mark.parametrize("case", CASES)
def test_inventory(virgin: Lab, case: str) -> None:
    pattern, variables = CASES[case]
    refused(virgin, pattern, variables)


@pytest.mark.parametrize(("pattern", "host", "days"), [("expired", HOST, -1), ("does not name the host", "other.example.test", 30)])
def test_given_certificate(virgin: Lab, pattern: str, host: str, days: int) -> None:
    refused(virgin, pattern, given_tls(host, days))


def test_openshift_below_the_floor(virgin: Lab) -> None:
    status = virgin.request("GET", VERSION)["status"]
    old = json.loads(json.dumps(status))
    old["history"] = [{**item, "version": "4.14.9"} for item in old["history"]]
    old["desired"]["version"] = "4.14.9"
    virgin.request("PATCH", f"{VERSION}/status", {"status": old})
    try:
        refused(virgin, r"4\.14\.9 is below", {})
    finally:
        virgin.request("PATCH", f"{VERSION}/status", {"status": status})


def test_expired_token(virgin: Lab) -> None:
    cluster = yaml.safe_load(Path(virgin.cluster["kubeconfig"]).read_text())["clusters"][0]["cluster"]
    refused(virgin, "401 Unauthorized", {
        "coco_kubeconfig": None, "coco_host": cluster["server"], "coco_ca_cert": cluster["certificate-authority"],
        "coco_api_key": "sha256~expired-token-of-nobody"})


def test_forbidden_verb_is_named(virgin: Lab, tmp_path: Path) -> None:
    """Somebody who may read everything and write nothing."""
    virgin.request("POST", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "reader"}})
    virgin.request("POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles", {
        "metadata": {"name": "reads-all"}, "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list", "watch"]}]})
    virgin.request("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", {
        "metadata": {"name": "reader"}, "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": "default"}],
        "roleRef": {"kind": "ClusterRole", "name": "reads-all", "apiGroup": "rbac.authorization.k8s.io"}})
    token = virgin.request("POST", "/api/v1/namespaces/default/serviceaccounts/reader/token", {"spec": {}})["status"]["token"]
    config = yaml.safe_load(Path(virgin.cluster["kubeconfig"]).read_text())
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
    file = tmp_path / "reader.yaml"
    file.write_text(yaml.safe_dump(config))
    refused(virgin, "may not patch subscriptions.operators.coreos.com", {"coco_kubeconfig": str(file)})


@pytest.mark.parametrize(("pattern", "patch", "undo"), [
    ("worker is paused", {"spec": {"paused": True}}, {"spec": {"paused": False}}),
])
def test_pool(virgin: Lab, pattern: str, patch: dict[str, Any], undo: dict[str, Any]) -> None:
    virgin.request("PATCH", POOL, patch)
    try:
        refused(virgin, pattern, {})
    finally:
        virgin.request("PATCH", POOL, undo)


@pytest.fixture
def key(virgin: Lab) -> Iterator[Path]:
    """A place for the administrator's key, as the collection would read it."""
    directory = virgin.state / "private" / "lab"
    directory.mkdir(parents=True, mode=0o700, exist_ok=True)
    for part in (directory, directory.parent):
        part.chmod(0o700)
    file = directory / "kbs-admin.pem"
    yield file
    file.unlink(missing_ok=True)


@pytest.mark.parametrize(("pattern", "mode", "content"), [
    ("its mode is 0644", 0o644, "whole"), ("ends too early", 0o600, "truncated"), ("Ed25519", 0o600, "rsa"),
])
def test_key_file(virgin: Lab, key: Path, pattern: str, mode: int, content: str) -> None:
    made = rsa.generate_private_key(65537, 2048) if content == "rsa" else ec.generate_private_key(ec.SECP256R1())
    text = made.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    key.write_bytes(text[:60] if content == "truncated" else text)
    key.chmod(mode)
    refused(virgin, pattern, {})


def test_release_asked_differs_from_what_is_installed(deployed: Lab) -> None:
    refused(deployed, r"is not of release 1\.2|is not of release 1\.12", {"coco_release": "1.12/1.1"})


def test_kata_pods_refuse_the_recreation_of_kataconfig(deployed: Lab) -> None:
    pod = {"metadata": {"name": "somebodys", "labels": {"app": "x"}}, "spec": {
        "runtimeClassName": "kata-remote", "containers": [{"name": "c", "image": "registry.access.redhat.com/ubi9/ubi-minimal:9.6",
                                                           "command": ["sleep", "600"]}]}}
    assert deployed.request("POST", "/api/v1/namespaces/default/pods", pod)
    refused(deployed, "default/somebodys", {"coco_kataconfig_recreate": "always"})
