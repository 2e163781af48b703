# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the verification of steps 13 and 14 concludes from what it saw. Pure.

Sources: the failure modes of the KBS and its guests, with the texts of the real programs.
"""

from __future__ import annotations

import json
import re
from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils import initdata
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

Check = dict[str, Any]

NO_IMAGE, OPEN_IMAGE = r"GalleryImageNotFound|ImageId is empty", r"gallery image does not support security type"
#: Text in the events of a pod, the likely cause, what to do: what keeps a pod's virtual machine from starting.
POD_VM: tuple[tuple[str, str, str], ...] = (
    (r"no runtime for \"kata-remote\" is configured|failed to find runtime handler",
     "the node does not know the runtime yet", "Wait for the machine config pool kata-oc, or run step 8."),
    (r"Insufficient kata\.peerpods\.io/vm", "no node offers a pod VM", "Check the pods of osc-caa-ds and PEERPODS_LIMIT_PER_NODE."),
    (NO_IMAGE, "the pod VM image does not exist",
     "Correct the id: of the pod (annotation io.katacontainers.config.hypervisor.image, *_podvm_image_id), of the inventory "
     "(coco_peerpods_image_id); or clear AZURE_IMAGE_ID in peer-pods-cm and run steps 7 and 8, which have a new one built."),
    (OPEN_IMAGE,
     "the pod VM image is not confidential", "Clear AZURE_IMAGE_ID in peer-pods-cm and run steps 7 and 8, which have a confidential one "
     "built; or give an image whose definition has SecurityType ConfidentialVM."),
    (r"QuotaExceeded|OperationNotAllowed|SkuNotAvailable", "the cloud refuses the size (quota or region)",
     "Raise the quota of the confidential family, or choose another size."),
    (r"not supported for creation of VMs.*ConfidentialVM", "the size is not confidential", "Choose a confidential size."),
    (r"failed to establish agent proxy connection|agent proxy connection.*(refused|timeout)",
     "the pod VM does not answer: no outbound connection, or it did not start", "Check NAT gateway and security group."),
    (r"failed calling webhook \"mwebhook\.peerpods\.io\"", "the peer pods webhook does not answer",
     "Check the deployment peer-pods-webhook."),
)
#: The same of the KBS's log, and of the pods of step 14.
SYMPTOMS: tuple[tuple[str, str, str], ...] = (
    (r'configuration file "[^"]*kbs-config\.toml" not found|kbs-config\.toml.*(No such file|not found)',
     "the config map lacks the key kbs-config.toml (a configuration of another release has another key)",
     "Run step 10 (--tags step10,step12): it writes kbs-config.toml in the format of the release."),
    (r"expected value at line 1|TOML parse error|invalid config|missing configuration field",
     "the KBS configuration is in the format of another release", "Run step 10 (--tags step10,step12)."),
    (r"Failed to parse admin public key|Read admin public key failed", "the administrator's public key cannot be read",
     "Run step 9 (--tags step09,step12)."),
    (r"HTTPS initialization failed", "certificate or key of the KBS cannot be read", "Run step 2 (--tags step02,step12)."),
    (r"Read Token Signer private key failed|failed to read certificate", "the token signer cannot be read",
     "Run step 2 (--tags step02,step12)."),
    (r"is expired", "reference values have expired, so the KBS skips them", "Run step 11 (--tags step11), which renews them."),
    (r"failed to read policy|Is a directory", "the attestation policy file is missing",
     "Run step 11 (--tags step11,step12): it writes the policy under the key that the release reads."),
    (r"Cannot verify token since trusted cert is empty", "the KBS trusts no token signer", "Run step 10 (--tags step10,step12)."),
    (r"KBS Client Protocol Version Mismatch", "guest and KBS are of different releases", "Use an allowed pair in coco_release."),
    *POD_VM,
    (r"ErrImagePull|ImagePullBackOff", "the image of the probe cannot be pulled", "Set coco_verify_image to an image that can."),
    (r"Image policy rejected", "the image policy refuses the probe's image", "Allow the image, or let the verification document "
     "name another image_security_policy."),
)


def check(name: str, ok: bool | None, seen: str = "", cause: str = "", hint: str = "", severity: str = "error") -> Check:
    """One check: ``ok`` true, false, or None where it could not be made."""
    return {"name": name, "ok": ok, "seen": seen, "cause": cause, "hint": hint, "severity": "info" if ok else severity}


def diagnose(text: str, symptoms: tuple[tuple[str, str, str], ...] = SYMPTOMS) -> tuple[str, str]:
    """(cause, hint) for the first known symptom in a text; empty where none is known."""
    for pattern, cause, hint in symptoms:
        if re.search(pattern, text, re.DOTALL):
            return cause, hint
    return "", ""


def hopeless(text: str) -> bool:
    """Do a pod's events say that waiting will not start its virtual machine?"""
    return bool(re.search(f"{NO_IMAGE}|{OPEN_IMAGE}", text))


