"""The preflight role's questions to Azure as Ansible runs them: which login is taken, what stops the run, when nothing is asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.fake_api.arm import FakeArm
from tests.unit.azure.test_azure_modules import CLUSTER, NET, SUB, TENANT, fit

__all__ = ["fit"]
ROOT = Path(__file__).parents[3]


def preflight(arm: FakeArm, directory: Path, environment: dict[str, str] | None = None, **variables: Any) -> tuple[int, str]:
    """(return code, output) of the role's Azure part; everything before it is given."""
    given = {"coco_release": "1.11/1.0", "preflight_zones": ["spoke"], "__preflight_info": {"cluster": CLUSTER},
             "__preflight_peerpods": {"data": {"AZURE_INSTANCE_SIZE": "Standard_DC2as_v5"}},
             "coco_azure_login": {"adfs_authority_url": arm.url, "arm_endpoint": arm.url, "azure_ca_cert": arm.ca}, **variables}
    (directory / "vars.json").write_text(json.dumps(given))
    tasks = yaml.safe_load((ROOT / "roles/preflight/tasks/main.yml").read_text())
    asking = next(task for task in tasks if task["name"] == "Ask Azure")
    asking["ansible.builtin.include_tasks"] = str(ROOT / "roles/preflight/tasks/azure.yml")
    (directory / "play.yml").write_text(yaml.safe_dump([{
        "hosts": "localhost", "gather_facts": False, "tasks": [asking],
        "vars_files": [str(ROOT / "roles/preflight/defaults/main.yml"), str(ROOT / "roles/preflight/vars/main.yml")]}]))
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,", "-c", "local", "-e", "@vars.json",
               "-e", f"ansible_python_interpreter={sys.executable}", "play.yml", "-vv"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=120, env={
        **os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_HOME": str(directory / "ansible"), **(environment or {})})
    assert "the-secret" not in done.stdout + done.stderr
    return done.returncode, done.stdout + done.stderr


CREDENTIALS = {"AZURE_CLIENT_ID": "the-client", "AZURE_CLIENT_SECRET": "the-secret-of-pods", "AZURE_TENANT_ID": TENANT,
               "AZURE_SUBSCRIPTION_ID": SUB}


def test_the_credentials_of_pod_vms_serve_as_login(fit: FakeArm, tmp_path: Path) -> None:
    code, output = preflight(fit, tmp_path, coco_cloud_credentials=CREDENTIALS)
    assert code == 0, output
    assert fit.logins[0]["client_secret"] == "the-secret-of-pods"
    assert any(path.endswith("/cluster-rg/providers/Microsoft.Authorization/permissions") for _method, path in fit.calls)
    assert len(fit.calls) <= 12


def test_the_environment_comes_before_them(fit: FakeArm, tmp_path: Path) -> None:
    code, output = preflight(fit, tmp_path, {"AZURE_CLIENT_ID": "admin", "AZURE_SECRET": "the-secret-of-admin", "AZURE_TENANT": TENANT},
                             coco_cloud_credentials=CREDENTIALS)
    assert code == 0, output
    assert fit.logins[0]["client_id"] == "admin"
    assert not any(path.endswith("/cluster-rg/providers/Microsoft.Authorization/permissions") for _method, path in fit.calls), \
        "the rights of pod VMs are not the administrator's"


def test_read_only_rights_stop_the_run(fit: FakeArm, tmp_path: Path) -> None:
    for path in [path for path in fit.documents if path.endswith("/permissions")]:
        fit.documents[path] = [{"actions": ["*/read"], "notActions": []}]
    code, output = preflight(fit, tmp_path, coco_cloud_credentials=CREDENTIALS)
    assert code != 0
    assert "Microsoft.Compute/virtualMachines/write" in output


def test_rights_to_make_a_gateway_count_only_where_one_is_to_be_made(fit: FakeArm, tmp_path: Path) -> None:
    worker = fit.documents[f"{NET}/virtualNetworks/vnet".lower()]["properties"]["subnets"][1]
    del worker["properties"]["natGateway"]
    fit.documents[f"/subscriptions/{SUB}/resourceGroups/net-rg/providers/Microsoft.Authorization/permissions".lower()] = [
        {"actions": ["*/read", "Microsoft.Network/virtualNetworks/subnets/join/action"], "notActions": []}]
    code, output = preflight(fit, tmp_path, coco_cloud_credentials=CREDENTIALS)
    assert code != 0
    assert "Microsoft.Network/natGateways/write" in output
    code, output = preflight(fit, tmp_path, coco_cloud_credentials=CREDENTIALS, coco_azure_network="none")
    assert code == 0, output


def test_a_quota_too_small_stops_the_run(fit: FakeArm, tmp_path: Path) -> None:
    code, output = preflight(fit, tmp_path, coco_cloud_credentials=CREDENTIALS, coco_azure_pods=4)
    assert code != 0
    assert "need 8 vCPUs" in output


def test_a_given_image_that_does_not_exist_stops_the_run(fit: FakeArm, tmp_path: Path) -> None:
    code, output = preflight(fit, tmp_path, coco_cloud_credentials=CREDENTIALS, coco_peerpods_image_id=(
        f"/subscriptions/{SUB}/resourceGroups/rg/providers/Microsoft.Compute/galleries/g/images/i/versions/1.0.0"))
    assert code != 0
    assert "does not exist" in output
    assert len(fit.calls) <= 12


@pytest.mark.parametrize("variables", [{}, {"coco_azure": "never", "coco_cloud_credentials": CREDENTIALS},
                                       {"preflight_zones": ["hub"], "coco_cloud_credentials": CREDENTIALS},
                                       {"coco_cloud_credentials": CREDENTIALS, "__preflight_info": {"cluster": {"platform": "None"}}}])
def test_nothing_is_asked(fit: FakeArm, tmp_path: Path, variables: dict[str, Any]) -> None:
    code, output = preflight(fit, tmp_path, **variables)
    assert code == 0, output
    assert (fit.calls, fit.logins) == ([], [])
    assert NET not in output
