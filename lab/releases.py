"""The lab's own release table: what each stand-in stands for and how that release behaves.

It shares nothing with the collection's table. Facts: reference/operators.md 1 to 4, deployment.md 1.1.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

_OSC_REPOSITORY = "registry.redhat.io/openshift-sandboxed-containers"
_TRUSTEE_REPOSITORY = "registry.redhat.io/build-of-trustee"

# Image repositories without tag or digest, by the short name that the lab uses.
IMAGES: dict[str, str] = {
    "osc-operator": f"{_OSC_REPOSITORY}/osc-rhel9-operator",
    "osc-monitor": f"{_OSC_REPOSITORY}/osc-monitor-rhel9",
    "caa": f"{_OSC_REPOSITORY}/osc-cloud-api-adaptor-rhel9",
    "peerpods-webhook": f"{_OSC_REPOSITORY}/osc-cloud-api-adaptor-webhook-rhel9",
    "podvm-builder": f"{_OSC_REPOSITORY}/osc-podvm-builder-rhel9",
    "podvm-payload": f"{_OSC_REPOSITORY}/osc-podvm-payload-rhel9",
    "podvm-oci": f"{_OSC_REPOSITORY}/osc-dm-verity-image",
    "trustee-operator": f"{_TRUSTEE_REPOSITORY}/trustee-rhel9-operator",
    "trustee": f"{_TRUSTEE_REPOSITORY}/trustee-rhel9",
    "ubi": "registry.access.redhat.com/ubi9/ubi",
    "ubi-minimal": "registry.access.redhat.com/ubi9/ubi-minimal",
    "hello-openshift": "quay.io/openshift/origin-hello-openshift",
}

OSC_NAMESPACE = "openshift-sandboxed-containers-operator"
STAND_IN = "lab.confidential.containers/stand-in"


def pinned(image: str, version: str) -> str:
    """The reference a CSV of ``version`` pins for the short name ``image``: repository and a made-up digest."""
    repository = IMAGES[image]
    return f"{repository}@sha256:{hashlib.sha256(f'{repository}:{version}'.encode()).hexdigest()}"


@dataclass(frozen=True)
class Osc:
    """One z-stream of the sandboxed containers operator."""

    version: str
    replaces: str
    created: str
    built: bool = False  # does lab-osc imitate this version's behaviour
    copy_container: bool = True  # init container `copy` in the image job (1.11 and older)
    annotation: str = "io.katacontainers.config.hypervisor.cc_init_data"

    @property
    def csv(self) -> str:
        return f"sandboxed-containers-operator.v{self.version}"


@dataclass(frozen=True)
class Trustee:
    """One release of the trustee operator."""

    version: str
    replaces: str
    created: str
    built: bool = False  # does lab-trustee-operator imitate this version's behaviour
    routes: bool = False  # RBAC on routes (1.1 and newer)

    @property
    def csv(self) -> str:
        return f"trustee-operator.v{self.version}"


OSC: dict[str, Osc] = {
    release.version: release
    for release in (
        Osc("1.11.0", "sandboxed-containers-operator.v1.10.3", "2025-11-19T09:12:44Z", built=True),
        Osc("1.11.1", "sandboxed-containers-operator.v1.11.0", "2025-12-16T10:02:17Z", built=True),
        Osc("1.12.0", "sandboxed-containers-operator.v1.11.1", "2026-03-26T08:41:30Z", copy_container=False),
        Osc("1.12.1", "sandboxed-containers-operator.v1.12.0", "2026-04-14T11:20:05Z", copy_container=False),
    )
}

TRUSTEE: dict[str, Trustee] = {
    release.version: release
    for release in (
        Trustee("1.0.0", "trustee-operator.v0.4.2", "2025-12-02T13:25:10Z", built=True),
        Trustee("1.1.0", "trustee-operator.v1.0.0", "2026-04-08T07:55:51Z", routes=True),
    )
}


@dataclass(frozen=True)
class Release:
    """A pair of releases as the lab offers it: what the index holds, what the cluster is, what the image measures."""

    name: str
    osc: str  # default version
    trustee: str
    osc_index: tuple[str, ...]  # versions in the index, oldest first; the last is newer than the pair
    trustee_index: tuple[str, ...]
    openshift: str
    protocol: str
    guest_tee: str
    # PCRs of the lab's pod VM image, sha256 bank, 64 hex digits. pcr09 begins with zeros: a measurement is a byte
    # string, not a number.
    pcrs: dict[int, str] = field(default_factory=dict)

    def measurements(self) -> dict[str, dict[str, dict[str, str]]]:
        """The content of ``measurements.json`` (reference/deployment.md 6.2)."""
        return {"measurements": {"sha256": {f"pcr{n:02}": f"0x{value}" for n, value in sorted(self.pcrs.items())}}}


RELEASES: dict[str, Release] = {
    "1.11/1.0": Release(
        name="1.11/1.0",
        osc="1.11.1",
        trustee="1.0.0",
        osc_index=("1.11.0", "1.11.1", "1.12.0", "1.12.1"),
        trustee_index=("1.0.0", "1.1.0"),
        openshift="4.20.8",
        protocol="0.4.0",
        guest_tee="azsnpvtpm",
        pcrs={
            3: "3d458cfe55cc03ea1f443f1562beec8df51c75e14a9fcf9a7234a13f198e7969",
            9: "00b7a6c1f04d5e29d86a3f1c92e7405bb81d6ce3a4f25097c13e8d70a95b64f2",
            11: "8f1e4c07b92d35a6e0c8715f3b6ad942170e5cb8a3f9d46e2b70c19583da6e4f",
            12: "0c5e2a97d1b843f6709fe84d3c1ba265f89d40e7b3126c5aa8d9f701e46b3c28",
        },
    ),
}
