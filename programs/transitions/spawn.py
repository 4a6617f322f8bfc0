"""Insert a PENDING child of a job, in the transaction of the run that spawns it."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from jobsite.database import Cursor, execute, waits_at_most
from jobsite.failpoints import failpoint
from jobsite.programs.rules.lifecycle import Trigger
from jobsite.programs.sql import deliveries, lanes
from jobsite.programs.sql.blocked import PROGRAM_IS_PAUSED, blocked, takes_turns
from jobsite.programs.transitions.submit import NewJob

OWN_KEY = "auto:"
"""How the key begins that a child gets where the action gave none."""

# A lost run may hold the same key in a transaction that never ends, so the wait for it is limited.
WAIT = "10s"
# The statement asks for the parent's token, and the commit once more for its fence (job_spawned_by_a_run). The child
# runs as the parent does: it has the parent's context.
SPAWN = f"""
INSERT INTO jobsite_job (
    tenant_id, program_id, queue_id, trigger, priority, parameters, context_id, scheduled_at, due_at, rank, blocked,
    overlap_policy, overlap_key, engine, has_secrets, created_at, parent_id, child_key, parent_fence)
SELECT m.tenant_id, p.id, p.queue_id, '{Trigger.CHILD}', g.priority, %(parameters)s::jsonb, m.context_id,
       coalesce(g.at, statement_timestamp()), g.due_at, {lanes.rank("g.due_at", "g.priority")},
       {
    blocked(early="g.at > statement_timestamp()", paused=PROGRAM_IS_PAUSED, turn=takes_turns("%(overlap_policy)s"))
},
       %(overlap_policy)s, %(overlap_key)s, %(engine)s, %(has_secrets)s, clock_timestamp(),
       m.number, %(child_key)s, m.fence
FROM jobsite_job m
JOIN jobsite_program p ON p.id = %(program)s AND p.tenant_id = m.tenant_id AND p.version = %(version)s
     AND p.deleted_at IS NULL
CROSS JOIN LATERAL (SELECT %(scheduled_at)s::timestamptz AS at,
                           greatest(%(scheduled_at)s::timestamptz, statement_timestamp()) AS due_at,
                           coalesce(%(priority)s::smallint, p.priority) AS priority) g
WHERE m.number = %(parent)s AND m.lock_token = %(token)s AND m.status = 'RUNNING' AND {waits_at_most(WAIT)}
ON CONFLICT DO NOTHING
RETURNING number, queue_id, blocked
"""
# The job itself, and those that it descends from.
LINE = f"""
WITH RECURSIVE line AS (
    SELECT number, parent_id, program_id, overlap_policy, overlap_key FROM jobsite_job WHERE number = %s
    UNION ALL
    SELECT p.number, p.parent_id, p.program_id, p.overlap_policy, p.overlap_key
    FROM line JOIN jobsite_job p ON p.number = line.parent_id
)
SELECT number, program_id, CASE WHEN {takes_turns("overlap_policy")} THEN overlap_key END FROM line
"""


@dataclass(frozen=True)
class Spawned:
    """A new child; `blocked` says what it waits for, if anything."""

    number: int
    queue_id: int
    blocked: str | None


@dataclass(frozen=True)
class Ancestor:
    """A job that another descends from, or that other itself; `queue_key` is the QUEUE key that it holds, if any."""

    number: int
    program_id: int
    queue_key: str | None


@failpoint("spawn")
def spawn(cursor: Cursor, child: NewJob, *, parent: int, token: UUID, key: str) -> Spawned | None:
    """Insert a child of the job that this token holds.

    Returns None where the token no longer holds the job, the program was edited since the child was validated, or a
    unique key is taken: the caller finds out which. At the commit the database raises job_spawned_by_a_run if the run
    has ended. Raises LockNotAvailable where another transaction holds the key for more than ten seconds; from then on
    this limit applies to every lock that the caller's transaction waits for.
    """
    values = {
        "parent": parent,
        "token": token,
        "child_key": key,
        "program": child.program_id,
        "version": child.program_version,
        "parameters": child.parameters,
        "priority": child.priority,
        "scheduled_at": child.scheduled_at,
        "overlap_policy": str(child.overlap_policy),
        "overlap_key": child.overlap_key,
        "engine": child.engine,
        "has_secrets": child.has_secrets,
    }
    row = execute(cursor, SPAWN, values).fetchone()
    if row is None:
        return None
    if child.notifies:
        deliveries.submitted(cursor, [row[0]])
    return Spawned(*row)


def line(cursor: Cursor, number: int) -> Sequence[Ancestor]:
    """A job, its parent, that one's parent and so on."""
    cursor.execute(LINE, [number])
    return [Ancestor(*row) for row in cursor.fetchall()]
