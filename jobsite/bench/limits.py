"""What PostgreSQL alone can do on this machine, with a table like that of jobs: the upper limits for the figures."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

from jobsite.bench.aims import Figure
from jobsite.bench.ground import Ground
from jobsite.bench.processes import Agent, Launch

Range = tuple[int, int]  # first, and the one after the last

DATABASE = "limits"
BATCH = 100
CHUNK = 1_000

# A row is as wide as a job, and its indexes change as the row moves; two of them are partial.
TABLE = """
DROP TABLE IF EXISTS work;
CREATE TABLE work (
    id bigint PRIMARY KEY, tenant_id bigint NOT NULL, program_id bigint NOT NULL, queue_id bigint NOT NULL,
    status text NOT NULL, priority smallint NOT NULL DEFAULT 0, parameters jsonb NOT NULL, token uuid, owner uuid,
    due_at timestamptz NOT NULL DEFAULT now(), claimed_at timestamptz, expires_at timestamptz,
    finished_at timestamptz, attempts integer NOT NULL DEFAULT 0, result jsonb
);
CREATE INDEX work_ready ON work (queue_id, due_at, id) WHERE status = 'PENDING';
CREATE INDEX work_running ON work (owner) WHERE status = 'RUNNING';
CREATE INDEX work_of_program ON work (program_id, id);
"""
COLUMNS = "id, tenant_id, program_id, queue_id, status, parameters"
ROW = "1, 1, 1, 'PENDING', '{\"number\": 1}'"
INSERT = f"INSERT INTO work ({COLUMNS}) VALUES (%s, {ROW})"  # noqa: S608 - constants of this module alone
INSERT_MANY = f"INSERT INTO work ({COLUMNS}) SELECT id, {ROW} FROM unnest(%s::bigint[]) AS id"  # noqa: S608 - the same
CLAIMED = "status = 'RUNNING', token = gen_random_uuid(), claimed_at = now(), attempts = attempts + 1"
FINISHED = "status = 'COMPLETED', token = NULL, finished_at = now(), result = '{}'"
CLAIM_ONE = f"UPDATE work SET {CLAIMED} WHERE id = %s AND status = 'PENDING' RETURNING token"  # noqa: S608 - the same
FINISH_ONE = f"UPDATE work SET {FINISHED} WHERE id = %s AND token = %s"  # noqa: S608 - the same
CLAIM_BATCH = f"""
WITH next AS MATERIALIZED (
    SELECT id FROM work WHERE queue_id = 1 AND status = 'PENDING' ORDER BY due_at, id LIMIT {BATCH}
    FOR UPDATE SKIP LOCKED
)
UPDATE work SET {CLAIMED} FROM next WHERE work.id = next.id RETURNING work.id, token
"""  # noqa: S608 - the same
FINISH_BATCH = f"UPDATE work SET {FINISHED} WHERE id = ANY(%s) AND status = 'RUNNING'"  # noqa: S608 - the same


class Worker:
    """One connection that runs the loops of the limits. It lives in an agent's process."""

    def __init__(self, url: str) -> None:
        import psycopg

        self._connection = psycopg.connect(url, autocommit=True, prepare_threshold=1)

    def calls(self) -> dict[str, Callable[..., Any]]:
        """The loops by their name."""
        return {
            "connect": lambda: None,
            "insert": self.insert,
            "pairs": self.pairs,
            "pipelined": self.pipelined,
            "batches": self.batches,
            "copy": self.copy,
            "unnest": self.unnest,
        }

    def insert(self, ids: Range) -> None:
        """Insert row by row, each with its own commit."""
        for number in range(*ids):
            self._connection.execute(INSERT, [number])

    def pairs(self, ids: Range) -> None:
        """Claim and finish each row by its key, with a guard in both statements."""
        for number in range(*ids):
            claimed = self._connection.execute(CLAIM_ONE, [number]).fetchone()
            if claimed is None:
                raise RuntimeError(f"row {number} is not there")
            self._connection.execute(FINISH_ONE, [number, claimed[0]])

    def pipelined(self, ids: Range) -> None:
        """Claim a hundred, then finish each by a statement of its own, all in one pipeline."""
        while rows := self._connection.execute(CLAIM_BATCH).fetchall():
            with self._connection.pipeline():
                for row in rows:
                    self._connection.execute(FINISH_ONE, row)

    def batches(self, ids: Range) -> None:
        """Claim a hundred, then finish the hundred, as pg-boss does with fetch and complete."""
        while rows := self._connection.execute(CLAIM_BATCH).fetchall():
            self._connection.execute(FINISH_BATCH, [[row[0] for row in rows]])

    def copy(self, ids: Range) -> None:
        """COPY a thousand rows per commit."""
        for first in range(ids[0], ids[1], CHUNK):
            with self._connection.cursor().copy(f"COPY work ({COLUMNS}) FROM STDIN") as copy:
                for number in range(first, min(first + CHUNK, ids[1])):
                    copy.write_row((number, 1, 1, 1, "PENDING", '{"number": 1}'))

    def unnest(self, ids: Range) -> None:
        """INSERT a thousand rows per commit, by unnest."""
        for first in range(ids[0], ids[1], CHUNK):
            self._connection.execute(INSERT_MANY, [list(range(first, min(first + CHUNK, ids[1])))])


