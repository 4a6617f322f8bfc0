"""What the database refuses in schedules and their nominal times."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from jobsite.programs.models import Firing, Program, Schedule
from jobsite.programs.rules.recurrence import Missed
from jobsite.tenants.models import Tenant
from tests.programs.conftest import refused_by

NOW = timezone.now()
CRON = {"minute": "0", "hour": "*", "day_of_month": "*", "month": "*", "day_of_week": "*"}
Make = Callable[..., Schedule]


@pytest.fixture
def make(define: Callable[..., Program], tenant: Tenant) -> Make:
    def new(code: str = "tick", **fields: Any) -> Schedule:
        program = fields.pop("program", None) or define()
        known = {"interval_minutes": 5, "time_zone": "UTC", "anchor_at": NOW, "kind": "LOCAL", "owner": "local:root"}
        return Schedule.objects.create(**{"tenant": tenant, "program": program, "code": code, **known, **fields})

    return new


def test_a_code_is_unique_in_a_tenant_among_the_schedules_not_deleted(make: Make) -> None:
    make(deleted_at=NOW)
    make()

    with refused_by("schedule_code_once_per_tenant"):
        make()


def test_a_schedule_belongs_to_the_tenant_of_its_program(make: Make, other_tenant: Tenant) -> None:
    with refused_by("schedule_program_of_same_tenant"):
        make(tenant=other_tenant)


@pytest.mark.parametrize(
    "fields",
    [
        {"interval_minutes": None},
        {"interval_minutes": None, **CRON, "hour": ""},
        {**CRON},
        {"interval_minutes": 0},
        {"interval_minutes": 10_081},
    ],
)
def test_a_schedule_has_a_whole_cron_line_or_an_interval(make: Make, fields: dict[str, Any]) -> None:
    make("good", **(CRON | {"interval_minutes": None}))

    with refused_by("schedule_by_cron_or_interval"):
        make(**fields)


@pytest.mark.parametrize(
    ("rule", "fields"),
    [
        ("schedule_jitter_within_an_hour", {"jitter_minutes": 60}),
        ("schedule_priority_in_range", {"priority": -101}),
        ("schedule_priority_in_range", {"priority": 101}),
        ("schedule_policies_known", {"overlap": "X"}),
        ("schedule_policies_known", {"missed": "X"}),
        ("schedule_policies_known", {"missed_cap": 0}),
        ("schedule_policies_known", {"missed_cap": 101}),
        ("schedule_due_after_its_nominal_time", {"next_at": NOW}),
        ("schedule_due_after_its_nominal_time", {"next_at": NOW, "due_at": NOW - timedelta(minutes=1)}),
        ("schedule_due_after_its_nominal_time", {"next_at": NOW, "due_at": NOW, "deleted_at": NOW}),
    ],
)
def test_values_out_of_their_range_are_refused(make: Make, rule: str, fields: dict[str, Any]) -> None:
    with refused_by(rule):
        make(**fields)


@pytest.mark.parametrize("missed", list(Missed))
def test_every_policy_is_known_to_the_database(make: Make, missed: Missed) -> None:
    assert make(missed=missed, next_at=NOW, due_at=NOW).pk


def test_a_nominal_time_has_one_row_and_a_job_has_one(make: Make) -> None:
    row = make()
    known = {"tenant": row.tenant, "schedule": row}
    Firing.objects.create(**known, nominal_at=NOW, result="FIRED", job_number=7)

    with refused_by("firing_once_per_nominal_time"):
        Firing.objects.create(**known, nominal_at=NOW, result="MISSED")
    with refused_by("firing_one_for_a_job"):
        Firing.objects.create(**known, nominal_at=NOW + timedelta(1), result="FIRED", job_number=7)


@pytest.mark.parametrize("fields", [{"result": "FIRED"}, {"result": "SKIPPED", "job_number": 7}, {"result": "X"}])
def test_only_a_firing_that_fired_has_a_job(make: Make, fields: dict[str, Any]) -> None:
    row = make()

    with refused_by("firing_fired_has_a_job"):
        Firing.objects.create(tenant=row.tenant, schedule=row, nominal_at=NOW, **fields)


@pytest.mark.parametrize(
    "fields", [{"result": "SKIPPED", "through": NOW + timedelta(1)}, {"result": "MISSED", "through": NOW}]
)
def test_only_missed_times_form_a_stretch_and_it_ends_after_its_start(make: Make, fields: dict[str, Any]) -> None:
    row = make()

    with refused_by("firing_only_missed_times_are_a_stretch"):
        Firing.objects.create(tenant=row.tenant, schedule=row, nominal_at=NOW, **fields)


def test_a_firing_belongs_to_the_tenant_of_its_schedule(make: Make, other_tenant: Tenant) -> None:
    row = make()

    with refused_by("firing_schedule_of_same_tenant"):
        Firing.objects.create(tenant=other_tenant, schedule=row, nominal_at=NOW, result="MISSED")
