"""Each invariant that is broken by hand is reported; what happens in a healthy system is not."""

import re
from typing import Any

import psycopg
import pytest
from django.db import connection
from psycopg.pq import TransactionStatus

from jobsite import brokers
from jobsite.database import snapshot
from jobsite.programs import invariants
from jobsite.programs.invariants import NotChecked
from jobsite.programs.invariants.looks import Look, Rule
from jobsite.programs.models import Job, JobAttempt
from jobsite.programs.rules.lifecycle import FailureKind, Status
from jobsite.programs.transitions import cancel, finish, give_back, reap
from jobsite.programs.transitions.finish import Ending
from tests.programs.conftest import FAILURE, SUCCESS, held, new_worker
from tests.programs.invariants.damages import AGO, CHILD, DAMAGES, Damage, earlier_attempt

pytestmark = pytest.mark.django_db

RETRY = Ending.retry(FailureKind.TRANSIENT)


# Only a superuser may switch off the triggers of foreign keys, and the tests' user is none; but as owner it may drop
# the rules.
UNGUARD = """
DO $$ DECLARE
    guard record;
    tables regclass[] := '{jobsite_job, jobsite_jobattempt, jobsite_jobstep, jobsite_action, jobsite_program,
                           jobsite_lane}';
BEGIN
    SET CONSTRAINTS ALL IMMEDIATE;
    FOR guard IN SELECT conrelid::regclass AS owner, conname FROM pg_constraint
                 WHERE contype IN ('c', 'f') AND conrelid = ANY(tables)
    LOOP EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', guard.owner, guard.conname); END LOOP;
    FOR guard IN SELECT indexrelid::regclass AS name FROM pg_index
                 WHERE indisunique AND indpred IS NOT NULL AND indrelid = ANY(tables)
    LOOP EXECUTE format('DROP INDEX %s', guard.name); END LOOP;
    ALTER TABLE jobsite_job DISABLE TRIGGER USER;
END $$
"""


@pytest.fixture
def other_program(define, other_tenant):
    """A program of Charlie's tenant."""
    theirs = define("theirs")
    theirs.actions.all().delete()
    theirs.tenant = other_tenant
    theirs.save()
    return theirs


def healthy(jobs, status: str, **fields: Any) -> int:
    """A job of this status, or one RETRIED: PENDING after a first attempt."""
    return jobs.ended(RETRY, **fields) if status == "RETRIED" else jobs.in_status(status, **fields)


@pytest.fixture
def names(jobs, other_program):
    """Make the jobs of a Damage, do the damage, and return the names that it uses."""

    def prepare(damage: Damage) -> dict[str, Any]:
        known: dict[str, Any] = {
            "h": jobs.in_status("COMPLETED"),
            "o": jobs.in_status("CANCELED", program=other_program),
            "n": healthy(jobs, damage.status),
            "m": healthy(jobs, damage.twin) if damage.twin else None,
            "p": jobs.program.pk,
            "t": jobs.program.tenant_id,
            "p2": other_program.pk,
            "t2": other_program.tenant_id,
            "w": new_worker(jobs.cursor).incarnation,
        }
        assert invariants.check(jobs.cursor) == []
        jobs.cursor.execute(UNGUARD)
        if damage.sql:
            jobs.cursor.execute(damage.sql.format_map(known))
        return known

    return prepare


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: f"{damage.invariant}: {damage.said}")
def test_what_is_broken_is_named_and_nothing_else(jobs, names, broker, damage):
    known = names(damage)

    found = invariants.check(jobs.cursor, at_rest=damage.at_rest)

    assert [one.invariant for one in found] == [damage.invariant]
    pattern = re.escape(damage.said.format_map(known)).replace(r"\*", ".*")
    assert re.fullmatch(pattern, found[0].said), found[0].said
    assert found[0].count == 1
    assert found[0].jobs == tuple(known.get(name, 0) for name in damage.jobs.split())


def test_every_rule_is_broken_by_one_damage_at_least():
    rules = [rule for look in invariants.AT_REST for rule in look.rules]
    patterns = [re.sub(r"\\{.*?\\}", ".+", re.escape(rule.said)) for rule in rules]

    unbroken = [pattern for pattern in patterns if not any(re.fullmatch(pattern, one.said) for one in DAMAGES)]

    assert not unbroken
    assert len({rule.sentence for rule in rules}) == len(rules)


def family(jobs) -> tuple[int, int]:
    """A WAITING job, and its open child."""
    parent, child = jobs.in_status("WAITING"), jobs.pending()
    jobs.set(child, f"parent_id = %s, {CHILD}", [parent])
    return parent, child


