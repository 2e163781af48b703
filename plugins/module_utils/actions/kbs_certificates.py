# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The work of the module kbs_certificates."""

from __future__ import annotations

import datetime
from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils import keys
from ansible_collections.confidential.containers.plugins.module_utils.context import Context
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError
from ansible_collections.confidential.containers.plugins.module_utils.files import PrivateDirectory

ARGUMENT_SPEC: dict[str, Any] = {
    "directory": {"type": "path"},
    "name": {"type": "str", "default": "kbs"},
    "source": {"type": "str", "choices": ["own", "given"], "default": "own"},
    "state": {"type": "str", "choices": ["present", "renewed", "authority_renewed"], "default": "present"},
    "hosts": {"type": "list", "elements": "str", "required": True},
    "ca_certificate": {"type": "str"},
    "certificate": {"type": "str"},
    "private_key": {"type": "str", "no_log": True},
    "ca_key": {"type": "str", "no_log": True},
    "cluster_ca": {"type": "str"},
    "cluster_certificate": {"type": "str"},
    "cluster_signer_certificate": {"type": "str"},
    "signer_with_certificate": {"type": "bool", "default": False},
    "validity_days": {"type": "int", "default": 365},
    "ca_validity_days": {"type": "int", "default": 3650},
    "renew_before_days": {"type": "int", "default": 30},
}
SPEC_KWARGS: dict[str, Any] = {
    "required_if": [("source", "given", ["ca_certificate", "certificate", "private_key"])],
    "required_one_of": [["directory", "certificate"]],
}


def run(params: dict[str, Any], context: Context) -> dict[str, Any]:
    """Make or keep authority, server certificate and token signer; the hub is authoritative for what it holds."""
    keys.check_library()
    directory = PrivateDirectory(params["directory"], create=not context.check_mode) if params["directory"] else None
    if directory is None or context.check_mode:
        return Work(directory, params, context).run()
    with directory.locked():
        return Work(directory, params, context).run()


