"""`oq submit batch`: all tasks of a file, or none."""

from __future__ import annotations

from pathlib import Path

import click

from oq.admission import admit
from oq.batch import Check, parse_batch
from oq.cli.session import Session, session_options
from oq.cli.submitting import read_standard_input, submit_all
from oq.clock import wall_clock
from oq.config import read_text
from oq.errors import InvalidTask, Problem
from oq.functions import Functions
from oq.registry import Registry


@click.command("batch")
@click.option("--file", "file", required=True, metavar="FILE", help="A JSON array of tasks; - for standard input.")
@click.option("--sync", "--wait", "sync", is_flag=True, help="Wait for all results, and run the queue if nobody does.")
@session_options
def batch(session: Session, file: str, *, sync: bool) -> None:
    """Hand in all tasks of a file, or none.

    Each entry has `type` (chat, generate, embed, script, …) with the payload's fields beside it, or `executor`,
    `action` and `payload`; and any of priority, id, scheduled_at, tags, timeout and so on. The whole file is checked
    before anything is stored.
    """
    name = "standard input" if file == "-" else file
    try:
        text = read_standard_input() if file == "-" else read_text(Path(file))
    except ValueError as error:
        raise InvalidTask(str(error), "--file") from None
    try:
        specs = parse_batch(text, _check(session))
    except InvalidTask as error:
        raise InvalidTask([Problem(problem.path or name, problem.message) for problem in error.problems]) from None
    if specs:
        submit_all(session, specs, wait=sync)
        return
    session.note(f"{name} holds no tasks")
    if session.as_json:
        session.emit([])


def _check(session: Session) -> Check:
    """What tells whether a task could be submitted here."""
    registry = Registry([*session.plugins.executors(session.settings), Functions()])
    now = wall_clock()
    most_bytes = session.settings.limits.payload
    return lambda spec: admit(spec, registry, lambda _: "not-stored", most_bytes, now)
