"""What people do with schedules: each field is checked, each act is permitted and audited, nothing fires at once."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from jobsite.errors import Conflict, Forbidden, Invalid, NotFound
from jobsite.programs import schedules
from jobsite.programs.models import Firing, Job, Program, Schedule
from jobsite.programs.operations import pausing, rotation
from jobsite.programs.parameters import secrets
from jobsite.programs.rules.lifecycle import Trigger
from jobsite.programs.rules.recurrence import jitter_of, words
from jobsite.programs.schedules import Wanted, backfills, editing, firing
from jobsite.tenants import principals
from jobsite.tenants.models import AuditEntry, Tenant
from jobsite.tenants.principals import Principal
from tests.programs.conftest import refused

COHORT = {
    "type": "object",
    "properties": {"cohort": {"type": "string"}, "token": {"type": "string", "writeOnly": True}},
    "additionalProperties": False,
}
Make = Callable[..., Schedule]


@pytest.fixture
def program(define: Callable[..., Program]) -> Program:
    return define(parameters=COHORT)


@pytest.fixture
def make(program: Program, alice_principal: Principal) -> Make:
    """Alice's schedule `nightly`, by default at half past two on weekdays."""

    def new(code: str = "nightly", *, by: Principal = alice_principal, **wanted: Any) -> Schedule:
        if "interval_minutes" not in wanted:
            wanted = {"minute": "30", "hour": "2", "day_of_week": "1-5"} | wanted
        return schedules.create(by, code, Wanted(program="sample", **wanted))

    return new


def wrong(refusal: Any) -> dict[str, str]:
    return {one["pointer"]: one["message"] for one in refusal.value.details["errors"]}


def audit() -> list[tuple[str, str, str]]:
    return list(AuditEntry.objects.order_by("id").filter(target_type="schedule").values_list("actor", "door", "action"))


# ---- Make -----------------------------------------------------------------------------------------------------


def test_cron_fields_left_out_are_stars_and_the_zone_is_the_tenants(make: Make, tenant: Tenant) -> None:
    Tenant.objects.filter(pk=tenant.pk).update(time_zone="Europe/Berlin")
    tenant.refresh_from_db()

    row = make()

    assert (str(row.cron), row.time_zone, row.owner) == ("30 2 * * 1-5", "Europe/Berlin", "alice")
    assert row.next_at is not None
    assert row.next_at > timezone.now()
    assert audit() == [("alice", "admin", "schedule created")]


@pytest.mark.parametrize(
    ("wanted", "errors"),
    [
        ({"minute": "99"}, {"/minute": "expected 0 to 59, got '99'"}),
        (
            {"hour": "x", "day_of_week": "9", "time_zone": "Mars"},
            {
                "/time_zone": "'Mars' is no IANA time zone such as Europe/Berlin",
                "/hour": "expected 0 to 23, got 'x'",
                "/day_of_week": "expected 0 to 7 or sun to sat, got '9'",
            },
        ),
        ({"minute": "1", "interval_minutes": 5}, {"/interval_minutes": "give a cron line or an interval, not both"}),
        ({"interval_minutes": None}, {"/minute": "give a cron line, or an interval"}),
        ({"interval_minutes": 0}, {"/interval_minutes": "expected 1 to 10,080 minutes, got 0"}),
        ({"interval_minutes": 10_081}, {"/interval_minutes": "expected 1 to 10,080 minutes, got 10081"}),
        ({"interval_minutes": True}, {"/interval_minutes": "expected 1 to 10,080 minutes, got True"}),
        ({"interval_minutes": 5, "jitter_minutes": 60}, {"/jitter_minutes": "expected 0 to 59 minutes, got 60"}),
        ({"interval_minutes": 5, "priority": 101}, {"/priority": "expected a whole number from -100 to 100, got 101"}),
        ({"interval_minutes": 5, "overlap": "QUEUE"}, {"/overlap": "expected ALLOW or SKIP, got 'QUEUE'"}),
        ({"interval_minutes": 5, "missed": "NONE"}, {"/missed": "expected SKIP, ONE or ALL, got 'NONE'"}),
        ({"interval_minutes": 5, "missed_cap": 101}, {"/missed_cap": "expected 1 to 100, got 101"}),
        (
            {"interval_minutes": 5, "description": "a\0"},
            {"/description": "expected at most 1000 characters of valid text"},
        ),
        (
            {"interval_minutes": 5, "starts_at": "2027-01-01T00:00:00Z", "ends_at": "2026-12-31T00:00:00Z"},
            {"/ends_at": "it ends before it starts"},
        ),
        ({"interval_minutes": 5, "ends_at": "2020-01-01T00:00:00Z"}, {"/ends_at": "it would never fire"}),
        *(
            (
                {"interval_minutes": 5, "starts_at": f"{year}-01-01T00:00:00Z"},
                {"/starts_at": f"{year}-01-01 is out of reach: expected a time from 2000 to 2199"},
            )
            for year in ("1999", "2200", "9999")
        ),
        (
            {"interval_minutes": 5, "starts_at": datetime(2027, 1, 1)},
            {"/starts_at": "the time 2027-01-01T00:00:00 has no zone: use an aware datetime"},
        ),
        (
            {"interval_minutes": 5, "starts_at": "2027-01-01T00:00"},
            {"/starts_at": '"2027-01-01T00:00" is not a time: expected RFC 3339 such as "2026-11-22T01:02:03Z"'},
        ),
        (
            {"interval_minutes": 5, "parameters": {"cohort": 3, "x": 1}},
            {
                "/parameters/cohort": "expected string, got integer 3",
                "/parameters/x": "is not a parameter of this program (known: cohort, token)",
            },
        ),
        ({"day_of_month": "31", "month": "2"}, {"/day_of_month": "31 is no day of month 2, so that it never fires"}),
    ],
)
def test_each_wrong_field_is_named_and_nothing_is_made(
    program: Program, alice_principal: Principal, wanted: dict[str, Any], errors: dict[str, str]
) -> None:
    with refused(Invalid, "invalid_schedule") as refusal:
        schedules.create(alice_principal, "nightly", Wanted(program="sample", **wanted))

    assert wrong(refusal) == errors
    assert not Schedule.objects.exists()
    assert not audit()


