"""Accepting a job: permitted, valid, captured, inserted, and dispatched only after the commit."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from django.db import connection, transaction

from jobsite import brokers
from jobsite.errors import Conflict, Forbidden, Invalid, NotFound, Refusal
from jobsite.programs.models import Job, Program
from jobsite.programs.rules.lifecycle import Trigger
from jobsite.programs.submission import Options, preparation, submit, submit_as, submit_many
from jobsite.tenants import principals
from jobsite.tenants.models import Membership, Role, Tenant
from tests.programs.conftest import refused

pytestmark = pytest.mark.django_db

SCHEMA = {
    "type": "object",
    "properties": {
        "student": {"type": "integer"},
        "term": {"type": "string", "default": "winter"},
        "note": {"type": "string"},
    },
    "required": ["student"],
    "additionalProperties": False,
}
NOW = datetime.now(UTC)


@pytest.fixture
def scores(define):
    return define("scores", parameters=SCHEMA)


@pytest.fixture
def give(operator, define):
    """Submit as the command line: `give(student=7)`, options by their names."""
    define("scores", parameters=SCHEMA)

    def give(student=7, *, code="scores", **options):
        parameters = {"student": student} | options.pop("parameters", {})
        return submit_as(operator, code, parameters, Options(**options))

    return give


# ---- who -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("role", "may"), [(Role.VIEWER, False), (Role.OPERATOR, True), (Role.ADMIN, True)])
def test_submitting_takes_jobs_write(tenant, bob, scores, role, may):
    Membership.objects.update(role=role)

    if may:
        assert submit(tenant=tenant, program="scores", parameters={"student": 7}, user=bob).number
    else:
        with refused(Forbidden, "missing_scope"):
            submit(tenant=tenant, program="scores", parameters={"student": 7}, user=bob)
        assert not Job.objects.exists()


def test_a_stranger_learns_nothing(tenant, charlie, scores):
    for program in ("scores", "nothing"):
        with refused(NotFound, "not_found") as refusal:
            submit(tenant=tenant, program=program, parameters={"student": 7}, user=charlie)
        assert str(refusal.value) == "no tenant acme"


def test_the_programs_of_another_tenant_do_not_exist(other_tenant, charlie, scores):
    with refused(NotFound, "not_found") as refusal:
        submit(tenant=other_tenant, program="scores", parameters={"student": 7}, user=charlie)

    assert str(refusal.value) == "no program scores in tenant umbrella"


def test_a_deleted_program_does_not_exist(give):
    Program.objects.update(deleted_at=NOW)

    with refused(NotFound, "not_found"):
        give()


@pytest.mark.parametrize(
    "code",
    ["", "nul\x00", "\ud800", "scores' OR '1'='1", "x" * 10_000],
    ids=["empty", "nul", "surrogate", "quote", "long"],
)
def test_a_program_that_cannot_exist_does_not(give, code):
    with refused(NotFound, "not_found"):
        give(code=code)


def test_the_submitter_is_captured(tenant, bob, scores):
    job = submit(tenant=tenant, program="scores", parameters={"student": 7}, user=bob)

    content = Job.objects.get(number=job.number).context.content
    assert (content["submitted_by"], content["kind"], content["user_id"]) == ("bob", "USER", bob.pk)


def test_without_a_user_the_platform_is_the_submitter(tenant, scores):
    job = submit(tenant=tenant, program="scores", parameters={"student": 7})

    assert Job.objects.get(number=job.number).context.content["kind"] == "SYSTEM"


# ---- what ------------------------------------------------------------------------------------------------


def test_a_job_is_what_was_asked_for_by_the_rules_of_its_program(give, scores):
    Program.objects.update(priority=4)
    job = give(student=7)

    stored = Job.objects.get(number=job.number)
    assert stored.parameters == {"student": 7, "term": "winter"}
    assert (stored.status, stored.trigger, stored.priority) == ("PENDING", "MANUAL", 4)
    assert (stored.engine, stored.queue.name) == ("redis", "default")


def test_the_job_that_is_returned_can_be_used_at_once(give):
    job = give(student=7)

    assert (job.status, job.priority, job.blocked, job.program.code) == ("PENDING", 0, None, "scores")
    assert job.parameters == {"student": 7, "term": "winter"}
    assert str(job) == f"#{job.number}"


def test_a_submission_is_one_round_trip_once_its_program_is_known(give, tmp_path):
    for _ in range(3):
        give()  # the program is read, the statement is prepared

    with (tmp_path / "trace").open("wb") as trace:
        connection.connection.pgconn.trace(trace.fileno())
        give()
        connection.connection.pgconn.untrace()

    assert (tmp_path / "trace").read_text(errors="replace").count("ReadyForQuery") == 1


def test_a_program_that_was_edited_since_it_was_read_is_read_again(give, define):
    give(7)

    define("scores", parameters={**SCHEMA, "required": ["student", "note"]}, priority=9)

    with refused(Invalid, "invalid_parameters"):
        give(7)
    assert give(7, parameters={"note": "n"}).priority == 9


WIDER = SCHEMA | {"properties": SCHEMA["properties"] | {"more": {"type": "integer"}}}


def test_parameters_that_an_edited_program_accepts_are_not_refused(give, define):
    give()
    define("scores", parameters=WIDER)

    assert give(parameters={"more": 1}).parameters["more"] == 1
    with refused(Invalid, "invalid_parameters"):
        give(parameters={"other": 1})


def test_parameters_that_an_edited_program_accepts_are_not_refused_for_many(tenant, give, define):
    give()
    define("scores", parameters=WIDER)

    assert len(submit_many(tenant=tenant, jobs=[{"program": "scores", "parameters": {"student": 7, "more": 1}}])) == 1


def test_a_program_that_was_deleted_since_it_was_read_is_not_found(give):
    give(7)

    Program.objects.update(deleted_at=NOW)

    with pytest.raises(NotFound):
        give(7)


def test_a_program_that_was_terminated_since_it_was_read_takes_no_automatic_job(give):
    give(7)

    Program.objects.update(status="TERMINATED")

    assert give(7).status == "PENDING"
    with refused(Forbidden, "program_terminated"):
        give(7, trigger=Trigger.AUTOMATIC)


@pytest.mark.parametrize(
    ("parameters", "errors"),
    [
        ({"student": "seven"}, [("/student", "integer")]),
        ({"student": 7, "term": 3}, [("/term", "string")]),
        ({"student": 7, "room": 1}, [("/room", "")]),
        ({"student": None, "term": 3}, [("/student", "integer"), ("/term", "string")]),
    ],
)
def test_wrong_parameters_are_named_by_their_pointers(give, parameters, errors):
    with refused(Invalid, "invalid_parameters") as refusal:
        give(parameters=parameters)

    found = {error["pointer"]: error["message"] for error in refusal.value.details["errors"]}
    assert sorted(found) == [pointer for pointer, _ in errors]
    assert all(word in found[pointer] for pointer, word in errors)
    assert not Job.objects.exists()


def test_a_missing_parameter_is_named(operator, scores):
    with refused(Invalid, "invalid_parameters") as refusal:
        submit_as(operator, "scores", {})

    assert "student" in str(refusal.value)


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), b"bytes", {1, 2}, "a\x00b", "\ud800"],
    ids=["nan", "infinity", "bytes", "set", "nul", "surrogate"],
)
def test_parameters_that_no_database_can_hold_are_refused(give, value):
    with refused(Invalid, "invalid_parameters"):
        give(parameters={"note": value})


@pytest.mark.parametrize("priority", [-101, 101, 1.5, "high", True])
def test_a_priority_is_a_whole_number_from_minus_100_to_100(give, priority):
    with refused(Invalid, "invalid_priority"):
        give(priority=priority)


@pytest.mark.parametrize("priority", [-100, 0, 100])
def test_the_ends_of_the_range_are_in_it(give, priority):
    assert give(priority=priority).priority == priority


@pytest.mark.parametrize(
    "key", ["", "k" * 201, "new\nline", "nul\x00", "\ud800"], ids=["empty", "long", "newline", "nul", "surrogate"]
)
def test_an_idempotency_key_is_up_to_200_printable_characters(give, key):
    with refused(Invalid, "invalid_idempotency_key"):
        give(idempotency_key=key)


@pytest.mark.parametrize("reason", ["r" * 1_001, "nul\x00", "\ud800"], ids=["long", "nul", "surrogate"])
def test_a_reason_is_up_to_a_thousand_storable_characters(give, reason):
    with refused(Invalid, "invalid_reason"):
        give(hold=True, hold_reason=reason)


# ---- when ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "blocked"),
    [
        (None, None),
        (NOW - timedelta(days=400), None),
        ("2001-01-01T00:00:00Z", None),
        (NOW + timedelta(hours=1), "SCHEDULED"),
        ((NOW + timedelta(days=4 * 365)).isoformat(), "SCHEDULED"),
        ((NOW + timedelta(hours=1)).astimezone(timezone(timedelta(hours=9))), "SCHEDULED"),
    ],
    ids=["none", "past", "past text", "future", "future text", "future elsewhere"],
)
def test_a_job_of_the_past_is_due_at_once_and_one_of_the_future_waits(give, given, blocked):
    job = give(scheduled_at=given)

    assert Job.objects.get(number=job.number).blocked == blocked


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (datetime(2027, 1, 1), "has no zone"),
        ("2027-01-01T00:00:00", "has no zone"),
        ("tomorrow", "is not a time"),
        (5, "is not a time"),
        (NOW + timedelta(days=6 * 365), "more than 5 years ahead"),
        (datetime.max.replace(tzinfo=UTC), "more than 5 years ahead"),
    ],
    ids=["naive", "naive text", "word", "number", "six years", "the end of time"],
)
def test_a_moment_has_a_zone_and_is_within_five_years(give, given, words):
    with refused(Invalid, "invalid_time") as refusal:
        give(scheduled_at=given)

    assert words in str(refusal.value)


def test_a_job_can_be_submitted_on_hold(give):
    job = give(hold=True, hold_reason="wait for Bob")

    stored = Job.objects.get(number=job.number)
    assert (stored.blocked, stored.hold_by, stored.hold_reason) == ("HELD", "local:root", "wait for Bob")


@pytest.mark.parametrize(("status", "blocked"), [("ACTIVE", None), ("PAUSED", "PAUSED"), ("TERMINATED", None)])
def test_a_manual_job_of_a_paused_or_terminated_program_is_accepted(give, status, blocked):
    Program.objects.update(status=status)

    assert Job.objects.get(number=give().number).blocked == blocked


def test_an_automatic_job_of_a_terminated_program_is_refused(give):
    Program.objects.update(status="TERMINATED")

    with refused(Forbidden, "program_terminated"):
        give(trigger=Trigger.AUTOMATIC)


def test_a_suspended_tenants_job_is_accepted_and_waits(give):
    Tenant.objects.filter(code="acme").update(status="SUSPENDED")

    assert give().status == "PENDING"


# ---- once ------------------------------------------------------------------------------------------------


def test_the_same_request_under_one_key_is_one_job(give):
    first = give(idempotency_key="k")

    again = give(idempotency_key="k")

    assert again.number == first.number
    assert Job.objects.count() == 1


@pytest.mark.parametrize(
    "options",
    [
        {"student": 8},
        {"parameters": {"term": "winter"}},
        {"priority": 0},
        {"scheduled_at": NOW + timedelta(days=1)},
        {"hold": True},
    ],
    ids=["parameter", "default given", "priority", "time", "hold"],
)
def test_another_request_under_the_same_key_is_refused(give, options):
    first = give(idempotency_key="k")

    with refused(Conflict, "idempotency_key_reused") as refusal:
        give(idempotency_key="k", **options)

    assert refusal.value.details["existing_job"] == first.number


def test_a_key_is_remembered_when_its_job_has_ended_and_its_secret_was_rotated(give, settings):
    first = give(idempotency_key="k")
    Job.objects.update(status="CANCELED", finished_at=NOW)
    settings.JOBSITE_SECRET_KEYS = ("a new one", *settings.JOBSITE_SECRET_KEYS)

    assert give(idempotency_key="k").number == first.number


def test_two_people_of_a_tenant_share_its_keys(tenant, alice, bob, scores):
    request = {"tenant": tenant, "program": "scores", "parameters": {"student": 7}, "idempotency_key": "k"}

    assert submit(user=alice, **request).number == submit(user=bob, **request).number


@pytest.fixture
def rejecting(define):
    return define("import", parameters=SCHEMA, overlap="REJECT", overlap_keys=["student"])


def test_a_duplicate_of_an_open_job_is_refused_with_its_number(give, rejecting):
    first = give(7, code="import")

    with refused(Conflict, "duplicate_job") as refusal:
        give(7, code="import", parameters={"term": "summer"})

    assert refusal.value.details["existing_job"] == first.number
    assert str(refusal.value) == f"duplicate of job {first.number}, which is PENDING"


def test_other_values_of_the_overlap_keys_are_no_duplicate(give, rejecting):
    assert give(7, code="import").number != give(8, code="import").number


def test_once_the_job_has_ended_the_next_is_accepted(give, rejecting):
    give(7, code="import")
    Job.objects.update(status="CANCELED", finished_at=NOW)

    assert give(7, code="import").status == "PENDING"


def test_without_named_parameters_the_program_itself_is_the_key(give, define):
    define("nightly", parameters=SCHEMA, overlap="REJECT")
    give(7, code="nightly")

    with refused(Conflict, "duplicate_job"):
        give(8, code="nightly")


def test_the_same_request_is_no_duplicate_of_itself(give, rejecting):
    first = give(7, code="import", idempotency_key="k")

    assert give(7, code="import", idempotency_key="k").number == first.number


def test_a_refused_duplicate_leaves_the_callers_transaction_usable(give, rejecting):
    with transaction.atomic():
        give(7, code="import")
        with pytest.raises(Conflict):
            give(7, code="import")
        give(8, code="import")

    assert Job.objects.count() == 2


# ---- after the commit ------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_after_the_commit_one_message_goes_out_that_carries_the_number_alone(give, broker):
    job = give(parameters={"note": "nobody's business"})

    [message] = broker.messages()
    assert message["body"][:2] == [[[job.number]], {}]
    assert message["headers"]["task"] == "jobsite.run_jobs"
    assert "business" not in str(message)
    assert Job.objects.get(number=job.number).status == "QUEUED"


@pytest.mark.django_db(transaction=True)
def test_no_message_is_sent_while_the_callers_transaction_is_open(give, broker):
    with transaction.atomic():
        job = give()
        assert broker.raw() == []
        assert Job.objects.get(number=job.number).status == "PENDING"

    assert broker.numbers() == [job.number]


@pytest.mark.django_db(transaction=True)
def test_a_job_is_rolled_back_with_the_callers_transaction(give, broker):
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        give()
        raise ZeroDivisionError

    assert not Job.objects.exists()
    assert broker.raw() == []


@pytest.mark.django_db(transaction=True)
def test_the_job_and_message_of_a_savepoint_are_rolled_back_with_it(give, broker):
    with transaction.atomic():
        kept = give()
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            give()
            raise ZeroDivisionError

    assert [job.number for job in Job.objects.all()] == broker.numbers() == [kept.number]


@pytest.mark.django_db(transaction=True)
def test_a_job_that_waits_for_a_moment_or_a_release_has_no_message(give, broker):
    give(hold=True)
    give(scheduled_at=NOW + timedelta(hours=1))

    assert broker.raw() == []


@pytest.mark.django_db(transaction=True)
def test_a_repeated_request_sends_no_second_message(give, broker):
    for _ in range(3):
        give(idempotency_key="k")

    assert len(broker.raw()) == 1


@pytest.mark.django_db(transaction=True)
def test_the_backlog_stays_in_the_database(give, broker):
    numbers = [give().number for _ in range(10)]

    assert broker.numbers() == numbers[:2]


@pytest.mark.django_db(transaction=True)
def test_a_queue_has_its_own_list(give, define, broker):
    define("publish", parameters=SCHEMA, queue="content")

    job = give(code="publish")

    assert (broker.numbers("content"), broker.numbers("default")) == ([job.number], [])


@pytest.mark.django_db(transaction=True)
def test_a_broker_that_is_down_does_not_fail_a_submission(give, broker_is_down):
    job = give()

    assert Job.objects.get(number=job.number).status in ("PENDING", "QUEUED")
    with pytest.raises(brokers.BrokerUnavailable):
        brokers.publish([brokers.Message("x", "default", ())])


@pytest.mark.django_db(transaction=True)
def test_a_dispatch_that_fails_does_not_fail_a_submission(give, monkeypatch):
    """The caller's transaction has committed, and the sweeps dispatch the job."""
    monkeypatch.setattr(brokers, "publish", lambda messages: 1 / 0)

    job = give()

    assert Job.objects.filter(number=job.number).exists()


