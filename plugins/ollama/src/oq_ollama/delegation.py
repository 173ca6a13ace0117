"""Tasks for Ollama in the words of the executor `openai`, for endpoints that it serves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from oq import (
    ChatResult,
    Context,
    EndpointFault,
    GenerateResult,
    InvalidTask,
    Message,
    PermanentError,
    RetryableError,
    RetryLater,
    UnknownAction,
    UnknownExecutor,
    Verdict,
)
from oq_ollama.payload import ChatPayload, EmbedPayload, Format, GeneratePayload, Payload
from oq_ollama.settings import OllamaEndpoint

EXECUTOR: Final = "openai"

_SAME: Final = ("temperature", "top_p", "seed", "presence_penalty", "frequency_penalty")
"""Options that have the same name and meaning there."""
_ONLY_OLLAMA: Final = ("template", "context", "width", "height", "steps")
"""Fields that have no equivalent there, and without which the answer would be another one."""


async def delegate(endpoint: OllamaEndpoint, payload: Payload, ctx: Context) -> Any:
    """The result of the task at an endpoint of the executor `openai`, of the class that Ollama's would have.

    Raises PermanentError when that cannot be done, and EndpointFault when another endpoint may do better.
    """
    lost = [name for name in _ONLY_OLLAMA if getattr(payload, name, None)]
    if lost:
        raise PermanentError(
            f"endpoint {endpoint.name!r} is of the kind openai, which knows no {' and no '.join(lost)}",
            type="NotSupported",
        )
    action, told = translated(payload, endpoint.endpoint)
    try:
        result = await ctx.delegate(EXECUTOR, action, told)
    except UnknownExecutor:
        raise PermanentError(
            f"endpoint {endpoint.name!r} is of the kind openai, but that executor is not installed; "
            "run `pip install oq-openai`",
            type="NotInstalled",
        ) from None
    except (InvalidTask, UnknownAction) as error:
        raise PermanentError(f"the executor openai cannot do it: {error}", type=type(error).__name__) from error
    except RetryLater as error:
        raise EndpointFault(Verdict.BUSY, error, rest=error.after) from error
    except RetryableError as error:
        raise EndpointFault(Verdict.FAILED, error) from error
    finally:
        ctx.executed_on = endpoint.name
    return _completion(result) if isinstance(payload, GeneratePayload) and isinstance(result, ChatResult) else result


def translated(payload: Payload, endpoint: str) -> tuple[str, dict[str, Any]]:
    """The action and the payload by which the executor `openai` does the same at its `endpoint`.

    A prompt becomes a message of the user, as Ollama's template makes one of it; only a raw one, or one with a suffix,
    is a completion there. Options that have no equivalent (`num_ctx`, `top_k`, …) are left out, as are `think = true`,
    `keep_alive`, `truncate` and `shift`.
    """
    told: dict[str, Any] = {"model": payload.model, "endpoint": endpoint}
    if isinstance(payload, EmbedPayload):
        return "embed", _what_is_set(told | {"input": payload.input, "dimensions": payload.dimensions})
    told |= _sampling(payload.options) | {"response_format": _response_format(payload.format)}
    if isinstance(payload, GeneratePayload) and (payload.raw or payload.suffix is not None):
        return "generate", _what_is_set(told | {"prompt": payload.prompt, "suffix": payload.suffix})
    told |= {
        "logprobs": payload.logprobs,
        "top_logprobs": payload.top_logprobs if payload.logprobs else None,
        "reasoning_effort": payload.think if isinstance(payload.think, str) else None,
    }
    if isinstance(payload, ChatPayload):
        return "chat", _what_is_set(told | {"messages": _messages(payload.messages), "tools": payload.tools or None})
    system = () if payload.system is None else (Message(role="system", content=payload.system),)
    user = Message(role="user", content=payload.prompt, images=payload.images)
    return "chat", _what_is_set(told | {"messages": _messages((*system, user))})


def _completion(result: ChatResult) -> GenerateResult:
    return GenerateResult(
        model=result.model,
        text=result.message.content,
        thinking=result.message.thinking,
        finish_reason=result.finish_reason,
        usage=result.usage,
        extra=result.extra,
    )


def _sampling(options: Mapping[str, Any]) -> dict[str, Any]:
    told = {name: options.get(name) for name in (*_SAME, "stop")}
    limit = options.get("num_predict")
    return told | {"max_tokens": limit if isinstance(limit, int) and limit > 0 else None}


def _response_format(wanted: Format) -> dict[str, Any] | None:
    if wanted is None:
        return None
    if wanted == "json":
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": wanted}}


def _messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The messages, with an id for each call that has none, as only that tells there which result is whose."""
    told: list[dict[str, Any]] = []
    open_calls: list[tuple[str, str]] = []
    for message in messages:
        if message.tool_calls:
            calls = [
                call if call.id else attrs.evolve(call, id=f"call_{len(told)}_{number}")
                for number, call in enumerate(message.tool_calls)
            ]
            open_calls = [(call.name, call.id or "") for call in calls]
            message = attrs.evolve(message, tool_calls=tuple(calls))  # noqa: PLW2901  # the same, completed
        elif message.role == "tool" and message.tool_call_id is None and open_calls:
            names = [name for name, _ in open_calls]
            place = names.index(message.tool_name) if message.tool_name in names else 0
            message = attrs.evolve(message, tool_call_id=open_calls.pop(place)[1])  # noqa: PLW2901  # likewise
        told.append(_what_is_set(attrs.asdict(message)))
    return told


def _what_is_set(told: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in told.items() if value is not None and value != ()}
