"""What happens when a Celery worker starts and stops: registration, its threads, and giving back what it holds.

Celery's `include` loads it, so that a plain `celery -A jobsite worker -Q content` has all of it too.
"""

import atexit
import os
from typing import Any
from uuid import UUID

import psycopg
from celery import signals
from celery.exceptions import TimeLimitExceeded, WorkerLostError
from django.conf import settings
from django.db import close_old_connections, connections
from django.db.utils import OperationalError

from jobsite import boot, embedded
from jobsite.errors import Refusal
from jobsite.logs import get_logger
from jobsite.programs import dispatch, workers
from jobsite.programs.upkeep import installation, sweeps
from jobsite.programs.worker import pool
from jobsite.programs.worker.broker_choice import names_of
from jobsite.programs.worker.renewer import Renewer
from jobsite.programs.worker.sweepers import ContainerSweeper, Sweeper

log = get_logger(__name__)
MANAGER_VARIABLE = "JOBSITE_MANAGER"
CHILD_SECONDS = 1.0


@signals.worker_init.connect(weak=False)
def register(sender: Any, **_: Any) -> None:
    """Register this worker before its children are forked, so that they know to which worker they belong."""
    try:
        _register(sender)
    except (psycopg.Error, OperationalError, Refusal, embedded.EmbeddedError) as error:
        # Celery would log an exception and go on; a worker that is not registered must not run.
        raise SystemExit(f"jobsite: this worker cannot start: {str(error).strip()}") from error


def _register(sender: Any) -> None:
    boot.prepare()
    connections.close_all()  # the main process does not use Django's any further
    names = [name for name in names_of(list(sender.app.amqp.queues.consume_from)) if name in settings.JOBSITE_QUEUES]
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
                pool=pool.name(sender),
                children=pool.children(sender),
            )
    finally:
        # The children must not inherit a connection.
        connection.close()
    workers.become(worker)
    log.info("worker_registered", worker=worker.name, queues=names, incarnation=str(worker.incarnation))


@signals.worker_process_init.connect(weak=False)
def become_child(**_: Any) -> None:
    """A pool child may be killed to stop what it runs."""
    workers.mark_expendable()


@signals.task_prerun.connect(weak=False)
def drop_broken_connections(**_: Any) -> None:
    """Close a connection whose server is gone, as Django does before each request.

    Celery keeps Django's connections over many tasks (CELERY_DB_REUSE_MAX) without ever checking whether they work.
    """
    close_old_connections()


_renewer: Renewer | None = None
_sweeper: Sweeper | None = None
_container_sweeper: ContainerSweeper | None = None


@signals.worker_ready.connect(weak=False)
def start_threads(sender: Any, **_: Any) -> None:
    """Begin to renew and to sweep, once the pool has started."""
    global _renewer, _sweeper, _container_sweeper
    if _renewer is not None:
        return  # Celery sends this signal again after each reconnection to its broker
    _check_children_more_often(sender)
    _renewer, _sweeper, _container_sweeper = (
        Renewer(sender.controller),
        Sweeper(give_back_and_leave),
        ContainerSweeper(),
    )
    _renewer.start()
    _sweeper.start()
    _container_sweeper.start()
    # A cold stop ends without the signal worker_shutdown.
    atexit.register(give_back_and_leave)


def _check_children_more_often(consumer: Any) -> None:
    # Celery notices a dead child at once, but sometimes before the process can be waited for; then it checks again
    # only five seconds later.
    hub, pool = getattr(consumer, "hub", None), getattr(consumer.pool, "_pool", None)
    if hub is not None and pool is not None and hasattr(pool, "maintain_pool"):
        hub.call_repeatedly(CHILD_SECONDS, pool.maintain_pool)


@signals.task_failure.connect(weak=False)
def return_lost_childs_jobs(sender: Any, task_id: str, exception: BaseException, **_: Any) -> None:
    """In the main process: take back the jobs of a message whose child was lost, or was ended by the hard limit."""
    if _renewer is None or sender.name not in (dispatch.TASK, dispatch.EARLIER_TASK) or pool.is_terminating():
        return  # a cold stop kills its children itself, and gives back at its end what they held
    if isinstance(exception, (WorkerLostError, TimeLimitExceeded)):
        _renewer.child_lost(UUID(task_id), timed_out=isinstance(exception, TimeLimitExceeded))


@signals.worker_shutting_down.connect(weak=False)
def announce_stop(**_: Any) -> None:
    """Mark the worker as STOPPING, so that it no longer counts for the window of its queues."""
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
    """The pool has stopped: give back the jobs that it still held, uncounted."""
    for sweeper in (_sweeper, _container_sweeper):
        if sweeper is not None:
            sweeper.stopping.set()
    if _renewer is not None:
        _renewer.stop()
