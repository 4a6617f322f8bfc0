"""What happens when a Celery worker boots: broker of its queues, registration, renewal, return of the lost.

Reached by Celery's `include`, so that `celery -A jobsite worker -Q content` typed by hand gets all of it.
"""

import atexit
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any
from uuid import UUID

import psycopg
from billiard.process import active_children
from celery import signals
from celery.exceptions import TimeLimitExceeded, WorkerLostError
from celery.platforms import EX_FAILURE
from celery.worker import state
from django.conf import settings
from django.db import close_old_connections
from django.db.utils import OperationalError

from jobsite import boot, brokers, embedded
from jobsite.database import Connection
from jobsite.env import ConfigurationError
from jobsite.errors import Refusal
from jobsite.logs import get_logger
from jobsite.programs import dispatch, workers
from jobsite.programs.actions import container
from jobsite.programs.actions.container import NoEngine
from jobsite.programs.context import UnknownAction
from jobsite.programs.transitions import give_back, reap, renew
from jobsite.programs.transitions.finish import Held
from jobsite.programs.upkeep import installation, sweeps

log = get_logger(__name__)

MANAGER_VARIABLE = "JOBSITE_MANAGER"
ABANDONED_SECONDS = 5.0
SWEEPER_SECONDS = 1.0
CHILD_SECONDS = 1.0
CONTAINERS_SOON_SECONDS = 5.0
CONTAINERS_SECONDS = 60.0


@signals.celeryd_init.connect(weak=False)
def choose_broker(conf: Any, options: dict[str, Any], **_: Any) -> None:
    """Connect the worker to the broker of its queues; without -Q, to all queues that share the default one."""
    names = _names(options.get("queues")) or _names_without_q(conf)
    try:
        conf.broker_url = conf.broker_read_url = conf.broker_write_url = broker_of(names)
    except ConfigurationError as error:
        raise SystemExit(f"jobsite: {error}") from error
    options["queues"] = names


def broker_of(names: Sequence[str]) -> str:
    """The one broker that all these queues live on; ConfigurationError says which do not."""
    urls: dict[str, list[str]] = {}
    for name in names:
        # A queue that is none of jobsite's is a user's own and lives on the default broker.
        urls.setdefault(settings.JOBSITE_BROKER_URLS.get(name, settings.CELERY_BROKER_URL), []).append(name)
    if len(urls) > 1:
        groups = " and ".join(f"{', '.join(group)} ({brokers.masked(url)})" for url, group in urls.items())
        raise ConfigurationError(f"these queues live on different brokers, start a worker for each: {groups}")
    return next(iter(urls))


def _names(given: str | Sequence[str] | None) -> list[str]:
    if not given:
        return []
    return [name.strip() for name in (given.split(",") if isinstance(given, str) else given) if name.strip()]


def _names_without_q(conf: Any) -> list[str]:
    return brokers.queues_by_url().get(conf.broker_url) or list(settings.JOBSITE_QUEUES)


@signals.worker_init.connect(weak=False)
def register(sender: Any, **_: Any) -> None:
    """Enter this worker before its children are forked, so that they know who they are."""
    try:
        _register(sender)
    except (psycopg.Error, OperationalError, Refusal, embedded.EmbeddedError) as error:
        # Celery would log an exception and go on without; a worker that is not registered must not run.
        raise SystemExit(f"jobsite: this worker cannot start: {str(error).strip()}") from error


def _register(sender: Any) -> None:
    boot.prepare()
    names = [name for name in _names(list(sender.app.amqp.queues.consume_from)) if name in settings.JOBSITE_QUEUES]
    connection = workers.open_connection()
    try:
        with connection.cursor() as cursor:
            installation.register(cursor)
            sweeps.send_on(cursor, workers.reap_gone(cursor, silent_seconds=settings.JOBSITE_LOCK_SECONDS))
            worker = workers.register(
                cursor,
                name=sender.hostname,
                manager=os.environ.get(MANAGER_VARIABLE) or "default",
                queues=names,
                pool=_pool_name(sender),
                children=_children(sender),
            )
    finally:
        # Nothing of the parent's connections may be inherited by the children.
        connection.close()
    workers.become(worker)
    log.info("worker_registered", worker=worker.name, queues=names, incarnation=str(worker.incarnation))


def _pool_name(controller: Any) -> str:
    module = controller.pool_cls if isinstance(controller.pool_cls, str) else controller.pool_cls.__module__
    return str(module).rpartition(".")[2].strip("_").split(":")[0]


