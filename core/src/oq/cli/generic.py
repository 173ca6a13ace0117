"""`oq submit generic`: a task of any executor, its payload as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from oq.cli.submitting import SubmitOptions, read_standard_input, submit_options
from oq.config import read_text
from oq.errors import InvalidTask
from oq.task import TaskSpec


@click.command("generic")
@click.option("--executor", required=True, metavar="NAME", help="Who runs it; `oq plugins` lists them.")
@click.option("--action", required=True, metavar="NAME", help="What it is to do.")
@click.option("--payload", default="{}", metavar="JSON", help="A JSON object; @FILE reads a file, - what is piped in.")
@submit_options
def generic(*, options: SubmitOptions, executor: str, action: str, payload: str) -> None:
    """Hand in a task of any executor."""
    options.submit(TaskSpec(executor=executor, action=action, payload=_read(payload)))


def _read(payload: str) -> Any:
    try:
        if payload == "-":
            payload = read_standard_input()
        elif payload.startswith("@"):
            payload = read_text(Path(payload[1:]))
        value = json.loads(payload)
    except ValueError as error:
        raise InvalidTask(str(error), "--payload") from None
    if not isinstance(value, dict):
        raise InvalidTask("must be a JSON object", "--payload")
    return value
