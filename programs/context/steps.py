"""The stored steps of a job: each result is written once, under the job's lock, and read again by a later run."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from uuid import UUID

from jobsite.programs import workers
from jobsite.programs.rules.lifecycle import StepStatus, step_name
from jobsite.programs.transitions.claim import Claimed

MAX_STEPS = 10_000

KNOWN = """
SELECT action, name, digest, status = 'COMPLETED', warned FROM jobsite_jobstep WHERE job_id = %(job)s
"""
RESULT = "SELECT result FROM jobsite_jobstep WHERE job_id = %(job)s AND action = %(action)s AND name = %(name)s"
# The statement that writes asks for the lock. A second BEGIN under one fence repeats the first one, whose answer was
# lost.
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
    fence = excluded.fence, started_at = excluded.started_at, ended_at = NULL, result = NULL, error = NULL,
    warned = false
RETURNING tries
"""
END = """
WITH mine AS MATERIALIZED (
    SELECT number FROM jobsite_job WHERE number = %(job)s AND lock_token = %(token)s AND status = %(running)s
    FOR NO KEY UPDATE
)
UPDATE jobsite_jobstep s
SET status = %(status)s, result = %(result)s::jsonb, error = %(error)s::jsonb, warned = %(warned)s,
    ended_at = clock_timestamp()
FROM mine WHERE s.job_id = mine.number AND s.action = %(action)s AND s.name = %(name)s
RETURNING s.result
"""


@dataclass(frozen=True)
class Step:
    """One action as it is run now: its configuration, and its time limit in seconds.

    A callback that is called again, after children that it spawned itself, has another `turn`.
    """

    name: str
    kind: str
    configuration: Mapping[str, Any]
    timeout: float
    turn: int = 0

    @cached_property
    def digest(self) -> UUID:
        """A digest of its name and what it does: an action that was edited is another step.

        The secret of a webhook is left out: with another one it does the same.
        """
        what = {key: value for key, value in self.configuration.items() if key != "secret"}
        content = json.dumps([self.name, self.kind, what, *([self.turn] if self.turn else [])], sort_keys=True)
        return UUID(bytes=hashlib.sha256(content.encode()).digest()[:16])


@dataclass(frozen=True)
class Stored:
    """The result of a completed step, as the database keeps it, and whether the step warned."""

    result: object
    warned: bool


@dataclass(frozen=True)
class Key:
    """Which step of a job: its action, and within it the name given to `context.step`, "" for the action itself.

    An action that was edited has another `digest`, and is another step.
    """

    action: str
    digest: UUID
    name: str = ""

    @property
    def shown(self) -> str:
        """The name that people see."""
        return step_name(self.action, self.name)


class Steps:
    """The steps of one run. Only the thread that runs the action calls them, outside its time limit."""

    def __init__(self, job: Claimed) -> None:
        self._job = job
        self._used: set[Key] = set()
        # Before its second claim a job has no steps.
        self._known: dict[tuple[str, str], tuple[UUID, bool, bool]] | None = {} if job.fence == 1 else None

    def finished(self, key: Key) -> Stored | None:
        """The result of the step, if it completed before. Raises ValueError for a name that was used in this run."""
        if key in self._used:
            raise ValueError(f'this run has called step "{key.shown}" already; give each step a name of its own')
        self._used.add(key)
        if self._known is None:
            self._known = {(action, name): tuple(rest) for action, name, *rest in self._execute(KNOWN, {})}
        digest, is_completed, warned = self._known.setdefault((key.action, key.name), (key.digest, False, False))
        if len(self._known) > MAX_STEPS:
            raise ValueError(f"a job has at most {MAX_STEPS:,} steps")
        if not is_completed or digest != key.digest:
            return None
        # One by one: together they may be larger than a worker's memory.
        [(result,)] = self._execute(RESULT, {"action": key.action, "name": key.name})
        return Stored(result, warned)

    def begin(self, key: Key) -> bool:
        """Write that a step has begun; False when this worker no longer holds the job."""
        return bool(self._write(BEGIN, key, digest=key.digest, shown=key.shown[:100]))

    def complete(self, key: Key, result: object, *, warned: bool) -> Stored | None:
        """Write the result of a step. Returns it as it is stored, or None when this worker no longer holds the job."""
        rows = self._write(END, key, status=StepStatus.COMPLETED, result=_json(result), error=None, warned=warned)
        return Stored(rows[0][0], warned) if rows else None

    def fail(self, key: Key, error: Mapping[str, object]) -> bool:
        """Write that a step has failed; False when this worker no longer holds the job."""
        return bool(self._write(END, key, status=StepStatus.FAILED, result=None, error=_json(error), warned=False))

    def _write(self, statement: str, key: Key, **values: object) -> list[tuple[Any, ...]]:
        return self._execute(statement, {"action": key.action, "name": key.name, **values})

    def _execute(self, statement: str, values: Mapping[str, object]) -> list[tuple[Any, ...]]:
        own = {"job": self._job.number, "token": self._job.token, "running": "RUNNING"}
        return workers.execute_patiently(statement, own | dict(values))


def _json(value: object) -> str | None:
    return None if value is None else json.dumps(value, allow_nan=False, ensure_ascii=False)
