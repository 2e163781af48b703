#!/usr/bin/python
# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: k8s_objects
short_description: Apply or delete a list of objects in one call and wait until they are ready
version_added: "0.1.0"
description:
  - Applies objects by server-side apply as the field manager C(confidential.containers), or deletes them, many at a time.
  - Namespaces and custom resource definitions come first, then what workloads use, then the rest. A wave with a failure is
    the last.
  - Waits, after all were submitted, until each is ready in its kind's own sense, by watch and with one deadline for all. A
    state from which an object does not come back ends the wait at once.
  - A field that another manager owns is an error that names field and manager, unless O(force) is set.
author:
  - The confidential.containers contributors (@confidential-containers)
options:
  state:
    description:
      - V(present) applies, V(absent) deletes, V(ready) only waits.
    type: str
    choices: [present, absent, ready]
    default: present
  objects:
    description:
      - Whole manifests, or references (C(apiVersion), C(kind), C(metadata)) for V(absent) and V(ready). Empty ones are left out.
    type: list
    elements: dict
    required: true
  force:
    description:
      - Take over fields that another manager owns. Only for objects that the caller defines whole.
    type: bool
    default: false
  wait:
    description:
      - Wait until the objects are ready, or gone. The default is to wait with O(state=ready) only.
    type: bool
  wait_timeout:
    description:
      - Seconds for the whole wait.
    type: int
    default: 600
  release:
    description:
      - The pair of OpenShift sandboxed containers and Trustee releases, such as V(1.11/1.0), where readiness depends on it.
    type: str
  image_log_directory:
    description:
      - A private directory (mode 0700, made if it is not there) of the machine that runs the task. The whole log of the job that
        builds the pod VM image is written there as C(osc-podvm-image-creation.log) when the job ends while a KataConfig is awaited.
      - Not given, the log is shown only, its end in the error.
    type: path
extends_documentation_fragment:
  - confidential.containers.cluster
attributes:
  check_mode:
    description: Can run in check mode and say what would change.
    support: full
    details: The server dry-runs each request; nothing is awaited.
  diff_mode:
    description: Returns what has changed.
    support: full
    details: The values of Secrets are masked.
seealso:
  - module: confidential.containers.cluster_info
  - module: confidential.containers.olm_install_plan
"""

EXAMPLES = r"""
- name: Apply a config map and a deployment and wait for them
  confidential.containers.k8s_objects:
    objects: "{{ lookup('ansible.builtin.template', 'objects.yml.j2') | from_yaml_all | list }}"
    wait: true

- name: Wait for an operator
  confidential.containers.k8s_objects:
    state: ready
    objects:
      - apiVersion: apps/v1
        kind: Deployment
        metadata: {name: trustee-operator-controller-manager, namespace: trustee-operator-system}
"""

RETURN = r"""
objects:
  description: One entry for each object, in the given order.
  returned: always
  type: list
  elements: dict
  contains:
    apiVersion:
      description: The API version.
      type: str
    kind:
      description: The kind.
      type: str
    namespace:
      description: The namespace, or null.
      type: str
    name:
      description: The name.
      type: str
    action:
      description: C(created), C(updated), C(unchanged), C(deleted), C(absent), C(ready), C(failed) or C(skipped).
      type: str
    uid:
      description: The UID of the object that was deleted; only with O(state=absent).
      type: str
    ready:
      description: Whether it is ready; null where that was not awaited.
      type: bool
    message:
      description: What its readiness rests on, or what failed. The admitted host for a Route.
      type: str
not_ready:
  description: The objects that were awaited in vain, as in RV(objects), with the action C(waiting) or C(failed).
  returned: when a wait for readiness fails
  type: list
  elements: dict
conflicts:
  description: The fields of the first object that failed which others own; each with C(field) and C(manager).
  returned: when another manager owns a field
  type: list
  elements: dict
hint:
  description: What to do.
  returned: failure
  type: str
"""

from ansible_collections.confidential.containers.plugins.module_utils.actions.k8s_objects import (
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
