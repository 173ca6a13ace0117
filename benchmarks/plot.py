"""Draws what `peers.py --json` saved, for the docs: `python benchmarks/plot.py [RESULTS.json] [PICTURE.svg]`.

The picture is plain SVG with colours for light and dark surroundings, and no part of it depends on the clock, so that
the same results give the same file.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from peers.report import TITLES, compared, shown

HERE = Path(__file__).parent
WIDTH, MARGIN, ROW, BAR = 860, 20, 20, 12
NAMES, BARS, FIGURES = MARGIN, 370, 690
"""Where the three columns begin."""
BETTER = {"submit": "longer is better", "drain": "longer is better"}
STYLE = """
  .card { fill: #ffffff; stroke: #d0d7de }
  text { font: 12px system-ui, sans-serif; fill: #1f2328 }
  .title { font-weight: 600; font-size: 13px }
  .quiet { fill: #59636e }
  .peer { fill: #9aa7b4 }
  .oq { fill: #0969da }
  @media (prefers-color-scheme: dark) {
    .card { fill: #0d1117; stroke: #3d444d }
    text { fill: #f0f6fc }
    .quiet { fill: #9198a1 }
    .peer { fill: #59636e }
    .oq { fill: #4493f8 }
  }
"""
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="?", default=HERE / "results" / "peers.json")
    parser.add_argument("picture", type=Path, nargs="?", default=HERE.parent / "docs" / "images" / "peers.svg")
    arguments = parser.parse_args()
    arguments.picture.parent.mkdir(parents=True, exist_ok=True)
    arguments.picture.write_text(drawn(json.loads(arguments.results.read_text())))


def drawn(run: dict[str, Any]) -> str:
    """The whole picture."""
    parts: list[str] = []
    y = MARGIN + 14
    for measure, title in TITLES.items():
        rows = [row for row in run["figures"] if row["measure"] == measure]
        if not rows:
            continue
        name, _, what = title.format(tasks=run["tasks"]).partition(":")
        note = what.strip() or BETTER[measure]
        parts.append(text(NAMES, y, name, "title"))
        parts.append(
            text(WIDTH - MARGIN, y, note if measure in BETTER else f"{note}, shorter is better", "quiet", "end")
        )
        absent = [system for system, about in run["systems"].items() if not about[measure]]
        parts += bars(rows, y)
        y += ROW * len(rows)
        for system in absent:
            y += ROW
            parts += [text(NAMES, y, system), text(NAMES + 66, y, "has no priorities", "quiet")]
        y += 34
    versions = "; ".join(about["versions"].split(", ")[0] for about in run["systems"].values())
    notes = (
        f"Bright: oq; the others are compared with its fastest setting (1). {versions}.",
        "All acknowledge what is synced to disk; only huey loses the tasks that run when its worker is killed.",
        f"One machine, one run: {run['python']}, {run['cpus']} CPUs, {run['taken']}.",
    )
    for note in notes:
        parts.append(text(NAMES, y, note, "quiet"))
        y += 17
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}" role="img">',
        "<title>oq beside huey, dramatiq, taskiq and pgqueuer</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{y - 1}" rx="8"/>',
    )
    return "\n".join([*head, *parts, "</svg>", ""])


def bars(rows: list[Row], y: int) -> Iterator[str]:
    """A line for each row: who and how, the bar, the figure, and the speed compared with oq."""
    own = [row for row in rows if row["system"] == "oq"]
    best = compared(own) if own else None
    most = max(length(row) for row in rows)
    for row in rows:
        y += ROW
        kind = "oq" if row["system"] == "oq" else "peer"
        width = max(1.0, (FIGURES - 12 - BARS) * length(row) / most)
        yield text(NAMES, y, row["system"])
        yield text(NAMES + 66, y, row["setting"], "quiet")
        yield f'<rect class="{kind}" x="{BARS}" y="{y - BAR + 2}" width="{width:.1f}" height="{BAR}" rx="2"/>'
        yield text(FIGURES, y, shown(row["values"]))
        if row["ratio"] is not None:
            yield text(WIDTH - MARGIN, y, "1" if row is best else f"{row['ratio']:.2f}", "quiet", "end")


def length(row: Row) -> float:
    values = row["values"]
    return values["per_second"] if "per_second" in values else values["p50_ms"]


def text(x: int, y: int, words: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x}" y="{y}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'


if __name__ == "__main__":
    main()
