"""Trustee deployed as a TrusteeConfig: the operator keeps what is ours, also where it came first."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.lab import Lab, Run
from tests.integration.seed import at_rest, differences, everything

NAMESPACE = "trustee-operator-system"
API = f"/apis/confidentialcontainers.org/v1alpha1/namespaces/{NAMESPACE}"
CHOICES = {
    "1.13/1.2": {},
    "1.11/1.0 Restricted": {"coco_trustee_kind": "TrusteeConfig"},
    "1.11/1.0 Permissive": {"coco_trustee_kind": "TrusteeConfig", "coco_trustee_profile": "Permissive"},
}


class Deployed:
    """A lab with the fourteen steps carried out, and the choices that it was made with."""

    def __init__(self, lab: Lab, variables: dict[str, Any]) -> None:
        self.lab, self.variables = lab, variables
        self.seed: dict[str, Any] = {}

    def playbook(self, name: str, *arguments: str, **variables: Any) -> Run:
        return self.lab.playbook(name, *arguments, variables={**self.variables, **variables})

    def get(self, path: str) -> Any:
        return self.lab.request("GET", path)

    def secret(self, name: str) -> dict[str, str]:
        return dict((self.get(f"/api/v1/namespaces/{NAMESPACE}/secrets/{name}") or {}).get("data") or {})


def wait(true: Callable[[], Any], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def proved(run: Run) -> None:
    assert run.code == 0, run.output
    assert run.verdict.startswith("the secret reached an attested pod (sha256 compared inside the pod)")
    assert run.verdict.endswith("the KBS refused the pod with tampered initdata")


@pytest.fixture(scope="module", params=list(CHOICES))
def deployed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    found = Deployed(Lab(Path(tmp_path_factory.mktemp("kind") / "state")), CHOICES[request.param])
    try:
        found.lab.lab("up", "--release", request.param.split()[0])
        found.seed = at_rest(found.lab)
        first = found.playbook("site")
        proved(first)
        warned = "the TrusteeConfig has the profile Permissive" in " ".join(first.output.split())
        assert warned is ("Permissive" in request.param)
        yield found
    finally:
        found.lab.lab("down", check=False)


def test_the_operator_runs_what_is_ours(deployed: Deployed) -> None:
    spec = deployed.get(f"{API}/trusteeconfigs/trusteeconfig")["spec"]
    assert spec == {"profileType": deployed.variables.get("coco_trustee_profile", "Restricted"), "kbsServiceType": "ClusterIP",
                    "httpsSpec": {"tlsSecretName": "trusteeconfig-https-tls"},
                    "attestationTokenVerificationSpec": {"tlsSecretName": "trusteeconfig-attestation-tls"}}
    (generated,) = deployed.get(f"{API}/kbsconfigs")["items"]
    assert generated["metadata"]["ownerReferences"][0]["kind"] == "TrusteeConfig"
    assert {"coco-verification", "security-policy"} < set(generated["spec"]["kbsSecretResources"])
    text = deployed.lab.config_map(NAMESPACE, generated["spec"]["kbsConfigMapName"])["kbs-config.toml"]
    assert "insecure_http = false" in text
    assert 'trusted_certs_paths = ["/etc/attestation-cert/token.crt"]' in text, "our configuration, with the profile Permissive too"
    assert "DenyAll" not in text
    objects = {item["metadata"]["name"]: item for item in deployed.lab.managed()}
    for field in ("kbsConfigMapName", "kbsAuthSecretName", "kbsRvpsRefValuesConfigMapName", "kbsResourcePolicyConfigMapName",
                  "kbsAttestationPolicyConfigMapName", "kbsHttpsKeySecretName", "kbsHttpsCertSecretName",
                  "kbsAttestationKeySecretName", "kbsAttestationCertSecretName"):
        assert generated["spec"][field] in objects, f"{field} names an object that is not ours"
    names = [item["metadata"]["name"] for item in deployed.get(f"/api/v1/namespaces/{NAMESPACE}/configmaps")["items"]]
    assert not [name for name in names if name.endswith(".v1.1")], "the operator has migrated nothing of ours"
    assert list(deployed.secret("trusteeconfig-auth-secret")) == ["publicKey"], "the private half is in no cluster"


def test_second_run_changes_nothing(deployed: Deployed) -> None:
    before = deployed.lab.owned()
    run = deployed.playbook("site", "--skip-tags", "step14")
    assert run.code == 0, run.output
    assert run.changed == {}
    assert deployed.lab.owned() == before
    checked = deployed.playbook("site", "--check", "--skip-tags", "step14")
    assert checked.code == 0, checked.output
    assert checked.changed == {}


def test_another_kind_is_refused(deployed: Deployed) -> None:
    mark = deployed.lab.mark
    run = deployed.playbook("site", coco_trustee_kind="KbsConfig")
    assert run.code != 0
    assert "Trustee runs as TrusteeConfig trusteeconfig, and KbsConfig is wanted" in " ".join(run.output.split())
    assert deployed.lab.writes(mark) == []


def test_where_the_operator_came_first(deployed: Deployed) -> None:
    """Everything of a TrusteeConfig by the operator alone, its key pair too; then the steps, on what they find."""
    lab = deployed.lab
    path = f"{API}/trusteeconfigs/trusteeconfig"
    config = deployed.get(path)
    lab.request("DELETE", path)
    wait(lambda: not deployed.get(f"{API}/kbsconfigs")["items"])
    ours = {item["metadata"]["name"]: item["kind"] for item in lab.managed() if item["metadata"].get("namespace") == NAMESPACE}
    for name, kind in ours.items():
        if name.startswith("trusteeconfig-") and not name.endswith("-tls") and kind in ("ConfigMap", "Secret"):
            lab.request("DELETE", f"/api/v1/namespaces/{NAMESPACE}/{kind.lower()}s/{name}")
    lab.request("POST", f"{API}/trusteeconfigs", {"apiVersion": config["apiVersion"], "kind": "TrusteeConfig",
                                                  "metadata": {"name": "trusteeconfig"}, "spec": config["spec"]})
    wait(lambda: "privateKey" in deployed.secret("trusteeconfig-auth-secret"))
    wait(lambda: (deployed.get(path).get("status") or {}).get("isReady"))
    generated = deployed.secret("trusteeconfig-auth-secret")

    proved(deployed.playbook("site"))
    found = deployed.secret("trusteeconfig-auth-secret")
    assert list(found) == ["publicKey"], "the private half is gone"
    assert found["publicKey"] != generated["publicKey"]
    again = deployed.playbook("site", "--skip-tags", "step14")
    assert again.code == 0, again.output
    assert again.changed == {}


def test_renewal(deployed: Deployed) -> None:
    before = deployed.secret("trusteeconfig-https-cert-secret"), deployed.secret("trusteeconfig-auth-secret")
    for what in ("certificate", "admin_key"):
        proved(deployed.playbook("rotate", coco_rotate=what))
    after = deployed.secret("trusteeconfig-https-cert-secret"), deployed.secret("trusteeconfig-auth-secret")
    assert before[0]["certificate"] != after[0]["certificate"]
    assert before[0]["ca.crt"] == after[0]["ca.crt"]
    assert before[1]["publicKey"] != after[1]["publicKey"]
    assert deployed.secret("trusteeconfig-https-tls")["tls.crt"] == after[0]["certificate"], "what the spec names is the same"


def test_a_removed_spoke_is_forgotten(deployed: Deployed) -> None:
    """The name of the reference values' config map depends on the kind."""
    run = deployed.playbook("spoke_remove", coco_spoke="gone")
    assert run.code == 0, run.output
    assert deployed.playbook("verify", "--tags", "step13").code == 0


def test_teardown_leaves_a_virgin_cluster(deployed: Deployed) -> None:
    """A TrusteeConfig of somebody else (``test_where_the_operator_came_first``) keeps its operator and what it needs. One of ours goes
    while its operator runs, with the KbsConfig made of it; what was ours and what was generated go, too."""
    told = {"coco_teardown_confirm": "lab", "coco_teardown_crds": True, "coco_teardown_pods": True}
    check = deployed.playbook("teardown", "--check")
    assert "stays: TrusteeConfig trustee-operator-system/trusteeconfig: it was not made by this collection" in check.output
    assert not [line for line in check.output.splitlines() if "would go: " in line and NAMESPACE in line]
    deployed.lab.request("DELETE", f"{API}/trusteeconfigs/trusteeconfig")
    wait(lambda: not deployed.get(f"{API}/kbsconfigs")["items"])
    assert deployed.playbook("site", "--skip-tags", "step14").code == 0
    run = deployed.playbook("teardown", **told)
    assert run.code == 0, run.output
    assert "TrusteeConfig, while its operator runs" in run.output
    assert differences(deployed.seed, everything(deployed.lab)) == []
    again = deployed.playbook("teardown", **told)
    assert again.code == 0, again.output
    assert "changed=0" in again.output
