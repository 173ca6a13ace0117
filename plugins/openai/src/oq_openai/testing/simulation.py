"""What the fake OpenAI answers: words that say plainly that they are simulated, the same for the same request."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attrs import field, frozen

CREATED = 1_700_000_000
"""The moment at which every answer was made, so that all are alike."""
DIMENSIONS = 8
"""Of the vectors, unless a request wants another number."""


@frozen(kw_only=True)
class Reply:
    """What a model says. Tests may give one in place of what would be made up."""

    text: str = ""
    thinking: str = ""
    tool_calls: Sequence[tuple[str, Mapping[str, Any] | str]] = ()
    """Name and arguments of each; arguments that are a text are sent as they are."""
    finish_reason: str | None = None
    """`stop`, `tool_calls` or `length` when None, as it comes."""

    @property
    def pieces(self) -> list[str]:
        """The text as it is streamed: word by word."""
        return [f"{word} " for word in self.text.split(" ")[:-1]] + [self.text.rpartition(" ")[2]]


@frozen(kw_only=True)
class Simulated:
    """The whole answer to a request, in both forms."""

    whole: Mapping[str, Any]
    events: Sequence[Mapping[str, Any]] = field(factory=tuple)
    """Those of a stream, without the last one, `[DONE]`; empty where none was asked for."""


def chat(body: Mapping[str, Any], reply: Reply | None) -> Simulated:
    """The answer to a chat."""
    return _answer(body, reply or _chat_reply(body), _words(body["messages"]), _ChatForm())


def completion(body: Mapping[str, Any], reply: Reply | None) -> Simulated:
    """The answer to a prompt."""
    prompt = body["prompt"]
    shown = prompt if isinstance(prompt, str) else f"{len(prompt)} tokens"
    if reply is None:
        echo = shown if body.get("echo") else ""
        reply = Reply(text=f"{echo}{_made_up(body['model'], shown)}{body.get('suffix') or ''}")
    return _answer(body, reply, len(prompt.split()) if isinstance(prompt, str) else len(prompt), _CompletionForm())


def embeddings(body: Mapping[str, Any]) -> Simulated:
    """Vectors of the length 1, which say nothing of their texts but whether they are the same."""
    given = body["input"]
    many = isinstance(given, list) and not (given and isinstance(given[0], int))
    inputs = given if many else [given]
    size = body.get("dimensions") or DIMENSIONS
    data = []
    for index, text in enumerate(inputs):
        vector: Any = _vector(json.dumps([body["model"], text]), size)
        if body.get("encoding_format") == "base64":
            vector = base64.b64encode(array("f", vector).tobytes()).decode()
        data.append({"object": "embedding", "index": index, "embedding": vector})
    tokens = sum(len(text.split()) if isinstance(text, str) else len(text) for text in inputs)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return Simulated(whole={"object": "list", "data": data, "model": body["model"], "usage": usage})


class _ChatForm:
    """How a chat is told."""

    prefix = "chatcmpl"
    object = "chat.completion"
    chunk = "chat.completion.chunk"

    def choice(self, reply: Reply, pieces: Sequence[str], *, logprobs: bool) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": "".join(pieces) or None, "refusal": None}
        if reply.thinking:
            message["reasoning_content"] = reply.thinking
        if reply.tool_calls:
            message["tool_calls"] = [_call(place, *call) for place, call in enumerate(reply.tool_calls)]
        told = {"content": [_logprob(piece) for piece in pieces], "refusal": None} if logprobs else None
        return {"message": message, "logprobs": told}

    def deltas(self, reply: Reply, pieces: Sequence[str], *, logprobs: bool) -> Iterator[dict[str, Any]]:
        yield {"delta": {"role": "assistant", "content": ""}}
        for word in reply.thinking.split():
            yield {"delta": {"reasoning_content": f"{word} "}}
        for piece in pieces:
            told = {"content": [_logprob(piece)], "refusal": None} if logprobs else None
            yield {"delta": {"content": piece}, "logprobs": told}
        for place, (name, arguments) in enumerate(reply.tool_calls):
            whole = _call(place, name, arguments)
            text = whole["function"]["arguments"]
            first = {**whole, "index": place, "function": {"name": name, "arguments": ""}}
            yield {"delta": {"tool_calls": [first]}}
            for start in range(0, len(text), 8):
                part = {"index": place, "function": {"arguments": text[start : start + 8]}}
                yield {"delta": {"tool_calls": [part]}}

    def end(self) -> dict[str, Any]:
        return {"delta": {}}


class _CompletionForm:
    """How a completion is told."""

    prefix = "cmpl"
    object = "text_completion"
    chunk = "text_completion"

    def choice(self, reply: Reply, pieces: Sequence[str], *, logprobs: bool) -> dict[str, Any]:  # noqa: ARG002  # as the other form
        return {"text": "".join(pieces), "logprobs": _columns(pieces) if logprobs else None}

    def deltas(self, reply: Reply, pieces: Sequence[str], *, logprobs: bool) -> Iterator[dict[str, Any]]:  # noqa: ARG002  # as the other form
        for piece in pieces:
            yield {"text": piece, "logprobs": _columns([piece]) if logprobs else None}

    def end(self) -> dict[str, Any]:
        return {"text": ""}


def _answer(body: Mapping[str, Any], reply: Reply, prompt_tokens: int, form: _ChatForm | _CompletionForm) -> Simulated:
    pieces, reason = _limited(body, reply)
    number = body.get("n") or 1
    logprobs = body.get("logprobs") not in (None, False)
    head = {"id": f"{form.prefix}-simulated-{_digest(body)}", "created": CREATED, "model": body["model"]}
    head["system_fingerprint"] = "fp_simulated"
    completion = number * max(1, len(pieces) + len(reply.thinking.split()) + 5 * len(reply.tool_calls))
    usage = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion,
        "total_tokens": prompt_tokens + completion,
        "completion_tokens_details": {"reasoning_tokens": len(reply.thinking.split())},
    }
    choices = [
        {"index": index, **form.choice(reply, pieces, logprobs=logprobs), "finish_reason": reason}
        for index in range(number)
    ]
    whole = {**head, "object": form.object, "choices": choices, "usage": usage}
    if not body.get("stream"):
        return Simulated(whole=whole)
    counted = bool((body.get("stream_options") or {}).get("include_usage"))
    head |= {"object": form.chunk}
    events = [
        {**head, "choices": [{"index": index, **delta, "finish_reason": None}]}
        for delta in form.deltas(reply, pieces, logprobs=logprobs)
        for index in range(number)
    ]
    events += [
        {**head, "choices": [{"index": index, **form.end(), "finish_reason": reason}]} for index in range(number)
    ]
    if counted:
        events = [{**event, "usage": None} for event in events] + [{**head, "choices": [], "usage": usage}]
    return Simulated(whole=whole, events=events)


def _limited(body: Mapping[str, Any], reply: Reply) -> tuple[list[str], str]:
    """The pieces of the text that the request leaves, and why it ends."""
    text = reply.text
    stops = body.get("stop") or []
    for stop in [stops] if isinstance(stops, str) else stops:
        text = text.partition(stop)[0]
    pieces = [piece for piece in Reply(text=text).pieces if piece]
    most = body.get("max_completion_tokens") or body.get("max_tokens") or math.inf
    if len(pieces) > most:
        return pieces[: int(most)], reply.finish_reason or "length"
    return pieces, reply.finish_reason or ("tool_calls" if reply.tool_calls else "stop")


def _chat_reply(body: Mapping[str, Any]) -> Reply:
    """What is made up: a call of a tool where one is wanted or named, JSON where that is wanted, else a sentence."""
    messages = body["messages"]
    last = _text(messages[-1].get("content"))
    thinking = "This thought is simulated." if body.get("reasoning_effort") not in (None, "none") else ""
    if messages[-1].get("role") != "tool" and (tool := _wanted_tool(body, last)) is not None:
        arguments = _instance_of(tool.get("parameters") or {"type": "object"})
        return Reply(thinking=thinking, tool_calls=[(tool["name"], arguments)])
    wanted = body.get("response_format") or {}
    if wanted.get("type") == "json_object":
        return Reply(text=json.dumps({"simulated": True}), thinking=thinking)
    if wanted.get("type") == "json_schema":
        return Reply(text=json.dumps(_instance_of(wanted["json_schema"].get("schema") or {})), thinking=thinking)
    return Reply(text=_made_up(body["model"], last), thinking=thinking)


def _wanted_tool(body: Mapping[str, Any], last: str) -> Mapping[str, Any] | None:
    tools: list[Mapping[str, Any]] = [
        tool["function"] for tool in body.get("tools") or [] if tool.get("type") == "function"
    ]
    choice = body.get("tool_choice", "auto")
    if choice == "none" or not tools:
        return None
    if isinstance(choice, Mapping):
        name = choice.get("function", {}).get("name")
        return next((tool for tool in tools if tool["name"] == name), None)
    if choice == "required":
        return tools[0]
    return next((tool for tool in tools if tool["name"] in last), None)


def _made_up(model: str, asked: str) -> str:
    words = " ".join(asked.split()[:8])
    return f"This is a simulated answer of {model} to: {words}"


def _instance_of(schema: Mapping[str, Any]) -> Any:
    """A value that fits a simple JSON schema."""
    if "enum" in schema:
        return schema["enum"][0]
    if "const" in schema:
        return schema["const"]
    match schema.get("type"):
        case "object" | None:
            return {name: _instance_of(inner) for name, inner in (schema.get("properties") or {}).items()}
        case "array":
            return [_instance_of(schema.get("items") or {})]
        case "integer":
            return 0
        case "number":
            return 0.5
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return "simulated"


def _call(place: int, name: str, arguments: Mapping[str, Any] | str) -> dict[str, Any]:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {"id": f"call_simulated_{place}", "type": "function", "function": {"name": name, "arguments": text}}


def _logprob(piece: str) -> dict[str, Any]:
    return {"token": piece, "logprob": -0.5, "bytes": list(piece.encode()), "top_logprobs": []}


def _columns(pieces: Sequence[str]) -> dict[str, Any]:
    return {
        "tokens": list(pieces),
        "token_logprobs": [-0.5 for _ in pieces],
        "top_logprobs": None,
        "text_offset": [len("".join(pieces[:place])) for place in range(len(pieces))],
    }


def _text(content: Any) -> str:
    """What a message says in words."""
    if isinstance(content, list):
        return " ".join(part["text"] for part in content if part.get("type") == "text")
    return str(content or "")


def _words(messages: Sequence[Mapping[str, Any]]) -> int:
    return sum(len(_text(message.get("content")).split()) for message in messages)


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:12]


def _vector(seed: str, size: int) -> list[float]:
    data = hashlib.shake_256(seed.encode()).digest(2 * size)
    numbers = [int.from_bytes(data[place : place + 2]) - 32767.5 for place in range(0, 2 * size, 2)]
    length = math.sqrt(sum(number * number for number in numbers))
    return list(array("f", [number / length for number in numbers]))
