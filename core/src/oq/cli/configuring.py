"""`oq config`: every setting and where it comes from."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from oq.cli.rendering import console, harmless
from oq.cli.session import Session, session_options
from oq.config import Setting, searched_files

if TYPE_CHECKING:
    from rich.table import Table


@click.command("config")
@click.argument("tables", metavar="[TABLE]...", nargs=-1)
@session_options
def config(session: Session, tables: tuple[str, ...]) -> None:
    """Show every setting and where it comes from: a line of the file, a variable, an argument, or the default.

    What is secret is shown as ***. With the names of tables, only these are shown.
    """
    classes: dict[str, type[Any]] = {}
    settings = attrs.evolve(session.settings, on_section=classes.__setitem__)
    session.plugins.executors(settings)  # which ask for their tables
    shown = settings.explain(classes)
    there = list(dict.fromkeys(setting.table for setting in shown))
    for table in tables:
        if table not in there:
            raise click.UsageError(f"there is no table {table!r} (there are: {', '.join(there)})")
    shown = tuple(setting for setting in shown if not tables or setting.table in tables)
    searched = searched_files(os.environ)
    if session.as_json:
        session.emit({"file": settings.file, "searched": searched, "notes": settings.notes, "settings": shown})
        return
    console().print(_table(shown, settings.file))
    if settings.file is None:
        session.note(_nothing_found(searched))
    else:
        session.note(f"read {settings.file}")


def _table(settings: Sequence[Setting], file: str | None) -> Table:
    """The settings below the names of their tables; long values give way, and the file's directory is left out."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", expand=False)
    table.add_column("SETTING", no_wrap=True)
    table.add_column("VALUE")
    table.add_column("FROM", no_wrap=True, overflow="fold")
    for name, rows in groupby(settings, key=lambda setting: setting.table):
        table.add_row(Text(f"[{name}]", style="bold"))
        for setting in rows:
            style = "dim" if setting.source == "default" else ""
            table.add_row(
                Text(f"  {setting.key}", style=style),
                Text(harmless(_value(setting.value)), style=style, no_wrap=True, overflow="ellipsis"),
                Text(harmless(_in_short(setting.source, file)), style=style),
            )
    return table


def _value(value: object) -> str:
    """A value as it would be written in the file, in one line."""
    match value:
        case None:
            return "none"
        case str():
            return value if value and value == value.strip() and "\n" not in value else json.dumps(value)
        case float() if value.is_integer():
            return f"{value:.0f}"
    return json.dumps(value, ensure_ascii=False)


def _in_short(source: str, file: str | None) -> str:
    """A place in the file by the file's bare name."""
    if file is None or not source.startswith(f"{file}:"):
        return source
    return Path(file).name + source.removeprefix(file)


def _nothing_found(searched: Sequence[str]) -> str:
    """What was looked for, a line for each directory."""
    by_directory: dict[str, list[str]] = {}
    for path in map(Path, searched):
        by_directory.setdefault(str(path.parent), []).append(path.name)
    lines = [f"  {', '.join(names)} in {_directory(directory)}" for directory, names in by_directory.items()]
    return "\n".join(["there is no settings file; looked for", *lines])


def _directory(path: str) -> str:
    return "the working directory" if path == "." else path
