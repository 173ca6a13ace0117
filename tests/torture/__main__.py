"""`python -m torture CAMPAIGN`: runs a campaign, prints what it did, and exits with 1 when a promise did not hold."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from torture.beacon import KINDS
from torture.kills import Campaign
from torture.plants import PLANTS
from torture.table import show


def main() -> int:
    parser = argparse.ArgumentParser(prog="torture", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    kills = commands.add_parser("kills", help="SIGKILL at chosen moments")
    kills.add_argument("--each", type=int, default=100, help="kills for each kind of op")
    kills.add_argument("--seed", type=int, default=1)
    kills.add_argument("--kind", action="append", choices=KINDS, help="only this kind of op")
    kills.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    kills.add_argument("--plant", choices=sorted(PLANTS), default="nothing", help="a bug to be found")
    given = parser.parse_args()
    campaign = Campaign(given.each, given.seed, tuple(given.kind or KINDS), PLANTS[given.plant])
    report = campaign.run(given.seconds, stop_when_broken=given.plant != "nothing")
    print(show(report))
    if report.first_broken_after is not None:
        print(f"found after {report.first_broken_after:.1f} s and {sum(report.kills.values())} kills")
    return 1 if report.sentences else 0


if __name__ == "__main__":
    sys.exit(main())
