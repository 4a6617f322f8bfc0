"""What an action is given: the job it runs, its log and progress, and the requests to stop that reach it."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from types import FrameType
from typing import Any
from uuid import UUID

from django.contrib.auth.models import User

from jobsite.tenants.models import Tenant
from programs import secrets, storable
from programs.job_log import JobLog
from programs.masking import Mask
from programs.principals import RunningAs
from programs.transitions.claim import Claimed

MAX_PROGRESS_MESSAGE = 500
MAX_COUNT = 2**53 - 1  # what every reader of JSON keeps exactly

# These end an action from outside. They are no Exceptions, so that an action's own `except Exception` around
# each of its items does not swallow them.


class JobCanceled(BaseException):
    """The job was asked to stop."""


class JobTimeout(BaseException):
    """The run took longer than its program allows."""


class LockLost(BaseException):
    """This worker no longer holds the job; nothing it writes counts."""


class Snooze(BaseException):
    """The action wants to be run again in `seconds`; the run is not counted."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


_armed = False


def _ring(_signal: int, _frame: FrameType | None) -> None:
    # The alarm may arrive after the action has returned: protocol code is never interrupted.
    if _armed:
        raise JobTimeout


def _bounded(count: int) -> int:
    return max(-MAX_COUNT, min(int(count), MAX_COUNT))


class Context:
    """The one argument that every action gets. Methods that stop the action say so.

    It alone holds the job's secrets in clear. Made just before the action runs, it raises SecretLost where none of
    the keys opens them.
    """

    def __init__(self, job: Claimed, principal: RunningAs, *, deadline: float, cancel_grace: float) -> None:
        self.job_number = job.number
        self.attempt = job.attempts - job.losses + 1
        self.fence = job.fence
        self.lock_token: UUID = job.token
        self.parameters: Mapping[str, Any] = job.parameters
        self.mask: Mask | None = None
        if job.has_secrets:
            self.parameters, self.mask = secrets.opened(job.parameters)
        self.log = JobLog(
            tenant_id=job.tenant_id,
            number=job.number,
            attempt=job.attempts + 1,
            is_first_run=job.fence == 1,
            mask=self.mask,
        )
        self.claimed = job
        self.deadline = deadline
        self.cancel_grace = cancel_grace
        self.has_warned = False
        self.was_told = False
        self.stop_hooks: list[Callable[[], None]] = []
        self._principal = principal
        self._is_canceled = False
        self._is_lost = False
        self._progress: dict[str, object] | None = None
        self._progress_version = 0

    @cached_property
    def tenant(self) -> Tenant:
        """The job's tenant."""
        return Tenant.objects.get(pk=self.claimed.tenant_id)

    @property
    def user(self) -> User | None:
        """Who the job runs as; None for jobs of the local command line and of the system."""
        return self._principal.user

    def require(self, permission: str) -> None:
        """Go on only with this permission (`app.codename`); a refusal ends the job for good and names it."""
        self._principal.require(permission)

    def progress(self, processed: int, total: int | None = None, message: str = "") -> None:
        """Say how far the work is; people see it within a second. Raises JobCanceled when asked to stop."""
        self._progress = {
            "processed": _bounded(processed),
            "total": None if total is None else _bounded(total),
            "message": storable.text(str(message), limit=MAX_PROGRESS_MESSAGE, mask=self.mask),
        }
        self._progress_version += 1
        self.checkpoint()

    def warn(self, message: str, *args: object) -> None:
        """Log a warning, and let the job end with outcome WARNING if it completes."""
        self.has_warned = True
        self.log.warning(message, *args)

    @property
    def is_canceled(self) -> bool:
        """Whether somebody asked the job to stop; an action that saw this and returns ends CANCELED."""
        if self._is_canceled:
            self.was_told = True
        return self._is_canceled

    def snooze(self, seconds: float) -> None:
        """Stop here and run the action again, from its beginning, in `seconds`; the run is not counted."""
        if not 0 <= seconds <= 365 * 86_400:
            raise ValueError(f"snooze takes 0 to {365 * 86_400} seconds, not {seconds!r}")
        raise Snooze(seconds)

    def checkpoint(self) -> None:
        """Raise JobCanceled, JobTimeout or LockLost if the run should not go on; progress() does this too."""
        if self._is_lost:
            raise LockLost
        if self.is_canceled:
            raise JobCanceled
        if time.monotonic() > self.deadline:
            raise JobTimeout

    # What execution and the watcher do; not for actions.

    def request_cancel(self) -> None:
        """Pass on that the job is asked to stop."""
        self._is_canceled = True

    def lose_lock(self) -> None:
        """Pass on that this worker no longer holds the job."""
        self._is_lost = True

    @property
    def progress_now(self) -> tuple[int, dict[str, object] | None]:
        """The progress with its version, which changes with each report."""
        return self._progress_version, self._progress

    @contextmanager
    def alarm(self, seconds: float) -> Iterator[None]:
        """Raise JobTimeout in the action after this long, in the main thread of a process only.

        Elsewhere (the threads pool) limits are cooperative: checkpoints look at the deadline.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        global _armed
        # Installed once, since that costs more than a short action does; an action may have put another in its place.
        if signal.getsignal(signal.SIGALRM) is not _ring:
            signal.signal(signal.SIGALRM, _ring)
        _armed = True
        signal.setitimer(signal.ITIMER_REAL, max(0.001, min(seconds, self.deadline - time.monotonic())))
        try:
            yield
        finally:
            _armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)
