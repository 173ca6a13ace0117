"""`oq submit batch`: all tasks of a file, or none."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from oq.batch import parse_batch
from oq.cli.session import Session, session_options
from oq.cli.submitting import submit_all
from oq.config import read_text
from oq.errors import InvalidTask


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
    try:
        text = sys.stdin.read() if file == "-" else read_text(Path(file))
    except ValueError as error:
        raise InvalidTask(str(error), "--file") from None
    specs = parse_batch(text)
    if not specs:
        session.note("the file holds no tasks")
    submit_all(session, specs, wait=sync)
