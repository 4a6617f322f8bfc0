"""The faults. Each one notes that it has happened."""

import os
import signal
from contextlib import suppress
from pathlib import Path

import redis

from tests.chaos.chaos import Chaos
from tests.flows.processes import WorkerProcess, is_alive, session_of


def kill_somebody_at_work(chaos: Chaos) -> bool:
    """Kill a child that runs a job, or its worker's main process. Returns False when no job runs now."""
    at_work = [pid for entry in chaos.ledger.open_runs() if is_alive(pid := int(entry["pid"]))]
    if not at_work:
        return False
    child = chaos.random.choice(at_work)
    parent = _parent(child)
    mains = {worker.pid for worker in chaos.fleet.workers.values()}
    if parent in mains and chaos.random.random() < 0.5:
        _kill(chaos, parent, "kill -9 main")
    else:
        _kill(chaos, child, "kill -9 child")
    return True


def kill_main(chaos: Chaos, worker: WorkerProcess) -> None:
    """Kill the main process of a worker."""
    _kill(chaos, worker.pid, "kill -9 main")


def kill_child(chaos: Chaos, worker: WorkerProcess) -> None:
    """Kill one of a worker's children."""
    if children := [pid for pid in session_of(worker.pid) if pid != worker.pid]:
        _kill(chaos, chaos.random.choice(children), "kill -9 child")


def _kill(chaos: Chaos, pid: int, what: str) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        chaos.fault(what, pid)


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def flush_broker(chaos: Chaos) -> bool:
    """Run FLUSHALL while messages wait, so that they are lost. Returns False when none waits now."""
    with chaos.installation.client() as client:
        waiting = int(client.eval(FLUSH_IF_FULL, 1, f"{PREFIX}default"))
    if waiting:
        chaos.fault("FLUSHALL", f"with {waiting} messages")
    return waiting > 0


FLUSH_IF_FULL = """
local waiting = redis.call('LLEN', KEYS[1])
if waiting > 0 then redis.call('FLUSHALL') end
return waiting
"""
PREFIX = "jobsite:jobsite:"


def messages_waiting(client: "redis.Redis[bytes]") -> int:
    """The number of messages in the lists of all queues."""
    return sum(int(client.llen(f"{PREFIX}{queue}")) for queue in ("default", "other"))


def restart_postgres(chaos: Chaos, *, down_seconds: float = 0.0) -> None:
    """Restart PostgreSQL immediately: it does not notify clients, and writes nothing but its log."""
    before = chaos.database.one("SELECT pg_postmaster_start_time()")
    chaos.installation.restart_postgres(down_seconds=down_seconds)
    after = chaos.database.one("SELECT pg_postmaster_start_time()")
    chaos.expect(before != after, "PostgreSQL was restarted")
    chaos.fault("PostgreSQL immediate restart", f"away for {down_seconds:g} s and more" if down_seconds else "")


def cut_some_backend(chaos: Chaos) -> int:
    """Run pg_terminate_backend for one connection of jobsite, chosen at random."""
    pids = [
        row[0]
        for row in chaos.database.rows(
            "SELECT pid FROM pg_stat_activity WHERE datname = 'jobsite' AND application_name LIKE 'jobsite%%'"
            " AND pid <> pg_backend_pid() ORDER BY pid"
        )
    ]
    if not pids:
        return 0
    if chaos.database.one("SELECT pg_terminate_backend(%s)", chaos.random.choice(pids)):
        chaos.report.faults["pg_terminate_backend"] += 1
    return 1
