"""Processes that die while they run jobs: another worker runs each of these jobs again, once."""

import os
import signal
import time

import pytest

from jobsite.programs.models import Worker
from jobsite.programs.upkeep import sweeps
from tests.flows.jobs import all_finished, attempts, effects, effects_of, finished, history, process_of, running
from tests.flows.processes import is_alive, until

WORK = {"code": "work", "target": "tests.sample_actions:work", "timeout": "120s"}


def test_the_job_of_a_killed_child_runs_again_before_its_lock_expires(define, submit, start_worker, folder):
    define(**WORK)
    start_worker("default", concurrency=3)
    jobs = [submit("work", {"folder": str(folder), "first_seconds": seconds}) for seconds in (60, 60, 3)]
    victims = [process_of(job, folder) for job in jobs]

    killed_at = time.monotonic()
    for pid in victims[:2]:
        os.kill(pid, signal.SIGKILL)
    until(lambda: not any(is_alive(pid) for pid in victims[:2]), "the children are gone", seconds=5)
    lost = [finished(job) for job in jobs[:2]]

    # Celery reaps its children every five seconds. A lock lasts eight seconds, and is renewed until then.
    assert time.monotonic() - killed_at < 8
    spared = finished(jobs[2])
    for job in lost:
        assert (job.status, job.attempts, job.losses) == ("COMPLETED", 2, 1)
        assert history(job) == ["LOST", "SUCCESS"]
        assert attempts(job)[0].error["message"] == "Worker lost during execution: the child process died"
    assert (spared.status, history(spared)) == ("COMPLETED", ["SUCCESS"])
    assert sorted(effects(folder)) == [(jobs[0].number, 2), (jobs[1].number, 2), (jobs[2].number, 1)]


@pytest.mark.slow
def test_jobs_of_a_machine_that_died_run_again_when_their_locks_expire(define, submit, start_worker, folder):
    define(**WORK)
    doomed = start_worker("default", name="doomed")
    jobs = [submit("work", {"folder": str(folder), "first_seconds": 60}) for _ in range(2)]
    held = [running(job) for job in jobs]
    pids = [process_of(job, folder) for job in jobs]
    # A worker cannot see the processes of another machine.
    Worker.objects.filter(pid=doomed.pid).update(boot_id="another machine")

    doomed.kill()
    assert not any(is_alive(pid) for pid in pids)
    sweeps.run_all()
    assert [running(job).lock_token for job in jobs] == [job.lock_token for job in held]
    start_worker("default", name="heir")
    ended = all_finished(jobs)

    for job in ended:
        assert (job.status, job.attempts, job.losses) == ("COMPLETED", 2, 1)
        assert history(job) == ["LOST", "SUCCESS"]
        lost = attempts(job)[0]
        assert (lost.worker, lost.error["message"]) == (
            "doomed@flows",
            "Worker lost during execution: its lock ran out",
        )
        assert (lost.ended_at - lost.claimed_at).total_seconds() >= 8
        assert effects_of(job, folder) == [2]


@pytest.mark.slow
def test_the_jobs_of_a_worker_that_restarts_under_its_name_run_again_at_once(define, submit, start_worker, folder):
    define(**WORK)
    first = start_worker("default", name="phoenix")
    job = submit("work", {"folder": str(folder), "first_seconds": 60})
    process_of(job, folder)

    first.kill()
    expires_at = running(job).lock_expires_at
    second = start_worker("default", name="phoenix")
    ended = finished(job)

    assert (first.row.status, second.row.status) == ("LOST", "ACTIVE")
    assert first.row.name == second.row.name == "phoenix@flows"
    assert (ended.status, history(ended), effects_of(job, folder)) == ("COMPLETED", ["LOST", "SUCCESS"], [2])
    lost = attempts(ended)[0]
    assert lost.error["message"] == "Worker lost during execution: the worker process is gone"
    assert lost.ended_at < expires_at


def test_a_manual_sweep_reaps_the_jobs_of_a_worker_of_this_machine_that_has_ended(define, submit, start_worker, folder):
    define(**WORK)
    doomed = start_worker("default")
    job = submit("work", {"folder": str(folder), "first_seconds": 60})
    process_of(job, folder)

    doomed.kill()
    repaired = sweeps.run_all()

    assert repaired["lost_workers"] == 1
    job.refresh_from_db()
    assert (job.status in ("PENDING", "QUEUED"), job.losses, history(job)) == (True, 1, ["LOST"])
    assert effects(folder) == []
