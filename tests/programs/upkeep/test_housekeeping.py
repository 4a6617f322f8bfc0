"""The system programs do their work: they delete what is old, keep what is needed, and no tenant sees them."""

import json
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone

from jobsite.env import ConfigurationError, load
from jobsite.errors import Invalid
from jobsite.notifications.models import Group, Rule, Template
from jobsite.programs import definitions, schedules, submission
from jobsite.programs.definitions import registration
from jobsite.programs.models import Firing, Job, JobAttempt, JobLogEntry, Program, Schedule
from jobsite.programs.operations import pausing
from jobsite.programs.transitions.prune import prune
from jobsite.programs.upkeep import housekeeping, system_programs
from jobsite.tenants import principals
from jobsite.tenants.models import SYSTEM, Tenant
from jobsite.tenants.principals import Principal
from tests.programs.conftest import FAILURE, Jobs

OLD = "finished_at = clock_timestamp() - interval '91 days', created_at = clock_timestamp() - interval '91 days'"


LINE = """
INSERT INTO jobsite_joblogentry (at, tenant_id, job_number, sequence, attempt, stream, severity, message)
VALUES (now(), %s, %s, 1, 1, 'log', 'INFO', 'hello')
"""


class Quiet:
    """A context that keeps only its warnings."""

    log = logging.getLogger("quiet")

    def __init__(self) -> None:
        self.warned: list[str] = []

    def progress(self, *_: Any) -> None:
        """Nothing."""

    def warn(self, text: str) -> None:
        self.warned.append(text)


@pytest.fixture
def context() -> Any:
    return Quiet()


@pytest.fixture
def hand(db: None) -> Principal:
    system_programs.register()
    return principals.system(Tenant.objects.get(code=SYSTEM))


def aged(jobs: Jobs, *numbers: int, assignments: str = OLD) -> None:
    """Make these jobs end three months ago, with the triggers that guard terminal rows disabled."""
    jobs.cursor.execute("SET CONSTRAINTS ALL IMMEDIATE; ALTER TABLE jobsite_job DISABLE TRIGGER USER")
    jobs.cursor.execute(f"UPDATE jobsite_job SET {assignments} WHERE number = ANY(%s)", [list(numbers)])
    jobs.cursor.execute("ALTER TABLE jobsite_job ENABLE TRIGGER USER")


# ---- Registration ---------------------------------------------------------------------------------------------


def test_they_belong_to_the_system_tenant_with_their_schedules(hand: Principal) -> None:
    rows = Schedule.objects.filter(tenant=hand.tenant).order_by("code")

    assert {row.code: str(row.cron) for row in rows} == {
        "database_pruning": "30 * * * *",
        "partition_creation": "0 4 * * *",
        "retention": "0 * * * *",
        "soft_delete_cleanup": "0 3 * * *",
    }
    assert {row.scope for row in Program.objects.filter(tenant=hand.tenant)} == {"SYSTEM"}
    assert {row.time_zone for row in rows} == {"UTC"}


def test_registering_them_again_keeps_the_operators_pause(hand: Principal) -> None:
    pausing.pause_schedule(hand, "retention", reason="audit")
    versions = dict(Program.objects.values_list("code", "version"))

    system_programs.register()

    assert Schedule.objects.get(code="retention").paused_reason == "audit"
    assert dict(Program.objects.values_list("code", "version")) == versions


def test_where_something_else_is_migrated_first_they_are_left_for_later(db: None) -> None:
    [last] = MigrationLoader(connection).graph.leaf_nodes("jobsite_programs")
    MigrationRecorder(connection).record_unapplied(*last)

    system_programs.register_after_migrate(apps.get_app_config("jobsite_programs"))

    assert not Program.objects.exists()


