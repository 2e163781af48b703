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
import re
import tomllib
import zlib
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.confidential.containers.plugins.module_utils import kata_policy
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError
from ansible_collections.confidential.containers.plugins.module_utils.releases import OscRelease

Finding = dict[str, str]

ALGORITHMS: dict[str, Callable[..., Any]] = {"sha256": hashlib.sha256, "sha384": hashlib.sha384, "sha512": hashlib.sha512}
VERSION = "0.1.0"
FILES = ("aa.toml", "cdh.toml", "policy.rego")
CDH_SOCKET = "unix:///run/confidential-containers/cdh.sock"
#: Azure refuses more user data than this, in bytes of base64; the encoded document is a part of it.
LARGEST_USER_DATA = 64 * 1024
#: What cloud-api-adaptor puts into the user data beside the document, at least: bytes before base64.
USER_DATA_FRAME = 1024
#: Registry credentials, which it adds when there are any: bytes at most.
LARGEST_CREDENTIALS = 12288
#: All annotations of an object together, in bytes.
LARGEST_ANNOTATIONS = 256 * 1024
#: A decompressed document above this is an attack: bytes.
LARGEST_DOCUMENT = 16 * 1024 * 1024
KBC_NAMES = ("cc_kbc", "offline_fs_kbc")
CERTIFICATE_BEGIN = "-----BEGIN CERTIFICATE-----"

_FENCE = "```"


def _plain(text: str) -> bool:
    return all(c in "\t\n" or (ord(c) >= 32 and ord(c) != 127) for c in text)


def _escaped(text: str, lines: bool) -> str:
    keep = "\t\n" if lines else "\t"
    return "".join(
        "\\" + c if c in '\\"' else c if c in keep or (ord(c) >= 32 and ord(c) != 127) else f"\\u{ord(c):04x}" for c in text
    )


def literal(text: str) -> str:
    """A TOML multi-line string that means ``text`` exactly.

    The literal form is used wherever it can hold the text: nothing in it is escaped and the newline right after the
    opening quotes is dropped. Text with ``'''`` or control characters needs the basic form with escapes.
    """
    if _plain(text) and "'''" not in text and not text.endswith("'"):
        return f"'''\n{text}'''"
    return '"""\n' + _escaped(text, lines=True) + '"""'


def _string(text: str) -> str:
    return '"' + _escaped(text, lines=False) + '"'


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    text = str(value)
    return f'"""\n{_escaped(text, lines=True)}"""' if "\n" in text else _string(text)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _string(name)


def _table(path: str, table: dict[str, Any]) -> list[str]:
    """Lines of a TOML table: its values, then its tables; empty values are left out."""
    lines = ["", f"[{path}]"]
    lines += [f"{_key(k)} = {_value(v)}" for k, v in table.items() if not isinstance(v, dict) and v not in (None, "", [])]
    for name, inner in table.items():
        if isinstance(inner, dict):
            lines += _table(f"{path}.{_key(name)}", inner)
    return lines


def aa_toml(url: str, ca: str = "") -> str:
    """The attestation agent's file for a KBS: its URL and, for a private authority, the CA's PEM."""
    lines = ["[token_configs]", "[token_configs.kbs]", f"url = {_string(url)}"]
    if ca:
        lines.append(f"cert = {_pem(ca)}")
    return "\n".join(lines) + "\n"


