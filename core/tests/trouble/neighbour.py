"""A second process that has an LMDB store open, and does to it what it is told over a pipe."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from oq.errors import OqError
from oq.store.base import Op, Reply, Store
from oq.store.lmdb import LmdbStore


class NeighbourProcess:
    """The process, which opens one store after the other; each of them is a `Neighbour` until it is closed."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from trouble.neighbour import serve; serve()"],
            cwd=Path(__file__).parent.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def beside(self, store: Store) -> NeighbourProcess:
        """Open there what `store` has open here."""
        self._ask("open", store.location)
        return self

    def apply(self, ops: Sequence[Op[Any]]) -> list[Reply]:
        return self._ask("apply", ops)

    def close(self) -> None:
        """Close the store; the process stays for the next one."""
        self._ask("close")

    def end(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _ask(self, name: str, *args: Any) -> Any:
        _send(self._process.stdin, (name, args))
        worked, result = pickle.load(self._process.stdout)
        assert worked, f"the other process failed:\n{result}"
        return result


class _Pickler(pickle.Pickler):
    """Knows how to pickle oq's errors, which are not made again from their arguments."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, OqError):
            return _error_again, (type(value), value.args, vars(value))
        return NotImplemented


def _error_again(cls: type[OqError], args: tuple[Any, ...], fields: dict[str, Any]) -> OqError:
    error = cls.__new__(cls, *args)
    vars(error).update(fields)
    return error


def _send(pipe: BinaryIO, value: Any) -> None:
    data = io.BytesIO()
    _Pickler(data).dump(value)
    pipe.write(data.getvalue())
    pipe.flush()


def serve() -> None:
    """Be that process: answer each (name, arguments) with (whether it worked, the result)."""
    store: Any = None
    while True:
        try:
            name, args = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            if name == "open":
                store, result = LmdbStore(args[0], durability="relaxed", initial_bytes=2**20, max_bytes=2**44), None
            else:
                result = getattr(store, name)(*args)
            answer = True, result
        except Exception:  # noqa: BLE001  # whoever asked is told
            answer = False, traceback.format_exc()
        _send(sys.stdout.buffer, answer)