def _children(controller: Any) -> int:
    pool = getattr(controller, "pool", None)
    count = getattr(pool, "num_processes", None) if pool is not None else None
    return 1 if _pool_name(controller) == "solo" else int(count or controller.concurrency)


@signals.worker_process_init.connect(weak=False)
def become_child(**_: Any) -> None:
    """A pool child may be killed to stop what it runs."""
    workers.mark_expendable()


@signals.task_prerun.connect(weak=False)
def drop_broken_connections(**_: Any) -> None:
    """What Django does before each request: a connection that outlived its server is not used again.

    Celery keeps Django's connections over many tasks (CELERY_DB_REUSE_MAX) without ever asking whether they work.
    """
    close_old_connections()


class MainThread(threading.Thread):
    """Keeps this worker's locks, away from Celery's event loop, on a connection of its own."""

    def __init__(self, controller: Any) -> None:
        super().__init__(name="jobsite-renewer", daemon=True)
        self.dead: queue.SimpleQueue[tuple[UUID, bool] | None] = queue.SimpleQueue()
        self._controller = controller
        self._worker = workers.current()
        self.is_stopping = False
        self._connection: Connection | None = None
        self._abandoned: dict[UUID, float] = {}

    def run(self) -> None:
        """Renew every JOBSITE_RENEW_SECONDS, and take back a dead child's jobs the moment it is known."""
        next_renewal = 0.0
        while True:
            try:
                told = self.dead.get(timeout=max(0.0, next_renewal - time.monotonic()))
            except queue.Empty:
                next_renewal = time.monotonic() + settings.JOBSITE_RENEW_SECONDS
                self._guarded(self._renew)
                continue
            if told is None:
                self._guarded(self._give_back)
                return
            self._guarded(partial(self._take_back, *told))

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except psycopg.Error as error:
            log.warning("renewer_failed", error=str(error))
            if self._connection is not None:
                self._connection.close()
            self._connection = None
        except Exception:
            # The thread that keeps the locks must outlive whatever it meets.
            log.exception("renewer_failed")

    def _cursor(self) -> Any:
        if self._connection is None or self._connection.closed:
            self._connection = workers.open_connection()
        return self._connection.cursor()

    def _renew(self) -> None:
        messages = [UUID(task_id) for task_id in list(state.requests) if _is_uuid(task_id)]
        with self._cursor() as cursor:
            owner, seconds = self._worker.incarnation, settings.JOBSITE_LOCK_SECONDS
            renewed = renew.renew(cursor, owner=owner, messages=messages, lock_seconds=seconds)
            renew.renew_passed_over(cursor, owner=owner, messages=messages, lock_seconds=seconds, renewed=renewed)
            workers.heartbeat(cursor, incarnation=self._worker.incarnation, children=_children(self._controller))
            gone = renew.abandoned(cursor, owner=self._worker.incarnation, messages=messages)
            now = time.monotonic()
            self._abandoned = {token: self._abandoned.get(token, now) for _, token in gone}
            lost = [(number, token) for number, token in gone if now - self._abandoned[token] >= ABANDONED_SECONDS]
            if lost and self.is_stopping:
                # A cold stop ended the children: what they held is given back, as at the end of a warm one.
                name = self._worker.name
                give_back.give_back(cursor, [Held(number, token, name, None) for number, token in lost])
            elif lost and not _is_terminating():
                sweeps.send_on(cursor, reap.reap_tokens(cursor, lost, message="abandoned, its message is gone"))

    def _take_back(self, message: UUID, timed_out: bool) -> None:
        owner = self._worker.incarnation
        with self._cursor() as cursor:
            sweeps.send_on(cursor, reap.reap_child(cursor, owner=owner, message=message, timed_out=timed_out))

    def _give_back(self) -> None:
        with self._cursor() as cursor:
            numbers = give_back.give_back_all(cursor, owner=self._worker.incarnation, worker=self._worker.name)
            workers.set_status(cursor, incarnation=self._worker.incarnation, status="STOPPED")
        if numbers:
            log.info("gave_back", jobs=numbers)


class ContainerSweeper(threading.Thread):
    """Removes what lost workers left on this machine's container engine, which nothing else may ever look at again."""

    def __init__(self) -> None:
        super().__init__(name="jobsite-containers", daemon=True)
        self.stopping = threading.Event()

    def run(self) -> None:
        """Look soon after the start, when a worker that died has left its own behind, then once a minute."""
        pause = CONTAINERS_SOON_SECONDS
        while not self.stopping.wait(pause):
            pause = CONTAINERS_SECONDS
            try:
                container.remove_idle()
            except (NoEngine, UnknownAction):
                continue  # a worker of a machine without an engine runs no containers either
            except Exception as error:  # whatever it was, it is looked again
                log.warning("containers_not_swept", error=str(error))
                workers.drop_connection()