def cdh_toml(url: str, ca: str = "", image: dict[str, Any] | None = None) -> str:
    """The data hub's file for a KBS; ``image`` becomes its ``[image]`` table (a dict in it a table of its own)."""
    lines = [f"socket = '{CDH_SOCKET}'", "credentials = []", "", "[kbc]", f"name = {_string('cc_kbc')}",
             f"url = {_string(url)}"]
    if ca:
        lines.append(f"kbs_cert = {_pem(ca)}")
    if image:
        lines += _table("image", image)
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
    error that :func:`check` finds. The same options always give the same bytes.
    """
    algorithm = str(options.get("algorithm") or "sha256")
    files = {str(name): text if isinstance(text, str) else "" for name, text in (options.get("files") or {}).items()}
    odd = [name for name, text in (options.get("files") or {}).items() if not isinstance(text, str)]
    if odd:
        raise CocoError("The initdata document cannot be used", f"the content of {', '.join(map(str, odd))} is no text",
                        "Give each file as one text.")
    url, ca = str(options.get("kbs_url") or "").strip(), str(options.get("kbs_ca") or "")
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


#: The keys of a named document.
DOCUMENT_KEYS = ("algorithm", "agent_policy", "policy_rego", "image_security_policy", "resources", "aa_toml", "cdh_toml", "extra")


def named(name: str, chosen: Any, defaults: dict[str, Any]) -> dict[str, Any]:
    """The options of :func:`build` for one named document, and its ``resources`` (the Secrets that it opens; None: all).

    ``chosen``: any of :data:`DOCUMENT_KEYS`; ``defaults``: ``algorithm``, ``agent_policy``, ``image_security_policy`` of
    documents that name none, and ``security_policy_secret``. Raises :class:`CocoError` for another key or shape.
    """
    chosen = {} if chosen is None else chosen
    odd = sorted(map(str, set(chosen) - set(DOCUMENT_KEYS))) if isinstance(chosen, dict) else [f"a {type(chosen).__name__}"]
    if odd:
        raise CocoError(f"The initdata document {name} cannot be built", f"it holds {', '.join(odd)}",
                        f"Give a map with any of {', '.join(DOCUMENT_KEYS)}.")
    chosen = {**{key: defaults[key] for key in ("algorithm", "agent_policy", "image_security_policy")},
              **{key: value for key, value in chosen.items() if value is not None}}
    return {
        "algorithm": chosen["algorithm"],
        "policy": chosen.get("policy_rego") or kata_policy.render(chosen["agent_policy"]),
        "image_security_policy_uri": f"kbs:///default/{defaults['security_policy_secret']}/{chosen['image_security_policy']}",
        "aa_toml": chosen.get("aa_toml"), "cdh_toml": chosen.get("cdh_toml"), "extra": chosen.get("extra") or {},
        "resources": chosen.get("resources"),
    }


def refuse(findings: list[Finding]) -> None:
    """Raise :class:`CocoError` for the errors among the findings (all of them in one text)."""
    errors = [finding for finding in findings if finding["severity"] == "error"]
    if errors:
        raise CocoError("The initdata document cannot be used", "; ".join(finding["message"] for finding in errors),
                        " ".join(dict.fromkeys(finding["hint"] for finding in errors)), findings=findings)


def _finding(severity: str, code: str, message: str, hint: str) -> Finding:
    return {"severity": severity, "code": code, "message": message, "hint": hint}


def check(files: dict[str, str], algorithm: str, version: str = VERSION, osc: OscRelease | None = None) -> list[Finding]:
    """What the guest would refuse or silently miss (errors) and what is questionable (warnings) in a document's parts.

    ``osc`` gives the dialect of the guest's policy engine. Certificates are looked into by ``keys.check_embedded``.
    """
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
        elif files[name].lstrip().startswith(_FENCE):
            found.append(_finding("error", "code-fence", f"{name} begins with a code fence",
                                  f"Remove the lines with {_FENCE} that a web page put around the file."))
        else:
            try:
                tables[name] = tomllib.loads(files[name])
            except tomllib.TOMLDecodeError as error:
                found.append(_finding("error", f"toml-{name}", f"{name} is no TOML: {error}", f"Correct {name}."))
    for name in files:
        if name not in FILES:
            found.append(_finding("warning", "ignored-file", f"the guest of a peer pod ignores the file {name}",
                                  f"Only {', '.join(FILES)} are used; it is measured all the same."))
    found += _check_clients(tables)
    if "policy.rego" in files:
        found += kata_policy.lint(files["policy.rego"], osc.agent_rego if osc else ("v0",))
    return found


def _section(table: dict[str, Any], *path: str) -> dict[str, Any]:
    for name in path:
        inner = table.get(name)
        table = inner if isinstance(inner, dict) else {}
    return table


def _check_clients(tables: dict[str, dict[str, Any]]) -> list[Finding]:
    """The two clients of one KBS: the attestation agent (aa.toml) and the data hub (cdh.toml)."""
    found: list[Finding] = []
    kbs = _section(tables.get("aa.toml", {}), "token_configs", "kbs")
    kbc = _section(tables.get("cdh.toml", {}), "kbc")
    if "aa.toml" in tables and not kbs.get("url"):
        found.append(_finding("error", "no-url-aa", "aa.toml names no [token_configs.kbs] url", "Add the KBS's URL."))
    if "cdh.toml" in tables and not kbc.get("url"):
        found.append(_finding("error", "no-url-cdh", "cdh.toml names no [kbc] url", "Add the KBS's URL."))
    if "cdh.toml" in tables and kbc.get("name") not in KBC_NAMES:
        found.append(_finding("error", "kbc-name", f"the [kbc] name of cdh.toml is {kbc.get('name')!r}", 'Write name = "cc_kbc".'))
    for name, table, right, wrong in (("aa.toml", kbs, "cert", "kbs_cert"), ("cdh.toml", kbc, "kbs_cert", "cert")):
        if wrong in table and right not in table:
            found.append(_finding("error", "certificate-key", f"{name} gives the certificate as {wrong}, which is ignored there",
                                  f"Name it {right}."))
    if "registry_config" in _section(tables.get("cdh.toml", {}), "image"):
        found.append(_finding("warning", "registry-config", "[image.registry_config] written inline is ignored",
                              "Store it in the KBS and name it by registry_configuration_uri."))
    urls = {name: str(url) for name, url in (("aa.toml", kbs.get("url")), ("cdh.toml", kbc.get("url"))) if url}
    certificates = {"aa.toml": str(kbs.get("cert") or ""), "cdh.toml": str(kbc.get("kbs_cert") or "")}
    for name, url in urls.items():
        found += _check_url(name, url, bool(certificates[name]))
    if len(set(urls.values())) > 1:
        found.append(_finding("error", "urls-differ", f"aa.toml names {urls['aa.toml']} and cdh.toml {urls['cdh.toml']}",
                              "Attestation and retrieval must use one KBS: write the same URL in both."))
    if len(urls) == 2 and certificates["aa.toml"].strip() != certificates["cdh.toml"].strip():
        found.append(_finding("error", "certificates-differ", "aa.toml and cdh.toml carry different certificates",
                              "Write the same CA certificate as cert in aa.toml and kbs_cert in cdh.toml."))
    for name, certificate in certificates.items():
        if certificate and CERTIFICATE_BEGIN not in certificate:
            found.append(_finding("error", "certificate-form", f"the certificate in {name} is no PEM text",
                                  "Give the literal PEM of the CA, not base64 of it."))
        if "PRIVATE KEY" in certificate:
            found.append(_finding("error", "private-key", f"a private key is in {name}", "Initdata is public: remove it."))
    return found


def _check_url(name: str, url: str, certificate: bool) -> list[Finding]:
    found = []
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or re.search(r"[\s<>{}\"']", url):
        found.append(_finding("error", "url-form", f"the URL in {name} is {url!r}", "Write https://host[:port]."))
        return found
    if parts.username is not None:
        found.append(_finding("error", "url-user", f"the URL in {name} names a user", "Initdata is public: leave it out."))
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
    if (parts.scheme, port) in (("https", 443), ("http", 80)):
        found.append(_finding("warning", "url-port", f"the URL in {name} names the usual port {port}", "Leave it out."))
    return found


def certificates(files: dict[str, str]) -> dict[str, str]:
    """The PEM text that ``aa.toml`` and ``cdh.toml`` carry, by file; empty where a file carries none or is no TOML."""
    result = {}
    for name, path, key in (("aa.toml", ("token_configs", "kbs"), "cert"), ("cdh.toml", ("kbc",), "kbs_cert")):
        try:
            result[name] = str(_section(tomllib.loads(files.get(name, "")), *path).get(key) or "")
        except tomllib.TOMLDecodeError:
            result[name] = ""
    return result


def kbs_url(files: dict[str, str]) -> str:
    """The KBS's URL that ``aa.toml`` names; empty without one."""
    try:
        return str(_section(tomllib.loads(files.get("aa.toml", "")), "token_configs", "kbs").get("url") or "")
    except tomllib.TOMLDecodeError:
        return ""


