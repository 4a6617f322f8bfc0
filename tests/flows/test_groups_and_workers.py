"""Groups on workers that are killed, stop or are limited, and the messages that dispatch sends for groups."""

import base64
import json
import signal
import time
from collections import Counter
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from django.conf import settings
from django.db import connection

from jobsite import brokers
from jobsite.programs.dispatch import dispatch
from jobsite.programs.models import Job, Program
from jobsite.programs.transitions.claim import claim
from jobsite.programs.transitions.dispatch import wake
from jobsite.programs.transitions.reap import reap_owners
from jobsite.programs.workers import manager_id
from tests.flows.conftest import flush_broker
from tests.flows.jobs import all_finished, attempts, finished, history, pending_each, running, send_group
from tests.flows.processes import until


@pytest.fixture
def notes(tmp_path):
    return Notes(tmp_path / "notes")


class Notes:
    """What `note` wrote, and the parameters of jobs: to write, or to signal the worker first in the first run."""

    def __init__(self, path):
        self.path = path
        self.act = {"act": "note", "path": str(path)}

    def after(self, number, to, seconds=0.0):
        return {"act": "signal_once", "path": str(self.path), "number": number, "to": to, "seconds": seconds}

    def runs(self):
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return [tuple(map(int, line.split()[:2])) for line in lines]


def outcomes(jobs):
    return {(job.status, job.attempts, job.losses) for job in jobs}


# ---- workers that break ----------------------------------------------------------------------------------


def test_a_worker_that_is_killed_with_a_group_costs_no_job_a_loss(group, notes, start_worker):
    jobs = group(notes.act, notes.after(signal.SIGKILL, "group"), notes.act, notes.act)
    killed = start_worker("default", name="killed")

    send_group(jobs)
    killed.wait_for_end()
    start_worker("default", name="other")
    ended = all_finished(jobs)

    assert outcomes(ended) == {("COMPLETED", 1, 0)}
    assert {(job.alone, tuple(history(job))) for job in ended} == {(True, ("RETURNED", "SUCCESS"))}
    assert sorted(notes.runs()) == [(jobs[0].number, 1)] + [(job.number, 2) for job in jobs]


@pytest.mark.slow
def test_a_worker_frozen_with_a_group_for_longer_than_its_lock_writes_nothing_and_starts_nothing(
    group, notes, start_worker
):
    jobs = group(notes.act, notes.after(signal.SIGSTOP, "group"), *[notes.act] * 20, timeout="100s")
    frozen = start_worker("default", name="frozen", concurrency=1)

    send_group(jobs)
    until(lambda: (jobs[0].number, 1) in notes.runs(), "the group runs")
    other = start_worker("default", name="other")
    ended = all_finished(jobs, seconds=30)
    before = [(job.finished_at, job.fence, job.attempts, history(job)) for job in ended]
    other.kill()
    frozen.send_all(signal.SIGCONT)
    [last] = group(notes.act)
    send_group([last])
    assert attempts(finished(last))[0].worker == "frozen@flows"  # its only child has finished with the group

    assert outcomes(ended) == {("COMPLETED", 1, 0)}
    assert {tuple(history(job)) for job in ended} == {("RETURNED", "SUCCESS")}
    now = Job.objects.filter(number__in=[job.number for job in jobs]).order_by("number")
    assert [(job.finished_at, job.fence, job.attempts, history(job)) for job in now] == before
    assert {attempts(job)[1].worker for job in now} == {"other@flows"}
    # The frozen job may have gone on for a moment. No other job was started.
    assert {number for number, fence in notes.runs() if fence == 1} <= {jobs[0].number, jobs[1].number, last.number}


# ---- workers that stop -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_worker_stopped_in_the_middle_of_a_group_finishes_it_first(group, notes, start_worker):
    jobs = group(notes.act, notes.after(signal.SIGTERM, "parent"), *[notes.act] * 8)
    leaving = start_worker("default", name="leaving", concurrency=1)

    send_group(jobs)
    assert leaving.wait_for_end() == 0

    ended = all_finished(jobs, seconds=0.1)
    assert outcomes(ended) == {("COMPLETED", 1, 0)}
    assert notes.runs() == [(job.number, 1) for job in jobs]


@pytest.mark.slow
def test_a_worker_stopped_at_once_stores_what_has_run_and_gives_the_rest_back(group, notes, start_worker):
    jobs = group(notes.act, notes.act, notes.after(signal.SIGQUIT, "parent", 60), *[notes.act] * 3, timeout="100s")
    stop_now = ("--", "worker.soft_shutdown_timeout=1")
    leaving = start_worker("default", name="leaving", concurrency=1, options=stop_now)

    send_group(jobs)
    leaving.wait_for_end()

    rows = list(Job.objects.order_by("number"))
    assert [(job.status, job.attempts, history(job)) for job in rows[:2]] == [("COMPLETED", 1, ["SUCCESS"])] * 2
    assert [(job.lock_token, job.attempts, history(job)) for job in rows[2:]] == [(None, 0, ["RETURNED"])] * 4
    assert {(job.losses, job.alone) for job in rows} == {(0, False)}
    assert notes.runs() == [(job.number, 1) for job in jobs[:2]]


# ---- a manager's limit -----------------------------------------------------------------------------------


