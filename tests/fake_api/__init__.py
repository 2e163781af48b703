"""A small API server for unit tests: what a kube-apiserver answers, and whatever else a test scripts.

Server-side apply with owners and conflicts, dry run, optimistic locks, watches from a version, discovery in both forms. Lists
are atomic and nothing is defaulted; what needs more than that is tested on the lab, which runs the real one.
"""

from __future__ import annotations

from tests.fake_api.server import FakeApi, Request, status
from tests.fake_api.tls import Authority

__all__ = ["Authority", "FakeApi", "Request", "status"]
