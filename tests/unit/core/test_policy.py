"""policy.py, evaluated with the engine the products use (regorus), in each release's dialect.

Sources: trustee.md 5.1, 5.2, 5.6, operators.md 8, trustee-verified.md number 16, trustee-verified-0.3.md 3 and 5.
"""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import regorus

from ansible_collections.confidential.containers.plugins.module_utils import policy, releases
from ansible_collections.confidential.containers.plugins.module_utils.actions import policy_check
from ansible_collections.confidential.containers.plugins.module_utils.context import Context
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

TRUSTEE = releases.TRUSTEE_RELEASES
NAMES = ("0.3", "0.4", "1.0", "1.1", "1.2")
EAR = [pytest.param(name, dialect, id=f"{name}-{dialect}") for name in NAMES for dialect in TRUSTEE[name].rego]
PCRS = ("pcr03", "pcr08", "pcr09", "pcr11", "pcr12")
TPM = {name: f"{int(name[3:]):064x}" for name in PCRS}
REFERENCE = {f"{tee}_{name}": ["f" * 64, value] for tee in ("snp", "tdx") for name, value in TPM.items()}
MET = {"executables": 3, "hardware": 2, "configuration": 2}
UNMET = {"executables": 33, "hardware": 97, "configuration": 36}
#: trustee.md 1.5: what the sample attester says in one release or another.
SAMPLE = {"sample": {"svn": "1", "report_data": "x", "launch_digest": "abcde", "debug": False}, "init_data": "", "report_data": "x"}


def claims(name: str, tee: str = "snp", **tpm: str) -> dict[str, Any]:
    key = TRUSTEE[name].azure_snp if tee == "snp" else TRUSTEE[name].azure_tdx
    return {key: {"tpm": {**TPM, **tpm}, "measurement": "AA=="}, "init_data": TPM["pcr08"], "report_data": "00"}


def vector(name: str, dialect: str, given: dict[str, Any], text: str = "", reference: dict[str, Any] | None = None) -> dict[str, int]:
    release = TRUSTEE[name]
    return policy.appraise(regorus.Engine, text or policy.attestation_policy(release), given,
                           REFERENCE if reference is None else reference, release, dialect)


def codes(text: str, name: str, kind: str = "attestation", severity: str = "error") -> set[str]:
    found = policy.lint(text, kind, TRUSTEE[name])
    assert all(item["message"] and item["hint"] for item in found)
    return {item["code"] for item in found if item["severity"] == severity}


# The attestation policy of production -----------------------------------------------------------------------------------

@pytest.mark.parametrize(("name", "dialect"), EAR)
def test_right_evidence_is_affirmed(name: str, dialect: str) -> None:
    found = vector(name, dialect, claims(name))
    assert found == MET
    assert policy.status(found) == "affirming"


@pytest.mark.parametrize("pcr", PCRS)
@pytest.mark.parametrize(("name", "dialect"), EAR)
def test_one_wrong_register_is_enough(name: str, dialect: str, pcr: str) -> None:
    """PCR 8 is the initdata, the others are the image: any of them wrong leaves executables at 33."""
    found = vector(name, dialect, claims(name, **{pcr: "e" * 64}))
    assert found == {**MET, "executables": 33}
    assert policy.status(found) == "warning"


@pytest.mark.parametrize(("name", "dialect"), EAR)
def test_one_missing_register_or_reference_is_enough(name: str, dialect: str) -> None:
    without = claims(name)
    next(iter(without.values()))["tpm"].pop("pcr08")
    assert vector(name, dialect, without)["executables"] == 33
    for reference in ({}, {k: v for k, v in REFERENCE.items() if k != "snp_pcr11"}, {**REFERENCE, "snp_pcr08": []}):
        assert vector(name, dialect, claims(name), reference=reference)["executables"] == 33


@pytest.mark.parametrize(("name", "dialect"), EAR)
def test_the_sample_attester_is_refused(name: str, dialect: str) -> None:
    for given in (SAMPLE, {}, {**SAMPLE, "tpm": TPM}):
        found = vector(name, dialect, given)
        assert found == UNMET
        assert policy.status(found) == "contraindicated"


