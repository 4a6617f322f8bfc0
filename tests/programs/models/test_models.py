"""What the database refuses, each rule by its name, whoever asks."""

from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from uuid import uuid4

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.db import connection

from jobsite.notifications.models import Group
from jobsite.programs.models import Action, Job, JobAttempt, JobLogEntry, JobStep, Lane, Program, Worker
from jobsite.programs.operations import bulk
from jobsite.programs.rules.lifecycle import MOVES, TERMINAL, Status
from jobsite.programs.rules.retries import RetryPolicy
from jobsite.programs.transitions import cancel
from jobsite.tenants import audit, principals
from jobsite.tenants.models import ApiKey, AuditEntry, Membership, Tenant
from tests.programs.conftest import FAILURE, SUCCESS, new_worker, queue_row, refused_by

pytestmark = pytest.mark.django_db

LOCK = (
    "lock_token = gen_random_uuid(), lock_owner = gen_random_uuid(),"
    " lock_expires_at = clock_timestamp() + interval '40 seconds', claimed_at = clock_timestamp()"
)
NO_LOCK = "lock_token = NULL, lock_owner = NULL, lock_expires_at = NULL"


def into(status: str) -> str:
    """The assignments with which a row in this status obeys all other rules."""
    return ", ".join(
        (
            f"status = '{status}'",
            LOCK if status == "RUNNING" else NO_LOCK,
            "finished_at = " + ("coalesce(finished_at, clock_timestamp())" if status in TERMINAL else "NULL"),
            "outcome = 'ERROR', failure_kind = 'PERMANENT'"
            if status == "FAILED"
            else "outcome = 'NORMAL', failure_kind = NULL",
        )
    )


# ---- moves ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("source", "target"), list(product(Status, Status)), ids=str)
def test_the_database_allows_the_moves_of_the_lifecycle_and_no_other(jobs, source, target):
    number = jobs.in_status(source)

    if source == target or (source, target) in MOVES:
        jobs.set(number, into(target))
    else:
        with refused_by("job_terminal_is_final" if source in TERMINAL else "job_moves_are_legal"):
            jobs.set(number, into(target))

    moved = (source, target) in MOVES
    assert jobs.status(number) == (target if moved else source)


@pytest.mark.parametrize(
    "change",
    [
        "result = '{\"scored\": 4}'",
        "result = NULL",
        "error = '{}'",
        "finished_at = finished_at + interval '1 second'",
        "attempts = attempts + 1, fence = fence + 1",
        "attempts = attempts - 1",
        "losses = losses + 1",
        "outcome = 'WARNING'",
        "outcome = 'ERROR', status = 'FAILED', failure_kind = 'PERMANENT'",
    ],
)
def test_the_result_of_a_completed_job_is_final(jobs, change):
    number = jobs.ended(SUCCESS)

    with refused_by("job_terminal_is_final"):
        jobs.set(number, change)


@pytest.mark.parametrize("change", ["failure_kind = 'TIMEOUT'", "error = NULL", "result = '1'"])
def test_the_result_of_a_failed_job_is_final(jobs, change):
    number = jobs.ended(FAILURE)

    with refused_by("job_terminal_is_final"):
        jobs.set(number, change)


@pytest.mark.parametrize(
    "change",
    [
        "needs_review = false, reviewed_at = clock_timestamp(), reviewed_by = 'alice'",
        'parameters = \'{"password": {"$secret": "newly encrypted"}}\'',
        "retry_of_id = NULL",
    ],
)
def test_review_rotated_secrets_and_links_that_retention_cuts_may_change(jobs, change):
    first = jobs.ended(FAILURE)
    number = jobs.ended(FAILURE, retry_of=first)

    jobs.set(number, change)

    assert jobs.status(number) == "FAILED"


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ("fence = fence - 1", "job_fence_never_falls"),
        ("scheduled_at = scheduled_at + interval '1 hour'", "job_scheduled_at_never_changes"),
        ("tenant_id = tenant_id + 1000", "job_tenant_never_changes"),
    ],
)
@pytest.mark.parametrize("status", ["RUNNING", "FAILED"])
def test_the_fence_the_scheduled_time_and_the_tenant_are_fixed(jobs, change, rule, status):
    number = jobs.in_status(status)

    with refused_by(rule):
        jobs.set(number, change)


