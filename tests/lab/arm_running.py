"""A lab-arm of a test's own, and Azure's libraries as its clients."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import requests
from azure.identity import CertificateCredential, ClientSecretCredential, WorkloadIdentityCredential
from azure.mgmt.compute import ComputeManagementClient
from azure.mgmt.network import NetworkManagementClient

ROOT = Path(__file__).parents[2]
NETWORK = "2026-03-01"


class Arm:
    """A lab-arm as its facts describe it: clients of Azure's libraries, plain requests, what it was asked."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self.facts = facts
        self.clients: dict[str, dict[str, str]] = json.loads(Path(self.facts["clients"]).read_text())
        self.subscription = f"/subscriptions/{self.facts['subscription']}"

    def _shared(self) -> dict[str, Any]:
        return {"authority": self.facts["authority"], "disable_instance_discovery": True, "connection_verify": self.facts["ca"]}

    def credential(self, name: str = "installer", **changed: str) -> Any:
        client = {**self.clients[name], **changed}
        if "pem" in client:
            return CertificateCredential(client["tenant"], client["client_id"], client["pem"], **self._shared())
        if "token" in client:
            return WorkloadIdentityCredential(tenant_id=client["tenant"], client_id=client["client_id"], token_file_path=client["token"],
                                              **self._shared())
        return ClientSecretCredential(client["tenant"], client["client_id"], client["secret"], **self._shared())

    def token(self, name: str = "installer", scope: str = "https://management.azure.com/.default") -> str:
        return str(self.credential(name).get_token(scope).token)

    def _client(self, of: Any, name: str, subscription: str = "", **more: Any) -> Any:
        return of(self.credential(name), subscription or self.facts["subscription"], base_url=self.facts["endpoint"], polling_interval=0,
                  connection_verify=self.facts["ca"], credential_scopes=["https://management.azure.com/.default"],
                  **{"retry_total": 0, **more})

    def network(self, name: str = "installer", **more: Any) -> Any:
        return self._client(NetworkManagementClient, name, **more)

    def compute(self, name: str = "installer", **more: Any) -> Any:
        return self._client(ComputeManagementClient, name, **more)

    def ask(self, method: str, path: str, version: str = NETWORK, *, name: str = "installer", headers: dict[str, str] | None = None,
            **more: Any) -> requests.Response:
        """A plain request; ``path`` below the subscription unless it begins with a slash."""
        path = path if path.startswith("/") else f"{self.subscription}/{path}"
        given = {"Authorization": f"Bearer {self.token(name)}"} if headers is None else headers
        return requests.request(method, self.facts["endpoint"] + path, params={"api-version": version} if version else {}, headers=given,
                                verify=self.facts["ca"], timeout=10, **more)

    def control(self, **settings: Any) -> None:
        Path(self.facts["control"]).write_text(json.dumps(settings))

    def audit(self) -> list[dict[str, Any]]:
        file = Path(self.facts["audit"])
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def resources(self) -> dict[str, Any]:
        """Every resource as it is stored, without what changes at each write."""
        found = json.loads((Path(self.facts["control"]).parent / "resources.json").read_text())
        return {key: {name: value for name, value in one.items() if name != "etag"} for key, one in found.items()}


class Running(Arm):
    """A lab-arm of this test's own."""

    def __init__(self, directory: Path, platform: str) -> None:
        self.process = subprocess.Popen([sys.executable, "-m", "lab", "arm", "--state", str(directory), "--platform", platform],
                                        cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ, "LAB_STATE": str(directory)})
        assert self.process.stdout is not None
        super().__init__(json.loads(self.process.stdout.readline()))

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(10) == 0
