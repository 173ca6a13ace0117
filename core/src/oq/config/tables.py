"""The tables of the core, each a frozen class; those of `[retry]` and `[limits]` are where their rules are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from attrs import Attribute, field, frozen
from attrs.validators import ge, gt, optional

from oq.limits import Limits
from oq.retry import RetryPolicy

LEVELS = ("debug", "info", "warning", "error", "critical")

_OTHER_WORDS = {"warn": "warning", "fatal": "critical"}


def _level(text: str) -> str:
    return _OTHER_WORDS.get(text.lower(), text.lower())


def _known_level(_self: object, attribute: Attribute[Any], value: str) -> None:
    if value not in LEVELS:
        raise ValueError(f"{attribute.name!r} must be one of {', '.join(LEVELS)}, not {value!r}")


def _none_when_empty(text: str | None) -> str | None:
    return text or None


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
class RetentionSettings:
    """The table `[retention]`: how long final tasks are kept."""

    completed: float | None = field(default=None, validator=optional(ge(0)))
    """Seconds that a completed task is kept; for ever when None."""
    failed: float | None = field(default=None, validator=optional(ge(0)))
    """Seconds that a failed task is kept."""
    cancelled: float | None = field(default=None, validator=optional(ge(0)))
    """Seconds that a cancelled task is kept."""
    max_completed_tasks: int | None = field(default=None, validator=optional(ge(0)))
    """How many completed tasks are kept, the newest; any number when None."""
    cleanup_interval: float = field(default=300.0, validator=gt(0))
    """Seconds between two looks at what is to be removed."""


@frozen(kw_only=True)
class LoggingSettings:
    """The table `[logging]`: what the command line logs, and where; a program that embeds oq sets up its own."""

    level: str = field(default="info", converter=_level, validator=_known_level)
    """The least severe level that is logged: debug, info, warning, error or critical."""
    format: Literal["text", "json"] = "text"
    """`json`: one object a line."""
    file: str | None = field(default=None, converter=_none_when_empty)
    """A file to add to; standard error when None. Several processes may share it."""


@frozen(kw_only=True)
class PluginsSettings:
    """The table `[plugins]`."""

    disabled: tuple[str, ...] = ()
    """Names of plugins that are installed but not to be loaded."""


TABLES: Mapping[str, type[Any]] = {
    "queue": QueueSettings,
    "scheduler": SchedulerSettings,
    "retry": RetryPolicy,
    "retention": RetentionSettings,
    "limits": Limits,
    "logging": LoggingSettings,
    "plugins": PluginsSettings,
}
"""The tables of the core, in the order in which they are shown."""