@pytest.mark.parametrize("status", ["PENDING", "QUEUED", "RUNNING", "WAITING"])
def test_an_open_job_is_never_deleted(jobs, status):
    number = jobs.in_status(status)

    with refused_by("job_open_is_never_deleted"):
        jobs.cursor.execute("DELETE FROM jobsite_job WHERE number = %s", [number])

    assert jobs.status(number) == status


@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_an_ended_job_is_deleted_with_its_attempts(jobs, status):
    number = jobs.in_status(status)

    jobs.cursor.execute("DELETE FROM jobsite_job WHERE number = %s", [number])

    assert not Job.objects.filter(number=number).exists()
    assert not JobAttempt.objects.filter(job_id=number).exists()


# ---- columns of a job that belong together ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "change", "rule"),
    [
        ("RUNNING", "lock_token = NULL", "job_locked_only_while_running"),
        ("RUNNING", "lock_owner = NULL", "job_locked_only_while_running"),
        ("RUNNING", "lock_expires_at = NULL", "job_locked_only_while_running"),
        ("RUNNING", "claimed_at = NULL", "job_locked_only_while_running"),
        ("RUNNING", "status = 'PENDING'", "job_locked_only_while_running"),
        ("QUEUED", "status = 'RUNNING'", "job_locked_only_while_running"),
        ("PENDING", "lock_token = gen_random_uuid()", "job_locked_only_while_running"),
        ("QUEUED", "lock_owner = gen_random_uuid()", "job_locked_only_while_running"),
        ("WAITING", "lock_expires_at = clock_timestamp()", "job_locked_only_while_running"),
        ("COMPLETED", "lock_token = gen_random_uuid()", "job_locked_only_while_running"),
        ("PENDING", "finished_at = clock_timestamp()", "job_finished_at_only_when_terminal"),
        ("RUNNING", "finished_at = clock_timestamp()", "job_finished_at_only_when_terminal"),
        ("PENDING", "status = 'CANCELED'", "job_finished_at_only_when_terminal"),
        ("PENDING", "outcome = 'WARNING'", "job_outcome_follows_status"),
        ("RUNNING", "outcome = 'ERROR'", "job_outcome_follows_status"),
        ("QUEUED", "failure_kind = 'TIMEOUT'", "job_outcome_follows_status"),
        ("PENDING", "outcome = 'FINE'", "job_outcome_follows_status"),
        ("QUEUED", "blocked = 'PAUSED'", "job_blocked_only_while_pending"),
        ("RUNNING", "blocked = 'SCHEDULED'", "job_blocked_only_while_pending"),
        ("PENDING", "blocked = 'TIRED'", "job_blocked_only_while_pending"),
        ("PENDING", "blocked = 'HELD'", "job_held_with_a_moment"),
        ("PENDING", "hold_at = clock_timestamp()", "job_held_with_a_moment"),
        ("PENDING", "hold_at = clock_timestamp(), blocked = 'PAUSED'", "job_held_with_a_moment"),
        ("QUEUED", "hold_at = clock_timestamp()", "job_held_with_a_moment"),
        ("PENDING", "trigger = 'MAGIC'", "job_trigger_known"),
        (
            "PENDING",
            "priority = 101, rank = due_at - 101 * interval '60 seconds'",
            "job_priority_in_range",
        ),
        (
            "PENDING",
            "priority = -101, rank = due_at + 101 * interval '60 seconds'",
            "job_priority_in_range",
        ),
        ("PENDING", "priority = 1", "job_rank_is_due_at_less_priority"),
        ("PENDING", "due_at = due_at + interval '1 second'", "job_rank_is_due_at_less_priority"),
        ("PENDING", "rank = rank + interval '1 second'", "job_rank_is_due_at_less_priority"),
        ("PENDING", "overlap_policy = 'REJECT'", "job_overlap_key_with_its_policy"),
        ("PENDING", "overlap_policy = 'QUEUE'", "job_overlap_key_with_its_policy"),
        ("PENDING", "overlap_key = 'x'", "job_overlap_key_with_its_policy"),
        ("PENDING", "overlap_policy = 'MAYBE', overlap_key = 'x'", "job_overlap_key_with_its_policy"),
        ("PENDING", "child_key = 'x'", "job_child_has_a_key"),
        ("PENDING", "parent_id = number", "job_child_has_a_key"),
        ("PENDING", "parent_id = number, child_key = 'x', parent_fence = 1", "job_child_has_a_key"),
        ("PENDING", "parent_id = number, child_key = 'x', trigger = 'CHILD'", "job_child_has_a_key"),
        ("PENDING", "parent_fence = 1", "job_child_has_a_key"),
        ("PENDING", "parked_fence = 1", "job_parked_under_a_fence_of_its_own"),
        ("RUNNING", "parked_fence = 2", "job_parked_under_a_fence_of_its_own"),
        ("PENDING", "attempts = 1", "job_counters_add_up"),
        ("RUNNING", "losses = 1", "job_counters_add_up"),
        ("RUNNING", "attempts = 2", "job_counters_add_up"),
    ],
)
def test_columns_of_a_job_that_contradict_each_other_are_refused(jobs, status, change, rule):
    number = jobs.in_status(status)

    with refused_by(rule):
        jobs.set(number, change)