def verdict_trustee(checks: list[Check]) -> str:
    """healthy, broken, or insecure (something was given that must not be)."""
    failed = [item for item in checks if item["ok"] is False]
    if any(item["severity"] == "critical" for item in failed):
        return "insecure"
    return "broken" if failed else "healthy"


def failure(what: str, verdict: str, checks: list[Check]) -> CocoError:
    """The error of a verdict, with the worst failed check's cause and hint."""
    failed = sorted((item for item in checks if item["ok"] is False), key=lambda item: item["severity"] != "critical")
    seen = "; ".join(f"{item['name']}: {item['cause'] or item['seen']}" for item in failed)
    hints = " ".join(dict.fromkeys(item["hint"] for item in failed if item["hint"]))
    return CocoError(what, seen, hints or "Look at the KBS's log (deployment trustee-deployment).", verdict=verdict, checks=checks)


def tampered_initdata(toml: bytes, uri: str) -> bytes:
    """The document with another image policy URI, and nothing else changed.

    A guest asks the KBS for that URI before it starts any container, so the KBS's refusal of exactly that path proves that the
    changed document was measured. Raises :class:`CocoError` where the document names no image policy.
    """
    text = toml.decode()
    found = re.search(r"image_security_policy_uri\s*=\s*['\"]([^'\"]+)['\"]", text)
    if found is None:
        raise CocoError("The negative probe cannot be made", "the initdata document names no image_security_policy_uri",
                        "Name one (coco_image_security_policy): without it a tampered guest asks the KBS for nothing first.")
    changed = text[:found.start(1)] + uri + text[found.end(1):]
    initdata.parse(changed.encode())
    return changed.encode()


def opened_initdata(toml: bytes) -> bytes:
    """The document with an image policy of its own that accepts everything, in place of the one that the KBS would give.

    A guest with it starts containers without asking the KBS, so a container can tell what the KBS makes of the changed document.
    Raises :class:`CocoError` where the document names no image policy. Source: the data hub's configuration, ``[image]``.
    """
    text = toml.decode()
    found = re.search(r"image_security_policy_uri\s*=\s*['\"]([^'\"]+)['\"]", text)
    if found is None:
        raise CocoError("The negative probe cannot be made", "the initdata document names no image_security_policy_uri",
                        "Name one (coco_image_security_policy).")
    everything = '{"default":[{"type":"insecureAcceptAnything"}],"transports":{}}'
    changed = f"{text[:found.start()]}image_security_policy = {everything!r}{text[found.end():]}"
    initdata.parse(changed.encode())
    return changed.encode()


