"""What the tests of programs share: jobs in every status, threads that race, and a look at the broker."""

import base64
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import cached_property
from threading import Barrier
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import redis
from django.conf import settings
from django.db import IntegrityError, transaction

from jobsite import embedded
from jobsite.database import Connection, Cursor, connect, prepared_cursor
from jobsite.errors import Refusal
from jobsite.programs import execution, families, workers
from jobsite.programs.context import Context, Step
from jobsite.programs.execution import program_cache
from jobsite.programs.execution.watcher import watcher
from jobsite.programs.models import Job, JobAttempt, Program, Queue
from jobsite.programs.rules.lifecycle import FailureKind, Status
from jobsite.programs.submission import preparation
from jobsite.programs.transitions import cancel, finish
from jobsite.programs.transitions.claim import Claimed, claim
from jobsite.programs.transitions.finish import Ending, Held
from jobsite.programs.transitions.submit import NewJob, insert
from jobsite.programs.upkeep import sweeps
from jobsite.programs.workers import Registered
from jobsite.tenants import principals
from jobsite.tenants.principals import Principal, RunningAs

SUCCESS = Ending.completed({"scored": 3})
FAILURE = Ending.failed(
    FailureKind.PERMANENT,
    {"type": "ValueError", "message": "no", "step": None},
)
WAITING = Ending.parked()
LOCK_SECONDS = 40.0
STUDENT_SCHEMA = {
    "type": "object",
    "properties": {"student": {"type": "integer"}, "term": {"type": "string"}},
    "required": ["student"],
    "additionalProperties": False,
}


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """Clear what the process keeps between jobs, so that it does not reach the next test."""
    principals._cache.clear()
    preparation.forget()
    yield
    principals._cache.clear()
    workers.drop_connection()
    sweeps._own_connection.drop()


@pytest.fixture
def worker(cursor: Cursor) -> Registered:
    """A registered worker of the default manager, with one child, for the queue `default`."""
    return new_worker(cursor)


def new_worker(
    cursor: Cursor,
    name: str = "w1@here",
    *,
    manager: str = "default",
    children: int = 1,
    queues: tuple[str, ...] = ("default",),
) -> Registered:
    return workers.register(cursor, name=name, manager=manager, queues=queues, pool="prefork", children=children)


def refused(kind: type[Refusal], code: str) -> Any:
    """The code inside must be refused with this code."""
    return pytest.raises(kind, check=lambda refusal: refusal.code == code)


class Jobs:
    """Jobs in any status, moved there by the protocol's own statements where there is one."""

    def __init__(self, cursor: Cursor, define: Callable[..., Program]) -> None:
        self.cursor = cursor
        self.define = define

    @cached_property
    def program(self) -> Program:
        return self.define()

    @cached_property
    def worker(self) -> Registered:
        """The worker of the running jobs. It has no row, so that it makes no window larger."""
        self.cursor.execute("SELECT id FROM jobsite_workermanager WHERE name = 'default'")
        return Registered(uuid4(), "w@here", self.cursor.fetchone()[0], tuple(settings.JOBSITE_QUEUES))

    @property
    def queue_id(self) -> int:
        return self.program.queue_id

    def new(self, program: Program | None = None, **fields: Any) -> NewJob:
        program = program or self.program
        fields.setdefault("context", principals.system(program.tenant).captured)
        fields.setdefault("parameters", "{}")
        return NewJob(tenant_id=program.tenant_id, program_id=program.pk, **fields)

    def many(self, count: int, program: Program | None = None, **fields: Any) -> list[int]:
        """`count` PENDING jobs."""
        rows = insert(self.cursor, [self.new(program, **fields) for _ in range(count)])
        return [row.number for row in rows]

    def pending(self, program: Program | None = None, **fields: Any) -> int:
        return self.many(1, program, **fields)[0]

    def queued(self, program: Program | None = None, **fields: Any) -> int:
        number = self.pending(program, **fields)
        self.queue(number)
        return number

    def queue(self, *numbers: int) -> None:
        """Dispatch these without asking whether there is room."""
        self.cursor.execute(
            "UPDATE jobsite_job SET status = 'QUEUED', queued_at = clock_timestamp(), blocked = NULL"
            " WHERE number = ANY(%s)",
            [list(numbers)],
        )

    def claim(self, number: int, *, worker: Registered | None = None, message: UUID | None = None) -> Claimed:
        return claim_all(self.cursor, [number], worker or self.worker, message=message, exact=True)[0]

    def running(
        self,
        program: Program | None = None,
        *,
        worker: Registered | None = None,
        message: UUID | None = None,
        **fields: Any,
    ) -> Claimed:
        return self.claim(self.queued(program, **fields), worker=worker, message=message)

    def ended(self, ending: Ending = SUCCESS, **fields: Any) -> int:
        claimed = self.running(**fields)
        finish.finish(self.cursor, held(claimed), ending)
        return claimed.number

    def in_status(self, status: str, **fields: Any) -> int:
        match Status(status):
            case Status.PENDING:
                return self.pending(**fields)
            case Status.QUEUED:
                return self.queued(**fields)
            case Status.RUNNING:
                return self.running(**fields).number
            case Status.WAITING:
                return self.ended(WAITING, **fields)
            case Status.COMPLETED:
                return self.ended(SUCCESS, **fields)
            case Status.FAILED:
                return self.ended(FAILURE, **fields)
            case Status.CANCELED:
                number = self.pending(**fields)
                cancel.cancel(self.cursor, number=number, tenant_id=self.row(number).tenant_id, by="alice", reason="")
                return number

    def set(self, number: int, assignments: str, values: Any = ()) -> None:
        """Change a row outside of the protocol, mostly as if time had passed."""
        self.cursor.execute(f"UPDATE jobsite_job SET {assignments} WHERE number = %s", [*values, number])

    def make_due(self, number: int, seconds: float) -> None:
        """Move the moment at which a job is due, relative to now."""
        moment = "clock_timestamp() + %s * interval '1 second'"
        self.cursor.execute(
            f"UPDATE jobsite_job j SET due_at = m.at, rank = m.at - priority * interval '60 seconds'"
            f" FROM (SELECT {moment} AS at) m WHERE number = %s",
            [seconds, number],
        )

    def expire_lock(self, number: int) -> None:
        self.set(number, "lock_expires_at = clock_timestamp() - interval '1 second'")

    def row(self, number: int) -> Job:
        return Job.objects.get(number=number)

    def status(self, number: int) -> str:
        return self.row(number).status

    def statuses(self) -> dict[int, str]:
        return dict(Job.objects.order_by("number").values_list("number", "status"))

    def attempts(self, number: int) -> list[str]:
        return list(JobAttempt.objects.filter(job_id=number).order_by("fence").values_list("result", flat=True))