@pytest.mark.parametrize(("name", "dialect"), EAR)
def test_claims_of_another_releases_key_are_nothing(name: str, dialect: str) -> None:
    other = "1.2" if name in ("0.3", "0.4", "1.0") else "1.0"
    assert vector(name, dialect, claims(other)) == UNMET


@pytest.mark.parametrize(("name", "dialect"), EAR)
def test_tdx(name: str, dialect: str) -> None:
    both = policy.attestation_policy(TRUSTEE[name], ["snp", "tdx"])
    for tee in ("snp", "tdx"):
        assert vector(name, dialect, claims(name, tee), both) == MET
        assert vector(name, dialect, claims(name, tee, pcr08="e" * 64), both)["executables"] == 33
    only = policy.attestation_policy(TRUSTEE[name], ["tdx"])
    assert vector(name, dialect, claims(name, "tdx"), only) == MET
    assert vector(name, dialect, claims(name, "snp"), only) == UNMET


@pytest.mark.parametrize("name", NAMES)
def test_our_policy_has_no_findings(name: str) -> None:
    for tees in (["snp"], ["tdx"], ["snp", "tdx"]):
        assert policy.lint(policy.attestation_policy(TRUSTEE[name], tees), "attestation", TRUSTEE[name]) == []
    assert policy.lint(policy.resource_policy(TRUSTEE[name]), "resource", TRUSTEE[name]) == []


@pytest.mark.parametrize("name", NAMES)
def test_dialects_agree(name: str) -> None:
    """trustee.md 9: the portable style means the same on every engine; both are tried, whatever the release has."""
    assert vector(name, "v0", claims(name)) == vector(name, "v1", claims(name)) == MET


def test_what_there_is_no_policy_for() -> None:
    with pytest.raises(CocoError, match=r"Trustee 0\.2"):
        policy.attestation_policy(TRUSTEE["0.2"])
    with pytest.raises(CocoError, match="se"):
        policy.attestation_policy(TRUSTEE["1.0"], ["se"])


# Fail-open ------------------------------------------------------------------------------------------------------------------

def without_defaults(name: str) -> str:
    lines = policy.attestation_policy(TRUSTEE[name]).splitlines()
    return "\n".join(line for line in lines if not line.startswith("default ")) + "\n"


@pytest.mark.parametrize(("name", "dialect"), [case for case in EAR if case.values[0] in ("0.3", "0.4", "1.0")])
def test_without_defaults_a_tampered_pod_is_affirmed(name: str, dialect: str) -> None:
    """operators.md 8: the undefined rule is skipped, and the rest is affirming. This is why policy_check refuses it."""
    found = vector(name, dialect, claims(name, pcr08="e" * 64), without_defaults(name))
    assert found == {"hardware": 2, "configuration": 2}
    assert policy.status(found) == "affirming"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("missing", list(UNMET))
def test_policy_check_refuses_a_missing_default(name: str, missing: str) -> None:
    pair = next(pair for pair in releases.PAIRS if pair.endswith(f"/{name}"))
    whole = policy.attestation_policy(TRUSTEE[name])
    given = {"name": "own", "kind": "attestation", "text": whole.replace(f"default {missing} := {UNMET[missing]}\n\n", "")}
    assert given["text"] != whole
    with pytest.raises(CocoError, match=f"'{missing}' has no default"):
        policy_check.run({"release": pair, "policies": [given], "cases": [], "fail": True}, Context())
    commented = {**given, "text": whole.replace(f"default {missing}", f"# default {missing}")}
    with pytest.raises(CocoError, match=f"'{missing}' has no default"):
        policy_check.run({"release": pair, "policies": [commented], "cases": [], "fail": True}, Context())


@pytest.mark.parametrize(("default", "code"), [("3", "affirming-default"), ("0", "affirming-default"), ("2", "affirming-default"),
                                               ('"33"', "default-form"), ("33.5", "default-form"), ("97", ""), ("33", "")])
def test_defaults_that_deny_nobody(default: str, code: str) -> None:
    text = policy.attestation_policy(TRUSTEE["1.0"]).replace("default executables := 33", f"default executables := {default}")
    assert codes(text, "1.0") == ({code} if code else set())


