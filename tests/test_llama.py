"""oq-openai against a real server: llama.cpp with a tiny model of random numbers (`make test-llama`).

It runs where `llama-cpp-python[server]` and `gguf` are installed, for this Python or the one that `LLAMA_PYTHON` names.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import trio

import oq
from oq.testing import virtual_queue

pytest.importorskip("oq_openai", reason="oq-openai is not installed")

from oq_openai import OpenAIExecutor, OpenAISettings, chat, embed, generate

PYTHON = os.environ.get("LLAMA_PYTHON") or sys.executable
PATIENCE = 60.0


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The file of a model of chance."""
    found = subprocess.run(
        [PYTHON, "-c", "import gguf, numpy, llama_cpp.server.app"], capture_output=True, text=True, check=False
    )
    if found.returncode:
        reason = found.stderr.strip().rpartition("\n")[2] or "it does not start"
        pytest.skip(f"no llama.cpp for {PYTHON} ({reason}); pip install 'llama-cpp-python[server]' gguf")
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    subprocess.run([PYTHON, Path(__file__).parent / "tiny_model.py", path], check=True)
    return path


@pytest.fixture(scope="module")
def url(model, tmp_path_factory):
    """The base URL of a llama.cpp that serves it."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
    options = {"model": model, "model_alias": "tiny", "host": "127.0.0.1", "port": port, "n_ctx": 512, "n_threads": 2}
    command = [
        PYTHON,
        "-m",
        "llama_cpp.server",
        *(part for key, value in options.items() for part in (f"--{key}", str(value))),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            printed = ""
            for line in process.stdout:
                printed += line
                if "running on" in line:
                    break
            else:
                pytest.fail(f"llama.cpp ends:\n{printed}")
            # from here on its output goes nowhere that would fill up
            subprocess.Popen(["cat"], stdin=process.stdout, stdout=subprocess.DEVNULL)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.kill()


@pytest.fixture
async def queue(url):
    with trio.fail_after(PATIENCE):
        async with virtual_queue(OpenAIExecutor(OpenAISettings(base_url=url))) as queue:
            yield queue


async def test_it_chats(queue):
    handle = await queue.submit(chat("tiny", "Hello", max_tokens=8, temperature=0, seed=1))
    async with handle.stream() as chunks:
        text = "".join([chunk.text async for chunk in chunks])
    task = await handle.wait()
    assert task.status is oq.Status.COMPLETED, task.failure
    assert task.result.message.content == text
    assert (task.result.model, task.result.finish_reason) == ("tiny", "length")


async def test_it_completes(queue):
    result = await (await queue.submit(generate("tiny", "Hello", max_tokens=8, temperature=0, logprobs=None))).result()
    assert result.finish_reason == "length"
    assert result.text


async def test_it_calls_a_tool(queue):
    schema = {"type": "object", "properties": {"sure": {"type": "boolean"}}, "required": ["sure"]}
    tool = {"type": "function", "function": {"name": "answer", "parameters": schema}}
    choice = {"type": "function", "function": {"name": "answer"}}
    spec = chat("tiny", "Sure?", tools=[tool], tool_choice=choice, max_tokens=200, temperature=0, seed=3)
    result = await (await queue.submit(spec)).result()
    [call] = result.message.tool_calls
    assert call.name == "answer"
    assert call.raw is not None or isinstance(call.arguments["sure"], bool)


async def test_what_it_refuses_is_not_tried_again(queue):
    task = await (await queue.submit(generate("tiny", "x" * 3000, best_of=2))).wait()  # not as a stream
    assert (task.status, task.attempt, task.failure.type) == (oq.Status.FAILED, 1, "BadRequest")
    assert "maximum context length is 512 tokens" in task.failure.message


async def test_an_error_that_it_swallows_in_a_stream_is_no_success(queue):
    task = await (await queue.submit(generate("tiny", "x" * 3000, retry=oq.NO_RETRY))).wait()
    assert (task.status, task.failure.type) == (oq.Status.FAILED, "BrokenAnswer")


async def test_what_it_cannot_do_is_told_in_its_words(queue):
    task = await (await queue.submit(embed("tiny", "Hello", retry=oq.NO_RETRY))).wait()
    assert "embedding=True" in task.failure.message


async def test_it_goes_on_after_a_cancel(queue):
    long = await queue.submit(chat("tiny", "Hello", max_tokens=400, temperature=0, extra={"ignore_eos": True}))
    async with long.stream() as chunks:
        await anext(chunks)
        await long.cancel()
    assert (await long.wait()).status is oq.Status.CANCELLED
    assert (await (await queue.submit(generate("tiny", "Hello", max_tokens=2))).wait()).status is oq.Status.COMPLETED