def test_jobs_in_every_status_break_nothing(jobs):
    for status in Status:
        jobs.in_status(status)
    jobs.pending(hold_by="alice")
    jobs.pending(scheduled_at="2100-01-01T00:00:00Z", priority=-7)
    jobs.ended(RETRY)
    jobs.ended(give_back.snoozed(5))
    jobs.ended(give_back.action_unknown("a:b", returns=0))
    jobs.pending(retry_of=jobs.ended(FAILURE))
    family(jobs)

    assert invariants.check(jobs.cursor) == []


def test_reaped_runs_break_nothing(jobs):
    lost = jobs.running()
    jobs.expire_lock(lost.number)
    reap.reap_expired(jobs.cursor)
    cleared = jobs.running()
    reap.clear(jobs.cursor, number=cleared.number, token=cleared.token, force=True, by="alice")
    stuck = jobs.running()
    jobs.set(stuck.number, f"stuck_at = {AGO}")
    reap.expire_stuck(jobs.cursor, policy="RETRY")
    for number in (lost.number, cleared.number, stuck.number):
        jobs.queue(number)
        finish.finish(jobs.cursor, held(jobs.claim(number)), SUCCESS)

    assert invariants.check(jobs.cursor) == []
    assert {jobs.attempts(one.number)[0] for one in (lost, cleared, stuck)} == {"LOST", "CLEARED", "TIMEOUT"}


def test_a_run_that_was_lost_with_its_group_is_not_counted(jobs):
    number = jobs.running().number
    jobs.set(number, "started_at = NULL")  # as the claim of a group leaves it
    assert invariants.check(jobs.cursor) == []
    jobs.expire_lock(number)
    reap.reap_expired(jobs.cursor)

    assert (jobs.attempts(number), jobs.row(number).attempts) == (["RETURNED"], 0)
    assert invariants.check(jobs.cursor) == []


@pytest.mark.parametrize("result", ["LOST", "TIMEOUT", "CLEARED"])
def test_a_run_may_overlap_one_that_was_reaped(jobs, names, result):
    damage = Damage("", "", "FAILED", earlier_attempt(result, ended="-0.5 seconds"))
    known = names(damage)
    jobs.set(known["n"], "losses = %s", [int(result != "TIMEOUT")])

    assert invariants.check(jobs.cursor) == []


@pytest.mark.parametrize(
    "ending", ["status = 'FAILED', outcome = 'ERROR', failure_kind = 'PERMANENT'", "status = 'CANCELED'"]
)
def test_a_parent_that_its_children_brought_down_keeps_its_success(jobs, ending):
    parent, child = family(jobs)
    JobAttempt.objects.filter(job_id=parent).update(result="SUCCESS")
    jobs.set(parent, "parked_fence = NULL")
    jobs.set(child, "status = 'CANCELED', finished_at = clock_timestamp()")
    jobs.set(parent, f"{ending}, finished_at = clock_timestamp()")

    assert invariants.check(jobs.cursor) == []


# What lasts for a moment in every healthy system: the same as among the damages, but a second old.
MOMENT = "now() - interval '1 second'"


@pytest.mark.parametrize(
    ("status", "change"),
    [
        ("RUNNING", f"lock_expires_at = {MOMENT}"),
        ("RUNNING", f"stuck_at = {MOMENT}"),
        ("PENDING", f"blocked = 'SCHEDULED', due_at = {MOMENT}, rank = {MOMENT}"),
        ("PENDING", f"blocked = 'HELD', hold_at = {AGO}, hold_until = {MOMENT}"),
        ("PENDING", "blocked = 'PAUSED'"),
        ("WAITING", "progress = NULL"),
        ("QUEUED", f"queued_at = {AGO}"),
    ],
)
def test_a_state_that_passes_by_itself_is_no_violation_until_it_has_lasted(jobs, status, change):
    number = jobs.in_status(status)
    jobs.set(number, change)

    assert invariants.check(jobs.cursor) == []


def test_the_child_of_a_canceled_parent_is_given_time_to_stop(jobs):
    parent, child = family(jobs)
    cancel.cancel(jobs.cursor, number=parent, tenant_id=jobs.program.tenant_id, by="alice", reason="")
    assert invariants.check(jobs.cursor) == []

    jobs.queue(child)
    jobs.claim(child)
    cancel.cancel(jobs.cursor, number=child, tenant_id=jobs.program.tenant_id, by="alice", reason="")
    jobs.cursor.execute(UNGUARD)
    then = "now() - interval '1 hour'"
    jobs.set(parent, f"finished_at = {then}, claimed_at = {then}")
    jobs.cursor.execute(f"UPDATE jobsite_jobattempt SET claimed_at = {then}, ended_at = {then}")

    assert invariants.check(jobs.cursor) == []


def test_twenty_jobs_are_named_three_shown_and_all_counted(jobs):
    numbers = jobs.many(25)
    jobs.cursor.execute(UNGUARD)
    jobs.cursor.execute("UPDATE jobsite_job SET priority = 101, rank = due_at - interval '101 minutes'")

    (found,) = invariants.check(jobs.cursor)

    assert found.count == 25
    assert found.jobs == tuple(numbers[:20])
    assert found.said.count("has priority 101") == 3
    assert found.said.endswith("; and 22 more")