# name, title, loop, connections, whether the rows are there at the start, the share of --jobs that is done.
LIMITS: tuple[tuple[str, str, str, int, bool, float], ...] = (
    ("insert", "insert and commit, 1 connection", "insert", 1, False, 0.2),
    ("pairs", "claim and finish by key, 2 connections", "pairs", 2, True, 0.2),
    ("pipelined", "claim 100, finish each in a pipeline, 2 connections", "pipelined", 2, True, 1),
    ("fetch-100", "fetch 100, complete 100, 2 loops (as pg-boss)", "batches", 2, True, 1),
    ("copy", "COPY, 1,000 rows a commit", "copy", 1, False, 1),
    ("unnest", "INSERT by unnest, 1,000 rows a commit", "unnest", 1, False, 1),
)
FIGURES = {"copy": Figure.BULK, "unnest": Figure.BULK, "insert": Figure.SUBMIT}


def measure(ground: Ground, jobs: int, record: Callable[[str, Figure, float], None]) -> None:
    """Measure each limit once, in rows a second."""
    environment = ground.environment(DATABASE)
    launch = Launch(["-m", "jobsite.bench.agent", "limits"])
    with ExitStack() as stack:
        pair = []
        for _ in range(2):
            agent = Agent("a limit", launch, environment, ground.folder)
            stack.callback(agent.kill)
            agent.call("connect")
            pair.append(agent)
        threads = stack.enter_context(ThreadPoolExecutor(2))
        for name, _, loop, connections, has_rows, share in LIMITS:
            count = max(BATCH, round(jobs * share))
            with ground.administer(DATABASE) as database:
                database.execute("SET ROLE jobsite")
                database.execute(TABLE)
                if has_rows:
                    database.execute(INSERT_MANY, [list(range(count))])
                database.execute("RESET ROLE")
                database.execute("VACUUM ANALYZE work")
            step = -(-count // connections)
            ranges = [(first, min(first + step, count)) for first in range(0, count, step)]
            began = time.monotonic()
            list(threads.map(lambda agent, ids, loop=loop: agent.call(loop, ids=ids), pair, ranges))
            record(name, FIGURES.get(name, Figure.DRAIN), count / (time.monotonic() - began))
            _check(ground, count, "COMPLETED" if has_rows else "PENDING")


def _check(ground: Ground, count: int, status: str) -> None:
    with ground.administer(DATABASE) as database:
        row = database.execute("SELECT count(*) FROM work WHERE status = %s", [status]).fetchone()
    if row is None or row[0] != count:
        raise RuntimeError(f"{row} rows of {count} are {status}")