@pytest.mark.parametrize(
    "ending",
    [
        "outcome = 'NORMAL', failure_kind = 'PERMANENT'",
        "outcome = 'WARNING', failure_kind = 'PERMANENT'",
        "outcome = 'ERROR', failure_kind = 'BOREDOM'",
        "outcome = 'ERROR', failure_kind = NULL",
    ],
)
def test_a_failed_job_has_outcome_error_and_a_kind_of_failure(jobs, ending):
    number = jobs.running().number

    with refused_by("job_outcome_follows_status"):
        jobs.set(number, f"{NO_LOCK}, status = 'FAILED', finished_at = clock_timestamp(), {ending}")


@pytest.mark.parametrize(
    "ending", ["outcome = 'ERROR'", "outcome = 'NORMAL', failure_kind = 'TIMEOUT'", "outcome = 'FINE'"]
)
def test_a_completed_job_has_outcome_normal_or_warning_and_no_kind_of_failure(jobs, ending):
    number = jobs.running().number

    with refused_by("job_outcome_follows_status"):
        jobs.set(number, f"{NO_LOCK}, status = 'COMPLETED', finished_at = clock_timestamp(), {ending}")


def test_a_job_begins_in_a_known_status(jobs):
    with refused_by("job_status_known"):
        copy_of(jobs, jobs.pending(), status="DREAMING")


def copy_of(jobs, number: int, **columns: object) -> None:
    """Insert the row again under another number, with these columns changed."""
    given = {
        "tenant_id": "tenant_id",
        "program_id": "program_id",
        "queue_id": "queue_id",
        "parameters": "parameters",
        "context_id": "context_id",
        "scheduled_at": "scheduled_at",
        "due_at": "due_at",
        "rank": "rank",
    } | dict.fromkeys(columns, "%s")
    jobs.cursor.execute(
        f"INSERT INTO jobsite_job ({', '.join(given)}) SELECT {', '.join(given.values())}"
        " FROM jobsite_job WHERE number = %s",
        [*columns.values(), number],
    )


# ---- uniqueness ------------------------------------------------------------------------------------------


def test_an_idempotency_key_is_unique_in_a_tenant(jobs):
    number = jobs.ended(idempotency_key="k")

    with refused_by("job_idempotency_key_once_per_tenant"):
        copy_of(jobs, number, idempotency_key="k")


def test_two_tenants_may_use_one_idempotency_key(jobs, other_program):
    jobs.pending(idempotency_key="k")

    number = jobs.pending(other_program, idempotency_key="k")

    assert jobs.row(number).idempotency_key == "k"


