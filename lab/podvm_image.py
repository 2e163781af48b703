"""lab-podvm-image: what runs in the pods of the image jobs (reference/operators.md 3.5).

``create`` makes gallery, image definition and version at Azure Resource Manager (lab-arm), what is in the image in a file below
``LAB_CLOUD``/images, and writes its id into ``peer-pods-cm``; ``delete`` takes all away again. Anything else is the init container that
copies the payload, of which the image is built where the job gets no ``PODVM_IMAGE_URI`` (1.9 and older). The real script's storage
account and disk are not modelled.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from lab.azure import GALLERIES, Azure, AzureError
from lab.kube import ApiError, Kube
from lab.paths import rooted, time_scale
from lab.program import log, main
from lab.releases import OSC, Osc, pinned, release_of

Environment = dict[str, str]
NEEDED = ("AZURE_SUBSCRIPTION_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_TENANT_ID", "AZURE_RESOURCE_GROUP",
          "AZURE_REGION", "IMAGE_GALLERY_NAME", "IMAGE_DEFINITION_NAME", "IMAGE_VERSION")
ANNOTATIONS = ("LATEST_IMAGE_ID", "IMAGE_GALLERY_NAME")
CREATE_SECONDS, DELETE_SECONDS = 100, 30
PAYLOAD = "/payload/podvm-binaries.tar.gz"
DEFAULT_RELEASE = "1.11.1"  # of an image that no CSV of the lab pins


class Failed(Exception):
    """The script's error; the pod ends with exit code 1."""


def action_of(words: list[str]) -> str:
    """``create``, ``delete`` or ``copy`` by the container's arguments."""
    return next((word for word in words if word in ("create", "delete")), "copy")


def check(environment: Environment) -> None:
    """The script's checks before it does anything. Raises :class:`Failed`."""
    if environment.get("CLOUD_PROVIDER") != "azure":
        raise Failed("CLOUD_PROVIDER is empty or not set to azure")
    release = OSC[environment.get("LAB_RELEASE") or DEFAULT_RELEASE]
    for name in (*NEEDED, *(("PODVM_IMAGE_URI",) if release.oci_image else ())):
        if not environment.get(name):
            raise Failed(f"{name} is empty")


def image_id(environment: Environment) -> str:
    """The ARM id of the gallery image version."""
    return (
        f"/subscriptions/{environment['AZURE_SUBSCRIPTION_ID']}/resourceGroups/{environment['AZURE_RESOURCE_GROUP']}"
        f"/providers/Microsoft.Compute/galleries/{environment['IMAGE_GALLERY_NAME']}"
        f"/images/{environment['IMAGE_DEFINITION_NAME']}/versions/{environment['IMAGE_VERSION']}"
    )


def image_file(cloud: Path, identity: str) -> Path:
    """Where the lab's cloud keeps an image."""
    return cloud / "images" / f"{hashlib.sha256(identity.encode()).hexdigest()[:8]}.json"


def source_of(environment: Environment) -> Osc:
    """The release whose pod VM image is built. Raises :class:`Failed` for an unknown one."""
    uri = environment.get("PODVM_IMAGE_URI", "")
    if uri:
        reference = uri.removeprefix("oci::")
        release = OSC.get(release_of(reference))
        if release is None or not release.pcrs or reference != pinned("podvm-oci", release.version):
            raise Failed(f"Failed to get the pod VM image {reference}: manifest unknown")
        return release
    try:
        return OSC[rooted(PAYLOAD).read_text().strip()]
    except (OSError, KeyError) as error:
        raise Failed(f"Failed to unpack the payload {PAYLOAD}: {error}") from error


def copy_payload(environment: Environment) -> None:
    """The init container: the payload, here the release's name, for the container after it."""
    target = rooted(PAYLOAD)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text((environment.get("LAB_RELEASE") or DEFAULT_RELEASE) + "\n")
    log.info("payload copied")


def image_of(environment: Environment) -> dict[str, Any]:
    """The image that ``create`` makes: confidential when the image ConfigMap says so at this moment."""
    release = source_of(environment)
    image: dict[str, Any] = {
        "id": image_id(environment),
        "confidential": environment.get("CONFIDENTIAL_COMPUTE_ENABLED") == "yes",
        "pcrs": {str(number): value for number, value in release.pcrs.items()},
    }
    if release.image_policy:
        image["image_policy"] = release.image_policy
    return image


async def _step(text: str, seconds: float, work: Awaitable[Any] | None = None, failed: str = "") -> None:
    """One step of the script: its line, what it does, how long it takes. Raises :class:`Failed` with the script's words."""
    log.info("%s", text)
    try:
        if work is not None:
            await work
    except (AzureError, OSError) as error:
        log.error("%s", error)
        raise Failed(failed) from error
    await asyncio.sleep(seconds * time_scale())


