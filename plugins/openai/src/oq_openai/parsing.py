"""Reads the JSON of servers and of models, and nothing comes out of it that could not be stored."""

from __future__ import annotations

import json
import re
from typing import Any

_LARGEST = 2**63 - 1
_HALF_A_LETTER = re.compile(r"[\ud800-\udfff]")


def parse_json(text: str | bytes) -> Any:
    """What the text says; raises ValueError when it is no JSON.

    Whole numbers that no store takes become floats, and halves of letters become U+FFFD.
    """
    try:
        text = text.decode() if isinstance(text, bytes) else text
        value = json.loads(text, parse_int=_number)
        return _mended(value) if "\\u" in text else value
    except RecursionError:
        raise ValueError("it is too deep") from None


def _number(digits: str) -> float:
    if len(digits) > 20:
        return float(digits)
    number = int(digits)
    return number if -_LARGEST <= number <= _LARGEST else float(number)


def _mended(value: Any) -> Any:
    match value:
        case str():
            return _HALF_A_LETTER.sub("\ufffd", value)
        case list():
            return [_mended(inner) for inner in value]
        case dict():
            return {_mended(key): _mended(inner) for key, inner in value.items()}
        case _:
            return value
