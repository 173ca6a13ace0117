"""Turns what people send into values, strictly and with the path of every error, and values into what is stored.

Input (JSON, keyword arguments) goes through cattrs: unknown keys are refused and nothing is coerced. Stored bytes are
msgpack by msgspec, which encodes and decodes attrs classes natively.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, TypeVar

import attrs
import cattrs
import msgspec
from cattrs.errors import ForbiddenExtraKeysError
from cattrs.v import format_exception as _cattrs_says

from oq.errors import InvalidTask, Problem
from oq.executor import Chunk
from oq.task import Priority, Task

T = TypeVar("T")


def make_converter() -> cattrs.Converter:
    """A converter for input: no coercion, no unknown keys, every error with its path."""
    converter = cattrs.Converter(forbid_extra_keys=True, detailed_validation=True)
    converter.register_structure_hook(bool, lambda value, _: _exactly(bool, "true or false", value))
    converter.register_structure_hook(int, lambda value, _: _exactly(int, "a whole number", value))
    converter.register_structure_hook(str, lambda value, _: _exactly(str, "a string", value))
    converter.register_structure_hook(bytes, lambda value, _: _exactly(bytes, "bytes", value))
    converter.register_structure_hook(float, _structure_float)
    converter.register_structure_hook(datetime, lambda value, _: parse_moment(value))
    converter.register_structure_hook(Priority, lambda value, _: Priority.parse(value))
    return converter


def structure(converter: cattrs.Converter, data: object, cls: type[T]) -> tuple[T | None, list[Problem]]:
    """An instance of `cls` made from `data`, or None and everything that is wrong with it."""
    if attrs.has(cls) and not isinstance(data, Mapping):
        return None, [Problem("", f"expected an object with the fields of {cls.__name__}, got {_shown(data)}")]
    try:
        return converter.structure(data, cls), []
    except Exception as error:  # cattrs wraps whatever a validator raises in its groups
        return None, _problems(error, cls)


def parse_moment(value: object) -> datetime:
    """The moment that an RFC 3339 text or an aware datetime names, in UTC; ValueError for anything else."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(f"{value!r} is not a moment; write it like 2026-01-31T09:00:00Z") from None
    if not isinstance(value, datetime):
        raise ValueError(f"expected a moment like 2026-01-31T09:00:00Z, got {_shown(value)}")
    if value.tzinfo is None:
        raise ValueError(f"{value.isoformat()} has no time zone; add Z or an offset such as +01:00")
    return value.astimezone(UTC)


