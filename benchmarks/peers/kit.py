"""What every driver shares; only the standard library, because each driver runs in its peer's own environment."""

from __future__ import annotations

import argparse
import json
import os
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
LOW_TASK = 0.02
"""Seconds that each task of the backlog sleeps, so that the backlog outlasts the samples."""
BETWEEN = 0.05
"""Seconds between two critical tasks."""
PICK_UP_SLOTS = 4


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a driver is told."""

    place: Path
    """An empty directory of this measurement's own."""
    server: str
    """The socket (Redis) or its directory (PostgreSQL); empty for those that need no server."""
    tasks: int
    samples: int
    variant: str
    """Which of the driver's settings, where it has several."""

    @property
    def starts(self) -> Path:
        """The file in which critical tasks note when they began."""
        return self.place / "starts"


Phase = Callable[[Options], Figures | None]


def run(*functions: Phase) -> None:
    """Run the phase that the command line names and print its figures as one JSON object."""
    phases = {function.__name__: function for function in functions}
    parser = argparse.ArgumentParser()
    parser.add_argument("phase", choices=list(phases))
    parser.add_argument("--place", type=Path, required=True)
    parser.add_argument("--server", default="")
    parser.add_argument("--tasks", type=int, default=0)
    parser.add_argument("--samples", type=int, default=0)
    parser.add_argument("--variant", default="")
    given = vars(parser.parse_args())
    phase = phases[given.pop("phase")]
    finish(phase(Options(**given)) or {})


def finish(figures: Figures) -> Never:
    """Print the figures and end the process at once: the workers of some peers hold up an ordinary exit for seconds."""
    print(json.dumps(figures), flush=True)
    os._exit(0)


def versions(*distributions: str) -> str:
    """`huey 3.5.4, redis 8.1.0`."""
    return ", ".join(f"{name} {version(name)}" for name in distributions)


def rate(number: int, start: float) -> Figures:
    """So many since `start`, a `time.perf_counter`."""
    seconds = time.perf_counter() - start
    return {"per_second": number / seconds, "seconds": seconds}


def spread(times: list[float]) -> Figures:
    """Median and 99th percentile of these seconds, in milliseconds."""
    return {"p50_ms": median(times) * 1e3, "p99_ms": quantiles(times, n=100)[98] * 1e3, "samples": len(times)}


def in_threads(submit: Callable[[int], object], number: int, threads: int) -> None:
    """Call `submit` for each number, from so many threads, for peers whose client blocks."""
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(_some, submit, range(first, number, threads)) for first in range(threads)]:
            done.result()


def _some(submit: Callable[[int], object], numbers: range) -> None:
    for number in numbers:
        submit(number)


def round_trips(once: Callable[[int], object], samples: int) -> Figures:
    """Call `once`, which submits a task and waits for its result, so many times after a warm-up."""
    times = []
    for index in range(-WARM_UP, samples):
        start = time.perf_counter()
        once(index)
        if index >= 0:
            times.append(time.perf_counter() - start)
    return spread(times)


async def round_trips_async(once: Callable[[int], Awaitable[object]], samples: int) -> Figures:
    """The same for a client of asyncio or trio."""
    times = []
    for index in range(-WARM_UP, samples):
        start = time.perf_counter()
        await once(index)
        if index >= 0:
            times.append(time.perf_counter() - start)
    return spread(times)


async def ending(measure: Coroutine[Any, Any, Figures]) -> Figures:
    """Print what was measured and end the process at once, where the worker would not let an event loop end soon."""
    finish(await measure)


def for_ever() -> Never:
    """A worker whose work is done by threads; the run ends it by a signal."""
    while True:
        time.sleep(3600)


def wait_until(true: Callable[[], bool], every: float = 0.002) -> None:
    """Return once `true()` is; the run's time limit ends what never is."""
    while not true():
        time.sleep(every)


# The pick-up of critical tasks. The clock is the same for all processes of a machine.


def note_start(path: str | Path, index: int) -> None:
    """Called by a critical task when it begins."""
    with Path(path).open("a") as file:
        file.write(f"{index} {time.monotonic()}\n")


def pick_up(urgent: Callable[[int], object], options: Options) -> Figures:
    """Submit a critical task every BETWEEN seconds, and say how long each took from that call to its beginning."""
    submitted = []
    for index in range(options.samples):
        submitted.append(time.monotonic())
        urgent(index)
        time.sleep(BETWEEN)
    return picked_up(options, submitted)


def picked_up(options: Options, submitted: list[float]) -> Figures:
    """Once all critical tasks have begun: how long after these moments."""

    def noted() -> list[str]:
        return options.starts.read_text().splitlines() if options.starts.exists() else []

    wait_until(lambda: len(noted()) >= len(submitted), every=0.02)
    began = {int(index): float(at) for index, at in (line.split() for line in noted())}
    return spread([began[index] - at for index, at in enumerate(submitted)])
