"""R5: workers that freeze past their lock and wake."""

import signal
import time

from tests.chaos.chaos import Chaos
from tests.chaos.registry import scenario
from tests.flows.processes import is_alive

JOBS = 50
CHILDREN = 4
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
    chaos.insert(program, JOBS, {"seconds": 1.0, "again_seconds": AGAIN_SECONDS})
    chaos.until(lambda: len(chaos.ledger.open_runs()) >= 2 * CHILDREN, "all children work", seconds=30)

    for worker in frozen:
        worker.send_all(signal.SIGSTOP)
        chaos.fault("SIGSTOP", worker.name)
    time.sleep(0.2)  # until the service has taken what they had sent
    zombies = chaos.ledger.open_runs()
    heir = chaos.fleet.worker("heir", concurrency=2 * CHILDREN)
    # They wake in the middle of the second runs, so that nothing but their token tells them from the holder.
    chaos.until(lambda: _running_again(chaos) >= len(zombies), "what was frozen runs again", seconds=40)
    before = chaos.database.rows(HELD)
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
    after = chaos.database.rows(HELD)
    chaos.all_ended(seconds=60)

    chaos.figure("zombie runs", len(zombies))
    chaos.figure("refused outside", chaos.ledger.refused())
    chaos.expect(len(before) == len(zombies), f"{len(before)} of {len(zombies)} ran again when the frozen woke")
    chaos.expect(before == after, "no row that another held has changed when the frozen woke")
    chaos.expect(chaos.losses() == len(zombies), f"each frozen run was lost: {chaos.losses()} of {len(zombies)}")
    chaos.expect(chaos.ledger.refused() >= CHILDREN, f"the zombies were refused: {chaos.ledger.refused()}")
    chaos.expect(set(chaos.statuses()) == {"COMPLETED"}, f"all jobs COMPLETED, not {chaos.statuses()}")
    chaos.expect(all(one.is_running for one in [*frozen, heir]), "all workers live on")


HELD = """
SELECT number, fence, lock_token, lock_owner, attempts, losses FROM jobsite_job
WHERE status = 'RUNNING' AND fence > 1 ORDER BY number
"""


def _running_again(chaos: Chaos) -> int:
    """How many second runs have begun in the eyes of the outside service, which so knows the higher fence."""
    return sum(entry["fence"] > 1 for entry in chaos.ledger.open_runs()) if chaos.database.rows(HELD) else 0
