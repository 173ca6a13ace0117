"""Tasks of this executor, made in one call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from oq import Message, TaskSpec, conversation
from oq_openai.executor import EXECUTOR_NAME
from oq_openai.payload import ChatMessage, ChatPayload, EmbedPayload, GeneratePayload

_OF_THE_TASK = frozenset(field.name for field in attrs.fields(TaskSpec)) - {"executor", "action", "payload"}


def chat(
    model: str,
    messages: str | Sequence[ChatMessage | Message | Mapping[str, Any]],
    *,
    system: str | None = None,
    **options: Any,
) -> TaskSpec:
    """The task of answering a conversation: `chat("gpt-5", "Hello!", temperature=0.5, priority="high")`.

    A text is what the user says. `options` are fields of `ChatPayload` and of `oq.TaskSpec`; `metadata` is the task's.
    Whether they are good is checked at submit. Raises TypeError for a name that is neither's.
    """
    told = [_as_mapping(message) for message in conversation(messages, system)]  # type: ignore[arg-type]  # it passes on what it is given
    return _spec("chat", ChatPayload, {"model": model, "messages": told}, options)


def generate(model: str, prompt: str | Iterable[int], **options: Any) -> TaskSpec:
    """The task of completing a text: `generate("local", "Once upon a time", max_tokens=100)`.

    `options` are fields of `GeneratePayload` and of `oq.TaskSpec`, as for `chat`.
    """
    given = prompt if isinstance(prompt, str) else list(prompt)
    return _spec("generate", GeneratePayload, {"model": model, "prompt": given}, options)


def embed(model: str, input: str | Iterable[str | int | Sequence[int]], **options: Any) -> TaskSpec:
    """The task of turning texts into vectors: `embed("text-embedding-3-small", ["one text", "another"])`.

    `options` are fields of `EmbedPayload` and of `oq.TaskSpec`, as for `chat`.
    """
    given = input if isinstance(input, str) else list(input)
    return _spec("embed", EmbedPayload, {"model": model, "input": given}, options)


def _spec(action: str, payload: type[Any], given: dict[str, Any], options: Mapping[str, Any]) -> TaskSpec:
    known = {field.name for field in attrs.fields(payload)}
    for name in options:
        if name not in known | _OF_THE_TASK or name in given:
            raise TypeError(f"{action}() got an unexpected keyword argument {name!r}")
    given |= {name: value for name, value in options.items() if name not in _OF_THE_TASK}
    own = {name: value for name, value in options.items() if name in _OF_THE_TASK}
    return TaskSpec(executor=EXECUTOR_NAME, action=action, payload=given, **own)


def _as_mapping(message: object) -> object:
    """A message as a mapping of what it says."""
    if isinstance(message, ChatMessage | Message):
        said = attrs.asdict(message)
        return {name: value for name, value in said.items() if value not in (None, (), [], {})}
    return message
