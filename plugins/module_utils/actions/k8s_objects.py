# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The work of the module k8s_objects."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils import attestation, releases
from ansible_collections.confidential.containers.plugins.module_utils.arguments import cluster_options, object_secrets
from ansible_collections.confidential.containers.plugins.module_utils.cluster import Cluster
from ansible_collections.confidential.containers.plugins.module_utils.cluster_apply import (
    CHANGES,
    apply_all,
    delete_all,
    entry,
)
from ansible_collections.confidential.containers.plugins.module_utils.cluster_wait import wait_gone, wait_ready
from ansible_collections.confidential.containers.plugins.module_utils.context import Context
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

ARGUMENT_SPEC: dict[str, Any] = {
    "state": {"type": "str", "choices": ["present", "absent", "ready"], "default": "present"},
    "objects": {"type": "list", "elements": "dict", "required": True},
    "force": {"type": "bool", "default": False},
    "wait": {"type": "bool"},
    "wait_timeout": {"type": "int", "default": 600},
    "release": {"type": "str"},
    "image_log_directory": {"type": "path"},
    **cluster_options(),
}
SPEC_KWARGS: dict[str, Any] = {}


def secrets(params: dict[str, Any]) -> set[str]:
    """The values of the Secrets among the objects."""
    return object_secrets(params["objects"])


def run(params: dict[str, Any], context: Context) -> dict[str, Any]:
    """Apply, delete or await the objects; see the module's documentation for the result."""
    release = releases.facts(releases.parse(params["release"])) if params.get("release") else None
    objects = [obj for obj in params["objects"] if obj]
    if not objects:
        return {"changed": False, "objects": []}
    cluster = Cluster.from_params(params)
    wait = params["wait"] if params["wait"] is not None else params["state"] == "ready"
    diffs: list[dict[str, Any]] = []
    if params["state"] == "absent":
        results, diffs = delete_all(cluster, objects, context)
        leaving = [obj for obj, result in zip(objects, results, strict=True) if result["action"] != "absent"]
        if wait and leaving and not context.check_mode:
            with _what_was_done(results, diffs):
                wait_gone(cluster, leaving, params["wait_timeout"], context)
    elif params["state"] == "present":
        results, diffs = apply_all(cluster, objects, context, params["force"])
    else:
        results = [entry(obj, "ready") for obj in objects]
    if wait and params["state"] != "absent":
        if context.check_mode:
            for result in results:
                result["message"] = result["message"] or "not awaited in check mode"
        else:
            with _what_was_done(results, diffs):
                states = wait_ready(cluster, objects, params["wait_timeout"], context, release, logs=params["image_log_directory"] or "")
            for result, state in zip(results, states, strict=True):
                result.update(ready=state["ready"], message=state["message"])
    return _outcome(results, diffs)


def _outcome(results: list[dict[str, Any]], diffs: list[dict[str, Any]]) -> dict[str, Any]:
    changed = any(result["action"] in CHANGES for result in results)
    return {"changed": changed, "objects": results, **({"diff": diffs} if diffs else {})}


@contextlib.contextmanager
def _what_was_done(results: list[dict[str, Any]], diffs: list[dict[str, Any]]) -> Iterator[None]:
    """A wait that fails comes after changes: the error says which, and what to do where a pod's virtual machine does not start."""
    try:
        yield
    except CocoError as error:
        cause, hint = attestation.diagnose(error.seen, attestation.POD_VM)
        seen, todo = (f"{error.seen} ({cause})", hint) if cause else (error.seen, error.todo)
        raise CocoError(error.what, seen, todo, **{**_outcome(results, diffs), **error.details}) from error
