"""Turns what people send into values, strictly and with the path of every error, and values into what is stored.

Input (JSON, keyword arguments) goes through cattrs: unknown keys are refused and nothing is coerced. Stored bytes are
msgpack by msgspec, which encodes and decodes attrs classes natively.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, MutableMapping, MutableSequence, MutableSet, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from enum import Enum
from functools import lru_cache
from itertools import repeat
from typing import Any, Generic, Literal, TypeVar, get_args, get_origin

import attrs
import cattrs
import msgspec
from cattrs.errors import ForbiddenExtraKeysError, IterableValidationError, IterableValidationNote
from cattrs.v import format_exception as _cattrs_says
from msgspec import inspect

from oq.errors import InvalidTask, Problem
from oq.executor import Chunk
from oq.task import Omitted, Priority, Task

T = TypeVar("T")

_ARRAYS: Mapping[Any, Callable[[list[Any]], Any]] = {
    list: list,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    Sequence: list,
    MutableSequence: list,
    AbstractSet: set,
    MutableSet: set,
}
"""What is made of an array, by the (origin of the) type of its field."""

_FIELD_IN_MESSAGE = re.compile(r"'(\w+)' must ")

_BARE_MAPPINGS = (dict, Mapping, MutableMapping)


def make_converter() -> cattrs.Converter:
    """A converter for input: no coercion, no unknown keys, every error with its path."""
    converter = cattrs.Converter(
        forbid_extra_keys=True,
        detailed_validation=True,
        structure_fallback_factory=lambda _: msgspec.convert,  # unions, dates and what else cattrs does not know
    )
    converter.register_structure_hook(bool, lambda value, _: _exactly(bool, "true or false", value))
    converter.register_structure_hook(int, lambda value, cls: _exactly_or_member(int, "a whole number", value, cls))
    converter.register_structure_hook(str, lambda value, cls: _exactly_or_member(str, "a string", value, cls))
    converter.register_structure_hook(bytes, lambda value, _: _exactly(bytes, "bytes", value))
    converter.register_structure_hook(float, _structure_float)
    converter.register_structure_hook(datetime, lambda value, _: parse_moment(value))
    converter.register_structure_hook(Enum, _structure_enum)
    converter.register_structure_hook(Priority, lambda value, _: Priority.parse(value))
    converter.register_structure_hook_func(_is_literal, lambda value, cls: _one_of(get_args(cls), value))
    converter.register_structure_hook_func(lambda cls: cls in _BARE_MAPPINGS, _structure_bare_mapping)
    converter.register_structure_hook_factory(lambda cls: _base(cls) in _ARRAYS)(_array_factory)
    converter.register_structure_hook_factory(attrs.has)(_object_factory)
    return converter


def structure(converter: cattrs.Converter, data: object, cls: type[T]) -> tuple[T | None, list[Problem]]:
    """An instance of `cls` made from `data`, or None and everything that is wrong with it."""
    try:
        return converter.structure(data, cls), []
    except Exception as error:  # noqa: BLE001  # cattrs wraps whatever a validator raises in its groups
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
        if not (isinstance(cls, type) and attrs.has(cls)):
            raise TypeError(f"{cls!r} is not an attrs class")
        self._cls: type[Any] = cls
        self._converter = converter
        self._has_moments = any(isinstance(kind, inspect.DateTimeType) for kind in storable_types(cls))
        self._decoder: msgspec.msgpack.Decoder[T] = msgspec.msgpack.Decoder(self._cls)

    def parse(self, payload: object) -> tuple[T, bytes]:
        """The payload as an instance of the class, and as it is stored.

        Takes an instance or a mapping; None is an empty mapping. Raises InvalidTask with paths below `payload`.
        """
        if isinstance(payload, self._cls):
            instance: Any = payload
            if (unchanged := self._unchanged(instance)) is not None:
                return unchanged
        value, problems = structure(self._converter, {} if payload is None else payload, self._cls)
        if value is None or problems:
            raise InvalidTask([problem.under("payload") for problem in problems])
        try:
            data = encode(value)
            return self._decoder.decode(data), data
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise InvalidTask(f"cannot be stored: {error}", "payload") from None

    def _unchanged(self, payload: T) -> tuple[T, bytes] | None:
        """The quick way for an instance: sound if it comes back from the store as it went in. None if it does not."""
        if self._has_moments:  # it would take one without a time zone
            return None
        try:
            data = encode(payload)
            value = self._decoder.decode(data)
        except (TypeError, ValueError, OverflowError, RecursionError):
            return None
        return (value, data) if value == payload else None

    def decode(self, data: bytes) -> T:
        """The stored payload; raises msgspec.DecodeError when it does not fit the class (any more)."""
        return self._decoder.decode(data)


def storable_types(cls: Any) -> list[inspect.Type]:
    """Every type inside of the type `cls`; raises TypeError when a value of one of them could not be stored."""
    try:
        kinds = list(_kinds(inspect.type_info(cls), "", set()))
    except NameError as error:
        raise TypeError(f"an annotation of {cls!r} cannot be resolved: {error}") from None
    for path, kind in kinds:
        _check_storable(path or "it", kind)
    return [kind for _, kind in kinds]


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
    shown: dict[str, Any] = {
        "id": task.id,
        "status": task.status,
        "phase": task.phase,
        "priority": task.priority.name.lower(),
        "executor": task.executor,
        "action": task.action,
        "queue": task.queue,
        "lane": task.lane,
        "model": task.model,
        "summary": task.summary,
        "tags": task.tags,
        "metadata": task.metadata,
        "group": task.group,
        "after": task.after,
        "run_at": task.run_at,
        "expires_at": task.expires_at,
        "timeout": task.timeout,
        "retry": task.retry,
        "unique_key": task.unique_key,
        "attempt": task.attempt,
        "epoch": task.epoch,
        "submitted_at": task.submitted_at,
        "due_at": task.due_at,
        "started_at": task.started_at,
        "finished_at": task.finished_at,
        "duration": task.duration,
        "executed_on": task.executed_on,
        "failure": task.failure,
    }
    for name, value in (("payload", task.payload), ("result", task.result), ("attempts", task.past_attempts)):
        if not isinstance(value, Omitted):
            shown[name] = task.attempts if name == "attempts" else value
    return shown


@lru_cache(maxsize=256)
def _decoder_of(cls: Any) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(cls)


def _kinds(kind: inspect.Type, path: str, seen: set[int]) -> Iterator[tuple[str, inspect.Type]]:
    """`kind` and every type inside it, each with the path of the field that has it."""
    yield path, kind
    if hasattr(kind, "fields"):
        if id(kind) in seen:  # a class that has a field of its own class
            return
        seen.add(id(kind))
    for attribute in kind.__struct_fields__:
        inner = getattr(kind, attribute)
        for item in inner if isinstance(inner, tuple) else (inner,):
            if isinstance(item, inspect.Field):
                yield from _kinds(item.type, f"{path}.{item.name}" if path else item.name, seen)
            elif isinstance(item, inspect.Type):
                yield from _kinds(item, path, seen)


def _check_storable(path: str, kind: inspect.Type) -> None:
    """Raise TypeError for a type that msgspec would refuse, or mangle, only when there is a value of it."""
    if isinstance(kind, inspect.CustomType) and kind.cls is not object:
        raise TypeError(f"{path} has the type {getattr(kind.cls, '__name__', kind.cls)}")
    if path.rpartition(".")[2].startswith("_"):
        raise TypeError(f"{path} begins with an underscore")
    if isinstance(kind, inspect.UnionType):
        others = [other for other in kind.types if not isinstance(other, inspect.NoneType)]
        if len(others) > 1 and any(isinstance(other, inspect.DataclassType) for other in others):
            raise TypeError(f"{path} may be an attrs class or something else; only None can be the alternative")


def _object_factory(cls: Any, converter: cattrs.Converter) -> Callable[[object, Any], Any]:
    from_mapping = converter.gen_structure_attrs_fromdict(cls)

    def structure_object(value: object, _: Any) -> Any:
        if attrs.has(type(value)) and isinstance(value, _base(cls)):
            value = attrs.asdict(value, recurse=False)
        if not isinstance(value, Mapping):
            raise ValueError(f"expected an object with the fields of {cls.__name__}, got {_shown(value)}")
        return from_mapping(value, cls)

    return structure_object


def _array_factory(cls: Any, converter: cattrs.Converter) -> Callable[[object, Any], Any]:
    make = _ARRAYS[_base(cls)]
    types = get_args(cls) or (Any, ...)
    fixed = make is tuple and types[-1] is not ...

    def structure_array(value: object, _: Any) -> Any:
        if isinstance(value, str | bytes) or not isinstance(value, Sequence | AbstractSet):
            raise ValueError(f"expected a list, got {_shown(value)}")
        if fixed and len(value) != len(types):
            raise ValueError(f"expected a list of {len(types)}, got {len(value)}")
        items, errors = [], []
        for index, (item, kind) in enumerate(zip(value, types if fixed else repeat(types[0]), strict=False)):
            try:
                items.append(converter.structure(item, kind))
            except Exception as error:  # noqa: BLE001  # a validator may raise anything
                error.add_note(IterableValidationNote(f"index {index}", index, kind))
                errors.append(error)
        if errors:
            raise IterableValidationError("", errors, cls)
        return make(items)

    return structure_array


def _structure_bare_mapping(value: object, _: Any) -> dict[Any, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"expected a mapping, got {_shown(value)}")
    return dict(value)


def _base(cls: Any) -> Any:
    """The class itself, without its type arguments."""
    return get_origin(cls) or cls


def _exactly(cls: type[T], name: str, value: object) -> T:
    if not isinstance(value, cls) or (isinstance(value, bool) and cls is not bool):
        raise ValueError(f"expected {name}, got {_shown(value)}")
    return value


def _exactly_or_member(cls: type[T], name: str, value: object, wanted: type[Any]) -> Any:
    """For `int` and `str`, whose hooks cattrs also asks for the enums based on them."""
    return _structure_enum(value, wanted) if issubclass(wanted, Enum) else _exactly(cls, name, value)


def _structure_enum(value: object, cls: type[Enum]) -> Enum:
    if isinstance(value, cls):
        return value
    return cls(_one_of([member.value for member in cls], value))


def _is_literal(cls: Any) -> bool:
    return get_origin(cls) is Literal


def _one_of(options: Sequence[Any], value: object) -> Any:
    """`value`, when it is one of `options` in type as well: True is not 1."""
    if any(type(option) is type(value) and option == value for option in options):
        return value
    raise ValueError(f"expected {' or '.join(map(repr, options))}, got {_shown(value)}")


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

    def told(error: BaseException, cls: type | None) -> str:
        return f"{_message(error, cls)}{marker}{_field_of(error)}{marker}"

    for line in cattrs.transform_error(error, path="$", format_exception=told):
        message, field, place = line.rsplit(marker, 2)
        path = place.removeprefix(" @ $") + (f".{field}" if field else "")
        problems += [Problem(path.removeprefix("."), part) for part in message.split("\n")]
    return problems or [Problem("", f"does not fit {cls.__name__}")]


def _field_of(error: BaseException) -> str:
    """The field that a validator refused, if it says so as those of attrs do; cattrs knows the class alone."""
    named = _FIELD_IN_MESSAGE.match(str(error.args[0])) if error.args else None
    return named[1] if named else ""


def _message(error: BaseException, cls: type | None) -> str:
    if isinstance(error, KeyError):
        return "is required"
    if isinstance(error, ForbiddenExtraKeysError):
        known = [a.name for a in attrs.fields(error.cl)] if attrs.has(error.cl) else []
        return "\n".join(unknown_key(key, known) for key in sorted(map(str, error.extra_fields)))
    if isinstance(error, msgspec.ValidationError):
        return str(error).replace("Expected", "expected").replace(" - at `$", " at `")
    if isinstance(error, TypeError | ValueError) and error.args:
        return str(error.args[0]).replace("\n", " ")
    return _cattrs_says(error, cls)
