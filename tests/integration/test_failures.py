"""What goes wrong is found by step 13 or 14, with a hint that names it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.lab import Lab

NAMESPACE = "trustee-operator-system"


@pytest.fixture
def broken(deployed: Lab) -> Iterator[Lab]:
    yield deployed
    deployed.lab("restore", "deployed")


def patch_config_map(lab: Lab, name: str, data: dict[str, Any]) -> None:
    assert lab.request("PATCH", f"/api/v1/namespaces/{NAMESPACE}/configmaps/{name}", {"data": data}) is not None


def restart_trustee(lab: Lab) -> None:
    """New pods, as after a restart: kbs-config, keys, certificates and subPath mounts are read anew."""
    lab.request("DELETE", f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=app%3Dkbs")


def reference_values(lab: Lab) -> list[dict[str, Any]]:
    values: list[dict[str, Any]] = json.loads(lab.config_map(NAMESPACE, "rvps-reference-values")["reference-values.json"])
    return values


def verify(lab: Lab, *steps: str, hint: str) -> None:
    """verify.yml fails in one of the steps, and its message holds the hint (a pattern)."""
    run = lab.playbook("verify")
    assert run.code != 0, run.output
    assert next((n for n, step in run.steps.items() if step["result"] == "failed"), None) in steps, run.output
    assert re.search(hint, run.output, re.IGNORECASE), run.output


def test_kbs_config_of_another_format(broken: Lab) -> None:
    config = broken.config_map(NAMESPACE, "kbs-config-cm")["kbs-config.toml"]
    patch_config_map(broken, "kbs-config-cm", {"kbs-config.toml": None, "kbs-config.json": config})
    restart_trustee(broken)
    verify(broken, "13", hint="kbs-config.toml")


def test_missing_attestation_policy(broken: Lab) -> None:
    policy = broken.config_map(NAMESPACE, "attestation-policy")["default_cpu.rego"]
    patch_config_map(broken, "attestation-policy", {"default_cpu.rego": None, "default.rego": policy})
    restart_trustee(broken)
    verify(broken, "13", "14", hint="default_cpu.rego")


def test_wrong_reference_value(broken: Lab) -> None:
    values = reference_values(broken)
    for item in values:
        if item["name"] == "snp_pcr11":
            item["value"] = ["00" * 32]
    patch_config_map(broken, "rvps-reference-values", {"reference-values.json": json.dumps(values)})
    restart_trustee(broken)
    verify(broken, "13", "14", hint="snp_pcr11|reference value")


def test_expired_reference_value(broken: Lab) -> None:
    values = reference_values(broken)
    for item in values:
        item["expiration"] = "2024-01-01T00:00:00Z"
    patch_config_map(broken, "rvps-reference-values", {"reference-values.json": json.dumps(values)})
    restart_trustee(broken)
    verify(broken, "13", "14", hint="expired")


def test_kbs_with_another_certificate(broken: Lab, tmp_path: Any) -> None:
    import base64
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody else")])
    now = datetime.datetime.now(datetime.timezone.utc)
    host = broken.request("GET", f"/apis/route.openshift.io/v1/namespaces/{NAMESPACE}/routes")["items"][0]["spec"]["host"]
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False).sign(key, hashes.SHA256())
    )
    kbs = broken.request("GET", f"/apis/confidentialcontainers.org/v1alpha1/namespaces/{NAMESPACE}/kbsconfigs")["items"][0]
    pem = {
        kbs["spec"]["kbsHttpsKeySecretName"]: key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        kbs["spec"]["kbsHttpsCertSecretName"]: certificate.public_bytes(serialization.Encoding.PEM),
    }
    for secret, data in pem.items():
        path = f"/api/v1/namespaces/{NAMESPACE}/secrets/{secret}"
        field = "privateKey" if b"PRIVATE" in data else "certificate"
        assert field in broken.request("GET", path)["data"]
        broken.request("PATCH", path, {"data": {field: base64.b64encode(data).decode()}})
    restart_trustee(broken)
    verify(broken, "13", hint="certificate")
