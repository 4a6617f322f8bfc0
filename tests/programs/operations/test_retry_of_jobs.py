"""A retry of an ended job: a new job of the user who retries, one at a time; the old job stays as it is."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Barrier

import pytest
from django.db import connection

from jobsite.errors import Conflict, Forbidden, Invalid, NotFound
from jobsite.programs import operations
from jobsite.programs.definitions import from_mapping
from jobsite.programs.definitions.registration import load
from jobsite.programs.models import Job, Program
from jobsite.programs.submission import retry_as, submit_as
from jobsite.programs.transitions import finish
from jobsite.tenants import principals
from jobsite.tenants.models import AuditEntry, Membership, Role
from tests.programs.conftest import FAILURE, STUDENT_SCHEMA, SUCCESS, held, refused

pytestmark = pytest.mark.django_db


@pytest.fixture
def scores(define):
    return define("scores", parameters=STUDENT_SCHEMA)


@pytest.fixture
def failed(jobs, scores):
    """A failed job of Alice's."""
    return jobs.ended(FAILURE, program=scores, parameters='{"student": 7}', priority=4)


# ---- what ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["COMPLETED", "FAILED", "CANCELED"])
def test_a_retry_is_a_new_job_and_the_old_one_stays_as_it_is(jobs, bob_principal, scores, status):
    number = jobs.in_status(status, program=scores, parameters='{"student": 7}', priority=4)
    before = Job.objects.filter(number=number).values().get()

    retry = jobs.row(operations.jobs.retry(bob_principal, number, reason="marks are there now").number)

    assert (retry.status, retry.retry_of_id, retry.program_id) == ("PENDING", number, scores.pk)
    assert (retry.parameters, retry.priority, retry.trigger) == ({"student": 7}, 4, "MANUAL")
    assert Job.objects.filter(number=number).values().get() == before
    entry = AuditEntry.objects.get(action="retry")
    assert (entry.actor, entry.door, entry.target, entry.reason) == ("bob", "api", str(number), "marks are there now")
    assert (entry.before, entry.after) == ({"status": status}, {"retry": retry.number, "is_edited": False})


def test_a_retry_runs_as_whoever_retries(jobs, alice, tenant, bob_principal, scores):
    alices = principals.of_user(alice, tenant).captured
    number = jobs.ended(FAILURE, program=scores, parameters='{"student": 7}', context=alices)

    retry = operations.jobs.retry(bob_principal, number)

    assert jobs.row(number).context.content["submitted_by"] == "alice"
    content = jobs.row(retry.number).context.content
    assert (content["submitted_by"], content["roles"]) == ("bob", ["OPERATOR"])


