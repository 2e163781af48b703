"""The walls of the house: who may import what, who knows releases, who waits."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
UTILS = ROOT / "plugins" / "module_utils"
OWN = "ansible_collections.confidential.containers.plugins"
#: The files that do I/O, and those that use them. Every other file in module_utils is core: pure functions.
EDGES = {"cluster", "cluster_apply", "cluster_diff", "cluster_errors", "cluster_image", "cluster_login", "cluster_wait", "cluster_watch",
         "azure", "azure_login", "kbs", "files", "arguments"}
USERS = {"probe_pods", "probe_trustee"}
#: Modules of the standard library that only compute. No os, socket, ssl, http, subprocess, threading, time, random, pathlib.
PURE = {"__future__", "ast", "base64", "binascii", "collections", "collections.abc", "copy", "dataclasses", "datetime", "enum", "functools",
        "gzip", "hashlib", "hmac", "ipaddress", "itertools", "json", "re", "shlex", "string", "textwrap", "tomllib", "typing",
        "urllib.parse", "zlib"}
LIBRARIES = {"cryptography"}  # keys and certificates: computation, no I/O
FORBIDDEN_CALLS = {"open", "print", "input", "exec", "eval", "compile", "__import__", "breakpoint"}
CLOCKS = {"now", "today", "utcnow"}


def python(*folders: str) -> list[Path]:
    """The Python files of folders."""
    return sorted(path for folder in folders for path in (ROOT / folder).glob("**/*.py") if "__pycache__" not in path.parts)


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imports(path: Path) -> Iterator[str]:
    """Every imported module by its full name, also those inside functions; of packages of ours each name imported from them."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            if module in (OWN, f"{OWN}.module_utils", f"{OWN}.module_utils.actions", "lab"):
                yield from (f"{module}.{alias.name}" for alias in node.names)
            else:
                yield module


def core() -> list[Path]:
    return [path for path in sorted(UTILS.glob("*.py")) if path.stem not in EDGES | USERS]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_core_is_there() -> None:
    """The list above is of edges; what is not in it is checked, a new file too."""
    assert {"releases", "initdata", "measurements", "rvps", "kbs_config", "policy", "rego", "kata_policy", "readiness", "kataconfig",
            "peerpods", "olm", "preflight", "attestation", "keys", "errors", "context"} <= {path.stem for path in core()}


@pytest.mark.parametrize("path", core(), ids=name)
def test_core_imports_nothing_that_does_io(path: Path) -> None:
    allowed = {file.stem for file in core()}
    for module in imports(path):
        if module.startswith(f"{OWN}.module_utils."):
            assert module.removeprefix(f"{OWN}.module_utils.").split(".")[0] in allowed, f"{name(path)} imports {module}"
        else:
            assert module in PURE or module.split(".")[0] in LIBRARIES, f"{name(path)} imports {module}"


@pytest.mark.parametrize("path", core(), ids=name)
def test_core_opens_nothing_and_knows_no_clock(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name):
            assert node.func.id not in FORBIDDEN_CALLS, f"{name(path)}:{node.lineno} calls {node.func.id}"
        if isinstance(node.func, ast.Attribute):
            assert node.func.attr not in CLOCKS, f"{name(path)}:{node.lineno} reads the clock: take the time as an argument"


@pytest.mark.parametrize("path", [p for p in sorted(UTILS.glob("*.py")) if p.stem in EDGES], ids=name)
def test_edges_decide_nothing(path: Path) -> None:
    """Edges hold sessions: of the core they know errors, context, readiness and the image job, no releases, no policies."""
    for module in imports(path):
        if module.startswith(f"{OWN}.module_utils."):
            stem = module.removeprefix(f"{OWN}.module_utils.").split(".")[0]
            assert stem in EDGES | {"errors", "context", "readiness", "podvm_image", "azure_errors"}, f"{name(path)} imports {module}"


@pytest.mark.parametrize("path", python("plugins/filter"), ids=name)
def test_filters_reach_the_core_only(path: Path) -> None:
    allowed = {file.stem for file in core()}
    for module in imports(path):
        if module.startswith(OWN):
            assert module.removeprefix(f"{OWN}.module_utils.").split(".")[0] in allowed, f"{name(path)} imports {module}"


# The lab and the collection -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("path", python("plugins"), ids=name)
def test_the_collection_does_not_know_the_lab(path: Path) -> None:
    for module in imports(path):
        assert module.split(".")[0] not in ("lab", "tests"), f"{name(path)} imports {module}"


def test_the_lab_does_not_know_the_collection() -> None:
    files = python("lab")
    assert len(files) > 20
    for path in files:
        for module in imports(path):
            assert module.split(".")[0] not in ("ansible_collections", "plugins", "ansible", "tests"), f"{name(path)} imports {module}"


def texts(*folders: str) -> list[Path]:
    """The YAML and Jinja files of folders."""
    return sorted(path for folder in folders for path in (ROOT / folder).glob("**/*") if path.suffix in (".yml", ".yaml", ".j2"))


@pytest.mark.parametrize("path", texts("roles", "playbooks"), ids=name)
def test_roles_do_not_mention_the_lab(path: Path) -> None:
    found = re.search(r"\blab(?:[-_./]\w+)?\b|LAB_\w+", path.read_text())
    assert found is None, f"{name(path)} mentions {found[0] if found else ''}"


def test_the_lab_reads_no_variable_of_the_collection() -> None:
    products = {"coco_as", "coco_as_builtin", "coco_as_grpc"}  # words of the KBS's own configuration and token API
    for path in [file for file in (ROOT / "lab").glob("**/*") if file.suffix in (".py", ".yml", ".yaml", ".json", ".go", ".j2")]:
        found = set(re.findall(r"\bcoco_[a-z_]+", path.read_text())) - products
        assert not found, f"{name(path)} mentions {', '.join(sorted(found))}"


