"""Time-outs for what comes in pieces: one for the first piece, and one between two."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

import trio
from attrs import define, field, frozen
from attrs.validators import gt

T = TypeVar("T")


class Stalled(Exception):
    """Nothing came for too long."""

    def __init__(self, seconds: float, *, first: bool) -> None:
        self.seconds = seconds
        self.first = first
        """Whether it was the first piece that did not come."""
        super().__init__(f"{'nothing' if first else 'nothing more'} came for {seconds:g} s")


@frozen(kw_only=True)
class Pace:
    """How long to wait for the pieces of an answer."""

    first: float = field(default=300.0, validator=gt(0))
    """Seconds from asking to the first piece."""
    between: float = field(default=60.0, validator=gt(0))
    """Seconds between two pieces."""

    @contextmanager
    def beginning(self) -> Iterator[None]:
        """For the block that asks and takes the first piece; raises Stalled when it takes too long."""
        with trio.move_on_after(self.first) as scope:
            yield
        if scope.cancelled_caught:
            raise Stalled(self.first, first=True)

    def keep(self, pieces: AsyncIterator[T]) -> Paced[T]:
        """The further pieces as they come; iterating raises Stalled when the next one takes too long."""
        return Paced(pieces, self.between)


@define
class Paced(Generic[T]):
    """An iterator that does not wait for ever."""

    _pieces: AsyncIterator[T]
    _seconds: float

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        with trio.move_on_after(self._seconds):
            return await anext(self._pieces)
        raise Stalled(self._seconds, first=False)
