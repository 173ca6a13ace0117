"""Reads task lists as files give them: a JSON array in the form that users of Ollama Queue know, or of plain specs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from oq.codec import make_converter, structure, unknown_key
from oq.errors import InvalidTask, Problem
from oq.task import TaskSpec

MODEL_TYPES = ("chat", "generate", "embed")
"""Values of `type` that mean an action of the executor `ollama`; any other one names an executor."""

DEFAULT_ACTION = "run"
"""The action of an executor that `type` names."""

_SPEC_FIELDS = tuple(field.name for field in attrs.fields(TaskSpec))
_ALIASES = {"scheduled_at": "run_at"}


def parse_batch(text: str) -> list[TaskSpec]:
    """The tasks of a batch file.

    An entry has either `type` (`chat`, `generate`, `embed`, or an executor such as `script`) with the payload's fields
    beside it, or `executor`, `action` and `payload`; and any field of a spec (`priority`, `id`, `tags`, …), with
    `scheduled_at` for `run_at`. Raises InvalidTask with every wrong entry's index and field.
    """
    try:
        entries = json.loads(text)
    except ValueError as error:
        raise InvalidTask(f"is not JSON: {error}") from None
    if isinstance(entries, Mapping) and isinstance(entries.get("tasks"), list):
        entries = entries["tasks"]
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        raise InvalidTask("must be a JSON array of tasks")
    specs: list[TaskSpec] = []
    problems: list[Problem] = []
    for index, entry in enumerate(entries):
        spec, wrong = _spec(entry)
        problems += [problem.under(f"tasks[{index}]") for problem in wrong]
        if spec is not None:
            specs.append(spec)
    if problems:
        raise InvalidTask(problems)
    return specs


def _spec(entry: Any) -> tuple[TaskSpec | None, list[Problem]]:
    if not isinstance(entry, Mapping):
        return None, [Problem("", "must be an object with `type` or `executor`")]
    fields: dict[str, Any] = {_ALIASES.get(str(name), str(name)): value for name, value in entry.items()}
    if "type" in fields:
        wrong = _expand_type(fields)
    elif "executor" in fields:
        wrong = [Problem(name, unknown_key(name, list(_SPEC_FIELDS))) for name in fields if name not in _SPEC_FIELDS]
    else:
        wrong = [Problem("", "needs `type`, or `executor`, `action` and `payload`")]
    if wrong:
        return None, wrong
    spec, problems = structure(make_converter(), fields, TaskSpec)
    return spec, [Problem(_name(problem.path, entry), problem.message) for problem in problems]


def _expand_type(fields: dict[str, Any]) -> list[Problem]:
    """Turn `type` and the payload's fields beside it into executor, action and payload."""
    kind = fields.pop("type")
    if not isinstance(kind, str) or not kind:
        return [Problem("type", "must be chat, generate, embed, or the name of an executor")]
    if "executor" in fields or "payload" in fields:
        return [Problem("type", "cannot be given together with executor or payload")]
    payload = {name: fields.pop(name) for name in list(fields) if name not in _SPEC_FIELDS}
    if kind in MODEL_TYPES:
        fields |= {"executor": "ollama", "action": kind}
    else:
        fields |= {"executor": kind, "action": fields.get("action", DEFAULT_ACTION)}
    fields["payload"] = payload
    return []


def _name(path: str, entry: Mapping[str, Any]) -> str:
    """The path in the words of the file."""
    for alias, name in _ALIASES.items():
        if path == name and alias in entry:
            return alias
    return path