# Releases -------------------------------------------------------------------------------------------------------------

VERSION = re.compile(r"^v?\d+\.\d+(\.\d+)?([-+/].*)?$")
VERSION_LIBRARIES = ("packaging", "distutils", "looseversion", "semver", "ansible.module_utils.compat.version",
                     "ansible.plugins.test.core")
#: Columns of the release table that name a generation: asking for one is comparing releases by another name.
GENERATIONS = {"generation", "protocol", "name", "csv"}


def is_version(node: ast.expr) -> bool:
    if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
        return any(is_version(item) for item in node.elts)
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and VERSION.match(node.value) is not None


def version_comparisons(source: str) -> list[int]:
    """Lines that compare with a version, or look into a dict by one."""
    found = []
    for node in ast.walk(ast.parse(source)):
        hit = isinstance(node, ast.Compare) and any(is_version(side) for side in (node.left, *node.comparators))
        hit = hit or (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
                      and node.func.attr in ("startswith", "endswith") and any(is_version(argument) for argument in node.args))
        hit = hit or (isinstance(node, ast.Subscript) and is_version(node.slice))
        hit = hit or (isinstance(node, ast.Match) and any(
            isinstance(part, ast.MatchValue) and is_version(part.value) for part in ast.walk(node)))
        hit = hit or (isinstance(node, ast.Compare) and isinstance(node.left, ast.Attribute) and node.left.attr == "generation")
        if hit and isinstance(node, (ast.expr, ast.stmt)):
            found.append(node.lineno)
    return found


@pytest.mark.parametrize("path", [p for p in python("plugins") if p != UTILS / "releases.py"], ids=name)
def test_nothing_else_compares_releases(path: Path) -> None:
    assert version_comparisons(path.read_text()) == [], name(path)
    for module in imports(path):
        assert not module.startswith(VERSION_LIBRARIES), f"{name(path)} imports {module}"


#: In Jinja: the test `version`, a comparison or membership with a version, a split of the pair.
JINJA = re.compile(
    r"\bis\s+(?:not\s+)?version(?:_compare)?\b|\bversion\(|(?:[=!<>]=|[<>]|\bin)\s*[\[(]?\s*['\"]v?\d+\.\d+"
    r"|['\"]v?\d+\.\d+[\d.]*(?:/[\d.]+)?['\"]\s*(?:[=!<>]=|[<>]|in\b)|split\(\s*['\"][/.]['\"]|regex_(?:search|replace|findall)\([^)]*\\d"
    r"|\.generation\b")


@pytest.mark.parametrize("path", texts("roles", "playbooks"), ids=name)
def test_roles_do_not_compare_releases(path: Path) -> None:
    for number, line in enumerate(path.read_text().splitlines(), 1):
        assert JINJA.search(line) is None, f"{name(path)}:{number} compares releases: ask the filter release for the fact"


@pytest.mark.parametrize("line", [
    "when: coco_release is version('1.10', '>=')", "{% if release == '1.11/1.0' %}", "when: csv in ['v1.0.0']", "{{ x.split('/')[0] }}",
    "when: '1.9' == release", "{% if facts.trustee.generation == 'B' %}", 'when: release.osc.name < "1.10"',
])
def test_the_search_in_roles_finds(line: str) -> None:
    assert JINJA.search(line)


@pytest.mark.parametrize("source", [
    'if release == "1.11/1.0": pass', 'x = pair.osc.name in ("1.8", "1.9")', 'y = csv.endswith("v1.0.0")', 'z = TABLE["1.10"]',
    'w = trustee.generation == "B"', 'match r:\n case "1.0": pass',
])
def test_the_search_in_code_finds(source: str) -> None:
    assert version_comparisons(source)


# Waiting --------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("path", python("plugins"), ids=name)
def test_no_sleep(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute) and node.attr == "sleep":
            raise AssertionError(f"{name(path)}:{node.lineno} sleeps: watch, or wait for an event")
        if isinstance(node, ast.ImportFrom) and node.module in ("time", "asyncio"):
            assert "sleep" not in [alias.name for alias in node.names], f"{name(path)}:{node.lineno}"


def tasks() -> list[Path]:
    """Files with tasks; a manifest in a template may well name a command."""
    return [path for path in texts("roles", "playbooks") if not {"templates", "meta", "defaults", "vars", "files"} & set(path.parts)]


@pytest.mark.parametrize("path", tasks(), ids=name)
def test_no_pause_and_no_retries(path: Path) -> None:
    found = re.search(r"^\s*(?:-\s+)?(?:(?:ansible\.builtin\.)?(?:pause|wait_for)|until|retries|delay):", path.read_text(), re.MULTILINE)
    assert found is None, f"{name(path)}: {found[0] if found else ''}"


@pytest.mark.parametrize("path", tasks(), ids=name)
def test_roles_run_no_programs_and_ignore_no_errors(path: Path) -> None:
    found = re.search(r"^\s*(?:-\s+)?(?:(?:ansible\.builtin\.)?(?:command|shell|script|raw)|ignore_errors|kubernetes\.core\.\w+):",
                      path.read_text(), re.MULTILINE)
    assert found is None, f"{name(path)}: {found[0] if found else ''}"


def test_the_standard_library_is_what_it_is() -> None:
    """PURE holds nothing that is a package of somebody else."""
    assert {module.split(".")[0] for module in PURE} - {"__future__"} <= set(sys.stdlib_module_names)
