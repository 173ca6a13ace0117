"""The words that executors of language models share, so that an answer looks the same whoever gave it.

Their actions are `chat`, `generate` and `embed`. Answers stream as chunks of the kinds in `ChunkKind`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from attrs import field, frozen

from oq.errors import InvalidTask

EXECUTORS = ("ollama", "openai")
"""Those of oq's own packages that ask models, in the order in which they are taken where a task does not say."""

ROLES = ("system", "developer", "user", "assistant", "tool")


class ChunkKind(StrEnum):
    """What a chunk of a model's answer is."""

    CONTENT = "output"
    """The answer itself, in `text`."""
    THINKING = "thinking"
    """What the model says to itself before, in `text`."""
    TOOL_CALL = "tool_call"
    """A call that it wants made: a `ToolCall` as a mapping in `data`."""


@frozen(kw_only=True)
class ToolCall:
    """A function that the model wants called."""

    name: str
    arguments: Mapping[str, Any] = field(factory=dict)
    id: str | None = None
    """What the message with the function's result refers to, where the model's server gives one."""
    raw: str | None = None
    """What the model wrote for arguments where that is no JSON object, so that `arguments` has nothing."""


@frozen(kw_only=True)
class Message:
    """One message of a conversation."""

    role: str
    """One of `ROLES`."""
    content: str = ""
    thinking: str | None = None
    images: tuple[str, ...] = ()
    """Base64 of the images' files."""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_name: str | None = None
    """Of a message of the role `tool`: the function whose result it is."""
    tool_call_id: str | None = None
    """And which call of it."""


@frozen(kw_only=True)
class Usage:
    """What an answer has cost."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    tokens_per_second: float | None = None
    """Of the completion."""
    total_seconds: float | None = None
    """From the request to the end of the answer."""
    load_seconds: float | None = None
    """Until the model was in memory."""
    prompt_seconds: float | None = None
    """To read the prompt."""
    completion_seconds: float | None = None
    """To write the answer."""
    details: Mapping[str, Any] = field(factory=dict)
    """What else the server counts, in its own words."""


@frozen(kw_only=True)
class ChatResult:
    """The answer to a chat."""

    model: str
    """The model that answered, by its own account."""
    message: Message
    """The whole message, however it was streamed."""
    finish_reason: str | None = None
    """Why it ended: `stop`, `length`, `tool_calls`, …"""
    usage: Usage = field(factory=Usage)
    extra: Mapping[str, Any] = field(factory=dict)
    """What else the server answered, in its own words: `logprobs`, …"""


@frozen(kw_only=True)
class GenerateResult:
    """The completion of a prompt."""

    model: str
    text: str
    thinking: str | None = None
    finish_reason: str | None = None
    usage: Usage = field(factory=Usage)
    extra: Mapping[str, Any] = field(factory=dict)
    """What else the server answered, in its own words: `context`, `logprobs`, …"""


@frozen(kw_only=True)
class EmbedResult:
    """Texts as vectors."""

    model: str
    embeddings: tuple[tuple[float, ...], ...]
    """One for each text, in their order."""
    usage: Usage = field(factory=Usage)


def conversation(messages: str | Sequence[Message | Mapping[str, Any]], system: str | None = None) -> list[Any]:
    """The messages of a chat, from a text or a list of them; `system` becomes the first one."""
    told = [{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages)
    return told if system is None else [{"role": "system", "content": system}, *told]


def parse_message(text: str) -> dict[str, str]:
    """A message from `role:content`; a text that begins with no role is the user's. InvalidTask if it is empty."""
    role, colon, content = text.partition(":")
    if not colon or role.strip().lower() not in ROLES:
        role, content = "user", text
    if not content.strip():
        raise InvalidTask("expected role:content, such as 'user:Why is the sky blue?'", "messages")
    return {"role": role.strip().lower(), "content": content.lstrip(" ")}
