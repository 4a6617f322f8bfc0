"""What operators do with jobs: permitted, in their own tenant, audited, and never to a healthy job by mistake."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from django.contrib.auth.models import User

from jobsite import brokers
from jobsite.errors import Conflict, Forbidden, Invalid, NotFound
from jobsite.programs import operations
from jobsite.programs.models import Worker
from jobsite.programs.transitions.reap import reap_expired
from jobsite.tenants import principals
from jobsite.tenants.models import AuditEntry, Membership, Role
from tests.programs.conftest import FAILURE, refused

pytestmark = pytest.mark.django_db


@pytest.fixture
def as_role(tenant):
    """A member of the tenant with this role, acting in the admin."""

    def act(role):
        user = User.objects.create_user(f"a-{role.lower()}")
        Membership.objects.create(tenant=tenant, user=user, role=role)
        return principals.of_user(user, tenant, door="admin")

    return act


def entries():
    return AuditEntry.objects.filter(target_type="job")


def make_stuck(jobs, number):
    jobs.set(number, "stuck_at = clock_timestamp() - interval '1 second'")


def shown(principal, *numbers):
    return operations.jobs.locks(principal, list(numbers) or None)


# ---- who -------------------------------------------------------------------------------------------------

READ = {"VIEWER", "OPERATOR", "ADMIN"}
WRITE = {"OPERATOR", "ADMIN"}
ADMIN = {"ADMIN"}
ACTIONS = {
    "find_job": (READ, lambda principal, jobs: operations.jobs.find_job(principal, jobs.pending())),
    "locks": (READ, lambda principal, jobs: operations.jobs.locks(principal)),
    "cancel": (WRITE, lambda principal, jobs: operations.jobs.cancel(principal, jobs.pending())),
    "hold": (WRITE, lambda principal, jobs: operations.jobs.hold(principal, jobs.pending())),
    "release": (WRITE, lambda principal, jobs: operations.jobs.release(principal, jobs.pending(hold_by="x"))),
    "acknowledge": (WRITE, lambda principal, jobs: operations.jobs.acknowledge(principal, [jobs.ended(FAILURE)])),
    "expire_stuck": (ADMIN, lambda principal, jobs: operations.jobs.expire_stuck(principal)),
    "clear_locks": (ADMIN, lambda principal, jobs: operations.jobs.clear_locks(principal, [])),
}


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("action", ACTIONS)
def test_each_act_takes_its_role(jobs, as_role, role, action):
    roles, act = ACTIONS[action]

    if role in roles:
        act(as_role(role), jobs)
    else:
        with refused(Forbidden, "missing_scope"):
            act(as_role(role), jobs)
        assert not entries().exists()


@pytest.mark.parametrize(
    "act",
    [
        operations.jobs.find_job,
        operations.jobs.cancel,
        operations.jobs.hold,
        operations.jobs.release,
        lambda charlie, number: operations.jobs.acknowledge(charlie, [number]),
        lambda charlie, number: operations.jobs.clear_locks(charlie, [lock_on(number)], force=True, reason="x"),
    ],
    ids=["find", "cancel", "hold", "release", "acknowledge", "clear"],
)
@pytest.mark.parametrize("status", ["PENDING", "RUNNING", "COMPLETED"])
def test_a_stranger_does_not_find_a_job(jobs, charlie_principal, act, status):
    number = jobs.in_status(status)

    for target in (number, 10**9):
        with refused(NotFound, "not_found") as refusal:
            act(charlie_principal, target)
        assert str(refusal.value) == f"no job {target}"

    assert jobs.status(number) == status
    assert not entries().exists()


def lock_on(number):
    now = datetime.now(UTC)
    return operations.jobs.Lock(number, "w", uuid4(), now, now, 0.0, True)


def test_a_stranger_sees_and_ends_nothing_of_others(jobs, charlie_principal):
    claimed = jobs.running()
    make_stuck(jobs, claimed.number)

    assert operations.jobs.locks(charlie_principal) == []
    assert operations.jobs.locks(charlie_principal, [claimed.number]) == []
    assert operations.jobs.expire_stuck(charlie_principal) == []
    assert operations.jobs.expire_stuck(charlie_principal, [claimed.number]) == []

    assert jobs.status(claimed.number) == "RUNNING"


@pytest.mark.parametrize("number", [0, -1, 10**30])
def test_a_number_that_no_job_can_have_is_not_found(bob_principal, number):
    with refused(NotFound, "not_found"):
        operations.jobs.find_job(bob_principal, number)
    with refused(NotFound, "not_found"):
        operations.jobs.cancel(bob_principal, number)


# ---- cancel ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "after"),
    [("PENDING", "CANCELED"), ("QUEUED", "CANCELED"), ("WAITING", "CANCELED"), ("RUNNING", "RUNNING")],
)
def test_a_cancel_returns_the_status_afterwards(jobs, bob_principal, status, after):
    number = jobs.in_status(status)

    assert operations.jobs.cancel(bob_principal, number, reason="no longer needed") == after

    assert_entry("cancel", number, "bob", "api", "no longer needed", {"status": status}, {"status": after})
    assert jobs.row(number).cancel_requested_by == "bob"


def assert_entry(action, number, actor, door, reason, before, after):
    [entry] = entries()
    assert (entry.action, entry.target_type, entry.target) == (action, "job", str(number))
    assert (entry.actor, entry.door, entry.reason, entry.tenant.code) == (actor, door, reason, "acme")
    assert (entry.before, entry.after) == (before, after)


@pytest.mark.parametrize("status", ["COMPLETED", "FAILED", "CANCELED"])
def test_an_ended_job_cannot_be_canceled(jobs, bob_principal, status):
    number = jobs.in_status(status)

    with refused(Conflict, "invalid_transition") as refusal:
        operations.jobs.cancel(bob_principal, number)

    assert str(refusal.value) == f'Cannot cancel a job with status "{status}"'
    assert not entries().exists()


# ---- hold and release ------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["PENDING", "QUEUED"])
def test_a_hold_is_audited(jobs, bob_principal, status):
    number, until = jobs.in_status(status), datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)

    operations.jobs.hold(bob_principal, number, reason="wait for Alice", until=until.isoformat())

    job = jobs.row(number)
    assert (job.blocked, job.hold_by, job.hold_until) == ("HELD", "bob", until)
    end = until.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    assert_entry(
        "hold", number, "bob", "api", "wait for Alice", {"status": status}, {"status": "PENDING", "until": end}
    )


@pytest.mark.parametrize("status", ["RUNNING", "WAITING", "COMPLETED", "FAILED", "CANCELED"])
def test_a_job_that_runs_or_has_ended_cannot_be_held(jobs, bob_principal, status):
    with refused(Conflict, "invalid_transition") as refusal:
        operations.jobs.hold(bob_principal, jobs.in_status(status))

    assert str(refusal.value) == f'Cannot hold a job with status "{status}"'
    assert not entries().exists()


def test_a_job_of_a_schedule_cannot_be_held(jobs, bob_principal):
    number = jobs.pending(trigger="AUTOMATIC")

    with refused(Conflict, "invalid_transition") as refusal:
        operations.jobs.hold(bob_principal, number)

    assert str(refusal.value) == f"job {number} belongs to a schedule; pause the schedule instead"


def test_a_held_job_cannot_be_held_again(jobs, bob_principal):
    number = jobs.pending(hold_by="alice")

    with refused(Conflict, "invalid_transition") as refusal:
        operations.jobs.hold(bob_principal, number)

    assert str(refusal.value) == f"job {number} is held already"


@pytest.mark.parametrize(
    ("until", "words"),
    [
        (datetime(2030, 1, 1), "has no zone"),
        ("soon", "is not a time"),
        ("2001-01-01T00:00:00Z", "lies in the past"),
        ("2101-01-01T00:00:00Z", "more than 5 years ahead"),
    ],
    ids=str,
)
def test_a_hold_ends_in_the_future(jobs, bob_principal, until, words):
    number = jobs.pending()

    with refused(Invalid, "invalid_time") as refusal:
        operations.jobs.hold(bob_principal, number, until=until)

    assert words in str(refusal.value)
    assert jobs.row(number).blocked is None


def test_a_release_is_audited(jobs, bob_principal):
    number = jobs.pending(hold_by="alice", hold_reason="wait for Bob")

    operations.jobs.release(bob_principal, number, reason="here I am")

    assert jobs.row(number).blocked is None
    assert_entry("release", number, "bob", "api", "here I am", {"hold_reason": "wait for Bob"}, None)


@pytest.mark.parametrize("status", ["PENDING", "RUNNING", "COMPLETED"])
def test_a_job_that_is_not_held_cannot_be_released(jobs, bob_principal, status):
    number = jobs.in_status(status)

    with refused(Conflict, "invalid_transition") as refusal:
        operations.jobs.release(bob_principal, number)

    assert str(refusal.value) == f"job {number} is not held"


@pytest.mark.django_db(transaction=True)
def test_a_released_job_is_dispatched(jobs, bob_principal, broker):
    number = jobs.pending(hold_by="alice")

    operations.jobs.release(bob_principal, number)

    assert (jobs.status(number), broker.numbers()) == ("QUEUED", [number])


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("act", ["release", "expire"])
def test_an_error_after_the_commit_does_not_undo_the_act(jobs, bob_principal, alice_principal, monkeypatch, act):
    monkeypatch.setattr(brokers, "publish", lambda messages: 1 / 0)
    if act == "release":
        number = jobs.pending(hold_by="alice")
        operations.jobs.release(bob_principal, number)
    else:
        number = jobs.running().number
        make_stuck(jobs, number)
        operations.jobs.expire_stuck(alice_principal, policy="RETRY")

    assert jobs.row(number).blocked is None
    assert entries().count() == 1


# ---- expire ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("policy", "status"), [("", "FAILED"), ("FAIL", "FAILED"), ("RETRY", "PENDING")])
def test_stuck_jobs_are_ended_and_healthy_ones_are_not_touched(jobs, alice_principal, policy, status):
    stuck, healthy = jobs.running(), jobs.running()
    make_stuck(jobs, stuck.number)

    [reaped] = operations.jobs.expire_stuck(alice_principal, policy=policy, reason="too long")

    assert (reaped.number, jobs.status(stuck.number)) == (stuck.number, status)
    assert jobs.row(healthy.number).lock_token == healthy.token
    before, after = {"status": "RUNNING"}, {"status": status}
    assert_entry("expire", stuck.number, "alice", "admin", "too long", before, after)


def test_even_by_its_number_a_healthy_job_is_not_expired(jobs, alice_principal):
    claimed = jobs.running()

    assert operations.jobs.expire_stuck(alice_principal, [claimed.number]) == []

    assert jobs.status(claimed.number) == "RUNNING"
    assert not entries().exists()


def test_there_is_no_other_policy(alice_principal):
    with refused(Invalid, "invalid"):
        operations.jobs.expire_stuck(alice_principal, policy="SHRUG")


@pytest.mark.django_db(transaction=True)
def test_a_job_that_is_put_back_is_dispatched(jobs, alice_principal, broker):
    claimed = jobs.running()
    make_stuck(jobs, claimed.number)

    operations.jobs.expire_stuck(alice_principal, policy="RETRY")

    assert (jobs.status(claimed.number), broker.numbers()) == ("QUEUED", [claimed.number])


# ---- locks -----------------------------------------------------------------------------------------------


def test_a_lock_is_shown_with_holder_age_and_token(jobs, bob_principal, worker):
    claimed = jobs.running(worker=worker)

    [lock] = operations.jobs.locks(bob_principal)

    assert (lock.job, lock.worker, lock.token) == (claimed.number, worker.name, claimed.token)
    assert (lock.acquired_at, lock.is_stale) == (claimed.claimed_at, False)
    assert 0 <= lock.age_seconds < 60
    assert lock.expires_at > lock.acquired_at


def test_the_oldest_lock_is_shown_first(jobs, bob_principal):
    numbers = [jobs.running().number for _ in range(3)]

    assert [lock.job for lock in operations.jobs.locks(bob_principal)] == numbers
    assert [lock.job for lock in operations.jobs.locks(bob_principal, numbers[1:2])] == numbers[1:2]
    assert operations.jobs.locks(bob_principal, []) == []


@pytest.mark.parametrize(
    ("status", "expired", "stale"),
    [
        ("ACTIVE", False, False),
        ("STOPPING", False, False),
        ("STOPPED", False, True),
        ("LOST", False, True),
        ("ACTIVE", True, True),
    ],
)
def test_a_lock_is_stale_when_its_holder_is_gone(jobs, alice_principal, worker, status, expired, stale):
    claimed = jobs.running(worker=worker)
    Worker.objects.update(status=status)
    if expired:
        jobs.expire_lock(claimed.number)

    [lock] = operations.jobs.locks(alice_principal)
    cleared = operations.jobs.clear_locks(alice_principal, [lock])

    assert lock.is_stale == stale
    assert [one.number for one in cleared] == ([claimed.number] if stale else [])


def test_clearing_takes_stale_locks_and_audits_each(jobs, alice_principal):
    stale, healthy = [jobs.running() for _ in range(2)], jobs.running()
    for one in stale:
        jobs.expire_lock(one.number)

    cleared = operations.jobs.clear_locks(alice_principal, shown(alice_principal), reason="machine is gone")

    numbers = [one.number for one in stale]
    assert [one.number for one in cleared] == numbers
    assert jobs.row(healthy.number).lock_token == healthy.token
    written = list(entries().order_by("id").values_list("action", "target", "actor", "reason"))
    assert written == [("clear lock", str(number), "alice", "machine is gone") for number in numbers]
    assert jobs.attempts(numbers[0]) == ["CLEARED"]


def test_a_live_lock_is_cleared_by_force_with_a_reason(jobs, alice_principal):
    claimed = jobs.running()

    [cleared] = operations.jobs.clear_locks(alice_principal, shown(alice_principal), force=True, reason="hangs")

    assert (cleared.number, cleared.status) == (claimed.number, "PENDING")
    before, after = {"status": "RUNNING"}, {"status": "PENDING"}
    assert_entry("force clear lock", claimed.number, "alice", "admin", "hangs", before, after)


def test_without_a_reason_there_is_no_force(jobs, alice_principal):
    claimed = jobs.running()

    with refused(Invalid, "reason_required"):
        operations.jobs.clear_locks(alice_principal, shown(alice_principal), force=True)

    assert jobs.status(claimed.number) == "RUNNING"


def test_a_lock_newer_than_the_one_shown_is_left_alone(jobs, alice_principal):
    first = jobs.running()
    [lock] = shown(alice_principal)
    jobs.expire_lock(first.number)
    reap_expired(jobs.cursor)
    jobs.queue(first.number)
    second = jobs.claim(first.number)

    assert operations.jobs.clear_locks(alice_principal, [lock], force=True, reason="hangs") == []

    assert jobs.row(first.number).lock_token == second.token
    assert not entries().exists()


def test_a_lock_of_another_tenant_among_ours_stops_all(jobs, alice_principal):
    claimed = jobs.running()
    [ours] = shown(alice_principal)
    foreign = replace(ours, job=claimed.number + 1)

    with refused(NotFound, "not_found"):
        operations.jobs.clear_locks(alice_principal, [ours, foreign], force=True, reason="x")

    assert jobs.status(claimed.number) == "RUNNING"


# ---- reasons ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["r" * 1_001, "nul\x00", "\ud800"], ids=["long", "nul", "surrogate"])
@pytest.mark.parametrize(
    "act", [operations.jobs.cancel, operations.jobs.hold, operations.jobs.release], ids=lambda act: act.__name__
)
def test_a_reason_is_up_to_a_thousand_storable_characters(jobs, bob_principal, act, reason):
    number = jobs.pending(hold_by="alice") if act is operations.jobs.release else jobs.pending()

    with refused(Invalid, "invalid_reason"):
        act(bob_principal, number, reason=reason)

    assert not entries().exists()


# ---- acknowledge -----------------------------------------------------------------------------------------


def test_failed_jobs_need_a_review_until_somebody_acknowledges_them(jobs, bob_principal):
    first, second = jobs.ended(FAILURE), jobs.ended(FAILURE)

    assert operations.jobs.acknowledge(bob_principal, [second, first, second], reason="the source was down") == [
        first,
        second,
    ]

    assert [one.target for one in entries().order_by("id")] == [str(first), str(second)]
    for entry in entries():
        assert (entry.action, entry.actor, entry.door, entry.reason) == (
            "acknowledge",
            "bob",
            "api",
            "the source was down",
        )
        assert (entry.before, entry.after) == ({"needs_review": True}, {"needs_review": False})

    for number in (first, second):
        row = jobs.row(number)
        assert (row.status, row.needs_review, row.reviewed_by) == ("FAILED", False, "bob")
        assert row.reviewed_at is not None


def test_a_job_that_needs_no_review_is_left_alone(jobs, bob_principal, alice_principal):
    completed, running, failed = jobs.in_status("COMPLETED"), jobs.running().number, jobs.ended(FAILURE)
    operations.jobs.acknowledge(alice_principal, [failed])

    assert operations.jobs.acknowledge(bob_principal, [completed, running, failed]) == []

    assert jobs.row(failed).reviewed_by == "alice"
    assert not entries().filter(actor="bob").exists()


@pytest.mark.parametrize("missing", [10**9, 0, -1, 10**30])
def test_no_job_is_acknowledged_where_one_is_not_found(jobs, bob_principal, missing):
    number = jobs.ended(FAILURE)

    with refused(NotFound, "not_found") as refusal:
        operations.jobs.acknowledge(bob_principal, [number, missing])

    assert str(refusal.value) == f"no job {missing}"
    assert jobs.row(number).needs_review


def test_a_retry_leaves_the_review_of_the_old_job_to_people(jobs, bob_principal):
    number = jobs.ended(FAILURE)

    operations.jobs.retry(bob_principal, number)

    assert jobs.row(number).needs_review