class Work:
    """One run: reads the directory, decides, writes what is new."""

    def __init__(self, directory: PrivateDirectory | None, params: dict[str, Any], context: Context) -> None:
        self.directory, self.params, self.context = directory, params, context
        self.now = datetime.datetime.now(datetime.timezone.utc)
        self.name = params["name"]
        self.renewed: list[str] = []
        self._fresh: tuple[str, str] | None = None
        self._cross = ""  # the new authority's certificate by the old one
        self.findings: list[dict[str, str]] = []

    def read(self, part: str) -> str:
        data = self.directory.read_pem(f"{self.name}-{part}") if self.directory else None
        return data.decode() if data else ""

    def write(self, part: str, text: str) -> None:
        if self.directory and not self.context.check_mode:
            self.directory.write(f"{self.name}-{part}", text.encode())

    def held(self, name: str) -> str:
        text = (self.params.get(name) or "").strip()
        return text + "\n" if text else ""

    def run(self) -> dict[str, Any]:
        given = self.params["source"] == "given"
        ca, ca_available = (self.params["ca_certificate"], False) if given else self.authority()
        certificate, key, leaf_write = self.given_leaf(ca) if given else self.leaf(ca, ca_available)
        signer, signer_key, signer_write = self.signer()
        if self.params["signer_with_certificate"] and leaf_write != signer_write:
            if signer_write:
                certificate, key = (certificate, self.params["private_key"]) if given else self.with_key("tls", certificate, ca)
            else:
                signer, signer_key = self.with_key("signer", signer, ca)
            leaf_write = signer_write = True
        for finding in self.findings:
            if finding["severity"] == "warning":
                self.context.warn(f"{finding['message']} · {finding['hint']}")
        secret = not self.context.check_mode
        return {
            "changed": bool(self.renewed), "renewed": self.renewed, "ca_certificate": ca, "ca_available": ca_available,
            "certificate": certificate, "private_key": key if leaf_write and secret else None, "certificate_write": leaf_write,
            "signer_certificate": signer, "signer_key": signer_key if signer_write and secret else None,
            "signer_write": signer_write,
            "expires": {name: f"{keys.expires(pem):%Y-%m-%dT%H:%M:%SZ}" for name, pem in
                        (("ca", ca), ("certificate", certificate), ("signer", signer))},
            "findings": self.findings,
        }

    def authority(self) -> tuple[str, bool]:
        """(CA certificate, is its key at hand)."""
        stored, key = self.read("ca.crt"), self.params["ca_key"] or self.read("ca.key")
        held = self.held("cluster_ca")
        if self.params["state"] == "authority_renewed":
            return self.renewed_authority(held or stored, key), True
        if held:
            if key and keys.key_fits(key, held):
                return held, True
            self.findings.append({
                "severity": "warning", "code": "ca-key-missing",
                "message": "the key of the certificate authority that the hub uses is not at hand",
                "hint": "Everything that exists is kept; put the key back (coco_state_dir) before the certificate must be renewed."})
            return held, False
        if self.held("cluster_certificate") and not stored:
            raise CocoError("The certificate authority of the KBS is not known",
                            "the hub holds a server certificate, but neither the hub nor the directory holds its authority",
                            "Put kbs-ca.crt and kbs-ca.key back into coco_state_dir, or delete the Secrets of the certificate to "
                            "make a new authority (initdata and reference values change with it).")
        if stored and not key:
            raise CocoError("The certificate authority cannot be used", "its certificate is there and its key is not",
                            f"Put the key back into {self.params['directory']}, or move the certificate away to make a new "
                            "authority (initdata and reference values change with it).")
        if stored:
            if not keys.key_fits(key, stored):
                raise CocoError("The certificate authority cannot be used", "its key does not belong to its certificate",
                                f"Restore both files in {self.params['directory']}, or move both away to make a new authority.")
            return stored, True
        return self.new_authority(), True

    def new_authority(self) -> str:
        title = f"{self.name} CA of {self.params['hosts'][0]}"
        new_key, new = keys.new_ca(f"{title} {self.now:%Y-%m-%d %H:%M:%S}"[:64], self.params["ca_validity_days"], self.now)
        self.write("ca.key", new_key)
        self.write("ca.crt", new)
        self._fresh = (new_key, new)
        self.renewed.append("ca")
        return new

    def renewed_authority(self, old: str, old_key: str) -> str:
        """A new authority, certified by the old one as well: pods that trust only the old one still reach the KBS."""
        if not old or not old_key or not keys.key_fits(old_key, old):
            raise CocoError("The certificate authority cannot be renewed", "the key of the one in use is not at hand, and it has to "
                            "certify the new one, or running pods would lose the KBS",
                            f"Put kbs-ca.key back into {self.params['directory']}, or give ca_key.")
        new = self.new_authority()
        self._cross = keys.cross_certificate(old_key, old, new, self.now)
        self.write("cross.crt", self._cross)
        return new

    def ca_key(self) -> str:
        return self._fresh[0] if self._fresh else (self.params["ca_key"] or self.read("ca.key"))

    def leaf(self, ca: str, ca_available: bool) -> tuple[str, str, bool]:
        """(certificate, key, must the Secrets be written)."""
        held = self.held("cluster_certificate")
        wanted = self.params["state"] != "present"
        stored, key = self.read("tls.crt"), self.read("tls.key")
        # The operator of a TrusteeConfig copies our certificate without its authority: the Secrets are then written whole.
        copied = not self.held("cluster_ca") and bool(held and stored and key) and keys.same_certificate(stored, held)
        if held and not wanted and not copied and not self._bad(held, ca):
            return held, "", False
        if stored and key and not wanted and keys.key_fits(key, stored) and not self._bad(stored, ca):
            return stored, key, True
        if held and not wanted and not keys.chains(held, ca):
            raise CocoError("The server's certificate is not replaced", "the hub's certificate is signed by another authority than the "
                            "one at hand", "Put the right kbs-ca.crt and kbs-ca.key into coco_state_dir, or ask for a new one "
                            "(state: renewed).")
        if not ca_available:
            if held:
                self.findings += keys.check_certificate(held, ca, self.params["hosts"], self.now)
                return held, "", False
            raise CocoError("The server's certificate cannot be made", "the key of the certificate authority is not at hand",
                            "Put it back into coco_state_dir, or give ca_key.")
        return *self.new_leaf(ca), True

    def new_leaf(self, ca: str) -> tuple[str, str]:
        new_key, new = keys.new_leaf(self.ca_key(), ca, self.params["hosts"], self.params["validity_days"], self.now)
        new += self._cross or self.read("cross.crt")
        self.write("tls.key", new_key)
        self.write("tls.crt", new)
        self.renewed.append("certificate")
        return new, new_key

    def with_key(self, part: str, held: str, ca: str) -> tuple[str, str]:
        """(certificate, key) where both must be written although the hub holds the certificate: a new one if its key is lost."""
        stored, key = self.read(f"{part}.crt"), self.read(f"{part}.key")
        if stored and key and keys.same_certificate(stored, held) and keys.key_fits(key, stored):
            return stored, key
        return self.new_signer() if part == "signer" else self.new_leaf(ca)

    def _bad(self, certificate: str, ca: str) -> bool:
        return bool(keys.check_certificate(certificate, ca, self.params["hosts"], self.now, None, self.params["renew_before_days"]))

    def given_leaf(self, ca: str) -> tuple[str, str, bool]:
        certificate, key = self.params["certificate"], self.params["private_key"]
        self.findings += keys.check_certificate(certificate, ca, self.params["hosts"], self.now, key,
                                                self.params["renew_before_days"])
        errors = [f for f in self.findings if f["severity"] == "error"]
        if errors:
            raise CocoError("The given certificate cannot be used", "; ".join(f["message"] for f in errors),
                            " ".join(f["hint"] for f in errors), findings=self.findings)
        held = self.held("cluster_certificate")
        return certificate, key, not (held and keys.same_certificate(held, certificate))

    def signer(self) -> tuple[str, str, bool]:
        held = self.held("cluster_signer_certificate")
        if held and not keys.check_signer(None, held, self.now, self.params["renew_before_days"]):
            return held, "", False
        stored, key = self.read("signer.crt"), self.read("signer.key")
        if stored and key and not keys.check_signer(key, stored, self.now, self.params["renew_before_days"]):
            return stored, key, True
        return *self.new_signer(), True

    def new_signer(self) -> tuple[str, str]:
        new_key, new = keys.new_signer(f"{self.name} token signer", self.params["ca_validity_days"], self.now)
        self.write("signer.key", new_key)
        self.write("signer.crt", new)
        self.renewed.append("signer")
        return new, new_key
