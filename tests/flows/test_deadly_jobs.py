"""Jobs that kill their process: they fail, and no other job fails with them."""

import pytest

from tests.flows.jobs import all_finished, attempts, effects, finished, history

pytestmark = pytest.mark.usefixtures("worker")


def test_a_job_that_kills_its_process_fails_after_its_losses_are_used_up(define, submit, folder):
    define("deadly", target="tests.sample_actions:die", max_worker_losses=2)
    define("harmless", target="tests.sample_actions:work")
    others = [submit("harmless", {"folder": str(folder), "seconds": 1}) for _ in range(3)]
    job = submit("deadly", {"path": str(folder / "deaths")})
    others += [submit("harmless", {"folder": str(folder), "seconds": 0.1}) for _ in range(6)]

    ended = finished(job)

    assert (ended.status, ended.failure_kind) == ("FAILED", "WORKER_LOST")
    assert (ended.attempts, ended.losses, history(ended)) == (2, 2, ["LOST", "LOST"])
    assert ended.error["message"] == "Worker lost during execution: the child process died"
    assert (folder / "deaths").read_text() == f"{job.number} 1\n{job.number} 2\n"
    completed = all_finished(others)
    assert {(other.status, other.attempts, other.losses) for other in completed} == {("COMPLETED", 1, 0)}
    assert sorted(effects(folder)) == [(other.number, 1) for other in others]


def test_a_program_may_fail_at_the_first_loss(define, submit, folder):
    define("deadly", target="tests.sample_actions:die", on_worker_lost="FAIL")

    job = finished(submit("deadly", {"path": str(folder / "deaths")}))

    assert (job.status, job.failure_kind, job.losses) == ("FAILED", "WORKER_LOST", 1)
    assert [one.error["type"] for one in attempts(job)] == ["WorkerLost"]
    assert (folder / "deaths").read_text() == f"{job.number} 1\n"
