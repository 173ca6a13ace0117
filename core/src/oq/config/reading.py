"""Makes one table an instance of its class: texts become what the fields say, and every mistake gets its place."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, MutableMapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from types import NoneType, UnionType
from typing import Any, Generic, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import attrs
from attrs import Attribute, field, frozen

from oq.codec import make_converter, structure
from oq.config.legacy import VARIABLES
from oq.config.places import KeyPath, Place, Places, dotted, key_path
from oq.config.secrets import Secret, expanded, is_secret, scrubbed, secrets_in
from oq.config.tables import TABLES
from oq.durations import parse_duration
from oq.errors import Problem

T = TypeVar("T")

SHORT_VARIABLES: Mapping[str, tuple[str, str]] = {
    "OQ_QUEUE": ("queue", "path"),
    "OQ_WORKERS": ("scheduler", "workers"),
    "OQ_DISABLED_PLUGINS": ("plugins", "disabled"),
}
"""Variables with a short name, besides `OQ_<TABLE>_<KEY>`."""

_TRUTH = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}

_LISTS = (list, tuple, set, frozenset, Sequence, AbstractSet)
_MAPPINGS = (dict, Mapping, MutableMapping)
_SCALARS = (str, bool, int, float)

_SERVICE_LINK = re.compile(r"SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?")
"""What Kubernetes and Docker set in every container for a service called `oq-queue`."""
_SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://")


@frozen(kw_only=True)
class Given:
    """What came with the tables, and is needed to read each of them."""

    places: Places = field(factory=Places)
    environ: Mapping[str, str] = field(factory=dict)
    arguments: Mapping[tuple[str, str], Any] = field(factory=dict)
    """Values by table and key, which win over everything else."""


@frozen(kw_only=True)
class Reading(Generic[T]):
    """What became of a table."""

    value: T | None
    """None when something is wrong."""
    problems: tuple[Problem, ...]
    places: Places
    secrets: frozenset[KeyPath] = frozenset()
    """What came through `${…}`."""


def read_table(name: str, cls: type[T], table: object, given: Given) -> Reading[T]:
    """The table as an instance of the attrs class, with the variables and arguments that set its keys on top."""
    places = given.places
    if not isinstance(table, Mapping):
        problem = places.located(Problem(name, f"must be a table: [{name}]"))
        return Reading(value=None, problems=(problem,), places=places)
    values = dict(table)
    wrong: list[Problem] = []
    replaced: dict[KeyPath, Place] = {}
    for variable, attribute, kind, text in _variables(name, cls, table, given):
        at = (name, attribute.name)
        replaced[at] = Place("variable", variable)
        values[attribute.name] = text
        try:
            value = from_text(text, kind, attribute)
        except ValueError as error:
            wrong.append(Problem(dotted(at), str(error)))
        else:
            values[attribute.name] = VARIABLES[variable].convert(value) if variable in VARIABLES else value
    for at, value in given.arguments.items():
        if at[0] == name:
            replaced[at] = Place("argument", "argument")
            values[at[1]] = value
    places = places.replaced(replaced)
    fitting = _Fitting(wrong, given.environ, literal=replaced)
    fitted = fitting.table(values, cls, (name,))
    value_or_none, unfit = _structured(fitted, cls)
    wrong += fitting.not_told(problem.under(name) for problem in unfit)
    hidden = [*secrets_in(fitted), *fitting.secrets.values()]
    problems = [
        *misspelt_variables(name, _kinds(cls), given.environ),
        *(Problem(one.path, scrubbed(one.message, hidden)) for one in map(places.located, _first_of_each(wrong))),
    ]
    return Reading(
        value=None if problems else value_or_none,
        problems=tuple(problems),
        places=places,
        secrets=frozenset(fitting.secrets),
    )


def _structured(values: dict[str, Any], cls: type[T]) -> tuple[T | None, list[Problem]]:
    """An instance of the class, or what is wrong."""
    if not values:  # as most tables are, and a converter takes its time to make
        with suppress(TypeError, ValueError):  # a class that wants to be told something, which `structure` will tell
            return cls(), []
    return structure(make_converter(), values, cls)


def _first_of_each(problems: Iterable[Problem]) -> Iterator[Problem]:
    """The first problem of each path: a wrong text is refused as a text, and then as a value."""
    told: set[str] = set()
    for problem in problems:
        if problem.path not in told:
            yield problem
        told.add(problem.path)


def variable_of(table: str, key: str) -> str:
    """The variable that sets a key."""
    return f"OQ_{table}_{key}".upper().replace("-", "_")


def core_variables() -> list[str]:
    """Every variable that sets a key of the core."""
    long = [variable_of(name, attribute.name) for name, cls in TABLES.items() for attribute in attrs.fields(cls)]
    return [*long, *SHORT_VARIABLES]


def misspelt_variables(table: str, keys: Collection[str], environ: Mapping[str, str]) -> Iterator[Problem]:
    """A problem for each variable that would be of this table, if there were such a key."""
    from difflib import get_close_matches

    prefix = variable_of(table, "")
    for variable in sorted(environ):
        key = variable.removeprefix(prefix)
        if key == variable or not environ[variable] or key.lower() in keys or _SERVICE_LINK.fullmatch(key):
            continue
        near = get_close_matches(key.lower(), keys, n=1)
        names = ", ".join(variable_of(table, known) for known in keys)
        hint = f"; did you mean {variable_of(table, near[0])}?" if near else f" (known: {names})"
        yield Problem(variable, f"there is no such setting{hint}")


def from_text(text: str, kind: Any, attribute: Attribute[Any]) -> Any:
    """What the text of a variable means for a field; raises ValueError with a sentence.

    A list is written `a,b`, a mapping `a=1,b=2`, nothing `none`.
    """
    kind, may_be_none = _without_none(kind)
    shown = _shown(text, attribute)
    bare = text.strip()
    if kind is str:
        return text
    if may_be_none and bare.lower() == "none":
        return None
    if kind is bool:
        if bare.lower() not in _TRUTH:
            raise ValueError(f"expected true or false, got {shown}")
        return _TRUTH[bare.lower()]
    if kind is int:
        try:
            return int(bare)
        except ValueError:
            raise ValueError(f"expected a whole number, got {shown}") from None
    if kind is float:
        return _number(text, attribute)
    if get_origin(kind) is Literal:
        return bare
    parts = [part.strip() for part in bare.split(",") if part.strip()]
    inner = get_args(kind)
    if _is_list(kind) and inner and inner[0] in _SCALARS:
        return [from_text(part, inner[0], attribute) for part in parts]
    if _is_mapping(kind) and len(inner) == 2 and inner[1] in _SCALARS:
        pairs = [part.partition("=") for part in parts]
        if not all(name.strip() and equals for name, equals, _ in pairs):
            raise ValueError(f"expected names and values such as a=1,b=2, got {shown}")
        return {name.strip(): from_text(value.strip(), inner[1], attribute) for name, _, value in pairs}
    raise ValueError("cannot be set by a variable; write it in the settings file")


class _Fitting:
    """Brings the values of a table into the form of its class, as far as texts mean something else; notes mistakes."""

    def __init__(self, problems: list[Problem], environ: Mapping[str, str], literal: Collection[KeyPath]) -> None:
        self._problems = problems
        self._environ = environ
        self._literal = literal
        """Keys that the environment or an argument set: `${` in them is meant as it stands."""
        self._unknown: set[KeyPath] = set()
        """What has keys that there are not."""
        self.secrets: dict[KeyPath, Secret] = {}
        """What came through `${…}`."""

    def table(self, values: Mapping[str, Any], cls: type[Any], path: KeyPath) -> dict[str, Any]:
        """What is in a table. Keys that there are not stay, so that nothing is made of it."""
        kinds = _kinds(cls)
        fitted: dict[str, Any] = {}
        for key, value in values.items():
            at = (*path, key)
            fitted[key] = value
            if key in kinds:
                fitted[key] = self._value(value, kinds[key], getattr(attrs.fields(cls), key), at)
            else:
                self._unknown.add(path)
                self._problems.append(Problem(dotted(at), _no_such_key(at, kinds)))
        return fitted

    def not_told(self, problems: Iterable[Problem]) -> list[Problem]:
        """Those of these problems that are not known already."""
        told = {key_path(problem.path) for problem in self._problems}
        return [
            problem
            for problem in problems
            if (path := key_path(problem.path)) not in told
            and not (path in self._unknown and problem.message.startswith("unknown field "))
        ]

    def _value(self, value: Any, kind: Any, attribute: Attribute[Any], at: KeyPath) -> Any:
        kind, may_be_none = _without_none(kind)
        inner = get_args(kind)
        if isinstance(value, str):
            try:
                text = self._expanded(value, attribute, at)
                return self._from(text, kind, attribute, may_be_none=may_be_none)
            except ValueError as error:
                self._problems.append(Problem(dotted(at), str(error)))
        elif isinstance(value, Mapping):
            if attrs.has(kind):
                return self.table(value, kind, at)
            each = inner[1] if _is_mapping(kind) and len(inner) == 2 else Any
            return {key: self._value(one, each, attribute, (*at, key)) for key, one in value.items()}
        elif isinstance(value, list):
            each = inner[0] if _is_list(kind) and inner else Any
            return [self._value(one, each, attribute, (*at, index)) for index, one in enumerate(value)]
        return value

    def _expanded(self, text: str, attribute: Attribute[Any], at: KeyPath) -> str:
        if "${" not in text or at[:2] in self._literal or not attribute.metadata.get("expand", True):
            return text
        text = expanded(text, self._environ)
        if isinstance(text, Secret):
            self.secrets[at] = text
        return text

    def _from(self, text: str, kind: Any, attribute: Attribute[Any], *, may_be_none: bool) -> Any:
        """What a text means: a duration is written as one, and what came through `${…}` is a text first."""
        if kind is str:
            return Secret(text) if is_secret(attribute) else text
        if kind in _SCALARS and isinstance(text, Secret):
            return from_text(text, kind, attribute)
        if may_be_none and text.lower() == "none":  # TOML has no other word for it
            return None
        return _number(text, attribute) if kind is float else text


def _variables(
    name: str, cls: type[Any], table: Mapping[str, Any], given: Given
) -> Iterator[tuple[str, Attribute[Any], Any, str]]:
    """For each key of this table that a variable sets: the variable, the field, its type, and the text."""
    for key, kind in _kinds(cls).items():
        if (name, key) in given.arguments:
            continue
        attribute: Attribute[Any] = getattr(attrs.fields(cls), key)
        variables = [variable_of(name, key)]  # the one that wins first
        variables += [variable for variable, path in SHORT_VARIABLES.items() if path == (name, key)]
        foreign = attribute.metadata.get("variable")
        if foreign and not any(other in table for other in attribute.metadata.get("unless", ())):
            variables.append(foreign)
        variables += [variable for variable, renamed in VARIABLES.items() if renamed.path == (name, key)]
        for variable in variables:
            text = given.environ.get(variable)
            if text and not (key == "port" and _SERVICE_ADDRESS.match(text)):
                yield variable, attribute, kind, text
                break


def _no_such_key(path: KeyPath, known: Collection[str]) -> str:
    from difflib import get_close_matches

    key = str(path[-1])
    near = get_close_matches(key, known, n=1)
    if near:
        return f"there is no such key; did you mean {near[0]!r}?"
    elsewhere = [name for name, cls in TABLES.items() if key in attrs.fields_dict(cls)]
    if len(path) == 2 and elsewhere:
        return f"there is no such key; [{elsewhere[0]}] has one of this name"
    return f"there is no such key (known: {', '.join(known)})"


def _number(text: str, attribute: Attribute[Any]) -> float:
    """The number that a text means: seconds, unless the field says that it holds no duration."""
    if text.strip().lower() == "inf":
        return math.inf
    if attribute.metadata.get("duration", True):
        try:
            return parse_duration(text)
        except ValueError:
            raise ValueError(f"{_shown(text, attribute)} is not a duration; write 90, 1.5s, 5m, 2h or 1h30m") from None
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"expected a number, got {_shown(text, attribute)}") from None


def _shown(text: str, attribute: Attribute[Any]) -> str:
    """The text as a message quotes it."""
    return repr(Secret(text) if is_secret(attribute) else text)


def _kinds(cls: type[Any]) -> dict[str, Any]:
    """The type of each field."""
    try:
        hints = get_type_hints(cls)
    except NameError:  # a name that only type checkers know
        hints = {}
    return {attribute.name: hints.get(attribute.name, Any) for attribute in attrs.fields(cls) if attribute.init}


def _without_none(kind: Any) -> tuple[Any, bool]:
    """The type besides None, and whether None is allowed."""
    if get_origin(kind) in (Union, UnionType):
        others = [one for one in get_args(kind) if one is not NoneType]
        return (others[0] if len(others) == 1 else Any), len(others) < len(get_args(kind))
    return kind, False


def _is_list(kind: Any) -> bool:
    return (get_origin(kind) or kind) in _LISTS


def _is_mapping(kind: Any) -> bool:
    return (get_origin(kind) or kind) in _MAPPINGS