def test_every_error_is_one_that_the_doors_translate():
    assert issubclass(Conflict, Refusal)
    assert {kind.http_status for kind in (NotFound, Invalid, Forbidden, Conflict)} == {404, 422, 403, 409}


def test_what_two_jobs_must_share_to_overlap_does_not_depend_on_the_order_of_keys(rejecting):
    Program.objects.filter(pk=rejecting.pk).update(overlap_keys=["student", "term"])
    rejecting.refresh_from_db()

    one = preparation.overlap_key(rejecting, {"student": 7, "term": "winter", "note": "x"})
    other = preparation.overlap_key(rejecting, {"term": "winter", "student": 7})

    assert one == other
    assert preparation.overlap_key(rejecting, {"student": 7}) != one


def test_a_principal_can_be_made_once_and_used_for_many(tenant, bob, scores):
    principal = principals.of_user(bob, tenant)

    numbers = [submit_as(principal, "scores", {"student": student}).number for student in range(5)]

    assert numbers == sorted(numbers)


# ---- many at once ----------------------------------------------------------------------------------------


def many(*students, **options):
    return [{"program": "scores", "parameters": {"student": student}, **options} for student in students]


def test_many_jobs_are_submitted_at_once_in_their_order(tenant, bob, scores):
    numbers = submit_many(tenant=tenant, user=bob, jobs=many(*range(2_500), priority=4))

    assert numbers == sorted(numbers)
    jobs = Job.objects.order_by("number")
    assert [job.parameters["student"] for job in jobs] == list(range(2_500))
    assert {(job.number in set(numbers), job.priority, job.status) for job in jobs} == {(True, 4, "PENDING")}
    assert {job.context.content["submitted_by"] for job in jobs.select_related("context")} == {"bob"}


