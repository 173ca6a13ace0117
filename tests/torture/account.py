"""Holds what a store says after each kill against what its victims were told, and against what it said before."""

from __future__ import annotations

from collections import Counter
from typing import Any

from attrs import define, field

from torture.snapshot import Seen, Snapshot

LOST, TWICE, AGAIN, OTHER = "lost", "recorded twice", "run again", "other"


@define
class Account:
    """The books of one directory."""

    broken: list[tuple[str, str]] = field(factory=list)
    """What did not hold: which kind of promise, and a sentence."""
    acknowledged: int = 0
    _acked: dict[str, str] = field(factory=dict)
    _ended: dict[str, tuple[int, str]] = field(factory=dict)
    """Endings that were announced: epoch and status."""
    _due: dict[str, tuple[int, float]] = field(factory=dict)
    _started: dict[str, int] = field(factory=dict)
    """The last epoch that an executor began."""
    _before: dict[str, Seen] = field(factory=dict)

    def enter(self, news: list[list[Any]], after: Snapshot) -> None:
        """Judge the time from the last snapshot to this one."""
        for kind, *entry in news:
            getattr(self, f"_enter_{kind}")(*entry)
        for problem in after.problems:
            self._break(OTHER, f"check says: {problem}")
        for label, number in Counter(task.label for task in after.tasks.values()).items():
            if number > 1:
                self._break(TWICE, f"{number} tasks have the label {label}")
        for task_id in self._acked.keys() - after.tasks.keys():
            self._break(LOST, f"task {task_id} was acknowledged, and is not there")
        for task_id, (epoch, status) in self._ended.items():
            task = after.tasks.get(task_id)
            if task is not None and (task.epoch, task.status) != (epoch, status):
                self._break(LOST, f"the end of {task_id} ({status}, epoch {epoch}) is gone; it is {task}")
        for task_id, task in after.tasks.items():
            self._judge(task_id, task, self._before.get(task_id))
        for task_id in self._before.keys() - after.tasks.keys():
            self._break(LOST, f"task {task_id} is not there any more")
        self._before = after.tasks

    def finish(self) -> None:
        """Judge the end, when everything should be final."""
        for task_id, task in self._before.items():
            if not task.final:
                self._break(LOST, f"task {task_id} never ended: {task}")

    def _enter_ack(self, task_id: str, label: str) -> None:
        if task_id in self._acked:
            self._break(TWICE, f"the id {task_id} was given out twice")
        self._acked[task_id] = label
        self.acknowledged += 1

    def _enter_start(self, task_id: str, epoch: int, at: float) -> None:
        before = self._before.get(task_id)
        if task_id in self._ended or (before is not None and before.final):
            self._break(AGAIN, f"task {task_id} ran again (epoch {epoch}) after it had ended")
        if epoch <= self._started.get(task_id, 0):
            self._break(AGAIN, f"task {task_id} ran in epoch {epoch} after epoch {self._started[task_id]}")
        after, due = self._due.get(task_id, (-1, 0.0))
        if after == epoch - 1 and at < due - 0.001:
            self._break(OTHER, f"task {task_id} started {due - at:.3f} s before it was due")
        self._started[task_id] = epoch

    def _enter_end(self, task_id: str, epoch: int, at: float) -> None:
        pass

    def _enter_final(self, task_id: str, epoch: int, status: str) -> None:
        if task_id in self._ended:
            self._break(TWICE, f"task {task_id} ended twice: {self._ended[task_id]} and {(epoch, status)}")
        self._ended[task_id] = (epoch, status)

    def _enter_due(self, task_id: str, epoch: int, due: float) -> None:
        self._due[task_id] = (epoch, due)

    def _judge(self, task_id: str, task: Seen, before: Seen | None) -> None:
        if task.attempt != task.counted:
            self._break(OTHER, f"task {task_id} counts {task.attempt} attempts, and should {task.counted}: {task}")
        if task.epoch < self._started.get(task_id, 0):
            self._break(LOST, f"task {task_id} ran in epoch {self._started[task_id]}, and the store says {task.epoch}")
        if task.phase in ("scheduled", "retrying"):
            epoch, due = self._due.get(task_id, (-1, 0.0))
            if epoch == task.epoch and due != task.due_at:
                self._break(OTHER, f"task {task_id} was due at {due}, and now at {task.due_at}")
        if task.poisoned and sum(outcome == "lost" for _, outcome in task.attempts) < 3:
            self._break(OTHER, f"task {task_id} was given up too early: {task}")
        if before is None:
            return
        if before.final and (before.status, before.epoch, before.attempts) != (task.status, task.epoch, task.attempts):
            self._break(AGAIN, f"task {task_id} had ended ({before}), and is now {task}")
        if before.final and before.result_size is None and task.result_size is not None:
            self._break(OTHER, f"the result of task {task_id} was dropped, and is back")
        if task.epoch < before.epoch:
            self._break(OTHER, f"the epoch of task {task_id} went from {before.epoch} to {task.epoch}")
        if task.due_at is not None and before.due_at not in (None, task.due_at) and before.epoch == task.epoch:
            self._break(OTHER, f"task {task_id} was due at {before.due_at}, and is now at {task.due_at}")
        for epoch, outcome in set(task.attempts) - set(before.attempts):
            if (
                outcome == "lost"
                and epoch <= before.epoch
                and not (before.status == "running" and before.epoch == epoch)
            ):
                self._break(AGAIN, f"task {task_id} counts as lost in epoch {epoch}, when it did not run: {before}")

    def _break(self, kind: str, sentence: str) -> None:
        self.broken.append((kind, sentence))
