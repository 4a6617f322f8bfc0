"""R26 and R27: parents and children, while workers die and operators cancel."""

import time

from django.db import connection

from jobsite.errors import Conflict
from jobsite.programs import operations
from jobsite.tenants import principals
from tests.chaos import faults
from tests.chaos.chaos import Chaos
from tests.chaos.installation import RENEW_SECONDS, SWEEP_SECONDS
from tests.chaos.registry import scenario

KILL_SECONDS = 5.0
FAMILY = 5
# Some processes die at the statements of families.
POINTS = ";".join(f"{point}=kill*2" for point in
                  ("spawn.before", "spawn.after", "lock_parents.after", "resolve.before", "resolve.after"))  # fmt: skip
GRACE = 1.0
STORM = 0.3


@scenario("R26", limit=480, seeds=3)
def fan_out(chaos: Chaos) -> None:
    """One parent of 1,000 children and 200 of five, under kills: each has every child once and ends once, after all.

    The large one has a callback, which is called once. The small ones have none.
    """
    count, families = chaos.count(1_000), chaos.count(200)
    chaos.program("child", short=False)
    large = chaos.program("large", target="fan_out", timeout="5m", callback=_action("gather"))
    small = chaos.program("small", target="fan_out")
    chaos.fleet.service()
    chaos.fleet.beat()
    folder = chaos.installation.folder / "failpoints"
    folder.mkdir()
    plan = {"JOBSITE_FAILPOINTS": POINTS, "JOBSITE_FAILPOINTS_FOLDER": str(folder)}
    for place in range(3):
        chaos.fleet.worker(f"w{place}", concurrency=2, environment=plan, wait=False)
    for worker in chaos.fleet.workers.values():
        chaos.fleet.wait_until_ready(worker)
    [parent] = chaos.insert(large, 1, {"program": "child", "count": count, "seconds": 0.02})
    chaos.insert(small, families, {"program": "child", "count": FAMILY, "seconds": 0.01})
    next_kill = time.monotonic() + KILL_SECONDS / 2

    def step() -> None:
        nonlocal next_kill
        chaos.restart_ended_workers()
        if time.monotonic() >= next_kill and faults.kill_somebody_at_work(chaos):
            next_kill = time.monotonic() + KILL_SECONDS

    chaos.until(lambda: _waits_or_ended(chaos, parent), "the large one has spawned", seconds=120, meanwhile=step)
    chaos.all_ended(seconds=300, meanwhile=step)

    hits = (folder / "hits").read_text().splitlines() if (folder / "hits").exists() else []
    chaos.report.faults["killed within a family's statement"] += len(hits)
    chaos.expect(len(hits) >= 5, f"processes died in the families' statements at least 5 times, not {len(hits)}")
    chaos.expect(chaos.losses() > 0, "some run was lost")
    chaos.expect(set(chaos.statuses()) == {"COMPLETED"}, f"all jobs COMPLETED, not {chaos.statuses()}")
    _look_at_families(chaos, parent, count, families)
    logs = [path for path in chaos.installation.folder.rglob("*.log") if "deadlock" in path.read_text(errors="replace")]
    chaos.expect(not logs, f"no deadlock was logged: {logs}")


def _action(target: str) -> dict[str, str]:
    return {"kind": "python", "target": f"tests.chaos.actions:{target}"}


def _waits_or_ended(chaos: Chaos, number: int) -> bool:
    return chaos.database.one("SELECT status FROM jobsite_job WHERE number = %s", number) in ("WAITING", "COMPLETED")


# For each parent: its children, their keys, and how long after the end of the last child or of its own run it went on.
FAMILIES = """
SELECT p.number, count(*), count(DISTINCT c.child_key),
       extract(epoch FROM coalesce((SELECT max(a.claimed_at) FROM jobsite_jobattempt a
                                    WHERE a.job_id = p.number AND a.fence > p.parked_fence), p.finished_at)
               - greatest(max(c.finished_at), (SELECT max(a.ended_at) FROM jobsite_jobattempt a
                                               WHERE a.job_id = p.number AND a.result IN ('SUCCESS', 'PARKED')
                                                     AND a.fence <= coalesce(p.parked_fence, p.fence))))::float,
       (SELECT count(*) FROM jobsite_jobattempt a WHERE a.job_id = p.number AND a.result = 'PARKED'),
       max(c.finished_at) <= p.finished_at
FROM jobsite_job p JOIN jobsite_job c ON c.parent_id = p.number GROUP BY p.number ORDER BY p.number
"""


