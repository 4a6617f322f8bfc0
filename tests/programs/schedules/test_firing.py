"""Schedules fire: each nominal time once, by its policies, as its owner; a skipped time has its reason."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.utils import timezone

from jobsite.database import prepared_cursor
from jobsite.programs import schedules
from jobsite.programs.models import Firing, Job, Program, Schedule
from jobsite.programs.operations import pausing
from jobsite.programs.rules.lifecycle import Overlap, Trigger
from jobsite.programs.rules.recurrence import jitter_of, recurrence_of
from jobsite.programs.schedules import Wanted, firing
from jobsite.programs.submission import preparation
from jobsite.programs.transitions.submit import insert
from jobsite.programs.upkeep import sweeps
from jobsite.tenants import principals
from jobsite.tenants.models import AuditEntry, Membership, Role, Tenant
from jobsite.tenants.principals import Principal
from tests.programs.conftest import Broker, Jobs, refused_by

MINUTELY = {"minute": "*"}
Make = Callable[..., Schedule]


@pytest.fixture
def make(define: Callable[..., Program], operator: Principal) -> Make:
    """A schedule of the program `sample`, by default each minute."""

    def new(
        code: str = "tick",
        *,
        by: Principal = operator,
        program: dict[str, Any] | None = None,
        of: str = "sample",
        **wanted: Any,
    ) -> Schedule:
        define(**(program or {}))
        if "interval_minutes" not in wanted:
            wanted = MINUTELY | wanted
        return schedules.create(by, code, Wanted(program=of, **wanted))

    return new


def move_back(row: Schedule, minutes: int) -> None:
    """Do as if no process had fired its times of the last minutes: the next time is as old as that."""
    first = recurrence_of(row).next_after(timezone.now() - timedelta(minutes=minutes + 1))
    assert first is not None
    Schedule.objects.filter(pk=row.pk).update(next_at=first, due_at=first + jitter_of(row))


def fire() -> int:
    return firing.fire_due()[1]


def results(row: Schedule) -> list[str]:
    return list(Firing.objects.filter(schedule=row).order_by("nominal_at").values_list("result", flat=True))


def reasons(row: Schedule) -> list[str]:
    return list(Firing.objects.filter(schedule=row).order_by("nominal_at").values_list("reason", flat=True))


def events(code: str = "tick") -> list[tuple[str, str]]:
    return list(AuditEntry.objects.filter(target=code, actor="system").order_by("id").values_list("action", "reason"))


def test_a_new_schedule_does_not_fire_at_once(make: Make) -> None:
    row = make()

    assert row.next_at is not None
    assert row.next_at > timezone.now()
    assert fire() == 0


def test_a_time_that_has_come_makes_one_job_scheduled_at_its_nominal_time(make: Make) -> None:
    row = make(parameters={"cohort": "2026"}, priority=7)
    move_back(row, 0)

    assert fire() == 1
    assert fire() == 0

    [job] = Job.objects.all()
    [fired] = Firing.objects.all()
    assert (fired.result, fired.job_number, fired.was_missed) == ("FIRED", job.number, False)
    assert (job.scheduled_at, job.trigger, job.priority) == (fired.nominal_at, Trigger.AUTOMATIC, 7)
    assert (job.parameters, job.context.content["submitted_by"]) == ({"cohort": "2026"}, "local:root")
    row.refresh_from_db()
    assert (row.next_at, row.last_job) == (fired.nominal_at + timedelta(minutes=1), job.number)


@pytest.mark.django_db(transaction=True)
def test_what_was_fired_is_dispatched_after_the_commit(make: Make, broker: Broker) -> None:
    move_back(make(), 0)

    with sweeps._own_connection.get().cursor() as cursor:
        assert firing.sweep(cursor) == 1

    [job] = Job.objects.all()
    assert (job.status, broker.numbers()) == ("QUEUED", [job.number])


@pytest.mark.django_db(transaction=True)
def test_many_that_fire_at_once_give_each_schedule_one_job_for_each_time(make: Make, race: Any) -> None:
    rows = [make(f"tick-{number}") for number in range(20)]
    for row in rows:
        move_back(row, 0)

    def turn(_: Any) -> int:
        try:
            return firing.fire_due()[1]
        finally:
            connection.close()

    fired = race(*[turn] * 6)

    assert sum(fired) == 20
    assert sorted(Firing.objects.values_list("schedule", flat=True)) == sorted(row.pk for row in rows)
    assert Job.objects.count() == 20


@pytest.mark.django_db(transaction=True)
def test_a_schedule_that_another_process_fires_is_passed_over(make: Make) -> None:
    mine, other = make("mine"), make("other")
    move_back(mine, 0)
    move_back(other, 0)

    with sweeps._own_connection.get().cursor() as cursor, transaction.atomic():
        Schedule.objects.select_for_update().get(pk=mine.pk)
        cursor.execute("SET lock_timeout = '1s'")
        cursor.execute(firing.DUE, {"batch": 10, "only": None})
        found = [firing.Due(*row).code for row in cursor.fetchall()]

    assert found == ["other"]


def test_a_nominal_time_with_a_row_gets_no_second_job(make: Make) -> None:
    row = make()
    move_back(row, 0)
    fire()
    move_back(row, 0)

    assert fire() == 0

    assert Job.objects.count() == 1


def test_the_database_refuses_a_second_row_for_a_nominal_time_and_one_that_fired_without_a_job(make: Make) -> None:
    row = make()
    move_back(row, 0)
    fire()
    [fired] = Firing.objects.all()

    with refused_by("firing_once_per_nominal_time"):
        Firing.objects.create(tenant=row.tenant, schedule=row, nominal_at=fired.nominal_at, result="MISSED")
    with refused_by("firing_fired_has_a_job"):
        Firing.objects.create(tenant=row.tenant, schedule=row, nominal_at=timezone.now(), result="FIRED")


@pytest.mark.parametrize(
    ("missed", "expected"),
    [
        ("SKIP", ["MISSED", "MISSED", "MISSED", "FIRED"]),
        ("ONE", ["MISSED", "MISSED", "MISSED", "FIRED"]),
        ("ALL", ["MISSED", "FIRED", "FIRED", "FIRED"]),
    ],
)
def test_after_an_outage_there_is_a_row_for_each_time_by_the_policy(
    make: Make, missed: str, expected: list[str]
) -> None:
    row = make(missed=missed, missed_cap=3)
    move_back(row, 3)

    assert fire() == 4

    assert results(row) == expected
    assert Job.objects.count() == expected.count("FIRED")


def test_late_runs_are_marked_and_scheduled_at_their_own_times(make: Make) -> None:
    row = make(interval_minutes=5, missed="ALL")
    Schedule.objects.filter(pk=row.pk).update(anchor_at=timezone.now() - timedelta(minutes=17))
    row.refresh_from_db()
    move_back(row, 13)

    fire()

    fired = Firing.objects.order_by("nominal_at")
    assert [one.was_missed for one in fired] == [True] * 3
    assert [one.nominal_at - row.anchor_at for one in fired] == [timedelta(minutes=n) for n in (5, 10, 15)]
    assert list(Job.objects.order_by("number").values_list("scheduled_at", flat=True)) == [
        one.nominal_at for one in fired
    ]


# ---- Why a time is skipped ------------------------------------------------------------------------------------


def test_a_reject_key_that_is_taken_skips_the_time_and_names_the_job(make: Make) -> None:
    row = make(program={"overlap": "REJECT"}, missed="ALL")
    move_back(row, 1)

    fire()

    [job] = Job.objects.all()
    assert results(row) == ["FIRED", "SKIPPED"]
    assert reasons(row) == ["", f"duplicate of job {job.number}, which is PENDING"]
    assert row.problem == ""


def test_overlap_skip_lets_no_time_fire_while_the_last_job_is_open(make: Make) -> None:
    row = make(overlap="SKIP")
    move_back(row, 0)
    fire()
    [job] = Job.objects.all()
    Firing.objects.all().delete()
    move_back(row, 0)

    fire()

    assert reasons(row) == [f"job {job.number} is still PENDING"]


def test_overlap_skip_fires_one_of_the_missed_times(make: Make) -> None:
    row = make(overlap="SKIP", missed="ALL")
    move_back(row, 2)

    fire()

    assert results(row) == ["FIRED", "SKIPPED", "SKIPPED"]


def test_a_terminated_program_and_a_suspended_tenant_skip_the_time(make: Make, operator: Principal) -> None:
    row = make()
    pausing.terminate_program(operator, "sample")
    move_back(row, 0)

    fire()

    assert reasons(row) == ["program sample is terminated"]
    assert events() == []

    pausing.reactivate_program(operator, "sample")
    pausing.suspend_tenant(operator)
    Firing.objects.all().delete()
    move_back(row, 0)
    fire()

    assert reasons(row) == ["tenant acme is suspended"]
    assert Job.objects.count() == 0


def test_a_schedule_runs_as_its_owner_with_their_current_permissions(
    make: Make, alice: User, alice_principal: Principal, tenant: Tenant
) -> None:
    row = make(by=alice_principal)
    Membership.objects.filter(user=alice).update(role=Role.OPERATOR)
    move_back(row, 0)

    fire()

    [job] = Job.objects.all()
    assert job.context.content["submitted_by"] == "alice"
    assert job.context.content["scopes"] == ["jobs:read", "jobs:write"]


def test_when_the_owner_has_left_times_are_skipped_with_one_event_and_one_more_at_the_recovery(
    make: Make, alice: User, alice_principal: Principal, operator: Principal, tenant: Tenant
) -> None:
    row = make(by=alice_principal)
    Membership.objects.filter(user=alice).delete()
    left = "owner left: alice is no active member of tenant acme any more"
    for back in (2, 1):
        Schedule.objects.filter(pk=row.pk).update(missed="ALL")
        move_back(row, back)
        fire()
        Firing.objects.filter(result="SKIPPED", reason=left).update(reason="seen")

    row.refresh_from_db()
    assert set(reasons(row)) == {"seen"}
    assert row.problem == left
    assert events() == [("schedule skipped", left)]

    schedules.change(operator, "tick", {})
    Firing.objects.all().delete()
    move_back(row, 0)
    fire()

    row.refresh_from_db()
    assert row.problem == ""
    assert events()[1:] == [("schedule recovered", f"it fires again; before: {left}")]
    assert Job.objects.get().context.content["submitted_by"] == "local:root"


def test_when_the_owner_may_only_look_the_time_is_skipped(
    make: Make, alice: User, alice_principal: Principal, tenant: Tenant
) -> None:
    row = make(by=alice_principal)
    Membership.objects.filter(user=alice).update(role=Role.VIEWER)
    move_back(row, 0)

    fire()

    assert reasons(row) == ["alice lacks jobs:write in tenant acme"]


def test_when_the_program_no_longer_accepts_the_parameters_the_time_is_skipped(
    make: Make, define: Callable[..., Program]
) -> None:
    row = make(parameters={"cohort": "2026"})
    schema = {"type": "object", "properties": {"cohort": {"type": "integer"}}}
    define(parameters=schema)
    move_back(row, 0)

    fire()

    [reason] = reasons(row)
    assert reason == 'parameters of sample: /cohort expected integer, got string "2026"'
    assert events() == [("schedule skipped", reason)]


def test_defaults_come_from_the_program_as_it_is_now(make: Make, define: Callable[..., Program]) -> None:
    row = make()
    define(parameters={"type": "object", "properties": {"cohort": {"type": "string", "default": "2027"}}})
    move_back(row, 0)

    fire()

    assert Job.objects.get().parameters == {"cohort": "2027"}


@pytest.mark.django_db(transaction=True)
def test_a_time_over_a_quota_is_skipped(make: Make, tenant: Tenant) -> None:
    row = make(missed="ALL")
    Tenant.objects.filter(pk=tenant.pk).update(pending_quota=1)
    move_back(row, 1)

    fire()

    assert results(row) == ["FIRED", "SKIPPED"]
    assert reasons(row)[1] == "tenant acme has 1 of 1 pending jobs; submit again when some have run"


def test_each_job_runs_as_the_owner_of_its_schedule(
    make: Make, operator: Principal, alice_principal: Principal
) -> None:
    move_back(make("known"), 0)
    fire()
    # Alice has submitted nothing yet: her context is not stored.
    rows = [
        make("alices", by=alice_principal, parameters={"whose": "alice"}),
        make("roots", parameters={"whose": "root"}),
    ]
    for row in rows:
        move_back(row, 0)

    assert fire() == 2

    for row, owner in zip(rows, ("alice", "local:root"), strict=True):
        [fired] = Firing.objects.filter(schedule=row)
        job = Job.objects.get(number=fired.job_number)
        assert (job.parameters, job.context.content["submitted_by"]) == (row.parameters, owner)
    assert Job.objects.count() == 3


def test_a_program_that_another_process_has_edited_is_read_again_before_it_refuses(
    make: Make, define: Callable[..., Program], operator: Principal
) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False}
    row = make(program={"parameters": schema})
    stale = dict(preparation._programs)
    define(parameters=schema | {"properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}})
    schedules.change(operator, "tick", {"parameters": {"b": 2}})
    preparation._programs.update(stale)
    move_back(row, 0)

    fire()

    assert results(row) == ["FIRED"]


# ---- Pauses ---------------------------------------------------------------------------------------------------


def test_times_of_a_paused_schedule_are_skipped_with_the_reason(make: Make, operator: Principal) -> None:
    row = make()
    pausing.pause_schedule(operator, "tick", reason="holiday")
    Schedule.objects.filter(pk=row.pk).update(paused_at=timezone.now() - timedelta(hours=1))
    move_back(row, 1)

    fire()

    assert results(row) == ["SKIPPED", "SKIPPED"]
    assert reasons(row) == ["paused by local:root: holiday"] * 2


def test_resuming_does_not_fire_times_that_have_passed(make: Make, operator: Principal) -> None:
    row = make(missed="ALL")
    pausing.pause_schedule(operator, "tick", reason="holiday")
    move_back(row, 3)

    pausing.resume_schedule(operator, "tick")

    row.refresh_from_db()
    assert row.next_at is not None
    assert row.next_at > timezone.now()
    assert fire() == 0
    assert Job.objects.count() == 0
    assert reasons(row) == ["paused by local:root: holiday"]


def test_a_pause_with_an_end_ends_when_its_times_are_skipped(make: Make, operator: Principal) -> None:
    row = make(missed="ALL")
    now = timezone.now()
    pausing.pause_schedule(operator, "tick", until=now + timedelta(hours=1))
    Schedule.objects.filter(pk=row.pk).update(
        paused_at=now - timedelta(minutes=30), paused_until=now - timedelta(minutes=2)
    )
    move_back(row, 3)
    with connection.cursor() as cursor:
        pausing.end_pauses(cursor)
        row.refresh_from_db()
        assert row.paused_at is not None

        fire()
        pausing.end_pauses(cursor)

    row.refresh_from_db()
    assert row.paused_at is None
    assert results(row)[:2] == ["SKIPPED", "SKIPPED"]
    assert set(results(row)[2:]) == {"FIRED"}


# ---- Late, and what breaks -------------------------------------------------------------------------------------


def test_a_schedule_that_no_process_fires_is_late_once_and_recovers_when_it_fires(make: Make) -> None:
    row = make()
    move_back(row, 5)

    with connection.cursor() as cursor:
        assert firing.notice_late(cursor) == 1
        assert firing.notice_late(cursor) == 0
    row.refresh_from_db()
    assert row.late_at is not None
    fire()

    row.refresh_from_db()
    assert row.late_at is None
    assert [action for action, _ in events()] == ["schedule missed", "schedule recovered"]


def test_a_schedule_whose_times_are_changed_is_no_longer_late(make: Make, operator: Principal) -> None:
    row = make()
    move_back(row, 5)
    with connection.cursor() as cursor:
        firing.notice_late(cursor)

    assert schedules.change(operator, "tick", {"hour": "3"}).late_at is None


def test_a_schedule_that_is_on_time_or_paused_is_not_late(make: Make, operator: Principal) -> None:
    move_back(make("punctual"), 0)
    paused = make("paused")
    pausing.pause_schedule(operator, "paused")
    move_back(paused, 5)

    with connection.cursor() as cursor:
        assert firing.notice_late(cursor) == 0


@pytest.mark.django_db(transaction=True)
def test_a_schedule_that_fails_stops_no_other_and_is_tried_again_in_a_minute(make: Make) -> None:
    good, bad = make("good"), make("bad")
    move_back(good, 0)
    move_back(bad, 0)
    Schedule.objects.filter(pk=bad.pk).update(time_zone="Nowhere/Land")

    assert firing.fire_due() == (2, 1)

    assert results(good) == ["FIRED"]
    bad.refresh_from_db()
    assert "Nowhere/Land" in bad.problem
    assert bad.retry_at is not None
    with transaction.atomic(), prepared_cursor() as cursor:
        cursor.execute(firing.DUE, {"batch": 10, "only": None})
        assert cursor.fetchall() == []


@pytest.mark.django_db(transaction=True)
def test_a_key_that_somebody_holds_in_an_open_transaction_delays_no_other_schedule(
    make: Make, jobs: Jobs, other: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(firing, "LOCK_TIMEOUT", "200ms")
    free = make("free", program={"code": "free"}, of="free")
    taken = make("taken", program={"code": "taken", "overlap": "REJECT"}, of="taken")
    with other.transaction(), other.cursor() as cursor:
        program = Program.objects.get(code="taken")
        key = preparation.overlap_key(program, {})
        insert(cursor, [jobs.new(program, overlap_policy=Overlap.REJECT, overlap_key=key)])
        move_back(free, 0)
        move_back(taken, 0)

        assert firing.fire_due() == (2, 1)

    assert (results(free), results(taken)) == (["FIRED"], [])
    taken.refresh_from_db()
    assert "canceling statement due to lock timeout" in taken.problem
    assert events("taken") == [("schedule skipped", taken.problem)]


def test_a_program_that_is_edited_meanwhile_is_read_again(
    make: Make, define: Callable[..., Program], operator: Principal
) -> None:
    row = make()
    move_back(row, 0)
    known = preparation.known_program(operator, "sample")
    define(timeout="7s")
    assert preparation.known_program(operator, "sample") is known

    assert fire() == 1

    assert results(row) == ["FIRED"]


def test_a_jitter_delays_the_job_and_not_its_nominal_time(make: Make) -> None:
    rows = [make(f"tick-{number}", minute="0", jitter_minutes=59) for number in range(4)]
    moved = {row.pk: jitter_of(row) for row in rows}

    for row in rows:
        assert row.next_at is not None
        assert row.due_at == row.next_at + moved[row.pk]
        assert row.next_at.minute == 0
    assert len(set(moved.values())) > 1


def test_an_idle_look_reads_no_schedule_that_is_not_due(make: Make) -> None:
    row = make()
    with prepared_cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO jobsite_schedule (tenant_id, program_id, code, interval_minutes, anchor_at, time_zone, kind,
                                          owner, parameters, next_at, due_at)
            SELECT tenant_id, program_id, 'more-' || n, 60, anchor_at, 'UTC', kind, owner, '{}',
                   clock_timestamp() + interval '1 hour', clock_timestamp() + interval '1 hour'
            FROM jobsite_schedule, generate_series(1, 2000) n WHERE id = %s
            """,
            [row.pk],
        )
        # Also the first one, which fires each minute: the minute may turn here.
        cursor.execute("UPDATE jobsite_schedule SET due_at = clock_timestamp() + interval '1 hour'")
        cursor.execute("ANALYZE jobsite_schedule")
        cursor.execute(
            f"EXPLAIN (ANALYZE, FORMAT JSON) SELECT EXISTS (SELECT FROM jobsite_schedule s WHERE {firing.IS_DUE})"
        )
        [[plan]] = cursor.fetchall()

    [search] = plan[0]["Plan"]["Plans"]
    assert (search["Index Name"], search["Actual Rows"]) == ("schedule_due", 0)
    assert search["Rows Removed by Filter"] == 0
    assert "due_at" in search["Index Cond"]


def test_principals_that_are_made_again_are_the_same(
    operator: Principal, alice_principal: Principal, tenant: Tenant
) -> None:
    for one in (operator, alice_principal, principals.system(tenant)):
        assert principals.again(tenant, kind=one.kind, user_id=one.user_id, name=one.name) == one
