"""Pausing programs, queues and tenants: one model, permitted, audited, and nothing that waits is lost."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from jobsite.database import connect
from jobsite.errors import Conflict, Forbidden, Invalid, NotFound
from jobsite.programs.models import Job, Lane, Program, Queue
from jobsite.programs.operations import pausing
from jobsite.programs.transitions import pause as pause_transition
from jobsite.programs.transitions.dispatch import wake
from jobsite.programs.upkeep import sweeps
from jobsite.tenants.models import SYSTEM, AuditEntry
from tests.programs.conftest import claim_all, refused, until

pytestmark = pytest.mark.django_db(transaction=True)
IN_AN_HOUR = datetime.now(UTC) + timedelta(hours=1)


def waiting(*numbers):
    return {number: (job.status, job.blocked) for number in numbers if (job := Job.objects.get(number=number))}


def entries():
    return list(AuditEntry.objects.order_by("id").values_list("actor", "action", "target", "reason"))


# ---- programs --------------------------------------------------------------------------------------------


def test_a_paused_programs_jobs_leave_their_lanes_and_come_back(jobs, define, alice_principal, broker):
    mine, others = define("mine"), define("others")
    pending, queued, other = jobs.pending(mine), jobs.queued(mine), jobs.pending(others)
    later, kept = jobs.pending(mine, scheduled_at=IN_AN_HOUR), jobs.pending(mine, hold_by="bob")
    running = jobs.running(mine).number

    pausing.pause_program(alice_principal, "mine", reason="the mainframe is down", until=IN_AN_HOUR)

    away = {pending: ("PENDING", "PAUSED"), queued: ("PENDING", "PAUSED")}
    unmoved = {
        later: ("PENDING", "SCHEDULED"),
        kept: ("PENDING", "HELD"),
        running: ("RUNNING", None),
        other: ("PENDING", None),
    }
    assert waiting(*away, *unmoved) == away | unmoved
    program = Program.objects.get(code="mine")
    assert (program.status, program.paused_by, program.paused_reason) == ("PAUSED", "alice", "the mainframe is down")
    assert program.paused_until == IN_AN_HOUR

    pausing.resume_program(alice_principal, "mine")

    assert waiting(pending, queued) == {pending: ("QUEUED", None), queued: ("QUEUED", None)}
    program.refresh_from_db()
    assert (program.status, program.paused_at, program.paused_until) == ("ACTIVE", None, None)
    assert entries()[-2:] == [
        ("alice", "pause program", "mine", "the mainframe is down"),
        ("alice", "resume program", "mine", ""),
    ]


def test_a_backlog_is_moved_in_batches_each_row_looked_at_once(jobs, define, alice_principal, monkeypatch):
    monkeypatch.setattr(pause_transition, "BATCH", 3)
    program = define("mine")
    numbers = jobs.many(8, program)

    pausing.pause_program(alice_principal, "mine")
    assert set(waiting(*numbers).values()) == {("PENDING", "PAUSED")}

    pausing.resume_program(alice_principal, "mine")
    assert not Job.objects.filter(blocked="PAUSED").exists()


def test_jobs_that_are_submitted_while_a_program_is_paused_wait_too(jobs, define, alice_principal, worker):
    program = define("mine")
    queued = jobs.queued(program)
    pausing.pause_program(alice_principal, "mine")
    # Like a late message: its row is QUEUED again although the program is paused.
    jobs.set(queued, "status = 'QUEUED', blocked = NULL")

    assert claim_all(jobs.cursor, [queued], worker) == []

    assert set(waiting(queued, jobs.pending(program)).values()) == {("PENDING", "PAUSED")}


@pytest.mark.parametrize(
    ("status", "act", "allowed"),
    [
        ("ACTIVE", pausing.pause_program, True),
        ("ACTIVE", pausing.resume_program, False),
        ("ACTIVE", pausing.terminate_program, True),
        ("ACTIVE", pausing.reactivate_program, False),
        ("PAUSED", pausing.pause_program, False),
        ("PAUSED", pausing.resume_program, True),
        ("PAUSED", pausing.terminate_program, True),
        ("PAUSED", pausing.reactivate_program, False),
        ("TERMINATED", pausing.pause_program, False),
        ("TERMINATED", pausing.resume_program, False),
        ("TERMINATED", pausing.terminate_program, False),
        ("TERMINATED", pausing.reactivate_program, True),
    ],
)
def test_what_can_be_done_to_a_program_follows_from_its_status(define, alice_principal, status, act, allowed):
    define("mine")
    Program.objects.update(status=status)

    if allowed:
        act(alice_principal, "mine")
        assert len(entries()) == 2  # one of them loads the program
        return
    with refused(Conflict, "invalid_transition"):
        act(alice_principal, "mine")
    assert Program.objects.get(code="mine").status == status
    assert len(entries()) == 1


def test_terminating_cancels_the_jobs_of_schedules_and_leaves_those_of_people(jobs, define, alice_principal):
    program = define("mine")
    automatic = [
        jobs.pending(program, trigger="AUTOMATIC"),
        jobs.queued(program, trigger="AUTOMATIC"),
        jobs.pending(program, trigger="AUTOMATIC", scheduled_at=IN_AN_HOUR),
    ]
    running, manual = jobs.running(program, trigger="AUTOMATIC").number, jobs.pending(program)
    others = jobs.pending(define("others"), trigger="AUTOMATIC")

    pausing.terminate_program(alice_principal, "mine", reason="wrong data")

    assert {jobs.status(number) for number in automatic} == {"CANCELED"}
    assert [jobs.status(number) for number in (running, manual, others)] == ["RUNNING", "PENDING", "PENDING"]
    row = jobs.row(automatic[0])
    assert (row.cancel_requested_by, row.cancel_reason) == ("alice", "wrong data")


def test_reactivating_resets_the_failures(define, alice_principal):
    define("mine", max_consecutive_failures=3)
    Program.objects.update(status="TERMINATED", consecutive_failures=3)

    pausing.reactivate_program(alice_principal, "mine")

    program = Program.objects.get(code="mine")
    assert (program.status, program.consecutive_failures) == ("ACTIVE", 0)


PROGRAM_ACTS = [
    pausing.pause_program,
    pausing.resume_program,
    pausing.terminate_program,
    pausing.reactivate_program,
]


@pytest.mark.parametrize("act", PROGRAM_ACTS, ids=lambda act: act.__name__)
def test_only_admins_of_its_tenant_pause_or_terminate_a_program(define, bob_principal, charlie_principal, act):
    define("mine")

    with refused(Forbidden, "missing_scope"):
        act(bob_principal, "mine")
    with refused(NotFound, "not_found"):
        act(charlie_principal, "mine")

    assert Program.objects.get(code="mine").status == "ACTIVE"


@pytest.mark.parametrize("act", [pausing.pause_program, pausing.resume_program, pausing.reactivate_program])
def test_a_refusal_names_the_status_that_the_program_has_now(define, alice_principal, act):
    program = define("mine")
    if act is pausing.resume_program:
        pausing.pause_program(alice_principal, "mine")
    elif act is pausing.reactivate_program:
        pausing.terminate_program(alice_principal, "mine")
    before = entries()
    other = {pausing.reactivate_program: "ACTIVE"}.get(act, "TERMINATED")

    def steer():
        try:
            act(alice_principal, "mine")
        finally:
            connection.close()

    with connect(application_name="the other") as elsewhere, ThreadPoolExecutor(1) as pool:
        with elsewhere.transaction():
            elsewhere.execute(f"UPDATE jobsite_program SET status = '{other}' WHERE id = %s", [program.pk])
            steered = pool.submit(steer)
            until(lambda: is_waited_for(elsewhere))
        with pytest.raises(Conflict, match=f'a program with status "{other}"'):
            steered.result(10)

    assert Program.objects.get(code="mine").status == other
    assert entries() == before


def is_waited_for(holder):
    """Whether another connection waits for a lock of this one."""
    blocked = "SELECT EXISTS (SELECT FROM pg_stat_activity a WHERE %s = ANY(pg_blocking_pids(a.pid)))"
    with connection.cursor() as cursor:
        cursor.execute(blocked, [holder.info.backend_pid])
        return cursor.fetchone()[0]


# ---- queues ----------------------------------------------------------------------------------------------


def test_a_pause_of_a_queue_by_a_tenant_is_for_that_tenant_only(
    jobs, define, alice_principal, charlie_principal, broker
):
    number = jobs.pending(define("mine"))
    wake(jobs.cursor, [number])

    pausing.pause_queue(alice_principal, "default", reason="later", until=IN_AN_HOUR)

    lane = Lane.objects.get(tenant=alice_principal.tenant, queue__name="default")
    assert (lane.paused_by, lane.paused_reason, lane.paused_until) == ("alice", "later", IN_AN_HOUR)
    assert Queue.objects.get(name="default").paused_at is None
    assert not Lane.objects.filter(tenant=charlie_principal.tenant).exists()
    sweeps.run_all()
    assert jobs.status(number) == "PENDING"
    with refused(Conflict, "invalid_transition"):
        pausing.pause_queue(alice_principal, "default")

    pausing.resume_queue(alice_principal, "default")

    assert jobs.status(number) == "QUEUED"
    with refused(Conflict, "invalid_transition"):
        pausing.resume_queue(alice_principal, "default")


def test_only_the_platform_pauses_a_whole_queue(jobs, define, operator, alice_principal, broker):
    number = jobs.pending(define("mine"))
    wake(jobs.cursor, [number])
    with refused(Forbidden, "platform_only"):
        pausing.pause_queue(alice_principal, "default", whole=True)

    pausing.pause_queue(operator, "default", whole=True, reason="the broker moves")
    assert AuditEntry.objects.get(action="pause whole queue").tenant.code == SYSTEM
    sweeps.run_all()
    assert jobs.status(number) == "PENDING"
    with refused(Forbidden, "platform_only"):
        pausing.resume_queue(alice_principal, "default", whole=True)
    pausing.resume_queue(operator, "default", whole=True)

    assert jobs.status(number) == "QUEUED"
    assert [entry[1] for entry in entries()[-2:]] == ["pause whole queue", "resume whole queue"]


def test_pausing_a_queue_takes_jobs_admin_and_a_known_queue(bob_principal, alice_principal):
    with refused(Forbidden, "missing_scope"):
        pausing.pause_queue(bob_principal, "default")
    with refused(NotFound, "not_found"):
        pausing.pause_queue(alice_principal, "nowhere")


# ---- tenants ---------------------------------------------------------------------------------------------


def test_only_the_platform_suspends_a_tenant_and_resumes_it(jobs, operator, alice_principal, tenant, broker):
    number = jobs.pending()
    wake(jobs.cursor, [number])
    with refused(Forbidden, "platform_only"):
        pausing.suspend_tenant(alice_principal)

    pausing.suspend_tenant(operator, reason="unpaid")
    tenant.refresh_from_db()
    assert (tenant.status, tenant.paused_reason) == ("SUSPENDED", "unpaid")
    sweeps.run_all()
    assert jobs.status(number) == "PENDING"
    with refused(Conflict, "invalid_transition"):
        pausing.suspend_tenant(operator)
    with refused(Forbidden, "platform_only"):
        pausing.resume_tenant(alice_principal)
    pausing.resume_tenant(operator)

    tenant.refresh_from_db()
    assert (tenant.status, tenant.paused_at, tenant.paused_reason) == ("ACTIVE", None, "")
    assert jobs.status(number) == "QUEUED"
    with refused(Conflict, "invalid_transition"):
        pausing.resume_tenant(operator)


# ---- ends by themselves ----------------------------------------------------------------------------------


def test_a_pause_ends_by_itself_when_its_time_has_come(jobs, define, alice_principal, operator, broker):
    number = jobs.pending(define("mine"))
    pausing.pause_program(alice_principal, "mine", until=IN_AN_HOUR)
    pausing.pause_queue(alice_principal, "default", until=IN_AN_HOUR)
    pausing.pause_queue(operator, "default", whole=True, until=IN_AN_HOUR)
    pausing.suspend_tenant(operator, until=IN_AN_HOUR)
    sweeps.run_all()
    assert waiting(number) == {number: ("PENDING", "PAUSED")}

    for table in ("program", "lane", "queue", "tenant"):
        jobs.cursor.execute(f"UPDATE jobsite_{table} SET paused_until = now() WHERE paused_until IS NOT NULL")
    assert sweeps.run_all()["ended_pauses"] == 4
    sweeps.run_all()

    assert waiting(number) == {number: ("QUEUED", None)}
    assert {entry[:3] for entry in entries() if entry[0] == "system"} == {
        ("system", "resume program", "mine"),
        ("system", "resume queue", "default"),
        ("system", "resume whole queue", "default"),
        ("system", "resume tenant", "acme"),
    }


def test_a_pause_without_an_end_does_not_end(define, alice_principal):
    define("mine")
    pausing.pause_program(alice_principal, "mine")

    assert sweeps.run_all()["ended_pauses"] == 0

    assert Program.objects.get(code="mine").status == "PAUSED"


@pytest.mark.parametrize("until", ["2020-01-01T00:00:00Z", "tomorrow", "2026-13-01T00:00:00Z"])
def test_an_end_that_makes_no_sense_pauses_nothing(define, alice_principal, until):
    define("mine")

    with refused(Invalid, "invalid_time"):
        pausing.pause_program(alice_principal, "mine", until=until)

    assert Program.objects.get(code="mine").status == "ACTIVE"