def _look_at_families(chaos: Chaos, large: int, count: int, families: int) -> None:
    rows = {row[0]: row[1:] for row in chaos.database.rows(FAMILIES)}
    chaos.expect(len(rows) == 1 + families, f"{len(rows)} parents have children, not {1 + families}")
    wanted = {number: count if number == large else FAMILY for number in rows}
    wrong = {number: row[:2] for number, row in rows.items() if row[:2] != (wanted[number], wanted[number])}
    chaos.expect(not wrong, f"children and their keys: {dict(list(wrong.items())[:5])}")
    chaos.expect(all(row[4] for row in rows.values()), "no parent ended before its last child")
    chaos.expect(rows[large][3] == 1, f"the large one parked {rows[large][3]} times")
    lags = sorted(row[2] for number, row in rows.items() if number != large)
    chaos.figure("parent behind its last child p50 s", lags[len(lags) // 2])
    chaos.figure("parent behind its last child max s", lags[-1])
    chaos.figure("callback behind the last of all s", rows[large][2])
    chaos.expect(lags[-1] <= SWEEP_SECONDS + 1, f"a parent went on {lags[-1]:.1f} s after its last child")
    runs = chaos.database.rows("SELECT count(*) FROM jobsite_jobattempt WHERE job_id = %s", large)
    chaos.figure("runs of the large one", int(runs[0][0]))


@scenario("R27", limit=300, seeds=3)
def cancel_storm(chaos: Chaos) -> None:
    """A third of all jobs is canceled in any status, parents too, while workers die.

    Each ends CANCELED, or COMPLETED where it was too late. None begins after its end. Running ones stop soon.
    """
    chaos.program("child", short=False, cancel_grace=f"{GRACE:g}s")
    parents = chaos.program("parent", target="fan_out", cancel_grace=f"{GRACE:g}s", callback=_action("gather"))
    single = chaos.program("single", short=False, cancel_grace=f"{GRACE:g}s")
    chaos.fleet.service()
    chaos.fleet.beat()
    chaos.fleet.many_workers(3, concurrency=2)
    chaos.insert(parents, chaos.count(60), {"program": "child", "count": FAMILY, "seconds": 0.3})
    chaos.insert(single, chaos.count(300), {"seconds": 0.3})
    chaos.insert(single, chaos.count(20), {"seconds": 4.0})  # longer than the grace, without a look at the request
    principal = principals.local(chaos.tenant(), login="chaos")
    next_kill = time.monotonic() + KILL_SECONDS
    canceled: dict[str, int] = {}

    def step() -> None:
        nonlocal next_kill
        chaos.restart_ended_workers()
        if time.monotonic() >= next_kill and faults.kill_somebody_at_work(chaos):
            next_kill = time.monotonic() + KILL_SECONDS
        if sum(canceled.values()) >= STORM * chaos.database.number("SELECT count(*) FROM jobsite_job"):
            return
        status = chaos.random.choice(["PENDING", "QUEUED", "RUNNING", "RUNNING", "WAITING"])
        for (number,) in chaos.database.rows(ANY_OF, status):
            try:
                operations.jobs.cancel(principal, int(number))
            except Conflict:
                chaos.report.faults["cancel came too late"] += 1  # it has ended since
            else:
                canceled[status] = canceled.get(status, 0) + 1

    chaos.all_ended(seconds=240, meanwhile=step)
    connection.close()
    for status, number in canceled.items():
        chaos.report.faults[f"cancel while {status}"] += number
    chaos.expect({"PENDING", "RUNNING", "WAITING"} <= set(canceled), f"jobs were canceled in any status: {canceled}")
    chaos.expect(set(chaos.statuses()) <= {"COMPLETED", "CANCELED"}, f"no job failed: {chaos.statuses()}")
    chaos.figure("canceled along with a parent", int(chaos.database.number(ALONG)))
    chaos.expect(chaos.database.number(ALONG) > 0, "children were canceled along with their parents")
    bound = RENEW_SECONDS + GRACE + 2
    late = [float(row[0]) for row in chaos.database.rows(LATE)]
    chaos.figure("longest between request and end s", max(late, default=0.0))
    chaos.expect(max(late, default=0.0) <= bound, f"a job went on {max(late, default=0):.1f} s after the request")


ANY_OF = """
SELECT number FROM jobsite_job WHERE status = %s AND cancel_requested_at IS NULL ORDER BY random() LIMIT 1
"""
ALONG = "SELECT count(*) FROM jobsite_job WHERE cancel_requested_by = 'system' AND status = 'CANCELED'"
# Without jobs whose worker died after the request: they end when a sweep reaps the run.
LATE = """
SELECT extract(epoch FROM finished_at - cancel_requested_at)::float FROM jobsite_job j
WHERE cancel_requested_at IS NOT NULL
      AND NOT EXISTS (SELECT FROM jobsite_jobattempt a WHERE a.job_id = j.number AND a.result = 'LOST')
"""
