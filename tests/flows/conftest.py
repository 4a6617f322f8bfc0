"""Real workers for the flows: `celery -A jobsite worker` on the tests' PostgreSQL and Redis.

Workers are other processes, so the tests cannot run inside a transaction that is rolled back. `db` is replaced by a
fixture that commits, and empties the tables after each test. It keeps the rows that a running worker needs (its own
row, queues, managers, sweeps), so that one worker can serve all tests of a module (`worker`). Tests that break their
workers start their own (`start_worker`).
"""

import base64
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg.errors
import pytest
import redis
from django.conf import settings
from django.db import connection
from django.db.utils import OperationalError
from django.test import override_settings

from jobsite import brokers
from jobsite.embedded import Servers
from jobsite.programs import invariants, submission
from jobsite.programs.models import Job, Queue, WorkerManager
from jobsite.programs.upkeep import sweeps
from jobsite.tenants.models import Tenant
from tests.flows.jobs import queued_each
from tests.flows.processes import ROOT, WorkerProcess

FAST = {"LOCK": 8.0, "RENEW": 2.0, "SWEEP": 1.0}
KEPT = ("jobsite_queue", "jobsite_sweep", "jobsite_workermanager", "jobsite_worker", "jobsite_tenant")
StartWorker = Callable[..., WorkerProcess]
Submit = Callable[..., Job]

_started: list[WorkerProcess] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Add the logs of the workers to the report of a failed test."""
    report = yield
    if report.failed:
        report.sections += [(f"log of worker {worker.name}", worker.tail()) for worker in _started]
    return report


@pytest.fixture(scope="module")
def installation(
    django_db_setup: None, django_db_blocker: Any, servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """Let several processes use the tests' database and broker. Yields the environment of these processes."""
    name = connection.settings_dict["NAME"]
    with ExitStack() as stack:
        stack.enter_context(django_db_blocker.unblock())
        stack.enter_context(override_settings(**{f"JOBSITE_{key}_SECONDS": FAST[key] for key in FAST}))
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        # The prefix was made from the name that the database had before pytest-django made its own.
        patch.setitem(settings.CELERY_BROKER_TRANSPORT_OPTIONS, "global_keyprefix", f"jobsite:{name}:")
        brokers._forget_connections()
        _forget_messages(servers)
        yield {
            "DATABASE_URL": f"postgresql://jobsite@/{name}?host={quote(str(servers.socket_directory), safe='')}",
            "JOBSITE_BROKER_URL": servers.broker_url,
            "JOBSITE_HOME": str(settings.JOBSITE_HOME),
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "DJANGO_SECRET_KEY": secrets.token_urlsafe(50),
            "DJANGO_ALLOWED_HOSTS": "localhost",
            "JOBSITE_SECRET_KEYS": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "JOBSITE_ACTIONS": ",".join(settings.JOBSITE_ACTIONS),
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
            **{f"JOBSITE_{key}_SECONDS": f"{FAST[key]:g}" for key in FAST},
        }
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM jobsite_worker")
        brokers._forget_connections()
        sweeps._own_connection.drop()
        connection.close()


def flush_broker(servers: Servers) -> None:
    """Delete everything in Redis, as a restart without persistence does."""
    with redis.Redis(unix_socket_path=str(servers.redis_socket)) as client:
        client.flushall()


def _forget_messages(servers: Servers) -> None:
    """Delete messages of earlier tests, and the known epoch: else a sweep would take new messages for lost."""
    flush_broker(servers)
    Queue.objects.update(broker_epoch=None)


@pytest.fixture
def db(installation: dict[str, str]) -> Iterator[None]:
    """The database with real commits, which other processes see. Checked and emptied after the test."""
    yield
    with connection.cursor() as cursor:
        violations = invariants.check(cursor)
    _empty_the_tables_beside_workers()
    assert not violations