def test_no_claim_at_all_fails_the_attestation() -> None:
    """trustee-verified.md number 16: B with nothing set, C without trust_claims."""
    for name, text in (("1.0", "package policy\n"), ("1.1", "package policy\nexecutables := 3\n"), ("1.2", "package other\n")):
        with pytest.raises(CocoError, match="sets no claim"):
            vector(name, TRUSTEE[name].rego[-1], claims(name), text)


@pytest.mark.parametrize(("name", "change", "code"), [
    ("1.0", ("data.reference.snp_pcr08", 'query_reference_value("snp_pcr08")'), "lookup"),
    ("1.1", ('query_reference_value("snp_pcr08")', "data.reference.snp_pcr08"), "lookup"),
    ("1.0", ('input["azsnpvtpm"]', 'input["az-snp-vtpm"]'), "claim-key"),
    ("1.1", ('input["az-snp-vtpm"]', "input.azsnpvtpm"), "claim-key"),
    ("1.1", ('input["az-snp-vtpm"]', "input.az_snp_vtpm"), "claim-key"),  # the defect of 1.1.0's own policy
    ("1.2", ('input["az-snp-vtpm"]', "input.az-snp-vtpm"), "claim-key"),
    ("1.2", ("trust_claims :=", "claims :="), "no-trust-claims"),
    ("1.0", ("package policy", "package agent_policy"), "package"), ("1.0", ("package policy", "package policy 1"), "callout"),
    ("1.0", ("import rego.v1\n", ""), "if-without-import"),
    ("1.1", ("hardware := 2 if input", "hardware := 2 { input"), ""),
])
def test_policies_of_another_release(name: str, change: tuple[str, str], code: str) -> None:
    whole = policy.attestation_policy(TRUSTEE[name])
    text = whole.replace(*change)
    assert text != whole
    if code:
        assert code in codes(text, name)
    else:
        assert "body-without-if" in codes(text, name)


def test_trust_claims_where_there_are_none() -> None:
    assert "trust-claims" in codes(policy.attestation_policy(TRUSTEE["1.1"]), "1.0")


def test_without_import_the_rules_are_always_true() -> None:
    """trustee.md 5.6 trap 3, on an attestation policy: even the sample attester is affirmed."""
    text = policy.attestation_policy(TRUSTEE["1.0"]).replace("import rego.v1\n", "")
    text = text[:text.index("executables := 3 if")]  # `in` does not parse without the import
    assert vector("1.0", "v0", SAMPLE, text)["hardware"] == 2
    assert "if-without-import" in codes(text, "1.0")


def test_warnings_of_attestation_policies() -> None:
    whole = policy.attestation_policy(TRUSTEE["1.0"])
    assert codes(whole.replace('hardware := 2 if input["azsnpvtpm"]', "hardware := 2"), "1.0", severity="warning") == {"always-affirming"}
    unbound = "".join(line for line in whole.splitlines(keepends=True) if "pcr08" not in line)
    assert codes(unbound, "1.0", severity="warning") == {"initdata-unbound"}


# The resource policy ----------------------------------------------------------------------------------------------------------

def token(*status: str, name: str = "1.0") -> dict[str, Any]:
    names = [TRUSTEE[name].submodule, "gpu0", "gpu1"]
    return {"submods": {names[place]: {"ear.status": value} for place, value in enumerate(status)}}


def allowed(name: str, dialect: str, given: Any, text: str = "", data: Any = None) -> Any:
    release = TRUSTEE[name]
    return policy.evaluate(regorus.Engine(), text or policy.resource_policy(release), "allow", given,
                           policy.resource_data(release, "default/kbsres1/key1") if data is None else data, release, dialect)


@pytest.mark.parametrize(("given", "expected"), [
    (("affirming",), True), (("warning",), False), (("contraindicated",), False), (("none",), False), ((), False),
    (("affirming", "affirming"), True), (("affirming", "warning"), False), (("warning", "affirming"), False),
])
@pytest.mark.parametrize(("name", "dialect"), EAR)
def test_every_part_must_be_affirming(name: str, dialect: str, given: tuple[str, ...], expected: bool) -> None:
    assert allowed(name, dialect, token(*given, name=name)) is expected


