# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Azure's refusals mean, and what to do about them. Pure: codes and texts in, a :class:`CocoError` out.

Codes: the ``error.code`` of Azure Resource Manager, and the AADSTS numbers of Entra (Microsoft's list of authentication errors).
"""

from __future__ import annotations

import re

from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

#: Number of an AADSTS error: (what it means, what to do).
SIGN_IN: dict[str, tuple[str, str]] = {
    "7000215": ("the secret is not the application's", "Give the secret's value, not its id; make a new one if it is lost."),
    "7000222": ("the secret has expired", "Make a new secret for the application and give it (secret, AZURE_SECRET)."),
    "700016": ("the application is not known in this tenant", "Correct client_id, or tenant."),
    "7000229": ("the application has no service principal in this tenant", "Create one (az ad sp create), or correct tenant."),
    "90002": ("the tenant does not exist", "Correct tenant (AZURE_TENANT); in a sovereign cloud set cloud_environment."),
    "900023": ("the tenant is neither an id nor a domain", "Correct tenant (AZURE_TENANT)."),
    "900382": ("the tenant is of another cloud", "Set cloud_environment to the cloud of the subscription."),
    "700027": ("the certificate is not the application's, or has expired", "Register the certificate with the application, or give "
               "the right one (x509_certificate_path)."),
    "700211": ("no federated credential of the application matches the token", "Register issuer and subject with the application."),
    "700212": ("no federated credential of the application matches the token", "Register the token's audience with the application."),
    "700213": ("no federated credential of the application matches the token", "Register issuer and subject with the application."),
    "70021": ("no federated credential of the application matches the token", "Register issuer and subject with the application."),
    "700024": ("the federated token has expired, or the clock is wrong", "Renew the token; check the clock."),
    "53003": ("a conditional access policy forbids it", "Use a service principal that the policy allows."),
    "700082": ("the login has expired", "Log in again (az login)."),
    "70043": ("the login has expired", "Log in again (az login)."),
    "50173": ("the login was revoked", "Log in again (az login)."),
    "50076": ("multi-factor authentication is asked for", "Log in again (az login), or use a service principal."),
}


def denied(message: str) -> tuple[str, str]:
    """(action, scope) that ARM's words on a missing right name; empty where they name none."""
    action = re.search(r"perform(?:ing)? action(?:\(s\))? '([^']+)'", message)
    scope = re.search(r"(?:over|on|at) scopes?(?:\(s\))? '([^']+)'", message)
    return action[1] if action else "", scope[1] if scope else ""


def unreachable(what: str, text: str, url: str, todo: str = "") -> CocoError:
    """The error where ``url`` gave no answer at all: ``text`` as the client words it, ``todo`` where the way there is not the cause."""
    seen, words = " ".join(text.split())[:400], text.lower()
    if "proxy" in words:
        hint = "The proxy does not let through or does not answer: check HTTPS_PROXY and NO_PROXY."
    elif "certificate_verify_failed" in words or "no_certificate" in words or "certificate verify" in words:
        hint = f"Give the authorities that signed the certificate of {url}, or of the proxy that ends TLS, as PEM: azure_ca_cert " \
               "(REQUESTS_CA_BUNDLE)."
    else:
        hint = todo or f"{url} must be reachable: check HTTPS_PROXY, NO_PROXY and azure_ca_cert."
    return CocoError(what, seen, hint)


def no_login(what: str, text: str, used: str, authority: str, todo: str) -> CocoError:
    """The error where a login ended without Entra's refusal: ``used`` names the credential, ``todo`` what its kind needs."""
    if "authority configuration" in text or "OIDC Discovery failed" in text:
        return CocoError(what, f"{used} cannot log in: {authority} does not know the tenant",
                         "Correct tenant (AZURE_TENANT); in a sovereign cloud set cloud_environment.")
    return unreachable(what, f"{used} cannot log in: {text}", authority, todo)


def explain(code: str, message: str, status: int, what: str) -> CocoError:
    """The error for a refusal: ``code`` and ``message`` as Azure gave them, ``status`` of HTTP (0: none), ``what`` failed."""
    seen = " ".join(message.split())[:600] or code or f"HTTP {status}"
    number = re.search(r"AADSTS(\d+)", f"{code} {message}")
    if number:
        meaning, todo = SIGN_IN.get(number[1], ("Entra refused the login", "Check client_id, secret and tenant."))
        return CocoError(what, f"{meaning} (AADSTS{number[1]})", todo, code=f"AADSTS{number[1]}")
    action, scope = denied(message)
    where = f" at {scope}" if scope else ""
    if code in ("DenyAssignmentAuthorizationFailed", "DenyAssignment") or "deny assignment" in message.lower():
        return CocoError(what, f"a deny assignment forbids {action or 'it'}{where}", "On ARO the managed resource group is locked: "
                         "resources in it cannot be changed, those of the virtual network's group can.",
                         code=code, action=action, scope=scope)
    if code in ("AuthorizationFailed", "LinkedAuthorizationFailed") or status == 403:
        return CocoError(what, f"the credentials lack the right {action}{where}" if action else seen,
                         f"Assign a role with {action or 'that right'} to the principal{where}; a new assignment takes some minutes.",
                         code=code, action=action, scope=scope)
    todo = {
        "SubscriptionNotFound": "Correct subscription_id (AZURE_SUBSCRIPTION_ID), or give the principal a role in it.",
        "InvalidSubscriptionId": "Correct subscription_id (AZURE_SUBSCRIPTION_ID).",
        "InvalidAuthenticationTokenTenant": "The subscription belongs to another tenant: correct tenant (AZURE_TENANT) or subscription_id.",
        "InvalidAuthenticationToken": "Check tenant, cloud_environment and the clock.",
        "ExpiredAuthenticationToken": "The token has expired: check the clock, log in again.",
        "ResourceGroupNotFound": "Correct the resource group; check that subscription_id is the cluster's.",
        "ResourceNotFound": "Correct the name; check that subscription_id is the cluster's.",
        "NotFound": "Correct the name; check that subscription_id is the cluster's.",
        "NoRegisteredProviderFound": "Correct the region, or register the resource provider (az provider register).",
        "LocationNotAvailableForResourceType": "Correct the region.",
        "LocationNotFound": "Correct the region (its name, such as eastus, not its display name).",
        "InvalidLocation": "Correct the region (its name, such as eastus, not its display name).",
        "MissingSubscriptionRegistration": "Register the resource provider (az provider register); that is never done silently.",
    }.get(code, "")
    if status == 429 or code in ("TooManyRequests", "SubscriptionRequestsThrottled"):
        return CocoError(what, f"Azure throttles this principal or subscription: {seen}",
                         "Wait until the time that Azure names has passed, then run again; find out who else sends so many requests.",
                         code=code)
    if status == 401 and not todo:
        todo = "Check tenant, cloud_environment and the clock."
    return CocoError(what, f"{code}: {seen}" if code and code not in seen else seen,
                     todo or "See Azure's words; run again when its cause is gone.", code=code)
