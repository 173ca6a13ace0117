"""The line of every key of a TOML or JSON text, which the standard library's parsers do not tell."""

from __future__ import annotations

import json
import re
import tomllib

from oq.config.places import KeyPath

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_KEY_PART = re.compile(r"""[ \t]*(?:([A-Za-z0-9_-]+)|("(?:\\.|[^"\\\n])*")|'([^'\n]*)')[ \t]*(\.?)""")
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"""' + r'"{0,2}' + r"|'''.*?''''{0,2}" + r'|"(?:\\.|[^"\\\n])*"' + r"|'[^'\n]*'", re.DOTALL
)
_SCALAR = re.compile(r"[^,\]}#\n]*")
_JSON_BLANK = re.compile(r"[ \t\r\n]*")


def toml_lines(text: str) -> dict[KeyPath, int]:
    """The line, counted from 1, of each key and each item of a list; `text` must be valid TOML."""
    return _TomlScanner(text).scan()


def json_lines(text: str) -> tuple[dict[KeyPath, int], list[KeyPath]]:
    """The same for valid JSON, and the keys that are given more than once."""
    decoder = json.JSONDecoder()
    lines: dict[KeyPath, int] = {}
    twice: list[KeyPath] = []
    count = _LineCounter(text)

    def note(path: KeyPath, position: int) -> None:
        if path in lines:
            twice.append(path)
        lines[path] = count.line(position)

    def blank(position: int) -> int:
        found = _JSON_BLANK.match(text, position)
        return found.end() if found else position

    def value(position: int, path: KeyPath) -> int:
        if text[position] not in "{[":
            return decoder.raw_decode(text, position)[1]
        closing = "}" if text[position] == "{" else "]"
        index = 0
        position = blank(position + 1)
        while text[position] != closing:
            step: str | int = index
            start = position
            if closing == "}":
                step, position = decoder.raw_decode(text, position)
                position = blank(blank(position) + 1)  # past the colon
            note((*path, step), start)
            position = blank(value(position, (*path, step)))
            if text[position] == ",":
                position = blank(position + 1)
            index += 1
        return position + 1

    value(blank(0), ())
    return lines, twice


class _LineCounter:
    """Counts the lines before positions that only grow."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0
        self._line = 1

    def line(self, position: int) -> int:
        self._line += self._text.count("\n", self._position, position)
        self._position = position
        return self._line


class _TomlScanner:
    """Walks over a text that tomllib has found to be valid, so that nothing needs to be checked again."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._count = _LineCounter(text)
        self._lines: dict[KeyPath, int] = {}
        self._sizes: dict[KeyPath, int] = {}
        """How many `[[tables]]` there are of each name so far."""

    def scan(self) -> dict[KeyPath, int]:
        prefix: KeyPath = ()
        self._skip(_BLANK)
        while self._at < len(self._text):
            if self._text[self._at] == "[":
                prefix = self._header()
            else:
                self._assignment(prefix)
            self._skip(_BLANK)
        return self._lines

    def _header(self) -> KeyPath:
        start = self._at
        many = self._text.startswith("[[", start)
        self._at += 2 if many else 1
        *outer, last = self._key()
        self._at += 2 if many else 1
        path: KeyPath = ()
        for step in outer:
            path = self._current((*path, step))
            self._note(path, start)
        if not many:
            path = self._current((*path, last))
        else:
            name = (*path, last)
            self._note(name, start)
            self._sizes[name] = self._sizes.get(name, 0) + 1
            path = (*name, self._sizes[name] - 1)
        self._note(path, start)
        return path

    def _current(self, path: KeyPath) -> KeyPath:
        """The table that is meant by a name in a header: of `[[tables]]`, the last one so far."""
        return (*path, self._sizes[path] - 1) if path in self._sizes else path

    def _assignment(self, prefix: KeyPath) -> None:
        start = self._at
        path = prefix
        for step in self._key():
            path = (*path, step)
            self._note(path, start)
        self._at += 1  # the equals sign
        self._value(path)

    def _key(self) -> list[str]:
        steps: list[str] = []
        while True:
            found = _KEY_PART.match(self._text, self._at)
            assert found is not None
            self._at = found.end()
            bare, quoted, literal, dot = found.groups()
            steps.append(bare or (tomllib.loads(f"key = {quoted}")["key"] if quoted else literal))
            if not dot:
                return steps

    def _value(self, path: KeyPath) -> None:
        self._skip(_BLANK)
        start = self._text[self._at]
        if start == "[":
            self._at += 1
            index = 0
            while self._more("]"):
                self._note((*path, index), self._at)
                self._value((*path, index))
                index += 1
        elif start == "{":
            self._at += 1
            while self._more("}"):
                self._assignment(path)
        else:
            self._skip(_STRING if start in "\"'" else _SCALAR)

    def _more(self, closing: str) -> bool:
        """Whether another item follows; goes past commas, or past the end."""
        self._skip(_BLANK)
        if self._text[self._at] == ",":
            self._at += 1
            self._skip(_BLANK)
        if self._text[self._at] != closing:
            return True
        self._at += 1
        return False

    def _note(self, path: KeyPath, position: int) -> None:
        if path not in self._lines:
            self._lines[path] = self._count.line(position)

    def _skip(self, pattern: re.Pattern[str]) -> None:
        found = pattern.match(self._text, self._at)
        assert found is not None
        self._at = found.end()
