"""Ways to bring a task where a test wants it."""

from __future__ import annotations

from typing import Any

from oq.store.base import Run
from oq.task import Phase, Status
from oq.testing.builders import at, new_task
from oq.testing.driver import StoreDriver

Place = Status | Phase
"""The status, and if that is pending the phase, in which a task may be."""

PHASES = (Phase.READY, Phase.SCHEDULED, Phase.RETRYING, Phase.BLOCKED)
"""The phases in which a store keeps pending tasks."""

FINAL = tuple(status for status in Status if status.final)

LIVE: tuple[Place, ...] = (*PHASES, Status.RUNNING)
"""Where a task that is not final may be."""

PLACES: tuple[Place, ...] = (*LIVE, *FINAL)
"""Everywhere a task may be."""

LATER = at(1_000)
"""When scheduled and retrying tasks of these situations are due."""


def bring(driver: StoreDriver, task_id: str, place: Place, *, add: bool = True, **fields: Any) -> Run | None:
    """Add a task (or take the ready one there is) and bring it to `place`; gives its last run, where it had one.

    Works in the default lane, in which nothing else may be ready. Every run has a lease until LATER.
    """
    if place is Phase.SCHEDULED:
        fields["run_at"] = LATER
    elif place is Phase.BLOCKED:
        driver.add(new_task(f"parent of {task_id}", lane="parents"))
        fields["after"] = (f"parent of {task_id}",)
    if add:
        driver.add(new_task(task_id, **fields))
    if place in (Status.PENDING, Phase.READY, Phase.SCHEDULED, Phase.BLOCKED):
        return None
    run = driver.start(task_id, lease_until=LATER)
    match place:
        case Status.COMPLETED:
            driver.succeed(run, b"result")
        case Status.FAILED:
            driver.fail(run)
        case Status.CANCELLED:
            driver.cancel(task_id)
        case Phase.RETRYING:
            driver.retry(run, due_at=LATER)
        case _:
            assert place is Status.RUNNING
    return run
