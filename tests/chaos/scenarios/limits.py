"""R28, R31, R33: limits, a large backlog, and tenants that share a queue."""

import time
from dataclasses import dataclass
from uuid import uuid4

from jobsite.programs import workers
from jobsite.programs.models import Queue, WorkerManager
from jobsite.programs.sql.window import MESSAGES_PER_CHILD
from jobsite.programs.transitions import dispatch as transition
from jobsite.programs.transitions.claim import claim
from jobsite.tenants.models import Tenant
from tests.chaos import faults
from tests.chaos.chaos import Chaos
from tests.chaos.installation import LOCK_SECONDS
from tests.chaos.ledger import quantile
from tests.chaos.registry import scenario

LIMIT = 3
KILL_SECONDS = 5.0


@scenario("R28", limit=240)
def manager_limit(chaos: Chaos) -> None:
    """A manager allows three jobs at once: six workers, killed every five seconds, never run more."""
    WorkerManager.objects.create(name="three", max_running=LIMIT)
    program = chaos.program("work")
    chaos.fleet.service()
    chaos.fleet.beat()
    for place in range(6):
        chaos.fleet.worker(f"w{place}", concurrency=1, environment={"JOBSITE_MANAGER": "three"}, wait=False)
    for worker in chaos.fleet.workers.values():
        chaos.fleet.wait_until_ready(worker)
    chaos.insert(program, chaos.count(500), {"seconds": 0.15})
    samples: list[int] = []
    next_kill = time.monotonic() + KILL_SECONDS

    def step() -> None:
        nonlocal next_kill
        running = int(chaos.database.number("SELECT count(*) FROM jobsite_job WHERE status = 'RUNNING'"))
        samples.append(running)
        chaos.expect(running <= LIMIT, f"{running} jobs RUNNING at once")
        chaos.restart_ended_workers()
        if time.monotonic() >= next_kill and faults.kill_somebody_at_work(chaos):
            next_kill = time.monotonic() + KILL_SECONDS

    chaos.all_ended(seconds=180, meanwhile=step)
    chaos.figure("samples", len(samples))
    chaos.figure("most at once", max(samples))
    chaos.figure("mean at once", sum(samples) / len(samples))
    chaos.expect(max(samples) == LIMIT, f"the limit was reached, not only {max(samples)}")
    chaos.expect(chaos.losses() > 0, "some run was lost")
    chaos.expect(set(chaos.statuses()) == {"COMPLETED"}, f"all jobs COMPLETED, not {chaos.statuses()}")


@scenario("R31", limit=300)
def big_backlog(chaos: Chaos) -> None:
    """200,000 jobs wait: dispatch and claim take no longer than usual, and the broker holds at most one window."""
    program = chaos.program("noop")
    queue = Queue.objects.get(name="default")
    few = _Times.take(queue.pk, chaos.insert(program, 1_000))
    many = chaos.insert(program, chaos.count(200_000))
    chaos.database.rows("ANALYZE jobsite_job")
    all_of_them = _Times.take(queue.pk, many)
    chaos.report.faults["jobs waiting"] += len(many)
    for name in ("dispatch", "claim"):
        before, now = getattr(few, name), getattr(all_of_them, name)
        chaos.figure(f"{name} p50 of 1,000 s", quantile(before, 0.5))
        chaos.figure(f"{name} p50 s", quantile(now, 0.5))
        chaos.figure(f"{name} p99 s", quantile(now, 0.99))
        # The median, because the p99 depends on what else this machine does.
        chaos.expect(quantile(now, 0.5) <= 0.02, f"p50 of {name} is {quantile(now, 0.5):.4f} s")
        chaos.expect(quantile(now, 0.5) <= 3 * quantile(before, 0.5) + 0.002, f"{name} does not grow with the backlog")

    chaos.fleet.service()
    chaos.fleet.beat()
    chaos.fleet.many_workers(2, concurrency=2)
    lengths: list[int] = []

    def sample() -> None:
        with chaos.installation.client() as client:
            lengths.append(faults.messages_waiting(client))

    chaos.until(lambda: chaos.ended() >= 1_500 * min(1.0, chaos.size), "jobs run", seconds=90, meanwhile=sample)
    window = 4 * MESSAGES_PER_CHILD
    chaos.figure("longest list", max(lengths))
    chaos.expect(0 < max(lengths) <= window, f"the broker held {max(lengths)} messages, the window is {window}")
    chaos.database.rows("UPDATE jobsite_job SET status = 'CANCELED', finished_at = clock_timestamp()"
                        " WHERE status IN ('PENDING', 'QUEUED')")  # fmt: skip
    chaos.all_ended(seconds=30)


