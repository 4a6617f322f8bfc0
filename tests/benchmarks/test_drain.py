"""How fast a backlog of no-op jobs is drained, beside a bare Celery task on the same machine in the same run.

Prints the figures (run with -s). They hold for one machine on one day; the ratio and the counts travel.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from uuid import uuid4

import pytest
import redis
from django.db import connection

from jobsite.embedded import Servers
from jobsite.tenants.models import Tenant
from programs import dispatch, execution, principals, workers
from programs.lifecycle import Trigger
from programs.models import Job, JobAttempt, Program
from programs.transitions.submit import NewJob, insert
from tests.flows.processes import ROOT

JOBS = 5_000
ROUNDS = 3


def _backlog(program: Program, tenant: Tenant, count: int) -> None:
    context = principals.system(tenant).captured
    job = NewJob(tenant.pk, program.pk, "{}", context, trigger=Trigger.MANUAL)
    with connection.cursor() as cursor:
        for _ in range(count // 1_000):
            insert(cursor, [job] * 1_000)


def _commits() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_stat_clear_snapshot(), xact_commit FROM pg_stat_database WHERE datname = current_database()"
        )
        return int(cursor.fetchone()[1])


def _until(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the backlog was not drained in time"
        time.sleep(0.02)


def _drain_jobsite(program: Program, tenant: Tenant) -> tuple[float, float]:
    _backlog(program, tenant, JOBS)
    first = Job.objects.order_by("number").values_list("number", "queue_id").first()
    assert first is not None
    commits, began = _commits(), time.monotonic()
    with connection.cursor() as cursor:
        dispatch.wake_and_dispatch(cursor, [first[0]], first[1])
    _until(lambda: not Job.objects.exclude(status="COMPLETED").exists())
    seconds = time.monotonic() - began
    assert JobAttempt.objects.filter(result="SUCCESS").count() == JOBS
    per_job = (_commits() - commits) / JOBS
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE jobsite_jobattempt, jobsite_job CASCADE")
    return JOBS / seconds, per_job


def _drain_bare(client: "redis.Redis[bytes]", url: str) -> float:
    from tests.benchmarks.bare_celery import app, noop  # the broker's URL is known by now

    app.conf.broker_url = url
    with app.connection_for_write(url=url) as broker, app.amqp.Producer(broker) as producer:
        for _ in range(JOBS):
            noop.apply_async(producer=producer)
    with _bare_worker(url):
        _until(lambda: int(client.llen("bare:bare")) < JOBS)  # it has begun
        left, began = int(client.llen("bare:bare")), time.monotonic()
        _until(lambda: not client.llen("bare:bare"))
        return left / (time.monotonic() - began)


@contextmanager
def _bare_worker(url: str) -> Iterator[None]:
    argv = [sys.executable, "-m", "celery", "-A", "tests.benchmarks.bare_celery", "worker", "-c", "2", "-l", "ERROR"]
    environment = {"BARE_BROKER_URL": url, "PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": "/tmp"}
    process = subprocess.Popen(
        [*argv, "--without-mingle"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_backlog_is_drained_beside_bare_celery(
    db: None, servers: Servers, tenant: Tenant, define: Any, start_worker: Any, capsys: Any
) -> None:
    program = define("noop", target="jobsite.samples:noop")
    client = redis.Redis(unix_socket_path=str(servers.redis_socket))
    ours, bare, commits = [], [], []

    for _ in range(ROUNDS):
        worker = start_worker("default", concurrency=2)
        rate, per_job = _drain_jobsite(program, tenant)
        worker.kill()
        ours.append(rate)
        commits.append(per_job)
        bare.append(_drain_bare(client, servers.broker_url))

    with capsys.disabled():
        print(f"\n{JOBS} no-op jobs, two children, medians of {ROUNDS} interleaved rounds")
        print(f"  jobsite      {median(ours):7.0f} jobs/s   {median(commits):.2f} commits a job")
        print(f"  bare Celery  {median(bare):7.0f} tasks/s")
        print(f"  ratio        {median(ours) / median(bare):7.2f}")


def test_a_job_costs_at_most_three_round_trips_to_the_database(
    db: None, tenant: Tenant, define: Any, submit: Any, tmp_path: Path
) -> None:
    define("noop", target="jobsite.samples:noop")
    numbers = [submit("noop").number for _ in range(20)]
    with workers.connection().cursor() as cursor:
        workers.become(
            workers.register(cursor, name="bench@here", manager="default", queues=["default"], pool="solo", children=1)
        )
    trace = tmp_path / "trace"

    def run(number: int) -> None:
        Job.objects.filter(number=number, status="PENDING").update(status="QUEUED")
        assert execution.run([number], message=uuid4()) == 1

    for number in numbers[:10]:
        run(number)  # the caches fill, the statements are prepared
    with trace.open("wb") as file:
        workers.connection().pgconn.trace(file.fileno())
        for number in numbers[10:]:
            run(number)
        workers.connection().pgconn.untrace()

    trips = trace.read_text(errors="replace").count("ReadyForQuery")
    # Claim and finish, and dispatch unless the window was filled for some more; once a second the program's mean.
    assert 20 <= trips <= 31
    workers.drop_connection()
