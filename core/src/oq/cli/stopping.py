"""Signals that ask a command to stop."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import trio
from attrs import define, field


@define
class StopRequests:
    """Counts how often the command was asked to stop."""

    count: int = 0
    _scopes: list[tuple[int, trio.CancelScope]] = field(factory=list)

    @contextmanager
    def until(self, count: int) -> Iterator[trio.CancelScope]:
        """Run the block until the command was asked to stop `count` times in all."""
        with trio.CancelScope() as scope:
            if self.count >= count:
                scope.cancel()
            self._scopes.append((count, scope))
            try:
                yield scope
            finally:
                self._scopes.remove((count, scope))

    def ask(self) -> None:
        """Ask once more."""
        self.count += 1
        for count, scope in self._scopes:
            if self.count >= count:
                scope.cancel()

    async def listen(self, signals: AsyncIterator[int]) -> None:
        """Take each signal that comes for a request, until cancelled."""
        async for _ in signals:
            self.ask()


@asynccontextmanager
async def stop_requests() -> AsyncIterator[StopRequests]:
    """Within the block, signals that ask to stop are counted and do nothing else."""
    requests = StopRequests()
    with trio.open_signal_receiver(*_signals()) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(requests.listen, signals)
            yield requests
            nursery.cancel_scope.cancel()


def _signals() -> list[signal.Signals]:
    """Ctrl-C, `kill`, and the terminal's end; not what is ignored since the start, as by `nohup` or a shell's `&`."""
    wanted = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    return [number for number in wanted if signal.getsignal(number) is not signal.SIG_IGN] or [signal.SIGTERM]
