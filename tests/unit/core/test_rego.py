"""rego.py: what is said of a text without an engine is what engines do. Source: the style matrix of trustee.md 9."""

from __future__ import annotations

import pytest
import regorus

from ansible_collections.confidential.containers.plugins.module_utils import rego

HEAD = "package policy\n"


def engine(text: str, v0: bool, value: int = 1) -> str:
    """``true``, ``false``, ``undefined`` or ``error``, as data.policy.allow comes out for input.x = value."""
    made = regorus.Engine()
    made.set_rego_v0(v0)
    try:
        made.add_policy("p.rego", text)
        made.set_input_json(f'{{"x": {value}}}')
        return str(made.eval_rule_as_json("data.policy.allow")).strip('"<>')
    except Exception:
        return "error"


def codes(text: str, *dialects: str) -> set[str]:
    return {item["code"] for item in rego.lint(text, "policy", dialects, "the engine")}


STYLES = {
    "bare": HEAD + "default allow = false\nallow { input.x == 1 }\n",
    "if": HEAD + "default allow = false\nallow if { input.x == 1 }\n",
    "v1": HEAD + "import rego.v1\ndefault allow := false\nallow if { input.x == 1 }\n",
    "future": HEAD + "import future.keywords.if\ndefault allow = false\nallow if { input.x == 1 }\n",
}


@pytest.mark.parametrize(("style", "v0", "right", "wrong", "code"), [
    ("bare", True, "true", "false", ""), ("bare", False, "error", "error", "body-without-if"),
    ("if", True, "true", "true", "if-without-import"), ("if", False, "true", "false", ""),
    ("v1", True, "true", "false", ""), ("v1", False, "true", "false", ""),
    ("future", True, "true", "false", ""), ("future", False, "true", "false", ""),
])
def test_style_matrix(style: str, v0: bool, right: str, wrong: str, code: str) -> None:
    """The matrix of trustee.md 9, run, and what the lint says of each cell."""
    text = STYLES[style]
    assert (engine(text, v0, 1), engine(text, v0, 2)) == (right, wrong)
    assert codes(text, "v0" if v0 else "v1") == ({code} if code else set())


def test_a_release_with_both_dialects_gets_both_lints() -> None:
    assert codes(STYLES["if"], "v0", "v1") == {"if-without-import"}
    assert codes(STYLES["bare"], "v0", "v1") == {"body-without-if"}
    assert codes(STYLES["v1"], "v0", "v1") == set()


@pytest.mark.parametrize(("text", "blanked"), [
    ("a # b\nc", "a \nc"), ('a "# no" # yes', 'a "____" '), ("`# {raw}` x", "`_______` x"), ('"\\"#" # c', '"___" '), ("# only", ""),
    ('a "b\nc # d', 'a "_\nc '), ("`a\nb`", "`_\n_`"), ('"a" "b#" # c', '"_" "__" '),
])
def test_comments_and_strings(text: str, blanked: str) -> None:
    """A string in double quotes ends with its line; one in backticks may have several."""
    assert rego.code(text, blank=True) == blanked


def test_strings_stay_where_nothing_is_said() -> None:
    assert rego.code('x := "# a" # b\n') == 'x := "# a" \n'


@pytest.mark.parametrize(("text", "name", "rest"), [
    ("package policy\n", "policy", ""), ("# package other\npackage policy # x\n", "policy", ""), ("package policy 1\n", "policy", "1"),
    ("\n  package a.b\n", "a.b", ""), ("x = 1\n", "", ""),
])
def test_package(text: str, name: str, rest: str) -> None:
    assert rego.package(text) == (name, rest)


@pytest.mark.parametrize(("line", "found"), [
    ("import rego.v1", {"if", "in", "every"}), ("import future.keywords", {"if", "in", "every"}), ("import future.keywords.if", {"if"}),
    ("import future.keywords.every", {"every", "in"}), ("# import rego.v1", set()), ("import data.x", set()), ("", set()),
])
def test_imports(line: str, found: set[str]) -> None:
    assert rego.imported(HEAD + line + "\n") == found


@pytest.mark.parametrize(("text", "heads"), [
    ("allow { input.x }", ["allow"]), ("allow if { input.x }", []), ('x := {"a": 1}', []), ("default x = {}", []),
    ("f(x) { x }", ["f(x)"]), ("allow if input.x in {1, 2}", []), ("allow if { a } else { b }", ["else"]),
    ("allow { a }\nother { b }", ["allow", "other"]),
    ('x := "{"', []), ('x := "}"\nallow { a }', ["allow"]), ("allow { a } { b }", ["allow", "{"]), ("f({1}) { x }", ["f({1})"]),
    ("allow {\n\tx := {1}\n\ty\n}\nother if z", ["allow"]), ("}\nallow { a }", ["allow"]), ("allow { a }else { b }", ["allow", "else"]),
    ("allow if {\n\tevery k in input { k }\n}", []), ("x := [y | y := input.z[_]]", []), ('allow if input["{"]', []),
])
def test_bodies_without_if(text: str, heads: list[str]) -> None:
    assert rego.bare_bodies(HEAD + text + "\n") == heads


@pytest.mark.parametrize(("text", "value"), [
    ("default x := 33\n", "33"), ("default x = true\n", "true"), ("  default  x  :=  false\n", "false"), ("# default x := 1\n", None),
    ("default xy := 1\n", None), ("x := 1\n", None), ("y := \"default x := 1\"\n", None),
])
def test_defaults(text: str, value: str | None) -> None:
    assert rego.default_of(text, "x") == value


@pytest.mark.parametrize(("text", "found"), [
    ("x := 1\n", True), ("default x := 1\n", True), ("x if y\n", True), ("x.y := 1\n", False), ("xy := 1\n", False),
    ("# x := 1\n", False), ("y := x\n", False),
])
def test_defined(text: str, found: bool) -> None:
    assert rego.defines(text, "x") is found


@pytest.mark.parametrize("line", ["default allow = false 1", 'x = "a" <2>', "allow { true } (3)"])
def test_callouts(line: str) -> None:
    """Numbers that a web page left at the ends of lines."""
    assert "callout" in codes(HEAD + line + "\n", "v0")
    assert engine(HEAD + line + "\n", True) == "error"


def test_words_that_only_look_like_keywords() -> None:
    assert codes(HEAD + "import rego.v1\nx := input.if\ny := data.every.in\n", "v0") == set()
    assert codes(HEAD + 'x = "if in every"\n# if\n', "v0") == set()
    assert codes(HEAD + "x { y in input.z }\n", "v0") == {"keyword-without-import"}
