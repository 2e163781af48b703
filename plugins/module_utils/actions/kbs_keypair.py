# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The work of the module kbs_keypair: the administrator's Ed25519 pair. The cluster's public half is the one in use."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils import keys
from ansible_collections.confidential.containers.plugins.module_utils.context import Context
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError
from ansible_collections.confidential.containers.plugins.module_utils.files import PrivateDirectory

ARGUMENT_SPEC: dict[str, Any] = {
    "directory": {"type": "path"},
    "name": {"type": "str", "default": "kbs-admin"},
    "state": {"type": "str", "choices": ["present", "rotated"], "default": "present"},
    "public_key": {"type": "str", "no_log": False},
    "private_key": {"type": "str", "no_log": True},
}
SPEC_KWARGS: dict[str, Any] = {"required_one_of": [["directory", "private_key"]]}

_ROTATE = "Have a new pair made: state=rotated."


def run(params: dict[str, Any], context: Context) -> dict[str, Any]:
    """Make, keep or rotate the pair; see the module's documentation for the result."""
    keys.check_library()
    cluster = (params.get("public_key") or "").strip()
    rotate = params["state"] == "rotated"
    if cluster and not rotate:
        try:
            keys.load_public(cluster)
        except CocoError as error:
            raise CocoError("The administrator's public key on the hub cannot be used", error.seen, _ROTATE) from None
    if params.get("private_key"):
        done = _handed_in(params["private_key"], cluster, rotate)
    else:
        directory = PrivateDirectory(params["directory"], create=not context.check_mode)
        with nullcontext() if context.check_mode else directory.locked():
            done = _Pair(directory, params["name"], cluster, context.check_mode).run(rotate)
    done["fingerprint"] = keys.fingerprint(done["public_key"])
    if context.diff and done["changed"]:
        before = ""
        if cluster and not _same(cluster, done["public_key"]):
            before = _shown(cluster)
        done["diff"] = {"before": before, "after": f"{done['fingerprint']}\n"}
    for finding in done["findings"]:
        if finding["severity"] == "warning":
            context.warn(f"{finding['message']} · {finding['hint']}")
    return done


def _shown(public: str) -> str:
    try:
        return keys.fingerprint(public) + "\n"
    except CocoError:
        return "a key that cannot be read\n"


def _same(first: str, second: str) -> bool:
    """Are two texts the same public key? A text that is no Ed25519 key is the same as nothing."""
    try:
        return keys.same_public(first, second)
    except CocoError:
        return False


def _result(action: str, public: str, path: str | None, available: bool, changed: bool,
            *findings: dict[str, str]) -> dict[str, Any]:
    return {"changed": changed, "action": action, "public_key": public.strip() + "\n", "private_key_path": path,
            "private_available": available, "findings": list(findings)}


def _missing(hint: str) -> dict[str, str]:
    return {"severity": "warning", "code": "private-missing",
            "message": "the private half of the administrator's public key on the hub is not at hand", "hint": hint}


def _handed_in(private: str, cluster: str, rotate: bool) -> dict[str, Any]:
    """A private half from a vault: nothing is read or written."""
    public = keys.public_of(private)
    if cluster and not _same(public, cluster):
        if rotate:
            return _result("rotated", public, None, True, True)
        return _result("kept", cluster, None, False, False, _missing(
            "Hand in the matching private key, or set state=rotated to bring the public half of this one to the hub."))
    return _result("kept", public, None, True, False)


class _Pair:
    """The pair of a directory: ``<name>.pem``, and ``<name>.previous.pem`` while a rotation is under way."""

    def __init__(self, directory: PrivateDirectory, name: str, cluster: str, check_mode: bool) -> None:
        self.directory, self.cluster, self.check_mode = directory, cluster, check_mode
        self.current, self.previous, self.replaced = f"{name}.pem", f"{name}.previous.pem", f"{name}.replaced.pem"
        self.private = directory.read_pem(self.current)
        self.public = self._public(self.current, self.private)
        self.old = directory.read_pem(self.previous)
        #: A previous file without a private half only remembers which public half was to be replaced.
        self.old_private = self.old is not None and b"PRIVATE KEY" in self.old
        self.old_public = self._public(self.previous, self.old) if self.old_private else (self.old or b"").decode()

    def _public(self, name: str, private: bytes | None) -> str:
        if private is None:
            return ""
        try:
            return keys.public_of(private.decode())
        except CocoError as error:
            raise CocoError(f"The private file {self.directory.file(name)} cannot be used", error.seen,
                            "Restore it from a backup; without one move it away: the next run says what that means.") from None

    def _path(self, name: str) -> str | None:
        return self.directory.file(name)

    def run(self, rotate: bool) -> dict[str, Any]:
        """The result for the state that is wanted."""
        if not self.cluster:
            if rotate and self.private is not None:
                return self._new("rotated")
            return self._kept_without_cluster() if self.private or self.old_private else self._new("created")
        ours = bool(self.public) and _same(self.public, self.cluster)
        before = bool(self.old_public) and _same(self.old_public, self.cluster)
        if rotate:
            if before and not ours and self.private is not None:
                return _result("resumed", self.public, self._path(self.current), True, True)
            return self._new("rotated", keep=ours)
        if ours:
            return self._settled()
        if before and self.old_private:
            return _result("kept", self.cluster, self._path(self.previous), True, False, {
                "severity": "info", "code": "rotation-pending",
                "message": "a rotation was begun, and the hub still holds the previous public half",
                "hint": "Go on with it: state=rotated."})
        return _result("kept", self.cluster, None, False, False, _missing(
            f"Put the matching private key to {self.directory.file(self.current)} (mode 0600), or have a new pair made: "
            "state=rotated. Only administrative requests to the KBS need it."))

    def _kept_without_cluster(self) -> dict[str, Any]:
        if self.private is not None:
            return _result("kept", self.public, self._path(self.current), True, False)
        return _result("kept", self.old_public, self._path(self.previous), True, False)

    def _settled(self) -> dict[str, Any]:
        """The hub holds our public half: a previous private half has no use any more."""
        leftover = self.old is not None
        if leftover and not self.check_mode:
            self.directory.remove(self.previous)
        return _result("kept", self.cluster, self._path(self.current), True, leftover)

    def _new(self, action: str, keep: bool = False) -> dict[str, Any]:
        """A new pair. Before it is stored, what the hub holds is remembered: a killed run can be gone on with."""
        private, public = keys.new_ed25519()
        if self.check_mode:
            return _result(action, public, None, False, True, {
                "severity": "info", "code": "check-mode", "message": "the public key was made for this check only",
                "hint": "A run without check mode makes another one and stores it."})
        if keep and self.private is not None:
            self.directory.write(self.previous, self.private)
        elif self.cluster:
            if self.private is not None:
                self.directory.write(self.replaced, self.private)
            if not (self.old_public and _same(self.old_public, self.cluster)):
                self.directory.write(self.previous, (self.cluster + "\n").encode())
        path = self.directory.write(self.current, private.encode())
        return _result(action, public, path, True, True)