@pytest.mark.parametrize("code", ["", "Nightly", "a b", "x" * 101, "a\n"])
def test_an_invalid_code_is_refused(program: Program, alice_principal: Principal, code: str) -> None:
    with refused(Invalid, "invalid_schedule"):
        schedules.create(alice_principal, code, Wanted(program="sample", minute="0"))


def test_a_code_is_taken_once_and_free_again_when_its_schedule_is_deleted(
    make: Make, alice_principal: Principal
) -> None:
    first = make()
    with refused(Conflict, "code_taken"):
        make()

    schedules.delete(alice_principal, "nightly", reason="moved")

    assert make().pk != first.pk
    first.refresh_from_db()
    assert (first.next_at, first.due_at) == (None, None)
    assert [action for _, _, action in audit()] == ["schedule created", "schedule deleted", "schedule created"]


def test_an_unknown_program_is_not_found(program: Program, alice_principal: Principal) -> None:
    with pytest.raises(NotFound, match="no program nope in tenant acme"):
        schedules.create(alice_principal, "nightly", Wanted(program="nope", minute="0"))


def test_secrets_are_sealed_at_rest_hidden_in_the_audit_and_carried_to_the_job(
    make: Make, alice_principal: Principal, bob_principal: Principal
) -> None:
    row = make(parameters={"cohort": "2026", "token": "s3cret"})

    assert "s3cret" not in str(row.parameters)
    assert row.parameters["token"].keys() == {"$secret"}
    [entry] = AuditEntry.objects.filter(target_type="schedule")
    assert entry.after is not None
    assert entry.after["parameters"] == {"cohort": "2026", "token": "••••"}
    job = Job.objects.get(number=backfills.run(bob_principal, "nightly").number)
    assert "s3cret" not in str(job.parameters)
    assert (job.has_secrets, job.parameters["cohort"]) == (True, "2026")


# ---- Who may --------------------------------------------------------------------------------------------------


def test_an_operator_may_run_a_schedule_but_not_change_it(make: Make, bob_principal: Principal) -> None:
    make()
    ten = datetime(2026, 11, 1, 10, tzinfo=UTC)

    for act in (
        lambda: schedules.create(bob_principal, "other", Wanted(program="sample", minute="0")),
        lambda: schedules.change(bob_principal, "nightly", {"priority": 3}),
        lambda: schedules.delete(bob_principal, "nightly"),
        lambda: backfills.backfill(bob_principal, "nightly", begin=ten, end=ten),
        lambda: backfills.begin_backfill(bob_principal, "nightly", begin=ten, end=ten),
        lambda: pausing.pause_schedule(bob_principal, "nightly"),
        lambda: pausing.resume_schedule(bob_principal, "nightly"),
    ):
        with refused(Forbidden, "missing_scope"):
            act()

    job = Job.objects.get(number=backfills.run(bob_principal, "nightly", reason="now").number)
    assert (job.trigger, job.context.content["submitted_by"]) == (Trigger.MANUAL, "bob")
    assert audit()[-1] == ("bob", "api", "run schedule")


