"""Kills processes by SIGKILL while they apply ops of a chosen kind, and judges what is left, kind by kind."""

from __future__ import annotations

import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from attrs import define, field

from oq.store.lmdb import LmdbStore
from torture.account import Account
from torture.beacon import BIT, KINDS, Beacon
from torture.children import Child, in_child
from torture.journal import Journal
from torture.snapshot import Snapshot, take_snapshot
from torture.victim import finish_queue, run_queue, submit_beside

ROUNDS = 8
"""Kills in one directory, before all that is in it must end."""
PATIENCE = 1.5
"""Seconds to wait for ops of the kind that is aimed at."""


@define
class Report:
    """What came of a campaign."""

    rounds: int = 0
    kills: Counter[str] = field(factory=Counter)
    """By kind in flight; a batch has several."""
    stood: Counter[str] = field(factory=Counter)
    """Kills after which the transaction in flight was there."""
    broken: Counter[tuple[str, str]] = field(factory=Counter)
    """Broken promises by what was in flight and which kind of promise."""
    sentences: list[str] = field(factory=list)
    acknowledged: int = 0
    seconds: float = 0.0
    first_broken_after: float | None = None


class Campaign:
    """Kills until each kind was in flight often enough."""

    def __init__(self, each: int, seed: int, kinds: tuple[str, ...], make_store: Callable[..., LmdbStore]) -> None:
        self.report = Report()
        self._each = each
        self._chance = random.Random(seed)
        self._kinds = kinds
        self._make_store = make_store

    def run(self, most_seconds: float = float("inf"), *, stop_when_broken: bool = False) -> Report:
        began = time.monotonic()
        while self._wanted() and time.monotonic() - began < most_seconds:
            with tempfile.TemporaryDirectory(prefix="oq-kills-", dir="/var/tmp") as place:  # not a RAM disk
                self._one_directory(Path(place))
            self.report.seconds = time.monotonic() - began
            if self.report.sentences and self.report.first_broken_after is None:
                self.report.first_broken_after = self.report.seconds
                if stop_when_broken:
                    break
        return self.report

    def _wanted(self) -> list[str]:
        return [kind for kind in self._kinds if self.report.kills[kind] < self._each]

    def _one_directory(self, place: Path) -> None:
        account, journal = Account(), Journal(place / "journal")
        for _ in range(ROUNDS):
            wanted = self._wanted()
            if not wanted or account.broken:
                break
            kind = min(wanted, key=lambda kind: self.report.kills[kind])
            in_flight = self._round(place, kind)
            self._enter(place, account, journal, in_flight)
        if not account.broken:
            self._end(place, account, journal)
        self.report.acknowledged += account.acknowledged
        journal.close()
        if account.broken:
            kept = Path(tempfile.gettempdir()) / "oq-torture-last"
            shutil.copytree(place, kept, dirs_exist_ok=True, ignore=shutil.ignore_patterns("bells"))

    def _round(self, place: Path, kind: str) -> tuple[str, ...]:
        """Start a queue, kill it at the right moment, and say what was in flight; now and then end it by SIGTERM."""
        beside = kind == "second-process submit"
        runner = Child.start(run_queue, place, self._chance.getrandbits(32), self._make_store)
        if beside:
            rival = Child.start(submit_beside, place, self._chance.getrandbits(32), self._make_store)
            in_flight = self._kill_during(rival, place / "rival.beacon", kind)
            self._see_progress(place / "runner.beacon")
            runner.send(signal.SIGKILL)
            runner.wait()
            return in_flight
        if self._chance.random() < 0.1:
            time.sleep(self._chance.uniform(0.05, 0.3))
            runner.send(signal.SIGTERM)
            ended = runner.wait()
            return ("SIGTERM",) if ended.error is None and ended.signal is None else (f"SIGTERM: {ended}",)
        return self._kill_during(runner, place / "runner.beacon", kind)

    def _kill_during(self, child: Child, path: Path, kind: str) -> tuple[str, ...]:
        self.report.rounds += 1
        beacon = Beacon(path)
        beacon.show(0, 0, 0)
        _wait_for(beacon, BIT[kind], skip=self._chance.choice((0, 0, 1, 2, 5, 10)))
        pause = time.perf_counter() + self._chance.choice((0.0, 0.0001, 0.0003, 0.001, 0.002)) * self._chance.random()
        while time.perf_counter() < pause:
            pass
        child.send(signal.SIGKILL)
        ended = child.wait()
        mask, _, self._txn_id = beacon.read()
        beacon.close()
        if ended.signal != "SIGKILL":
            self.report.broken["nothing", "other"] += 1
            self.report.sentences.append(f"the victim died by itself: {ended.error or ended.signal}")
        return tuple(name for name in KINDS if mask & BIT[name]) or ("nothing",)

    def _see_progress(self, path: Path) -> None:
        """See that the other process goes on, though one died beside it, perhaps with the write lock in its hand."""
        beacon = Beacon(path)
        before, deadline = beacon.read()[1], time.monotonic() + 10
        while beacon.read()[1] < before + 5 and time.monotonic() < deadline:
            time.sleep(0.001)
        if beacon.read()[1] < before + 5:
            self.report.sentences.append("the runner stopped when a process beside it was killed")
            self.report.broken["second-process submit", "other"] += 1
        beacon.close()

    def _enter(self, place: Path, account: Account, journal: Journal, in_flight: tuple[str, ...]) -> None:
        said = in_child(take_snapshot, place)
        for kind in in_flight:
            self.report.kills[kind] += 1
        if not isinstance(said.value, Snapshot):
            account.broken.append(("other", f"the store cannot be read: {said.error or said.signal}"))
        else:
            if "SIGTERM" in in_flight:
                self._judge_release(account, said.value)
            elif "second-process submit" not in in_flight and said.value.txn_id > self._txn_id:
                self.report.stood.update(in_flight)
            account.enter(journal.news(), said.value)
        account.broken += [("other", f"the log says: {line}") for line in _errors(place)]
        for what, sentence in account.broken:
            self.report.sentences.append(f"[{', '.join(in_flight)}] {what}: {sentence}")
            for kind in in_flight:
                self.report.broken[kind, what] += 1

    def _judge_release(self, account: Account, after: Snapshot) -> None:
        for task_id, task in after.tasks.items():
            if task.status == "running":
                account.broken.append(("other", f"task {task_id} was not given back at SIGTERM"))

    def _end(self, place: Path, account: Account, journal: Journal) -> None:
        """Let all that is left end, and judge that."""
        ended = in_child(finish_queue, place, 0, self._make_store)
        if ended.error or ended.signal:
            account.broken.append(("lost", f"what was left did not end: {ended.error or ended.signal}"))
        self._enter(place, account, journal, ())
        known = len(account.broken)
        account.finish()
        self.report.sentences += [f"[the end] {what}: {sentence}" for what, sentence in account.broken[known:]]
        for what, _ in account.broken[known:]:
            self.report.broken["the end", what] += 1


def _errors(place: Path) -> list[str]:
    """What victims logged as errors, such as damage that they met and mended."""
    return [line for log in place.glob("*.log") for line in log.read_text().splitlines() if line.startswith("ERROR")]


def _wait_for(beacon: Beacon, bit: int, skip: int) -> None:
    """Return when an op of the kind is in flight for the n-th time, or when that does not happen."""
    deadline = time.monotonic() + PATIENCE
    last = 0
    while time.monotonic() < deadline:
        mask, applies, _ = beacon.read()
        if mask & bit and applies != last:
            last = applies
            if not skip:
                return
            skip -= 1
