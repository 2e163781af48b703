# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""initdata: the measured configuration of a pod VM, from options to bytes and back. Pure.

Sources: the initdata specification of kata-containers, what cloud-api-adaptor and kata accept, and the keys that the
attestation agent and the confidential data hub read from ``aa.toml`` and ``cdh.toml``.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import hashlib
import tomllib
import zlib
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

Finding = dict[str, str]

ALGORITHMS: dict[str, Callable[..., Any]] = {"sha256": hashlib.sha256, "sha384": hashlib.sha384, "sha512": hashlib.sha512}
VERSION = "0.1.0"
FILES = ("aa.toml", "cdh.toml", "policy.rego")
CDH_SOCKET = "unix:///run/confidential-containers/cdh.sock"
#: Azure refuses more user data than this, in bytes of base64.
LARGEST_USER_DATA = 64 * 1024
#: All annotations of an object together, in bytes.
LARGEST_ANNOTATIONS = 256 * 1024


def literal(text: str) -> str:
    """A TOML multi-line string that means ``text`` exactly.

    The literal form is used wherever it can hold the text: nothing in it is escaped and the newline right after the
    opening quotes is dropped.
    """
    plain = all(c in "\t\n" or (ord(c) >= 32 and ord(c) != 127) for c in text)
    if plain and "'''" not in text and not text.endswith("'"):
        return f"'''\n{text}'''"
    escaped = []
    for character in text:
        if character in '\\"':
            escaped.append("\\" + character)
        elif character in "\t\n" or (ord(character) >= 32 and ord(character) != 127):
            escaped.append(character)
        else:
            escaped.append(f"\\u{ord(character):04x}")
    return '"""\n' + "".join(escaped) + '"""'


def _string(text: str) -> str:
    if "'" not in text and all(ord(c) >= 32 and ord(c) != 127 for c in text):
        return f"'{text}'"
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    text = str(value)
    return literal(text) if "\n" in text else _string(text)


def aa_toml(url: str, ca: str = "") -> str:
    """The attestation agent's file for a KBS: its URL and, for a private authority, the CA's PEM."""
    lines = ["[token_configs]", "[token_configs.kbs]", f"url = {_string(url)}"]
    if ca:
        lines.append(f"cert = {_pem(ca)}")
    return "\n".join(lines) + "\n"


def cdh_toml(url: str, ca: str = "", image: dict[str, Any] | None = None) -> str:
    """The data hub's file for a KBS; ``image`` becomes its ``[image]`` table."""
    lines = [f"socket = {_string(CDH_SOCKET)}", "credentials = []", "", "[kbc]", f"name = {_string('cc_kbc')}",
             f"url = {_string(url)}"]
    if ca:
        lines.append(f"kbs_cert = {_pem(ca)}")
    if image:
        lines += ["", "[image]", *(f"{name} = {_value(value)}" for name, value in image.items())]
    return "\n".join(lines) + "\n"


def _pem(text: str) -> str:
    """A PEM text as a value inside a file that itself becomes a literal string: with the other kind of quotes."""
    return f'"""\n{text.strip()}\n"""'


def document(files: dict[str, str], algorithm: str = "sha256") -> bytes:
    """The TOML document: these files, in the order aa.toml, cdh.toml, policy.rego, others by name; ends in a newline."""
    ordered = [name for name in FILES if name in files] + sorted(name for name in files if name not in FILES)
    parts = [f'algorithm = "{algorithm}"\nversion = "{VERSION}"\n\n[data]\n']
    parts += [f'"{name}" = {literal(files[name])}\n' for name in ordered]
    return "\n".join([parts[0] + (parts[1] if len(parts) > 1 else ""), *parts[2:]]).encode()


def build(options: dict[str, Any]) -> bytes:
    """The TOML bytes from typed options.

    Options: ``algorithm``, ``kbs_url``, ``kbs_ca`` (PEM), ``policy`` (Rego), ``image_security_policy_uri``, ``extra`` (more
    keys of cdh's ``[image]``), or given texts: ``aa_toml``, ``cdh_toml``, ``files``. Raises :class:`CocoError` with every
    error that :func:`check` finds.
    """
    algorithm = str(options.get("algorithm") or "sha256")
    files = {str(name): str(text) for name, text in (options.get("files") or {}).items()}
    url, ca = str(options.get("kbs_url") or ""), str(options.get("kbs_ca") or "")
    image: dict[str, Any] = {}
    if options.get("image_security_policy_uri"):
        image["image_security_policy_uri"] = options["image_security_policy_uri"]
    image.update(options.get("extra") or {})
    if options.get("aa_toml"):
        files["aa.toml"] = str(options["aa_toml"])
    if options.get("cdh_toml"):
        files["cdh.toml"] = str(options["cdh_toml"])
    if url:
        files.setdefault("aa.toml", aa_toml(url, ca))
        files.setdefault("cdh.toml", cdh_toml(url, ca, image))
    if options.get("policy"):
        files.setdefault("policy.rego", str(options["policy"]))
    refuse(check(files, algorithm))
    return document(files, algorithm)


