"""oq beside its peers on the same work: `python benchmarks/peers.py [--only NAME …] [--tasks N] [--json FILE]`.

huey on SQLite, dramatiq and taskiq on Redis, pgqueuer on PostgreSQL; each in an environment that is made when first
needed, on a store of its own that is made for each measurement, with durable settings. Figures of one run may be
compared with each other, those of two runs may not. Not part of the tests.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from peers import report
from peers.environments import NoEnvironment, python_of
from peers.kit import SLOTS
from peers.running import SERVERS, Broken, Disk, Figure, System
from peers.servers import NoServer, describe

CACHE = Path(__file__).parent.parent / ".venv-peers"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(SERVERS), help="just these; ratios need oq among them")
    parser.add_argument("--tasks", type=int, default=20_000, help="tasks to submit and drain (default 20,000)")
    parser.add_argument("--rounds", type=int, default=1, help="do it so often and show medians")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well, for plot.py")
    parser.add_argument("--data", type=Path, default=CACHE, help="a directory on the disk to measure")
    parser.add_argument("--patience", type=float, default=20, help="seconds to wait for a calm disk before each figure")
    parser.add_argument("--timeout", type=float, default=180, help="seconds that one process may take (default 180)")
    arguments = parser.parse_args()
    if arguments.tasks < 200:
        parser.error("--tasks: fewer than 200 say nothing")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))  # so that servers and workers end too
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="data-", dir=arguments.data.resolve()) as data:
        Path(data).chmod(0o711)  # PostgreSQL may run as another user
        run = measured(arguments, Path(data))
    run["skipped"] = {name: why.replace(data, "DATA") for name, why in run["skipped"].items()}  # for any machine
    print(report.table(run))
    if arguments.json:
        arguments.json.write_text(json.dumps(run, indent=1) + "\n")
    sys.exit("not all of the work was done" if run["broken"] else None)


def measured(arguments: argparse.Namespace, data: Path) -> dict[str, Any]:
    """Run every system that can be run, round after round; what cannot is noted with its reason."""
    disk = Disk(data, arguments.patience)
    systems: dict[str, System] = {}
    abouts: dict[str, dict[str, str]] = {}
    skipped: dict[str, str] = {}
    broken: list[str] = []
    rounds: list[list[report.Row]] = []
    for name in arguments.only or SERVERS:
        try:
            server = describe(SERVERS[name])
            python = python_of(name, CACHE)
            system = System(name=name, python=python, data=data, disk=disk, timeout=arguments.timeout)
            about = system.about()
        except (NoServer, NoEnvironment, Broken) as error:
            skipped[name] = str(error)
            tell(f"{name}: {error}")
            continue
        systems[name], abouts[name] = system, about | {"versions": ", ".join(filter(None, (about["versions"], server)))}
    for number in range(arguments.rounds):
        found: list[report.Row] = []
        rounds.append(found)
        for name, system in systems.items():
            if name in skipped:
                continue
            try:
                for figure in system.measure(abouts[name], arguments.tasks):
                    found.append(asdict(figure))
                    tell(f"{number + 1}/{arguments.rounds} {name:9} {figure.measure:12} {figure.setting:44}", figure)
            except (NoServer, Broken) as error:
                skipped[name] = str(error)
                broken.append(name)
                tell(f"{name}: {error}")
    return {
        "taken": datetime.now(UTC).date().isoformat(),
        "tasks": arguments.tasks,
        "rounds": arguments.rounds,
        "slots": SLOTS,
        "cpus": os.cpu_count(),
        "python": f"Python {platform.python_version()} on {platform.system()} {platform.machine()}",
        "systems": abouts,
        "skipped": skipped,
        "broken": broken,
        "figures": report.merged(rounds),
    }


def tell(words: str, figure: Figure | None = None) -> None:
    """Say how far the run is, apart from its output."""
    print(words, report.shown(figure.values) if figure else "", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
