"""The renewer: the thread of a worker's main process that renews its locks, and takes back jobs that nobody runs."""

import queue
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

import psycopg
from celery.worker import state
from django.conf import settings

from jobsite.logs import get_logger
from jobsite.programs import workers
from jobsite.programs.transitions import give_back, reap, renew
from jobsite.programs.transitions.finish import Held
from jobsite.programs.upkeep import sweeps
from jobsite.programs.worker import pool

log = get_logger(__name__)

ABANDONED_SECONDS = 5.0
STOP_SECONDS = 10.0


class Renewer(threading.Thread):
    """Renews this worker's locks, outside Celery's event loop, on a connection of its own."""

    def __init__(self, controller: Any) -> None:
        super().__init__(name="jobsite-renewer", daemon=True)
        self._lost_children: queue.SimpleQueue[tuple[UUID, bool] | None] = queue.SimpleQueue()
        self._controller = controller
        self._worker = workers.current()
        self.is_stopping = False
        self._abandoned: dict[UUID, float] = {}

    def child_lost(self, message: UUID, *, timed_out: bool) -> None:
        """Have the jobs of a message taken back whose child was lost, or was ended at the hard limit."""
        self._lost_children.put((message, timed_out))

    def stop(self) -> None:
        """Give back all that this worker holds, and end; wait for it at most STOP_SECONDS."""
        self._lost_children.put(None)
        self.join(timeout=STOP_SECONDS)

    def run(self) -> None:
        """Renew every JOBSITE_RENEW_SECONDS, and take back a lost child's jobs as soon as the loss is known."""
        next_renewal = 0.0
        while True:
            try:
                lost = self._lost_children.get(timeout=max(0.0, next_renewal - time.monotonic()))
            except queue.Empty:
                next_renewal = time.monotonic() + settings.JOBSITE_RENEW_SECONDS
                self._guarded(self._renew)
                continue
            if lost is None:
                self._guarded(self._give_back)
                return
            self._guarded(partial(self._take_back, *lost))

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except psycopg.Error as error:
            log.warning("renewer_failed", error=str(error))
            workers.drop_connection()
        except Exception:
            # The thread that renews the locks must survive every error.
            log.exception("renewer_failed")

    def _renew(self) -> None:
        messages = [UUID(task_id) for task_id in list(state.requests) if _is_uuid(task_id)]
        with workers.connection().cursor() as cursor:
            owner, seconds = self._worker.incarnation, settings.JOBSITE_LOCK_SECONDS
            renewed = renew.renew(cursor, owner=owner, messages=messages, lock_seconds=seconds)
            renew.renew_passed_over(cursor, owner=owner, messages=messages, lock_seconds=seconds, renewed=renewed)
            workers.heartbeat(cursor, incarnation=self._worker.incarnation, children=pool.children(self._controller))
            gone = renew.abandoned(cursor, owner=self._worker.incarnation, messages=messages)
            now = time.monotonic()
            self._abandoned = {token: self._abandoned.get(token, now) for _, token in gone}
            lost = [(number, token) for number, token in gone if now - self._abandoned[token] >= ABANDONED_SECONDS]
            if lost and self.is_stopping:
                # A cold stop ended the children: what they held is given back, as at the end of a warm one.
                name = self._worker.name
                give_back.give_back(cursor, [Held(number, token, name, None) for number, token in lost])
            elif lost and not pool.is_terminating():
                sweeps.send_on(cursor, reap.reap_tokens(cursor, lost, message="abandoned, its message is gone"))

    def _take_back(self, message: UUID, timed_out: bool) -> None:
        owner = self._worker.incarnation
        with workers.connection().cursor() as cursor:
            sweeps.send_on(cursor, reap.reap_child(cursor, owner=owner, message=message, timed_out=timed_out))

    def _give_back(self) -> None:
        with workers.connection().cursor() as cursor:
            numbers = give_back.give_back_all(cursor, owner=self._worker.incarnation, worker=self._worker.name)
            workers.set_status(cursor, incarnation=self._worker.incarnation, status="STOPPED")
        if numbers:
            log.info("gave_back", jobs=numbers)


def _is_uuid(task_id: str) -> bool:
    try:
        UUID(task_id)
    except ValueError:
        return False
    return True
