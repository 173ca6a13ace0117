"""`oq list`, `oq status`, `oq stats` and `oq plugins`: what there is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from oq.cli.filtering import filter_options
from oq.cli.rendering import columns, console, details, task_table
from oq.cli.session import Session, session_options
from oq.codec import task_as_dict
from oq.query import Page, TaskFilter
from oq.registry import Registry
from oq.stats import Stats
from oq.task import Status, Task

if TYPE_CHECKING:
    from oq.queue import Queue


@click.command("list")
@filter_options
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many at most.")
@click.option("--cursor", type=click.IntRange(0, 2**63 - 1), metavar="N", help="Go on where the page before ended.")
@session_options
def list_tasks(session: Session, wanted: TaskFilter, limit: int, cursor: int | None) -> None:
    """List tasks, newest first."""

    async def fill(queue: Queue) -> Page[Task]:
        """One full page, however many of the store's pages it takes."""
        tasks: list[Task] = []
        at = cursor
        while True:
            page = await queue.list(wanted, cursor=at, limit=limit - len(tasks))
            tasks += page.items
            at = page.cursor
            if at is None or len(tasks) >= limit:
                return Page(items=tuple(tasks), cursor=at)

    page = session.look(fill)
    if session.as_json:
        session.emit({"tasks": [task_as_dict(task) for task in page.items], "cursor": page.cursor})
        return
    if not page.items:
        session.note("no tasks" if wanted == TaskFilter() else "no tasks fit")
        return
    console().print(task_table(page.items))
    if page.cursor is not None:
        session.note(f"there are more: --cursor {page.cursor}")


@click.command("status")
@click.argument("task_id", metavar="[ID]", required=False)
@session_options
def status(session: Session, task_id: str | None) -> None:
    """Show the queue in numbers, or one task with all there is to know of it."""
    if task_id is not None:
        wanted = task_id

        async def one(queue: Queue) -> Task:
            return await queue.get(await queue.resolve(wanted))

        task = session.look(one)
        if session.as_json:
            session.emit(task_as_dict(task))
        else:
            session.say(columns(details(task)))
        return
    _show_numbers(session)


@click.command("stats")
@session_options
def stats(session: Session) -> None:
    """Show the queue in numbers."""
    _show_numbers(session)


def _show_numbers(session: Session) -> None:
    async def numbers(queue: Queue) -> tuple[Stats, str | None]:
        return await queue.stats(), queue.run_by()

    found, runner = session.look(numbers)
    if session.as_json:
        session.emit({"location": session.location, "run_by": runner, "stats": found})
        return
    rows = [
        ("queue", session.location),
        ("run by", runner or f"nobody; {session.command('run')} starts tasks"),
        ("size", f"{found.store_bytes / 2**20:.1f} MiB"),
        ("paused", ", ".join("all queues" if name == "*" else name for name in found.paused)),
    ]
    tasks = found.tasks
    waiting = ", ".join(f"{number} {phase}" for phase, number in tasks.by_phase.items() if number)
    for state, number in tasks.by_status.items():
        more = waiting if state is Status.PENDING else ""
        if state is Status.RUNNING and number and runner is None:
            more = "their process is gone; the next one runs them again"
        rows.append((str(state), f"{number}  ({more})" if more else str(number)))
    if len(found.queues) > 1:
        for name, each in found.queues.items():
            numbers_of = ", ".join(f"{number} {state}" for state, number in each.by_status.items() if number)
            rows.append((f"in {name}", numbers_of))
    session.say(columns([(name, value) for name, value in rows if value]))


@click.command("plugins")
@session_options
def plugins(session: Session) -> None:
    """Show the installed plugins, and the executors and actions that there are."""
    from oq.functions import Functions

    infos = session.plugins.infos()
    executors = Registry([*session.plugins.executors(session.settings), Functions()]).list()
    if session.as_json:
        session.emit({"plugins": infos, "executors": executors})
        return
    session.say("plugins")
    session.say(
        columns(
            [
                (f"  {info.name}", f"{info.distribution} {info.version}" + ("" if info.enabled else "  (disabled)"))
                for info in infos
            ]
        )
    )
    session.say("executors")
    for executor in executors:
        session.say(f"  {executor.name}  {executor.description}")
        if executor.actions:
            session.say(columns([(f"    {name}", summary) for name, summary in executor.actions.items()]))
    there = {info.name for info in infos}
    missing = [name for name in ("script", "ollama", "openai", "http") if name not in there]
    if missing:
        session.say(f"not installed: {', '.join(missing)} (pip install {' '.join(f'oq-{name}' for name in missing)})")
