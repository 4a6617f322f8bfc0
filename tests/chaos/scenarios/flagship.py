"""R2: everything at once."""

import time

from jobsite.programs.models import Program
from tests.chaos import faults
from tests.chaos.chaos import ENDED, Chaos
from tests.chaos.registry import scenario
from tests.chaos.submitter import Kind

KILL_SECONDS = 5.0


@scenario("R2", limit=600, seeds=3, groups=True)
def everything_breaks(chaos: Chaos) -> None:
    """Workers die every five seconds, the broker loses its data, PostgreSQL restarts, while 10,000 jobs run.

    No-op 80 %, 50 ms 19 %, long 1 %. Long is 5 s, and 2 s in a small run, which lasts only for a few kills.
    """
    count = chaos.count(10_000)
    long = 5.0 if chaos.size >= 1 else 2.0
    for code in ("noop", "short", "long"):
        chaos.program(code, short=code == "noop")
    kinds = [Kind(0.80, "noop", {}), Kind(0.19, "short", {"seconds": 0.05}), Kind(0.01, "long", {"seconds": long})]
    chaos.fleet.service()
    chaos.fleet.beat()
    chaos.fleet.many_workers(4 if chaos.size >= 1 else 3, concurrency=2)
    rate = 80.0
    for prefix in ("a", "b"):
        chaos.submitter(kinds, count=count // 2, rate=rate / 2, prefix=prefix)

    began = time.monotonic()
    plan = _Plan(chaos, count)
    with chaos.bursts(Program.objects.get(code="noop")):
        chaos.until(
            lambda: _ended(chaos) >= count * 0.9, "jobs run", seconds=3 * count / rate + 60, meanwhile=plan.step
        )
    chaos.all_ended(seconds=3 * count / rate + 180, meanwhile=plan.step)
    seconds = time.monotonic() - began

    chaos.figure("jobs/s", count / seconds)
    chaos.expect(plan.kills >= 3, f"at least three kills, not {plan.kills}")
    chaos.expect(plan.has_flushed and plan.has_restarted, "the broker was flushed and PostgreSQL restarted")
    chaos.expect(chaos.losses() > 0, "some run was lost with its worker")
    chaos.expect(set(chaos.statuses()) == {"COMPLETED"}, f"all jobs COMPLETED, not {chaos.statuses()}")


class _Plan:
    """What breaks when: kills by the clock, the flush after a third of the jobs, the restart after two thirds."""

    def __init__(self, chaos: Chaos, count: int) -> None:
        self._chaos, self._count = chaos, count
        self._next_kill = time.monotonic() + KILL_SECONDS / 2
        self.kills = 0
        self.has_flushed = self.has_restarted = False

    def step(self) -> None:
        chaos = self._chaos
        chaos.restart_ended_workers()
        ended = _ended(chaos)
        if not self.has_flushed and ended >= self._count / 3:
            self.has_flushed = faults.flush_broker(chaos)
        if not self.has_restarted and ended >= self._count * 2 / 3:
            self.has_restarted = True
            faults.restart_postgres(chaos)
        if time.monotonic() >= self._next_kill and ended < self._count * 0.95 and faults.kill_somebody_at_work(chaos):
            self.kills += 1
            self._next_kill = time.monotonic() + KILL_SECONDS


def _ended(chaos: Chaos) -> int:
    """The number of submitted jobs that have ended, without those of a grouped run's bursts."""
    return int(chaos.database.number(f"SELECT count(*) FROM jobsite_job WHERE {ENDED} AND idempotency_key IS NOT NULL"))