def encode(toml: bytes, encoding: str) -> str:
    """The text for an annotation or ``INITDATA``: standard base64, padded, one line; gzip without time or name."""
    data = gzip.compress(toml, 9, mtime=0) if encoding == "gzip+base64" else toml
    return base64.b64encode(data).decode()


def decode(text: str) -> tuple[bytes, str]:
    """(TOML bytes, encoding) of an encoded text; :class:`CocoError` where it is neither of the two encodings.

    More tolerant than guests are (blanks, lost padding): what they would refuse is said by :func:`check_encoded`. Of several
    gzip members only the first is read, as guests do.
    """
    compact = "".join(str(text).split())
    try:
        data = base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise CocoError("The initdata cannot be decoded", f"it is no base64 ({error})",
                        "Give the text exactly as INITDATA or the annotation has it.") from error
    if data[:2] != b"\x1f\x8b":
        return data, "base64"
    unzip = zlib.decompressobj(wbits=31)
    try:
        result = unzip.decompress(data, LARGEST_DOCUMENT)
    except zlib.error as error:
        raise CocoError("The initdata cannot be decoded", f"its gzip data is damaged ({error})",
                        "Give the text exactly as INITDATA or the annotation has it.") from error
    if not unzip.eof:
        seen = f"it is larger than {LARGEST_DOCUMENT} bytes" if unzip.unconsumed_tail else "its gzip data ends too early"
        raise CocoError("The initdata cannot be decoded", seen, "Give the text exactly as INITDATA or the annotation has it.")
    return result, "gzip+base64"


