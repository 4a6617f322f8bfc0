"""Actions that exceed their time limit: asked to stop, then ended by force. Their output is kept."""

import sys
import uuid

import pytest

from tests.flows.jobs import attempts, finished, history, log_of, running
from tests.flows.processes import is_alive, running_with, until

pytestmark = pytest.mark.usefixtures("worker")


def _seconds(job) -> float:
    (attempt,) = attempts(job)
    return (attempt.ended_at - attempt.claimed_at).total_seconds()


def test_an_action_that_sleeps_beyond_its_limit_is_interrupted(define, submit):
    define(target="tests.sample_actions:hang", timeout="1s")

    job = finished(submit("sample"))

    assert (job.status, job.failure_kind, history(job)) == ("FAILED", "TIMEOUT", ["TIMEOUT"])
    assert job.error == {"type": "Timeout", "message": "still running after 1 s", "step": "python 1"}
    assert 1 <= _seconds(job) < 2.5


@pytest.mark.slow
def test_an_action_that_catches_every_interruption_is_ended_with_its_process(define, submit, tmp_path):
    define(target="tests.sample_actions:swallow", timeout="1s")
    define("after", target="tests.sample_actions:succeed")

    job = finished(submit("sample", {"path": str(tmp_path / "swallowed")}))

    assert (job.status, job.failure_kind, history(job)) == ("FAILED", "TIMEOUT", ["TIMEOUT"])
    pid, swallowed = (tmp_path / "swallowed").read_text().split()[:2]
    assert swallowed == "JobTimeout"
    until(lambda: not is_alive(int(pid)), "its process is gone", seconds=5)
    assert job.error["message"] == "Stopped by force after its time limit"
    assert _seconds(job) < 8.5
    # The main process counts from the moment when it gets the message, shortly before the claim.
    assert (job.finished_at - job.queued_at).total_seconds() >= 6
    assert finished(submit("after")).status == "COMPLETED"


@pytest.mark.slow
def test_a_command_that_ignores_the_request_to_stop_is_killed_with_its_output_kept(define, submit):
    marker = f"flow-{uuid.uuid4()}"
    script = (
        "import signal, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('asked', flush=True))\n"
        "print('started', flush=True)\n"
        "while True: time.sleep(1)\n"
    )
    define(action=[{"kind": "command", "argv": [sys.executable, "-c", script, marker]}], timeout="2s")

    job = submit("sample")
    until(lambda: running_with(marker), "the command runs")
    running(job)
    ended = finished(job)

    assert (ended.status, ended.failure_kind, history(ended)) == ("FAILED", "TIMEOUT", ["TIMEOUT"])
    assert 4 <= _seconds(ended) < 5.5
    assert log_of(ended) == ["started", "asked"]
    assert running_with(marker) == []


def test_a_command_that_fails_within_its_limit_gives_its_status(define, submit):
    marker = f"flow-{uuid.uuid4()}"
    script = "import sys; print('on stdout'); print('on stderr', file=sys.stderr); sys.exit(3)"
    define(action=[{"kind": "command", "argv": [sys.executable, "-c", script, marker]}])

    job = finished(submit("sample"))

    assert (job.status, job.failure_kind, history(job)) == ("FAILED", "PERMANENT", ["PERMANENT"])
    assert "ended with status 3" in job.error["message"]
    assert sorted(log_of(job)) == ["on stderr", "on stdout"]
