"""Workers that are stopped: they finish what they can, and give the rest back uncounted."""

import os
import signal

import pytest

from tests.flows.jobs import effects_of, finished, history, process_of, running
from tests.flows.processes import is_alive, until

WORK = {"code": "work", "target": "tests.sample_actions:work", "timeout": "120s"}


@pytest.mark.slow
def test_a_worker_that_is_stopped_finishes_its_job_first(define, submit, start_worker, folder):
    define(**WORK)
    worker = start_worker("default", name="leaving")
    job = submit("work", {"folder": str(folder), "seconds": 2})
    process_of(job, folder)

    worker.send(signal.SIGTERM)
    until(lambda: worker.row.status == "STOPPING", "the worker is STOPPING")
    assert running(job).status == "RUNNING"
    code = worker.wait_for_end()

    job.refresh_from_db()
    assert (code, worker.row.status) == (0, "STOPPED")
    assert (job.status, job.attempts, history(job)) == ("COMPLETED", 1, ["SUCCESS"])
    assert effects_of(job, folder) == [1]


def test_a_worker_stopped_at_once_gives_its_job_back_uncounted(define, submit, start_worker, folder):
    define(**WORK)
    worker = start_worker("default", name="leaving", options=("--", "worker.soft_shutdown_timeout=1"))
    job = submit("work", {"folder": str(folder), "first_seconds": 60})
    pid = process_of(job, folder)

    worker.send(signal.SIGTERM)
    until(lambda: worker.row.status == "STOPPING", "the worker is STOPPING")
    worker.send(signal.SIGQUIT)
    worker.wait_for_end()

    assert not is_alive(pid)
    job.refresh_from_db()
    assert (job.status, job.attempts, job.losses, history(job)) == ("PENDING", 0, 0, ["RETURNED"])
    assert worker.row.status == "STOPPED"
    start_worker("default", name="next")
    ended = finished(job)
    assert (ended.status, ended.attempts, ended.losses) == ("COMPLETED", 1, 0)
    assert (history(ended), effects_of(job, folder)) == (["RETURNED", "SUCCESS"], [2])


@pytest.mark.slow
def test_a_worker_stopped_at_once_ends_although_its_child_is_frozen(define, submit, start_worker, folder):
    define(**WORK)
    worker = start_worker("default", name="leaving", options=("--", "worker.soft_shutdown_timeout=1"))
    job = submit("work", {"folder": str(folder), "first_seconds": 60})
    pid = process_of(job, folder)

    os.kill(pid, signal.SIGSTOP)
    worker.send(signal.SIGQUIT)
    worker.wait_for_end(seconds=30)

    assert not is_alive(pid)
    job.refresh_from_db()
    assert (job.status, job.attempts, job.losses, history(job)) == ("PENDING", 0, 0, ["RETURNED"])
    assert worker.row.status == "STOPPED"
