# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge: who logs in to Azure, and at which cloud.

What a task names comes before the environment, the environment before the login of ``az``. Which one was used is said without its
secret (:attr:`Login.used`). A managed identity is only used when it is named: asking for it off Azure costs many seconds.
"""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils.arguments import azure_options
from ansible_collections.confidential.containers.plugins.module_utils.azure_errors import unreachable
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

try:
    import requests
    from azure import identity
    MISSING = ""
except ImportError as missing:
    MISSING = str(missing)

logging.getLogger("azure").addHandler(logging.NullHandler())  # a failed login is told once, by us, and not on standard error

OPTIONS = azure_options()
PACKAGES = "azure-identity azure-mgmt-network azure-mgmt-compute"
WHAT = "Azure cannot be logged in to"
#: Seconds that az may take (it is slow at its first start), and those before its end at which a token is asked for anew.
AZ_SECONDS, SOON = 60, 300
#: Names of azure.azcollection and of AAP's credential first, those of azure-identity after them.
ENVIRONMENT: dict[str, tuple[str, ...]] = {
    "subscription_id": ("AZURE_SUBSCRIPTION_ID",), "tenant": ("AZURE_TENANT", "AZURE_TENANT_ID"), "client_id": ("AZURE_CLIENT_ID",),
    "secret": ("AZURE_SECRET", "AZURE_CLIENT_SECRET"),
    "x509_certificate_path": ("AZURE_X509_CERTIFICATE_PATH", "AZURE_CLIENT_CERTIFICATE_PATH"),
    "auth_source": ("ANSIBLE_AZURE_AUTH_SOURCE",), "cloud_environment": ("AZURE_CLOUD_ENVIRONMENT",),
    "adfs_authority_url": ("AZURE_ADFS_AUTHORITY_URL", "AZURE_AUTHORITY_HOST"), "cert_validation_mode": ("AZURE_CERT_VALIDATION_MODE",),
    "azure_ca_cert": ("REQUESTS_CA_BUNDLE",), "arm_endpoint": ("AZURE_ARM_ENDPOINT",),
    "federated_token_file": ("AZURE_FEDERATED_TOKEN_FILE",), "certificate_password": ("AZURE_CLIENT_CERTIFICATE_PASSWORD",),
}
#: What else a login needs, by its kind.
ADVICE = {
    "msi": "The machine that runs the task must have that managed identity (client_id names one of several) and reach Azure's metadata "
           "service (169.254.169.254).",
    "cli": "Install az and log in with it (az login) as the user that runs the task, or give a service principal: AZURE_CLIENT_ID, "
           "AZURE_SECRET, AZURE_TENANT.",
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


if not MISSING:
    class AzLogin(identity.AzureCliCredential):
        """The login of ``az``, which is run once, not for each client again: it takes a second each time."""

        def __init__(self, tenant: str) -> None:
            super().__init__(tenant_id=tenant, process_timeout=AZ_SECONDS)
            self._known: dict[tuple[str, ...], Any] = {}

        def get_token_info(self, *scopes: str, options: Any = None) -> Any:
            found = self._known.get(scopes)
            if options or found is None or found.expires_on - time.time() < SOON:
                found = self._known[scopes] = super().get_token_info(*scopes, options=options)
            return found

        def get_token(self, *scopes: str, **options: Any) -> Any:
            return self.get_token_info(*scopes, options=options or None)


@dataclass(frozen=True)
class Login:
    """``used`` tells which credential this is, without its secret; ``verify``: as requests takes it (a CA file, or a bool);
    ``todo``: what its kind of login needs."""

    credential: Any = field(repr=False)
    used: str
    tenant: str
    subscription: str
    cloud: Cloud
    verify: bool | str
    todo: str = ""


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
    try:
        credential, used = _credential(source, given, environment, shared)
    except ValueError as error:  # azure-identity looks at tenant and authority
        raise CocoError(WHAT, " ".join(str(error).split()), "Correct tenant (AZURE_TENANT) and adfs_authority_url (AZURE_AUTHORITY_HOST)."
                        ) from error
    kind = {identity.ManagedIdentityCredential: "msi", AzLogin: "cli"}.get(type(credential), "")
    return Login(credential, used, given["tenant"], given["subscription_id"], cloud, verify, ADVICE.get(kind, ""))


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
            return identity.CertificateCredential(tenant, client, path, password=given["certificate_password"] or None, **shared), \
                f"service principal {client} with a certificate, {origin}"
        except (OSError, ValueError, TypeError) as error:  # TypeError: a password is missing, or not wanted
            raise CocoError(WHAT, f"the certificate {path} cannot be used: {error}", "Give a PEM file with certificate and private key; "
                            "its password, if it has one, in AZURE_CLIENT_CERTIFICATE_PASSWORD.") from error
    if source == "workload_identity" or (source in ("auto", "env") and given["federated_token_file"] and client and tenant):
        if not (given["federated_token_file"] and client and tenant):
            raise CocoError(WHAT, "workload identity needs client_id, tenant and AZURE_FEDERATED_TOKEN_FILE", "Set them.")
        file = given["federated_token_file"]
        if not os.access(file, os.R_OK):
            raise CocoError(WHAT, f"the federated token {file} cannot be read", "Correct AZURE_FEDERATED_TOKEN_FILE; in a pod: its service "
                            "account must be set up for workload identity, so that the token is mounted.")
        return identity.WorkloadIdentityCredential(tenant_id=tenant, client_id=client, token_file_path=file, **shared), \
            f"workload identity {client}"
    if source == "msi":
        # The metadata service is on the machine's own link: never through a proxy, and what does not answer there is not there.
        return identity.ManagedIdentityCredential(client_id=client or None, use_env_settings=False, retry_connect=1,
                                                  _exclude_workload_identity_credential=True), \
            f"managed identity {client or '(of the system)'}"
    if source in ("auto", "cli"):
        return AzLogin(tenant), "the login of az"
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
    for option, url in (("arm_endpoint", endpoint), ("adfs_authority_url", own)):
        if url.startswith("http://") or (url and option == "arm_endpoint" and not url.startswith("https://")):
            raise CocoError(WHAT, f"{option} is {url}: tokens and secrets are never sent without TLS", "Give an https URL.")
    known = own in ("", authority) and endpoint in ("", arm)
    return Cloud(name if known else endpoint or arm, own or authority, endpoint or arm, audience)


def _metadata(url: str, verify: bool | str) -> tuple[str, str, str]:
    try:
        answer = requests.get(f"{url}/metadata/endpoints", params={"api-version": "2015-01-01"}, verify=verify, timeout=30)
        answer.raise_for_status()
        found = answer.json()["authentication"]
        return str(found["loginEndpoint"]).rstrip("/"), url, str(found["audiences"][0]).rstrip("/")
    except (requests.RequestException, ValueError, LookupError, TypeError) as error:
        raise unreachable(WHAT, f"{url} does not describe its cloud: {error}", url,
                          "Correct cloud_environment: the URL of a cloud's Azure Resource Manager.") from error
