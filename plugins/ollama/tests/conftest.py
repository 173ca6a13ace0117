import pytest

from oq import Registry
from oq.testing import virtual_queue
from oq_ollama import OllamaExecutor, OllamaSettings
from oq_ollama.testing import fake_ollama


@pytest.fixture
async def fake():
    """A simulated Ollama."""
    async with fake_ollama() as fake:
        yield fake


@pytest.fixture
def executor_with(fake):
    """Makes an executor for the simulated Ollama, with these settings."""

    def make(**settings):
        if "endpoints" not in settings:
            settings = {"host": fake.url, **settings}
        return OllamaExecutor(OllamaSettings(**settings), environ={})

    return make


@pytest.fixture
async def registry(executor_with):
    """An open registry whose executor asks the simulated Ollama."""
    registry = Registry([executor_with()])
    async with registry.opened():
        yield registry


@pytest.fixture
async def queue(executor_with):
    """A running queue in memory, on real time, whose executor asks the simulated Ollama."""
    async with virtual_queue(executor_with(), workers=4) as queue:
        yield queue
