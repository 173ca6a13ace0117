"""The main job, on the embedded store: a dozen and more real tasks through a durable queue (`make demo`).

Tasks are stored first, in an order that has nothing to do with their priority; then two workers start, and what happens
is printed as it happens. The model's answers are simulated, so that the demo runs where no Ollama does.
"""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import shorten

import trio
from attrs import evolve
from rich.console import Console
from rich.table import Table
from rich.text import Text

import oq
from oq_ollama import chat
from oq_ollama.testing import fake_ollama
from oq_script import command, script

HERE = Path("demo-data")
SCRIPTS = {
    "count.py": "for line in ('one', 'two', 'three'):\n    print(line)\n",
    "wordcount.sh": 'tr -s "[:space:]" "\\n" | sort | uniq -c | sort -rn | head -3\n',
    "tokens.py": (
        "import time\nfor word in 'a queue in front of the model never loses a task'.split():\n"
        "    print(word, flush=True)\n    time.sleep(0.15)\n"
    ),
}
COLOURS = {"completed": "green", "failed": "red", "cancelled": "yellow", "retrying": "magenta", "started": "cyan"}

console = Console(highlight=False)


async def main() -> None:
    scripts = HERE / "scripts"
    scripts.mkdir(parents=True, exist_ok=True)
    for name, text in SCRIPTS.items():
        (scripts / name).write_text(text)
    async with fake_ollama(models=["qwen3"]) as fake:
        sections = {"script": {"directory": str(scripts), "permanent_exit_codes": [3]}, "ollama": {"host": fake.url}}
        await run(oq.Settings(sections=sections))


async def run(settings: oq.Settings) -> None:
    async with oq.open_queue(HERE / "queue", workers=2, settings=settings, start=False) as queue:

        @queue.task(name="fibonacci")
        async def fibonacci(n: int) -> int:
            """The n-th number of Fibonacci."""
            a, b = 0, 1
            for _ in range(n):
                a, b = b, a + b
            return a

        tries = 0

        @queue.task(name="flaky")
        async def flaky() -> str:
            """Fails twice, then works."""
            nonlocal tries
            tries += 1
            if tries < 3:
                raise ConnectionError(f"the other side hung up (try {tries})")
            return f"worked at try {tries}"

        patient = oq.RetryPolicy(max_attempts=5, delay=0.4, jitter=0)
        named = {
            "list files": command("ls -la", priority="low"),
            "kernel": command("uname -sr", priority="low"),
            "sleep a second": command("sleep 1", priority="low"),
            "who am I": command("id -un"),
            "count to three": script("count.py"),
            "count words": script("wordcount.sh", stdin="to be or not to be that is the question to be"),
            "fibonacci(90)": fibonacci.spec(90),
            "flaky": evolve(flaky.spec(), retry=patient),
            "date": command("date -u +%FT%TZ", priority="high"),
            "a stream": script("tokens.py", priority="high"),
            "a model's answer": chat("qwen3", "Is this a real answer?", priority="high"),
            "to be cancelled": command("sleep 60", priority="high"),
            "urgent": command("echo the critical one goes first", priority="critical"),
            "urgent too": command("echo and this one second", priority="critical"),
            "fails for good": command("python3 -c 'import sys; sys.exit(3)'", priority="high"),
            "in two seconds": command("echo I was scheduled", delay=2.0, priority="critical"),
        }
        with queue.subscribe() as events:
            handles = await queue.submit_many(list(named.values()))
            names = {handle.id: name for name, handle in zip(named, handles, strict=True)}
            console.print(f"[bold]{len(handles)} tasks are on disk in {HERE / 'queue'}; two workers start now[/]\n")
            start = trio.current_time()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(print_events, events, names, start)
                for name in ("a stream", "a model's answer"):
                    nursery.start_soon(print_stream, queue, names, name)
                nursery.start_soon(cancel_when_running, queue, names, "to be cancelled")
                await queue.start()
                finals = [await handle.wait() for handle in handles]
                nursery.cancel_scope.cancel()

        console.print(results(finals, names))
        console.print(
            "\nNo model was asked: the answer comes from a simulated Ollama (oq_ollama.testing).", style="dim"
        )
        oq_command = Path(sys.executable).parent / "oq"
        console.print(f"\nEverything is still there: {oq_command} list --queue {HERE / 'queue'}", soft_wrap=True)


async def print_events(events: oq.Subscription, names: dict[str, str], start: float) -> None:
    """Print what happens to each task."""
    async for event in events:
        if event.kind in (oq.EventKind.SUBMITTED, oq.EventKind.READY):
            continue
        why = f"  {event.failure.message}" if event.failure and event.kind != oq.EventKind.STARTED else ""
        priority = oq.Priority(event.priority).name.lower()
        line = f"{trio.current_time() - start:5.2f} s  {event.kind:10} {priority:9} {names.get(event.task_id, '')}{why}"
        console.print(Text(line, style=COLOURS.get(event.kind, "default")))


async def print_stream(queue: oq.Queue, names: dict[str, str], name: str) -> None:
    """Print a task's output while it runs."""
    async with queue.stream(id_of(names, name)) as chunks:
        async for chunk in chunks:
            console.print(Text(f"{'':8} {name}: {chunk.text.rstrip()}", style="dim"))


async def cancel_when_running(queue: oq.Queue, names: dict[str, str], name: str) -> None:
    """Cancel a task half a second after its start."""
    wanted = oq.EventFilter(kinds=frozenset({oq.EventKind.STARTED}), task_id=id_of(names, name))
    with queue.subscribe(wanted) as events:
        await anext(events)
        await trio.sleep(0.5)
        await queue.cancel(id_of(names, name))


def id_of(names: dict[str, str], name: str) -> str:
    return next(task_id for task_id, known in names.items() if known == name)


def results(tasks: list[oq.Task], names: dict[str, str]) -> Table:
    """What came of the tasks, in the order in which they were handed in."""
    table = Table(box=None, pad_edge=False, header_style="bold", title="\nresults", title_justify="left")
    for column, width in (("task", 15), ("status", 9), ("priority", 8), ("attempts", 8)):
        table.add_column(column, no_wrap=True, min_width=width)
    table.add_column("result", no_wrap=True)
    room = max(20, console.width - 52)
    for task in tasks:
        said = task.failure.message if task.failure else shown(task.result).strip()
        table.add_row(
            names[task.id],
            Text(task.status, style=COLOURS[task.status]),
            task.priority.name.lower(),
            str(len(task.attempts)),
            Text(shorten(said.replace("\n", " / "), room, placeholder=" …")),
        )
    return table


def shown(result: object) -> str:
    """What of a result is worth a line."""
    match result:
        case None:
            return ""
        case oq.ChatResult(message=message):
            return message.content
        case _:
            return str(getattr(result, "stdout", result))


if __name__ == "__main__":
    trio.run(main)
