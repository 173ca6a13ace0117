"""Finds and reads the settings file, which is TOML, YAML or JSON by its name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import field, frozen

from oq.config.places import KeyPath, dotted
from oq.errors import InvalidSettings, Problem

NAMES = ("oq.toml", "oq.yaml", "oq.yml", "oq.json")
"""What a settings file is called that is found without being named."""

SYSTEM_DIRECTORY = "/etc/oq"
"""Where the settings of a whole machine are."""


@frozen(kw_only=True)
class Document:
    """What a settings file says."""

    path: str | None = None
    data: Mapping[str, Any] = field(factory=dict)
    lines: Mapping[KeyPath, int] = field(factory=dict)


def searched_directories(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Where a settings file is looked for, best first: here, in the user's directory, in that of the machine."""
    users = environ.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(users):  # noqa: PTH117  # the specification says that others do not count
        users = os.path.join(environ["HOME"], ".config") if environ.get("HOME") else ""  # noqa: PTH118
    return (Path(), *([Path(users) / "oq"] if users else []), Path(SYSTEM_DIRECTORY))


def searched_files(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The files that are looked for, best first; the first one that is there is read."""
    return tuple(str(directory / name) for directory in searched_directories(environ) for name in NAMES)


def find_file(environ: Mapping[str, str]) -> str | None:
    """The settings file, if there is one; raises InvalidSettings where two lie side by side."""
    for directory in searched_directories(environ):
        found = [str(directory / name) for name in NAMES if os.path.lexists(directory / name)]
        if len(found) > 1:
            raise InvalidSettings(f"{found[0]} and {found[1]} are both there; remove one, or name one with --config")
        if found:
            return found[0]
    return None


def read_document(path: str) -> Document:
    """What the file says; raises InvalidSettings when it cannot be read or is none."""
    try:
        text = read_text(Path(path)).removeprefix("\ufeff")
    except ValueError as error:  # it names the path
        raise InvalidSettings(str(error)) from None
    suffix = Path(path).suffix.lower()
    try:
        match suffix:
            case ".yaml" | ".yml":
                data, lines = _yaml(path, text)
            case ".json":
                data, lines = _json(path, text)
            case _:
                data, lines = _toml(path, text)
    except RecursionError:
        raise InvalidSettings("is nested too deeply", path) from None
    if not isinstance(data, dict):
        raise InvalidSettings("must have tables such as `queue` and `scheduler`, each with keys and values", path)
    return Document(path=path, data=data, lines=lines)


def read_text(path: Path) -> str:
    """The text of a file that a person wrote; raises ValueError with a sentence when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} cannot be read: {error}") from None


def _toml(path: str, text: str) -> tuple[Any, dict[KeyPath, int]]:
    import tomllib

    from oq.config.lines import toml_lines

    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidSettings(str(error), path) from None
    return data, toml_lines(text)


def _json(path: str, text: str) -> tuple[Any, dict[KeyPath, int]]:
    import json

    from oq.config.lines import json_lines

    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidSettings(f"is not JSON: {error.msg}", f"{path}:{error.lineno}") from None
    lines, twice = json_lines(text)
    _refuse_twice(path, lines, twice)
    return data, lines


def _yaml(path: str, text: str) -> tuple[Any, dict[KeyPath, int]]:
    try:
        import yaml
    except ImportError:
        raise InvalidSettings(
            "to read YAML, run `pip install 'oq-core[yaml]'`; TOML and JSON need nothing", path
        ) from None
    lines: dict[KeyPath, int] = {}
    twice: list[KeyPath] = []

    def walk(node: Any, at: KeyPath) -> None:
        if isinstance(node, yaml.MappingNode):
            own: set[KeyPath] = set()
            for key, value in node.value:
                if key.tag == "tag:yaml.org,2002:merge":
                    for merged in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                        walk(merged, at)
                    continue
                place = (*at, str(key.value))
                if place in own:
                    twice.append(place)
                own.add(place)
                lines[place] = key.start_mark.line + 1
                walk(value, place)
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                lines[*at, index] = value.start_mark.line + 1
                walk(value, (*at, index))

    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        walk(node, ())
        data = {} if node is None else loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        raise InvalidSettings(f"is not YAML: {problem}", f"{path}:{mark.line + 1}" if mark else path) from None
    except (ValueError, TypeError) as error:  # such as 2026-99-99, which looks like a day
        raise InvalidSettings(f"is not YAML: {error}", path) from None
    finally:
        loader.dispose()
    _refuse_twice(path, lines, twice)
    return {} if data is None else _with_names(path, data), lines


def _with_names(path: str, data: Any) -> Any:
    """The same, once it is certain that all keys are texts: YAML reads `on` and `1` as something else."""
    if isinstance(data, dict):
        for key, value in data.items():
            if not isinstance(key, str):
                raise InvalidSettings(f"the key {key!r} is no text; put it in quotes", path)
            _with_names(path, value)
    elif isinstance(data, list):
        for value in data:
            _with_names(path, value)
    return data


def _refuse_twice(path: str, lines: Mapping[KeyPath, int], twice: list[KeyPath]) -> None:
    if twice:
        raise InvalidSettings([Problem(f"{path}:{lines[at]}: {dotted(at)}", "is given twice") for at in twice])
