"""Why a job is not running: a sentence for each reason, by the rules of dispatch and claim."""

from datetime import UTC, datetime, timedelta

import pytest

from jobsite.errors import NotFound
from jobsite.programs import operations
from jobsite.programs.inspection import explain
from jobsite.programs.models import Job, Program, WorkerManager
from jobsite.programs.operations import pausing
from jobsite.programs.rules.lifecycle import FailureKind
from jobsite.programs.transitions import finish, give_back
from jobsite.programs.transitions.finish import Ending
from jobsite.tenants.models import Tenant
from tests.programs.conftest import held, new_worker

pytestmark = pytest.mark.django_db
LATER = datetime(2030, 5, 17, 8, 30, tzinfo=UTC)
RETRY = Ending.retry(FailureKind.TRANSIENT, delay=3_600.0,
               error={"type": "ConnectionError", "message": "refused", "step": None})  # fmt: skip


@pytest.fixture
def ask(operator):
    """Code and message of each reason."""
    return lambda number: reasons_for(operator, number)


def reasons_for(principal, number):
    return [(reason.code, reason.message) for reason in explain.why(principal, number)]


@pytest.fixture
def codes(ask):
    return lambda number: [code for code, _ in ask(number)]


@pytest.fixture
def _served(cursor):
    new_worker(cursor)


served = pytest.mark.usefixtures("_served")


@served
def test_a_held_job_says_who_holds_it_why_and_until_when(jobs, alice_principal, ask):
    number = jobs.pending()
    operations.jobs.hold(alice_principal, number, reason="ask Bob first", until=LATER)
    since = jobs.row(number).hold_at

    [(code, message)] = ask(number)

    assert code == "held"
    assert message == (
        f"it is held by alice since {since:%Y-%m-%d %H:%M:%S} UTC until 2030-05-17 08:30:00 UTC: ask Bob first"
    )


@served
def test_a_scheduled_job_says_when(jobs, ask):
    assert ask(jobs.pending(scheduled_at=LATER)) == [("scheduled", "it is scheduled for 2030-05-17 08:30:00 UTC")]


@served
def test_a_job_that_waits_for_a_retry_says_when_and_what_went_wrong(jobs, ask):
    claimed = jobs.running()
    finish.finish(jobs.cursor, held(claimed), RETRY)
    due = jobs.row(claimed.number).due_at

    [(code, message)] = ask(claimed.number)

    assert code == "retrying"
    assert (
        message == f"run 2 of 3 is due at {due:%Y-%m-%d %H:%M:%S} UTC; the last run ended with ConnectionError: refused"
    )


@served
def test_a_job_that_snoozes_says_until_when(jobs, codes):
    claimed = jobs.running()
    finish.finish(jobs.cursor, held(claimed), give_back.snoozed(60.0))

    assert codes(claimed.number) == ["snoozed"]


@served
def test_all_reasons_are_given_at_once(jobs, alice_principal, operator, ask):
    number = jobs.pending(scheduled_at=LATER)
    operations.jobs.hold(alice_principal, number)
    pausing.pause_program(alice_principal, jobs.program.code, reason="audit")
    pausing.pause_queue(alice_principal, "default")
    pausing.pause_queue(operator, "default", whole=True, reason="the broker moves")
    pausing.suspend_tenant(operator, reason="unpaid", until=LATER)

    reasons = ask(number)

    assert [code for code, _ in reasons] == [
        "held",
        "scheduled",
        "program_paused",
        "queue_paused",
        "queue_paused",
        "tenant_suspended",
    ]
    ends = [": audit", ": the broker moves", "", " until 2030-05-17 08:30:00 UTC: unpaid"]
    assert all(message.endswith(end) for (_, message), end in zip(reasons[2:], ends, strict=True))
    assert "for tenant acme" in reasons[4][1]


def test_a_queue_without_workers_says_how_to_start_one(jobs, ask):
    assert ask(jobs.pending()) == [
        ("no_worker", "no worker serves queue default; start one with: jobsite worker default")
    ]


def test_a_queue_that_is_no_longer_configured_is_named(jobs, codes, settings):
    number = jobs.pending()
    settings.JOBSITE_QUEUES = ("content",)

    assert codes(number) == ["no_queue"]


def test_a_manager_at_its_limit_is_named(jobs, cursor, ask):
    WorkerManager.objects.create(name="small", max_running=1)
    jobs.running(worker=new_worker(cursor, manager="small", children=4))

    assert ask(jobs.pending()) == [
        ("limit_reached", "the workers of queue default run as many jobs as they may: manager small runs 1 of 1 jobs")
    ]


