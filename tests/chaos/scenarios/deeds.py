"""R17 to R19: jobs that kill their worker, hang, or hold the interpreter."""

import time

from tests.chaos.chaos import Chaos
from tests.chaos.installation import LOCK_SECONDS
from tests.chaos.registry import scenario
from tests.flows.processes import running_with

MAX_LOSSES = 3


@scenario("R17", limit=240)
def poison(chaos: Chaos) -> None:
    """Jobs that kill their own worker end FAILED after three losses; all other jobs complete."""
    for code in ("kill_my_worker", "kill_my_process"):
        chaos.program(code, target=code, short=False, max_worker_losses=MAX_LOSSES)
    chaos.program("fatal", target="kill_my_process", short=False, on_worker_lost="FAIL")
    chaos.fleet.service()
    chaos.fleet.beat()
    chaos.fleet.many_workers(2, concurrency=2)
    poisons = [
        chaos.insert(chaos.program(code, target=code, short=False, max_worker_losses=MAX_LOSSES), 1)[0]
        for code in ("kill_my_worker", "kill_my_process")
    ]
    fatal = chaos.insert(chaos.program("fatal", target="kill_my_process", short=False, on_worker_lost="FAIL"), 1)[0]
    others = chaos.insert(chaos.program("work"), chaos.count(200), {"seconds": 0.1})
    chaos.all_ended(seconds=150, meanwhile=chaos.restart_ended_workers)

    chaos.report.faults["worker killed by its job"] += chaos.losses()
    rows = {
        row[0]: row[1:]
        for row in chaos.database.rows("SELECT number, status, failure_kind, losses, attempts FROM jobsite_job")
    }
    for number in poisons:
        wanted = ("FAILED", "WORKER_LOST", MAX_LOSSES, MAX_LOSSES)
        chaos.expect(rows[number] == wanted, f"poison {number} is {rows[number]}, not {wanted}")
    chaos.expect(rows[fatal] == ("FAILED", "WORKER_LOST", 1, 1), f"job {fatal} is {rows[fatal]}")
    wrong = [number for number in others if rows[number][0] != "COMPLETED"]
    chaos.expect(not wrong, f"{len(wrong)} other jobs did not complete")
    chaos.restart_ended_workers()
    for worker in chaos.fleet.workers.values():
        chaos.fleet.wait_until_ready(worker)
    chaos.figure("others lost with their worker", sum(rows[number][2] for number in others))


@scenario("R18", limit=180)
def hang(chaos: Chaos) -> None:
    """Jobs that ignore every signal end FAILED within seconds of their limit, and leave no process behind."""
    limit = 4.0
    marker = f"chaos-{chaos.report.seed}-{time.monotonic_ns()}"
    stubborn = ["sh", "-c", "trap '' TERM; sleep 601 & trap '' TERM; sleep 602", marker]
    keys = {"timeout": f"{limit:g}s", "short": False}
    programs = [
        chaos.program("hang", target="hang", **keys),  # type: ignore[arg-type]
        chaos.program("fork_and_hang", target="fork_and_hang", **keys),  # type: ignore[arg-type]
        chaos.program("stubborn", action=[{"kind": "command", "argv": stubborn}], **keys),  # type: ignore[arg-type]
    ]
    chaos.fleet.service()
    chaos.fleet.beat()
    worker = chaos.fleet.worker("worker", concurrency=3)
    numbers = [chaos.insert(program, 1, {"marker": marker})[0] for program in programs]
    chaos.until(lambda: len(running_with(marker)) >= 2, "the jobs' own processes run", seconds=30)
    chaos.report.faults["deaf job"] += len(programs)
    chaos.all_ended(seconds=60)

    for program, number in zip(programs, numbers, strict=True):
        [(status, kind, seconds)] = chaos.database.rows(
            "SELECT status, failure_kind, extract(epoch FROM finished_at - claimed_at) FROM jobsite_job"
            " WHERE number = %s",
            number,
        )
        chaos.figure(f"{program.code} s", float(seconds))
        chaos.expect((status, kind) == ("FAILED", "TIMEOUT"), f"{program.code} is {status} {kind}")
        chaos.expect(seconds <= limit + 2 + 5, f"{program.code} ended {seconds:.1f} s after its start")
    chaos.until(lambda: not running_with(marker), "no process of the jobs is left", seconds=10)
    chaos.expect(worker.is_running, "the worker still runs")


@scenario("R19", limit=180)
def interpreter_hog(chaos: Chaos) -> None:
    """A C function holds the interpreter: the main process keeps the lock, and no other worker takes the job.

    A watcher trusts a lock only for some time without reading it. After this time it may end the run itself (PROTOCOL,
    "The worker"): then the run is lost because its process ended, never because its lock expired.
    """
    program = chaos.program("hog", target="hog", short=False, max_worker_losses=2)
    chaos.fleet.service()
    chaos.fleet.beat()
    chaos.fleet.many_workers(2, concurrency=2)
    [short] = chaos.insert(program, 1, {"seconds": LOCK_SECONDS / 2})
    [long] = chaos.insert(program, 1, {"seconds": 2 * LOCK_SECONDS})
    others = chaos.insert(chaos.program("work"), 100, {"seconds": 0.1})
    chaos.until(lambda: len(chaos.ledger.open_runs()) >= 2, "the jobs run", seconds=30)
    chaos.report.faults["interpreter held"] += 2

    def look() -> None:
        expired = chaos.database.rows(
            "SELECT number FROM jobsite_job WHERE status = 'RUNNING' AND lock_expires_at < clock_timestamp()"
        )
        chaos.expect(not expired, f"the lock of {expired} ran out")

    chaos.all_ended(seconds=90, meanwhile=look)
    rows = {row[0]: row[1:] for row in chaos.database.rows("SELECT number, status, losses FROM jobsite_job")}
    errors = chaos.database.rows("SELECT DISTINCT error->>'message' FROM jobsite_jobattempt WHERE result = 'LOST'")
    chaos.figure("long hog", f"{rows[long][0]} after {rows[long][1]} losses")
    chaos.expect(rows[short] == ("COMPLETED", 0), f"the short hog is {rows[short]}")
    chaos.expect(all("its lock ran out" not in str(error) for (error,) in errors), f"no lock ran out: {errors}")
    chaos.expect(all(rows[number] == ("COMPLETED", 0) for number in others), "the other jobs completed")
