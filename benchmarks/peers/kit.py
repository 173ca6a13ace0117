"""What every driver shares; only the standard library, because each driver runs in its peer's own environment."""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Never

Figures = dict[str, float | int | str]

WARM_UP = 20
"""Round trips before the ones that count."""
SLOTS = 4
"""How many tasks a worker runs at once while the pick-up is measured."""
LOW_TASK = 0.02
"""Seconds that a task of the backlog sleeps on average, so that it keeps all slots busy and outlasts the samples."""
BETWEEN = 0.05
"""Seconds between two critical tasks."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a driver is told."""

    place: Path
    """A directory of this measurement's own, empty at its beginning."""
    server: str
    """The socket (Redis) or its directory (PostgreSQL); empty for those that need no server."""
    tasks: int
    samples: int
    variant: str
    """Which of its settings, where the driver has several."""

    @property
    def starts(self) -> str:
        """The file in which critical tasks note when they began."""
        return str(self.place / "starts")


Phase = Callable[[Options], Figures | None]


def run(*functions: Phase) -> Never:
    """Run the function that the command line names, and print its figures as one JSON object."""
    phases = {function.__name__: function for function in functions}
    parser = argparse.ArgumentParser()
    parser.add_argument("phase", choices=list(phases))
    parser.add_argument("--place", type=Path, default=Path())
    parser.add_argument("--server", default="")
    parser.add_argument("--tasks", type=int, default=0)
    parser.add_argument("--samples", type=int, default=0)
    parser.add_argument("--variant", default="")
    given = vars(parser.parse_args())
    phase = phases[given.pop("phase")]
    finish(phase(Options(**given)) or {})


def prepare(_: Options) -> None:
    """What a driver does first on a fresh server, where it has nothing to do."""


def finish(figures: Figures) -> Never:
    """Print the figures and end the process at once: the workers of some peers hold up an ordinary exit for seconds."""
    print(json.dumps(figures), flush=True)
    os._exit(0)


async def finishing(measure: Coroutine[Any, Any, Figures]) -> Never:
    """The same for a measurement whose worker would not let the event loop end."""
    finish(await measure)


def for_ever() -> Never:
    """What a worker does whose threads do the work; the run ends it by a signal."""
    while True:
        time.sleep(3_600)


def versions(*distributions: str) -> str:
    """`huey 3.5.4, redis 8.1.0`."""
    return ", ".join(f"{name} {version(name)}" for name in distributions)


def wait_until(true: Callable[[], bool], every: float = 0.005) -> None:
    """Return once `true()` is; the run's time limit ends what never is."""
    while not true():
        time.sleep(every)


# Rates


def rate(number: int, start: float) -> Figures:
    """So many since `start`, a moment of `time.perf_counter`."""
    seconds = time.perf_counter() - start
    return {"per_second": number / seconds, "seconds": seconds}


def in_threads(submit: Callable[[int], object], number: int, threads: int) -> None:
    """Call `submit` for each number, from so many threads, for peers whose client blocks."""

    def some(first: int) -> None:
        for index in range(first, number, threads):
            submit(index)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(some, range(threads)))


# Round trips


def spread(times: list[float]) -> Figures:
    """Median and 99th percentile of these seconds, in milliseconds."""
    return {"p50_ms": median(times) * 1e3, "p99_ms": quantiles(times, n=100)[98] * 1e3, "samples": len(times)}


def measure_round_trips(once: Callable[[int], object], samples: int) -> Figures:
    """Call `once`, which submits a task and waits for its result, so many times after a warm-up."""
    times = []
    for index in range(-WARM_UP, samples):
        start = time.perf_counter()
        once(index)
        times.append(time.perf_counter() - start)
    return spread(times[WARM_UP:])


async def measure_round_trips_async(once: Callable[[int], Awaitable[object]], samples: int) -> Figures:
    """The same for a client of asyncio or trio."""
    times = []
    for index in range(-WARM_UP, samples):
        start = time.perf_counter()
        await once(index)
        times.append(time.perf_counter() - start)
    return spread(times[WARM_UP:])


# The pick-up of critical tasks; all processes of a machine share the clock


def nap_time() -> float:
    """Seconds that a task of the backlog sleeps; they differ, or slots that started together would stay in step."""
    return random.uniform(0.5, 1.5) * LOW_TASK


def note_start(path: str, index: int) -> None:
    """Called by a critical task when it begins."""
    with Path(path).open("a") as file:
        file.write(f"{index} {time.monotonic()}\n")


def measure_pick_up(urgent: Callable[[int], object], options: Options) -> Figures:
    """Submit a critical task every BETWEEN seconds; how long each took from that call to its beginning."""
    submitted = []
    for index in range(options.samples):
        submitted.append(time.monotonic())
        urgent(index)
        time.sleep(BETWEEN)
    return _picked_up(options, submitted)


async def measure_pick_up_async(
    urgent: Callable[[int], Awaitable[object]], sleep: Callable[[float], Awaitable[object]], options: Options
) -> Figures:
    """The same for a client of asyncio or trio."""
    submitted = []
    for index in range(options.samples):
        submitted.append(time.monotonic())
        await urgent(index)
        await sleep(BETWEEN)
    return _picked_up(options, submitted)


def _picked_up(options: Options, submitted: list[float]) -> Figures:
    starts = Path(options.starts)

    def noted() -> list[list[str]]:
        return [line.split() for line in starts.read_text().splitlines()] if starts.exists() else []

    wait_until(lambda: len(noted()) >= len(submitted), every=0.02)
    began = {int(index): float(at) for index, at in noted()}
    return spread([began[index] - at for index, at in enumerate(submitted)])
