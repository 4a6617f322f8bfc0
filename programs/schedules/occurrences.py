"""What becomes of nominal times, written: a row for each, and the job of each that fires, in one transaction."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from django.db import OperationalError

from jobsite.database import Cursor
from jobsite.errors import Conflict
from jobsite.failpoints import failpoint
from jobsite.programs import dispatch, submission
from jobsite.programs.models import Schedule
from jobsite.programs.rules.recurrence import Decision, Fate, recurrence_of
from jobsite.programs.submission import preparation
from jobsite.programs.transitions.submit import KEEP_CONTEXT, NewJob, insert_all

T = TypeVar("T")
CHUNK = 1_000
TRIES = 3


@dataclass(frozen=True)
class Turn:
    """A nominal time of a schedule, and the job that it wants, if any; `is_problem` if somebody has to mend it."""

    tenant_id: int
    schedule_id: int
    decision: Decision
    job: NewJob | None = None
    is_problem: bool = False


@dataclass(frozen=True)
class Recorded:
    """What became of a turn: the number of its job, or why it has none."""

    turn: Turn
    number: int | None
    reason: str


class ProgramChanged(Exception):
    """A program was edited while its jobs were made ready: all of it has to be looked at anew."""


def with_programs_of_now(act: Callable[[], T]) -> T:
    """What `act`, a transaction, returns; done anew where it met ProgramChanged, with the programs read anew."""
    for _ in range(TRIES):
        try:
            return act()
        except ProgramChanged:
            preparation.forget()
    raise Conflict("the programs of these schedules are edited all the time; try again", code="contended")


# Whatever came before, no nominal time gets a second row, and without a row no job.
RECORD = """
INSERT INTO jobsite_firing (tenant_id, schedule_id, nominal_at, through, result, reason, was_missed, is_backfill)
SELECT *, %(is_backfill)s::boolean
FROM unnest(%(tenant)s::bigint[], %(schedule)s::bigint[], %(at)s::timestamptz[], %(through)s::timestamptz[],
            %(result)s::text[], %(reason)s::text[], %(was_missed)s::boolean[])
ON CONFLICT (schedule_id, nominal_at) DO NOTHING
RETURNING schedule_id, nominal_at
"""
SETTLE = """
UPDATE jobsite_firing f
SET result = CASE WHEN g.job IS NULL THEN 'SKIPPED' ELSE 'FIRED' END, job_number = g.job, reason = g.reason
FROM unnest(%(schedule)s::bigint[], %(at)s::timestamptz[], %(job)s::bigint[], %(reason)s::text[])
     AS g (schedule_id, nominal_at, job, reason)
WHERE f.schedule_id = g.schedule_id AND f.nominal_at = g.nominal_at
"""


@failpoint("record_firings", fails_with=OperationalError)
def record(cursor: Cursor, turns: Sequence[Turn], *, is_backfill: bool = False) -> list[Recorded]:
    """Write a row for each turn whose nominal time has none, and its job, sent on its way after the commit.

    Those that have a row already are missing from the answer. Raises ProgramChanged.
    """
    if not turns:
        return []
    # What fires is MISSED until it has its job.
    results = ["MISSED" if turn.job is not None else str(turn.decision.fate) for turn in turns]
    cursor.execute(
        RECORD,
        {
            "tenant": [turn.tenant_id for turn in turns],
            "schedule": [turn.schedule_id for turn in turns],
            "at": [turn.decision.at for turn in turns],
            "through": [turn.decision.through for turn in turns],
            "result": results,
            "reason": [turn.decision.reason for turn in turns],
            "was_missed": [turn.decision.was_missed for turn in turns],
            "is_backfill": is_backfill,
        },
    )
    new = {(schedule_id, at) for schedule_id, at in cursor.fetchall()}
    turns = [turn for turn in turns if (turn.schedule_id, turn.decision.at) in new]
    made = list(_jobs_made(cursor, [turn for turn in turns if turn.job is not None]))
    cursor.execute(
        SETTLE,
        {
            "schedule": [one.turn.schedule_id for one in made],
            "at": [one.turn.decision.at for one in made],
            "job": [one.number for one in made],
            "reason": [one.reason for one in made],
        },
    )
    return [*made, *(Recorded(turn, None, turn.decision.reason) for turn in turns if turn.job is None)]


GIVE_WAY = """
DELETE FROM jobsite_firing
WHERE schedule_id = %(schedule)s AND result <> 'FIRED'
      AND (nominal_at BETWEEN %(begin)s AND %(end)s OR (nominal_at < %(begin)s AND through > %(begin)s))
RETURNING nominal_at, through
"""


def give_way(cursor: Cursor, row: Schedule, *, begin: datetime, end: datetime) -> None:
    """Take away the rows between two moments, both included, that have no job, so that a backfill may make them anew.

    Of a stretch of times that were missed, what lies before and after stays one.
    """
    cursor.execute(GIVE_WAY, {"schedule": row.pk, "begin": begin, "end": end})
    kept = []
    for nominal_at, through in cursor.fetchall():
        if through is None:
            continue
        if nominal_at < begin:
            kept.append(Decision(nominal_at, Fate.MISSED, through=begin))
        after = recurrence_of(row).next_after(end)
        if after is not None and after < through:
            kept.append(Decision(after, Fate.MISSED, through=through))
    record(cursor, [Turn(row.tenant_id, row.pk, decision) for decision in kept])


def _jobs_made(cursor: Cursor, turns: Sequence[Turn]) -> Iterator[Recorded]:
    jobs = [turn.job for turn in turns if turn.job is not None]
    chunks = [jobs[begin : begin + CHUNK] for begin in range(0, len(jobs), CHUNK)]
    # Their owners differ: a job whose context is not there yet would be taken for another one's.
    for context in {job.context for job in jobs}:
        cursor.execute(KEEP_CONTEXT, [context.key, context.content])
    inserted = insert_all(cursor, chunks)
    ready: dict[int, list[int]] = {}
    waiting: list[int] = []
    left = iter(turns)
    for chunk, rows in zip(chunks, inserted, strict=True):
        by_place = {row.position: row for row in rows}
        for place, job in enumerate(chunk):
            turn = next(left)
            if (row := by_place.get(place)) is None:
                yield Recorded(turn, None, _why_refused(job))
                continue
            if row.blocked is None:
                ready.setdefault(row.queue_id, []).append(row.number)
            elif row.blocked == "OVERLAP":
                waiting.append(row.number)
            yield Recorded(turn, row.number, "")
    dispatch.after_commit_many(ready)
    if waiting:
        dispatch.after_commit_let_in(waiting)


def _why_refused(job: NewJob) -> str:
    try:
        submission.refuse_duplicate(job)
    except Conflict as error:
        return str(error)
    raise ProgramChanged
