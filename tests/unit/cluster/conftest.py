"""A fake API server per test, a session with it, and nothing of this machine's own clusters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.confidential.containers.plugins.module_utils import cluster_login
from ansible_collections.confidential.containers.plugins.module_utils.cluster import Cluster
from tests.fake_api import FakeApi


@pytest.fixture(autouse=True)
def _no_clusters_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for names in cluster_login.ENVIRONMENT.values():
        for name in names:
            monkeypatch.delenv(name, raising=False)
    for name in ("KUBERNETES_SERVICE_HOST", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "REQUESTS_CA_BUNDLE",
                 "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with FakeApi() as server:
        yield server


@pytest.fixture
def cluster(api: FakeApi) -> Cluster:
    return Cluster.from_params(connection(api))


def connection(api: FakeApi, **more: Any) -> dict[str, Any]:
    return {"kubeconfig": api.kubeconfig(), **more}