def test_a_viewer_may_look_but_not_run(make: Make, vera: Any, tenant: Tenant) -> None:
    make()
    veras_hand = principals.of_user(vera, tenant)

    assert [row.code for row in schedules.of_tenant(veras_hand)] == ["nightly"]
    with refused(Forbidden, "missing_scope"):
        backfills.run(veras_hand, "nightly")


def test_a_stranger_does_not_find_it(make: Make, charlie_principal: Principal) -> None:
    make()

    assert not schedules.of_tenant(charlie_principal)
    for act in (schedules.find, schedules.delete, backfills.run, pausing.pause_schedule, pausing.resume_schedule):
        with pytest.raises(NotFound, match="no schedule nightly in tenant umbrella"):
            act(charlie_principal, "nightly")


# ---- Change ---------------------------------------------------------------------------------------------------


def test_a_change_keeps_the_other_fields_and_makes_its_author_the_owner(make: Make, operator: Principal) -> None:
    row = make(parameters={"cohort": "2026", "token": "s3cret"}, priority=4)

    changed = schedules.change(operator, "nightly", {"hour": "3"})

    assert (str(changed.cron), changed.priority, changed.owner) == ("30 3 * * 1-5", 4, "local:root")
    assert changed.parameters == row.parameters
    [entry] = AuditEntry.objects.filter(action="schedule changed")
    assert entry.before is not None
    assert entry.after is not None
    assert (entry.before["hour"], entry.after["hour"], entry.before["owner"]) == ("2", "3", "alice")
    assert "s3cret" not in str(entry.before) + str(entry.after)


def test_changing_only_what_is_submitted_keeps_the_next_time(make: Make, alice_principal: Principal) -> None:
    row = make(interval_minutes=60)
    past = timezone.now() - timedelta(minutes=5)
    Schedule.objects.filter(pk=row.pk).update(next_at=past, due_at=past)

    schedules.change(alice_principal, "nightly", {"priority": 3})

    row.refresh_from_db()
    assert row.next_at == past


def test_changing_its_times_never_fires_at_once_and_records_what_was_skipped(
    make: Make, alice_principal: Principal
) -> None:
    row = make(interval_minutes=60)
    past = timezone.now() - timedelta(minutes=5)
    Schedule.objects.filter(pk=row.pk).update(next_at=past, due_at=past)

    schedules.change(alice_principal, "nightly", {"interval_minutes": 30})

    row.refresh_from_db()
    assert row.next_at is not None
    assert row.next_at > timezone.now()
    assert firing.fire_due() == (0, 0)
    [skipped] = Firing.objects.all()
    assert (skipped.nominal_at, skipped.result, skipped.reason) == (past, "SKIPPED", editing.CHANGED)


def test_a_time_that_waits_for_its_jitter_outlives_a_pause_and_a_change(make: Make, alice_principal: Principal) -> None:
    made = (make(f"hourly-{number}", interval_minutes=60, jitter_minutes=59) for number in range(9))
    row = next(one for one in made if jitter_of(one) > timedelta(minutes=2))
    come = timezone.now().replace(second=0, microsecond=0)
    Schedule.objects.filter(pk=row.pk).update(
        anchor_at=come - timedelta(hours=1), next_at=come, due_at=come + jitter_of(row)
    )
    pausing.pause_schedule(alice_principal, row.code)
    pausing.resume_schedule(alice_principal, row.code)
    row.refresh_from_db()
    assert row.next_at == come

    changed = schedules.change(alice_principal, row.code, {"ends_at": come + timedelta(days=1)})

    assert (changed.next_at, Firing.objects.count()) == (come, 0)


