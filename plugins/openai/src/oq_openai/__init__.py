"""oq-openai: the executor `openai`, which asks models by the OpenAI protocol."""

from __future__ import annotations

from collections.abc import Sequence

from oq import Executor, Settings, hookimpl
from oq_openai._version import __version__
from oq_openai.executor import OpenAIExecutor
from oq_openai.payload import CalledTool, ChatMessage, ChatPayload, EmbedPayload, GeneratePayload
from oq_openai.settings import OpenAIEndpoint, OpenAISettings
from oq_openai.specs import chat, embed, generate

__all__ = [
    "CalledTool",
    "ChatMessage",
    "ChatPayload",
    "EmbedPayload",
    "GeneratePayload",
    "OpenAIEndpoint",
    "OpenAIExecutor",
    "OpenAISettings",
    "__version__",
    "chat",
    "embed",
    "generate",
]


@hookimpl
def oq_executors(settings: Settings) -> Sequence[Executor]:
    """The executor, with the table `[openai]`."""
    return [OpenAIExecutor(settings.section("openai", OpenAISettings))]
