# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be said about Rego text without an engine: comments, strings, packages, and keywords per dialect. Pure.

Source: the style matrix of the engines in KBS and kata agent (regorus 0.1 to 0.13): a body without ``if`` does not parse on
a v1 engine; ``if`` without its import is read as a name on a v0 engine, which makes the rule unconditionally true;
``import rego.v1`` with ``if`` means the same everywhere.
"""

from __future__ import annotations

import re

Finding = dict[str, str]

_KEYWORDS = ("if", "in", "every")
_IMPORT_V1 = re.compile(r"^\s*import\s+rego\.v1\s*$", re.MULTILINE)
_IMPORT_FUTURE = re.compile(r"^\s*import\s+future\.keywords(?:\.(\w+))?\s*$", re.MULTILINE)
_PACKAGE = re.compile(r"^[ \t]*package[ \t]+(\S+)[ \t]*(.*)$", re.MULTILINE)
_CALLOUT = re.compile(r"(?:[\]})\"]|\b(?:true|false|if|input))[ \t]+(\d{1,2}|<\d{1,2}>|\(\d{1,2}\))[ \t]*$", re.MULTILINE)


def finding(severity: str, code_name: str, message: str, hint: str) -> Finding:
    """One finding: ``severity`` is error, warning or info; ``hint`` is the next step."""
    return {"severity": severity, "code": code_name, "message": message, "hint": hint}


def code(text: str, blank: bool = False) -> str:
    """The text without comments; with ``blank`` the characters inside strings become ``_`` (positions stay)."""
    result: list[str] = []
    quote = ""
    skip = False
    for character in text:
        if quote:
            if skip:
                skip = False
            elif character == "\\" and quote == '"':
                skip = True
            elif character == quote or (character == "\n" and quote == '"'):
                quote = ""
                result.append(character)
                continue
            result.append("_" if blank and character != "\n" else character)
        elif skip:  # inside a comment
            if character == "\n":
                skip = False
                result.append(character)
        elif character == "#":
            skip = True
        else:
            if character in '"`':
                quote = character
            result.append(character)
    return "".join(result)


def package(text: str) -> tuple[str, str]:
    """(name of the package, what else stands on its line); ``("", "")`` without one."""
    found = _PACKAGE.search(code(text))
    return (found.group(1), found.group(2).strip()) if found else ("", "")


def imported(text: str) -> set[str]:
    """The keywords that the text imports: of ``if``, ``in``, ``every``."""
    plain = code(text)
    if _IMPORT_V1.search(plain):
        return set(_KEYWORDS)
    names = {match.group(1) or "" for match in _IMPORT_FUTURE.finditer(plain)}
    if "" in names:
        return set(_KEYWORDS)
    return names | ({"in"} if "every" in names else set())


def bare_bodies(text: str) -> list[str]:
    """Heads of rules whose body follows without ``if`` (also ``else`` and chained bodies)."""
    blanked = code(text, blank=True)
    found: list[str] = []
    depth = start = 0
    for position, character in enumerate(blanked):
        if character in "{[(":
            head = blanked[start:position]
            if character == "{" and depth == 0:
                plain = " ".join(head.split())
                value = plain.endswith(("=", ",", "|", ":")) or plain.startswith(("default ", "import ", "package "))
                if not value and not re.search(r"(^|\s)(if|in|:=.*\bevery)(\s|$)", plain):
                    found.append(plain or "{")
            depth += 1
        elif character in "}])":
            depth = max(0, depth - 1)
            if depth == 0 and character == "}":
                start = position + 1
        elif character == "\n" and depth == 0:
            start = position + 1
    return found


def lint(text: str, wanted: str, dialects: tuple[str, ...] | list[str], engine: str) -> list[Finding]:
    """Faults of form: package, callout digits, keywords against the engine's dialects.

    ``wanted``: the only package that is evaluated. ``engine``: who evaluates, for the text ("the KBS of Trustee 1.0").
    """
    found: list[Finding] = []
    if text.lstrip().startswith("```"):
        return [finding("error", "code-fence", "the policy begins with a code fence",
                        "Remove the lines with ``` that a web page put around it.")]
    name, rest = package(text)
    if name != wanted:
        found.append(finding("error", "package", f"the package is {name or 'not declared'}",
                             f"Begin the text with 'package {wanted}'; {engine} evaluates nothing else."))
    callout = _CALLOUT.search(code(text))
    if rest:
        found.append(finding("error", "callout", f"{rest!r} follows the package name",
                             "Remove it (a callout number copied from a document does not parse)."))
    elif callout:
        line = code(text)[:callout.end()].rsplit("\n", 1)[-1].strip()
        found.append(finding("error", "callout", f"a line ends in a stray number: {line!r}",
                             "Remove it (a callout number copied from a document does not parse)."))
    keywords = imported(text)
    blanked = code(text, blank=True)
    if "v0" in dialects:
        if "if" not in keywords and re.search(r"(?<![\w.])if(?![\w(])", _without_imports(blanked)):
            found.append(finding("error", "if-without-import", "'if' is used without 'import rego.v1'",
                                 f"Add 'import rego.v1': without it {engine} reads 'if' as a name and the rule is always true."))
        for word in ("in", "every"):
            if word not in keywords and re.search(rf"(?<![\w.]){word}(?![\w(])", _without_imports(blanked)):
                found.append(finding("error", "keyword-without-import", f"'{word}' is used without its import",
                                     f"Add 'import rego.v1': {engine} does not know '{word}' otherwise."))
    if "v1" in dialects or _IMPORT_V1.search(code(text)):
        bare = bare_bodies(text)
        if bare:
            found.append(finding("error", "body-without-if", f"a rule body without 'if': {bare[0]}",
                                 f"Write 'if' before the body: {engine} does not parse it otherwise."))
    return found


def _without_imports(text: str) -> str:
    return re.sub(r"^\s*import\s.*$", "", text, flags=re.MULTILINE)


def default_of(text: str, name: str) -> str | None:
    """The value of ``default <name> := <value>`` as written; None without one."""
    found = re.search(rf"^[ \t]*default[ \t]+{re.escape(name)}[ \t]*:?=[ \t]*(\S+)", code(text), re.MULTILINE)
    return found.group(1) if found else None


def defines(text: str, name: str) -> bool:
    """Is there a default or a rule of that name at the top level?"""
    return re.search(rf"^[ \t]*(?:default[ \t]+)?{re.escape(name)}(?![\w.])", code(text), re.MULTILINE) is not None
