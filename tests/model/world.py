"""The real tables of the model, in one transaction that never commits."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from jobsite.database import Cursor
from jobsite.programs import workers
from jobsite.programs.transitions import submit
from jobsite.programs.upkeep import installation
from jobsite.tenants.principals import Captured
from tests.model import reference
from tests.model.rows import MAX_FAILURES, Program

TICK = 1_000.0  # seconds: the database's clock may go on for minutes between two moves and change nothing
QUOTAS = {"acme": None, "umbrella": 2}  # of running jobs, by tenant
TENANTS = tuple(QUOTAS)
QUEUES = ("default", "content", "analytics")
MANAGERS = {"default": None, "narrow": 1}
CONTEXT = Captured(UUID(int=1), "{}")

# Moments are compared in half ticks from now, since the two sides do not take the same time.
JOBS = """
SELECT number, status, blocked, attempts, losses, returns, fence, lock_token, lock_owner, alone,
       cancel_requested_at IS NOT NULL AS is_asked, failure_kind,
       CASE WHEN status = 'RUNNING' THEN external_id END AS message,
       round(extract(epoch FROM due_at - clock_timestamp()) / 500)::integer AS due,
       round(extract(epoch FROM lock_expires_at - clock_timestamp()) / 500)::integer AS expires,
       round(extract(epoch FROM stuck_at - clock_timestamp()) / 500)::integer AS stuck,
       round(extract(epoch FROM queued_at - clock_timestamp()) / 500)::integer AS queued,
       round(extract(epoch FROM hold_until - clock_timestamp()) / 500)::integer AS hold_until,
       (SELECT json_agg(json_build_array(a.fence, a.token, a.result) ORDER BY a.fence)
        FROM jobsite_jobattempt a WHERE a.job_id = j.number) AS attempt_rows,
       status = 'RUNNING' AND started_at IS NULL AS is_grouped, parent_id, parent_fence, parked_fence,
       md5(j::text)
FROM jobsite_job j ORDER BY number
"""
OTHERS = """
SELECT (SELECT json_agg(json_build_array(q.name, t.code)) FROM jobsite_lane l
        JOIN jobsite_queue q ON q.id = l.queue_id JOIN jobsite_tenant t ON t.id = l.tenant_id WHERE l.is_waiting),
       (SELECT json_agg(json_build_array(incarnation, status)) FROM jobsite_worker),
       (SELECT json_agg(json_build_array(id, json_build_array(consecutive_failures, status))) FROM jobsite_program)
"""
# Open jobs grow older; ended jobs are final, and no statement asks when they ended.
TIME_PASSES = (
    """UPDATE jobsite_job SET due_at = due_at - t, rank = rank - t, queued_at = queued_at - t, stuck_at = stuck_at - t,
              lock_expires_at = lock_expires_at - t, claimed_at = claimed_at - t, started_at = started_at - t,
              hold_until = hold_until - t
       FROM make_interval(secs => %s) AS t WHERE status NOT IN ('COMPLETED', 'FAILED', 'CANCELED')""",
    """UPDATE jobsite_jobattempt a SET claimed_at = a.claimed_at - t, started_at = a.started_at - t,
              ended_at = a.ended_at - t
       FROM jobsite_job j, make_interval(secs => %s) AS t
       WHERE j.number = a.job_id AND j.status NOT IN ('COMPLETED', 'FAILED', 'CANCELED')""",
    "UPDATE jobsite_worker SET last_seen_at = last_seen_at - make_interval(secs => %s)",
)


class World:
    """The real tables, in one transaction that never commits: every example starts from the same savepoint."""

    def __init__(self, damage: Callable[[Cursor], None] | None = None) -> None:
        self.connection = workers.open_connection()
        self.cursor = self.connection.cursor()
        self.cursor.execute("BEGIN")
        installation.register(self.cursor)
        self.tenants = {
            code: self._one(
                "INSERT INTO jobsite_tenant (code, name, running_quota) VALUES (%s, '', %s) RETURNING id", code, quota
            )
            for code, quota in QUOTAS.items()
        }
        self.queues = {name: self._one("SELECT id FROM jobsite_queue WHERE name = %s", name) for name in QUEUES}
        for name, limit in MANAGERS.items():
            self.cursor.execute(
                "INSERT INTO jobsite_workermanager (name, max_running) VALUES (%s, %s) ON CONFLICT DO NOTHING",
                [name, limit],
            )
        self.programs = [
            self._program("acme", "default"),
            self._program(
                *("acme", "default"),
                max_losses=2,
                retries_timeouts=True,
                max_attempts=2,
                counts_failures=True,
                fails_with_children=True,
                takes_children_along=True,
            ),
            self._program("acme", "default", fails_when_lost=True, overlap="REJECT"),
            self._program("acme", "content", overlap="QUEUE"),
            self._program("acme", "analytics", seconds=0.001),
            self._program("umbrella", "default"),
            self._program("umbrella", "default", overlap="REJECT", counts_failures=True),
        ]
        self.cursor.execute(submit.KEEP_CONTEXT, [CONTEXT.key, CONTEXT.content])
        if damage is not None:
            self.cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            damage(self.cursor)
        self.cursor.execute("SAVEPOINT start")

    def _one(self, statement: str, *values: object) -> int:
        self.cursor.execute(statement, values)
        row = self.cursor.fetchone()
        assert row is not None
        return int(row[0])

    def _program(self, tenant: str, queue: str, **fields: Any) -> Program:
        program = Program(0, tenant, queue, **fields)
        program.id = self._one(
            """
            INSERT INTO jobsite_program (tenant_id, queue_id, code, parameters_schema, timeout_seconds, max_attempts,
                                         max_worker_losses, on_worker_lost, retry_on_timeout,
                                         max_consecutive_failures, mean_seconds, on_child_failure,
                                         cancel_children_on_failure, measured_runs)
            VALUES (%s, %s, gen_random_uuid()::text, '{}', %s, %s, %s, %s, %s, %s, %s, %s, %s, 20) RETURNING id
            """,
            self.tenants[tenant],
            self.queues[queue],
            reference.STUCK * TICK - 10,
            program.max_attempts,
            program.max_losses,
            "FAIL" if program.fails_when_lost else "RETRY",
            program.retries_timeouts,
            MAX_FAILURES if program.counts_failures else None,
            program.seconds,
            "FAIL" if program.fails_with_children else "WARN",
            program.takes_children_along,
        )
        return program

    def back_to(self, savepoint: str) -> None:
        """Undo all since then. Not by the cursor, which would drop its prepared statements at every ROLLBACK."""
        self.connection.pgconn.exec_(f"ROLLBACK TO SAVEPOINT {savepoint}".encode())

    def close(self) -> None:
        self.connection.close()
