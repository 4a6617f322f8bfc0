"""Which worker a process belongs to, and which workers are certainly gone."""

import multiprocessing
import os
import subprocess
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg
import pytest

from jobsite.errors import NotFound
from jobsite.programs import workers
from jobsite.programs.models import Worker, WorkerManager
from jobsite.programs.workers import Process, Registered
from tests.programs.conftest import new_worker

pytestmark = pytest.mark.django_db


# ---- processes -------------------------------------------------------------------------------------------


def test_this_process_is_not_gone():
    process = Process.current()

    assert process.pid == os.getpid()
    assert process.started > 0
    assert not process.is_gone


@pytest.mark.parametrize(
    "other",
    [{"boot_id": str(uuid4())}, {"boot_id": ""}, {"pid_namespace": "pid:[1]"}],
    ids=["another boot", "unknown boot", "another namespace"],
)
def test_a_process_elsewhere_is_not_known_to_be_gone(other):
    elsewhere = replace(Process.current(), started=1, **other)

    assert not elsewhere.is_gone


def test_a_pid_that_is_used_again_is_another_process():
    assert replace(Process.current(), started=1).is_gone


def test_a_process_that_ended_is_gone_even_while_it_is_a_zombie():
    with subprocess.Popen(["/bin/sleep", "60"]) as child:
        process = replace(Process.current(), pid=child.pid, started=workers._started(child.pid))
        assert not process.is_gone

        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie
        assert process.is_gone

    assert process.is_gone


# ---- registration ----------------------------------------------------------------------------------------


def test_a_worker_is_registered_with_all_that_identifies_it(cursor):
    worker = new_worker(cursor, "w@here", children=4, queues=("default", "content"))

    row = Worker.objects.get()
    process = Process.current()
    assert (row.name, row.incarnation, row.status) == ("w@here", worker.incarnation, "ACTIVE")
    assert (row.queues, row.children, row.pool, row.manager.name) == (["default", "content"], 4, "prefork", "default")
    assert (row.host, row.boot_id, row.pid_namespace) == (process.host, process.boot_id, process.pid_namespace)
    assert (row.pid, row.process_started) == (process.pid, process.started)
    assert worker == Registered(row.incarnation, "w@here", row.manager_id, ("default", "content"))


def test_each_start_is_a_new_incarnation(cursor):
    first = new_worker(cursor)
    workers.set_status(cursor, incarnation=first.incarnation, status="STOPPED")

    second = new_worker(cursor)

    assert first.name == second.name
    assert first.incarnation != second.incarnation


def test_a_second_living_worker_of_one_name_gets_a_suffix(cursor):
    names = [new_worker(cursor, "w@here").name for _ in range(4)]

    assert names == ["w@here", "w@here-2", "w@here-3", "w@here-4"]


@pytest.mark.parametrize(
    ("status", "name"),
    [("ACTIVE", "w@here-2"), ("STOPPING", "w@here-2"), ("STOPPED", "w@here"), ("LOST", "w@here")],
)
def test_the_name_of_a_worker_that_is_gone_is_free(cursor, status, name):
    new_worker(cursor, "w@here")
    Worker.objects.update(status=status)

    assert new_worker(cursor, "w@here").name == name


def test_workers_that_start_at_once_get_names_of_their_own(transactional_db, race):
    registered = race(*[lambda cursor: new_worker(cursor, "w@here")] * 6)

    assert len({worker.name for worker in registered}) == 6


def test_a_manager_that_does_not_exist_is_an_error_that_says_what_to_do(cursor):
    with pytest.raises(NotFound, match="no worker manager gpu; make it in the admin"):
        new_worker(cursor, manager="gpu")

    assert not Worker.objects.exists()


def test_a_worker_belongs_to_the_manager_it_names(cursor):
    manager = WorkerManager.objects.create(name="gpu", max_running=2)

    assert new_worker(cursor, manager="gpu").manager_id == manager.pk


# ---- life and death --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("before", "after"), [("ACTIVE", "ACTIVE"), ("STOPPING", "STOPPING"), ("LOST", "ACTIVE")])
def test_a_heartbeat_says_that_the_worker_lives_and_with_how_many_children(cursor, worker, before, after):
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    Worker.objects.update(status=before, last_seen_at=long_ago)

    workers.heartbeat(cursor, incarnation=worker.incarnation, children=7)

    row = Worker.objects.get()
    assert (row.status, row.children) == (after, 7)
    assert row.last_seen_at > long_ago + timedelta(minutes=59)


