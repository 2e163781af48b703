"""Roles and playbooks: specification and defaults agree, names carry the prefix, one default for each collection-wide variable,
fourteen steps."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import docs

ROOT = Path(__file__).parents[3]
ROLES = docs.roles()


def tasks_of(path: Path) -> list[dict[str, Any]]:
    """The tasks of a file, those in blocks too."""
    found: list[dict[str, Any]] = []

    def walk(tasks: list[dict[str, Any]] | None) -> None:
        for task in tasks or []:
            found.append(task)
            for part in ("block", "rescue", "always"):
                walk(task.get(part))

    walk(yaml.safe_load(path.read_text()))
    return found


def test_every_role_is_specified() -> None:
    assert sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir()) == ROLES
    assert len(ROLES) >= 16


@pytest.mark.parametrize("role", ROLES)
def test_options_are_the_defaults(role: str) -> None:
    values, options = docs.defaults(role), docs.options(role)
    must = {name for name, option in options.items() if option.get("required") and name not in values}
    assert set(options) - must == set(values), "meta/argument_specs.yml and defaults/main.yml name different variables"
    assert not {name for name in must if name in (docs.specs(role)["main"].get("options") or {})}, "main must run without them"


@pytest.mark.parametrize("role", ROLES)
def test_names_carry_the_prefix(role: str) -> None:
    for name in [*docs.defaults(role), *docs.options(role)]:
        assert name.startswith(f"{role}_"), name
    variables = ROOT / "roles" / role / "vars" / "main.yml"
    for name in yaml.safe_load(variables.read_text()) if variables.exists() else {}:
        assert name.startswith(f"__{role}_"), name


@pytest.mark.parametrize("role", ROLES)
def test_registered_names_carry_the_prefix(role: str) -> None:
    for path in sorted((ROOT / "roles" / role / "tasks").glob("*.yml")):
        for task in tasks_of(path):
            assert str(task.get("register", f"{role}_")).removeprefix("__").startswith(f"{role}_"), f"{path.name}: {task['register']}"


@pytest.mark.parametrize("role", ROLES)
def test_specified_default_is_the_default(role: str) -> None:
    """The specification's default is the literal in defaults/main.yml, or what stands in the default() of its coco_ variable."""
    for name, value in docs.defaults(role).items():
        option, code = docs.options(role)[name], docs.expression(value)
        found = list(docs.defaulted(code))
        if len(found) == 1 and found[0][1] is not None and code.startswith(f"{found[0][0]} |"):
            value = docs.literal(found[0][1])
        elif code:
            value = None
        if value is None:  # computed, or must be set
            assert "default" not in option, f"{name}: the default is computed, so the specification cannot name one"
            assert bool(option.get("required")) is (found == [("coco_release", None)]), name
        else:
            assert option.get("default") == value, name


@pytest.mark.parametrize("role", ROLES)
def test_options_are_described_and_typed(role: str) -> None:
    types = {"str": str, "int": int, "bool": bool, "dict": dict, "list": list, "path": str}
    for entry in docs.specs(role).values():
        assert entry["short_description"]
        assert not entry["short_description"].endswith(".")
        assert entry["description"]
        assert entry["author"]
        assert entry["version_added"]
    for name, option in docs.options(role).items():
        assert option["type"] in {*types, "raw"}, name
        assert all(str(line).endswith((".", ".)", ")")) for line in option["description"]), name
        if "default" in option and option["type"] != "raw":
            assert isinstance(option["default"], types[option["type"]]), name
            chosen = option["default"] if option["type"] == "list" else [option["default"]]
            assert set(map(str, chosen)) <= set(map(str, option.get("choices", chosen))), name
        if option["type"] == "list":
            assert option.get("elements"), name


@pytest.mark.parametrize("role", ROLES)
def test_every_variable_is_read(role: str) -> None:
    text = "\n".join(path.read_text() for part in ("tasks", "templates", "vars", "defaults", "handlers")
                     for path in (ROOT / "roles" / role / part).glob("**/*") if path.is_file())
    unread = {name for name in docs.defaults(role) if len(re.findall(rf"\b{name}\b(?!:)", text)) == 0}
    assert not unread, f"nothing reads {', '.join(sorted(unread))}: an option that does nothing is a false promise"


def test_one_default_for_each_collection_wide_variable() -> None:
    """In defaults, in tasks and templates, for this host and for another one."""
    for name, found in docs.uses().items():
        if name not in docs.connection():
            assert len({use.default for use in found}) == 1, f"{name}: {[(use.role, use.default) for use in found]}"


def test_only_the_release_has_no_default() -> None:
    without = {name for name, found in docs.uses().items() if all(use.default is None for use in found)}
    assert without - set(docs.connection()) == {"coco_release"}


@pytest.mark.parametrize("role", ROLES)
def test_roles_read_collection_wide_variables_in_their_defaults_only(role: str) -> None:
    """Tasks and templates use the role's own variables, which a caller can set; those of another host are the exception."""
    direct = {name for name, found in docs.uses().items() for use in found if use.role == role and not use.variable and not use.foreign}
    assert not direct, f"{role} reads {', '.join(sorted(direct))} directly"


@pytest.mark.parametrize("role", ROLES)
def test_secrets_are_marked(role: str) -> None:
    for name, option in docs.options(role).items():
        if re.search(r"(_tls_key|_password|_credentials|_resources|_token)$", name) and option["type"] in ("str", "dict"):
            assert option.get("no_log"), f"{name} holds a secret"


@pytest.mark.parametrize("role", ROLES)
def test_role_metadata(role: str) -> None:
    found = docs.load(f"roles/{role}/meta/main.yml")
    assert found["dependencies"] == []
    assert found["galaxy_info"]["role_name"] == role
    assert found["galaxy_info"]["license"] == "GPL-3.0-or-later"


