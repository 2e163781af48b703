"""A lab of its own for tests, driven only through what users have: commands, playbooks, the Kubernetes API."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import urllib3
import yaml
from kubernetes import client, config

ROOT = Path(__file__).resolve().parents[2]
ROW = re.compile(r"^(\d\d) (.+?)\s{2,}(\S+)\s{2,}(ok|failed|not run)\s+(\d+)\s+([\d.]+)$", re.MULTILINE)
MANAGER = "confidential.containers"
READ_VERBS = {"get", "list", "watch"}


@dataclass
class Run:
    """What one ansible-playbook run said."""

    code: int
    output: str
    seconds: float
    steps: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        found = re.search(r"^verdict: (.+)$", self.output, re.MULTILINE)
        return found.group(1) if found else ""

    @property
    def changed(self) -> dict[str, int]:
        return {number: step["changed"] for number, step in self.steps.items() if step["changed"]}


class Lab:
    """One lab in a state directory."""

    def __init__(self, state: Path, inventory: str = "lab", cluster: str = "lab") -> None:
        self.state, self.inventory, self.name = state, inventory, cluster
        self.env = {
            **os.environ, "LAB_STATE": str(state), "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"), "ANSIBLE_HOME": str(state.parent / "ansible"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "ANSIBLE_NOCOLOR": "1",
            "XDG_STATE_HOME": str(state.parent / "xdg-state"),
        }
        self.given: dict[str, Any] = {}
        self._api: client.ApiClient | None = None

    def at(self, cluster: str) -> Lab:
        """The same lab, looked at from another of its clusters."""
        return Lab(self.state, self.inventory, cluster)

    def as_user(self, inventory: str) -> Lab:
        """The same lab as users of an example inventory would meet it: kubeconfig and login to Azure in the environment, no id anywhere."""
        azure = self.facts["azure"]
        own = json.loads(Path(azure["clients"]).read_text())["installer"]
        user = Lab(self.state, inventory, self.name)
        user.env |= {
            "KUBECONFIG": self.cluster["kubeconfig"], "AZURE_CLIENT_ID": own["client_id"], "AZURE_SECRET": own["secret"],
            "AZURE_TENANT": own["tenant"], "AZURE_SUBSCRIPTION_ID": azure["subscription"], "REQUESTS_CA_BUNDLE": azure["ca"],
            "AZURE_ARM_ENDPOINT": azure["endpoint"], "AZURE_ADFS_AUTHORITY_URL": azure["authority"]}
        user.given = {  # what no environment could say: the lab has no registry and no public DNS
            "coco_measurements": self.cluster["measurements"], "coco_image_security_policy": "insecure",
            "coco_kbs_connect_to": self.cluster["ingress_address"]}
        return user

    def lab(self, *arguments: str, check: bool = True) -> str:
        """A command of the lab; its output."""
        done = subprocess.run([sys.executable, "-m", "lab", *arguments], cwd=ROOT, env=self.env, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=900)
        if check and done.returncode != 0:
            raise AssertionError(f"lab {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}")
        self._api = None
        return done.stdout

    def playbook(self, name: str, *arguments: str, variables: dict[str, Any] | None = None,
                 timeout: float = 900) -> Run:
        """Run a playbook on the lab's inventory."""
        command = ["ansible-playbook", "-i", f"inventories/{self.inventory}", f"playbooks/{name}.yml", *arguments]
        if variables or self.given:
            command += ["--extra-vars", json.dumps({**self.given, **(variables or {})})]
        began = time.monotonic()
        done = subprocess.run(command, cwd=ROOT, env=self.env, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=timeout)
        return parse(done.returncode, done.stdout, time.monotonic() - began)

    @property
    def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads((self.state / "lab.json").read_text())
        return facts

    @property
    def cluster(self) -> dict[str, Any]:
        cluster: dict[str, Any] = self.facts["clusters"][self.name]
        return cluster

    @property
    def api(self) -> client.ApiClient:
        if self._api is None:
            urllib3.disable_warnings()
            self._api = config.new_client_from_config(self.cluster["kubeconfig"])
        return self._api

    def request(self, method: str, path: str, body: Any = None,
                content_type: str = "application/merge-patch+json") -> Any:
        """A request as the test's own administrator; None for 404."""
        headers = {"User-Agent": "tests", "Accept": "application/json",
                   "Content-Type": content_type if method == "PATCH" else "application/json"}
        answer = self.api.rest_client.request(method, self.api.configuration.host + path, headers=headers, body=body)
        answer.read()
        if answer.status == 404:
            return None
        assert answer.status < 300, f"{method} {path}: {answer.status} {answer.data!r}"
        return json.loads(answer.data)

    def managed(self) -> list[dict[str, Any]]:
        """Every object of which the collection owns fields, whole."""
        found: dict[str, dict[str, Any]] = {}
        groups = [[group["preferredVersion"], *group["versions"]] for group in self.request("GET", "/apis")["groups"]]
        for version in [version["groupVersion"] for group in groups for version in group] + ["v1"]:
            prefix = "/api/v1" if version == "v1" else f"/apis/{version}"
            for kind in (self.request("GET", prefix) or {"resources": []})["resources"]:
                if "/" in kind["name"] or "list" not in kind["verbs"] or kind["name"] == "events":
                    continue
                for item in (self.request("GET", f"{prefix}/{kind['name']}") or {}).get("items", []):
                    if owned(item):
                        found.setdefault(item["metadata"]["uid"], {"apiVersion": version, "kind": kind["kind"], **item})
        return list(found.values())

    def owned(self) -> dict[str, Any]:
        """What the collection owns of each object and since when: equal before and after a run that wrote nothing."""
        return {f"{item['kind']} {item['metadata'].get('namespace', '')}/{item['metadata']['name']}": owned(item)
                for item in self.managed()}

    def config_map(self, namespace: str, name: str) -> dict[str, str]:
        found = self.request("GET", f"/api/v1/namespaces/{namespace}/configmaps/{name}")
        return dict(found["data"]) if found else {}

    def writes(self, since: int = 0) -> list[dict[str, Any]]:
        """Persisted writes that playbooks made, by the audit log: not dry runs, not reviews of one's own rights."""
        return [event for event in self.events(since)
                if event["verb"] not in READ_VERBS and "dryRun=All" not in event["requestURI"]
                and event.get("objectRef", {}).get("resource") not in
                ("selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews")
                and event.get("responseStatus", {}).get("code", 500) < 300]

    def events(self, since: int = 0) -> Iterator[dict[str, Any]]:
        """Completed requests of the inventory's user, from byte ``since`` of the audit log on."""
        user = yaml.safe_load(Path(self.cluster["kubeconfig"]).read_text())["users"][0]["name"]
        with open(self.cluster["audit_log"], "rb") as file:
            file.seek(since)
            for line in file:
                if not line.endswith(b"\n"):
                    return  # still being written
                event = json.loads(line)
                if event["stage"] == "ResponseComplete" and event["user"]["username"] == user \
                        and event.get("userAgent") not in ("tests", "lab-seed"):
                    yield event

    @property
    def mark(self) -> int:
        """The present end of the audit log."""
        return Path(self.cluster["audit_log"]).stat().st_size


def owned(item: dict[str, Any]) -> list[dict[str, Any]]:
    """The managed fields of the collection's field manager."""
    return [entry for entry in item["metadata"].get("managedFields", [])
            if entry["manager"] == MANAGER and not entry.get("subresource")]


def parse(code: int, output: str, seconds: float) -> Run:
    """The table of steps from a run's output."""
    run = Run(code, output, seconds)
    for number, title, zone, result, changed, took in ROW.findall(output):
        run.steps[number] = {"title": title, "zone": zone, "result": result, "changed": int(changed),
                             "seconds": float(took)}
    return run


def kill(process: subprocess.Popen[Any]) -> None:
    """Kill an ansible-playbook with its workers at once."""
    for pid in _family(process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def _family(pid: int) -> list[int]:
    """A process and what it started: ansible-core's workers have sessions of their own, and would go on without it."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    return [pid, *(found for child, parent in parents.items() if parent == pid for found in _family(child))]
