# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The administration of a KBS over HTTP: the administrator's token, messages, and what is remembered of what was sent. Pure.

Sources: the admin sections of the KBS sources v0.9 to v0.21 and what each generation answered when run.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import json
import re
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.confidential.containers.plugins.module_utils import keys
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

Finding = dict[str, str]

#: Seconds for which a token of the administrator is good.
LIFETIME = 600
_SEGMENT = re.compile(r"^[a-zA-Z0-9_-]+[a-zA-Z0-9_.-]*$")
_POLICY_ID = re.compile(r"^[a-zA-Z0-9_-]+$")


def b64url(data: bytes) -> str:
    """Base64 in the URL-safe alphabet without padding: the only form that the KBS takes."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64url(text: str) -> bytes:
    """The bytes of :func:`b64url`; ``ValueError`` for another text."""
    return base64.urlsafe_b64decode(text.strip() + "=" * (-len(text.strip()) % 4))


def _compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


# Where, and who ------------------------------------------------------------------------------------------------------

def check_url(url: str, allow_http: bool = False) -> list[Finding]:
    """What is wrong with the URL of a KBS: it must be ``https://host[:port]``; ``http`` is a warning where it is allowed."""
    try:
        parts = urlsplit(url)
        port_ok = parts.port is None or parts.port > 0
    except ValueError:
        parts, port_ok = urlsplit(""), False
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_ok:
        return [_finding("error", "kbs-url", f"the URL of the KBS is {url!r}", "Set coco_kbs_url to https://host[:port].")]
    if parts.path.strip("/") or parts.query or parts.fragment or parts.username is not None:
        return [_finding("error", "kbs-url", f"the URL of the KBS has more than scheme, host and port: {parts.scheme}://{parts.hostname}/…",
                         "Set coco_kbs_url to https://host[:port]; clients append /kbs/v0 themselves.")]
    if parts.scheme == "http":
        if not allow_http:
            return [_finding("error", "kbs-http", "the URL of the KBS is http: secrets would be asked for, and set, without TLS",
                             "Use https, or set coco_kbs_insecure_http: true where nothing is at stake.")]
        return [_finding("warning", "kbs-http", f"the KBS at {url} is spoken to without TLS (coco_kbs_insecure_http)", "Use https.")]
    return []


