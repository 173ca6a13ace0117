"""The settings as one frozen value, and how it is made: file, environment and arguments, of which the later wins."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import attrs
from attrs import field, frozen

from oq.config.files import Document, find_file, read_document
from oq.config.legacy import FLAT_KEYS, modern
from oq.config.places import KeyPath, Places
from oq.config.reading import Given, core_variables, read_table, variable_of
from oq.config.showing import Setting, settings_in
from oq.config.tables import (
    TABLES,
    LoggingSettings,
    PluginsSettings,
    QueueSettings,
    RetentionSettings,
    SchedulerSettings,
)
from oq.errors import InvalidSettings, Problem
from oq.limits import Limits
from oq.retry import RetryPolicy

T = TypeVar("T")

_PLUGIN_TABLES = ("script", "ollama", "openai", "http", "server")
"""Tables of oq's own plugins, which may stand in a file that is shared with machines where they are installed."""

_NEARLY = 0.85
"""How alike a variable must be to one of oq's, to be a misspelt one rather than one of somebody else's."""


@frozen(kw_only=True)
class Settings:
    """Everything that can be set; the tables of plugins are in `sections`, unread until the plugin asks."""

    queue: QueueSettings = field(factory=QueueSettings)
    scheduler: SchedulerSettings = field(factory=SchedulerSettings)
    retry: RetryPolicy = field(factory=RetryPolicy)
    retention: RetentionSettings = field(factory=RetentionSettings)
    limits: Limits = field(factory=Limits)
    logging: LoggingSettings = field(factory=LoggingSettings)
    plugins: PluginsSettings = field(factory=PluginsSettings)
    sections: Mapping[str, Mapping[str, Any]] = field(factory=dict, repr=False)
    """Not shown, because only a plugin knows what of its table is secret."""
    source: str = "defaults"
    """The file they came from, for messages."""
    notes: tuple[str, ...] = field(default=(), eq=False)
    """What is to be said of keys that have no meaning any more."""
    on_section: Callable[[str, type[Any]], None] | None = field(default=None, eq=False, repr=False)
    """Is told of each `section` that a plugin asks for, and its class."""
    _given: Given = field(factory=Given, eq=False, repr=False)
    """What a plugin's table is read with, once the plugin asks."""
    _secrets: frozenset[KeyPath] = field(default=frozenset(), eq=False, repr=False)
    """What of the core's tables came through `${…}`."""

    @property
    def file(self) -> str | None:
        """The file they came from; None without one."""
        return self._given.places.file

    def section(self, name: str, cls: type[T]) -> T:
        """The table `[name]` as an instance of the attrs class `cls`, with the variables `OQ_<NAME>_…` on top.

        Raises InvalidSettings with every wrong key, and where it is.
        """
        if self.on_section is not None:
            self.on_section(name, cls)
        reading = read_table(name, cls, self.sections.get(name, {}), self._given)
        if reading.value is None:
            raise InvalidSettings(_from_top_to_bottom(reading.problems))
        return reading.value

    def error(self, key: str, message: str) -> InvalidSettings:
        """What is to be raised when a value turns out to be wrong in use; names the place where it was set."""
        return InvalidSettings([self._given.places.located(Problem(key, message))])

    def explain(self, classes: Mapping[str, type[Any]] | None = None) -> tuple[Setting, ...]:
        """Every value and where it comes from, with secrets hidden.

        `classes` are those of the plugins' tables, by table; without its class, a table has what the file says.
        """
        settings: list[Setting] = []
        for name in TABLES:
            settings += settings_in(name, getattr(self, name), self._given.places, self._secrets)
        for name in sorted({*self.sections, *(classes or {})}):
            table: Any = self.sections.get(name, {})
            reading = read_table(name, (classes or {}).get(name, _Unread), table, self._given)
            settings += settings_in(name, reading.value or table, reading.places, reading.secrets)
        return tuple(settings)


@frozen
class _Unread:
    """Stands for the class of a table whose plugin is not here; nothing fits it, so the table stays as it is."""


