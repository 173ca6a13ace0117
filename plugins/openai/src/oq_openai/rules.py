"""What a good payload is beyond its types, and which endpoints there are for it: all that can be told at submit."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from oq import InvalidTask, Lane, Problem
from oq_openai.payload import CalledTool, ChatMessage, ChatPayload, EmbedPayload, GeneratePayload, Payload
from oq_openai.settings import OpenAIEndpoint

LONGEST_MODEL = 200
"""Characters of a model's name."""

_OUR_BUSINESS = ("stream", "model", "messages", "prompt", "input", "n")
"""What `extra` must not say: it has a field, or is seen to inside."""

_PARTS: Mapping[str, str] = {
    "text": "text",
    "image_url": "image_url",
    "input_audio": "input_audio",
    "file": "file",
    "refusal": "refusal",
}
"""The parts of a content that the API knows, and the field that each must have; servers have further ones."""


Serving = Callable[[str], Sequence[OpenAIEndpoint]]
"""Model -> the endpoints that are there for it."""


def check(payload: Payload, endpoints: Sequence[OpenAIEndpoint], serving: Serving) -> None:
    """Raise InvalidTask with everything that is wrong."""
    found = [*_problems(payload), *_unserved(payload, endpoints, serving)]
    if found:
        raise InvalidTask([problem.under("payload") for problem in found])


def _problems(payload: Payload) -> Iterator[Problem]:
    yield from _model(payload.model)
    for name in _OUR_BUSINESS:
        if name in payload.extra:
            yield Problem(f"extra.{name}", "is set by the task itself, not by extra")
    for field in attrs.fields(type(payload)):
        value = getattr(payload, field.name)
        if isinstance(value, float) and not math.isfinite(value):
            yield Problem(field.name, f"must be finite, not {value!r}")
        elif isinstance(value, Mapping | tuple):
            yield from _not_json(value, field.name)
    match payload:
        case ChatPayload():
            yield from _chat(payload)
        case GeneratePayload():
            yield from _generate(payload)
        case EmbedPayload():
            yield from _embed(payload)


def _model(model: str) -> Iterator[Problem]:
    if not model.strip() or model != model.strip() or not model.isprintable():
        yield Problem("model", "must be the name of a model")
    elif len(model) > LONGEST_MODEL:
        yield Problem("model", f"must have at most {LONGEST_MODEL} characters")
    elif Lane.parse(model).model != model:
        yield Problem("model", f"{model!r} ends like the name of a lane")


def _chat(payload: ChatPayload) -> Iterator[Problem]:
    yield from _sampling(payload)
    yield from _at_least(payload.max_completion_tokens, 1, "max_completion_tokens")
    if payload.max_tokens is not None and payload.max_completion_tokens is not None:
        yield Problem("max_tokens", "must not be given together with max_completion_tokens; they mean the same")
    yield from _at_least(payload.top_logprobs, 0, "top_logprobs")
    if payload.top_logprobs and not payload.logprobs:
        yield Problem("top_logprobs", "needs logprobs = true")
    if not payload.messages:
        yield Problem("messages", "must have at least one message")
    for index, message in enumerate(payload.messages):
        for problem in _message(message):
            yield problem.under(f"messages[{index}]")
    for index, tool in enumerate(payload.tools or ()):
        for problem in _tool(tool):
            yield problem.under(f"tools[{index}]")
    if payload.response_format is not None and not isinstance(payload.response_format.get("type"), str):
        yield Problem("response_format", 'must have a "type", such as "json_object"')


def _generate(payload: GeneratePayload) -> Iterator[Problem]:
    yield from _sampling(payload)
    yield from _at_least(payload.best_of, 1, "best_of")
    yield from _at_least(payload.logprobs, 0, "logprobs")
    if not isinstance(payload.prompt, str):
        if not payload.prompt:
            yield Problem("prompt", "must be a text or a list of tokens")
        elif min(payload.prompt) < 0:
            yield Problem("prompt", "must be a text or the numbers of tokens, which are 0 or more")


def _embed(payload: EmbedPayload) -> Iterator[Problem]:
    yield from _at_least(payload.dimensions, 1, "dimensions")
    if isinstance(payload.input, str):
        return
    kinds = {type(item) for item in payload.input}
    if not payload.input:
        yield Problem("input", "must have at least one text")
    elif len(kinds) > 1:
        yield Problem("input", "must be texts, or tokens, or lists of tokens, not some of each")
    for index, item in enumerate(payload.input):
        if item == ():
            yield Problem(f"input[{index}]", "must have at least one token")


def _sampling(payload: ChatPayload | GeneratePayload) -> Iterator[Problem]:
    if payload.n not in (None, 1):
        yield Problem("n", "must be 1, as a task has one answer; submit it as often as you want answers")
    yield from _at_least(payload.max_tokens, 0, "max_tokens")
    yield from _at_least(payload.temperature, 0, "temperature")
    yield from _at_least(payload.top_p, 0, "top_p")
    if payload.top_p is not None and payload.top_p > 1:
        yield Problem("top_p", f"must be at most 1, not {payload.top_p!r}")