async def create(environment: Environment, kube: Kube) -> None:
    """Make the image and tell peer-pods-cm. Raises :class:`Failed`."""
    check(environment)
    image = image_of(environment)
    kind = "confidential" if image["confidential"] else "standard"
    place = {"location": environment["AZURE_REGION"]}
    definition, _, version = image["id"].rpartition("/versions/")
    gallery = definition.rpartition("/images/")[0]
    features = [{"name": "SecurityType", "value": "ConfidentialVmSupported"}] if image["confidential"] else []
    named = {"publisher": environment.get("IMAGE_DEFINITION_PUBLISHER", "RedHat"),
             "offer": environment.get("IMAGE_DEFINITION_OFFER", "OSC-PodVM"), "sku": environment.get("IMAGE_DEFINITION_SKU", "OSC-PodVM")}
    described = {**place, "properties": {"osType": "Linux", "osState": "Generalized", "hyperVGeneration": "V2", "identifier": named,
                                         "features": features}}
    published = {**place, "properties": {"publishingProfile": {"targetRegions": [{"name": environment["AZURE_REGION"]}]}}}
    async with Azure(environment) as arm:
        await _step("Logging in to Azure", CREATE_SECONDS * 0.05, arm.login(), "Failed to login to Azure")
        await _step(f"Creating Azure image gallery {environment['IMAGE_GALLERY_NAME']}", CREATE_SECONDS * 0.1,
                    arm.put(gallery, GALLERIES, place), "Failed to create Azure image gallery")
        await _step(f"Creating image definition {environment['IMAGE_DEFINITION_NAME']} ({kind})", CREATE_SECONDS * 0.1,
                    arm.put(definition, GALLERIES, described), "Failed to create the image definition")
        await _step("Creating the storage account", CREATE_SECONDS * 0.15)
        await _step("Uploading the disk", CREATE_SECONDS * 0.35)
        await _step(f"Creating the image version {version}", CREATE_SECONDS * 0.25, arm.put(image["id"], GALLERIES, published),
                    "Failed to create the image version")
    file = image_file(Path(environment["LAB_CLOUD"]), image["id"])
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".part")
    partial.write_text(json.dumps(image, indent=1) + "\n")
    partial.replace(file)
    log.info("Image %s made", image["id"])
    marks = {"LATEST_IMAGE_ID": image["id"], "IMAGE_GALLERY_NAME": environment["IMAGE_GALLERY_NAME"]}
    await patch_config(environment, kube, {"metadata": {"annotations": marks}})
    if environment.get("UPDATE_PEERPODS_CM") == "yes":
        await patch_config(environment, kube, {"data": {"AZURE_IMAGE_ID": image["id"]}})
        log.info("peer-pods-cm updated with AZURE_IMAGE_ID")


async def delete(environment: Environment, kube: Kube) -> None:
    """Remove image version, source and gallery, and clear peer-pods-cm. Raises :class:`Failed`."""
    check(environment)
    identity = environment.get("IMAGE_ID", "")
    if not identity:
        raise Failed("IMAGE_ID is empty")
    definition = identity.rpartition("/versions/")[0]
    async with Azure(environment) as arm:
        await _step("Logging in to Azure", DELETE_SECONDS * 0.1, arm.login(), "Failed to login to Azure")
        await _step(f"Deleting image version {identity}", DELETE_SECONDS * 0.6, arm.delete(identity, GALLERIES),
                    "Failed to delete the image version")
        await _step("Deleting the image definition", DELETE_SECONDS * 0.1, arm.delete(definition, GALLERIES),
                    "Failed to delete the image definition")
        await _step("Deleting the gallery", DELETE_SECONDS * 0.2, arm.delete(definition.rpartition("/images/")[0], GALLERIES),
                    "Failed to delete the image gallery")
    file = image_file(Path(environment["LAB_CLOUD"]), identity)
    if not file.exists():
        log.warning("Image %s is not there", identity)
    file.unlink(missing_ok=True)
    gone: dict[str, Any] = dict.fromkeys(ANNOTATIONS)
    await patch_config(environment, kube, {"metadata": {"annotations": gone}, "data": {"AZURE_IMAGE_ID": ""}})
    log.info("peer-pods-cm cleared")


async def patch_config(environment: Environment, kube: Kube, patch: dict[str, Any]) -> None:
    """What the script does with ``kubectl patch configmap peer-pods-cm``."""
    namespace = environment.get("LAB_POD_NAMESPACE", "openshift-sandboxed-containers-operator")
    try:
        await kube.patch("v1", "ConfigMap", "peer-pods-cm", patch, namespace, params={"fieldManager": "kubectl-patch"})
    except ApiError as error:
        raise Failed(f"Failed to update peer-pods-cm: {error.message}") from error


async def work() -> None:
    environment = dict(os.environ)
    action = action_of(sys.argv[1:])
    if action == "copy":
        copy_payload(environment)
        return
    kube = Kube.from_kubeconfig(agent="lab-podvm-image")
    try:
        await {"create": create, "delete": delete}[action](environment, kube)
    except Failed as error:
        log.error("Error: %s", error)
        raise
    finally:
        await kube.close()


if __name__ == "__main__":
    sys.exit(main("lab-podvm-image", "the pod VM image builder",
                  f"OSC {os.environ.get('LAB_RELEASE') or DEFAULT_RELEASE}", work))