def test_a_child_key_is_unique_under_a_parent(jobs):
    parent = jobs.running().number
    a_child = {"parent_id": parent, "child_key": "a", "parent_fence": 1, "trigger": "CHILD"}
    copy_of(jobs, parent, **a_child)

    with refused_by("job_child_key_once_per_parent"):
        copy_of(jobs, parent, **a_child)


@pytest.mark.parametrize(("status", "fence"), [("PENDING", 0), ("WAITING", 1), ("COMPLETED", 1), ("RUNNING", 2)])
def test_a_child_is_committed_only_while_the_run_that_spawned_it_goes_on(jobs, status, fence):
    parent = jobs.in_status(status)

    with refused_by("job_spawned_by_a_run"):
        copy_of(jobs, parent, parent_id=parent, child_key="a", parent_fence=fence, trigger="CHILD")
        connection.check_constraints()  # as the commit does


@pytest.mark.parametrize("status", ["PENDING", "QUEUED", "RUNNING", "WAITING"])
def test_two_open_jobs_never_share_a_reject_key(jobs, status):
    number = jobs.in_status(status, overlap_policy="REJECT", overlap_key="k")

    with refused_by("job_reject_key_once_among_open"):
        copy_of(jobs, number, overlap_policy="REJECT", overlap_key="k")


@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_an_ended_job_frees_its_reject_key(jobs, status):
    number = jobs.in_status(status, overlap_policy="REJECT", overlap_key="k")

    copy_of(jobs, number, overlap_policy="REJECT", overlap_key="k")

    assert Job.objects.filter(overlap_key="k").count() == 2


@pytest.mark.parametrize("status", ["QUEUED", "RUNNING", "WAITING"])
def test_two_active_jobs_never_share_a_queue_key(jobs, status):
    jobs.in_status(status, overlap_policy="QUEUE", overlap_key="k")
    second = jobs.pending(overlap_policy="QUEUE", overlap_key="k")

    with refused_by("job_queue_key_once_among_active"):
        jobs.queue(second)


def test_a_job_that_waits_for_its_retry_keeps_its_queue_key(jobs):
    first = jobs.running(overlap_policy="QUEUE", overlap_key="k")
    jobs.set(first.number, f"{NO_LOCK}, status = 'PENDING', attempts = 1")
    second = jobs.pending(overlap_policy="QUEUE", overlap_key="k")

    with refused_by("job_queue_key_once_among_active"):
        jobs.queue(second)


def test_any_number_of_jobs_may_wait_with_one_queue_key(jobs):
    jobs.many(3, overlap_policy="QUEUE", overlap_key="k")

    assert Job.objects.filter(overlap_key="k", status="PENDING").count() == 3


def test_a_job_has_one_open_retry_at_most(jobs):
    number = jobs.ended(FAILURE)
    jobs.pending(retry_of=number)

    with refused_by("job_retried_once_at_a_time"):
        copy_of(jobs, number, retry_of_id=number)


def attempt_of(number: int, **columns: object) -> None:
    first = JobAttempt.objects.filter(job_id=number).first()
    first.pk = None
    for name, value in ({"token": uuid4()} | columns).items():
        setattr(first, name, value)
    first.save(force_insert=True)


def test_a_job_succeeds_once(jobs):
    number = jobs.ended(SUCCESS)

    with refused_by("attempt_succeeds_once_per_job"):
        attempt_of(number, fence=2)


def test_a_fence_belongs_to_one_attempt(jobs):
    number = jobs.ended(SUCCESS)

    with refused_by("attempt_fence_once_per_job"):
        attempt_of(number, result="LOST")


def test_an_attempt_ends_in_a_known_way(jobs):
    number = jobs.ended(SUCCESS)

    with refused_by("attempt_result_known"):
        attempt_of(number, fence=2, result="LUCKY")


def step_of(job, **fields):
    known = {"action": "fetch", "status": "RUNNING", "tries": 1, "fence": 1, "started_at": datetime.now(UTC)}
    return JobStep.objects.create(job=job, digest=uuid4(), **{"tenant_id": job.tenant_id, **known, **fields})


