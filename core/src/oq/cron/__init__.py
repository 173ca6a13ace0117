"""Cron: what a schedule means, and which moments of an entry are submitted when. Values and rules only."""

from oq.cron.entry import (
    FIELDS,
    CatchUp,
    CronEntry,
    CronState,
    Fired,
    Overlap,
    Tick,
    tasks_of,
    tick_key,
)
from oq.cron.firing import ON_TIME, Firing, Reason, Skipped, fire, linked, plan, run_now
from oq.cron.moments import missed, next_after, upcoming
from oq.cron.schedule import Schedule, describe, parse_schedule, parse_zone

__all__ = [
    "FIELDS",
    "ON_TIME",
    "CatchUp",
    "CronEntry",
    "CronState",
    "Fired",
    "Firing",
    "Overlap",
    "Reason",
    "Schedule",
    "Skipped",
    "Tick",
    "describe",
    "fire",
    "linked",
    "missed",
    "next_after",
    "parse_schedule",
    "parse_zone",
    "plan",
    "run_now",
    "tasks_of",
    "tick_key",
    "upcoming",
]
