"""Every way of logging in to Azure, through a module's own work, against lab-arm: it is let in, named, and its secret is nowhere."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError
from lab import seed
from tests.integration.azure_calls import ENVIRONMENT, cluster, place, work
from tests.integration.connect_proxy import ConnectProxy
from tests.lab.arm_running import Running

NOBODYS = "11111111-0000-4000-8000-000000000000"
PASSWORD = "a-password-of-the-test"
Options = dict[str, Any]


@pytest.fixture(autouse=True)
def _no_credentials_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))  # no az
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture(scope="module")
def arm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Nothing is changed in it: the module only reads."""
    running = Running(tmp_path_factory.mktemp("arm"), "azure")
    yield running
    running.stop()


class Logins:
    """Logs in with options and environment, and looks whether anything told holds a secret."""

    def __init__(self, arm: Running, monkeypatch: pytest.MonkeyPatch, capture: pytest.LogCaptureFixture) -> None:
        self.arm, self.monkeypatch, self.capture = arm, monkeypatch, capture
        capture.set_level(logging.INFO)
        self.secrets = [one[key] for one in arm.clients.values() for key in ("secret",) if key in one]
        self.secrets += [Path(one["token"]).read_text() for one in arm.clients.values() if "token" in one]
        self.secrets += [PASSWORD, "PRIVATE KEY"]

    def __call__(self, environment: dict[str, str] | None = None, **options: Any) -> dict[str, Any]:
        for name, value in (environment or {}).items():
            self.monkeypatch.setenv(name, value)
        warnings: list[str] = []
        given = {**place(self.arm), "cluster": cluster(self.arm), **options}
        try:
            result = work("azure_peerpods_info", {key: value for key, value in given.items() if value is not None}, warnings=warnings)
        except CocoError as error:
            self.hidden(json.dumps(error.result()) + json.dumps(warnings))
            raise
        self.hidden(json.dumps(result) + json.dumps(warnings))
        assert result["azure"]["resource_group"] == cluster(self.arm)["cloud_conf"]["resourceGroup"]
        return result

    def hidden(self, text: str) -> None:
        text += self.capture.text
        assert not [one for one in self.secrets if one in text]
        assert not re.search(r"eyJ[\w-]{10,}\.[\w-]{10,}\.", text), "a token"

    def fails(self, environment: dict[str, str] | None = None, **options: Any) -> CocoError:
        with pytest.raises(CocoError) as caught:
            self(environment, **options)
        assert caught.value.todo
        return caught.value

    def who(self, name: str) -> str:
        """The client that ARM saw last is the principal named; its client id."""
        client = self.arm.clients[name]["client_id"]
        assert self.arm.audit()[-1]["client"] == client
        return client


@pytest.fixture
def logs(arm: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Logins:
    return Logins(arm, monkeypatch, caplog)


def secret(arm: Running, name: str = "installer") -> Options:
    return {key: arm.clients[name][key] for key in ("client_id", "secret", "tenant")}


# --- service principals

def test_task_options(arm: Running, logs: Logins) -> None:
    used = logs(**secret(arm))["credential"]
    assert used == f"service principal {logs.who('installer')} with a secret, given to the task"


@pytest.mark.parametrize("names", [
    ("AZURE_CLIENT_ID", "AZURE_SECRET", "AZURE_TENANT"), ("AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_TENANT_ID")])
def test_environment(arm: Running, logs: Logins, names: tuple[str, str, str]) -> None:
    """As azure.azcollection and AAP's credential name it, and as azure-identity does."""
    values = dict(zip(names, secret(arm).values(), strict=True))
    values["AZURE_SUBSCRIPTION_ID"] = arm.facts["subscription"]
    assert logs(values)["credential"] == f"service principal {logs.who('installer')} with a secret, from the environment"


def test_everything_from_the_environment(arm: Running, logs: Logins) -> None:
    """Also where Azure is, and whom to trust."""
    values = {"AZURE_CLIENT_ID": secret(arm)["client_id"], "AZURE_SECRET": secret(arm)["secret"], "AZURE_TENANT": seed.TENANT,
              "AZURE_ADFS_AUTHORITY_URL": arm.facts["authority"], "AZURE_ARM_ENDPOINT": arm.facts["endpoint"],
              "REQUESTS_CA_BUNDLE": arm.facts["ca"]}
    logs(values, **dict.fromkeys(place(arm)))
    logs.who("installer")


def test_options_come_before_the_environment(arm: Running, logs: Logins) -> None:
    logs({"AZURE_CLIENT_ID": NOBODYS, "AZURE_SECRET": "the-secret-of-another", "AZURE_TENANT": NOBODYS}, **secret(arm))
    logs.who("installer")


@pytest.mark.parametrize("variable", ["", "AZURE_X509_CERTIFICATE_PATH", "AZURE_CLIENT_CERTIFICATE_PATH"])
def test_certificate(arm: Running, logs: Logins, variable: str) -> None:
    client = arm.clients["certificate"]
    options: Options = {"client_id": client["client_id"], "tenant": client["tenant"]}
    found = logs({variable: client["pem"]}, **options) if variable else logs(**options, x509_certificate_path=client["pem"])
    origin = "from the environment" if variable else "given to the task"
    assert found["credential"] == f"service principal {logs.who('certificate')} with a certificate, {origin}"


def test_certificate_with_a_password(arm: Running, logs: Logins, tmp_path: Path) -> None:
    client = arm.clients["certificate"]
    text = Path(client["pem"]).read_bytes()
    key = serialization.load_pem_private_key(text, None)
    locked = tmp_path / "locked.pem"
    locked.write_bytes(x509.load_pem_x509_certificate(text).public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(PASSWORD.encode())))
    options: Options = {"client_id": client["client_id"], "tenant": client["tenant"], "x509_certificate_path": str(locked)}
    error = logs.fails(**options)
    assert ("cannot be used" in error.seen, "AZURE_CLIENT_CERTIFICATE_PASSWORD" in error.todo) == (True, True)
    logs({"AZURE_CLIENT_CERTIFICATE_PASSWORD": PASSWORD}, **options)
    logs.who("certificate")


