"""Which worker this process belongs to: registration of an incarnation, its heartbeat, its connections."""

import os
import platform
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg

from jobsite.database import Connection, ConnectionOfEachThread, Cursor, connect
from jobsite.errors import NotFound
from jobsite.logs import get_logger
from jobsite.programs.transitions import reap
from jobsite.programs.transitions.reap import Reaped

log = get_logger(__name__)

PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Registered:
    """This worker as the database knows it. Made in the main process, inherited by its children."""

    incarnation: UUID
    name: str
    manager_id: int
    queues: tuple[str, ...]


@dataclass(frozen=True)
class Process:
    """What identifies a process beyond its pid, which is used again: boot, pid namespace, start time."""

    host: str
    boot_id: str
    pid_namespace: str
    pid: int
    started: int

    @classmethod
    def current(cls) -> "Process":
        """This process."""
        return cls(socket.gethostname(), _boot_id(), _pid_namespace(), os.getpid(), _started(os.getpid()) or 0)

    @property
    def is_gone(self) -> bool:
        """Whether it has certainly ended, as seen from here; False where this cannot be known."""
        return (
            self.boot_id != ""
            and (self.boot_id, self.pid_namespace) == (_boot_id(), _pid_namespace())
            and _started(self.pid) != self.started
        )


def _boot_id() -> str:
    return _read("/proc/sys/kernel/random/boot_id")


def _pid_namespace() -> str:
    path = Path("/proc/self/ns/pid")
    return str(path.readlink()) if platform.system() == "Linux" else ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""  # not Linux: then nothing is concluded from it


def _started(pid: int) -> int | None:
    """The start time of a process in clock ticks since boot; None when there is none, or only a zombie."""
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return int(fields[19]) if fields and fields[0] not in ("Z", "X") else None


def manager_id(cursor: Cursor, name: str) -> int:
    """The key of a worker manager; NotFound says how to make one."""
    cursor.execute("SELECT id FROM jobsite_workermanager WHERE name = %s", [name])
    row = cursor.fetchone()
    if row is None:
        raise NotFound(f"no worker manager {name}; make it in the admin under Worker managers")
    return int(row[0])


def register(cursor: Cursor, *, name: str, manager: str, queues: Sequence[str], pool: str, children: int) -> Registered:
    """Register a new incarnation; a second living worker of one name gets a suffix (name-2).

    Raises NotFound when there is no such manager.
    """
    process, incarnation, manager_key = Process.current(), uuid4(), manager_id(cursor, manager)
    for candidate in (name, *(f"{name}-{number}" for number in range(2, 1000))):
        cursor.execute(
            """
            INSERT INTO jobsite_worker (name, incarnation, manager_id, host, boot_id, pid_namespace, pid,
                                        process_started, queues, pool, children)
            VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
            ON CONFLICT DO NOTHING RETURNING name
            """,
            [
                candidate,
                incarnation,
                manager_key,
                process.host,
                process.boot_id,
                process.pid_namespace,
                process.pid,
                process.started,
                list(queues),
                pool,
                children,
            ],
        )
        if cursor.fetchone() is not None:
            return Registered(incarnation, candidate, manager_key, tuple(queues))
    raise RuntimeError(f"a thousand living workers are called {name}")


def reap_gone(cursor: Cursor, *, silent_seconds: float) -> list[Reaped]:
    """Mark workers that are gone as LOST, and reap at once the jobs of those whose process is known to be gone.

    A worker of another machine is LOST after `silent_seconds` without a heartbeat; its jobs come back when
    their locks expire.
    """
    cursor.execute(
        """
        SELECT incarnation, host, boot_id, pid_namespace, pid, process_started,
               last_seen_at < clock_timestamp() - %s * interval '1 second'
        FROM jobsite_worker WHERE status IN ('ACTIVE', 'STOPPING')
        """,
        [silent_seconds],
    )
    rows = cursor.fetchall()
    gone = [row[0] for row in rows if Process(*row[1:6]).is_gone]
    silent = [row[0] for row in rows if row[6]]
    cursor.execute(
        "UPDATE jobsite_worker SET status = 'LOST' WHERE incarnation = ANY(%s) AND status IN ('ACTIVE', 'STOPPING')",
        [gone + silent],
    )
    return reap.reap_owners(cursor, gone) if gone else []


