"""What is generated is up to date, what is written by hand names things that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from ansible_collections.confidential.containers.plugins.module_utils import attestation, releases
from tests import docs

ROOT = Path(__file__).parents[3]
VARIABLES = (ROOT / "docs" / "variables.md").read_text()
ROWS = {row[0].strip("`"): row for line in VARIABLES.splitlines() if line.startswith("| `coco_")
        for row in [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]]}
GENERATED = docs.files()
PAGES = sorted([*(ROOT / "docs").glob("*.md"), ROOT / "README.md"])


@pytest.mark.parametrize("path", sorted(GENERATED), ids=lambda path: str(path.relative_to(ROOT)))
def test_generated_files_are_up_to_date(path: Path) -> None:
    assert path.exists(), "run make docs"
    assert path.read_text() == GENERATED[path], f"{path.relative_to(ROOT)} differs from what the roles say: run make docs"


def used(*folders: str) -> set[str]:
    """Collection-wide variables named in inventories and playbooks, in comments too."""
    files = [path for folder in folders for path in (ROOT / folder).glob("**/*") if path.suffix in (".yml", ".yaml")]
    assert files
    return {name for path in files for name in re.findall(r"\bcoco_[a-z0-9_]+", path.read_text())}


def test_what_inventories_and_playbooks_use_is_documented() -> None:
    assert used("inventories", "playbooks") - set(ROWS) == set()


def test_what_roles_and_messages_name_is_documented() -> None:
    """An error's hint must not name a variable that nobody reads."""
    named = used("roles")
    for path in (ROOT / "plugins").glob("**/*.py"):
        named |= set(re.findall(r"\bcoco_[a-z0-9_]+", path.read_text()))
    products = {"coco_as_builtin", "coco_as_grpc", "coco_as", "coco_error"}
    assert {name for name in named - set(ROWS) - products if not name.endswith("_")} == set()


def test_documented_defaults_are_those_of_the_roles() -> None:
    """The table as it stands in the file, against each place where a default is written."""
    for name, found in docs.uses().items():
        for use in found:
            if use.default is not None and name not in docs.connection():
                assert ROWS[name][2] == docs.spoken(use.default), f"{name} in {use.role}"
                assert f"`{use.role}`" in ROWS[name][3], name
    assert ROWS["coco_release"][2] == "none, must be set"


def test_every_documented_variable_is_read() -> None:
    assert set(ROWS) == set(docs.uses()) | set(docs.connection()) | set(docs.playbook_variables())


def test_variables_of_a_playbook_are_explained_in_its_comment() -> None:
    for name, (playbook, what, values) in docs.playbook_variables().items():
        assert what, f"{playbook} begins with no comment"
        assert f"`-e {name}=" in values, f"the comment of {playbook} shows no call with {name}"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
        assert (path.parent / target).exists(), f"{path.name} links to {target}"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_pages_name_what_exists(path: Path) -> None:
    """Roles, variables, steps and make targets in backticks."""
    text = path.read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for name in re.findall(r"`(coco_[a-z0-9_]+)[`:]", text):
        assert name in ROWS, f"{path.name} names {name}"
    for target in re.findall(r"`make ([a-z-]+)", text):
        assert target in targets, f"{path.name} names make {target}"
    for pair in re.findall(r"`(\d+\.\d+/\d+\.\d+)`", text):
        assert pair in releases.PAIRS, f"{path.name} names {pair}"
    for tag in re.findall(r"step(\d\d)\b", text):
        assert 1 <= int(tag) <= 14


def test_the_page_of_the_steps() -> None:
    """docs/fourteen-steps.md has each step once, with its roles and zone as site.yml has them."""
    text = (ROOT / "docs" / "fourteen-steps.md").read_text()
    heads = re.findall(r"^## (\d+) · (.+)$", text, re.MULTILINE)
    site = {int(play["name"][5:7]): play for play in yaml.safe_load((ROOT / "playbooks" / "site.yml").read_text())
            if play["name"].startswith("Step ")}
    assert heads == [(str(number), play["name"].split(" | ")[1]) for number, play in sorted(site.items())]
    for number, section in zip(sorted(site), re.split(r"^## \d+ · .+$", text, flags=re.MULTILINE)[1:], strict=True):
        where = re.search(r"^\*\*Where:\*\* (.+)$", section, re.MULTILINE)
        assert where, f"step {number} says nothing of where"
        roles = [task["ansible.builtin.include_role"]["name"].rsplit(".", 1)[1] for task in site[number]["tasks"]]
        assert re.findall(r"`([a-z_]+)`", where[1]) == [*dict.fromkeys(roles)], f"step {number}"
        assert ("hub" if site[number]["hosts"] == "hub" else "spoke") in where[1].split("·")[1]
        for part in ("**Documented:**", "**Here:**"):
            assert part in section, f"step {number} lacks {part}"


def test_the_page_of_troubles() -> None:
    """docs/troubleshooting.md has every symptom by which the verification knows a cause, with that cause and hint."""
    text = " ".join((ROOT / "docs" / "troubleshooting.md").read_text().split())
    for _pattern, cause, hint in attestation.SYMPTOMS:
        assert cause in text, cause
        assert hint in text, hint
    for code, words in attestation.EXITS.items():
        assert f"exit code {code}" in text
        assert words in text


def test_checks_of_step_13_are_explained() -> None:
    """Every check by the name under which the verdict lists it."""
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    source = "".join((ROOT / "plugins" / "module_utils" / f"{name}.py").read_text() for name in ("probe_trustee", "probe_pods"))
    names = set(re.findall(r'(?:self\.add\(|attestation\.check\(\s*)"([^"{]+)"', source))
    assert len(names) >= 10
    for name in sorted(names):
        assert name in text, name
