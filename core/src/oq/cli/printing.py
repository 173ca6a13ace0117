"""Prints the output of a task as it comes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from attrs import define

from oq.cli.session import Session
from oq.models import ChunkKind
from oq.streams import StreamRestarted

if TYPE_CHECKING:
    from oq.queue import Queue

_ASIDE = ("stderr", ChunkKind.THINKING)
"""Kinds of chunks that go beside the output."""


@define
class Printer:
    """Remembers what was printed, since the queue may be opened anew in between."""

    session: Session
    _printed: tuple[int, int] = (0, -1)
    """Epoch and index of the last chunk."""
    _line_is_open: bool = False

    async def follow(self, queue: Queue, task_id: str, *, follow: bool = True) -> None:
        """Print what has not been printed yet, and with `follow` what comes until the task is final."""
        async with queue.stream(task_id, follow=follow) as chunks:
            async for chunk in chunks:
                if isinstance(chunk, StreamRestarted) or (chunk.epoch, chunk.index) <= self._printed:
                    continue
                if 0 < self._printed[0] < chunk.epoch:
                    self.end_line()
                    self.session.note("oq: the task runs again; its output begins anew")
                self._printed = (chunk.epoch, chunk.index)
                if self.session.as_json:
                    await self.session.write(self.session.line(chunk))
                elif chunk.text:
                    aside = chunk.kind in _ASIDE
                    await self.session.write(chunk.text, err=aside)
                    self._line_is_open = (
                        not chunk.text.endswith("\n") and (sys.stderr if aside else sys.stdout).isatty()
                    )

    def end_line(self) -> None:
        """On a terminal, see to it that what is printed next begins a line of its own."""
        if self._line_is_open:
            self._line_is_open = False
            self.session.note("")
