"""A fake OpenAI for tests and for trying things out: the real protocol over a real socket, with simulated answers.

    from oq_openai.testing import fake_openai, faults

    async with fake_openai() as fake:
        settings = OpenAISettings(base_url=fake.url)
        fake.script(faults.cut(after=3))  # the next stream breaks off

It serves `/v1/chat/completions`, `/v1/completions`, `/v1/embeddings` and `/v1/models`, streamed and not, with tools,
logprobs, several choices, response formats and usage. The same request always has the same answer, which says that it
is simulated; a tool is called where `tool_choice` says so, or the last message has its name in it. What was asked, and
when a client went away, is in `fake.asked`. As a command: `python -m oq_openai.testing --port 8000`.
"""

from __future__ import annotations

from oq_openai.testing import faults
from oq_openai.testing.faults import Exchange, Fault
from oq_openai.testing.server import FakeOpenAI, RateLimit, fake_openai
from oq_openai.testing.simulation import Reply

__all__ = ["Exchange", "FakeOpenAI", "Fault", "RateLimit", "Reply", "fake_openai", "faults"]
