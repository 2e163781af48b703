# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one release table: what each OSC and Trustee release wants, and which of them go together.

Everything in the collection that depends on a release reads it here; nothing else compares versions. Three parts: OSC
releases, Trustee releases, allowed pairs. Sources: the comparison tables of the two operators' sources and product
documents (OSC 1.8 to 1.13, Trustee operator 0.2 to 1.2) and KBS builds of each generation as run.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

OSC_PACKAGE = "sandboxed-containers-operator"
TRUSTEE_PACKAGE = "trustee-operator"
RUNTIME_ANNOTATION = "io.katacontainers.config.runtime.cc_init_data"
HYPERVISOR_ANNOTATION = "io.katacontainers.config.hypervisor.cc_init_data"


@dataclass(frozen=True)
class OscRelease:
    """One minor release of OpenShift sandboxed containers: how its guests and its operator behave."""

    name: str
    csv: str  # the newest z-stream: what a new installation gets
    csvs: tuple[str, ...]  # accepted when already installed
    protocol: str  # KBS protocol of the guest components
    initdata_encoding: str  # base64 | gzip+base64
    initdata_annotation: str
    caa_kind: str = "DaemonSet"
    caa_name: str = "osc-caa-ds"
    ssh_key: bool = False  # the Azure adaptor reads a key file for every VM (1.10 and older)
    required_secrets: tuple[str, ...] = ("peer-pods-secret",)
    # OpenShift minor -> z-stream floor; "" = the minor itself. The kata RPM comes with OpenShift, hence the z-streams.
    min_openshift: dict[str, str] = field(default_factory=dict)  # peer pods on Azure
    min_openshift_bare_metal: dict[str, str] = field(default_factory=dict)  # empty: not offered by the operator
    image_policy_uri: str = ""  # a URI baked into the image; empty: initdata names it
    agent_policy_annotation: bool = False  # policy by pod annotation is a documented way (it is not measured)
    agent_rego: tuple[str, ...] = ("v0",)  # dialects of the kata agent's engine
    gate_overwrites_initdata: bool = False  # gate off replaces INITDATA by a default document
    watches_peer_pods_cm: bool = False  # the operator rolls the adaptor by itself after an edit
    kata_cc_by_operator: bool = False
    runtime_classes: tuple[str, ...] = ("kata", "kata-remote")  # that the operator may make
    proxy_timeout: str = "5m"
    runtime_class_overhead_memory: str = "120Mi"
    secure_boot_key: bool = False  # ENABLE_SECURE_BOOT is documented


@dataclass(frozen=True)
class TrusteeRelease:
    """One minor release of the Trustee operator with the KBS it deploys."""

    name: str
    csv: str
    csvs: tuple[str, ...]
    generation: str  # A | B | C | D, by configuration format
    protocol: str  # accepted exactly
    kbs_config_key: str
    kbs_config_format: str  # json | toml-b | toml-c | toml-d
    rvps_key: str
    rvps_format: str  # empty | hash-value | value | map
    resource_policy_key: str
    attestation_policy_key: str
    policy_ids: tuple[str, ...]
    attestation_rules: str  # allow | claims | trust_claims
    rego: tuple[str, ...]  # dialects of the engines of the accepted CSVs
    reference_lookup: str  # data.reference | query_reference_value | none
    resource_policy_data: str  # path | plugin-path | plugin
    azure_snp: str  # name of the TEE on the wire and of its claims
    azure_tdx: str
    submodule: str  # of the token, "" for the flat token
    token_type: str  # Simple | Ear
    admin: str  # public_key | type | authorization_mode
    resource_policy_readable: bool  # GET /resource-policy gives the policy's text to the administrator
    reference_api: str  # reference values over HTTP: "" (by file only) | map (GET gives all) | item (one by name)
    signer_fields: bool  # KbsConfig names attestation key and certificate Secrets
    crs: tuple[str, ...] = ("KbsConfig",)
    default_cr: str = "KbsConfig"
    sample_secret: str = ""  # a secret resource that the operator makes with every TrusteeConfig
    insecure_token_key: str = "insecure_key"
    expiry_enforced: bool = True
    reference_values_required: bool = True
    writes_is_ready: bool = True
    watches_deployment: bool = True
    migration_annotation: str = ""  # config maps without it are rewritten or deleted by the operator
    migration_value: str = ""
    unauthenticated_attestation_policy: tuple[str, ...] = ()  # CSVs whose KBS takes one from anybody
    gpu_policy: bool = False
    gpu_policy_key: str = ""
    tdx_config: bool = True
    worker_count: bool = False
    kbsconfig_fields: tuple[str, ...] = ()  # of KbsConfig's spec; others are pruned or refused
    # What an edit needs before the KBS uses it: live (after the kubelet's sync, 1-2 minutes) | restart (by us) |
    # rollout (the operator's own) | delete-pods (the operator reverts a restart by annotation)
    after_edit_config: str = "restart"
    after_edit_resource_policy: str = "live"
    after_edit_attestation_policy: str = "live"
    after_edit_reference_values: str = "live"
    after_edit_secret: str = "live"  # bytes of a secret resource
    after_edit_secret_list: str = "rollout"  # kbsSecretResources, environment
    after_edit_keys: str = "restart"  # bytes of the admin key, HTTPS and signer Secrets
    restart_by: str = "rollout"  # rollout | delete-pods: how we restart the KBS
    milan_only: tuple[str, ...] = ()  # CSVs whose Azure SNP verifier knows only the Milan certificate chain


