"""Write what becomes of nominal times: a row for each, and the job of each that fires, in one transaction."""

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
class Occurrence:
    """A nominal time of a schedule, and the job to insert, if any; `is_problem` if somebody has to fix something."""

    tenant_id: int
    schedule_id: int
    decision: Decision
    job: NewJob | None = None
    is_problem: bool = False


@dataclass(frozen=True)
class Recorded:
    """What became of an occurrence: the number of its job, or the reason why it has none."""

    occurrence: Occurrence
    number: int | None
    reason: str


class ProgramChanged(Exception):
    """A program was edited while its jobs were prepared: all of them must be prepared again."""


def with_current_programs(act: Callable[[], T]) -> T:
    """Call `act`, a transaction. Where it raises ProgramChanged, read the programs again and repeat it."""
    for _ in range(TRIES):
        try:
            return act()
        except ProgramChanged:
            preparation.forget()
    raise Conflict("the programs of these schedules are being edited; try again", code="contended")


# Whatever happened before, no nominal time gets a second row, and without a new row no job.
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
def record(cursor: Cursor, occurrences: Sequence[Occurrence], *, is_backfill: bool = False) -> list[Recorded]:
    """Write a row for each nominal time that has none, and its job, which is dispatched after the commit.

    Times that have a row already are missing from the answer. Raises ProgramChanged.
    """
    if not occurrences:
        return []
    # A time that fires is MISSED until its job is inserted.
    results = ["MISSED" if occurrence.job is not None else str(occurrence.decision.fate) for occurrence in occurrences]
    cursor.execute(
        RECORD,
        {
            "tenant": [occurrence.tenant_id for occurrence in occurrences],
            "schedule": [occurrence.schedule_id for occurrence in occurrences],
            "at": [occurrence.decision.at for occurrence in occurrences],
            "through": [occurrence.decision.through for occurrence in occurrences],
            "result": results,
            "reason": [occurrence.decision.reason for occurrence in occurrences],
            "was_missed": [occurrence.decision.was_missed for occurrence in occurrences],
            "is_backfill": is_backfill,
        },
    )
    new = {(schedule_id, at) for schedule_id, at in cursor.fetchall()}
    occurrences = [occurrence for occurrence in occurrences if (occurrence.schedule_id, occurrence.decision.at) in new]
    made = list(_jobs_made(cursor, [occurrence for occurrence in occurrences if occurrence.job is not None]))
    cursor.execute(
        SETTLE,
        {
            "schedule": [one.occurrence.schedule_id for one in made],
            "at": [one.occurrence.decision.at for one in made],
            "job": [one.number for one in made],
            "reason": [one.reason for one in made],
        },
    )
    return [
        *made,
        *(
            Recorded(occurrence, None, occurrence.decision.reason)
            for occurrence in occurrences
            if occurrence.job is None
        ),
    ]


DELETE_UNFIRED = """
DELETE FROM jobsite_firing
WHERE schedule_id = %(schedule)s AND result <> 'FIRED'
      AND (nominal_at BETWEEN %(begin)s AND %(end)s OR (nominal_at < %(begin)s AND through > %(begin)s))
RETURNING nominal_at, through
"""


def delete_unfired(cursor: Cursor, row: Schedule, *, begin: datetime, end: datetime) -> None:
    """Delete the rows without a job between two moments, both included, so that a backfill may insert them again.

    Of a row that stands for a range of missed times, the parts before and after the two moments stay.
    """
    cursor.execute(DELETE_UNFIRED, {"schedule": row.pk, "begin": begin, "end": end})
    kept = []
    for nominal_at, through in cursor.fetchall():
        if through is None:
            continue
        if nominal_at < begin:
            kept.append(Decision(nominal_at, Fate.MISSED, through=begin))
        after = recurrence_of(row).next_after(end)
        if after is not None and after < through:
            kept.append(Decision(after, Fate.MISSED, through=through))
    record(cursor, [Occurrence(row.tenant_id, row.pk, decision) for decision in kept])


def _jobs_made(cursor: Cursor, occurrences: Sequence[Occurrence]) -> Iterator[Recorded]:
    jobs = [occurrence.job for occurrence in occurrences if occurrence.job is not None]
    chunks = [jobs[begin : begin + CHUNK] for begin in range(0, len(jobs), CHUNK)]
    # Their owners differ, and without a stored context a job is not inserted, which would look like another refusal.
    for context in {job.context for job in jobs}:
        cursor.execute(KEEP_CONTEXT, [context.key, context.content])
    inserted = insert_all(cursor, chunks)
    ready: dict[int, list[int]] = {}
    waiting: list[int] = []
    left = iter(occurrences)
    for chunk, rows in zip(chunks, inserted, strict=True):
        by_place = {row.position: row for row in rows}
        for place, job in enumerate(chunk):
            occurrence = next(left)
            if (row := by_place.get(place)) is None:
                yield Recorded(occurrence, None, _why_refused(job))
                continue
            if row.blocked is None:
                ready.setdefault(row.queue_id, []).append(row.number)
            elif row.blocked == "OVERLAP":
                waiting.append(row.number)
            yield Recorded(occurrence, row.number, "")
    dispatch.after_commit_many(ready)
    if waiting:
        dispatch.after_commit_let_in(waiting)


def _why_refused(job: NewJob) -> str:
    try:
        submission.refuse_duplicate(job)
    except Conflict as error:
        return str(error)
    raise ProgramChanged
