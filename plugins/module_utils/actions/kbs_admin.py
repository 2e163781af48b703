# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The work of the module kbs_admin: resources, policies and reference values of a KBS over its administrative HTTP API.

What the KBS gives back (by release: the resource policy, reference values) is compared. What it does not is sent in every run,
because a KBS may have lost it with its pod, and counts as changed where its keyed digest differs from what this controller sent
last.
"""

from __future__ import annotations

import hashlib
import json
import time
from contextlib import nullcontext
from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils import administration, keys, releases
from ansible_collections.confidential.containers.plugins.module_utils.context import Context
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError
from ansible_collections.confidential.containers.plugins.module_utils.files import PrivateDirectory
from ansible_collections.confidential.containers.plugins.module_utils.kbs import PREFIX, Answer, Kbs, KbsFailure

MEMORY = "kbs-admin-sent.json"

ARGUMENT_SPEC: dict[str, Any] = {
    "release": {"type": "str", "required": True},
    "kbs_url": {"type": "str", "required": True},
    "ca_certificate": {"type": "str"},
    "connect_to": {"type": "str"},
    "allow_http": {"type": "bool", "default": False},
    "request_timeout": {"type": "int", "default": 10},
    "private_key": {"type": "str", "no_log": True},
    "directory": {"type": "path"},
    "name": {"type": "str", "default": "kbs-admin"},
    "without_key": {"type": "str", "choices": ["fail", "report"], "default": "fail", "no_log": False},
    "claims": {"type": "dict", "default": {}},
    "resources": {"type": "dict", "default": {}, "no_log": True},
    "verification_resource": {"type": "str"},
    "resource_policy": {"type": "str"},
    "attestation_policies": {"type": "dict", "default": {}},
    "reference_values": {"type": "dict", "default": {}},
    "keep_old": {"type": "bool", "default": False},
}
SPEC_KWARGS: dict[str, Any] = {}


def secrets(params: dict[str, Any]) -> set[str]:
    """The values of the resources."""
    return {value for value in (params.get("resources") or {}).values() if isinstance(value, str)}


def run(params: dict[str, Any], context: Context) -> dict[str, Any]:
    """Set what differs; in check mode only look. See the module's documentation for the result."""
    keys.check_library()
    url = params["kbs_url"].rstrip("/")
    found = administration.check_url(url, params["allow_http"])
    for finding in found:
        if finding["severity"] == "error":
            raise CocoError("The KBS cannot be administered", finding["message"], finding["hint"])
        context.warn(f"{finding['message']} · {finding['hint']}")
    trustee = releases.parse(params["release"]).trustee
    kbs = Kbs(url, params["ca_certificate"] or "", params["connect_to"] or "", params["request_timeout"])
    try:
        _check_protocol(kbs, url, trustee)
        private = _private_key(params)
        if not private:
            if params["without_key"] == "fail":
                raise CocoError("The KBS cannot be administered", "the administrator's private key is not at hand",
                                "Give private_key, or put it to <directory>/<name>.pem (mode 0600).")
            return {"changed": False, "key_available": False, "changes": [], "unsupported": [], "verification": {}}
        return _Administration(kbs, url, trustee, private, params, context).run()
    except KbsFailure as error:
        raise _unreachable(error, url) from error


def _private_key(params: dict[str, Any]) -> str:
    """The administrator's key: handed in, or of the private directory; empty where there is none."""
    if params["private_key"]:
        return str(params["private_key"])
    if not params["directory"]:
        return ""
    directory = PrivateDirectory(params["directory"], create=False)
    return (directory.read_pem(f"{params['name']}.pem") or b"").decode()


def _check_protocol(kbs: Kbs, url: str, trustee: releases.TrusteeRelease) -> None:
    """Is there a KBS, of the release's protocol, with a certificate of the given authority?"""
    protocol = kbs.protocol()
    if protocol != trustee.protocol:
        raise CocoError(f"The KBS at {url} is not of Trustee {trustee.name}",
                        f"it demands the protocol {protocol}, Trustee {trustee.name} has {trustee.protocol}" if protocol
                        else "it does not answer as a KBS does", "Correct coco_kbs_url, or name the pair of its release in coco_release.")


