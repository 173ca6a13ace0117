"""Ollama's protocol as values: what a request's body says, and what its frames add up to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import attrs
from attrs import define, field

from oq import ChatResult, Chunk, ChunkKind, EmbedResult, GenerateResult, Message, ToolCall, Usage
from oq_ollama.payload import ChatPayload, EmbedPayload, GeneratePayload, Payload

PROGRESS: Final = "progress"
"""The kind of chunks that tell how far something is."""

Frame = Mapping[str, Any]
"""One line of an answer."""


class MalformedAnswer(Exception):
    """The server said something that is not of its protocol."""


def path_of(payload: Payload) -> str:
    """The path that the payload is sent to, below the server's URL."""
    match payload:
        case ChatPayload():
            return "/api/chat"
        case GeneratePayload():
            return "/api/generate"
        case EmbedPayload():
            return "/api/embed"


def body_of(payload: Payload) -> dict[str, Any]:
    """The request's body: the fields that are set, and always streamed, as only then a cancel is noticed."""
    body: dict[str, Any] = {
        name: value
        for name, value in attrs.asdict(payload, recurse=False).items()
        if value is not None and name != "remote_execution" and (value or not isinstance(value, tuple | dict))
    }
    if isinstance(payload, ChatPayload):
        body["messages"] = [_message(message) for message in payload.messages]
    if not isinstance(payload, EmbedPayload):
        body["stream"] = True
    return body


def _message(message: Message) -> dict[str, Any]:
    told: dict[str, Any] = {
        "role": "system" if message.role == "developer" else message.role,  # templates do not know the newer word
        "content": message.content,
    }
    if message.thinking is not None:
        told["thinking"] = message.thinking
    if message.images:
        told["images"] = list(message.images)
    if message.tool_calls:
        told["tool_calls"] = [_call(call) for call in message.tool_calls]
    if message.tool_name is not None:
        told["tool_name"] = message.tool_name
    if message.tool_call_id is not None:
        told["tool_call_id"] = message.tool_call_id
    return told


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"function": {"name": call.name, "arguments": dict(call.arguments)}}
    return function if call.id is None else {"id": call.id, **function}


@define
class Answer:
    """What the frames of a chat or a completion have said so far."""

    model: str
    """The one that was asked, until a frame says otherwise."""
    text: list[str] = field(factory=list)
    thinking: list[str] = field(factory=list)
    calls: list[ToolCall] = field(factory=list)
    logprobs: list[Any] = field(factory=list)
    role: str = "assistant"
    final: Frame | None = None
    """The frame that was the last."""

    def take(self, frame: Frame) -> Iterator[Chunk]:
        """Add a frame, and give what it adds as chunks. Raises MalformedAnswer."""
        if isinstance(model := frame.get("model"), str) and model:
            self.model = model
        message = frame.get("message")
        if message is not None and not isinstance(message, Mapping):
            raise MalformedAnswer(f"a message that is no object: {message!r:.100}")
        source = frame if message is None else message
        if message is not None and isinstance(role := message.get("role"), str) and role:
            self.role = role
        if thinking := _text(source, "thinking"):
            self.thinking.append(thinking)
            yield Chunk(text=thinking, kind=ChunkKind.THINKING)
        logprobs = frame.get("logprobs")
        if isinstance(logprobs, list):
            self.logprobs += logprobs
        if text := _text(source, "response" if message is None else "content"):
            self.text.append(text)
            yield Chunk(text=text, kind=ChunkKind.CONTENT, data={"logprobs": logprobs} if logprobs else None)
        calls = source.get("tool_calls") or []
        if not isinstance(calls, list):
            raise MalformedAnswer(f"tool calls that are no list: {calls!r:.100}")
        for told in calls:
            call = _tool_call(told)
            self.calls.append(call)
            yield Chunk(kind=ChunkKind.TOOL_CALL, data=attrs.asdict(call, recurse=False))
        if frame.get("done") is True:
            self.final = frame
        elif isinstance(total := frame.get("total"), int) and isinstance(completed := frame.get("completed"), int):
            yield Chunk(text=f"{completed}/{total}", kind=PROGRESS, data={"completed": completed, "total": total})

    def chat_result(self) -> ChatResult:
        """The whole answer to a chat."""
        reason = self._reason()
        return ChatResult(
            model=self.model,
            message=Message(
                role=self.role,
                content="".join(self.text),
                thinking="".join(self.thinking) or None,
                tool_calls=tuple(self.calls),
            ),
            finish_reason="tool_calls" if self.calls and reason == "stop" else reason,
            usage=usage_of(self.final or {}),
            extra=self._extra(),
        )

    def generate_result(self) -> GenerateResult:
        """The whole completion."""
        return GenerateResult(
            model=self.model,
            text="".join(self.text),
            thinking="".join(self.thinking) or None,
            finish_reason=self._reason(),
            usage=usage_of(self.final or {}),
            extra=self._extra(),
        )

    def _reason(self) -> str | None:
        reason = (self.final or {}).get("done_reason")
        return reason if isinstance(reason, str) and reason else None

    def _extra(self) -> dict[str, Any]:
        extra = {name: value for name in ("context", "image") if (value := (self.final or {}).get(name))}
        return {**extra, "logprobs": self.logprobs} if self.logprobs else extra


def embed_result(model: str, frame: Frame) -> EmbedResult:
    """What an answer to `/api/embed` says; raises MalformedAnswer."""
    vectors = frame.get("embeddings")
    if not isinstance(vectors, list) or not all(isinstance(vector, list) for vector in vectors):
        raise MalformedAnswer("an answer without embeddings")
    try:
        embeddings = tuple(tuple(float(number) for number in vector) for vector in vectors)
    except (TypeError, ValueError):
        raise MalformedAnswer("embeddings that are not made of numbers") from None
    answered = frame.get("model")
    return EmbedResult(
        model=answered if isinstance(answered, str) and answered else model,
        embeddings=embeddings,
        usage=usage_of(frame),
    )


def usage_of(frame: Frame) -> Usage:
    """What a last frame counts; its durations are nanoseconds, and what is zero is left out."""
    tokens, seconds = _count(frame, "eval_count"), _seconds(frame, "eval_duration")
    return Usage(
        prompt_tokens=_count(frame, "prompt_eval_count"),
        completion_tokens=tokens,
        tokens_per_second=tokens / seconds if tokens and seconds else None,
        total_seconds=_seconds(frame, "total_duration"),
        load_seconds=_seconds(frame, "load_duration"),
        prompt_seconds=_seconds(frame, "prompt_eval_duration"),
        completion_seconds=seconds,
    )


def _text(source: Mapping[str, Any], name: str) -> str:
    value = source.get(name)
    if value is None or isinstance(value, str):
        return value or ""
    raise MalformedAnswer(f"{name} is no text: {value!r:.100}")


def _tool_call(told: Any) -> ToolCall:
    function = told.get("function") if isinstance(told, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(name := function.get("name"), str):
        raise MalformedAnswer(f"a tool call without a function: {told!r:.100}")
    arguments = function.get("arguments") or {}
    if not isinstance(arguments, Mapping):
        raise MalformedAnswer(f"a tool call whose arguments are no object: {arguments!r:.100}")
    identity = told.get("id") or None
    return ToolCall(name=name, arguments=dict(arguments), id=identity if isinstance(identity, str) else None)


def _count(frame: Frame, name: str) -> int | None:
    value = frame.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _seconds(frame: Frame, name: str) -> float | None:
    value = _count(frame, name)
    return None if value is None else value / 1e9
