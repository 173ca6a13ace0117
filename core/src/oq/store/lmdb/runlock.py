"""The right to run a queue's tasks: a lock that the kernel takes back however the process dies."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path

from oq.errors import StoreInUse

FILE = "run.lock"


class RunLock:
    """A lock on a file, with a note in it that says who holds it."""

    def __init__(self, directory: Path, location: str) -> None:
        self._path = directory / FILE
        self._location = location
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock; raises StoreInUse, naming the holder, when another process has it."""
        if self._descriptor is not None:
            raise StoreInUse(self._location, "another queue of this process")
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note = os.read(descriptor, 4096)
            os.close(descriptor)
            raise StoreInUse(self._location, _holder(note)) from None
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
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _holder(os.read(descriptor, 4096))
        else:
            return None
        finally:
            os.close(descriptor)

    def release(self) -> None:
        """Give the lock back, if it is held."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None


def _note() -> bytes:
    return json.dumps(
        {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": " ".join(Path(part).name if index == 0 else part for index, part in enumerate(sys.argv))[:200],
        }
    ).encode()


def _holder(note: bytes) -> str:
    try:
        who = json.loads(note)
        return f"process {who['pid']} on {who['host']} ({who['command'] or 'python'}), since {who['since']}"
    except (ValueError, KeyError, TypeError):  # it has the lock, but has not written its note yet
        return "another process"
