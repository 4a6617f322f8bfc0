"""PostgreSQL is killed and started again while jobs run: their results are stored once it is back."""

import os
import signal
from collections.abc import Iterator

import pytest
from django.conf import settings
from django.db import connection

from jobsite import embedded
from jobsite.embedded import Servers
from jobsite.embedded.postgres import Postgres
from tests.flows.jobs import all_finished, effects, history, process_of
from tests.flows.processes import is_alive, until


@pytest.fixture
def durable_database(db: None) -> Iterator[None]:
    """Make commits durable. Otherwise the tests' server keeps the last half second in memory only."""
    _set("SET synchronous_commit = on")
    yield
    _set("RESET synchronous_commit")


def _set(what: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER DATABASE {connection.settings_dict['NAME']} {what}")
    connection.close()


def _kill_postgres(servers: Servers) -> None:
    pid = Postgres(servers, durable=False).process()
    assert pid is not None
    connection.close()
    os.kill(pid, signal.SIGKILL)
    until(lambda: not is_alive(pid), "PostgreSQL is gone")


@pytest.mark.usefixtures("durable_database")
def test_jobs_complete_although_the_database_is_killed_while_they_run(define, submit, start_worker, servers, folder):
    define(target="tests.sample_actions:work", timeout="60s")
    worker = start_worker("default")
    jobs = [submit("sample", {"folder": str(folder), "seconds": 1.0}) for _ in range(2)]
    for job in jobs:
        process_of(job, folder)
    jobs += [submit("sample", {"folder": str(folder), "seconds": 0.1}) for _ in range(6)]

    _kill_postgres(servers)
    until(lambda: len(effects(folder)) == 2, "the running actions have ended without a database")
    until(lambda: worker.has_logged("finish_retried"), "their ends could not be stored")
    embedded.ensure(settings.JOBSITE_HOME, durable=False)
    ended = all_finished(jobs, seconds=30)

    assert {(job.status, job.attempts, job.losses, job.fence) for job in ended} == {("COMPLETED", 1, 0, 1)}
    assert [history(job) for job in ended] == [["SUCCESS"]] * 8
    assert sorted(effects(folder)) == [(job.number, 1) for job in jobs]
    assert worker.process.poll() is None


@pytest.mark.usefixtures("durable_database")
def test_jobs_of_people_run_again_once_the_database_is_back(define, submit, start_worker, servers, alice, bob):
    define(target="tests.sample_actions:need")
    start_worker("default")
    # Looking up the user opens Django's own connection in each child.
    before = all_finished([submit("sample", {"permission": "jobs:write"}, user=alice) for _ in range(6)])
    assert {job.status for job in before} == {"COMPLETED"}

    _kill_postgres(servers)
    embedded.ensure(settings.JOBSITE_HOME, durable=False)
    after = all_finished([submit("sample", {"permission": "jobs:write"}, user=bob) for _ in range(6)])

    assert [(job.status, history(job)) for job in after] == [("COMPLETED", ["SUCCESS"])] * 6
