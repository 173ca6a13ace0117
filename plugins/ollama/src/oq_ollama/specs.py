"""Tasks of this executor, made in one call."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from oq import Message, TaskSpec, conversation
from oq_ollama.payload import ChatPayload, EmbedPayload, Format, GeneratePayload, KeepAlive, Options, Think

EXECUTOR_NAME: Final = "ollama"

Image = str | bytes | os.PathLike[str]
"""The base64 of an image's file, its content, or its path."""


def chat(
    model: str,
    messages: str | Sequence[Message | Mapping[str, Any]],
    *,
    system: str | None = None,
    images: Iterable[Image] = (),
    tools: Iterable[Mapping[str, Any]] = (),
    format: Format = None,
    options: Options | Mapping[str, Any] | None = None,
    think: Think = None,
    keep_alive: KeepAlive = None,
    truncate: bool | None = None,
    shift: bool | None = None,
    logprobs: bool | None = None,
    top_logprobs: int | None = None,
    remote_execution: bool = False,
    **fields: Any,
) -> TaskSpec:
    """The task of answering in a conversation: `chat("qwen3", "Hello!", options={"seed": 1}, priority="high")`.

    `messages` is what the user says, or a list of messages; `system` becomes the first one, and `images` go to the
    last. `fields` are those of `oq.TaskSpec`. Whether all of it makes sense is checked at submit.
    """
    told = conversation(messages, system)
    if pictures := tuple(map(encode_image, images)):
        if not told:
            raise ValueError("images need a message that they go with")
        last = told[-1]
        if isinstance(last, Message):
            told[-1] = attrs.evolve(last, images=(*last.images, *pictures))
        else:
            told[-1] = {**last, "images": (*last.get("images", ()), *pictures)}
    payload = ChatPayload(
        model=model,
        messages=tuple(told),
        tools=tuple(tools),
        format=format,
        options=options_mapping(options),
        think=think,
        keep_alive=keep_alive,
        truncate=truncate,
        shift=shift,
        logprobs=logprobs,
        top_logprobs=top_logprobs,
        remote_execution=remote_execution,
    )
    return TaskSpec(executor=EXECUTOR_NAME, action="chat", payload=payload, **fields)


def generate(
    model: str,
    prompt: str,
    *,
    suffix: str | None = None,
    system: str | None = None,
    template: str | None = None,
    context: Iterable[int] = (),
    raw: bool | None = None,
    format: Format = None,
    images: Iterable[Image] = (),
    options: Options | Mapping[str, Any] | None = None,
    think: Think = None,
    keep_alive: KeepAlive = None,
    truncate: bool | None = None,
    shift: bool | None = None,
    logprobs: bool | None = None,
    top_logprobs: int | None = None,
    width: int | None = None,
    height: int | None = None,
    steps: int | None = None,
    remote_execution: bool = False,
    **fields: Any,
) -> TaskSpec:
    """The task of completing a prompt: `generate("qwen3", "Once upon a time", options={"num_predict": 50})`.

    `fields` are those of `oq.TaskSpec`. Whether all of it makes sense is checked at submit.
    """
    payload = GeneratePayload(
        model=model,
        prompt=prompt,
        suffix=suffix,
        system=system,
        template=template,
        context=tuple(context),
        raw=raw,
        format=format,
        images=tuple(map(encode_image, images)),
        options=options_mapping(options),
        think=think,
        keep_alive=keep_alive,
        truncate=truncate,
        shift=shift,
        logprobs=logprobs,
        top_logprobs=top_logprobs,
        width=width,
        height=height,
        steps=steps,
        remote_execution=remote_execution,
    )
    return TaskSpec(executor=EXECUTOR_NAME, action="generate", payload=payload, **fields)


def embed(
    model: str,
    input: str | Iterable[str],
    *,
    truncate: bool | None = None,
    dimensions: int | None = None,
    options: Options | Mapping[str, Any] | None = None,
    keep_alive: KeepAlive = None,
    remote_execution: bool = False,
    **fields: Any,
) -> TaskSpec:
    """The task of making vectors of texts: `embed("nomic-embed-text", ["one", "two"])`.

    `fields` are those of `oq.TaskSpec`. Whether all of it makes sense is checked at submit.
    """
    payload = EmbedPayload(
        model=model,
        input=input if isinstance(input, str) else tuple(input),
        truncate=truncate,
        dimensions=dimensions,
        options=options_mapping(options),
        keep_alive=keep_alive,
        remote_execution=remote_execution,
    )
    return TaskSpec(executor=EXECUTOR_NAME, action="embed", payload=payload, **fields)


def options_mapping(options: Options | Mapping[str, Any] | None) -> dict[str, Any]:
    """The options as the payload has them, without those that are not set."""
    if isinstance(options, Options):
        options = {name: value for name, value in attrs.asdict(options, recurse=False).items() if value is not None}
    return {
        name: list(value) if isinstance(value, tuple) else value  # as they come back from the store
        for name, value in (options or {}).items()
    }


def encode_image(image: Image) -> str:
    """The base64 of an image; a text is taken for that already. Raises OSError when a file cannot be read."""
    if isinstance(image, str):
        return image
    return base64.b64encode(image if isinstance(image, bytes) else Path(image).read_bytes()).decode("ascii")
