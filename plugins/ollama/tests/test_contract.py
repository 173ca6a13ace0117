"""What every executor does, this one does too, asking a simulated Ollama."""

from contextlib import asynccontextmanager

from oq.testing import ExecutorContract, ExecutorExamples
from oq_ollama import OllamaEndpoint, OllamaExecutor, OllamaSettings, chat, embed, generate
from oq_ollama.testing import fake_ollama, stall


class TestOllama(ExecutorContract):
    entry_point = "ollama"
    url = "http://127.0.0.1:11434"

    @asynccontextmanager
    async def surroundings(self, directory):
        models = ["qwen3", "llama3.2", "endless"]
        async with fake_ollama(models, parallel=100, loaded_at_once=3) as fake:
            fake.fail(stall(after=1), model="endless", times=None)
            self.url = fake.url
            yield

    def make_executor(self, directory):
        endpoint = OllamaEndpoint(name="local", url=self.url, concurrency=8)
        return OllamaExecutor(OllamaSettings(endpoints=(endpoint,)))

    def examples(self, directory):
        return ExecutorExamples(
            quick=chat("qwen3", "hi"),
            others=[generate("llama3.2", "hi"), embed("qwen3", ["a", "b"]), chat("qwen3", [], keep_alive="5m")],
            streaming=chat("qwen3", "hi", think=True, options={"seed": 1}),
            failing=chat("no-such-model", "hi"),
            endless=chat("endless", "hi"),
            bad_payloads=[
                ("chat", {"model": "a b", "messages": []}, "payload.model"),
                ("chat", {"model": "a", "messages": [{"role": "x"}]}, "payload.messages[0].role"),
                ("chat", {"model": "a", "messages": [], "options": {"num_ctx": "4k"}}, "payload.options.num_ctx"),
                ("generate", {"model": "a", "images": ["?"]}, "payload.images[0]"),
                ("embed", {"model": "a", "input": []}, "payload.input"),
            ],
        )
