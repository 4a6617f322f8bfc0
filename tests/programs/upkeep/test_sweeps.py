"""Looking for what was lost: bounded, idempotent, by one process at a time."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg
import pytest
from django.db import connection

from jobsite.programs import workers
from jobsite.programs.models import Job, Lane, Program, Queue, Sweep, Worker
from jobsite.programs.transitions import dispatch as transition
from jobsite.programs.transitions import hold
from jobsite.programs.transitions.cancel import cancel
from jobsite.programs.transitions.finish import finish
from jobsite.programs.transitions.give_back import give_back_all, snoozed
from jobsite.programs.upkeep import sweeps
from tests.programs.conftest import held, new_worker

pytestmark = pytest.mark.django_db(transaction=True)

NAMES = {
    "due",
    "late_schedules",
    "schedules",
    "lost_workers",
    "expired_locks",
    "stuck",
    "families",
    "lost_messages",
    "ended_holds",
    "ended_pauses",
    "terminated",
    "quotas",
    "bulk_acts",
    "late_jobs",
    "deliveries",
}
IN_AN_HOUR = datetime.now(UTC) + timedelta(hours=1)


def age(jobs, number, seconds):
    jobs.set(number, "queued_at = clock_timestamp() - %s * interval '1 second'", [seconds])


# ---- who sweeps when -------------------------------------------------------------------------------------


def test_every_sweep_has_its_row_from_the_migration_on(db):
    assert set(Sweep.objects.values_list("name", flat=True)) == NAMES
    assert {sweep.name for sweep in sweeps.all_sweeps()} == NAMES


def test_what_is_due_runs_once_in_its_time(broker):
    assert set(sweeps.run_due()) == NAMES

    assert sweeps.run_due() == {}


def test_a_sweep_is_due_again_when_its_time_has_passed(broker):
    sweeps.run_due()
    past = datetime.now(UTC) - timedelta(seconds=60)
    Sweep.objects.filter(name="stuck").update(started_at=past)

    assert set(sweeps.run_due()) == {"stuck"}


def test_a_sweep_that_began_and_never_ended_is_due_again(broker):
    past = datetime.now(UTC) - timedelta(seconds=60)
    Sweep.objects.update(started_at=past, finished_at=None)

    assert set(sweeps.run_due()) == NAMES


def test_all_sweeps_can_be_run_at_any_time(broker):
    sweeps.run_due()

    assert set(sweeps.run_all()) == NAMES


def test_the_rows_say_when_each_sweep_ran(broker):
    before = datetime.now(UTC)

    sweeps.run_due()

    for sweep in Sweep.objects.all():
        assert before <= sweep.started_at <= sweep.finished_at <= datetime.now(UTC)
        assert sweep.error == ""


def test_one_of_many_processes_at_once_runs_each_sweep(broker, race):
    answers = race(*[lambda _: run_and_close()] * 4)

    assert sorted(name for answer in answers for name in answer) == sorted(NAMES)


def run_and_close():
    try:
        return sweeps.run_due()
    finally:
        sweeps._own_connection.drop()


def test_a_database_that_is_away_is_no_error(broker, monkeypatch):
    sweeps.run_due()
    sweeps._own_connection.drop()
    with monkeypatch.context() as away:
        away.setitem(connection.settings_dict, "HOST", "/nowhere")
        assert sweeps.run_due() == {}

    Sweep.objects.update(started_at=None)
    assert set(sweeps.run_due()) == NAMES


def test_a_connection_that_died_is_replaced_the_next_time(jobs, broker):
    sweeps.run_due()
    jobs.cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [sweeps._own_connection.get().info.backend_pid])
    Sweep.objects.update(started_at=None)

    assert sweeps.run_due() == {}
    assert set(sweeps.run_due()) == NAMES


def test_a_sweep_that_fails_stops_no_other_and_says_why(jobs, broker, broker_is_down):
    claimed = jobs.running()
    jobs.expire_lock(claimed.number)
    sweeps.run_all()

    failed = Sweep.objects.exclude(error="").get()
    assert (failed.name, "127.0.0.1:1" in failed.error) == ("lost_messages", True)
    assert set(Sweep.objects.exclude(finished_at=None).values_list("name", flat=True)) == NAMES
    assert jobs.attempts(claimed.number) == ["LOST"]


def test_a_queue_that_is_no_longer_configured_stops_nothing(jobs, define, broker, settings):
    theirs, ours = jobs.pending(define("publish", queue="content")), jobs.pending()
    claimed = jobs.running()
    jobs.expire_lock(claimed.number)
    urls = settings.JOBSITE_BROKER_URLS
    settings.JOBSITE_BROKER_URLS = {queue: url for queue, url in urls.items() if queue != "content"}

    assert set(sweeps.run_due()) >= NAMES - {"due"}

    assert ours in broker.numbers()
    assert jobs.attempts(claimed.number) == ["LOST"]
    assert jobs.status(theirs) in ("PENDING", "QUEUED")


# ---- due -------------------------------------------------------------------------------------------------


def test_a_job_that_became_due_is_dispatched(jobs, broker):
    due, later = jobs.many(2, scheduled_at=IN_AN_HOUR)
    jobs.make_due(due, -1)

    assert sweeps.run_all()["due"] == 1

    assert jobs.statuses() == {due: "QUEUED", later: "PENDING"}
    assert broker.numbers() == [due]


def test_the_jobs_of_a_program_that_goes_on_are_dispatched(jobs, broker):
    Program.objects.filter(pk=jobs.program.pk).update(status="PAUSED")
    number = jobs.pending()
    sweeps.run_all()
    assert jobs.row(number).blocked == "PAUSED"

    Program.objects.update(status="ACTIVE")
    sweeps.run_all()

    assert broker.numbers() == [number]


def lost_submission(jobs):
    return jobs.pending()


def lost_retry(jobs):
    claimed = jobs.running()
    finish(jobs.cursor, held(claimed), snoozed(0))
    return claimed.number


def lost_return(jobs):
    claimed = jobs.running()
    give_back_all(jobs.cursor, owner=claimed_by(jobs), worker="w@here")
    return claimed.number


def claimed_by(jobs):
    return jobs.worker.incarnation


def lost_release(jobs):
    number = jobs.pending(hold_by="alice")
    hold.release(jobs.cursor, number=number, tenant_id=jobs.program.tenant_id)
    return number


@pytest.mark.parametrize(
    "leave",
    [lost_submission, lost_retry, lost_return, lost_release],
    ids=lambda leave: leave.__name__,
)
def test_a_ready_job_whose_lane_nobody_woke_is_found(jobs, broker, leave):
    number = leave(jobs)

    sweeps.run_all()

    assert (jobs.status(number), broker.numbers()) == ("QUEUED", [number])


def test_every_lane_with_something_ready_is_woken_and_no_other(jobs, define, broker):
    jobs.pending()
    jobs.pending(define("publish", queue="content"))
    jobs.pending(define("held", queue="analytics"), hold_by="alice")

    sweeps.open_lanes(jobs.cursor)

    lanes = Lane.objects.filter(is_waiting=True).values_list("queue__name", flat=True)
    assert sorted(lanes) == ["content", "default"]


def test_a_lane_that_is_awake_is_not_woken_again(jobs):
    number = jobs.pending()
    transition.wake(jobs.cursor, [number])

    sweeps.open_lanes(jobs.cursor)

    assert Lane.objects.get().wakes == 0


def test_a_hold_that_ended_releases_its_job(jobs, broker):
    number = jobs.pending(hold_by="alice")
    jobs.set(number, "hold_until = clock_timestamp() - interval '1 second'")

    assert sweeps.run_all()["ended_holds"] == 1
    sweeps.run_all()

    assert broker.numbers() == [number]


# ---- lost and stuck runs ---------------------------------------------------------------------------------


def test_a_run_whose_lock_ran_out_is_taken_and_dispatched_again(jobs, broker):
    claimed = jobs.running()
    jobs.expire_lock(claimed.number)

    assert sweeps.run_all()["expired_locks"] == 1

    assert (jobs.status(claimed.number), broker.numbers()) == ("QUEUED", [claimed.number])
    assert jobs.attempts(claimed.number) == ["LOST"]


def test_no_lock_counts_as_expired_right_after_a_start_of_the_database(jobs, broker, monkeypatch):
    claimed = jobs.running()
    jobs.expire_lock(claimed.number)
    jobs.cursor.execute("SELECT extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())::float")
    [up] = jobs.cursor.fetchone()

    monkeypatch.setattr(sweeps, "AFTER_START_SECONDS", up + 60)
    assert sweeps.run_all()["expired_locks"] == 0
    assert jobs.status(claimed.number) == "RUNNING"

    monkeypatch.setattr(sweeps, "AFTER_START_SECONDS", up)
    assert sweeps.run_all()["expired_locks"] == 1


def test_a_stuck_run_is_ended(jobs, broker):
    claimed = jobs.running()
    jobs.set(claimed.number, "stuck_at = clock_timestamp() - interval '1 second'")

    assert sweeps.run_all()["stuck"] == 1

    job = jobs.row(claimed.number)
    assert (job.status, job.failure_kind) == ("FAILED", "TIMEOUT")


def test_the_jobs_of_a_process_that_is_gone_come_back_at_once(jobs, worker, broker):
    claimed = jobs.running(worker=worker)
    Worker.objects.update(process_started=1)  # that process has ended; another one has its pid now

    assert sweeps.run_all()["lost_workers"] == 1

    assert Worker.objects.get().status == "LOST"
    assert (jobs.status(claimed.number), broker.numbers()) == ("QUEUED", [claimed.number])


def test_every_sweep_leaves_healthy_jobs_alone(jobs, worker, broker):
    running, later = jobs.running(worker=worker), jobs.pending(scheduled_at=IN_AN_HOUR)
    on_hold, done = jobs.pending(hold_by="alice"), jobs.ended()
    before = list(Job.objects.order_by("number").values())

    for _ in range(3):
        assert not any(sweeps.run_all().values())

    assert list(Job.objects.order_by("number").values()) == before
    assert [running.number, later, on_hold, done] == list(jobs.statuses())


# How many rows of the jobs this transaction has read.
ROWS_READ = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'jobsite_job'"


@pytest.mark.parametrize("name", sorted(NAMES))
def test_no_sweep_reads_finished_future_or_held_jobs(jobs, broker, name):
    jobs.many(300, scheduled_at=IN_AN_HOUR)
    on_hold, finished = jobs.many(300, hold_by="alice"), jobs.many(300)
    jobs.cursor.execute("UPDATE jobsite_job SET hold_until = %s WHERE number = ANY(%s)", [IN_AN_HOUR, on_hold])
    jobs.cursor.execute(
        "UPDATE jobsite_job SET status = 'CANCELED', finished_at = clock_timestamp() WHERE number = ANY(%s)", [finished]
    )
    jobs.cursor.execute("ANALYZE jobsite_job")
    [sweep] = [sweep for sweep in sweeps.all_sweeps() if sweep.name == name]

    with workers.open_connection() as opened, opened.transaction(), opened.cursor() as cursor:
        sweep.run(cursor)

        cursor.execute(ROWS_READ)
        assert cursor.fetchone()[0] <= 10


def test_a_canceled_run_that_was_lost_is_not_dispatched(jobs, broker):
    claimed = jobs.running()
    cancel(jobs.cursor, number=claimed.number, tenant_id=claimed.tenant_id, by="alice", reason="")
    jobs.expire_lock(claimed.number)

    sweeps.run_all()

    assert (jobs.status(claimed.number), broker.raw()) == ("CANCELED", [])


# ---- lost messages ---------------------------------------------------------------------------------------


@pytest.fixture
def sent(jobs, broker):
    """A job whose message is in the broker, sent so many seconds ago; the sweep has seen the broker before."""

    def send(seconds=0.0):
        sweeps.run_all()
        number = jobs.pending()
        sweeps.run_all()
        assert number in broker.numbers()
        age(jobs, number, seconds)
        return number

    return send


def test_a_message_in_its_list_is_not_lost_however_old_it_is(jobs, sent, broker):
    number = sent(100_000)

    assert sweeps.run_all()["lost_messages"] == 0

    assert (jobs.status(number), len(broker.raw())) == ("QUEUED", 1)


@pytest.mark.parametrize(("seconds", "lost"), [(4, 0), (6, 1)])
def test_a_message_is_lost_when_its_list_is_empty_for_five_seconds(jobs, sent, broker, seconds, lost):
    number = sent(seconds)
    broker.client.delete(broker.prefix + "default")

    assert sweeps.run_all()["lost_messages"] == lost

    assert broker.numbers() == [number] * lost
    assert jobs.status(number) == "QUEUED"


@pytest.mark.parametrize(("seconds", "lost"), [(50, 0), (70, 1)])
def test_a_message_counts_as_lost_after_a_minute_where_others_wait(jobs, sent, broker, seconds, lost):
    first, second = sent(seconds), sent(0)
    broker.client.lrem(broker.prefix + "default", 1, broker.raw()[0])
    assert broker.numbers() == [second]

    assert sweeps.run_all()["lost_messages"] == lost

    assert sorted(broker.numbers()) == ([first, second] if lost else [second])


def test_a_broker_that_lost_its_memory_has_lost_every_message_at_once(jobs, sent, broker):
    number = sent(0)
    broker.forget()

    assert sweeps.run_all()["lost_messages"] == 1

    assert broker.numbers() == [number]


def test_the_first_look_at_a_broker_proves_nothing(jobs, broker):
    number = jobs.queued()
    assert Queue.objects.get(name="default").broker_epoch is None

    assert sweeps.run_all()["lost_messages"] == 0

    assert jobs.status(number) == "QUEUED"
    assert Queue.objects.get(name="default").broker_epoch is not None


def test_a_memory_that_was_lost_is_noticed_once(jobs, sent, broker):
    sent(0)
    broker.forget()
    sweeps.run_all()

    assert sweeps.run_all()["lost_messages"] == 0
    assert len(broker.raw()) == 1


def test_a_broker_out_of_reach_may_still_hold_its_messages(jobs, sent, broker, settings):
    number = sent(100_000)
    urls = settings.JOBSITE_BROKER_URLS
    settings.JOBSITE_BROKER_URLS = dict.fromkeys(urls, "redis://127.0.0.1:1/0")

    sweeps.run_all()

    assert jobs.status(number) == "QUEUED"
    settings.JOBSITE_BROKER_URLS = urls
    assert broker.numbers() == [number]


def test_one_broker_out_of_reach_hides_no_loss_on_another(jobs, sent, broker, settings):
    number = sent(6)
    broker.client.delete(broker.prefix + "default")
    settings.JOBSITE_BROKER_URLS = settings.JOBSITE_BROKER_URLS | {"content": "redis://127.0.0.1:1/0"}

    sweeps.run_all()

    assert broker.numbers() == [number]
    assert "127.0.0.1:1" in Sweep.objects.get(name="lost_messages").error


def test_a_job_that_was_dispatched_while_its_broker_was_down_goes_out_when_it_is_back(jobs, broker, settings):
    urls = settings.JOBSITE_BROKER_URLS
    sweeps.run_all()
    settings.JOBSITE_BROKER_URLS = dict.fromkeys(urls, "redis://127.0.0.1:1/0")
    number = jobs.pending()
    sweeps.run_all()
    assert jobs.status(number) == "QUEUED"

    settings.JOBSITE_BROKER_URLS = urls
    age(jobs, number, 6)
    sweeps.run_all()

    assert broker.numbers() == [number]


def test_reaped_jobs_are_dispatched_by_queue(jobs, define, broker):
    claimed = [jobs.running(), jobs.running(define("publish", queue="content"))]
    for one in claimed:
        jobs.expire_lock(one.number)

    sweeps.run_all()

    assert broker.numbers("default") == [claimed[0].number]
    assert broker.numbers("content") == [claimed[1].number]


def test_a_worker_marked_lost_by_mistake_comes_back(cursor, worker, broker):
    Worker.objects.update(last_seen_at=datetime.now(UTC) - timedelta(hours=1))
    sweeps.run_all()
    assert Worker.objects.get().status == "LOST"

    workers.heartbeat(cursor, incarnation=worker.incarnation, children=1)

    sweeps.run_all()
    assert Worker.objects.get().status == "ACTIVE"


def test_another_machines_worker_keeps_its_jobs_until_their_locks_run_out(jobs, cursor, broker):
    worker = new_worker(cursor)
    Worker.objects.update(boot_id=str(uuid4()), process_started=1, last_seen_at=datetime.now(UTC) - timedelta(hours=1))
    claimed = jobs.running(worker=worker)

    sweeps.run_all()

    assert (Worker.objects.get().status, jobs.status(claimed.number)) == ("LOST", "RUNNING")


@pytest.mark.parametrize(
    "error",
    [psycopg.errors.DeadlockDetected("it broke"), psycopg.errors.UniqueViolation("it broke"), LookupError("it broke")],
    ids=["deadlock", "violation", "anything"],
)
def test_an_error_in_one_sweep_is_left_for_its_next_round(broker, monkeypatch, error):
    def breaks(_):
        raise error

    broken = sweeps.Sweep("stuck", 1.0, breaks)
    rest = [sweep for sweep in sweeps.all_sweeps() if sweep.name != "stuck"]
    monkeypatch.setattr(sweeps, "all_sweeps", lambda: (broken, *rest))

    assert set(sweeps.run_due()) == NAMES - {"stuck"}

    assert "it broke" in Sweep.objects.get(name="stuck").error
