#!/usr/bin/python
# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: attestation_check
short_description: Verify Trustee, or prove attestation with pods
version_added: "0.1.0"
description:
  - With O(mode=trustee) probes Trustee layer by layer, from its configuration to the answers of the KBS.
  - With O(mode=pods) proves that a secret reaches an attested pod, which compares its sha256 itself, and that the KBS refuses
    a pod with tampered initdata. The pods are removed, also after a failure.
  - A verdict that is not good is an error with every check, its cause and a hint.
author:
  - The confidential.containers contributors (@confidential-containers)
options:
  mode:
    description:
      - What to verify.
    type: str
    choices: [trustee, pods]
    required: true
  release:
    description:
      - The pair of OpenShift sandboxed containers and Trustee releases, such as V(1.11/1.0).
    type: str
    required: true
  trustee_namespace:
    description:
      - The namespace of the Trustee operator.
    type: str
    default: trustee-operator-system
  kbsconfig:
    description:
      - The name of the KbsConfig.
    type: str
    default: kbsconfig
  timeout:
    description:
      - Seconds for the deployment of Trustee, or for one pod.
    type: int
    default: 600
  request_timeout:
    description:
      - Seconds for one request to the KBS. A KBS that accepts but never answers is reported as that.
    type: int
    default: 10
  kbs_url:
    description:
      - The URL of the KBS. Required with O(mode=trustee).
    type: str
  ca_certificate:
    description:
      - The certificate authority (PEM) of the KBS. Without it, publicly trusted ones are used.
    type: str
  connect_to:
    description:
      - The address C(host:port) to connect to in place of the KBS's name, which stays in URL and certificate.
    type: str
  resource:
    description:
      - The path C(repository/type/tag) of the verification resource.
    type: str
    default: default/coco-verification/random
  sha256:
    description:
      - The sha256 (hex) of O(resource). Without it the Secret of the hub is read.
    type: str
  without_hub:
    description:
      - The KBS is run by others, and no cluster can be asked for its Secrets, reference values and log.
      - With O(mode=trustee) the KBS is then looked at from outside only; with O(mode=pods) O(sha256) is needed.
      - The refused pod then tells itself that the KBS appraised it and did not find it affirming, and that it got nothing; the KBS's own
        log, which would say so, is out of reach.
    type: bool
    default: false
  namespace:
    description:
      - The namespace of the verification pods. Required with O(mode=pods).
    type: str
  image:
    description:
      - The image of the verification pods. It needs C(sh), C(curl) and C(sha256sum).
    type: str
    default: registry.access.redhat.com/ubi9/ubi-minimal:9.6
  runtime_class:
    description:
      - The runtime class of the verification pods.
    type: str
    default: kata-remote
  podvm_image_id:
    description:
      - The id of the pod VM image of the verification pods. Empty takes the cluster's.
    type: str
    default: ''
  initdata:
    description:
      - The encoded initdata document of the verification pods. Required with O(mode=pods).
    type: str
  hub_kubeconfig:
    description:
      - The path of the hub's kubeconfig, or its content.
    type: raw
  hub_context:
    description:
      - The context of O(hub_kubeconfig).
    type: str
  hub_host:
    description:
      - The URL of the hub's API server.
    type: str
  hub_api_key:
    description:
      - A bearer token for the hub.
    type: str
  hub_username:
    description:
      - The user for basic authentication at the hub.
    type: str
  hub_password:
    description:
      - The password for basic authentication at the hub.
    type: str
  hub_ca_cert:
    description:
      - The file with the certificate authority of the hub's API server.
    type: path
  hub_client_cert:
    description:
      - The file with the client's certificate for the hub.
    type: path
  hub_client_key:
    description:
      - The file with the key of O(hub_client_cert).
    type: path
  hub_validate_certs:
    description:
      - Whether to verify the certificate of the hub's API server.
    type: bool
  hub_proxy:
    description:
      - The URL of an HTTP proxy to the hub's API server.
    type: str
extends_documentation_fragment:
  - confidential.containers.cluster
attributes:
  check_mode:
    description: Can run in check mode and say what would change.
    support: full
    details: Nothing is probed; the verdict is C(not verified).
  diff_mode:
    description: Returns what has changed.
    support: none
    details: The module changes nothing that stays.
seealso:
  - module: confidential.containers.initdata_build
  - module: confidential.containers.reference_values
"""

EXAMPLES = r"""
- name: Verify Trustee
  confidential.containers.attestation_check:
    mode: trustee
    release: "1.11/1.0"
    kbs_url: "https://{{ kbs_host }}"
    ca_certificate: "{{ certificates.ca_certificate }}"

- name: Prove attestation on a spoke
  confidential.containers.attestation_check:
    mode: pods
    release: "1.11/1.0"
    namespace: coco-verify
    initdata: "{{ built.encoded }}"
    kubeconfig: spoke.kubeconfig
    hub_kubeconfig: hub.kubeconfig
"""

RETURN = r"""
mode:
  description: What was verified.
  returned: success
  type: str
verdict:
  description: C(healthy), C(attested) or C(not verified); in a failure C(broken), C(insecure) or C(not proven).
  returned: always
  type: str
checks:
  description: Each check with C(name), C(ok), C(seen), C(cause), C(hint) and C(severity).
  returned: always
  type: list
  elements: dict
sha256_compared_in_pod:
  description: Whether the comparison happened inside the pod.
  returned: with O(mode=pods)
  type: bool
hint:
  description: What to do.
  returned: failure
  type: str
"""

from ansible_collections.confidential.containers.plugins.module_utils.actions.attestation_check import (
    ARGUMENT_SPEC,
    SPEC_KWARGS,
    run,
)
from ansible_collections.confidential.containers.plugins.module_utils.arguments import main as work


def main() -> None:
    work(ARGUMENT_SPEC, run, **SPEC_KWARGS)


if __name__ == "__main__":
    main()
