"""What a good payload is, beyond the types of its fields."""

from __future__ import annotations

import binascii
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from oq import Problem
from oq.models import ROLES
from oq_ollama.payload import ChatPayload, EmbedPayload, GeneratePayload, Payload

_MODEL: Final = re.compile(r"[!-~]{1,256}")
"""Printable and without blanks, as every model's name is; so a lane can say more after it."""
_GO_DURATION: Final = re.compile(
    r"[+-]?(0|(\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)((\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h))*)"
)
"""What Go takes for a duration."""
_MOST_LOGPROBS: Final = 20


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _truth(value: object) -> bool:
    return isinstance(value, bool)


def _texts(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(text, str) for text in value)


_KINDS: Final[Mapping[str, tuple[str, Callable[[object], bool]]]] = MappingProxyType(
    {
        **dict.fromkeys(
            (
                *("num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "num_keep", "num_predict", "seed"),
                *("top_k", "repeat_last_n"),
            ),
            ("a whole number", _whole),
        ),
        **dict.fromkeys(
            (
                *("temperature", "top_p", "min_p", "typical_p", "repeat_penalty"),
                *("presence_penalty", "frequency_penalty"),
            ),
            ("a number", _number),
        ),
        "use_mmap": ("true or false", _truth),
        "stop": ("a list of texts", _texts),
    }
)
"""The options of `oq_ollama.Options`, what each of them is, and how that is told."""


def problems(payload: Payload) -> list[Problem]:
    """Everything that is wrong with the payload."""
    return [Problem(f"payload.{path}", message) for path, message in _problems(payload)]


def _problems(payload: Payload) -> Iterator[tuple[str, str]]:
    if not _MODEL.fullmatch(payload.model):
        yield "model", f"expected the name of a model such as 'qwen3' or 'qwen3:8b', got {payload.model[:60]!r}"
    yield from _wrong_options(payload.options)
    yield from _wrong_keep_alive(payload.keep_alive)
    match payload:
        case ChatPayload():
            yield from _wrong_messages(payload)
            yield from _wrong_json("tools", payload.tools)
        case GeneratePayload():
            for index, image in enumerate(payload.images):
                yield from _wrong_image(f"images[{index}]", image)
            if any(not 0 <= token < 2**31 for token in payload.context):
                yield "context", "expected the numbers of tokens, as an earlier result has them"
            for name in ("width", "height", "steps"):
                if (value := getattr(payload, name)) is not None and not 1 <= value < 2**31:
                    yield name, f"must be 1 or more, not {value}"
        case EmbedPayload():
            if isinstance(payload.input, tuple) and not payload.input:
                yield "input", "expected at least one text"
            if payload.dimensions is not None and not 1 <= payload.dimensions < 2**31:
                yield "dimensions", f"must be 1 or more, not {payload.dimensions}"
            return
    if isinstance(payload.format, Mapping):
        yield from _wrong_json("format", payload.format)
    if payload.top_logprobs is not None and not 0 <= payload.top_logprobs <= _MOST_LOGPROBS:
        yield "top_logprobs", f"must be 0 to {_MOST_LOGPROBS}, not {payload.top_logprobs}"


def _wrong_options(options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in options.items():
        if name in _KINDS:
            expected, fits = _KINDS[name]
            if not fits(value):
                yield f"options.{name}", f"expected {expected}, got {_shown(value)}"
        elif not isinstance(name, str) or not name:
            yield "options", f"expected names of options, got {_shown(name)}"
        else:
            yield from _wrong_json(f"options.{name}", value)


def _wrong_keep_alive(value: str | float | None) -> Iterator[tuple[str, str]]:
    if isinstance(value, str) and not _GO_DURATION.fullmatch(value):
        yield "keep_alive", f"expected a duration such as '5m', or seconds as a number, got {_shown(value)}"
    elif isinstance(value, int | float) and not math.isfinite(value):
        yield "keep_alive", f"expected seconds, got {value}; a negative number keeps the model for ever"


def _wrong_messages(payload: ChatPayload) -> Iterator[tuple[str, str]]:
    for index, message in enumerate(payload.messages):
        place = f"messages[{index}]"
        if message.role not in ROLES:
            yield f"{place}.role", f"expected {' or '.join(map(repr, ROLES))}, got {_shown(message.role)}"
        for number, image in enumerate(message.images):
            yield from _wrong_image(f"{place}.images[{number}]", image)
        for number, call in enumerate(message.tool_calls):
            yield from _wrong_json(f"{place}.tool_calls[{number}].arguments", call.arguments)


def _wrong_image(place: str, image: str) -> Iterator[tuple[str, str]]:
    try:
        binascii.a2b_base64(image.encode("ascii"), strict_mode=True)
    except (UnicodeEncodeError, binascii.Error):
        yield place, "expected the base64 of an image file"
    else:
        if not image:
            yield place, "expected the base64 of an image file, got nothing"


def _wrong_json(place: str, value: object) -> Iterator[tuple[str, str]]:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        yield place, f"cannot be sent as JSON: {error}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:39]}…"