def check_encoded(text: str, osc: OscRelease | None = None) -> list[Finding]:
    """What a guest would refuse in an encoded text that :func:`decode` can read; ``osc`` says which encoding it wants."""
    found: list[Finding] = []
    compact = "".join(str(text).split())
    if compact != text:
        found.append(_finding("error", "blanks", "the encoded text has line breaks or blanks",
                              "Write it in one line without an end of line (base64 -w0)."))
    if len(compact) % 4:
        found.append(_finding("warning", "padding", "the base64 padding is missing", "Keep the = signs at the end."))
    encoding = decode(text)[1]
    if osc is not None and encoding != osc.initdata_encoding:
        found.append(_finding("error", "encoding", f"the text is {encoding}, guests of OSC {osc.name} read {osc.initdata_encoding}",
                              "Build it for the release of the cluster that runs the pods."))
    if encoding == "gzip+base64":
        unzip = zlib.decompressobj(wbits=31)
        unzip.decompress(base64.b64decode(compact + "=" * (-len(compact) % 4)))
        if unzip.unused_data:
            found.append(_finding("warning", "gzip-members", "something follows the compressed document",
                                  "Guests read the first part only; build it anew."))
    return found + check_size(text)


def parse(toml: bytes) -> dict[str, Any]:
    """``{"algorithm", "version", "data"}`` of a document; :class:`CocoError` where it is none."""
    try:
        table = tomllib.loads(toml.decode("utf-8-sig").replace("\r\n", "\n"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CocoError("The initdata is no TOML document", str(error),
                        "Give the document whose [data] table holds aa.toml and cdh.toml.") from error
    data = table.get("data")
    if not isinstance(data, dict):
        raise CocoError("The initdata has no [data] table", f"it has {', '.join(table) or 'nothing'}",
                        "Put the files below [data].")
    odd = [str(name) for name, text in data.items() if not isinstance(text, str)]
    if odd:
        raise CocoError("The initdata is not what a guest reads", f"[data] {', '.join(odd)} is no text",
                        "Every entry of [data] is a whole file as one string.")
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
    """Does the text fit into Azure's user data, together with what the adaptor adds, and into an object's annotations?"""
    def user_data(besides: int) -> int:
        return -(-(len(encoded) + besides) // 3) * 4

    hint = "Shorten the agent policy or the certificate chain."
    if len(encoded) > LARGEST_ANNOTATIONS:
        return [_finding("error", "too-large", f"the encoded document has {len(encoded)} bytes, all annotations together may have "
                         f"{LARGEST_ANNOTATIONS}", hint)]
    if user_data(USER_DATA_FRAME) > LARGEST_USER_DATA:
        return [_finding("error", "too-large", f"the encoded document has {len(encoded)} bytes, which makes more than the "
                         f"{LARGEST_USER_DATA} that Azure takes as user data", hint)]
    if user_data(USER_DATA_FRAME + LARGEST_CREDENTIALS * 4 // 3) > LARGEST_USER_DATA:
        return [_finding("warning", "large", f"the encoded document has {len(encoded)} bytes: with registry credentials beside it "
                         "Azure's limit for user data may be passed", hint)]
    return []
