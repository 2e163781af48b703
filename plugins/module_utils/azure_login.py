# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge: who logs in to Azure, and at which cloud.

What a task names comes before the environment, the environment before the login of ``az``. Which one was used is said without its
secret (:attr:`Login.used`). A managed identity is only used when it is named: asking for it off Azure costs many seconds.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils.arguments import azure_options
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

try:
    import requests
    from azure import identity
    MISSING = ""
except ImportError as missing:
    MISSING = str(missing)

OPTIONS = azure_options()
PACKAGES = "azure-identity azure-mgmt-network azure-mgmt-compute"
WHAT = "Azure cannot be logged in to"
#: Names of azure.azcollection and of AAP's credential first, those of azure-identity after them.
ENVIRONMENT: dict[str, tuple[str, ...]] = {
    "subscription_id": ("AZURE_SUBSCRIPTION_ID",), "tenant": ("AZURE_TENANT", "AZURE_TENANT_ID"), "client_id": ("AZURE_CLIENT_ID",),
    "secret": ("AZURE_SECRET", "AZURE_CLIENT_SECRET"),
    "x509_certificate_path": ("AZURE_X509_CERTIFICATE_PATH", "AZURE_CLIENT_CERTIFICATE_PATH"),
    "auth_source": ("ANSIBLE_AZURE_AUTH_SOURCE",), "cloud_environment": ("AZURE_CLOUD_ENVIRONMENT",),
    "adfs_authority_url": ("AZURE_ADFS_AUTHORITY_URL", "AZURE_AUTHORITY_HOST"), "cert_validation_mode": ("AZURE_CERT_VALIDATION_MODE",),
    "azure_ca_cert": ("REQUESTS_CA_BUNDLE",), "arm_endpoint": ("AZURE_ARM_ENDPOINT",),
    "federated_token_file": ("AZURE_FEDERATED_TOKEN_FILE",),
}
#: Name: (Entra's authority, Azure Resource Manager).
CLOUDS = {
    "AzureCloud": ("https://login.microsoftonline.com", "https://management.azure.com"),
    "AzureUSGovernment": ("https://login.microsoftonline.us", "https://management.usgovcloudapi.net"),
    "AzureChinaCloud": ("https://login.chinacloudapi.cn", "https://management.chinacloudapi.cn"),
}


@dataclass(frozen=True)
class Cloud:
    """Where to log in, where Azure Resource Manager is, and for whom tokens are made out."""

    name: str
    authority: str
    arm: str
    audience: str

    @property
    def well_known(self) -> bool:
        return self.name in CLOUDS


@dataclass(frozen=True)
class Login:
    """``used`` tells which credential this is, without its secret; ``verify``: as requests takes it (a CA file, or a bool)."""

    credential: Any = field(repr=False)
    used: str
    tenant: str
    subscription: str
    cloud: Cloud
    verify: bool | str


def options(params: dict[str, Any]) -> tuple[dict[str, str], set[str]]:
    """(options in force, the names of those that came from the environment)."""
    given = {name: str(params.get(name) or "") for name in ENVIRONMENT}
    alone = given["client_id"] and (given["secret"] or given["x509_certificate_path"])
    environment = set()
    for name, keys in ENVIRONMENT.items():
        if given[name] or (alone and name in ("secret", "x509_certificate_path", "federated_token_file")):
            continue
        given[name] = next((os.environ[key] for key in keys if os.environ.get(key)), "")
        if given[name]:
            environment.add(name)
    return given, environment


def login(params: dict[str, Any]) -> Login:
    """The credential for a task's options. Nothing is sent yet, but for the metadata of a cloud given as a URL.

    Raises :class:`CocoError` when libraries or credentials are missing.
    """
    if MISSING:
        raise CocoError("Azure's Python libraries are not there", MISSING,
                        f"pip install {PACKAGES} (requirements.txt) for the Python interpreter that runs the task.")
    given, environment = options(params)
    verify = _verify(given)
    cloud = _cloud(given, verify)
    shared: dict[str, Any] = {"authority": cloud.authority, "connection_verify": verify,
                              "disable_instance_discovery": not cloud.well_known}
    source = given["auth_source"] or "auto"
    credential, used = _credential(source, given, environment, shared)
    return Login(credential, used, given["tenant"], given["subscription_id"], cloud, verify)


