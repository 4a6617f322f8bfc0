"""Schedules: people make and change them, a sweep fires them, and a backfill runs a range of times again."""

from jobsite.programs.schedules import backfills, firing
from jobsite.programs.schedules.checks import Wanted, check
from jobsite.programs.schedules.editing import (
    MAX_PREVIEW,
    Coming,
    change,
    coming,
    create,
    delete,
    find,
    go_on,
    history,
    locked,
    of_tenant,
)

__all__ = [
    "MAX_PREVIEW",
    "Coming",
    "Wanted",
    "backfills",
    "change",
    "check",
    "coming",
    "create",
    "delete",
    "find",
    "firing",
    "go_on",
    "history",
    "locked",
    "of_tenant",
]
