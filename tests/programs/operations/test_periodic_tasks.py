"""django-celery-beat's PeriodicTasks become schedules and are disabled; a task that cannot become one says why."""

import json
from typing import Any

import pytest
from django.utils import timezone
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask

from jobsite.errors import Forbidden
from jobsite.programs.models import Program, Schedule
from jobsite.programs.operations import periodic_tasks
from jobsite.programs.operations.periodic_tasks import Imported
from jobsite.tenants.principals import Principal
from tests import sample_tasks
from tests.programs.conftest import refused

ADD = sample_tasks.add.name


def crontab(line: str, zone: str = "UTC") -> CrontabSchedule:
    minute, hour, day, month, weekday = line.split()
    return CrontabSchedule.objects.create(
        minute=minute, hour=hour, day_of_month=day, month_of_year=month, day_of_week=weekday, timezone=zone
    )


def every(count: int, period: str) -> IntervalSchedule:
    return IntervalSchedule.objects.create(every=count, period=period)


def task(name: str = "Add it up", **fields: Any) -> PeriodicTask:
    fields.setdefault("task", ADD)
    if not {"crontab", "interval", "clocked"} & fields.keys():
        fields["interval"] = every(15, "minutes")
    return PeriodicTask.objects.create(name=name, **fields)


def imported(principal: Principal, *, is_trial: bool = False) -> list[Imported]:
    return periodic_tasks.import_all(principal, queue="default", is_trial=is_trial)


def test_a_crontab_becomes_a_program_and_a_schedule_with_its_zone_and_arguments(operator: Principal) -> None:
    row = task(crontab=crontab("30 2 * * mon-fri", "Europe/Berlin"), args=json.dumps([3]), kwargs=json.dumps({"y": 4}))

    assert imported(operator) == [Imported("Add it up", "add-it-up", "At 02:30, Monday through Friday")]

    schedule = Schedule.objects.get()
    assert (str(schedule.cron), schedule.time_zone) == ("30 2 * * mon-fri", "Europe/Berlin")
    assert (schedule.parameters, schedule.program.code) == ({"x": 3, "y": 4}, ADD)
    assert schedule.program.actions.get().configuration == {"target": ADD}
    row.refresh_from_db()
    assert row.enabled is False


def test_an_interval_and_a_disabled_task(operator: Principal) -> None:
    task("hourly", interval=every(2, "hours"))
    task("off", enabled=False)

    [hourly, off] = imported(operator)

    assert (hourly.words, off.note) == ("Every 2 hours", "paused: it was disabled")
    assert dict(Schedule.objects.values_list("code", "interval_minutes")) == {"hourly": 120, "off": 15}
    assert Schedule.objects.get(code="off").paused_at is not None
    assert Program.objects.count() == 1


def test_a_trial_reports_the_same_and_changes_nothing(operator: Principal) -> None:
    row = task()

    found = imported(operator, is_trial=True)

    assert [one.code for one in found] == ["add-it-up"]
    assert not Schedule.objects.exists()
    assert not Program.objects.exists()
    row.refresh_from_db()
    assert row.enabled is True


@pytest.mark.parametrize(
    ("fields", "note"),
    [
        ({"interval": (30, "seconds")}, "every 30 seconds: a schedule counts in whole minutes"),
        ({"clocked": True}, "it runs once: submit a job with a time instead"),
        ({"task": "nobody.knows"}, "nobody.knows: there is no Celery task of this name"),
        ({"args": "[1, 2, 3]"}, "its task takes 2 arguments by position, but it is given 3"),
        ({"task": "nobody.knows", "args": "[1]"}, "the names of its arguments are unknown"),
        ({"args": "[1"}, "its arguments are not JSON"),
    ],
)
def test_a_task_that_cannot_be_imported_says_why_and_stays_as_it_is(
    operator: Principal, fields: dict[str, Any], note: str
) -> None:
    if "interval" in fields:
        fields = fields | {"interval": every(*fields["interval"])}
    if "clocked" in fields:
        fields = {"clocked": ClockedSchedule.objects.create(clocked_time=timezone.now()), "one_off": True}
    bad = task("bad", **fields)
    task("good")

    found = imported(operator)

    assert [(one.name, one.code) for one in found] == [("bad", None), ("good", "good")]
    assert note in found[0].note
    bad.refresh_from_db()
    assert bad.enabled is True
    assert Schedule.objects.count() == 1


def test_a_program_of_the_same_code_that_does_something_else_is_not_used(operator: Principal, define: Any) -> None:
    define(ADD)
    task()

    [found] = imported(operator)

    assert (found.code, found.note) == (None, f"there is a program {ADD} that does something other than {ADD}")
    assert PeriodicTask.objects.get().enabled


def test_a_day_rule_that_differs_from_celerys_is_noted(operator: Principal) -> None:
    task(crontab=crontab("0 0 13 * 5"))

    [found] = imported(operator)

    assert found.note == "day of month OR day of week, as in cron; Celery demanded both"


def test_a_second_import_finds_the_code_taken(operator: Principal) -> None:
    task()
    imported(operator)

    [found] = imported(operator)

    assert (found.code, found.note) == (None, "there is a schedule add-it-up already")


def test_only_an_admin_may_import(bob_principal: Principal) -> None:
    with refused(Forbidden, "missing_scope"):
        imported(bob_principal)
