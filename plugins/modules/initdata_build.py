#!/usr/bin/python
# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: initdata_build
short_description: Build an initdata document and what it does to the measured registers
version_added: "0.1.0"
description:
  - Builds the initdata document of a confidential pod VM from typed options or from given files.
  - Encodes it as the release reads it, and computes its digest and the registers that bind it.
  - Fails on everything that a guest would refuse.
author:
  - The confidential.containers contributors (@confidential-containers)
requirements:
  - cryptography
options:
  release:
    description: The pair of OpenShift sandboxed containers and Trustee releases, such as V(1.11/1.0).
    type: str
    required: true
  algorithm:
    description: The digest algorithm, V(sha256), V(sha384) or V(sha512). Registers hold 32 bytes of it.
    type: str
    default: sha256
  kbs_url:
    description: The URL of the KBS, without a path.
    type: str
  kbs_ca:
    description: The certificate (PEM) of the authority that guests trust for O(kbs_url).
    type: str
  policy:
    description: The kata agent's policy (Rego, package C(agent_policy)).
    type: str
  image_security_policy_uri:
    description: Where the image policy lies, such as V(kbs:///default/security-policy/signed).
    type: str
  aa_toml:
    description: The text of C(aa.toml), instead of the one made from O(kbs_url).
    type: str
  cdh_toml:
    description: The text of C(cdh.toml), instead of the one made from O(kbs_url).
    type: str
  files:
    description: Whole files by name, instead of the typed options.
    type: dict
    default: {}
  extra:
    description: More keys of the table C([image]) of C(cdh.toml).
    type: dict
    default: {}
  toml:
    description: A complete document, taken byte for byte.
    type: str
  documents:
    description:
      - Several documents by name, in place of one. Keys of a document are C(algorithm), C(agent_policy), C(policy_rego),
        C(image_security_policy), C(resources) (the Secrets that it opens), C(aa_toml), C(cdh_toml) and C(extra).
    type: dict
  agent_policy:
    description: "Choices of the kata agent's policy for O(documents) that name none: C(exec), C(logs), C(exec_allowlist)."
    type: dict
    default: {}
  image_security_policy:
    description: The image policy of O(documents) that name none, a key of O(security_policy_secret).
    type: str
    default: signed
  security_policy_secret:
    description: The Secret of the KBS that holds the image policies.
    type: str
    default: security-policy
  kbs_ca_exists:
    description: Whether O(kbs_ca) is in use. Documents with one that has yet to be made are refused, except in check mode.
    type: bool
    default: true
attributes:
  check_mode:
    description: Can run in check mode and say what would change.
    support: full
    details: The module only computes.
  diff_mode:
    description: Returns what has changed.
    support: none
    details: The module changes nothing.
seealso:
  - module: confidential.containers.initdata_info
  - module: confidential.containers.reference_values
"""

EXAMPLES = r"""
- name: Build the initdata document
  confidential.containers.initdata_build:
    release: "1.11/1.0"
    kbs_url: "https://{{ kbs_host }}"
    kbs_ca: "{{ certificates.ca_certificate }}"
    policy: "{{ {} | confidential.containers.kata_agent_policy }}"
    image_security_policy_uri: kbs:///default/security-policy/signed
  register: built

- name: Build the named documents of an inventory
  confidential.containers.initdata_build:
    release: "1.11/1.0"
    kbs_url: "https://{{ kbs_host }}"
    kbs_ca: "{{ certificates.ca_certificate }}"
    documents:
      default: {}
      debugging: {agent_policy: {exec: true, logs: true}, resources: []}
  register: built

- name: Take a document as it is
  confidential.containers.initdata_build:
    release: "1.11/1.0"
    toml: "{{ lookup('ansible.builtin.file', 'initdata.toml', rstrip=false) }}"
"""

RETURN = r"""
documents:
  description: The documents by name, each with the keys below, its C(name) and its C(resources).
  returned: with O(documents)
  type: dict
toml:
  description: The document.
  returned: without O(documents), as all that follows
  type: str
encoded:
  description: The document as C(INITDATA) or the annotation holds it.
  returned: without O(documents)
  type: str
encoding:
  description: The encoding of RV(encoded).
  returned: without O(documents)
  type: str
  sample: gzip+base64
algorithm:
  description: The digest algorithm of the document.
  returned: without O(documents)
  type: str
digest:
  description: The digest over the document's bytes, in hex.
  returned: without O(documents)
  type: str
pcr8:
  description: PCR 8 of a vTPM after the document was measured, in hex.
  returned: without O(documents)
  type: str
host_data:
  description: HOST_DATA of AMD SEV-SNP, in hex.
  returned: without O(documents)
  type: str
mr_config_id:
  description: MRCONFIGID of Intel TDX, in hex.
  returned: without O(documents)
  type: str
annotation:
  description: The pod annotation, with C(key) and C(value).
  returned: without O(documents)
  type: dict
size:
  description: The size of RV(encoded), in bytes.
  returned: without O(documents)
  type: int
findings:
  description: What is questionable; each with C(severity), C(code), C(message) and C(hint).
  returned: always
  type: list
  elements: dict
"""

from ansible_collections.confidential.containers.plugins.module_utils.actions.initdata_build import (
    ARGUMENT_SPEC,
    SPEC_KWARGS,
    run,
)
from ansible_collections.confidential.containers.plugins.module_utils.arguments import main as work


def main() -> None:
    work(ARGUMENT_SPEC, run, **SPEC_KWARGS)


if __name__ == "__main__":
    main()
