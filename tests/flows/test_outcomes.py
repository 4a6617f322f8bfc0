"""What actions return and raise, what becomes of their jobs, and permissions at the time of the run."""

import pytest

from jobsite.programs import operations
from jobsite.programs.models import Job
from jobsite.tenants.models import Membership
from tests.flows.jobs import attempts, effects, finished, history

pytestmark = pytest.mark.usefixtures("worker")


def test_a_result_that_postgresql_cannot_hold_is_made_storable(define, submit):
    define(target="tests.sample_actions:unstorable")

    job = finished(submit("sample"))

    assert (job.status, history(job)) == ("COMPLETED", ["SUCCESS"])
    assert job.result == {"nul": "a\ufffdb", "lone": "\ufffd and \ufffd", "fine": "ä€😀"}


def test_a_result_that_json_cannot_hold_fails_the_job_for_good(define, submit):
    define(target="tests.sample_actions:not_a_number")

    job = finished(submit("sample"))

    assert (job.status, job.failure_kind, history(job)) == ("FAILED", "PERMANENT", ["PERMANENT"])
    assert job.error["message"].startswith("result could not be stored: /mean")
    assert job.result is None


def test_a_transient_error_is_tried_again_after_one_and_then_two_seconds(define, submit):
    define(target="tests.sample_actions:fail_until")

    job = finished(submit("sample", {"attempt": 3}))

    assert (job.status, job.result, job.attempts) == ("COMPLETED", "at last", 3)
    assert history(job) == ["TRANSIENT", "TRANSIENT", "SUCCESS"]
    first, second, third = attempts(job)
    assert [one.error["type"] for one in (first, second)] == ["TransientError"] * 2
    assert [one.error["message"] for one in (first, second)] == [
        "attempt 1 fails on purpose",
        "attempt 2 fails on purpose",
    ]
    assert "fail_until" in first.traceback
    assert third.error is None
    pauses = [(b.claimed_at - a.ended_at).total_seconds() for a, b in ((first, second), (second, third))]
    # There are ten percent of jitter, and the sweep that finds them due runs every second.
    assert 0.9 <= pauses[0] <= 3.1
    assert 1.8 <= pauses[1] <= 4.2


def test_a_transient_error_may_set_the_pause_before_the_retry(define, submit):
    define(target="tests.sample_actions:ask_for_patience")

    job = finished(submit("sample", {"seconds": 2.5}))

    assert (job.status, job.result, history(job)) == ("COMPLETED", "served", ["TRANSIENT", "SUCCESS"])
    first, second = attempts(job)
    assert 2.5 <= (second.claimed_at - first.ended_at).total_seconds() <= 4.5


@pytest.mark.parametrize(
    ("action", "error"),
    [
        ("fail", {"type": "ValueError", "message": "this can never work", "step": "python 1"}),
        ("refuse", {"type": "PermanentError", "message": "no", "step": "python 1"}),
    ],
)
def test_other_errors_fail_the_job_at_once(define, submit, action, error):
    define(target=f"tests.sample_actions:{action}")

    job = finished(submit("sample"))

    assert (job.status, job.outcome, job.failure_kind) == ("FAILED", "ERROR", "PERMANENT")
    assert (job.error, job.attempts, history(job)) == (error, 1, ["PERMANENT"])
    assert action in attempts(job)[0].traceback


def test_a_job_of_a_user_who_has_left_the_tenant_is_refused(define, submit, operator, bob, folder):
    define(target="tests.sample_actions:work")
    job = submit("sample", {"folder": str(folder)}, user=bob, hold=True)

    Membership.objects.filter(user=bob).delete()
    operations.jobs.release(operator, job.number)
    ended = finished(job)

    _refused(ended, "user bob is no longer a member of tenant acme")
    assert effects(folder) == []


def test_a_job_of_a_user_who_was_deactivated_is_refused(define, submit, operator, bob, folder):
    define(target="tests.sample_actions:work")
    job = submit("sample", {"folder": str(folder)}, user=bob, hold=True)

    bob.is_active = False
    bob.save()
    operations.jobs.release(operator, job.number)
    ended = finished(job)

    _refused(ended, "user bob is deactivated")
    assert effects(folder) == []
    assert not any(folder.iterdir())


def test_a_permission_that_is_missing_is_named(define, submit, bob):
    define(target="tests.sample_actions:need")

    lacking = finished(submit("sample", {"permission": "auth.add_user"}, user=bob))
    holding = finished(submit("sample", {"permission": "jobs:write"}, user=bob))

    _refused(lacking, "bob lacks the permission auth.add_user")
    assert (holding.status, holding.result) == ("COMPLETED", "permitted")


def _refused(job: Job, reason: str) -> None:
    assert (job.status, job.outcome, job.failure_kind) == ("FAILED", "ERROR", "REFUSED")
    assert (job.error["message"], history(job)) == (reason, ["PERMANENT"])