def test_nothing_of_many_is_submitted_when_one_is_wrong_and_all_wrong_ones_are_named(tenant, scores):
    jobs = [*many(1, "two"), {"program": "scores", "parameters": {}}, *many(4)]

    with refused(Invalid, "invalid_parameters") as refusal:
        submit_many(tenant=tenant, jobs=jobs)

    pointers = [error["pointer"] for error in refusal.value.details["errors"]]
    assert pointers == ["/jobs/1/parameters/student", "/jobs/2/parameters/student"]
    assert str(refusal.value).startswith("/jobs/1/parameters/student: ")
    assert not Job.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("wrong", ["two", None], ids=["parameters", "key"])
def test_what_is_wrong_in_a_later_part_of_many_is_named_and_nothing_is_left(tenant, rejecting, give, wrong):
    jobs = [{"program": "import", "parameters": {"student": student}} for student in range(1_500)]
    jobs[1_005]["parameters"] = {"student": wrong or 7}

    with pytest.raises(Refusal) as refusal:
        submit_many(tenant=tenant, jobs=jobs)

    assert str(refusal.value).startswith("/jobs/1005")
    assert not Job.objects.exists()
    assert len(submit_many(tenant=tenant, jobs=jobs[:1_005])) == 1_005


@pytest.mark.parametrize(
    ("job", "said"),
    [
        ({"parameters": {}}, "/jobs/1: a job needs `program`"),
        ({"program": "scores", "parameters": []}, "/jobs/1: a job needs `program`"),
        ({"program": "scores", "colour": "red"}, "/jobs/1: colour is not an option of a job; the options are hold,"),
        ({"program": "scores", "parameters": {"student": 1}, "priority": 101}, "/jobs/1: priority must be"),
        ({"program": "scores", "parameters": {"student": 1}, "scheduled_at": "soon"}, "/jobs/1: scheduled_at: "),
        ({"program": "nothing"}, "/jobs/1: no program nothing in tenant acme"),
    ],
)
def test_what_is_wrong_with_one_of_many_is_named_with_its_place(tenant, scores, job, said):
    with pytest.raises(Refusal) as refusal:
        submit_many(tenant=tenant, jobs=[*many(1), job])

    assert str(refusal.value).startswith(said)
    assert not Job.objects.exists()


