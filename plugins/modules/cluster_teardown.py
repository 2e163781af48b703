#!/usr/bin/python
# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_teardown
short_description: Remove from a cluster what this collection brought, and nothing else
version_added: "0.1.0"
description:
  - Removes the operator's resources while the operator runs, then our objects, Subscription and operator, what the operator leaves
    elsewhere, OperatorGroup and namespace. Each stage begins when the one before is gone.
  - Ours is what carries the field manager C(confidential.containers) and nobody else made. What the operators and OLM made for it is
    known by owner, label or name. All else stays and is listed with the reason, with all that holds it.
  - Nothing is removed where something speaks against it, such as running kata pods, a missing operator whose finalizers nobody would
    clear, missing cloud credentials, or a machine config pool that is paused. Finalizers are never removed by force.
  - A run that was killed is resumed by the next one; a run that finds nothing changes nothing.
author:
  - The confidential.containers contributors (@confidential-containers)
options:
  zone:
    description:
      - V(spoke) for the sandboxed containers operator, V(hub) for Trustee.
    type: str
    choices: [spoke, hub]
    required: true
  name:
    description:
      - The name of the cluster in the inventory.
    type: str
    required: true
  confirm:
    description:
      - The clusters that may be torn down, each by O(name) or by its infrastructure name. Not needed in check mode.
    type: list
    elements: str
    default: []
  namespace:
    description:
      - The namespace of the zone's operator.
    type: str
    required: true
  verify_namespace:
    description:
      - The namespace of the verification pods, for O(zone=spoke).
    type: str
    default: coco-verify
  allow_pods:
    description:
      - Delete pods of kata runtime classes, with the workload that makes them where that is ours. They lose their virtual machines.
    type: bool
    default: false
  crds:
    description:
      - Delete the definitions of the operator's resources too, where none of these is left.
    type: bool
    default: false
  wait_timeout:
    description:
      - Seconds for each stage. Nodes reboot when KataConfig goes.
    type: int
    default: 5400
extends_documentation_fragment:
  - confidential.containers.cluster
attributes:
  check_mode:
    description: Can run in check mode and say what would change.
    support: full
    details: Lists what would go and what stays, without O(confirm); what speaks against it becomes a warning.
  diff_mode:
    description: Returns what has changed.
    support: full
seealso:
  - module: confidential.containers.k8s_objects
  - module: confidential.containers.kataconfig_plan
"""

EXAMPLES = r"""
- name: List what would go from a spoke
  confidential.containers.cluster_teardown:
    zone: spoke
    name: "{{ inventory_hostname }}"
    namespace: openshift-sandboxed-containers-operator
  check_mode: true

- name: Remove Trustee from the hub
  confidential.containers.cluster_teardown:
    zone: hub
    name: hub
    confirm: [hub]
    namespace: trustee-operator-system
"""

RETURN = r"""
cluster:
  description: The infrastructure name of the cluster.
  returned: success
  type: str
confirmed:
  description: Whether O(confirm) names the cluster.
  returned: success
  type: bool
removed:
  description:
    - What went, or would go, in order; each with C(apiVersion), C(kind), C(name), C(namespace) and C(why). C(keys) are those of a
      shared object.
  returned: success
  type: list
  elements: dict
kept:
  description: What stays, in the same form.
  returned: success
  type: list
  elements: dict
blockers:
  description: What speaks against it; each with C(severity), C(code), C(message) and C(hint).
  returned: success
  type: list
  elements: dict
hint:
  description: What to do.
  returned: failure
  type: str
"""

from ansible_collections.confidential.containers.plugins.module_utils.actions.cluster_teardown import (
    ARGUMENT_SPEC,
    SPEC_KWARGS,
    run,
)
from ansible_collections.confidential.containers.plugins.module_utils.arguments import main as work


def main() -> None:
    work(ARGUMENT_SPEC, run, **SPEC_KWARGS)


if __name__ == "__main__":
    main()
