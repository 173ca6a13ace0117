"""Reads task lists as files give them: a JSON array in the form that users of Ollama Queue know, or of plain specs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from typing import Any

import attrs

from oq.codec import make_converter, structure, unknown_key
from oq.errors import InvalidTask, Problem, UnknownAction, UnknownExecutor
from oq.models import EXECUTORS
from oq.task import TaskSpec

MODEL_TYPES = ("chat", "generate", "embed")
"""Values of `type` that mean an action of an executor of models; any other one names an executor."""

DEFAULT_ACTION = "run"
"""The action of an executor that `type` names …"""

ACTIONS = {"http": "request"}
"""… unless it is one of these."""

Check = Callable[[TaskSpec], object]
"""Raises InvalidTask, UnknownExecutor or UnknownAction when a task could not be submitted as it is."""

_Convert = Callable[[object], tuple[TaskSpec | None, list[Problem]]]

_SPEC_FIELDS = tuple(field.name for field in attrs.fields(TaskSpec))
_ALIASES = {"scheduled_at": "run_at"}
_UNKNOWN = re.compile(r"unknown field '(.*?)'")
_VERY_CLOSE = 0.75
"""How like a field of the task a word must be to be taken for it, rather than for one of the payload."""


def parse_batch(text: str, check: Check | None = None) -> list[TaskSpec]:
    """The tasks of a batch file.

    An entry has either `type` (`chat`, `generate`, `embed`, or an executor such as `script`) with the payload's fields
    beside it, or `executor`, `action` and `payload`; and any field of a spec (`priority`, `id`, `tags`, …), with
    `scheduled_at` for `run_at`. Beside `chat`, `generate` and `embed`, `executor` may name another one than `ollama`.
    What `check` says against a task is reported along with the rest.

    Raises InvalidTask with every wrong entry's index and field, in the words of the file.
    """
    convert = partial(structure, make_converter(), cls=TaskSpec)
    specs: list[TaskSpec] = []
    problems: list[Problem] = []
    ids: dict[str, int] = {}
    for index, entry in enumerate(_entries(text)):
        spec, wrong = _spec(convert, entry)
        if spec is not None and check is not None:
            wrong += _objections(spec, check)
        if spec is not None and spec.id is not None and (first := ids.setdefault(spec.id, index)) != index:
            wrong.append(Problem("id", f"{spec.id!r} is the id of tasks[{first}] too"))
        problems += [_in_its_words(problem, entry).under(f"tasks[{index}]") for problem in wrong]
        if spec is not None:
            specs.append(spec)
    if problems:
        raise InvalidTask(problems)
    return specs


def _entries(text: str) -> Sequence[Any]:
    """What the array holds; it may also be the value of `tasks` in an object."""
    try:
        entries = json.loads(text.removeprefix("\ufeff"))  # editors on Windows like to put that mark first
    except ValueError as error:
        raise InvalidTask(f"is not JSON: {error}") from None
    except RecursionError:
        raise InvalidTask("is nested too deeply") from None
    if isinstance(entries, Mapping) and isinstance(entries.get("tasks"), list):
        entries = entries["tasks"]
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        raise InvalidTask("must be a JSON array of tasks")
    return entries


def _spec(convert: _Convert, entry: Any) -> tuple[TaskSpec | None, list[Problem]]:
    """The entry as a spec, as far as it makes one, and what is wrong with it."""
    if not isinstance(entry, Mapping):
        return None, [Problem("", "must be an object with `type`, or with `executor`, `action` and `payload`")]
    fields: dict[str, Any] = {_ALIASES.get(str(name), str(name)): value for name, value in entry.items()}
    if "type" in fields:
        wrong = _expand_type(fields)
        if wrong:
            return None, wrong
    elif "executor" in fields:
        wrong = [Problem(name, unknown_key(name, list(_SPEC_FIELDS))) for name in fields if name not in _SPEC_FIELDS]
    else:
        return None, [Problem("", "needs `type`, or `executor`, `action` and `payload`")]
    fields = {name: value for name, value in fields.items() if name in _SPEC_FIELDS}
    spec, more = convert(fields)
    if spec is None:  # what is right may show more that is wrong
        bad = {re.split(r"[.\[]", problem.path)[0] for problem in more}
        spec, _ = convert({name: value for name, value in fields.items() if name not in bad})
    return spec, [*wrong, *more]


def _expand_type(fields: dict[str, Any]) -> list[Problem]:
    """Turn `type` and the payload's fields beside it into executor, action and payload."""
    kind = fields.pop("type")
    payload = {name: fields.pop(name) for name in list(fields) if name not in _SPEC_FIELDS}
    if "payload" in fields or ("executor" in fields and kind not in MODEL_TYPES):
        return [Problem("type", "cannot be given together with executor or payload")]
    if not isinstance(kind, str) or not kind:
        return [Problem("type", "must be chat, generate, embed, or the name of an executor")]
    if kind in MODEL_TYPES:
        fields |= {"executor": fields.get("executor", EXECUTORS[0]), "action": kind}
    else:
        fields |= {"executor": kind, "action": fields.get("action", ACTIONS.get(kind, DEFAULT_ACTION))}
    fields["payload"] = payload
    return []


def _objections(spec: TaskSpec, check: Check) -> Sequence[Problem]:
    try:
        check(spec)
    except InvalidTask as error:
        return error.problems
    except UnknownExecutor as error:
        return [Problem("executor", str(error))]
    except UnknownAction as error:
        return [Problem("action", str(error))]
    return []


def _in_its_words(problem: Problem, entry: Any) -> Problem:
    """The same problem, with the path as the entry has it, and with the right word for a misspelt field of the task."""
    if not isinstance(entry, Mapping):
        return problem
    path = problem.path
    for alias, name in _ALIASES.items():
        if path == name and alias in entry:
            path = alias
    if "type" in entry:
        if path in ("executor", "action") and path not in entry:
            path = "type"
        path = path.removeprefix("payload").removeprefix(".")
    unknown = _UNKNOWN.match(problem.message)
    if unknown is None:
        return Problem(path, problem.message)
    name = unknown[1]
    message = problem.message
    if not path and (near := get_close_matches(name, [*_SPEC_FIELDS, *_ALIASES], n=1, cutoff=_VERY_CLOSE)):
        message = f"{unknown[0]}; did you mean {near[0]!r}?"
    return Problem(f"{path}.{name}" if path not in ("", name) else name, message)
