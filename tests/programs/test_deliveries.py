"""Who is notified of what: a delivery exists if, and only if, what it reports has happened."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.utils import timezone

from jobsite.notifications.models import Delivery, Rule
from jobsite.programs import schedules, submission
from jobsite.programs.models import Program, Schedule
from jobsite.programs.rules.lifecycle import FailureKind, Trigger
from jobsite.programs.schedules import Wanted, firing
from jobsite.programs.sql import deliveries as statements
from jobsite.programs.submission import Options
from jobsite.programs.transitions.cancel import cancel
from jobsite.programs.transitions.finish import Ending, finish, finish_all
from jobsite.programs.transitions.reap import expire_stuck, reap_expired
from jobsite.tenants.models import Membership, Role
from tests.notifications.deliveries import deliveries_made
from tests.programs.conftest import FAILURE, SUCCESS, WAITING, claim_all, held

pytestmark = pytest.mark.django_db

RETRY = Ending.retry(FailureKind.TRANSIENT, delay=1.0)
WARNED = Ending.completed(has_warned=True)


@pytest.fixture
def ended(jobs, watched):
    """The number of a job of the watched program that has ended in this way."""

    def make(ending: Ending = SUCCESS, **fields):
        return jobs.ended(ending, program=watched, **fields)

    return make


@pytest.mark.parametrize(
    ("ending", "events"),
    [
        (SUCCESS, {"COMPLETED", "COMPLETED+NORMAL"}),
        (WARNED, {"COMPLETED", "COMPLETED+WARNING"}),
        (FAILURE, {"FAILED", "COMPLETED+ERROR"}),
        (Ending.canceled(), {"CANCELED"}),
        (RETRY, {"RETRYING"}),
        (Ending.returned(), set()),
        (WAITING, set()),
    ],
    ids=lambda value: value.status if isinstance(value, Ending) else "",
)
def test_each_ending_is_reported_by_the_rules_for_it_and_by_no_other(jobs, rule, watched, ended, ending, events):
    for event in ("COMPLETED", "FAILED", "CANCELED", "RETRYING", "STUCK", "LATE"):
        rule(event)
    for outcome in ("NORMAL", "WARNING", "ERROR"):
        rule(f"COMPLETED+{outcome}")

    number = ended(ending)

    assert {row.rule.event for row in Delivery.objects.select_related("rule")} == events
    assert set(Delivery.objects.values_list("job_number", "status")) == ({(number, "PENDING")} if events else set())


def test_the_end_and_its_deliveries_are_one(jobs, rule, watched):
    rule("COMPLETED")
    claimed = jobs.running(watched)

    with pytest.raises(LookupError), transaction.atomic():
        finish(jobs.cursor, held(claimed), SUCCESS)
        assert deliveries_made() == [("COMPLETED", "ops@example.org")]
        raise LookupError("the server dies before the commit")

    assert (jobs.status(claimed.number), deliveries_made()) == ("RUNNING", [])


def test_a_worker_that_lost_the_lock_notifies_nobody(jobs, rule, watched):
    rule("COMPLETED")
    claimed = jobs.running(watched)
    jobs.expire_lock(claimed.number)
    reap_expired(jobs.cursor)

    assert not finish_all(jobs.cursor, [(held(claimed), SUCCESS)]).tokens
    assert deliveries_made() == []


def test_each_job_of_a_group_is_reported(jobs, rule, watched):
    rule("COMPLETED")
    rule("FAILED", to_addresses=["failures@example.org"])
    claimed = [jobs.running(watched) for _ in range(3)]

    finished = finish_all(
        jobs.cursor, [(held(one), [SUCCESS, FAILURE][place % 2]) for place, one in enumerate(claimed)]
    )

    assert sorted(deliveries_made()) == [
        ("COMPLETED", "ops@example.org"), ("COMPLETED", "ops@example.org"), ("FAILED", "failures@example.org")
    ]  # fmt: skip
    assert sorted(finished.deliveries) == sorted(Delivery.objects.values_list("pk", flat=True))


def test_for_a_program_without_rules_nothing_is_written(jobs, rule):
    rule("FAILED")

    jobs.ended(FAILURE)

    assert deliveries_made() == []


def test_each_recipient_is_notified_once_and_nobody_of_another_tenant(jobs, rule, ended, alice, bob, charlie):
    rule("FAILED", to_roles=[Role.ADMIN, Role.OPERATOR], to_users=[alice, charlie], to_addresses=["a@example.org"])

    ended(FAILURE)

    assert sorted(deliveries_made()) == [("FAILED", "a@example.org"), ("FAILED", "alice"), ("FAILED", "bob")]


def test_the_submitter_is_notified_where_the_rule_says_so(jobs, rule, watched, alice_principal, operator):
    rule("FAILED", to_users=[], to_submitter=True)
    for hand in (alice_principal, operator):
        job = submission.submit_as(hand, "watched", {})
        jobs.queue(job.number)
        finish(jobs.cursor, held(jobs.claim(job.number)), FAILURE)

    assert deliveries_made() == [("FAILED", "alice")]


@pytest.mark.parametrize("change", [{"is_active": False}, {"deleted_at": timezone.now()}])
def test_a_rule_that_is_off_or_deleted_notifies_nobody(rule, ended, change):
    rule("FAILED", **change)

    ended(FAILURE)

    assert deliveries_made() == []


# ---- Other ways for a job to end --------------------------------------------------------------------------------


def test_a_cancel_is_reported(jobs, rule, watched):
    rule("CANCELED")
    number = jobs.pending(watched)

    cancel(jobs.cursor, number=number, tenant_id=watched.tenant_id, by="alice", reason="")
    cancel(jobs.cursor, number=number, tenant_id=watched.tenant_id, by="alice", reason="")

    assert deliveries_made() == [("CANCELED", "ops@example.org")]


def test_a_running_job_that_is_asked_to_stop_is_not_reported_before_it_has(jobs, rule, watched):
    rule("CANCELED")
    claimed = jobs.running(watched)

    cancel(jobs.cursor, number=claimed.number, tenant_id=watched.tenant_id, by="alice", reason="")

    assert deliveries_made() == []


def test_a_lost_run_is_reported_as_a_retry_and_the_last_one_as_a_failure(jobs, rule, watched):
    rule("RETRYING")
    rule("FAILED")
    number = jobs.pending(watched)

    for _ in range(3):
        jobs.queue(number)
        jobs.claim(number)
        jobs.expire_lock(number)
        reap_expired(jobs.cursor)

    assert [event for event, _ in deliveries_made()] == ["RETRYING", "RETRYING", "FAILED"]


def test_a_stuck_job_is_reported_as_stuck_and_as_failed(jobs, rule, watched):
    rule("STUCK")
    rule("FAILED")
    claimed = jobs.running(watched)
    jobs.set(claimed.number, "stuck_at = clock_timestamp() - interval '1 second'")

    expire_stuck(jobs.cursor)

    assert sorted(event for event, _ in deliveries_made()) == ["FAILED", "STUCK"]


def test_a_program_that_is_terminated_is_reported_once_with_how_many_had_failed(jobs, rule, ended, watched):
    rule("PROGRAM_TERMINATED")

    for _ in range(4):
        ended(FAILURE)

    [delivery] = Delivery.objects.all()
    assert (delivery.event, delivery.job_number, delivery.details["in_a_row"]) == ("PROGRAM_TERMINATED", None, 3)
    watched.refresh_from_db()
    assert watched.status == "TERMINATED"


def test_a_job_that_a_claim_cancels_for_its_terminated_program_is_reported(jobs, rule, watched, worker):
    rule("CANCELED")
    number = jobs.queued(watched, trigger=Trigger.AUTOMATIC)
    Program.objects.update(status="TERMINATED")

    assert claim_all(jobs.cursor, [number], worker) == []
    assert (jobs.status(number), deliveries_made()) == ("CANCELED", [("CANCELED", "ops@example.org")])


@pytest.mark.parametrize("how", ["finish", "cancel", "reap"])
def test_the_end_of_a_job_whose_submitter_has_no_account_any_more_comes_about(
    jobs, rule, watched, alice_principal, how
):
    rule("FAILED", to_users=[], to_submitter=True)
    rule("CANCELED", to_users=[], to_submitter=True)
    rule("RETRYING", to_users=[], to_submitter=True)
    job = submission.submit_as(alice_principal, "watched", {}, Options(notify=True))
    jobs.queue(job.number)
    claimed = jobs.claim(job.number)
    User.objects.filter(username="alice").delete()

    match how:
        case "finish":
            finish(jobs.cursor, held(claimed), FAILURE)
        case "cancel":
            jobs.set(job.number, "status = 'PENDING', lock_token = NULL, lock_owner = NULL, lock_expires_at = NULL")
            cancel(jobs.cursor, number=job.number, tenant_id=watched.tenant_id, by="bob", reason="")
        case "reap":
            jobs.expire_lock(job.number)
            assert len(reap_expired(jobs.cursor)) == 1

    assert jobs.status(job.number) in ("FAILED", "CANCELED", "PENDING")
    assert deliveries_made() == []


@pytest.mark.django_db(transaction=True)
def test_an_account_deleted_in_the_middle_undoes_no_end(jobs, rule, watched, alice_principal, connect_more):
    rule("FAILED", to_users=[], to_submitter=True)
    job = submission.submit_as(alice_principal, "watched", {})
    jobs.queue(job.number)
    claimed = jobs.claim(job.number)

    with connect_more() as other, other.transaction(), other.cursor() as cursor:
        finish(cursor, held(claimed), FAILURE)
        User.objects.filter(username="alice").delete()

    assert jobs.status(job.number) == "FAILED"
    assert Delivery.objects.count() == 1


# ---- Begin ------------------------------------------------------------------------------------------------------


def test_a_submission_is_reported_with_it(rule, watched, alice_principal):
    rule("SUBMITTED")

    with pytest.raises(LookupError), transaction.atomic():
        submission.submit_as(alice_principal, "watched", {})
        raise LookupError("the caller thinks better of it")
    assert deliveries_made() == []

    submission.submit_as(alice_principal, "watched", {})
    submission.submit_many_as(alice_principal, [{"program": "watched"}] * 3)

    assert deliveries_made() == [("SUBMITTED", "ops@example.org")] * 4


@pytest.mark.django_db(transaction=True)
def test_a_start_is_reported_once_however_often_it_starts(run_job, jobs, rule, define, ops):
    rule("STARTED")
    program = define("watched", target="tests.sample_actions:fail", notification_group="ops")
    number = jobs.pending(program)

    run_job(number)

    assert deliveries_made() == [("STARTED", "ops@example.org")]
    statements.started(jobs.cursor, number)
    assert len(deliveries_made()) == 1


@pytest.mark.django_db(transaction=True)
def test_a_start_that_a_lost_worker_did_not_report_is_reported_by_the_next_run(run_job, jobs, rule, define, ops):
    rule("STARTED")
    program = define("watched", target="tests.sample_actions:succeed", notification_group="ops")
    number = jobs.queued(program)
    jobs.claim(number)
    jobs.expire_lock(number)
    reap_expired(jobs.cursor)

    run_job(number)

    assert deliveries_made() == [("STARTED", "ops@example.org")]


def test_the_first_job_of_a_lane_that_waits_too_long_is_reported_once(jobs, rule, watched):
    rule("LATE")
    numbers = jobs.many(3, watched)
    jobs.cursor.execute(
        "INSERT INTO jobsite_lane (queue_id, tenant_id) SELECT queue_id, tenant_id FROM jobsite_job LIMIT 1"
        " ON CONFLICT DO NOTHING"
    )
    jobs.make_due(numbers[1], -301)
    jobs.make_due(numbers[2], -299)

    for pause, go_on in (
        ("UPDATE jobsite_queue SET paused_at = now()", "UPDATE jobsite_queue SET paused_at = NULL"),
        ("UPDATE jobsite_lane SET paused_at = now()", "UPDATE jobsite_lane SET paused_at = NULL"),
        ("UPDATE jobsite_tenant SET status = 'SUSPENDED' WHERE code = 'acme'",
         "UPDATE jobsite_tenant SET status = 'ACTIVE'"),
    ):  # fmt: skip
        jobs.cursor.execute(pause)
        assert statements.late(jobs.cursor) == 0
        jobs.cursor.execute(go_on)
    assert [statements.late(jobs.cursor) for _ in range(2)] == [1, 0]
    assert Delivery.objects.get().job_number == numbers[1]


# ---- In a row, and recovery -------------------------------------------------------------------------------------


def test_a_rule_may_wait_for_several_failures_in_a_row(rule, ended):
    rule("FAILED", in_a_row=2)

    for ending in (FAILURE, SUCCESS, FAILURE, FAILURE):
        ended(ending)

    [delivery] = Delivery.objects.all()
    assert delivery.details["in_a_row"] == 2


def test_a_group_of_jobs_says_how_many_each_failure_makes_in_a_row(jobs, rule, ended, watched):
    rule("FAILED", in_a_row=2)
    ended(FAILURE)
    claimed = [jobs.running(watched) for _ in range(6)]
    endings = [FAILURE, SUCCESS, FAILURE, FAILURE, SUCCESS, FAILURE]

    finish_all(jobs.cursor, [(held(one), ending) for one, ending in zip(claimed, endings, strict=True)])

    found = {row.job_number: row.details["in_a_row"] for row in Delivery.objects.all()}
    assert found == {claimed[0].number: 2, claimed[3].number: 2}


def test_the_recovery_is_reported_once_to_those_who_were_notified_of_the_failure(rule, ended):
    rule("FAILED", in_a_row=2, on_recovery=True)
    rule("FAILED", to_addresses=["silent@example.org"])

    for ending in (SUCCESS, FAILURE, SUCCESS, FAILURE, FAILURE, SUCCESS, SUCCESS):
        ended(ending)

    of_ops = [event for event, address in deliveries_made() if address == "ops@example.org"]
    assert of_ops == ["FAILED", "RECOVERED"]
    assert Delivery.objects.get(event="RECOVERED").details["in_a_row"] == 2


def test_the_recovery_counts_the_failures_of_its_own_statement_too(jobs, rule, ended, watched):
    rule("FAILED", on_recovery=True)
    ended(FAILURE)
    claimed = [jobs.running(watched) for _ in range(3)]

    finish_all(jobs.cursor, [(held(one), end) for one, end in zip(claimed, [FAILURE, FAILURE, SUCCESS], strict=True)])

    assert Delivery.objects.get(event="RECOVERED").details["in_a_row"] == 3


def test_nobody_is_notified_of_the_recovery_who_was_not_notified_of_the_failure(rule, ended):
    rule("FAILED", on_recovery=True)
    rule("FAILED", to_addresses=["silent@example.org"])
    for ending in (FAILURE, SUCCESS):
        ended(ending)

    assert [event for event, address in deliveries_made() if address == "silent@example.org"] == ["FAILED"]


def test_the_recovery_of_one_program_says_nothing_of_another(jobs, rule, ended, define):
    rule("FAILED", on_recovery=True)
    other = define("other", notification_group="ops")
    ended(FAILURE)

    jobs.ended(SUCCESS, program=other)
    assert [event for event, _ in deliveries_made()] == ["FAILED"]


# ---- Schedules --------------------------------------------------------------------------------------------------


def test_a_late_schedule_is_reported_and_so_is_its_recovery(jobs, rule, watched, operator):
    rule("SCHEDULE_MISSED", on_recovery=True)
    schedules.create(operator, "hourly", Wanted("watched", interval_minutes=60))
    late = timezone.now() - timedelta(minutes=10)
    Schedule.objects.update(next_at=late, due_at=late)

    for _ in range(2):
        firing.notice_late(jobs.cursor)
    assert [event for event, _ in deliveries_made()] == ["SCHEDULE_MISSED"]
    for _ in range(2):
        firing.fire_due()
    assert [event for event, _ in deliveries_made()] == ["SCHEDULE_MISSED", "SCHEDULE_RECOVERED"]
    assert {row.schedule_id for row in Delivery.objects.all()} == {Schedule.objects.get().pk}


# ---- notify -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ending", "event"), [(SUCCESS, "COMPLETED"), (FAILURE, "FAILED")])
@pytest.mark.parametrize(("email", "channel"), [("alice@example.org", "email"), ("", "inbox")])
def test_notify_reaches_the_submitter_when_it_ends(jobs, alice_principal, alice, ending, event, email, channel):
    alice.email = email
    alice.save()
    jobs.define("plain")
    job = submission.submit_as(alice_principal, "plain", {}, Options(notify=True))
    jobs.queue(job.number)
    claimed = jobs.claim(job.number)
    assert (claimed.notifies, deliveries_made()) == (True, [])

    finish(jobs.cursor, held(claimed), ending)

    [delivery] = Delivery.objects.all()
    assert (delivery.event, delivery.user, delivery.channel, delivery.rule) == (event, alice, channel, None)
    assert delivery.details["in_a_row"] == 1


def test_the_database_knows_each_delivery_once(rule, ended, watched):
    rule("FAILED")
    ended(FAILURE)

    with connection.cursor() as cursor, pytest.raises(Exception, match="delivery_once_per_key"):
        cursor.execute(
            "INSERT INTO jobsite_delivery (tenant_id, dedupe_key, event, source, channel, address)"
            " SELECT tenant_id, dedupe_key, event, source, channel, address FROM jobsite_delivery"
        )


def test_a_rule_refers_to_nothing_of_another_tenant(ops, other_tenant):
    with pytest.raises(Exception, match="rule_group_of_same_tenant"):
        Rule.objects.create(tenant=other_tenant, group=ops, event="FAILED", to_submitter=True)


def test_a_member_who_left_gets_nothing_by_their_role(rule, ended, bob, tenant):
    rule("FAILED", to_roles=[Role.OPERATOR])
    Membership.objects.filter(user=bob).delete()

    ended(FAILURE)

    assert deliveries_made() == []