def load_settings(
    file: str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] | None = None,
    extra_tables: tuple[str, ...] = (),
    arguments: Mapping[str, Any] | None = None,
) -> Settings:
    """The settings of `file`, or of the first one that is found, with the environment and the arguments on top.

    Without `file` and `OQ_CONFIG`, `oq.toml`, `oq.yaml`, `oq.yml` or `oq.json` is looked for in the working directory,
    the user's configuration directory and `/etc/oq`. `environ` is that of the process when None. `extra_tables` are
    known besides those of the installed plugins. `arguments` are values by key: `{"scheduler.workers": 2}`.

    Raises InvalidSettings that names each wrong key, with file and line, or the variable.
    """
    environ = dict(os.environ if environ is None else environ)
    path = os.fspath(file) if file else environ.get("OQ_CONFIG") or find_file(environ)
    document = read_document(path) if path else Document()
    present = modern(document)
    places = Places(file=path, lines=document.lines, others=present.places)
    tables = {name: {} if table is None else table for name, table in present.data.items()}
    argued, problems = _arguments(arguments or {})
    given = Given(places=places, environ=environ, arguments=argued)

    problems += [*present.problems, *_misspelt_variables(environ)]
    values: dict[str, Any] = {}
    secrets: set[KeyPath] = set()
    for name, cls in TABLES.items():
        reading = read_table(name, cls, tables.get(name, {}), given)
        problems += reading.problems
        values[name] = reading.value
        secrets |= reading.secrets
        given = attrs.evolve(given, places=reading.places)
    sections, wrong = _sections(tables, extra_tables)
    problems += [places.located(problem) for problem in wrong]
    if problems:
        raise InvalidSettings(_from_top_to_bottom(problems))
    return Settings(
        **values,
        sections=sections,
        source=path or "environment",
        notes=present.notes,
        given=given,
        secrets=frozenset(secrets),
    )


def _arguments(arguments: Mapping[str, Any]) -> tuple[dict[tuple[str, str], Any], list[Problem]]:
    """The arguments by table and key, and what is wrong with them."""
    argued: dict[tuple[str, str], Any] = {}
    problems: list[Problem] = []
    for dotted_key, value in arguments.items():
        table, dot, key = dotted_key.partition(".")
        if dot:
            argued[table, key] = value
        else:
            problems.append(Problem(f"argument {dotted_key}", "must name table and key, such as scheduler.workers"))
    return argued, problems


def _sections(
    tables: Mapping[str, Any], extra_tables: Collection[str]
) -> tuple[dict[str, Mapping[str, Any]], list[Problem]]:
    """The tables of plugins, and a problem for each that no plugin reads."""
    sections: dict[str, Mapping[str, Any]] = {}
    problems: list[Problem] = []
    known = {*TABLES, *_PLUGIN_TABLES, *extra_tables}
    strange = [name for name in tables if name not in known]
    if strange:
        from importlib.metadata import entry_points

        known |= entry_points(group="oq").names
    for name, table in tables.items():
        if name in TABLES:
            continue
        if name not in known:
            problems.append(Problem(name, _no_such_table(name, table, known)))
        elif isinstance(table, Mapping):
            sections[name] = table
        else:
            problems.append(Problem(name, f"must be a table: [{name}]"))
    return sections, problems


def _no_such_table(name: str, table: object, known: Collection[str]) -> str:
    from difflib import get_close_matches

    what = "table" if isinstance(table, Mapping) else "key"
    candidates = [*known, *FLAT_KEYS] if what == "key" else list(known)
    owners = [owner for owner, cls in TABLES.items() if name in attrs.fields_dict(cls)]
    if owners and what == "key":
        return f"there is no such key; [{owners[0]}] has one of this name"
    near = get_close_matches(name, candidates, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f" (known: {', '.join(sorted(known))})"
    return f"there is no such {what}{hint}"


def _misspelt_variables(environ: Mapping[str, str]) -> Iterator[Problem]:
    """A problem for each variable of no table that is nearly one of oq's."""
    from difflib import get_close_matches

    tables = tuple(variable_of(name, "") for name in (*TABLES, *_PLUGIN_TABLES))
    known = [*core_variables(), "OQ_CONFIG"]
    for variable in sorted(environ):
        if not variable.startswith("OQ_") or not environ[variable]:
            continue
        if variable in known or variable.startswith(tables):
            continue
        if near := get_close_matches(variable, known, n=1, cutoff=_NEARLY):
            yield Problem(variable, f"there is no such setting; did you mean {near[0]}?")


def _from_top_to_bottom(problems: Iterable[Problem]) -> list[Problem]:
    """In the order of their lines; what is in no line of the file comes first."""

    def line(problem: Problem) -> int:
        found = re.match(r".*?:(\d+)(?=: |$)", problem.path)
        return int(found[1]) if found else 0

    return sorted(problems, key=line)
