"""Whatever is killed at whatever moment: nothing acknowledged is missing, and nothing done is done again."""

import random
import sys
from collections import Counter
from pathlib import Path

import pytest
from attrs import define, field

from oq.query import TaskFilter
from oq.store.lmdb import LmdbStore
from oq.task import Outcome, Status

pytestmark = pytest.mark.timeout(100)

SUBMITTER = (sys.executable, str(Path(__file__).with_name("submitter.py")))

LOSSES_OF_A_POISONED_TASK = 3


@pytest.fixture
def chance():
    """The moments of the kills; another seed is as good."""
    return random.Random(20_26)


@define
class Ledger:
    """What the tasks themselves wrote, and what was promised about them."""

    log: Path
    acknowledged: set[str] = field(factory=set)
    ended: dict[str, int] = field(factory=dict)
    """The tasks that are known to be done, and how often they had run by then."""
    lost: Counter = field(factory=Counter)
    """How often a task was running when its runner was killed."""

    @property
    def runs(self):
        """How often each task ran, and which processes did."""
        return [line.split() for line in self.log.read_text().splitlines()]

    def read(self, process):
        """Take note of what the process was told before it was killed."""
        process.end()
        *lines, _ = process.printed.split("\n")  # it may have been killed in the middle of the last one
        for line in lines:
            word, task_id = line.split()
            self.acknowledged.add(task_id)
            if word == "end":
                self.ended.setdefault(task_id, 0)

    def audit(self):
        """Hold the store against what was promised, after a runner was killed."""
        store = LmdbStore("oq-data")
        try:
            assert store.check() == []
            for record in store.page(TaskFilter(status=Status.RUNNING), None, 100).items:
                self.lost[record.head.id] += 1
            ran = Counter(task_id for task_id, _ in self.runs)
            for task_id in self.acknowledged:
                record = store.get(task_id)
                assert record is not None, f"{task_id} was acknowledged, and is missing"
                status = record.state.status
                if task_id in self.ended:
                    assert status is Status.COMPLETED, f"{task_id} was told to be completed, and is {status}"
                if status is Status.COMPLETED:
                    assert self.ended.get(task_id) in {None, 0, ran[task_id]}, f"{task_id} was done, and ran again"
                    self.ended[task_id] = ran[task_id]
        finally:
            store.close()

    def close(self):
        """Everything has run by now: account for every task."""
        store = LmdbStore("oq-data")
        try:
            assert store.check() == []
            ran = Counter(task_id for task_id, _ in self.runs)
            for task_id in self.acknowledged:
                task = store.load(task_id)
                outcomes = Counter(attempt.outcome for attempt in task.attempts)
                assert outcomes[Outcome.LOST] == self.lost[task_id]
                assert 1 <= ran[task_id] <= task.state.epoch
                if task.state.status is Status.FAILED:
                    assert task.state.failure.type == "Poisoned"
                    assert self.lost[task_id] >= LOSSES_OF_A_POISONED_TASK
                else:
                    assert task.state.status is Status.COMPLETED
                    assert task.state.epoch == 1 + self.lost[task_id]
            assert all(ran[task_id] == before for task_id, before in self.ended.items())
            assert set(ran) >= self.acknowledged
        finally:
            store.close()


@pytest.fixture
def ledger(home):
    (home / "log").touch()
    return Ledger(home / "log")


@pytest.fixture
def work(home):
    """The command of a task that writes down that it runs."""
    script = home / "work.sh"
    script.write_text(f'echo "$OQ_TASK_ID $$" >> {home}/log\nsleep 0.02\n')
    return f"sh {script}"


@pytest.fixture
def wait_for_orphans(wait_for_end, ledger):
    """Return when no process of a task is left whose runner was killed."""

    def wait():
        for _, pid in ledger.runs[-20:]:
            wait_for_end(int(pid))

    return wait


def test_a_process_that_submits_runs_and_finishes_is_killed(start, chance, ledger, work, wait_for_orphans, oq):
    for _ in range(12):
        process = start(work, 4, program=SUBMITTER)
        for _ in range(chance.randrange(1, 60)):
            process.until(" ")
        process.kill()
        ledger.read(process)
        wait_for_orphans()
        ledger.audit()
    assert sum(ledger.lost.values()) > 12, "the kills hit nothing that ran"
    assert oq("run", "--until-idle").code == 0
    ledger.close()


def test_a_runner_and_a_submitter_are_killed_in_turn_while_the_other_goes_on(
    start, chance, ledger, work, wait_for_orphans, oq
):
    runner, submitter = start("run"), start(work, 0, program=SUBMITTER)
    runner.until("running")
    for number in range(6):
        for _ in range(chance.randrange(1, 40)):
            submitter.until(" ")
        if number % 2:
            runner.kill()
            ledger.audit()
            runner = start("run")
            runner.until("running")
        else:
            submitter.kill()
            ledger.read(submitter)
            submitter = start(work, 0, program=SUBMITTER)
    submitter.kill()
    ledger.read(submitter)
    runner.kill()
    wait_for_orphans()
    ledger.audit()
    assert sum(ledger.lost.values()) > 3, "the kills hit nothing that ran"
    assert oq("run", "--until-idle").code == 0
    ledger.close()
