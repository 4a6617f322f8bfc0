"""A worker with a pool of threads: jobs run at the same time in one process, and limits are cooperative."""

import time

import pytest

from jobsite.programs import operations
from tests.flows.jobs import all_finished, effects, finished, history, process_of, running

WORKER = {"pool": "threads", "concurrency": 4}


def test_jobs_run_at_the_same_time_in_one_process(worker, define, submit, folder):
    define(target="tests.sample_actions:work")

    jobs = [submit("sample", {"folder": str(folder), "seconds": 1}) for _ in range(4)]
    ended = all_finished(jobs)

    assert {process_of(job, folder) for job in jobs} == {worker.pid}
    assert max(job.claimed_at for job in ended) < min(job.finished_at for job in ended)
    assert {(job.status, job.attempts) for job in ended} == {("COMPLETED", 1)}
    assert sorted(effects(folder)) == [(job.number, 1) for job in jobs]


@pytest.mark.usefixtures("worker")
def test_a_job_that_checks_for_the_request_is_canceled(define, submit, operator, tmp_path):
    define(target="tests.sample_actions:wait_for")
    canceled, other = (running(submit("sample", {"path": str(tmp_path / name)})) for name in ("never", "go"))

    began = time.monotonic()
    operations.jobs.cancel(operator, canceled.number)
    ended = finished(canceled)
    assert time.monotonic() - began < 3
    (tmp_path / "go").touch()

    assert (ended.status, history(ended)) == ("CANCELED", ["CANCELED"])
    assert finished(other).status == "COMPLETED"


@pytest.mark.usefixtures("worker")
def test_a_job_that_checks_for_its_time_limit_is_ended_by_it(define, submit, tmp_path):
    define(target="tests.sample_actions:wait_for", timeout="1s")

    job = finished(submit("sample", {"path": str(tmp_path / "never")}))

    assert (job.status, job.failure_kind, history(job)) == ("FAILED", "TIMEOUT", ["TIMEOUT"])
