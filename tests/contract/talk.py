"""Exchanges carried out anew, each compared with the recorded one of the same label."""

from __future__ import annotations

import copy
import json
from collections import defaultdict
from fnmatch import fnmatchcase
from typing import Any

from tests.contract import forms
from tests.contract.client import Answer, Client, Key, b64url
from tests.contract.differences import DIFFERENCES, TOKENS
from tests.contract.sides import Side

RESOURCE = "/kbs/v0/resource/default/kbsres1/key1"
SECRET = b"res1val1"
ALLOW_ALL = "package policy\n\ndefault allow = true\n"


class Talk:
    """A conversation with one server, beside the recording."""

    def __init__(self, client: Client, stand_in: bool, side: Side) -> None:
        self.client, self.stand_in, self.side = client, stand_in, side
        self.compared: list[str] = []
        self.recorded: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for exchange in json.loads(side.file.read_text()):
            self.recorded[exchange["label"]].append(exchange)

    # Compared with the recording ---------------------------------------------------------------------------------

    def __call__(self, label: str, method: str, path: str, body: Any = b"", *, cookie: str = "", bearer: str = "",
                 authorization: str = "", json_type: bool = True) -> Answer:
        """Send it; the request and its answer must be those of the next recorded exchange of this label."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"cookie": f"kbs-session-id={cookie}"} if cookie else {}
        if bearer or authorization:
            headers["authorization"] = authorization or f"Bearer {bearer}"
        if json_type and not isinstance(body, bytes):
            headers["content-type"] = "application/json"
        found = self.client.send(method, path, headers, data)
        assert self.recorded[label], f"{label}: not in the recording, or not so often"
        recorded = self.recorded[label].pop(0)
        sent = forms.request(method, path, headers, data)
        if forms.SIZE.fullmatch(str(recorded["request"].get("body"))):
            sent["body"] = f"<{len(data)} bytes>"
        same(f"{label}: request", recorded["request"], forms.compact_request(sent) if self.side.compact else sent)
        self._compare(label, recorded["answer"], forms.answer(found.status, found.headers, found.body), found)
        self.compared.append(label)
        return found

    def _compare(self, label: str, recorded: dict[str, Any], live: dict[str, Any], answer: Answer) -> None:
        wanted = copy.deepcopy(recorded)
        if self.side.compact:
            live = forms.compact_answer(live)
        if isinstance(wanted["body"], dict) and "begins" in wanted["body"]:
            live["body"] = {"begins": answer.body.decode()[:len(wanted["body"]["begins"])]}
        for difference in DIFFERENCES if self.stand_in else ():
            if self.side.name not in difference.sides:
                continue
            if difference.label == label:
                was, now = wanted["headers"].get(difference.header), live["headers"].get(difference.header)
                assert was != now, f"{label}: {difference.header} is as recorded; take it out of the table of differences"
                wanted["headers"] = {**wanted["headers"], difference.header: now}
            elif difference.label == TOKENS and isinstance(wanted["body"], dict) and "token" in wanted["body"]:
                _excuse(difference.header, wanted["body"]["token"], live["body"]["token"])
        same(f"{label}: answer", wanted, live)

    def auth(self, label: str) -> tuple[str, str]:
        """A handshake's first half: (cookie, nonce)."""
        return self(label, "POST", "/kbs/v0/auth", self.side.auth).session()

    def attest(self, label: str, session: tuple[str, str], key: Key, **changes: Any) -> Answer:
        """A handshake's second half."""
        return self(label, "POST", "/kbs/v0/attest", self.side.message(session[1], key, **changes), cookie=session[0])

    def handshake(self, label: str, key: Key, **changes: Any) -> tuple[str, Answer]:
        """Both halves, labelled ``<label>/auth`` and ``<label>/attest``: (cookie, answer)."""
        session = self.auth(f"{label}/auth")
        return session[0], self.attest(f"{label}/attest", session, key, **changes)

    def done(self, *patterns: str) -> None:
        """Nothing recorded of these labels is left."""
        left = [label for label, exchanges in self.recorded.items() if exchanges and matches(label, patterns)]
        assert not left, f"recorded, but not carried out: {left}"

    # Preparation, not recorded ------------------------------------------------------------------------------------

    def post(self, path: str, body: Any) -> Answer:
        """An administrator's call that must succeed."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        found = self.client.send("POST", f"/kbs/v0/{path}", {"authorization": f"Bearer {self.client.admin()}"}, data)
        assert found.status == 200, found
        return found

    def resource(self, name: str = "key1", secret: bytes = SECRET) -> None:
        self.post(f"resource/default/kbsres1/{name}", secret)

    def resource_policy(self, text: str) -> None:
        self.post("resource-policy", {"policy": b64url(text.encode())})

    def session(self) -> tuple[str, str]:
        """(cookie, nonce) of a session that is not attested yet."""
        return self.client.send("POST", "/kbs/v0/auth", body=json.dumps(self.side.auth).encode()).session()

    def attested(self, key: Key, tee: str = "sample", message: Any = None) -> tuple[str, Answer]:
        """A handshake: (cookie, answer to /attest)."""
        asked = json.dumps({**self.side.auth, "tee": tee}).encode()
        cookie, nonce = self.client.send("POST", "/kbs/v0/auth", body=asked).session()
        return cookie, self.client.send("POST", "/kbs/v0/attest", {"cookie": f"kbs-session-id={cookie}"},
                                        json.dumps((message or self.side.message)(nonce, key)).encode())


def same(what: str, recorded: Any, live: Any) -> None:
    """Equal, the order of the members included."""
    wanted, got = json.dumps(recorded, indent=1), json.dumps(live, indent=1)
    assert got == wanted, what


def _excuse(what: str, wanted: dict[str, Any], live: dict[str, Any]) -> None:
    """A difference of all tokens: the claim that ours has not, or the certificates' encoding."""
    if what == "x5c":
        assert wanted["header"]["jwk"]["x5c"] != live["header"]["jwk"]["x5c"], "x5c is as recorded"
        wanted["header"]["jwk"]["x5c"] = live["header"]["jwk"]["x5c"]
    else:
        assert what not in live["claims"], f"{what} is as recorded"
        del wanted["claims"][what]


def matches(label: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(label, pattern) for pattern in patterns)
