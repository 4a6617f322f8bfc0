"""R5: workers that freeze past their lock and wake."""

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
JOBS_IN_GROUPS = 6 * CHILDREN  # three a message
AGAIN_SECONDS = 6.0


@scenario("R5", limit=150, seeds=3)
def zombies(chaos: Chaos) -> None:
    """Workers frozen for longer than their lock wake up: what they still write is refused, everywhere.

    Two are frozen: of processes, whose watcher ends them, and of threads, which nobody can end.
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
    # Of a group only the first, once the others went back: before that a lost run counts for none of them.
    chaos.until(
        lambda: min(len(chaos.database.rows(STARTED)), len(chaos.ledger.open_runs())) >= 2 * CHILDREN,
        "all children work",
        seconds=30,
    )

    for worker in frozen:
        worker.send_all(signal.SIGSTOP)
        chaos.fault("SIGSTOP", worker.name)
    time.sleep(0.2)  # until the service has taken what they had sent
    zombies = chaos.ledger.open_runs()
    numbers = [entry["job"] for entry in zombies]
    # Of the groups only the frozen runs are of interest; the others would be in the way of their second runs.
    others = chaos.database.rows("SELECT number FROM jobsite_job WHERE status IN ('PENDING', 'QUEUED')")
    for (number,) in others if chaos.grouped else ():
        with connection.cursor() as cursor:
            cancel(cursor, number=number, tenant_id=program.tenant_id, by="chaos", reason="")
    heir = chaos.fleet.worker("heir", concurrency=2 * CHILDREN)
    # They wake in the middle of the second runs, so that nothing but their token tells them from the holder.
    chaos.until(lambda: _running_again(chaos, numbers) >= len(zombies), "what was frozen runs again", seconds=40)
    before = chaos.database.rows(HELD, numbers)
    for worker in frozen:
        worker.send_all(signal.SIGCONT)
    runs = {(entry["job"], entry["fence"]) for entry in zombies}
    chaos.until(
        lambda: (
            not any(
                is_alive(int(entry["pid"])) and (entry["job"], entry["fence"]) in runs
                for entry in chaos.ledger.open_runs()
            )
        ),
        "the woken were refused, or ended by their watcher",
        seconds=20,
    )
    time.sleep(1.0)  # what they do after that takes them milliseconds
    after = chaos.database.rows(HELD, numbers)
    chaos.all_ended(seconds=60)

    chaos.figure("zombie runs", len(zombies))
    chaos.figure("refused outside", chaos.ledger.refused())
    chaos.expect(len(before) == len(zombies), f"{len(before)} of {len(zombies)} ran again when the frozen woke")
    chaos.expect(before == after, "no row that another held has changed when the frozen woke")
    chaos.expect(chaos.losses() == len(zombies), f"each frozen run was lost: {chaos.losses()} of {len(zombies)}")
    chaos.expect(chaos.ledger.refused() >= CHILDREN, f"the zombies were refused: {chaos.ledger.refused()}")
    expected = {"COMPLETED", "CANCELED"} if chaos.grouped else {"COMPLETED"}
    chaos.expect(set(chaos.statuses()) == expected, f"all jobs {sorted(expected)}, not {chaos.statuses()}")
    chaos.expect(all(one.is_running for one in [*frozen, heir]), "all workers live on")


STARTED = "SELECT number FROM jobsite_job WHERE status = 'RUNNING' AND started_at IS NOT NULL"
HELD = """
SELECT number, fence, lock_token, lock_owner, attempts, losses FROM jobsite_job
WHERE status = 'RUNNING' AND fence > 1 AND number = ANY(%s) ORDER BY number
"""


def _running_again(chaos: Chaos, numbers: Sequence[int]) -> int:
    """How many of them have begun a second run in the eyes of the outside service, which so knows the higher fence."""
    begun = {(entry["job"], entry["fence"]) for entry in chaos.ledger.open_runs()}
    return sum((number, fence) in begun for number, fence, *_ in chaos.database.rows(HELD, numbers))