def _unreachable(error: KbsFailure, url: str) -> CocoError:
    """What a missing answer means, by its layer."""
    hints = {
        "name": "Correct coco_kbs_url, or set coco_kbs_connect_to where its name is not resolved here.",
        "tls": "Give the authority that signed its certificate (coco_kbs_ca_certificate), and the name that is in it (coco_kbs_url).",
        "silent": "It may be deadlocked (KBS of Trustee 1.0 and 1.1 under parallel handshakes): ask its owner to restart it.",
    }
    return CocoError(f"The KBS at {url} cannot be reached", str(error), hints.get(
        error.layer, "Check that it runs and that this controller may reach it; coco_kbs_connect_to names another address."))


class _Administration:
    """One run's requests, with one token."""

    def __init__(self, kbs: Kbs, url: str, trustee: releases.TrusteeRelease, private: str, params: dict[str, Any],
                 context: Context) -> None:
        self.kbs, self.url, self.trustee, self.private, self.params, self.context = kbs, url, trustee, private, params, context
        self.headers = {"Authorization": f"Bearer {administration.token(private, int(time.time()), params['claims'])}"}
        self.resources = {administration.check_path(path): _bytes(path, value) for path, value in params["resources"].items()}
        self.policies = {administration.check_policy_id(name, trustee.policy_ids): str(text)
                         for name, text in params["attestation_policies"].items()}
        self.verification: dict[str, str] = {}
        if params["verification_resource"]:
            path = administration.check_path(params["verification_resource"])
            self.resources[path] = administration.verification_value(private, url, path)
            self.verification = {"resource": path, "sha256": hashlib.sha256(self.resources[path]).hexdigest()}
        self.memory: dict[str, Any] = {}
        self.sent: dict[str, Any] = {}
        self.changes: list[str] = []
        self.unsupported: list[str] = []
        self.diffs: list[dict[str, str]] = []

    def run(self) -> dict[str, Any]:
        """Compare, send, remember."""
        policy = self.held_policy()
        directory = PrivateDirectory(self.params["directory"], create=not self.context.check_mode) if self.params["directory"] else None
        with directory.locked() if directory and not self.context.check_mode else nullcontext():
            self.memory, self.sent = administration.read_memory(directory.read(MEMORY) if directory else None, self.url)
            try:
                self.set_reference_values()
                for name, text in sorted(self.policies.items()):
                    self.set_unread(f"attestation policy {name}", "attestation-policy", text.encode(),
                                    administration.policy_message(text, name))
                if self.params["resource_policy"]:
                    self.set_resource_policy(self.params["resource_policy"], policy)
                for path, value in sorted(self.resources.items()):
                    self.set_unread(f"resource {path}", f"resource/{path}", value, value)
            finally:
                self.remember(directory)
        result: dict[str, Any] = {"changed": bool(self.changes), "key_available": True, "changes": self.changes,
                                  "unsupported": self.unsupported, "verification": self.verification}
        if self.context.diff and self.diffs:
            result["diff"] = self.diffs
        return result

    def remember(self, directory: PrivateDirectory | None) -> None:
        """Store what was sent, also of a run that failed half way."""
        after = {**self.memory, self.url: self.sent}
        if directory is None or self.context.check_mode or after == self.memory:
            return
        directory.write(MEMORY, (json.dumps(after, indent=1, sort_keys=True) + "\n").encode())

    # Requests ---------------------------------------------------------------------------------------------------

    def ask(self, path: str) -> Answer:
        return self.kbs.request("GET", f"{PREFIX}/{path}", None, self.headers)

    def send(self, what: str, path: str, body: Any) -> None:
        """One administrative POST. Raises :class:`CocoError` for a refusal."""
        answer = self.kbs.request("POST", f"{PREFIX}/{path}", body, self.headers)
        if answer.status != 200:
            raise self.refusal(what, answer)

    def refusal(self, what: str, answer: Answer) -> CocoError:
        """The three parts of a refused request."""
        seen = f"the KBS at {self.url} answered {answer.status} {answer.type} {answer.detail}".rstrip()
        if "not allowed for path" in answer.detail or "DenyAll" in answer.detail:
            todo = "Ask the KBS's owner for that right (its [admin] configuration)."
        elif answer.type.startswith("AdminAuth"):
            todo = ("Give the private key whose public half the KBS has (coco_kbs_admin_key), and check this controller's clock; a KBS of "
                    "Trustee 1.2 may want other claims in the token (role).")
        elif answer.status == 404:
            todo = f"The KBS of Trustee {self.trustee.name} should have that: check coco_kbs_url, and its plugins with its owner."
        elif answer.status == 413:
            todo = "The value is larger than the KBS takes (2 MiB by default)."
        else:
            todo = ("Where an operator runs this KBS, its policies, its reference values and the Secrets that it names are read-only "
                    "files: have its owner set them there, and leave them out here (coco_kbs_manage). Otherwise its log tells more.")
        return CocoError(f"The {what} was not set", seen, todo)

    def held_policy(self) -> Answer:
        """The first administrative request: is the key the right one? Raises :class:`CocoError` where it is not."""
        answer = self.ask("resource-policy")
        if answer.type.startswith("AdminAuth") and "not allowed for path" not in answer.detail:
            refused = self.refusal("", answer)
            raise CocoError("The KBS does not accept the administrator's key", refused.seen, refused.todo)
        return answer

    # Parts ------------------------------------------------------------------------------------------------------

    def set_unread(self, what: str, path: str, content: bytes, body: Any) -> None:
        """What the KBS does not give back: sent in every run, changed where it is not what was sent last."""
        digest = administration.fingerprint(self.private, what, content)
        if self.sent["digests"].get(what) != digest:
            self.changes.append(what)
            self.context.progress(f"{what}: set")
        if not self.context.check_mode:
            self.send(what, path, body)
            self.sent["digests"][what] = digest

    def show(self, what: str, before: str, after: str) -> None:
        self.diffs.append({"before_header": what, "after_header": what, "before": before, "after": after})

    def set_resource_policy(self, text: str, held: Answer) -> None:
        """Compared where the release gives the text back."""
        message = administration.policy_message(text)
        if not self.trustee.resource_policy_readable or held.status != 200:
            self.set_unread("resource policy", "resource-policy", text.encode(), message)
            return
        try:
            before = administration.unb64url(held.body.decode()).decode()
        except ValueError:
            before = ""
        if before == text:
            return
        self.changes.append("resource policy")
        self.show("resource policy", before, text)
        if not self.context.check_mode:
            self.send("resource policy", "resource-policy", message)

    def set_reference_values(self) -> None:
        """Merged with what others put there; what was sent before and is no longer wanted goes, unless ``keep_old``."""
        wanted: dict[str, Any] = self.params["reference_values"]
        ours: dict[str, Any] = self.sent["values"]
        if not wanted:
            return
        if not self.trustee.reference_api:
            self.unsupported.append("reference values")
            self.context.warn(f"The KBS of Trustee {self.trustee.name} takes reference values from its file only · Have its owner accept "
                              "the values that step 11 prints.")
            return
        names = sorted(set(wanted) if self.params["keep_old"] else {*wanted, *ours})
        held = self.held_values(names)
        after = {name: self.value(name, held.get(name), wanted.get(name, [])) for name in names}
        for name in names:
            if after[name] != held.get(name):
                self.changes.append(f"reference value {name}")
                self.show(f"reference value {name}", *(json.dumps(value, indent=1) + "\n" for value in (held.get(name), after[name])))
        if self.context.check_mode:
            return
        self.send("reference values", "reference-value", administration.reference_message(after))
        self.sent["values"] = administration.remembered(ours, wanted) if self.params["keep_old"] else dict(wanted)

    def value(self, name: str, held: Any, wanted: Any) -> Any:
        """A reference value afterwards; one that is no list is replaced."""
        if not isinstance(wanted, list):
            return wanted
        before = self.sent["values"].get(name)
        return administration.merged(held, before if isinstance(before, list) else [], wanted, self.params["keep_old"])

    def held_values(self, names: list[str]) -> dict[str, Any]:
        """The reference values that the KBS has, of these names."""
        if self.trustee.reference_api == "map":
            answer = self.ask("reference-value")
            if answer.status != 200:
                raise self.refusal("set of reference values", answer)
            return answer.json()
        found: dict[str, Any] = {}
        for name in names:
            answer = self.ask(f"reference-value/{name}")
            if answer.status == 200:
                found[name] = json.loads(answer.body)
            elif "No reference value found" not in answer.detail:
                raise self.refusal("set of reference values", answer)
        return found


def _bytes(path: str, value: Any) -> bytes:
    if not isinstance(value, str) or not value:
        raise CocoError(f"The resource {path} cannot be set", "its value is empty, or no text", "Give the value as text (a lookup).")
    return value.encode()
