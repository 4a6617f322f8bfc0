"""Schedules in the admin: what their pages show, who may do what, and that each field says what is wrong."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client

from jobsite.programs import schedules
from jobsite.programs.models import Firing, Job, Program, Schedule
from jobsite.programs.schedules import Wanted, backfills
from jobsite.tenants.models import AuditEntry, Tenant
from jobsite.tenants.principals import Principal
from tests.programs.admin.test_job_pages import logged_in, messages_of, queries_of

SCHEDULES = "/admin/jobsite_programs/schedule/"
SURE = {"confirm": "1"}
SCHEMA = {
    "type": "object",
    "properties": {"cohort": {"type": "string"}, "token": {"type": "string", "writeOnly": True}},
    "additionalProperties": False,
}
EMPTY = {
    **dict.fromkeys(("minute", "hour", "day_of_month", "month", "day_of_week", "interval_minutes", "time_zone"), ""),
    "jitter_minutes": "0",
    "parameters": "{}",
    "priority": "",
    "overlap": "ALLOW",
    "missed": "ONE",
    "missed_cap": "10",
    "description": "",
    **{f"{name}_{part}": "" for name in ("starts_at", "ends_at") for part in (0, 1)},
}


@pytest.fixture
def program(define: Callable[..., Program]) -> Program:
    return define(parameters=SCHEMA)


@pytest.fixture
def hourly(program: Program, alice_principal: Principal) -> Schedule:
    wanted = Wanted(program="sample", minute="0", hour="*", parameters={"cohort": "2026", "token": "s3cret"})
    return schedules.create(alice_principal, "hourly", wanted)


def page(row: Schedule) -> str:
    return f"{SCHEDULES}{row.pk}/change/"


def act(row: Schedule, name: str) -> str:
    return f"{SCHEDULES}{row.pk}/act/{name}/"


def form(program: Program, **fields: str) -> dict[str, str]:
    return EMPTY | {"tenant": str(program.tenant_id), "code": "nightly", "program": str(program.pk)} | fields


def errors(client: Client, address: str, data: dict[str, str]) -> dict[str, list[str]]:
    answer = client.post(address, data)
    assert answer.status_code == 200
    found: dict[str, list[str]] = answer.context["adminform"].form.errors
    return {name: list(said) for name, said in found.items()}


# ---- Look -----------------------------------------------------------------------------------------------------


def test_an_empty_list_says_what_to_do(alice: User, tenant: Tenant) -> None:
    assert "jobsite schedules import-periodic-tasks" in logged_in(alice).get(SCHEDULES).content.decode()


def test_the_list_shows_when_and_what_became_of_the_last_times(bob: User, hourly: Schedule) -> None:
    known = {"tenant": hourly.tenant, "schedule": hourly}
    Firing.objects.create(**known, nominal_at=datetime(2026, 11, 1, 9, tzinfo=UTC), result="MISSED")
    Firing.objects.create(**known, nominal_at=datetime(2026, 11, 1, 10, tzinfo=UTC), result="SKIPPED", reason="x")

    shown = logged_in(bob).get(SCHEDULES).content.decode()

    assert "Every hour (UTC)" in shown
    assert shown.index("jobsite-dot jobsite-missed") < shown.index("jobsite-dot jobsite-skipped")


def test_a_longer_list_costs_no_more_queries(bob: User, hourly: Schedule, alice_principal: Principal) -> None:
    client = logged_in(bob)
    before = len(queries_of(client, SCHEDULES))
    for number in range(5):
        schedules.create(alice_principal, f"more-{number}", Wanted(program="sample", interval_minutes=5))

    assert len(queries_of(client, SCHEDULES)) == before


def test_a_page_shows_the_next_times_and_the_last_with_their_jobs(
    bob: User, hourly: Schedule, alice_principal: Principal
) -> None:
    ten = datetime(2026, 11, 2, 10, tzinfo=UTC)
    backfills.begin_backfill(alice_principal, "hourly", begin=ten, end=ten)
    [job] = Job.objects.all()
    Firing.objects.create(
        tenant=hourly.tenant,
        schedule=hourly,
        nominal_at=ten - timedelta(days=9),
        result="MISSED",
        through=ten - timedelta(days=2),
    )

    shown = logged_in(bob).get(page(hourly)).content.decode()

    assert f'<a href="/admin/jobsite_programs/job/{job.number}/change/">#{job.number}</a>' in shown
    assert "backfill" in shown
    of_the_job = logged_in(bob).get(f"/admin/jobsite_programs/job/{job.number}/change/").content.decode()
    assert f'<a href="{page(hourly)}">hourly</a>' in of_the_job
    assert "and all others before 2026-10-31 10:00" in shown
    assert "Nominal time in UTC" in shown
    assert "s3cret" not in shown
    assert "$secret" not in shown
    assert "••••" in shown


def test_a_stranger_finds_nothing(charlie: User, hourly: Schedule) -> None:
    client = logged_in(charlie)

    assert "hourly" not in client.get(SCHEDULES).content.decode()
    for address in (page(hourly), act(hourly, "pause"), f"{SCHEDULES}{hourly.pk}/backfill/"):
        assert client.get(address).status_code == 404


# ---- Add and change -------------------------------------------------------------------------------------------


def test_a_schedule_is_added_as_whoever_adds_it_and_does_not_fire_at_once(alice: User, program: Program) -> None:
    client = logged_in(alice)

    answer = client.post(f"{SCHEDULES}add/", form(program, minute="30", hour="2", parameters='{"cohort": "2026"}'))

    assert answer.status_code == 302, answer.context["adminform"].form.errors
    row = Schedule.objects.get()
    assert (str(row.cron), row.owner, row.time_zone, row.parameters) == (
        "30 2 * * *",
        "alice",
        "UTC",
        {"cohort": "2026"},
    )
    assert row.next_at is not None
    [entry] = AuditEntry.objects.filter(target_type="schedule")
    assert (entry.actor, entry.door, entry.action) == ("alice", "admin", "schedule created")


def test_each_wrong_field_says_what_is_wrong(alice: User, program: Program) -> None:
    wrong = form(program, minute="99", hour="x", time_zone="Mars", parameters='{"cohort": 3}', missed_cap="0")

    assert errors(logged_in(alice), f"{SCHEDULES}add/", wrong) == {
        "minute": ["Expected 0 to 59, got '99'."],
        "hour": ["Expected 0 to 23, got 'x'."],
        "time_zone": ["'Mars' is no IANA time zone such as Europe/Berlin."],
        "parameters": ["/cohort expected string, got integer 3."],
        "missed_cap": ["Expected 1 to 100, got 0."],
    }
    assert not Schedule.objects.exists()


@pytest.mark.parametrize("text", ["1" * 5_000, "[" * 200_000, "[1]", "nonsense"])
def test_parameters_that_are_not_an_object_are_refused(alice: User, program: Program, text: str) -> None:
    assert "parameters" in errors(logged_in(alice), f"{SCHEDULES}add/", form(program, minute="0", parameters=text))


def test_a_code_that_is_taken_is_a_message_and_nothing_is_changed(
    alice: User, program: Program, hourly: Schedule
) -> None:
    client = logged_in(alice)

    answer = client.post(f"{SCHEDULES}add/", form(program, code="hourly", minute="0"), follow=True)

    assert messages_of(answer) == ["There is a schedule hourly already."]
    assert Schedule.objects.count() == 1


def test_programs_of_other_tenants_are_not_offered_nor_taken(
    alice: User, program: Program, other_tenant: Tenant
) -> None:
    foreign = Program.objects.create(
        tenant=other_tenant, code="theirs", queue=program.queue, parameters_schema={}, timeout_seconds=5
    )
    client = logged_in(alice)

    assert "theirs" not in client.get(f"{SCHEDULES}add/").content.decode()
    assert "program" in errors(client, f"{SCHEDULES}add/", form(program, minute="0") | {"program": str(foreign.pk)})


def test_an_operator_adds_and_changes_nothing(bob: User, program: Program, hourly: Schedule) -> None:
    client = logged_in(bob)

    assert client.get(f"{SCHEDULES}add/").status_code == 403
    client.post(page(hourly), form(program, minute="5", hour="*"))
    hourly.refresh_from_db()
    assert hourly.minute == "0"


def test_a_change_keeps_secrets_where_the_parameters_are_not_edited(
    alice: User, program: Program, hourly: Schedule
) -> None:
    client = logged_in(alice)
    masked = '{"token": "••••", "cohort": "2026"}'

    answer = client.post(page(hourly), form(program, minute="15", hour="*", parameters=masked, time_zone="UTC"))

    assert answer.status_code == 302, answer.context["adminform"].form.errors
    changed = Schedule.objects.get()
    assert (changed.minute, changed.parameters) == ("15", hourly.parameters)
    edited = form(program, minute="15", hour="*", parameters='{"token": "••••", "cohort": "2027"}')
    assert errors(client, page(hourly), edited) == {
        "parameters": ["Secrets are kept only if nothing is edited: give them again."]
    }


# ---- Acts -----------------------------------------------------------------------------------------------------


def test_the_acts_offered_depend_on_the_role(alice: User, bob: User, vera: User, hourly: Schedule) -> None:
    def offered(user: User) -> list[str]:
        return [one.name for one, _ in logged_in(user).get(page(hourly)).context["acts"]]

    assert offered(alice) == ["pause", "run", "delete"]
    assert offered(bob) == ["run"]
    assert offered(vera) == []


def test_a_pause_is_confirmed_shown_and_ended(alice: User, hourly: Schedule) -> None:
    client = logged_in(alice)

    asked = client.post(act(hourly, "pause")).content.decode()
    assert "Each of its times is skipped" in asked
    assert asked.count('<span class="jobsite-badge jobsite-active">ACTIVE</span>') == 1
    client.post(act(hourly, "pause"), SURE | {"reason": "holiday"})
    hourly.refresh_from_db()
    assert (hourly.paused_by, hourly.paused_reason) == ("alice", "holiday")
    assert "PAUSED" in client.get(SCHEDULES).content.decode()
    assert messages_of(client.post(act(hourly, "resume"), SURE, follow=True)) == ["Schedule hourly goes on."]


def test_an_operator_runs_it_now_as_themselves(bob: User, hourly: Schedule) -> None:
    answer = logged_in(bob).post(act(hourly, "run"), SURE, follow=True)

    assert messages_of(answer) == ["Schedule hourly has submitted a job now, which runs as you."]
    [job] = Job.objects.all()
    assert (job.trigger, job.context.content["submitted_by"]) == ("MANUAL", "bob")


def test_a_deleted_schedule_leaves_the_list_and_its_history_is_kept(alice: User, hourly: Schedule) -> None:
    client = logged_in(alice)

    answer = client.post(act(hourly, "delete"), SURE)

    assert answer.status_code == 302
    assert "hourly" not in client.get(answer.headers["Location"]).context["cl"].result_list
    assert Schedule.objects.get().deleted_at is not None


def test_a_backfill_is_counted_and_then_done(alice: User, bob: User, hourly: Schedule) -> None:
    address, client = f"{SCHEDULES}{hourly.pk}/backfill/", logged_in(alice)
    span = {"begin": "2026-11-02T10:00", "end": "2026-11-02T12:00", "reason": "after the outage"}

    assert "3 times to run" in client.post(address, span).content.decode()
    assert not Job.objects.exists()
    answer = client.post(address, span | SURE, follow=True)

    assert messages_of(answer) == ["3 jobs of hourly are submitted, 0 skipped."]
    assert Job.objects.count() == 3
    assert "3 more have a job already" in client.post(address, span).content.decode()
    assert logged_in(bob).get(address).status_code == 403
    wrong = client.post(address, span | {"end": "2026-11-01T12:00"}).content.decode()
    assert "The range ends before it begins." in wrong
