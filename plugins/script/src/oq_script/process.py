"""Runs a process: feeds it, passes on and keeps what it writes, and leaves nothing of it behind."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from fcntl import ioctl
from subprocess import DEVNULL, PIPE
from termios import FIONREAD

import trio
from attrs import frozen
from trio.abc import ReceiveStream, SendStream
from trio.lowlevel import FdStream

from oq import Chunk, PermanentError
from oq_script.group import ProcessGroup
from oq_script.output import Kept, Lines
from oq_script.plan import Plan
from oq_script.settings import ScriptSettings

Emit = Callable[[Chunk], Awaitable[None]]

_READ_SIZE = 2**16

_CHUNK_COST = 64
"""Bytes that a chunk takes in the store besides its text, roughly."""


@frozen(kw_only=True)
class Exited:
    """A process that has come to its end."""

    exit_code: int
    duration: float
    """Seconds from its start to its exit."""
    stdout: Kept
    stderr: Kept


async def run(plan: Plan, settings: ScriptSettings, emit: Emit) -> Exited:
    """Run the process to its end, with everything that it starts in its process group.

    Whatever happens, cancellation included, the group is ended when this returns; that takes at most the grace of the
    settings and a few seconds. Raises PermanentError when the program does not exist or cannot be executed, and OSError
    when the system is short of something.
    """
    started = trio.current_time()
    process = await _start(plan)
    group = ProcessGroup(process, settings.kill_grace)
    stdout = _Output("stdout", process.stdout, settings, emit)
    stderr = _Output("stderr", process.stderr, settings, emit)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_feed, process.stdin, plan.stdin)
            nursery.start_soon(stdout.pass_on)
            nursery.start_soon(stderr.pass_on)
            await group.leader_exited()
            duration = trio.current_time() - started
            with trio.move_on_after(settings.linger):
                await stdout.ended.wait()
                await stderr.ended.wait()
            await group.end()
            stdout.expect_no_more()
            stderr.expect_no_more()
            if process.stdin is not None:
                await process.stdin.aclose()
    finally:
        await _clean_up(process, group)
    assert process.returncode is not None
    return Exited(exit_code=process.returncode, duration=duration, stdout=stdout.kept, stderr=stderr.kept)


async def _start(plan: Plan) -> trio.Process:
    try:
        return await trio.lowlevel.open_process(
            plan.argv,
            stdin=DEVNULL if plan.stdin is None else PIPE,
            stdout=PIPE,
            stderr=PIPE,
            cwd=plan.cwd,
            env=plan.env,
            start_new_session=True,  # its own group, to be ended as one, and out of reach of the terminal's Ctrl+C
        )
    except OSError as error:
        if (remedy := _remedy(error, plan)) is None:
            raise
        message, type = remedy
        raise PermanentError(f"{plan.title} cannot be started: {message}", type=type) from error


def _remedy(error: OSError, plan: Plan) -> tuple[str, str] | None:
    """What a person can do about a failed start, and the type of the failure; None for a passing fault."""
    program = plan.argv[0]
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR if "/" in program:
            return (
                f"{program} does not exist, or what its #! line names does not; install it or correct the name",
                "NotFound",
            )
        case errno.ENOENT | errno.ENOTDIR:
            path = plan.env.get("PATH", os.defpath)
            return f"there is no program {program!r} in PATH ({path}); install it or give its full path", "NotFound"
        case errno.EACCES:
            return f"{program} may not be executed; `chmod +x` it, or name an interpreter in [script]", "NotExecutable"
        case errno.ENOEXEC:
            return (
                f"{program} is no program; begin it with a #! line, or name an interpreter in [script]",
                "NotExecutable",
            )
        case errno.E2BIG:
            return "its arguments and variables are too long for the system; hand them over by stdin", "TooLong"
        case _:
            return None


class _Output:
    """One of the two output streams: passed on line by line, and kept."""

    def __init__(self, kind: str, pipe: object, settings: ScriptSettings, emit: Emit) -> None:
        assert isinstance(pipe, FdStream)
        self.kept = Kept(settings.max_output)
        self.ended = trio.Event()
        self._kind = kind
        self._pipe = pipe
        self._emit = emit
        self._lines = Lines(settings.max_line)
        self._limit = self._budget = settings.max_streamed
        self._expected = sys.maxsize
        self._waiting = trio.CancelScope()

    async def pass_on(self) -> None:
        """Read to the end, as fast as those who watch can take it."""
        while data := await self._receive():
            self.kept.add(data)
            if self._budget >= 0:
                for piece in self._lines.feed(data):
                    await self._tell(piece)
        for piece in self._lines.end():
            await self._tell(piece)
        self.ended.set()

    def expect_no_more(self) -> None:
        """Make `pass_on` end with what is in the pipe now, as all who wrote on behalf of the task are gone.

        Somebody who left the group, such as a daemon, may hold the other end for ever.
        """
        if not self.ended.is_set():
            self._expected = _waiting_bytes(self._pipe)
            if not self._expected:
                self._waiting.cancel()

    async def _receive(self) -> bytes:
        if self._expected <= 0:
            return b""
        with trio.CancelScope() as self._waiting:
            data = await self._pipe.receive_some(min(_READ_SIZE, self._expected))
            self._expected -= len(data)
            return bytes(data)
        return b""

    async def _tell(self, text: str) -> None:
        if self._budget < 0:
            return
        self._budget -= len(text.encode()) + _CHUNK_COST
        if self._budget >= 0:
            await self._emit(Chunk(text=text, kind=self._kind))
        else:
            note = f"… more than {self._limit:,} bytes; the rest is not shown while it runs …\n"
            await self._emit(Chunk(text=note, kind=self._kind, data={"truncated": True}))


def _waiting_bytes(pipe: FdStream) -> int:
    return int.from_bytes(ioctl(pipe.fileno(), FIONREAD, bytes(4)), sys.byteorder)


async def _feed(stdin: SendStream | None, data: bytes | None) -> None:
    """Give the process its input. One that does not read it, or ends before, does nothing wrong."""
    if stdin is not None and data is not None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await stdin.send_all(data)
        await stdin.aclose()


async def _clean_up(process: trio.Process, group: ProcessGroup) -> None:
    pipes = [pipe for pipe in (process.stdout, process.stderr) if pipe is not None]
    with trio.CancelScope(shield=True):
        async with trio.open_nursery() as nursery:
            for pipe in pipes:
                nursery.start_soon(_discard, pipe)  # a process that blocks on a full pipe cannot end in good order
            await group.end()
            nursery.cancel_scope.cancel()
        for pipe in pipes:
            await pipe.aclose()
        if process.stdin is not None:
            await process.stdin.aclose()


async def _discard(pipe: ReceiveStream) -> None:
    while await pipe.receive_some():
        pass
