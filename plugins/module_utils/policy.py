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
from collections.abc import Callable
from typing import Any, Protocol

from ansible_collections.confidential.containers.plugins.module_utils import kata_policy, rego
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError
from ansible_collections.confidential.containers.plugins.module_utils.releases import OscRelease, TrusteeRelease

Finding = dict[str, str]

#: AR4SI values of a claim that is not met; every attestation policy of ours sets each of them as a default.
UNMET = {"executables": 33, "hardware": 97, "configuration": 36}
MET = {"executables": 3, "hardware": 2, "configuration": 2}
#: Claims of the trustworthiness vector as rule names; hyphens appear only as keys of ``trust_claims``.
CLAIMS = ("instance_identity", "configuration", "executables", "file_system", "hardware", "runtime_opaque", "storage_opaque",
          "sourced_data")
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
    strange = [tee for tee in tees or [] if tee not in ("snp", "tdx")]
    if strange:
        raise CocoError(f"There is no attestation policy of ours for {', '.join(map(str, strange))}",
                        "it knows the vTPM of Azure's confidential machines", "Use snp, tdx or both.")
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


def limits(documents: list[dict[str, Any]], verification_secret: str = "coco-verification") -> dict[str, list[str]]:
    """Which Secrets a document opens, by its PCR 8: only documents that do not open all.

    documents: ``name``, ``pcr8`` and ``resources`` (names of Secrets; None: all of them, but the one named ``verification``
    opens the verification secret only). Documents with the same bytes are one: the widest choice holds for it.
    """
    found: dict[str, list[str]] = {}
    unlimited = set()
    for document in documents:
        opened = document.get("resources")
        if opened is None and document.get("name") == "verification":
            opened = [verification_secret]
        if opened is None:
            unlimited.add(document["pcr8"])
            continue
        if isinstance(opened, str) or not all(isinstance(name, str) and re.fullmatch(r"[a-z0-9.-]+", name) for name in opened):
            raise CocoError(f"The initdata document {document.get('name')} cannot be limited", f"its resources are {opened!r}",
                            "Give a list of Secret names, such as [my-application].")
        found[document["pcr8"]] = list(dict.fromkeys([*found.get(document["pcr8"], []), *opened]))
    return {pcr8: names for pcr8, names in sorted(found.items()) if pcr8 not in unlimited}


#: What every guest asks for before it starts a container.
ALWAYS = ("security-policy", "cosign-keys")


def resource_policy(release: TrusteeRelease, limited: dict[str, list[str]] | None = None) -> str:
    """Resources only for evidence all of whose parts are affirming; a document in ``limited`` opens only the Secrets it names.

    Without the limits, whoever may start pods could take the weakest accepted document (one for debugging, or one that accepts
    any image) and read every secret with it.
    """
    if release.token_type != "Ear":
        if limited:
            raise CocoError("Initdata documents cannot be limited", f"the tokens of Trustee {release.name} do not tell which one is "
                            "used", "Use documents of equal strength only, and no resources in coco_initdata.")
        return _HEADER + 'default allow := false\n\nallow if input.tee != "sample"\n'
    rules = "\tcount(input.submods) > 0\n\tevery submod in input.submods {\n\t\tsubmod[\"ear.status\"] == \"affirming\"\n\t}\n"
    parts = release.resource_policy_data == "plugin"
    if parts:
        rules = '\tdata.plugin == "resource"\n' + rules
    text = _HEADER + "default allow := false\n\n"
    if not limited:
        return text + "allow if {\n" + rules + "}\n"
    table = {pcr8: [*names, *ALWAYS] for pcr8, names in sorted(limited.items())}
    pcr8s = "\n\n".join(f'pcr8 := input.submods.{release.submodule}["ear.veraison.annotated-evidence"]["{tee}"].tpm.pcr08'
                        for tee in (release.azure_snp, release.azure_tdx))
    path = 'data["resource-path"]'
    opened = f'\t{path}[0] == "default"\n\t{path}[1] == secret\n' if parts else \
        f'\tstartswith({path}, concat("", ["resource/default/", secret, "/"]))\n'
    return (text + "# What documents that do not open everything do open, by PCR 8.\n"
            f"opens := {json.dumps(table, indent=2)}\n\n{pcr8s}\n\nlimited if opens[pcr8]\n\n"
            "opened if {\n\tsome secret in opens[pcr8]\n" + opened + "}\n\n"
            "affirming if {\n" + rules + "}\n\nallow if {\n\taffirming\n\tpcr8\n\tnot limited\n}\n\nallow if {\n\taffirming\n\topened\n}\n")


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

