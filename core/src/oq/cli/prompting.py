"""`oq submit chat`, `generate` and `embed`: work for a language model, whichever executor serves it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import attrs
import click

from oq.cli.session import Session
from oq.cli.submitting import SubmitOptions, read_standard_input, submit_options
from oq.config import read_text
from oq.errors import InvalidTask
from oq.models import EXECUTORS, conversation, parse_message
from oq.registry import Registry
from oq.task import TaskSpec

F = TypeVar("F", bound=Callable[..., Any])

_MODEL_OPTIONS = (
    click.option("--model", required=True, metavar="NAME", help="Which model is to answer."),
    click.option("--file", "file", metavar="FILE", help="The text, from a file; - reads what is piped in."),
    click.option("--option", metavar="NAME=VALUE", multiple=True, help="Such as num_ctx=8192; repeatable."),
    click.option("--set", "fields", metavar="FIELD=VALUE", multiple=True, help="Any other field of the payload."),
    click.option("--executor", metavar="NAME", help="Who asks the model.  [default: the first one installed]"),
)

_SYSTEM = click.option("--system", metavar="TEXT", help="What the model is told first.")
_IMAGE = click.option("--image", "images", metavar="FILE", multiple=True, help="An image to look at; repeatable.")
_FORMAT = click.option("--format", "form", metavar="json|@SCHEMA", help="The form of the answer: JSON, or by a schema.")


def _model_options(command: F) -> F:
    for option in reversed(_MODEL_OPTIONS):
        command = option(command)
    return command


@click.command("chat")
@_model_options
@click.option(
    "--message", "--messages", "message", metavar="[ROLE:]TEXT", multiple=True, help="user:… by default; repeatable."
)
@_SYSTEM
@_IMAGE
@_FORMAT
@click.argument("text", required=False)
@submit_options
def chat(
    *,
    options: SubmitOptions,
    message: tuple[str, ...],
    text: str | None,
    file: str | None,
    system: str | None,
    images: tuple[str, ...],
    **common: Any,
) -> None:
    """Let a model answer the last message of a conversation.

    The messages are those of --message in their order, and then TEXT or the --file, as the user's.
    """
    messages: list[Any] = [parse_message(each) for each in message]
    asked = _text(text, file)
    if asked is not None:
        messages.append({"role": "user", "content": asked})
    if not messages:
        raise click.UsageError("give a text, --message or --file")
    if images:
        messages[-1]["images"] = _images(images)
    _submit(options, "chat", {"messages": conversation(messages, system)}, **common)


@click.command("generate")
@_model_options
@click.option("--prompt", metavar="TEXT", help="What is to be continued; the other way to give TEXT.")
@_SYSTEM
@_IMAGE
@_FORMAT
@click.argument("text", required=False)
@submit_options
def generate(
    *,
    options: SubmitOptions,
    prompt: str | None,
    text: str | None,
    file: str | None,
    system: str | None,
    images: tuple[str, ...],
    **common: Any,
) -> None:
    """Let a model continue a text."""
    if prompt is not None and text is not None:
        raise click.UsageError("give the text or --prompt, not both")
    asked = _text(text if prompt is None else prompt, file)
    if asked is None:
        raise click.UsageError("give a text, --prompt or --file")
    payload: dict[str, Any] = {"prompt": asked}
    if system is not None:
        payload["system"] = system
    if images:
        payload["images"] = _images(images)
    _submit(options, "generate", payload, **common)


@click.command("embed")
@_model_options
@click.option("--input", "inputs", metavar="TEXT", multiple=True, help="A text to embed; repeatable.")
@click.argument("text", required=False)
@submit_options
def embed(
    *, options: SubmitOptions, inputs: tuple[str, ...], text: str | None, file: str | None, **common: Any
) -> None:
    """Turn texts into vectors."""
    asked = _text(text, file)
    texts = [*inputs, *([] if asked is None else [asked])]
    if not texts:
        raise click.UsageError("give a text, --input or --file")
    _submit(options, "embed", {"input": texts}, form=None, **common)


def _submit(
    options: SubmitOptions,
    action: str,
    payload: dict[str, Any],
    *,
    model: str,
    option: tuple[str, ...],
    fields: tuple[str, ...],
    executor: str | None,
    form: str | None,
) -> None:
    registry = Registry(options.session.plugins.executors(options.session.settings))
    executor = executor or _model_executor(registry, options.session, action)
    known = {field.name for field in attrs.fields(registry.action(executor, action).payload)}
    payload["model"] = model
    if form is not None:
        payload |= _form(form, known)
    wanted = dict(_pair("--option", each) for each in option)
    if wanted:  # a server that takes the model's options among its own fields has no field for them
        payload |= {"options": wanted} if "options" in known else wanted
    payload |= dict(_pair("--set", each) for each in fields)
    options.submit(TaskSpec(executor=executor, action=action, payload=payload))


def _model_executor(registry: Registry, session: Session, action: str) -> str:
    """The first executor that asks models."""
    for name in EXECUTORS:
        if name in registry:
            return name
    for info in registry.list():
        if action in info.actions:
            return info.name
    package = f"oq-{EXECUTORS[0]}"
    if any(info.distribution == package and not info.enabled for info in session.plugins.infos()):
        raise click.UsageError(
            f"'submit {action}' comes from {package}, which is disabled by OQ_DISABLED_PLUGINS or the settings"
        )
    raise click.UsageError(f"'submit {action}' comes from {package}, which is not installed; try pip install {package}")


def _text(text: str | None, file: str | None) -> str | None:
    """What the model is given, as an argument or from a file; a lone `-` is what is piped in."""
    if text is not None and file is not None:
        raise click.UsageError("give the text or --file, not both")
    try:
        if file is not None and file != "-":
            text = read_text(Path(file))
        elif "-" in (text, file):
            text = read_standard_input()
    except ValueError as error:
        raise InvalidTask(str(error), "--file") from None
    if text is not None and not text.strip():
        raise click.UsageError("the text is empty")
    return text


def _images(files: tuple[str, ...]) -> list[str]:
    images = []
    for file in files:
        try:
            images.append(base64.b64encode(Path(file).read_bytes()).decode())
        except OSError as error:
            raise InvalidTask(f"{file} cannot be read: {error.strerror}", "--image") from None
    return images


def _form(form: str, known: set[str]) -> dict[str, Any]:
    """The field that asks for an answer in JSON, in the words of the executor."""
    schema: Any = None
    if form.startswith("@"):
        try:
            schema = json.loads(read_text(Path(form[1:])))
        except ValueError as error:
            raise InvalidTask(str(error), "--format") from None
    elif form != "json":
        raise click.BadParameter(
            f"{form!r} is neither json nor @ and the name of a schema's file", param_hint="--format"
        )
    if "format" in known:
        return {"format": "json" if schema is None else schema}
    if schema is None:
        return {"response_format": {"type": "json_object"}}
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}}


def _pair(option: str, text: str) -> tuple[str, Any]:
    """NAME=VALUE, the value as JSON where it is that, and else as the text that it is."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint=option)
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
