"""What a simulated Ollama answers: always the same to the same, and never to be taken for a model's words."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from attrs import field, frozen

Json = dict[str, Any]

SIMULATED: Final = "This is a simulated answer"
DIMENSIONS: Final = 8
"""Numbers in a vector, unless the request says how many."""
_NS_PER_TOKEN: Final = 10_000_000


@frozen(kw_only=True)
class FakeModel:
    """A model that a simulated Ollama has."""

    name: str
    capabilities: tuple[str, ...] = ("completion", "tools", "thinking", "vision", "insert", "embedding")
    load_time: float | None = None
    """Seconds; the server's own when None."""
    size: int = 1_000_000_000
    """Bytes, by its own account."""
    answer: str | None = None
    """What it says, instead of repeating what it was told."""

    @property
    def full_name(self) -> str:
        """With its tag."""
        return full_name(self.name)

    @property
    def digest(self) -> str:
        """The same for every model of the name."""
        return hashlib.sha256(self.full_name.encode()).hexdigest()

    @property
    def details(self) -> Json:
        """As `/api/tags` and others tell them."""
        return {
            "parent_model": "",
            "format": "simulated",
            "family": "simulated",
            "families": ["simulated"],
            "parameter_size": "0",
            "quantization_level": "none",
        }


def full_name(model: str) -> str:
    """The name with its tag, which is `latest` where none is given."""
    return model if ":" in model.rpartition("/")[2] else f"{model}:latest"


@frozen(kw_only=True)
class Said:
    """What a model answers to one request, in pieces."""

    thinking: Sequence[str] = ()
    words: Sequence[str] = ()
    calls: Sequence[Json] = ()
    reason: str = "stop"
    prompt_tokens: int = 0
    logprobs: bool = False
    extra: Json = field(factory=dict)
    """Of the final frame."""

    def frames(self, model: str, created_at: str, kind: str) -> Iterator[Json]:
        """The frames of a streamed answer; `kind` is `chat` or `generate`."""
        head = {"model": model, "created_at": created_at}
        for thought in self.thinking:
            yield head | _piece(kind, "", thinking=thought) | {"done": False}
        for word in self.words:
            more = {"logprobs": [_logprob(word)]} if self.logprobs else {}
            yield head | _piece(kind, word) | more | {"done": False}
        for call in self.calls:
            yield head | _piece(kind, "", tool_calls=[call]) | {"done": False}
        yield head | _piece(kind, "") | {"done": True, "done_reason": self.reason} | self.counts() | self.extra

    def whole(self, model: str, created_at: str, kind: str) -> Json:
        """The answer to a request that is not streamed."""
        more: Json = {"thinking": "".join(self.thinking)} if self.thinking else {}
        if self.calls:
            more["tool_calls"] = list(self.calls)
        logprobs = {"logprobs": [_logprob(word) for word in self.words]} if self.logprobs else {}
        return (
            {"model": model, "created_at": created_at}
            | _piece(kind, "".join(self.words), **more)
            | logprobs
            | {"done": True, "done_reason": self.reason}
            | self.counts()
            | self.extra
        )

    def counts(self) -> Json:
        """Tokens and nanoseconds, zeros left out as Ollama does."""
        written = len(self.thinking) + len(self.words) + len(self.calls)
        counts = {
            "total_duration": (written + self.prompt_tokens) * _NS_PER_TOKEN,
            "load_duration": _NS_PER_TOKEN,
            "prompt_eval_count": self.prompt_tokens,
            "prompt_eval_duration": self.prompt_tokens * _NS_PER_TOKEN,
            "eval_count": written,
            "eval_duration": written * _NS_PER_TOKEN,
        }
        return {name: value for name, value in counts.items() if value}


def chat_answer(model: FakeModel, body: Mapping[str, Any]) -> Said:
    """What the model answers to a chat."""
    messages = body.get("messages") or []
    last = messages[-1] if messages else {}
    told = str(last.get("content", ""))
    tokens = sum(len(str(message.get("content", "")).split()) for message in messages)
    if body.get("tools") and last.get("role") != "tool":
        function = body["tools"][0].get("function", {})
        arguments = example_of(function.get("parameters") or {"type": "object"})
        call = {"id": "call_simulated", "function": {"index": 0, "name": function.get("name"), "arguments": arguments}}
        return Said(thinking=_thoughts(body), calls=[call], prompt_tokens=tokens)
    return _said(model, body, told, tokens)


def generate_answer(model: FakeModel, body: Mapping[str, Any]) -> Said:
    """How the model completes a prompt."""
    prompt = str(body.get("prompt", ""))
    said = _said(model, body, prompt, len(prompt.split()))
    context = [*(body.get("context") or []), *range(1, len(said.words) + 1)]
    return Said(
        thinking=said.thinking,
        words=said.words,
        reason=said.reason,
        prompt_tokens=said.prompt_tokens,
        logprobs=said.logprobs,
        extra={} if body.get("raw") else {"context": context},
    )


def vector_of(text: str, dimensions: int) -> list[float]:
    """A vector of length 1 that only this text has."""
    numbers: list[int] = []
    while len(numbers) < dimensions:
        numbers += hashlib.sha256(f"{len(numbers)} {text}".encode()).digest()
    centred = [number - 127.5 for number in numbers[:dimensions]]
    length = math.hypot(*centred)
    return [round(number / length, 6) for number in centred]


def example_of(schema: Mapping[str, Any]) -> Any:
    """A simulated value that fits a JSON schema; of the simple kinds."""
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            return {name: example_of(inner) for name, inner in (schema.get("properties") or {}).items()}
        case "array":
            return [example_of(schema.get("items") or {})]
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


def _said(model: FakeModel, body: Mapping[str, Any], told: str, tokens: int) -> Said:
    """The model's answer as pieces, no more than `num_predict` of them."""
    wanted = body.get("format")
    if isinstance(wanted, Mapping):
        text = json.dumps(example_of(wanted))
    elif wanted == "json":
        text = json.dumps({"simulated": True, "told": told})
    elif model.answer is not None:
        text = model.answer
    else:
        text = f"{SIMULATED} of {model.name} to: {told}"
    words = [f"{word} " for word in text.split(" ")]
    words[-1] = words[-1][:-1]
    limit = (body.get("options") or {}).get("num_predict", -1)
    cut = 0 <= limit < len(words)
    return Said(
        thinking=_thoughts(body),
        words=[word for word in words[: limit if cut else None] if word],
        reason="length" if cut else "stop",
        prompt_tokens=tokens,
        logprobs=bool(body.get("logprobs")),
    )


def _thoughts(body: Mapping[str, Any]) -> list[str]:
    return ["Simulated ", "thinking."] if body.get("think") else []


def _piece(kind: str, text: str, **more: Any) -> Json:
    if kind == "chat":
        return {"message": {"role": "assistant", "content": text, **more}}
    return {"response": text, **more}


def _logprob(word: str) -> Json:
    return {"token": word, "logprob": -0.5}
