"""How long the jobs of each program take: counted in the process, added to the program's mean once a second."""

import threading
import time
from collections import defaultdict

import psycopg

from jobsite.logs import get_logger
from jobsite.programs import workers

log = get_logger(__name__)

STORE_SECONDS = 1.0
REMEMBERED_RUNS = 20

_lock = threading.Lock()
_sums: defaultdict[int, tuple[int, float]] = defaultdict(lambda: (0, 0.0))
_stored_at = 0.0

# A moving mean over about the last twenty runs. It is not used before that, so that a few lucky runs fill no window.
STORE = """
UPDATE jobsite_program p SET
    measured_runs = p.measured_runs + s.runs,
    mean_seconds = CASE WHEN p.mean_seconds IS NULL THEN s.mean
                        ELSE p.mean_seconds + (s.mean - p.mean_seconds) * least(1, s.runs / %(memory)s::float) END
FROM (SELECT * FROM unnest(%(programs)s::bigint[], %(runs)s::bigint[], %(means)s::float[]) AS m (id, runs, mean)
      ORDER BY id) s
WHERE p.id = s.id
"""


def add(program_id: int, seconds: float) -> None:
    """Count one run of a program."""
    with _lock:
        runs, total = _sums[program_id]
        _sums[program_id] = (runs + 1, total + seconds)


def store_if_due() -> None:
    """Write what was counted, at most once a second, on this thread's connection."""
    global _stored_at
    with _lock:
        if not _sums or time.monotonic() - _stored_at < STORE_SECONDS:
            return
        _stored_at = time.monotonic()
        counted = dict(_sums)
        _sums.clear()
    try:
        workers.connection().execute(
            STORE,
            {
                "programs": list(counted),
                "runs": [runs for runs, _ in counted.values()],
                "means": [total / runs for runs, total in counted.values()],
                "memory": REMEMBERED_RUNS,
            },
        )
    except psycopg.OperationalError as error:
        log.warning("measures_lost", programs=len(counted), error=str(error))
        workers.drop_connection()
