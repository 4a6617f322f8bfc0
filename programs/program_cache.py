"""Programs as execution needs them, kept in the process by (key, version) so that a job costs no query for it."""

import json
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from jobsite.database import Cursor
from programs.actions.base import Step
from programs.retries import RetryPolicy

SIZE = 1_000


@dataclass(frozen=True)
class RunnableProgram:
    """What running a job of a program takes. Durations in seconds."""

    code: str
    timeout: float
    retry: RetryPolicy
    retry_on_timeout: bool
    transient: tuple[str, ...]
    permanent: tuple[str, ...]
    cancel_grace: float
    steps: tuple[Step, ...]


_cache: "OrderedDict[tuple[int, int], RunnableProgram]" = OrderedDict()


def runnable(cursor: Cursor, program_id: int, version: int) -> RunnableProgram:
    """The program in the version that the claim saw; read once for each version."""
    key = (program_id, version)
    if key not in _cache:
        _cache[key] = _read(cursor, program_id)
        while len(_cache) > SIZE:
            _cache.popitem(last=False)
    return _cache[key]


def _read(cursor: Cursor, program_id: int) -> RunnableProgram:
    cursor.execute(
        """
        SELECT code, timeout_seconds, max_attempts, initial_interval, coefficient, maximum_interval, jitter,
               retry_on_timeout, transient, permanent, cancel_grace_seconds
        FROM jobsite_program WHERE id = %s
        """,
        [program_id],
    )
    row = cursor.fetchone()
    cursor.execute(
        "SELECT name, kind, configuration, timeout_seconds FROM jobsite_action WHERE program_id = %s ORDER BY position",
        [program_id],
    )
    actions = cursor.fetchall()
    return RunnableProgram(
        code=row[0],
        timeout=row[1],
        retry=RetryPolicy(*row[2:7]),
        retry_on_timeout=row[7],
        transient=tuple(row[8]),
        permanent=tuple(row[9]),
        cancel_grace=row[10],
        steps=tuple(
            Step(name or f"{kind} {position}", kind, _loaded(configuration), timeout or row[1])
            for position, (name, kind, configuration, timeout) in enumerate(actions, start=1)
        ),
    )


def _loaded(configuration: Any) -> dict[str, Any]:
    # psycopg gives jsonb as a dict, a cursor of Django's as text.
    return dict(json.loads(configuration) if isinstance(configuration, str) else configuration)
