"""A simulated Ollama for tests: it speaks the real protocol over a real socket, and no model is behind it.

    async with fake_ollama(models=["qwen3", "llama3.2"]) as fake:
        executor = OllamaExecutor(OllamaSettings(host=fake.url))
        …
        assert fake.loads == ["qwen3"]

It answers at once and always the same, in words that say that they are simulated. Like a real server, it keeps one
model loaded (`loaded_at_once`), works on one request of it at a time (`parallel`), lets the others wait, and says 503
when too many do (`max_queue`). `fake.fail(cut(after=2))` makes the next request fail; see `Fault`. What it was asked,
what it loaded and who hung up is in `fake.requests`, `fake.loads` and `FakeRequest`. `await fake.until(…)` waits for
any of that.

As a command, for other programs: `python -m oq_ollama.testing --port 11434 --model qwen3`. Needs the extra `testing`
(`pip install oq-ollama[testing]`).
"""

from __future__ import annotations

from oq_ollama.testing.behaviour import FakeModel
from oq_ollama.testing.faults import (
    Fault,
    bad_line,
    busy,
    cut,
    ends_early,
    error_line,
    missing,
    refused,
    stall,
)
from oq_ollama.testing.server import FakeOllama, FakeRequest, fake_ollama

__all__ = [
    "FakeModel",
    "FakeOllama",
    "FakeRequest",
    "Fault",
    "bad_line",
    "busy",
    "cut",
    "ends_early",
    "error_line",
    "fake_ollama",
    "missing",
    "refused",
    "stall",
]