@dataclass(frozen=True)
class Pair:
    """An allowed pair, such as ``1.11/1.0``: the hub uses its Trustee half, each spoke its OSC half."""

    name: str
    osc: OscRelease
    trustee: TrusteeRelease


def _osc(*versions: str) -> dict[str, Any]:
    names = tuple(f"{OSC_PACKAGE}.v{version}" for version in versions)
    return {"csv": names[-1], "csvs": names, "name": ".".join(versions[-1].split(".")[:2])}


def _trustee(*versions: str) -> dict[str, Any]:
    names = tuple(f"{TRUSTEE_PACKAGE}.v{version}" for version in versions)
    return {"csv": names[-1], "csvs": names, "name": ".".join(versions[-1].split(".")[:2])}


_FIELDS_02 = (
    "kbsConfigMapName", "kbsAuthSecretName", "kbsDeploymentType", "kbsServiceType", "kbsRvpsRefValuesConfigMapName",
    "kbsHttpsKeySecretName", "kbsHttpsCertSecretName", "kbsSecretResources", "kbsResourcePolicyConfigMapName",
    "kbsAttestationPolicyConfigMapName", "KbsEnvVars", "ibmSEConfigSpec", "kbsAsConfigMapName", "kbsRvpsConfigMapName",
)
_FIELDS_04 = (*_FIELDS_02, "kbsLocalCertCacheSpec", "KbsDeploymentSpec")
_FIELDS_10 = (*_FIELDS_04, "kbsAttestationKeySecretName", "kbsAttestationCertSecretName")
_FIELDS_11 = (*_FIELDS_10, "kbsGpuAttestationPolicyConfigMapName")

