"""A secret on a real worker: the action gets it; the job's log and the worker's log do not show it."""

import json

import pytest
from django.conf import settings

from tests.flows.jobs import attempts, finished, log_of
from tests.flows.processes import until

SCHEMA = {
    "type": "object",
    "properties": {"password": {"type": "string", "writeOnly": True}, "how": {"type": "string"}},
}
CLEAR = "hunter2-in-clear"


@pytest.fixture
def login(define):
    define("login", target="tests.sample_actions:betray", parameters=SCHEMA)
    define("measure", target="tests.sample_actions:measure", parameters={
        "type": "object", "properties": {"value": {"type": "string", "writeOnly": True}},
    })  # fmt: skip


@pytest.fixture(params=["prefork", "threads"])
def worker(request, start_worker):
    """A worker with the keys of this process."""
    return start_worker(
        "default", pool=request.param, environment={"JOBSITE_SECRET_KEYS": ",".join(settings.JOBSITE_SECRET_KEYS)}
    )


def test_an_action_has_its_secret_and_no_log_does(worker, login, submit):
    jobs = [finished(submit("login", {"password": CLEAR, "how": how})) for how in ("return", "fail")]
    measured = finished(submit("measure", {"value": CLEAR}))

    assert [job.status for job in jobs] == ["COMPLETED", "FAILED"]
    assert measured.result == {"length": len(CLEAR)}
    until(lambda: worker.has_logged("an_event"), "the worker logged what the action did")
    assert not worker.has_logged(CLEAR)
    for job in jobs:
        said = json.dumps([log_of(job), job.result, job.error, job.progress], ensure_ascii=False)
        assert "••••" in said
        assert CLEAR not in said
        assert CLEAR not in "".join(one.traceback for one in attempts(job))


def test_a_worker_without_the_key_fails_the_job_for_good_and_runs_nothing(start_worker, login, submit):
    start_worker("default")

    job = finished(submit("login", {"password": CLEAR}))

    assert (job.status, job.failure_kind, job.attempts) == ("FAILED", "PERMANENT", 1)
    assert job.error["message"].startswith("parameter /password cannot be decrypted with any of JOBSITE_SECRET_KEYS;")
    assert log_of(job) == []