def lint(text: str, kind: str, release: TrusteeRelease, osc: OscRelease | None = None) -> list[Finding]:
    """Faults of a policy text: ``kind`` is attestation, resource, image or agent (``osc`` gives its engine's dialects).

    Errors are what the release refuses or what would let tampered pods pass; warnings are choices to be aware of.
    """
    if kind == "image":
        return _lint_image(text)
    if kind == "agent":
        return kata_policy.lint(text, osc.agent_rego if osc else ("v0",))
    if kind not in ("attestation", "resource"):
        raise CocoError(f"The kind of policy {kind!r} is unknown", "", "Use attestation, resource, agent or image.")
    found = rego.lint(text, "policy", release.rego, f"the KBS of Trustee {release.name}")
    if any(item["code"] == "code-fence" for item in found):
        return found
    code = rego.code(text)

    def add(severity: str, code_name: str, message: str, hint: str) -> None:
        found.append(rego.finding(severity, code_name, message, hint))

    if kind == "attestation":
        _lint_attestation(code, release, add)
    else:
        _lint_resource(code, release, add)
    return found


Add = Callable[[str, str, str, str], None]


def _lint_attestation(code: str, release: TrusteeRelease, add: Add) -> None:
    if release.attestation_rules == "allow":
        _lint_allow(code, add)
        return
    for name, value in UNMET.items():
        default = rego.default_of(code, name)
        if default is None:
            add("error", "no-default", f"'{name}' has no default",
                f"Add 'default {name} := {value}': an undefined rule is skipped by the KBS, so a tampered pod would pass.")
        elif not re.fullmatch(r"-?\d+", default):
            add("error", "default-form", f"the default of '{name}' is {default}, no whole number",
                f"Use 'default {name} := {value}'; other values fail the attestation.")
        elif tier(int(default)) in ("affirming", "none"):
            add("error", "affirming-default", f"the default of '{name}' is {default}, which denies nobody",
                f"Use 'default {name} := {value}': evidence that matches nothing must not be affirmed.")
    for constant in re.finditer(r"^[ \t]*(executables|hardware|configuration)[ \t]*:?=[ \t]*(\d+)[ \t]*$", code, re.MULTILINE):
        if tier(int(constant.group(2))) == "affirming":
            add("warning", "always-affirming", f"'{constant.group(1)}' is affirmed for every evidence, sample too",
                "Name the TEE or a reference value as its condition.")
    if "pcr08" not in code and "init_data" not in code and "mr_config_id" not in code:
        add("warning", "initdata-unbound", "no rule looks at the initdata (pcr08, init_data or mr_config_id)",
            "Compare it with reference values: otherwise any initdata, any agent policy and any KBS address is affirmed.")
    if release.attestation_rules == "trust_claims" and not rego.defines(code, "trust_claims"):
        add("error", "no-trust-claims", "there is no rule 'trust_claims'",
            f"Trustee {release.name} reads the claims from the object 'trust_claims'.")
    if release.attestation_rules == "claims" and rego.defines(code, "trust_claims"):
        add("error", "trust-claims", "the rule 'trust_claims' is of another release",
            f"Trustee {release.name} reads one rule per claim; it refuses an object among them.")
    if release.reference_lookup == "data.reference" and re.search(r"\bquery_reference_value\b", code):
        add("error", "lookup", "'query_reference_value' does not exist in this release",
            f"Trustee {release.name} gives reference values as data.reference.<name>.")
    if release.reference_lookup == "query_reference_value" and re.search(r"\bdata\.reference\b", code):
        add("error", "lookup", "'data.reference' does not exist in this release",
            f"Trustee {release.name} gives reference values by query_reference_value(\"<name>\").")
    _lint_claim_keys(code, release, add)


