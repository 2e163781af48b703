"""The api-versions that each resource provider answers to."""

from __future__ import annotations

import re

from lab.arm.errors import Refusal

#: As published by Azure up to the SDKs of reference/lab.md 6 and used by azure.azcollection, az, and the cloud provider.
KNOWN: dict[str, tuple[str, ...]] = {
    "microsoft.network": (
        "2018-10-01", "2021-02-01", "2022-07-01", "2023-09-01", "2023-11-01", "2024-01-01", "2024-03-01", "2024-05-01", "2024-07-01",
        "2024-10-01", "2025-01-01", "2025-03-01", "2025-05-01", "2025-07-01", "2025-09-01", "2026-01-01", "2026-03-01"),
    "microsoft.compute": (
        "2019-07-01", "2020-11-01", "2021-07-01", "2022-03-03", "2022-11-01", "2023-07-03", "2024-03-01", "2024-03-02", "2024-03-03",
        "2024-07-01", "2024-11-01", "2025-01-02", "2025-03-03", "2025-04-01", "2025-11-01", "2025-12-03", "2026-03-01", "2026-03-02",
        "2026-03-03", "2026-04-01"),
    "microsoft.resources": (
        "2016-06-01", "2018-05-01", "2019-05-10", "2020-01-01", "2020-10-01", "2021-01-01", "2021-04-01", "2022-09-01", "2022-12-01",
        "2023-07-01", "2024-03-01", "2024-07-01", "2024-11-01", "2025-03-01", "2025-04-01"),
    "microsoft.authorization": ("2015-07-01", "2018-01-01-preview", "2022-04-01"),
    "microsoft.redhatopenshift": ("2022-09-04", "2023-04-01", "2023-09-04", "2023-11-22", "2024-08-12-preview", "2025-07-25"),
}


def check(provider: str, kind: str, version: str, locations: str) -> None:
    """Raise :class:`Refusal` (400) unless ``provider`` knows ``version``; ``kind``: the type's words after the provider."""
    if not version:
        raise Refusal(400, "MissingApiVersionParameter", "The api-version query parameter (?api-version=) is required for all requests.")
    known = KNOWN.get(provider.lower())
    if known is None:
        raise Refusal(404, "InvalidResourceNamespace", f"The resource namespace '{provider}' is invalid.")
    if version in known:
        return
    listed = ",".join(reversed(known))
    if provider.lower() == "microsoft.resources" or not re.fullmatch(r"\d{4}-\d\d-\d\d(-[a-z]+)?", version):
        raise Refusal(400, "InvalidApiVersionParameter", f"The api-version '{version}' is invalid. The supported versions are '{listed}'.")
    raise Refusal(400, "NoRegisteredProviderFound",
                  f"No registered resource provider found for location '{locations.partition(',')[0]}' and API version '{version}' for "
                  f"type '{kind}'. The supported api-versions are '{listed}'. The supported locations are '{locations}'.")
