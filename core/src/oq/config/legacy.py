"""The keys and variables of Ollama Queue, which was here before: what they mean now, or that they mean nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from attrs import field, frozen

from oq.config.files import Document
from oq.config.places import KeyPath, Place, Places, dotted
from oq.errors import Problem


def _same(value: Any) -> Any:
    return value


def _attempts(retries: Any) -> Any:
    """A retry is an attempt after the first."""
    return retries + 1 if isinstance(retries, int) and not isinstance(retries, bool) else retries


_NANOSECONDS = 10**9
_NO_SECONDS = 10**6


def _seconds(duration: Any) -> Any:
    """Go writes durations as whole numbers of nanoseconds; a million seconds would be eleven days."""
    return duration / _NANOSECONDS if isinstance(duration, int) and duration >= _NO_SECONDS else duration


@frozen
class _Renamed:
    path: tuple[str, str]
    convert: Callable[[Any], Any] = _same


_NO_POLLING = "has no meaning any more: a task starts when it becomes ready, without looking in intervals"
_NO_BATCH = "has no meaning any more: as many tasks are taken at once as there are free workers"
_NO_TIMEOUT = (
    "has no meaning any more: `timeout` in [scheduler] bounds an attempt, `first_byte_timeout` and `chunk_timeout` in "
    "[ollama] the wait for a model"
)

_WORKERS = _Renamed(("scheduler", "workers"))
_PATH = _Renamed(("queue", "path"))
_CLEANUP = _Renamed(("retention", "cleanup_interval"), _seconds)
_KEPT = _Renamed(("retention", "max_completed_tasks"))
_ATTEMPTS = _Renamed(("retry", "max_attempts"), _attempts)
_DELAY = _Renamed(("retry", "delay"), _seconds)
_LONGEST = _Renamed(("retry", "max_delay"), _seconds)
_FACTOR = _Renamed(("retry", "factor"))
_LEVEL = _Renamed(("logging", "level"))

_KEYS: Mapping[tuple[str, ...], _Renamed] = {
    ("max_workers",): _WORKERS,
    ("queue", "max_workers"): _WORKERS,
    ("storage_path",): _PATH,
    ("queue", "storage_path"): _PATH,
    ("cleanup_interval",): _CLEANUP,
    ("queue", "cleanup_interval"): _CLEANUP,
    ("max_completed_tasks",): _KEPT,
    ("queue", "max_completed_tasks"): _KEPT,
    ("retry_config", "max_retries"): _ATTEMPTS,
    ("retry_config", "initial_delay"): _DELAY,
    ("retry_config", "max_delay"): _LONGEST,
    ("retry_config", "backoff_factor"): _FACTOR,
    ("retry", "max_retries"): _ATTEMPTS,
    ("retry", "initial_delay"): _DELAY,
    ("retry", "backoff_factor"): _FACTOR,
    ("log_level",): _LEVEL,
    ("log_file",): _Renamed(("logging", "file")),
    ("ollama_host",): _Renamed(("ollama", "host")),
    ("listen_addr",): _Renamed(("server", "listen")),
}
"""Flat, and in the tables that its README showed."""

_MEANINGLESS: Mapping[tuple[str, ...], str] = {
    ("scheduling_interval",): _NO_POLLING,
    ("scheduler", "scheduling_interval"): _NO_POLLING,
    ("batch_size",): _NO_BATCH,
    ("scheduler", "batch_size"): _NO_BATCH,
    ("ollama_timeout",): _NO_TIMEOUT,
    ("ollama", "timeout"): _NO_TIMEOUT,
}

_ELSEWHERE: Mapping[tuple[str, ...], str] = {
    ("remote_scheduling",): (
        "is written in two tables now: each server as one of [[openai.endpoints]], and whether it is to be saved for "
        "urgent tasks in [openai.routing]"
    ),
}

FLAT_KEYS = tuple(path[0] for path in (*_KEYS, *_MEANINGLESS, *_ELSEWHERE) if len(path) == 1)
"""Those that stand outside of all tables."""

VARIABLES: Mapping[str, _Renamed] = {
    "QUEUE_MAX_WORKERS": _WORKERS,
    "QUEUE_STORAGE_PATH": _PATH,
    "QUEUE_CLEANUP_INTERVAL": _CLEANUP,
    "QUEUE_MAX_COMPLETED_TASKS": _KEPT,
    "RETRY_MAX_RETRIES": _ATTEMPTS,
    "RETRY_INITIAL_DELAY": _DELAY,
    "RETRY_MAX_DELAY": _LONGEST,
    "RETRY_BACKOFF_FACTOR": _FACTOR,
    "LOG_LEVEL": _LEVEL,
}
"""The variables that it read. `LOG_FILE` is not among them: it would make oq write into the file of another program."""


@frozen(kw_only=True)
class Modern:
    """A document in which every key has its present name."""

    data: Mapping[str, Any]
    places: Mapping[KeyPath, Place] = field(factory=dict)
    """Where the keys were given that had another name."""
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    """What is said of keys that have no meaning."""


def modern(document: Document) -> Modern:
    """The document with the present names."""
    data = {name: dict(value) if isinstance(value, Mapping) else value for name, value in document.data.items()}
    in_file = Places(file=document.path, lines=document.lines)
    places: dict[KeyPath, Place] = {}
    problems: list[Problem] = []
    notes: list[str] = []
    for path, why in _MEANINGLESS.items():
        if _take(data, path) is not _NOTHING:
            notes.append(f"{in_file.in_file(path).where}: {dotted(path)} {why}")
    for path, why in _ELSEWHERE.items():
        if _take(data, path) is not _NOTHING:
            problems.append(in_file.located(Problem(dotted(path), why)))
    for path, renamed in _KEYS.items():
        if (value := _take(data, path)) is _NOTHING:
            continue
        name, key = renamed.path
        table = data.setdefault(name, {})
        if not isinstance(table, dict):  # which is told with the other mistakes
            continue
        if key in table:
            first = places.get(renamed.path, Place("file", ""))
            same = Problem(dotted(path), f"means the same as {first.key or dotted(renamed.path)}; keep one")
            problems.append(in_file.located(same))
            continue
        if isinstance(value, str) and "${" in value and renamed.convert is _attempts:
            counted = f"counts retries; write {dotted(renamed.path)}, which counts attempts, to use a variable"
            problems.append(in_file.located(Problem(dotted(path), counted)))
        table[key] = renamed.convert(value)
        places[renamed.path] = Place("file", in_file.in_file(path).where, key=dotted(path))
    problems += map(in_file.located, _left_over(data))
    return Modern(data=data, places=places, problems=tuple(problems), notes=tuple(notes))


def _left_over(data: dict[str, Any]) -> list[Problem]:
    """What is wrong with the one table that there is no more, which is taken away."""
    table = data.pop("retry_config", {})
    if not isinstance(table, dict):
        return [Problem("retry_config", "must be a table: [retry_config]")]
    known = ", ".join(path[1] for path in _KEYS if path[0] == "retry_config")
    return [Problem(f"retry_config.{key}", f"there is no such key (known: {known})") for key in table]


_NOTHING = object()


def _take(data: dict[str, Any], path: tuple[str, ...]) -> Any:
    """Remove a key and give its value."""
    *outer, last = path
    table: Any = data
    for step in outer:
        table = table.get(step)
        if not isinstance(table, dict):
            return _NOTHING
    return table.pop(last, _NOTHING)
