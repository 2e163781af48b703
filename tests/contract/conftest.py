"""A server for each test, or the one that the environment names; one cluster for the suites of the other stand-ins."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.server import GENERATION, STAND_IN, URL, Server, remote
from tests.contract.sides import SIDES, Side
from tests.contract.talk import Talk
from tests.integration.lab import Lab


@pytest.fixture
def side(request: pytest.FixtureRequest) -> Side:
    """The generation: B unless the test is run for others (``sides``); another program is of one generation only."""
    name = getattr(request, "param", "B")
    if not STAND_IN and name != GENERATION:
        pytest.skip(f"the program under test is of generation {GENERATION}")
    return SIDES[name]


@pytest.fixture
def server(tmp_path: Path, side: Side) -> Iterator[Server]:
    """A server with its files, not started yet."""
    made = Server(tmp_path, side)
    yield made
    made.stop()


@pytest.fixture
def talk(request: pytest.FixtureRequest, side: Side) -> Talk:
    """A conversation with a fresh server."""
    if URL:
        return remote()
    server: Server = request.getfixturevalue("server")
    server.start()
    return server.talk()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A fresh lab for the suites of the platform's and the operators' stand-ins; stopped in the end."""
    lab = Lab(tmp_path_factory.mktemp("cluster") / "state")
    try:
        lab.lab("up")
        yield lab
    finally:
        lab.lab("down", check=False)
