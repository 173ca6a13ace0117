"""`oq check`: looks at the whole store, from a child process, because damaged pages can kill whoever reads them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import click

from oq.cli.rendering import number_of
from oq.cli.session import BROKEN, TASK_UNSUCCESSFUL, Session, session_options
from oq.config import Settings
from oq.errors import DamagedRecord, OqError
from oq.opening import open_store
from oq.plugins import built_in_plugins
from oq.store.base import Store


@click.command("check")
@session_options
def check(session: Session) -> None:
    """Look for damage: read every record, and compare every index and counter with what it should hold."""
    session.require_queue()
    command = [sys.executable, "-m", "oq.cli.checking", session.location]
    child = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # it is this very module
    if child.returncode < 0:
        name = signal.Signals(-child.returncode).name
        problems = [f"the data file is damaged: reading it kills the process ({name}); restore it from a copy"]
    elif child.returncode > 0:
        session.note(f"oq: {child.stderr.strip().splitlines()[-1] if child.stderr.strip() else 'the check failed'}")
        raise click.exceptions.Exit(BROKEN)
    else:
        problems = json.loads(child.stdout)
    if session.as_json:
        session.emit({"location": session.location, "sound": not problems, "problems": problems})
    for problem in problems:
        session.say(problem)
    if problems:
        session.note(f"{session.location}: {number_of(len(problems), 'problem')}")
        raise click.exceptions.Exit(TASK_UNSUCCESSFUL)
    session.say(f"{session.location} is sound")


def main(location: str) -> int:
    """The child: print what `Store.check` says, as JSON."""
    try:
        store = open_store(location, Settings(), built_in_plugins())
        print(json.dumps(_problems(store)))  # noqa: T201  # read by the parent
    except OqError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _problems(store: Store) -> list[str]:
    try:
        return store.check()
    except DamagedRecord as error:  # a page of the data file, so that the rest cannot be reached
        return [str(error)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
