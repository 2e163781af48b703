# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations


class ModuleDocFragment:
    """The options of a cluster connection, named as in kubernetes.core."""

    DOCUMENTATION = r"""
requirements:
  - kubernetes >= 31.0.0
options:
  kubeconfig:
    description:
      - The path of a kubeconfig, or its content as a dictionary.
      - Where neither this nor O(host) is given, the environment variables E(K8S_AUTH_KUBECONFIG) and E(KUBECONFIG), then the
        default file of the client, then the service account of the pod that runs the task are used.
    type: raw
  context:
    description:
      - The context of the kubeconfig. The environment variable is E(K8S_AUTH_CONTEXT).
    type: str
  host:
    description:
      - The URL of the API server. The environment variable is E(K8S_AUTH_HOST).
      - An environment variable never overrules a O(kubeconfig) that the task names.
    type: str
  api_key:
    description:
      - A bearer token. The environment variable is E(K8S_AUTH_API_KEY).
    type: str
  username:
    description:
      - The user for basic authentication. The environment variable is E(K8S_AUTH_USERNAME).
    type: str
  password:
    description:
      - The password for basic authentication. The environment variable is E(K8S_AUTH_PASSWORD).
    type: str
  ca_cert:
    description:
      - The file with the certificate authority of the API server. The environment variable is E(K8S_AUTH_SSL_CA_CERT).
    type: path
    aliases: [ssl_ca_cert]
  client_cert:
    description:
      - The file with the client's certificate. The environment variable is E(K8S_AUTH_CERT_FILE).
    type: path
    aliases: [cert_file]
  client_key:
    description:
      - The file with the key of the client's certificate. The environment variable is E(K8S_AUTH_KEY_FILE).
    type: path
    aliases: [key_file]
  validate_certs:
    description:
      - Whether to verify the API server's certificate. The environment variable is E(K8S_AUTH_VERIFY_SSL).
      - Verification is on unless the kubeconfig says otherwise.
    type: bool
    aliases: [verify_ssl]
  proxy:
    description:
      - The URL of an HTTP proxy to the API server. The environment variable is E(K8S_AUTH_PROXY).
    type: str
"""