_OSC_RELEASES = (
    OscRelease(
        **_osc("1.8.0", "1.8.1"), protocol="0.1.0", initdata_encoding="base64", initdata_annotation=RUNTIME_ANNOTATION,
        caa_name="peerpodconfig-ctrl-caa-daemon", ssh_key=True, required_secrets=("peer-pods-secret", "ssh-key-secret"),
        min_openshift={"4.15": ""}, image_policy_uri="kbs:///default/security-policy/osc", agent_policy_annotation=True,
        runtime_class_overhead_memory="350Mi", secure_boot_key=True,
    ),
    OscRelease(
        **_osc("1.9.0"), protocol="0.1.1", initdata_encoding="base64", initdata_annotation=RUNTIME_ANNOTATION, ssh_key=True,
        required_secrets=("peer-pods-secret", "ssh-key-secret"), min_openshift={"4.15": ""},
        image_policy_uri="kbs:///default/security-policy/osc", agent_policy_annotation=True, secure_boot_key=True,
    ),
    OscRelease(
        **_osc("1.10.0", "1.10.1"), protocol="0.2.0", initdata_encoding="gzip+base64",
        initdata_annotation=RUNTIME_ANNOTATION, ssh_key=True, required_secrets=("peer-pods-secret", "ssh-key-secret"),
        min_openshift={"4.16": ""}, agent_policy_annotation=True, secure_boot_key=True,
    ),
    OscRelease(
        **_osc("1.11.0", "1.11.1"), protocol="0.4.0", initdata_encoding="gzip+base64",
        initdata_annotation=HYPERVISOR_ANNOTATION,
        min_openshift={"4.17": "4.17.45", "4.18": "4.18.30", "4.19": "4.19.20", "4.20": "4.20.6"},
        min_openshift_bare_metal={"4.20": "4.20.6"}, gate_overwrites_initdata=True, kata_cc_by_operator=True,
        runtime_classes=("kata", "kata-remote", "kata-cc"),
    ),
    OscRelease(
        **_osc("1.12.0", "1.12.1"), protocol="0.4.0", initdata_encoding="gzip+base64",
        initdata_annotation=HYPERVISOR_ANNOTATION, min_openshift={"4.19": "4.19.28", "4.20": "4.20.6"},
        min_openshift_bare_metal={"4.20": "4.20.6"}, gate_overwrites_initdata=True, kata_cc_by_operator=True,
        runtime_classes=("kata", "kata-remote", "kata-cc", "kata-cc-nvidia-gpu"),
    ),
    OscRelease(
        **_osc("1.13.0", "1.13.1"), protocol="0.4.0", initdata_encoding="gzip+base64",
        initdata_annotation=HYPERVISOR_ANNOTATION, min_openshift={"4.18": "4.18.38", "4.19": "", "4.20": ""},
        min_openshift_bare_metal={"4.19": "4.19.38", "4.20": "4.20.29", "4.21": "4.21.24", "4.22": "4.22.5"},
        gate_overwrites_initdata=True, watches_peer_pods_cm=True, kata_cc_by_operator=True, proxy_timeout="8m",
        agent_rego=("v0", "v1"),  # the kata of this release is not settled; 3.30 and newer read v1
        runtime_classes=("kata", "kata-remote", "kata-cc", "kata-nvidia-gpu", "kata-cc-nvidia-gpu"),
    ),
)

