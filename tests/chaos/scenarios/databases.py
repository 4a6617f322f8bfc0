"""R13 to R15: PostgreSQL restarts, cuts connections, or is out of reach for one worker."""

from pathlib import Path

from tests.chaos import faults
from tests.chaos.chaos import Chaos
from tests.chaos.installation import LOCK_SECONDS
from tests.chaos.ledger import Run
from tests.chaos.proxy import Proxy
from tests.chaos.registry import scenario
from tests.chaos.submitter import Kind
from tests.flows.processes import is_alive


def _logged(chaos: Chaos, words: str) -> int:
    """How often these words are in the logs."""
    return sum(path.read_text(errors="replace").count(words) for path in chaos.installation.folder.glob("*.log"))


@scenario("R13", limit=240)
def database_restarts(chaos: Chaos) -> None:
    """PostgreSQL restarts three times while jobs run, and once is away for longer than a lock: all jobs complete.

    The short restarts lose no run that had begun. During the long one, workers stop the runs that they cannot renew.
    """
    program = chaos.program("work")
    chaos.fleet.service()
    chaos.fleet.beat()
    chaos.fleet.many_workers(4, concurrency=4)
    chaos.insert(program, chaos.count(200), {"seconds": 1.0})
    for _ in range(3):
        chaos.until(lambda: len(chaos.ledger.open_runs()) >= 8, "jobs run", seconds=30)
        faults.restart_postgres(chaos)
        chaos.sleep(2.0, "the database is back")
    chaos.all_ended(seconds=90)
    retried, lost = _logged(chaos, '"event": "finish_retried"'), _begun_and_lost(chaos)
    chaos.figure("finishes retried", retried)
    chaos.figure("claims without an answer", chaos.losses() - len(lost))
    chaos.expect(retried > 0, "some finish met the restart")
    chaos.expect(not lost, f"runs were lost to short restarts: {lost}")

    chaos.insert(program, 32, {"seconds": 4.0})
    chaos.until(lambda: len(chaos.ledger.open_runs()) >= 8, "jobs run", seconds=30)
    faults.restart_postgres(chaos, down_seconds=1.5 * LOCK_SECONDS)
    chaos.all_ended(seconds=120)
    chaos.figure("runs lost to the long outage", chaos.losses())
    chaos.expect(set(chaos.statuses()) == {"COMPLETED"}, f"all jobs COMPLETED, not {chaos.statuses()}")


def _begun_and_lost(chaos: Chaos) -> list[Run]:
    """The lost runs that had begun. A run whose claim got no answer never begins, so it is rightly lost."""
    rows = chaos.database.rows("SELECT job_id, fence, token::text FROM jobsite_jobattempt WHERE result = 'LOST'")
    return [run for row in rows if (run := Run(*row)) in chaos.ledger.runs("begin")]


@scenario("R14", limit=240, seeds=3, groups=True)
def connections_cut(chaos: Chaos) -> None:
    """For a minute, a connection to PostgreSQL is cut twice a second: unsure finishes are resolved."""
    noop = chaos.program("noop")
    chaos.program("short", short=False)
    chaos.fleet.service()
    chaos.fleet.beat()
    chaos.fleet.many_workers(2, concurrency=2)
    kinds = [Kind(0.5, "noop", {}), Kind(0.5, "short", {"seconds": 0.05})]
    for prefix in ("a", "b"):
        chaos.submitter(kinds, count=chaos.count(1_200), rate=20.0, prefix=prefix)
    chaos.until(lambda: chaos.ended() >= 30, "jobs run", seconds=60)

    with chaos.beside(lambda: faults.cut_some_backend(chaos), every=0.5), chaos.bursts(noop):
        chaos.sleep(60.0 * min(1.0, chaos.size), "connections are cut", meanwhile=chaos.restart_ended_workers)
    chaos.all_ended(seconds=120, meanwhile=chaos.restart_ended_workers)
    chaos.figure("finishes retried", _logged(chaos, '"event": "finish_retried"'))
    chaos.figure("claims retried", _logged(chaos, '"event": "claim_retried"'))
    chaos.figure("submissions unsure", chaos.history().unsure)
    chaos.expect(chaos.report.faults["pg_terminate_backend"] > 50 * min(1.0, chaos.size), "connections were cut")
    chaos.expect(set(chaos.statuses()) == {"COMPLETED"}, f"all jobs COMPLETED, not {chaos.statuses()}")


@scenario("R15", limit=240, seeds=3)
def database_out_of_reach(chaos: Chaos) -> None:
    """One worker cannot reach the database for much longer than a lock: it stops in time, another runs its jobs."""
    program = chaos.program("work")
    directory = Path(f"{chaos.installation.places.socket_directory}-proxy")
    proxy = Proxy(chaos.installation.places.postgres_socket, listen=directory / ".s.PGSQL.5432")
    chaos.fleet.service()
    through = {"DATABASE_URL": chaos.installation.database_url(directory)}
    cut_off = chaos.fleet.worker("cut-off", concurrency=3, environment=through)
    chaos.insert(program, chaos.count(30), {"seconds": 3.0})
    chaos.until(lambda: len(chaos.ledger.open_runs()) == 3, "the worker works", seconds=30)

    proxy.black_hole()
    chaos.fault("black hole", cut_off.name)
    held = chaos.ledger.open_runs()
    chaos.fleet.worker("heir", concurrency=3, wait=False)
    pids = [int(entry["pid"]) for entry in held]
    # The 3 s of work end before the lock expires. A result that cannot be stored is given up, at the latest with the
    # process.
    chaos.sleep(LOCK_SECONDS, "the lock runs out")
    still = [entry for entry in chaos.ledger.open_runs() if is_alive(int(entry["pid"])) and int(entry["pid"]) in pids]
    chaos.expect(not still, f"no action of the cut-off worker runs when its lock has run out: {still}")
    chaos.sleep(20.0, "the database is out of reach")
    proxy.pass_on()
    chaos.all_ended(seconds=120)
    at = chaos.database.one("SELECT clock_timestamp()")
    chaos.insert(program, 12, {"seconds": 0.5})
    chaos.until(
        lambda: chaos.database.rows(
            "SELECT 1 FROM jobsite_jobattempt WHERE claimed_at > %s AND worker LIKE 'cut-off%%'", at
        ),
        "the worker that was cut off works again",
        seconds=60,
    )
    chaos.all_ended(seconds=60)
    chaos.figure("pieces swallowed", proxy.swallowed)
    chaos.expect(proxy.swallowed > 0, "the network has dropped something")
    chaos.expect(chaos.losses() >= 3, f"what it held was taken away: {chaos.losses()}")
    chaos.expect(set(chaos.statuses()) == {"COMPLETED"}, f"all jobs COMPLETED, not {chaos.statuses()}")