def test_a_step_is_unique_in_its_job(jobs):
    job = jobs.row(jobs.pending())
    step_of(job, name="a")
    step_of(job, name="b")

    with refused_by("step_once_per_job"):
        step_of(job, name="a")


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"status": "LUCKY", "ended_at": datetime.now(UTC)}, "step_status_known"),
        ({"status": "COMPLETED"}, "step_ended_at_unless_running"),
        ({"ended_at": datetime.now(UTC)}, "step_ended_at_unless_running"),
    ],
)
def test_a_step_has_ended_or_runs(jobs, fields, rule):
    with refused_by(rule):
        step_of(jobs.row(jobs.pending()), **fields)


def test_a_step_is_deleted_with_its_job(jobs):
    job = jobs.row(jobs.ended(SUCCESS))
    step_of(job)

    jobs.cursor.execute("DELETE FROM jobsite_job WHERE number = %s", [job.number])

    assert not JobStep.objects.exists()


def test_a_step_is_of_its_jobs_tenant(jobs, other_tenant):
    with refused_by("step_job_of_same_tenant"):
        step_of(jobs.row(jobs.pending()), tenant_id=other_tenant.pk)


# ---- references stay in their tenant ---------------------------------------------------------------------


@pytest.fixture
def other_program(define, other_tenant):
    """A program of Charlie's tenant."""
    ours = define("theirs")
    ours.pk, ours.tenant = None, other_tenant
    ours.save(force_insert=True)
    return ours


def test_a_job_is_of_a_program_of_its_own_tenant(jobs, other_program):
    number = jobs.pending()

    with refused_by("job_program_of_same_tenant"):
        copy_of(jobs, number, program_id=other_program.pk)
    with refused_by("job_program_of_same_tenant"):
        jobs.set(number, "program_id = %s", [other_program.pk])


def test_a_parent_is_of_the_same_tenant(jobs, other_program):
    ours, theirs = jobs.pending(), jobs.pending(other_program)

    with refused_by("job_parent_of_same_tenant"):
        copy_of(jobs, ours, parent_id=theirs, child_key="a", parent_fence=1, trigger="CHILD")


def test_a_job_retries_one_of_its_own_tenant(jobs, other_program):
    ours, theirs = jobs.pending(), jobs.pending(other_program)

    with refused_by("job_retry_of_same_tenant"):
        copy_of(jobs, ours, retry_of_id=theirs)


def test_an_action_is_of_the_tenant_of_its_program(tenant, other_program):
    with refused_by("action_program_of_same_tenant"):
        Action.objects.create(tenant=tenant, program=other_program, position=1, kind="python", configuration={})


def test_an_attempt_is_of_the_tenant_of_its_job(jobs, other_tenant):
    number = jobs.ended(SUCCESS)

    with refused_by("attempt_job_of_same_tenant"):
        attempt_of(number, fence=2, result="LOST", tenant_id=other_tenant.pk)


def test_a_program_tells_a_group_of_its_own_tenant(define, other_tenant):
    program, theirs = define(), Group.objects.create(tenant=other_tenant, code="theirs")

    with refused_by("program_group_of_same_tenant"):
        Program.objects.filter(pk=program.pk).update(notification_group=theirs)


# ---- programs, queues, workers, tenants ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"status": "TIRED"}, "program_status_known"),
        ({"overlap_policy": "MAYBE"}, "program_overlap_policy_known"),
        ({"on_child_failure": "CRY"}, "program_on_child_failure_known"),
        ({"priority": 101}, "program_priority_in_range"),
        ({"priority": -101}, "program_priority_in_range"),
        ({"timeout_seconds": 0}, "program_timeout_at_most_a_day"),
        ({"timeout_seconds": 86_401}, "program_timeout_at_most_a_day"),
        ({"max_attempts": 0}, "program_runs_at_least_once"),
        ({"max_worker_losses": 0}, "program_runs_at_least_once"),
    ],
)
def test_a_program_that_makes_no_sense_is_refused(define, change, rule):
    program = define()

    with refused_by(rule):
        Program.objects.filter(pk=program.pk).update(**change)


