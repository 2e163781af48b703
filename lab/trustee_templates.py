"""Texts that the trustee operator generates for a TrusteeConfig, by generation of the KBS: B (1.0), C (1.1), D (1.2).

Own texts with the products' effects: reference/deployment.md 2.9, trustee.md 4.6, operators.md 8. The CPU policy of 1.1 asks
for a key that no evidence has, as the product's does, and so never affirms on Azure.
"""

from __future__ import annotations

from typing import Any

BASE = "/opt/confidential-containers"
PCRS = ("03", "08", "09", "11", "12")

_ADMIN = {
    "B": 'insecure_api = false\nauth_public_key = "/etc/auth-secret/publicKey"',
    "C": 'type = "DenyAll"',
    "D": 'authorization_mode = "DenyAll"',
}

_VERIFIERS = """
[attestation_service.verifier_config.snp_verifier]
vcek_sources = [{ type = "OfflineStore" }, { type = "KDS" }]

[attestation_service.verifier_config.nvidia_verifier]
type = "Remote"
verifier_url = "https://nras.attestation.nvidia.com/v4/attest"
"""

_SIGNER = """
[attestation_service.attestation_token_broker.signer]
key_path = "/etc/attestation-key/token.key"
cert_path = "/etc/attestation-cert/token.crt"
"""


def kbs_config(generation: str, restricted: bool, tls: dict[str, str]) -> str:
    """``kbs-config.toml``; ``tls`` are the keys ``tls_*`` of the restricted profile (1.2)."""
    server = ['sockets = ["0.0.0.0:8080"]', f"insecure_http = {str(not restricted).lower()}"]
    if restricted:
        server += ['private_key = "/etc/https-key/privateKey"', 'certificate = "/etc/https-cert/certificate"']
    server.append("worker_count = 4")
    if restricted:
        server += [f'{key} = "{value}"' for key, value in tls.items()]
    flag = "insecure_header_jwk" if generation == "D" else "insecure_key"
    token = [f"{flag} = {str(not restricted).lower()}"]
    if restricted or generation != "D":
        token.append('attestation_token_type = "CoCo"')
    if restricted:
        token.append('trusted_certs_paths = ["/etc/attestation-cert/token.crt"]')
    sections = [
        "[http_server]\n" + "\n".join(server),
        "[admin]\n" + _ADMIN[generation],
        "[attestation_token]\n" + "\n".join(token),
        *(_attestation_new(restricted) if generation == "D" else _attestation_old()),
    ]
    text = "\n\n".join(sections) + "\n"
    if generation != "B":
        text += _VERIFIERS
    if restricted:
        text += _SIGNER
    text += '\n[[plugins]]\nname = "resource"\n'
    if generation == "D":
        return text + 'storage_backend_type = "kvstorage"\n'
    return (text + f'type = "LocalFs"\ndir_path = "{BASE}/kbs/repository"\n\n'
            f'[policy_engine]\npolicy_path = "{BASE}/opa/policy.rego"\n')


def _attestation_old() -> list[str]:
    return [
        f'[attestation_service]\ntype = "coco_as_builtin"\nwork_dir = "{BASE}/attestation-service"\npolicy_engine = "opa"',
        f'[attestation_service.attestation_token_broker]\ntype = "Ear"\npolicy_dir = "{BASE}/attestation-service/policies"',
        "[attestation_service.attestation_token_config]\nduration_min = 5",
        '[attestation_service.rvps_config]\ntype = "BuiltIn"',
        '[attestation_service.rvps_config.storage]\ntype = "LocalJson"\n'
        f'file_path = "{BASE}/rvps/reference-values/reference-values.json"',
    ]


def _attestation_new(restricted: bool) -> list[str]:
    kind = '[attestation_service]\ntype = "coco_as_builtin"'
    broker = "attestation_token_config" if restricted else "attestation_token_broker"
    return [
        kind if restricted else f"{kind}\ntimeout = 5",
        f"[attestation_service.{broker}]\nduration_min = 5",
        '[attestation_service.rvps_config]\ntype = "BuiltIn"\nstorage_type = "LocalJson"',
        '[storage_backend]\nstorage_type = "LocalFs"',
        f'[storage_backend.backends.local_fs]\ndir_path = "{BASE}/storage"',
        f'[storage_backend.backends.local_json]\ndir_path = "{BASE}/storage/local_json"',
    ]


def tls_settings(api_server: dict[str, Any] | None, given: dict[str, Any] | None) -> dict[str, str]:
    """Keys ``tls_*`` of 1.2: the cluster's profile, else the TrusteeConfig's ``tlsConfig``, else intermediate."""
    profile = ((api_server or {}).get("spec") or {}).get("tlsSecurityProfile")
    if profile:
        kind = str(profile.get("type") or "").lower()
        found = {"tls_profile": kind if kind in ("old", "intermediate", "modern", "custom") else "intermediate"}
        custom = profile.get("custom") or {}
        if kind == "custom" and custom:
            version = {"VersionTLS10": "1.0", "VersionTLS11": "1.1", "VersionTLS12": "1.2", "VersionTLS13": "1.3"}
            found["tls_min_version"] = version.get(custom.get("minTLSVersion", ""), "")
            found["tls_ciphers"] = ":".join(custom.get("ciphers") or [])
        return {key: value for key, value in found.items() if value}
    given = given or {}
    found = {"tls_profile": given.get("profile") or "intermediate"}
    if found["tls_profile"] == "custom":
        found |= {"tls_min_version": given.get("minVersion", ""), "tls_max_version": given.get("maxVersion", ""),
                  "tls_ciphers": ":".join(given.get("ciphers") or []), "tls_groups": ":".join(given.get("groups") or [])}
    return {key: value for key, value in found.items() if value}


