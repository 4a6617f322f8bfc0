"""R4 and R6: the protocol's statements at the same moment on a real database."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any
from uuid import UUID, uuid4

import psycopg

from jobsite import brokers
from jobsite.database import Connection, Cursor, connect
from jobsite.programs import workers
from jobsite.programs.dispatch import TASK
from jobsite.programs.models import Program
from jobsite.programs.transitions.claim import Claimed, claim
from jobsite.programs.transitions.finish import Ending, Held, StaleJob, finish
from jobsite.programs.transitions.reap import reap_expired
from tests.chaos.chaos import Chaos
from tests.chaos.registry import scenario

CLAIMERS = 8
NOOP = "jobsite.samples:noop"  # races run in the harness leave no effect in the ledger
SUCCESS = Ending.completed()


class Racers:
    """Threads with a connection each that begin at the same moment."""

    def __init__(self, count: int, stack: ExitStack) -> None:
        self._connections = [stack.enter_context(connect(application_name="chaos racer")) for _ in range(count)]
        self._pool = stack.enter_context(ThreadPoolExecutor(count))

    @property
    def cursor(self) -> Any:
        """A cursor for the preparation of a race."""
        return self._connections[0].cursor()

    def race(self, *steps: Callable[[Cursor], Any]) -> list[Any]:
        """Run the steps at once. Returns what each returned or raised, in their order."""
        barrier = threading.Barrier(len(steps))

        def run(place: int, connection: Connection) -> Any:
            with connection.cursor() as cursor:
                barrier.wait(10)
                return steps[place](cursor)

        futures = [self._pool.submit(run, place, self._connections[place]) for place in range(len(steps))]
        return [future.exception() or future.result() for future in futures]


@scenario("R4", limit=180, seeds=3, groups=True)
def claim_race(chaos: Chaos) -> None:
    """Eight claimers want the same job, 500 times, and each message comes ten times: each job has one winner."""
    program = chaos.program("raced", target=NOOP)
    rounds = chaos.count(500)
    began = time.monotonic()
    with ExitStack() as stack:
        racers = Racers(CLAIMERS, stack)
        with racers.cursor as cursor:
            owners = [_register(cursor, f"racer{place}") for place in range(CLAIMERS)]
        for number in chaos.insert(program, rounds):
            _claim_race(chaos, racers, owners, number)
        with racers.cursor as cursor:
            cursor.execute("UPDATE jobsite_worker SET status = 'STOPPED'")
    chaos.figure("rounds/s", rounds / (time.monotonic() - began))
    _doubled_messages(chaos, chaos.program("work"))


def _claim_race(chaos: Chaos, racers: Racers, owners: "list[workers.Registered]", number: int) -> None:
    with racers.cursor as cursor:
        _queue(cursor, [number])
    won = racers.race(*[_claimer(number, owner) for owner in owners])
    winners = [one for one in won if isinstance(one, Claimed)]
    errors = [one for one in won if isinstance(one, BaseException)]
    chaos.report.faults["claim race"] += 1
    chaos.expect(not errors, f"no claimer of job {number} failed: {errors}")
    chaos.expect(len(winners) == 1, f"job {number} had {len(winners)} winners")
    with racers.cursor as cursor:
        for winner in winners:
            finish(cursor, _held(winner), SUCCESS)


def _claimer(number: int, owner: "workers.Registered") -> Callable[[Cursor], Claimed | None]:
    def step(cursor: Cursor) -> Claimed | None:
        return next(iter(_claim(cursor, number, owner)), None)

    return step


def _doubled_messages(chaos: Chaos, program: Program) -> None:
    """Send each message ten times to real workers."""
    numbers = chaos.insert(program, chaos.count(100))
    chaos.fleet.service()
    with connect(application_name="chaos") as connection, connection.cursor() as cursor:
        _queue(cursor, numbers)
    batch = 10 if chaos.grouped else 1
    batches = [numbers[start : start + batch] for start in range(0, len(numbers), batch)]
    messages = [brokers.Message(TASK, "default", (one,), 60.0) for one in batches for _ in range(10)]
    chaos.random.shuffle(messages)
    brokers.publish(messages)
    chaos.report.faults["doubled message"] += len(messages) - len(batches)
    chaos.fleet.many_workers(2, concurrency=2)
    chaos.all_ended(seconds=60)
    begun = Counter(run.job for run in chaos.ledger.runs("begin"))
    chaos.expect(begun == Counter(numbers), f"each job began once: {[n for n in numbers if begun[n] != 1][:5]}")
    chaos.expect(
        not chaos.database.rows("SELECT 1 FROM jobsite_job WHERE attempts <> 1 OR status <> 'COMPLETED'"),
        "each job has one attempt and is COMPLETED",
    )


@scenario("R6", limit=180, seeds=3)
def finish_against_reap(chaos: Chaos) -> None:
    """A worker finishes a job at the moment when a sweep reaps it, 1,000 times: one of them wins."""
    program = chaos.program("raced", target=NOOP)
    ends: Counter[str] = Counter()
    began = time.monotonic()
    with ExitStack() as stack:
        racers = Racers(2, stack)
        with racers.cursor as cursor:
            owner = _register(cursor, "racer")
        for number in chaos.insert(program, chaos.count(1_000)):
            ends[_finish_race(chaos, racers, owner, number)] += 1
        for number in chaos.insert(program, chaos.count(50)):
            ends[_finish_inside(chaos, racers, owner, number)] += 1
        with racers.cursor as cursor:
            for number, token in chaos.database.rows("SELECT number, gen_random_uuid() FROM jobsite_job"
                                                     " WHERE status = 'PENDING' ORDER BY number"):  # fmt: skip
                _queue(cursor, [number])
                for claimed in _claim(cursor, number, owner, token=token):
                    finish(cursor, _held(claimed), SUCCESS)
    rounds = sum(ends.values())
    chaos.report.faults["finish beside reap"] += rounds
    chaos.figure("rounds/s", rounds / (time.monotonic() - began))
    chaos.figure("finish won", ends["finish"])
    chaos.figure("reap won", ends["reap"])
    chaos.expect(min(ends["finish"], ends["reap"]) > 0, f"both won now and then: {dict(ends)}")
    chaos.expect(set(chaos.statuses()) == {"COMPLETED"}, f"all jobs COMPLETED, not {chaos.statuses()}")
    chaos.expect(chaos.losses() == ends["reap"], f"losses {chaos.losses()} are the races that reap won, {ends['reap']}")


def _finish_race(chaos: Chaos, racers: Racers, owner: "workers.Registered", number: int) -> str:
    """Both at once, one of them up to two milliseconds earlier."""
    held = _expired(racers, owner, number)
    head_start = chaos.random.uniform(-0.002, 0.002)

    def end(cursor: Cursor) -> str:
        time.sleep(max(0.0, head_start))
        try:
            finish(cursor, held, SUCCESS)
        except StaleJob:
            return "stale"
        return "finished"

    def take(cursor: Cursor) -> list[int]:
        time.sleep(max(0.0, -head_start))
        return [one.number for one in reap_expired(cursor)]

    ended, taken = racers.race(end, take)
    winner = {("finished", 0): "finish", ("stale", 1): "reap"}.get((str(ended), len(taken)), "")
    chaos.expect(winner != "", f"job {number}: the finish was {ended!r} and the sweep reaped {taken!r}")
    status = chaos.database.one("SELECT status FROM jobsite_job WHERE number = %s", number)
    wanted = {"finish": "COMPLETED", "reap": "PENDING"}.get(winner)
    chaos.expect(status == wanted, f"job {number} is {status} after {winner} won")
    return winner


def _finish_inside(chaos: Chaos, racers: Racers, owner: "workers.Registered", number: int) -> str:
    """One of them during the other's open transaction: the sweep skips the row, a finish waits and finds nothing."""
    held = _expired(racers, owner, number)
    with connect(application_name="chaos racer") as first, connect(application_name="chaos racer") as second:
        if number % 2:
            with first.transaction(), first.cursor() as cursor:
                finish(cursor, held, SUCCESS)
                with second.cursor() as other:
                    chaos.expect(reap_expired(other) == [], f"the sweep skips job {number}")
            return "finish"
        with ThreadPoolExecutor(1) as pool:
            with first.transaction(), first.cursor() as cursor:
                taken = reap_expired(cursor)
                waiting = pool.submit(_finish_or_stale, second, held)
                _wait_for_lock(chaos, second)
            chaos.expect(len(taken) == 1, f"the sweep reaped job {number}")
            chaos.expect(waiting.result(10) == "stale", f"the finish of job {number} found nothing")
        return "reap"


