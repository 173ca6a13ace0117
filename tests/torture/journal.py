"""What victims saw, a line each, appended whole: it outlives them as the page cache outlives a process."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


class Journal:
    """A file that many processes append to."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._read = 0

    def write(self, *entry: Any) -> None:
        os.write(self._descriptor, json.dumps(entry).encode() + b"\n")

    def news(self) -> list[list[Any]]:
        """The entries since the last call."""
        size = os.fstat(self._descriptor).st_size
        text = os.pread(self._descriptor, size - self._read, self._read)
        self._read = size
        return [json.loads(line) for line in text.splitlines()]

    def close(self) -> None:
        os.close(self._descriptor)