@pytest.mark.parametrize(("name", "dialect"), EAR)
def test_tokens_of_another_form_get_nothing(name: str, dialect: str) -> None:
    for given in ({}, {"tee": "azsnpvtpm"}, {"submods": {}}, {"submods": {"cpu0": {}}}, {"ear.status": "affirming"}):
        assert allowed(name, dialect, given) is False, given


@pytest.mark.parametrize("name", ["1.1", "1.2"])
def test_other_plugins_get_nothing(name: str) -> None:
    data = {"plugin": "pkcs11", "resource-path": ["a", "b", "c"], "query": {}}
    assert allowed(name, "v1", token("affirming"), data=data) is False


# Limits of documents: who may start pods chooses the document ----------------------------------------------------------------

def measured(name: str, pcr8: str, status: str = "affirming", tee: str = "") -> dict[str, Any]:
    release = TRUSTEE[name]
    evidence = {tee or release.azure_snp: {"tpm": {"pcr08": pcr8}}}
    return {"submods": {release.submodule: {"ear.status": status, "ear.veraison.annotated-evidence": evidence}}}


@pytest.mark.parametrize(("pcr8", "path", "expected"), [
    ("a" * 64, "default/mine/key", True), ("a" * 64, "default/security-policy/signed", True), ("a" * 64, "default/cosign-keys/key-0", True),
    ("a" * 64, "default/others/key", False), ("a" * 64, "default/mine-too/key", False), ("a" * 64, "other/mine/key", False),
    ("b" * 64, "default/others/key", True), ("b" * 64, "default/mine/key", True),
    ("c" * 64, "default/mine/key", False), ("c" * 64, "default/security-policy/signed", True),
])
@pytest.mark.parametrize(("name", "dialect"), EAR)
def test_a_limited_document_opens_only_what_it_names(name: str, dialect: str, pcr8: str, path: str, expected: bool) -> None:
    release = TRUSTEE[name]
    text = policy.resource_policy(release, {"a" * 64: ["mine"], "c" * 64: []})
    assert policy.lint(text, "resource", release) == []
    data = policy.resource_data(release, path)
    assert allowed(name, dialect, measured(name, pcr8), text, data) is expected
    assert allowed(name, dialect, measured(name, pcr8, tee=release.azure_tdx), text, data) is expected
    assert allowed(name, dialect, measured(name, pcr8, "warning"), text, data) is False
    assert allowed(name, dialect, token("affirming", name=name), text, data) is False, "evidence without PCR 8 is not beyond the limits"


def test_limits_of_documents() -> None:
    def document(name: str, pcr8: str, resources: Any = None) -> dict[str, Any]:
        return {"name": name, "pcr8": pcr8, "resources": resources}

    assert policy.limits([document("default", "p"), document("verification", "q")]) == {"q": ["coco-verification"]}
    assert policy.limits([document("default", "p"), document("verification", "p")]) == {}, "the same bytes are one document"
    assert policy.limits([document("verification", "q", ["mine"])], "x") == {"q": ["mine"]}
    assert policy.limits([document("a", "p", ["x"]), document("b", "p", ["y", "x"]), document("c", "r", [])]) == {"p": ["x", "y"], "r": []}
    for wrong in ("mine", ["Not A Name"], ["a/b"], [1], ['x"]']):
        with pytest.raises(CocoError, match="cannot be limited"):
            policy.limits([document("a", "p", wrong)])


def test_limits_need_tokens_that_tell_the_document() -> None:
    with pytest.raises(CocoError, match="cannot be limited"):
        policy.resource_policy(TRUSTEE["0.2"], {"a" * 64: ["mine"]})


def test_simple_tokens() -> None:
    """0.2: flat token; the sample attester is refused (deployment.md 6.7)."""
    assert allowed("0.2", "v0", {"tee": "azsnpvtpm"}) is True
    assert allowed("0.2", "v0", {"tee": "sample"}) is False
    assert allowed("0.2", "v0", {}) is False
    assert policy.lint(policy.resource_policy(TRUSTEE["0.2"]), "resource", TRUSTEE["0.2"]) == []


