"""The sample workloads' manifests as their templates render them: the pod VM image of one pod."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
IMAGE = "io.katacontainers.config.hypervisor.image"
INITDATA = {"key": "io.katacontainers.config.hypervisor.cc_init_data", "value": "the-document"}
DOCUMENTS = {name: {"annotation": INITDATA} for name in ("default", "exec-allowlist", "debug")}


def annotations(directory: Path, role: str, **variables: Any) -> dict[str, dict[str, str]]:
    """Deployment to the annotations of its pods, rendered with the role's own defaults."""
    (directory / "vars.json").write_text(json.dumps({"coco_release": "1.11/1.0", "initdata_built": {"documents": DOCUMENTS}, **variables}))
    files = [str(ROOT / "roles" / role / part / "main.yml") for part in ("defaults", "vars")]
    template = {"src": str(ROOT / "roles" / role / "templates/objects.yml.j2"), "dest": str(directory / "out.yml")}
    (directory / "play.yml").write_text(yaml.safe_dump([{
        "hosts": "localhost", "gather_facts": False, "vars_files": files, "tasks": [{"ansible.builtin.template": template}]}]))
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,", "-c", "local", "-e", "@vars.json",
               "-e", f"ansible_python_interpreter={sys.executable}", "play.yml"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=120, env={
        **os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_HOME": str(directory / "home")})
    assert done.returncode == 0, done.stdout + done.stderr
    found = [obj for obj in yaml.safe_load_all((directory / "out.yml").read_text()) if obj and obj["kind"] == "Deployment"]
    return {obj["metadata"]["name"]: obj["spec"]["template"]["metadata"].get("annotations", {}) for obj in found}


@pytest.mark.parametrize(("role", "names"), [("workload_hello_openshift", {"secure", "insecure-policy"}),
                                             ("workload_kbs_access", {"kbs-access"})])
def test_the_image_of_the_pods(tmp_path: Path, role: str, names: set[str]) -> None:
    more = {"workload_hello_openshift_variants": ["standard", "secure", "insecure-policy"]}
    without = annotations(tmp_path, role, **more)
    assert {name for name, found in without.items() if found == {INITDATA["key"]: "the-document"}} == names
    named = annotations(tmp_path, role, **more, **{f"{role}_podvm_image_id": "/subscriptions/s/other"})
    assert {name for name, found in named.items() if found == {INITDATA["key"]: "the-document", IMAGE: "/subscriptions/s/other"}} == names
    assert all(named[name] == {} for name in set(named) - names), "an ordinary pod has no pod VM"