def _lint_claim_keys(code: str, release: TrusteeRelease, add: Add) -> None:
    if re.search(r"\baz_(snp|tdx)_vtpm\b", code):
        add("error", "claim-key", "the key az_snp_vtpm (with underscores) exists in no release",
            f"The claims of Trustee {release.name} lie under {release.azure_snp} and {release.azure_tdx}.")
    for right in (release.azure_snp, release.azure_tdx):
        wrong = _OTHER_KEY[right]
        if re.search(rf"[.\[\"'`]{re.escape(wrong)}\b", code):
            add("error", "claim-key", f"the key {wrong} is of another release",
                f"The claims of Trustee {release.name} lie under {right}.")
    for name in ("az-snp-vtpm", "az-tdx-vtpm"):
        if re.search(rf"input\.{name}", code):
            add("error", "claim-key", f"input.{name} is read as a subtraction", f'Write input["{name}"].')


_OTHER_KEY = {"azsnpvtpm": "az-snp-vtpm", "aztdxvtpm": "az-tdx-vtpm", "az-snp-vtpm": "azsnpvtpm", "az-tdx-vtpm": "aztdxvtpm"}


def _lint_allow(code: str, add: Add) -> None:
    if rego.default_of(code, "allow") != "false":
        add("error", "no-default", "'allow' has no default of false",
            "Add 'default allow := false': an undefined answer is an engine error, not a denial.")
    if rego.default_of(code, "allow") == "true" or re.search(r"^[ \t]*allow[ \t]*:?=[ \t]*true[ \t]*$", code, re.MULTILINE) or \
            re.search(r"^[ \t]*allow[ \t]+(if[ \t]+)?(\{\s*true\s*\}|true[ \t]*$)", code, re.MULTILINE):
        add("warning", "allow-all", "every request is allowed", "Use it nowhere but in a laboratory.")


def _lint_resource(code: str, release: TrusteeRelease, add: Add) -> None:
    _lint_allow(code, add)
    if release.token_type == "Ear" and re.search(r"input(\.tee\b|\[\s*\"tee\"\s*\])", code):
        add("error", "input-tee", "'input.tee' does not exist in the token of this release",
            "Look at input.submods; with input.tee every request is denied.")
    if release.token_type != "Ear" and re.search(r"\bsubmods\b", code):
        add("error", "submods", "'input.submods' does not exist in the token of this release",
            f"The token of Trustee {release.name} is flat: look at input.tee.")
    for name in {"cpu", "cpu0"} - {release.submodule}:
        if release.token_type == "Ear" and re.search(rf"submods(?:\"\s*\])?(?:\.{name}\b|\[\s*\"{name}\"\s*\])", code):
            add("error", "submodule", f"the submodule '{name}' is of another release",
                f"The token of Trustee {release.name} names it '{release.submodule}'; 'not' with '{name}' is always true.")
    if release.resource_policy_data != "plugin" and re.search(r"\bdata\.(plugin|query)\b", code):
        add("error", "data-plugin", "'data.plugin' does not exist in this release",
            f"Trustee {release.name} gives data[\"resource-path\"] as one text; with data.plugin every request is denied.")
    path = r'data\[\s*"resource-path"\s*\]\s*==\s*'
    if release.resource_policy_data == "plugin" and re.search(path + r'"', code):
        add("error", "resource-path", "the resource path is compared with a text",
            f"Trustee {release.name} gives it as a list: [\"default\", \"secret\", \"key\"].")
    if release.resource_policy_data != "plugin" and re.search(path + r"\[", code):
        add("error", "resource-path", "the resource path is compared with a list",
            f"Trustee {release.name} gives it as one text.")


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