def test_a_worker_marked_lost_whose_name_was_taken_since_goes_on(cursor, worker):
    """Frozen for longer than its lock, replaced by another of its name, and then awake again."""
    Worker.objects.update(status="LOST")
    second = new_worker(cursor)
    assert second.name == worker.name

    for incarnation in (worker.incarnation, second.incarnation):
        workers.heartbeat(cursor, incarnation=incarnation, children=1)

    living = Worker.objects.filter(status="ACTIVE").values_list("name", flat=True)
    assert len(set(living)) == len(living) >= 1


@pytest.mark.parametrize("status", ["STOPPING", "STOPPED"])
def test_a_worker_records_that_it_stops(cursor, worker, status):
    workers.set_status(cursor, incarnation=worker.incarnation, status=status)

    assert Worker.objects.get().status == status


def test_workers_that_live_are_left_alone(jobs, cursor, worker):
    claimed = jobs.running(worker=worker)

    assert workers.reap_gone(cursor, silent_seconds=40) == []

    assert (Worker.objects.get().status, jobs.status(claimed.number)) == ("ACTIVE", "RUNNING")


def test_a_worker_whose_process_is_gone_is_lost_and_its_jobs_come_back(jobs, cursor, worker):
    claimed, healthy = jobs.running(worker=worker), jobs.running(worker=new_worker(cursor, "w2@here"))
    Worker.objects.filter(incarnation=worker.incarnation).update(process_started=1)

    [reaped] = workers.reap_gone(cursor, silent_seconds=40)

    assert (reaped.number, reaped.status) == (claimed.number, "PENDING")
    assert jobs.status(healthy.number) == "RUNNING"
    assert dict(Worker.objects.values_list("name", "status")) == {"w1@here": "LOST", "w2@here": "ACTIVE"}


def test_a_silent_worker_elsewhere_is_lost_but_keeps_its_jobs(jobs, cursor, worker):
    claimed = jobs.running(worker=worker)
    Worker.objects.update(boot_id=str(uuid4()), last_seen_at=datetime.now(UTC) - timedelta(seconds=60))

    assert workers.reap_gone(cursor, silent_seconds=40) == []

    assert (Worker.objects.get().status, jobs.status(claimed.number)) == ("LOST", "RUNNING")


@pytest.mark.parametrize("status", ["STOPPED", "LOST"])
def test_a_worker_that_has_ended_stays_as_it_is(cursor, worker, status):
    Worker.objects.update(status=status, process_started=1)

    workers.reap_gone(cursor, silent_seconds=40)

    assert Worker.objects.get().status == status


# ---- this process ----------------------------------------------------------------------------------------


def test_a_process_that_is_no_worker_says_so(monkeypatch):
    monkeypatch.setattr(workers, "_registered", None)

    with pytest.raises(RuntimeError, match="no registered worker"):
        workers.current()


def test_a_process_becomes_part_of_a_worker(monkeypatch, worker):
    monkeypatch.setattr(workers, "_registered", None)
    monkeypatch.setattr(workers, "_is_expendable", False)

    workers.become(worker)
    assert (workers.current(), workers.is_expendable()) == (worker, False)

    workers.mark_expendable()
    assert workers.is_expendable()


# ---- connections -----------------------------------------------------------------------------------------


def test_a_thread_keeps_its_connection_until_it_is_dropped(transactional_db):
    first = workers.connection()
    assert workers.connection() is first

    workers.drop_connection()

    assert first.closed
    assert workers.connection() is not first
    workers.drop_connection()
    workers.drop_connection()  # to drop none is no error


def test_each_thread_has_its_own(transactional_db):
    seen = []

    def look():
        seen.append(workers.connection())
        workers.drop_connection()

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()

    assert seen[0] is not workers.connection()


def test_a_connection_that_was_closed_is_opened_again(transactional_db):
    workers.connection().close()

    assert workers.connection().execute("SELECT 1").fetchone() == (1,)


def test_statements_are_committed_one_by_one(transactional_db):
    connection = workers.connection()

    assert connection.autocommit
    assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_a_forked_child_opens_its_own_and_leaves_its_parents_alone(transactional_db):
    parents = workers.connection()
    pid = parents.execute("SELECT pg_backend_pid()").fetchone()[0]
    receiver, sender = multiprocessing.Pipe(duplex=False)

    child = multiprocessing.get_context("fork").Process(target=_tell_backend, args=(sender,))
    child.start()
    assert receiver.poll(20)
    child_pid = receiver.recv()
    child.join(20)

    assert child_pid != pid
    assert workers.connection() is parents
    assert parents.execute("SELECT pg_backend_pid()").fetchone()[0] == pid


def _tell_backend(sender):
    with workers.connection() as connection:
        sender.send(connection.execute("SELECT pg_backend_pid()").fetchone()[0])
    os._exit(0)
