# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Core: which login to Azure an inventory means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Keys of peer-pods-secret by the option of the Azure modules that they serve as.
CREDENTIALS = {"client_id": "AZURE_CLIENT_ID", "secret": "AZURE_CLIENT_SECRET", "tenant": "AZURE_TENANT_ID",
               "subscription_id": "AZURE_SUBSCRIPTION_ID"}


def login(given: Mapping[str, Any], credentials: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """The login of the controller: what the inventory gives, else the environment, else what the operators use for pod VMs.

    given: options of the Azure modules (``coco_azure_login``); one that names a client or an ``auth_source`` is a login by itself,
    others (``azure_ca_cert``) only complete the one that is used. credentials: the content of peer-pods-secret.

    Returns ``{"options": options of the Azure modules, "at_hand": whether there is a login, "pod_vms": whether it is that of the pod
    VMs, so that their rights can be seen}``; what the environment says is not among the options: the modules read it themselves.
    """
    options = {name: value for name, value in given.items() if value}
    pod_vms = {name: credentials[key] for name, key in CREDENTIALS.items() if credentials.get(key)}
    client = options.get("client_id") or environment.get("AZURE_CLIENT_ID", "")
    source = options.get("auth_source") or environment.get("ANSIBLE_AZURE_AUTH_SOURCE", "")
    if not client and not source:
        options = {**pod_vms, **options}
        client = options.get("client_id", "")
    return {"options": options, "at_hand": bool(client or source), "pod_vms": client == pod_vms.get("client_id")}
