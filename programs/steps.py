"""The stored steps of a job: each result is written once, under the job's lock, and read again by a later run."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg

from jobsite.logs import get_logger
from programs import workers
from programs.lifecycle import StepStatus
from programs.transitions.claim import Claimed

log = get_logger(__name__)

MAX_STEPS = 10_000
PATIENCE_SECONDS = 60.0

FINISHED = "SELECT action, name, digest, result FROM jobsite_jobstep WHERE job_id = %(job)s AND status = 'COMPLETED'"
# The lock is asked in the statement that writes. A second BEGIN under one fence is the first one again, whose answer
# was lost.
BEGIN = """
WITH mine AS (
    UPDATE jobsite_job SET current_step = %(shown)s
    WHERE number = %(job)s AND lock_token = %(token)s AND status = %(running)s
    RETURNING number, tenant_id, fence
)
INSERT INTO jobsite_jobstep AS s (tenant_id, job_id, action, name, digest, status, tries, fence, started_at)
SELECT tenant_id, number, %(action)s, %(name)s, %(digest)s::uuid, 'RUNNING', 1, fence, clock_timestamp() FROM mine
ON CONFLICT (job_id, action, name) DO UPDATE SET
    status = 'RUNNING', digest = excluded.digest, tries = s.tries + (s.fence < excluded.fence)::integer,
    fence = excluded.fence, started_at = excluded.started_at, ended_at = NULL, result = NULL, error = NULL
RETURNING tries
"""
END = """
WITH mine AS MATERIALIZED (
    SELECT number FROM jobsite_job WHERE number = %(job)s AND lock_token = %(token)s AND status = %(running)s
    FOR NO KEY UPDATE
)
UPDATE jobsite_jobstep s
SET status = %(status)s, result = %(result)s::jsonb, error = %(error)s::jsonb, ended_at = clock_timestamp()
FROM mine WHERE s.job_id = mine.number AND s.action = %(action)s AND s.name = %(name)s
RETURNING s.tries
"""


@dataclass(frozen=True)
class Stored:
    """What a step that has ended in an earlier run gave."""

    result: object


@dataclass(frozen=True)
class Key:
    """Which step of a job: its action, and within it the name given to `context.step`, "" for the action itself.

    Another `digest` makes it another step.
    """

    action: str
    name: str = ""
    digest: UUID | None = None

    @property
    def shown(self) -> str:
        """What people call it."""
        return shown(self.action, self.name)


def shown(action: str, name: str) -> str:
    """What people call a step: its action, and its own name where it is a part of one."""
    return f"{action}: {name}" if name else action


class Steps:
    """The steps of one run. Whoever calls is the thread that runs the action, outside its time limit."""

    def __init__(self, job: Claimed) -> None:
        self._job = job
        self._used: set[Key] = set()
        # Before its second claim a job has none.
        self._finished: dict[tuple[str, str], tuple[UUID | None, object]] | None = {} if job.fence == 1 else None

    def finished(self, key: Key) -> Stored | None:
        """What the step gave, if it has ended well before. Raises ValueError for a name that was used in this run."""
        if key in self._used:
            raise ValueError(f'step "{key.shown}" is there already in this run; give each step a name of its own')
        if len(self._used) >= MAX_STEPS:
            raise ValueError(f"a job has at most {MAX_STEPS:,} steps")
        self._used.add(key)
        if self._finished is None:
            rows = self._execute(FINISHED, {})
            self._finished = {(action, name): (digest, result) for action, name, digest, result in rows}
        digest, result = self._finished.get((key.action, key.name), (None, None))
        is_there = (key.action, key.name) in self._finished and digest == key.digest
        return Stored(result) if is_there else None

    def begin(self, key: Key) -> bool:
        """Write that a step begins; False when this worker no longer holds the job."""
        return self._write(BEGIN, key, digest=key.digest, shown=key.shown[:100])

    def complete(self, key: Key, result: object) -> bool:
        """Write what a step gave, for good; False when this worker no longer holds the job."""
        return self._write(END, key, status=StepStatus.COMPLETED, result=_json(result), error=None)

    def fail(self, key: Key, error: Mapping[str, object]) -> bool:
        """Write that a step failed; False when this worker no longer holds the job."""
        return self._write(END, key, status=StepStatus.FAILED, result=None, error=_json(error))

    def _write(self, statement: str, key: Key, **values: object) -> bool:
        return bool(self._execute(statement, {"action": key.action, "name": key.name, **values}))

    def _execute(self, statement: str, values: Mapping[str, object]) -> list[tuple[Any, ...]]:
        """Execute, over and over with new connections while the database is away: each statement may be repeated."""
        own = {"job": self._job.number, "token": self._job.token, "running": "RUNNING"}
        give_up_at, pause = time.monotonic() + PATIENCE_SECONDS, 0.05
        while True:
            try:
                with workers.connection().cursor() as cursor:
                    cursor.execute(statement, own | dict(values))
                    return cursor.fetchall()
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                workers.drop_connection()
                if time.monotonic() > give_up_at:
                    raise
                log.warning("step_written_again", job=self._job.number, error=str(error))
                time.sleep(pause)
                pause = min(pause * 2, 2.0)


def _json(value: object) -> str | None:
    return None if value is None else json.dumps(value, allow_nan=False, ensure_ascii=False)