def _at_least(value: float | None, least: int, path: str) -> Iterator[Problem]:
    if value is not None and value < least:
        yield Problem(path, f"must be at least {least}, not {value!r}")


def _message(message: ChatMessage) -> Iterator[Problem]:
    if not isinstance(message.content, str | None):
        if not message.content:
            yield Problem("content", "must have at least one part")
        for index, part in enumerate(message.content):
            yield from _part(part, f"content[{index}]")
    for index, image in enumerate(message.images):
        if not image.startswith(("data:", "https://", "http://")) and not _is_base64(image):
            yield Problem(f"images[{index}]", "must be the base64 of an image, or a data: or https: URL")
    if message.images and message.role != "user":
        yield Problem("images", f"can be in a message of the user, not of the role {message.role!r}")
    if message.tool_calls and message.role != "assistant":
        yield Problem("tool_calls", f"can be in a message of the assistant, not of the role {message.role!r}")
    for index, call in enumerate(message.tool_calls):
        for problem in _call(call):
            yield problem.under(f"tool_calls[{index}]")
    if message.role == "tool" and message.tool_call_id is None and message.tool_name is None:
        yield Problem("tool_call_id", "is required in a message of a tool: the id of the call whose result it is")
    if message.role != "tool" and message.tool_call_id is not None:
        yield Problem("tool_call_id", f"belongs to a message of a tool, not of the role {message.role!r}")
    if message.content is None and message.role != "assistant" and not message.images:
        yield Problem("content", "is required")


def _part(part: Mapping[str, Any], path: str) -> Iterator[Problem]:
    kind = part.get("type")
    if not isinstance(kind, str):
        yield Problem(f"{path}.type", 'is required, such as "text" or "image_url"')
    elif kind in _PARTS and part.get(_PARTS[kind]) is None:
        yield Problem(f"{path}.{_PARTS[kind]}", f"is required in a part of the type {kind!r}")
    elif kind == "text" and not isinstance(part["text"], str):
        yield Problem(f"{path}.text", "must be a text")


def _call(call: CalledTool) -> Iterator[Problem]:
    told = [form for form in (call.name, call.function, call.custom) if form is not None]
    if len(told) != 1:
        yield Problem("", "must have a name and arguments, or a function, or a custom one")
    elif call.function is not None and not isinstance(call.function.get("name"), str):
        yield Problem("function.name", "is required")


def _tool(tool: Mapping[str, Any]) -> Iterator[Problem]:
    if not isinstance(tool.get("type"), str):
        yield Problem("type", 'is required, such as "function"')
    elif tool["type"] == "function":
        function = tool.get("function")
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            yield Problem("function", "must have a name")


def _is_base64(text: str) -> bool:
    try:
        return bool(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        return False


def _not_json(value: object, path: str) -> Iterator[Problem]:
    """What cannot be sent as JSON, though it could be stored."""
    match value:
        case str() | bool() | int() | None:
            return
        case float():
            if not math.isfinite(value):
                yield Problem(path, f"must be finite, not {value!r}")
        case Mapping():
            for key, inner in value.items():
                if isinstance(key, str):
                    yield from _not_json(inner, f"{path}.{key}")
                else:
                    yield Problem(path, f"must have texts as keys, not {key!r:.40}")
        case list() | tuple():
            for index, inner in enumerate(value):
                yield from _not_json(inner, f"{path}[{index}]")
        case ChatMessage() | CalledTool():
            for field in attrs.fields(type(value)):
                yield from _not_json(getattr(value, field.name), f"{path}.{field.name}")
        case _:
            yield Problem(path, f"cannot be sent as JSON: it is of the type {type(value).__name__}")


def _unserved(payload: Payload, endpoints: Sequence[OpenAIEndpoint], serving: Serving) -> Iterator[Problem]:
    """Whether no endpoint takes the task, by the settings."""
    enabled = [endpoint for endpoint in endpoints if endpoint.enabled]
    names = [endpoint.name for endpoint in serving(payload.model)]
    if payload.endpoint is not None and payload.endpoint not in [endpoint.name for endpoint in enabled]:
        known = ", ".join(endpoint.name for endpoint in enabled) or "none"
        yield Problem("endpoint", f"there is no endpoint {payload.endpoint!r} (there are: {known})")
    elif not names or payload.endpoint not in (None, *names):
        asked = [endpoint for endpoint in enabled if payload.endpoint in (None, endpoint.name)]
        have = "; ".join(f"{endpoint.name}: {', '.join(endpoint.models)}" for endpoint in asked)
        yield Problem("model", f"no endpoint serves {payload.model!r} (there are: {have or 'none'})")
