"""`python core/tests/simulation --seed 7 --count 1000`: run many seeds, and stop at the first that breaks a promise."""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext
from hashlib import sha256
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).parent.parent))

from simulation.planted import BUGS, planted
from simulation.simulate import DEFAULT_TASKS, simulate


def main() -> int:
    parser = argparse.ArgumentParser(prog="simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--count", type=int, default=1, help="how many seeds, one after the other")
    parser.add_argument("--tasks", type=int, default=DEFAULT_TASKS, help="how many tasks each submits")
    parser.add_argument("--store", choices=("memory", "lmdb"), help="the store, instead of the seed's own choice")
    parser.add_argument("--trace", action="store_true", help="print everything that happens")
    parser.add_argument("--digest", action="store_true", help="print a digest of everything that happens")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first seed that fails")
    parser.add_argument("--plant", choices=BUGS, metavar="BUG", help=f"have a bug in oq: {'; '.join(BUGS)}")
    options = parser.parse_args()
    began, failed, events = perf_counter(), 0, 0
    for seed in range(options.seed, options.seed + options.count):
        with planted(options.plant) if options.plant else nullcontext():
            report = simulate(seed, options.tasks, options.store)
        events += report.events
        if options.digest:
            print(sha256("\n".join(report.trace).encode()).hexdigest())
        if options.trace:
            print("\n".join(report.trace))
        if report.violation is not None or options.count == 1:
            print(report)
        if report.violation is not None:
            failed += 1
            if not options.keep_going:
                return 1
    print(f"{options.count} seeds, {events} events, {failed} failed, {perf_counter() - began:.1f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
