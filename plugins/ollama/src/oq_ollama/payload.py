"""What tasks for Ollama say. The fields are those of its API; `oq_ollama.rules` says what a good payload is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from attrs import field, frozen

from oq import ChatResult, EmbedResult, GenerateResult, Message

Format = Literal["json"] | Mapping[str, Any] | None
"""What the answer must be: any JSON, or JSON that fits a schema."""
Think = bool | Literal["low", "medium", "high", "max"] | None
"""Whether, or how hard, a thinking model is to think."""
KeepAlive = str | float | None
"""For how long the model stays loaded: `"5m"`, or seconds; negative for ever, 0 not at all."""


@frozen(kw_only=True)
class ChatPayload:
    """The next message of a conversation."""

    model: str
    messages: tuple[Message, ...]
    """With none, the model is only loaded (unloaded, with `keep_alive` 0)."""
    tools: tuple[Mapping[str, Any], ...] = ()
    """Functions that the model may want called: `{"type": "function", "function": {"name": …, "parameters": …}}`."""
    format: Format = None
    options: Mapping[str, Any] = field(factory=dict)
    """See `oq_ollama.Options`; what is not known there is passed on as it is."""
    think: Think = None
    keep_alive: KeepAlive = None
    truncate: bool | None = None
    """Whether messages are left out when they are too long for the context; else that is an error."""
    shift: bool | None = None
    """Whether the beginning is forgotten when the answer outgrows the context; else it ends there."""
    logprobs: bool | None = None
    """Whether the result's `extra["logprobs"]` tells how probable each token was."""
    top_logprobs: int | None = None
    """Of how many alternatives, 0 to 20."""
    remote_execution: bool = False
    """Whether a remote endpoint is to answer, whatever the routing rules say."""


@frozen(kw_only=True)
class GeneratePayload:
    """The completion of a prompt."""

    model: str
    prompt: str = ""
    """With none, the model is only loaded (unloaded, with `keep_alive` 0)."""
    suffix: str | None = None
    """What comes after the completion."""
    system: str | None = None
    template: str | None = None
    """Instead of the model's own."""
    context: tuple[int, ...] = ()
    """That of an earlier result's `extra["context"]`, to go on from there."""
    raw: bool | None = None
    """Whether the prompt is used as it is, without a template."""
    format: Format = None
    images: tuple[str, ...] = ()
    """Base64 of the images' files."""
    options: Mapping[str, Any] = field(factory=dict)
    """See `oq_ollama.Options`; what is not known there is passed on as it is."""
    think: Think = None
    keep_alive: KeepAlive = None
    truncate: bool | None = None
    """Whether the prompt is cut when it is too long for the context; else that is an error."""
    shift: bool | None = None
    """Whether the beginning is forgotten when the answer outgrows the context; else it ends there."""
    logprobs: bool | None = None
    """Whether the result's `extra["logprobs"]` tells how probable each token was."""
    top_logprobs: int | None = None
    """Of how many alternatives, 0 to 20."""
    width: int | None = None
    """Pixels, of a model that makes images; the image is the result's `extra["image"]`."""
    height: int | None = None
    steps: int | None = None
    """Of a model that makes images."""
    remote_execution: bool = False
    """Whether a remote endpoint is to answer, whatever the routing rules say."""


@frozen(kw_only=True)
class EmbedPayload:
    """Texts to be made into vectors."""

    model: str
    input: str | tuple[str, ...]
    truncate: bool | None = None
    """Whether a text that is too long for the context is cut (the default); else that is an error."""
    dimensions: int | None = None
    """How many numbers each vector has; the model's own number when None."""
    options: Mapping[str, Any] = field(factory=dict)
    """See `oq_ollama.Options`; what is not known there is passed on as it is."""
    keep_alive: KeepAlive = None
    remote_execution: bool = False
    """Whether a remote endpoint is to answer, whatever the routing rules say."""


Payload = ChatPayload | GeneratePayload | EmbedPayload


@frozen(kw_only=True)
class Options:
    """The options that Ollama documents, typed; for the field `options` as a mapping without those that are None."""

    # When the model is loaded; a change of one of these loads it anew
    num_ctx: int | None = None
    """Tokens of context."""
    num_batch: int | None = None
    num_gpu: int | None = None
    """Layers on the GPU."""
    main_gpu: int | None = None
    use_mmap: bool | None = None
    num_thread: int | None = None
    # For each answer
    num_keep: int | None = None
    """Tokens of the prompt that are kept when the context is full."""
    num_predict: int | None = None
    """The most tokens of an answer; -1 for no limit."""
    seed: int | None = None
    """The same seed and request give the same answer."""
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repeat_last_n: int | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    stop: tuple[str, ...] | None = None
    """Texts at which the answer ends."""


def describe_chat(payload: ChatPayload) -> str:
    """The last thing that the user says."""
    said = [message.content for message in payload.messages if message.role == "user" and message.content.strip()]
    return said[-1] if said else _describe_rest(payload.model, bool(payload.messages))


def describe_generate(payload: GeneratePayload) -> str:
    """The prompt."""
    return payload.prompt if payload.prompt.strip() else _describe_rest(payload.model, bool(payload.images))


def describe_embed(payload: EmbedPayload) -> str:
    """The first text, and how many there are."""
    texts = (payload.input,) if isinstance(payload.input, str) else payload.input
    first = texts[0].strip() if texts else ""
    more = f"{len(texts)} texts: " if len(texts) > 1 else ""
    return f"{more}{first or 'an empty text'}"


def _describe_rest(model: str, something: bool) -> str:
    return f"a message to {model}" if something else f"load {model}"


def show_chat(result: ChatResult) -> str:
    """The answer, and the calls that the model wants made."""
    calls = [
        f"{call.name}({', '.join(f'{k}={v!r}' for k, v in call.arguments.items())})"
        for call in result.message.tool_calls
    ]
    return "\n".join([*([result.message.content] if result.message.content else []), *calls])


def show_generate(result: GenerateResult) -> str:
    """The completion."""
    return result.text


def show_embed(result: EmbedResult) -> str:
    """How many vectors there are; the numbers are of no use to people."""
    number = len(result.embeddings)
    size = len(result.embeddings[0]) if result.embeddings else 0
    return f"{number} vector{'' if number == 1 else 's'} of {size:,} numbers"
