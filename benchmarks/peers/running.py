"""Runs one system through the work: each measurement on a fresh store, each process under a time limit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import IO, Any

from peers.environments import DRIVERS
from peers.servers import served

SERVERS = {"oq": "", "huey": "", "dramatiq": "redis", "taskiq": "redis", "pgqueuer": "postgres"}
"""What each system keeps its tasks in; also the order of a run."""
DRAIN_VARIANTS = {"oq": ("4", "200", "1,000")}
"""The numbers of slots that oq drains with; the others have one tuned setting."""
ROUND_TRIP_VARIANTS = {"oq": ("worker in another process", "worker in this process")}
"""The first is as the others do it; the second is how an application embeds oq."""
ROUND_TRIP_SAMPLES = 300
PICK_UP_SAMPLES = 100

Values = dict[str, float]
Process = subprocess.Popen[str]


class Broken(Exception):
    """A driver failed or took too long; the reason is for people."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measurement of one system in one setting."""

    measure: str
    """submit, drain, round_trips or pick_up"""
    system: str
    setting: str
    values: Values
    """`per_second`, or `p50_ms` and `p99_ms`."""
    sync_ms: float
    """How long a bare fdatasync took on that disk, the mean of just before and just after."""


@dataclass(frozen=True, kw_only=True)
class Worker:
    """A worker process, and what it says."""

    process: Process
    log: IO[str]

    def last_words(self) -> str:
        """The end of what it said before it ended."""
        self.log.seek(0)
        return last_line(self.log.read())


class Disk:
    """Waits for a calm moment of the disk, on which everything here depends, and says how calm it is."""

    def __init__(self, directory: Path, patience: float) -> None:
        self._directory = directory
        self._patience = patience
        self._least = min(self.sync_time() for _ in range(10))

    def wait_calm(self) -> float:
        """Seconds that an fdatasync takes, once that is not twice the least seen, or when patience is over."""
        limit = time.monotonic() + self._patience
        while True:
            now = self.sync_time()
            self._least = min(self._least, now)
            if now < 2 * self._least or time.monotonic() > limit:
                return now
            time.sleep(0.2)

    def sync_time(self) -> float:
        """Seconds that an fdatasync of 4 KiB takes now, the median of 50."""
        times = []
        with tempfile.TemporaryFile(dir=self._directory, buffering=0) as file:
            for _ in range(50):
                file.write(bytes(4_096))
                start = time.perf_counter()
                os.fdatasync(file.fileno())
                times.append(time.perf_counter() - start)
        return median(times)


@dataclass(frozen=True, kw_only=True)
class System:
    """oq or a peer, with what is needed to run its driver."""

    name: str
    python: str
    data: Path
    """The directory in which each measurement makes its own."""
    disk: Disk
    timeout: float
    """Seconds that one process may take."""

    def about(self) -> dict[str, str]:
        """Versions, settings and promises, as the driver states them."""
        return self._finished(self._start("about"))

    def measure(self, about: dict[str, str], tasks: int) -> Iterator[Figure]:
        """Do all the work, and give each figure as soon as it is there."""
        for index, variant in enumerate(DRAIN_VARIANTS.get(self.name, ("",))):
            with self._place() as place:
                submitted = self._measured("submit", place, about, tasks=tasks)
                if not index:
                    yield submitted
                yield self._measured("drain", place, about, tasks=tasks, variant=variant)
        for index, variant in enumerate(ROUND_TRIP_VARIANTS.get(self.name, ("",))):
            with self._place() as place, self._worker(place, needed=not index) as worker:
                yield self._measured("round_trips", place, about, worker, samples=ROUND_TRIP_SAMPLES, variant=variant)
        if about["pick_up"]:
            with self._place() as place:
                self._finished(self._start("backlog", *place, "--tasks", str(tasks)))
                with self._worker(place, "pick_up") as worker:
                    samples = min(PICK_UP_SAMPLES, tasks // 20)  # so that the backlog outlasts them
                    yield self._measured("pick_up", place, about, worker, samples=samples)

    def _measured(
        self,
        measure: str,
        place: list[str],
        about: dict[str, str],
        worker: Worker | None = None,
        **options: int | str,
    ) -> Figure:
        before = self.disk.wait_calm()
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        values = self._finished(self._start(measure, *place, *words), worker)
        setting = about[measure].format(variant=options.get("variant", ""))
        sync_ms = (before + self.disk.sync_time()) / 2 * 1e3
        return Figure(measure=measure, system=self.name, setting=setting, values=values, sync_ms=sync_ms)

    @contextmanager
    def _place(self) -> Iterator[list[str]]:
        """A fresh directory and server; gives the words that tell a driver of them."""
        with tempfile.TemporaryDirectory(prefix=f"{self.name}-", dir=self.data) as made:
            Path(made).chmod(0o711)  # the server may run as another user
            server = Path(made, "server")
            server.mkdir()
            with served(SERVERS[self.name], server) as address:
                place = ["--place", made, "--server", address]
                self._finished(self._start("prepare", *place))
                yield place

    @contextmanager
    def _worker(self, place: list[str], variant: str = "", *, needed: bool = True) -> Iterator[Worker | None]:
        """A worker process for the length of the block."""
        if not needed:
            yield None
            return
        with tempfile.TemporaryFile("w+") as log:
            process = self._start("work", *place, "--variant", variant, output=log)
            try:
                yield Worker(process=process, log=log)
            finally:
                end(process)

    def _start(self, phase: str, *words: str, output: IO[str] | int = subprocess.PIPE) -> Process:
        driver = DRIVERS / self.name / "driver.py"
        return subprocess.Popen(
            [self.python, str(driver), phase, *words],
            stdout=output,
            stderr=output,
            text=True,
            env=os.environ | {"PYTHONPATH": str(DRIVERS.parent)},
            start_new_session=True,  # so that its children end with it
        )

    def _finished(self, driver: Process, worker: Worker | None = None) -> dict[str, Any]:
        """What the driver printed; raises Broken when it fails, takes too long, or its worker ends before it."""
        limit = time.monotonic() + self.timeout
        phase = driver.args[2]
        try:
            while True:
                try:
                    output, errors = driver.communicate(timeout=0.5)
                    break
                except subprocess.TimeoutExpired:
                    if worker is not None and worker.process.poll() is not None:
                        raise Broken(f"{phase}: the worker ended: {worker.last_words()}") from None
                    if time.monotonic() > limit:
                        raise Broken(f"{phase}: took longer than {self.timeout:.0f} s") from None
        finally:
            end(driver)
        if driver.returncode:
            raise Broken(f"{phase}: {last_line(errors)}")
        return json.loads(output.splitlines()[-1])


def end(process: Process) -> None:
    """End a driver and what it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no word"])[-1]
