"""A worker that was frozen for longer than its lock: its jobs run elsewhere by then, and it writes nothing."""

import signal

import pytest

from tests.flows.jobs import attempts, effects_of, finished, history, process_of, running
from tests.flows.processes import is_alive, until


@pytest.mark.slow
def test_a_worker_that_goes_on_after_its_lock_expired_writes_nothing(define, submit, start_worker, folder):
    define(code="work", target="tests.sample_actions:work", timeout="120s")
    frozen = start_worker("default", name="frozen")
    # The first returns as soon as its process goes on. The second would run for another minute.
    jobs = [submit("work", {"folder": str(folder), "first_seconds": seconds}) for seconds in (3, 60)]
    pids = [process_of(job, folder) for job in jobs]
    tokens = [running(job).lock_token for job in jobs]
    frozen.send_all(signal.SIGSTOP)

    start_worker("default", name="other")
    ended = [finished(job, seconds=30) for job in jobs]
    assert [effects_of(job, folder) for job in jobs] == [[2], [2]]
    before = [(job.finished_at, job.fence, job.attempts, history(job)) for job in ended]
    frozen.send_all(signal.SIGCONT)
    until(lambda: not is_alive(pids[1]), "the child that would go on is gone", seconds=5)
    until(lambda: not is_alive(pids[0]) or effects_of(jobs[0], folder) == [2, 1], "the other has ended", seconds=5)

    for job in ended:
        job.refresh_from_db()
        assert (job.status, job.attempts, job.losses) == ("COMPLETED", 2, 1)
        assert history(job) == ["LOST", "SUCCESS"]
        assert [attempt.worker for attempt in attempts(job)] == ["frozen@flows", "other@flows"]
        assert "its lock ran out" in attempts(job)[0].error["message"]
    assert [attempts(job)[0].token for job in ended] == tokens
    assert [(job.finished_at, job.fence, job.attempts, history(job)) for job in ended] == before
    # Effects that the stale run still had outside carry a fence that is not the last one.
    assert effects_of(jobs[0], folder) in ([2], [2, 1])
    assert effects_of(jobs[1], folder) == [2]
    assert all(frozen.has_logged(str(token)) for token in tokens)
    job = submit("work", {"folder": str(folder)})
    assert finished(job).status == "COMPLETED"
    assert frozen.process.poll() is None