def test_a_tenant_cannot_see_or_define_them(hand: Principal, operator: Principal, alice_principal: Principal) -> None:
    assert not schedules.of_tenant(alice_principal)
    known = {"code": "mine", "scope": "SYSTEM", "action": [{"kind": "python", "target": "jobsite.samples:noop"}]}
    definition = definitions.from_mapping(known, where="test", queues=settings.JOBSITE_QUEUES)

    with pytest.raises(Invalid, match="scope SYSTEM is for the programs that come with jobsite"):
        registration.load(operator, [definition])


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("code", [one.code for one in system_programs.PROGRAMS])
def test_each_runs_to_its_end(hand: Principal, run_job: Callable[[int], Job], code: str) -> None:
    number = submission.submit_as(hand, code, {}).number

    job = run_job(number)

    assert (job.status, job.outcome, job.error) == ("COMPLETED", "NORMAL", None)


# ---- Retention ------------------------------------------------------------------------------------------------


def test_jobs_older_than_the_retention_are_deleted_with_all_their_rows(jobs: Jobs, context: Any) -> None:
    old, failed, recent, waiting = jobs.ended(), jobs.ended(FAILURE), jobs.ended(), jobs.pending()
    for number in (old, recent):
        jobs.cursor.execute(LINE, [jobs.program.tenant_id, number])
    aged(jobs, old, failed)

    assert housekeeping.retention(context)["jobs"] == 2

    assert sorted(jobs.statuses()) == [recent, waiting]
    assert set(JobAttempt.objects.values_list("job_id", flat=True)) == {recent}
    assert set(JobLogEntry.objects.values_list("job_number", flat=True)) == {recent}


def test_each_tenant_has_its_own_retention(jobs: Jobs, context: Any, tenant: Tenant) -> None:
    number = jobs.ended()
    aged(jobs, number)
    Tenant.objects.filter(pk=tenant.pk).update(retention_days=92)

    assert housekeeping.retention(context)["jobs"] == 0
    Tenant.objects.filter(pk=tenant.pk).update(retention_days=90)
    assert housekeeping.retention(context)["jobs"] == 1


def test_a_child_is_deleted_before_its_parent_and_only_if_both_are_old(jobs: Jobs, context: Any) -> None:
    parent, child, grandchild = jobs.ended(), jobs.ended(), jobs.ended()
    link = "parent_id = {}, child_key = 'c', parent_fence = 1, trigger = 'CHILD'"
    aged(jobs, child, assignments=link.format(parent))
    aged(jobs, grandchild, assignments=link.format(child))
    aged(jobs, parent, child)

    assert housekeeping.retention(context)["jobs"] == 0
    aged(jobs, grandchild)
    aged(jobs, parent, assignments="finished_at = clock_timestamp()")
    assert housekeeping.retention(context)["jobs"] == 1  # the grandchild: its parent is old too
    aged(jobs, parent)
    assert housekeeping.retention(context)["jobs"] == 2

    assert not Job.objects.exists()


def test_a_retry_loses_its_reference_to_a_deleted_job(jobs: Jobs, context: Any) -> None:
    old = jobs.ended(FAILURE)
    retry = jobs.pending(retry_of=old)
    aged(jobs, old)

    assert housekeeping.retention(context)["jobs"] == 1

    assert jobs.row(retry).retry_of_id is None


def test_a_batch_goes_on_after_the_last_one_and_ends_at_jobs_that_are_not_old(jobs: Jobs, tenant: Tenant) -> None:
    old = [jobs.ended() for _ in range(5)]
    aged(jobs, *old)
    jobs.ended()
    jobs.ended()

    first = prune(jobs.cursor, tenant_id=tenant.pk, days=90, batch=3)
    second = prune(jobs.cursor, tenant_id=tenant.pk, days=90, after=first.go_on_after or 0, batch=3)

    assert (first.jobs, first.go_on_after) == (3, old[2])
    assert (second.jobs, second.go_on_after) == (2, None)


def test_old_firings_are_deleted(jobs: Jobs, context: Any, operator: Principal) -> None:
    program = jobs.program
    row = Schedule.objects.create(
        tenant=program.tenant, program=program, code="tick", interval_minutes=5, anchor_at=timezone.now(),
        time_zone="UTC", kind="LOCAL", owner="x",
    )  # fmt: skip
    for days in (91, 89):
        Firing.objects.create(
            tenant=row.tenant, schedule=row, nominal_at=timezone.now() - timedelta(days=days), result="MISSED"
        )

    assert housekeeping.retention(context)["firings"] == 1

    assert Firing.objects.count() == 1