def test_a_code_is_unique_in_a_tenant_among_the_programs_not_deleted(define):
    program = define("scores")
    second = Program.objects.get(pk=program.pk)
    second.pk = None
    with refused_by("program_code_once_per_tenant"):
        second.save(force_insert=True)

    Program.objects.filter(pk=program.pk).update(deleted_at=datetime.now(UTC))
    second.save(force_insert=True)

    assert Program.objects.filter(code="scores").count() == 2


def test_a_program_has_one_callback(define):
    program = define(callback={"kind": "python", "target": "tests.sample_actions:succeed"})
    action = {"tenant": program.tenant, "program": program, "kind": "python", "configuration": {}}

    with refused_by("action_one_callback_per_program"):
        Action.objects.create(position=3, is_callback=True, **action)


def test_each_action_of_a_program_has_its_own_position(define):
    program = define()

    with refused_by("action_position_once_per_program"):
        Action.objects.create(tenant=program.tenant, program=program, position=1, kind="python", configuration={})


def test_a_tenant_has_one_lane_in_a_queue(tenant):
    Lane.objects.create(queue=queue_row(), tenant=tenant)

    with refused_by("lane_once_per_queue_and_tenant"):
        Lane.objects.create(queue=queue_row(), tenant=tenant)


@pytest.mark.parametrize("status", ["ACTIVE", "STOPPING"])
def test_two_active_workers_never_share_a_name(cursor, status):
    worker = new_worker(cursor)
    Worker.objects.filter(incarnation=worker.incarnation).update(status=status)
    second = new_worker(cursor, "another")

    with refused_by("worker_name_once_among_the_living"):
        Worker.objects.filter(incarnation=second.incarnation).update(name=worker.name)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"status": "TIRED"}, "tenant_status_known"),
        ({"weight": 0}, "tenant_weight_positive"),
    ],
)
def test_a_tenant_that_makes_no_sense_is_refused(tenant, change, rule):
    with refused_by(rule):
        Tenant.objects.filter(pk=tenant.pk).update(**change)


def test_the_system_tenant_exists_and_is_never_suspended(db):
    with refused_by("tenant_system_never_suspended"):
        Tenant.objects.filter(code="system").update(status="SUSPENDED")

    assert Tenant.objects.get(code="system").status == "ACTIVE"


def test_a_user_is_a_member_of_a_tenant_once(tenant, alice):
    with refused_by("membership_once_per_tenant"):
        Membership.objects.create(tenant=tenant, user=alice, role="VIEWER")


def test_a_member_has_a_known_role(tenant):
    with refused_by("membership_role_known"):
        Membership.objects.create(tenant=tenant, user=User.objects.create_user("dora"), role="KING")


def test_only_the_digest_of_a_key_is_stored(tenant, alice):
    with refused_by("apikey_digest_is_sha256"):
        ApiKey.objects.create(tenant=tenant, user=alice, name="ci", prefix="js_1", digest="the key itself", scopes=[])


# ---- what jobs refer to ----------------------------------------------------------------------------------


@pytest.mark.parametrize("act", ["DELETE FROM {}", "UPDATE {} SET {key} = {other}"])
@pytest.mark.parametrize(
    ("table", "key", "other", "rule"),
    [
        ("jobsite_queue", "id", "id + 1000", "queue_is_never_deleted"),
        ("jobsite_capturedcontext", "key", "gen_random_uuid()", "context_is_never_deleted"),
    ],
)
def test_rows_that_jobs_refer_to_are_never_deleted_or_renumbered(jobs, act, table, key, other, rule):
    jobs.pending()

    with refused_by(rule), connection.cursor() as cursor:
        cursor.execute(act.format(table, key=key, other=other))


# ---- audit and logs --------------------------------------------------------------------------------------


@pytest.fixture
def audit_entry(cursor, operator):
    audit.record(cursor, operator, "cancel", "job", "1", "because", {"status": "PENDING"}, None)
    return AuditEntry.objects.get()


def test_an_audit_entry_is_never_changed(audit_entry):
    with refused_by("audit_is_append_only"):
        AuditEntry.objects.filter(pk=audit_entry.pk).update(actor="nobody")


