"""The executor passes the contract of executors, with the fake OpenAI behind it."""

from contextlib import asynccontextmanager

import pytest

from oq.testing import ExecutorContract, ExecutorExamples
from oq_openai import OpenAIExecutor, OpenAISettings, chat, embed, generate
from oq_openai.testing import fake_openai, faults

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"properties": {"city": {"type": "string"}}}}}


class TestContract(ExecutorContract):
    entry_point = "openai"
    fake = None  # where nothing is run

    @asynccontextmanager
    async def surroundings(self, directory):
        async with fake_openai(models=("simulated", "stalled", "broken")) as self.fake:
            self.fake.set_model("stalled", faults.stall(after=2))
            self.fake.set_model("broken", faults.refuse(400, "This is refused."))
            yield

    def make_executor(self, directory):
        return OpenAIExecutor(OpenAISettings(base_url=self.fake and self.fake.url))

    def examples(self, directory):
        return ExecutorExamples(
            quick=chat("simulated", "Hello!"),
            others=[
                chat("simulated", [{"role": "user", "content": "The weather?"}], tools=[TOOL], tool_choice="required"),
                generate("simulated", "Once upon a time", max_tokens=3, temperature=0, stop=["x"], seed=1),
                generate("simulated", [1, 2, 3], best_of=2),
                embed("simulated", ["one", "two"], dimensions=4),
            ],
            streaming=chat("simulated", "Think about it", system="Be brief", reasoning_effort="low", logprobs=True),
            failing=chat("broken", "Hello!"),
            endless=chat("stalled", "Hello!"),
            bad_payloads=[
                ("chat", {"model": "simulated"}, "payload.messages"),
                ("chat", {"model": "simulated", "messages": []}, "payload.messages"),
                ("chat", {"model": "m", "messages": [{"role": "boss"}]}, "payload.messages[0].role"),
                ("chat", {"model": "m", "messages": [{"role": "user"}]}, "payload.messages[0].content"),
                ("generate", {"model": "m", "prompt": "x", "temperature": "hot"}, "payload.temperature"),
                ("embed", {"model": "m", "input": [1, "x"]}, "payload.input"),
                ("embed", {"model": "m", "input": "x", "endpoint": "nowhere"}, "payload.endpoint"),
            ],
        )


@pytest.mark.parametrize("module", ["oq_openai.http", "httpx"])
def test_loading_the_plugin_loads_nothing_that_only_a_run_needs(module):
    import subprocess
    import sys

    code = f"import sys, oq_openai; oq_openai.OpenAIExecutor(); sys.exit({module!r} in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
