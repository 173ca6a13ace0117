"""Puts an answer together from its events, and says what of it is passed on while it comes."""

from __future__ import annotations

import base64
import binascii
import json
import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from attrs import define, field

from oq import ChatResult, Chunk, ChunkKind, EmbedResult, GenerateResult, Message, ToolCall, Usage
from oq_openai.parsing import parse_json

_OF_THE_ANSWER = ("id", "system_fingerprint", "service_tier", "citations", "provider")
"""What is kept of an answer besides what every result has, where the server tells it."""
_OF_THE_MESSAGE = ("refusal", "annotations", "audio")
"""And of its message."""


class Malformed(ValueError):
    """An answer is JSON, but not of the form that the API has."""


@define
class _Call:
    """A call of a tool, as far as it has come."""

    id: str | None = None
    name: str = ""
    arguments: str = ""


@define(kw_only=True)
class Collected:
    """An answer as far as it has come: of a chat or, with the text in the choice itself, of a completion."""

    model: str
    """The one that was asked for, until the server says which answers."""
    text: list[str] = field(factory=list)
    thinking: list[str] = field(factory=list)
    finish_reason: str | None = None
    begun: bool = False
    """Whether anything has come of the answer itself."""
    ended: bool = False
    """Whether the server has said that this was all."""
    _calls: dict[int, _Call] = field(factory=dict)
    _logprobs: list[Any] = field(factory=list)
    _extra: dict[str, Any] = field(factory=dict)
    _usage: Mapping[str, Any] = field(factory=dict)
    _timings: Mapping[str, Any] = field(factory=dict)

    @property
    def is_complete(self) -> bool:
        """Whether it is a whole answer, and not one that broke off."""
        return self.begun and (self.ended or self.finish_reason is not None)

    def take(self, event: Mapping[str, Any]) -> Iterator[Chunk]:
        """Add an event, or a whole answer; yields what of it can be passed on. Raises Malformed."""
        choices = event.get("choices") or []
        if not isinstance(choices, list):
            raise Malformed("its choices are no list")
        if isinstance(model := event.get("model"), str) and model:
            self.model = model
        if isinstance(usage := event.get("usage"), Mapping):
            self._usage = usage
        if isinstance(timings := event.get("timings"), Mapping):  # of llama.cpp
            self._timings = timings
        self._extra |= {name: event[name] for name in _OF_THE_ANSWER if event.get(name) is not None}
        for choice in choices:
            if not isinstance(choice, Mapping):
                raise Malformed("one of its choices is no object")
            if choice.get("index") in (None, 0):
                yield from self._take_choice(choice)

    def end(self) -> Iterator[Chunk]:
        """The calls of tools, which are passed on whole."""
        for call in self._tool_calls():
            yield Chunk(kind=ChunkKind.TOOL_CALL, data=msgspec.to_builtins(call))

    def chat(self, usage: Usage) -> ChatResult:
        """The answer to a chat."""
        message = Message(
            role="assistant",
            content="".join(self.text),
            thinking="".join(self.thinking) or None,
            tool_calls=tuple(self._tool_calls()),
        )
        return ChatResult(
            model=self.model, message=message, finish_reason=self.finish_reason, usage=usage, extra=self._all_extra()
        )

    def generate(self, usage: Usage) -> GenerateResult:
        """The completion."""
        return GenerateResult(
            model=self.model,
            text="".join(self.text),
            thinking="".join(self.thinking) or None,
            finish_reason=self.finish_reason,
            usage=usage,
            extra=self._all_extra(),
        )

    def usage(self, *, first: float | None, total: float) -> Usage:
        """What it has cost; `first` and `total` are the seconds to the first piece and to the end."""
        counted = usage_of(self._usage, total)
        writing = None if first is None else total - first
        speed = None
        if writing and counted.completion_tokens and counted.completion_tokens > 1:
            speed = round(counted.completion_tokens / writing, 3)
        return Usage(
            prompt_tokens=counted.prompt_tokens,
            completion_tokens=counted.completion_tokens,
            tokens_per_second=_number(self._timings.get("predicted_per_second")) or speed,
            total_seconds=total,
            prompt_seconds=_seconds(self._timings.get("prompt_ms")),
            completion_seconds=_seconds(self._timings.get("predicted_ms")),
            details=counted.details,
        )

    def _take_choice(self, choice: Mapping[str, Any]) -> Iterator[Chunk]:
        self.begun = True
        said = choice.get("delta") or choice.get("message") or choice
        if not isinstance(said, Mapping):
            raise Malformed("a message is no object")
        thought = said.get("reasoning_content") or said.get("reasoning")
        if isinstance(thought, str) and thought:
            self.thinking.append(thought)
            yield Chunk(text=thought, kind=ChunkKind.THINKING)
        for text in _texts(said.get("content", said.get("text"))):
            self.text.append(text)
            yield Chunk(text=text, kind=ChunkKind.CONTENT)
        if said.get("tool_calls"):
            self._take_calls(said["tool_calls"])
        if isinstance(said.get("function_call"), Mapping):  # what they were called before
            self._take_calls([{"index": 0, "function": said["function_call"]}])
        for name in _OF_THE_MESSAGE:
            if said.get(name):
                self._extra[name] = _joined(self._extra.get(name), said[name])
        self._logprobs += _logprobs(choice.get("logprobs"))
        if isinstance(reason := choice.get("finish_reason"), str) and reason:
            self.finish_reason = reason

    def _take_calls(self, deltas: object) -> None:
        """Add to the calls what came of them; some servers leave out their numbers, and send each whole."""
        if not isinstance(deltas, list):
            raise Malformed("its tool_calls are no list")
        for delta in deltas:
            if not isinstance(delta, Mapping):
                raise Malformed("one of its tool_calls is no object")
            index, id = delta.get("index"), delta.get("id")
            if not isinstance(index, int):
                index = len(self._calls) if id or not self._calls else max(self._calls)
            call = self._calls.setdefault(index, _Call())
            if isinstance(id, str) and id:
                call.id = id
            function = delta.get("function") or delta.get("custom") or {}
            if not isinstance(function, Mapping):
                raise Malformed("a function that it calls is no object")
            name = str(function.get("name") or "")
            call.name += "" if name == call.name else name  # llama.cpp repeats it with each piece
            arguments = function.get("arguments", function.get("input")) or ""
            call.arguments += arguments if isinstance(arguments, str) else json.dumps(arguments)

    def _tool_calls(self) -> Iterator[ToolCall]:
        for _, call in sorted(self._calls.items()):
            try:
                arguments = parse_json(call.arguments or "{}")
            except ValueError:
                arguments = None
            if isinstance(arguments, dict):
                yield ToolCall(name=call.name, arguments=arguments, id=call.id)
            else:
                yield ToolCall(name=call.name, id=call.id, raw=call.arguments)

    def _all_extra(self) -> dict[str, Any]:
        return {**self._extra, **({"logprobs": self._logprobs} if self._logprobs else {})}