def unknown_key(key: str, known: list[str]) -> str:
    """The message for a key that does not exist, with the nearest one that does."""
    from difflib import get_close_matches

    near = get_close_matches(key, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f" (known: {', '.join(sorted(known))})"
    return f"unknown field {key!r}{hint}"


class PayloadCodec(Generic[T]):
    """Checks, encodes and decodes the payloads of one class."""

    def __init__(self, cls: type[T], converter: cattrs.Converter) -> None:
        """Raises TypeError when `cls` is no attrs class or has a field of a type that cannot be stored."""
        if not attrs.has(cls):
            raise TypeError(f"{cls.__name__} is not an attrs class")
        self._cls = cls
        self._converter = converter
        self._decoder = msgspec.msgpack.Decoder(cls)

    def parse(self, payload: object) -> tuple[T, bytes]:
        """The payload as an instance of the class, and as it is stored.

        Takes an instance or a mapping; None is an empty mapping. Raises InvalidTask with paths below `payload`.
        """
        if isinstance(payload, self._cls):
            try:
                data = encode(payload)
                return self._decoder.decode(data), data
            except (msgspec.ValidationError, TypeError):
                payload = attrs.asdict(payload)  # type: ignore[arg-type]  # an attrs class, as checked above
        value, problems = structure(self._converter, {} if payload is None else payload, self._cls)
        if value is None or problems:
            raise InvalidTask([problem.under("payload") for problem in problems])
        try:
            return value, encode(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise InvalidTask(f"cannot be stored: {error}", "payload") from None

    def decode(self, data: bytes) -> T:
        """The stored payload; raises msgspec.DecodeError when it does not fit the class (any more)."""
        return self._decoder.decode(data)


_encoder = msgspec.msgpack.Encoder()
_json_encoder = msgspec.json.Encoder()
_block_decoder = msgspec.msgpack.Decoder(list[Chunk])


def encode(value: object) -> bytes:
    """`value` as msgpack; raises TypeError or OverflowError, with a sentence, for what cannot be stored."""
    return _encoder.encode(value)


def decode(data: bytes) -> Any:
    """What `encode` was given, as builtins."""
    return msgspec.msgpack.decode(data)


def decode_as(data: bytes, cls: Any) -> Any:
    """What `encode` was given, as an instance of `cls`; raises msgspec.DecodeError."""
    return _decoder_of(cls).decode(data) if cls is not Any else decode(data)


def decode_block(data: bytes) -> list[Chunk]:
    """The chunks of a stored block of output."""
    return _block_decoder.decode(data)


def to_json(value: object, *, pretty: bool = False) -> str:
    """`value` (builtins, attrs values, tasks) as JSON text; bytes become base64."""
    data = _json_encoder.encode(value)
    return (msgspec.json.format(data, indent=2) if pretty else data).decode()


def task_as_dict(task: Task) -> dict[str, Any]:
    """A task as programs see it in JSON; what the view leaves out is left out here too."""
    head = task.head
    shown: dict[str, Any] = {
        "id": task.id,
        "status": task.status,
        "phase": task.phase,
        "priority": task.priority.name.lower(),
        "executor": task.executor,
        "action": task.action,
        "queue": task.queue,
        "lane": task.lane,
        "model": head.model,
        "summary": head.summary,
        "tags": head.tags,
        "metadata": head.metadata,
        "group": head.group,
        "after": head.after,
        "attempt": task.attempt,
        "epoch": task.epoch,
        "submitted_at": head.submitted_at,
        "due_at": task.due_at,
        "started_at": task.started_at,
        "finished_at": task.finished_at,
        "duration": task.duration,
        "executed_on": task.executed_on,
        "failure": task.failure,
    }
    for name, value in (("payload", task.payload), ("result", task.result), ("attempts", task.past_attempts)):
        if not isinstance(value, Enum):
            shown[name] = task.attempts if name == "attempts" else value
    return shown


@lru_cache(maxsize=256)
def _decoder_of(cls: Any) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(cls)


def _exactly(cls: type[T], name: str, value: object) -> T:
    if type(value) is not cls:
        raise ValueError(f"expected {name}, got {_shown(value)}")
    return value


def _structure_float(value: object, _: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"expected a number, got {_shown(value)}")
    return float(value)


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:36]}…{text[-1]}"


def _problems(error: Exception, cls: type) -> list[Problem]:
    problems: list[Problem] = []
    marker = "\0"
    for line in cattrs.transform_error(error, path="$", format_exception=lambda e, t: f"{_message(e, t)}{marker}"):
        message, _, path = line.rpartition(f"{marker} @ ")
        where = path.removeprefix("$").removeprefix(".")
        problems += [Problem(where, part) for part in message.split("\n")]
    return problems or [Problem("", f"does not fit {cls.__name__}")]


def _message(error: BaseException, cls: type | None) -> str:
    if isinstance(error, KeyError):
        return "is required"
    if isinstance(error, ForbiddenExtraKeysError):
        known = [a.name for a in attrs.fields(error.cl)] if attrs.has(error.cl) else []
        return "\n".join(unknown_key(key, known) for key in sorted(error.extra_fields))
    if isinstance(error, TypeError | ValueError) and error.args:
        return str(error.args[0]).replace("\n", " ")
    return _cattrs_says(error, cls)


def read_text(path: Path) -> str:
    """The text of a file that a person wrote; raises ValueError with a sentence when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
