"""azure_image.py: a given image, judged by Azure's words. Source: Azure Compute Gallery's documents."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.confidential.containers.plugins.module_utils import azure_image
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

GROUP = "/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/rg/providers/Microsoft.Compute"
DEFINITION = f"{GROUP}/galleries/g/images/i"
VERSION, MANAGED = f"{DEFINITION}/versions/1.0.0", f"{GROUP}/images/i"


def version(*regions: str, **properties: Any) -> dict[str, Any]:
    return {"id": VERSION, "location": "eastus", "properties": {
        "provisioningState": "Succeeded", "publishingProfile": {"targetRegions": [{"name": one} for one in regions]}, **properties}}


def definition(value: str) -> dict[str, Any]:
    return {"properties": {"features": [{"name": "DiskControllerTypes", "value": "SCSI"},
                                        *([{"name": "SecurityType", "value": value}] if value else [])]}}


def codes(*arguments: Any) -> list[tuple[str, str]]:
    found = azure_image.judge(*arguments)
    assert all(item["message"] and item["hint"] for item in found)
    return [(item["severity"], item["code"]) for item in found]


@pytest.mark.parametrize(("value", "good"), [
    ("ConfidentialVM", True), ("ConfidentialVmSupported", True), ("TrustedLaunchAndConfidentialVmSupported", True),
    ("TrustedLaunch", False), ("TrustedLaunchSupported", False), ("", False)])
def test_what_virtual_machines_it_is_for(value: str, good: bool) -> None:
    assert codes(VERSION, version("East US"), definition(value), "eastus", True) == ([] if good else [("error", "image-security")])
    assert codes(VERSION, version("East US"), definition(value), "eastus", False) == []


def test_where_it_is() -> None:
    good = definition("ConfidentialVM")
    assert codes(VERSION, version("West US", "East US 2"), good, "eastus", True) == [("error", "image-region")]
    assert codes(VERSION, version(), good, "eastus", True) == [], "nothing is said"
    assert codes(VERSION, version("West US"), good, "", True) == []


def test_its_state() -> None:
    good = definition("ConfidentialVM")
    assert codes(VERSION, version(provisioningState="Failed"), good, "eastus", True) == [("error", "image-state")]
    assert codes(VERSION, version(provisioningState="Creating"), good, "eastus", True) == [("warning", "image-state")]


def test_a_managed_image() -> None:
    assert codes(MANAGED, {"location": "eastus"}, None, "eastus", True) == [("warning", "image-managed")]
    assert codes(MANAGED, {"location": "westus"}, None, "eastus", False) == [("error", "image-region")]


def test_what_azure_does_not_show() -> None:
    missing, denied = azure_image.unreadable(VERSION, "ResourceNotFound", ""), azure_image.unreadable(VERSION, "AuthorizationFailed", "x")
    assert missing is not None
    assert denied is not None
    assert (missing["severity"], denied["severity"]) == ("error", "warning")
    assert azure_image.unreadable(VERSION, "TooManyRequests", "") is None


def test_ids() -> None:
    assert azure_image.definition_of(VERSION) == DEFINITION
    assert azure_image.definition_of(MANAGED) == ""
    for other in (f"{GROUP}/galleries/g", f"{GROUP}/disks/d", VERSION.replace("Microsoft.Compute", "Microsoft.Network")):
        with pytest.raises(CocoError, match="no id of an image"):
            azure_image.definition_of(other)
