"""The comparable form of a request and of an answer: what is random or a matter of time is replaced by its shape.

``python -m tests.contract.forms RECORDING`` condenses a recording of a real server into what the suite compares with; RECORDING
may also be the reference that lists the exchanges of generation C in a compact form.
"""

from __future__ import annotations

import base64
import json
import re
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

COOKIE = re.compile(r"kbs-session-id=[0-9a-f]{32}; Expires=\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT")
NONCE = re.compile(r"[A-Za-z0-9+/]{43}=")
SIZE = re.compile(r"<\d+ bytes>")
LENGTHS = ("x", "y", "n", "report_data", "encrypted_key", "iv", "ciphertext", "tag")
GROUPS_LEFT_OUT = ("cli/",)  # what kbs-client sends; the same calls are in the other groups


def unb64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def shape(value: Any, name: str = "") -> Any:
    """A JSON value with random texts replaced."""
    if isinstance(value, dict):
        return {key: shape(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item, name) for item in value]
    if isinstance(value, str):
        if name == "nonce" and NONCE.fullmatch(value):
            return "<32 bytes in base64>"
        if name == "x5c":
            return _certificate(value)
        if name in LENGTHS:
            return f"<{len(value)} characters>"
        if name.replace("_", "-") == "additional-evidence" and value:
            return "<additional evidence>"
    return value


def _certificate(text: str) -> str:
    if set(text) & set("+/="):
        return "<certificate in standard base64>" if base64.b64decode(text, validate=True)[:1] == b"\x30" else text
    return "<certificate>" if unb64url(text)[:1] == b"\x30" else text


def token(text: str) -> dict[str, Any]:
    """The shape of an attestation token."""
    head, claims = (json.loads(unb64url(part)) for part in text.split(".")[:2])
    form: dict[str, Any] = shape(claims)
    form["iat"], form["exp"] = "<now>", f"<iat + {claims['exp'] - claims['iat']}>"
    return {"header": shape(head), "claims": form}


def body(data: bytes) -> Any:
    """The shape of an answer's body."""
    text = data.decode("utf-8", "backslashreplace")
    try:
        value = json.loads(text)
    except ValueError:
        return text
    if not isinstance(value, dict):
        return value
    if "token" in value:
        return {**value, "token": token(value["token"])}
    if "protected" in value:
        if value["protected"].startswith("{"):  # 0.1.x: the header's text as it is
            return shape(value)
        return {**shape(value), "protected": shape(json.loads(unb64url(value["protected"])))}
    if "type" in value or "nonce" in value:
        return shape(value)
    return dict(sorted(value.items()))  # reference values: a map in random order


def answer(status: int, headers: dict[str, str], data: bytes) -> dict[str, Any]:
    """The comparable form of an answer. The date is left out; so is the length of a token, whose certificate varies."""
    kept = {name.lower(): value for name, value in headers.items() if name.lower() != "date"}
    if COOKIE.fullmatch(kept.get("set-cookie", "")):
        kept["set-cookie"] = "<session>"
    if data.startswith(b'{"token"'):
        kept.pop("content-length", None)
    return {"status": status, "headers": dict(sorted(kept.items())), "body": body(data)}


def request(method: str, path: str, headers: dict[str, str], data: bytes) -> dict[str, Any]:
    """The comparable form of a request: enough to see that the exchange is the recorded one."""
    form: dict[str, Any] = {"method": method, "path": unquote(path)}
    if "cookie" in headers:
        form["cookie"] = True
    if "authorization" in headers:
        form["authorization"] = _authorization(headers["authorization"])
    if data:
        form["body"] = _sent(data)
    return form


def _authorization(value: str) -> str:
    scheme, _, text = value.partition(" ")
    if not text.startswith("eyJ"):
        return value
    try:
        head, claims = (json.loads(unb64url(part)) for part in text.split(".")[:2])
        if head["alg"] == "EdDSA":
            return f"{scheme} <administrator: {' '.join(sorted(claims))}>"
    except ValueError:
        pass  # the recording has the beginning of a token only
    return f"{scheme} <token>"