def _credential(source: str, given: dict[str, str], environment: set[str], shared: dict[str, Any]) -> tuple[Any, str]:
    client, tenant = given["client_id"], given["tenant"]
    origin = "from the environment" if {"client_id", "secret", "x509_certificate_path"} & environment else "given to the task"
    if source in ("auto", "env") and (given["secret"] or given["x509_certificate_path"]):
        for name in ("client_id", "tenant"):
            if not given[name]:
                raise CocoError(WHAT, f"a service principal's secret or certificate is given, but not its {name}",
                                f"Set {name} ({ENVIRONMENT[name][0]}).")
        if given["secret"]:
            return identity.ClientSecretCredential(tenant, client, given["secret"], **shared), \
                f"service principal {client} with a secret, {origin}"
        path = os.path.expanduser(given["x509_certificate_path"])
        try:
            return identity.CertificateCredential(tenant, client, path, **shared), \
                f"service principal {client} with a certificate, {origin}"
        except (OSError, ValueError) as error:
            raise CocoError(WHAT, f"the certificate {path} cannot be used: {error}",
                            "Give a PEM file with certificate and unencrypted private key.") from error
    if source == "workload_identity" or (source in ("auto", "env") and given["federated_token_file"] and client and tenant):
        if not (given["federated_token_file"] and client and tenant):
            raise CocoError(WHAT, "workload identity needs client_id, tenant and AZURE_FEDERATED_TOKEN_FILE", "Set them.")
        return identity.WorkloadIdentityCredential(tenant_id=tenant, client_id=client, token_file_path=given["federated_token_file"],
                                                   **shared), f"workload identity {client}"
    if source == "msi":
        return identity.ManagedIdentityCredential(client_id=client or None), \
            f"managed identity {client or '(of the system)'}"
    if source in ("auto", "cli"):
        return identity.AzureCliCredential(tenant_id=tenant), "the login of az"
    raise CocoError(WHAT, "the environment holds no credentials", "Set AZURE_CLIENT_ID, AZURE_TENANT and AZURE_SECRET.")


def _verify(given: dict[str, str]) -> bool | str:
    if given["cert_validation_mode"] == "ignore":
        return False
    if not given["azure_ca_cert"]:
        return True
    path = os.path.expanduser(given["azure_ca_cert"])
    if not os.path.exists(path):
        raise CocoError(WHAT, f"azure_ca_cert names {path}, which does not exist", "Correct azure_ca_cert (REQUESTS_CA_BUNDLE).")
    return path


def _cloud(given: dict[str, str], verify: bool | str) -> Cloud:
    name = given["cloud_environment"] or "AzureCloud"
    if name in CLOUDS:
        authority, arm = CLOUDS[name]
        audience = arm
    elif name.startswith("https://"):
        authority, arm, audience = _metadata(name.rstrip("/"), verify)
    else:
        raise CocoError(WHAT, f"there is no cloud {name!r}",
                        f"Set cloud_environment to {', '.join(CLOUDS)}, or to the URL of a cloud's ARM.")
    own = given["adfs_authority_url"].rstrip("/")
    endpoint = given["arm_endpoint"].rstrip("/")
    if endpoint and not endpoint.startswith("https://"):
        raise CocoError(WHAT, f"arm_endpoint is {endpoint}: tokens are never sent without TLS", "Give an https URL.")
    known = own in ("", authority) and endpoint in ("", arm)
    return Cloud(name if known else endpoint or arm, own or authority, endpoint or arm, audience)


def _metadata(url: str, verify: bool | str) -> tuple[str, str, str]:
    try:
        answer = requests.get(f"{url}/metadata/endpoints", params={"api-version": "2015-01-01"}, verify=verify, timeout=30)
        answer.raise_for_status()
        found = answer.json()["authentication"]
        return str(found["loginEndpoint"]).rstrip("/"), url, str(found["audiences"][0]).rstrip("/")
    except (requests.RequestException, ValueError, LookupError, TypeError) as error:
        raise CocoError(WHAT, f"{url} does not describe its cloud: {error}", "Correct cloud_environment; check proxy and CA.") from error
