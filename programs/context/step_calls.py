"""Call each step of a run once, and store its result; a later run takes it from there."""

from collections.abc import Callable
from typing import Protocol

import psycopg

from jobsite.logs import get_logger
from jobsite.programs.context.job_log import JobLog
from jobsite.programs.context.steps import Key, Steps, Stored
from jobsite.programs.context.time_limit import uninterrupted
from jobsite.programs.rules.stops import JobCanceled, JobTimeout, LockLost
from jobsite.programs.transitions.claim import Claimed
from jobsite.values import storable
from jobsite.values.masking import Mask

log = get_logger(__name__)


class Run(Protocol):
    """What a step sees of the run that it is part of; a Context is one."""

    log: JobLog
    mask: Mask | None
    has_warned: bool

    def lose_lock(self) -> None: ...


class StepCalls:
    """The steps of one run. Only the thread that runs the action calls them."""

    def __init__(self, run: Run, job: Claimed) -> None:
        self._run = run
        self._job_number = job.number
        self._steps = Steps(job)
        self._failed: tuple[BaseException, str] | None = None

    def once(self, key: Key, call: Callable[[], object]) -> object:
        """The stored result of the step: that of an earlier run, or of `call` now.

        Raises what `call` raises, ValueError for a step that this run has called already, and LockLost.
        """
        run = self._run
        stored = self.recalled(key)
        if stored is not None:
            run.log.info("%s ended in an earlier run; its result is taken from there", key.shown)
            return stored.result
        with uninterrupted():
            self._go_on_if(self._steps.begin(key))
        outer, run.log.step = run.log.step, key.shown
        had_warned, run.has_warned = run.has_warned, False
        try:
            result = call()
        except (Exception, JobCanceled, JobTimeout) as error:
            self._fail(key, error)
            raise
        finally:
            warned, run.has_warned = run.has_warned, run.has_warned or had_warned
            run.log.step = outer
        with uninterrupted():
            stored = self._steps.complete(key, result, warned=warned)
            self._go_on_if(stored is not None)
        return stored.result if stored else None

    def recalled(self, key: Key) -> Stored | None:
        """The result of the step from an earlier run, if it completed there; if it warned, this run has warned too."""
        with uninterrupted():
            stored = self._steps.finished(key)
        if stored is not None:
            self._run.has_warned = self._run.has_warned or stored.warned
        return stored

    def ended_by(self, error: BaseException) -> str:
        """The step that an exception ended, or else the current step of the run; "" where none had begun."""
        return self._failed[1] if self._failed and self._failed[0] is error else self._run.log.step

    def _fail(self, key: Key, error: BaseException) -> None:
        if self._failed is None or self._failed[0] is not error:  # the inner step is the more precise one
            self._failed = error, key.shown
        try:
            with uninterrupted():
                described = storable.error(error, step=self._failed[1], mask=self._run.mask)
                is_ours = self._steps.fail(key, described)
        except psycopg.Error as trouble:  # what the step raised matters more
            log.warning("failed_step_not_written", job=self._job_number, step=key.shown, error=str(trouble))
            return
        self._go_on_if(is_ours)

    def _go_on_if(self, is_ours: bool) -> None:
        if not is_ours:
            self._run.lose_lock()
            raise LockLost