def embedded(answer: Mapping[str, Any], model: str, total: float) -> EmbedResult:
    """The result of an answer of `/embeddings`; raises Malformed."""
    data = answer.get("data")
    if not isinstance(data, list) or not all(isinstance(item, Mapping) for item in data):
        raise Malformed("it has no list of embeddings")
    order = [item.get("index", place) for place, item in enumerate(data)]
    if sorted(map(str, order)) != sorted(map(str, range(len(data)))):
        raise Malformed("its embeddings are not numbered in a row")
    vectors = [
        vector for _, vector in sorted(zip(order, (_vector(item.get("embedding")) for item in data), strict=True))
    ]
    named = answer.get("model")
    counted = answer.get("usage")
    return EmbedResult(
        model=named if isinstance(named, str) and named else model,
        embeddings=tuple(vectors),
        usage=usage_of(counted if isinstance(counted, Mapping) else {}, total),
    )


def usage_of(told: Mapping[str, Any], total: float) -> Usage:
    """The server's count, as oq tells it."""
    known = ("prompt_tokens", "completion_tokens", "total_tokens")
    return Usage(
        prompt_tokens=_count(told.get("prompt_tokens")),
        completion_tokens=_count(told.get("completion_tokens")),
        total_seconds=total,
        details={name: value for name, value in told.items() if name not in known and value is not None},
    )


def _vector(value: object) -> tuple[float, ...]:
    """One embedding, as numbers or as the base64 of 32-bit floats."""
    if isinstance(value, str):
        try:
            return tuple(array("f", base64.b64decode(value, validate=True)))
        except (binascii.Error, ValueError):
            raise Malformed("an embedding is no base64 of numbers") from None
    if not isinstance(value, list) or not all(isinstance(number, int | float) for number in value):
        raise Malformed("an embedding is no list of numbers")
    return tuple(map(float, value))


def _texts(content: object) -> Iterator[str]:
    """The text of a content, be it one or in parts."""
    if isinstance(content, str) and content:
        yield content
    elif isinstance(content, list):
        for part in content:
            if isinstance(part, Mapping) and isinstance(text := part.get("text"), str) and text:
                yield text


def _logprobs(told: object) -> list[Any]:
    """One entry for each token; completions tell them in columns."""
    if not isinstance(told, Mapping):
        return []
    if isinstance(content := told.get("content"), list):
        return content
    tokens = told.get("tokens")
    if not isinstance(tokens, list):
        return []
    columns = {"token": tokens, "logprob": told.get("token_logprobs"), "top_logprobs": told.get("top_logprobs")}
    rows = {name: column for name, column in columns.items() if isinstance(column, Sequence)}
    return [
        {name: column[place] for name, column in rows.items() if place < len(column)} for place in range(len(tokens))
    ]


def _joined(before: object, more: Any) -> Any:
    """What comes in pieces: texts and lists grow, anything else is replaced."""
    if isinstance(before, str) and isinstance(more, str):
        return before + more
    return [*before, *more] if isinstance(before, list) and isinstance(more, list) else more


def _count(value: object) -> int | None:
    return value if type(value) is int else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _seconds(milliseconds: object) -> float | None:
    number = _number(milliseconds)
    return None if number is None else number / 1000
