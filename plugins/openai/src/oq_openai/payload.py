"""What the tasks say: the parameters of the API as typed fields, and whatever else a server understands in `extra`.

A field that is None is not sent. `oq_openai.rules` says what a good payload is beyond the types.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from attrs import field, frozen

Role = Literal["system", "developer", "user", "assistant", "tool"]
Tokens = tuple[int, ...]


@frozen(kw_only=True)
class CalledTool:
    """A call in a message of the assistant: as oq tells it (`name`, `arguments`), or as the API does (`function`)."""

    id: str | None = None
    name: str | None = None
    arguments: Mapping[str, Any] = field(factory=dict)
    type: str | None = None
    function: Mapping[str, Any] | None = None
    """`name`, and `arguments` as JSON text."""
    custom: Mapping[str, Any] | None = None
    """Likewise for a tool whose input is free text: `name` and `input`."""
    raw: str | None = None
    """As in `oq.ToolCall`: what the model wrote for arguments, where it is no JSON object."""


@frozen(kw_only=True)
class ChatMessage:
    """One message of a conversation. Whatever is an `oq.Message` is one of these."""

    role: Role
    content: str | tuple[Mapping[str, Any], ...] | None = None
    """Text, or the parts of the API: `{"type": "text", "text": …}`, `{"type": "image_url", …}`, …"""
    images: tuple[str, ...] = ()
    """Base64 of the images' files, or `data:` and `https:` URLs; added to the content."""
    name: str | None = None
    """Who speaks, where several do in one role."""
    tool_calls: tuple[CalledTool, ...] = ()
    """Of the assistant: what it wanted called."""
    tool_call_id: str | None = None
    """Of a tool: the call whose result this is."""
    tool_name: str | None = None
    """Of a tool: its name; not sent, as the call's id says it."""
    thinking: str | None = None
    """What the model said to itself; not sent, as models are not to see it again."""
    refusal: str | None = None
    extra: Mapping[str, Any] = field(factory=dict)
    """Further fields of the message, sent as they are."""


@frozen(kw_only=True)
class ChatPayload:
    """A chat: `POST /chat/completions`."""

    model: str
    messages: tuple[ChatMessage, ...]
    endpoint: str | None = None
    """The only endpoint that it may go to."""
    remote_execution: bool = False
    """Whether it is to go to a remote endpoint, where there are local ones too."""
    max_tokens: int | None = None
    """At most so many tokens of answer."""
    max_completion_tokens: int | None = None
    """What newer models call `max_tokens`."""
    temperature: float | None = None
    top_p: float | None = None
    n: int | None = None
    """A task has one answer, so 1 is all that it may be."""
    stop: str | tuple[str, ...] | None = None
    """Where the answer ends."""
    seed: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    logit_bias: Mapping[str, float] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    response_format: Mapping[str, Any] | None = None
    """`{"type": "json_object"}`, or `{"type": "json_schema", "json_schema": {"name": …, "schema": …}}`."""
    tools: tuple[Mapping[str, Any], ...] | None = None
    """`{"type": "function", "function": {"name": …, "description": …, "parameters": …}}`, each."""
    tool_choice: str | Mapping[str, Any] | None = None
    """`none`, `auto`, `required`, or the tool that must be called."""
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    """`none`, `minimal`, `low`, `medium`, `high`, …"""
    verbosity: str | None = None
    """`low`, `medium` or `high`."""
    modalities: tuple[str, ...] | None = None
    audio: Mapping[str, Any] | None = None
    prediction: Mapping[str, Any] | None = None
    """What is known of the answer before, to have it sooner."""
    web_search_options: Mapping[str, Any] | None = None
    user: str | None = None
    metadata: Mapping[str, str] | None = None
    """For the server; a task's own metadata stays with oq."""
    service_tier: str | None = None
    store: bool | None = None
    """Whether the server is to keep the answer."""
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    safety_identifier: str | None = None
    stream_options: Mapping[str, Any] | None = None
    """Over `{"include_usage": true}`, which is sent by itself."""
    extra: Mapping[str, Any] = field(factory=dict)
    """Further fields of the request, sent as they are; over those above."""


@frozen(kw_only=True)
class GeneratePayload:
    """The completion of a text: `POST /completions`."""

    model: str
    prompt: str | Tokens
    """A text or the numbers of its tokens."""
    endpoint: str | None = None
    """The only endpoint that it may go to."""
    remote_execution: bool = False
    """Whether it is to go to a remote endpoint, where there are local ones too."""
    suffix: str | None = None
    """What comes after the completion."""
    max_tokens: int | None = None
    """At most so many tokens of completion."""
    temperature: float | None = None
    top_p: float | None = None
    n: int | None = None
    """A task has one answer, so 1 is all that it may be."""
    best_of: int | None = None
    """Of so many completions the server gives the best one; it comes in one piece then."""
    echo: bool | None = None
    """Whether the prompt is repeated before its completion."""
    stop: str | tuple[str, ...] | None = None
    """Where the completion ends."""
    seed: int | None = None
    logprobs: int | None = None
    logit_bias: Mapping[str, float] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    response_format: Mapping[str, Any] | None = None
    """For servers that know it here as well."""
    user: str | None = None
    stream_options: Mapping[str, Any] | None = None
    """Over `{"include_usage": true}`, which is sent by itself."""
    extra: Mapping[str, Any] = field(factory=dict)
    """Further fields of the request, sent as they are; over those above."""


@frozen(kw_only=True)
class EmbedPayload:
    """Texts as vectors: `POST /embeddings`."""

    model: str
    input: str | tuple[str | int | Tokens, ...]
    """A text, several, the numbers of one text's tokens, or those of several."""
    endpoint: str | None = None
    """The only endpoint that it may go to."""
    remote_execution: bool = False
    """Whether it is to go to a remote endpoint, where there are local ones too."""
    dimensions: int | None = None
    """Of the vectors, where the model gives a choice."""
    user: str | None = None
    extra: Mapping[str, Any] = field(factory=dict)
    """Further fields of the request, sent as they are; over those above."""


Payload = ChatPayload | GeneratePayload | EmbedPayload


def describe_chat(payload: ChatPayload) -> str:
    """The model and the last thing that was said to it."""
    said = [text for message in payload.messages if (text := text_of(message)) and message.role != "system"]
    return _described(payload.model, said[-1] if said else "")


def describe_generate(payload: GeneratePayload) -> str:
    """The model and the prompt."""
    prompt = payload.prompt if isinstance(payload.prompt, str) else f"{len(payload.prompt)} tokens"
    return _described(payload.model, prompt)


def describe_embed(payload: EmbedPayload) -> str:
    """The model, and the text or how many there are."""
    if isinstance(payload.input, str):
        return _described(payload.model, payload.input)
    first = payload.input[0] if payload.input else ""
    if len(payload.input) == 1 and isinstance(first, str):
        return _described(payload.model, first)
    what = "tokens" if isinstance(first, int) else "texts"
    return _described(payload.model, f"{len(payload.input)} {what}")


def text_of(message: ChatMessage) -> str:
    """What a message says in words."""
    if message.content is None or isinstance(message.content, str):
        return message.content or ""
    return " ".join(text for part in message.content if isinstance(text := part.get("text"), str))


def _described(model: str, text: str) -> str:
    """Enough of the text for a line."""
    return f"{model}: {text[:1000].strip() or '(no text)'}"
