"""A database as it is after years: finished, future and held jobs of many tenants, inserted in bulk."""

from dataclasses import dataclass
from typing import Any

import psycopg

Connection = psycopg.Connection[tuple[Any, ...]]

TABLES = ("jobsite_job", "jobsite_jobattempt")
CODE = "filler"


@dataclass(frozen=True)
class Growth:
    """How many rows of each kind there are. All follow from the number of finished jobs."""

    finished: int

    @property
    def future(self) -> int:
        return self.finished // 10

    @property
    def held(self) -> int:
        return self.finished // 100

    @property
    def tenants(self) -> int:
        return max(1, self.finished // 10_000)


# Each tenant has one program; all its jobs are of this program.
TENANTS = """
INSERT INTO jobsite_tenant (code, name) SELECT 'filler-' || n, 'Filler ' || n FROM generate_series(1, %(tenants)s) n
"""
PROGRAMS = """
INSERT INTO jobsite_program (tenant_id, code, queue_id, parameters_schema, timeout_seconds)
SELECT t.id, 'filler', q.id, '{}', 60 FROM jobsite_tenant t, jobsite_queue q
WHERE t.code LIKE 'filler-%%' AND q.name = 'default'
"""
CONTEXT = """
INSERT INTO jobsite_capturedcontext (key, content) VALUES ('00000000-0000-0000-0000-00000000f111', '{}')
"""
# Jobs go to the tenants in turn. They are due at ten a second in the past and at one a second in the future.
JOBS = """
WITH filler AS MATERIALIZED (
    SELECT p.tenant_id, p.id AS program_id, p.queue_id, row_number() OVER (ORDER BY p.id) - 1 AS place
    FROM jobsite_program p WHERE p.code = 'filler'
)
INSERT INTO jobsite_job (
    number, tenant_id, program_id, queue_id, parameters, context_id, scheduled_at, due_at, rank, created_at,
    status, blocked, hold_at, hold_by, attempts, fence, queued_at, claimed_at, started_at, finished_at, result)
SELECT n, tenant_id, program_id, queue_id, jsonb_build_object('number', n),
       '00000000-0000-0000-0000-00000000f111', at, at, at, least(at, now()),
       %(status)s, %(blocked)s, CASE %(blocked)s WHEN 'HELD' THEN now() END, '',
       ended, ended, CASE ended WHEN 1 THEN at END, CASE ended WHEN 1 THEN at END, CASE ended WHEN 1 THEN at END,
       CASE ended WHEN 1 THEN at END, CASE ended WHEN 1 THEN 'null'::jsonb END
FROM generate_series(%(first)s::bigint, %(last)s::bigint) n
JOIN filler ON filler.place = n %% %(tenants)s
CROSS JOIN LATERAL (SELECT now() + (CASE %(blocked)s WHEN 'SCHEDULED' THEN n - %(first)s + 3600
                                                    ELSE (n - %(last)s) * 0.1 END) * interval '1 second' AS at,
                           CASE %(status)s WHEN 'COMPLETED' THEN 1 ELSE 0 END AS ended) moment
"""
ATTEMPTS = """
INSERT INTO jobsite_jobattempt (tenant_id, job_id, fence, token, worker, claimed_at, started_at, ended_at, result)
SELECT tenant_id, number, 1, gen_random_uuid(), 'filler', claimed_at, started_at, finished_at, 'SUCCESS'
FROM jobsite_job WHERE status = 'COMPLETED' AND number <= %(finished)s
"""
# Indexes of constraints stay. All others are dropped, and built again after the rows are in.
INDEXES = """
SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid)
FROM pg_index i WHERE i.indrelid = ANY(%s::regclass[])
     AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid)
"""


def fill(connection: Connection, growth: Growth) -> None:
    """Fill an empty, migrated database of jobsite. `connection` is the superuser's, in autocommit."""
    with connection.transaction():
        connection.execute("SET LOCAL session_replication_role = replica")  # no triggers, no check of references
        connection.execute(TENANTS, {"tenants": growth.tenants})
        connection.execute(PROGRAMS, {})
        connection.execute(CONTEXT)
        indexes = connection.execute(INDEXES, [list(TABLES)]).fetchall()
        for name, _ in indexes:
            connection.execute(f"DROP INDEX {name}")
        first = 1
        for status, blocked, count in (
            ("COMPLETED", None, growth.finished),
            ("PENDING", "SCHEDULED", growth.future),
            ("PENDING", "HELD", growth.held),
        ):
            values = {"status": status, "blocked": blocked, "first": first, "last": first + count - 1}
            connection.execute(JOBS, values | {"tenants": growth.tenants})
            first += count
        connection.execute(ATTEMPTS, {"finished": growth.finished})
        connection.execute("SELECT setval(pg_get_serial_sequence('jobsite_job', 'number'), %s)", [first])
        for _, definition in indexes:
            connection.execute(definition)
    connection.execute("VACUUM ANALYZE")
    connection.execute("CHECKPOINT")  # else the server writes it to the disk while others are measured
