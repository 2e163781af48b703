"""Modules, action plugins and their common function go together; action groups are complete; every file has its licence."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.confidential.containers.plugins.module_utils.arguments import azure_options, cluster_options

ROOT = Path(__file__).parents[3]
PLUGINS = ROOT / "plugins"
OWN = "ansible_collections.confidential.containers.plugins"
MODULES = sorted(path.stem for path in (PLUGINS / "modules").glob("*.py"))
RUNTIME = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text())
HEADER = """# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""


def work(name: str) -> Any:
    return importlib.import_module(f"{OWN}.module_utils.actions.{name}")


def documentation(name: str) -> dict[str, Any]:
    found = importlib.import_module(f"{OWN}.modules.{name}").DOCUMENTATION
    result: dict[str, Any] = yaml.safe_load(found)
    return result


def stems(*parts: str) -> list[str]:
    return sorted(path.stem for path in PLUGINS.joinpath(*parts).glob("*.py") if path.stem != "__init__")


def test_each_module_has_its_function_and_its_front() -> None:
    assert MODULES
    assert stems("action") == MODULES
    assert stems("module_utils", "actions") == MODULES


@pytest.mark.parametrize("name", MODULES)
def test_the_front_is_two_lines(name: str) -> None:
    """Imports at file level (paid once per playbook), the common class, nothing else (design.md rule 4)."""
    body = ast.parse((PLUGINS / "action" / f"{name}.py").read_text()).body
    assert [type(node).__name__ for node in body] == ["ImportFrom", "ImportFrom", "ImportFrom", "ClassDef"]
    own, front, action = body[1:]
    assert isinstance(own, ast.ImportFrom)
    assert (own.module, [(alias.name, alias.asname) for alias in own.names]) == (f"{OWN}.module_utils.actions", [(name, "work")])
    assert isinstance(front, ast.ImportFrom)
    assert (front.module, [alias.name for alias in front.names]) == (f"{OWN}.plugin_utils.front", ["Front"])
    assert isinstance(action, ast.ClassDef)
    assert ast.unparse(action) == "class ActionModule(Front):\n    work = work"


def late_imports(tree: ast.AST) -> list[int]:
    """Lines of imports inside functions."""
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))]
    return sorted({inner.lineno for node in functions for inner in ast.walk(node) if isinstance(inner, (ast.Import, ast.ImportFrom))})


@pytest.mark.parametrize("path", sorted(path for folder in ("module_utils", "action", "plugin_utils") for path in (PLUGINS / folder).glob(
    "**/*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_imported_late(path: Path) -> None:
    """An import inside a function is paid once per task: none in ``run``, nor in anything that it calls."""
    assert late_imports(ast.parse(path.read_text())) == []


def test_the_search_for_late_imports_finds() -> None:
    source = "import a\ndef run():\n    if x:\n        from b import c\nclass D:\n    def e(self):\n        import f"
    assert late_imports(ast.parse(source)) == [4, 7]


def imported_by(*names: str) -> set[str]:
    """The top-level packages that a fresh interpreter has after it imported these plugins, as ansible-core's parent process does."""
    code = f"import importlib, sys\n[importlib.import_module(f'{OWN}.{{name}}') for name in {names!r}]\n" \
           "print(*{name.partition('.')[0] for name in sys.modules})"
    path = os.pathsep.join(str(ROOT / folder) for folder in (".", ".collections"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": path})
    return set(done.stdout.split())


def test_azures_libraries_are_paid_for_by_tasks_that_call_azure_only() -> None:
    """They take a second to import, and need not be there at all without Azure."""
    others = [f"filter.{name}" for name in stems("filter")]
    others += [f"action.{name}" for name in MODULES if not name.startswith("azure_")]
    assert len(others) > 20
    assert not {"azure", "msal"} & imported_by(*others)
    assert {"azure", "msal"} <= imported_by("action.azure_capacity")


@pytest.mark.parametrize("name", MODULES)
def test_the_module_runs_that_function(name: str) -> None:
    module = importlib.import_module(f"{OWN}.modules.{name}")
    assert callable(module.main)
    assert (module.run, module.ARGUMENT_SPEC) == (work(name).run, work(name).ARGUMENT_SPEC)
    assert (PLUGINS / "modules" / f"{name}.py").read_text().startswith("#!/usr/bin/python\n")


def test_action_groups_are_complete() -> None:
    """Whatever takes a cluster connection is in the group, nothing else, in order."""
    connected = [name for name in MODULES if {"kubeconfig", "context", "host", "api_key", "ca_cert", "validate_certs"} <=
                 set(work(name).ARGUMENT_SPEC)]
    azure = [name for name in MODULES if set(azure_options()) <= set(work(name).ARGUMENT_SPEC)]
    assert RUNTIME["action_groups"] == {"azure": azure, "cluster": connected}
    assert not [name for name in MODULES if "kubeconfig" in work(name).ARGUMENT_SPEC and name not in connected]


@pytest.mark.parametrize("name", MODULES)
def test_the_connection_is_documented_once(name: str) -> None:
    fragments = documentation(name).get("extends_documentation_fragment") or []
    fragments = [fragments] if isinstance(fragments, str) else fragments
    for group in ("azure", "cluster"):
        assert (f"confidential.containers.{group}" in fragments) is (name in RUNTIME["action_groups"][group])


@pytest.mark.parametrize("name", MODULES)
def test_documented_options_are_those_of_the_function(name: str) -> None:
    spec, documented = work(name).ARGUMENT_SPEC, documentation(name)["options"]
    shared = {"cluster": cluster_options(), "azure": azure_options()}
    assert set(documented) == set(spec).difference(*(shared[group] for group in shared if name in RUNTIME["action_groups"][group]))
    for option, described in documented.items():
        for key in ("type", "default", "choices", "required", "elements"):
            expected = spec[option].get(key) or (None if key != "default" else spec[option].get("default"))
            given = described.get(key)
            assert (given or None) == (expected or None), f"{name} {option} {key}"


@pytest.mark.parametrize("name", MODULES)
def test_attributes_are_stated(name: str) -> None:
    attributes = documentation(name).get("attributes") or {}
    for key in ("check_mode", "diff_mode"):
        assert attributes.get(key, {}).get("support") in ("full", "partial", "none", "N/A"), f"{name} says nothing of {key}"
        if attributes[key]["support"] in ("partial", "none"):
            assert attributes[key].get("details"), f"{name}: why is {key} {attributes[key]['support']}?"


@pytest.mark.parametrize("path", sorted(p for p in PLUGINS.glob("**/*.py") if "__pycache__" not in p.parts),
                         ids=lambda path: str(path.relative_to(ROOT)))
def test_licence(path: Path) -> None:
    text = path.read_text().removeprefix("#!/usr/bin/python\n")
    assert text.startswith(HEADER), f"{path.relative_to(ROOT)} has no licence header"
    assert "from __future__ import annotations" in text


def test_supported_ansible() -> None:
    assert RUNTIME["requires_ansible"] == ">=2.16.0"