class Sweeper(threading.Thread):
    """Drives the sweeps from this worker too, so that an installation whose beat is dead goes on."""

    def __init__(self) -> None:
        super().__init__(name="jobsite-sweeper", daemon=True)
        self.stopping = threading.Event()
        self._terminates_since: float | None = None

    def run(self) -> None:
        """Run what is due, every second until the worker stops; the rows of the sweeps say what is."""
        while not self.stopping.wait(min(SWEEPER_SECONDS, settings.JOBSITE_SWEEP_SECONDS)):
            self._end_a_cold_stop_that_hangs()
            sweeps.run_due()

    def _end_a_cold_stop_that_hangs(self) -> None:
        """End the worker by force a quarter of a lock after a cold stop has canceled what its children run.

        From then on nobody renews their locks, and Celery waits for its pool without an end: for a child that is
        frozen or never hears of the stop, for a thread whose action goes on.
        """
        if not _is_terminating():
            return
        now = time.monotonic()
        if self._terminates_since is None:
            self._terminates_since = now
        elif now - self._terminates_since > settings.JOBSITE_LOCK_SECONDS / 4:
            children = active_children()
            log.warning("cold_stop_forced", children=[child.pid for child in children])
            for child in children:
                with suppress(ProcessLookupError):  # it has ended meanwhile
                    os.kill(child.pid, signal.SIGKILL)
            give_back_and_leave()
            os._exit(EX_FAILURE)


def _is_terminating() -> bool:
    """Whether a cold stop has got as far as to cancel what runs."""
    return state.should_terminate not in (None, False)


def _is_uuid(task_id: str) -> bool:
    try:
        UUID(task_id)
    except ValueError:
        return False
    return True


_renewer: MainThread | None = None
_sweeper: Sweeper | None = None
_container_sweeper: ContainerSweeper | None = None


@signals.worker_ready.connect(weak=False)
def start_threads(sender: Any, **_: Any) -> None:
    """Begin to renew and to sweep, once the pool stands."""
    global _renewer, _sweeper, _container_sweeper
    if _renewer is not None:
        return  # Celery says this again each time that it has found its broker again
    _look_after_children_more_often(sender)
    _renewer, _sweeper, _container_sweeper = MainThread(sender.controller), Sweeper(), ContainerSweeper()
    _renewer.start()
    _sweeper.start()
    _container_sweeper.start()
    # A cold stop ends without a word to worker_shutdown.
    atexit.register(give_back_and_leave)


def _look_after_children_more_often(consumer: Any) -> None:
    # Celery hears of a dead child at once, but now and then before its corpse can be waited for; then it looks
    # again only five seconds later.
    hub, pool = getattr(consumer, "hub", None), getattr(consumer.pool, "_pool", None)
    if hub is not None and pool is not None and hasattr(pool, "maintain_pool"):
        hub.call_repeatedly(CHILD_SECONDS, pool.maintain_pool)


@signals.task_failure.connect(weak=False)
def return_dead_childs_jobs(sender: Any, task_id: str, exception: BaseException, **_: Any) -> None:
    """In the main process: a child died, or was ended by the hard limit, with the jobs of this message."""
    if _renewer is None or sender.name not in (dispatch.TASK, dispatch.EARLIER_TASK) or _is_terminating():
        return  # a cold stop kills its children itself, and gives back at its end what they held
    if isinstance(exception, (WorkerLostError, TimeLimitExceeded)):
        _renewer.dead.put((UUID(task_id), isinstance(exception, TimeLimitExceeded)))


@signals.worker_shutting_down.connect(weak=False)
def announce_stop(**_: Any) -> None:
    """Count for no window any more."""
    if _renewer is None:
        return
    _renewer.is_stopping = True
    connection = workers.open_connection()
    try:
        with connection.cursor() as cursor:
            workers.set_status(cursor, incarnation=workers.current().incarnation, status="STOPPING")
    except psycopg.Error as error:
        log.warning("stop_not_announced", error=str(error))
    finally:
        connection.close()


@signals.worker_shutdown.connect(weak=False)
def give_back_and_leave(**_: Any) -> None:
    """The pool has stopped: what it still held goes back, uncounted."""
    for sweeper in (_sweeper, _container_sweeper):
        if sweeper is not None:
            sweeper.stopping.set()
    if _renewer is not None:
        _renewer.dead.put(None)
        _renewer.join(timeout=10)