def with_tls(existing: str, tls: dict[str, str]) -> str:
    """A kbs-config.toml with other ``tls_*`` keys in ``[http_server]``; without HTTPS it stays as it is."""
    lines = existing.split("\n")
    if "insecure_http = false" not in lines:
        return existing
    kept = [line for line in lines if not line.strip().startswith("tls_")]
    at = next((n + 1 for n, line in enumerate(kept) if line.startswith("worker_count")), kept.index("insecure_http = false") + 1)
    return "\n".join([*kept[:at], *(f'{key} = "{value}"' for key, value in tls.items()), *kept[at:]])


def resource_policy(generation: str, restricted: bool) -> str:
    """Who may read resources."""
    if not restricted:
        if generation == "D":
            return 'package policy\n\nimport rego.v1\n\ndefault allow = false\n\nallow if {\n\tdata.plugin == "resource"\n}\n'
        return "package policy\n\ndefault allow = true\n"
    if generation == "B":
        return ('package policy\n\nimport rego.v1\n\ndefault allow = false\n\nallow if {\n'
                '\tinput["submods"]["cpu0"]["ear.status"] == "affirming"\n}\n')
    rules = ["package policy", "import rego.v1", "default allow = false"]
    names = ("executables", "configuration", "hardware")
    rules.append("allow if {\n\tcount(input.submods) > 0\n" + "".join(f"\tnot bad_{name}\n" for name in names) + "}")
    for name in names:
        rules.append(f"bad_{name} if {{\n\tsome _, part in input.submods\n"
                     f'\tnot affirmed(part["ear.trustworthiness-vector"].{name})\n}}')
    rules.append("affirmed(value) if {\n\tvalue >= 2\n\tvalue <= 31\n}")
    return "\n\n".join(rules) + "\n"


_CLAIMS = """trust_claims := {
	"executables": executables,
	"hardware": hardware,
	"configuration": configuration,
	"file-system": 0,
	"instance-identity": 0,
	"runtime-opaque": 0,
	"storage-opaque": 0,
	"sourced-data": 0,
}"""
_DEFAULTS = ["package policy", "import rego.v1", "default executables := 33", "default hardware := 97",
             "default configuration := 36"]


def cpu_policy(generation: str) -> str:
    """``default_cpu.rego``: what is affirmed on an Azure SNP VM with a vTPM."""
    key = {"B": "input.azsnpvtpm", "C": "input.az_snp_vtpm", "D": 'input["az-snp-vtpm"]'}[generation]

    def known(field: str, name: str) -> str:
        values = f"data.reference.{name}" if generation == "B" else f'query_reference_value("{name}")'
        return f"\t{key}.{field} in {values}\n"

    rules = list(_DEFAULTS) if generation == "B" else [*_DEFAULTS, _CLAIMS]
    pcrs = "".join(known(f"tpm.pcr{number}", f"snp_pcr{number}") for number in PCRS)
    if generation != "C":
        rules += [f"executables := 3 if {{\n\t{key}\n{pcrs}}}", f"hardware := 2 if {{\n\t{key}\n}}",
                  f"configuration := 2 if {{\n\t{key}\n}}"]
    else:
        firmware = "".join(known(f"reported_tcb_{name}", f"tcb_{name}") for name in ("bootloader", "microcode", "snp", "tee"))
        platform = "".join(known(f"{source}_{name}", name) for source, name in (
            ("platform", "smt_enabled"), ("platform", "tsme_enabled"), ("policy", "abi_major"), ("policy", "abi_minor"),
            ("policy", "single_socket"), ("policy", "smt_allowed")))
        rules += [f"executables := 3 if {{\n\t{key}\n{known('measurement', 'measurement')}{pcrs}}}",
                  f"hardware := 2 if {{\n\t{key}\n{firmware}}}", f"configuration := 2 if {{\n\t{key}\n{platform}}}"]
    return "\n\n".join(rules) + "\n"


def gpu_policy() -> str:
    """``default_gpu.rego`` (1.1 and newer): the lab has no GPU, nothing is affirmed."""
    return "\n\n".join([*_DEFAULTS, _CLAIMS]) + "\n"


def reference_values(generation: str) -> tuple[str, str]:
    """(key, content) of the reference values before anybody gave any."""
    return ("reference_value", "{}\n") if generation == "D" else ("reference-values.json", "[\n]\n")


TDX_CONFIG = '{\n  "collateral_service": "https://api.trustedservices.intel.com/sgx/certification/v4/"\n}\n'
