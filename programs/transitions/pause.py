"""Pause and resume programs, schedules, queues and tenants. A paused program's jobs leave their lanes."""

from dataclasses import dataclass

from jobsite.database import Cursor
from jobsite.failpoints import failpoint
from jobsite.programs.rules import lifecycle
from jobsite.programs.rules.lifecycle import IS_OPEN, UNSTARTED, Trigger, listed
from jobsite.programs.sql.blocked import WAITS_FOR_ITS_TURN, blocked
from jobsite.programs.sql.deliveries import MOVED_J, with_deliveries
from jobsite.programs.transitions.cancel import CANCELED
from jobsite.tenants import audit
from jobsite.tenants.models import SYSTEM

BATCH = 2_000

_PAUSED = "paused_at = clock_timestamp(), paused_by = %(by)s, paused_reason = %(reason)s, paused_until = %(until)s"
GOES_ON = "paused_at = NULL, paused_by = '', paused_reason = '', paused_until = NULL"


@dataclass(frozen=True)
class Level:
    """Where a pause is kept, and what people call it.

    `kind` is what is paused, `whole` a word that the audit puts before it. The other fields are SQL: `tenant` and
    `name` of a row; `paused`, whether it is paused; `active`, whether it may be paused; `is_over`, whether a pause with
    an end has ended; `sets` and `clears`, which change other columns with it.
    """

    kind: str
    table: str
    tenant: str
    name: str
    whole: str = ""
    paused: str = "paused_at IS NOT NULL"
    active: str = "paused_at IS NULL"
    sets: str = ""
    clears: str = ""
    is_over: str = "paused_until <= clock_timestamp()"

    @property
    def verb(self) -> str:
        """The verb for pausing it."""
        return "suspend" if self.kind == "tenant" else "pause"

    @property
    def state(self) -> str:
        """The word for its state when paused."""
        return "suspended" if self.kind == "tenant" else "paused"

    def pause(self) -> str:
        """The statement that pauses the row `id`, if it is active."""
        return f"UPDATE {self.table} SET {self.sets}{_PAUSED} WHERE id = %(id)s AND {self.active}"

    def resume(self) -> str:
        """The statement that resumes the row `id`, if it is paused."""
        return f"UPDATE {self.table} SET {self.clears}{GOES_ON} WHERE id = %(id)s AND {self.paused}"

    def end(self) -> str:
        """The statement that resumes every row whose pause has reached its end, with an audit entry."""
        resumed = audit.by_the_system(
            "ended",
            door="'sweep'",
            action=f"'resume {self.whole}{self.kind}'",
            target_type=f"'{self.kind}'",
            target="name",
            reason="'the pause has reached its end'",
        )
        return f"""
            WITH ended AS (
                UPDATE {self.table} SET {self.clears}{GOES_ON}
                WHERE {self.paused} AND {self.is_over}
                RETURNING {self.tenant} AS tenant_id, {self.name} AS name
            )
            {resumed}"""


PROGRAM = Level(
    "program",
    "jobsite_program",
    "tenant_id",
    "code",
    paused="status = 'PAUSED'",
    active="status = 'ACTIVE'",
    sets="status = 'PAUSED', updated_at = clock_timestamp(), ",
    clears="status = 'ACTIVE', updated_at = clock_timestamp(), ",
)
QUEUE = Level(
    "queue", "jobsite_queue", f"(SELECT id FROM jobsite_tenant WHERE code = '{SYSTEM}')", "name", whole="whole "
)
SCHEDULE = Level(
    "schedule",
    "jobsite_schedule",
    "tenant_id",
    "code",
    paused="paused_at IS NOT NULL AND deleted_at IS NULL",
    # Not before its times within the pause are skipped: whoever fires them later would not know of the pause.
    is_over="paused_until <= clock_timestamp() AND (next_at IS NULL OR next_at >= paused_until)",
)
LANE = Level("queue", "jobsite_lane", "tenant_id", "(SELECT name FROM jobsite_queue q WHERE q.id = queue_id)")
TENANT = Level(
    "tenant",
    "jobsite_tenant",
    "id",
    "code",
    paused="status = 'SUSPENDED'",
    active="status = 'ACTIVE'",
    sets="status = 'SUSPENDED', ",
    clears="status = 'ACTIVE', ",
)