def test_a_group_does_not_exceed_its_managers_limit(group, notes, start_worker, manager):
    nap = {"act": "effect", "path": str(notes.path), "seconds": 0.05}
    jobs = group(*[nap] * 10)
    start_worker("default", manager=manager.name, concurrency=2)
    samples = []

    def ended():
        samples.append(Job.objects.filter(status="RUNNING").count())
        return Job.objects.filter(status="COMPLETED").count() == len(jobs)

    began = time.monotonic()
    send_group(jobs)
    until(ended, "the jobs have ended")

    assert max(samples) == 2
    # The jobs that the limit refuses are sent again with the next message, not by the next sweep.
    assert time.monotonic() - began < 3
    assert outcomes(all_finished(jobs)) == {("COMPLETED", 1, 0)}
    assert sorted(number for number, _ in notes.runs()) == [job.number for job in jobs]


def test_the_only_job_that_a_limit_allows_is_stored_as_started(group, start_worker, manager, tmp_path):
    type(manager).objects.filter(pk=manager.pk).update(max_running=1)
    waiting = {"act": "wait_for", "path": str(tmp_path / "go")}
    jobs = group(waiting, {}, timeout="100s")
    start_worker("default", manager=manager.name, concurrency=2)

    send_group(jobs)
    first = running(jobs[0])
    until(lambda: Job.objects.get(number=first.number).started_at, "it is known to have started", seconds=3)

    (tmp_path / "go").touch()
    assert outcomes(all_finished(jobs)) == {("COMPLETED", 1, 0)}


# ---- what dispatch puts into one message -----------------------------------------------------------------


def messages(queue="default"):
    """The numbers in each message of a queue, oldest first."""
    key = settings.CELERY_BROKER_TRANSPORT_OPTIONS["global_keyprefix"] + queue
    raws = brokers._client(settings.JOBSITE_BROKER_URLS[queue]).lrange(key, 0, -1)
    bodies = [json.loads(raw)["body"] for raw in reversed(raws)]
    return [json.loads(base64.b64decode(body))[0][0] for body in bodies]


def send_off(jobs):
    """Dispatch these jobs, as a finish or the sweep does."""
    with connection.cursor() as cursor:
        wake(cursor, [job.number for job in jobs])
        dispatch(cursor, jobs[0].queue_id)


def lose(jobs):
    """Make each job lost once, with a worker that ran it alone."""
    owner = uuid4()
    Job.objects.filter(number__in=[job.number for job in jobs]).update(status="QUEUED", queued_at=datetime.now(UTC))
    with connection.cursor() as cursor:
        manager = manager_id(cursor, "default")
        for job in jobs:
            assert claim(
                cursor,
                [(job.number, uuid4())],
                owner=owner,
                manager_id=manager,
                queues=["default"],
                message=uuid4(),
                lock_seconds=60,
            )
        assert len(reap_owners(cursor, [owner])) == len(jobs)


def is_known_as_short(program):
    row = Program.objects.get(pk=program.pk)
    return row.measured_runs >= 20 and row.mean_seconds <= 0.004


@pytest.mark.slow
def test_jobs_of_a_program_are_grouped_once_it_is_known_as_short_until_it_is_slow(
    define, submit, operator, start_worker, servers
):
    flush_broker(servers)
    program = define(target="tests.sample_actions:perform")
    worker = start_worker("default", concurrency=2)

    def warmed_up():
        all_finished([submit("sample") for _ in range(10)])
        return is_known_as_short(program)

    until(warmed_up, "the program is known as short", seconds=30)
    worker.send_all(signal.SIGSTOP)
    jobs = pending_each(operator, program, [{}] * 200)
    send_off(jobs)
    sent = messages()
    worker.send_all(signal.SIGCONT)
    ended = all_finished(jobs)

    # The first forty jobs. One message may have gone to the worker, which waited for it when it was stopped.
    assert 1 <= len(sent) <= 2
    assert all(len(numbers) == 20 and numbers == sorted(numbers) for numbers in sent)
    assert outcomes(ended) == {("COMPLETED", 1, 0)}
    claims = Counter(attempt.external_id for job in ended for attempt in attempts(job))
    assert len(claims) <= 20
    assert max(claims.values()) <= 50

    def slow():
        all_finished([submit("sample", {"act": "hang", "seconds": 0.05}) for _ in range(5)])
        return not is_known_as_short(program)

    until(slow, "the program is known as slow", seconds=30)
    worker.send_all(signal.SIGSTOP)
    jobs = pending_each(operator, program, [{}] * 20)
    send_off(jobs)
    sent = messages()
    worker.send_all(signal.SIGCONT)

    assert sent
    assert {len(numbers) for numbers in sent} == {1}
    assert outcomes(all_finished(jobs)) == {("COMPLETED", 1, 0)}


def test_jobs_that_must_not_be_grouped_have_messages_of_their_own(define, operator, start_worker, servers):
    flush_broker(servers)
    worker = start_worker("default", concurrency=2)
    worker.send_all(signal.SIGSTOP)
    kinds = {
        "short": define("short"),
        "asked": define("asked", group=False),
        "command": define("command", action=[{"kind": "command", "argv": ["true"]}]),
        "lossy": define("lossy"),
        "lonely": define("lonely"),
    }
    Program.objects.update(measured_runs=100, mean_seconds=0.0005)
    jobs = {code: pending_each(operator, program, [{}] * 4) for code, program in kinds.items()}
    lose(jobs["lossy"])
    Job.objects.filter(program=kinds["lossy"]).update(alone=False)
    Job.objects.filter(program=kinds["lonely"]).update(alone=True)
    everything = [job for of_kind in jobs.values() for job in of_kind]

    send_off(everything)
    sent = messages()
    worker.kill()

    grouped = {number for numbers in sent for number in numbers if len(numbers) > 1}
    assert grouped
    assert grouped <= {job.number for job in jobs["short"]}
    assert {len(numbers) for numbers in sent if not grouped & set(numbers)} == {1}