def check_authority(pem: str, now: datetime.datetime, renew_before_days: int = 30) -> list[Finding]:
    """What is wrong with the given certificate authority of a KBS: PEM text of one or more certificates, or empty."""
    found: list[Finding] = []
    if not pem.strip():
        return found
    texts = re.findall(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", pem, re.DOTALL)
    if not texts:
        return [_finding("error", "kbs-ca", "the certificate authority of the KBS is no PEM certificate",
                         "Set coco_kbs_ca_certificate to the PEM text (a lookup of the file), or leave it empty.")]
    for text in texts:
        try:
            ends = keys.expires(text)
            leaf = keys.is_leaf(text)
        except CocoError as error:
            return [_finding("error", "kbs-ca", f"the certificate authority of the KBS cannot be read: {error.seen}", error.todo)]
        if ends <= now:
            found.append(_finding("error", "kbs-ca-expired", f"the certificate authority of the KBS ended on {ends:%Y-%m-%d}",
                                  "Ask the KBS's owner for the present one: coco_kbs_ca_certificate."))
        elif ends <= now + datetime.timedelta(days=renew_before_days):
            found.append(_finding("warning", "kbs-ca-expires", f"the certificate authority of the KBS ends on {ends:%Y-%m-%d}",
                                  "Ask the KBS's owner for its successor: initdata, and so PCR 8, change with it."))
        if leaf:
            found.append(_finding("error", "kbs-ca-leaf", "the certificate given for the KBS's authority is a server's own",
                                  "Give the authority that signed it: guests accept no server certificate as an authority."))
    return found


def _finding(severity: str, code: str, message: str, hint: str) -> Finding:
    return {"severity": severity, "code": code, "message": message, "hint": hint}


def token(private_pem: str, now: int, claims: dict[str, Any] | None = None) -> str:
    """The administrator's token: a JWT signed with Ed25519, good for ten minutes.

    ``now``: seconds since 1970. ``claims``: more claims, or others; ``role`` is what KBS 0.21 wants. No ``aud`` unless given: KBS
    0.18 refuses any. Raises :class:`CocoError` for a key of another form.
    """
    key = keys.load_ed25519(private_pem)
    body = {"role": "admin", **(claims or {}), "iat": now, "exp": now + LIFETIME}
    signed = f"{b64url(_compact({'alg': 'EdDSA', 'typ': 'JWT'}))}.{b64url(_compact(body))}"
    return f"{signed}.{b64url(key.sign(signed.encode()))}"


# Messages ------------------------------------------------------------------------------------------------------------

def check_path(path: str) -> str:
    """A resource's path ``repository/type/tag`` as the KBS takes it. Raises :class:`CocoError` for another one."""
    segments = path.split("/")
    if len(segments) != 3 or not all(_SEGMENT.match(segment) for segment in segments):
        raise CocoError(f"The resource {path!r} cannot be set", "a path has three segments of letters, digits, '-', '_' and '.', and none "
                        "begins with a dot", "Write repository/type/tag, such as default/my-secret/key.")
    return path


def check_policy_id(policy_id: str, known: tuple[str, ...]) -> str:
    """The id of an attestation policy. Raises :class:`CocoError` for one that the release's KBS never evaluates."""
    if not _POLICY_ID.match(policy_id) or policy_id not in known:
        raise CocoError(f"The attestation policy {policy_id!r} cannot be set", f"the KBS evaluates {', '.join(known)} only",
                        "Use one of these ids.")
    return policy_id


def policy_message(text: str, policy_id: str = "") -> dict[str, str]:
    """The body that sets a policy: a resource policy, or the attestation policy of an id."""
    message = {"policy": b64url(text.encode())}
    return {"type": "rego", "policy_id": policy_id, **message} if policy_id else message


def reference_message(values: dict[str, Any]) -> dict[str, str]:
    """The body that sets reference values ``{name: any JSON}``; the KBS keeps them for twelve months."""
    return {"version": "0.1.0", "type": "sample", "payload": base64.b64encode(_compact(values)).decode()}


def merged(held: Any, sent: list[Any], wanted: list[Any], keep_old: bool) -> Any:
    """A reference value afterwards: what others put there stays, what we sent before and no longer want goes.

    ``held``: what the KBS has (None: nothing). ``sent``: what we sent last. With ``keep_old`` nothing goes.
    """
    others = held if isinstance(held, list) else []
    kept = others if keep_old else [value for value in others if value not in sent]
    return [*kept, *(value for value in wanted if value not in kept)]


def remembered(sent: dict[str, Any], added: dict[str, Any]) -> dict[str, Any]:
    """What we sent altogether, where ``added`` went beside ``sent``: both ``{name: value}``, lists joined."""
    result = dict(sent)
    for name, value in added.items():
        old = sent.get(name)
        both = isinstance(old, list) and isinstance(value, list)
        result[name] = [*value, *(item for item in old or [] if item not in value)] if both else value
    return result


# What cannot be read back ---------------------------------------------------------------------------------------------

def _keyed(private_pem: str, purpose: str, content: bytes) -> bytes:
    derived = hmac.new(keys.seed(private_pem), f"confidential.containers/{purpose}".encode(), hashlib.sha256).digest()
    return hmac.new(derived, content, hashlib.sha256).digest()


def fingerprint(private_pem: str, name: str, content: bytes) -> str:
    """What is remembered of something that was sent: a digest keyed by the administrator's key, so that it reveals nothing."""
    return _keyed(private_pem, "sent", name.encode() + b"\0" + content).hex()


def verification_value(private_pem: str, url: str, path: str) -> bytes:
    """The verification resource of a KBS: as good as random to everybody without the key, and the same in every run."""
    return b64url(_keyed(private_pem, "verification", f"{url.rstrip('/')}\0{path}".encode())).encode()


def read_memory(data: bytes | None, url: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """(the whole document, what was sent to this KBS) from the private file; both empty where there is none.

    Raises :class:`CocoError` where the file holds something else.
    """
    try:
        document = json.loads(data or b"{}")
        sent = document.get(url, {})
        return dict(document), {"digests": dict(sent.get("digests", {})), "values": dict(sent.get("values", {}))}
    except (ValueError, TypeError, AttributeError) as error:
        raise CocoError("What was sent to the KBS is not known", f"the private file that remembers it cannot be read ({error})",
                        "Remove the file: everything is sent anew then, and reported as changed.") from error
