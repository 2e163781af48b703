"""A server for each test, or the one that the environment names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.server import URL, Server, remote
from tests.contract.talk import Talk


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server with its files, not started yet."""
    made = Server(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def talk(request: pytest.FixtureRequest) -> Talk:
    """A conversation with a fresh server."""
    if URL:
        return remote()
    server: Server = request.getfixturevalue("server")
    server.start()
    return server.talk()