@pytest.fixture
def jobs(cursor: Cursor, define: Callable[..., Program]) -> Jobs:
    return Jobs(cursor, define)


@pytest.fixture
def run_job(cursor: Cursor, jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], Job]]:
    """Run a job once in this process of a worker, as if its back-off were over."""
    monkeypatch.setattr(workers, "_registered", new_worker(cursor))

    def run(number: int) -> Job:
        if jobs.status(number) == "PENDING":
            jobs.make_due(number, -1)
            jobs.queue(number)
        assert execution.run([number], message=uuid4()) == 1
        return jobs.row(number)

    yield run
    watcher()._own_connection.drop()


def claim_all(
    cursor: Cursor,
    numbers: list[int],
    worker: Registered,
    *,
    message: UUID | None = None,
    queues: tuple[str, ...] | None = None,
    exact: bool = False,
) -> list[Claimed]:
    return claim(
        cursor,
        [(number, uuid4()) for number in numbers],
        owner=worker.incarnation,
        manager_id=worker.manager_id,
        queues=queues or worker.queues,
        message=message or uuid4(),
        lock_seconds=LOCK_SECONDS,
        exact=exact,
    )


def held(claimed: Claimed) -> Held:
    return Held(claimed.number, claimed.token, "w@here", claimed.claimed_at)


class Race:
    """Runs functions at the same moment, each in a thread with a connection of its own."""

    def __init__(self) -> None:
        self._connections: list[Connection] = []

    def __call__(self, *steps: Callable[[Cursor], Any]) -> list[Any]:
        """What each function returned, or the exception that it raised, in the order of the functions."""
        while len(self._connections) < len(steps):
            self._connections.append(connect(application_name="test"))
        barrier = Barrier(len(steps))

        def run(place: int) -> Any:
            with self._connections[place].cursor() as cursor:
                barrier.wait(10)
                return steps[place](cursor)

        with ThreadPoolExecutor(len(steps)) as pool:
            futures = [pool.submit(run, place) for place in range(len(steps))]
            return [future.exception() or future.result() for future in futures]

    def close(self) -> None:
        for one in self._connections:
            one.close()


@pytest.fixture
def race(transactional_db: None) -> Iterator[Race]:
    race = Race()
    yield race
    race.close()


@pytest.fixture
def connect_more(transactional_db: None) -> Iterator[Callable[[], Connection]]:
    """Further connections to the database of the test."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(connect(application_name="test"))


@pytest.fixture
def other(connect_more: Callable[[], Connection]) -> Connection:
    """A second connection to the database of the test."""
    return connect_more()


def until(condition: Callable[[], bool], *, seconds: float = 10.0) -> None:
    """Wait for a condition; fails where it does not come true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come"
        time.sleep(0.005)


