"""The jobs of one message in this process: which wait, which runs, and which have ended but are not written yet."""

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings

from jobsite.programs.context import Context
from jobsite.programs.context.job_log import JobLog
from jobsite.programs.transitions.claim import Claimed
from jobsite.programs.transitions.finish import Ending, Held
from jobsite.tenants.models import SYSTEM

FLUSH_SECONDS = 0.02
FLUSH_JOBS = 50
BUDGET_SECONDS = 0.2


def boot_time() -> float:
    """A clock in seconds that goes on while the machine is suspended, as the time of a lock does."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def trust_seconds() -> float:
    """How long a lock counts as ours without a look at it, in seconds: the last quarter is left for stopping."""
    return float(settings.JOBSITE_LOCK_SECONDS * 0.75)


@dataclass
class Running:
    """The run that goes on, as the watcher sees it; times by boot_time."""

    held: Held
    context: Context
    last_good: float
    next_look: float
    stored_progress: int = 0
    asked_at: float | None = None


@dataclass(frozen=True)
class Ended:
    """A run whose ending is still to be written, with its log. `has_family`: it may concern a parent or children."""

    held: Held
    ending: Ending
    log: JobLog | None
    has_family: bool = False


def _alerts(job: Claimed) -> bool:
    """Whether the operator of the installation is notified of this job's end, a system job's."""
    return job.tenant == SYSTEM and settings.SYSTEM_JOBS_ALERT_EMAIL is not None


class Group:
    """The claimed jobs of one message; a job that travels alone is a group of one.

    The thread that runs them and the watcher share it: each job is taken once, each ending is written by one of
    them, and whoever holds `flushing` is the one that writes.
    """

    def __init__(self, claimed: Sequence[Claimed], *, worker: str, claimed_at: float, travels_alone: bool) -> None:
        """`claimed_at` by boot_time, from before the claim; `travels_alone` if the message carried one number.

        Of a message that carried more, perhaps only one job was claimed. The claim has not started that one.
        """
        self.claimed_at = claimed_at
        self.queue_id = claimed[0].queue_id
        self.running: Running | None = None
        # The last job that was taken; it is set before `running` is.
        self.started: Held | None = None
        self.flushing = threading.Lock()
        # Whether its time is up and the watcher has dealt with it: at most one job is left, the others are written or
        # given back.
        self.is_disbanded = False
        self.travels_alone = travels_alone
        self._worker = worker
        self._trust_seconds = trust_seconds()
        self._unstarted: list[Held] = []
        self._answered = boot_time()
        self._began = max(job.claimed_at for job in claimed)
        self._waiting = deque(claimed)
        self._ended: list[Ended] = []
        self._is_unsure = False
        self._oldest = 0.0
        self._lock = threading.Lock()

    def take(self) -> tuple[Claimed, Held] | None:
        """The next job to run, which has started from now on; None when none waits any more.

        None too once its lock may have run out, because this process was frozen or the database was away.
        """
        with self._lock:
            if not self._waiting or boot_time() - self.claimed_at > self._trust_seconds:
                return None
            job = self._waiting.popleft()
            # By the database's clock: its own time of the claim, and what has passed here since it answered.
            passed = 0.0 if self.travels_alone else boot_time() - self._answered
            started_at = self._began + timedelta(seconds=passed)
            self.started = Held(
                job.number, job.token, self._worker, started_at, job.counts_failures, job.notifies or _alerts(job)
            )
            return job, self.started

    def run(self, held: Held, context: Context) -> None:
        """Note that the action of a job begins."""
        self.running = Running(held, context, self.claimed_at, self.claimed_at + BUDGET_SECONDS)

    def end(self, ended: Ended) -> None:
        """Keep an ending until it is written."""
        with self._lock:
            if not self._ended:
                self._oldest = boot_time()
            self._ended.append(ended)

    @property
    def is_to_flush(self) -> bool:
        """Whether the endings should be written now: many wait, or one has waited for long."""
        waiting = len(self._ended)
        return waiting >= FLUSH_JOBS or (waiting > 0 and boot_time() - self._oldest >= FLUSH_SECONDS)

    def take_ended(self) -> tuple[list[Ended], bool]:
        """The endings to write now, and whether some may have been written without an answer.

        The caller holds `flushing`.
        """
        with self._lock:
            ended, self._ended = self._ended, []
            was_unsure, self._is_unsure = self._is_unsure, False
        return ended, was_unsure

    def put_back(self, ended: Sequence[Ended]) -> None:
        """Keep endings that could not be written. The caller holds `flushing`."""
        with self._lock:
            self._ended = [*ended, *self._ended]
            self._is_unsure = True

    def close(self) -> list[Held]:
        """Every job that has not started; none of them will start here. They are given back until `returned`."""
        with self._lock:
            self._unstarted += [Held(job.number, job.token, self._worker, None) for job in self._waiting]
            self._waiting.clear()
            return list(self._unstarted)

    def returned(self) -> None:
        """Note that the jobs of `close` are given back."""
        self._unstarted.clear()

    @property
    def seconds_left(self) -> float:
        """How long until the group's time is up: jobs that have not started by then are given back."""
        return self.claimed_at + BUDGET_SECONDS - boot_time()
