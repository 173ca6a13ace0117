"""The right to run a queue's tasks: a lock that the kernel takes back however the process dies."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from oq.errors import StoreInUse, StoreUnavailable

FILE = "run.lock"

_TRIES = 100_000
"""How often to try while others look; a fraction of a second, should one of them be stopped while it does."""


class RunLock:
    """A lock on a file, with a note in it that says who holds it."""

    def __init__(self, directory: Path, location: str) -> None:
        self._path = directory / FILE
        self._location = location
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises StoreInUse, naming the holder, when another process has it, and StoreUnavailable when the file cannot be
        written.
        """
        if self._descriptor is not None:
            raise StoreInUse(self._location, "another queue of this process")
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StoreUnavailable(self._location, str(error)) from error
        if not _lock(descriptor):
            note = os.read(descriptor, 4096)
            os.close(descriptor)
            raise StoreInUse(self._location, _holder(note))
        with suppress(OSError):  # a full disk is no reason not to finish what there is
            os.ftruncate(descriptor, 0)
            os.write(descriptor, _note())
        self._descriptor = descriptor

    def holder(self) -> str | None:
        """Who holds the lock, in words; None when nobody does."""
        if self._descriptor is not None:
            return "this process"
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            return None if _try(descriptor, fcntl.LOCK_SH) else _holder(os.read(descriptor, 4096))
        finally:
            os.close(descriptor)

    def release(self) -> None:
        """Give the lock back, if it is held."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None


def _lock(descriptor: int) -> bool:
    """Take the lock; False when somebody has it, rather than just looks who has it, as `holder` does for a moment."""
    for _ in range(_TRIES):
        if _try(descriptor, fcntl.LOCK_EX):
            return True
        if not _try(descriptor, fcntl.LOCK_SH):
            return False
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.sched_yield()
    return False


def _try(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _note() -> bytes:
    program = Path(sys.argv[0]) if sys.argv else Path("python")
    name = program.parent.name if program.name == "__main__.py" else program.name
    note = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join([name, *sys.argv[1:]])[:200],
    }
    return json.dumps(note).encode()


def _holder(note: bytes) -> str:
    try:
        who = json.loads(note)
        return f"process {who['pid']} on {who['host']} ({who['command'] or 'python'}), since {who['since']}"
    except (ValueError, KeyError, TypeError):  # it has the lock, but has not written its note yet
        return "another process"
