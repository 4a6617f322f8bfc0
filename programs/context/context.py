"""What an action is given: its job, log and progress, its steps and children, and requests to stop."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from functools import cached_property
from typing import Any
from uuid import UUID

from django.contrib.auth.models import User
from django.db import connection

from jobsite.programs.context import time_limit
from jobsite.programs.context.children import Children
from jobsite.programs.context.coroutines import in_coroutines_too
from jobsite.programs.context.job_log import JobLog
from jobsite.programs.context.spawning import Family, check_request
from jobsite.programs.context.step_calls import StepCalls
from jobsite.programs.context.steps import Key, Step
from jobsite.programs.context.time_limit import Alarm, uninterrupted
from jobsite.programs.parameters import secrets
from jobsite.programs.rules.stops import JobCanceled, JobTimeout, LockLost, Snooze
from jobsite.programs.transitions.claim import Claimed
from jobsite.tenants.models import Tenant
from jobsite.tenants.principals import RunningAs
from jobsite.values import storable
from jobsite.values.masking import Mask

MAX_PROGRESS_MESSAGE = 500
MAX_STEP_NAME = 100
MAX_COUNT = 2**53 - 1  # the largest integer that every reader of JSON keeps exactly


def _bounded(count: int) -> int:
    return max(-MAX_COUNT, min(int(count), MAX_COUNT))


class Context:
    """The one argument that every action gets. Methods that stop the action say so.

    It alone holds the job's secrets in clear. It is made just before the action runs, and raises SecretLost where no
    key opens them.
    """

    def __init__(
        self,
        job: Claimed,
        principal: RunningAs,
        *,
        deadline: float,
        cancel_grace: float,
        program: str = "",
        captured: Mapping[str, Any] | None = None,
        earlier_runs: int = 0,
    ) -> None:
        self.job_number = job.number
        self.program = program
        self.attempt = job.attempts - job.losses + 1 - earlier_runs
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
        self.has_seen_cancel = False
        self.stop_hooks: list[Callable[[], None]] = []
        self.steps: dict[str, object] = {}
        self._calls = StepCalls(self, job)
        self.family = Family(job)
        self._captured = captured or {}
        self._step: Step | None = None
        self._thread = threading.get_ident()
        self.limit = 0.0
        self._limit_at = deadline
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
        """The user that the job runs as; None for jobs of the local command line and of the system."""
        return self._principal.user

    def require(self, permission: str) -> None:
        """Go on only with this permission (`app.codename`); without it the job fails for good, and names it."""
        self._principal.require(permission)

    def progress(self, processed: int, total: int | None = None, message: str = "") -> None:
        """Report how far the work is; people see it within a second. Raises JobCanceled when asked to stop."""
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
            self.has_seen_cancel = True
        return self._is_canceled

    def step(self, name: str, function: Callable[..., object], /, *args: object, **kwargs: object) -> object:
        """Call the function once for this job, however often it runs: a later run gets the stored result.

        The result is stored as JSON before this returns, and returned as it is stored: tuples are lists. If the worker
        is lost before that, or the function raises, the next run calls it again. Each step of a run has a name of its
        own, of 1 to 100 characters.

        Raises ValueError for a wrong name or one that was used in this run, NotStorable (the job fails for good) for
        a result that is not JSON or holds a secret, RuntimeError on another thread than the action's, or within a
        transaction, whose rollback would undo what the step did but not the stored step; and what progress() raises.
        """
        step = self._running_step("step")
        if not isinstance(name, str) or not 0 < len(name) <= MAX_STEP_NAME or not storable.is_storable(name):
            raise ValueError(f"a step's name is text of 1 to {MAX_STEP_NAME} characters, not {name!r:.120}")
        if connection.in_atomic_block:
            raise RuntimeError(
                f'step "{name}" is called within a transaction, whose rollback would undo what the step did but not '
                "the stored step; begin the transaction inside the step"
            )
        if self.mask is not None and self.mask.text(name) != name:
            raise ValueError("a step's name holds a secret of the parameters")
        self.checkpoint()
        key = Key(step.name, step.digest, name)
        return self._calls.once(key, lambda: self._without_secrets(function(*args, **kwargs)))

    def spawn(
        self,
        program: str,
        parameters: Mapping[str, Any] | None = None,
        /,
        *,
        key: str | None = None,
        priority: int | None = None,
        scheduled_at: datetime | str | None = None,
    ) -> int:
        """Submit a child of this job: a job of a program of its tenant. Returns its number.

        In a transaction the child is inserted, or rolled back, with it, and runs after its commit. It runs as the same
        user as this job. When the actions have ended, the job waits for its children without a worker; then its
        callback runs, or it ends.

        A job that is run again gets the children that it has already: those of the same `key`, of up to 200
        characters. Without a key, it gets those of the same program and parameters from the same action and step; of
        several that are alike, one after the other.

        Raises what submission.submit raises (TooMany: the job is tried again; any other ends it), PermissionRefused
        without jobs:write, SpawnRefused past 10,000 children or the tenth generation, or for a QUEUE key that this job
        or an ancestor holds; NotStorable where a secret would be stored in clear; TypeError where the arguments are not
        a code and parameters; RuntimeError on another thread than the action's; and what progress() raises.
        """
        self._running_step("spawn")
        check_request(key, program, parameters, self.mask)
        self.checkpoint()
        self._principal.require("jobs:write")
        with uninterrupted(), in_coroutines_too():
            try:
                return self.family.spawn(
                    self.tenant,
                    self._captured,
                    program,
                    parameters or {},
                    key=key,
                    priority=priority,
                    scheduled_at=scheduled_at,
                    mask=self.mask,
                    place=self.log.step,
                )
            except LockLost:
                self.lose_lock()
                raise

    @property
    def children(self) -> Children:
        """The children of this job that have ended, in the order in which they were spawned; in a callback, all."""
        return self.family.children()

    def _running_step(self, what: str) -> Step:
        if threading.get_ident() != self._thread or self._step is None:
            raise RuntimeError(
                f"context.{what} is called only on the thread that runs the action, while it runs; "
                "a coroutine calls it directly, without sync_to_async"
            )
        return self._step

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

    def act(self, step: Step, run: Callable[["Context", Step], object], *, is_stored: bool) -> object:
        """Run an action. Where its result is stored, a later run takes it from there."""
        self._step, self.log.step, self.limit = step, step.name, step.timeout
        self._limit_at = min(self.deadline, time.monotonic() + step.timeout)
        self.checkpoint()
        if not is_stored:
            return self._run(step, run)
        key = Key(step.name, step.digest)
        result = self._calls.once(key, lambda: storable.result(self._run(step, run), mask=self.mask))
        self.steps[step.name] = result
        return result

    def recall(self, steps: Iterable[Step]) -> None:
        """Load the results of these actions from an earlier run for the callback, of those that are still the same."""
        for step in steps:
            stored = self._calls.recalled(Key(step.name, step.digest))
            if stored is not None:
                self.steps[step.name] = stored.result

    def _run(self, step: Step, run: Callable[["Context", Step], object]) -> object:
        try:
            return run(self, step)
        finally:
            time_limit.disarm()  # also where an alarm rang while `alarm` was being left

    @property
    def seconds_left(self) -> float:
        """How long until the limit of the current action, or of the whole run if that comes first."""
        return max(0.0, self._limit_at - time.monotonic())

    def step_of(self, error: BaseException) -> str:
        """The step that an exception ended; "" where none had begun."""
        return self._calls.ended_by(error)

    def _without_secrets(self, value: object) -> object:
        result = storable.result(value)
        if self.mask is not None and self.mask.value(result) != result:
            raise storable.NotStorable("result could not be stored: it holds a secret of the parameters")
        return result

    def request_cancel(self) -> None:
        """Let the action know that the job is asked to stop."""
        self._is_canceled = True

    def lose_lock(self) -> None:
        """Let the action know that this worker no longer holds the job."""
        self._is_lost = True

    @property
    def progress_now(self) -> tuple[int, dict[str, object] | None]:
        """The progress with its version, which changes with each report."""
        return self._progress_version, self._progress

    def alarm(self) -> AbstractContextManager[Alarm]:
        """Raise JobTimeout when the action's limit is reached, in the main thread of a process only.

        Elsewhere (the threads pool) limits are cooperative: checkpoints look at the deadline.
        """
        return time_limit.alarm(self._limit_at)
