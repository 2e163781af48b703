#!/usr/bin/python
# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: kbs_certificates
short_description: Make, keep or renew the certificates and the token signer of a KBS
version_added: "0.1.0"
description:
  - Makes a private certificate authority, the server certificate that it issues for a key broker service (KBS), and the
    key with which the KBS signs attestation tokens (EC P-256).
  - Private keys stay in a private directory (mode C(0700), files C(0600)). A private key is returned only when the cluster
    does not hold the matching certificate yet, and never in check mode.
  - The certificates that the cluster holds are the ones in use; without the authority's private half they are kept.
  - The result can carry private keys. Put C(no_log) on the task.
author:
  - The confidential.containers contributors (@confidential-containers)
requirements:
  - cryptography
options:
  directory:
    description:
      - The private directory of this host. It is made, with mode C(0700), where it is missing.
      - Required unless O(certificate) is given.
    type: path
  name:
    description: The beginning of the names of the files in O(directory).
    type: str
    default: kbs
  source:
    description:
      - V(own) makes an authority and a server certificate.
      - V(given) takes O(ca_certificate), O(certificate) and O(private_key), and checks them.
    type: str
    choices: [own, given]
    default: own
  state:
    description:
      - V(present) makes what is missing, and renews what expires within O(renew_before_days) or lacks one of O(hosts).
      - V(renewed) issues a new server certificate now, from the same authority.
      - V(authority_renewed) makes a new authority too, and has the old one certify it. The server presents that certificate,
        so whoever trusts only the old authority still reaches the KBS.
    type: str
    choices: [present, renewed, authority_renewed]
    default: present
  hosts:
    description: The names and addresses by which clients reach the KBS. The first is the common name.
    type: list
    elements: str
    required: true
  ca_certificate:
    description: The authority's certificate (PEM); for O(source=given).
    type: str
  certificate:
    description: The server's certificate (PEM); for O(source=given).
    type: str
  private_key:
    description: The server's private key (PEM); for O(source=given).
    type: str
  ca_key:
    description: The authority's private key (PEM) from a vault, used instead of the one in O(directory).
    type: str
  cluster_ca:
    description: The authority's certificate (PEM) that the cluster holds. Give it whenever there is one.
    type: str
  cluster_certificate:
    description: The server's certificate (PEM) that the cluster holds. Give it whenever there is one.
    type: str
  cluster_signer_certificate:
    description: The token signer's certificate (PEM) that the cluster holds. Give it whenever there is one.
    type: str
  signer_with_certificate:
    description:
      - Whether the signer's files lie in the same Secrets as the server's, so that one is never written without the other.
    type: bool
    default: false
  validity_days:
    description: How long a new server certificate is valid, in days.
    type: int
    default: 365
  ca_validity_days:
    description: How long a new authority and a new token signer are valid, in days.
    type: int
    default: 3650
  renew_before_days:
    description: How long before its end a certificate is renewed, in days.
    type: int
    default: 30
attributes:
  check_mode:
    description: Can run in check mode and say what would change.
    support: full
    details: Nothing is stored and no private key is returned; certificates that would be made are made in memory only.
  diff_mode:
    description: Returns what has changed.
    support: none
    details: RV(renewed) names what was made.
seealso:
  - module: confidential.containers.kbs_keypair
"""

EXAMPLES = r"""
- name: Make or keep the certificates of the KBS
  confidential.containers.kbs_certificates:
    directory: "{{ coco_state_dir }}/{{ inventory_hostname }}"
    hosts: ["{{ kbs_host }}"]
    cluster_ca: "{{ hub.cluster.trustee.ca | default(omit, true) }}"
    cluster_certificate: "{{ hub.cluster.trustee.https_certificate | default(omit, true) }}"
    cluster_signer_certificate: "{{ hub.cluster.trustee.signer_certificate | default(omit, true) }}"
  no_log: true
  register: certificates

- name: Use a certificate of the company's authority
  confidential.containers.kbs_certificates:
    directory: "{{ coco_state_dir }}/{{ inventory_hostname }}"
    source: given
    hosts: ["{{ kbs_host }}"]
    ca_certificate: "{{ lookup('ansible.builtin.file', 'ca.pem') }}"
    certificate: "{{ lookup('ansible.builtin.file', 'kbs.pem') }}"
    private_key: "{{ vault_kbs_key }}"
  no_log: true
"""

RETURN = r"""
ca_certificate:
  description: The authority's certificate (PEM), which guests trust.
  returned: success
  type: str
ca_available:
  description: Whether the authority's private half is at hand.
  returned: success
  type: bool
certificate:
  description: The server's certificate (PEM).
  returned: success
  type: str
certificate_write:
  description: Whether the cluster does not hold RV(certificate) yet.
  returned: success
  type: bool
private_key:
  description: The server's private key (PEM). A secret; null unless RV(certificate_write), and null in check mode.
  returned: success
  type: str
signer_certificate:
  description: The token signer's certificate (PEM).
  returned: success
  type: str
signer_write:
  description: Whether the cluster does not hold RV(signer_certificate) yet.
  returned: success
  type: bool
signer_key:
  description: The token signer's private key (PEM). A secret; null unless RV(signer_write), and null in check mode.
  returned: success
  type: str
renewed:
  description: What was made in this run, of C(ca), C(certificate) and C(signer).
  returned: success
  type: list
  elements: str
expires:
  description: The end of C(ca), C(certificate) and C(signer), in UTC.
  returned: success
  type: dict
  sample: {ca: "2036-11-22T10:00:00Z", certificate: "2027-11-24T10:00:00Z", signer: "2036-11-22T10:00:00Z"}
findings:
  description: What is questionable; each with C(severity), C(code), C(message) and C(hint).
  returned: success
  type: list
  elements: dict
"""

from ansible_collections.confidential.containers.plugins.module_utils.actions.kbs_certificates import (
    ARGUMENT_SPEC,
    SPEC_KWARGS,
    run,
)
from ansible_collections.confidential.containers.plugins.module_utils.arguments import main as work


def main() -> None:
    work(ARGUMENT_SPEC, run, **SPEC_KWARGS)


if __name__ == "__main__":
    main()
