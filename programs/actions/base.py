"""What every kind of action shares: the shape that execution calls, and what ends it from outside."""

import time
from typing import Protocol

from jobsite.programs.context import Context, Step
from jobsite.programs.rules.stops import JobCanceled, JobTimeout, LockLost


def stop_wanted(context: Context, deadline: float) -> BaseException | None:
    """What ends a run that must not go on, JobTimeout, JobCanceled or LockLost; for what runs outside this process."""
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