_TRUSTEE_RELEASES = (
    TrusteeRelease(
        **_trustee("0.2.0"), generation="A", protocol="0.1.0", kbs_config_key="kbs-config.json", kbs_config_format="json",
        resource_policy_readable=False, reference_api="",
        rvps_key="reference-values.json", rvps_format="empty", resource_policy_key="policy.rego",
        attestation_policy_key="default.rego", policy_ids=("default",), attestation_rules="allow", rego=("v0",),
        reference_lookup="data.reference", resource_policy_data="path", azure_snp="azsnpvtpm", azure_tdx="aztdxvtpm",
        submodule="", token_type="Simple", admin="public_key", signer_fields=False, writes_is_ready=False,
        watches_deployment=False, kbsconfig_fields=(*_FIELDS_02, "tdxConfigSpec"), milan_only=("trustee-operator.v0.2.0",),
    ),
    TrusteeRelease(
        **_trustee("0.3.0"), generation="B", protocol="0.1.1", kbs_config_key="kbs-config.toml", kbs_config_format="toml-b",
        resource_policy_readable=True, reference_api="",
        rvps_key="reference-values.json", rvps_format="hash-value", resource_policy_key="policy.rego",
        attestation_policy_key="default.rego", policy_ids=("default",), attestation_rules="claims", rego=("v0",),
        reference_lookup="data.reference", resource_policy_data="plugin-path", azure_snp="azsnpvtpm",
        azure_tdx="aztdxvtpm", submodule="cpu", token_type="Ear", admin="public_key", signer_fields=False,
        writes_is_ready=False, watches_deployment=False,
        unauthenticated_attestation_policy=("trustee-operator.v0.3.0",),
        kbsconfig_fields=(*_FIELDS_02, "tdxConfigSpec"), milan_only=("trustee-operator.v0.3.0",),
    ),
    TrusteeRelease(
        **_trustee("0.4.0", "0.4.1", "0.4.2"), generation="B", protocol="0.2.0", kbs_config_key="kbs-config.toml",
        resource_policy_readable=True, reference_api="",
        kbs_config_format="toml-b", rvps_key="reference-values.json", rvps_format="hash-value",
        resource_policy_key="policy.rego", attestation_policy_key="default.rego", policy_ids=("default",),
        attestation_rules="claims", rego=("v0", "v1"), reference_lookup="data.reference",
        resource_policy_data="plugin-path", azure_snp="azsnpvtpm", azure_tdx="aztdxvtpm", submodule="cpu",
        token_type="Ear", admin="public_key", signer_fields=False, writes_is_ready=False, watches_deployment=False,
        kbsconfig_fields=(*_FIELDS_04, "tdxConfigSpec"),
        milan_only=("trustee-operator.v0.4.0", "trustee-operator.v0.4.1"),
        unauthenticated_attestation_policy=("trustee-operator.v0.4.0", "trustee-operator.v0.4.1", "trustee-operator.v0.4.2"),
    ),
    TrusteeRelease(
        **_trustee("1.0.0"), generation="B", protocol="0.4.0", kbs_config_key="kbs-config.toml", kbs_config_format="toml-b",
        resource_policy_readable=True, reference_api="map",
        rvps_key="reference-values.json", rvps_format="value", resource_policy_key="policy.rego",
        attestation_policy_key="default_cpu.rego", policy_ids=("default_cpu", "default_gpu"), attestation_rules="claims",
        rego=("v0",), reference_lookup="data.reference", resource_policy_data="plugin-path", azure_snp="azsnpvtpm",
        azure_tdx="aztdxvtpm", submodule="cpu0", token_type="Ear", admin="public_key", signer_fields=True,
        crs=("KbsConfig", "TrusteeConfig"), sample_secret="kbsres1", watches_deployment=False, worker_count=True,
        after_edit_attestation_policy="restart", kbsconfig_fields=(*_FIELDS_10, "tdxConfigSpec"),
        milan_only=("trustee-operator.v1.0.0",),
    ),
    TrusteeRelease(
        **_trustee("1.1.0"), generation="C", protocol="0.4.0", kbs_config_key="kbs-config.toml", kbs_config_format="toml-c",
        resource_policy_readable=True, reference_api="item",
        rvps_key="reference-values.json", rvps_format="value", resource_policy_key="policy.rego",
        attestation_policy_key="default_cpu.rego", policy_ids=("default_cpu", "default_gpu"),
        attestation_rules="trust_claims", rego=("v1",), reference_lookup="query_reference_value",
        resource_policy_data="plugin", azure_snp="az-snp-vtpm", azure_tdx="az-tdx-vtpm", submodule="cpu0",
        token_type="Ear", admin="type", signer_fields=True, crs=("KbsConfig", "TrusteeConfig"), sample_secret="kbsres1",
        expiry_enforced=False, gpu_policy=True, gpu_policy_key="default_gpu.rego", worker_count=True,
        after_edit_attestation_policy="restart", kbsconfig_fields=(*_FIELDS_11, "tdxConfigSpec"),
    ),
    TrusteeRelease(
        **_trustee("1.2.0", "1.2.1"), generation="D", protocol="0.4.0", kbs_config_key="kbs-config.toml",
        resource_policy_readable=False, reference_api="item",
        kbs_config_format="toml-d", rvps_key="reference_value", rvps_format="map",
        resource_policy_key="resource-policy.rego", attestation_policy_key="default_cpu.rego",
        policy_ids=("default_cpu", "default_gpu"), attestation_rules="trust_claims", rego=("v1",),
        reference_lookup="query_reference_value", resource_policy_data="plugin", azure_snp="az-snp-vtpm",
        azure_tdx="az-tdx-vtpm", submodule="cpu0", token_type="Ear", admin="authorization_mode", signer_fields=True,
        crs=("KbsConfig", "TrusteeConfig"), default_cr="TrusteeConfig", sample_secret="attestation-status",
        insecure_token_key="insecure_header_jwk", expiry_enforced=False, reference_values_required=False,
        migration_annotation="kbs.confidentialcontainers.org/migrated-from-v1.1.0", migration_value="v1.2.0",
        gpu_policy=True, gpu_policy_key="default_gpu.rego", tdx_config=False,
        worker_count=True, after_edit_config="rollout", after_edit_resource_policy="rollout",
        after_edit_attestation_policy="rollout", after_edit_reference_values="rollout",
        after_edit_secret="delete-pods", after_edit_keys="delete-pods", restart_by="delete-pods",
        kbsconfig_fields=_FIELDS_11,
    ),
)