@pytest.mark.parametrize(("name", "path"), [
    ("0.2", {"resource-path": "a/b/c"}), ("0.3", {"resource-path": "resource/a/b/c"}), ("1.0", {"resource-path": "resource/a/b/c"}),
    ("1.1", {"plugin": "resource", "resource-path": ["a", "b", "c"], "query": {}}),
    ("1.2", {"plugin": "resource", "resource-path": ["a", "b", "c"], "query": {}}),
])
def test_what_a_resource_policy_sees(name: str, path: dict[str, Any]) -> None:
    """trustee.md 5.6."""
    assert policy.resource_data(TRUSTEE[name], "a/b/c") == path


HEAD = "package policy\nimport rego.v1\ndefault allow := false\n"


@pytest.mark.parametrize(("name", "text", "code"), [
    ("1.0", HEAD + 'allow if input["tee"] != "sample"\n', "input-tee"), ("0.2", HEAD + "allow if input.submods.cpu\n", "submods"),
    ("1.0", HEAD + 'allow if input.submods.cpu["ear.status"] == "affirming"\n', "submodule"),
    ("0.3", HEAD + 'allow if not input["submods"]["cpu0"]["x"]\n', "submodule"),
    ("1.0", HEAD + 'allow if data.plugin == "resource"\n', "data-plugin"),
    ("1.1", HEAD + 'allow if data["resource-path"] == "resource/a/b/c"\n', "resource-path"),
    ("1.0", HEAD + 'allow if data["resource-path"] == ["a", "b", "c"]\n', "resource-path"),
    ("1.0", "package policy\nimport rego.v1\nallow if input.x\n", "no-default"),
    ("1.0", "package policy\ndefault allow := false\nallow if { input.x }\n", "if-without-import"),
    ("1.1", "package policy\ndefault allow := false\nallow { input.x }\n", "body-without-if"),
    ("0.4", "package policy\ndefault allow := false\nallow { input.x }\n", "body-without-if"),  # 0.4.2 has a v1 engine
    ("1.0", HEAD.replace("policy", "kbs", 1) + "allow if input.x\n", "package"), ("1.0", "```rego\n" + HEAD + "```\n", "code-fence"),
])
def test_faults_of_resource_policies(name: str, text: str, code: str) -> None:
    assert code in codes(text, name, "resource")


@pytest.mark.parametrize("text", [
    "package policy\ndefault allow := true\n", HEAD + "allow := true\n", HEAD + "allow if true\n", HEAD + "allow if { true }\n",
])
def test_allow_all_is_said(text: str) -> None:
    assert "allow-all" in codes(text, "1.0", "resource", "warning")


def test_traps_as_the_engine_sees_them() -> None:
    """trustee.md 5.6: what the lint says is what happens."""
    tee = HEAD + 'allow if input["tee"] != "sample"\n'
    assert allowed("1.0", "v0", token("affirming"), tee) is False
    unimported = "package policy\ndefault allow := false\nallow if { false }\n"
    assert allowed("1.0", "v0", {}, unimported) is True
    with pytest.raises(CocoError, match="`if` keyword") as caught:
        allowed("1.1", "v1", {}, "package policy\ndefault allow = false\nallow { input.x }\n")
    assert "v1 syntax" in caught.value.todo
    assert len(caught.value.seen) < 500, "with RUST_BACKTRACE=1 the engine adds its stack"
    negative = HEAD + 'allow if not input.submods.cpu["ear.veraison.annotated-evidence"].sample\n'
    assert allowed("1.0", "v0", {"submods": {"cpu0": {"ear.veraison.annotated-evidence": {"sample": {}}}}}, negative) is True


def test_undefined_is_none() -> None:
    assert policy.evaluate(regorus.Engine(), "package policy\n", "allow", {}, {}, TRUSTEE["1.0"]) is None
    text = "package policy\nimport rego.v1\nallow if input.x\n"
    assert policy.evaluate(regorus.Engine(), text, "allow", {}, {}, TRUSTEE["1.0"]) is None