class Broker:
    """The real Redis, seen from outside: what waits in the lists of the queues."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.prefix: str = settings.CELERY_BROKER_TRANSPORT_OPTIONS["global_keyprefix"]

    def raw(self, queue: str = "default") -> list[bytes]:
        """The messages of a queue as they are in the list, the oldest first."""
        return list(reversed(self.client.lrange(self.prefix + queue, 0, -1)))

    def messages(self, queue: str = "default") -> list[dict[str, Any]]:
        """The messages of a queue with their body decoded, the oldest first."""
        decoded = [json.loads(raw) for raw in self.raw(queue)]
        return [one | {"body": json.loads(base64.b64decode(one["body"]))} for one in decoded]

    def numbers(self, queue: str = "default") -> list[int]:
        """The numbers of the jobs that the messages of a queue carry."""
        return [number for message in self.messages(queue) for number in message["body"][0][0]]

    def forget(self) -> None:
        """Do as if it had been flushed."""
        for key in self.client.scan_iter(self.prefix + "*"):
            self.client.delete(key)


@pytest.fixture
def broker(servers: embedded.Servers) -> Iterator[Broker]:
    with redis.Redis(unix_socket_path=str(servers.redis_socket)) as client:
        broker = Broker(client)
        broker.forget()
        yield broker
        broker.forget()


DEAD_BROKER = "redis://127.0.0.1:1/0"


@pytest.fixture
def broker_is_down(settings: Any) -> None:
    """Every queue is on a broker at a port where nobody listens."""
    settings.JOBSITE_BROKER_URLS = dict.fromkeys(settings.JOBSITE_QUEUES, DEAD_BROKER)


@contextmanager
def refused_by(name: str) -> Iterator[None]:
    """The database must refuse the code inside by the rule of this name."""
    with pytest.raises(IntegrityError) as refusal, transaction.atomic():
        yield
    cause = refusal.value.__cause__
    assert isinstance(cause, psycopg.Error)
    assert cause.diag.constraint_name == name


def queue_row(name: str = "default") -> Queue:
    return Queue.objects.get(name=name)


def principal_of(user: Any, tenant: Any) -> Principal:
    return principals.of_user(user, tenant)


def a_claimed(**fields: Any) -> Claimed:
    """What a claim returns, without a database."""
    known: dict[str, Any] = {
        "number": 1,
        "token": uuid4(),
        "fence": 1,
        "attempts": 0,
        "losses": 0,
        "returns": 0,
        "tenant_id": 1,
        "tenant": "acme",
        "program_id": 1,
        "program_version": 1,
        "counts_failures": False,
        "notifies": False,
        "notifies_start": False,
        "holds_key": False,
        "queue_id": 1,
        "parameters": {},
        "context_key": uuid4(),
        "claimed_at": datetime.now(UTC),
    }
    return Claimed(**known | fields)


EVERYBODY = RunningAs(None, frozenset(), everything=True)


def a_context(claimed: Claimed | None = None, *, principal: RunningAs = EVERYBODY, seconds: float = 3_600.0) -> Context:
    """What an action gets, without a worker."""
    return Context(claimed or a_claimed(), principal, deadline=time.monotonic() + seconds, cancel_grace=10.0)


def python(target: str, **keys: Any) -> dict[str, Any]:
    """A Python action of the samples, as a program file writes it."""
    return {"kind": "python", "target": f"tests.sample_actions:{target}"} | keys


@pytest.fixture
def child(define: Callable[..., Program]) -> Program:
    return define("child", target="tests.sample_actions:echo")


@pytest.fixture
def spawning(jobs: Jobs, define: Callable[..., Program], child: Program) -> Callable[..., int]:
    """A pending job whose action spawns a child for each of these parameters."""

    def make(
        *parameters: object,
        target: str = "spawn_each",
        program: str = "child",
        keys: Any = None,
        user: Any = None,
        **more: Any,
    ) -> int:
        parent = define("parent", action=[python(target, name="spawn")], **(keys or {}))
        given = json.dumps({"program": program, "children": parameters, **more})
        context = {} if user is None else {"context": principals.of_user(user, parent.tenant).captured}
        return jobs.pending(parent, parameters=given, **context)

    return make


@pytest.fixture
def at_work(
    jobs: Jobs, define: Callable[..., Program], child: Program, monkeypatch: pytest.MonkeyPatch, cursor: Cursor
) -> Callable[..., Context]:
    """The context of a parent's run in this process, as its action has it."""
    monkeypatch.setattr(workers, "_registered", new_worker(cursor))

    def make(claimed: Claimed | None = None, *, program: Program | None = None) -> Context:
        claimed = claimed or jobs.running(program or define("parent"))
        captured = program_cache.read_context(cursor, key=claimed.context_key)
        context = Context(
            claimed,
            principals.running_as(captured, tenant_id=claimed.tenant_id),
            deadline=time.monotonic() + 60,
            cancel_grace=10.0,
            captured=captured,
        )
        context._step = Step("spawn", "python", {}, 60.0)
        return context

    return make


def family(number: int) -> list[Job]:
    """The children of a job."""
    return list(Job.objects.filter(parent=number).order_by("number"))


def statuses(number: int) -> list[str]:
    return [child.status for child in family(number)]


def end(jobs: Jobs, number: int, ending: Ending = SUCCESS) -> None:
    """End a child, and follow its family."""
    jobs.queue(number)
    finish.finish(jobs.cursor, held(jobs.claim(number)), ending)
    follow(number)


def follow(*numbers: int) -> None:
    with prepared_cursor() as cursor:
        families.follow(cursor, numbers)