# ---- The others -----------------------------------------------------------------------------------------------


def test_rows_deleted_a_week_ago_are_removed_once_nothing_refers_to_them(jobs: Jobs, context: Any) -> None:
    program = jobs.program
    known = {
        "tenant": program.tenant, "program": program, "interval_minutes": 5, "anchor_at": timezone.now(),
        "time_zone": "UTC", "kind": "LOCAL", "owner": "x",
    }  # fmt: skip
    for code, days in (("old", 8), ("recent", 6)):
        Schedule.objects.create(code=code, deleted_at=timezone.now() - timedelta(days=days), **known)
    Program.objects.update(deleted_at=timezone.now() - timedelta(days=8))

    assert _gone(context) == {"schedules": 1}
    Schedule.objects.all().delete()
    assert _gone(context) == {"programs": 1}


def _gone(context: Any) -> dict[str, int]:
    return {what: count for what, count in housekeeping.soft_delete_cleanup(context).items() if count}


def test_deleted_rules_are_removed_before_their_group_and_template(tenant: Any, alice: Any, context: Any) -> None:
    long_ago = timezone.now() - timedelta(days=8)
    group = Group.objects.create(tenant=tenant, code="ops", deleted_at=long_ago)
    template = Template.objects.create(tenant=tenant, code="mine", event="FAILED", deleted_at=long_ago)
    rule = Rule.objects.create(tenant=tenant, group=group, event="FAILED", template=template, to_submitter=True)
    rule.to_users.add(alice)

    assert _gone(context) == {}
    Rule.objects.update(deleted_at=long_ago)
    assert _gone(context) == {"rules": 1, "groups": 1, "templates": 1}


@pytest.fixture
def old_partitions(db: None) -> list[str]:
    with connection.cursor() as cursor:
        for moment in ("2001-01-15", "2001-02-15"):
            cursor.execute("SELECT jobsite_create_log_partition(%s::timestamptz)", [moment])
    return ["jobsite_joblogentry_2001_01", "jobsite_joblogentry_2001_02"]


def partitions() -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT relname FROM pg_class WHERE relname LIKE 'jobsite_joblogentry_2%' AND relkind = 'r'")
        return {name for (name,) in cursor.fetchall()}


def test_the_oldest_log_partitions_are_dropped_while_the_database_is_too_large(
    context: Any, old_partitions: list[str], settings: Any
) -> None:
    before = partitions()
    settings.JOBSITE_MAX_DATABASE_BYTES = 1

    found = housekeeping.database_pruning(context)

    assert found["dropped"] == old_partitions
    assert partitions() == before - set(old_partitions)
    assert "no old log is left to drop" in context.warned[0]


@pytest.mark.parametrize("most", [None, 10**15])
def test_without_a_limit_or_below_it_nothing_is_dropped(
    context: Any, old_partitions: list[str], settings: Any, most: int | None
) -> None:
    settings.JOBSITE_MAX_DATABASE_BYTES = most

    assert housekeeping.database_pruning(context)["dropped"] == []

    assert set(old_partitions) <= partitions()


def test_the_partitions_of_the_coming_months_are_made(db: None, context: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 'jobsite_joblogentry_' || to_char(now() + interval '3 months', 'YYYY_MM')")
        [name] = cursor.fetchone()
        cursor.execute(f"DROP TABLE {name}")
    assert name not in partitions()

    housekeeping.partition_creation(context)

    assert name in partitions()


@pytest.mark.parametrize("text", ["5GB", "-1", "0", "1.5", "٣"])
def test_a_limit_that_is_not_a_number_of_bytes_is_refused(text: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r"JOBSITE_MAX_DATABASE_BYTES is .* but must be a whole number of bytes"
    ):
        load({"JOBSITE_MAX_DATABASE_BYTES": text})


def test_the_audit_names_the_registered_programs(hand: Principal) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT target, after FROM jobsite_auditentry WHERE action = 'program created' ORDER BY target")
        rows = cursor.fetchall()

    assert [target for target, _ in rows] == sorted(one.code for one in system_programs.PROGRAMS)
    assert json.loads(rows[0][1])["scope"] == "SYSTEM"
