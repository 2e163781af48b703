"""The lab's own release table: what each stand-in stands for and how that release behaves.

It shares nothing with the collection's table. Facts: reference/operators.md 1 to 4, 9 and 11, deployment.md 1.1 to 1.4,
trustee.md 4. Nothing else in the lab compares versions: a program looks up its row and reads the flags.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, field, replace

_OSC_REPOSITORY = "registry.redhat.io/openshift-sandboxed-containers"
_TRUSTEE_REPOSITORY = "registry.redhat.io/build-of-trustee"
_PREVIEW_REPOSITORY = "registry.redhat.io/confidential-compute-attestation-tech-preview"

# Image repositories without tag or digest, by the short name that the lab uses.
IMAGES: dict[str, str] = {
    "osc-operator": f"{_OSC_REPOSITORY}/osc-rhel9-operator",
    "osc-monitor": f"{_OSC_REPOSITORY}/osc-monitor-rhel9",
    "caa": f"{_OSC_REPOSITORY}/osc-cloud-api-adaptor-rhel9",
    "peerpods-webhook": f"{_OSC_REPOSITORY}/osc-cloud-api-adaptor-webhook-rhel9",
    "podvm-builder": f"{_OSC_REPOSITORY}/osc-podvm-builder-rhel9",
    "podvm-payload": f"{_OSC_REPOSITORY}/osc-podvm-payload-rhel9",
    "podvm-oci": f"{_OSC_REPOSITORY}/osc-dm-verity-image",
    "must-gather": f"{_OSC_REPOSITORY}/must-gather-rhel9",
    "storage-helper": f"{_OSC_REPOSITORY}/storage-helper",
    "trustee-operator": f"{_TRUSTEE_REPOSITORY}/trustee-rhel9-operator",
    "trustee": f"{_TRUSTEE_REPOSITORY}/trustee-rhel9",
    # Up to Trustee 0.4.1; the reference gives the repositories' parent, the names below it are assumed.
    "trustee-operator-preview": f"{_PREVIEW_REPOSITORY}/trustee-rhel9-operator",
    "trustee-preview": f"{_PREVIEW_REPOSITORY}/trustee-rhel9",
    "kube-rbac-proxy": "registry.redhat.io/openshift4/ose-kube-rbac-proxy-rhel9",  # repository assumed
    "ubi": "registry.access.redhat.com/ubi9/ubi",
    "ubi-minimal": "registry.access.redhat.com/ubi9/ubi-minimal",
    "hello-openshift": "quay.io/openshift/origin-hello-openshift",
}

OSC_NAMESPACE = "openshift-sandboxed-containers-operator"
STAND_IN = "lab.confidential.containers/stand-in"


def pinned(image: str, version: str) -> str:
    """The reference a CSV of ``version`` pins for the short name ``image``: repository and a made-up digest."""
    release = TRUSTEE.get(version)
    preview = f"{image}-preview"
    repository = IMAGES[preview if release and release.preview_images and preview in IMAGES else image]
    return f"{repository}@sha256:{hashlib.sha256(f'{repository}:{version}'.encode()).hexdigest()}"


@functools.cache
def _pins() -> dict[str, str]:
    versions = [*OSC, *TRUSTEE]
    return {pinned(image, version): version for image in IMAGES for version in versions
            if (image in ("trustee", "trustee-operator")) == (version in TRUSTEE)}


def release_of(reference: str) -> str:
    """The version whose CSV pins this image reference; empty for any other reference."""
    return _pins().get(reference, "")


# PCRs of the lab's pod VM image, sha256 bank, 64 hex digits, by OSC minor. pcr09 begins with zeros: a measurement is a
# byte string, not a number.
_PCRS_1_9 = {
    3: "3d458cfe55cc03ea1f443f1562beec8df51c75e14a9fcf9a7234a13f198e7969",
    9: "0008d1f5a93c6e7204bd58e1f73a90c26d4be8157fa03c92d6e5184b70fa2c3d",
    11: "b3f05c81d7e92a644c1f8e05b36d7a29e0845fc1927bd36a58e40cf7192da6b8",
    12: "5e81c40fa79d3b26c8e0714d92bf5a638d1e07fc46a3952bd08e7c1f6a54b930",
}
_PCRS_1_11 = {
    3: "3d458cfe55cc03ea1f443f1562beec8df51c75e14a9fcf9a7234a13f198e7969",
    9: "00b7a6c1f04d5e29d86a3f1c92e7405bb81d6ce3a4f25097c13e8d70a95b64f2",
    11: "8f1e4c07b92d35a6e0c8715f3b6ad942170e5cb8a3f9d46e2b70c19583da6e4f",
    12: "0c5e2a97d1b843f6709fe84d3c1ba265f89d40e7b3126c5aa8d9f701e46b3c28",
}
_PCRS_1_12 = {
    3: "3d458cfe55cc03ea1f443f1562beec8df51c75e14a9fcf9a7234a13f198e7969",
    9: "004fe2b81a7d9630c5d8e14f07b3a96c2e5d81fb74c093a6d2817e5cf04b39ea",
    11: "27c9e0b45f8d1a63e7402bd95c8f16a3b0e47d92c5f83a61749de08b2fc65130",
    12: "e60a8d3b179f42c5d08e73a6b14cf95228d7e30f6b9a4c81f57d02e93ac6b418",
}
_PCRS_1_13 = {
    3: "3d458cfe55cc03ea1f443f1562beec8df51c75e14a9fcf9a7234a13f198e7969",
    9: "00d93a6f814ce7205b8fa1d64e30c97b15f2e8a0d7634cb92e0f71856adc48b3",
    11: "6ab4f19d02e87c35d1f04a9be863c25740bd9e1f7a5c38d6e20b14f98c7da563",
    12: "91d7c50e3a8bf462e5091cd7b48fa36d72e05bf918c43ad60e7f925b1da8c43e",
}


@dataclass(frozen=True)
class Osc:
    """One z-stream of the sandboxed containers operator, with what it installs and the pod VM image that it builds.

    The defaults are those of 1.11.
    """

    version: str
    replaces: str
    created: str
    built: bool = False  # does lab-osc imitate this version's behaviour
    pcrs: dict[int, str] = field(default_factory=dict)

    # The bundle
    rbac_proxy: bool = False  # second container of the manager (1.9 and older)
    reads_accounts: bool = True  # RBAC: get, list of serviceaccounts and credentialsrequests (1.10 and newer)
    network_policies: bool = False  # RBAC on networkpolicies, an own rule to read pods (1.13)
    more_environment: bool = False  # RELATED_IMAGE_MUST_GATHER, _STORAGE_HELPER, TP_KATA_DAEMONSET (1.13)
    manager_token: bool = False  # volume bound-sa-token of the manager (1.13)

    # The operator
    machine_configs: bool = False  # 50-kata-remote and 40-worker-kata-remote-config (1.10 and older)
    class_finalizer: bool = True  # RuntimeClasses wait for their pods (1.11 and newer)
    owns_image_config: bool = True  # azure-podvm-image-cm belongs to the KataConfig (1.11 and newer)
    gate_owns_initdata: bool = True  # gate off writes a default INITDATA (1.11 and newer)
    deployment_mode: bool = False  # key deploymentMode of osc-feature-gates (1.12 and newer)
    gallery_role: bool = True  # CredentialsRequest with a role for galleries and service accounts (1.11 and newer)
    runtime_classes: tuple[str, ...] = ("kata", "kata-remote")
    rolls_caa: bool = False  # annotation peer-pods-cm/version on osc-caa-ds, peer-pods-cm watched (1.13)
    oci_image: bool = True  # the job gets PODVM_IMAGE_URI (1.10 and newer); before, it builds of the payload
    copy_container: bool = True  # init container `copy` in the image job (1.11 and older)
    job_token: bool = False  # volume bound-sa-token in the image jobs (1.12 and newer)

    # cloud-api-adaptor and what runs in a pod VM
    annotation: str = "io.katacontainers.config.hypervisor.cc_init_data"
    gzip_initdata: bool = True  # gzip and base64, checked; up to 1.9 handed on as it is
    ssh_key: bool = False  # the key file is read for every VM (1.10 and older)
    image_policy: str = ""  # URI baked into the image (1.9 and older); empty: initdata names it
    tee: str = "azsnpvtpm"  # name of the attester's TEE on the wire
    protocol: str = "0.4.0"

    @property
    def csv(self) -> str:
        return f"sandboxed-containers-operator.v{self.version}"


@dataclass(frozen=True)
class Trustee:
    """One release of the trustee operator. The defaults are those of 1.0."""

    version: str
    replaces: str
    created: str
    built: bool = False  # does lab-trustee-operator imitate this version's behaviour

    # The bundle
    preview_images: bool = False  # repositories of the technology preview (0.4.1 and older)
    writes_inputs: bool = True  # RBAC: all verbs on configmaps and secrets (1.0 and newer)
    proxies: bool = True  # RBAC on the cluster's Proxy, and its variables in the KBS (1.0 and newer)
    routes: bool = False  # RBAC on routes, Route kbs-route of a TrusteeConfig (1.1 and newer)
    claims: bool = False  # RBAC on persistentvolumeclaims, persistentvolumes and apiservers (1.2)
    microservices_image: bool = True  # KBS_IMAGE_NAME_MICROSERVICES (0.4 and newer)
    memory: tuple[str, str] = ("500m/128Mi", "10m/64Mi")  # limits, requests of the manager
    metrics_port: bool = False  # declared port 8443 (1.2)

    # KbsConfig
    profiles: bool = True  # TrusteeConfig (1.0 and newer)
    replicas: bool = True  # KbsDeploymentSpec (0.4 and newer)
    signer: bool = True  # kbsAttestationKeySecretName, kbsAttestationCertSecretName (1.0 and newer)
    gpu_policy: bool = False  # kbsGpuAttestationPolicyConfigMapName (1.1 and newer)
    tdx_config: bool = True  # tdxConfigSpec (1.1 and older)
    cert_cache: str = "list"  # kbsLocalCertCacheSpec: "" none (0.3), "one" (0.4), "list" (1.0 and newer)
    cert_cache_path: str = "/etc/kbs/certs"
    values_needed: bool = True  # kbsRvpsRefValuesConfigMapName is mandatory (1.1 and older)
    status_required: bool = False  # isReady is listed as required and always written (1.1 and newer)

    # The operator
    layout: str = "files"  # how inputs reach the KBS: "directories" (0.4 and older), "files" (1.0, 1.1), "storage" (1.2)
    writes_status: bool = True  # isReady (1.0 and newer)
    owns_deployment: bool = False  # owner of trustee-deployment, which is watched too (1.1 and newer)
    events: bool = False  # on the KbsConfig (1.1; 1.2 writes them to events.k8s.io, for which it has no right)
    sorted_environment: bool = False  # the KBS's variables by name, not in a Go map's order (1.2)
    whole_template: bool = False  # pod template and replicas are written whole (1.2), before only the pod's spec
    requeue_after_create: bool = False  # nothing more in the pass that makes the Deployment (1.2)
    migration: bool = False  # config maps without the annotation are taken for those of 1.1 (1.2)

    # TrusteeConfig
    ready_early: bool = True  # isReady before the KBS is (1.0), with polling; newer ones watch the KbsConfig
    config_format: str = "B"  # of the generated kbs-config.toml: B (1.0), C (1.1), D (1.2)
    sample_secret: str = "kbsres1"

    @property
    def csv(self) -> str:
        return f"trustee-operator.v{self.version}"


# One row a minor release; z-streams differ by name and date only.
_OSC_1_11 = Osc("1.11", "", "", built=True, pcrs=_PCRS_1_11)
_OSC_1_12 = replace(_OSC_1_11, pcrs=_PCRS_1_12, copy_container=False, job_token=True, deployment_mode=True,
                    tee="az-snp-vtpm")
_OSC_1_13 = replace(_OSC_1_12, pcrs=_PCRS_1_13, network_policies=True, more_environment=True, manager_token=True,
                    runtime_classes=("kata", "kata-nvidia-gpu", "kata-remote"), rolls_caa=True)
_OSC_1_10 = replace(_OSC_1_11, built=False, pcrs={}, machine_configs=True, class_finalizer=False,
                    owns_image_config=False, gate_owns_initdata=False, gallery_role=False,
                    annotation="io.katacontainers.config.runtime.cc_init_data", ssh_key=True, protocol="0.2.0")
_OSC_1_9 = replace(_OSC_1_10, built=True, pcrs=_PCRS_1_9, rbac_proxy=True, reads_accounts=False, oci_image=False,
                   gzip_initdata=False, image_policy="kbs:///default/security-policy/osc", protocol="0.1.1")


def _osc(row: Osc, version: str, before: str, created: str) -> Osc:
    return replace(row, version=version, replaces=f"sandboxed-containers-operator.v{before}", created=created)


OSC: dict[str, Osc] = {
    release.version: release
    for release in (
        _osc(_OSC_1_9, "1.9.0", "1.8.1", "2025-04-17T12:31:09Z"),
        _osc(_OSC_1_10, "1.10.0", "1.9.0", "2025-07-23T09:40:51Z"),
        _osc(_OSC_1_10, "1.10.1", "1.10.0", "2025-08-06T14:05:22Z"),
        _osc(_OSC_1_11, "1.11.0", "1.10.3", "2025-11-19T09:12:44Z"),
        _osc(_OSC_1_11, "1.11.1", "1.11.0", "2025-12-16T10:02:17Z"),
        _osc(_OSC_1_12, "1.12.0", "1.11.1", "2026-03-26T08:41:30Z"),
        _osc(_OSC_1_12, "1.12.1", "1.12.0", "2026-04-14T11:20:05Z"),
        _osc(_OSC_1_13, "1.13.0", "1.12.1", "2026-07-14T08:03:40Z"),
        _osc(_OSC_1_13, "1.13.1", "1.13.0", "2026-07-24T10:47:12Z"),
    )
}

_TRUSTEE_1_0 = Trustee("1.0", "", "", built=True)
_TRUSTEE_1_1 = replace(
    _TRUSTEE_1_0, routes=True, gpu_policy=True, status_required=True, owns_deployment=True, events=True, ready_early=False,
    config_format="C", cert_cache_path="/opt/confidential-containers/attestation-service/kds-store/vcek")
_TRUSTEE_1_2 = replace(
    _TRUSTEE_1_1, claims=True, memory=("500m/512Mi", "10m/256Mi"), metrics_port=True, tdx_config=False,
    values_needed=False, layout="storage", events=False, sorted_environment=True, whole_template=True,
    requeue_after_create=True, migration=True, config_format="D", sample_secret="attestation-status")
_TRUSTEE_0_4 = replace(
    _TRUSTEE_1_0, built=False, writes_inputs=False, proxies=False, profiles=False, signer=False, cert_cache="one",
    layout="directories", writes_status=False)
_TRUSTEE_0_3 = replace(
    _TRUSTEE_0_4, built=True, preview_images=True, microservices_image=False, replicas=False, cert_cache="")


def _trustee(row: Trustee, version: str, before: str, created: str) -> Trustee:
    return replace(row, version=version, replaces=f"trustee-operator.v{before}", created=created)


TRUSTEE: dict[str, Trustee] = {
    release.version: release
    for release in (
        _trustee(_TRUSTEE_0_3, "0.3.0", "0.2.0", "2025-04-17T10:18:26Z"),
        _trustee(replace(_TRUSTEE_0_4, preview_images=True), "0.4.0", "0.3.0", "2025-07-22T11:02:33Z"),
        _trustee(replace(_TRUSTEE_0_4, preview_images=True), "0.4.1", "0.4.0", "2025-08-04T09:55:12Z"),
        _trustee(_TRUSTEE_0_4, "0.4.2", "0.4.1", "2025-09-24T13:37:48Z"),
        _trustee(_TRUSTEE_1_0, "1.0.0", "0.4.2", "2025-12-02T13:25:10Z"),
        _trustee(_TRUSTEE_1_1, "1.1.0", "1.0.0", "2026-04-08T07:55:51Z"),
        _trustee(_TRUSTEE_1_2, "1.2.0", "1.1.0", "2026-07-10T08:12:57Z"),
        _trustee(_TRUSTEE_1_2, "1.2.1", "1.2.0", "2026-07-17T12:44:03Z"),
    )
}


@dataclass(frozen=True)
class Release:
    """A pair of releases as the lab offers it: what the index holds and what the cluster is."""

    name: str
    osc: str  # default version
    trustee: str
    osc_index: tuple[str, ...]  # versions in the index, oldest first; the last is newer than the pair where one exists
    trustee_index: tuple[str, ...]
    openshift: str  # within the floors of deployment.md 1.1

    @property
    def pcrs(self) -> dict[int, str]:
        """PCRs of the pod VM image that the pair's operator builds."""
        return OSC[self.osc].pcrs

    def measurements(self) -> dict[str, dict[str, dict[str, str]]]:
        """The content of ``measurements.json`` (reference/deployment.md 6.2)."""
        return {"measurements": {"sha256": {f"pcr{n:02}": f"0x{value}" for n, value in sorted(self.pcrs.items())}}}


# Only pairs whose two halves the lab imitates.
RELEASES: dict[str, Release] = {
    release.name: release
    for release in (
        Release("1.9/0.3", "1.9.0", "0.3.0", ("1.9.0", "1.10.0", "1.10.1"), ("0.3.0", "0.4.0", "0.4.1", "0.4.2"), "4.17.45"),
        Release("1.11/1.0", "1.11.1", "1.0.0", ("1.11.0", "1.11.1", "1.12.0", "1.12.1"), ("1.0.0", "1.1.0"), "4.20.8"),
        Release("1.12/1.1", "1.12.1", "1.1.0", ("1.12.0", "1.12.1", "1.13.0", "1.13.1"), ("1.1.0", "1.2.0", "1.2.1"),
                "4.20.18"),
        Release("1.13/1.2", "1.13.1", "1.2.1", ("1.13.0", "1.13.1"), ("1.2.0", "1.2.1"), "4.20.30"),
    )
}