def answers_on(log: str, path: str) -> list[str]:
    """What the KBS answered on a path, by its access log: ``denied`` (its resource policy said no), ``passed`` (the policy said
    yes, whether the resource exists or not) or ``other``.

    A missing resource, a bad token and a denial are all 401 and the log cannot tell guests apart, so the size of the answer
    decides, which the access log has after the status. One length is of two errors: a missing resource (the policy said yes)
    and a request without a token (a client's first try); of the second the KBS's error line, just before, says TokenNotFound.
    Source: the KBS's access log (actix's default format), its error bodies and its error lines, from v0.11 on.
    """
    found, after = [], 0
    for line in re.finditer(r'"([A-Z]+) (\S+) HTTP/[\d.]+" (\d+) (\d+)', log):
        errors, after = log[after:line.start()], line.end()
        if line[1] == "GET" and line[2] == f"/kbs/v0/resource/{path}":
            found.append(_answer(int(line[3]), int(line[4]), "TokenNotFound" in errors))
    return found


ERRORS = "https://github.com/confidential-containers/kbs/errors/"


def _error_size(variant: str, detail: str) -> int:
    return len(json.dumps({"type": ERRORS + variant, "detail": detail}, separators=(",", ":")))


def _answer(status: int, size: int, no_token: bool) -> str:
    if status == 401 and size == _error_size("PolicyDeny", "Access denied by policy"):
        return "denied"
    if status == 401 and no_token:
        return "other"
    if status == 200 or (status == 401 and size == _error_size("PluginInternalError", "Plugin internal error")):
        return "passed"
    return "other"


def script(resource: str) -> str:
    """What the probe runs: fetch, compare the sha256, end with 0; 21 not reached, 22 another secret."""
    url = f"http://127.0.0.1:8006/cdh/resource/{resource}"
    return (
        "tries=0\n"
        f"until curl -s -S -f -m 60 -o /tmp/probe {url}; do\n"
        "  tries=$((tries + 1))\n"
        "  if [ $tries -ge 3 ]; then exit 21; fi\n"
        "  sleep 1\n"
        "done\n"
        "digest=$(sha256sum < /tmp/probe | cut -d ' ' -f 1)\n"
        "rm -f /tmp/probe\n"
        'if [ "$digest" = "$EXPECTED_SHA256" ]; then exit 0; fi\n'
        "exit 22\n"
    )


def refusal_script(resource: str) -> str:
    """What a tampered pod runs where the KBS's log is out of reach. It ends with 31 where the KBS appraised it, not as affirming, and
    gave it nothing: that is the proof. 0 it got the resource, 32 its token is affirming, 33 it got no token.

    The token is a JWT (base64url without padding); its claims have ``ear.status`` for each part of the guest.
    """
    api = "http://127.0.0.1:8006"
    return (
        "tries=0\n"
        f"until curl -s -S -f -m 60 -o /tmp/token '{api}/aa/token?token_type=kbs'; do\n"
        "  tries=$((tries + 1))\n"
        "  if [ $tries -ge 3 ]; then exit 33; fi\n"
        "  sleep 1\n"
        "done\n"
        "claims=$(sed 's/.*\"token\": *\"\\([^\"]*\\)\".*/\\1/' /tmp/token | cut -d . -f 2 | tr '_-' '/+')\n"
        "rm -f /tmp/token\n"
        'while [ $((${#claims} % 4)) -ne 0 ]; do claims="$claims="; done\n'
        "status=$(printf %s \"$claims\" | base64 -d"
        " | sed 's/\"ear.status\"/\\n&/g' | sed -n 's/^\"ear.status\": *\"\\([a-z]*\\)\".*/\\1/p')\n"
        'if [ -z "$status" ]; then exit 33; fi\n'
        f"if curl -s -S -f -m 60 -o /tmp/probe {api}/cdh/resource/{resource}; then rm -f /tmp/probe; exit 0; fi\n"
        'for one in $status; do if [ "$one" != affirming ]; then exit 31; fi; done\n'
        "exit 32\n"
    )


REFUSED = 31
EXITS = {21: "the pod could not fetch the secret", 22: "the pod fetched other bytes than the hub's secret"}
#: The same of :func:`refusal_script`, where it is no proof.
REFUSAL_EXITS = {0: "a pod with tampered initdata got the secret: initdata is not enforced",
                 32: "the KBS found a pod with tampered initdata affirming: initdata is not measured",
                 33: "the tampered pod got no token of the KBS, so nothing is proven"}
