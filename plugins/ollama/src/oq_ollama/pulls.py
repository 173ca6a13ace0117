"""Pulls of missing models: one for each model of a server, shared by all tasks that wait for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import trio
from attrs import define, evolve, field, frozen

from oq import EndpointFault, Pace, PermanentError, Verdict
from oq_ollama.client import OllamaClient
from oq_ollama.faults import WHAT_HAPPENS, Asked, BrokenOff, ErrorLine, meaning
from oq_ollama.settings import OllamaEndpoint

QUIET: Final = 1800.0
"""Seconds for which a pull may say nothing, as it does while it checks what it has loaded."""


@frozen(kw_only=True)
class Progress:
    """How far a pull is."""

    status: str
    """In the server's words."""
    completed: int | None = None
    """Bytes of the present part."""
    total: int | None = None

    @property
    def percent(self) -> int | None:
        """Of the present part."""
        return None if self.completed is None or not self.total else min(100, 100 * self.completed // self.total)

    def __str__(self) -> str:
        return self.status if self.percent is None else f"{self.status} {self.percent} %"


@define(eq=False)
class _Pull:
    """A pull under way, and those who wait for it."""

    scope: trio.CancelScope = field(factory=trio.CancelScope)
    changed: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot)
    waiters: int = 0
    told: list[Progress] = field(factory=list)
    """The latest is all that is kept."""
    count: int = 0
    """How often there was progress."""
    over: bool = False
    error: Exception | None = None

    def progress(self, progress: Progress) -> None:
        """Tell those who wait, unless they would see no difference."""
        if not self.told or str(self.told[0]) != str(progress):
            self.told[:] = [progress]
            self.count += 1
            self.changed.unpark_all()

    def end(self, error: Exception | None) -> None:
        self.over, self.error = True, error
        self.changed.unpark_all()


class Pulls:
    """The pulls that are under way. They run in `nursery`, so that they outlast the task that began them."""

    def __init__(self, client: OllamaClient, nursery: trio.Nursery, pace: Pace) -> None:
        self._client = client
        self._nursery = nursery
        self._pace = evolve(pace, between=max(pace.between, QUIET))
        self._running: dict[tuple[str, str], _Pull] = {}

    async def pull(self, endpoint: OllamaEndpoint, model: str, tell: Callable[[Progress], Awaitable[None]]) -> None:
        """Return when the server has the model. One that nobody waits for any more is given up.

        Raises PermanentError when there is no such model, and EndpointFault when something went wrong.
        """
        key = endpoint.name, model
        pull = self._running.get(key)
        if pull is None:
            pull = self._running[key] = _Pull()
            self._nursery.start_soon(self._run, pull, endpoint, model)
        pull.waiters += 1
        seen = 0
        try:
            while not pull.over:
                if pull.count == seen:
                    await pull.changed.park()
                else:
                    seen = pull.count
                    await tell(pull.told[0])
        finally:
            pull.waiters -= 1
            if not pull.waiters:
                pull.scope.cancel()
                self._forget(key, pull)
        if pull.error is not None:
            raise _meaning(pull.error, Asked(endpoint=endpoint, model=model)) from pull.error

    async def _run(self, pull: _Pull, endpoint: OllamaEndpoint, model: str) -> None:
        error: Exception | None = BrokenOff("the pull was given up")
        try:
            with pull.scope:
                error = await self._attempt(pull, endpoint, model)
        finally:
            self._forget((endpoint.name, model), pull)
            pull.end(error)

    async def _attempt(self, pull: _Pull, endpoint: OllamaEndpoint, model: str) -> Exception | None:
        body = {"model": model, "stream": True}
        try:
            async with self._client.frames(endpoint, "/api/pull", body, lambda: None, self._pace) as frames:
                async for frame in frames:
                    status = str(frame.get("status", ""))
                    if status == "success":
                        return None
                    completed, total = frame.get("completed"), frame.get("total")
                    pull.progress(
                        Progress(
                            status=status,
                            completed=completed if isinstance(completed, int) else None,
                            total=total if isinstance(total, int) else None,
                        )
                    )
        except WHAT_HAPPENS as error:
            return error
        return BrokenOff("the pull ended without success")

    def _forget(self, key: tuple[str, str], pull: _Pull) -> None:
        if self._running.get(key) is pull:
            del self._running[key]


def _meaning(error: Exception, asked: Asked) -> Exception:
    if isinstance(error, ErrorLine) and "does not exist" in str(error):
        message = f"there is no model {asked.model!r} to pull: {error}"
        return EndpointFault(Verdict.UNSUITED, PermanentError(message, type="ModelNotFound", details=asked.details()))
    return meaning(error, asked)
