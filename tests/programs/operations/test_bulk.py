"""Acts on all that match: counted first, stored, done job by job; each job is done once, even if a worker dies."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection

from jobsite.errors import Conflict, Forbidden, Invalid, NotFound
from jobsite.programs import operations
from jobsite.programs.inspection import queries
from jobsite.programs.inspection.queries import JobFilter
from jobsite.programs.models import BulkAct, Job
from jobsite.programs.operations import bulk
from jobsite.programs.upkeep import sweeps
from jobsite.tenants import principals
from jobsite.tenants.models import AuditEntry, Membership, Role
from tests.programs.conftest import FAILURE, refused

pytestmark = pytest.mark.django_db

FOR_EVER = 3_600.0


def match(principal, act, **wanted):
    given = JobFilter(**wanted)
    return bulk.match(principal, act, queries.matching(principal, given), names_status=given.status is not None)


def begin(principal, act, *, wanted=(), **order):
    return bulk.begin(principal, match(principal, act, **dict(wanted)), **order)


def work(row, limit=10_000):
    return bulk.work_off(row.pk, limit=limit, seconds=FOR_EVER)


def canceled():
    return set(Job.objects.filter(status="CANCELED").values_list("number", flat=True))


# ---- what matches ----------------------------------------------------------------------------------------


def test_what_matches_is_counted_by_program_before_anything_is_done(define, jobs, bob_principal):
    one, another = define("one"), define("another")
    first, second = jobs.many(7, one), jobs.many(2, another)

    found = match(bob_principal, "cancel")

    assert list(found.numbers) == [*first, *second]
    assert [(one.program, one.count, list(one.numbers)) for one in found.samples] == [
        ("another", 2, second),
        ("one", 7, first[:5]),
    ]
    assert set(jobs.statuses().values()) == {"PENDING"}
    assert not BulkAct.objects.exists()


@pytest.mark.parametrize(
    ("act", "fits"),
    [
        ("cancel", {"pending", "held", "automatic", "running"}),
        ("hold", {"pending"}),
        ("release", {"held"}),
        ("acknowledge", {"failed"}),
    ],
)
def test_only_jobs_that_the_act_fits_match(jobs, bob_principal, act, fits):
    numbers = {
        "pending": jobs.pending(),
        "held": jobs.pending(hold_by="alice"),
        "automatic": jobs.pending(trigger="AUTOMATIC"),
        "running": jobs.running().number,
        "completed": jobs.in_status("COMPLETED"),
        "failed": jobs.ended(FAILURE),
        "acknowledged": jobs.ended(FAILURE),
    }
    operations.jobs.acknowledge(bob_principal, [numbers["acknowledged"]])

    assert {name for name, number in numbers.items() if number in match(bob_principal, act).numbers} == fits


def test_a_retry_of_all_that_match_needs_a_status(jobs, bob_principal):
    completed, failed = jobs.in_status("COMPLETED"), jobs.ended(FAILURE)

    with refused(Invalid, "status_required"):
        match(bob_principal, "retry")

    assert list(match(bob_principal, "retry", status="failed").numbers) == [failed]
    assert list(match(bob_principal, "retry", status="completed").numbers) == [completed]


def test_more_than_ten_thousand_are_refused(jobs, bob_principal):
    jobs.many(bulk.MAX_JOBS)
    assert len(match(bob_principal, "cancel").numbers) == bulk.MAX_JOBS

    jobs.pending()

    with refused(Invalid, "too_many_jobs") as refusal:
        match(bob_principal, "cancel")
    assert str(refusal.value) == "more than 10,000 jobs match; narrow the filter, by program or by time"


def test_a_stranger_matches_nothing_of_others(jobs, charlie_principal):
    jobs.pending()

    assert list(match(charlie_principal, "cancel").numbers) == []
    assert list(bulk.match(charlie_principal, "cancel", Job.objects.all(), names_status=False).numbers) == []


# ---- what is begun ---------------------------------------------------------------------------------------


def test_an_act_that_is_begun_is_audited_and_nothing_is_done_yet(jobs, bob_principal, bob):
    numbers = jobs.many(3)

    row = begin(bob_principal, "cancel", reason="wrong year", filter="all")

    row.refresh_from_db()
    assert (row.numbers, row.total, row.place, row.state) == (numbers, 3, 0, "RUNNING")
    assert (row.kind, row.user_id, row.actor, row.door) == ("USER", bob.pk, "bob", "api")
    entry = AuditEntry.objects.get(target_type="act on many jobs")
    assert (entry.action, entry.target_type, entry.target) == ("cancel all", "act on many jobs", str(row.pk))
    assert (entry.actor, entry.reason, entry.after) == ("bob", "wrong year", {"jobs": 3, "filter": "all"})
    assert set(jobs.statuses().values()) == {"PENDING"}


@pytest.mark.parametrize(
    ("order", "code"),
    [({"reason": "x" * 1_001}, "invalid_reason"), ({"until": "2001-01-01T00:00:00Z"}, "invalid_time")],
)
def test_an_order_that_every_job_would_refuse_is_refused_at_once(jobs, bob_principal, order, code):
    jobs.pending()

    with refused(Invalid, code):
        begin(bob_principal, "hold", **order)

    assert not BulkAct.objects.exists()


def test_where_nothing_matches_nothing_is_begun(tenant, bob_principal):
    with refused(Invalid, "nothing_matches"):
        begin(bob_principal, "cancel")


@pytest.mark.parametrize("act", bulk.ACTS)
def test_viewers_may_not_begin_an_act(tenant, bob, jobs, act):
    Membership.objects.filter(user=bob).update(role=Role.VIEWER)
    hand = principals.of_user(bob, tenant)

    with refused(Forbidden, "missing_scope"):
        match(hand, act, status="PENDING")
    with refused(Forbidden, "missing_scope"):
        bulk.begin(hand, bulk.Match(act, [jobs.pending()], []))


# ---- what is done ----------------------------------------------------------------------------------------


def test_each_job_is_done_as_the_principal_and_audited(jobs, bob_principal):
    numbers = jobs.many(3)
    row = begin(bob_principal, "hold", reason="audit", until="2030-01-01T00:00:00Z")

    assert work(row) == 3

    for number in numbers:
        held = jobs.row(number)
        assert (held.hold_by, held.hold_reason, held.hold_until.year) == ("bob", "audit", 2030)
        entry = AuditEntry.objects.get(target_type="job", target=str(number))
        assert (entry.action, entry.actor, entry.door, entry.reason) == ("hold", "bob", "api", "audit")
    row.refresh_from_db()
    assert (row.state, row.place, row.done, row.refused) == ("ENDED", 3, 3, 0)
    assert row.ended_at is not None


@pytest.mark.parametrize("act", ["release", "retry", "acknowledge"])
def test_every_act_does_what_it_does_to_one(jobs, bob_principal, act):
    number = jobs.pending(hold_by="alice") if act == "release" else jobs.ended(FAILURE)
    row = begin(bob_principal, act, wanted={"status": "FAILED"} if act == "retry" else {})

    assert work(row) == 1

    assert AuditEntry.objects.get(target_type="job").action == act
    match act:
        case "release":
            assert jobs.row(number).hold_at is None
        case "retry":
            assert Job.objects.get(retry_of=number).context.content["submitted_by"] == "bob"
        case _:
            assert not jobs.row(number).needs_review


def test_a_job_that_ended_meanwhile_is_refused_with_the_reason_and_the_others_are_done(jobs, bob_principal):
    numbers = jobs.many(4)
    row = begin(bob_principal, "cancel")
    operations.jobs.cancel(bob_principal, numbers[1])
    later = jobs.pending()

    assert work(row) == 4

    row.refresh_from_db()
    assert (row.done, row.refused, row.state) == (3, 1, "ENDED")
    assert row.refusals == [{"job": numbers[1], "why": 'Cannot cancel a job with status "CANCELED"'}]
    assert canceled() == set(numbers)
    assert jobs.status(later) == "PENDING"


def test_the_first_refusals_are_kept_and_the_rest_is_counted(jobs, bob_principal):
    numbers = jobs.many(25)
    row = begin(bob_principal, "cancel")
    for number in numbers:
        operations.jobs.cancel(bob_principal, number)

    work(row)

    row.refresh_from_db()
    assert (row.refused, [one["job"] for one in row.refusals]) == (25, numbers[:20])


def test_one_job_that_raises_does_not_keep_the_others_waiting(jobs, bob_principal):
    numbers = jobs.many(3)
    row = begin(bob_principal, "cancel")
    jobs.cursor.execute(
        "CREATE FUNCTION break_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF NEW.number = {numbers[1]} THEN RAISE EXCEPTION 'broken' USING ERRCODE = 'check_violation'; END IF;"
        " RETURN NEW; END $$;"
        "CREATE TRIGGER break_it BEFORE UPDATE ON jobsite_job FOR EACH ROW EXECUTE FUNCTION break_it()"
    )

    assert work(row) == 3

    row.refresh_from_db()
    assert (row.done, row.refused, row.refusals[0]["job"]) == (2, 1, numbers[1])
    assert row.refusals[0]["why"].startswith("IntegrityError: broken")


def test_it_can_be_done_in_parts(jobs, bob_principal):
    jobs.many(5)
    row = begin(bob_principal, "cancel")

    assert [work(row, limit=2) for _ in range(4)] == [2, 2, 1, 0]


def test_time_bounds_a_part_too(jobs, bob_principal):
    jobs.many(5)

    assert bulk.work_off(begin(bob_principal, "cancel").pk, limit=5, seconds=0) == 0


def test_an_act_that_bob_may_no_longer_do_is_refused(jobs, bob, bob_principal):
    jobs.many(2)
    row = begin(bob_principal, "cancel")
    work(row, limit=1)
    Membership.objects.filter(user=bob).update(role=Role.VIEWER)

    work(row)

    row.refresh_from_db()
    assert (row.done, row.refused, row.refusals[0]["why"]) == (1, 1, "bob lacks jobs:write in tenant acme")


def test_an_act_keeps_to_the_scopes_with_which_it_was_begun(jobs, tenant, alice):
    number = jobs.pending()
    row = begin(principals.of_user(alice, tenant), "cancel")
    BulkAct.objects.update(scopes=["jobs:read"])

    work(row)

    assert jobs.status(number) == "PENDING"


@pytest.mark.parametrize("how", ["left", "deactivated", "deleted"])
def test_an_act_of_somebody_who_left_is_stopped(jobs, bob, bob_principal, how):
    jobs.many(2)
    row = begin(bob_principal, "cancel")
    match how:
        case "left":
            Membership.objects.filter(user=bob).delete()
        case "deactivated":
            User.objects.update(is_active=False)
        case _:
            bob.delete()

    assert work(row) == 0

    row.refresh_from_db()
    assert (row.state, row.why_stopped) == ("STOPPED", "bob is no active member of tenant acme any more")
    assert canceled() == set()


def test_an_act_can_be_stopped(jobs, bob_principal):
    numbers = jobs.many(3)
    row = begin(bob_principal, "cancel")
    work(row, limit=1)

    stopped = bulk.stop(bob_principal, row.pk, reason="a mistake")

    assert (stopped.state, stopped.done, stopped.why_stopped) == ("STOPPED", 1, "stopped by bob")
    assert work(row) == 0
    assert canceled() == {numbers[0]}
    entry = AuditEntry.objects.get(action="stop cancel all")
    assert (entry.actor, entry.reason) == ("bob", "a mistake")
    assert entry.after == {"done": 1, "refused": 0, "left": 2}
    with refused(Conflict, "invalid_transition") as refusal:
        bulk.stop(bob_principal, row.pk)
    assert str(refusal.value) == f"act {row.pk} is STOPPED already"


def test_a_stranger_does_not_find_an_act(jobs, bob_principal, charlie_principal):
    jobs.pending()
    row = begin(bob_principal, "cancel")

    for key in (row.pk, 10**9):
        for act in (bulk.find, bulk.stop):
            with refused((NotFound, Conflict), "not_found") as refusal:
                act(charlie_principal, key)
            assert str(refusal.value) == f"no act {key} on many jobs"

    row.refresh_from_db()
    assert row.state == "RUNNING"


# ---- by the sweep, by many, by some that die -------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_the_sweep_does_an_act_a_part_at_a_time(jobs, bob_principal, broker):
    jobs.many(bulk.BATCH + 1)
    row = begin(bob_principal, "cancel")

    rounds = 0
    while BulkAct.objects.get(pk=row.pk).state == "RUNNING":
        done = sweeps.run_all()["bulk_acts"]
        rounds += 1
        assert 0 < done <= bulk.BATCH

    assert rounds >= 2
    assert set(jobs.statuses().values()) == {"CANCELED"}
    assert sweeps.run_all()["bulk_acts"] == 0


@pytest.mark.django_db(transaction=True)
def test_a_large_act_does_not_keep_another_waiting(jobs, bob_principal, operator, broker):
    jobs.many(bulk.BATCH)
    large = begin(bob_principal, "cancel")
    number = jobs.pending()
    small = bulk.begin(operator, bulk.Match("cancel", [number], []))

    sweeps.run_all()

    assert BulkAct.objects.get(pk=small.pk).state == "ENDED"
    assert BulkAct.objects.get(pk=large.pk).place <= bulk.BATCH // 2


@pytest.mark.django_db(transaction=True)
def test_two_processes_at_the_same_act_do_each_job_once(jobs, bob_principal, broker):
    numbers = jobs.many(60)
    row = begin(bob_principal, "cancel")

    def attempt(_: int) -> int:
        worked = 0
        try:
            while BulkAct.objects.get(pk=row.pk).state == "RUNNING":
                worked += work(row, limit=7)
        finally:
            connection.close()
        return worked

    with ThreadPoolExecutor(3) as pool:
        assert sum(pool.map(attempt, range(3))) == 60

    row.refresh_from_db()
    assert (row.state, row.done, row.refused) == ("ENDED", 60, 0)
    targets = AuditEntry.objects.filter(action="cancel").values_list("target", flat=True)
    assert sorted(map(int, targets)) == numbers


WORKER = """
import django
django.setup()
from django.db import connections
connections["default"].settings_dict["NAME"] = {name!r}
from jobsite.programs.operations import bulk
bulk.work_off({key}, limit=1_000, seconds=60)
"""


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("act", "point"),
    [
        pytest.param("cancel", "cancel.before", id="before", marks=pytest.mark.slow),
        pytest.param("cancel", "cancel.after", id="done but not committed"),
        pytest.param("release", "offer.before", id="just committed", marks=pytest.mark.slow),
    ],
)
def test_when_a_worker_dies_in_the_middle_each_job_is_done_once_and_none_is_forgotten(
    jobs: Any, bob_principal: Any, broker: Any, act: str, point: str
) -> None:
    numbers = jobs.many(8, hold_by="alice")
    row = begin(bob_principal, act)
    environment = os.environ | {"JOBSITE_FAILPOINTS": f"{point}=kill@0.34"}
    code = WORKER.format(name=settings.DATABASES["default"]["NAME"], key=row.pk)

    deaths = 0
    while BulkAct.objects.get(pk=row.pk).state == "RUNNING" and deaths < 30:
        environment["JOBSITE_FAILPOINTS_SEED"] = str(deaths)
        ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, timeout=60)
        assert ended.returncode in (0, -signal.SIGKILL), ended.stderr.decode()
        deaths += ended.returncode != 0
        row.refresh_from_db()
        assert Job.objects.filter(hold_at=None).count() == row.place

    assert deaths > 0
    assert (row.state, row.done, row.refused) == ("ENDED", 8, 0)
    targets = AuditEntry.objects.filter(action=act).order_by("id").values_list("target", flat=True)
    assert list(map(int, targets)) == numbers
