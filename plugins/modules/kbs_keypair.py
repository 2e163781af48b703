#!/usr/bin/python
# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: kbs_keypair
short_description: Make, keep or rotate the administrator's key pair of a KBS
version_added: "0.1.0"
description:
  - Makes the Ed25519 pair with which the administrator of a key broker service (KBS) signs requests.
  - The private half stays in a private directory (mode C(0700), file C(0600)); only the public half goes to the cluster.
  - The public half that the cluster holds is the one in use. Without the matching private half nothing is made anew;
    the result says so with RV(private_available=false) and a warning.
author:
  - The confidential.containers contributors (@confidential-containers)
requirements:
  - cryptography
options:
  directory:
    description:
      - The private directory of this host. It is made, with mode C(0700), where it is missing.
      - A directory or file that others can read is refused.
      - Required unless O(private_key) is given.
    type: path
  name:
    description: The name of the pair; the private half is the file C(<name>.pem).
    type: str
    default: kbs-admin
  state:
    description:
      - V(present) keeps the pair in use, and makes one where there is none.
      - V(rotated) makes a new pair. The old private half stays as C(<name>.previous.pem) until the cluster holds the new
        public half; a rotation that was interrupted is gone on with.
    type: str
    choices: [present, rotated]
    default: present
  public_key:
    description: The public key (PEM) that the cluster holds. Give it whenever there is one.
    type: str
  private_key:
    description:
      - The private key (PEM, PKCS8) from a vault. Nothing is then read from or written to O(directory).
    type: str
attributes:
  check_mode:
    description: Can run in check mode and say what would change.
    support: full
    details: Nothing is written; the public key of a pair that would be made is of a pair that is thrown away.
  diff_mode:
    description: Returns what has changed.
    support: full
    details: Shows fingerprints of public keys, never a private key.
seealso:
  - module: confidential.containers.kbs_certificates
"""

EXAMPLES = r"""
- name: Make or keep the administrator's key pair
  confidential.containers.kbs_keypair:
    directory: "{{ coco_state_dir }}/{{ inventory_hostname }}"
    public_key: "{{ hub.cluster.trustee.auth_public_key | default(omit, true) }}"
  register: pair

- name: Replace the pair
  confidential.containers.kbs_keypair:
    directory: "{{ coco_state_dir }}/{{ inventory_hostname }}"
    public_key: "{{ hub.cluster.trustee.auth_public_key | default(omit, true) }}"
    state: rotated

- name: Use a private key from a vault
  confidential.containers.kbs_keypair:
    private_key: "{{ vault_kbs_admin_key }}"
    public_key: "{{ hub.cluster.trustee.auth_public_key | default(omit, true) }}"
"""

RETURN = r"""
public_key:
  description: The public key (PEM, SPKI) for the cluster.
  returned: success
  type: str
private_key_path:
  description: The file with the private half; null where there is none at hand, or where it was handed in.
  returned: success
  type: str
  sample: /home/me/.coco/hub/kbs-admin.pem
private_available:
  description: Whether the private half of RV(public_key) is at hand.
  returned: success
  type: bool
fingerprint:
  description: The fingerprint of RV(public_key).
  returned: success
  type: str
  sample: SHA256:uW2p6S1kTq4m7mXkUP0J8iJ0uOoL5dGm3oKzv9wXbqE
action:
  description:
    - V(created) and V(rotated) for a new pair, V(kept), or V(resumed) for a rotation that was interrupted before.
  returned: success
  type: str
  sample: kept
findings:
  description: What is questionable; each with C(severity), C(code), C(message) and C(hint).
  returned: success
  type: list
  elements: dict
"""

from ansible_collections.confidential.containers.plugins.module_utils.actions.kbs_keypair import (
    ARGUMENT_SPEC,
    SPEC_KWARGS,
    run,
)
from ansible_collections.confidential.containers.plugins.module_utils.arguments import main as work


def main() -> None:
    work(ARGUMENT_SPEC, run, **SPEC_KWARGS)


if __name__ == "__main__":
    main()
