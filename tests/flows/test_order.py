"""When jobs start: at their time, by priority, and not while they are held."""

import time
from datetime import timedelta

import pytest
from django.utils import timezone

from jobsite.programs import operations
from jobsite.programs.models import Job
from tests.flows.jobs import all_finished, effects, finished, history, process_of

WORKER = {"concurrency": 1}
pytestmark = pytest.mark.usefixtures("worker")


def test_a_job_for_later_does_not_start_before_its_time(define, submit, folder):
    define(target="tests.sample_actions:work")
    due = timezone.now() + timedelta(seconds=2)

    job = submit("sample", {"folder": str(folder)}, scheduled_at=due)
    at_once = finished(submit("sample", {"folder": str(folder)}))
    job.refresh_from_db()
    waits = (job.status, job.blocked)
    ended = finished(job)

    assert at_once.finished_at < due
    assert waits == ("PENDING", "SCHEDULED")
    assert ended.scheduled_at == due
    assert 0 <= (ended.claimed_at - due).total_seconds() < 2.5
    assert (ended.status, history(ended)) == ("COMPLETED", ["SUCCESS"])


def test_of_ten_waiting_jobs_the_most_urgent_starts_first(define, submit, folder):
    define(target="tests.sample_actions:work")
    busy = submit("sample", {"folder": str(folder), "seconds": 1.5})
    process_of(busy, folder)
    priorities = (0, 0, -10, 5, 0, 20, -5, 0, 0, 50)
    jobs = [submit("sample", {"folder": str(folder)}, priority=priority) for priority in priorities]
    # One message is on its way already, for the child that will be idle next.
    sent = set(Job.objects.filter(status="QUEUED").values_list("number", flat=True))

    ended = all_finished([busy, *jobs])

    assert len(sent) <= 1
    order = [number for number, _ in effects(folder)]
    assert order[0] == busy.number
    by_rank = sorted(jobs, key=lambda job: (-job.priority, job.number))
    expected = [job.number for job in by_rank if job.number not in sent]
    assert [number for number in order[1:] if number not in sent] == expected
    assert sent <= set(order[1:2])
    assert {job.status for job in ended} == {"COMPLETED"}


def test_a_held_job_waits_until_it_is_released(define, submit, operator, folder):
    define(target="tests.sample_actions:work")
    job = submit("sample", {"folder": str(folder)}, hold=True, hold_reason="inspection")

    bystander = finished(submit("sample", {"folder": str(folder)}))
    job.refresh_from_db()
    held = (job.status, job.blocked, job.hold_reason)
    operations.jobs.release(operator, job.number)
    ended = finished(job, seconds=5)

    assert held == ("PENDING", "HELD", "inspection")
    assert (ended.status, ended.hold_at) == ("COMPLETED", None)
    assert effects(folder) == [(bystander.number, 1), (job.number, 1)]


@pytest.mark.slow
def test_a_hold_with_an_end_ends_by_itself(define, submit, operator, folder):
    define(target="tests.sample_actions:work")
    busy = submit("sample", {"folder": str(folder), "seconds": 0.5})
    process_of(busy, folder)
    job = submit("sample", {"folder": str(folder)})

    end = timezone.now() + timedelta(seconds=1.5)
    operations.jobs.hold(operator, job.number, until=end)
    began = time.monotonic()
    ended = finished(job)

    assert time.monotonic() - began < 6
    assert ended.claimed_at >= end
    assert (ended.status, history(ended)) == ("COMPLETED", ["SUCCESS"])
    assert effects(folder) == [(busy.number, 1), (job.number, 1)]
