#!/usr/bin/python
# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_info
short_description: What a cluster is and what is installed on it
version_added: "0.1.0"
description:
  - Reads what the roles decide by, in few requests. Writes nothing, and of keys it reads only public halves.
author:
  - The confidential.containers contributors (@confidential-containers)
options:
  gather:
    description:
      - The sections to read. The default is all. V(trustee) has parts that can be read alone, V(trustee_certificates) and so on.
    type: list
    elements: str
    choices: [version, platform, ingress, topology, cloud_conf, operators, trustee, kata, peerpods, credentials, pods, permissions,
              trustee_certificates, trustee_auth, trustee_values, trustee_config, trustee_deployment, trustee_kinds,
              trustee_routes]
  release:
    description:
      - The pair of OpenShift sandboxed containers and Trustee releases, such as V(1.11/1.0).
    type: str
  trustee_namespace:
    description:
      - The namespace of the Trustee operator.
    type: str
    default: trustee-operator-system
  osc_namespace:
    description:
      - The namespace of the sandboxed containers operator.
    type: str
    default: openshift-sandboxed-containers-operator
  auth_secret:
    description:
      - The Secret with the administrator's public key.
    type: str
    default: kbs-auth-public-key
  https_certificate_secret:
    description:
      - The Secret with the KBS's certificate.
    type: str
    default: kbs-https-certificate
  signer_certificate_secret:
    description:
      - The Secret with the certificate of the token signer.
    type: str
    default: kbs-attestation-certificate
  kbsconfig:
    description:
      - The name of the KbsConfig.
    type: str
    default: kbsconfig
  config_map:
    description:
      - The config map with the configuration of the KBS.
    type: str
    default: kbs-config-cm
  reference_values_config_map:
    description:
      - The config map with the reference values.
    type: str
    default: rvps-reference-values
  verification_secret:
    description:
      - The Secret with the verification resource.
    type: str
    default: coco-verification
extends_documentation_fragment:
  - confidential.containers.cluster
attributes:
  check_mode:
    description: Can run in check mode and say what would change.
    support: full
    details: The module changes nothing.
  diff_mode:
    description: Returns what has changed.
    support: none
    details: The module changes nothing.
seealso:
  - module: confidential.containers.preflight_check
  - module: confidential.containers.k8s_objects
"""

EXAMPLES = r"""
- name: Read versions and operators
  confidential.containers.cluster_info:
    gather: [version, operators]
  register: found

- name: Show the installed operators
  ansible.builtin.debug:
    var: found.cluster.operators
"""

RETURN = r"""
cluster:
  description: What was found; only the sections that were asked for, and C(server).
  returned: success
  type: dict
  contains:
    server:
      description: The URL of the API server.
      type: str
    openshift_version:
      description: The newest completed version, with the section C(version).
      type: str
    kubernetes_version:
      description: The version of the API server, with the section C(version).
      type: str
    platform:
      description: The platform type, with the section C(platform).
      type: str
    aro:
      description: Whether it is Azure Red Hat OpenShift, with the section C(platform).
      type: bool
    ingress_domain:
      description: The domain of Routes, with the section C(ingress).
      type: str
    nodes:
      description: Names and labels of the nodes, with the section C(topology).
      type: list
      elements: dict
    pools:
      description: The machine config pools and their state, with the section C(topology).
      type: list
      elements: dict
    cloud_conf:
      description: The cluster's own cloud configuration without its secrets, with the section C(cloud_conf).
      type: dict
    operators:
      description: CSV, phase, channel and approval of both operators, with the section C(operators).
      type: dict
    trustee:
      description: Public keys, certificates, KbsConfig, Routes and reference values, with the section C(trustee).
      type: dict
    kataconfig:
      description: The KataConfig or null, with the section C(kata).
      type: dict
    runtime_classes:
      description: The names of the runtime classes, with the section C(kata).
      type: list
      elements: str
    peerpods_cm:
      description: The data of C(peer-pods-cm) or null, with the section C(peerpods).
      type: dict
    ssh_key_present:
      description: Whether there is a Secret C(ssh-key-secret), with the section C(peerpods).
      type: bool
    peerpods_secret:
      description: Whether there is a Secret C(peer-pods-secret), and the names of its keys, with the section C(peerpods).
      type: dict
    credentials_operator:
      description: >-
        The mode of the Cloud Credential Operator, whether its root Secret on Azure is there and with which mode, whether the
        operator's Subscription names a federated identity, and what of it may not be read (C(unseen)), with the section
        C(credentials).
      type: dict
    kata_pods:
      description: The pods with a kata runtime class, with the section C(pods).
      type: list
      elements: str
    permissions:
      description: The rights that the credentials lack, with the section C(permissions).
      type: dict
hint:
  description: What to do.
  returned: failure
  type: str
"""

from ansible_collections.confidential.containers.plugins.module_utils.actions.cluster_info import (
    ARGUMENT_SPEC,
    SPEC_KWARGS,
    run,
)
from ansible_collections.confidential.containers.plugins.module_utils.arguments import main as work


def main() -> None:
    work(ARGUMENT_SPEC, run, **SPEC_KWARGS)


if __name__ == "__main__":
    main()
