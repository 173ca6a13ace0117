"""The output of runs: to those who watch at once, to the store in blocks.

Each running task that emits has an `Output`, which holds only what the store has not kept yet. Whoever reads a stream
goes by a cursor (epoch, index): from the store as far as that goes, from the `Output` after it. So a slow reader loses
nothing and costs nothing.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator

import trio
from attrs import define, field
from msgspec import DecodeError, Raw
from msgspec.structs import replace

from oq.codec import decode_as, decode_block, encode
from oq.committer import Committer
from oq.errors import QueueClosed, TaskNotFound
from oq.executor import Chunk
from oq.hub import Hub
from oq.store.base import AppendChunks, Block, Refused, Reply, Store

log = logging.getLogger(__name__)

BLOCK_BYTES = 64 * 2**10
"""A block goes to the store when it has grown to about this size,"""
BLOCK_SECONDS = 0.25
"""or when its first chunk is this old, or with the end of its run."""
MOST_UNKEPT_BYTES = 2**20
"""From here on, `emit` waits for the store."""
CHUNK_OVERHEAD = 64
"""Bytes that a chunk is reckoned to take besides its text."""
BLOCKS_PER_READ = 16
TRUNCATED = "\n[the output is longer than may be kept; the rest was dropped]\n"
"""The text of the last chunk of such an output; its kind is `truncated`."""


@define(eq=False)
class Output:
    """What one run has emitted and the store has not kept yet."""

    task_id: str
    seq: int
    epoch: int
    _streams: Streams
    next_index: int = 0
    tail: list[Chunk] = field(factory=list)
    """Chunks not known to be in the store, in order."""
    _new: list[Raw] = field(factory=list)
    """Those of them that are not on their way to it, as they are stored."""
    _new_bytes: int = 0
    """The size of these."""
    _unkept_bytes: int = 0
    _kept_bytes: int = 0
    """The size of all that was emitted and not dropped."""
    truncated: bool = False
    """Whether there was more than may be kept."""
    _room: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot)
    over: bool = False
    """Whether the store takes no more of it, since the run's epoch ended."""

    async def emit(self, chunk: Chunk) -> None:
        """Add a chunk; waits while too much is on its way to the store. Raises what `encode` does, or TypeError."""
        await trio.lowlevel.checkpoint()
        while self._unkept_bytes > MOST_UNKEPT_BYTES and not self.over:
            await self._room.park()
        if self.over or self.truncated:
            return
        if self._kept_bytes > self._streams.most_output:
            self.truncated = True
            chunk = Chunk(text=TRUNCATED, kind="truncated")
        data = encode(replace(chunk, epoch=self.epoch, index=self.next_index))
        try:
            self.tail.append(decode_as(data, Chunk))  # just what those get who read it from the store later on
        except DecodeError as error:
            raise TypeError(f"not a chunk: {error}") from None
        self._new.append(Raw(data))
        self.next_index += 1
        size = len(data) + CHUNK_OVERHEAD
        self._new_bytes += size
        self._unkept_bytes += size
        self._kept_bytes += size
        self._streams.emitted(self, full=self._new_bytes >= BLOCK_BYTES)

    def take_block(self) -> Block | None:
        """What has not been sent to the store, as a block; None when there is nothing."""
        if not self._new or self.over:
            return None
        taken, self._new = self._new, []
        self._new_bytes = 0
        return Block(first=self.next_index - len(taken), count=len(taken), data=encode(taken))

    def kept(self, count: int) -> None:
        """The store has the first `count` chunks of the tail."""
        del self.tail[:count]
        if len(self.tail) == len(self._new):
            self._unkept_bytes = self._new_bytes
        self._room.unpark_all()

    def end(self) -> None:
        """The epoch is over: nothing more is kept, and nobody waits for room."""
        self.over = True
        self._room.unpark_all()


ChunkStream = AsyncIterator["Chunk | StreamRestarted"]
"""What a reader of a task's output gets."""


