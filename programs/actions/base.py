"""Shared by every kind of action: the signature that execution calls, and the check whether a run must stop."""

import time
from typing import Protocol

from jobsite.programs.context import Context, Step
from jobsite.programs.rules.stops import JobCanceled, JobTimeout, LockLost


def stop_wanted(context: Context, deadline: float) -> BaseException | None:
    """The reason to stop a run: JobTimeout, JobCanceled or LockLost. For actions that run outside this process."""
    if time.monotonic() > deadline:
        return JobTimeout()
    try:
        context.checkpoint()
    except (JobCanceled, JobTimeout, LockLost) as stop:
        return stop
    return None


class Runner(Protocol):
    """One kind of action."""

    def __call__(self, context: Context, step: Step) -> object:
        """Run to the end and return the result; raise to fail."""