def test_a_new_interval_counts_from_the_last_time(make: Make, alice_principal: Principal) -> None:
    row = make(interval_minutes=60)
    anchor = timezone.now().replace(microsecond=0) - timedelta(minutes=130)
    Schedule.objects.filter(pk=row.pk).update(anchor_at=anchor)

    changed = schedules.change(alice_principal, "nightly", {"interval_minutes": 25})

    # The last time was 120 minutes after the anchor, ten minutes ago.
    assert changed.next_at == anchor + timedelta(minutes=145)


def test_an_interval_with_a_start_fires_first_at_its_start(make: Make) -> None:
    start = timezone.now().replace(microsecond=0) + timedelta(days=2)

    row = make(interval_minutes=60, starts_at=start)

    assert [one.nominal_at for one in schedules.coming(row, count=2, after=timezone.now())] == [
        start,
        start + timedelta(hours=1),
    ]


def test_a_secret_is_not_carried_to_a_program_that_would_show_it(
    make: Make, alice_principal: Principal, define: Callable[..., Program]
) -> None:
    make(parameters={"token": "s3cret"})
    define("open")

    with refused(Invalid, "invalid_schedule") as refusal:
        schedules.change(alice_principal, "nightly", {"program": "open"})

    message = "is a secret of schedule nightly, but no longer one by the schema; give all parameters anew"
    assert wrong(refusal) == {"/parameters/token": message}


def test_a_parameter_that_has_become_a_secret_is_sealed_with_the_next_change(
    make: Make, alice_principal: Principal, define: Callable[..., Program]
) -> None:
    define(parameters={"type": "object", "properties": {"token": {"type": "string"}}})
    make(parameters={"token": "hunter22"})
    define(parameters=COHORT)

    changed = schedules.change(alice_principal, "nightly", {"description": "x"})

    assert changed.parameters["token"].keys() == {"$secret"}
    [entry] = AuditEntry.objects.filter(action="schedule changed")
    assert entry.after is not None
    assert entry.after["parameters"] == {"token": "••••"}


def test_the_secrets_of_a_schedule_are_rotated(make: Make, settings: Any) -> None:
    row = make(parameters={"token": "s3cret"})
    make("without")
    first = settings.JOBSITE_SECRET_KEYS
    settings.JOBSITE_SECRET_KEYS = ("k" * 40, *first)

    assert rotation.rotate_schedules(login="root") == (1, [])
    assert rotation.rotate_schedules(login="root") == (0, [])

    settings.JOBSITE_SECRET_KEYS = ("k" * 40,)
    row.refresh_from_db()
    assert secrets.opened(row.parameters)[0] == {"token": "s3cret"}
    settings.JOBSITE_SECRET_KEYS = ("x" * 40,)
    assert rotation.rotate_schedules(login="root") == (0, ["acme/nightly"])


# ---- Look -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("minutes", "said"),
    [(1, "Every minute"), (90, "Every 90 minutes"), (120, "Every 2 hours"), (60, "Every hour"), (1440, "Every day")],
)
def test_an_interval_is_shown_in_words(make: Make, minutes: int, said: str) -> None:
    assert words(make(interval_minutes=minutes)) == said


def test_coming_times_say_when_they_fire(make: Make) -> None:
    row = make(minute="0", hour="*", day_of_week="*", jitter_minutes=59)

    [first, second] = schedules.coming(row, count=2, after=datetime(2026, 11, 28, 10, 30, tzinfo=UTC))

    assert first.nominal_at == datetime(2026, 11, 28, 11, tzinfo=UTC)
    assert second.nominal_at - first.nominal_at == timedelta(hours=1)
    assert first.fires_at - first.nominal_at == second.fires_at - second.nominal_at < timedelta(hours=1)


# ---- Backfill -------------------------------------------------------------------------------------------------


TEN = datetime(2026, 11, 2, 10, tzinfo=UTC)


def hour(number: int) -> datetime:
    return TEN + timedelta(hours=number)


@pytest.fixture
def hourly(make: Make) -> Schedule:
    return make(minute="0", hour="*", day_of_week="*")


