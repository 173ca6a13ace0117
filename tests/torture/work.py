"""The workload: tasks of every kind that the store treats differently, and the executor that runs them."""

from __future__ import annotations

import random
import time

import trio
from attrs import evolve, frozen

from oq.errors import PermanentError, RetryableError
from oq.executor import Action, Chunk
from oq.retry import RetryPolicy
from oq.task import TaskSpec
from torture.journal import Journal

SOON = RetryPolicy(max_attempts=4, delay=0.02, factor=1.5, jitter=0.5)


@frozen(kw_only=True)
class Work:
    """What a task does."""

    label: str
    """Unique, made by whoever submits; a label that two tasks have was stored twice."""
    fails: int = 0
    """How many attempts fail before one succeeds."""
    hopeless: bool = False
    chunks: int = 0
    takes: float = 0.0
    result: int = 0
    padding: str = ""


class Worker:
    """Runs tasks, and writes into the journal when it starts and ends."""

    name = "torture"
    version = "1"
    description = "Does what the payload says"
    actions = {"work": Action(payload=Work, summary="Do as it says", streams=True)}  # noqa: RUF012  # as the protocol has it

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def execute(self, task, ctx):
        work = task.payload
        self._journal.write("start", task.id, ctx.epoch, time.time())
        for number in range(work.chunks):
            await ctx.emit(Chunk(text=f"{number:06}" * 2_000))
        await trio.sleep(work.takes)
        self._journal.write("end", task.id, ctx.epoch, time.time())
        if work.hopeless:
            raise PermanentError("it cannot be done")
        if ctx.attempt <= work.fails:
            raise RetryableError("not yet")
        return "x" * work.result


def some_spec(chance: random.Random, label: str) -> TaskSpec:
    """A task of any kind."""
    payload = Work(label=label, takes=chance.choice((0.0, 0.0, 0.005, 0.03)), padding="." * chance.randrange(2_000))
    spec = TaskSpec(executor="torture", action="work", retry=SOON, priority=chance.choice(("low", "normal", "high")))
    match chance.randrange(8):
        case 0 | 1:
            payload = evolve(payload, fails=chance.randrange(1, 4))
        case 2:
            payload = evolve(payload, chunks=chance.randrange(4, 15))
        case 3:
            payload = evolve(payload, result=chance.randrange(5_000))
            spec = evolve(spec, result_ttl=chance.uniform(0.0, 0.1))
        case 4:
            spec = evolve(spec, delay=chance.uniform(0.0, 0.15))
        case 5:
            payload = evolve(payload, hopeless=chance.random() < 0.3)
        case _:
            payload = evolve(payload, result=chance.randrange(100))
    return evolve(spec, payload=payload)
