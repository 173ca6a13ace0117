"""A process together with all it started: knows when the first one exits, and ends them all."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import trio

_FIRST_PAUSE = 0.01
_LONGEST_PAUSE = 0.2
"""Seconds between two looks at whether a group is empty; the kernel tells nobody."""

_KILL_PATIENCE = 5.0
"""Seconds to wait for a killed group; one that hangs in the kernel, on a dead disk say, must not hold the attempt."""


class ProcessGroup:
    """The group that a process leads (start it with `start_new_session=True`)."""

    def __init__(self, leader: trio.Process, grace: float) -> None:
        """`grace` is the seconds between asking the group to end and ending it."""
        self._leader = leader
        self._grace = grace
        self._id = leader.pid
        self._pidfd = _open_pidfd(leader.pid)
        self._ended = False

    async def leader_exited(self) -> None:
        """Wait until the leader has exited, and do not reap it yet.

        As long as it is a zombie its id is not given to another process, so signals to the group cannot hit a stranger.
        Without pidfd (no Linux, or an old one) it is reaped all the same.
        """
        if self._pidfd is None:
            await self._leader.wait()
        else:
            await trio.lowlevel.wait_readable(self._pidfd)

    async def end(self) -> None:
        """Ask whatever is left to end, end it after the grace, and reap the leader. Takes a bounded time."""
        if self._ended:
            return
        for number, patience in ((signal.SIGTERM, self._grace), (signal.SIGKILL, _KILL_PATIENCE)):
            self._signal(number)
            with trio.move_on_after(patience):
                await self._empty()
                break
        self._reap_orphans()
        self._ended = True
        if self._pidfd is not None:
            os.close(self._pidfd)

    def _signal(self, number: int) -> bool:
        """Whether there was anybody in the group to hear it."""
        try:
            os.killpg(self._id, number)
        except ProcessLookupError:
            return False
        except PermissionError:  # runs as somebody else, by sudo say
            return True
        return True

    async def _empty(self) -> None:
        """Wait until nobody of the group lives."""
        await self._leader.wait()
        pause = _FIRST_PAUSE
        while self._signal(0) and await trio.to_thread.run_sync(_has_living_member, self._id):
            await trio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _reap_orphans(self) -> None:
        """Where oq is process 1, as in a container, orphans have become its children."""
        with suppress(ChildProcessError):
            while os.waitpid(-self._id, os.WNOHANG)[0]:
                pass


def _has_living_member(group: int) -> bool:
    """Whether the group has a member that is no zombie; some inits take their time to reap."""
    if not Path("/proc/self/stat").exists():  # another kind of system: take the kernel's word that there are members
        return True
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # gone meanwhile
            # what stands before the last bracket is the program's name, which may contain anything
            state, _parent, its_group, *_ = stat.read_bytes().rpartition(b")")[2].split()
            if int(its_group) == group and state not in {b"Z", b"X"}:
                return True
    return False


def _open_pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None
