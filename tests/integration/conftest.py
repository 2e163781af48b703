"""One lab for the integration tests; each module starts from a snapshot of it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.lab import Lab


@pytest.fixture(scope="session")
def running_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A fresh lab with a snapshot ``virgin``; stopped in the end."""
    state = tmp_path_factory.mktemp("lab") / "state"
    lab = Lab(Path(state))
    try:
        lab.lab("up", "--release", os.environ.get("LAB_RELEASE_IN_FULL", "1.11/1.0"))
        lab.lab("snapshot", "virgin")
        yield lab
    finally:
        lab.lab("down", check=False)


@pytest.fixture(scope="module")
def virgin(running_lab: Lab) -> Lab:
    """The lab as a fresh installation."""
    running_lab.lab("restore", "virgin")
    return running_lab


@pytest.fixture(scope="module")
def deployed(running_lab: Lab) -> Lab:
    """The lab with the fourteen steps carried out."""
    if "deployed" in running_lab.lab("snapshot", "--list").split():
        running_lab.lab("restore", "deployed")
    else:
        running_lab.lab("restore", "virgin")
        run = running_lab.playbook("site")
        assert run.code == 0, run.output
        running_lab.lab("snapshot", "deployed")
    return running_lab


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The failed tasks of failed tests once more, at the end, where a shortened log still has them."""
    for report in (*terminalreporter.getreports("failed"), *terminalreporter.getreports("error")):
        for line in re.findall(r"^[E> ]*((?:fatal|failed): .*)$", report.longreprtext, re.MULTILINE):
            terminalreporter.write_line(f"{report.nodeid}: {line[:1000]}")