class Streams:
    """The outputs of this process's runs, and the way to read any task's."""

    def __init__(self, store: Store, committer: Committer, hub: Hub, most_output: int) -> None:
        self.most_output = most_output
        """Bytes that are kept of one run's output."""
        self._store = store
        self._committer = committer
        self._hub = hub
        self._outputs: dict[int, Output] = {}
        self._closed = False
        self._young: dict[Output, None] = {}
        """Outputs with chunks that wait for their block to be sent, oldest first."""
        self._work = trio.Event()

    def end(self) -> None:
        """The queue closes: whoever reads gets QueueClosed once woken."""
        self._closed = True

    def open(self, task_id: str, seq: int, epoch: int) -> Output:
        """The output of a run that begins to emit."""
        output = Output(task_id, seq, epoch, self)
        if (
            seq not in self._outputs or self._outputs[seq].epoch < epoch
        ):  # a stopped run may still emit beside a new one
            self._outputs[seq] = output
        return output

    def close(self, output: Output) -> None:
        """The run's end is recorded."""
        output.end()
        self._young.pop(output, None)
        if self._outputs.get(output.seq) is output:
            del self._outputs[output.seq]
        self._hub.touch(output.task_id)

    def emitted(self, output: Output, *, full: bool) -> None:
        """An output grew; tell those who read it, and see to it that the store hears too."""
        self._hub.touch(output.task_id)
        if full:
            self.send(output)
        elif output not in self._young:
            self._young[output] = None
            self._work.set()

    def send(self, output: Output) -> None:
        """Send what the output has to the store now."""
        self._young.pop(output, None)
        block = output.take_block()
        if block is None:
            return

        def done(reply: Reply) -> None:
            if isinstance(reply, Refused):
                log.debug("output of %s is not kept: %s", output.task_id, reply.error)
                output.end()
            else:
                output.kept(block.count)

        self._committer.post(AppendChunks(seq=output.seq, epoch=output.epoch, block=block), done)

    def send_of(self, seq: int) -> None:
        """Send what this task's run has emitted, since the run is about to be ended from outside."""
        if (output := self._outputs.get(seq)) is not None:
            self.send(output)

    async def run(self) -> None:
        """Send blocks that have become old, until cancelled."""
        while True:
            await self._work.wait()
            self._work = trio.Event()
            await trio.sleep(BLOCK_SECONDS)
            for output in list(self._young):
                self.send(output)

    async def read(self, task_id: str, *, follow: bool = True) -> AsyncGenerator[Chunk | StreamRestarted, None]:
        """A task's output from the first chunk of its present or last run on, until the task is final.

        Without `follow`, only what there is by now.

        A new run, which begins from the start, is announced. Raises TaskNotFound, or QueueClosed when the queue closes
        before the end.
        """
        seq: int | None = None
        epoch, index = 0, 0
        with self._hub.watch(task_id) as watch:
            while True:
                seen = watch.version
                if self._closed:
                    raise QueueClosed
                record = self._store.get(task_id)
                if record is None or record.seq != (seq or record.seq):  # or another task has its id by now
                    raise TaskNotFound(task_id)
                seq = record.seq
                chunks = self._from(record.seq, epoch, index)
                for chunk in chunks:
                    index = chunk.index + 1
                    yield chunk
                if chunks:
                    await trio.lowlevel.checkpoint()  # a long replay lets others run
                    continue
                if record.state.epoch != epoch:
                    if epoch:
                        yield StreamRestarted(epoch=record.state.epoch)
                    epoch, index = record.state.epoch, 0
                    continue
                if record.state.status.final or not follow:
                    return
                await watch.changed(seen)

    def _from(self, seq: int, epoch: int, index: int) -> list[Chunk]:
        """Some of a run's chunks from `index` on: from memory if they are there, else from the store."""
        output = self._outputs.get(seq)
        if output is not None and output.epoch == epoch:
            first = output.tail[0].index if output.tail else output.next_index
            if index >= first:
                return output.tail[index - first :]
        blocks = self._store.blocks(seq, epoch, index, BLOCKS_PER_READ)
        return [chunk for block in blocks for chunk in decode_block(block.data) if chunk.index >= index]


@define(frozen=True, kw_only=True)
class StreamRestarted:
    """The task runs again; what follows is the output of its new run, from the start."""

    epoch: int
    text: str = ""
    """Nothing, so that code that only prints texts need not care."""
    kind: str = "restarted"