@served
def test_the_running_quota_of_the_tenant_is_a_reason(jobs, ask):
    Tenant.objects.update(running_quota=1)
    jobs.running()

    assert ("over_quota", "tenant acme runs 1 of 1 jobs") in ask(jobs.pending())


def test_behind_busy_workers_it_says_how_many_come_first(jobs, cursor, ask):
    jobs.running(worker=new_worker(cursor))
    first, second = jobs.many(2)

    busy = "the workers of queue default are busy, all 1 children; "
    assert ask(second) == [("busy", f"{busy}1 job of tenant acme before it")]
    assert ask(first) == [("busy", f"{busy}0 jobs of tenant acme before it")]


@served
def test_a_job_that_nothing_blocks_is_next(jobs, codes):
    assert codes(jobs.pending()) == ["next"]


@served
def test_a_queued_job_waits_for_a_worker_to_take_its_message(jobs, ask):
    number = jobs.queued()
    since = jobs.row(number).queued_at

    assert ask(number) == [
        (
            "queued",
            f"its message has waited for a worker of queue default since {since:%Y-%m-%d %H:%M:%S} UTC, "
            "1 of 1 children are idle",
        )
    ]


@served
def test_a_queued_job_of_a_paused_queue_says_so_first(jobs, alice_principal, codes):
    number = jobs.queued()
    pausing.pause_queue(alice_principal, "default")

    assert codes(number) == ["queue_paused", "queued"]


def test_a_running_job_says_where_it_is(jobs, cursor, ask):
    claimed = jobs.running(worker=new_worker(cursor))
    jobs.set(claimed.number, """current_step = 'load', progress = '{"processed": 3, "total": 9, "message": "rows"}'""")
    since = jobs.row(claimed.number).started_at

    assert ask(claimed.number) == [
        ("running", f"it has run on w1@here since {since:%Y-%m-%d %H:%M:%S} UTC, in step load, 3 of 9 done (rows)")
    ]


def test_a_running_job_that_is_asked_to_stop_says_by_whom(jobs, alice_principal, ask):
    number = jobs.running().number
    operations.jobs.cancel(alice_principal, number, reason="wrong file")
    asked = jobs.row(number).cancel_requested_at

    assert ask(number)[1] == (
        "canceling",
        f"it was asked to stop by alice at {asked:%Y-%m-%d %H:%M:%S} UTC: wrong file",
    )


@pytest.mark.parametrize("status", ["COMPLETED", "FAILED", "CANCELED"])
def test_a_job_that_has_ended_says_so(jobs, ask, status):
    number = jobs.in_status(status)
    ended = Job.objects.get(number=number).finished_at

    assert ask(number) == [("ended", f"it ended as {status} at {ended:%Y-%m-%d %H:%M:%S} UTC")]


def test_a_parent_waits_for_its_children(jobs, ask):
    parent = jobs.in_status("WAITING")
    jobs.set(jobs.pending(trigger="CHILD"), "parent_id = %s, child_key = 'a', parent_fence = 1", [parent])

    assert ask(parent) == [("waiting_for_children", "it waits for 1 of its 1 children")]


def test_a_job_that_is_due_is_never_left_without_a_reason(jobs, codes):
    number = jobs.pending(scheduled_at=datetime.now(UTC) + timedelta(hours=1))
    jobs.make_due(number, -1)  # the sweep has not seen it yet
    Program.objects.update(status="TERMINATED")

    assert codes(number) == ["no_worker"]


@pytest.mark.parametrize(
    ("limit", "queued", "sentence"),
    [
        (None, False, "the workers of queue default are busy; 0 jobs of tenant acme before it"),
        (1, False, "the workers of queue default run as many jobs as they may"),
        (None, True, "its message has waited for a worker of queue default since "),
    ],
    ids=["busy", "limit", "queued"],
)
def test_a_tenant_does_not_see_how_busy_the_workers_are(jobs, cursor, alice_principal, limit, queued, sentence):
    WorkerManager.objects.create(name="small", max_running=limit)
    jobs.running(worker=new_worker(cursor, manager="small"))
    number = jobs.queued() if queued else jobs.pending()

    [(_, message)] = reasons_for(alice_principal, number)

    assert message.startswith(sentence)
    assert not any(word in message for word in ("children", "small", "manager"))


def test_a_tenant_is_not_told_to_start_a_worker(jobs, alice_principal):
    assert reasons_for(alice_principal, jobs.pending()) == [("no_worker", "no worker serves queue default")]


def test_a_stranger_learns_nothing_about_a_job(jobs, charlie_principal):
    number = jobs.pending()

    with pytest.raises(NotFound, match=f"no job {number}"):
        explain.why(charlie_principal, number)
