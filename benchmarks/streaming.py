"""What the queue adds to a model's streamed answer: the same call through oq and made directly, in turns."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median

import httpx
import trio

import oq
from oq_ollama import chat

CHUNKS = 200
PACE = 0.001
"""Seconds between two chunks."""
ROUNDS = 30
MODEL = "qwen3"


@asynccontextmanager
async def simulated_ollama() -> AsyncIterator[str]:
    """The URL of a simulated Ollama in a process of its own, so that it takes no time of ours."""
    command = [sys.executable, "-m", "oq_ollama.testing", "--model", MODEL, "--pace", str(PACE)]
    with subprocess.Popen(  # noqa: ASYNC220  # nothing else is to run until it does
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[-1]
        finally:
            process.terminate()


async def streaming(directory: Path) -> dict[str, str]:
    """Time to the first chunk and in total, both ways."""
    prompt = " ".join(f"word{number}" for number in range(CHUNKS - 8))
    direct: list[tuple[float, float]] = []
    queued: list[tuple[float, float]] = []
    async with simulated_ollama() as url:
        settings = oq.Settings(sections={"ollama": {"host": url}})
        async with oq.open_queue(directory / "queue", settings=settings) as queue, httpx.AsyncClient() as client:
            for _ in range(ROUNDS):
                direct.append(await _directly(client, url, prompt))
                queued.append(await _through(queue, prompt))
    first, total = (median(times) for times in zip(*direct, strict=True))
    first_queued, total_queued = (median(times) for times in zip(*queued, strict=True))
    return {
        f"first of {CHUNKS} chunks, direct / queued, p50": f"{first * 1e3:.1f} / {first_queued * 1e3:.1f} ms",
        "  the queue adds": f"{(first_queued - first) * 1e3:.1f} ms",
        f"all of them, {PACE * 1e3:g} ms apart, p50": f"{total * 1e3:.0f} / {total_queued * 1e3:.0f} ms",
        "  the queue adds to the whole": f"{total_queued / total - 1:.1%}",
    }


async def _directly(client: httpx.AsyncClient, url: str, prompt: str) -> tuple[float, float]:
    start = time.perf_counter()
    first = None
    body = {"model": MODEL, "messages": [{"role": "user", "content": prompt}], "stream": True}
    async with client.stream("POST", f"{url}/api/chat", json=body, timeout=60) as response:
        async for line in response.aiter_lines():
            chunk = json.loads(line)
            first = first or time.perf_counter() - start
    assert chunk["done"]
    return first or 0.0, time.perf_counter() - start


async def _through(queue: oq.Queue, prompt: str) -> tuple[float, float]:
    """Up to the last chunk, as a reader sees them, and then the stored result."""
    start = time.perf_counter()
    first = None
    task = await queue.submit(chat(MODEL, prompt))
    async with task.stream() as chunks:
        async for _ in chunks:
            first = first or time.perf_counter() - start
    await task.result()
    await trio.lowlevel.checkpoint()
    return first or 0.0, time.perf_counter() - start