def test_one_duplicate_among_many_refuses_them_all(tenant, give, rejecting):
    first = give(7, code="import")

    with refused(Conflict, "duplicate_job") as refusal:
        submit_many(
            tenant=tenant, jobs=[{"program": "import", "parameters": {"student": student}} for student in (6, 7, 8)]
        )

    assert refusal.value.details["existing_job"] == first.number
    assert str(refusal.value).startswith(f"/jobs/1: duplicate of job {first.number}")
    assert Job.objects.count() == 1


def test_a_job_submitted_before_under_its_key_is_returned_again(tenant, scores):
    jobs = [job | {"idempotency_key": f"k{place}"} for place, job in enumerate(many(1, 2, 3))]
    [middle] = submit_many(tenant=tenant, jobs=jobs[1:2])

    numbers = submit_many(tenant=tenant, jobs=jobs)

    assert numbers[1] == middle
    assert Job.objects.count() == len(set(numbers)) == 3


def test_more_than_ten_thousand_at_once_are_refused(tenant, scores):
    with refused(Invalid, "too_many_jobs"):
        submit_many(tenant=tenant, jobs=({"program": "scores", "parameters": {"student": n}} for n in range(10_001)))


def test_a_stranger_submits_none_of_many(tenant, charlie, scores):
    with pytest.raises(NotFound):
        submit_many(tenant=tenant, user=charlie, jobs=many(1))


def test_a_program_that_was_edited_since_it_was_read_is_read_again_for_many(tenant, give, define):
    submit_many(tenant=tenant, jobs=many(1))

    define("scores", parameters={**SCHEMA, "required": ["student", "note"]})

    with refused(Invalid, "invalid_parameters"):
        submit_many(tenant=tenant, jobs=many(1))


@pytest.mark.django_db(transaction=True)
def test_many_are_dispatched_after_the_commit(tenant, scores, broker):
    with transaction.atomic():
        numbers = submit_many(tenant=tenant, jobs=many(*range(10)))
        assert broker.raw() == []

    assert broker.numbers() == numbers[:2]


@pytest.mark.django_db(transaction=True)
def test_many_are_rolled_back_with_the_callers_transaction(tenant, scores, broker):
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        submit_many(tenant=tenant, jobs=many(*range(10)))
        raise ZeroDivisionError

    assert not Job.objects.exists()
    assert broker.raw() == []