def heartbeat(cursor: Cursor, *, incarnation: UUID, children: int) -> None:
    """Record that the worker lives, and how many children it has; one marked LOST by mistake is ACTIVE again."""
    cursor.execute(
        """
        UPDATE jobsite_worker w SET last_seen_at = clock_timestamp(), children = %(children)s,
               status = CASE WHEN status = 'STOPPING' THEN status ELSE 'ACTIVE' END,
               -- Meanwhile another may have taken the name of one that seemed lost.
               name = CASE WHEN status IN ('ACTIVE', 'STOPPING') OR NOT EXISTS (
                               SELECT 1 FROM jobsite_worker o
                               WHERE o.name = w.name AND o.status IN ('ACTIVE', 'STOPPING') AND o.id <> w.id)
                           THEN name ELSE left(name, 240) || '-' || id END
        WHERE incarnation = %(incarnation)s
        """,
        {"children": children, "incarnation": incarnation},
    )


def set_status(cursor: Cursor, *, incarnation: UUID, status: str) -> None:
    """Record that the worker is STOPPING or STOPPED."""
    cursor.execute(
        "UPDATE jobsite_worker SET status = %s, last_seen_at = clock_timestamp() WHERE incarnation = %s",
        [status, incarnation],
    )


_registered: Registered | None = None
_is_expendable = False


def become(worker: Registered) -> None:
    """Make this process, and the children it forks from now on, part of the worker."""
    global _registered
    _registered = worker


def current() -> Registered:
    """The worker of this process; RuntimeError outside a worker."""
    if _registered is None:
        raise RuntimeError("this process is no registered worker; start one with `jobsite worker`")
    return _registered


def mark_expendable() -> None:
    """Record that this process is a pool child, which may kill itself to stop an action."""
    global _is_expendable
    _is_expendable = True


def is_expendable() -> bool:
    """Whether this process may be killed to stop the action that it runs."""
    return _is_expendable


# A worker's few statements are prepared once and run for ever: to plan them each time costs a fifth of their time. They
# are written for one plan: joins in the order of the text, row by row, each by an index.
PLANNING = {
    "plan_cache_mode": "force_generic_plan",
    "join_collapse_limit": "1",
    "from_collapse_limit": "1",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
}


def open_connection() -> Connection:
    """A new connection, with the settings of a worker."""
    opened = connect(application_name="jobsite worker")
    opened.execute(
        "SELECT set_config(name, value, false) FROM unnest(%s::text[], %s::text[]) AS settings (name, value)",
        [list(PLANNING), list(PLANNING.values())],
    )
    return opened


_own_connection = ConnectionOfEachThread(open_connection)


def connection() -> Connection:
    """This thread's own connection, opened when first asked for and again after `drop_connection`."""
    return _own_connection.get()


def drop_connection() -> None:
    """Close this thread's connection, whatever state it is in."""
    _own_connection.drop()


def execute_patiently(statement: str, values: Mapping[str, object]) -> list[tuple[Any, ...]]:
    """Execute a statement that may be repeated, with new connections for a minute while the database is away."""
    give_up_at, pause = time.monotonic() + PATIENCE_SECONDS, 0.05
    while True:
        try:
            with connection().cursor() as cursor:
                cursor.execute(statement, values)
                return cursor.fetchall()
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            drop_connection()
            if time.monotonic() > give_up_at:
                raise
            log.warning("statement_repeated", error=str(error))
            time.sleep(pause)
            pause = min(pause * 2, 2.0)