@pytest.mark.parametrize("role", ROLES)
def test_every_entry_point_has_its_tasks(role: str) -> None:
    files = {path.stem for path in (ROOT / "roles" / role / "tasks").glob("*.yml")}
    included = {Path(str(task[word])).stem for path in (ROOT / "roles" / role / "tasks").glob("*.yml")
                for task in tasks_of(path) for word in ("ansible.builtin.include_tasks", "ansible.builtin.import_tasks") if word in task}
    assert set(docs.specs(role)) <= files
    assert files <= set(docs.specs(role)) | included, "a task file that nothing specifies or includes"


# site.yml -------------------------------------------------------------------------------------------------------------

SITE = yaml.safe_load((ROOT / "playbooks" / "site.yml").read_text())
STEPS = {
    1: ("hub", ["trustee_operator"]), 2: ("hub", ["trustee_tls", "trustee_route"]),
    3: ("spokes", ["sandboxed_containers_operator", "osc_feature_gates"]), 4: ("spokes", ["initdata"]),
    5: ("spokes", ["peerpods_credentials", "peerpods"]), 6: ("spokes", ["kata_agent_policy"]), 7: ("spokes", ["kataconfig"]),
    8: ("spokes", ["kataconfig"]), 9: ("hub", ["trustee_auth"]), 10: ("hub", ["kbs_config"]), 11: ("hub", ["trustee_resources"]),
    12: ("hub", ["trustee"]), 13: ("hub", ["trustee_verify"]), 14: ("spokes", ["attestation_verify"]),
}


def included(play: dict[str, Any]) -> list[str]:
    return [task["ansible.builtin.include_role"]["name"].removeprefix("confidential.containers.") for task in play["tasks"]]


def test_fourteen_steps_in_the_documented_order() -> None:
    """design.md, steps and roles: number, zone, role."""
    plays = [play for play in SITE if play["name"].startswith("Step ")]
    assert [play["name"][:8] for play in plays] == [f"Step {number:02d} " for number in range(1, 15)]
    for number, play in enumerate(plays, 1):
        assert (play["hosts"], included(play)) == STEPS[number], play["name"]


def test_each_step_is_tagged() -> None:
    for play in SITE:
        number = re.match(r"(?:Step|Before step) (\d\d)", play["name"])
        expected = [f"step{number[1]}", *(["azure"] if "azure_network" in included(play) else [])] if number else None
        if expected:
            assert play["tags"] == expected, play["name"]
        for task in play["tasks"]:
            assert task["ansible.builtin.include_role"]["apply"]["tags"] == play["tags"], "tags do not reach the role's tasks"
    assert {tag for play in SITE for tag in play["tags"]} == {*(f"step{number:02d}" for number in range(1, 15)), "always", "preflight",
                                                              "azure"}


PLAYBOOKS = sorted((ROOT / "playbooks").glob("*.yml"))


def plays(path: Path) -> list[dict[str, Any]]:
    """The plays of a playbook, without other playbooks that it imports."""
    return [play for play in yaml.safe_load(path.read_text()) if "ansible.builtin.import_playbook" not in play]


@pytest.mark.parametrize("name", ["site.yml", "preflight.yml", "verify.yml"])
def test_plays_include_roles_only(name: str) -> None:
    for play in plays(ROOT / "playbooks" / name):
        for task in play["tasks"]:
            assert set(task) - {"when", "vars"} == {"name", "ansible.builtin.include_role"}, task["name"]


@pytest.mark.parametrize("path", PLAYBOOKS, ids=lambda path: str(path.name))
def test_plays(path: Path) -> None:
    """No `roles:` and no `import_role`: they would check arguments under every tag."""
    for play in plays(path):
        assert set(play) - {"tags", "serial"} == {"name", "hosts", "gather_facts", "module_defaults", "tasks"}, play["name"]
        assert play["gather_facts"] is False
        assert play["hosts"] in ("hub", "spokes", "hub:spokes")
        assert list(play["module_defaults"]) == ["group/confidential.containers.cluster"]
        for task in play["tasks"]:
            assert set(task) & {"ansible.builtin.include_role", "ansible.builtin.assert"}, task["name"]
            role = task.get("ansible.builtin.include_role", {"name": ROLES[0]})["name"]
            assert role.removeprefix("confidential.containers.") in ROLES


@pytest.mark.parametrize("path", PLAYBOOKS, ids=lambda path: str(path.name))
def test_playbooks_hand_over_the_same_connection(path: Path) -> None:
    """The host's own, or, where a spoke looks at the hub, the hub's: never a mixture."""
    options = ("kubeconfig", "context", "host", "api_key", "ca_cert", "validate_certs")
    own = {option: f"{{{{ coco_{option} | default(omit) }}}}" for option in options}
    first = "groups['hub'] | default([inventory_hostname], true) | first"  # itself in an inventory without a hub
    hub = {option: f"{{{{ hostvars[{first}].coco_{option} | default(omit) }}}}" for option in options}
    for play in plays(path):
        given = play["module_defaults"]["group/confidential.containers.cluster"]
        assert given in ([own, hub] if play["hosts"] == "spokes" else [own]), play["name"]
    assert SITE[0]["module_defaults"]["group/confidential.containers.cluster"] == own


def test_every_role_of_a_step_is_used_by_site() -> None:
    """Workloads, orphans and teardown are not part of the setup; playbooks of their own carry them out."""
    assert sorted({role for play in SITE for role in included(play)}) == [role for role in ROLES if not role.startswith("workload_")
                                                                                and role not in ("azure_orphans", "teardown")]