def test_a_certificate_that_is_not_the_applications(arm: Running, logs: Logins) -> None:
    error = logs.fails(client_id=arm.clients["installer"]["client_id"], tenant=seed.TENANT,
                       x509_certificate_path=arm.clients["certificate"]["pem"])
    assert "AADSTS700027" in error.seen
    assert "x509_certificate_path" in error.todo


@pytest.mark.parametrize("content", [None, "", "no PEM at all"])
def test_a_certificate_that_is_none(arm: Running, logs: Logins, tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "x.pem"
    if content is not None:
        path.write_text(content)
    error = logs.fails(client_id=NOBODYS, tenant=seed.TENANT, x509_certificate_path=str(path))
    assert f"the certificate {path} cannot be used" in error.seen


# --- workload identity

def federated(arm: Running, **changed: str) -> dict[str, str]:
    client = arm.clients["workload"]
    return {"AZURE_CLIENT_ID": client["client_id"], "AZURE_TENANT_ID": client["tenant"], "AZURE_FEDERATED_TOKEN_FILE": client["token"],
            "AZURE_AUTHORITY_HOST": arm.facts["authority"], **changed}


@pytest.mark.parametrize("source", [None, "env", "workload_identity"])
def test_workload_identity(arm: Running, logs: Logins, source: str | None) -> None:
    found = logs(federated(arm), auth_source=source, adfs_authority_url=None)
    assert found["credential"] == f"workload identity {logs.who('workload')}"


def test_an_expired_federated_token(arm: Running, logs: Logins) -> None:
    error = logs.fails(federated(arm, AZURE_FEDERATED_TOKEN_FILE=arm.clients["workload"]["stale"]))
    assert "the federated token has expired" in error.seen
    assert "Renew the token" in error.todo


def test_a_federated_token_that_is_not_there(arm: Running, logs: Logins, tmp_path: Path) -> None:
    error = logs.fails(federated(arm, AZURE_FEDERATED_TOKEN_FILE=str(tmp_path / "absent")))
    assert f"the federated token {tmp_path / 'absent'} cannot be read" in error.seen
    assert "service account" in error.todo


# --- managed identities

def machine(arm: Running, **more: str) -> dict[str, str]:
    """The environment in which this machine has lab-arm's metadata service."""
    return {"AZURE_POD_IDENTITY_AUTHORITY_HOST": arm.facts["metadata"], **more}


def test_the_identity_of_the_system(arm: Running, logs: Logins) -> None:
    assert logs(machine(arm), auth_source="msi")["credential"] == "managed identity (of the system)"
    logs.who("machine")


@pytest.mark.parametrize("variable", ["", "AZURE_CLIENT_ID"])
def test_a_user_assigned_identity(arm: Running, logs: Logins, variable: str) -> None:
    client = arm.clients["assigned"]["client_id"]
    found = logs(machine(arm, **({variable: client} if variable else {})), auth_source="msi", client_id=None if variable else client)
    assert found["credential"] == f"managed identity {logs.who('assigned')}"


def test_an_identity_that_the_machine_does_not_have(arm: Running, logs: Logins) -> None:
    error = logs.fails(machine(arm), auth_source="msi", client_id=arm.clients["installer"]["client_id"])
    assert "Identity not found" in error.seen
    assert "client_id names one of several" in error.todo


def test_the_metadata_service_is_asked_without_a_proxy(arm: Running, logs: Logins) -> None:
    """It answers on the machine's own link only; ARM and Entra are still behind the proxy."""
    with ConnectProxy() as proxy:
        logs(machine(arm, HTTP_PROXY=f"http://{proxy.address}", HTTPS_PROXY=f"http://{proxy.address}"), auth_source="msi")
        assert set(proxy.connects) == {arm.facts["endpoint"].removeprefix("https://")}


def test_a_managed_identity_is_not_a_workload_identity(arm: Running, logs: Logins) -> None:
    """Where both are there, the one that was named is used."""
    environment = {key: value for key, value in federated(arm).items() if key != "AZURE_CLIENT_ID"}
    logs(machine(arm, **environment), auth_source="msi")
    logs.who("machine")


def test_no_metadata_service(arm: Running, logs: Logins) -> None:
    error = logs.fails({"AZURE_POD_IDENTITY_AUTHORITY_HOST": "http://127.0.0.1:1"}, auth_source="msi")
    assert "no response from the IMDS endpoint" in error.seen
    assert "169.254.169.254" in error.todo


# --- az

def az(directory: Path, script: str) -> None:
    """A stand-in for az, first on the path."""
    file = directory / "az"
    file.write_text(f"#!/bin/sh\necho \"$@\" >> {directory}/az.calls\n{script}\n")
    file.chmod(0o755)


def test_the_login_of_az(arm: Running, logs: Logins, tmp_path: Path) -> None:
    """It is run once for all clients, and asked for ARM's audience."""
    token, expires = arm.token(), "2099-01-01 00:00:00.000000"
    answer = json.dumps({"accessToken": token, "expiresOn": expires, "expires_on": 4070908800, "subscription": arm.facts["subscription"],
                         "tenant": seed.TENANT, "tokenType": "Bearer"}, indent=2)
    az(tmp_path, f"/bin/cat <<'EOF'\n{answer}\nEOF")
    logs.secrets.append(token)
    for source in (None, "cli"):
        (tmp_path / "az.calls").unlink(missing_ok=True)
        assert logs(auth_source=source, tenant=seed.TENANT)["credential"] == "the login of az"
        logs.who("installer")
        assert (tmp_path / "az.calls").read_text().splitlines() == [
            f"account get-access-token --output json --resource {arm.facts['audience']} --tenant {seed.TENANT}"]


NOT_LOGGED_IN = "echo \"ERROR: Please run 'az login' to setup account.\" >&2; exit 1"
EXPIRED = "echo 'ERROR: AADSTS700082: The refresh token has expired due to inactivity. Run: az login' >&2; exit 1"


@pytest.mark.parametrize(("script", "seen", "todo"), [
    (NOT_LOGGED_IN, "Please run 'az login'", "az login"), (EXPIRED, "the login has expired", "az login"),
    ("echo '{\"accessToken\": \"eyJhbGciOiJIUzI1NiJ9.e30.c2ln\"'", "Unexpected output", "az login"),
    ("exit 127", "not found", "Install az")])
def test_az_without_a_login(logs: Logins, tmp_path: Path, script: str, seen: str, todo: str) -> None:
    az(tmp_path, script)
    error = logs.fails(auth_source="cli")
    assert (seen in error.seen, todo in error.todo) == (True, True), str(error)


def test_az_is_not_installed(logs: Logins) -> None:
    error = logs.fails()
    assert "the login of az cannot log in: Azure CLI not found" in error.seen
    assert "AZURE_CLIENT_ID" in error.todo


# --- clouds

def test_a_cloud_that_describes_itself(arm: Running, logs: Logins) -> None:
    logs(**secret(arm), cloud_environment=arm.facts["endpoint"], adfs_authority_url=None, arm_endpoint=None)
    logs.who("installer")


@pytest.mark.parametrize(("options", "seen", "todo"), [
    ({"cloud_environment": "https://127.0.0.1:1"}, "does not describe its cloud", "Correct cloud_environment"),
    ({"cloud_environment": "AzureMoonCloud"}, "there is no cloud 'AzureMoonCloud'", "AzureUSGovernment"),
    ({"adfs_authority_url": "http://127.0.0.1:1"}, "without TLS", "https"),
    ({"arm_endpoint": "http://127.0.0.1:1"}, "without TLS", "https")])
def test_a_cloud_that_is_none(arm: Running, logs: Logins, options: Options, seen: str, todo: str) -> None:
    error = logs.fails(**{**secret(arm), "adfs_authority_url": None, "arm_endpoint": None, **options})
    assert (seen in error.seen, todo in error.todo) == (True, True), str(error)


def test_a_sovereign_cloud_is_asked_and_no_other(arm: Running, logs: Logins) -> None:
    """Entra of AzureUSGovernment is where the secret would go: the proxy sees its name, and lets nothing through."""
    with ConnectProxy(refuse=True) as proxy:
        logs.fails({"HTTPS_PROXY": f"http://{proxy.address}"}, **secret(arm), cloud_environment="AzureUSGovernment",
                   adfs_authority_url=None, arm_endpoint=None)
        assert set(proxy.connects) == {"login.microsoftonline.us:443"}


# --- proxies

def far(arm: Running) -> Options:
    """Azure under names that no resolver knows."""
    return {"adfs_authority_url": arm.facts["far"]["authority"], "arm_endpoint": arm.facts["far"]["endpoint"]}


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy"])
def test_through_a_proxy(arm: Running, logs: Logins, variable: str) -> None:
    with ConnectProxy() as proxy:
        logs({variable: f"http://somebody:{PASSWORD}@{proxy.address}"}, **secret(arm), **far(arm))
        assert set(proxy.connects) == {url.removeprefix("https://") for url in arm.facts["far"].values()}
        assert all(one.startswith("Basic ") for one in proxy.credentials)
    logs.who("installer")


def test_past_a_proxy(arm: Running, logs: Logins) -> None:
    with ConnectProxy() as proxy:
        logs({"HTTPS_PROXY": f"http://{proxy.address}", "NO_PROXY": "localhost,127.0.0.1"}, **secret(arm))
        assert proxy.connects == []


@pytest.mark.parametrize("refusing", [False, True])
def test_a_proxy_that_does_not_let_through(arm: Running, logs: Logins, refusing: bool) -> None:
    """One that is down, one that refuses."""
    with ConnectProxy(refuse=True) as proxy:
        address = proxy.address if refusing else "127.0.0.1:1"
        error = logs.fails({"HTTPS_PROXY": f"http://somebody:{PASSWORD}@{address}"}, **secret(arm))
    assert "proxy" in error.seen.lower()
    assert "HTTPS_PROXY" in error.todo


def test_a_proxy_that_fails_after_the_login(arm: Running, logs: Logins) -> None:
    """Entra past the proxy, ARM through it: the error is ARM's."""
    local = arm.facts["authority"].replace("127.0.0.1", "localhost")
    with ConnectProxy(refuse=True) as proxy:
        error = logs.fails({"HTTPS_PROXY": f"http://{proxy.address}", "NO_PROXY": "localhost"}, **secret(arm),
                           adfs_authority_url=local)
        assert set(proxy.connects) == {arm.facts["endpoint"].removeprefix("https://")}
    assert "HTTPS_PROXY" in error.todo


# --- a private CA

def test_a_private_authority_by_the_environment(arm: Running, logs: Logins) -> None:
    logs({"REQUESTS_CA_BUNDLE": arm.facts["ca"]}, **secret(arm), azure_ca_cert=None)
    logs.who("installer")


@pytest.mark.parametrize("cloud", [False, True])
def test_an_unknown_authority(arm: Running, logs: Logins, cloud: bool) -> None:
    where: Options = {"cloud_environment": arm.facts["endpoint"], "adfs_authority_url": None, "arm_endpoint": None} if cloud else {}
    error = logs.fails(**secret(arm), azure_ca_cert=None, **where)
    assert "CERTIFICATE_VERIFY_FAILED" in error.seen
    assert "azure_ca_cert (REQUESTS_CA_BUNDLE)" in error.todo


def test_a_bundle_that_is_not_there(arm: Running, logs: Logins) -> None:
    error = logs.fails(**secret(arm), azure_ca_cert="/absent.pem")
    assert "/absent.pem, which does not exist" in error.seen


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_no_verification_is_warned_about(arm: Running, logs: Logins) -> None:
    warnings: list[str] = []
    options = {**place(arm), **secret(arm), "cluster": cluster(arm), "cert_validation_mode": "ignore", "azure_ca_cert": None}
    work("azure_peerpods_info", {key: value for key, value in options.items() if value is not None}, warnings=warnings)
    assert "could read the tokens" in warnings[0]
