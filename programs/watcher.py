"""The child's watcher: one thread that looks at the rows of the jobs this process runs, once a second.

It brings cancel requests to the action, stores its progress and log, and kills the process when the job is no
longer ours or the action does not stop.
"""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from django.conf import settings

from jobsite.database import Connection
from jobsite.logs import get_logger
from programs import workers
from programs.context import Context
from programs.lifecycle import AttemptResult, Status
from programs.transitions import finish
from programs.transitions.finish import Ending, Held, StaleJob

log = get_logger(__name__)

SPARED_SECONDS = 0.2
LOOK_SECONDS = 1.0
IDLE_SECONDS = 5.0

LOOK = "SELECT cancel_requested_at IS NOT NULL FROM jobsite_job WHERE number = %s AND lock_token = %s"
REPORT = """
UPDATE jobsite_job SET progress = %s::jsonb, current_step = %s WHERE number = %s AND lock_token = %s
RETURNING cancel_requested_at IS NOT NULL
"""


def boot_time() -> float:
    """Seconds that go on while the machine is suspended, which lock time does too."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@dataclass
class _Watched:
    context: Context
    held: Held
    began: float
    last_good: float
    next_look: float
    stored_progress: int = 0
    told_at: float | None = None


class Watcher(threading.Thread):
    """Watches every job of this process. Costs a short job nothing but an entry in a dictionary."""

    def __init__(self) -> None:
        super().__init__(name="jobsite-watcher", daemon=True)
        self._watched: dict[int, _Watched] = {}
        self._wake = threading.Event()
        self._connection: Connection | None = None
        # The lock is ours until it expires; the last quarter is left for stopping.
        self._trust_seconds = settings.JOBSITE_LOCK_SECONDS * 0.75

    @contextmanager
    def watching(self, context: Context, held: Held) -> Iterator[None]:
        """Watch a job while its action runs."""
        now = boot_time()
        self._watched[held.number] = _Watched(context, held, now, now, now + SPARED_SECONDS)
        if not self._wake.is_set():
            self._wake.set()
        try:
            yield
        finally:
            self._watched.pop(held.number, None)

    def run(self) -> None:
        """Look every 200 ms while jobs come, else sleep until one does."""
        idle_since = boot_time()
        while True:
            if self._watched:
                idle_since = boot_time()
            elif boot_time() - idle_since > IDLE_SECONDS:
                self._wake.clear()
                if not self._watched:
                    self._wake.wait()
                idle_since = boot_time()
            time.sleep(SPARED_SECONDS)
            for watched in list(self._watched.values()):
                self._attend(watched)

    def _attend(self, watched: _Watched) -> None:
        now = boot_time()
        if now - watched.last_good > self._trust_seconds:
            # Frozen, suspended or cut off: somebody else may hold the job by now. Ask nobody, stop.
            self._abandon(watched, "no_look_at_the_lock")
        elif now >= watched.next_look or watched.context.log.wants_flush:
            watched.next_look = now + LOOK_SECONDS
            try:
                self._look(watched, now)
            except psycopg.OperationalError as error:
                log.warning("look_failed", job=watched.held.number, error=str(error))
                self._drop_connection()
            except Exception:
                # Whatever it was, the watch goes on: the trust in the lock runs out by itself.
                log.exception("look_failed", job=watched.held.number)
                self._drop_connection()
        if watched.told_at is not None and now - watched.told_at > watched.context.cancel_grace:
            self._cancel_by_force(watched)

    def _look(self, watched: _Watched, now: float) -> None:
        held, context = watched.held, watched.context
        version, progress = context.progress_now
        with self._connected().cursor() as cursor:
            if version != watched.stored_progress:
                cursor.execute(
                    REPORT,
                    [json.dumps(progress), context.log.step[:100], held.number, held.token],
                    prepare=True,
                )
            else:
                cursor.execute(LOOK, [held.number, held.token], prepare=True)
            row = cursor.fetchone()
            if row is not None:
                context.log.flush(cursor)
        if held.number not in self._watched:
            return  # it ended while we looked
        if row is None:
            self._abandon(watched, "lock_lost")
            return
        watched.last_good, watched.stored_progress = now, version
        if row[0]:
            context.request_cancel()
            watched.told_at = watched.told_at if watched.told_at is not None else now

    def _abandon(self, watched: _Watched, reason: str) -> None:
        log.warning(reason, job=watched.held.number, token=str(watched.held.token))
        watched.context.lose_lock()
        if workers.is_expendable():
            self._kill_process()

    def _cancel_by_force(self, watched: _Watched) -> None:
        if not workers.is_expendable():
            return
        ending = Ending(
            Status.CANCELED,
            AttemptResult.CANCELED,
            error={"type": "JobCanceled", "message": "stopped by force after the grace period", "step": None},
        )
        try:
            with self._connected().cursor() as cursor:
                watched.context.log.close(cursor)
                finish.finish(cursor, watched.held, ending)
        except psycopg.Error as error:
            log.warning("cancel_failed", job=watched.held.number, error=str(error))
            self._drop_connection()
            return
        except StaleJob:
            log.info("canceled_by_another", job=watched.held.number)
        self._kill_process()

    def _kill_process(self) -> None:
        for watched in list(self._watched.values()):
            for hook in watched.context.stop_hooks:
                hook()
        os.kill(os.getpid(), signal.SIGKILL)

    def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = workers.open_connection()
        return self._connection

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


_watcher: Watcher | None = None
_starting = threading.Lock()


def watcher() -> Watcher:
    """The watcher of this process, started when first asked for; a forked child gets its own."""
    global _watcher
    with _starting:
        if _watcher is None or not _watcher.is_alive():
            _watcher = Watcher()
            _watcher.start()
    return _watcher
