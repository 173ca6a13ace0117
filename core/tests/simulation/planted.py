"""Bugs to plant, one at a time, to see that the simulation finds them; `--plant NAME` on the command line."""

from __future__ import annotations

import contextlib
import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import oq.store.memory
from oq.committer import Committer
from oq.hub import Hub
from oq.queue import Queue
from oq.runner import Runner
from oq.scheduler import Scheduler
from oq.store import transitions
from oq.store.memory import MemoryStore
from oq.streams import Output, Streams


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Have this bug in oq for the length of the block. Those of the store are in the memory store only."""
    with contextlib.ExitStack() as stack:
        for owner, attribute, old, new in BUGS[name]:
            original = owner.__dict__[attribute]
            stack.callback(setattr, owner, attribute, original)
            setattr(owner, attribute, _rewritten(owner, original, old, new))
        yield


def _rewritten(owner: Any, original: Callable[..., Any], old: str, new: str) -> Any:
    """The function with a piece of its source replaced."""
    source = textwrap.dedent(inspect.getsource(original))
    if source.count(old) != 1:
        raise LookupError(f"the source of {original.__qualname__} has {old!r} {source.count(old)} times, not once")
    namespace: dict[str, Any] = {}
    exec(
        compile(source.replace(old, new), f"<planted in {original.__qualname__}>", "exec"),
        original.__globals__,
        namespace,
    )
    return namespace[original.__name__]


Edit = tuple[Any, str, str, str]
"""Where, which function, what is replaced, and by what."""

BUGS: dict[str, tuple[Edit, ...]] = {
    "a late finish of an old epoch is accepted": ((transitions, "check_epoch", " or state.epoch != epoch", ""),),
    "the ready entry is not removed on a claim": (
        (
            MemoryStore,
            "_move",
            "if kept.state.phase is Phase.READY:",
            "if kept.state.phase is Phase.READY and state.worker == '':",
        ),
    ),
    "units are not released at a timeout": (
        (
            Runner,
            "_record",
            "self._units.release(",
            "'Timeout' in str(ending) or self._units.release(",
        ),
    ),
    "a cancel is not fenced": (
        (
            transitions,
            "check_epoch",
            "state.status is not Status.RUNNING",
            "state.status not in (Status.RUNNING, Status.CANCELLED)",
        ),
        (
            transitions,
            "_check",
            "not allowed(state.status, move)",
            "state.status is not Status.CANCELLED and not allowed(state.status, move)",
        ),
    ),
    "the timer is not set for an earlier moment": (
        (Scheduler, "heard", "self._next_at is None or event.wakes_at < self._next_at", "self._next_at is None"),
    ),
    "a cancelled run is not stopped": ((Runner, "end_over", "active.scope.cancel()", "pass"),),
    "a lost attempt counts": ((transitions, "lost", "attempt=state.attempt - 1", "attempt=state.attempt"),),
    "the end of a run is dropped when the disk refuses": (
        (Committer, "_refuse", "isinstance(item.op, Finish | AppendChunks)", "False"),
    ),
    "output is dropped when the disk refuses": ((Committer, "_refuse", "Finish | AppendChunks", "Finish"),),
    "callbacks are called again at the next end": (
        (Hub, "became_final", "self._on_final.pop(task_id, ())", "self._on_final.get(task_id, ())"),
    ),
    "waiters are not told": ((Hub, "publish", "watch.touch()", "event.final or watch.touch()"),),
    "priorities are ignored": ((oq.store.memory, "_ready", "-kept.state.priority", "0"),),
    "blocks lack their last chunk": ((Output, "take_block", "encode(taken)", "encode(taken[:-1] or taken)"),),
    "a new run goes on with the old stream": ((Streams, "read", "if epoch:", "if epoch > 1:"),),
    "freed units are not offered": (
        (Scheduler, "_take_back", "if self._more or self._may_start:", "if self._may_start:"),
    ),
    "units that come free during a claim are not offered": ((Scheduler, "_take_back", "self._freed = True", "pass"),),
    "a cancelled task still holds others back": ((Scheduler, "heard", "if self._more:", "if False:"),),
    "a run survives its process": (
        (MemoryStore, "_take_over", "for kept in running for event", "for kept in running[:2] for event"),
    ),
    "a pause is not obeyed": (
        (MemoryStore, "_claim", "if not self._paused(offer.queue)", "if offer.queue != 'night' or True"),
    ),
    "what is needed can be deleted": ((MemoryStore, "_delete", "if needed_by is not None:", "if False:"),),
    "a deleted parent is missed": (
        (
            MemoryStore,
            "_requeue",
            "self._parents(kept.seq, kept.head)",
            "[self._tasks[self._seqs[parent]] for parent in dict.fromkeys(kept.head.after)]",
        ),
    ),
    "a requeue starts epochs anew": ((transitions, "requeued", ", epoch=state.epoch)", ")"),),
    "nothing is claimed any more after a refusal": (
        (Scheduler, "_claimed", "self._may_start = True  # the committer", "pass  #"),
    ),
    "what runs alone has company": (
        (Scheduler, "before_flush", " and self._alone is None", ""),
        (oq.store.memory, "choose", "if ready.alone:", "if False:"),
    ),
    "a waiter is told though the task was requeued": (
        (Queue, "wait", "(task := await self.get(task_id)).final", "(task := await self.get(task_id))"),
    ),
    "lanes are known too late": (
        (
            MemoryStore,
            "_enter",
            "if lane not in self._ready:",
            "if kept.state.phase is Phase.READY and lane not in self._ready:",
        ),
    ),
    "retries come too early": ((Runner, "_ending_of", "timedelta(seconds=delay)", "timedelta(seconds=delay / 2)"),),
    "an attempt too many": ((Runner, "_ending_of", "run.state.attempt, failure", "run.state.attempt - 1, failure"),),
    "a run given back counts": (
        (transitions, "ended", "phase=Phase.READY, attempt=state.attempt - 1", "phase=Phase.READY"),
    ),
    "followers of a failed task wait for ever": (
        (
            MemoryStore,
            "_move",
            "state.status.final and kept.followers",
            "state.status is Status.COMPLETED and kept.followers",
        ),
    ),
}
