"""Sessions of the handshake: in memory, lost with the process unless there is a store (trustee.md 1.3; trustee-verified.md 3.2)."""

from __future__ import annotations

import base64
import contextlib
import datetime
import json
import os
import time
import uuid
from dataclasses import asdict, dataclass, field

from lab.kbs.errors import Refused
from lab.kbs.storage import Store

COOKIE = "kbs-session-id"


def _nonce() -> str:
    return base64.b64encode(os.urandom(32)).decode()


@dataclass
class Session:
    """One guest between /auth and the end of its time; with a token once it is attested."""

    tee: str
    expires: float
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    nonce: str = field(default_factory=_nonce)
    token: str | None = None

    @property
    def expired(self) -> bool:
        """Is its time over?"""
        return self.expires < time.time()

    @property
    def cookie(self) -> str:
        """The value of Set-Cookie: no Path, no HttpOnly; the same at /attest, so that does not prolong it."""
        moment = datetime.datetime.fromtimestamp(self.expires, datetime.timezone.utc)
        return f"{COOKIE}={self.id}; Expires={moment:%a, %d %b %Y %H:%M:%S GMT}"


class Sessions:
    """All sessions by id."""

    def __init__(self, minutes: int, unknown: str = "No cookie found", ended: str = "session expired.",
                 store: Store | None = None) -> None:
        self._minutes, self._unknown, self._ended, self._store = minutes, unknown, ended, store
        self._sessions = dict[str, Session]()
        if store is not None:
            self._restore(store)

    def open(self, tee: str) -> Session:
        """A new session. Those that ended more than one lifetime ago are forgotten."""
        now = time.time()
        for key in [key for key, one in self._sessions.items() if one.expires + self._minutes * 60 <= now]:
            del self._sessions[key]
            if self._store is not None:
                with contextlib.suppress(OSError, ValueError):
                    self._store.delete(key)
        session = Session(tee, now + self._minutes * 60)
        self._sessions[session.id] = session
        self.keep(session)
        return session

    def keep(self, session: Session) -> None:
        """Store a session that is new or attested, where sessions outlive the process."""
        if self._store is not None:
            self._store.write(session.id, json.dumps(asdict(session)).encode())

    def _restore(self, store: Store) -> None:
        """The sessions of an earlier process whose time is not over."""
        for name in store.names():
            with contextlib.suppress(OSError, ValueError, TypeError):
                session = Session(**json.loads(store.read(name)))
                if session.expired:
                    store.delete(name)
                else:
                    self._sessions[session.id] = session

    def get(self, cookie: str) -> Session:
        """The session of a cookie. Raises :class:`Refused`."""
        session = self._sessions.get(cookie)
        if session is None:
            raise Refused(self._unknown)
        if session.expired:
            raise Refused(self._ended)
        return session

    def token(self, cookie: str | None) -> str | None:
        """The token of an attested session that has not ended."""
        session = self._sessions.get(cookie or "")
        return None if session is None or session.expired else session.token
