#!/usr/bin/python
# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: initdata_info
short_description: Read an initdata document back
version_added: "0.1.0"
description:
  - Reads an initdata document from its encoded text, from annotations or from a pod, and returns its files, its digest and
    the registers that bind it.
author:
  - The confidential.containers contributors (@confidential-containers)
options:
  release:
    description:
      - The pair of OpenShift sandboxed containers and Trustee releases, such as V(1.11/1.0).
      - With it, the encoding and the annotation's key are checked.
    type: str
  encoded:
    description: The text of C(INITDATA) or of the annotation.
    type: str
    aliases: [annotation]
  toml:
    description: The document itself.
    type: str
  annotations:
    description: The annotations of a pod.
    type: dict
  pod:
    description: The name of a pod of O(namespace).
    type: str
  namespace:
    description: The namespace of O(pod).
    type: str
extends_documentation_fragment:
  - confidential.containers.cluster
attributes:
  check_mode:
    description: Can run in check mode and say what would change.
    support: full
    details: The module only reads.
  diff_mode:
    description: Returns what has changed.
    support: none
    details: The module changes nothing.
seealso:
  - module: confidential.containers.initdata_build
"""

EXAMPLES = r"""
- name: Read the document of a running pod
  confidential.containers.initdata_info:
    release: "1.11/1.0"
    pod: web-0
    namespace: shop
  register: info

- name: Read an encoded text
  confidential.containers.initdata_info:
    encoded: "{{ peer_pods_cm.data.INITDATA }}"
"""

RETURN = r"""
found:
  description: Whether there is a document. All other values but RV(findings) are returned only if there is.
  returned: success
  type: bool
toml:
  description: The document.
  returned: when found
  type: str
files:
  description: The files of the document by name.
  returned: when found
  type: dict
algorithm:
  description: The digest algorithm.
  returned: when found
  type: str
version:
  description: The version of the document's format.
  returned: when found
  type: str
encoding:
  description: The encoding; empty for O(toml).
  returned: when found
  type: str
  sample: gzip+base64
annotation_key:
  description: The key of the annotation that held it; empty where it was no annotation.
  returned: when found
  type: str
digest:
  description: The digest over the document's bytes, in hex.
  returned: when the algorithm is known
  type: str
pcr8:
  description: PCR 8 of a vTPM after the document was measured, in hex.
  returned: when the algorithm is known
  type: str
host_data:
  description: HOST_DATA of AMD SEV-SNP, in hex.
  returned: when the algorithm is known
  type: str
mr_config_id:
  description: MRCONFIGID of Intel TDX, in hex.
  returned: when the algorithm is known
  type: str
findings:
  description: What is questionable; each with C(severity), C(code), C(message) and C(hint).
  returned: success
  type: list
  elements: dict
"""

from ansible_collections.confidential.containers.plugins.module_utils.actions.initdata_info import (
    ARGUMENT_SPEC,
    SPEC_KWARGS,
    run,
)
from ansible_collections.confidential.containers.plugins.module_utils.arguments import main as work


def main() -> None:
    work(ARGUMENT_SPEC, run, **SPEC_KWARGS)


if __name__ == "__main__":
    main()