def test_an_audit_entry_is_never_deleted(audit_entry):
    with refused_by("audit_is_append_only"):
        AuditEntry.objects.filter(pk=audit_entry.pk).delete()


def log_line(cursor, *, at, stream: str = "log", severity: str = "INFO") -> str:
    """Insert a line; return the table that it went to."""
    cursor.execute(
        "INSERT INTO jobsite_joblogentry (at, tenant_id, job_number, sequence, attempt, stream, severity, message)"
        " VALUES (%s, 1, 1, 1, 1, %s, %s, 'x') RETURNING tableoid::regclass::text",
        [at, stream, severity],
    )
    return cursor.fetchone()[0]


def month(moment: datetime, ahead: int) -> datetime:
    """The first day of the month that is `ahead` months later."""
    count = moment.year * 12 + moment.month - 1 + ahead
    return moment.replace(year=count // 12, month=count % 12 + 1, day=1)


@pytest.mark.parametrize("ahead", range(4))
def test_there_are_partitions_for_the_logs_of_this_month_and_three_more(cursor, ahead):
    moment = month(datetime.now(UTC), ahead)

    assert log_line(cursor, at=moment) == f"jobsite_joblogentry_{moment:%Y_%m}"


@pytest.mark.parametrize("at", [datetime(2001, 1, 1, tzinfo=UTC), datetime(2199, 12, 31, tzinfo=UTC)])
def test_lines_of_other_months_go_to_the_default_partition(cursor, at):
    assert log_line(cursor, at=at) == "jobsite_joblogentry_default"


def test_a_partition_begins_and_ends_with_its_month_in_utc(cursor):
    first = month(datetime.now(UTC), 1).replace(hour=0, minute=0, second=0, microsecond=0)

    assert log_line(cursor, at=first) == f"jobsite_joblogentry_{first:%Y_%m}"
    before = first - timedelta(microseconds=1)
    assert log_line(cursor, at=before) == f"jobsite_joblogentry_{before:%Y_%m}"


def test_creating_a_partition_twice_changes_nothing(cursor):
    for _ in range(2):
        cursor.execute("SELECT jobsite_create_log_partition('2031-05-17 12:00+00')")

    assert log_line(cursor, at=datetime(2031, 5, 31, 23, tzinfo=UTC)) == "jobsite_joblogentry_2031_05"


@pytest.mark.parametrize(
    ("column", "rule"),
    [({"stream": "radio"}, "log_stream_known"), ({"severity": "LOUD"}, "log_severity_known")],
)
def test_a_line_has_a_known_stream_and_severity(cursor, column, rule):
    with refused_by(rule):
        log_line(cursor, at=datetime.now(UTC), **column)


# ---- the rest --------------------------------------------------------------------------------------------


def test_a_terminal_job_cannot_be_canceled(jobs):
    number = jobs.ended(SUCCESS)

    assert cancel.cancel(jobs.cursor, number=number, tenant_id=jobs.row(number).tenant_id, by="x", reason="") is None


def test_a_job_knows_its_phase_and_whether_it_ended(jobs):
    running, ended = jobs.row(jobs.running().number), jobs.row(jobs.ended())

    assert (running.phase, running.is_terminal, str(running)) == ("RUNNING", False, f"#{running.number}")
    assert (ended.phase, ended.is_terminal) == ("COMPLETED", True)


def test_the_retry_columns_of_a_program_are_a_policy(define):
    program = define(retry={"max_attempts": 5, "initial_interval": "2s", "jitter": 0.5})

    assert program.retry_policy == RetryPolicy(5, 2.0, 2.0, 30.0, 0.5)


@pytest.mark.parametrize(
    ("language", "name"),
    [("de-CH", "Noten"), ("de", "Noten"), ("fr", "Notes"), ("es", "Scores"), ("it", "Scores")],
)
def test_a_program_is_named_in_the_readers_language_else_the_tenants_else_english(define, language, name):
    program = define(name={"en": "Scores", "de": "Noten", "fr": "Notes"})

    assert program.name_in(language) == name


def test_without_a_name_in_a_fitting_language_a_program_is_named_by_its_code(define):
    program = define("scores", name={"ja": "採点"})

    assert program.name_in("de") == "scores"
    program.tenant.language = "ja"
    assert program.name_in("de") == "採点"


def test_rows_have_a_name_for_people(jobs, audit_entry, worker, tenant):
    number = jobs.ended()
    names = [
        Job.objects.select_related("context").get(number=number).context,
        JobAttempt.objects.get(job_id=number),
        audit_entry,
        jobs.program.actions.get(),
        Lane(queue=queue_row(), tenant=tenant),
        Worker.objects.get().manager,
        JobLogEntry(message="hello"),
    ]

    assert [str(one) for one in names] == [
        "system",
        f"SUCCESS of #{number} at fence 1",
        "local:root: cancel job 1",
        "python 1",
        "default of acme",
        "default",
        "hello",
    ]


@pytest.mark.parametrize(
    ("rule", "assignments"),
    [
        ("bulk_act_counts_add_up", "place = 1"),
        ("bulk_act_counts_add_up", "done = 1"),
        ("bulk_act_counts_add_up", "place = 3, done = 2, refused = 1, state = 'STOPPED', ended_at = now()"),
        ("bulk_act_counts_add_up", "total = 10001"),
        ("bulk_act_ends_with_its_last_job", "place = 2, done = 2"),
        ("bulk_act_ends_with_its_last_job", "state = 'ENDED', ended_at = now()"),
        ("bulk_act_ends_with_its_last_job", "state = 'STOPPED'"),
        ("bulk_act_ends_with_its_last_job", "ended_at = now()"),
        ("bulk_act_ends_with_its_last_job", "state = 'LOST'"),
    ],
)
def test_the_counts_of_an_act_on_many_jobs_add_up(jobs, operator, rule, assignments):
    row = bulk.begin(operator, bulk.Match("cancel", jobs.many(2), []))

    with refused_by(rule):
        jobs.cursor.execute(f"UPDATE jobsite_bulkact SET {assignments} WHERE id = %s", [row.pk])


UNTESTED = {
    # They exist only for composite references to point at; the primary key alone makes them true.
    "job_tenant_and_number",
    "program_tenant_and_id",
    "schedule_tenant_and_id",
}


def test_every_rule_of_the_database_is_tested_here():
    ours = [
        model for label in ("jobsite_programs", "jobsite_tenants") for model in apps.get_app_config(label).get_models()
    ]
    declared = {constraint.name for model in ours for constraint in model._meta.constraints}
    with connection.cursor() as cursor:
        cursor.execute("SELECT string_agg(prosrc, '') FROM pg_proc WHERE proname LIKE 'jobsite%guard'")
        functions = cursor.fetchone()[0]
        cursor.execute(
            "SELECT conname FROM pg_constraint"
            " WHERE conrelid::regclass::text LIKE 'jobsite_%' AND contype IN ('c', 'u')"
        )
        existing = {name for (name,) in cursor.fetchall()}
        cursor.execute(
            "SELECT conname FROM pg_constraint"
            " WHERE conrelid::regclass::text = ANY(%s) AND contype = 'f' AND cardinality(conkey) > 1",
            [[model._meta.db_table for model in ours]],
        )
        references = {name for (name,) in cursor.fetchall()}
        cursor.execute("SELECT indexname FROM pg_indexes WHERE tablename LIKE 'jobsite_%'")
        existing |= {name for (name,) in cursor.fetchall()}
    raised = {word.strip("'") for word in functions.split() if word.startswith(("'job_", "'audit_"))}
    raised = {word.rstrip(";,'") for word in raised}
    by_sql = {"log_stream_known", "log_severity_known"}
    source = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*models.py"))

    assert declared | by_sql <= existing
    assert {"job_program_of_same_tenant", "schedule_program_of_same_tenant"} <= references
    rules = declared | by_sql | raised | references
    assert {rule for rule in rules - UNTESTED if f'"{rule}"' not in source} == set()


def test_a_captured_context_names_who_submitted(tenant):
    captured = principals.system(tenant).captured

    assert '"submitted_by":"system"' in captured.content
