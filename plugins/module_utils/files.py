# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge: private state on the controller. Directories 0700, files 0600, atomic writes, one writer at a time.

What is there with other permissions, as another type of file or cut short is refused, never repaired: somebody has to
know that a private key was readable by others.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
#: No private file of ours is larger: bytes.
LARGEST = 1024 * 1024
LOCK = ".lock"
#: Between two looks at a lock that another run holds: seconds.
LOCK_INTERVAL = 0.05

PEM_BEGIN = b"-----BEGIN "
PEM_END = b"-----END "


def _kind(mode: int) -> str:
    """What a path is, in words."""
    for test, name in (
        (stat.S_ISREG, "a regular file"), (stat.S_ISDIR, "a directory"), (stat.S_ISLNK, "a symbolic link"),
        (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"),
    ):
        if test(mode):
            return name
    return "neither a file nor a directory"


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _refuse_open_directory(path: str, status: os.stat_result) -> None:
    if not stat.S_ISDIR(status.st_mode):
        raise CocoError(
            f"The private directory {path} cannot be used",
            f"it is {_kind(status.st_mode)}",
            "Move it away, or name another directory.",
        )
    if status.st_uid != os.geteuid():
        raise CocoError(
            f"The private directory {path} cannot be used",
            f"it belongs to uid {status.st_uid}, and this run has uid {os.geteuid()}",
            f"Run as its owner, or name a directory of your own, or run: chown -R {os.geteuid()} {path}",
        )
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        raise CocoError(
            f"The private directory {path} cannot be used",
            f"its mode is {mode:04o}: others may look into it",
            f"If nobody else has read the keys in it, run: chmod 0700 {path} ; otherwise rotate them (state: rotated).",
        )


class PrivateDirectory:
    """A directory that only its owner can use, with files that only its owner can read.

    ``create=False`` looks without making anything: an absent directory then holds no files.
    """

    def __init__(self, path: str, create: bool = True) -> None:
        self.path = os.path.abspath(os.path.expanduser(os.path.expandvars(path)))
        self.exists = self._prepare(create)

    def _prepare(self, create: bool) -> bool:
        try:
            status = os.lstat(self.path)
        except FileNotFoundError:
            if not create:
                return False
            self._make()
            status = os.lstat(self.path)
        except OSError as error:
            raise CocoError(
                f"The private directory {self.path} cannot be used", _reason(error),
                "Check the rights on the directories above it, or name another directory.",
            ) from error
        _refuse_open_directory(self.path, status)
        return True

    def _make(self) -> None:
        """Make the directory and the missing ones above it, each 0700, whatever the umask."""
        missing = []
        path = self.path
        while not os.path.lexists(path):
            missing.append(path)
            path = os.path.dirname(path)
        for path in reversed(missing):
            try:
                os.mkdir(path, DIRECTORY_MODE)
                os.chmod(path, DIRECTORY_MODE)
            except FileExistsError:
                continue
            except OSError as error:
                raise CocoError(
                    f"The private directory {self.path} cannot be made", f"{path}: {_reason(error)}",
                    "Name a directory that this user may write, for instance with coco_state_dir.",
                ) from error

    def file(self, name: str) -> str:
        """The full path of a file of this directory."""
        if not name or name != os.path.basename(name) or name in (".", "..", LOCK):
            raise CocoError("A private file cannot be named", f"{name!r} is not a plain file name",
                            "Use a name without directories.")
        return os.path.join(self.path, name)

    def has(self, name: str) -> bool:
        """Whether there is something with this name, of whatever type."""
        return self.exists and os.path.lexists(self.file(name))

    def read(self, name: str) -> bytes | None:
        """The content of a private file, or None when there is none. Refuses any other type, owner or mode."""
        if not self.exists:
            return None
        path = self.file(name)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            seen = "it is a symbolic link" if error.errno == errno.ELOOP else _reason(error)
            raise CocoError(f"The private file {path} cannot be read", seen,
                            "Put the file itself there, mode 0600, owned by the user of this run.") from error
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            self._refuse_open_file(path, status)
            data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise CocoError(f"The private file {path} cannot be used", f"it is larger than {LARGEST} bytes",
                            "It is none of ours: move it away or name another directory.")
        if not data.strip():
            raise CocoError(
                f"The private file {path} cannot be used", "it is empty",
                "Restore it from a backup; without one remove the file: the next run says what that means.",
            )
        return data

    @staticmethod
    def _refuse_open_file(path: str, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise CocoError(f"The private file {path} cannot be used", f"it is {_kind(status.st_mode)}",
                            "Move it away, or name another directory.")
        if status.st_uid != os.geteuid():
            raise CocoError(
                f"The private file {path} cannot be used",
                f"it belongs to uid {status.st_uid}, and this run has uid {os.geteuid()}",
                "Run as its owner, or name a directory of your own.",
            )
        mode = stat.S_IMODE(status.st_mode)
        if mode & 0o077:
            raise CocoError(
                f"The private file {path} cannot be used", f"its mode is {mode:04o}: others may read it",
                f"If nobody else has read it, run: chmod 0600 {path} ; otherwise rotate the key (state: rotated).",
            )

    def read_pem(self, name: str) -> bytes | None:
        """A private file that must be PEM text with a beginning and an end; None when there is none."""
        data = self.read(name)
        if data is None:
            return None
        path = self.file(name)
        if not data.lstrip().startswith(PEM_BEGIN):
            raise CocoError(f"The private file {path} cannot be used", "it is not PEM text",
                            "Restore it from a backup; without one move it away: the next run says what that means.")
        if data.count(PEM_BEGIN) != data.count(PEM_END) or not data.rstrip().endswith(b"-----"):
            raise CocoError(f"The private file {path} cannot be used", "its PEM text ends too early",
                            "Restore it from a backup; without one move it away: the next run says what that means.")
        return data

    def write(self, name: str, data: bytes) -> str:
        """Write a private file in one step: readers see the old content or the new one. Returns its path."""
        path = self.file(name)
        if os.path.lexists(path):
            self._refuse_open_file(path, os.lstat(path))
        scratch = os.path.join(self.path, f".{name}.{secrets.token_hex(6)}")
        try:
            descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    os.fchmod(file.fileno(), FILE_MODE)
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(scratch, path)
            except BaseException:
                if os.path.lexists(scratch):
                    os.unlink(scratch)
                raise
            self._sync()
        except OSError as error:
            raise CocoError(f"The private file {path} cannot be written", _reason(error),
                            "Check the free space and the rights of the directory; what was there is unchanged.") from error
        return path

    def rename(self, old: str, new: str) -> None:
        """Give a private file another name, replacing what has that name."""
        try:
            os.replace(self.file(old), self.file(new))
            self._sync()
        except OSError as error:
            raise CocoError(f"The private file {self.file(old)} cannot be renamed to {new}", _reason(error),
                            "Check the rights of the directory; nothing was changed.") from error

    def remove(self, name: str) -> bool:
        """Remove a private file; whether there was one."""
        try:
            os.unlink(self.file(name))
        except FileNotFoundError:
            return False
        except OSError as error:
            raise CocoError(f"The private file {self.file(name)} cannot be removed", _reason(error),
                            "Check the rights of the directory.") from error
        self._sync()
        return True

    def _sync(self) -> None:
        """Make renames of this directory survive a power failure."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    @contextmanager
    def locked(self, timeout: float = 30.0) -> Iterator[None]:
        """Hold this directory against other runs (flock on ``.lock``); at most ``timeout`` seconds of waiting.

        A directory that does not exist (check mode) needs no lock.
        """
        if not self.exists:
            yield
            return
        path = os.path.join(self.path, LOCK)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
        except OSError as error:
            raise CocoError(f"The private directory {self.path} cannot be locked", _reason(error),
                            "Check the rights of the directory.") from error
        try:
            self._lock(descriptor, timeout)
            yield
        finally:
            os.close(descriptor)

    def _lock(self, descriptor: int, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        pause = threading.Event()
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise CocoError(
                        f"The private directory {self.path} cannot be locked",
                        f"another run has held it for {timeout:g} s",
                        f"Wait for the other run to end; who it is: fuser {os.path.join(self.path, LOCK)}",
                    ) from None
                pause.wait(LOCK_INTERVAL)
