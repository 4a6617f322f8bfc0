"""Messages that are doubled, lost or never sent: they are hints, and the row decides."""

from collections import Counter

import pytest
from django.conf import settings
from django.db import transaction

from jobsite import brokers
from jobsite.programs.dispatch import TASK
from jobsite.programs.models import Job, JobAttempt, Queue
from tests.flows.conftest import flush_broker
from tests.flows.jobs import all_finished, effects, finished, history, process_of, queued_without_message
from tests.flows.processes import until

WORK = {"code": "work", "target": "tests.sample_actions:work"}


def _publish(numbers: list[int]) -> None:
    brokers.publish(brokers.Message(TASK, "default", ([number],)) for number in numbers)


def _state() -> brokers.BrokerState:
    return brokers.state(settings.JOBSITE_BROKER_URLS["default"], ["default"])


@pytest.mark.slow
def test_two_workers_and_a_thousand_doubled_messages_run_each_job_once(define, operator, start_worker, folder):
    program = define(code="effect", target="tests.sample_actions:effect")
    jobs = queued_without_message(operator, program, {"path": str(folder / "effects")}, count=1_000)
    _publish([job.number for job in jobs for _ in range(2)] + [job.number for job in jobs[:50]])
    assert _state().waiting["default"] == 2_050

    for _ in range(2):
        start_worker("default", wait=False)
    ended = all_finished(jobs, seconds=60)
    until(lambda: _state().waiting["default"] == 0, "every message has been taken")

    assert {(job.status, job.fence, job.attempts) for job in ended} == {("COMPLETED", 1, 1)}
    assert Counter(effects(folder)) == {(job.number, 1): 1 for job in jobs}
    by_worker = Counter(JobAttempt.objects.values_list("worker", "result"))
    assert set(by_worker) == {("w1@flows", "SUCCESS"), ("w2@flows", "SUCCESS")}
    assert sum(by_worker.values()) == 1_000


def test_a_broker_that_is_flushed_loses_no_job(define, operator, submit, start_worker, folder, servers):
    program = define(**WORK)
    worker = start_worker("default")
    go = folder / "go"
    busy = [submit("work", {"folder": str(folder), "go": str(go)}) for _ in range(2)]
    for job in busy:
        process_of(job, folder)
    jobs = queued_without_message(operator, program, {"folder": str(folder)}, count=40)
    _publish([job.number for job in jobs])
    jobs += [submit("work", {"folder": str(folder)}) for _ in range(10)]
    until(lambda: Queue.objects.get(name="default").broker_epoch == _state().epoch, "the epoch is known")

    # Checked before the flush: after it, a sweep may set them to PENDING at any moment.
    assert Job.objects.filter(status="QUEUED").count() >= 40
    flush_broker(servers)
    go.touch()
    ended = all_finished(busy + jobs)

    assert worker.has_logged("messages_lost")
    assert {(job.status, job.attempts, job.losses) for job in ended} == {("COMPLETED", 1, 0)}
    assert Counter(effects(folder)) == {(job.number, 1): 1 for job in ended}


def test_a_submission_is_part_of_the_transaction_of_its_caller(define, submit, start_worker, folder):
    define(**WORK)
    with pytest.raises(LookupError), transaction.atomic():
        undone = submit("work", {"folder": str(folder)})
        raise LookupError("the caller rolls back")
    assert not Job.objects.filter(number=undone.number).exists()
    assert _state().waiting["default"] == 0

    with transaction.atomic():
        job = submit("work", {"folder": str(folder)})
        assert _state().waiting["default"] == 0
    assert _state().waiting["default"] == 1
    start_worker("default")
    ended = finished(job)

    assert (ended.status, history(ended)) == ("COMPLETED", ["SUCCESS"])
    assert effects(folder) == [(job.number, 1)]
