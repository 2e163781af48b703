# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Policies of the KBS: attestation, resource and image policies, their faults, and what they answer. Pure.

Sources: the policy contracts of the KBS generations, the five-PCR rules of the operator's templates, and the behaviour of
the Rego engines (style matrix: ``import rego.v1`` with ``if`` means the same in every dialect).
"""

from __future__ import annotations

import json
import re
from typing import Any, Protocol

from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError
from ansible_collections.confidential.containers.plugins.module_utils.releases import TrusteeRelease

Finding = dict[str, str]

#: AR4SI values of a claim that is not met; every attestation policy of ours sets each of them as a default.
UNMET = {"executables": 33, "hardware": 97, "configuration": 36}
MET = {"executables": 3, "hardware": 2, "configuration": 2}
PCRS = (3, 8, 9, 11, 12)
IMAGE_FLAVOURS = ("insecure", "signed", "reject")

_HEADER = "package policy\n\nimport rego.v1\n\n"


class Engine(Protocol):
    """The part of the ``regorus`` engine that is used; it is handed in, so that this file imports none."""

    def set_rego_v0(self, enabled: bool) -> Any: ...
    def add_policy(self, path: str, text: str) -> Any: ...
    def add_data_json(self, text: str) -> Any: ...
    def set_input_json(self, text: str) -> Any: ...
    def eval_rule_as_json(self, rule: str) -> str: ...


def attestation_policy(release: TrusteeRelease, tees: list[str] | None = None) -> str:
    """The production CPU policy for Azure: the vTPM's five PCRs against reference values, with a default for each claim.

    ``tees``: of ``snp``, ``tdx`` (default: snp). Raises :class:`CocoError` for a release whose tokens have no claims.
    """
    if release.attestation_rules == "allow":
        raise CocoError(f"There is no attestation policy of ours for Trustee {release.name}",
                        "its policies decide allow or deny on flat claims", "Give attestation_policy as text.")
    text = _HEADER + "".join(f"default {name} := {value}\n\n" for name, value in UNMET.items())
    for tee in tees or ["snp"]:
        key = release.azure_snp if tee == "snp" else release.azure_tdx
        claims = f'input["{key}"]'
        text += f"hardware := {MET['hardware']} if {claims}\n\nconfiguration := {MET['configuration']} if {claims}\n\n"
        text += f"executables := {MET['executables']} if {{\n"
        for pcr in PCRS:
            name = f"{tee}_pcr{pcr:02d}"
            known = f"data.reference.{name}" if release.reference_lookup == "data.reference" else \
                f'query_reference_value("{name}")'
            text += f"\t{claims}.tpm.pcr{pcr:02d} in {known}\n"
        text += "}\n\n"
    if release.attestation_rules == "trust_claims":
        text += "trust_claims := {\n" + "".join(f'\t"{name}": {name},\n' for name in UNMET) + "}\n"
    return text.rstrip("\n") + "\n"


def resource_policy(release: TrusteeRelease) -> str:
    """Resources only for evidence all of whose parts are affirming."""
    if release.token_type != "Ear":
        return _HEADER + 'default allow := false\n\nallow if input.tee != "sample"\n'
    rules = "\tcount(input.submods) > 0\n\tevery submod in input.submods {\n\t\tsubmod[\"ear.status\"] == \"affirming\"\n\t}\n"
    if release.resource_policy_data == "plugin":
        rules = '\tdata.plugin == "resource"\n' + rules
    return _HEADER + "default allow := false\n\nallow if {\n" + rules + "}\n"


def image_policy(flavour: str, scopes: dict[str, str] | None = None) -> dict[str, Any]:
    """A containers-policy document: ``insecure`` accepts any image, ``reject`` none, ``signed`` those below ``scopes``
    (registry scope to ``kbs:///`` URI of the cosign public key)."""
    if flavour == "insecure":
        return {"default": [{"type": "insecureAcceptAnything"}], "transports": {}}
    if flavour == "reject":
        return {"default": [{"type": "reject"}], "transports": {}}
    if flavour != "signed":
        raise CocoError(f"The image policy {flavour!r} is unknown", "", f"Use one of {', '.join(IMAGE_FLAVOURS)}.")
    for scope, key in (scopes or {}).items():
        if not str(key).startswith("kbs:///"):
            raise CocoError(f"The image policy for {scope} cannot be written", f"its key is {key!r}",
                            "Name the public key's resource: kbs:///default/<secret>/<key>.")
    docker = {scope: [{"type": "sigstoreSigned", "keyPath": key}] for scope, key in sorted((scopes or {}).items())}
    return {"default": [{"type": "reject"}], "transports": {"docker": docker} if docker else {}}


def image_policies(scopes: dict[str, str] | None = None) -> dict[str, str]:
    """Every flavour as JSON text, for the ``security-policy`` resource."""
    return {flavour: json.dumps(image_policy(flavour, scopes), indent=2) + "\n" for flavour in IMAGE_FLAVOURS}


# Faults -------------------------------------------------------------------------------------------------------------

_COMMENT = re.compile(r"#.*$", re.MULTILINE)
_BODY = re.compile(r"^[a-z_][\w.\[\]\"-]*(?:\([^)\n]*\))?\s*(?::?=\s*[^\s{][^\n{]*)?\s*\{\s*$", re.MULTILINE)


def lint(text: str, kind: str, release: TrusteeRelease) -> list[Finding]:
    """Faults of a policy text: ``kind`` is attestation, resource, image or agent (package and dialect only)."""
    if kind == "image":
        return _lint_image(text)
    code = _COMMENT.sub("", text)
    package = "agent_policy" if kind == "agent" else "policy"
    found: list[Finding] = []

    def add(severity: str, code_name: str, message: str, hint: str) -> None:
        found.append({"severity": severity, "code": code_name, "message": message, "hint": hint})

    declared = re.search(r"^\s*package\s+(\S+)(.*)$", code, re.MULTILINE)
    if declared is None or declared.group(1) != package:
        add("error", "package", f"the package is {declared.group(1) if declared else 'not declared'}",
            f"Begin the text with 'package {package}'; nothing else is evaluated.")
    elif declared.group(2).strip():
        add("error", "callout", f"{declared.group(2).strip()!r} follows the package name",
            "Remove it (a callout number copied from a document does not parse).")
    if kind == "agent":
        return found
    imported = re.search(r"^\s*import\s+(rego\.v1|future\.keywords(\.if)?)\s*$", code, re.MULTILINE)
    if "v0" in release.rego and re.search(r"\bif\b", code) and not imported:
        add("error", "if-without-import", "'if' is used without 'import rego.v1'",
            f"Add 'import rego.v1': without it the engine of Trustee {release.name} reads 'if' as a name and the rule is "
            "always true.")
    if "v1" in release.rego:
        bare = [line.strip() for line in _BODY.findall(code) if " if " not in f" {line} "]
        if bare:
            add("error", "body-without-if", f"a rule body without 'if': {bare[0]}",
                f"Write 'if' before the body: the engine of Trustee {release.name} does not parse it otherwise.")
    if kind == "attestation":
        _lint_attestation(code, release, add)
    else:
        _lint_resource(code, release, add)
    return found


def _lint_attestation(code: str, release: TrusteeRelease, add: Any) -> None:
    if release.attestation_rules == "allow":
        return
    for name, value in UNMET.items():
        default = re.search(rf"^\s*default\s+{name}\s*:?=\s*(-?\d+)", code, re.MULTILINE)
        if default is None:
            add("error", "no-default", f"'{name}' has no default",
                f"Add 'default {name} := {value}': an undefined rule is skipped by the KBS, so a tampered pod would pass.")
        elif 2 <= int(default.group(1)) <= 31:
            add("error", "affirming-default", f"the default of '{name}' is {default.group(1)}, which affirms",
                f"Use 'default {name} := {value}': evidence that matches nothing must not be affirmed.")
    if release.attestation_rules == "trust_claims" and "trust_claims" not in code:
        add("error", "no-trust-claims", "there is no rule 'trust_claims'",
            f"Trustee {release.name} reads the claims from the object 'trust_claims'.")
    if release.reference_lookup == "data.reference" and "query_reference_value" in code:
        add("error", "lookup", "'query_reference_value' does not exist in this release",
            f"Trustee {release.name} gives reference values as data.reference.<name>.")
    if release.reference_lookup == "query_reference_value" and re.search(r"\bdata\.reference\b", code):
        add("error", "lookup", "'data.reference' does not exist in this release",
            f"Trustee {release.name} gives reference values by query_reference_value(\"<name>\").")
    if re.search(r"\baz_(snp|tdx)_vtpm\b", code):
        add("error", "claim-key", "the key az_snp_vtpm (with underscores) exists in no release",
            f"The claims of Trustee {release.name} lie under {release.azure_snp} and {release.azure_tdx}.")
    for wrong, right in ((_other(release.azure_snp), release.azure_snp), (_other(release.azure_tdx), release.azure_tdx)):
        if re.search(rf"[.\[\"']{re.escape(wrong)}\b", code):
            add("error", "claim-key", f"the key {wrong} is of another release",
                f"The claims of Trustee {release.name} lie under {right}.")


def _other(name: str) -> str:
    return {"azsnpvtpm": "az-snp-vtpm", "aztdxvtpm": "az-tdx-vtpm", "az-snp-vtpm": "azsnpvtpm", "az-tdx-vtpm": "aztdxvtpm"}[name]


def _lint_resource(code: str, release: TrusteeRelease, add: Any) -> None:
    if not re.search(r"^\s*default\s+allow\s*:?=\s*false\b", code, re.MULTILINE):
        add("error", "no-default", "'allow' has no default",
            "Add 'default allow := false': an undefined answer is an engine error, not a denial.")
    if re.search(r"^\s*(default\s+)?allow\s*:?=\s*true\s*$", code, re.MULTILINE) or \
            re.search(r"^\s*allow\s+(if\s+)?\{\s*true\s*\}", code, re.MULTILINE):
        add("warning", "allow-all", "every request is allowed", "Use it nowhere but in a laboratory.")
    if release.token_type == "Ear" and re.search(r"input(\.tee\b|\[\s*\"tee\"\s*\])", code):
        add("error", "input-tee", "'input.tee' does not exist in the token of this release",
            "Look at input.submods; with input.tee every request is denied.")
    for name in {"cpu", "cpu0"} - {release.submodule}:
        if re.search(rf"submods(\.{name}\b|\[\s*\"{name}\"\s*\])", code):
            add("error", "submodule", f"the submodule '{name}' is of another release",
                f"The token of Trustee {release.name} names it '{release.submodule}'.")
    if release.resource_policy_data != "plugin" and re.search(r"\bdata\.plugin\b", code):
        add("error", "data-plugin", "'data.plugin' does not exist in this release",
            f"Trustee {release.name} gives data[\"resource-path\"] as one text; with data.plugin every request is denied.")


def _lint_image(text: str) -> list[Finding]:
    try:
        document = json.loads(text)
        default, transports = document["default"], document["transports"]
    except (ValueError, KeyError, TypeError) as error:
        return [{"severity": "error", "code": "image-policy", "message": f"the image policy cannot be read ({error!r})",
                 "hint": "It is a JSON document with 'default' and 'transports'."}]
    found: list[Finding] = []
    requirements = list(default) + [item for scopes in transports.values() for items in scopes.values() for item in items]
    for item in requirements:
        if item.get("type") == "sigstoreSigned" and bool(item.get("keyPath")) == bool(item.get("keyData")):
            found.append({"severity": "error", "code": "image-key", "message": "sigstoreSigned without exactly one key",
                          "hint": "Give keyPath (kbs:///…) or keyData, not both."})
    if any(item.get("type") == "insecureAcceptAnything" for item in default):
        found.append({"severity": "warning", "code": "image-insecure", "message": "images without a signature are accepted",
                      "hint": "Use the flavour signed, with a scope for each registry."})
    return found


# Answers ------------------------------------------------------------------------------------------------------------

def evaluate(engine: Engine, text: str, rule: str, input_: Any, data: Any, release: TrusteeRelease) -> Any:
    """The value of ``data.policy.<rule>`` in the release's dialect; None where it is undefined.

    ``engine``: a fresh engine. ``data``: for an attestation policy ``{"reference": {name: value}}``. Raises
    :class:`CocoError` with the engine's words where the text does not parse.
    """
    try:
        engine.set_rego_v0("v1" not in release.rego)
        engine.add_policy("policy.rego", text)
        if release.reference_lookup == "query_reference_value" and "query_reference_value" in text:
            engine.add_policy("lookup.rego", "package policy\n\nimport rego.v1\n\n"
                              "query_reference_value(name) := object.get(data.__reference, name, null)\n")
            data = {**data, "__reference": data.get("reference", {})}
        engine.add_data_json(json.dumps(data))
        engine.set_input_json(json.dumps(input_))
        answer = engine.eval_rule_as_json(f"data.policy.{rule}")
    except Exception as error:
        if "not a valid rule path" in str(error):
            return None
        raise CocoError("The policy cannot be evaluated", str(error).strip(),
                        f"Correct it for the engine of Trustee {release.name} ({' and '.join(release.rego)} syntax).") from error
    value = json.loads(answer)
    return None if value == "<undefined>" else value
