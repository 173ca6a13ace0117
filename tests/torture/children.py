"""Forked children: they start in milliseconds, and die by whatever they meet without harm to the parent."""

from __future__ import annotations

import os
import pickle
import select
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from attrs import define, frozen

KILLED_AFTER = 60.0
"""Seconds that a child may take."""


@frozen
class Ended:
    """How a child ended."""

    value: Any = None
    signal: str | None = None
    """What killed it."""
    error: str | None = None
    """The traceback of what it raised."""


@define
class Child:
    """A process forked from this one."""

    pid: int
    _answers: int

    @classmethod
    def start(cls, function: Callable[..., Any], *arguments: Any) -> Child:
        """Fork a child that calls the function; the parent must have no store open and no threads."""
        reading, writing = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            _be_the_child(writing, function, arguments)
        os.close(writing)
        return cls(pid, reading)

    def send(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self, timeout: float = KILLED_AFTER) -> Ended:
        """Its end; it is killed when that takes too long."""
        said = b""
        while True:
            if not select.select([self._answers], [], [], timeout)[0]:
                self.send(signal.SIGKILL)
                said, late = b"", True
                break
            piece = os.read(self._answers, 2**20)
            if not piece:
                late = False
                break
            said += piece
        os.close(self._answers)
        _, status = os.waitpid(self.pid, 0)
        if late:
            return Ended(signal="none: it took too long")
        if os.WIFSIGNALED(status):
            return Ended(signal=signal.Signals(os.WTERMSIG(status)).name)
        kind, value = pickle.loads(said)
        return Ended(value=value) if kind == "value" else Ended(error=value)


def in_child(function: Callable[..., Any], *arguments: Any) -> Ended:
    """Call the function in a child."""
    return Child.start(function, *arguments).wait()


def _be_the_child(writing: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    code = 1
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        said = pickle.dumps(("value", function(*arguments)))
        code = 0
    except BaseException:  # noqa: BLE001  # the parent judges it
        said = pickle.dumps(("error", traceback.format_exc()))
    with suppress(BrokenPipeError):
        while said:
            said = said[os.write(writing, said) :]
    sys.stdout.flush()
    os._exit(code)