def _empty_the_tables_beside_workers() -> None:
    for _ in range(10):
        try:
            return _empty_the_tables()
        except OperationalError as error:
            # Sometimes a sweep of a running worker locks the tables in another order.
            if not isinstance(error.__cause__, psycopg.errors.DeadlockDetected):
                raise
    raise AssertionError("the tables cannot be emptied because of deadlocks")


def _empty_the_tables() -> None:
    names = connection.introspection.table_names()
    ours = [name for name in names if name.startswith("jobsite_") and name not in KEPT]
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {', '.join([*ours, 'auth_user'])} CASCADE")
        cursor.execute("DELETE FROM jobsite_tenant WHERE code <> 'system'")
        cursor.execute("UPDATE jobsite_queue SET paused_at = NULL")


@pytest.fixture
def start_worker(db: None, installation: dict[str, str], servers: Servers, tmp_path: Path) -> Iterator[StartWorker]:
    """Start workers for this test: `start_worker("default", concurrency=2)`. They are killed at its end.

    The messages that they leave are deleted, so that the next test does not get them.
    """
    yield from _workers(installation, tmp_path)
    _forget_messages(servers)


@pytest.fixture(scope="module")
def worker(
    request: pytest.FixtureRequest, installation: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WorkerProcess]:
    """One worker for all tests of a module. The module may set WORKER to other options."""
    options = getattr(request.module, "WORKER", {})
    for start in _workers(installation, tmp_path_factory.mktemp("worker")):
        yield start("default", **{"concurrency": 4, **options})


def _workers(installation: dict[str, str], folder: Path) -> Iterator[StartWorker]:
    mine: list[WorkerProcess] = []

    def start(
        *queues: str,
        concurrency: int = 2,
        name: str | None = None,
        pool: str = "prefork",
        manager: str | None = None,
        environment: dict[str, str] | None = None,
        options: tuple[str, ...] = (),
        wait: bool = True,
    ) -> WorkerProcess:
        name = name or f"w{len(mine) + 1}"
        extra = {"JOBSITE_MANAGER": manager} if manager else {}
        # Without mingle, which waits a second for the other workers and is not needed here.
        arguments = ["-Q", ",".join(queues), "-c", str(concurrency), "-P", pool, "-l", "INFO"]
        arguments += ["--without-mingle", "--without-gossip", *options]
        log = folder / f"{name}-{len(mine) + 1}.log"
        started = WorkerProcess(name, arguments, {**installation, **extra, **(environment or {})}, log)
        mine.append(started)
        _started.append(started)
        return started.wait_until_ready() if wait else started

    try:
        yield start
    finally:
        for one in mine:
            one.kill()
            _started.remove(one)


@pytest.fixture
def submit(tenant: Tenant) -> Submit:
    """Submit a job in Alice's tenant: `submit("work", {"folder": …}, user=bob, priority=5)`."""

    def make(program: str, parameters: dict[str, Any] | None = None, **options: Any) -> Job:
        return submission.submit(tenant=tenant, program=program, parameters=parameters, **options)

    return make


@pytest.fixture
def group(define: Any, operator: Any) -> Callable[..., list[Job]]:
    """Make QUEUED jobs of one program, without a message: `group({"act": "hang"}, {}, timeout="2s")`."""

    def make(*parameters: dict[str, Any], **program: Any) -> list[Job]:
        # Else a sweep that sees the emptied broker would take these messages for lost.
        Queue.objects.update(broker_epoch=None)
        return queued_each(operator, define(target="tests.sample_actions:perform", **program), parameters)

    return make


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder in which `work` records its runs."""
    made = tmp_path / "work"
    made.mkdir()
    return made


@pytest.fixture
def manager(db: None) -> Iterator[WorkerManager]:
    """A worker manager that allows two jobs at once."""
    made = WorkerManager.objects.create(name="two", max_running=2)
    yield made
    made.workers.all().delete()
    made.delete()
