# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A prepared pod VM image in Azure, judged before anything is written: is it there, in the region, for confidential VMs? Pure.

Source: Azure Compute Gallery. What virtual machines an image is for stands at its definition (feature SecurityType), where it is
replicated at its version.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils import azure_ids
from ansible_collections.confidential.containers.plugins.module_utils.azure_subnet import Finding, finding
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

Document = dict[str, Any]

#: Values of SecurityType with which a definition takes confidential virtual machines.
CONFIDENTIAL = ("confidentialvm", "confidentialvmsupported", "trustedlaunchandconfidentialvmsupported")
#: Azure's codes for what is not there, and for what the login may not see.
MISSING = ("ResourceNotFound", "NotFound", "ParentResourceNotFound", "GalleryImageNotFound", "ResourceGroupNotFound",
           "SubscriptionNotFound")
DENIED = ("AuthorizationFailed", "LinkedAuthorizationFailed", "Forbidden")
GIVE = "Correct coco_peerpods_image_id, or leave it out: then the operator builds an image."


def definition_of(image_id: str) -> str:
    """The id of the definition of a gallery image version; empty for a managed image. Raises :class:`CocoError` for anything else."""
    found = azure_ids.parse(image_id)
    kinds = [kind.lower() for kind in found.types]
    if found.provider.lower() != "microsoft.compute" or kinds not in (["galleries", "images", "versions"], ["images"]):
        raise CocoError("This is no id of an image", f"got {image_id}",
                        "Give .../galleries/<gallery>/images/<definition>/versions/<version>.")
    if len(kinds) == 1:
        return ""
    return azure_ids.build(found.subscription, found.group, found.provider, "galleries", found.names[0], "images", found.names[1])


def unreadable(image_id: str, code: str, seen: str) -> Finding | None:
    """The finding for an image that Azure did not show; None where the answer says nothing about the image."""
    if code in MISSING:
        return finding("error", "image-missing", f"the pod VM image {image_id} does not exist", GIVE)
    if code in DENIED:
        return finding("warning", "image-unseen", f"the pod VM image {image_id} was not looked at: {seen}",
                       "Pod VMs need the right to read it; check that the operators' credentials have it.")
    return None


def judge(image_id: str, image: Document, definition: Document | None, region: str, confidential: bool) -> list[Finding]:
    """What is wrong with an image that is there. ``definition``: of a gallery image; None where it could not be read."""
    found, properties = [], image.get("properties") or {}
    state = properties.get("provisioningState", "Succeeded")
    if state != "Succeeded":
        found.append(finding("error" if state == "Failed" else "warning", "image-state", f"the pod VM image {image_id} is in state {state}",
                             GIVE if state == "Failed" else "Wait until Azure has finished it."))
    if not definition_of(image_id):
        places = [image.get("location", "")]
        if confidential:
            found.append(finding("warning", "image-managed", f"the pod VM image {image_id} is a managed image, which Azure does not take "
                                 "for confidential virtual machines", "Give a version of a gallery image."))
    else:
        places = [one.get("name", "") for one in (properties.get("publishingProfile") or {}).get("targetRegions") or []]
        if definition is not None and confidential:
            found += _security(image_id, definition)
    if region and any(places) and _plain(region) not in map(_plain, places):
        found.append(finding("error", "image-region", f"the pod VM image {image_id} is in {', '.join(places)}, not in {region}",
                             f"Replicate it to {region}, or give another."))
    return found


def _security(image_id: str, definition: Document) -> list[Finding]:
    features = {one.get("name", ""): str(one.get("value", "")) for one in (definition.get("properties") or {}).get("features") or []}
    kind = features.get("SecurityType", "")
    if kind.lower() in CONFIDENTIAL:
        return []
    return [finding("error", "image-security", f"the pod VM image {image_id} is not for confidential virtual machines: its definition has "
                    f"{'SecurityType ' + kind if kind else 'no SecurityType'}", "Give an image whose definition has SecurityType "
                    "ConfidentialVM or ConfidentialVmSupported; a definition cannot be changed afterwards.")]


def _plain(region: str) -> str:
    return region.replace(" ", "").lower()
