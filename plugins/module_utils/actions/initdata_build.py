# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The work of the module initdata_build."""

from __future__ import annotations

import datetime
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.confidential.containers.plugins.module_utils import initdata, keys, measurements, releases
from ansible_collections.confidential.containers.plugins.module_utils.context import Context
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

ARGUMENT_SPEC: dict[str, Any] = {
    "release": {"type": "str", "required": True},
    "algorithm": {"type": "str", "default": "sha256"},
    "kbs_url": {"type": "str"},
    "kbs_ca": {"type": "str"},
    "policy": {"type": "str"},
    "image_security_policy_uri": {"type": "str"},
    "aa_toml": {"type": "str"},
    "cdh_toml": {"type": "str"},
    "files": {"type": "dict", "default": {}},
    "extra": {"type": "dict", "default": {}},
    "toml": {"type": "str"},
    "documents": {"type": "dict"},
    "agent_policy": {"type": "dict", "default": {}},
    "image_security_policy": {"type": "str", "default": "signed"},
    "security_policy_secret": {"type": "str", "default": "security-policy", "no_log": False},
    "kbs_ca_exists": {"type": "bool", "default": True},
}
SPEC_KWARGS: dict[str, Any] = {"mutually_exclusive": [
    ("toml", "kbs_url"), ("toml", "aa_toml"), ("toml", "cdh_toml"),
    *(("documents", name) for name in ("toml", "policy", "image_security_policy_uri", "aa_toml", "cdh_toml")),
]}


def run(params: dict[str, Any], context: Context) -> dict[str, Any]:
    """One document, or each of the named ``documents``."""
    keys.check_library()
    if not params["kbs_ca_exists"] and not context.check_mode:
        raise CocoError("The initdata documents cannot be built",
                        "the certificate authority of the KBS, which they embed, does not exist yet",
                        "Run step 2 first (--tags step02), or give one (coco_tls_source).")
    if params["documents"] is None:
        return {"changed": False, **_build(params, context)}
    named = {str(name): initdata.named(str(name), document, params) for name, document in params["documents"].items()}
    built = {name: {"name": name, "resources": options["resources"], **_build({**params, **options}, context)}
             for name, options in named.items()}
    return {"changed": False, "documents": built,
            "findings": [finding for document in built.values() for finding in document["findings"]]}


def _build(params: dict[str, Any], context: Context) -> dict[str, Any]:
    """Bytes once; encoding, digest and registers from those bytes."""
    osc = releases.parse(params["release"]).osc
    if params["toml"]:
        toml = params["toml"].encode()
        parsed = initdata.parse(toml)
        findings = initdata.check(parsed["data"], parsed["algorithm"], parsed["version"])
    else:
        toml = initdata.build(params)
        parsed = initdata.parse(toml)
        findings = initdata.check(parsed["data"], parsed["algorithm"])
    if params["kbs_ca"] and params["kbs_url"]:
        findings += _check_ca(params["kbs_ca"], urlsplit(params["kbs_url"]).hostname or "")
    encoded = initdata.encode(toml, osc.initdata_encoding)
    findings += initdata.check_size(encoded)
    initdata.refuse(findings)
    for finding in findings:
        context.warn(f"{finding['message']} · {finding['hint']}")
    return {
        "toml": toml.decode(), "encoded": encoded, "encoding": osc.initdata_encoding,
        "algorithm": parsed["algorithm"], **measurements.bindings(toml),
        "annotation": {"key": osc.initdata_annotation, "value": encoded}, "size": len(encoded), "findings": findings,
    }


def _check_ca(pem: str, host: str) -> list[dict[str, str]]:
    """The certificate that guests trust must not have expired; a server's own certificate must name the host."""
    now = datetime.datetime.now(datetime.timezone.utc)
    found = [finding for finding in keys.check_certificate(pem, None, [], now, renew_before_days=0)
             if finding["code"] in ("expired", "unreadable", "not-yet-valid")]
    if not any(f["code"] == "unreadable" for f in found) and keys.is_leaf(pem) and not keys.covers(keys.load_certificate(pem), host):
        found.append({"severity": "error", "code": "host", "message": f"the certificate does not name the host {host}",
                      "hint": "Give the certificate authority, or a certificate whose subjectAltName holds the host."})
    return found
