"""Errors as the real server has them: what the client sees, and the longer story in the log."""

from __future__ import annotations

import json

PREFIX = "https://github.com/confidential-containers/kbs/errors/"


def chain(*causes: str) -> str:
    """A chain of causes as the real log prints it: the first one, then ``Caused by:`` (numbered when several)."""
    first, *others = causes or ("",)
    if not others:
        return first
    if len(others) == 1:
        return f"{first}\n\nCaused by:\n    {others[0]}"
    return f"{first}\n\nCaused by:\n" + "\n".join(f"    {number}: {text}" for number, text in enumerate(others))


class StartError(Exception):
    """The server does not start: ``Error: <chain>`` on the log, exit status 1."""

    def __init__(self, *causes: str) -> None:
        super().__init__(chain(*causes))


class Refused(Exception):
    """Evidence, a policy or reference data that is refused; the causes go to the log only."""

    def __init__(self, *causes: str) -> None:
        super().__init__(chain(*causes))
        self.causes = causes

    def within(self, *outer: str) -> Refused:
        """The same refusal, told by an outer part of the program."""
        return Refused(*outer, *self.causes)


class Failure(Exception):
    """An answer other than success: the variant that ends the URL in ``type``, the detail for the client, causes for the log."""

    def __init__(self, variant: str, detail: str, *causes: str, status: int = 401) -> None:
        super().__init__(detail)
        self.variant, self.detail, self.causes, self.status = variant, detail, causes, status

    def body(self) -> bytes:
        """The JSON of the answer."""
        return json.dumps({"type": PREFIX + self.variant, "detail": self.detail}, separators=(",", ":"),
                          ensure_ascii=False).encode()

    def story(self) -> str:
        """What the log says of it."""
        return chain(f"{self.variant}: {self.detail}", *self.causes)


class Panicked(Exception):
    """The worker of the real server dies here: the connection ends without an answer, the server stays."""


def os_error(error: OSError) -> str:
    """An error of the operating system in the real program's words."""
    return f"{error.strerror} (os error {error.errno})"


def cause(error: OSError | ValueError) -> str:
    """What the log tells of a value that could not be read or written."""
    return os_error(error) if isinstance(error, OSError) else str(error)