OSC_RELEASES = {release.name: release for release in _OSC_RELEASES}
TRUSTEE_RELEASES = {release.name: release for release in _TRUSTEE_RELEASES}
PAIRS = ("1.8/0.2", "1.9/0.3", "1.10/0.4", "1.11/1.0", "1.12/1.1", "1.13/1.2")


def parse(coco_release: Any) -> Pair:
    """The pair that ``coco_release`` names (``"1.11/1.0"``).

    Raises :class:`CocoError` for anything else, listing the known pairs; an unknown release is never guessed.
    """
    known = ", ".join(PAIRS)
    text = str(coco_release or "").strip()
    if not text:
        raise CocoError("coco_release is not set", "it has no default",
                        f"Set coco_release to a pair of an OSC and a Trustee release, one of: {known}.")
    osc, slash, trustee = text.partition("/")
    if not slash:
        raise CocoError(f"coco_release {text!r} is no pair", "there is no slash in it",
                        f"Name an OSC and a Trustee release, one of: {known}.")
    if osc not in OSC_RELEASES or trustee not in TRUSTEE_RELEASES:
        which = f"OSC {osc}" if osc not in OSC_RELEASES else f"Trustee {trustee}"
        raise CocoError(f"coco_release {text!r} is unknown", f"{which} is not in the release table",
                        f"Use one of the known pairs: {known}.")
    if text not in PAIRS:
        raise CocoError(f"coco_release {text!r} is not an allowed pair",
                        f"OSC {osc} and Trustee {trustee} do not speak the same protocol or were never released together",
                        f"Use one of the known pairs: {known}.")
    return Pair(text, OSC_RELEASES[osc], TRUSTEE_RELEASES[trustee])


def check_csv(half: OscRelease | TrusteeRelease, installed: str) -> str:
    """``default`` or ``accepted`` for an installed CSV of the release.

    Raises :class:`CocoError` for another one: nothing is upgraded or replaced without being asked.
    """
    if installed == half.csv:
        return "default"
    if installed in half.csvs:
        return "accepted"
    raise CocoError(
        f"The installed operator {installed} is not of release {half.name}",
        f"release {half.name} accepts {', '.join(half.csvs)}",
        "Set coco_release to the pair of the installed operators, or upgrade the operator step by step first.",
    )


def openshift_floor(osc: OscRelease, version: str, platform: str = "azure") -> str:
    """The lowest OpenShift version on which the release runs within the minor of ``version``; empty when it is met.

    ``platform``: ``azure`` (peer pods) or ``bare_metal``. A minor newer than every listed one is met; an older one gives the
    lowest listed floor.
    """
    numbers = _numbers(version)
    listed = osc.min_openshift if platform == "azure" else osc.min_openshift_bare_metal
    floors = {_numbers(minor): _numbers(floor or minor) for minor, floor in listed.items()}
    if not floors or numbers[:2] > max(floors):
        return ""
    floor = floors.get(numbers[:2], min(floors.values()))
    return "" if numbers >= floor else ".".join(map(str, floor))


def _numbers(version: str) -> tuple[int, ...]:
    found = []
    for part in version.split("-")[0].split("+")[0].split("."):
        digits = "".join(c for c in part if c.isdigit())
        found.append(int(digits or 0))
    return tuple(found)


def facts(pair: Pair) -> dict[str, Any]:
    """The pair as plain data for templates: ``name``, ``osc``, ``trustee`` (lists instead of tuples)."""
    plain: dict[str, Any] = _plain({"name": pair.name, "osc": asdict(pair.osc), "trustee": asdict(pair.trustee)})
    plain["osc"]["package"] = OSC_PACKAGE
    plain["trustee"]["package"] = TRUSTEE_PACKAGE
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value
