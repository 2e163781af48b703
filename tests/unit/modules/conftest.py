"""A fake API server per test, the work of a module called as its module file does, nothing of this machine's own clusters."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.confidential.containers.plugins.module_utils import azure_login, cluster_login
from ansible_collections.confidential.containers.plugins.module_utils.context import Context
from tests.fake_api import FakeApi


@pytest.fixture(autouse=True)
def _no_clusters_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for names in (*cluster_login.ENVIRONMENT.values(), *azure_login.ENVIRONMENT.values()):
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


@dataclass
class Lines(list[str]):
    """Progress lines; ``warnings`` beside them."""

    warnings: list[str] = field(default_factory=list)


Call = Callable[..., dict[str, Any]]


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def call(api: FakeApi, lines: Lines) -> Call:
    """``call(module, check=False, diff=False, **options)``: validated options, connected to the fake server."""

    def run(module: str, check: bool = False, diff: bool = False, **options: Any) -> dict[str, Any]:
        work = importlib.import_module(f"ansible_collections.confidential.containers.plugins.module_utils.actions.{module}")
        given = {"kubeconfig": api.kubeconfig(), **options} if "kubeconfig" in work.ARGUMENT_SPEC else options
        validated = ArgumentSpecValidator(work.ARGUMENT_SPEC, **work.SPEC_KWARGS).validate(given)
        assert not validated.error_messages, validated.error_messages
        result: dict[str, Any] = work.run(validated.validated_parameters,
                                          Context(check_mode=check, diff=diff, progress=lines.append, warn=lines.warnings.append))
        return result

    return run
