# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge: following objects by watch, with one deadline, through outages of the API server.

A control plane that reboots is no reason to give up: while waiting, only refused credentials that stay refused, a certificate
that is not trusted, and a server that never answered end the wait before its deadline.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from ansible_collections.confidential.containers.plugins.module_utils.cluster import Cluster, Object
from ansible_collections.confidential.containers.plugins.module_utils.cluster_errors import (
    ApiFailure,
    UnknownKind,
    Unreachable,
    explain,
)
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

T = TypeVar("T")

#: A server that has never answered is given up after this long, in seconds.
FIRST_ANSWER = 60.0
#: Refused credentials (401, 403) are believed after this long: an API server that starts refuses everybody for a moment.
REFUSED = 15.0
#: However short the deadline: the first look gets this long, in seconds.
FIRST_LOOK = 1.0
#: Between two attempts, in seconds.
AGAIN = 0.5


@dataclass(frozen=True)
class Source:
    """Objects to follow: all of a kind in a namespace ("" for none), one by ``name``, or those with ``labels``.

    An ``optional`` one may be forbidden: then nothing is known of it, and the wait goes on.
    """

    api_version: str
    kind: str
    namespace: str = ""
    name: str = ""
    labels: str = ""
    optional: bool = False

    def fields(self) -> str:
        """The field selector."""
        return f"metadata.name={self.name}" if self.name else ""


class View:
    """What is known of the followed sources."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._objects: dict[Source, dict[tuple[str, str], Object]] = {}
        self._trouble: dict[Source, str] = {}
        self._lock = threading.Lock()

    def known(self, source: Source) -> bool:
        """Was the source listed at least once (or is its kind known not to be served)?"""
        return source in self._objects

    def objects(self, source: Source) -> list[Object]:
        """The objects of a source, by name."""
        with self._lock:
            return [obj for _key, obj in sorted(self._objects.get(source, {}).items())]

    def get(self, source: Source, name: str = "") -> Object | None:
        """One object of a source; None: not there."""
        wanted = name or source.name
        return next((obj for obj in self.objects(source) if obj["metadata"]["name"] == wanted), None)

    def trouble(self, source: Source) -> str:
        """Why the source cannot be seen at the moment; empty when it can."""
        return self._trouble.get(source, "")


class Follower(View):
    """Follows sources, one thread and one connection each; ``changed`` is set at every change."""

    def __init__(self, cluster: Cluster, sources: list[Source]) -> None:
        super().__init__(cluster)
        self.sources = list(dict.fromkeys(sources))
        self.changed = threading.Event()
        self.fatal: Exception | None = None
        self._stopped = threading.Event()
        self._needed = threading.Event()
        self._answered = threading.Event()
        self._started = time.monotonic()
        self._refused_since: dict[Source, float] = {}
        self._open: dict[Source, Any] = {}

    def __enter__(self) -> Follower:
        for source in self.sources:
            threading.Thread(target=self._follow, args=(source,), daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stopped.set()
        self._needed.set()
        for answer in list(self._open.values()):
            with contextlib.suppress(Exception):
                answer.shutdown()

    def keep_watching(self) -> None:
        """The first look was not enough: from now on, changes are watched."""
        self._needed.set()

    def _follow(self, source: Source) -> None:
        while not self._stopped.is_set() and self.fatal is None:
            began = time.monotonic()
            try:
                self._once(source)
                # A server that ends each watch at once must not be flooded with new ones.
                self._stopped.wait(max(0.0, AGAIN - (time.monotonic() - began)))
                continue
            except UnknownKind:
                self._answered.set()
                self._learn(source, {}, "the cluster has no such kind yet")
                with contextlib.suppress(ApiFailure, Unreachable):
                    self.cluster.recheck(source.api_version)
            except ApiFailure as error:
                if source.optional and error.status == 403:
                    self._learn(source, {}, "it may not be read with these credentials")
                    self._stopped.wait(REFUSED)
                    continue
                self._failed(source, error)
            except Unreachable as error:
                never = not self._answered.is_set() and time.monotonic() - self._started > FIRST_ANSWER
                if never or "certificate" in str(error).lower():
                    self._die(error)
                self._trouble_of(source, "the API server does not answer; it may be restarting")
            except Exception as error:
                self._die(error)
            self._stopped.wait(AGAIN)

    def _once(self, source: Source) -> None:
        """List, then watch until the server ends the watch."""
        items, version = self.cluster.list_version(source.api_version, source.kind, source.namespace or None, source.labels,
                                                   source.fields())
        self._answered.set()
        self._refused_since.pop(source, None)
        self._learn(source, {_key(item): item for item in items}, "")
        self._needed.wait()
        if self._stopped.is_set():
            return
        events = self.cluster.watch(source.api_version, source.kind, source.namespace or None, version, source.labels,
                                    source.fields(), opened=lambda answer: self._opened(source, answer))
        for event, obj in events:
            if event == "ERROR" or self._stopped.is_set():
                return
            if event == "BOOKMARK":
                continue
            with self._lock:
                found = dict(self._objects.get(source, {}))
            if event == "DELETED":
                found.pop(_key(obj), None)
            else:
                found[_key(obj)] = {"apiVersion": source.api_version, "kind": source.kind, **obj}
            self._learn(source, found, "")

    def _opened(self, source: Source, answer: Any) -> None:
        self._open[source] = answer
        if self._stopped.is_set():
            with contextlib.suppress(Exception):
                answer.shutdown()

    def _failed(self, source: Source, error: ApiFailure) -> None:
        if error.status == 404:
            self._learn(source, {}, "the cluster has no such kind yet")
            return
        if error.status in (401, 403):
            since = self._refused_since.setdefault(source, time.monotonic())
            if not self._answered.is_set() or time.monotonic() - since > REFUSED:
                self._die(error)
        if error.status == 410:
            return
        self._trouble_of(source, f"the API server answers {error.status} {error.message[:120]}")

    def _die(self, error: Exception) -> None:
        self.fatal = self.fatal or error
        self.changed.set()

    def _learn(self, source: Source, objects: dict[tuple[str, str], Object], trouble: str) -> None:
        with self._lock:
            self._objects[source] = objects
            self._trouble[source] = trouble
        self.changed.set()

    def _trouble_of(self, source: Source, text: str) -> None:
        self._trouble[source] = text
        self.changed.set()


def _key(obj: Object) -> tuple[str, str]:
    return obj["metadata"].get("namespace") or "", obj["metadata"]["name"]


def until(cluster: Cluster, sources: list[Source], seconds: float, check: Callable[[View], T | None],
          late: Callable[[View], CocoError], what: str) -> T:
    """Follow ``sources`` until ``check`` returns something other than None.

    ``check`` is called when all sources were seen, at each change and once a second; it may raise. ``late`` makes the error of
    the deadline (``seconds`` from now); ``what`` begins the error of a connection that fails for good.
    """
    began = time.monotonic()
    deadline = began + seconds
    with Follower(cluster, sources) as view:
        while True:
            view.changed.clear()
            seen = all(view.known(source) for source in view.sources)
            if seen:
                found = check(view)
                if found is not None:
                    return found
            if seen or time.monotonic() - began > FIRST_LOOK:
                view.keep_watching()
            if view.fatal is not None:
                raise explain(what, view.fatal, cluster.server)
            left = deadline - time.monotonic()
            if left <= 0 and (seen or left <= -FIRST_LOOK):
                raise late(view)
            view.changed.wait(min(max(left, 0.1), 1.0))
