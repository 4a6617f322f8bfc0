"""Cancel: waiting jobs at once, running jobs by a request, and by force those that ignore the request."""

import time
import uuid

import pytest

from jobsite.programs import operations
from tests.flows.jobs import attempts, effects, finished, history, process_of, running
from tests.flows.processes import is_alive, running_with, until

pytestmark = pytest.mark.usefixtures("worker")


def test_a_waiting_job_is_canceled_at_once_and_never_runs(define, submit, operator, folder):
    define(target="tests.sample_actions:work", queue="content")
    job = submit("sample", {"folder": str(folder)})

    status = operations.jobs.cancel(operator, job.number, reason="not needed")

    job.refresh_from_db()
    assert status == job.status == "CANCELED"
    assert (job.cancel_reason, history(job)) == ("not needed", [])
    assert list(folder.iterdir()) == []


def test_a_running_job_that_checks_for_the_request_stops_soon(define, submit, operator, tmp_path):
    define(target="tests.sample_actions:wait_for")
    job = running(submit("sample", {"path": str(tmp_path / "never")}))

    began = time.monotonic()
    assert operations.jobs.cancel(operator, job.number) == "RUNNING"
    ended = finished(job)

    assert time.monotonic() - began < 3
    assert (ended.status, ended.outcome, history(ended)) == ("CANCELED", "NORMAL", ["CANCELED"])


def test_a_job_that_ignores_the_request_is_stopped_by_force_and_the_pool_goes_on(define, submit, operator, folder):
    define(target="tests.sample_actions:work", cancel_grace="1s")
    job = submit("sample", {"folder": str(folder), "seconds": 60})
    pid = process_of(job, folder)

    began = time.monotonic()
    operations.jobs.cancel(operator, job.number)
    ended = finished(job)

    assert time.monotonic() - began < 4
    assert (ended.status, history(ended)) == ("CANCELED", ["CANCELED"])
    assert attempts(ended)[0].error["message"] == "stopped by force after the grace period"
    until(lambda: not is_alive(pid), "the child is gone", seconds=5)
    others = [submit("sample", {"folder": str(folder)}) for _ in range(8)]
    assert [finished(other).status for other in others] == ["COMPLETED"] * 8
    assert sorted(effects(folder)) == [(other.number, 1) for other in others]
    ended.refresh_from_db()
    assert (ended.status, ended.losses, history(ended)) == ("CANCELED", 0, ["CANCELED"])


def test_a_running_command_is_stopped(define, submit, operator):
    marker = f"flow-{uuid.uuid4()}"
    define(action=[{"kind": "command", "argv": ["/bin/sh", "-c", "sleep 60; echo woken", marker]}])
    job = submit("sample")
    until(lambda: running_with(marker), "the command runs")

    began = time.monotonic()
    operations.jobs.cancel(operator, running(job).number)
    ended = finished(job)

    assert time.monotonic() - began < 3
    assert (ended.status, history(ended)) == ("CANCELED", ["CANCELED"])
    assert running_with(marker) == []