def refuse(findings: list[Finding]) -> None:
    """Raise :class:`CocoError` for the errors among the findings (all of them in one text)."""
    errors = [finding for finding in findings if finding["severity"] == "error"]
    if errors:
        raise CocoError("The initdata document cannot be used", "; ".join(finding["message"] for finding in errors),
                        " ".join(dict.fromkeys(finding["hint"] for finding in errors)), findings=findings)


def _finding(severity: str, code: str, message: str, hint: str) -> Finding:
    return {"severity": severity, "code": code, "message": message, "hint": hint}


def check(files: dict[str, str], algorithm: str, version: str = VERSION) -> list[Finding]:
    """What the guest would refuse (errors) or what is questionable (warnings) in a document's parts."""
    found: list[Finding] = []
    if algorithm not in ALGORITHMS:
        found.append(_finding("error", "algorithm", f"the algorithm {algorithm!r} is unknown to the guest",
                              f"Use one of {', '.join(ALGORITHMS)}, spelled exactly so (every register holds sha256)."))
    elif algorithm != "sha256":
        found.append(_finding("warning", "algorithm-truncated", f"a {algorithm} digest is cut to 32 bytes by PCR 8 and HOST_DATA",
                              "Use sha256 unless a document elsewhere demands this one."))
    if version != VERSION:
        found.append(_finding("error", "version", f"the version {version!r} is unknown to the guest", f"Use {VERSION}."))
    tables: dict[str, dict[str, Any]] = {}
    for name in ("aa.toml", "cdh.toml"):
        if name not in files:
            found.append(_finding("error", f"missing-{name}", f"{name} is missing: no KBS would be reached",
                                  f"Set kbs_url, or give the file {name}."))
            continue
        text = files[name]
        if text.lstrip().startswith("```"):
            found.append(_finding("error", "code-fence", f"{name} begins with a code fence",
                                  "Remove the lines with ``` that a web page put around the file."))
            continue
        try:
            tables[name] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            found.append(_finding("error", f"toml-{name}", f"{name} is no TOML: {error}", f"Correct {name}."))
    for name in files:
        if name not in FILES:
            found.append(_finding("warning", "ignored-file", f"the guest of a peer pod ignores the file {name}",
                                  f"Only {', '.join(FILES)} are used; it is measured all the same."))
    kbs = tables.get("aa.toml", {}).get("token_configs", {}).get("kbs", {})
    kbc = tables.get("cdh.toml", {}).get("kbc", {})
    if "aa.toml" in tables and not kbs.get("url"):
        found.append(_finding("error", "no-url-aa", "aa.toml names no [token_configs.kbs] url", "Add the KBS's URL."))
    if "cdh.toml" in tables and not kbc.get("url"):
        found.append(_finding("error", "no-url-cdh", "cdh.toml names no [kbc] url", "Add the KBS's URL."))
    urls = {name: str(url) for name, url in (("aa.toml", kbs.get("url")), ("cdh.toml", kbc.get("url"))) if url}
    certificates = {"aa.toml": kbs.get("cert"), "cdh.toml": kbc.get("kbs_cert")}
    for name, url in urls.items():
        found += _check_url(name, url, bool(certificates[name]))
    if len(set(urls.values())) > 1:
        found.append(_finding("error", "urls-differ", f"aa.toml names {urls['aa.toml']} and cdh.toml {urls['cdh.toml']}",
                              "Attestation and retrieval must use one KBS: write the same URL in both."))
    if len(urls) == 2 and (certificates["aa.toml"] or "").strip() != (certificates["cdh.toml"] or "").strip():
        found.append(_finding("error", "certificates-differ", "aa.toml and cdh.toml carry different certificates",
                              "Write the same CA certificate as cert in aa.toml and kbs_cert in cdh.toml."))
    for name, certificate in certificates.items():
        if certificate and "-----BEGIN CERTIFICATE-----" not in str(certificate):
            found.append(_finding("error", "certificate-form", f"the certificate in {name} is no PEM text",
                                  "Give the literal PEM of the CA, not base64 of it."))
        if certificate and "PRIVATE KEY" in str(certificate):
            found.append(_finding("error", "private-key", f"a private key is in {name}", "Initdata is public: remove it."))
    if "policy.rego" in files and "package agent_policy" not in files["policy.rego"]:
        found.append(_finding("error", "agent-policy-package", "policy.rego is not of package agent_policy",
                              "Begin it with 'package agent_policy'; the agent evaluates nothing else."))
    return found


