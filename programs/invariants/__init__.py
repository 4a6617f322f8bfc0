"""Whether the invariants of docs/protocol.md hold: every one that the database and the brokers can be asked.

I1, I13 (the brokers are empty) and whether all deliveries are sent are asked at rest only.
Not asked here, because only a test knows what it did: I7 (the effect ledger), I15 (the fault really happened), the
client's half of I14 (what was accepted), whether a time of a schedule is missing (I9), whether somebody was not told
who should have been (I11), and whether processes or containers are left over (I13).
"""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain

import psycopg
from django.conf import settings
from django.db.utils import Error

from jobsite import brokers
from jobsite.database import Cursor, snapshot
from jobsite.programs.invariants import deliveries, firings, relations, rows, runs
from jobsite.programs.invariants.looks import Look, Rule

__all__ = ["NotChecked", "Report", "Rule", "Violation", "check", "examine"]

NAMED_JOBS = 20
SHOWN_ROWS = 3
LONGEST_VALUE = 200
STATEMENT_SECONDS = 300.0
LOCK_SECONDS = 10.0
BROKERS_ARE_EMPTY = "At rest the brokers are empty"

LIVE = (
    *(rows.JOBS, rows.DUE, rows.ENDED_HOLDS, rows.PAUSED),
    *(runs.HISTORIES, runs.ATTEMPTS, runs.STEPS, runs.SUCCESSIONS, runs.LOCKS, runs.TOKENS, runs.MANAGERS, runs.QUOTAS),
    *(relations.OPEN_CHILDREN, relations.WAITING, relations.RELATIVES, relations.ACTIONS, relations.OWNERS),
    *(relations.LOG_ENTRIES, relations.STRAY_ENTRIES, *relations.UNIQUE),
    *(firings.SCHEDULES, firings.FIRINGS, deliveries.DELIVERIES, deliveries.UNIQUE),
)
AT_REST = (*LIVE, relations.REST, deliveries.UNSENT)


@dataclass(frozen=True)
class Violation:
    """A rule that does not hold: for `count` rows, of which `jobs` names the first and `said` describes some."""

    invariant: str
    rule: str
    jobs: tuple[int, ...]
    said: str
    count: int


@dataclass(frozen=True)
class Report:
    """What was found, and how much was looked at in how many seconds."""

    violations: tuple[Violation, ...]
    rules: int
    jobs: int
    attempts: int
    seconds: float


class NotChecked(Exception):
    """Not all rules could be asked; nothing is known of those that were not."""


def check(cursor: Cursor, *, at_rest: bool = False) -> list[Violation]:
    """The rules that do not hold, in the order of docs/protocol.md; `at_rest` also asks what holds only then.

    It only reads, in one snapshot where the cursor is in no transaction yet, and may be called on a live system. What
    that puts right by itself is a violation only once it has lasted for longer than two sweeps and half a lock. A limit
    or quota that was lowered below what runs is reported until enough jobs have ended. It reads all jobs, attempts and
    log entries once or twice, a few seconds for each million. Meanwhile VACUUM cannot remove dead rows.

    Raises:
        NotChecked: a query took longer than five minutes, or its table was locked for ten seconds.
        brokers.BrokerUnavailable: at rest, when a broker cannot be asked.
    """
    return list(examine(cursor, at_rest=at_rest).violations)


def examine(cursor: Cursor, *, at_rest: bool = False) -> Report:
    """`check`, with how much was looked at."""
    began = time.monotonic()
    looks = AT_REST if at_rest else LIVE
    found = _brokers() if at_rest else []
    try:
        with snapshot(cursor, statement_seconds=STATEMENT_SECONDS, lock_seconds=LOCK_SECONDS) as now:
            cursor.execute("SET LOCAL jit = off")  # the statements are long and most rows few: compiling costs more
            found += chain.from_iterable(_asked(cursor, look, now) for look in looks)
            jobs, attempts = _count(cursor, "jobsite_job"), _count(cursor, "jobsite_jobattempt")
    except (Error, psycopg.Error) as error:
        cause = error.__cause__ if isinstance(error, Error) else error
        if isinstance(cause, (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable)):
            raise NotChecked(f"the invariants could not be checked: {str(cause).splitlines()[0]}") from error
        raise
    found.sort(key=lambda one: int(one.invariant.removeprefix("I")))
    rules = sum(len(look.rules) for look in looks) + at_rest
    return Report(tuple(found), rules, jobs, attempts, time.monotonic() - began)


def _count(cursor: Cursor, table: str) -> int:
    cursor.execute(f"SELECT count(*) FROM {table}")
    return int(cursor.fetchone()[0])


def _asked(cursor: Cursor, look: Look, now: datetime) -> Iterator[Violation]:
    patience = 2 * settings.JOBSITE_SWEEP_SECONDS + settings.JOBSITE_LOCK_SECONDS / 2
    cursor.execute(look.statement, {"now": now, "patience": patience, "named": NAMED_JOBS})
    broken: dict[int, list[dict[str, object]]] = {}
    counts: dict[int, int] = {}
    for place, count, row in cursor.fetchall():
        broken.setdefault(place, []).append(json.loads(row))
        counts[place] = count
    for place, rows_of_rule in broken.items():
        yield _violation(look.rules[place], rows_of_rule, counts[place])


def _violation(rule: Rule, broken: Sequence[dict[str, object]], count: int) -> Violation:
    jobs: dict[int, None] = {}
    for row in broken:
        numbers = row.get("numbers") or [row["number"]]
        assert isinstance(numbers, list)
        jobs |= dict.fromkeys(number for number in numbers if number is not None)
    said = [rule.said.format_map({name: _shown(value) for name, value in row.items()}) for row in broken[:SHOWN_ROWS]]
    if count > len(said):
        said.append(f"and {count - len(said):,} more")
    return Violation(rule.invariant, rule.sentence, tuple(jobs)[:NAMED_JOBS], "; ".join(said), count)


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(str(one) for one in value)
    return "empty" if value is None else str(value)[:LONGEST_VALUE]


def _brokers() -> list[Violation]:
    found = []
    for url, queues in brokers.queues_by_url().items():
        for queue, waiting in brokers.state(url, queues).waiting.items():
            if waiting:
                said = f"messages in queue {queue} of {brokers.masked(url)}: {waiting}"
                found.append(Violation("I13", BROKERS_ARE_EMPTY, (), said, waiting))
    return found
