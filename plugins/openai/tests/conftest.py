import os
from contextlib import asynccontextmanager

import pytest

import oq
from oq.testing import virtual_queue
from oq_openai import OpenAIExecutor, OpenAISettings
from oq_openai.settings import OpenAIEndpoint
from oq_openai.testing import fake_openai


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Nothing of the machine's: no keys, no addresses, no proxies."""
    for name in [*os.environ]:
        if name.startswith(("OPENAI_", "OQ_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    return monkeypatch


@pytest.fixture
async def fake():
    """A fake OpenAI that has every model."""
    async with fake_openai(models=("*",)) as fake:
        yield fake


@pytest.fixture
def endpoint():
    """Makes an endpoint of a fake, or of a URL."""
    return lambda fake, name, **fields: OpenAIEndpoint(
        name=name, url=fake if isinstance(fake, str) else fake.url, **fields
    )


@pytest.fixture
def executor_for(endpoint):
    """Makes an executor with the endpoints `a`, `b`, … for fakes; with one, `default`; or with endpoints as given."""

    def make(*fakes, **settings):
        if len(fakes) == 1 and not isinstance(fakes[0], OpenAIEndpoint):
            return OpenAIExecutor(OpenAISettings(base_url=fakes[0].url, **settings))
        named = [
            fake if isinstance(fake, OpenAIEndpoint) else endpoint(fake, name)
            for name, fake in zip("abcdef", fakes, strict=False)
        ]
        return OpenAIExecutor(OpenAISettings(endpoints=tuple(named), **settings))

    return make


@pytest.fixture
def opened(executor_for):
    """An open registry with an executor for these fakes."""

    @asynccontextmanager
    async def make(*fakes, **settings):
        registry = oq.Registry([executor_for(*fakes, **settings)])
        async with registry.opened():
            yield registry

    return make


@pytest.fixture
def queue_for(executor_for):
    """A running queue in memory with an executor for these fakes; `others` are further executors."""

    def make(*fakes, workers=8, others=(), **settings):
        return virtual_queue(executor_for(*fakes, **settings), *others, workers=workers)

    return make


@pytest.fixture
def chunks_of():
    """What a run emits, as pairs of kind and text or data."""

    async def stream(registry, spec):
        async with registry.stream(spec) as chunks:
            return [(str(chunk.kind), chunk.text or chunk.data) async for chunk in chunks]

    return stream


@pytest.fixture
def failure_of():
    """What a run raises."""

    async def run(registry, spec):
        with pytest.raises(oq.Steering) as raised:
            await registry.execute(spec)
        return raised.value

    return run