def _sent(data: bytes) -> Any:
    try:
        value = json.loads(data)
    except ValueError:
        return data.decode() if len(data) < 100 and data.isascii() else f"<{len(data)} bytes>"
    if not isinstance(value, dict):
        return value
    if "base64" in value:  # the recording's way to write bytes that are no text
        return f"<{len(base64.b64decode(value['base64']))} bytes>"
    if "begins" in value:  # ... and a long text
        value = dict(re.findall(r'"(type|policy_id)": "([^"]*)"', value["begins"])) | {"policy": ""}
    if "policy" in value:
        return {**value, "policy": "<policy>"}
    if isinstance(value.get("tee-evidence"), str):
        value["tee-evidence"] = "<evidence as text>"
    if "runtime-data" in value and isinstance(value.get("init-data"), dict):
        value["init-data"]["body"] = "<document>"
    return shape(value)


def condense(recording: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A recording in comparable forms."""
    found = []
    for exchange in recording:
        if exchange["label"].startswith(GROUPS_LEFT_OUT):
            continue
        asked, got = exchange["request"], exchange["response"]
        sent = asked["body"] if isinstance(asked["body"], str) else json.dumps(asked["body"])
        form = answer(got["status"], got["headers"], got["body"].encode() if isinstance(got["body"], str) else b"")
        if isinstance(got["body"], dict):  # a text that the recording leaves out
            form["body"] = {"begins": got["body"].get("begins", "")}
        found.append({"label": exchange["label"], "request": request(asked["method"], asked["path"], asked["headers"],
                                                                     sent.encode()), "answer": form})
    return found


# A recording of which only the compact form is left (trustee-verified.md 4.1): less is compared.

_LINE = re.compile(r"- `(?P<label>[^`#]+)(#\d+)?`: (?P<method>[A-Z]+) (?P<path>\S+)(?P<sent>( \+\w+)*)( `.*?`)? -> (?P<status>\d+)"
                   r"( \[(?P<headers>[^\]]*)\])?( `(?P<body>.*))?$")
_HEADERS = ("allow", "content-type", "set-cookie")


def parse_compact(text: str) -> list[dict[str, Any]]:
    """The exchanges of a list in Markdown, but those of a client program."""
    found = []
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is None or match["label"].startswith(GROUPS_LEFT_OUT):
            continue
        asked: dict[str, Any] = {"method": match["method"], "path": unquote(match["path"])}
        asked |= {name: True for name, sign in (("cookie", "+cookie"), ("authorization", "+bearer"), ("authorization", "+authz"))
                  if sign in match["sent"]}
        heads = re.findall(r"(allow|content-type|set-cookie)(?:=([^,\]]*(?:, \w+)*))?", match["headers"] or "")
        body = (match["body"] or "").removesuffix("`").replace('"E/', '"https://github.com/confidential-containers/kbs/errors/')
        found.append({"label": match["label"], "request": asked, "answer": {
            "status": int(match["status"]), "headers": {name: value or "<session>" for name, value in sorted(heads)},
            "body": _kind(body)}})
    return found


def compact_request(form: dict[str, Any]) -> dict[str, Any]:
    """What is left of a request's comparable form."""
    return {name: True if name in ("cookie", "authorization") else form[name]
            for name in ("method", "path", "cookie", "authorization") if name in form}


def compact_answer(form: dict[str, Any]) -> dict[str, Any]:
    """What is left of an answer's comparable form."""
    body = form["body"] if isinstance(form["body"], str) else json.dumps(form["body"], separators=(",", ":"))
    return {"status": form["status"], "headers": {name: value for name, value in form["headers"].items() if name in _HEADERS},
            "body": _kind(body)}


def _kind(body: str) -> Any:
    """An error or a value as it is; tokens, challenges, secrets and longer texts by what they are."""
    for begin, kind in (('{"token"', "<token>"), ('{"nonce"', "<challenge>"), ('{"protected"', "<secret>"), ("# HELP", "<metrics>")):
        if body.startswith(begin):
            return kind
    if body.endswith("..") or (len(body) > 60 and " " not in body):
        return "<text>"
    try:
        return json.loads(body)
    except ValueError:
        return body


if __name__ == "__main__":
    source = Path(sys.argv[1])
    if source.suffix == ".md":
        found = parse_compact(source.read_text().partition("### 4.1")[2].partition("### 4.2")[0])
    else:
        found = condense(json.loads(source.read_text()))
    lines = [json.dumps(item) for item in found]
    print("[\n" + ",\n".join(lines) + "\n]")
