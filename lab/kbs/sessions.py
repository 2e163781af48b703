"""Sessions of the handshake: in memory, lost with the process (trustee.md 1.3; trustee-verified.md 3.2)."""

from __future__ import annotations

import base64
import datetime
import os
import time
import uuid
from dataclasses import dataclass, field

from lab.kbs.errors import Refused

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

    def __init__(self, minutes: int) -> None:
        self._minutes, self._sessions = minutes, dict[str, Session]()

    def open(self, tee: str) -> Session:
        """A new session. Those that ended more than one lifetime ago are forgotten."""
        now = time.time()
        self._sessions = {key: one for key, one in self._sessions.items() if one.expires + self._minutes * 60 > now}
        session = Session(tee, now + self._minutes * 60)
        self._sessions[session.id] = session
        return session

    def get(self, cookie: str) -> Session:
        """The session of a cookie. Raises :class:`Refused`."""
        session = self._sessions.get(cookie)
        if session is None:
            raise Refused("No cookie found")
        if session.expired:
            raise Refused("session expired.")
        return session

    def token(self, cookie: str | None) -> str | None:
        """The token of an attested session that has not ended."""
        session = self._sessions.get(cookie or "")
        return None if session is None or session.expired else session.token
