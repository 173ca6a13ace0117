"""oq-ollama: the executor `ollama`, which asks models of Ollama servers."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from oq import Executor, Settings, hookimpl
from oq_ollama._version import __version__
from oq_ollama.executor import OllamaExecutor
from oq_ollama.host import parse_host
from oq_ollama.payload import ChatPayload, EmbedPayload, GeneratePayload, Options
from oq_ollama.settings import OllamaEndpoint, OllamaSettings
from oq_ollama.specs import chat, embed, generate

__all__ = [
    "ChatPayload",
    "EmbedPayload",
    "GeneratePayload",
    "OllamaEndpoint",
    "OllamaExecutor",
    "OllamaSettings",
    "Options",
    "__version__",
    "chat",
    "embed",
    "generate",
    "parse_host",
]

log = logging.getLogger(__name__)


@hookimpl
def oq_executors(settings: Settings) -> Sequence[Executor]:
    """The executor, with the table `[ollama]`."""
    own = settings.section("ollama", OllamaSettings)
    if any(endpoint.kind == "openai" and endpoint.enabled for endpoint in own.endpoints):
        _warn_without_openai(settings)
    return [OllamaExecutor(own)]


def _warn_without_openai(settings: Settings) -> None:
    """Tell that tasks would wait for ever for an executor that is not installed."""
    from importlib.metadata import entry_points

    if "openai" in settings.plugins.disabled or not entry_points(group="oq", name="openai"):
        log.warning("endpoints of the kind openai take no tasks without that executor; run `pip install oq-openai`")