def tier(value: int) -> str:
    """The AR4SI tier of a claim's value: affirming, warning, contraindicated, or none."""
    if 2 <= value <= 31 or -32 <= value <= -2:
        return "affirming"
    if 32 <= value <= 95 or -96 <= value <= -33:
        return "warning"
    return "none" if -1 <= value <= 1 else "contraindicated"


def status(vector: dict[str, int]) -> str:
    """``ear.status`` of a trustworthiness vector: the worst tier; ``none`` for an empty one."""
    order = ("none", "affirming", "warning", "contraindicated")
    return max((tier(value) for value in vector.values()), key=order.index, default="none")


def resource_data(release: TrusteeRelease, path: str) -> dict[str, Any]:
    """What a resource policy sees as ``data`` for a resource ``repository/type/tag``."""
    if release.resource_policy_data == "plugin":
        return {"plugin": "resource", "resource-path": path.split("/"), "query": {}}
    return {"resource-path": path if release.resource_policy_data == "path" else f"resource/{path}"}


_LOOKUP = "package policy\n\nimport rego.v1\n\nquery_reference_value(name) := object.get(data.__reference, name, null)\n"


def evaluate(engine: Engine, text: str, rule: str, input_: Any, data: Any, release: TrusteeRelease, dialect: str = "") -> Any:
    """The value of ``data.policy.<rule>`` in a dialect of the release (the last one by default); None where undefined.

    ``engine``: a fresh engine. ``data``: for an attestation policy ``{"reference": {name: value}}``, for a resource policy
    :func:`resource_data`. Raises :class:`CocoError` with the engine's words where the text does not parse.
    """
    chosen = dialect or release.rego[-1]
    given = dict(data or {})
    try:
        engine.set_rego_v0(chosen == "v0")
        engine.add_policy("policy.rego", text)
        if release.reference_lookup == "query_reference_value" and "query_reference_value" in text:
            engine.add_policy("lookup.rego", _LOOKUP)
            given = {"__reference": given.get("reference", {})}
        engine.add_data_json(json.dumps(given))
        engine.set_input_json(json.dumps(input_))
        answer = engine.eval_rule_as_json(f"data.policy.{rule}")
    except Exception as error:
        if "not a valid rule path" in str(error):
            return None
        # With RUST_BACKTRACE set, the engine's words are followed by a hundred lines of its own stack.
        raise CocoError("The policy cannot be evaluated", str(error).partition("Stack backtrace:")[0].strip(),
                        f"Correct it for the engine of Trustee {release.name} ({chosen} syntax).") from error
    value = json.loads(answer)
    return None if value == "<undefined>" else value


def appraise(make_engine: Callable[[], Engine], text: str, claims: Any, reference: dict[str, Any],
             release: TrusteeRelease, dialect: str = "") -> dict[str, int]:
    """The trustworthiness vector that the KBS would give evidence with these claims.

    As the release does: rules that are undefined are skipped (which is why a policy needs defaults); none at all, or no
    ``trust_claims`` where the release wants it, is a :class:`CocoError`: the attestation fails.
    """
    data = {"reference": reference}
    if release.attestation_rules == "trust_claims":
        found = evaluate(make_engine(), text, "trust_claims", claims, data, release, dialect)
    else:
        found = {name: evaluate(make_engine(), text, name, claims, data, release, dialect) for name in CLAIMS}
    vector = {name: value for name, value in (found or {}).items() if value is not None}
    if not vector:
        raise CocoError("The attestation policy sets no claim", f"Trustee {release.name} fails every attestation with it",
                        "Set executables, hardware and configuration, each with a default.")
    return vector
