# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations


class ModuleDocFragment:
    """The options of a login to Azure, named as in azure.azcollection."""

    DOCUMENTATION = r"""
requirements:
  - azure-identity >= 1.19.0
  - azure-mgmt-network >= 28.0.0
  - azure-mgmt-compute >= 33.0.0
options:
  subscription_id:
    description:
      - The subscription of the cluster. The environment variable is E(AZURE_SUBSCRIPTION_ID).
    type: str
  tenant:
    description:
      - The tenant of the principal. The environment variables are E(AZURE_TENANT) and E(AZURE_TENANT_ID).
    type: str
  client_id:
    description:
      - The application's id of a service principal, workload identity or managed identity. The environment variable is
        E(AZURE_CLIENT_ID).
    type: str
  secret:
    description:
      - The secret of the service principal. The environment variables are E(AZURE_SECRET) and E(AZURE_CLIENT_SECRET).
    type: str
  x509_certificate_path:
    description:
      - A PEM file with certificate and private key of the service principal. The environment variables are
        E(AZURE_X509_CERTIFICATE_PATH) and E(AZURE_CLIENT_CERTIFICATE_PATH), that of the key's password
        E(AZURE_CLIENT_CERTIFICATE_PASSWORD).
    type: path
  auth_source:
    description:
      - Where the credentials come from. V(auto) takes the options, then the environment, then the login of C(az).
      - V(msi) is the managed identity of the machine, V(workload_identity) the token in E(AZURE_FEDERATED_TOKEN_FILE).
      - The environment variable is E(ANSIBLE_AZURE_AUTH_SOURCE).
    type: str
    choices: [auto, env, cli, msi, workload_identity]
  cloud_environment:
    description:
      - V(AzureCloud), V(AzureUSGovernment), V(AzureChinaCloud), or the https URL of the Azure Resource Manager of another
        cloud. The environment variable is E(AZURE_CLOUD_ENVIRONMENT).
    type: str
  adfs_authority_url:
    description:
      - The URL of the token service in place of the cloud's. The environment variables are E(AZURE_ADFS_AUTHORITY_URL) and
        E(AZURE_AUTHORITY_HOST).
    type: str
  cert_validation_mode:
    description:
      - V(ignore) accepts any certificate of Azure, which is insecure and warned about. The environment variable is
        E(AZURE_CERT_VALIDATION_MODE).
    type: str
    choices: [validate, ignore]
  azure_ca_cert:
    description:
      - A file with certificate authorities, for a proxy that ends TLS or a private cloud. The environment variable is
        E(REQUESTS_CA_BUNDLE).
    type: path
  arm_endpoint:
    description:
      - The URL of Azure Resource Manager in place of the cloud's. The environment variable is E(AZURE_ARM_ENDPOINT).
    type: str
"""
