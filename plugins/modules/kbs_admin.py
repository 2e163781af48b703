#!/usr/bin/python
# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: kbs_admin
short_description: Set resources, policies and reference values of a KBS over its administrative API
version_added: "0.1.0"
description:
  - Administers a key broker service (KBS) that already runs, with the administrator's private key, over HTTP. No cluster is asked.
  - First checks that the KBS is reached under its name, that its certificate verifies, that it speaks the release's protocol, and
    that it accepts the key. Nothing is sent where it does not.
  - What the KBS gives back is compared. Up to Trustee 1.1 that is the resource policy, from Trustee 1.0 on it is the reference values.
  - What it never gives back (resources, attestation policies, the resource policy of Trustee 1.2) is sent in every run, because a KBS
    can lose it with its pod. It counts as changed where it differs from what this controller sent last, which is remembered in
    O(directory) as digests keyed by the administrator's key. Without that memory everything counts as changed.
author:
  - The confidential.containers contributors (@confidential-containers)
requirements:
  - cryptography
options:
  release:
    description: The pair of OpenShift sandboxed containers and Trustee releases, such as V(1.11/1.0). Its Trustee half is the KBS's.
    type: str
    required: true
  kbs_url:
    description: The URL of the KBS, C(https://host[:port]).
    type: str
    required: true
  ca_certificate:
    description: The certificate authority (PEM) that signed the KBS's certificate. Without it the controller's own are used.
    type: str
  connect_to:
    description: Address C(host:port) to connect to in place of the URL's; names in URL and certificate stay.
    type: str
  allow_http:
    description: Accept an O(kbs_url) without TLS. Everybody on the way then reads the resources.
    type: bool
    default: false
  request_timeout:
    description: Seconds for one request.
    type: int
    default: 10
  private_key:
    description: The administrator's private key (Ed25519, PEM, PKCS8).
    type: str
  directory:
    description:
      - The private directory (mode C(0700)) of this KBS on the controller. It holds what was sent, and the administrator's key unless
        O(private_key) is given.
    type: path
  name:
    description: The private key in O(directory) is the file C(<name>.pem).
    type: str
    default: kbs-admin
  without_key:
    description:
      - Without a private key, V(fail), or with V(report) check only that the KBS answers and return RV(key_available=false).
    type: str
    choices: [fail, report]
    default: fail
  claims:
    description:
      - More claims of the administrator's token, or others, for a KBS of Trustee 1.2 that wants them. C(role) is V(admin) by itself.
        A KBS of Trustee 1.1 refuses every token with C(aud).
    type: dict
    default: {}
  resources:
    description: The resources to set, C(repository/type/tag) to text.
    type: dict
    default: {}
  verification_resource:
    description:
      - The path of a resource whose value is derived from the administrator's key and O(kbs_url), as good as random to everybody
        else. Its digest is in RV(verification).
    type: str
  resource_policy:
    description: The Rego text of the resource policy. It replaces the KBS's.
    type: str
  attestation_policies:
    description: The attestation policies to set, id (such as V(default_cpu)) to Rego text. They replace the KBS's.
    type: dict
    default: {}
  reference_values:
    description:
      - Reference values by name. Lists are merged with what others put there; what this controller sent before and no longer wants
        goes. Sending renews their lifetime, which is twelve months.
    type: dict
    default: {}
  keep_old:
    description: Remove no reference value.
    type: bool
    default: false
attributes:
  check_mode:
    description: Can run in check mode and say what would change.
    support: full
    details: The KBS is asked, and nothing is sent.
  diff_mode:
    description: Returns what has changed.
    support: partial
    details: Shows policies and reference values that the KBS gives back, never a resource.
seealso:
  - module: confidential.containers.kbs_keypair
  - module: confidential.containers.attestation_check
"""

EXAMPLES = r"""
- name: Set a secret and the policies of a KBS
  confidential.containers.kbs_admin:
    release: "1.11/1.0"
    kbs_url: https://kbs.example.com
    ca_certificate: "{{ lookup('ansible.builtin.file', 'kbs-ca.pem') }}"
    private_key: "{{ vault_kbs_admin_key }}"
    directory: "{{ coco_state_dir }}/kbs.example.com"
    resources:
      default/my-application/password: "{{ vault_password }}"
    resource_policy: "{{ '1.11/1.0' | confidential.containers.resource_policy }}"
    attestation_policies:
      default_cpu: "{{ '1.11/1.0' | confidential.containers.attestation_policy }}"

- name: Check that the KBS answers and accepts the key
  confidential.containers.kbs_admin:
    release: "1.11/1.0"
    kbs_url: https://kbs.example.com
    private_key: "{{ vault_kbs_admin_key }}"
  check_mode: true
"""

RETURN = r"""
key_available:
  description: Whether the administrator's private key is at hand.
  returned: success
  type: bool
changes:
  description: What was (in check mode would be) set and differs.
  returned: success
  type: list
  elements: str
  sample: [resource policy, resource default/my-application/password]
unsupported:
  description: What was asked for and the release's KBS takes from files only.
  returned: success
  type: list
  elements: str
  sample: [reference values]
verification:
  description: The path (C(resource)) and the digest (C(sha256)) of O(verification_resource); empty without it, or without a key.
  returned: success
  type: dict
hint:
  description: What to do.
  returned: failure
  type: str
"""

from ansible_collections.confidential.containers.plugins.module_utils.actions.kbs_admin import (
    ARGUMENT_SPEC,
    SPEC_KWARGS,
    run,
    secrets,
)
from ansible_collections.confidential.containers.plugins.module_utils.arguments import main as work


def main() -> None:
    work(ARGUMENT_SPEC, run, secrets, **SPEC_KWARGS)


if __name__ == "__main__":
    main()
