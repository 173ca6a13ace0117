"""What `submit` gives back: the handle by which a task is waited for, streamed and cancelled."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from oq.errors import TaskCancelled, TaskFailed
from oq.streams import ChunkStream
from oq.task import Priority, Status, Task

if TYPE_CHECKING:
    from oq.queue import Queue


@frozen(slots=False)  # without slots it is made in two thirds of the time
class TaskHandle:
    """A submitted task."""

    id: str
    duplicate: bool
    """Whether `submit` gave an older task that has the same unique key."""
    _queue: Queue = field(repr=False)

    async def wait(self) -> Task:
        """Return the final task. A failed or cancelled one is returned like any other."""
        return await self._queue.wait(self.id)

    async def result(self) -> Any:
        """The result of the task, once it has completed; raises TaskFailed or TaskCancelled otherwise."""
        task = await self.wait()
        match task.status:
            case Status.FAILED:
                raise TaskFailed(task)
            case Status.CANCELLED:
                raise TaskCancelled(task)
            case _:
                return task.result

    def stream(self) -> AbstractAsyncContextManager[ChunkStream]:
        """The task's output; see `Queue.stream`."""
        return self._queue.stream(self.id)

    async def cancel(self) -> Task:
        """Cancel the task; see `Queue.cancel`."""
        return await self._queue.cancel(self.id)

    async def requeue(self) -> Task:
        """Make the final task pending again; see `Queue.requeue`."""
        return await self._queue.requeue(self.id)

    async def delete(self) -> Task:
        """Remove the final task for good; see `Queue.delete`."""
        return await self._queue.delete(self.id)

    async def set_priority(self, priority: Priority | str | int) -> Task:
        """Change its priority; see `Queue.set_priority`."""
        return await self._queue.set_priority(self.id, priority)

    async def refresh(self) -> Task:
        """The task as it stands now."""
        return await self._queue.get(self.id)