# By the index job_open, one batch after the other, so that each open row of the tenant is read once.
BLOCK = f"""
WITH waiting AS MATERIALIZED (
    SELECT number FROM jobsite_job
    WHERE tenant_id = %(tenant)s AND {IS_OPEN} AND number > %(after)s
          AND program_id = %(program)s AND status IN {listed(lifecycle.BLOCK.sources)} AND blocked IS NULL
    ORDER BY number LIMIT %(batch)s FOR NO KEY UPDATE SKIP LOCKED
), moved AS (
    UPDATE jobsite_job j SET status = '{lifecycle.BLOCK.target}', queued_at = NULL, blocked = 'PAUSED'
    FROM waiting WHERE j.number = waiting.number
)
SELECT count(*), max(number) FROM waiting
"""
# By the index job_waits_for_its_program.
UNBLOCK = f"""
WITH going_on AS MATERIALIZED (
    SELECT j.number FROM jobsite_program p JOIN jobsite_job j ON j.program_id = p.id
    WHERE (%(program)s::bigint IS NULL OR p.id = %(program)s)
          AND p.status <> 'PAUSED' AND j.status = 'PENDING' AND j.blocked = 'PAUSED'
    LIMIT %(batch)s FOR NO KEY UPDATE OF j SKIP LOCKED
)
UPDATE jobsite_job j SET blocked = {blocked(turn=WAITS_FOR_ITS_TURN)} FROM going_on WHERE j.number = going_on.number
RETURNING j.number, j.queue_id
"""
CANCEL_AUTOMATIC = f"""
WITH waiting AS MATERIALIZED (
    SELECT number FROM jobsite_job
    WHERE tenant_id = %(tenant)s AND {IS_OPEN} AND number > %(after)s
          AND program_id = %(program)s AND status IN {listed(UNSTARTED)} AND trigger = '{Trigger.AUTOMATIC}'
    ORDER BY number LIMIT %(batch)s FOR NO KEY UPDATE SKIP LOCKED
), moved AS (
    {CANCELED.format(by="%(by)s", reason="%(reason)s")}
    FROM waiting WHERE j.number = waiting.number
    RETURNING {MOVED_J}, j.status AS target
){with_deliveries("moved")}
SELECT count(*), max(number), (SELECT count(*) FROM deliveries) FROM waiting
"""


@failpoint("block")
def block(cursor: Cursor, *, tenant_id: int, program_id: int, after: int = 0) -> int | None:
    """Take a batch of a paused program's waiting jobs out of their lanes. Returns the last number, None at the end."""
    cursor.execute(BLOCK, {"tenant": tenant_id, "program": program_id, "after": after, "batch": BATCH})
    count, last = cursor.fetchone()
    return last if count == BATCH else None


@failpoint("unpause")
def unblock(cursor: Cursor, *, program_id: int | None = None) -> list[tuple[int, int]]:
    """Bring a batch of jobs back into their lanes whose program is not paused any more: (number, queue id).

    The jobs are those of all programs, or of this one.
    """
    cursor.execute(UNBLOCK, {"program": program_id, "batch": BATCH})
    return [(number, queue_id) for number, queue_id in cursor.fetchall()]


@failpoint("cancel_automatic")
def cancel_automatic(
    cursor: Cursor, *, tenant_id: int, program_id: int, by: str, reason: str, after: int = 0
) -> int | None:
    """Cancel a batch of a terminated program's waiting jobs that schedules made. Batches go on as in `block`."""
    values = {"tenant": tenant_id, "program": program_id, "after": after, "batch": BATCH, "by": by, "reason": reason}
    cursor.execute(CANCEL_AUTOMATIC, values)
    count, last, _ = cursor.fetchone()
    return last if count == BATCH else None