def _check_url(name: str, url: str, certificate: bool) -> list[Finding]:
    parts = urlsplit(url)
    found = []
    if parts.scheme not in ("http", "https") or not parts.hostname:
        found.append(_finding("error", "url-form", f"the URL in {name} is {url!r}", "Write https://host[:port]."))
        return found
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        found.append(_finding("error", "url-path", f"the URL in {name} has a path: {url}",
                              "Name the root only; clients add /kbs/v0 themselves."))
    elif parts.path == "/":
        found.append(_finding("warning", "url-slash", f"the URL in {name} ends in a slash", "Leave the slash out."))
    if parts.scheme == "http" and certificate:
        found.append(_finding("error", "http-certificate", f"{name} has a certificate for an http URL",
                              "Use https, or leave the certificate out."))
    if parts.scheme == "http":
        found.append(_finding("warning", "http", f"{name} reaches the KBS over plain HTTP", "Use https."))
    return found


def encode(toml: bytes, encoding: str) -> str:
    """The text for an annotation or ``INITDATA``: standard base64, padded, one line; gzip without time or name."""
    data = gzip.compress(toml, 9, mtime=0) if encoding == "gzip+base64" else toml
    return base64.b64encode(data).decode()


def decode(text: str) -> tuple[bytes, str]:
    """(TOML bytes, encoding) of an encoded text; :class:`CocoError` where it is neither of the two encodings."""
    compact = "".join(str(text).split())
    try:
        data = base64.b64decode(compact, validate=True)
    except (binascii.Error, ValueError) as error:
        raise CocoError("The initdata cannot be decoded", f"it is no base64 ({error})",
                        "Give the text exactly as INITDATA or the annotation has it.") from error
    if data[:2] != b"\x1f\x8b":
        return data, "base64"
    try:
        return gzip.decompress(data), "gzip+base64"
    except (OSError, EOFError, zlib.error) as error:
        raise CocoError("The initdata cannot be decoded", f"its gzip data is damaged ({error})",
                        "Give the text exactly as INITDATA or the annotation has it.") from error


def parse(toml: bytes) -> dict[str, Any]:
    """``{"algorithm", "version", "data"}`` of a document; :class:`CocoError` where it is none."""
    try:
        table = tomllib.loads(toml.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CocoError("The initdata is no TOML document", str(error),
                        "Give the document whose [data] table holds aa.toml and cdh.toml.") from error
    data = table.get("data")
    if not isinstance(data, dict):
        raise CocoError("The initdata has no [data] table", f"it has {', '.join(table) or 'nothing'}",
                        "Put the files below [data].")
    return {"algorithm": str(table.get("algorithm", "")), "version": str(table.get("version", "")),
            "data": {str(name): str(text) for name, text in data.items()}}


def digest(toml: bytes, algorithm: str = "") -> bytes:
    """The digest over the exact bytes, with the document's own algorithm unless one is given."""
    name = algorithm or parse(toml)["algorithm"]
    if name not in ALGORITHMS:
        raise CocoError(f"The initdata algorithm {name!r} is unknown", "the guest would refuse the document",
                        f"Use one of {', '.join(ALGORITHMS)}.")
    result: bytes = ALGORITHMS[name](toml).digest()
    return result


def same(first: str, second: str) -> bool:
    """Do two encoded texts carry the same document? (gzip output differs between tools; texts that cannot be decoded are
    compared as they are.)"""
    try:
        return decode(first) == decode(second)
    except CocoError:
        return first == second


def check_size(encoded: str) -> list[Finding]:
    """Does the text fit into Azure's user data and an object's annotations?"""
    found = []
    if len(encoded) > LARGEST_USER_DATA:
        found.append(_finding("error", "too-large", f"the encoded document has {len(encoded)} bytes, Azure user data takes "
                              f"{LARGEST_USER_DATA}", "Shorten the agent policy or the certificate chain."))
    return found