# Image policies and numbers -------------------------------------------------------------------------------------------------

def test_image_policies() -> None:
    """deployment.md 5.3: both `default` and `transports` must be there."""
    found = {name: json.loads(text) for name, text in policy.image_policies({"quay.io/b": "kbs:///default/k/1", "quay.io/a": "kbs:///default/k/0"}).items()}
    assert found["insecure"] == {"default": [{"type": "insecureAcceptAnything"}], "transports": {}}
    assert found["reject"] == {"default": [{"type": "reject"}], "transports": {}}
    assert found["signed"] == {"default": [{"type": "reject"}], "transports": {"docker": {
        "quay.io/a": [{"type": "sigstoreSigned", "keyPath": "kbs:///default/k/0"}],
        "quay.io/b": [{"type": "sigstoreSigned", "keyPath": "kbs:///default/k/1"}]}}}
    assert json.loads(policy.image_policies()["signed"]) == {"default": [{"type": "reject"}], "transports": {}}
    with pytest.raises(CocoError, match="insecure, signed, reject"):
        policy.image_policy("none")
    with pytest.raises(CocoError, match=r"quay\.io/a"):
        policy.image_policy("signed", {"quay.io/a": "/etc/key.pub"})


@pytest.mark.parametrize(("text", "code"), [
    ("{", "image-policy"), ("{}", "image-policy"), ('{"default": []}', "image-policy"), ("[]", "image-policy"),
    ('{"default": [{"type": "sigstoreSigned"}], "transports": {}}', "image-key"),
    ('{"default": [], "transports": {"docker": {"a": [{"type": "sigstoreSigned", "keyPath": "a", "keyData": "b"}]}}}', "image-key"),
    ('{"default": [{"type": "insecureAcceptAnything"}], "transports": {}}', "image-insecure"),
    ('{"default": [{"type": "reject"}], "transports": {}}', ""),
])
def test_faults_of_image_policies(text: str, code: str) -> None:
    assert {item["code"] for item in policy.lint(text, "image", TRUSTEE["1.0"])} == ({code} if code else set())


@pytest.mark.parametrize(("value", "tier"), [
    (-129, "contraindicated"), (-97, "contraindicated"), (-96, "warning"), (-33, "warning"), (-32, "affirming"), (-2, "affirming"),
    (-1, "none"), (0, "none"), (1, "none"), (2, "affirming"), (31, "affirming"), (32, "warning"), (95, "warning"), (96, "contraindicated"),
    (127, "contraindicated"),
])
def test_tiers(value: int, tier: str) -> None:
    """trustee.md 5.1."""
    assert policy.tier(value) == tier
    assert policy.status({"a": value}) == tier


def test_the_worst_tier_decides() -> None:
    assert policy.status({}) == "none"
    assert policy.status({"a": 2, "b": 0}) == "affirming"
    assert policy.status({"a": 2, "b": 33, "c": 97}) == "contraindicated"


def test_unknown_kinds() -> None:
    with pytest.raises(CocoError, match="attestation, resource, agent"):
        policy.lint("package policy\n", "other", TRUSTEE["1.0"])


def test_given_data_is_not_changed() -> None:
    given, reference = claims("1.1"), copy.deepcopy(REFERENCE)
    before = copy.deepcopy(given)
    vector("1.1", "v1", given, reference=reference)
    assert (given, reference) == (before, REFERENCE)


def test_the_releases_own_dialect_is_the_default() -> None:
    bare = "package policy\ndefault allow = false\nallow { input.x }\n"
    assert policy.evaluate(regorus.Engine(), bare, "allow", {"x": True}, {}, TRUSTEE["1.0"]) is True
    for name in ("0.4", "1.1"):  # 0.4.2 is the newest of 0.4
        with pytest.raises(CocoError, match="v1 syntax"):
            policy.evaluate(regorus.Engine(), bare, "allow", {"x": True}, {}, TRUSTEE[name])


def test_a_code_fence_is_the_only_finding() -> None:
    assert codes("```rego\npackage policy\n```\n", "1.0") == {"code-fence"}
    assert codes("```rego\npackage policy\n```\n", "1.0", "resource") == {"code-fence"}
