"""Makes the body of a request of a payload."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from oq_openai.payload import CalledTool, ChatMessage, ChatPayload, EmbedPayload, GeneratePayload, Payload

_NOT_SENT = ("messages", "endpoint", "remote_execution", "stream_options", "extra")

_SIGNATURES = (
    (b"\x89PNG", "image/png"),
    (b"\xff\xd8", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"RIFF", "image/webp"),
    (b"BM", "image/bmp"),
)
"""How the files of images begin."""


def body_of(payload: Payload, *, stream_options: bool) -> dict[str, Any]:
    """What is sent; `stream_options` is whether the server knows that field."""
    body = {
        field.name: value
        for field in attrs.fields(type(payload))
        if field.name not in _NOT_SENT and (value := getattr(payload, field.name)) is not None
    }
    if body.get("logit_bias"):
        body["logit_bias"] = {token: _whole(bias) for token, bias in body["logit_bias"].items()}
    match payload:
        case ChatPayload():
            body["messages"] = _messages(payload.messages)
            body["stream"] = True
        case GeneratePayload():
            body["stream"] = (payload.best_of or 1) == 1  # the best one is known at the end only
        case EmbedPayload():
            pass
    if not isinstance(payload, EmbedPayload) and body["stream"]:
        usage = {"include_usage": True} if stream_options else {}
        if options := {**usage, **(payload.stream_options or {})}:
            body["stream_options"] = options
    return {**body, **payload.extra}


def _whole(number: float) -> float:
    """A whole number as such, as it was before it was read as a float."""
    return int(number) if number.is_integer() else number


def _messages(messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    """The messages, in which each call has an id and each result of a tool the id of its call."""
    told: list[dict[str, Any]] = []
    calls: list[tuple[str, str]] = []
    """Id and name of the calls whose results have not been seen."""
    for message in messages:
        sent: dict[str, Any] = {"role": message.role, "content": _content(message)}
        if message.name is not None:
            sent["name"] = message.name
        if message.refusal is not None:
            sent["refusal"] = message.refusal
        if message.tool_calls:
            sent["tool_calls"] = [
                _call(call, call.id or f"call_{len(told)}_{index}") for index, call in enumerate(message.tool_calls)
            ]
            calls += [(call["id"], _name(call)) for call in sent["tool_calls"]]
        if message.role == "tool":
            sent["tool_call_id"] = message.tool_call_id or _asked_for(calls, message.tool_name)
            calls = [call for call in calls if call[0] != sent["tool_call_id"]]
        told.append({**sent, **message.extra})
    return told


def _content(message: ChatMessage) -> str | list[Any] | None:
    if not message.images:
        return message.content if isinstance(message.content, str | None) else list(message.content)
    said = message.content
    parts: list[Any] = [{"type": "text", "text": said}] if isinstance(said, str) and said else list(said or ())
    return [*parts, *({"type": "image_url", "image_url": {"url": _image_url(image)}} for image in message.images)]


def _image_url(image: str) -> str:
    if image.startswith(("data:", "https://", "http://")):
        return image
    start = base64.b64decode(image[:32])
    kind = next((kind for signature, kind in _SIGNATURES if start.startswith(signature)), "image/png")
    return f"data:{kind};base64,{image}"


def _call(call: CalledTool, id: str) -> dict[str, Any]:
    if call.custom is not None:
        return {"id": id, "type": "custom", "custom": dict(call.custom)}
    arguments = call.raw if call.raw is not None else json.dumps(dict(call.arguments), ensure_ascii=False)
    function: Mapping[str, Any] = call.function or {"name": call.name, "arguments": arguments}
    return {"id": id, "type": call.type or "function", "function": dict(function)}


def _name(call: Mapping[str, Any]) -> str:
    return str((call.get("function") or call.get("custom") or {}).get("name"))


def _asked_for(calls: Sequence[tuple[str, str]], name: str | None) -> str:
    """The id of the first call of this tool that is left."""
    return next((id for id, called in calls if called == name), f"call_{name}")
