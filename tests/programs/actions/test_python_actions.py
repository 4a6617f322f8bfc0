"""Python actions that are not plain functions: coroutines, and unchanged Celery tasks."""

import time
from datetime import UTC, datetime

import pytest

from jobsite.errors import Forbidden, Invalid
from jobsite.programs.actions import python
from jobsite.programs.context import UnknownAction
from jobsite.programs.definitions import from_mapping, registration
from jobsite.programs.models import JobLogEntry
from jobsite.programs.submission import submit_as
from tests import sample_tasks

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def run(define, operator, run_job):
    """Run a job of this target once."""

    def run(target, parameters, **keys):
        define(target=target, **keys)
        return run_job(submit_as(operator, "sample", parameters).number)

    return run


# ---- coroutines --------------------------------------------------------------------------------------------


def test_a_coroutine_is_run_to_its_end(run):
    job = run("tests.sample_actions:at_leisure", {"seconds": 0.01})

    assert (job.status, job.result) == ("COMPLETED", {"step": 7, "number": job.number})
    assert job.progress == {"processed": 1, "total": 2, "message": "awaiting"}


def test_a_coroutine_that_fails_is_retried(run):
    job = run("tests.sample_actions:at_leisure", {"fails": True})

    assert (job.status, job.error["type"]) == ("PENDING", "TransientError")


def test_a_coroutine_has_its_time_limit(run):
    began = time.monotonic()

    job = run("tests.sample_actions:at_leisure", {"seconds": 30}, timeout="300ms")

    assert (job.status, job.failure_kind) == ("FAILED", "TIMEOUT")
    assert time.monotonic() - began < 20


def test_a_time_limit_reached_inside_a_task_of_the_loop_is_not_lost(run):
    job = run("tests.sample_actions:gather_busily", {}, timeout="500ms")

    assert (job.status, job.failure_kind) == ("FAILED", "TIMEOUT")


# ---- Celery tasks ------------------------------------------------------------------------------------------


def test_a_celery_task_runs_by_its_name(run):
    job = run("tests.sample_tasks.add", {"x": 3, "y": 4})

    assert (job.status, job.result) == ("COMPLETED", 7)
    assert JobLogEntry.objects.get(job_number=job.number).message == "adding"


def test_a_celery_task_may_be_named_like_any_function(run):
    assert run("tests.sample_tasks:add", {"x": 3, "y": 4}).result == 7


def test_a_task_that_asks_for_a_retry_gets_it_when_it_asked_and_knows_its_number(run, run_job):
    first = run("tests.sample_tasks.patient", {"until": 1})

    assert (first.status, first.error["message"]) == ("PENDING", "not yet, 0")
    assert 45 <= (first.due_at - datetime.now(UTC)).total_seconds() <= 51
    second = run_job(first.number)
    assert (second.status, second.result) == ("COMPLETED", [1, "tests.sample_tasks.patient", True])


def test_a_task_that_has_no_retries_left_fails_though_its_program_has(run, run_job):
    job = run("tests.sample_tasks.patient", {"until": 9}, retry={"max_attempts": 9})

    for _ in range(2):
        job = run_job(job.number)

    assert (job.status, job.attempts, job.error["message"]) == ("FAILED", 3, "not yet, 2")


def test_an_exception_in_autoretry_for_is_retried(run):
    job = run("tests.sample_tasks.forgetful", {"key": "k"})

    assert (job.status, job.error["message"]) == ("PENDING", "'k'")
    assert 35 <= (job.due_at - datetime.now(UTC)).total_seconds() <= 41


@pytest.mark.parametrize(("how", "status"), [("ignore", "COMPLETED"), ("reject", "FAILED")])
def test_a_task_may_raise_ignore_or_reject(run, how, status):
    job = run("tests.sample_tasks.give_up", {"how": how})

    assert job.status == status
    assert how == "ignore" or job.error["message"] == "the task was rejected: no more of this"


def test_a_task_leaves_no_request_behind(run):
    run("tests.sample_tasks.patient", {"until": 1})

    assert sample_tasks.patient.request.id is None
    assert not sample_tasks.current_task


def test_a_task_that_nobody_registered_is_refused_on_load(define):
    with pytest.raises(Invalid, match=r"action 1: billing\.send: there is no Celery task of this name"):
        define(target="billing.send")
    with pytest.raises(UnknownAction):
        python.find_function("billing.send")


def test_a_tenant_may_use_tasks_of_allowed_modules(alice_principal, settings):
    program = from_mapping(
        {"code": "mine", "action": [{"kind": "python", "target": "tests.sample_tasks.add"}]},
        where="t",
        queues=["default"],
    )
    with pytest.raises(Forbidden, match="is not in a module that tenants may use"):
        registration.load(alice_principal, [program])
    settings.JOBSITE_ACTIONS = ("tests.sample_tasks",)

    assert registration.load(alice_principal, [program])[0].change == "created"
