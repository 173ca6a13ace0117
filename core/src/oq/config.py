"""One frozen settings value, made from a file, the environment and arguments; the later of these wins."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import attrs
from attrs import field, frozen
from attrs.validators import ge, optional

from oq.codec import make_converter, structure, unknown_key
from oq.errors import InvalidSettings, Problem
from oq.limits import Limits
from oq.retry import RetryPolicy

DEFAULT_FILE = "oq.toml"

T = TypeVar("T")


@frozen(kw_only=True)
class QueueSettings:
    """The table `[queue]`: where tasks are kept."""

    path: str = "./oq-data"
    """A directory or a store URL; `--queue` and `OQ_QUEUE` win."""
    durability: Literal["strict", "relaxed"] = "strict"
    """`strict`: what is acknowledged survives a power failure. `relaxed`: it survives a crash of oq, but a power
    failure may undo the last moments; it never corrupts."""
    max_bytes: int = field(default=32 * 2**30, validator=ge(2**20))
    """Bytes that the store may grow to; past it, submit answers QueueFull."""


@frozen(kw_only=True)
class SchedulerSettings:
    """The table `[scheduler]`: what runs at once, and for how long."""

    workers: int = field(default=4, validator=ge(1))
    """How many tasks run at once in this process."""
    timeout: float | None = field(default=3600.0, validator=optional(ge(0.001)))  # type: ignore[arg-type]  # mypy infers float from the default
    """Seconds that an attempt may take where its task does not say; `inf` for no limit."""
    grace: float = field(default=10.0, validator=ge(0))
    """Seconds that running tasks get to finish at a shutdown, before they are given back."""
    limits: Mapping[str, int] = field(factory=dict)
    """How many tasks of an executor run at once, by the executor's name."""


@frozen(kw_only=True)
class PluginsSettings:
    """The table `[plugins]`."""

    disabled: tuple[str, ...] = ()
    """Names of plugins that are installed but not to be loaded."""


@frozen(kw_only=True)
class Settings:
    """Everything that can be set; the tables of plugins are in `sections`, unread until the plugin asks."""

    queue: QueueSettings = field(factory=QueueSettings)
    scheduler: SchedulerSettings = field(factory=SchedulerSettings)
    retry: RetryPolicy = field(factory=RetryPolicy)
    limits: Limits = field(factory=Limits)
    plugins: PluginsSettings = field(factory=PluginsSettings)
    sections: Mapping[str, Mapping[str, Any]] = field(factory=dict)
    source: str = "defaults"
    """The file they came from, for messages."""

    def section(self, name: str, cls: type[T]) -> T:
        """The table `[name]` as an instance of the attrs class `cls`; raises InvalidSettings with every wrong key."""
        value, problems = structure(make_converter(), self.sections.get(name, {}), cls)
        if value is None:
            raise InvalidSettings([_located(problem.under(name), self.source, {}) for problem in problems])
        return value


_TABLES: Mapping[str, type[Any]] = {
    "queue": QueueSettings,
    "scheduler": SchedulerSettings,
    "retry": RetryPolicy,
    "limits": Limits,
    "plugins": PluginsSettings,
}

_PLUGIN_TABLES = ("script", "ollama", "openai", "http", "server")
"""Tables of oq's own plugins, which may stand in a file that is shared with machines where they are installed."""


def load_settings(
    file: str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] | None = None,
    extra_tables: tuple[str, ...] = (),
) -> Settings:
    """The settings of `file`, or of `oq.toml` here if there is one, with the environment on top.

    Raises InvalidSettings that names each wrong key.
    """
    environ = os.environ if environ is None else environ
    named = file or environ.get("OQ_CONFIG")
    path = Path(named) if named else Path(DEFAULT_FILE)
    tables: dict[str, Any] = _read(path) if named or path.exists() else {}
    source = str(path) if tables else "environment"
    variables: dict[str, str] = {}
    for variable, key, read in _VARIABLES:
        if text := environ.get(variable):
            name, _, field_name = key.partition(".")
            if isinstance(table := tables.setdefault(name, {}), dict):  # else the file's mistake is told below
                table[field_name] = read(variable, text)
                variables[key] = variable
    return _settings_from(tables, source, variables, extra_tables)


def _settings_from(
    tables: Mapping[str, Any], source: str, variables: Mapping[str, str], extra_tables: tuple[str, ...]
) -> Settings:
    converter = make_converter()
    problems: list[Problem] = []
    values: dict[str, Any] = {}
    sections: dict[str, Mapping[str, Any]] = {}
    known = [*_TABLES, *_PLUGIN_TABLES, *extra_tables]
    for name, table in tables.items():
        if name in _TABLES:
            value, wrong = structure(converter, table, _TABLES[name])
            values[name] = value
            problems += [problem.under(name) for problem in wrong]
        elif name not in known:
            problems.append(Problem(name, unknown_key(name, known)))
        elif isinstance(table, Mapping):
            sections[name] = table
        else:
            problems.append(Problem(name, f"must be a table: [{name}]"))
    if problems:
        raise InvalidSettings([_located(problem, source, variables) for problem in problems])
    return attrs.evolve(Settings(sections=sections, source=source), **values)


def read_text(path: Path) -> str:
    """The text of a file that a person wrote; raises ValueError with a sentence when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise InvalidSettings(str(error), str(path)) from None
    except ValueError as error:  # it names the path
        raise InvalidSettings(str(error)) from None


def _located(problem: Problem, source: str, variables: Mapping[str, str]) -> Problem:
    """The problem with where to mend it: in the environment variable that set the key, else in the file."""
    if problem.path in variables:
        return Problem(variables[problem.path], problem.message)
    return Problem(f"{source}: {problem.path}", problem.message)


def _text(_variable: str, text: str) -> str:
    return text


def _number(variable: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InvalidSettings(f"expected a whole number, got {text!r}", variable) from None


def _names(_variable: str, text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


_VARIABLES: tuple[tuple[str, str, Callable[[str, str], Any]], ...] = (
    ("OQ_QUEUE", "queue.path", _text),
    ("OQ_WORKERS", "scheduler.workers", _number),
    ("OQ_DISABLED_PLUGINS", "plugins.disabled", _names),
)
"""Environment variables, the keys that they set, and how their text is read."""