def test_a_wiped_and_several_times_damaged_database_is_named_in_the_order_of_the_protocol(jobs):
    lost, broken = jobs.in_status("COMPLETED"), jobs.in_status("RUNNING")
    jobs.cursor.execute(UNGUARD)
    jobs.cursor.execute("DELETE FROM jobsite_jobattempt")
    jobs.set(broken, "lock_owner = NULL, idempotency_key = 'k'")

    found = invariants.check(jobs.cursor)

    assert [one.invariant for one in found] == ["I2", "I3", "I4", "I4"]
    assert [one.jobs for one in found] == [(lost,), (broken,), (lost,), (lost,)]


def test_at_rest_held_future_and_ended_jobs_remain_and_those_that_wait_for_them(jobs, broker):
    jobs.pending(hold_by="alice")
    jobs.pending(scheduled_at="2100-01-01T00:00:00Z")
    jobs.in_status("FAILED")
    _, child = family(jobs)
    jobs.set(child, "blocked = 'HELD', hold_at = clock_timestamp()")

    assert invariants.check(jobs.cursor, at_rest=True) == []


def test_at_rest_the_brokers_are_empty(jobs, broker):
    broker.client.rpush(broker.prefix + "default", "a message", "another")

    assert invariants.check(jobs.cursor) == []
    (found,) = invariants.check(jobs.cursor, at_rest=True)

    assert (found.invariant, found.jobs, found.count) == ("I13", (), 2)
    assert re.fullmatch(r"messages in queue default of redis.*: 2", found.said)


def test_at_rest_a_broker_out_of_reach_is_no_empty_one(jobs, broker_is_down):
    with pytest.raises(brokers.BrokerUnavailable):
        invariants.check(jobs.cursor, at_rest=True)


def test_the_report_says_how_much_was_looked_at(jobs):
    jobs.many(3)
    jobs.ended()

    report = invariants.examine(jobs.cursor)

    assert (report.violations, report.jobs, report.attempts) == ((), 4, 1)
    assert report.rules == sum(len(look.rules) for look in invariants.LIVE)
    assert 0 < report.seconds < 60


def test_the_callers_transaction_goes_on_as_it_was(jobs):
    jobs.cursor.execute("SET LOCAL statement_timeout = '77s'")

    invariants.check(jobs.cursor)

    jobs.pending()
    jobs.cursor.execute("SHOW statement_timeout")
    assert jobs.cursor.fetchone() == ("77s",)


def test_outside_a_transaction_none_is_left_open(connect_more):
    other = connect_more()

    with other.cursor() as cursor:
        assert invariants.check(cursor) == []

    assert other.info.transaction_status == TransactionStatus.IDLE
    assert other.execute("SHOW transaction_read_only").fetchone() == ("off",)


def test_all_is_seen_as_of_one_moment(jobs, connect_more):
    other = connect_more()

    with other.cursor() as cursor, snapshot(cursor, statement_seconds=5, lock_seconds=5):
        jobs.pending()
        cursor.execute("SELECT count(*) FROM jobsite_job")
        seen = cursor.fetchone()

    assert (seen, Job.objects.count()) == ((0,), 1)


def test_a_look_writes_nothing(connect_more):
    other = connect_more()

    with (
        pytest.raises(psycopg.errors.ReadOnlySqlTransaction),
        other.cursor() as cursor,
        snapshot(cursor, statement_seconds=5, lock_seconds=5),
    ):
        cursor.execute("UPDATE jobsite_queue SET name = name")


@pytest.mark.parametrize("is_djangos", [True, False])
def test_a_table_that_is_locked_is_not_waited_for(connect_more, monkeypatch, is_djangos):
    monkeypatch.setattr(invariants, "LOCK_SECONDS", 0.05)
    other, blocker = connect_more(), connect_more()

    with blocker.transaction(), (connection if is_djangos else other).cursor() as cursor:
        blocker.execute("LOCK TABLE jobsite_jobattempt")
        with pytest.raises(NotChecked, match=r"^the invariants could not be checked: canceling statement due to lock"):
            invariants.check(cursor)


def test_a_query_that_takes_too_long_is_given_up(connect_more, monkeypatch):
    monkeypatch.setattr(invariants, "STATEMENT_SECONDS", 0.05)
    monkeypatch.setattr(
        invariants, "LIVE", (Look("SELECT 1 AS number FROM pg_sleep(5)", (Rule("I1", "", "true", ""),)),)
    )

    with connect_more().cursor() as cursor, pytest.raises(NotChecked, match="statement timeout"):
        invariants.check(cursor)
