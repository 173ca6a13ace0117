"""A campaign's numbers for people."""

from __future__ import annotations

from torture.account import AGAIN, LOST, OTHER, TWICE
from torture.beacon import KINDS
from torture.kills import Report


def show(report: Report) -> str:
    """A row for each kind of op in flight."""
    width = max(map(len, KINDS))
    lines = [f"{'in flight':{width}} | kills | stood | lost | recorded twice | wrongly run again | other"]
    for kind in (*KINDS, "nothing", "SIGTERM", "the end"):
        broken = {what: report.broken[kind, what] for what in (LOST, TWICE, AGAIN, OTHER)}
        lines.append(
            f"{kind:{width}} | {report.kills[kind]:5} | {report.stood[kind]:5} | {broken[LOST]:4} |"
            f" {broken[TWICE]:14} | {broken[AGAIN]:17} | {broken[OTHER]:5}"
        )
    lines.append(
        f"{report.rounds} processes killed, {report.acknowledged:,} tasks acknowledged; {report.seconds:.0f} s"
    )
    lines += report.sentences[:20]
    return "\n".join(lines)