def test_neither_key_nor_hold_nor_moment_is_copied(jobs, bob_principal, scores):
    number = jobs.pending(
        program=scores, parameters='{"student": 7}', idempotency_key="once", fingerprint="f", hold_by="alice",
        scheduled_at=datetime(2020, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    operations.jobs.cancel(bob_principal, number)

    retry = jobs.row(operations.jobs.retry(bob_principal, number).number)

    assert (retry.idempotency_key, retry.fingerprint, retry.hold_at, retry.blocked) == (None, "", None, None)
    assert retry.scheduled_at.year > 2020


@pytest.mark.parametrize("trigger", ["AUTOMATIC", "CHILD"])
def test_a_retry_is_a_manual_job_without_a_parent(jobs, bob_principal, scores, failed, trigger):
    jobs.set(failed, "trigger = %s", [trigger])
    if trigger == "CHILD":
        jobs.set(
            failed, "parent_id = %s, child_key = 'a', parent_fence = 1", [jobs.in_status("WAITING", program=scores)]
        )

    retry = jobs.row(operations.jobs.retry(bob_principal, failed).number)

    assert (retry.trigger, retry.parent_id, retry.child_key) == ("MANUAL", None, None)


def test_a_retry_of_a_retry_names_the_job_before_it(jobs, bob_principal, failed):
    first = operations.jobs.retry(bob_principal, failed)
    operations.jobs.cancel(bob_principal, first.number)

    assert jobs.row(operations.jobs.retry(bob_principal, first.number).number).retry_of_id == first.number


# ---- parameters ------------------------------------------------------------------------------------------


def test_edited_parameters_replace_the_old_ones(jobs, bob_principal, failed):
    retry = operations.jobs.retry(bob_principal, failed, parameters={"student": 8, "term": "summer"})

    assert jobs.row(retry.number).parameters == {"student": 8, "term": "summer"}
    assert AuditEntry.objects.get(action="retry").after == {"retry": retry.number, "is_edited": True}


def test_edited_parameters_are_checked_and_the_place_is_named(bob_principal, failed):
    with refused(Invalid, "invalid_parameters") as refusal:
        operations.jobs.retry(bob_principal, failed, parameters={"student": "eight"})

    assert [one["pointer"] for one in refusal.value.details["errors"]] == ["/student"]
    assert not Job.objects.filter(retry_of=failed).exists()
    assert not AuditEntry.objects.filter(action="retry").exists()


def test_old_parameters_must_fit_the_current_schema(define, bob_principal, failed):
    define("scores", parameters=STUDENT_SCHEMA | {"properties": {"student": {"type": "string"}}})

    with refused(Invalid, "invalid_parameters") as refusal:
        operations.jobs.retry(bob_principal, failed)

    assert [one["pointer"] for one in refusal.value.details["errors"]] == ["/student"]
    assert operations.jobs.retry(bob_principal, failed, parameters={"student": "7"}).retry_of_id == failed


def test_a_default_that_was_added_to_the_schema_since_is_applied(define, jobs, bob_principal, failed):
    define("scores", parameters=STUDENT_SCHEMA | {"properties": {"student": {}, "term": {"default": "winter"}}})

    assert jobs.row(operations.jobs.retry(bob_principal, failed).number).parameters == {"student": 7, "term": "winter"}


# ---- refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["PENDING", "QUEUED", "RUNNING", "WAITING"])
def test_a_job_that_has_not_ended_is_not_retried(jobs, bob_principal, status):
    number = jobs.in_status(status)

    with refused(Conflict, "invalid_transition") as refusal:
        operations.jobs.retry(bob_principal, number)

    assert str(refusal.value) == f'Cannot retry a job with status "{status}"'
    assert not Job.objects.filter(retry_of=number).exists()


def test_a_job_has_one_open_retry(jobs, bob_principal, failed):
    first = operations.jobs.retry(bob_principal, failed)

    with refused(Conflict, "retry_open") as refusal:
        operations.jobs.retry(bob_principal, failed)

    assert refusal.value.details == {"existing_job": first.number}
    assert str(refusal.value) == f"job {failed} is being retried by job {first.number} already, which is PENDING"

    operations.jobs.cancel(bob_principal, first.number)
    assert operations.jobs.retry(bob_principal, failed).number > first.number


@pytest.fixture
def exclusive(define, jobs, operator):
    """A failed job of a program that allows one open job."""
    define("exclusive", overlap="REJECT")
    number = submit_as(operator, "exclusive", {}).number
    jobs.queue(number)
    finish.finish(jobs.cursor, held(jobs.claim(number)), FAILURE)
    return number


def test_the_overlap_policy_holds_for_a_retry_too(operator, bob_principal, exclusive):
    holder = submit_as(operator, "exclusive", {}).number

    with refused(Conflict, "duplicate_job") as refusal:
        operations.jobs.retry(bob_principal, exclusive)

    assert refusal.value.details == {"existing_job": holder}
    assert str(refusal.value) == f"duplicate of job {holder}, which is PENDING"


def test_an_open_retry_is_named_as_such_where_it_holds_the_overlap_key_too(bob_principal, exclusive):
    first = operations.jobs.retry(bob_principal, exclusive)

    with refused(Conflict, "retry_open") as refusal:
        operations.jobs.retry(bob_principal, exclusive)

    assert refusal.value.details == {"existing_job": first.number}


def test_jobs_of_a_deleted_program_are_not_retried(jobs, bob_principal, scores, failed):
    Program.objects.filter(pk=scores.pk).update(deleted_at=datetime.now(UTC))

    with refused(Conflict, "program_deleted") as refusal:
        operations.jobs.retry(bob_principal, failed)

    assert str(refusal.value).startswith(f"program scores of job {failed} is deleted;")


def test_another_program_of_the_same_code_does_not_take_the_place_of_a_deleted_one(
    operator, bob_principal, scores, failed
):
    seen_before = operations.jobs.find_job(bob_principal, failed)
    Program.objects.filter(pk=scores.pk).update(deleted_at=datetime.now(UTC))
    action = {"kind": "python", "target": "tests.sample_actions:succeed"}
    load(operator, [from_mapping({"code": "scores", "action": [action]}, where="test", queues=("default",))])

    with refused(Conflict, "program_deleted"):
        retry_as(bob_principal, seen_before)


def test_a_terminated_programs_jobs_are_retried_by_hand(jobs, bob_principal, scores, failed):
    Program.objects.filter(pk=scores.pk).update(status="TERMINATED", version=scores.version + 1)
    jobs.set(failed, "trigger = 'AUTOMATIC'")

    assert jobs.row(operations.jobs.retry(bob_principal, failed).number).trigger == "MANUAL"


@pytest.mark.parametrize(("role", "may"), [(Role.VIEWER, False), (Role.OPERATOR, True), (Role.ADMIN, True)])
def test_a_retry_takes_jobs_write(tenant, bob, failed, role, may):
    Membership.objects.filter(user=bob).update(role=role)
    hand = principals.of_user(bob, tenant)

    if may:
        assert operations.jobs.retry(hand, failed).retry_of_id == failed
        return
    with refused(Forbidden, "missing_scope"):
        operations.jobs.retry(hand, failed)
    assert not Job.objects.filter(retry_of=failed).exists()


def test_a_stranger_finds_nothing_to_retry(other_tenant, charlie, failed):
    hand = principals.of_user(charlie, other_tenant)

    for number in (failed, 10**9):
        with refused(NotFound, "not_found") as refusal:
            operations.jobs.retry(hand, number)
        assert str(refusal.value) == f"no job {number}"

    assert not Job.objects.filter(retry_of=failed).exists()


# ---- at the same moment ----------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_one_of_two_retries_at_the_same_moment_is_made_and_the_other_names_it(jobs, bob_principal, broker, failed):
    barrier = Barrier(2)

    def attempt(_):
        try:
            connection.ensure_connection()
            barrier.wait(10)
            return operations.jobs.retry(bob_principal, failed).number
        except Conflict as refusal:
            return refusal
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(attempt, range(2)))

    [made] = [one for one in results if isinstance(one, int)]
    [refusal] = [one for one in results if isinstance(one, Conflict)]
    assert (refusal.code, refusal.details) == ("retry_open", {"existing_job": made})
    assert list(Job.objects.filter(retry_of=failed).values_list("number", flat=True)) == [made]


@pytest.mark.django_db(transaction=True)
def test_a_retry_is_dispatched_and_can_end(jobs, worker, bob_principal, broker, failed):
    retry = operations.jobs.retry(bob_principal, failed)

    assert broker.numbers() == [retry.number]
    claimed = jobs.claim(retry.number)
    finish.finish(jobs.cursor, held(claimed), SUCCESS)
    assert (jobs.status(failed), jobs.status(retry.number)) == ("FAILED", "COMPLETED")