def test_a_backfill_makes_a_job_for_each_time_that_has_none(hourly: Schedule, alice_principal: Principal) -> None:
    tenant = hourly.tenant
    Firing.objects.create(tenant=tenant, schedule=hourly, nominal_at=hour(0), result="FIRED", job_number=999)
    Firing.objects.create(tenant=tenant, schedule=hourly, nominal_at=hour(1), result="MISSED")

    found = backfills.backfill(alice_principal, "nightly", begin=hour(0), end=hour(3))
    assert (found.times, found.done) == ([hour(1), hour(2), hour(3)], 1)
    assert not Job.objects.exists()
    made = backfills.begin_backfill(alice_principal, "nightly", begin=hour(0), end=hour(3), reason="after the outage")

    jobs = Job.objects.order_by("number")
    assert [one.number for one in made] == [job.number for job in jobs]
    assert [(job.scheduled_at, job.trigger) for job in jobs] == [(hour(n), "MANUAL") for n in (1, 2, 3)]
    assert {job.context.content["submitted_by"] for job in jobs} == {"alice"}
    rows = Firing.objects.order_by("nominal_at").values_list("nominal_at", "result", "is_backfill")
    assert list(rows) == [(hour(0), "FIRED", False)] + [(hour(n), "FIRED", True) for n in (1, 2, 3)]
    again = backfills.backfill(alice_principal, "nightly", begin=hour(0), end=hour(3))
    assert (again.times, again.done) == ([], 4)
    assert audit()[-1] == ("alice", "admin", "backfill schedule")


def test_missed_times_before_and_after_a_backfill_stay_missed(hourly: Schedule, alice_principal: Principal) -> None:
    Firing.objects.create(tenant=hourly.tenant, schedule=hourly, nominal_at=hour(0), result="MISSED", through=hour(100))

    backfills.begin_backfill(alice_principal, "nightly", begin=hour(10), end=hour(11))

    rows = Firing.objects.order_by("nominal_at").values_list("nominal_at", "result", "through")
    assert list(rows) == [
        (hour(0), "MISSED", hour(10)),
        (hour(10), "FIRED", None),
        (hour(11), "FIRED", None),
        (hour(12), "MISSED", hour(100)),
    ]


def test_a_time_that_the_program_refuses_in_a_backfill_is_skipped_with_the_reason(
    hourly: Schedule, alice_principal: Principal, define: Callable[..., Program]
) -> None:
    define(parameters=COHORT, overlap="REJECT")

    made = backfills.begin_backfill(alice_principal, "nightly", begin=hour(0), end=hour(1))

    [job] = Job.objects.all()
    assert [(one.number, one.reason) for one in made] == [
        (job.number, ""),
        (None, f"duplicate of job {job.number}, which is PENDING"),
    ]


@pytest.mark.parametrize(
    ("begin", "end", "code"),
    [
        (hour(1), hour(0), "invalid_time"),
        (hour(0), datetime(2100, 1, 1, tzinfo=UTC), "invalid_time"),
        (hour(-1_001), hour(0), "too_many_jobs"),
        (datetime(1, 1, 1, tzinfo=UTC), hour(0), "invalid_time"),
    ],
)
def test_a_range_that_makes_no_sense_is_refused(
    hourly: Schedule, alice_principal: Principal, begin: datetime, end: datetime, code: str
) -> None:
    with refused(Invalid, code):
        backfills.backfill(alice_principal, "nightly", begin=begin, end=end)


@pytest.mark.django_db(transaction=True)
def test_a_backfill_counts_whole_for_the_quota(hourly: Schedule, alice_principal: Principal) -> None:
    Tenant.objects.update(pending_quota=2)
    hand = replace(alice_principal, tenant=Tenant.objects.get(code="acme"))

    with refused(Invalid, "quota_too_small"):
        backfills.begin_backfill(hand, "nightly", begin=hour(0), end=hour(5))

    assert not Job.objects.exists()


def test_nothing_is_run_of_a_program_that_was_deleted(hourly: Schedule, alice_principal: Principal) -> None:
    Program.objects.update(deleted_at=timezone.now())
    known = {"tenant": hourly.tenant, "queue": hourly.program.queue, "parameters_schema": COHORT, "timeout_seconds": 5}
    Program.objects.create(code="sample", **known)

    with refused(Conflict, "program_deleted"):
        backfills.run(alice_principal, "nightly")
    with refused(Conflict, "program_deleted"):
        backfills.begin_backfill(alice_principal, "nightly", begin=hour(0), end=hour(1))


def test_the_history_is_the_newest_first_with_the_jobs(hourly: Schedule, alice_principal: Principal) -> None:
    backfills.begin_backfill(alice_principal, "nightly", begin=hour(0), end=hour(1))

    found = schedules.history(hourly, limit=1)

    [(last, job)] = found
    assert last.nominal_at == hour(1)
    assert job is not None
    assert job.number == last.job_number
