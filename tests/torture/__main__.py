"""`python -m torture CAMPAIGN`: runs a campaign, prints what it did, and exits with 1 when a promise did not hold."""

# ruff: noqa: T201  # a program for terminals

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from torture.beacon import KINDS
from torture.flips import flip_file_bytes
from torture.kills import Campaign
from torture.plants import PLANTS
from torture.table import show
from torture.torn import cut_power
from torture.trace import reason_to_skip

IMAGES_OF_ONE_WORKLOAD = 250


def main() -> int:
    parser = argparse.ArgumentParser(prog="torture", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    kills = commands.add_parser("kills", help="SIGKILL at chosen moments")
    kills.add_argument("--each", type=int, default=100, help="kills for each kind of op")
    kills.add_argument("--seed", type=int, default=1)
    kills.add_argument("--kind", action="append", choices=KINDS, help="only this kind of op")
    kills.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    kills.add_argument("--plant", choices=sorted(PLANTS), default="nothing", help="a bug to be found")
    torn = commands.add_parser("torn", help="power cuts")
    torn.add_argument("--images", type=int, default=1_000, help="disk images for each durability")
    torn.add_argument("--seed", type=int, default=1)
    flips = commands.add_parser("flips", help="flipped bits in the data file")
    flips.add_argument("--number", type=int, default=1_000)
    flips.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    match given.command:
        case "kills":
            return _kills(given)
        case "torn":
            return _torn(given)
        case _:
            return _flips(given)


def _kills(given: argparse.Namespace) -> int:
    campaign = Campaign(given.each, given.seed, tuple(given.kind or KINDS), PLANTS[given.plant])
    report = campaign.run(given.seconds, stop_when_broken=given.plant != "nothing")
    print(show(report))
    if report.first_broken_after is not None:
        print(f"found after {report.first_broken_after:.1f} s and {report.rounds} kills")
    return 1 if report.sentences else 0


def _torn(given: argparse.Namespace) -> int:
    reason = reason_to_skip()
    if reason:
        print(f"skipped: {reason}")
        return 0
    broken = 0
    for durability in ("strict", "relaxed"):
        for part in range(0, given.images, IMAGES_OF_ONE_WORKLOAD):
            seed = given.seed + part
            report = cut_power(min(given.images, IMAGES_OF_ONE_WORKLOAD), seed, durability=durability)
            print(f"{durability}, seed {seed}: {dict(report.images)}, {report.reported} refused before any answer")
            print(*report.broken[:10], sep="\n", end="")
            broken += len(report.broken)
    return 1 if broken else 0


def _flips(given: argparse.Namespace) -> int:
    logging.disable()
    report = flip_file_bytes(given.number, given.seed)
    for end, times in report.ends.most_common():
        print(f"{times:6} {end}")
    print(*report.broken[:10], sep="\n", end="")
    return 1 if report.broken else 0


if __name__ == "__main__":
    sys.exit(main())
