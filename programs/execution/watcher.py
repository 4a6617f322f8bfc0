"""The child's watcher: one thread that looks at the rows of the jobs this process runs, once a second.

It brings requests to stop to the action, stores its progress and log, and kills the process when the job is no longer
ours or the action does not stop.
"""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import psycopg

from jobsite.database import OwnConnection
from jobsite.logs import get_logger
from jobsite.programs import dispatch, workers
from jobsite.programs.context import job_log
from jobsite.programs.execution import completion
from jobsite.programs.execution.group import BUDGET_SECONDS, Group, Running, boot_time, trust_seconds
from jobsite.programs.transitions import finish, give_back, start
from jobsite.programs.transitions.dispatch import wake
from jobsite.programs.transitions.finish import Ending, StaleJob

log = get_logger(__name__)

LOOK_SECONDS = 1.0
IDLE_SECONDS = 5.0

LOOK = "SELECT cancel_requested_at IS NOT NULL FROM jobsite_job WHERE number = %s AND lock_token = %s"
REPORT = """
UPDATE jobsite_job SET progress = %s::jsonb, current_step = %s WHERE number = %s AND lock_token = %s
RETURNING cancel_requested_at IS NOT NULL
"""


class Watcher(threading.Thread):
    """Watches every job of this process. A short job costs no more than an entry in a set."""

    def __init__(self) -> None:
        super().__init__(name="jobsite-watcher", daemon=True)
        self._groups: set[Group] = set()
        self._wake = threading.Event()
        self._own_connection = OwnConnection(workers.open_connection)
        self._trust_seconds = trust_seconds()

    @contextmanager
    def watching(self, group: Group) -> Iterator[None]:
        """Watch the jobs of a message while they run."""
        self._groups.add(group)
        if not self._wake.is_set():
            self._wake.set()
        try:
            yield
        finally:
            self._groups.discard(group)

    def run(self) -> None:
        """Look every 200 ms while jobs come, else sleep until one does."""
        idle_since = boot_time()
        while True:
            if self._groups:
                idle_since = boot_time()
            elif boot_time() - idle_since > IDLE_SECONDS:
                self._wake.clear()
                if not self._groups:
                    self._wake.wait()
                idle_since = boot_time()
            time.sleep(self._pause())
            for group in list(self._groups):
                if group.seconds_left <= 0:
                    self._attend(group)

    def _pause(self) -> float:
        """Until the time of a group is up, where one runs; else 200 ms."""
        left = [group.seconds_left for group in list(self._groups) if not group.is_disbanded]
        return min((seconds for seconds in left if seconds > 0), default=BUDGET_SECONDS)

    def _attend(self, group: Group) -> None:
        if not group.is_disbanded:
            self._guarded(partial(self._disband, group))
        running, now = group.running, boot_time()
        if running is None:
            return
        if now - running.last_good > self._trust_seconds:
            # Frozen, suspended or cut off: another worker may hold the job by now. Stop without asking.
            self._abandon(running, "no_look_at_the_lock")
        elif now >= running.next_look or running.context.log.wants_flush:
            running.next_look = now + LOOK_SECONDS
            self._guarded(partial(self._look, group, running, now))
        if running.asked_at is not None and now - running.asked_at > running.context.cancel_grace:
            self._cancel_by_force(group, running)

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except psycopg.OperationalError as error:
            log.warning("look_failed", error=str(error))
            self._own_connection.drop()
        except Exception:
            # Whatever the error, the watcher goes on. Without a good look the lock stops counting as ours by itself.
            log.exception("look_failed")
            self._own_connection.drop()

    def _disband(self, group: Group) -> None:
        """The time of a group is up: give back what has not started, and write what has ended.

        Then dispatch for the jobs that waited for the group because it was expected to end soon.
        """
        with self._own_connection.get().cursor() as cursor:
            if unstarted := group.close():
                give_back.give_back(cursor, unstarted)
                group.returned()
                wake(cursor, [held.number for held in unstarted])
            if not group.travels_alone:
                if group.started is not None:
                    start.start(cursor, group.started)
                completion.settle_once(cursor, group)
            try:
                dispatch.top_up(cursor, group.queue_id)
            finally:
                group.is_disbanded = True  # a dispatch that fails only comes late, so it is not tried again

    def _look(self, group: Group, running: Running, now: float) -> None:
        held, context = running.held, running.context
        version, progress = context.progress_now
        with self._own_connection.get().cursor() as cursor:
            if version != running.stored_progress:
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
        if group.running is not running:
            return  # it ended while we looked
        if row is None:
            self._abandon(running, "lock_lost")
            return
        running.last_good, running.stored_progress = now, version
        if row[0]:
            context.request_cancel()
            running.asked_at = running.asked_at if running.asked_at is not None else now

    def _abandon(self, running: Running, reason: str) -> None:
        log.warning(reason, job=running.held.number, token=str(running.held.token))
        running.context.lose_lock()
        if workers.is_expendable():
            self._kill_process()

    def _cancel_by_force(self, group: Group, running: Running) -> None:
        if not workers.is_expendable():
            return
        message = "stopped by force after the grace period"
        ending = Ending.canceled({"type": "JobCanceled", "message": message, "step": None})
        try:
            with self._own_connection.get().cursor() as cursor:
                job_log.close_all(cursor, [running.context.log])
                finish.finish(cursor, running.held, ending)
        except psycopg.Error as error:
            log.warning("cancel_failed", job=running.held.number, error=str(error))
            self._own_connection.drop()
            return
        except StaleJob:
            log.info("canceled_by_another", job=running.held.number)
        if group.running is running:  # else it has ended meanwhile, and another job may run here
            self._kill_process()

    def _kill_process(self) -> None:
        for group in list(self._groups):
            for hook in group.running.context.stop_hooks if group.running else ():
                hook()
        os.kill(os.getpid(), signal.SIGKILL)


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
