"""A program that submits tasks as long as it lives, and prints what it is told of them: `ack ID`, and then `end ID`.

Arguments: the command of each task, and how many tasks this process runs at once (0 for none).
"""

import sys

import trio

import oq
from oq_script import command

AT_ONCE = 8
"""Tasks that are under way at any moment, more than are run at once."""


async def main(line: str, workers: int) -> None:
    async with oq.open_queue("oq-data", workers=workers) as queue, trio.open_nursery() as nursery:
        for _ in range(AT_ONCE):
            nursery.start_soon(submit_for_ever, queue, line)


async def submit_for_ever(queue: oq.Queue, line: str) -> None:
    while True:
        task = await queue.submit(command(line))
        print("ack", task.id, flush=True)  # noqa: T201  # for the test
        await task.wait()
        print("end", task.id, flush=True)  # noqa: T201


trio.run(main, sys.argv[1], int(sys.argv[2]))
