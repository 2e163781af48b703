"""What differs between the generations of the KBS, in one place; only generation B is built.

Facts: reference/trustee.md sections 0 to 5 and trustee-verified.md (all of B). Generations C and D get a row of their own here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Generation:
    """One generation: names, protocol, dialect and texts that the handlers look up."""

    name: str
    product: str  # release of the Red Hat build
    upstream: str
    git_hash: str  # of the upstream commit, in /metrics
    protocol: str  # exact match
    tees: tuple[str, ...]  # names that /auth knows
    features: dict[str, str]  # TEE -> name of the verifier's cargo feature, where it differs
    devices: tuple[str, ...]  # TEEs of the class gpu; the others are of the class cpu
    init_data_algorithms: tuple[str, ...]
    rego_v0: bool
    trust_claims: tuple[str, ...]  # one rule per claim, in the order of the trust vector
    policy_ids: tuple[str, ...]  # written at the start when missing
    reference_data: str  # where a policy finds the reference values below `data`
    methods: tuple[str, ...]
    tls: str
    session_minutes: int
    token_minutes: int


GENERATION_B = Generation(
    name="B",
    product="1.0.0",
    upstream="v0.15.0",
    git_hash="ea56c1bfa7",
    protocol="0.4.0",
    tees=("azsnpvtpm", "aztdxvtpm", "sev", "sgx", "snp", "tdx", "cca", "csv", "sample", "sampledevice", "se", "nvidia",
          "hygondcu", "tpm"),
    features={"azsnpvtpm": "az-snp-vtpm", "aztdxvtpm": "az-tdx-vtpm", "hygondcu": "hygon-dcu"},
    devices=("sampledevice", "nvidia"),
    init_data_algorithms=("sha256", "sha384", "sha512"),
    rego_v0=True,
    trust_claims=("instance_identity", "configuration", "executables", "file_system", "hardware", "runtime_opaque",
                  "storage_opaque", "sourced_data"),
    policy_ids=("default_cpu", "default_gpu"),
    reference_data="reference",
    methods=("GET", "POST"),
    tls="1.2",
    session_minutes=5,
    token_minutes=5,
)
