#!/usr/bin/python
# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: kataconfig_plan
short_description: Decide whether KataConfig must be made, made anew or only triggered
version_added: "0.1.0"
description:
  - Nodes reboot when a KataConfig comes or goes. This module compares what is with what must be, says what is needed and why,
    and names what speaks against acting (paused or degraded pools, running kata pods, a selector that matches no node).
  - Pods and pools are looked at only where something would be done.
author:
  - The confidential.containers contributors (@confidential-containers)
options:
  release:
    description:
      - The pair of OpenShift sandboxed containers and Trustee releases, such as V(1.11/1.0).
    type: str
    required: true
  namespace:
    description:
      - The namespace of the sandboxed containers operator.
    type: str
    default: openshift-sandboxed-containers-operator
  name:
    description:
      - The name of the KataConfig where there is none yet.
    type: str
    default: example-kataconfig
  image_id:
    description:
      - The id of a prepared pod VM image, as given in the inventory.
    type: str
    default: ''
  selector:
    description:
      - Labels of the nodes that shall run kata pods.
    type: dict
    default: {}
  recreate:
    description:
      - V(always) re-creates KataConfig, which reboots its nodes twice. V(auto) retriggers where that is needed, and leaves a
        re-creation to you.
    type: str
    choices: [auto, always]
    default: auto
  allow_pods:
    description:
      - Go on although pods with a kata runtime class exist. They lose their virtual machines.
    type: bool
    default: false
  act:
    description:
      - Fail where something speaks against acting, remove verification pods that a killed run left behind, and carry out a
        retrigger (clear the image id and let the operator build a confidential image, without a reboot). That is done where the
        image is not confidential, where the inventory no longer gives the id that it gave, where the last image job failed, and
        where there is neither an image nor a job. Where KataConfig must be made anew and an image is in use that
        the operator did not make, it is deleted, and the id taken out of C(peer-pods-cm), because the operator deletes the image that it
        finds there.
    type: bool
    default: false
extends_documentation_fragment:
  - confidential.containers.cluster
attributes:
  check_mode:
    description: Can run in check mode and say what would change.
    support: full
    details: Nothing is removed or triggered.
  diff_mode:
    description: Returns what has changed.
    support: none
    details: A decision has no content to compare.
seealso:
  - module: confidential.containers.peerpods_cm
  - module: confidential.containers.k8s_objects
"""

EXAMPLES = r"""
- name: Decide what to do with KataConfig
  confidential.containers.kataconfig_plan:
    release: "1.11/1.0"
  register: plan

- name: Show why
  ansible.builtin.debug:
    var: plan.reasons
"""

RETURN = r"""
needed:
  description: C(none), C(create), C(retrigger) or C(recreate).
  returned: success
  type: str
reasons:
  description: Why.
  returned: success
  type: list
  elements: str
blockers:
  description: What speaks against it; each with C(severity), C(code), C(message) and C(hint).
  returned: success
  type: list
  elements: dict
spare_image:
  description: Whether the image in use must be kept from the operator, which would delete it with KataConfig.
  returned: success
  type: bool
restart_adaptor:
  description: Whether cloud-api-adaptor must be restarted when the new image is there, because its environment is that of before.
  returned: success
  type: bool
name:
  description: The name of the KataConfig.
  returned: success
  type: str
hint:
  description: What to do.
  returned: failure
  type: str
"""

from ansible_collections.confidential.containers.plugins.module_utils.actions.kataconfig_plan import (
    ARGUMENT_SPEC,
    SPEC_KWARGS,
    run,
)
from ansible_collections.confidential.containers.plugins.module_utils.arguments import main as work


def main() -> None:
    work(ARGUMENT_SPEC, run, **SPEC_KWARGS)


if __name__ == "__main__":
    main()
