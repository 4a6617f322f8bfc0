"""All statements over many rows at once, each on connections of its own: no deadlock, and no job is lost."""

import random
import time
from collections import Counter
from uuid import uuid4

import pytest

from jobsite.programs.invariants import check
from jobsite.programs.models import Job, JobAttempt, Program
from jobsite.programs.rules.lifecycle import TERMINAL, FailureKind
from jobsite.programs.transitions.cancel import cancel
from jobsite.programs.transitions.dispatch import dispatch, requeue, wake
from jobsite.programs.transitions.finish import Ending, finish_all
from jobsite.programs.transitions.give_back import give_back, give_back_all
from jobsite.programs.transitions.hold import unblock
from jobsite.programs.transitions.reap import expire_stuck, reap_expired
from jobsite.programs.transitions.renew import renew
from jobsite.programs.transitions.start import start
from jobsite.programs.transitions.submit import insert
from tests.programs.conftest import FAILURE, LOCK_SECONDS, SUCCESS, claim_all, held, new_worker

pytestmark = pytest.mark.django_db(transaction=True)

RETRY = Ending.retry(FailureKind.TRANSIENT, delay=0.01)
BATCH = 50
OPEN_JOBS = 600


class Crowd:
    """What the threads do until `end`; each method runs in a thread, with a cursor of its own."""

    def __init__(self, jobs, programs, workers, seconds):
        self.jobs, self.workers, self.end = jobs, workers, time.monotonic() + seconds
        self.new = [jobs.new(program) for program in programs]
        self.messages = {worker.incarnation: [] for worker in workers}
        self.submitted = 0
        self.turns = Counter()

    def over(self, step):
        """Repeat the step until the end."""

        def work(cursor):
            cursor.execute("SET lock_timeout = '20s'")
            while time.monotonic() < self.end:
                step(cursor)
                self.turns[getattr(step, "__name__", "work")] += 1

        return work

    def submit(self, cursor):
        cursor.execute("SELECT count(*) FROM jobsite_job WHERE status IN ('PENDING', 'QUEUED')")
        if cursor.fetchone()[0] > OPEN_JOBS:
            time.sleep(0.01)
            return
        rows = insert(cursor, [random.choice(self.new) for _ in range(100)])
        self.submitted += len(rows)
        wake(cursor, [row.number for row in rows])

    def send(self, cursor):
        dispatch(cursor, queue_id=self.jobs.queue_id, lock_seconds=LOCK_SECONDS)

    def work_as(self, worker):
        """Claim a group in any order, run through it, write its endings in batches, and lose one now and then."""

        def work(cursor):
            cursor.execute("SELECT number FROM jobsite_job WHERE status = 'QUEUED' LIMIT %s", [BATCH])
            numbers = [row[0] for row in cursor.fetchall()]
            random.shuffle(numbers)
            message = uuid4()
            self.messages[worker.incarnation] = [*self.messages[worker.incarnation][-5:], message]
            claimed = claim_all(cursor, numbers, worker, message=message) if numbers else []
            if not claimed:
                time.sleep(0.002)
                return
            if random.random() < 0.1:
                cursor.execute(
                    "UPDATE jobsite_job SET lock_expires_at = clock_timestamp() - interval '1 second'"
                    " WHERE number = %s AND lock_token = %s",
                    [claimed[0].number, claimed[0].token],
                )
            random.shuffle(claimed)
            share = random.randrange(len(claimed) + 1)
            start(cursor, held(claimed[0]))
            if claimed[share:]:
                give_back(cursor, [held(one) for one in claimed[share:]])
                wake(cursor, [one.number for one in claimed[share:]])
            if claimed[:share]:
                endings = random.choices([SUCCESS, FAILURE, RETRY], weights=[8, 1, 1], k=share)
                finish_all(cursor, [(held(one), ending) for one, ending in zip(claimed[:share], endings, strict=True)])

        return work

    def renew(self, cursor):
        for worker in self.workers:
            messages = self.messages[worker.incarnation]
            renew(cursor, owner=worker.incarnation, messages=messages, lock_seconds=LOCK_SECONDS)

    def sweep(self, cursor):
        for reaped in (reap_expired(cursor), expire_stuck(cursor)):
            wake(cursor, [one.number for one in reaped])
        wake(cursor, [number for number, _ in unblock(cursor)])
        requeue(cursor, queue_id=self.jobs.queue_id, older_than=random.choice([0.0, 0.05]))
        time.sleep(random.random() * 0.02)

    def stop_and_go_on(self, cursor):
        worker = self.workers[0]
        numbers = give_back_all(cursor, owner=worker.incarnation, worker=worker.name)
        wake(cursor, numbers)
        time.sleep(0.05)

    def cancel_some(self, cursor):
        """Cancel many jobs in one transaction, in order of number."""
        cursor.execute("SELECT number, tenant_id FROM jobsite_job WHERE status IN ('QUEUED', 'RUNNING') LIMIT 3")
        some = sorted(cursor.fetchall())
        cursor.execute("BEGIN")
        for number, tenant in some:
            cancel(cursor, number=number, tenant_id=tenant, by="alice", reason="")
        cursor.execute("COMMIT")
        time.sleep(0.01)


@pytest.mark.parametrize(
    "seconds",
    [pytest.param(3, id="short"), pytest.param(120, id="long", marks=[pytest.mark.slow, pytest.mark.timeout(300)])],
)
def test_all_moves_at_once_never_deadlock_and_lose_no_job(jobs, define, race, cursor, seconds):
    programs = [define(code, max_consecutive_failures=100) for code in ("one", "two")]
    workers = [new_worker(cursor, f"w{place}@here", children=1_000) for place in range(3)]
    Program.objects.update(measured_runs=100, mean_seconds=0.001)
    crowd = Crowd(jobs, programs, workers, seconds)
    steps = [crowd.submit, crowd.send, crowd.send, crowd.renew, crowd.renew, crowd.sweep, crowd.sweep]
    steps += [crowd.stop_and_go_on, crowd.cancel_some, *map(crowd.work_as, workers)]

    answers = race(*map(crowd.over, steps))

    assert answers == [None] * len(steps)
    assert all(crowd.turns[step.__name__] >= seconds for step in steps)
    drain(crowd, cursor)
    assert Job.objects.count() == crowd.submitted
    assert not Job.objects.exclude(status__in=TERMINAL).exists()
    assert check(jobs.cursor) == []
    results = Counter(JobAttempt.objects.values_list("result", flat=True))
    assert {"SUCCESS", "PERMANENT", "TRANSIENT", "RETURNED"} <= set(results)


def drain(crowd, cursor):
    """Run the jobs that are still open to their end."""
    for worker in crowd.workers:
        give_back_all(cursor, owner=worker.incarnation, worker=worker.name)
    end = time.monotonic() + 60
    while Job.objects.exclude(status__in=TERMINAL).exists():
        assert time.monotonic() < end, Counter(Job.objects.values_list("status", "blocked"))
        unblock(cursor)
        wake(cursor, list(Job.objects.filter(status="PENDING").values_list("number", flat=True)))
        crowd.send(cursor)
        numbers = list(Job.objects.filter(status="QUEUED").values_list("number", flat=True))
        claimed = claim_all(cursor, numbers, crowd.workers[0]) if numbers else []
        if claimed:
            finish_all(cursor, [(held(one), SUCCESS) for one in claimed])
