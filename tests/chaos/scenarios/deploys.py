"""R20 and R21: workers that are stopped, gracefully and not."""

import contextlib
import signal
import time

from jobsite.programs.models import Program
from tests.chaos.chaos import Broken, Chaos
from tests.chaos.registry import scenario
from tests.chaos.submitter import Kind
from tests.flows.processes import WorkerProcess


@scenario("R20", limit=360)
def graceful_deploy(chaos: Chaos) -> None:
    """Under load, all workers are restarted by SIGTERM one after another every twenty seconds: no run is lost."""
    for code in ("noop", "long"):
        chaos.program(code, short=code == "noop")
    chaos.fleet.service()
    chaos.fleet.beat()
    chaos.fleet.many_workers(3, concurrency=2)
    kinds = [Kind(0.9, "noop", {}), Kind(0.1, "long", {"seconds": 2.0})]
    chaos.submitter(kinds, count=chaos.count(1_200), rate=15.0)
    chaos.until(lambda: chaos.ended() >= 30, "jobs run", seconds=60)

    drains = []
    for _ in range(3):
        began = time.monotonic()
        for name in list(chaos.fleet.workers):
            worker = chaos.fleet.workers[name]
            signaled = time.monotonic()
            worker.send(signal.SIGTERM)
            chaos.fault("SIGTERM", name)
            chaos.until(lambda worker=worker: not worker.is_running, f"{name} has drained", seconds=40)  # type: ignore[misc]
            drains.append(time.monotonic() - signaled)
            chaos.expect(worker.process.returncode == 0, f"{name} ended with {worker.process.returncode}")
            chaos.fleet.wait_until_ready(chaos.fleet.start(name))
        chaos.sleep(max(0.0, 20.0 * min(1.0, chaos.size) - (time.monotonic() - began)), "between two deploys")
    chaos.all_ended(seconds=120)

    results = dict(chaos.database.rows("SELECT result, count(*) FROM jobsite_jobattempt GROUP BY 1"))
    chaos.figure("slowest drain s", max(drains))
    chaos.figure("runs given back", results.get("RETURNED", 0))
    chaos.expect(set(results) <= {"SUCCESS", "RETURNED"}, f"runs ended {results}")
    chaos.expect(not chaos.database.rows("SELECT 1 FROM jobsite_job WHERE attempts <> 1"), "each job counts one run")
    chaos.expect(max(drains) <= 30, f"each drained within 30 s, not {max(drains):.1f}")


@scenario("R21", limit=420, seeds=3, groups=True)
def cold_stop(chaos: Chaos) -> None:
    """For two minutes, busy workers are stopped cold at random moments: by SIGQUIT once, twice, or after SIGTERM.

    Celery may take the 25 seconds of its soft shutdown to end. Another worker starts meanwhile.
    """
    for code in ("noop", "short"):
        chaos.program(code, short=code == "noop")
    chaos.fleet.service()
    chaos.fleet.beat()
    chaos.fleet.many_workers(4, concurrency=2)
    kinds = [Kind(0.5, "noop", {}), Kind(0.5, "short", {"seconds": 0.5})]
    submitter = chaos.submitter(kinds, count=chaos.count(1_440), rate=12.0)

    def stop_somebody() -> None:
        chaos.restart_ended_workers()
        if at_work := _at_work(chaos):
            _stop_cold(chaos, *chaos.random.choice(sorted(at_work.items())))

    with chaos.bursts(Program.objects.get(code="noop")):
        chaos.until(lambda: not submitter.is_running, "workers are stopped", seconds=200, meanwhile=stop_somebody)
    chaos.all_ended(seconds=150, meanwhile=chaos.restart_ended_workers)

    results = dict(chaos.database.rows("SELECT result, count(*) FROM jobsite_jobattempt GROUP BY 1"))
    trials = sum(chaos.report.faults.values())
    chaos.figure("workers stopped", trials)
    chaos.figure("runs given back", results.get("RETURNED", 0))
    with contextlib.suppress(Broken):
        chaos.until(lambda: not _lingering(chaos), "all stopped workers have ended", seconds=60)
    chaos.expect(not _lingering(chaos), f"a minute after the signal these workers still run: {_lingering(chaos)}")
    chaos.expect(trials >= 20 * min(1.0, chaos.size), f"only {trials} workers were stopped")
    chaos.expect(results.get("RETURNED", 0) + results.get("LOST", 0) > 0, "some run was interrupted")
    chaos.expect(set(results) <= {"SUCCESS", "RETURNED", "LOST"}, f"runs ended {results}")
    chaos.expect(set(chaos.statuses()) == {"COMPLETED"}, f"all jobs COMPLETED, not {chaos.statuses()}")


AT_WORK = """
SELECT pid FROM jobsite_worker w JOIN jobsite_job j ON j.lock_owner = w.incarnation WHERE w.status = 'ACTIVE'
"""
WAYS = (
    ("SIGQUIT", [signal.SIGQUIT]),
    ("SIGQUIT twice", [signal.SIGQUIT, signal.SIGQUIT]),
    ("SIGTERM, SIGQUIT", [signal.SIGTERM, signal.SIGQUIT]),
)


def _at_work(chaos: Chaos) -> dict[str, WorkerProcess]:
    pids = {row[0] for row in chaos.database.rows(AT_WORK)}
    return {name: one for name, one in chaos.fleet.workers.items() if one.is_running and one.pid in pids}


def _lingering(chaos: Chaos) -> list[str]:
    return [f"{one.name} {one.pid}" for one in chaos.fleet.past if one.is_running]


def _stop_cold(chaos: Chaos, name: str, worker: WorkerProcess) -> None:
    way, numbers = chaos.random.choice(WAYS)
    chaos.fault(way, f"{name} {worker.pid}")
    for number in numbers:
        time.sleep(chaos.random.uniform(0.0, 0.4))
        with contextlib.suppress(ProcessLookupError):
            worker.send(number)
    chaos.fleet.start(name)
