"""What differs between the generations of the KBS, in one place: a row each; the handlers look up and never ask for the name.

Facts: reference/trustee.md sections 0 to 5, trustee-verified.md (B, C, D), trustee-verified-0.3.md (0.3). Generation B is the
full row, the others are told by what they change.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from lab.kbs.fields import WORDS, Words


def _pasted(path: str, _query: dict[str, str]) -> str:
    return f'{{"resource-path":"{path}"}}'  # a quotation mark in the path breaks it: an engine error


def _path(path: str, _query: dict[str, str]) -> str:
    return json.dumps({"resource-path": path})


def _plugin(path: str, query: dict[str, str]) -> str:
    plugin, *rest = path.split("/")
    return json.dumps({"plugin": plugin, "resource-path": rest, "query": query})


@dataclass(frozen=True)
class Generation:
    """One generation: names, protocol, dialect and texts that the handlers look up."""

    name: str
    product: str  # release of the Red Hat build
    upstream: str
    git_hash: str  # of the upstream commit, in /metrics

    # The handshake.
    protocol: str  # exact match
    composite: bool  # messages with runtime data, init data and additional evidence (0.4.0), else a key and evidence (0.1.1)
    tees: tuple[str, ...]  # names that /auth knows
    unchallenged: tuple[str, ...]  # of these, those for which the attestation service makes no challenge
    features: dict[str, str]  # TEE -> name of the verifier's cargo feature, where it differs
    azure: str  # the name of an Azure SEV-SNP VM, and the key of its claims
    devices: tuple[str, ...]  # TEEs of the class gpu; the others are of the class cpu
    session_unknown: str  # log
    session_ended: str  # log

    # Attestation: claims, policies, reference values.
    sample_claims: dict[str, Any]  # what the sample verifier adds
    sample_init_data: str  # "": none; "evidence": what the evidence says; "digest": that of the plain text
    init_data_always: bool  # every submodule has `init_data` and `init_data_claims`, empty if need be
    numbered: bool  # submodules cpu0, gpu0, else cpu
    init_data_algorithms: tuple[str, ...]
    agent_policy_claims: bool  # `policy_data := {..}` of the agent's policy becomes a claim
    rego_v0: bool
    trust_claims: tuple[str, ...]  # names in the order of the trust vector
    claim_rules: bool  # one rule per claim, else the object `trust_claims` with hyphens, and `extensions`
    no_claims_is_none: bool  # without that object: a vector of zeros, else a refusal
    wraps: bool  # a value beyond 8 bits wraps, else it is refused
    policy_ids: tuple[str, ...]  # written at the start when missing
    policy_name: str  # the id that is evaluated for a class
    policy_id: str  # pattern of ids that may be set
    policy_checked: bool  # text is parsed before it is stored
    reference_data: str  # where a policy finds the values below `data`; "": function query_reference_value
    reference_form: str  # "value": list of items with a JSON value; "hash-value": with hashes
    reference_expiry: bool  # expired values are skipped
    reference_created: bool  # an empty list is written at the start when missing
    stock: str  # directory of the stock policies

    # Resources.
    tee_key_paths: tuple[str, ...]  # where a token may carry the TEE's key; configured ones come first
    curves: tuple[str, ...]  # to which answers are encrypted
    rsa: tuple[str, ...]
    jwe_bound: bool  # RFC 7516 (header as additional data, tag of its own), else the form of 0.1.x
    token_audience: bool  # a token with `aud` passes
    default_repository: bool  # two segments mean the repository `default`
    empty_resources: bool  # an empty resource exists
    policy_data: Callable[[str, dict[str, str]], str]  # (path with plugin, query) -> `data` as JSON text
    policy_told: bool  # engine errors in the answer, and undefined is a denial
    policy_listed: bool  # GET resource-policy lists names, else it has the text

    # The administrator, and HTTP.
    open_attestation_policy: bool  # anybody may set one
    reference_api: str  # "": none; "map": every GET has all; "item": one by name
    methods: tuple[str, ...]
    bare_prefix: bool  # /kbs/v0/ is a request for the plugin without a name
    metrics: bool
    healthz: bool
    payload: int | None  # bytes, whatever the configuration says
    tls: tuple[str, str]  # oldest and newest version

    # Configuration.
    config: str  # "B", "C", "D"
    broker_type: bool  # the token broker's type is read
    policy_dir: str  # default; {work} is the work directory
    session_minutes: int = 5
    token_minutes: int = 5
    no_trust_starts: bool = True  # starts without anything that tokens could be checked with
    words: Words = WORDS


_B_PATHS = ("/tdx/attester_runtime_data/tee-pubkey", "/tdx/attester_user_data/tee-pubkey",
            "/customized_claims/runtime_data/tee-pubkey",
            "/submods/cpu0/ear.veraison.annotated-evidence/runtime_data_claims/tee-pubkey", "/tee-pubkey")

GENERATION_B = Generation(
    name="B",
    product="1.0.0",
    upstream="v0.15.0",
    git_hash="ea56c1bfa7",
    protocol="0.4.0",
    composite=True,
    tees=("azsnpvtpm", "aztdxvtpm", "sev", "sgx", "snp", "tdx", "cca", "csv", "sample", "sampledevice", "se", "nvidia",
          "hygondcu", "tpm"),
    unchallenged=(),
    features={"azsnpvtpm": "az-snp-vtpm", "aztdxvtpm": "az-tdx-vtpm", "hygondcu": "hygon-dcu"},
    azure="azsnpvtpm",
    devices=("sampledevice", "nvidia"),
    session_unknown="No cookie found",
    session_ended="session expired.",
    sample_claims={"debug": False, "launch_digest": "abcde", "platform_version": {"major": 1, "minor": 4}},
    sample_init_data="",
    init_data_always=False,
    numbered=True,
    init_data_algorithms=("sha256", "sha384", "sha512"),
    agent_policy_claims=False,
    rego_v0=True,
    trust_claims=("instance_identity", "configuration", "executables", "file_system", "hardware", "runtime_opaque",
                  "storage_opaque", "sourced_data"),
    claim_rules=True,
    no_claims_is_none=False,
    wraps=True,
    policy_ids=("default_cpu", "default_gpu"),
    policy_name="default_{kind}",
    policy_id="[A-Za-z0-9_-]+",
    policy_checked=True,
    reference_data="reference",
    reference_form="value",
    reference_expiry=True,
    reference_created=True,
    stock="B",
    tee_key_paths=_B_PATHS,
    curves=("P-256",),
    rsa=("RSA-OAEP-256", "RSA1_5"),
    jwe_bound=True,
    token_audience=False,
    default_repository=False,
    empty_resources=True,
    policy_data=_path,
    policy_told=False,
    policy_listed=False,
    open_attestation_policy=False,
    reference_api="map",
    methods=("GET", "POST"),
    bare_prefix=False,
    metrics=True,
    healthz=False,
    payload=None,
    tls=("1.2", "1.2"),
    config="B",
    broker_type=True,
    policy_dir="{work}/token/ear/policies",
)

GENERATION_03 = replace(
    GENERATION_B,
    name="0.3",
    product="0.3.0",
    upstream="v0.11.0",
    git_hash="68e2a8d2",
    protocol="0.1.1",
    composite=False,
    tees=("sample", "sev", "snp", "tdx", "sgx", "cca", "csv", "se", "azsnpvtpm", "aztdxvtpm"),
    unchallenged=("se",),
    devices=(),
    sample_claims={},
    sample_init_data="evidence",
    init_data_always=True,
    numbered=False,
    wraps=False,
    policy_ids=("default",),
    policy_name="default",
    policy_id="[A-Za-z0-9_-]*",
    reference_form="hash-value",
    reference_created=False,
    stock="0.3",
    tee_key_paths=("/attester_runtime_data/tee-pubkey", "/attester_user_data/tee-pubkey",
                   "/customized_claims/runtime_data/tee-pubkey",
                   "/submods/cpu/ear.veraison.annotated-evidence/runtime_data_claims/tee-pubkey"),
    curves=(),
    rsa=("RSA1_5",),
    jwe_bound=False,
    default_repository=True,
    policy_data=_pasted,
    open_attestation_policy=True,
    reference_api="",
    metrics=False,
    payload=256 * 1024,
    policy_dir="/opt/confidential-containers/attestation-service/token/ear/policies",
)

GENERATION_C = replace(
    GENERATION_B,
    name="C",
    product="1.1.0",
    upstream="v0.18.0",
    git_hash="f5cb8fc1b5",
    tees=("az-snp-vtpm", "az-tdx-vtpm", "sev", "sgx", "snp", "tdx", "cca", "csv", "sample", "sampledevice", "se", "nvidia",
          "hygondcu", "tpm"),
    features={"hygondcu": "hygon-dcu"},
    azure="az-snp-vtpm",
    sample_init_data="digest",
    init_data_algorithms=("sha256", "sha384", "sha512", "sm3"),
    agent_policy_claims=True,
    rego_v0=False,
    claim_rules=False,
    reference_data="",
    reference_expiry=False,
    stock="C",
    curves=("P-256", "P-521"),
    policy_data=_plugin,
    reference_api="item",
    bare_prefix=True,
    config="C",
    broker_type=False,
    words=Words(missing='invalid config: missing configuration field "{path}"', place=" for key `{path}`"),
)

# The product's 1.2 is v0.20 with parts of v0.21: no `iss`, and a signer as before (trustee-verified.md, head).
GENERATION_D = replace(
    GENERATION_C,
    name="D",
    product="1.2.1",
    upstream="v0.21.0",
    git_hash="258ea4acb7",
    session_unknown="session not found",
    session_ended="session not found",
    no_claims_is_none=True,
    policy_id="(?s).*",
    policy_checked=False,
    stock="D",
    token_audience=True,
    empty_resources=False,
    policy_told=True,
    policy_listed=True,
    methods=("GET", "POST", "PUT", "DELETE"),
    healthz=True,
    tls=("1.2", "1.3"),
    config="D",
    no_trust_starts=False,
    words=Words(invalid="failed to load configuration file {file}: {text}{place}",
                missing='failed to load configuration file {file}: missing configuration field "{path}"',
                place=" for key `{path}`"),
)

_ROWS = {"0.3": GENERATION_03, "1.0": GENERATION_B, "1.1": GENERATION_C, "1.2": GENERATION_D}
RELEASES = tuple(_ROWS)


def of_release(release: str) -> Generation:
    """The generation of a release of the Red Hat build, ``1.2`` or ``1.2.1``. Raises ``ValueError``."""
    match = re.fullmatch(r"(\d+\.\d+)(\.\d+)?", release)
    if match is None or match[1] not in _ROWS:
        raise ValueError(f"lab-kbs has no release {release} of Trustee, only {', '.join(RELEASES)}")
    return _ROWS[match[1]]