def _finish_or_stale(connection: Connection, held: Held) -> str:
    try:
        with connection.cursor() as cursor:
            finish(cursor, held, SUCCESS)
    except StaleJob:
        return "stale"
    except psycopg.Error as error:
        return repr(error)
    return "finished"


def _wait_for_lock(chaos: Chaos, connection: Connection) -> None:
    pid = connection.info.backend_pid
    chaos.until(
        lambda: chaos.database.rows("SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'", pid),
        "the finish waits for the sweep",
        seconds=10,
    )


def _expired(racers: Racers, owner: "workers.Registered", number: int) -> Held:
    """Claim the job, and let its lock expire."""
    with racers.cursor as cursor:
        _queue(cursor, [number])
        [claimed] = _claim(cursor, number, owner)
        cursor.execute(
            "UPDATE jobsite_job SET lock_expires_at = clock_timestamp() - interval '1 second' WHERE number = %s",
            [number],
        )
    return _held(claimed)


def _register(cursor: Cursor, name: str) -> "workers.Registered":
    return workers.register(cursor, name=name, manager="default", queues=["default"], pool="prefork", children=1)


def _queue(cursor: Cursor, numbers: list[int]) -> None:
    cursor.execute(
        "UPDATE jobsite_job SET status = 'QUEUED', queued_at = clock_timestamp() WHERE number = ANY(%s)", [numbers]
    )


def _claim(cursor: Cursor, number: int, owner: "workers.Registered", *, token: UUID | None = None) -> list[Claimed]:
    return claim(
        cursor,
        [(number, token or uuid4())],
        owner=owner.incarnation,
        manager_id=owner.manager_id,
        queues=owner.queues,
        message=uuid4(),
        lock_seconds=60.0,
    )


def _held(claimed: Claimed) -> Held:
    return Held(claimed.number, claimed.token, "racer", claimed.claimed_at)
