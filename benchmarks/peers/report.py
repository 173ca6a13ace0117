"""What a run found, in words: the table, the ratios to oq, and how each system is durable."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from statistics import median
from typing import Any

WIDTH = 100
TITLES = {
    "submit": "submit {tasks:,} tasks in bulk",
    "drain": "drain {tasks:,} no-op tasks, one worker process",
    "round_trips": "submit to result on an idle queue, one at a time: p50 (p99)",
    "pick_up": "submit to start of a critical task behind {tasks:,} low ones: p50 (p99)",
}
Row = dict[str, Any]


def merged(rounds: list[list[Row]]) -> list[Row]:
    """One row for each measurement, its values the medians of the rounds, with its ratio to oq."""
    cells: dict[tuple[str, str, str], list[Row]] = {}
    for row in (row for found in rounds for row in found):
        cells.setdefault((row["measure"], row["system"], row["setting"]), []).append(row)
    rows = [
        same[0]
        | {
            "values": {key: median(row["values"][key] for row in same) for key in same[0]["values"]},
            "sync_ms": median(row["sync_ms"] for row in same),
            "rounds": [row["values"] | {"sync_ms": row["sync_ms"]} for row in same],
        }
        for same in cells.values()
    ]
    for row in rows:
        own = [other for other in rows if other["system"] == "oq" and other["measure"] == row["measure"]]
        row["ratio"] = speed(row) / speed(compared(own)) if own else None
    return rows


def compared(own: list[Row]) -> Row:
    """The row of oq that peers are compared with: its best setting, or for round trips the one like theirs."""
    return own[0] if own[0]["measure"] == "round_trips" else max(own, key=speed)


def speed(row: Row) -> float:
    """More is better."""
    values = row["values"]
    return values["per_second"] if "per_second" in values else 1 / values["p50_ms"]


def shown(values: dict[str, float]) -> str:
    if "per_second" in values:
        return f"{values['per_second']:,.0f} /s"
    return f"{values['p50_ms']:,.2f} ms ({values['p99_ms']:,.2f})"


def table(run: dict[str, Any]) -> str:
    """The run as text, at most 100 columns wide."""
    lines = [
        f"{run['tasks']:,} no-op tasks, medians of {run['rounds']} round(s), {run['cpus']} CPUs, {run['python']}",
        "«speed»: compared with oq in this run, oq = 1. «sync»: a bare fdatasync before and after, in ms;",
        "where it differs much within a block, the disk was busy with something else: do not compare there.",
    ]
    for measure, title in TITLES.items():
        rows = [row for row in run["figures"] if row["measure"] == measure]
        absent = [name for name, about in run["systems"].items() if not about[measure]]
        if not rows:
            continue
        lines += ["", f"{title.format(tasks=run['tasks']):72}  {'speed':>17} {'sync':>6}"]
        best = compared([row for row in rows if row["system"] == "oq"] or rows)
        for row in rows:
            ratio = "" if row["ratio"] is None else "oq = 1" if row is best else f"{row['ratio']:.2f}"
            figure = shown(row["values"])
            lines.append(f"  {row['system']:9} {row['setting']:40} {figure:>22} {ratio:>15} {row['sync_ms']:6.2f}")
        lines += [f"  {name:9} has no priorities" for name in absent]
    lines += ["", *promises(run["systems"])]
    lines += [f"{name} was left out: {reason}" for name, reason in run["skipped"].items()]
    return "\n".join(lines)


def promises(systems: dict[str, dict[str, str]]) -> Iterable[str]:
    """For each system its versions, what survives what, and what results it stores."""
    for name, about in systems.items():
        yield textwrap.fill(f"{name}: {about['versions']}", WIDTH, subsequent_indent="  ")
        for what, key in (("a process is killed", "kill"), ("power is lost", "power"), ("stored results", "results")):
            yield textwrap.fill(about[key], WIDTH, initial_indent=f"  {what:20} ", subsequent_indent=" " * 23)
