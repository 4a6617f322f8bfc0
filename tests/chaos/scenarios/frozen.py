"""R5: workers that are frozen for longer than their lock, and go on."""

import signal
import time
from collections.abc import Sequence

from django.db import connection

from jobsite.programs.transitions.cancel import cancel
from tests.chaos.chaos import Chaos
from tests.chaos.registry import scenario
from tests.flows.processes import is_alive

CHILDREN = 4
JOBS = 50
JOBS_IN_GROUPS = 6 * CHILDREN  # three per message
AGAIN_SECONDS = 6.0


@scenario("R5", limit=150, seeds=3)
def frozen_workers(chaos: Chaos) -> None:
    """Workers go on after they were frozen for longer than their lock: everything that they still write is refused.

    One has a pool of processes, whose watcher ends them. The other has threads, which nothing can end.
    """
    program = chaos.program("work")
    chaos.fleet.service()
    frozen = [
        chaos.fleet.worker("processes", concurrency=CHILDREN, wait=False),
        chaos.fleet.worker("threads", concurrency=CHILDREN, pool="threads", wait=False),
    ]
    for worker in frozen:
        chaos.fleet.wait_until_ready(worker)
    jobs, seconds = (JOBS_IN_GROUPS, 2.0) if chaos.grouped else (JOBS, 1.0)
    chaos.insert(program, jobs, {"seconds": seconds, "again_seconds": AGAIN_SECONDS})
    # Of a group, only the first job has started, and the others have been given back. Before that, a lost run does not
    # count for any of them.
    chaos.until(
        lambda: min(len(chaos.database.rows(STARTED)), len(chaos.ledger.open_runs())) >= 2 * CHILDREN,
        "all children work",
        seconds=30,
    )

    for worker in frozen:
        worker.send_all(signal.SIGSTOP)
        chaos.fault("SIGSTOP", worker.name)
    time.sleep(0.2)  # until the service has read what they had sent
    stale = chaos.ledger.open_runs()
    numbers = [entry["job"] for entry in stale]
    # In a grouped run only the frozen runs are of interest. The other jobs would delay their second runs.
    others = chaos.database.rows("SELECT number FROM jobsite_job WHERE status IN ('PENDING', 'QUEUED')")
    for (number,) in others if chaos.grouped else ():
        with connection.cursor() as cursor:
            cancel(cursor, number=number, tenant_id=program.tenant_id, by="chaos", reason="")
    heir = chaos.fleet.worker("heir", concurrency=2 * CHILDREN)
    # They go on in the middle of the second runs, so that only the token distinguishes them from the holder.
    chaos.until(lambda: _running_again(chaos, numbers) >= len(stale), "the frozen jobs run again", seconds=40)
    before = chaos.database.rows(HELD, numbers)
    for worker in frozen:
        worker.send_all(signal.SIGCONT)
    runs = {(entry["job"], entry["fence"]) for entry in stale}
    chaos.until(
        lambda: (
            not any(
                is_alive(int(entry["pid"])) and (entry["job"], entry["fence"]) in runs
                for entry in chaos.ledger.open_runs()
            )
        ),
        "the stale runs were refused, or ended by their watcher",
        seconds=20,
    )
    time.sleep(1.0)  # everything that they do after that takes milliseconds
    after = chaos.database.rows(HELD, numbers)
    chaos.all_ended(seconds=60)

    chaos.figure("stale runs", len(stale))
    chaos.figure("refused outside", chaos.ledger.refused())
    chaos.expect(len(before) == len(stale), f"{len(before)} of {len(stale)} ran again when the frozen workers went on")
    chaos.expect(before == after, "no row of another holder has changed when the frozen workers went on")
    chaos.expect(chaos.losses() == len(stale), f"each frozen run was lost: {chaos.losses()} of {len(stale)}")
    chaos.expect(chaos.ledger.refused() >= CHILDREN, f"the stale runs were refused: {chaos.ledger.refused()}")
    expected = {"COMPLETED", "CANCELED"} if chaos.grouped else {"COMPLETED"}
    chaos.expect(set(chaos.statuses()) == expected, f"all jobs {sorted(expected)}, not {chaos.statuses()}")
    chaos.expect(all(one.is_running for one in [*frozen, heir]), "all workers still run")


STARTED = "SELECT number FROM jobsite_job WHERE status = 'RUNNING' AND started_at IS NOT NULL"
HELD = """
SELECT number, fence, lock_token, lock_owner, attempts, losses FROM jobsite_job
WHERE status = 'RUNNING' AND fence > 1 AND number = ANY(%s) ORDER BY number
"""


def _running_again(chaos: Chaos, numbers: Sequence[int]) -> int:
    """How many of them have begun a second run that the outside service knows, and with it the higher fence."""
    begun = {(entry["job"], entry["fence"]) for entry in chaos.ledger.open_runs()}
    return sum((number, fence) in begun for number, fence, *_ in chaos.database.rows(HELD, numbers))