@dataclass(frozen=True)
class _Times:
    """The seconds that each dispatch took, and each claim of a job that it moved."""

    dispatch: list[float]
    claim: list[float]

    @classmethod
    def take(cls, queue_id: int, numbers: list[int]) -> "_Times":
        """Measure a hundred times, and roll everything back."""
        dispatches, claims = [], []
        with workers.open_connection() as connection, connection.cursor() as cursor:
            transition.wake(cursor, numbers[:1])
            cursor.execute("SELECT id FROM jobsite_workermanager WHERE name = 'default'")
            [manager] = cursor.fetchone()  # type: ignore[misc]
            for _ in range(100):
                with connection.transaction(force_rollback=True):
                    began = time.monotonic()
                    moved = transition.dispatch(cursor, queue_id=queue_id, lock_seconds=LOCK_SECONDS)
                    dispatches.append(time.monotonic() - began)
                    began = time.monotonic()
                    claimed = claim(
                        cursor,
                        [(moved[0].number, uuid4())],
                        owner=uuid4(),
                        manager_id=manager,
                        queues=["default"],
                        message=uuid4(),
                        lock_seconds=LOCK_SECONDS,
                    )
                    claims.append(time.monotonic() - began)
                    assert len(claimed) == 1, "what was dispatched can be claimed"
        return cls(dispatches[10:], claims[10:])  # without the first ones, which the server plans each time


@scenario("R33", limit=480)
def fairness(chaos: Chaos) -> None:
    """One tenant has 10,000 jobs waiting when another submits ten: the ten begin within ten seconds.

    The large tenant never runs more jobs at once than its quota.
    """
    large, small = chaos.program("work"), chaos.program("work", tenant="umbrella")
    Tenant.objects.filter(pk=large.tenant_id).update(running_quota=LIMIT)
    at_once = "SELECT count(*) FROM jobsite_job WHERE tenant_id = %s AND status = 'RUNNING'"
    samples: list[int] = []

    def sample() -> None:
        samples.append(int(chaos.database.number(at_once, large.tenant_id)))

    chaos.fleet.service()
    chaos.fleet.beat()
    chaos.fleet.many_workers(2, concurrency=2)
    chaos.insert(large, chaos.count(10_000), {"seconds": 0.005})
    chaos.report.faults["jobs of another tenant"] += chaos.count(10_000)
    chaos.until(lambda: chaos.ended() >= 50, "the large tenant's jobs run", seconds=60, meanwhile=sample)

    numbers = chaos.insert(small, 10, {"seconds": 0.005})
    chaos.all_ended(seconds=420, meanwhile=sample)
    waits = [
        float(row[0])
        for row in chaos.database.rows(
            "SELECT extract(epoch FROM claimed_at - created_at) FROM jobsite_job WHERE number = ANY(%s)", numbers
        )
    ]
    behind = chaos.database.number(
        "SELECT count(*) FROM jobsite_job WHERE tenant_id = %s AND claimed_at > "
        "(SELECT max(claimed_at) FROM jobsite_job WHERE number = ANY(%s))",
        large.tenant_id,
        numbers,
    )
    chaos.figure("last began after s", max(waits))
    chaos.figure("jobs of the other behind them", behind)
    chaos.expect(max(waits) <= 10, f"the last of the ten began after {max(waits):.1f} s")
    chaos.expect(behind > 0, "the large tenant still waited then")
    chaos.figure("most of the large at once", max(samples))
    chaos.expect(max(samples) == LIMIT, f"{max(samples)} jobs of the large tenant ran at once, its quota is {LIMIT}")
